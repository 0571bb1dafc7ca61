//! Journal entries: what a group is made of.
//!
//! ```text
//! 0  u32 payload bytes     4  u32 checksum     8  u8 kind     9  7 × 0     16 payload
//! ```
//! The checksum is seeded with the use of the file and the entry's own position. On disk: kinds and
//! layouts are fixed; a new kind gets a new number.

use std::collections::BTreeMap;
use std::ops::Range;

use uuid::Uuid;

use super::Seed;
use super::group::{GroupBuffer, HEADER_BYTES as GROUP_HEADER_BYTES};
use crate::bytes_io::{Fields, Short, put_count, put_many, put_string};
use crate::crc::combined;
use crate::groups::GroupChange;
use crate::planted::{Defect, is_planted};
use crate::segment::SegmentState;
use crate::state_io::{bytes, configs, offsets, put_bytes, put_configs, put_offsets};
use crate::{PartitionId, batch};

pub(crate) const HEADER_BYTES: usize = 16;

/// Where in an append of one batch the batch begins: behind the number of parts, the partition, the offset and the
/// length.
const BATCH_AT: usize = HEADER_BYTES + 4 + 20;

/// Below so many bytes of a batch it is cheaper to look at all of them again than to put two checksums together.
const COMBINED_BYTES_MIN: usize = 16 * 1024;

const KIND_APPEND: u8 = 1;
const KIND_TOPIC_CREATED: u8 = 2;
const KIND_TOPIC_DELETED: u8 = 3;
const KIND_SEGMENT_CREATED: u8 = 4;
const KIND_PRODUCER_IDS: u8 = 5;
const KIND_OFFSETS_COMMITTED: u8 = 6;
const KIND_GROUP_STORED: u8 = 7;
const KIND_OFFSETS_DELETED: u8 = 8;
const KIND_GROUP_DELETED: u8 = 9;
const KIND_TOPIC_CONFIGURED: u8 = 10;
const KIND_PARTITIONS_ADDED: u8 = 11;
const KIND_RECORDS_DELETED: u8 = 12;
const KIND_CEILING: u8 = 13;
const KIND_GAP_ACCEPTED: u8 = 14;
const KIND_SEGMENTS_REPLACED: u8 = 15;

/// One partition's share of an append.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct AppendPart<'a> {
    pub(crate) partition: PartitionId,
    pub(crate) base_offset: u64,
    /// One whole record batch, its base offset and leader epoch as they are stored.
    pub(crate) batch: &'a [u8],
}

/// One decoded entry.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Entry<'a> {
    /// Batches that become readable together; whole or absent in all their partitions.
    Append(Vec<AppendPart<'a>>),
    /// A topic with partition ids `first..first + count`, each with its first segment at offset 0.
    TopicCreated { id: Uuid, name: String, configs: BTreeMap<String, String>, first: PartitionId, count: u32 },
    /// A topic and every segment of its partitions.
    TopicDeleted { id: Uuid },
    /// A partition's next batch begins a new segment.
    SegmentCreated { partition: PartitionId, base_offset: u64 },
    /// Producer ids below `next` may have been given out.
    ProducerIds { next: u64 },
    /// A change of a consumer group.
    Group { name: String, change: GroupChange },
    /// All configs that are set on a topic from now on.
    TopicConfigured { id: Uuid, configs: BTreeMap<String, String> },
    /// More partitions of a topic, with ids `first..first + count`.
    PartitionsAdded { id: Uuid, first: PartitionId, count: u32 },
    /// A partition's oldest event has this offset; segments wholly below it are no more.
    RecordsDeleted { partition: PartitionId, start: u64 },
    /// Offsets below it may be seen before they are durable.
    Ceiling { partition: PartitionId, ceiling: u64 },
    /// Damaged events were given up: readers go on at the end of the range.
    GapAccepted { partition: PartitionId, offsets: Range<u64> },
    /// Compaction has put one segment, which is durable, in the place of all that begin from its base
    /// offset on and below `end_offset`.
    SegmentsReplaced { partition: PartitionId, end_offset: u64, product: SegmentState },
}

/// Appends entries to a group.
#[derive(Debug)]
pub(crate) struct EntryWriter<'a>(pub(crate) &'a mut GroupBuffer);

impl EntryWriter<'_> {
    fn entry(&mut self, kind: u8, payload: impl FnOnce(&mut Vec<u8>)) {
        let out = self.0.begin_entry();
        let at = out.len();
        out.extend_from_slice(&[0; HEADER_BYTES]);
        out[at + 8] = kind;
        payload(out);
        let length = (out.len() - at - HEADER_BYTES) as u32;
        out[at..at + 4].copy_from_slice(&length.to_le_bytes());
    }

    /// Bytes that an append of one batch takes in a group.
    pub(crate) const fn append_bytes(batch_bytes: usize) -> usize {
        BATCH_AT + batch_bytes
    }

    /// Writes an append of one batch, whose checksum is right, and returns where in the group its stored bytes are.
    pub(crate) fn append(&mut self, partition: PartitionId, base_offset: u64, batch: &[u8]) -> Range<usize> {
        let mut stored = 0..0;
        self.entry(KIND_APPEND, |out| {
            put_count(out, 1);
            out.extend_from_slice(&partition.0.to_le_bytes());
            out.extend_from_slice(&base_offset.to_le_bytes());
            put_count(out, batch.len());
            stored = out.len()..out.len() + batch.len();
            put_many(out, batch);
            let copy = &mut out[stored.clone()];
            batch::set_base_offset(copy, base_offset as i64);
            batch::set_leader_epoch(copy, 0);
        });
        stored
    }

    pub(crate) fn topic_created(
        &mut self,
        id: Uuid,
        name: &str,
        configs: &BTreeMap<String, String>,
        first: PartitionId,
        count: u32,
    ) {
        self.entry(KIND_TOPIC_CREATED, |out| {
            out.extend_from_slice(id.as_bytes());
            out.extend_from_slice(&first.0.to_le_bytes());
            out.extend_from_slice(&count.to_le_bytes());
            put_string(out, name);
            put_configs(out, configs);
        });
    }

    pub(crate) fn topic_configured(&mut self, id: Uuid, configs: &BTreeMap<String, String>) {
        self.entry(KIND_TOPIC_CONFIGURED, |out| {
            out.extend_from_slice(id.as_bytes());
            put_configs(out, configs);
        });
    }

    pub(crate) fn partitions_added(&mut self, id: Uuid, first: PartitionId, count: u32) {
        self.entry(KIND_PARTITIONS_ADDED, |out| {
            out.extend_from_slice(id.as_bytes());
            out.extend_from_slice(&first.0.to_le_bytes());
            out.extend_from_slice(&count.to_le_bytes());
        });
    }

    pub(crate) fn records_deleted(&mut self, partition: PartitionId, start: u64) {
        self.entry(KIND_RECORDS_DELETED, |out| {
            out.extend_from_slice(&partition.0.to_le_bytes());
            out.extend_from_slice(&start.to_le_bytes());
        });
    }

    pub(crate) fn ceiling(&mut self, partition: PartitionId, ceiling: u64) {
        self.entry(KIND_CEILING, |out| {
            out.extend_from_slice(&partition.0.to_le_bytes());
            out.extend_from_slice(&ceiling.to_le_bytes());
        });
    }

    pub(crate) fn gap_accepted(&mut self, partition: PartitionId, offsets: &Range<u64>) {
        self.entry(KIND_GAP_ACCEPTED, |out| {
            out.extend_from_slice(&partition.0.to_le_bytes());
            out.extend_from_slice(&offsets.start.to_le_bytes());
            out.extend_from_slice(&offsets.end.to_le_bytes());
        });
    }

    pub(crate) fn segments_replaced(
        &mut self,
        partition: PartitionId,
        end_offset: u64,
        product: &SegmentState,
    ) {
        self.entry(KIND_SEGMENTS_REPLACED, |out| {
            out.extend_from_slice(&partition.0.to_le_bytes());
            out.extend_from_slice(&end_offset.to_le_bytes());
            product.put(out);
        });
    }

    pub(crate) fn group(&mut self, name: &str, change: &GroupChange) {
        let kind = match change {
            GroupChange::Commit(_) => KIND_OFFSETS_COMMITTED,
            GroupChange::Store(_) => KIND_GROUP_STORED,
            GroupChange::DeleteOffsets(_) => KIND_OFFSETS_DELETED,
            GroupChange::Delete => KIND_GROUP_DELETED,
        };
        self.entry(kind, |out| {
            put_string(out, name);
            match change {
                GroupChange::Commit(offsets) => put_offsets(out, offsets.iter().map(|(id, at)| (id, at))),
                GroupChange::Store(state) => put_bytes(out, state),
                GroupChange::DeleteOffsets(partitions) => {
                    put_count(out, partitions.len());
                    for partition in partitions {
                        out.extend_from_slice(&partition.0.to_le_bytes());
                    }
                }
                GroupChange::Delete => {}
            }
        });
    }

    pub(crate) fn topic_deleted(&mut self, id: Uuid) {
        self.entry(KIND_TOPIC_DELETED, |out| out.extend_from_slice(id.as_bytes()));
    }

    pub(crate) fn segment_created(&mut self, partition: PartitionId, base_offset: u64) {
        self.entry(KIND_SEGMENT_CREATED, |out| {
            out.extend_from_slice(&partition.0.to_le_bytes());
            out.extend_from_slice(&base_offset.to_le_bytes());
        });
    }

    pub(crate) fn producer_ids(&mut self, next: u64) {
        self.entry(KIND_PRODUCER_IDS, |out| out.extend_from_slice(&next.to_le_bytes()));
    }
}

/// Checksums every entry of a group that will stand at `position`.
pub(crate) fn finish_checksums(seed: Seed, position: u64, group: &mut [u8]) {
    let mut at = GROUP_HEADER_BYTES;
    while at < group.len() {
        let entry = &mut group[at..];
        let length = u32::from_le_bytes([entry[0], entry[1], entry[2], entry[3]]) as usize;
        let end = HEADER_BYTES + length;
        let crc = new_checksum(seed, position + at as u64, &entry[..end]);
        entry[4..8].copy_from_slice(&crc.to_le_bytes());
        at += end;
    }
}

/// The checksum of an entry that was written just now. That of a large batch is known: it was compared when the batch
/// came, and goes into the entry's. So a byte that was changed since then, in memory or by a copy, is noticed too.
fn new_checksum(seed: Seed, position: u64, entry: &[u8]) -> u32 {
    let large = if entry[8] == KIND_APPEND && entry.len() >= BATCH_AT + COMBINED_BYTES_MIN {
        batch::split_at_covered(&entry[BATCH_AT..])
    } else {
        None
    };
    let Some((before, covered_crc, covered)) = large else {
        return checksum(seed, position, entry);
    };
    let first = seed.checksum(position, &[&entry[..4], &entry[8..BATCH_AT], before]);
    combined(first, covered_crc, covered.len())
}

fn checksum(seed: Seed, position: u64, entry: &[u8]) -> u32 {
    seed.checksum(position, &[&entry[..4], &entry[8..]])
}

/// Decodes every entry of a group's body, or says that one of them does not verify.
pub(crate) fn decode_all(
    seed: Seed,
    group_position: u64,
    body: &[u8],
    count: u32,
) -> Result<Vec<Entry<'_>>, Short> {
    let mut entries = Vec::new();
    let mut at = 0;
    while at < body.len() {
        let rest = &body[at..];
        let header = rest.get(..HEADER_BYTES).ok_or(Short)?;
        let length = u32::from_le_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let whole = rest.get(..HEADER_BYTES + length).ok_or(Short)?;
        let position = group_position + (GROUP_HEADER_BYTES + at) as u64;
        let intact = checksum(seed, position, whole).to_le_bytes() == whole[4..8];
        if !intact && !is_planted(Defect::NoChecksums) {
            return Err(Short);
        }
        entries.push(decode(whole[8], &whole[HEADER_BYTES..])?);
        at += whole.len();
    }
    if entries.len() != count as usize {
        return Err(Short);
    }
    Ok(entries)
}

fn decode(kind: u8, payload: &[u8]) -> Result<Entry<'_>, Short> {
    let mut fields = Fields::new(payload);
    match kind {
        KIND_APPEND => {
            let count = fields.count(20)?;
            let mut parts = Vec::with_capacity(count);
            for _ in 0..count {
                let partition = PartitionId(fields.u64()?);
                let base_offset = fields.u64()?;
                let bytes = fields.count(1)?;
                parts.push(AppendPart { partition, base_offset, batch: fields.bytes(bytes)? });
            }
            Ok(Entry::Append(parts))
        }
        KIND_TOPIC_CREATED => {
            let id = fields.uuid()?;
            let first = PartitionId(fields.u64()?);
            let count = fields.u32()?;
            let name = fields.string()?;
            Ok(Entry::TopicCreated { id, name, configs: configs(&mut fields)?, first, count })
        }
        KIND_TOPIC_DELETED => Ok(Entry::TopicDeleted { id: fields.uuid()? }),
        KIND_SEGMENT_CREATED => {
            Ok(Entry::SegmentCreated { partition: PartitionId(fields.u64()?), base_offset: fields.u64()? })
        }
        KIND_PRODUCER_IDS => Ok(Entry::ProducerIds { next: fields.u64()? }),
        KIND_TOPIC_CONFIGURED => {
            Ok(Entry::TopicConfigured { id: fields.uuid()?, configs: configs(&mut fields)? })
        }
        KIND_PARTITIONS_ADDED => Ok(Entry::PartitionsAdded {
            id: fields.uuid()?,
            first: PartitionId(fields.u64()?),
            count: fields.u32()?,
        }),
        KIND_RECORDS_DELETED => {
            Ok(Entry::RecordsDeleted { partition: PartitionId(fields.u64()?), start: fields.u64()? })
        }
        KIND_CEILING => Ok(Entry::Ceiling { partition: PartitionId(fields.u64()?), ceiling: fields.u64()? }),
        KIND_GAP_ACCEPTED => {
            let partition = PartitionId(fields.u64()?);
            Ok(Entry::GapAccepted { partition, offsets: fields.u64()?..fields.u64()? })
        }
        KIND_SEGMENTS_REPLACED => Ok(Entry::SegmentsReplaced {
            partition: PartitionId(fields.u64()?),
            end_offset: fields.u64()?,
            product: SegmentState::take(&mut fields)?,
        }),
        _ => decode_group(kind, &mut fields),
    }
}

fn decode_group<'a>(kind: u8, fields: &mut Fields<'a>) -> Result<Entry<'a>, Short> {
    let name = fields.string()?;
    let change = match kind {
        KIND_OFFSETS_COMMITTED => GroupChange::Commit(offsets(fields)?),
        KIND_GROUP_STORED => GroupChange::Store(bytes(fields)?),
        KIND_OFFSETS_DELETED => {
            let partitions = (0..fields.count(8)?).map(|_| fields.u64().map(PartitionId));
            GroupChange::DeleteOffsets(partitions.collect::<Result<_, _>>()?)
        }
        KIND_GROUP_DELETED => GroupChange::Delete,
        _ => return Err(Short),
    };
    Ok(Entry::Group { name, change })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::group::GroupHeader;
    use super::*;
    use crate::CommittedOffset;
    use crate::segment::{FirstBatch, OpenBlock};

    const SEED: Seed = Seed { salt: 11, generation: 5 };

    fn group() -> GroupBuffer {
        let mut group = GroupBuffer::new();
        let mut out = EntryWriter(&mut group);
        let configs = BTreeMap::from([("segment.bytes".to_owned(), "1000".to_owned())]);
        out.topic_created(Uuid::from_u128(1), "orders", &configs, PartitionId(3), 2);
        out.append(PartitionId(3), 42, &[7; 100]);
        out.segment_created(PartitionId(4), 9);
        out.producer_ids(2000);
        out.topic_configured(Uuid::from_u128(1), &configs);
        out.partitions_added(Uuid::from_u128(1), PartitionId(5), 2);
        out.records_deleted(PartitionId(3), 42);
        out.ceiling(PartitionId(3), 1_000_042);
        for change in changes() {
            out.group("billing", &change);
        }
        out.segments_replaced(PartitionId(3), 60, &product());
        out.topic_deleted(Uuid::from_u128(1));
        group
    }

    fn product() -> SegmentState {
        let first = Some(FirstBatch { at: 64, offset: 44 });
        SegmentState {
            base_offset: 42,
            generation: 5,
            bytes: 70_000,
            done_crc: 8,
            open: OpenBlock { crc_state: 9, first, max_timestamp: 77 },
            number: 1,
            compacted_ms: 1_700_000_000_000,
        }
    }

    fn changes() -> [GroupChange; 4] {
        let offset = CommittedOffset {
            offset: 7,
            leader_epoch: -1,
            metadata: "größer".into(),
            committed_ms: 1_700_000_000_000,
        };
        [
            GroupChange::Commit(vec![(PartitionId(3), offset.clone()), (PartitionId(4), offset)]),
            GroupChange::Store(Bytes::from_static(b"members")),
            GroupChange::DeleteOffsets(vec![PartitionId(3)]),
            GroupChange::Delete,
        ]
    }

    fn header(group: &GroupBuffer, position: u64) -> GroupHeader {
        GroupHeader {
            position,
            synced: position,
            body_bytes: group.body_bytes(),
            entries: group.entries(),
            seal: false,
            checkpoint: 1,
            written_ms: 0,
        }
    }

    #[test]
    fn entries_come_back_as_they_were() {
        let mut group = group();
        let header = header(&group, 8192);
        let bytes = group.seal_for(SEED, header).to_vec();
        assert_eq!(bytes.len() % 4096, 0);
        assert_eq!(GroupHeader::decode(SEED, 8192, &bytes), Some(header));
        let body = &bytes[GROUP_HEADER_BYTES..GROUP_HEADER_BYTES + header.body_bytes as usize];
        let entries = decode_all(SEED, 8192, body, header.entries).expect("valid");
        assert_eq!(entries.len(), 14);
        assert!(matches!(&entries[0], Entry::TopicCreated { name, count: 2, .. } if name == "orders"));
        let Entry::Append(parts) = &entries[1] else { panic!("{entries:?}") };
        assert_eq!(parts[0].base_offset, 42);
        assert_eq!(parts[0].batch.len(), 100);
        let id = Uuid::from_u128(1);
        assert!(matches!(&entries[4], Entry::TopicConfigured { configs, .. } if configs.len() == 1));
        assert_eq!(entries[5], Entry::PartitionsAdded { id, first: PartitionId(5), count: 2 });
        assert_eq!(entries[6], Entry::RecordsDeleted { partition: PartitionId(3), start: 42 });
        assert_eq!(entries[7], Entry::Ceiling { partition: PartitionId(3), ceiling: 1_000_042 });
        for (entry, change) in entries[8..12].iter().zip(changes()) {
            assert_eq!(*entry, Entry::Group { name: "billing".into(), change });
        }
        let replaced =
            Entry::SegmentsReplaced { partition: PartitionId(3), end_offset: 60, product: product() };
        assert_eq!(entries[12], replaced);
    }

    /// But for the two fields that the log sets. A batch of this length is copied in many steps, the second one to
    /// memory that has grown.
    #[test]
    fn a_large_batch_is_stored_as_it_came() {
        let mut group = GroupBuffer::new();
        for base_offset in [42, 1_000_042] {
            let mut came: Vec<u8> = (0..=250_u8).cycle().take(300_001).collect();
            batch::set_crc(&mut came);
            let stored = EntryWriter(&mut group).append(PartitionId(3), base_offset, &came);
            batch::set_base_offset(&mut came, base_offset as i64);
            batch::set_leader_epoch(&mut came, 0);
            assert!(group.bytes()[stored] == came[..], "from offset {base_offset} on");
        }
        let header = header(&group, 8192);
        let bytes = group.seal_for(SEED, header).to_vec();
        let body = &bytes[GROUP_HEADER_BYTES..GROUP_HEADER_BYTES + header.body_bytes as usize];
        let entries = decode_all(SEED, 8192, body, 2).expect("valid");
        let is_whole =
            |entry: &Entry<'_>| matches!(entry, Entry::Append(parts) if parts[0].batch.len() == 300_001);
        assert!(entries.iter().all(is_whole));
    }

    /// A copy that went wrong, or memory that does not keep what it was given.
    #[test]
    fn a_large_batch_that_has_changed_since_it_came_does_not_pass() {
        for changed in [0, 9, 21, 60, 200_000] {
            let mut group = GroupBuffer::new();
            let mut came = vec![7; 200_001];
            batch::set_crc(&mut came);
            let stored = EntryWriter(&mut group).append(PartitionId(3), 42, &came);
            // What the checksum of the batch does not cover is the log's own.
            let is_covered = changed >= 21;
            group.begin_entry()[stored][changed] ^= 1;
            let header = GroupHeader { entries: 1, ..header(&group, 8192) };
            let bytes = group.seal_for(SEED, header).to_vec();
            let body = &bytes[GROUP_HEADER_BYTES..GROUP_HEADER_BYTES + header.body_bytes as usize];
            assert_eq!(decode_all(SEED, 8192, body, 1).is_err(), is_covered, "byte {changed}");
        }
    }

    #[test]
    fn a_group_read_elsewhere_or_in_another_use_of_the_file_does_not_pass() {
        let mut group = group();
        let header = header(&group, 8192);
        let bytes = group.seal_for(SEED, header).to_vec();
        let body = &bytes[GROUP_HEADER_BYTES..GROUP_HEADER_BYTES + header.body_bytes as usize];
        assert_eq!(GroupHeader::decode(SEED, 4096, &bytes), None);
        assert_eq!(GroupHeader::decode(Seed { generation: 6, ..SEED }, 8192, &bytes), None);
        assert_eq!(GroupHeader::decode(Seed { salt: 12, ..SEED }, 8192, &bytes), None);
        assert!(decode_all(SEED, 4096, body, 14).is_err());
        assert!(decode_all(Seed { salt: 12, ..SEED }, 8192, body, 14).is_err());
    }

    #[test]
    fn every_flipped_bit_of_a_group_is_seen() {
        let mut group = group();
        let header = header(&group, 0);
        let bytes = group.seal_for(SEED, header).to_vec();
        let end = GROUP_HEADER_BYTES + header.body_bytes as usize;
        for bit in 0..end * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let ok = GroupHeader::decode(SEED, 0, &damaged).is_some_and(|found| {
                decode_all(SEED, 0, &damaged[GROUP_HEADER_BYTES..end], found.entries).is_ok()
            });
            assert!(!ok, "bit {bit}");
        }
    }
}
