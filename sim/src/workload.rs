//! What a script does, and how often.

/// One thing that a script does in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Sends one to five batches together.
    Append,
    /// A topic of one to three partitions; some give out acknowledgements before the disk has it.
    CreateTopic,
    /// Deletes a topic, and everything that groups have committed for it.
    DeleteTopic,
    /// A producer id that nobody has had.
    AllocateProducerId,
    /// What the log does when nothing happens.
    Seal,
    /// Deletes the beginning of a partition, or all of it.
    DeleteRecords,
    /// One partition more.
    AddPartition,
    /// Another value of a config, or its default.
    AlterTopic,
    /// One to three changes of a consumer group.
    ChangeGroup,
    /// A checkpoint when nobody needs one.
    Checkpoint,
    /// Compacts whatever is due for it.
    Compact,
}

/// A mixture of steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Workload {
    /// Its name, in reports.
    pub name: &'static str,
    /// Steps, and how many of hundred they are; the rest are appends.
    pub steps: &'static [(Step, u64)],
    /// Of hundred batches, how many have a producer that numbers them. Such a batch may be sent again.
    pub numbered: u64,
    /// Of hundred appends, how many send the newest batch of a partition again, if it was numbered.
    pub repeated: u64,
    /// The durability class of every so many topics: 1 is the first.
    pub durability: &'static [&'static str],
    /// Whether topics keep the newest event of each key, and events have keys.
    pub compacted: bool,
    /// Of hundred appends, how many are of one batch by somebody who commits it, where nobody else has one. Of
    /// the others, the last batch is.
    pub alone: u64,
}

impl Workload {
    /// Every mixture.
    pub const ALL: [Self; 9] = [
        Self::MIXED,
        Self::ONE_PRODUCER,
        Self::RETRIES,
        Self::RELAXED,
        Self::RETENTION,
        Self::TOPICS,
        Self::GROUPS,
        Self::COMPACTION,
        Self::ALONE,
    ];

    /// Something of everything.
    pub const MIXED: Self = Self {
        name: "mixed",
        steps: &[
            (Step::CreateTopic, 2),
            (Step::DeleteTopic, 2),
            (Step::AllocateProducerId, 2),
            (Step::Seal, 3),
            (Step::DeleteRecords, 3),
            (Step::AddPartition, 1),
            (Step::AlterTopic, 2),
            (Step::ChangeGroup, 9),
        ],
        numbered: 67,
        repeated: 12,
        durability: &["sync", "os", "sync"],
        compacted: false,
        alone: 0,
    };

    /// Producers that number nothing, and no other thing.
    pub const ONE_PRODUCER: Self = Self {
        name: "one-producer",
        steps: &[(Step::Seal, 5)],
        numbered: 0,
        repeated: 0,
        durability: &["sync"],
        compacted: false,
        alone: 0,
    };

    /// Idempotent producers that miss their answers.
    pub const RETRIES: Self = Self {
        name: "retries",
        steps: &[(Step::AllocateProducerId, 5), (Step::Seal, 5), (Step::Checkpoint, 3)],
        numbered: 100,
        repeated: 40,
        durability: &["sync"],
        compacted: false,
        alone: 0,
    };

    /// Every class of durability.
    pub const RELAXED: Self = Self {
        name: "relaxed",
        steps: &[(Step::CreateTopic, 2), (Step::Seal, 5), (Step::Checkpoint, 3)],
        numbered: 50,
        repeated: 12,
        durability: &["os", "interval", "sync"],
        compacted: false,
        alone: 0,
    };

    /// Beginnings that go, by whole segments.
    pub const RETENTION: Self = Self {
        name: "retention",
        steps: &[(Step::DeleteRecords, 25), (Step::Checkpoint, 5), (Step::Seal, 3)],
        numbered: 50,
        repeated: 12,
        durability: &["sync"],
        compacted: false,
        alone: 0,
    };

    /// Topics that come, change and go.
    pub const TOPICS: Self = Self {
        name: "topics",
        steps: &[
            (Step::CreateTopic, 20),
            (Step::DeleteTopic, 16),
            (Step::AddPartition, 8),
            (Step::AlterTopic, 10),
            (Step::Checkpoint, 3),
        ],
        numbered: 30,
        repeated: 12,
        durability: &["sync", "sync", "os"],
        compacted: false,
        alone: 0,
    };

    /// Consumer groups above all.
    pub const GROUPS: Self = Self {
        name: "groups",
        steps: &[
            (Step::ChangeGroup, 60),
            (Step::DeleteTopic, 4),
            (Step::CreateTopic, 6),
            (Step::Checkpoint, 4),
        ],
        numbered: 30,
        repeated: 12,
        durability: &["sync"],
        compacted: false,
        alone: 0,
    };

    /// Keys that are superseded and deleted, and segments that become others.
    pub const COMPACTION: Self = Self {
        name: "compaction",
        steps: &[
            (Step::Compact, 20),
            (Step::Checkpoint, 12),
            (Step::Seal, 3),
            (Step::DeleteRecords, 3),
            (Step::CreateTopic, 1),
            (Step::DeleteTopic, 1),
        ],
        numbered: 50,
        repeated: 12,
        durability: &["sync"],
        compacted: true,
        alone: 0,
    };

    /// Hardly ever two at the same time: most batches are committed by whoever brings them.
    pub const ALONE: Self = Self {
        name: "alone",
        steps: &[(Step::Seal, 5), (Step::Checkpoint, 3)],
        numbered: 0,
        repeated: 0,
        durability: &["sync"],
        compacted: false,
        alone: 90,
    };

    /// The step that a number below hundred stands for.
    pub(crate) fn step(&self, mut number: u64) -> Step {
        for (step, share) in self.steps {
            if number < *share {
                return *step;
            }
            number -= share;
        }
        Step::Append
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_leave_room_for_appends() {
        for workload in Workload::ALL {
            let shares: u64 = workload.steps.iter().map(|(_, share)| share).sum();
            assert!(shares < 100, "{}", workload.name);
            assert_eq!(workload.step(0), workload.steps[0].0);
            assert_eq!(workload.step(99), Step::Append);
        }
    }
}
