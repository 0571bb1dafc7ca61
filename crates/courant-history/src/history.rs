//! Where a run tells what happened, in whatever order it learns of it.

use std::collections::BTreeMap;

use crate::check::Check;
use crate::event::{Answers, EventId};
use crate::finding::Finding;
use crate::findings::Findings;
use crate::partition::PartitionHistory;
use crate::pass::Pass;
use crate::stamp::{Parts, Stamp};

/// Everything that was sent, answered and read in a run.
///
/// It takes some 40 bytes for each event that is sent and read, however often that happens, and a few
/// more where offsets or sequences are far apart. What producers tell and what readers tell may come
/// in any order; of one producer, and of one reader in one partition, the order is that of the calls.
#[derive(Debug, Default)]
pub struct History {
    /// By topic and number.
    partitions: BTreeMap<String, BTreeMap<u32, PartitionHistory>>,
    counts: Counts,
    /// What was wrong by itself, when it was told.
    noticed: Findings,
    duplicates_allowed: bool,
}

/// How much a run did. `sent` is the sum of `acknowledged`, `refused` and `unknown`, where nothing was
/// answered that was never sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Different events that were sent.
    pub sent: u64,
    /// Those that were acknowledged, at least once.
    pub acknowledged: u64,
    /// Those that were refused, not sent again since, and never acknowledged.
    pub refused: u64,
    /// Those that were sent and have no answer.
    pub unknown: u64,
    /// Calls of [`History::read`]: an event that two passes saw counts twice.
    pub read: u64,
}

impl History {
    /// Nothing has happened yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Producers of this run are not idempotent: one event may stand at several offsets.
    pub fn allow_duplicates(&mut self) {
        self.duplicates_allowed = true;
    }

    /// An event is on its way: to be told before it is handed over. Telling it once more is a retry;
    /// after a refusal, the event is open again.
    pub fn sent(&mut self, stamp: &Stamp) {
        self.note(stamp, Answers::send);
    }

    /// The producer was told that it is durable, at that offset (`None` where the client was not told
    /// the offset).
    pub fn acknowledged(&mut self, stamp: &Stamp, offset: Option<u64>) {
        let first = self.note(stamp, |answers| answers.acknowledge(offset));
        if let (Some(first), Some(again)) = (first, offset) {
            let stamp = stamp.clone();
            self.noticed.add(Finding::AckedTwiceAtDifferentOffsets { stamp, first, again });
        }
    }

    /// The producer was told that it was certainly not taken.
    pub fn refused(&mut self, stamp: &Stamp) {
        self.note(stamp, |answers| answers.refused = true);
    }

    /// A reader saw an event. Readers are named; each reads a partition in the order of these calls;
    /// [`History::reader_seeks`] begins a new pass.
    pub fn read(&mut self, reader: &str, topic: &str, partition: u32, offset: u64, value: &[u8]) {
        self.counts.read += 1;
        let history = self.partitions.entry(topic.to_owned()).or_default().entry(partition).or_default();
        if let Some(after) = history.pass_mut(reader).read(offset) {
            let (reader, topic) = (reader.to_owned(), topic.to_owned());
            self.noticed.add(Finding::OffsetWentBack { reader, topic, partition, after, offset });
        }
        match Parts::of_value(value) {
            Err(why) => {
                history.torn.entry(offset).or_insert(why);
            }
            Ok(parts) if parts.topic != topic || parts.partition != partition => {
                history.misplaced.entry(offset).or_insert_with(|| parts.to_stamp());
            }
            Ok(parts) => {
                history.see(offset, EventId { producer: parts.producer, sequence: parts.sequence });
            }
        }
    }

    /// The reader reads on from anywhere: what it has read in its last pass is no part of the next.
    pub fn reader_seeks(&mut self, reader: &str, topic: &str, partition: u32) {
        *self.partition_mut(topic, partition).pass_mut(reader) = Pass::default();
    }

    /// That reader has read everything of a partition from offset `start` to before `end` in its last
    /// pass: what is missing there is lost. `start` is where the log begins, or where the reader began;
    /// offsets without an event are fine.
    ///
    /// An event that was acknowledged without an offset is lost when nobody saw it, unless it may stand
    /// in a gap between completed ranges, or before the first one. So read such a partition to its end
    /// after the last acknowledgement.
    pub fn complete(&mut self, reader: &str, topic: &str, partition: u32, start: u64, end: u64) {
        self.partition_mut(topic, partition).complete(reader, start, end);
    }

    /// What does not agree, the worst kind first; of each kind by topic, partition, and producer or
    /// offset. At most [`FINDINGS_OF_A_KIND_MAX`](crate::FINDINGS_OF_A_KIND_MAX) of a kind are listed,
    /// and one [`Finding::More`] counts its others: fewer than 1,000 in all.
    ///
    /// An event that was sent and never answered may be there or not. Takes n log n time in the events
    /// of a partition, and 24 bytes for each of them while it looks.
    pub fn check(&self) -> Vec<Finding> {
        let mut findings = self.noticed.clone();
        for (topic, partitions) in &self.partitions {
            for (number, partition) in partitions {
                Check::new(topic, *number, partition, self.duplicates_allowed).run(&mut findings);
            }
        }
        findings.into_vec()
    }

    /// How much the run did until now.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    fn partition_mut(&mut self, topic: &str, partition: u32) -> &mut PartitionHistory {
        self.partitions.entry(topic.to_owned()).or_default().entry(partition).or_default()
    }

    /// Notes something about an event, and keeps the counts.
    fn note<T>(&mut self, stamp: &Stamp, change: impl FnOnce(&mut Answers) -> T) -> T {
        let event = EventId { producer: stamp.producer, sequence: stamp.sequence };
        let answers = self.partition_mut(&stamp.topic, stamp.partition).answers_mut(event);
        let before = *answers;
        let result = change(answers);
        let after = *answers;
        self.counts.update(before, after);
        result
    }
}

impl Counts {
    fn update(&mut self, before: Answers, after: Answers) {
        for (count, was, is) in [
            (&mut self.sent, before.sent, after.sent),
            (&mut self.acknowledged, before.acknowledged, after.acknowledged),
            (&mut self.refused, before.is_refused(), after.is_refused()),
            (&mut self.unknown, before.is_unknown(), after.is_unknown()),
        ] {
            *count = *count + u64::from(is) - u64::from(was);
        }
    }
}
