//! The settings of this broker, under the names that Kafka's tools look for and with the values that
//! are true here.
//!
//! None of them can be changed while the server runs. What Kafka's broker sets for topics that do not
//! set it themselves is what topics have by default here.

use courant_log::limits::COMMIT_METADATA_BYTES_MAX;
use courant_log::topic_config::{ConfigKind, TOPIC_CONFIGS, TopicConfig};

use crate::broker::Caller;
use crate::limits;

/// The types of values, as DescribeConfigs numbers them (KIP-569).
const BOOLEAN: i8 = 1;
const STRING: i8 = 2;
const INT: i8 = 3;
const LONG: i8 = 5;
const DOUBLE: i8 = 6;
const LIST: i8 = 7;

/// One setting with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) name: &'static str,
    pub(super) value: String,
    /// The value when nobody sets one.
    pub(super) default: Option<&'static str>,
    pub(super) kind: i8,
    pub(super) doc: &'static str,
}

impl Setting {
    pub(super) fn is_default(&self) -> bool {
        self.default == Some(self.value.as_str())
    }
}

/// A setting of the front-end.
struct Known {
    name: &'static str,
    kind: i8,
    default: Option<&'static str>,
    value: fn(&Caller) -> String,
    doc: &'static str,
}

const fn known(
    name: &'static str,
    kind: i8,
    default: Option<&'static str>,
    value: fn(&Caller) -> String,
    doc: &'static str,
) -> Known {
    Known { name, kind, default, value, doc }
}

/// Every setting of the front-end, by name.
#[rustfmt::skip]
static KNOWN: &[Known] = &[
    known("advertised.listeners", LIST, None, |caller| format!("PLAINTEXT://{}", caller.advertised()),
        "The address that clients are told to use; --advertise sets it."),
    known("auto.create.topics.enable", BOOLEAN, Some("true"), |caller| caller.broker.config().auto_create.to_string(),
        "Whether asking for a topic creates it; --auto-create-topics sets it."),
    known("broker.id", INT, Some("0"), |caller| caller.broker.config().node_id.to_string(),
        "The number of this broker."),
    known("connections.max.idle.ms", LONG, Some("600000"), |_| limits::IDLE_MAX.as_millis().to_string(),
        "Milliseconds of silence after which a connection is closed."),
    known("default.replication.factor", INT, Some("1"), |_| "1".to_owned(),
        "Copies of each partition. There is one machine, and it syncs before it acknowledges."),
    known("delete.topic.enable", BOOLEAN, Some("true"), |_| "true".to_owned(),
        "Whether topics can be deleted."),
    known("fetch.max.bytes", INT, Some("67108864"), |caller| caller.broker.limits().fetch_bytes_max.to_string(),
        "Bytes of records in one answer to Fetch; one batch may exceed it."),
    known("group.initial.rebalance.delay.ms", INT, Some("100"),
        |caller| caller.broker.config().group_initial_rebalance_delay.as_millis().to_string(),
        "Milliseconds that the first members of an empty group wait for more of them."),
    known("group.max.session.timeout.ms", INT, Some("1800000"), |_| limits::SESSION_MAX.as_millis().to_string(),
        "Longest time in milliseconds for which a member of a group may be silent."),
    known("group.max.size", INT, Some("5000"), |_| limits::MEMBERS_PER_GROUP_MAX.to_string(),
        "Members of one group."),
    known("group.min.session.timeout.ms", INT, Some("10"), |_| limits::SESSION_MIN.as_millis().to_string(),
        "Shortest time in milliseconds for which a member of a group may be silent."),
    known("listeners", LIST, None, |caller| format!("PLAINTEXT://{}", caller.local),
        "The address that this client has connected to; --kafka sets where the server listens."),
    known("log.dirs", LIST, None, |caller| caller.broker.config().log_dir.clone(),
        "The data directory; --data sets it."),
    known("max.connections", INT, Some("10000"), |caller| caller.broker.limits().connections_max.to_string(),
        "Connections open at the same time."),
    known("max.incremental.fetch.session.cache.slots", INT, Some("1000"),
        |caller| caller.broker.limits().fetch_sessions_max.to_string(),
        "Fetch sessions that are remembered; a client without one sends whole requests."),
    known("max.request.partition.size.limit", INT, Some("2000"), |_| limits::PAGE_PARTITIONS_MAX.to_string(),
        "Partitions on one page of DescribeTopicPartitions."),
    known("node.id", INT, Some("0"), |caller| caller.broker.config().node_id.to_string(),
        "The number of this broker."),
    known("num.partitions", INT, Some("1"), |caller| caller.broker.config().partitions.to_string(),
        "Partitions of a topic that is created without saying how many; --partitions sets it."),
    known("offset.metadata.max.bytes", INT, Some("4096"), |_| COMMIT_METADATA_BYTES_MAX.to_string(),
        "Bytes of the text that is kept with a committed offset."),
    known("offsets.retention.minutes", INT, Some("10080"),
        |caller| (caller.broker.config().offsets_retention.as_secs() / 60).to_string(),
        "Minutes for which the offsets of a group without members are kept."),
    known("socket.request.max.bytes", INT, Some("104857600"), |caller| caller.broker.limits().frame_bytes_max.to_string(),
        "Bytes of the largest request."),
];

/// Kafka's names for what a broker sets for topics that do not: first the topic's, then the broker's.
static OF_TOPICS: &[(&str, &str)] = &[
    ("cleanup.policy", "log.cleanup.policy"),
    ("compression.gzip.level", "compression.gzip.level"),
    ("compression.lz4.level", "compression.lz4.level"),
    ("compression.type", "compression.type"),
    ("compression.zstd.level", "compression.zstd.level"),
    ("delete.retention.ms", "log.cleaner.delete.retention.ms"),
    ("file.delete.delay.ms", "log.segment.delete.delay.ms"),
    ("flush.messages", "log.flush.interval.messages"),
    ("flush.ms", "log.flush.interval.ms"),
    ("index.interval.bytes", "log.index.interval.bytes"),
    ("max.compaction.lag.ms", "log.cleaner.max.compaction.lag.ms"),
    ("max.message.bytes", "message.max.bytes"),
    ("message.timestamp.after.max.ms", "log.message.timestamp.after.max.ms"),
    ("message.timestamp.before.max.ms", "log.message.timestamp.before.max.ms"),
    ("message.timestamp.type", "log.message.timestamp.type"),
    ("min.cleanable.dirty.ratio", "log.cleaner.min.cleanable.ratio"),
    ("min.compaction.lag.ms", "log.cleaner.min.compaction.lag.ms"),
    ("min.insync.replicas", "min.insync.replicas"),
    ("preallocate", "log.preallocate"),
    ("retention.bytes", "log.retention.bytes"),
    ("retention.ms", "log.retention.ms"),
    ("segment.bytes", "log.segment.bytes"),
    ("segment.index.bytes", "log.index.size.max.bytes"),
    ("segment.jitter.ms", "log.roll.jitter.ms"),
    ("segment.ms", "log.roll.ms"),
    ("unclean.leader.election.enable", "unclean.leader.election.enable"),
];

/// How many settings there are.
pub(super) fn count() -> usize {
    KNOWN.len() + TOPIC_CONFIGS.len()
}

/// Every setting, by name, as this client may see it.
pub(super) fn all(caller: &Caller) -> Vec<Setting> {
    let own = KNOWN.iter().map(|known| Setting {
        name: known.name,
        value: (known.value)(caller),
        default: known.default,
        kind: known.kind,
        doc: known.doc,
    });
    let of_topics = TOPIC_CONFIGS.iter().map(|config| Setting {
        name: name_of(config),
        value: config.default.to_owned(),
        default: Some(config.default),
        kind: kind_of(config),
        doc: config.doc,
    });
    let mut all: Vec<_> = own.chain(of_topics).collect();
    all.sort_unstable_by_key(|setting| setting.name);
    all
}

/// The name of the setting that stands behind a topic's config: Kafka's, or where there is none the
/// same as the topic's.
pub(super) fn name_of(config: &TopicConfig) -> &'static str {
    let pair = OF_TOPICS.iter().find(|(topics, _)| *topics == config.name);
    pair.map_or(config.name, |(_, brokers)| *brokers)
}

/// The type of a topic's config, as DescribeConfigs numbers it.
pub(super) fn kind_of(config: &TopicConfig) -> i8 {
    match config.kind {
        ConfigKind::Bool => BOOLEAN,
        ConfigKind::Int { .. } | ConfigKind::Level { .. } => INT,
        ConfigKind::Long { .. } => LONG,
        ConfigKind::Ratio => DOUBLE,
        ConfigKind::Choice(_) => STRING,
        ConfigKind::List(_) => LIST,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_tables_are_sorted_and_complete() {
        assert!(KNOWN.is_sorted_by(|a, b| a.name < b.name));
        assert!(KNOWN.iter().all(|known| !known.doc.is_empty()));
        let topics = TOPIC_CONFIGS.iter().map(|config| config.name);
        let topics: Vec<_> = topics.filter(|name| !name.starts_with("courant.")).collect();
        let paired: Vec<_> = OF_TOPICS.iter().map(|(topics, _)| *topics).collect();
        assert_eq!(paired, topics);
        let brokers = TOPIC_CONFIGS.iter().map(name_of);
        let names: BTreeSet<_> = brokers.chain(KNOWN.iter().map(|known| known.name)).collect();
        assert_eq!(names.len(), count(), "a name stands for two things");
    }
}
