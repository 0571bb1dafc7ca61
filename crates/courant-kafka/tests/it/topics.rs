//! Topics: created on first use and on request, described, deleted.

use courant_kafka::KafkaConfig;
use courant_kafka::wire::ErrorCode;
use courant_kafka::wire::messages::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest, DeleteTopicState, DeleteTopicsRequest,
    FindCoordinatorRequest, MetadataRequest, MetadataRequestTopic,
};
use uuid::Uuid;

use crate::support::{Running, batch, produce};

fn ask(names: &[&str], create: bool) -> MetadataRequest {
    let topic = |name: &&str| MetadataRequestTopic {
        name: Some((*name).to_owned()),
        ..MetadataRequestTopic::default()
    };
    MetadataRequest {
        topics: Some(names.iter().map(topic).collect()),
        allow_auto_topic_creation: create,
        ..MetadataRequest::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_are_created_on_first_use() {
    let running = Running::with(KafkaConfig { partitions: 3, ..KafkaConfig::default() }).await;
    let mut raw = running.connect().await;
    let code =
        |answer: &courant_kafka::wire::messages::MetadataResponse| ErrorCode(answer.topics[0].error_code);
    let answer = raw.call(&ask(&["audit"], false), 12).await;
    assert_eq!(code(&answer), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    for name in ["../x", "", "a b", "x".repeat(250).as_str()] {
        let answer = raw.call(&ask(&[name], true), 12).await;
        assert_eq!(code(&answer), ErrorCode::INVALID_TOPIC_EXCEPTION, "{name}");
    }
    let answer = raw.call(&ask(&["audit", "audit"], true), 12).await;
    assert_eq!(answer.topics.len(), 1, "named twice, described once");
    let topic = &answer.topics[0];
    assert_eq!((topic.error_code, topic.partitions.len()), (0, 3));
    assert!(!topic.topic_id.is_nil());
    assert_eq!(topic.partitions[2].leader_id, 0);
    assert_eq!(topic.partitions[2].leader_epoch, 0);
    assert_eq!(topic.partitions[2].isr_nodes, [0]);

    let broker = &answer.brokers[0];
    assert_eq!(broker.node_id, 0);
    assert_eq!(broker.host, running.address.ip().to_string());
    assert_eq!(broker.port, i32::from(running.address.port()));
    running.stop().await;
}

/// A slip in the name of a topic makes none where the server is told so, whatever the client asks for; before version
/// 4 it cannot say.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_topic_is_created_by_asking_where_the_server_is_told_so() {
    let running = Running::with(KafkaConfig { auto_create: false, ..KafkaConfig::default() }).await;
    let mut raw = running.connect().await;
    for version in 0..=13 {
        let answer = raw.call(&ask(&["audit"], true), version).await;
        let code = ErrorCode(answer.topics[0].error_code);
        assert_eq!(code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, "version {version}");
    }
    let answer = raw.call(&ask(&["a b"], true), 12).await;
    assert_eq!(ErrorCode(answer.topics[0].error_code), ErrorCode::INVALID_TOPIC_EXCEPTION);
    let answer = raw.call(&produce("audit", 0, -1, batch(&["a"])), 12).await;
    let code = ErrorCode(answer.responses[0].partition_responses[0].error_code);
    assert_eq!(code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    assert!(running.broker.log().catalog().is_empty(), "nothing was created");

    // Whoever means it creates it.
    running.topic("audit", 2).await;
    let answer = raw.call(&ask(&["audit"], true), 12).await;
    assert_eq!((answer.topics[0].error_code, answer.topics[0].partitions.len()), (0, 2));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn null_means_all_and_empty_means_none() {
    let running = Running::start().await;
    let id = running.topic("audit", 1).await;
    let mut raw = running.connect().await;
    let all = MetadataRequest { topics: None, ..MetadataRequest::default() };
    assert_eq!(raw.call(&all, 12).await.topics.len(), 1);
    assert_eq!(raw.call(&ask(&[], true), 12).await.topics.len(), 0);
    assert_eq!(raw.call(&ask(&[], true), 0).await.topics.len(), 1);

    let by_id = |id: Uuid| MetadataRequest {
        topics: Some(vec![MetadataRequestTopic { topic_id: id, name: None }]),
        ..MetadataRequest::default()
    };
    let answer = raw.call(&by_id(id), 12).await;
    assert_eq!(answer.topics[0].name.as_deref(), Some("audit"));
    let answer = raw.call(&by_id(Uuid::from_u128(7)), 12).await;
    assert_eq!(ErrorCode(answer.topics[0].error_code), ErrorCode::UNKNOWN_TOPIC_ID);
    assert_eq!(answer.topics[0].name, None);
    running.stop().await;
}

/// Symptom: Kafka's Java client could not describe a topic by its id. Cause: it sends an empty name beside the id, and was
/// told that no topic can have that name. Fix: an empty name beside an id is none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_name_beside_an_id_is_none() {
    let running = Running::start().await;
    let id = running.topic("audit", 1).await;
    let mut raw = running.connect().await;
    let request = |topic_id: Uuid| MetadataRequest {
        topics: Some(vec![MetadataRequestTopic { topic_id, name: Some(String::new()) }]),
        ..MetadataRequest::default()
    };
    for version in 10..=13 {
        let answer = raw.call(&request(id), version).await;
        assert_eq!(answer.topics[0].name.as_deref(), Some("audit"), "version {version}");
        assert_eq!((answer.topics[0].error_code, answer.topics[0].topic_id), (0, id));
        let answer = raw.call(&request(Uuid::from_u128(7)), version).await;
        assert_eq!(ErrorCode(answer.topics[0].error_code), ErrorCode::UNKNOWN_TOPIC_ID);
        assert_eq!(answer.topics[0].topic_id, Uuid::from_u128(7));
        let answer = raw.call(&request(Uuid::nil()), version).await;
        assert_eq!(ErrorCode(answer.topics[0].error_code), ErrorCode::INVALID_TOPIC_EXCEPTION);
    }
    running.stop().await;
}

/// Clients that describe topics and clusters by Metadata were told that nobody had asked (KIP-430).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_what_it_may_do_is_told() {
    let running = Running::start().await;
    running.topic("audit", 1).await;
    let mut raw = running.connect().await;
    let asked = |asked: bool| MetadataRequest {
        include_cluster_authorized_operations: asked,
        include_topic_authorized_operations: asked,
        ..ask(&["audit", "nowhere"], false)
    };
    // Of a topic: 3 read, 4 write, 5 create, 6 delete, 7 alter, 8 describe, 10 and 11 describe and alter its
    // configs. Of the cluster also 9, what its servers do, and 12, idempotent writing.
    let (on_topic, on_cluster) = (0b1101_1111_1000, 0b1_1111_1010_0000);
    for version in 8..=13 {
        let answer = raw.call(&asked(false), version).await;
        assert_eq!(answer.topics[0].topic_authorized_operations, i32::MIN, "nobody asked");
        assert_eq!(answer.cluster_authorized_operations, i32::MIN, "nobody asked");
        let answer = raw.call(&asked(true), version).await;
        assert_eq!(answer.topics[0].topic_authorized_operations, on_topic, "version {version}");
        assert_eq!(answer.topics[1].topic_authorized_operations, i32::MIN, "it does not exist");
        let told = if version <= 10 { on_cluster } else { i32::MIN };
        assert_eq!(answer.cluster_authorized_operations, told, "version {version}");
    }
    let all = MetadataRequest { topics: None, ..asked(true) };
    assert_eq!(raw.call(&all, 12).await.topics[0].topic_authorized_operations, on_topic);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn creating_says_what_the_topic_became() {
    let running = Running::start().await;
    let mut raw = running.connect().await;
    let config = |name: &str, value: &str| CreatableTopicConfig {
        name: name.to_owned(),
        value: Some(value.to_owned()),
    };
    let mut request = CreateTopicsRequest {
        topics: vec![CreatableTopic {
            name: "audit".to_owned(),
            num_partitions: -1,
            replication_factor: 3,
            configs: vec![config("max.message.bytes", "1000")],
            ..CreatableTopic::default()
        }],
        validate_only: true,
        ..CreateTopicsRequest::default()
    };
    let answer = raw.call(&request, 7).await;
    assert_eq!(answer.topics[0].error_code, 0);
    request.validate_only = false;
    let answer = raw.call(&request, 7).await;
    let topic = &answer.topics[0];
    assert_eq!(topic.error_code, 0, "validating creates nothing: {topic:?}");
    assert_eq!((topic.num_partitions, topic.replication_factor), (1, 1));
    let configs = topic.configs.as_ref().expect("configs");
    let shown = configs.iter().find(|config| config.name == "max.message.bytes");
    let shown = shown.expect("it is known");
    assert_eq!((shown.value.as_deref(), shown.config_source), (Some("1000"), 1));
    let others = configs.iter().filter(|config| config.name != "max.message.bytes");
    assert!(others.clone().count() > 5 && others.clone().all(|config| config.config_source == 5));

    let answer = raw.call(&request, 7).await;
    assert_eq!(ErrorCode(answer.topics[0].error_code), ErrorCode::TOPIC_ALREADY_EXISTS);
    request.topics[0].configs = vec![config("no.such.config", "1")];
    let answer = raw.call(&request, 7).await;
    let code = ErrorCode(answer.topics[0].error_code);
    assert_eq!(code, ErrorCode::TOPIC_ALREADY_EXISTS, "whatever else is wrong");
    request.topics[0].name = "other".to_owned();
    let answer = raw.call(&request, 7).await;
    assert_eq!(ErrorCode(answer.topics[0].error_code), ErrorCode::INVALID_CONFIG);
    let twice = request.topics[0].clone();
    request.topics.push(twice);
    let answer = raw.call(&request, 7).await;
    assert_eq!(answer.topics.len(), 1);
    assert_eq!(ErrorCode(answer.topics[0].error_code), ErrorCode::INVALID_REQUEST);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_name_is_free_at_once() {
    let running = Running::start().await;
    let first = running.topic("audit", 1).await;
    let request = DeleteTopicsRequest {
        topic_names: vec!["audit".to_owned(), "nowhere".to_owned()],
        ..DeleteTopicsRequest::default()
    };
    let answer = running.connect().await.call(&request, 5).await;
    let codes: Vec<_> = answer.responses.iter().map(|result| result.error_code).collect();
    assert_eq!(codes, [0, 3]);
    let second = running.topic("audit", 1).await;
    assert_ne!(first, second, "an id is never given twice");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn this_broker_coordinates_groups_and_no_transactions() {
    let running = Running::start().await;
    let mut raw = running.connect().await;
    let request = |key_type: i8| FindCoordinatorRequest {
        key: "g".to_owned(),
        key_type,
        coordinator_keys: vec!["g".to_owned()],
    };
    for version in [2, 4] {
        let answer = raw.call(&request(0), version).await;
        let port = answer.coordinators.first().map_or(answer.port, |found| found.port);
        assert_eq!(port, i32::from(running.address.port()), "version {version}");
        let answer = raw.call(&request(1), version).await;
        let code = answer.coordinators.first();
        let code = code.map_or(answer.error_code, |found| found.error_code);
        let code = ErrorCode(code);
        assert_eq!(code, ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED);
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_deleted_in_the_meantime_is_unknown_by_the_name_it_was_given() {
    let running = Running::start().await;
    let topic = running.topic("audit", 1).await;
    let state = DeleteTopicState { name: None, topic_id: topic };
    let request =
        DeleteTopicsRequest { topics: vec![state.clone(), state], ..DeleteTopicsRequest::default() };
    let answer = running.connect().await.call(&request, 6).await;
    let codes: Vec<_> = answer.responses.iter().map(|result| ErrorCode(result.error_code)).collect();
    assert_eq!(codes, [ErrorCode::NONE, ErrorCode::UNKNOWN_TOPIC_ID]);

    running.topic("audit", 1).await;
    let names = vec!["audit".to_owned(), "audit".to_owned()];
    let request = DeleteTopicsRequest { topic_names: names, ..DeleteTopicsRequest::default() };
    let answer = running.connect().await.call(&request, 5).await;
    let codes: Vec<_> = answer.responses.iter().map(|result| ErrorCode(result.error_code)).collect();
    assert_eq!(codes, [ErrorCode::NONE, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION]);
    running.stop().await;
}

/// Symptom: DeleteTopics with a name of 32 KB deleted the other topics that it named and closed the connection, instead
/// of saying so. Cause: the sentence that quotes the name was longer than a string of the protocol. Fix: what is quoted
/// is cut.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_is_too_long_to_be_quoted_is_answered() {
    let running = Running::start().await;
    let mut raw = running.connect().await;
    for version in [5, 6] {
        running.topic("audit", 1).await;
        let names = vec!["audit".to_owned(), "x".repeat(32_767)];
        let by_name = |name: &String| DeleteTopicState { name: Some(name.clone()), topic_id: Uuid::nil() };
        let request = DeleteTopicsRequest {
            topics: if version == 6 { names.iter().map(by_name).collect() } else { Vec::new() },
            topic_names: if version == 5 { names.clone() } else { Vec::new() },
            ..DeleteTopicsRequest::default()
        };
        let answer = raw.call(&request, version).await;
        let codes: Vec<_> = answer.responses.iter().map(|result| ErrorCode(result.error_code)).collect();
        assert_eq!(codes, [ErrorCode::NONE, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION], "version {version}");
        assert_eq!(answer.responses[1].name.as_ref(), Some(&names[1]));
    }
    running.stop().await;
}

/// Otherwise a short request could ask for a large description many times over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_is_described_once_whatever_ids_stand_beside_it() {
    let running = Running::start().await;
    running.topic("audit", 1).await;
    let mut request = ask(&["audit", "audit", "audit"], false);
    for (number, topic) in request.topics.iter_mut().flatten().enumerate() {
        topic.topic_id = Uuid::from_u128(number as u128);
    }
    let answer = running.connect().await.call(&request, 12).await;
    assert_eq!(answer.topics.len(), 1);
    running.stop().await;
}
