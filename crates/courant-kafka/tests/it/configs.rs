//! Configs: described with everything a tool wants to know, changed one by one or all at once.

use courant_kafka::KafkaConfig;
use courant_kafka::wire::ErrorCode;
use courant_kafka::wire::messages::describe_configs::{
    DescribeConfigsResource, DescribeConfigsResourceResult, DescribeConfigsResult,
};
use courant_kafka::wire::messages::{
    AlterConfigsRequest, CreatableTopic, CreatableTopicConfig, CreateTopicsRequest, DescribeConfigsRequest,
    DescribeConfigsResponse, IncrementalAlterConfigsRequest, alter_configs, incremental_alter_configs,
};
use courant_log::topic_config::TOPIC_CONFIGS;

use crate::support::{Raw, Running};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

const FROM_TOPIC: i8 = 1;
const FROM_START: i8 = 4;
const FROM_NOBODY: i8 = 5;

fn resource(kind: i8, name: &str, keys: Option<&[&str]>) -> DescribeConfigsResource {
    DescribeConfigsResource {
        resource_type: kind,
        resource_name: name.to_owned(),
        configuration_keys: keys.map(|keys| keys.iter().map(|key| (*key).to_owned()).collect()),
    }
}

fn describe(resources: Vec<DescribeConfigsResource>) -> DescribeConfigsRequest {
    DescribeConfigsRequest { resources, include_synonyms: true, include_documentation: true }
}

fn codes(answer: &DescribeConfigsResponse) -> Vec<ErrorCode> {
    answer.results.iter().map(|result| ErrorCode(result.error_code)).collect()
}

#[track_caller]
fn config<'a>(result: &'a DescribeConfigsResult, name: &str) -> &'a DescribeConfigsResourceResult {
    let found = result.configs.iter().find(|config| config.name == name);
    found.unwrap_or_else(|| panic!("{name} is not described: {result:?}"))
}

/// The values that a topic has set.
async fn set_on(raw: &mut Raw, topic: &str) -> Vec<(String, String)> {
    let answer = raw.call(&describe(vec![resource(TOPIC, topic, None)]), 4).await;
    let configs = answer.results.into_iter().flat_map(|result| result.configs);
    let set = configs.filter(|config| config.config_source == FROM_TOPIC);
    set.map(|config| (config.name, config.value.expect("no value is secret"))).collect()
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_config_of_a_topic_is_described() {
    let running = Running::start().await;
    let mut raw = running.connect().await;
    let create = CreateTopicsRequest {
        topics: vec![CreatableTopic {
            name: "audit".to_owned(),
            num_partitions: 1,
            replication_factor: 1,
            configs: vec![CreatableTopicConfig {
                name: "retention.ms".to_owned(),
                value: Some("86400000".to_owned()),
            }],
            ..CreatableTopic::default()
        }],
        ..CreateTopicsRequest::default()
    };
    assert_eq!(raw.call(&create, 7).await.topics[0].error_code, 0);

    let answer = raw.call(&describe(vec![resource(TOPIC, "audit", None)]), 4).await;
    assert_eq!(codes(&answer), [ErrorCode::NONE]);
    let result = &answer.results[0];
    assert_eq!((result.resource_type, result.resource_name.as_str()), (TOPIC, "audit"));
    assert_eq!(result.configs.len(), TOPIC_CONFIGS.len());
    assert!(result.configs.iter().all(|config| !config.read_only && !config.is_sensitive));
    assert!(result.configs.iter().all(|config| config.config_type > 0 && config.documentation.is_some()));
    let retention = config(result, "retention.ms");
    assert_eq!((retention.value.as_deref(), retention.config_source), (Some("86400000"), FROM_TOPIC));
    assert_eq!(retention.config_type, 5, "a 64-bit number");
    let synonyms = retention.synonyms.iter();
    let synonyms: Vec<_> =
        synonyms.map(|one| (one.name.as_str(), one.value.as_deref(), one.source)).collect();
    let expected =
        [("retention.ms", Some("86400000"), FROM_TOPIC), ("log.retention.ms", Some("-1"), FROM_NOBODY)];
    assert_eq!(synonyms, expected);
    let policy = config(result, "cleanup.policy");
    assert_eq!((policy.value.as_deref(), policy.config_source), (Some("delete"), FROM_NOBODY));
    assert_eq!(policy.config_type, 7, "a list");

    // What is not asked for is not told.
    let short = DescribeConfigsRequest {
        resources: vec![
            resource(TOPIC, "audit", Some(&["retention.ms", "no.such.config"])),
            resource(TOPIC, "audit", Some(&["segment.ms"])),
        ],
        ..DescribeConfigsRequest::default()
    };
    for version in [1, 4] {
        let answer = raw.call(&short, version).await;
        assert_eq!(answer.results.len(), 1, "named twice, described once");
        assert_eq!(answer.results[0].configs.len(), 1);
        let retention = config(&answer.results[0], "retention.ms");
        assert!(retention.synonyms.is_empty() && retention.documentation.is_none());
    }
    let answer = raw.call(&describe(vec![resource(TOPIC, "audit", Some(&[]))]), 4).await;
    assert_eq!(answer.results[0].configs.len(), TOPIC_CONFIGS.len(), "no name means all");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_exist_has_no_configs() {
    let running = Running::start().await;
    let mut raw = running.connect().await;
    let long = "x".repeat(30_000);
    let asked = vec![
        resource(TOPIC, "nowhere", None),
        resource(TOPIC, "../x", None),
        resource(BROKER, "7", None),
        resource(BROKER, long.as_str(), None),
        resource(8, "0", None),
        resource(99, "", None),
    ];
    for version in [1, 4] {
        let answer = raw.call(&describe(asked.clone()), version).await;
        let invalid = ErrorCode::INVALID_REQUEST;
        let expected = [
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            ErrorCode::INVALID_TOPIC_EXCEPTION,
            invalid,
            invalid,
            invalid,
            invalid,
        ];
        assert_eq!(codes(&answer), expected);
        assert!(answer.results.iter().all(|result| result.error_message.is_some()));
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_broker_says_how_it_is_set() {
    let running = Running::with(KafkaConfig { partitions: 3, ..KafkaConfig::default() }).await;
    let mut raw = running.connect().await;
    let answer = raw.call(&describe(vec![resource(BROKER, "0", None), resource(BROKER, "", None)]), 4).await;
    assert_eq!(codes(&answer), [ErrorCode::NONE; 2]);
    let result = &answer.results[0];
    assert!(result.configs.is_sorted_by(|a, b| a.name < b.name));
    assert!(result.configs.iter().all(|config| config.read_only && config.documentation.is_some()));
    let address = format!("PLAINTEXT://{}", running.address);
    for (name, value) in [
        ("advertised.listeners", address.as_str()),
        ("auto.create.topics.enable", "true"),
        ("default.replication.factor", "1"),
        ("group.min.session.timeout.ms", "10"),
        ("listeners", address.as_str()),
        ("log.dirs", "courant-data"),
        ("log.retention.ms", "-1"),
        ("message.max.bytes", "1048588"),
        ("min.insync.replicas", "1"),
        ("node.id", "0"),
        ("num.partitions", "3"),
        ("offsets.retention.minutes", "10080"),
    ] {
        assert_eq!(config(result, name).value.as_deref(), Some(value), "{name}");
    }
    // The table's defaults are those of the settings.
    let changed = result.configs.iter().filter(|config| config.config_source != FROM_NOBODY);
    let changed: Vec<_> = changed.map(|config| (config.name.as_str(), config.config_source)).collect();
    let expected = [
        ("advertised.listeners", FROM_START),
        ("listeners", FROM_START),
        ("log.dirs", FROM_START),
        ("num.partitions", FROM_START),
    ];
    assert_eq!(changed, expected);
    assert_eq!(config(result, "num.partitions").synonyms.len(), 2);
    assert!(answer.results[1].configs.is_empty(), "nothing was set for a whole cluster");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_broker_says_that_it_creates_no_topics() {
    let running = Running::with(KafkaConfig { auto_create: false, ..KafkaConfig::default() }).await;
    let mut raw = running.connect().await;
    let asked = resource(BROKER, "0", Some(&["auto.create.topics.enable"]));
    let answer = raw.call(&describe(vec![asked]), 4).await;
    let config = config(&answer.results[0], "auto.create.topics.enable");
    assert_eq!((config.value.as_deref(), config.config_source), (Some("false"), FROM_START));
    running.stop().await;
}

fn change(name: &str, operation: i8, value: Option<&str>) -> incremental_alter_configs::AlterableConfig {
    incremental_alter_configs::AlterableConfig {
        name: name.to_owned(),
        config_operation: operation,
        value: value.map(str::to_owned),
    }
}

fn changes(
    kind: i8,
    name: &str,
    configs: Vec<incremental_alter_configs::AlterableConfig>,
) -> incremental_alter_configs::AlterConfigsResource {
    incremental_alter_configs::AlterConfigsResource {
        resource_type: kind,
        resource_name: name.to_owned(),
        configs,
    }
}

/// Changes configs of one resource and returns the error code and the sentence.
async fn alter(
    raw: &mut Raw,
    resource: incremental_alter_configs::AlterConfigsResource,
    validate_only: bool,
) -> (ErrorCode, String) {
    let request = IncrementalAlterConfigsRequest { resources: vec![resource], validate_only };
    let answer = raw.call(&request, 1).await;
    let result = &answer.responses[0];
    (ErrorCode(result.error_code), result.error_message.clone().unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn single_configs_are_changed() {
    let running = Running::start().await;
    running.topic("audit", 1).await;
    let mut raw = running.connect().await;
    let ok = (ErrorCode::NONE, String::new());
    let wanted = || {
        changes(
            TOPIC,
            "audit",
            vec![change("retention.ms", SET, Some("5000")), change("flush.ms", SET, Some("9"))],
        )
    };
    assert_eq!(alter(&mut raw, wanted(), true).await, ok);
    assert_eq!(set_on(&mut raw, "audit").await, [], "it was only checked");
    assert_eq!(alter(&mut raw, wanted(), false).await, ok);
    assert_eq!(set_on(&mut raw, "audit").await, pairs(&[("flush.ms", "9"), ("retention.ms", "5000")]));

    let compact = changes(TOPIC, "audit", vec![change("cleanup.policy", APPEND, Some("compact"))]);
    assert_eq!(alter(&mut raw, compact, false).await, ok);
    let back = vec![change("flush.ms", DELETE, None), change("cleanup.policy", SUBTRACT, Some("delete"))];
    assert_eq!(alter(&mut raw, changes(TOPIC, "audit", back), false).await, ok);
    let expected = pairs(&[("cleanup.policy", "compact"), ("retention.ms", "5000")]);
    assert_eq!(set_on(&mut raw, "audit").await, expected);

    // All of a resource or nothing.
    let half = vec![change("flush.ms", SET, Some("1")), change("segment.ms", SET, Some("soon"))];
    let (code, sentence) = alter(&mut raw, changes(TOPIC, "audit", half), false).await;
    assert_eq!(code, ErrorCode::INVALID_CONFIG);
    assert!(sentence.contains("segment.ms"), "{sentence}");
    let twice = vec![change("flush.ms", SET, Some("1")), change("flush.ms", SET, Some("2"))];
    let (code, _) = alter(&mut raw, changes(TOPIC, "audit", twice), false).await;
    assert_eq!(code, ErrorCode::INVALID_REQUEST);
    assert_eq!(set_on(&mut raw, "audit").await, expected);
    running.stop().await;
}

/// Tools that copy configs from Kafka send them (KIP-390); the server has its own levels.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn levels_of_compression_are_kept_and_described() {
    let running = Running::start().await;
    running.topic("audit", 1).await;
    let mut raw = running.connect().await;
    let levels = [
        ("compression.gzip.level", "9"),
        ("compression.lz4.level", "17"),
        ("compression.zstd.level", "-131072"),
    ];
    let wanted = levels.iter().map(|(name, level)| change(name, SET, Some(*level))).collect();
    let altered = alter(&mut raw, changes(TOPIC, "audit", wanted), false).await;
    assert_eq!(altered, (ErrorCode::NONE, String::new()));
    assert_eq!(set_on(&mut raw, "audit").await, pairs(&levels));
    let asked = resource(TOPIC, "audit", Some(&["compression.gzip.level"]));
    let answer = raw.call(&describe(vec![asked]), 4).await;
    assert_eq!(config(&answer.results[0], "compression.gzip.level").config_type, 3, "a 32-bit number");
    let too_high = vec![change("compression.gzip.level", SET, Some("10"))];
    let (code, sentence) = alter(&mut raw, changes(TOPIC, "audit", too_high), false).await;
    assert_eq!(code, ErrorCode::INVALID_CONFIG);
    assert!(sentence.ends_with("it is a number from 1 to 9, or -1"), "{sentence}");
    running.stop().await;
}

/// Two clients take a word each out of a list that needs one. Both ask before the other is answered: whoever
/// is second must find what the first has left, and is told that it cannot be.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_at_one_time_follow_from_each_other() {
    let running = Running::start().await;
    running.topic("audit", 1).await;
    let (mut one, mut other) = (running.connect().await, running.connect().await);
    let policy = |operation: i8, words: &str| {
        changes(TOPIC, "audit", vec![change("cleanup.policy", operation, Some(words))])
    };
    for _ in 0..100 {
        let (code, sentence) = alter(&mut one, policy(SET, "delete,compact"), false).await;
        assert_eq!(code, ErrorCode::NONE, "{sentence}");
        let ((first, _), (second, _)) = tokio::join!(
            alter(&mut one, policy(SUBTRACT, "delete"), false),
            alter(&mut other, policy(SUBTRACT, "compact"), false),
        );
        let left = if first == ErrorCode::NONE { "compact" } else { "delete" };
        let refused = if first == ErrorCode::NONE { second } else { first };
        assert_eq!((refused, first == second), (ErrorCode::INVALID_CONFIG, false), "{left} is left");
        assert_eq!(set_on(&mut one, "audit").await, pairs(&[("cleanup.policy", left)]));
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_changed_says_why() {
    let running = Running::start().await;
    running.topic("audit", 1).await;
    let mut raw = running.connect().await;
    let one = || vec![change("retention.ms", SET, Some("5000"))];
    let (code, _) = alter(&mut raw, changes(TOPIC, "nowhere", one()), false).await;
    assert_eq!(code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    let of_broker = vec![change("num.partitions", SET, Some("5"))];
    let (code, sentence) = alter(&mut raw, changes(BROKER, "0", of_broker), false).await;
    assert_eq!(code, ErrorCode::INVALID_REQUEST);
    assert!(sentence.contains("courant serve --help"), "{sentence}");
    let (code, _) = alter(&mut raw, changes(99, "0", one()), false).await;
    assert_eq!(code, ErrorCode::INVALID_REQUEST);

    let request = IncrementalAlterConfigsRequest {
        resources: vec![changes(TOPIC, "audit", one()), changes(TOPIC, "audit", Vec::new())],
        validate_only: false,
    };
    let answer = raw.call(&request, 1).await;
    let codes: Vec<_> = answer.responses.iter().map(|result| ErrorCode(result.error_code)).collect();
    assert_eq!(codes, [ErrorCode::INVALID_REQUEST; 2], "named twice");
    assert_eq!(set_on(&mut raw, "audit").await, []);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_configs_are_replaced() {
    let running = Running::start().await;
    running.topic("audit", 1).await;
    let mut raw = running.connect().await;
    let request = |configs: &[(&str, Option<&str>)], validate_only: bool| {
        let config = |(name, value): &(&str, Option<&str>)| alter_configs::AlterableConfig {
            name: (*name).to_owned(),
            value: value.map(str::to_owned),
        };
        AlterConfigsRequest {
            resources: vec![alter_configs::AlterConfigsResource {
                resource_type: TOPIC,
                resource_name: "audit".to_owned(),
                configs: configs.iter().map(config).collect(),
            }],
            validate_only,
        }
    };
    let first = request(&[("retention.ms", Some("5000")), ("flush.ms", Some("9"))], false);
    assert_eq!(raw.call(&first, 2).await.responses[0].error_code, 0);
    let second = request(&[("flush.ms", Some("8")), ("segment.ms", Some("7"))], true);
    assert_eq!(raw.call(&second, 0).await.responses[0].error_code, 0);
    let expected = pairs(&[("flush.ms", "9"), ("retention.ms", "5000")]);
    assert_eq!(set_on(&mut raw, "audit").await, expected, "it was only checked");
    let nothing = request(&[("flush.ms", None)], false);
    let code = raw.call(&nothing, 2).await.responses[0].error_code;
    assert_eq!(ErrorCode(code), ErrorCode::INVALID_REQUEST);
    let second = AlterConfigsRequest { validate_only: false, ..second };
    assert_eq!(raw.call(&second, 0).await.responses[0].error_code, 0);
    assert_eq!(set_on(&mut raw, "audit").await, pairs(&[("flush.ms", "8"), ("segment.ms", "7")]));
    assert_eq!(raw.call(&request(&[], false), 2).await.responses[0].error_code, 0);
    assert_eq!(set_on(&mut raw, "audit").await, []);
    running.stop().await;
}
