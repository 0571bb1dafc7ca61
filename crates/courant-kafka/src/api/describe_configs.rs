//! DescribeConfigs (key 32): every config of topics and of this broker, with its value and where the
//! value comes from (KIP-226).
//!
//! Versions: types and documentation are in the answer from 3 on (KIP-569). Tools read, change and
//! write back what they find here, so every config that is known is listed.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use courant_core::topic::TopicName;
use courant_log::Catalog;
use courant_log::topic_config::{self, TOPIC_CONFIGS, TopicConfig};

use super::broker_config::{self, Setting};
use super::config_changes::{BROKER, TOPIC};
use super::refused::Refused;
use super::{Answered, memory_for};
use crate::broker::Caller;
use crate::wire::ErrorCode;
use crate::wire::messages::describe_configs::{
    DescribeConfigsResource, DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use crate::wire::messages::{DescribeConfigsRequest, DescribeConfigsResponse};

/// Where a value comes from: the topic, what the server was started with, nobody.
const FROM_TOPIC: i8 = 1;
const FROM_START: i8 = 4;
const FROM_NOBODY: i8 = 5;

/// Bytes of one resource and of one config in the answer, besides names and values that were set.
const RESULT_BYTES: usize = 512;
const CONFIG_BYTES: usize = 1024;

/// What a client wants to know besides names and values.
#[derive(Clone, Copy)]
struct Detail {
    synonyms: bool,
    documentation: bool,
}

type Configs = Vec<DescribeConfigsResourceResult>;

/// Answers DescribeConfigs.
pub(super) async fn answer(
    caller: Arc<Caller>,
    request: DescribeConfigsRequest,
) -> Answered<DescribeConfigsResponse> {
    let detail = Detail { synonyms: request.include_synonyms, documentation: request.include_documentation };
    let mut resources = request.resources;
    // Each is described once: otherwise a short request that repeats one would have a long answer.
    let mut met = HashSet::new();
    resources.retain(|resource| met.insert((resource.resource_type, resource.resource_name.clone())));
    drop(met);
    let catalog = caller.log().catalog();
    let bytes = resources.iter().map(|resource| answer_bytes(&catalog, resource)).sum();
    let grant = memory_for(&caller, bytes).await?;
    let results = resources.into_iter().map(|resource| describe(&caller, &catalog, resource, detail));
    let results = results.collect();
    Ok((DescribeConfigsResponse { results, ..DescribeConfigsResponse::default() }, grant))
}

fn answer_bytes(catalog: &Catalog, resource: &DescribeConfigsResource) -> usize {
    let configs = match resource.resource_type {
        TOPIC => catalog.by_name(&resource.resource_name).map_or(0, |topic| {
            let set: usize = topic.configs.values().map(String::len).sum();
            TOPIC_CONFIGS.len() * CONFIG_BYTES + 4 * set
        }),
        BROKER => broker_config::count() * CONFIG_BYTES,
        _ => 0,
    };
    RESULT_BYTES + 4 * resource.resource_name.len() + configs
}

fn describe(
    caller: &Caller,
    catalog: &Catalog,
    resource: DescribeConfigsResource,
    detail: Detail,
) -> DescribeConfigsResult {
    let found = match resource.resource_type {
        TOPIC => topic(catalog, &resource.resource_name, detail),
        BROKER => broker(caller, &resource.resource_name, detail),
        other => Err(Refused::invalid(format!("resources of type {other} have no configs here"))),
    };
    let mut result = DescribeConfigsResult {
        resource_type: resource.resource_type,
        resource_name: resource.resource_name,
        ..DescribeConfigsResult::default()
    };
    match found {
        Ok(configs) => result.configs = chosen(configs, resource.configuration_keys.as_deref()),
        Err(refused) => {
            result.error_code = refused.code.0;
            result.error_message = Some(refused.message);
        }
    }
    result
}

/// The configs that were asked for: all of them when none is named.
fn chosen(mut configs: Configs, names: Option<&[String]>) -> Configs {
    if let Some(names) = names.filter(|names| !names.is_empty()) {
        let names: HashSet<&str> = names.iter().map(String::as_str).collect();
        configs.retain(|config| names.contains(config.name.as_str()));
    }
    configs
}

fn topic(catalog: &Catalog, name: &str, detail: Detail) -> Result<Configs, Refused> {
    TopicName::new(name)
        .map_err(|error| Refused::new(ErrorCode::INVALID_TOPIC_EXCEPTION, error.to_string()))?;
    let topic = catalog.by_name(name).ok_or_else(|| Refused::unknown_topic(name))?;
    Ok(TOPIC_CONFIGS.iter().map(|known| of_topic(known, &topic.configs, detail)).collect())
}

fn of_topic(
    known: &TopicConfig,
    configs: &BTreeMap<String, String>,
    detail: Detail,
) -> DescribeConfigsResourceResult {
    let set = configs.get(known.name).map(|value| synonym(known.name, value, FROM_TOPIC));
    let source = if set.is_some() { FROM_TOPIC } else { FROM_NOBODY };
    let default = synonym(broker_config::name_of(known), known.default, FROM_NOBODY);
    DescribeConfigsResourceResult {
        name: known.name.to_owned(),
        value: Some(topic_config::effective(configs, known.name).to_owned()),
        config_source: source,
        synonyms: if detail.synonyms { set.into_iter().chain([default]).collect() } else { Vec::new() },
        config_type: broker_config::kind_of(known),
        documentation: detail.documentation.then(|| known.doc.to_owned()),
        ..DescribeConfigsResourceResult::default()
    }
}

/// The settings of this broker. Without a name they would be those that were set for a whole cluster
/// while it ran, of which there are none.
fn broker(caller: &Caller, name: &str, detail: Detail) -> Result<Configs, Refused> {
    let node_id = caller.broker.config().node_id;
    if name.is_empty() {
        return Ok(Vec::new());
    }
    if name.parse::<i32>() != Ok(node_id) {
        return Err(Refused::invalid(format!("there is no broker {name:?}; the only one is {node_id}")));
    }
    Ok(broker_config::all(caller).into_iter().map(|setting| of_broker(setting, detail)).collect())
}

fn of_broker(setting: Setting, detail: Detail) -> DescribeConfigsResourceResult {
    let source = if setting.is_default() { FROM_NOBODY } else { FROM_START };
    let set = (source == FROM_START).then(|| synonym(setting.name, &setting.value, FROM_START));
    let default = setting.default.map(|value| synonym(setting.name, value, FROM_NOBODY));
    DescribeConfigsResourceResult {
        name: setting.name.to_owned(),
        value: Some(setting.value),
        read_only: true,
        config_source: source,
        synonyms: if detail.synonyms { set.into_iter().chain(default).collect() } else { Vec::new() },
        config_type: setting.kind,
        documentation: detail.documentation.then(|| setting.doc.to_owned()),
        ..DescribeConfigsResourceResult::default()
    }
}

fn synonym(name: &str, value: &str, source: i8) -> DescribeConfigsSynonym {
    DescribeConfigsSynonym { name: name.to_owned(), value: Some(value.to_owned()), source }
}
