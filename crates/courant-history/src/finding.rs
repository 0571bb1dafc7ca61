//! What can be wrong with a history, and how it is said.

use std::fmt;

use crate::stamp::{NotAStamp, Stamp};

/// One thing that does not agree. `Display` is one sentence that names the topic, the partition, and
/// what is known of offset, producer and sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Finding {
    /// Acknowledged, and not there.
    Lost {
        /// The event.
        stamp: Stamp,
        /// Where it should stand: the offset of the acknowledgement, or where another pass has seen
        /// it. `None` when the producer was told no offset and nobody saw it.
        offset: Option<u64>,
        /// Whose completed pass did not see it. `None` when there is no offset.
        reader: Option<String>,
    },
    /// Something stands there that is no stamp, or not a whole one. An event that was acknowledged at
    /// this offset is not told as lost too.
    Torn {
        /// Where it was read.
        topic: String,
        /// Where it was read.
        partition: u32,
        /// Where it was read.
        offset: u64,
        /// What is wrong with the value.
        why: NotAStamp,
    },
    /// There, and never sent.
    Phantom {
        /// The event.
        stamp: Stamp,
        /// The first offset where it stands.
        offset: u64,
    },
    /// There, but written for another topic or partition.
    Misplaced {
        /// Where it was read.
        topic: String,
        /// Where it was read.
        partition: u32,
        /// Where it was read.
        offset: u64,
        /// The event, which says where it belongs.
        stamp: Stamp,
    },
    /// There, though the producer was told that it was not taken.
    RefusedButThere {
        /// The event.
        stamp: Stamp,
        /// The first offset where it stands.
        offset: u64,
    },
    /// One event at two offsets of its partition.
    Duplicate {
        /// The event.
        stamp: Stamp,
        /// The lowest offset where it stands.
        first: u64,
        /// Another one.
        again: u64,
    },
    /// Before an event that the same producer had written earlier.
    Reordered {
        /// The event.
        stamp: Stamp,
        /// Where it stands.
        offset: u64,
        /// The sequence of the producer's event that should stand before it.
        earlier: u64,
        /// Where that one stands.
        earlier_offset: u64,
    },
    /// Two readers, or two passes of one, saw different events at one offset.
    InconsistentOffset {
        /// The offset, in the partition of both events.
        offset: u64,
        /// What was seen first.
        first: Stamp,
        /// What was seen as well.
        then: Stamp,
    },
    /// Acknowledged at one offset, and read at another only.
    ReadAtAnotherOffset {
        /// The event.
        stamp: Stamp,
        /// What the producer was told.
        acknowledged: u64,
        /// The first offset where it stands.
        read: u64,
    },
    /// The producer was told two offsets for one event.
    AckedTwiceAtDifferentOffsets {
        /// The event.
        stamp: Stamp,
        /// What the producer was told first.
        first: u64,
        /// What it was told then.
        again: u64,
    },
    /// Two events were acknowledged at the same offset.
    TwoAckedAtOneOffset {
        /// The offset, in the partition of both events.
        offset: u64,
        /// The one of the lower producer, or of the lower sequence.
        first: Stamp,
        /// The other one.
        second: Stamp,
    },
    /// The producer was told both, without sending it again in between.
    AckedAndRefused {
        /// The event.
        stamp: Stamp,
    },
    /// A reader did not move forward within a pass.
    OffsetWentBack {
        /// The reader.
        reader: String,
        /// What it reads.
        topic: String,
        /// What it reads.
        partition: u32,
        /// The offset that it saw before.
        after: u64,
        /// The next one, which is lower or the same.
        offset: u64,
    },
    /// Acknowledged or refused, and never sent: the run itself is at fault.
    Unsent {
        /// The event.
        stamp: Stamp,
    },
    /// Findings that are not listed.
    More {
        /// Their kind.
        kind: FindingKind,
        /// How many they are.
        count: u64,
    },
}

/// What a finding is about, the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum FindingKind {
    /// [`Finding::Lost`]
    Lost,
    /// [`Finding::Torn`]
    Torn,
    /// [`Finding::Phantom`]
    Phantom,
    /// [`Finding::Misplaced`]
    Misplaced,
    /// [`Finding::RefusedButThere`]
    RefusedButThere,
    /// [`Finding::Duplicate`]
    Duplicate,
    /// [`Finding::Reordered`]
    Reordered,
    /// [`Finding::InconsistentOffset`]
    InconsistentOffset,
    /// [`Finding::ReadAtAnotherOffset`]
    ReadAtAnotherOffset,
    /// [`Finding::AckedTwiceAtDifferentOffsets`]
    AckedTwiceAtDifferentOffsets,
    /// [`Finding::TwoAckedAtOneOffset`]
    TwoAckedAtOneOffset,
    /// [`Finding::AckedAndRefused`]
    AckedAndRefused,
    /// [`Finding::OffsetWentBack`]
    OffsetWentBack,
    /// [`Finding::Unsent`]
    Unsent,
}

impl Finding {
    /// What it is about; of [`Finding::More`], what those that it counts are about.
    pub fn kind(&self) -> FindingKind {
        match self {
            Finding::Lost { .. } => FindingKind::Lost,
            Finding::Torn { .. } => FindingKind::Torn,
            Finding::Phantom { .. } => FindingKind::Phantom,
            Finding::Misplaced { .. } => FindingKind::Misplaced,
            Finding::RefusedButThere { .. } => FindingKind::RefusedButThere,
            Finding::Duplicate { .. } => FindingKind::Duplicate,
            Finding::Reordered { .. } => FindingKind::Reordered,
            Finding::InconsistentOffset { .. } => FindingKind::InconsistentOffset,
            Finding::ReadAtAnotherOffset { .. } => FindingKind::ReadAtAnotherOffset,
            Finding::AckedTwiceAtDifferentOffsets { .. } => FindingKind::AckedTwiceAtDifferentOffsets,
            Finding::TwoAckedAtOneOffset { .. } => FindingKind::TwoAckedAtOneOffset,
            Finding::AckedAndRefused { .. } => FindingKind::AckedAndRefused,
            Finding::OffsetWentBack { .. } => FindingKind::OffsetWentBack,
            Finding::Unsent { .. } => FindingKind::Unsent,
            Finding::More { kind, .. } => *kind,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.kind())?;
        match self {
            Finding::Lost { stamp, offset: Some(offset), reader } => {
                let reader = reader.as_deref().unwrap_or_default();
                write!(
                    f,
                    "{stamp} was acknowledged, but reader `{reader}` did not find it at offset {offset}"
                )
            }
            Finding::Lost { stamp, offset: None, .. } => {
                write!(f, "{stamp} was acknowledged, but no reader has found it at any offset")
            }
            Finding::Torn { topic, partition, offset, why } => {
                write!(
                    f,
                    "what stands at offset {offset} in partition {partition} of topic `{topic}` is no whole value: {why}"
                )
            }
            Finding::Phantom { stamp, offset } => {
                write!(f, "{stamp} stands at offset {offset}, but was never sent")
            }
            Finding::Misplaced { topic, partition, offset, stamp } => {
                write!(f, "{stamp} stands at offset {offset} in partition {partition} of topic `{topic}`")
            }
            Finding::RefusedButThere { stamp, offset } => {
                write!(f, "{stamp} was refused, but stands at offset {offset}")
            }
            Finding::Duplicate { stamp, first, again } => {
                write!(f, "{stamp} stands at offset {first}, and again at offset {again}")
            }
            Finding::Reordered { stamp, offset, earlier, earlier_offset } => {
                write!(
                    f,
                    "{stamp} stands at offset {offset}, before sequence {earlier} at offset {earlier_offset}"
                )
            }
            Finding::InconsistentOffset { offset, first, then } => {
                write!(f, "at offset {offset} one pass saw {first}, and another one {then}")
            }
            Finding::ReadAtAnotherOffset { stamp, acknowledged, read } => {
                write!(f, "{stamp} was acknowledged at offset {acknowledged}, but stands at offset {read}")
            }
            Finding::AckedTwiceAtDifferentOffsets { stamp, first, again } => {
                write!(f, "{stamp} was acknowledged at offset {first}, and again at offset {again}")
            }
            Finding::TwoAckedAtOneOffset { offset, first, second } => {
                write!(f, "{first} was acknowledged at offset {offset}, and so was {second}")
            }
            Finding::AckedAndRefused { stamp } => write!(f, "{stamp} was acknowledged, and refused as well"),
            Finding::OffsetWentBack { reader, topic, partition, after, offset } => {
                write!(
                    f,
                    "reader `{reader}` saw offset {offset} in partition {partition} of topic `{topic}` \
                     after offset {after}, in one pass"
                )
            }
            Finding::Unsent { stamp } => write!(f, "{stamp} was answered, but never sent"),
            Finding::More { count, .. } => write!(f, "{count} more that are not listed"),
        }
    }
}

impl fmt::Display for FindingKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FindingKind::Lost => "lost",
            FindingKind::Torn => "torn",
            FindingKind::Phantom => "phantom",
            FindingKind::Misplaced => "misplaced",
            FindingKind::RefusedButThere => "refused but there",
            FindingKind::Duplicate => "duplicate",
            FindingKind::Reordered => "reordered",
            FindingKind::InconsistentOffset => "inconsistent offset",
            FindingKind::ReadAtAnotherOffset => "read at another offset",
            FindingKind::AckedTwiceAtDifferentOffsets => "acknowledged at two offsets",
            FindingKind::TwoAckedAtOneOffset => "two acknowledged at one offset",
            FindingKind::AckedAndRefused => "acknowledged and refused",
            FindingKind::OffsetWentBack => "offset went back",
            FindingKind::Unsent => "answered and never sent",
        })
    }
}
