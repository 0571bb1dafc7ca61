//! Copying the segments that a checkpoint names: of each one what the target does not have.

use std::collections::BTreeMap;
use std::ops::Range;

use super::error::BackupError;
use super::format::{Manifest, Object, SegmentRecord};
use super::names::{Name, SEGMENTS, SegmentKey};
use super::pass::{Trouble, Work};
use super::segment::copy_segment;
use super::target::{Target, TargetError};
use crate::PartitionId;
use crate::checkpoint::{self, Checkpoint, PartitionState};
use crate::limits::SEGMENT_BLOCK_BYTES;
use crate::partition::Damages;
use crate::segment::Recorded;
use crate::verify::{Damage, recorded};

/// Objects by where they begin, each with where it ends. They do not overlap.
pub(super) type Ranges = BTreeMap<u64, (u64, Object)>;

/// What the target has of one segment.
#[derive(Clone, Debug, Default)]
pub(super) struct Parts {
    /// What the segment was when the newest of them was copied.
    pub(super) of: Option<SegmentRecord>,
    /// Its bytes.
    pub(super) bytes: Ranges,
    /// Its sidecar's entries, by their numbers.
    pub(super) blocks: Ranges,
}

impl Parts {
    fn is_whole(&self, record: &SegmentRecord) -> bool {
        missing(&self.bytes, record.bytes).is_empty()
            && missing(&self.blocks, record.bytes / SEGMENT_BLOCK_BYTES).is_empty()
    }

    fn objects(&self) -> impl Iterator<Item = &Object> {
        self.bytes.values().chain(self.blocks.values()).map(|(_, object)| object)
    }
}

/// What of `0..end` no object has.
pub(super) fn missing(ranges: &Ranges, end: u64) -> Vec<Range<u64>> {
    let mut missing = Vec::new();
    let mut at = 0;
    for (start, (next, _)) in ranges {
        if *start > at {
            missing.push(at..*start);
        }
        at = at.max(*next);
    }
    if at < end {
        missing.push(at..end);
    }
    missing
}

/// What the target has of all segments.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) parts: BTreeMap<SegmentKey, Parts>,
    /// Lengths of all objects that segments were copied into, named by a manifest or not.
    listed: BTreeMap<String, u64>,
}

impl Known {
    /// What a manifest names and is there. What is not is copied again.
    pub(super) fn of(target: &dyn Target, manifest: Option<Manifest>) -> Result<Self, TargetError> {
        let prefix = format!("{SEGMENTS}/");
        let listed = target.list(&prefix).map_err(|source| TargetError::new("list", &prefix, source))?;
        let listed = listed.into_iter().map(|listed| (listed.name, listed.bytes)).collect();
        let mut known = Self { parts: BTreeMap::new(), listed };
        let Some(manifest) = manifest else { return Ok(known) };
        for record in manifest.segments {
            let SegmentRecord { partition, base_offset, generation, number, .. } = record;
            let key = SegmentKey { partition: PartitionId(partition), base_offset, generation, number };
            known.parts.entry(key).or_default().of = Some(record);
        }
        for object in manifest.objects {
            if known.listed(&object.name) != Some(object.bytes) {
                continue;
            }
            let (key, start, end, is_blocks) = match Name::parse(&object.name) {
                Some(Name::Bytes { segment, start, end }) => (segment, start, end, false),
                Some(Name::Blocks { segment, first, end }) => (segment, first, end, true),
                _ => continue,
            };
            if let Some(parts) = known.parts.get_mut(&key) {
                let ranges = if is_blocks { &mut parts.blocks } else { &mut parts.bytes };
                ranges.insert(start, (end, object));
            }
        }
        Ok(known)
    }

    /// Bytes of an object that was in the target when the backup began.
    pub(super) fn listed(&self, name: &str) -> Option<u64> {
        self.listed.get(name).copied()
    }
}

/// What a backup has of the segments.
#[derive(Debug, Default)]
pub(super) struct Copied {
    pub(super) records: Vec<SegmentRecord>,
    pub(super) objects: Vec<Object>,
    /// Without what is in `given_up`.
    pub(super) damage: Vec<Damage>,
    /// Damage of events that were all given up or deleted, as the checkpoint says.
    pub(super) given_up: Vec<Damage>,
}

impl Copied {
    /// Notes what was found in a segment, apart from what somebody has given up or deleted.
    fn note(&mut self, found: Vec<Damage>, damages: &Damages, segment: &Recorded) {
        let segment = segment.header.base_offset..segment.end_offset;
        for place in found {
            let damaged = place.events.as_ref().map(|events| &events.offsets);
            let is_given_up = damages.have_given_up(damaged, &segment);
            let places = if is_given_up { &mut self.given_up } else { &mut self.damage };
            places.push(place);
        }
    }
}

/// Copies what the target does not have of every segment that a checkpoint names.
pub(super) fn copy(work: &mut Work<'_>, checkpoint: &Checkpoint) -> Result<Copied, Trouble> {
    let states: BTreeMap<PartitionId, &PartitionState> =
        checkpoint.partitions.iter().map(|state| (state.id, state)).collect();
    let mut copied = Copied::default();
    for topic in &checkpoint.topics {
        for (number, partition) in (0..).zip(&topic.partitions) {
            let Some(state) = states.get(partition) else {
                let (dir, sequence) = (checkpoint::DIR, checkpoint.sequence);
                let what = format!(
                    "{dir}/{sequence:016}.checkpoint names partition {number} of {} but not its segments",
                    topic.name
                );
                return Err(BackupError::Checkpoint { what }.into());
            };
            let gaps = checkpoint.gaps.iter().filter(|(id, _)| id == partition);
            let gaps = gaps.map(|(_, offsets)| offsets.clone()).collect();
            let damages = Damages::with_gaps(state.start, gaps);
            for recorded in recorded(work.log_id, state).filter(|recorded| recorded.bytes > 0) {
                let record = SegmentRecord::of(&recorded);
                let key = SegmentKey::of(&recorded.header);
                let mut parts = work.known.parts.get(&key).cloned().unwrap_or_default();
                if parts.of != Some(record) || !parts.is_whole(&record) {
                    let place = (topic.name.as_str(), number);
                    let mut found = Vec::new();
                    copy_segment(work, checkpoint.sequence, place, recorded, &mut parts, &mut found)?;
                    copied.note(found, &damages, &recorded);
                    parts.of = Some(record);
                    work.known.parts.insert(key, parts.clone());
                }
                copied.records.push(record);
                copied.objects.extend(parts.objects().cloned());
            }
        }
    }
    Ok(copied)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_in_front_between_and_behind() {
        let object = Object { name: String::new(), bytes: 0, crc32c: 0 };
        let ranges = [(10, 20), (20, 30), (40, 50)].map(|(start, end)| (start, (end, object.clone())));
        let ranges = Ranges::from(ranges);
        assert_eq!(missing(&ranges, 60), [0..10, 30..40, 50..60]);
        assert_eq!(missing(&ranges, 50), [0..10, 30..40]);
        assert_eq!(missing(&Ranges::new(), 5).first(), Some(&(0..5)));
        assert_eq!(missing(&Ranges::new(), 0), []);
    }
}
