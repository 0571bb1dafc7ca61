//! Apache Kafka, by the client that Courant is measured with: librdkafka. And Courant by a client as the others
//! have one: without a library.

use std::time::Duration;

use anyhow::{Context as _, Result};

use super::connection::{self, Answer, Protocol};
use super::rounds::Who;
use super::{Client, EVENT_BYTES};
use crate::client::{self, TOPIC};
use crate::passing::{self, Receiver, Sender};
use crate::rows::Producers;
use crate::wire::{self, Connection, ProduceOne};

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

/// Courant by a client like those of Redis and NATS: one thread, one connection, and a request for each event.
pub(super) struct Lean {
    address: String,
    connection: connection::Connection,
    events: Events,
}

impl Lean {
    /// To `HOST:PORT`. The topic is made with these configs.
    pub(super) fn connect(address: &str, configs: &[(&str, &str)]) -> Result<Lean> {
        Connection::open(address)?.create_topic(TOPIC, 1, configs)?;
        let mut connection = connection::Connection::open(address)?;
        connection.send(&wire::greeting()?)?;
        connection.next(wire::greeted)?;
        let events = Events(ProduceOne::new(TOPIC, &[b'x'; EVENT_BYTES])?);
        Ok(Lean { address: address.to_owned(), connection, events })
    }
}

impl Client for Lean {
    fn about(&mut self) -> Result<String> {
        Ok(Who::Lean.name().to_owned())
    }

    fn wait(&mut self, waiting: usize, time: Duration) -> Result<Vec<u32>> {
        self.connection.wait(&mut self.events, waiting, time)
    }

    fn stored(&mut self) -> Result<Option<u64>> {
        client::events_stored(&self.address).map(Some)
    }
}

/// The number of a request is that of its producer, so its answer says whose it is.
struct Events(ProduceOne);

impl Protocol for Events {
    fn publish(&mut self, producer: usize, out: &mut Vec<u8>) {
        // There are not so many, and an answer to one of them would be one to nobody.
        let number = i32::try_from(producer).unwrap_or(i32::MAX);
        // A clock before 1970 was an error when the first event was made.
        self.0.add(number, wire::now_ms().unwrap_or_default(), out);
    }

    fn answer(&mut self, bytes: &[u8]) -> Result<Option<(usize, Answer)>> {
        let Some((length, number)) = wire::produced(bytes)? else { return Ok(None) };
        let producer = usize::try_from(number).context("an answer to nobody")?;
        Ok(Some((length, Answer::Acknowledged(producer))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::tests::answer_to;

    #[test]
    fn an_event_without_a_library_is_acknowledged_to_whom_its_answer_names() {
        let mut events = Events(ProduceOne::new(TOPIC, b"x").unwrap());
        let mut out = Vec::new();
        events.publish(7, &mut out);
        let length = out.len();
        events.publish(3, &mut out);
        assert_eq!(out.len(), 2 * length, "each is a request of its own");
        let answers = [answer_to(7, 0), answer_to(3, 0)].concat();
        let (next, first) = events.answer(&answers).unwrap().unwrap();
        assert_eq!(first, Answer::Acknowledged(7));
        assert_eq!(events.answer(&answers[next..]).unwrap(), Some((next, Answer::Acknowledged(3))));
        assert_eq!(events.answer(&answers[next + 1..next + 3]).unwrap(), None);
        assert!(events.answer(&answer_to(-1, 0)).is_err());
        assert!(events.answer(&answer_to(7, 56)).is_err(), "what is not stored is no acknowledgement");
    }

    #[test]
    fn the_version_is_that_of_the_jars() {
        let called = called(&[("flush.messages", "1")]).unwrap();
        assert!(called.starts_with("Apache Kafka 4."), "{called}");
        assert!(called.ends_with(", one node, 1 GiB of heap, flush.messages=1"), "{called}");
        assert_eq!(version("<artifactId>slf4j</artifactId><version>1</version>"), None);
    }
}
