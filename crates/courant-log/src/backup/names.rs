//! Names of objects. On disk: `docs/formats/backup.md` lists them; a name never changes its meaning.

use std::fmt;

use crate::PartitionId;
use crate::segment::SegmentHeader;

/// Objects that belong to one backup.
pub(super) const STATES: &str = "states";
/// Objects that backups share.
pub(super) const SEGMENTS: &str = "segments";
const BLOCKS_EXTENSION: &str = ".blocks";
const JOURNAL: &str = "journal-";

/// Which segment: no other one of the log ever has the same numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SegmentKey {
    pub(super) partition: PartitionId,
    pub(super) base_offset: u64,
    pub(super) generation: u64,
    /// How often compaction has replaced what begins there.
    pub(super) number: u64,
}

impl SegmentKey {
    pub(super) fn of(header: &SegmentHeader) -> Self {
        let SegmentHeader { partition, base_offset, generation, number, .. } = *header;
        Self { partition, base_offset, generation, number }
    }
}

/// What an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    /// The file `FORMAT`.
    Format { number: u64 },
    /// The checkpoint.
    Checkpoint { number: u64 },
    /// The producer snapshot of the checkpoint.
    Producers { number: u64 },
    /// The header block of a journal file, and its groups from a position on.
    Journal { number: u64, generation: u64, from: u64 },
    /// Bytes of a segment, the last one excluded.
    Bytes { segment: SegmentKey, start: u64, end: u64 },
    /// Entries of a sidecar by their numbers, the last one excluded.
    Blocks { segment: SegmentKey, first: u64, end: u64 },
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Format { number } => write!(f, "{STATES}/{number:016}/FORMAT"),
            Self::Checkpoint { number } => write!(f, "{STATES}/{number:016}/checkpoint"),
            Self::Producers { number } => write!(f, "{STATES}/{number:016}/producers"),
            Self::Journal { number, generation, from } => {
                write!(f, "{STATES}/{number:016}/{JOURNAL}{generation:016x}-{from:016x}")
            }
            Self::Bytes { segment, start, end } => {
                write_segment(f, &segment)?;
                write!(f, "{start:016x}-{end:016x}")
            }
            Self::Blocks { segment, first, end } => {
                write_segment(f, &segment)?;
                write!(f, "{first:016x}-{end:016x}{BLOCKS_EXTENSION}")
            }
        }
    }
}

fn write_segment(f: &mut fmt::Formatter<'_>, segment: &SegmentKey) -> fmt::Result {
    let SegmentKey { partition, base_offset, generation, number } = segment;
    write!(f, "{SEGMENTS}/{:016x}/{base_offset:020}-{generation:016x}", partition.0)?;
    if *number > 0 {
        write!(f, "-{number}")?;
    }
    f.write_str("/")
}

impl Name {
    /// What an object of that name is; none when it is not one of ours.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let parts: Vec<&str> = name.split('/').collect();
        let found = match parts.as_slice() {
            [STATES, number, file] => state(number.parse().ok()?, file)?,
            [SEGMENTS, partition, segment, part] => {
                let (base_offset, rest) = segment.split_once('-')?;
                let (generation, number) = rest.split_once('-').unwrap_or((rest, "0"));
                let segment = SegmentKey {
                    partition: PartitionId(hex(partition)?),
                    base_offset: base_offset.parse().ok()?,
                    generation: hex(generation)?,
                    number: number.parse().ok()?,
                };
                part_of(segment, part)?
            }
            _ => return None,
        };
        // One spelling for each object: signs, capitals and missing zeros are somebody else's.
        (found.to_string() == name).then_some(found)
    }
}

fn state(number: u64, file: &str) -> Option<Name> {
    match file {
        "FORMAT" => Some(Name::Format { number }),
        "checkpoint" => Some(Name::Checkpoint { number }),
        "producers" => Some(Name::Producers { number }),
        other => {
            let (generation, from) = other.strip_prefix(JOURNAL)?.split_once('-')?;
            Some(Name::Journal { number, generation: hex(generation)?, from: hex(from)? })
        }
    }
}

fn part_of(segment: SegmentKey, part: &str) -> Option<Name> {
    let (range, is_blocks) = match part.strip_suffix(BLOCKS_EXTENSION) {
        Some(range) => (range, true),
        None => (part, false),
    };
    let (start, end) = range.split_once('-')?;
    let (start, end) = (hex(start)?, hex(end)?);
    if start >= end {
        return None;
    }
    Some(match is_blocks {
        true => Name::Blocks { segment, first: start, end },
        false => Name::Bytes { segment, start, end },
    })
}

fn hex(text: &str) -> Option<u64> {
    u64::from_str_radix(text, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written_and_in_no_other_spelling() {
        let segment =
            SegmentKey { partition: PartitionId(0xab), base_offset: 1000, generation: 0x1f, number: 0 };
        let names = [
            (Name::Format { number: 7 }, "states/0000000000000007/FORMAT"),
            (Name::Checkpoint { number: 7 }, "states/0000000000000007/checkpoint"),
            (Name::Producers { number: 7 }, "states/0000000000000007/producers"),
            (
                Name::Journal { number: 7, generation: 26, from: 4096 },
                "states/0000000000000007/journal-000000000000001a-0000000000001000",
            ),
            (
                Name::Bytes { segment, start: 64, end: 65536 },
                "segments/00000000000000ab/00000000000000001000-000000000000001f/\
                 0000000000000040-0000000000010000",
            ),
            (
                Name::Bytes { segment: SegmentKey { number: 12, ..segment }, start: 64, end: 65536 },
                "segments/00000000000000ab/00000000000000001000-000000000000001f-12/\
                 0000000000000040-0000000000010000",
            ),
            (
                Name::Blocks { segment, first: 0, end: 3 },
                "segments/00000000000000ab/00000000000000001000-000000000000001f/\
                 0000000000000000-0000000000000003.blocks",
            ),
        ];
        for (name, text) in names {
            assert_eq!(name.to_string(), text);
            assert_eq!(Name::parse(text), Some(name));
            let shorter = text.replace('0', "");
            for other in [text.to_uppercase(), format!("{text}0"), format!("/{text}"), shorter] {
                assert_eq!(Name::parse(&other), None, "{other}");
            }
        }
        assert_eq!(Name::parse("states/0000000000000007/../FORMAT"), None);
        assert_eq!(Name::parse(""), None);
    }
}
