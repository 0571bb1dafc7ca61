//! The configs of topics, and the number of their partitions.

use super::admin::timeout_ms;
use super::{AdminError, Client, Refusal};
use crate::wire::messages::create_partitions::CreatePartitionsTopic;
use crate::wire::messages::describe_configs::DescribeConfigsResource;
use crate::wire::messages::incremental_alter_configs::{AlterConfigsResource, AlterableConfig};
use crate::wire::messages::{
    CreatePartitionsRequest, CreatePartitionsResponse, DescribeConfigsRequest,
    IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
};

/// A config of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigEntry {
    /// Its name.
    pub name: String,
    /// Its value; `None` where the server does not tell.
    pub value: Option<String>,
    /// Whether it was set on the topic itself.
    pub is_set: bool,
    /// What it is about, if the server says so.
    pub documentation: Option<String>,
}

/// Resource type of a topic.
const TOPIC: i8 = 2;
/// A value that was set on the topic.
const SET_ON_TOPIC: i8 = 1;
const SET: i8 = 0;
const DELETE: i8 = 1;

impl Client {
    /// All configs of a topic, by name.
    ///
    /// # Errors
    /// [`AdminError::UnknownTopic`], or a refusal.
    pub async fn topic_configs(&mut self, topic: &str) -> Result<Vec<ConfigEntry>, AdminError> {
        let make = |version: i16| DescribeConfigsRequest {
            resources: vec![DescribeConfigsResource {
                resource_type: TOPIC,
                resource_name: topic.to_owned(),
                configuration_keys: None,
            }],
            include_documentation: version >= 3,
            ..DescribeConfigsRequest::default()
        };
        let response = self.call_any(make).await?;
        let result = response
            .results
            .into_iter()
            .next()
            .ok_or_else(|| AdminError::Incomplete { api: "DescribeConfigs", missing: topic.to_owned() })?;
        if result.error_code != 0 {
            return Err(super::admin::refused(topic, Refusal::new(result.error_code, result.error_message)));
        }
        let mut configs: Vec<_> = result
            .configs
            .into_iter()
            .map(|config| ConfigEntry {
                name: config.name,
                value: config.value,
                is_set: config.config_source == SET_ON_TOPIC,
                documentation: config.documentation,
            })
            .collect();
        configs.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(configs)
    }

    /// Sets configs of a topic; `None` takes one back to its default.
    ///
    /// # Errors
    /// [`AdminError::UnknownTopic`], or the server's reason to refuse a name or a value.
    pub async fn alter_topic(
        &mut self,
        topic: &str,
        changes: &[(String, Option<String>)],
        validate_only: bool,
    ) -> Result<(), AdminError> {
        let make = |_| IncrementalAlterConfigsRequest {
            resources: vec![AlterConfigsResource {
                resource_type: TOPIC,
                resource_name: topic.to_owned(),
                configs: changes.iter().map(change).collect(),
            }],
            validate_only,
        };
        self.ask_controller(topic, make, |response: IncrementalAlterConfigsResponse| {
            let result = response.responses.into_iter().next()?;
            Some(((), Refusal::new(result.error_code, result.error_message)))
        })
        .await
    }

    /// Adds partitions to a topic until it has `total`.
    ///
    /// # Errors
    /// [`AdminError::UnknownTopic`], or the server's reason to refuse the number.
    pub async fn add_partitions(
        &mut self,
        topic: &str,
        total: i32,
        validate_only: bool,
    ) -> Result<(), AdminError> {
        let timeout_ms = timeout_ms(self.timeout());
        let make = |_| CreatePartitionsRequest {
            topics: vec![CreatePartitionsTopic { name: topic.to_owned(), count: total, assignments: None }],
            timeout_ms,
            validate_only,
        };
        self.ask_controller(topic, make, |response: CreatePartitionsResponse| {
            let result = response.results.into_iter().next()?;
            Some(((), Refusal::new(result.error_code, result.error_message)))
        })
        .await
    }
}

fn change((name, value): &(String, Option<String>)) -> AlterableConfig {
    let config_operation = if value.is_some() { SET } else { DELETE };
    AlterableConfig { name: name.clone(), config_operation, value: value.clone() }
}
