//! Opening a log: from what the disk holds to the state that the committer goes on with.
//!
//! Load the newest checkpoint; cut every segment to its checkpointed end; replay the journal behind
//! it; sync what was replayed; open a new journal file; store a checkpoint that says all of it. A
//! crash anywhere in between leaves the evidence that this began with. Nothing is deleted but what a
//! durable entry deleted; what nothing names is moved to `lost-and-found/`.

mod replay;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::ops::Range;
use std::sync::Arc;

use uuid::Uuid;

use self::replay::Replay;
use crate::PartitionId;
use crate::catalog::Catalog;
use crate::checkpoint::{self, Checkpoint, CheckpointError, PartitionState, decode_producers};
use crate::config::LogConfig;
use crate::durability::{Durability, PartitionRules};
use crate::error::OpenError;
use crate::groups::Groups;
use crate::journal::{
    GroupBuffer, JournalWriter, RingFile, ScanError, Scanned, all_free, remove_unfinished, scan,
};
use crate::layout::{self, LOST_AND_FOUND};
use crate::limits::RING_FILES_FIRST;
use crate::partition::{Offsets, Partition, Producers, Reader, Tail};
use crate::segment::{self, FileKind, Handles, Reach, Segment, partition_dir};
use crate::storage::{Storage, StorageError};
use crate::verify::recorded;
use crate::writer::{Dirty, LastCheckpoint, Writer};

/// What opening found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecoveryReport {
    /// The log was made just now.
    pub created: bool,
    /// Groups replayed from the journal.
    pub replayed_groups: u64,
    /// Bytes of them.
    pub replayed_bytes: u64,
    /// An unfinished group at the journal's end was dropped. It had not been acknowledged.
    pub torn_tail: bool,
    /// The producer snapshot was missing or damaged and was rebuilt from the segments.
    pub producers_rebuilt: bool,
    /// Files that no durable record names; they were moved there.
    pub lost_and_found: Vec<String>,
}

impl From<CheckpointError> for OpenError {
    fn from(error: CheckpointError) -> Self {
        match error {
            CheckpointError::Storage(error) => Self::Storage(error),
            other => Self::Corrupt { what: other.to_string() },
        }
    }
}

impl From<ScanError> for OpenError {
    fn from(error: ScanError) -> Self {
        match error {
            ScanError::Storage(error) => Self::Storage(error),
            other => Self::Corrupt { what: other.to_string() },
        }
    }
}

/// The recovered state: what the committer owns, and the partitions that readers see.
pub(crate) struct Recovered {
    pub(crate) writer: Writer,
    pub(crate) groups: Groups,
    pub(crate) handles: Handles,
    /// When the log was last written, as the wall clock said then.
    pub(crate) written_ms: Option<i64>,
    pub(crate) report: RecoveryReport,
}

/// Recovers the log with that id. The caller stores a checkpoint before it serves anything.
pub(crate) fn recover(
    storage: &Arc<dyn Storage>,
    log_id: Uuid,
    config: &LogConfig,
) -> Result<Recovered, OpenError> {
    let mut report = RecoveryReport::default();
    let checkpoint = newest_checkpoint(&**storage, log_id)?;
    report.created = checkpoint.is_none();
    let (checkpoint, crc) = checkpoint.unwrap_or_else(|| (empty_checkpoint(log_id), 0));
    let handles = Handles::new(config.open_files, config.journal_files);
    let mut writer = empty_writer(log_id, config, &checkpoint, crc);
    let mut groups = checkpoint.groups.clone();
    // Everything is looked at before anything is changed: a start that is refused changes nothing.
    let from = (checkpoint.generation, checkpoint.position);
    let mut seen = Scanned::default();
    if !report.created {
        seen = scan(storage, log_id, from, |_, _, _| Ok(()))?;
        if let Some(what) = seen.older_copy(checkpoint.sequence) {
            return Err(OpenError::Corrupt { what });
        }
    }
    restore(&mut writer, &**storage, &handles, &checkpoint, &mut report)?;
    let scanned = if report.created {
        all_free(storage, log_id)?
    } else {
        // A process that was killed may have left names that are seen and not durable. What the
        // start builds on must not vanish under it.
        for dir in [checkpoint::DIR, crate::journal::DIR] {
            storage.sync_dir(dir).map_err(|source| StorageError::new("sync", dir, source))?;
        }
        cut_segments(&writer, &**storage)?;
        let mut uncompacted = BTreeSet::new();
        let mut open = Vec::new();
        let replayed = scan(storage, log_id, from, |generation, position, entry| {
            let mut replay = Replay {
                storage: &**storage,
                handles: &handles,
                writer: &mut writer,
                groups: &mut groups,
                uncompacted: &mut uncompacted,
                open: &mut open,
            };
            replay.entry(generation, position, entry)
        })
        .map_err(found_late)?;
        // What was read first may have been in memory alone, and may be gone for good.
        check_same(&seen, &replayed).inspect_err(|_| layout::note_doubt(&**storage))?;
        replayed
    };
    report.replayed_groups = scanned.groups;
    report.replayed_bytes = scanned.bytes;
    report.torn_tail = scanned.torn;
    let restarted = storage.boot() != Some(checkpoint.boot);
    if checkpoint.boot != Uuid::nil() && (restarted || layout::is_in_doubt(&**storage)?) {
        // The machine was started anew, or a sync had failed: what had not been synced may be gone.
        for tail in writer.tails.values_mut() {
            tail.resume_at_ceiling(checkpoint.generation);
        }
    }
    for tail in writer.tails.values() {
        publish(tail);
    }
    report.lost_and_found = sweep(&**storage, &writer, scanned.bytes > 0 || scanned.torn)?;
    let written_ms = scanned.written_ms;
    start_journal(&mut writer, &**storage, config, scanned)?;
    Ok(Recovered { writer, groups, handles, written_ms, report })
}

/// A disk that gives other bytes for the journal the second time cannot be believed either time.
fn check_same(seen: &Scanned, replayed: &Scanned) -> Result<(), OpenError> {
    if (seen.end, seen.generation, seen.groups) == (replayed.end, replayed.generation, replayed.groups) {
        return Ok(());
    }
    let what = format!(
        "the journal ends at position {} when it is read once, and at {} when it is read again",
        seen.end, replayed.end
    );
    Err(OpenError::FoundLate { what })
}

/// An error of the second look at the journal: segments are cut by then.
fn found_late(error: ScanError) -> OpenError {
    match error {
        ScanError::Storage(error) => OpenError::Storage(error),
        other => OpenError::FoundLate { what: other.to_string() },
    }
}

/// Brings every segment back to its checkpointed end.
fn cut_segments(writer: &Writer, storage: &dyn Storage) -> Result<(), StorageError> {
    for tail in writer.tails.values() {
        for segment in tail.shared.segments() {
            segment.cut(storage)?;
        }
    }
    Ok(())
}

/// `None` for a directory that was named but never got its first checkpoint: nothing was ever
/// acknowledged in it.
fn newest_checkpoint(storage: &dyn Storage, log_id: Uuid) -> Result<Option<(Checkpoint, u32)>, OpenError> {
    match checkpoint::load(storage, log_id) {
        Ok(found) => Ok(Some(found)),
        Err(CheckpointError::None { damaged: 0 }) => {
            let segments = storage.list(segment::DIR);
            let segments = segments.map_err(|source| StorageError::new("list", segment::DIR, source))?;
            if segments.is_empty() {
                return Ok(None);
            }
            Err(CheckpointError::None { damaged: 0 }.into())
        }
        Err(error) => Err(error.into()),
    }
}

fn empty_checkpoint(log_id: Uuid) -> Checkpoint {
    Checkpoint {
        log_id,
        sequence: 0,
        previous_crc: 0,
        generation: 0,
        position: 0,
        next_partition: 1,
        next_producer_id: 1,
        topics: Vec::new(),
        partitions: Vec::new(),
        deleted: Vec::new(),
        deleted_segments: Vec::new(),
        groups: Groups::default(),
        ceilings: Vec::new(),
        boot: Uuid::nil(),
        gaps: Vec::new(),
    }
}

fn empty_writer(log_id: Uuid, config: &LogConfig, checkpoint: &Checkpoint, crc: u32) -> Writer {
    Writer {
        log_id,
        journal: JournalWriter::new(
            log_id,
            checkpoint.position,
            checkpoint.generation,
            Vec::new(),
            Vec::new(),
        ),
        tails: BTreeMap::new(),
        catalog: Catalog::default(),
        next_partition: checkpoint.next_partition,
        next_producer_id: checkpoint.next_producer_id,
        producer_ids_end: checkpoint.next_producer_id,
        group: GroupBuffer::new(),
        needs: Durability::Sync,
        synced_at_ms: config.clock.elapsed_ms(),
        interval_waits: false,
        dirty: BTreeMap::new(),
        unsynced_most: 0,
        write_back_early_at_ms: 0,
        new_names: BTreeSet::new(),
        deleted: checkpoint.deleted.clone(),
        deleted_segments: checkpoint.deleted_segments.clone(),
        products: Vec::new(),
        checkpoint: LastCheckpoint { sequence: checkpoint.sequence, crc, position: checkpoint.position },
        next_file_number: 1,
        smallest_file_bytes: config.first_journal_file_bytes.min(config.journal_file_bytes),
        ring_grows: true,
        ran_dry: false,
    }
}

/// Rebuilds the tails that the checkpoint describes.
fn restore(
    writer: &mut Writer,
    storage: &dyn Storage,
    handles: &Handles,
    checkpoint: &Checkpoint,
    report: &mut RecoveryReport,
) -> Result<(), OpenError> {
    let states: HashMap<PartitionId, &PartitionState> =
        checkpoint.partitions.iter().map(|state| (state.id, state)).collect();
    let snapshot = checkpoint::load_producers(storage, checkpoint.sequence);
    let mut snapshot = snapshot.and_then(|bytes| decode_producers(checkpoint.sequence, &bytes).ok());
    if snapshot.is_none() && checkpoint.sequence > 0 {
        tracing::warn!("the producer snapshot is missing or damaged; it is rebuilt from the segments");
        report.producers_rebuilt = true;
    }
    for topic in &checkpoint.topics {
        let topic = Arc::new(topic.clone());
        let rules = PartitionRules::of(&topic.configs);
        for id in &topic.partitions {
            let state = states.get(id).ok_or_else(|| OpenError::Corrupt {
                what: format!("checkpoint {} names partition {id} but not its segments", checkpoint.sequence),
            })?;
            let gaps = checkpoint.gaps.iter().filter(|(partition, _)| partition == id);
            let gaps = gaps.map(|(_, offsets)| offsets.clone()).collect();
            let (shared, segment) = reopen(writer, storage, handles, state, gaps)?;
            let producers = match &mut snapshot {
                Some(snapshot) => snapshot.remove(id).unwrap_or_default(),
                None => scan_producers(storage, handles, &shared),
            };
            writer.tails.insert(*id, Tail::new(shared, state.next_offset, segment, producers, rules));
        }
        writer.catalog.insert(topic);
    }
    for (partition, ceiling) in &checkpoint.ceilings {
        if let Some(tail) = writer.tails.get_mut(partition) {
            tail.ceiling = *ceiling;
        }
    }
    Ok(())
}

/// A partition as the checkpoint describes it, and its newest segment. What is damaged is put in
/// quarantine; the rest is served.
fn reopen(
    writer: &mut Writer,
    storage: &dyn Storage,
    handles: &Handles,
    state: &PartitionState,
    gaps: Vec<Range<u64>>,
) -> Result<(Arc<Partition>, Arc<Segment>), OpenError> {
    let mut segments = Vec::with_capacity(state.segments.len());
    let mut lost = Vec::new();
    for recorded in recorded(writer.log_id, state) {
        let reopened = Segment::reopen(storage, handles, &recorded)?;
        let segment = Arc::new(reopened.segment);
        if let Some(flaw) = reopened.flaw {
            lost.push((segment.clone(), flaw));
        } else if reopened.is_sidecar_lost {
            tracing::warn!(
                path = segment.path(FileKind::Sidecar),
                "it is missing or damaged; it is made anew"
            );
            writer.dirty.insert(segment.key(), Dirty::new(segment.clone()));
        }
        segments.push(segment);
    }
    let Some(newest) = segments.last().cloned() else {
        return Err(OpenError::Corrupt {
            what: format!("partition {} has no segment in the checkpoint", state.id),
        });
    };
    let offsets = Offsets { start: state.start, high_watermark: state.next_offset };
    let partition = Arc::new(Partition::with_gaps(state.id, offsets, segments, gaps));
    let reader = Reader { storage, handles, partition: &partition, reach: Reach::Disk };
    for (segment, flaw) in lost {
        reader.quarantine_lost(&segment, flaw);
    }
    Ok((partition, newest))
}

/// Sequences from the headers of every batch: what the snapshot saves. What is damaged has none.
fn scan_producers(storage: &dyn Storage, handles: &Handles, partition: &Arc<Partition>) -> Producers {
    let mut producers = Producers::default();
    let reader = Reader { storage, handles, partition, reach: Reach::Disk };
    for segment in partition.segments() {
        let scanned = reader.each_header(&segment, |header| {
            producers.record(header, u64::try_from(header.base_offset).unwrap_or(0));
        });
        if let Err(error) = scanned {
            tracing::error!(%error, "producers behind this must begin anew: their sequences are not known");
        }
    }
    producers
}

/// Makes what was replayed readable.
fn publish(tail: &Tail) {
    for segment in tail.shared.segments() {
        let blocks = segment.blocks();
        let (bytes, max_timestamp) = (blocks.filled(), blocks.max_timestamp().unwrap_or(i64::MIN));
        drop(blocks);
        segment.publish(bytes, max_timestamp);
    }
    tail.shared.publish(tail.next_offset, 0, [], &mut Vec::new());
}

/// Moves what nothing names to `lost-and-found/`. The folders of partitions are looked into only after
/// an unclean stop: nothing else leaves files in them.
fn sweep(storage: &dyn Storage, writer: &Writer, unclean: bool) -> Result<Vec<String>, OpenError> {
    let mut known: HashMap<String, BTreeSet<String>> = HashMap::new();
    for tail in writer.tails.values() {
        let dir = partition_dir(tail.id());
        let files = known.entry(dir).or_default();
        for segment in tail.shared.segments() {
            if segment.published() > 0 {
                files.extend([segment.path(FileKind::Segment), segment.path(FileKind::Sidecar)]);
            }
        }
    }
    for segment in &writer.deleted_segments {
        let paths = [FileKind::Segment, FileKind::Sidecar].map(|kind| segment.path(kind));
        known.entry(partition_dir(segment.partition)).or_default().extend(paths);
    }
    let deleted: BTreeSet<String> =
        writer.deleted.iter().map(|partition| partition_dir(*partition)).collect();
    let mut moved = Vec::new();
    let names =
        storage.list(segment::DIR).map_err(|source| StorageError::new("list", segment::DIR, source))?;
    for name in names {
        let dir = format!("{}/{name}", segment::DIR);
        let files = known.get(&dir);
        if deleted.contains(&dir) || (files.is_some() && !unclean) {
            continue;
        }
        let inside = match storage.list(&dir) {
            Ok(inside) => inside.into_iter().map(|file| format!("{dir}/{file}")).collect(),
            // A stray file where a partition's folder would be. Any other error says nothing about it.
            Err(error) if error.kind() == io::ErrorKind::NotADirectory && files.is_none() => {
                vec![dir.clone()]
            }
            Err(source) => return Err(StorageError::new("list", &dir, source).into()),
        };
        for path in inside {
            if files.is_none_or(|files| !files.contains(&path)) {
                moved.push(move_away(storage, &path)?);
            }
        }
    }
    Ok(moved)
}

fn move_away(storage: &dyn Storage, path: &str) -> Result<String, OpenError> {
    let flat = path.replace('/', "-");
    let taken = storage.list(LOST_AND_FOUND);
    let taken = taken.map_err(|source| StorageError::new("list", LOST_AND_FOUND, source))?;
    let mut name = flat.clone();
    let mut copy = 1;
    while taken.contains(&name) {
        copy += 1;
        name = format!("{flat}.{copy}");
    }
    let target = format!("{LOST_AND_FOUND}/{name}");
    storage.rename(path, &target).map_err(|source| StorageError::new("move away", path, source))?;
    tracing::warn!(%path, %target, "no durable record names this file; it was moved");
    Ok(target)
}

/// Syncs what was accepted and opens a new journal file behind it.
fn start_journal(
    writer: &mut Writer,
    storage: &dyn Storage,
    config: &LogConfig,
    mut scanned: Scanned,
) -> Result<(), OpenError> {
    // The new file's header vouches for everything before it, the accepted last group included.
    for held in &scanned.held {
        held.file.sync_data().map_err(|source| {
            // A process that was killed has left groups that were answered, seen and never synced.
            layout::note_doubt(storage);
            StorageError::new("sync", &held.path, source)
        })?;
    }
    remove_unfinished(storage);
    writer.next_file_number = scanned.next_number;
    let usable = |file: &RingFile| file.file_bytes >= crate::limits::JOURNAL_FILE_BYTES_MIN;
    scanned.free.retain(usable);
    // Two at least: a checkpoint frees every file but the one that is written.
    while scanned.free.is_empty() || scanned.free.len() + scanned.held.len() < RING_FILES_FIRST {
        // A restart on a disk that is nearly full must not eat what is left of it.
        let free = storage.free_bytes().unwrap_or(0).saturating_sub(config.reserve_bytes);
        if config.background && !scanned.free.is_empty() && free >= config.first_journal_file_bytes {
            // Nothing needs the second one yet, and a thread of the log makes it: `Inner::complete_ring`.
            break;
        }
        let large = scanned.held.len() >= RING_FILES_FIRST && free >= config.journal_file_bytes;
        let bytes = if large { config.journal_file_bytes } else { config.first_journal_file_bytes };
        scanned.free.push(RingFile::create(storage, writer.next_file_number, bytes)?);
        writer.next_file_number += 1;
    }
    let mut journal =
        JournalWriter::new(writer.log_id, scanned.end, scanned.generation, scanned.free, scanned.held);
    journal.checkpoint = writer.checkpoint.sequence;
    journal.switch(config.entropy.uuid().as_u128() as u64)?;
    journal.sync()?;
    writer.journal = journal;
    Ok(())
}
