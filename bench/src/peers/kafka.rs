//! Apache Kafka, by the client that Courant is measured with: librdkafka. And Courant by a client as the others
//! have one: without a library.

use std::time::Duration;

use anyhow::{Context as _, Result};

use super::Client;
use crate::client::{self, TOPIC};
use crate::passing::{self, Receiver, Sender};
use crate::rows::Producers;
use crate::wire::Connection;

/// Names the version that is measured: the server itself does not tell it to clients.
const POM: &str = include_str!("../../../xtask/engines/kafka.xml");

/// As its own scripts start it, and `cargo xtask engines up kafka --for figures`.
const HEAP: &str = "1 GiB";

pub(super) struct Kafka {
    address: String,
    configs: &'static [(&'static str, &'static str)],
    producers: Producers,
}

impl Kafka {
    /// To `HOST:PORT`. The topic is made with these configs.
    pub(super) fn connect(address: &str, configs: &'static [(&'static str, &'static str)]) -> Result<Kafka> {
        Connection::open(address)?.create_topic(TOPIC, 1, configs)?;
        Ok(Kafka { address: address.to_owned(), configs, producers: Producers::new(address)? })
    }
}

/// A producer that waits for nobody, and a consumer.
pub(super) fn pass(address: &str, configs: &[(&str, &str)]) -> Result<(Box<dyn Sender>, Box<dyn Receiver>)> {
    Connection::open(address)?.create_topic(TOPIC, 1, configs)?;
    passing::by_librdkafka(address)
}

/// The same, of a producer and a consumer that do no more than those of the others.
pub(super) fn pass_without_library(
    address: &str,
    configs: &[(&str, &str)],
) -> Result<(Box<dyn Sender>, Box<dyn Receiver>)> {
    Connection::open(address)?.create_topic(TOPIC, 1, configs)?;
    passing::without_library(address)
}

/// What a server with such a topic is called.
fn called(configs: &[(&str, &str)]) -> Result<String> {
    let version = version(POM).context("xtask/engines/kafka.xml names no version of the server")?;
    let set: Vec<String> = configs.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let set = if set.is_empty() { "as it comes".to_owned() } else { set.join(", ") };
    Ok(format!("Apache Kafka {version}, one node, {HEAP} of heap, {set}"))
}

/// The version of the artifact `kafka_…` among those that a pom lists.
fn version(pom: &str) -> Option<&str> {
    let (_, server) = pom.split_once("<artifactId>kafka_")?;
    let (_, version) = server.split_once("<version>")?;
    version.split_once("</version>").map(|(version, _)| version.trim())
}

impl Client for Kafka {
    fn about(&mut self) -> Result<String> {
        called(self.configs)
    }

    fn wait(&mut self, waiting: usize, time: Duration) -> Result<Vec<u32>> {
        self.producers.wait(waiting, time)
    }

    fn stored(&mut self) -> Result<Option<u64>> {
        client::events_stored(&self.address).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_that_of_the_jars() {
        let called = called(&[("flush.messages", "1")]).unwrap();
        assert!(called.starts_with("Apache Kafka 4."), "{called}");
        assert!(called.ends_with(", one node, 1 GiB of heap, flush.messages=1"), "{called}");
        assert_eq!(version("<artifactId>slf4j</artifactId><version>1</version>"), None);
    }
}
