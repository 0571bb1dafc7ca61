//! A checkpoint's bytes. On disk: the numbers are fixed.

use std::ops::Range;

use uuid::Uuid;

use crate::bytes_io::{Fields, Short, put_count, put_string};
use crate::crc::crc32c;
use crate::groups::{Groups, StoredGroup};
use crate::segment::{SegmentKey, SegmentState};
use crate::state_io::{bytes, configs, offsets, put_bytes, put_configs, put_offsets};
use crate::{PartitionId, Topic};

const MAGIC: &[u8; 8] = b"COURCKPT";
pub(super) const VERSION: u32 = 4;
/// Ends behind the deleted partitions: there were no groups, and no partition lost its beginning.
const VERSION_WITHOUT_GROUPS: u32 = 1;
/// Ends behind the boot: no gap was ever accepted.
const VERSION_WITHOUT_GAPS: u32 = 2;
/// Segments were what appends had made of them: none was ever replaced.
const VERSION_WITHOUT_COMPACTION: u32 = 3;
/// A machine that cannot say since when it runs: it counts as started anew every time.
pub(crate) const NO_BOOT: Uuid = Uuid::max();

/// The state of the log at a group boundary.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Checkpoint {
    pub(crate) log_id: Uuid,
    /// Counts checkpoints; never reused.
    pub(crate) sequence: u64,
    /// Checksum of the checkpoint before this one.
    pub(crate) previous_crc: u32,
    /// Where in the journal replay begins.
    pub(crate) generation: u64,
    pub(crate) position: u64,
    pub(crate) next_partition: u64,
    pub(crate) next_producer_id: u64,
    pub(crate) topics: Vec<Topic>,
    pub(crate) partitions: Vec<PartitionState>,
    /// Partitions whose deletion is durable and whose files may still be there.
    pub(crate) deleted: Vec<PartitionId>,
    /// Segments of which the same is true.
    pub(crate) deleted_segments: Vec<SegmentKey>,
    pub(crate) groups: Groups,
    /// Partitions that may have given out offsets up to these without having the events on disk.
    pub(crate) ceilings: Vec<(PartitionId, u64)>,
    /// Since when the machine ran; nil when the log was stopped and nothing followed.
    pub(crate) boot: Uuid,
    /// Damaged events that were given up: partitions and offsets.
    pub(crate) gaps: Vec<(PartitionId, Range<u64>)>,
}

/// One partition in a checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PartitionState {
    pub(crate) id: PartitionId,
    pub(crate) start: u64,
    pub(crate) next_offset: u64,
    pub(crate) segments: Vec<SegmentState>,
}

impl Checkpoint {
    /// The file's bytes; the last four are their checksum, which the next checkpoint names.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&self.previous_crc.to_le_bytes());
        out.extend_from_slice(self.log_id.as_bytes());
        for number in
            [self.sequence, self.generation, self.position, self.next_partition, self.next_producer_id]
        {
            out.extend_from_slice(&number.to_le_bytes());
        }
        put_count(&mut out, self.topics.len());
        for topic in &self.topics {
            put_topic(&mut out, topic);
        }
        put_count(&mut out, self.partitions.len());
        for partition in &self.partitions {
            put_partition(&mut out, partition);
        }
        put_count(&mut out, self.deleted.len());
        for partition in &self.deleted {
            out.extend_from_slice(&partition.0.to_le_bytes());
        }
        put_keys(&mut out, &self.deleted_segments);
        put_groups(&mut out, &self.groups);
        put_offsets_of(&mut out, &self.ceilings);
        out.extend_from_slice(self.boot.as_bytes());
        put_count(&mut out, self.gaps.len());
        for (partition, offsets) in &self.gaps {
            for number in [partition.0, offsets.start, offsets.end] {
                out.extend_from_slice(&number.to_le_bytes());
            }
        }
        let crc = crc32c(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    /// The checkpoint in a file's bytes.
    ///
    /// # Errors
    /// `Damaged` when they do not verify, `Newer` with the version when another release wrote them.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, NotACheckpoint> {
        let (body, crc) = bytes.split_last_chunk::<4>().ok_or(NotACheckpoint::Damaged)?;
        if crc32c(body).to_le_bytes() != *crc || !body.starts_with(MAGIC) {
            return Err(NotACheckpoint::Damaged);
        }
        let mut fields = Fields::new(&body[MAGIC.len()..]);
        let version = fields.u32()?;
        if !(VERSION_WITHOUT_GROUPS..=VERSION).contains(&version) {
            return Err(NotACheckpoint::Newer(version));
        }
        let previous_crc = fields.u32()?;
        let log_id = fields.uuid()?;
        let sequence = fields.u64()?;
        let generation = fields.u64()?;
        let position = fields.u64()?;
        let next_partition = fields.u64()?;
        let next_producer_id = fields.u64()?;
        let topics = (0..fields.count(30)?).map(|_| topic(&mut fields)).collect::<Result<_, _>>()?;
        let partitions =
            (0..fields.count(28)?).map(|_| partition(version, &mut fields)).collect::<Result<_, _>>()?;
        let deleted =
            (0..fields.count(8)?).map(|_| fields.u64().map(PartitionId)).collect::<Result<_, _>>()?;
        let (deleted_segments, groups, ceilings, boot) = match version {
            VERSION_WITHOUT_GROUPS => Default::default(),
            _ => {
                let deleted_segments = keys(version, &mut fields)?;
                (deleted_segments, groups(&mut fields)?, offsets_of(&mut fields)?, fields.uuid()?)
            }
        };
        let gaps = match version {
            VERSION_WITHOUT_GROUPS | VERSION_WITHOUT_GAPS => Vec::new(),
            _ => gaps(&mut fields)?,
        };
        Ok(Self {
            log_id,
            sequence,
            previous_crc,
            generation,
            position,
            next_partition,
            next_producer_id,
            topics,
            partitions,
            deleted,
            deleted_segments,
            groups,
            ceilings,
            boot,
            gaps,
        })
    }
}

/// Why bytes are no checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotACheckpoint {
    Damaged,
    Newer(u32),
}

impl From<Short> for NotACheckpoint {
    fn from(_: Short) -> Self {
        Self::Damaged
    }
}

fn put_topic(out: &mut Vec<u8>, topic: &Topic) {
    out.extend_from_slice(topic.id.as_bytes());
    put_string(out, &topic.name);
    put_configs(out, &topic.configs);
    put_count(out, topic.partitions.len());
    for partition in &topic.partitions {
        out.extend_from_slice(&partition.0.to_le_bytes());
    }
}

fn topic(fields: &mut Fields<'_>) -> Result<Topic, Short> {
    let id = fields.uuid()?;
    let name = fields.string()?;
    let configs = configs(fields)?;
    let partitions =
        (0..fields.count(8)?).map(|_| fields.u64().map(PartitionId)).collect::<Result<_, _>>()?;
    Ok(Topic { id, name, partitions, configs })
}

/// An offset of each of some partitions.
fn put_offsets_of(out: &mut Vec<u8>, offsets: &[(PartitionId, u64)]) {
    put_count(out, offsets.len());
    for (partition, offset) in offsets {
        out.extend_from_slice(&partition.0.to_le_bytes());
        out.extend_from_slice(&offset.to_le_bytes());
    }
}

fn offsets_of(fields: &mut Fields<'_>) -> Result<Vec<(PartitionId, u64)>, Short> {
    (0..fields.count(16)?).map(|_| Ok((PartitionId(fields.u64()?), fields.u64()?))).collect()
}

fn put_keys(out: &mut Vec<u8>, segments: &[SegmentKey]) {
    put_count(out, segments.len());
    for SegmentKey { partition, base_offset, number } in segments {
        for number in [partition.0, *base_offset, *number] {
            out.extend_from_slice(&number.to_le_bytes());
        }
    }
}

fn keys(version: u32, fields: &mut Fields<'_>) -> Result<Vec<SegmentKey>, Short> {
    if version <= VERSION_WITHOUT_COMPACTION {
        let key = |(partition, base_offset)| SegmentKey { partition, base_offset, number: 0 };
        return Ok(offsets_of(fields)?.into_iter().map(key).collect());
    }
    let key = |fields: &mut Fields<'_>| {
        let partition = PartitionId(fields.u64()?);
        Ok(SegmentKey { partition, base_offset: fields.u64()?, number: fields.u64()? })
    };
    (0..fields.count(24)?).map(|_| key(fields)).collect()
}

fn gaps(fields: &mut Fields<'_>) -> Result<Vec<(PartitionId, Range<u64>)>, Short> {
    let gap = |fields: &mut Fields<'_>| Ok((PartitionId(fields.u64()?), fields.u64()?..fields.u64()?));
    (0..fields.count(24)?).map(|_| gap(fields)).collect()
}

fn put_groups(out: &mut Vec<u8>, groups: &Groups) {
    put_count(out, groups.iter().len());
    for (name, group) in groups.iter() {
        put_string(out, name);
        put_bytes(out, &group.state);
        put_offsets(out, group.offsets.iter());
    }
}

fn groups(fields: &mut Fields<'_>) -> Result<Groups, Short> {
    let mut groups = Groups::default();
    for _ in 0..fields.count(10)? {
        let name = fields.string()?;
        groups.insert(&name, StoredGroup { state: bytes(fields)?, offsets: offsets(fields)? });
    }
    Ok(groups)
}

fn put_partition(out: &mut Vec<u8>, partition: &PartitionState) {
    out.extend_from_slice(&partition.id.0.to_le_bytes());
    out.extend_from_slice(&partition.start.to_le_bytes());
    out.extend_from_slice(&partition.next_offset.to_le_bytes());
    put_count(out, partition.segments.len());
    partition.segments.iter().for_each(|segment| segment.put(out));
}

fn partition(version: u32, fields: &mut Fields<'_>) -> Result<PartitionState, Short> {
    let id = PartitionId(fields.u64()?);
    let start = fields.u64()?;
    let next_offset = fields.u64()?;
    let segments = match version {
        ..=VERSION_WITHOUT_COMPACTION => (0..fields.count(SegmentState::BYTES_WITHOUT_COMPACTION)?)
            .map(|_| SegmentState::take_without_compaction(fields))
            .collect::<Result<Vec<_>, _>>()?,
        _ => (0..fields.count(SegmentState::BYTES)?)
            .map(|_| SegmentState::take(fields))
            .collect::<Result<Vec<_>, _>>()?,
    };
    if segments.is_empty() {
        return Err(Short);
    }
    Ok(PartitionState { id, start, next_offset, segments })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bytes::Bytes;

    use super::*;
    use crate::CommittedOffset;
    use crate::groups::GroupChange;
    use crate::segment::{FirstBatch, OpenBlock};

    fn checkpoint() -> Checkpoint {
        let open =
            OpenBlock { crc_state: 5, first: Some(FirstBatch { at: 64, offset: 100 }), max_timestamp: 77 };
        let segments = vec![SegmentState {
            base_offset: 100,
            generation: 2,
            bytes: 4000,
            done_crc: 9,
            open,
            number: 3,
            compacted_ms: 1_700_000_000_000,
        }];
        let committed =
            CommittedOffset { offset: 110, leader_epoch: 0, metadata: "note".into(), committed_ms: 5 };
        let mut groups = Groups::default();
        groups.apply("billing", GroupChange::Commit(vec![(PartitionId(6), committed)]));
        groups.apply("billing", GroupChange::Store(Bytes::from_static(b"members")));
        groups.apply("audit", GroupChange::Store(Bytes::from_static(b"none")));
        Checkpoint {
            log_id: Uuid::from_u128(1),
            sequence: 3,
            previous_crc: 8,
            generation: 2,
            position: 8192,
            next_partition: 7,
            next_producer_id: 2000,
            topics: vec![Topic {
                id: Uuid::from_u128(2),
                name: "orders".into(),
                partitions: vec![PartitionId(6)],
                configs: BTreeMap::from([("segment.bytes".into(), "100".into())]),
            }],
            partitions: vec![PartitionState { id: PartitionId(6), start: 100, next_offset: 120, segments }],
            deleted: vec![PartitionId(4)],
            deleted_segments: vec![SegmentKey { partition: PartitionId(6), base_offset: 50, number: 2 }],
            groups,
            ceilings: vec![(PartitionId(6), 1_000_120)],
            boot: Uuid::from_u128(9),
            gaps: vec![(PartitionId(6), 105..107)],
        }
    }

    #[test]
    fn round_trip_and_every_flipped_bit_is_seen() {
        let bytes = checkpoint().encode();
        assert_eq!(Checkpoint::decode(&bytes), Ok(checkpoint()));
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(Checkpoint::decode(&damaged).is_err(), "bit {bit}");
        }
        for end in 0..bytes.len() {
            assert!(Checkpoint::decode(&bytes[..end]).is_err(), "{end} bytes");
        }
    }

    /// What a release wrote that did not compact. The numbers of `older` stand where it has none.
    fn without_compaction(older: &Checkpoint, version: u32, cut: usize) -> Vec<u8> {
        const MARK: u64 = 0x5555_5555_5555_5555;
        let mut marked = older.clone();
        let keys = marked.deleted_segments.iter_mut().map(|segment| &mut segment.number);
        let segments = marked.partitions.iter_mut().flat_map(|partition| &mut partition.segments);
        let numbers = segments.map(|segment| {
            segment.compacted_ms = MARK.cast_signed();
            &mut segment.number
        });
        keys.chain(numbers).for_each(|number| *number = MARK);
        let mut bytes = marked.encode();
        while let Some(at) = bytes.windows(8).position(|window| window == MARK.to_le_bytes()) {
            bytes.drain(at..at + 8);
        }
        bytes.truncate(bytes.len() - 4 - cut);
        bytes[8..12].copy_from_slice(&version.to_le_bytes());
        bytes.extend_from_slice(&crc32c(&bytes).to_le_bytes());
        bytes
    }

    /// As a release knew it that did not compact.
    fn uncompacted() -> Checkpoint {
        let mut older = checkpoint();
        older.deleted_segments.iter_mut().for_each(|segment| segment.number = 0);
        for segment in older.partitions.iter_mut().flat_map(|partition| &mut partition.segments) {
            (segment.number, segment.compacted_ms) = (0, 0);
        }
        older
    }

    #[test]
    fn a_checkpoint_from_before_there_was_compaction_is_read() {
        let older = uncompacted();
        assert_eq!(Checkpoint::decode(&without_compaction(&older, 3, 0)), Ok(older));
    }

    #[test]
    fn a_checkpoint_from_before_there_were_groups_is_read() {
        let older = Checkpoint {
            deleted_segments: Vec::new(),
            groups: Groups::default(),
            ceilings: Vec::new(),
            boot: Uuid::nil(),
            gaps: Vec::new(),
            ..uncompacted()
        };
        // Four empty counts and the id.
        let bytes = without_compaction(&older, 1, 32);
        assert_eq!(Checkpoint::decode(&bytes), Ok(older));
    }

    #[test]
    fn a_checkpoint_from_before_there_were_gaps_is_read() {
        let older = Checkpoint { gaps: Vec::new(), ..uncompacted() };
        let bytes = without_compaction(&older, 2, 4);
        assert_eq!(Checkpoint::decode(&bytes), Ok(older));
    }
}
