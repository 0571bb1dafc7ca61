//! Servers of others: how each is set and started, and when an event is on disk there.

use anyhow::Result;

use super::rabbitmq::Queue;
use super::{Client, kafka, nats, postgres, rabbitmq, redis};
use crate::passing::{Receiver, Sender};

/// Somebody else's server, and how it is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    RedisAlways,
    RedisEverysec,
    Nats,
    Postgres,
    /// Apache Kafka that syncs each append.
    KafkaFlush,
    /// Apache Kafka as it comes, which leaves syncs to the system.
    Kafka,
    RabbitQuorum,
    RabbitStream,
}

impl Peer {
    /// Those that sync before they answer, and then the others.
    pub(super) const ALL: [Peer; 8] = [
        Peer::RedisAlways,
        Peer::Nats,
        Peer::Postgres,
        Peer::KafkaFlush,
        Peer::RabbitQuorum,
        Peer::RedisEverysec,
        Peer::Kafka,
        Peer::RabbitStream,
    ];

    /// As it is written on the command line.
    pub(super) fn name(self) -> &'static str {
        match self {
            Peer::RedisAlways => "redis-always",
            Peer::RedisEverysec => "redis-everysec",
            Peer::Nats => "nats",
            Peer::Postgres => "postgres",
            Peer::KafkaFlush => "kafka-flush",
            Peer::Kafka => "kafka",
            Peer::RabbitQuorum => "rabbitmq-quorum",
            Peer::RabbitStream => "rabbitmq-stream",
        }
    }

    /// What `cargo xtask engines` takes, and what it starts it with.
    pub(super) fn engine(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Peer::RedisAlways => ("redis", &["--appendfsync", "always"]),
            Peer::RedisEverysec => ("redis", &["--appendfsync", "everysec"]),
            Peer::Nats => ("nats", &["--sync-interval", "always"]),
            Peer::Postgres => ("postgres", &[]),
            Peer::KafkaFlush | Peer::Kafka => ("kafka", &["--for", "figures"]),
            Peer::RabbitQuorum | Peer::RabbitStream => ("rabbitmq", &[]),
        }
    }

    /// The configs of its topic, where it is Kafka.
    pub(super) fn topic(self) -> Option<&'static [(&'static str, &'static str)]> {
        match self {
            Peer::KafkaFlush => Some(&[("flush.messages", "1")]),
            Peer::Kafka => Some(&[]),
            _ => None,
        }
    }

    /// Whether an event is on disk when it is acknowledged.
    pub(super) fn is_durable(self) -> bool {
        !matches!(self, Peer::RedisEverysec | Peer::Kafka | Peer::RabbitStream)
    }

    /// When an event is on disk.
    pub(super) fn durable(self) -> &'static str {
        match self {
            Peer::RedisEverysec => "within 1 s",
            Peer::Kafka | Peer::RabbitStream => "when the system writes it",
            _ => "before the answer",
        }
    }

    /// Producers of single events, so many at most. What they write to is made.
    pub(super) fn connect(self, address: &str, most: usize) -> Result<Box<dyn Client>> {
        Ok(match self {
            Peer::RedisAlways | Peer::RedisEverysec => Box::new(redis::Redis::connect(address)?),
            Peer::Nats => Box::new(nats::Nats::connect(address)?),
            Peer::Postgres => Box::new(postgres::Postgres::connect(address, most)?),
            Peer::KafkaFlush | Peer::Kafka => {
                Box::new(kafka::Kafka::connect(address, self.topic().unwrap_or_default())?)
            }
            Peer::RabbitQuorum => Box::new(rabbitmq::Rabbit::connect(address, Queue::Quorum)?),
            Peer::RabbitStream => Box::new(rabbitmq::Rabbit::connect(address, Queue::Stream)?),
        })
    }

    /// A producer that waits for nobody, and a consumer. What is between them is made.
    pub(super) fn pass(self, address: &str) -> Result<(Box<dyn Sender>, Box<dyn Receiver>)> {
        match self {
            Peer::RedisAlways | Peer::RedisEverysec => redis::pass(address),
            Peer::Nats => nats::pass(address),
            Peer::Postgres => postgres::pass(address),
            Peer::KafkaFlush | Peer::Kafka => kafka::pass(address, self.topic().unwrap_or_default()),
            Peer::RabbitQuorum => rabbitmq::pass(address, Queue::Quorum),
            Peer::RabbitStream => rabbitmq::pass(address, Queue::Stream),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_peer_has_a_name_of_its_own() {
        let mut names: Vec<&str> = Peer::ALL.map(Peer::name).to_vec();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Peer::ALL.len());
    }

    #[test]
    fn only_what_syncs_before_it_answers_is_called_durable() {
        for peer in Peer::ALL {
            assert_eq!(peer.is_durable(), peer.durable() == "before the answer", "{}", peer.name());
        }
        assert_eq!(Peer::KafkaFlush.topic(), Some([("flush.messages", "1")].as_slice()));
        assert_eq!(Peer::Kafka.topic(), Some([].as_slice()));
        assert_eq!(Peer::Nats.topic(), None);
    }
}
