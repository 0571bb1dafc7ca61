//! Compaction of a log: reads what [`crate::compaction`] asks for, and puts what it decides in the place
//! of what was there.
//!
//! A new segment is written under a name of its own, in a folder that no record ever names, synced, and
//! only then given its place among the partition's files. A journal entry makes it part of the
//! partition; until that is durable, and until a checkpoint covers it, the old files stay. So a crash at
//! any point leaves either. Readers that are inside an old segment begin anew in the new one.

mod product;
mod source;
mod thread;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

pub(crate) use self::product::DIR;
use self::product::Product;
use self::source::SourceError;
pub(crate) use self::thread::{Compactor, remove_leftovers};
use crate::PartitionId;
use crate::batch::BatchHeader;
use crate::batch::rewrite::{Kept, RewriteError, emptied};
use crate::compaction::{CompactionConfig, Group, KeyMap, Plan, SegmentInfo, Survivors, plan};
use crate::error::{ReplaceError, WriterError};
use crate::inner::Inner;
use crate::limits::UNPACKED_BYTES_MIN;
use crate::lock;
use crate::metrics::add;
use crate::partition::{Partition, Reader};
use crate::queue::Command;
use crate::segment::{Compacted as CompactedAt, Reach, Segment, SegmentHeader};
use crate::storage::StorageError;
use crate::unpacking::Unpacking;

/// How often whoever waits for an answer of the committer looks whether there can be one.
const ANSWER_LOOK: Duration = Duration::from_millis(50);

/// What a look at all compacted topics has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CompactionReport {
    /// Partitions of which something was compacted.
    pub partitions: u64,
    /// Segments that are there no more.
    pub replaced: u64,
    /// Their bytes.
    pub bytes_before: u64,
    /// Segments that took their place.
    pub segments: u64,
    /// Their bytes.
    pub bytes_after: u64,
}

/// Why a round ended before its last group. Every group before it stands.
#[derive(Debug, thiserror::Error)]
enum RoundError {
    #[error(transparent)]
    Source(SourceError),
    #[error("a batch cannot be rewritten: {0}")]
    Rewrite(#[from] RewriteError),
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A directory could not be synced: what else was named in it is not known.
    #[error(transparent)]
    Ended(#[from] WriterError),
    #[error(transparent)]
    Replace(#[from] ReplaceError),
    #[error("there is no room for {needed_bytes} bytes and the reserve; {free_bytes} are free")]
    Full { free_bytes: u64, needed_bytes: u64 },
    #[error("the log stops")]
    Stopping,
}

impl From<SourceError> for RoundError {
    fn from(error: SourceError) -> Self {
        match error {
            SourceError::Stopping => Self::Stopping,
            other => Self::Source(other),
        }
    }
}

impl Inner {
    /// Compacts every partition that is due for it.
    pub(crate) fn compact(&self) -> CompactionReport {
        let _one_at_a_time = lock(&self.compacting);
        let mut report = CompactionReport::default();
        let catalog = self.catalog.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        for topic in catalog.topics() {
            let Some(config) = CompactionConfig::of(&topic.configs) else { continue };
            for (number, id) in topic.partitions.iter().enumerate() {
                if self.compactor.is_stopping() || self.check_ended().is_err() {
                    return report;
                }
                let Some(partition) = self.partition(*id) else { continue };
                let before = report.replaced;
                let done = Round { inner: self, partition: &partition, config }.run(&mut report);
                report.partitions += u64::from(report.replaced > before);
                match done {
                    Ok(()) | Err(RoundError::Stopping | RoundError::Replace(ReplaceError::Gone)) => {}
                    Err(error) => {
                        add(&self.counters.compaction_failures, 1);
                        tracing::warn!(topic = topic.name, partition = number, %error, "compaction went no further");
                    }
                }
            }
        }
        report
    }
}

/// One round of one partition.
struct Round<'a> {
    inner: &'a Inner,
    partition: &'a Arc<Partition>,
    config: CompactionConfig,
}

impl Round<'_> {
    fn run(&self, report: &mut CompactionReport) -> Result<(), RoundError> {
        let clock = &self.inner.config.clock;
        let (now_ms, elapsed_ms) = (clock.now_ms(), clock.elapsed_ms());
        let segments = self.partition.segments();
        let infos = self.infos(&segments, elapsed_ms);
        let Some(plan) = plan(&infos, &self.config, now_ms) else {
            self.ask_for_checkpoint(&segments, infos, now_ms);
            return Ok(());
        };
        let entropy = &self.inner.config.entropy;
        let hash_key = entropy.uuid().as_u128() ^ entropy.uuid().as_u128().rotate_left(64);
        let keys = KeyMap::with_bytes_max(self.inner.config.compaction_key_bytes, hash_key);
        let unpacked_bytes_max = self.inner.config.unpacked_bytes_max.max(UNPACKED_BYTES_MIN);
        let mut survivors = Survivors::new(keys, unpacked_bytes_max);
        let Some(plan) = self.learn(plan, &segments, &infos, &mut survivors)? else { return Ok(()) };
        let producers = self.inner.last_offsets_of_producers(self.partition.id);
        for group in plan.groups {
            let old = segments.get(group.segments.clone()).unwrap_or_default();
            let new = self.product(&group, old, &mut survivors, &producers, elapsed_ms)?;
            self.replace(&group, old, new, report)?;
        }
        if survivors.unread_batches() > 0 {
            let batches = survivors.unread_batches();
            tracing::warn!(
                partition = self.partition.id.0,
                batches,
                "batches stay whole: their events cannot be taken out"
            );
        }
        Ok(())
    }

    /// Where only a checkpoint is missing, the next look shall find one: without this a topic that is
    /// written slowly would wait until the journal needs one.
    fn ask_for_checkpoint(&self, segments: &[Arc<Segment>], mut infos: Vec<SegmentInfo>, now_ms: i64) {
        let mut is_missing = false;
        for (segment, info) in segments.iter().zip(&mut infos) {
            if self.is_whole(segment, info.base_offset..info.end_offset) && !segment.is_checkpointed() {
                is_missing = true;
                info.is_sealed_and_checkpointed = true;
            }
        }
        if is_missing && plan(&infos, &self.config, now_ms).is_some() {
            self.inner.request_checkpoint();
        }
    }

    /// Whether every byte of a sealed segment can be read, as far as is known.
    fn is_whole(&self, segment: &Segment, offsets: Range<u64>) -> bool {
        let filled = segment.blocks().filled();
        filled == segment.published()
            && offsets.end <= self.partition.offsets().high_watermark
            && self
                .partition
                .quarantined()
                .iter()
                .all(|place| place.offsets.end <= offsets.start || offsets.end <= place.offsets.start)
    }

    fn reader(&self) -> Reader<'_> {
        Reader {
            storage: &*self.inner.storage,
            handles: &self.inner.handles,
            partition: self.partition,
            reach: Reach::Disk,
        }
    }

    fn infos(&self, segments: &[Arc<Segment>], elapsed_ms: u64) -> Vec<SegmentInfo> {
        // The last one is still growing, and no round covers it.
        let ends = segments.iter().skip(1).map(|next| next.header.base_offset);
        let info = |(segment, end_offset): (&Arc<Segment>, u64)| {
            let base_offset = segment.header.base_offset;
            let compacted = segment.compacted();
            let at = compacted.and_then(|compacted| compacted.at_elapsed_ms);
            // The guard is given back before anything else looks at the blocks.
            let first_timestamp = segment.blocks().first_timestamp();
            SegmentInfo {
                base_offset,
                end_offset,
                bytes: segment.published(),
                first_timestamp,
                max_timestamp: segment.max_timestamp(),
                compacted_ms: compacted.map_or(0, |compacted| compacted.at_ms),
                elapsed_ms: at.map(|at| elapsed_ms.saturating_sub(at)),
                is_sealed_and_checkpointed: self.is_whole(segment, base_offset..end_offset)
                    && segment.is_checkpointed(),
            }
        };
        segments.iter().zip(ends).map(info).collect()
    }

    /// Learns the keys of what is dirty; what of the plan can be done with what was learned.
    fn learn(
        &self,
        plan: Plan,
        segments: &[Arc<Segment>],
        infos: &[SegmentInfo],
        survivors: &mut Survivors,
    ) -> Result<Option<Plan>, RoundError> {
        for index in plan.dirty.clone() {
            let Some(segment) = segments.get(index) else { continue };
            let mut ended = None;
            let start = self.partition.offsets().start;
            let read = self.reader().each_batch(segment, start, |batch| {
                self.inner.compactor.spend(batch.len())?;
                add(&self.inner.counters.compaction_read_bytes, batch.len() as u64);
                if ended.is_none() {
                    ended = self.inner.unpacking.one(|_| survivors.learn(batch)).err();
                }
                Ok(())
            });
            let complete_below = match (read, ended) {
                (Err(SourceError::Stopping), _) => return Err(RoundError::Stopping),
                (Err(error), _) => {
                    // A full block is in quarantine now, and the next round knows it. A last one that is not full is
                    // read again then.
                    tracing::warn!(%error, "compaction goes as far as what can be read");
                    segment.header.base_offset
                }
                (Ok(()), Some(ended)) => {
                    tracing::info!(partition = self.partition.id.0, %ended, "compaction takes more than one round");
                    ended.complete_below()
                }
                (Ok(()), None) => continue,
            };
            return Ok(plan.within(infos, complete_below));
        }
        Ok(Some(plan))
    }

    /// Writes what is left of a group of segments, and makes it durable under its name.
    fn product(
        &self,
        group: &Group,
        old: &[Arc<Segment>],
        survivors: &mut Survivors,
        last_of: &BTreeMap<i64, u64>,
        elapsed_ms: u64,
    ) -> Result<Product<'_>, RoundError> {
        let inner = self.inner;
        let needed_bytes = inner.config.reserve_bytes + group.bytes;
        match inner.storage.free_bytes() {
            Ok(free_bytes) if free_bytes < needed_bytes => {
                return Err(RoundError::Full { free_bytes, needed_bytes });
            }
            // What cannot be measured is not held against it: the write itself will tell.
            _ => {}
        }
        let number = old.first().map_or(0, |segment| segment.header.number) + 1;
        let header = SegmentHeader {
            log_id: inner.id,
            partition: self.partition.id,
            base_offset: group.base_offset,
            generation: lock(&inner.writer).journal.generation(),
            number,
        };
        let compacted = CompactedAt {
            at_ms: group.compacted_ms,
            at_elapsed_ms: group.elapsed_ms.map(|elapsed| elapsed_ms.saturating_sub(elapsed)),
        };
        let mut product = Product::begin(&*inner.storage, header, compacted)?;
        let start = self.partition.offsets().start;
        for segment in old {
            let mut failed: Result<(), RoundError> = Ok(());
            self.reader().each_deleted(segment, start, |batch| {
                inner.compactor.spend(batch.len())?;
                add(&inner.counters.compaction_read_bytes, batch.len() as u64);
                if failed.is_ok() {
                    failed = keep_producer(batch, start, last_of, &mut product);
                }
                Ok(())
            })?;
            self.reader().each_batch(segment, start, |batch| {
                inner.compactor.spend(batch.len())?;
                add(&inner.counters.compaction_read_bytes, batch.len() as u64);
                if failed.is_ok() {
                    failed = keep(&inner.unpacking, batch, group, survivors, last_of, &mut product);
                }
                Ok(())
            })?;
            failed?;
        }
        product.finish()?;
        Ok(product)
    }

    /// Makes a new segment a part of the partition, in the place of old ones.
    fn replace(
        &self,
        group: &Group,
        old: &[Arc<Segment>],
        new: Product<'_>,
        report: &mut CompactionReport,
    ) -> Result<(), RoundError> {
        let inner = self.inner;
        let bytes = new.bytes();
        inner.compactor.spend(usize::try_from(bytes).unwrap_or(usize::MAX))?;
        // What is durable in the directory is not known any more, unless nothing was begun.
        let placed = new.place().map_err(|error| match error.is_out_of_files() {
            true => RoundError::Storage(error),
            false => RoundError::Ended(inner.end(&error)),
        })?;
        let (answer, answered) = mpsc::channel();
        let command = Command::ReplaceSegments {
            partition: self.partition.id,
            end_offset: group.end_offset,
            product: placed.segment(),
            done: Box::new(move |replaced| {
                // Nobody waits any more when the log has stopped.
                let _ = answer.send(replaced);
            }),
        };
        if let Err(refused) = inner.queue.push(command) {
            placed.remove();
            return Err(ReplaceError::Writer(refused.1).into());
        }
        if !inner.config.background {
            while inner.commit() {}
        }
        let replaced = loop {
            match answered.recv_timeout(ANSWER_LOOK) {
                Err(RecvTimeoutError::Timeout) if !inner.compactor.is_abandoned() => {}
                replaced => break replaced,
            }
        };
        match replaced {
            Ok(Ok(())) => {}
            Ok(Err(ReplaceError::Gone)) => {
                placed.remove();
                return Err(ReplaceError::Gone.into());
            }
            // Whether the entry is on disk is not known: then the file must be there.
            Ok(Err(error)) => return Err(error.into()),
            Err(_) => return Err(RoundError::Stopping),
        }
        report.segments += 1;
        report.bytes_after += bytes;
        report.replaced += old.len() as u64;
        report.bytes_before += group.bytes;
        add(&inner.counters.compactions, 1);
        add(&inner.counters.compaction_written_bytes, bytes);
        Ok(())
    }
}

/// Puts what survives of a batch into the new segment.
fn keep(
    unpacking: &Unpacking,
    batch: &[u8],
    group: &Group,
    survivors: &mut Survivors,
    last_of: &BTreeMap<i64, u64>,
    product: &mut Product<'_>,
) -> Result<(), RoundError> {
    let header = BatchHeader::parse(batch).map_err(RewriteError::Batch)?;
    let is_last_of_producer = is_last_of_producer(&header, last_of);
    let rewrite = |_| survivors.rewrite(batch, group.drop_tombstones, is_last_of_producer);
    match unpacking.one(rewrite)? {
        Kept::All => product.add(&header, batch)?,
        Kept::Some(left) => {
            let header = BatchHeader::parse(&left).map_err(RewriteError::Batch)?;
            product.add(&header, &left)?;
        }
        Kept::None => {}
    }
    Ok(())
}

/// Puts the header of a batch that was deleted into the new segment, where it is the newest one of its producer: so that
/// the producer's sequences can be read again. None of its events is kept.
fn keep_producer(
    batch: &[u8],
    start: u64,
    last_of: &BTreeMap<i64, u64>,
    product: &mut Product<'_>,
) -> Result<(), RoundError> {
    let header = BatchHeader::parse(batch).map_err(RewriteError::Batch)?;
    let is_deleted = u64::try_from(header.last_offset()).is_ok_and(|last| last < start);
    if !is_deleted || !is_last_of_producer(&header, last_of) {
        return Ok(());
    }
    if header.record_count == 0 || header.is_control() {
        product.add(&header, batch)?;
    } else if let Ok(left) = emptied(batch) {
        // One that is not as it was stored is damage in what was deleted, of which nobody is told.
        let header = BatchHeader::parse(&left).map_err(RewriteError::Batch)?;
        product.add(&header, &left)?;
    }
    Ok(())
}

/// Whether no newer batch of the same idempotent producer is in the partition.
fn is_last_of_producer(header: &BatchHeader, last_of: &BTreeMap<i64, u64>) -> bool {
    let last_offset = u64::try_from(header.last_offset()).ok();
    header.has_producer() && last_of.get(&header.producer_id) == last_offset.as_ref()
}

impl Inner {
    /// Offsets of the newest event of each idempotent producer of a partition. Also those that are only
    /// queued: they are durable before any entry that is queued later.
    fn last_offsets_of_producers(&self, partition: PartitionId) -> BTreeMap<i64, u64> {
        let writer = lock(&self.writer);
        let states = writer.tails.get(&partition).map(|tail| tail.producers.states());
        states.unwrap_or_default().into_iter().map(|state| (state.id, state.last_offset)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use bytes::Bytes;
    use courant_core::topic::TopicName;

    use super::*;
    use crate::batch::records::{self, NewRecord};
    use crate::storage::MemoryStorage;
    use crate::{Batch, Codec, Log, LogConfig, NewTopic, SystemClock, SystemEntropy};

    /// Only what never comes is not there by then.
    const PATIENCE: Duration = Duration::from_secs(15);

    /// Two events of one key.
    fn batch() -> Batch {
        let event = NewRecord {
            timestamp: 7,
            key: Some(Bytes::from_static(b"key")),
            value: Some(vec![7; 1000].into()),
            ..NewRecord::default()
        };
        let bytes = records::encode(&[event.clone(), event], Codec::None, None).expect("encodes");
        Batch::validate(bytes).expect("valid")
    }

    /// A topic of which every batch is a segment, and all but the newest one are due for compaction.
    fn compacted() -> NewTopic {
        let configs =
            [("cleanup.policy", "compact"), ("segment.bytes", "1000"), ("min.cleanable.dirty.ratio", "0")];
        NewTopic {
            name: TopicName::new("orders").expect("legal"),
            partitions: 2,
            configs: configs.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        }
    }

    /// Symptom: a log that was stopped in an answer of its own never was, and its thread stood still. Cause: it waits
    /// for the thread of compaction, and that one waited for its own answer, which came behind this one. Fix: it is let
    /// go.
    #[test]
    fn an_answer_may_stop_the_log_while_compaction_waits_for_the_next_one() {
        let mut config = LogConfig::new(Arc::new(SystemClock), Arc::new(SystemEntropy));
        (config.reserve_bytes, config.compaction_interval_ms) = (0, 1);
        (config.first_journal_file_bytes, config.journal_file_bytes) = (1024 * 1024, 1024 * 1024);
        let (log, _) = Log::open(Arc::new(MemoryStorage::new(64 * 1024 * 1024)), config).expect("opens");
        let (created, topic) = mpsc::channel();
        log.create_topic(compacted(), move |topic| created.send(topic).expect("sends"));
        let partitions = topic.recv().expect("answered").expect("created").partitions.clone();
        let (stopped, told) = mpsc::channel();
        let (handle, other) = (log.clone(), partitions[1]);
        log.append(partitions[0], batch(), |_| {});
        log.append(partitions[0], batch(), move |_| {
            let stopping = handle.clone();
            let since = Instant::now();
            let (waits, waiting) = mpsc::channel();
            handle.append(other, batch(), move |_| {
                stopping.stop();
                stopped.send(waiting.recv()).expect("sends");
            });
            // The committer takes both together, and answers this append first.
            while handle.inner.queue.count() < 2 && since.elapsed() < PATIENCE {
                std::thread::yield_now();
            }
            waits.send(handle.inner.queue.count()).expect("sends");
        });
        let waited = told.recv_timeout(2 * PATIENCE);
        if waited.is_err() {
            // Whoever drops it waits for the thread that stands still.
            std::mem::forget(log);
        }
        assert_eq!(waited, Ok(Ok(2)), "it does not stop, or compaction has nothing to replace");
    }
}
