//! Apache Kafka itself, where the tests were told one: `COURANT_TEST_KAFKA`, as `cargo xtask engines up kafka`
//! says it. Other tests use it as well, so each has topics and groups of its own.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use courant_core::topic::TopicName;
use courant_engine::{Engine, EngineConfig, ensure_topics, open_with};
use courant_engine_kafka::{KafkaWith, Silence};
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;

use crate::place::PATIENCE;

/// Its address; otherwise the test is skipped, and that is said.
pub(crate) fn address(test: &str) -> Option<String> {
    named("COURANT_TEST_KAFKA", test)
}

/// Where it speaks TLS and lets Ann in, whose password is secret.
#[cfg(feature = "tls")]
pub(crate) fn login_address(test: &str) -> Option<String> {
    named("COURANT_TEST_KAFKA_LOGIN", test)
}

fn named(variable: &str, test: &str) -> Option<String> {
    let address = std::env::var(variable).ok().filter(|address| !address.is_empty());
    if address.is_none() {
        // Not `eprintln!`: the test harness would swallow it.
        let said = "no Kafka was named; `cargo xtask engines up kafka` says how";
        let _ = writeln!(std::io::stderr(), "SKIPPED: {test}: {said}");
    }
    address
}

pub(crate) fn url(address: &str) -> String {
    format!("kafka://{address}")
}

/// An engine in the time of the machine.
pub(crate) async fn engine(address: &str, silence: Silence) -> Arc<dyn Engine> {
    let url = url(address).parse().expect("a URL");
    open_with(&url, EngineConfig::system(), &[&KafkaWith { silence }]).await.expect("opens")
}

/// Removes what an earlier run has left in topics of these names, and waits until they are gone.
pub(crate) async fn without_topics(address: &str, names: &[&str]) {
    let mut config = ClientConfig::new();
    let admin: AdminClient<DefaultClientContext> =
        config.set("bootstrap.servers", address).create().expect("a client");
    let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
    // Topics that are not there are answered one by one.
    drop(admin.delete_topics(names, &options).await.expect("answers"));
    let engine = engine(address, Silence::default()).await;
    let named: Vec<TopicName> = names.iter().map(|name| TopicName::new(name).expect("legal")).collect();
    let gone = async {
        while engine.topics(named.clone()).await.expect("answers").iter().any(Option::is_some) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("they go");
    engine.close().await;
}

/// Makes a topic anew.
pub(crate) async fn new_topic(address: &str, name: &str, partitions: u32) {
    without_topics(address, &[name]).await;
    let engine = engine(address, Silence::default()).await;
    let topic = courant_engine::NewTopic::new(TopicName::new(name).expect("legal"), partitions);
    ensure_topics(&*engine, vec![topic]).await.expect("created");
    engine.close().await;
}
