//! What is written where: the log's settings, its topics, and the names of its producers.

use crate::exit::{Exit, Failure};
use courant_core::topic::TopicName;
use courant_log::storage::{DiskStorage, Storage};
use courant_log::{Log, LogConfig, NewTopic, PartitionId, SystemClock, SystemEntropy};
use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::Path;
use std::sync::{Arc, mpsc};

/// Topics with their partitions.
const TOPICS: [(&str, u32); 3] = [("torture.audit", 1), ("torture.orders", 3), ("torture.payments", 2)];

/// Their configs: segments as small as they may be, and nothing is ever deleted.
const CONFIGS: [(&str, &str); 2] = [("retention.ms", "-1"), ("segment.bytes", "1048576")];

/// Bytes of each of the journal's files: small, so that files are switched and checkpoints made every
/// few hundred events.
const JOURNAL_FILE_BYTES: u64 = 256 * 1024;

/// Bytes of the disk that stay free.
const RESERVE_BYTES: u64 = 16 * 1024 * 1024;

/// Threads that append; see [`producer`].
pub(super) const THREADS_MAX: u64 = 64;

/// A partition that events are written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) topic: &'static str,
    pub(super) partition: u32,
}

/// All of them.
pub(super) fn places() -> impl Iterator<Item = Place> {
    TOPICS.into_iter().flat_map(|(topic, count)| (0..count).map(move |partition| Place { topic, partition }))
}

impl Place {
    /// Its partition in the log; `None` when the log has no such topic.
    pub(super) fn id(self, log: &Log) -> Option<PartitionId> {
        let number = usize::try_from(self.partition).ok()?;
        log.catalog().by_name(self.topic)?.partitions.get(number).copied()
    }
}

/// The producer of a thread. Each data directory has producers of its own, so that what an earlier one
/// has left on the disk cannot pass for an event of this one.
pub(super) fn producer(lap: u64, thread: u64) -> u64 {
    lap.saturating_mul(THREADS_MAX).saturating_add(thread)
}

/// Whether a producer belongs to this data directory.
pub(super) fn is_of_lap(producer: u64, lap: u64) -> bool {
    producer / THREADS_MAX == lap
}

/// Opens the log of a data directory, or makes it.
///
/// # Errors
/// That it does not open, with its reason.
pub(super) fn open(data: &Path) -> Result<Log, Failure> {
    let failed = |error: &dyn Display| Failure::new(Exit::Failed, format!("{}: {error}", data.display()));
    let storage: Arc<dyn Storage> = Arc::new(DiskStorage::open(data).map_err(|error| failed(&error))?);
    let mut config = LogConfig::new(Arc::new(SystemClock), Arc::new(SystemEntropy));
    config.journal_file_bytes = JOURNAL_FILE_BYTES;
    config.first_journal_file_bytes = JOURNAL_FILE_BYTES;
    config.reserve_bytes = RESERVE_BYTES;
    let (log, _report) = Log::open(storage, config).map_err(|error| failed(&error))?;
    Ok(log)
}

/// Creates the topics that are not there yet.
///
/// # Errors
/// That one is refused, with the reason.
pub(super) fn create_topics(log: &Log) -> Result<(), Failure> {
    for (topic, partitions) in TOPICS {
        if log.catalog().by_name(topic).is_some() {
            continue;
        }
        let failed = |error: &dyn Display| {
            Failure::new(Exit::Failed, format!("the topic {topic} cannot be created: {error}"))
        };
        let name = TopicName::new(topic).map_err(|error| failed(&error))?;
        let configs = CONFIGS.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let new = NewTopic { name, partitions, configs: BTreeMap::from(configs) };
        let (told, created) = mpsc::channel();
        log.create_topic(new, move |answer| {
            // Nobody waits any more when this process is ending.
            let _ = told.send(answer);
        });
        let answer = created.recv().map_err(|error| failed(&error))?;
        answer.map_err(|error| failed(&error))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn producers_belong_to_one_data_directory() {
        for (lap, thread) in [(1, 0), (1, THREADS_MAX - 1), (7, 3)] {
            let producer = producer(lap, thread);
            assert!(is_of_lap(producer, lap));
            assert!(!is_of_lap(producer, lap + 1) && !is_of_lap(producer, lap - 1));
        }
    }

    #[test]
    fn there_are_several_partitions_of_several_topics() {
        let all: Vec<Place> = places().collect();
        assert_eq!(all.len(), 6);
        assert!(all.is_sorted());
    }
}
