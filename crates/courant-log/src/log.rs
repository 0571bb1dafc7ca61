//! The log as its users hold it.

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, TryLockError};
use std::thread::JoinHandle;

use uuid::Uuid;

use crate::batch::Batch;
use crate::believed_clock::BelievedClock;
use crate::buffers::Buffers;
use crate::catalog::Catalog;
use crate::committer::Turn;
use crate::compacting::{CompactionReport, Compactor, remove_leftovers};
use crate::config::LogConfig;
use crate::error::{AcceptGapError, AppendError, DeleteRecordsError, OpenError, WriterError};
use crate::inner::Inner;
use crate::limits::HOT_BYTES;
use crate::maintenance::Maintenance;
use crate::metrics::{Counters, LogMetrics};
use crate::partition::{
    Offsets, PartitionId, ProducerState, Read, ReadError, Reader, TimedOffset, Waiter, Waiting,
};
use crate::queue::{Command, Queue};
use crate::recovery::{Recovered, RecoveryReport, recover};
use crate::room::Room;
use crate::segment::Reach;
use crate::storage::Storage;
use crate::unpacking::Unpacking;
use crate::verify::Damage;
use crate::{layout, lock};

/// Where an appended batch went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Offset of the batch's first event.
    pub base_offset: u64,
    /// Offset of the partition's oldest event.
    pub log_start: u64,
}

/// Whether the log takes appends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// It does.
    Ready,
    /// It refuses appends until there is room on the disk; everything else goes on.
    Full {
        /// How much room there is and how much is needed.
        reason: String,
    },
    /// It only reads: the storage failed, and a restart must find out what the disk holds.
    ReadOnly {
        /// The failed operation.
        reason: String,
    },
    /// It is stopping, or has stopped.
    Stopping,
}

/// A durable, partitioned, immutable event log.
///
/// Handles are cheap to clone and share one log. Results come through callbacks, called on the thread that
/// commits, the committer's or that of an [`Log::append_here`] or [`Log::commit_here`], and on that of the caller
/// where the log takes nothing at the moment: they hand the result on and return.
/// `append` acknowledges only what is on disk; readers never see anything else.
///
/// Dropping the last handle of a log with threads stops it in order, as [`Log::stop`] does.
#[derive(Clone, Debug)]
pub struct Log {
    pub(crate) inner: Arc<Inner>,
    threads: Arc<Threads>,
}

/// The log's own threads, for as long as anyone holds a handle.
#[derive(Debug)]
struct Threads {
    inner: Arc<Inner>,
    running: Mutex<Vec<JoinHandle<()>>>,
}

impl Log {
    /// Opens the log in a storage, or makes a new one in an empty storage. Returns once everything
    /// acknowledged before is readable and durable again.
    ///
    /// # Errors
    /// See [`OpenError`]. On an error nothing that was acknowledged has been changed.
    pub fn open(storage: Arc<dyn Storage>, config: LogConfig) -> Result<(Self, RecoveryReport), OpenError> {
        let config = config.bounded();
        let guard = layout::take(&*storage)?;
        let id = layout::open_or_create(&*storage, &*config.entropy)?;
        let Recovered { writer, groups, handles, written_ms, report } = recover(&storage, id, &config)?;
        layout::upgrade(&*storage, id)?;
        let partitions =
            writer.tails.iter().map(|(id, tail)| (*id, tail.shared.clone())).collect::<HashMap<_, _>>();
        let background = config.background;
        let believed = BelievedClock::new(config.clock.now_ms(), config.clock.elapsed_ms(), written_ms);
        let compactor = Compactor::new(if background { config.compaction_bytes_per_second } else { 0 });
        let inner = Arc::new(Inner {
            id,
            storage,
            buffers: Buffers::new(config.read_buffers),
            unpacking: Unpacking::new(config.unpacked_bytes_max, config.unpacked_at_once),
            queue: Queue::new(config.queued_group_bytes),
            config,
            handles,
            counters: Counters::default(),
            turn: Turn::default(),
            catalog: RwLock::new(Arc::new(writer.catalog.clone())),
            catalog_changes: AtomicU64::new(0),
            partitions: RwLock::new(partitions),
            groups: RwLock::new(groups),
            writer: Mutex::new(writer),
            checkpointing: Mutex::new(()),
            maintenance: Maintenance::default(),
            compactor,
            compacting: Mutex::new(()),
            believed: Mutex::new(believed),
            room: Room::default(),
            full: Mutex::default(),
            ended: OnceLock::new(),
            stopped: AtomicBool::new(false),
            guard: Mutex::new(Some(guard)),
        });
        // From here on what was replayed is as durable as what was checkpointed before.
        inner.checkpoint()?;
        layout::settle_doubt(&*inner.storage)?;
        remove_leftovers(&*inner.storage);
        let threads = Arc::new(Threads { inner: inner.clone(), running: Mutex::default() });
        if background {
            threads.inner.complete_ring();
            threads.start().map_err(OpenError::Thread)?;
        }
        Ok((Self { inner, threads }, report))
    }

    /// The log's identity: made at its creation, never changed.
    #[must_use]
    pub fn id(&self) -> Uuid {
        self.inner.id
    }

    /// All topics as they are now.
    #[must_use]
    pub fn catalog(&self) -> Arc<Catalog> {
        self.inner.catalog.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn submit(&self, command: Command) {
        if let Err(refused) = self.inner.queue.push(command) {
            let (command, error) = *refused;
            command.refuse(error);
        }
    }

    /// Appends a batch. `done` is called once it is durable and readable, or was refused.
    pub fn append(
        &self,
        partition: PartitionId,
        batch: Batch,
        done: impl FnOnce(Result<Appended, AppendError>) + Send + 'static,
    ) {
        self.submit(Command::Append { partition, batch, done: Box::new(done) });
    }

    /// As [`Log::append`], for a caller that has more to append: nothing happens to the batch before the committer
    /// comes by, or until [`Log::wake_committer`]. Whoever calls this calls that as soon as there is no more.
    pub fn append_quietly(
        &self,
        partition: PartitionId,
        batch: Batch,
        done: impl FnOnce(Result<Appended, AppendError>) + Send + 'static,
    ) {
        let command = Command::Append { partition, batch, done: Box::new(done) };
        if let Err(refused) = self.inner.queue.push_quietly(command) {
            let (command, error) = *refused;
            command.refuse(error);
        }
    }

    /// Lets the committer begin with what came by [`Log::append_quietly`]. Where nothing waits for that, it costs
    /// nothing.
    pub fn wake_committer(&self) {
        self.inner.queue.wake();
    }

    /// Deletes a partition's events before an offset. `done` is called with the offset of the oldest
    /// event that is left once that is durable, or was refused. Files go by whole segments, a little
    /// later.
    pub fn delete_records(
        &self,
        partition: PartitionId,
        before: u64,
        done: impl FnOnce(Result<u64, DeleteRecordsError>) + Send + 'static,
    ) {
        self.submit(Command::DeleteRecords { partition, before, done: Box::new(done) });
    }

    /// Gives up damaged events: readers go on behind them from then on, and nothing brings them back.
    /// `done` is called once that is durable, or was refused: only what is in [`Self::damage`] can be
    /// given up.
    pub fn accept_gap(
        &self,
        partition: PartitionId,
        offsets: Range<u64>,
        done: impl FnOnce(Result<(), AcceptGapError>) + Send + 'static,
    ) {
        self.submit(Command::AcceptGap { partition, offsets, done: Box::new(done) });
    }

    /// What is known to be damaged and was neither given up nor deleted, by topic and partition. Reading finds
    /// damage; [`Self::scrub`] finds all of it.
    #[must_use]
    pub fn damage(&self) -> Vec<Damage> {
        let catalog = self.catalog();
        let mut damage = Vec::new();
        for topic in catalog.topics() {
            for (number, id) in (0..).zip(&topic.partitions) {
                let found = self.inner.partition(*id).map_or_else(Vec::new, |found| found.quarantined());
                damage.extend(found.into_iter().map(|found| Damage::of(&topic.name, number, found)));
            }
        }
        damage
    }

    /// Compares every stored byte of the segments with its checksum, as the disk holds it. What differs
    /// is in [`Self::damage`] afterwards. Reads everything.
    ///
    /// # Errors
    /// See [`ReadError`]: the storage failed. Damage is no error.
    pub fn scrub(&self) -> Result<(), ReadError> {
        let topics = self.catalog();
        for id in topics.topics().flat_map(|topic| &topic.partitions) {
            let Some(partition) = self.inner.partition(*id) else { continue };
            let (storage, handles) = (&*self.inner.storage, &self.inner.handles);
            let reader = Reader { storage, handles, partition: &partition, reach: Reach::Disk };
            for segment in partition.segments() {
                match reader.scrub(&segment) {
                    Err(_) if !partition.has_segment(segment.key()) => {}
                    scrubbed => scrubbed?,
                }
            }
        }
        Ok(())
    }

    /// Gives out a producer id that no producer has had before.
    pub fn allocate_producer_id(&self, done: impl FnOnce(Result<i64, WriterError>) + Send + 'static) {
        self.submit(Command::AllocateProducerId { done: Box::new(done) });
    }

    pub(crate) fn reading<T>(
        &self,
        id: PartitionId,
        read: impl FnOnce(Reader<'_>) -> Result<T, ReadError>,
    ) -> Result<T, ReadError> {
        let partition = self.inner.partition(id).ok_or(ReadError::UnknownPartition)?;
        read(Reader {
            storage: &*self.inner.storage,
            handles: &self.inner.handles,
            partition: &partition,
            reach: Reach::Disk,
        })
    }

    /// Whole batches from the one that holds `offset` on: at most `max_bytes` of them, except that
    /// `at_least_one` gives the first one whatever its size. Only what is durable is read.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn read(
        &self,
        partition: PartitionId,
        offset: u64,
        max_bytes: usize,
        at_least_one: bool,
    ) -> Result<Read, ReadError> {
        let buffers = &self.inner.buffers;
        let read = self.reading(partition, |reader| reader.read(buffers, offset, max_bytes, at_least_one))?;
        self.count_read(&read);
        Ok(read)
    }

    /// Whether reading at `offset` will almost surely not wait for the disk.
    #[must_use]
    pub fn is_hot(&self, partition: PartitionId, offset: u64) -> bool {
        self.inner.partition(partition).is_none_or(|partition| partition.is_within_last(offset, HOT_BYTES))
    }

    /// The ends of a partition, if it exists.
    #[must_use]
    pub fn offsets(&self, partition: PartitionId) -> Option<Offsets> {
        self.inner.partition(partition).map(|partition| partition.offsets())
    }

    /// The first event whose timestamp is `at_ms` or later. May decompress one batch.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn offset_for_time(
        &self,
        partition: PartitionId,
        at_ms: i64,
    ) -> Result<Option<TimedOffset>, ReadError> {
        self.reading(partition, |reader| reader.offset_for_time(at_ms, &self.inner.unpacking))
    }

    /// The event with the greatest timestamp; the first of several. May decompress a few batches, one by one.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn max_timestamp(&self, partition: PartitionId) -> Result<Option<TimedOffset>, ReadError> {
        self.reading(partition, |reader| reader.max_timestamp(&self.inner.unpacking))
    }

    /// Calls `wake` once when `min_bytes` more are readable than at the watermarks that the caller has
    /// seen; at once when one of them has moved already or a partition does not exist; also when a
    /// partition is deleted or the log stops. Dropping the registration ends it.
    pub fn wait(
        &self,
        seen: &[(PartitionId, u64)],
        min_bytes: u64,
        wake: impl FnOnce() + Send + 'static,
    ) -> Waiting {
        let waiter = Arc::new(Waiter::new(min_bytes, Box::new(wake)));
        let mut waiting = Waiting { waiter: waiter.clone(), partitions: Vec::with_capacity(seen.len()) };
        let mut at_once = self.inner.is_stopped();
        for (id, watermark) in seen {
            let partition = self.inner.partition(*id);
            at_once |= partition.as_ref().is_none_or(|partition| !partition.add_waiter(*watermark, &waiter));
            waiting.partitions.extend(partition);
        }
        // A log that stops in the meantime has its flag set before it wakes everyone.
        if at_once || self.inner.is_stopped() {
            waiter.fire(|| {});
        }
        waiting
    }

    /// Deletes what the topics' retention says, and returns in how many partitions that was begun. A
    /// log with threads does it by itself.
    pub fn enforce_retention(&self) -> usize {
        self.inner.enforce_retention()
    }

    /// Compacts every partition that is due for it: of the events with one key, the newest stays. A log
    /// with threads does it by itself.
    pub fn compact(&self) -> CompactionReport {
        self.inner.compact()
    }

    /// Bytes of a partition's segments, if it exists.
    #[must_use]
    pub fn partition_bytes(&self, partition: PartitionId) -> Option<u64> {
        self.inner.partition(partition).map(|partition| partition.bytes())
    }

    /// Bytes that the storage has, and bytes of them that are free. `None` where it cannot say.
    #[must_use]
    pub fn disk_bytes(&self) -> Option<(u64, u64)> {
        let storage = &self.inner.storage;
        Some((storage.total_bytes().ok()?, storage.free_bytes().ok()?))
    }

    /// The idempotent producers of a partition, by id, if it exists. Waits for a commit under way.
    #[must_use]
    pub fn producers(&self, partition: PartitionId) -> Option<Vec<ProducerState>> {
        let writer = lock(&self.inner.writer);
        Some(writer.tails.get(&partition)?.producers.states())
    }

    /// Counters since the log was opened.
    #[must_use]
    pub fn metrics(&self) -> LogMetrics {
        let partitions = self.inner.partitions.read().unwrap_or_else(PoisonError::into_inner).len();
        self.inner.counters.read(self.catalog().len() as u64, partitions as u64)
    }

    /// Whether the log takes appends.
    #[must_use]
    pub fn health(&self) -> Health {
        if self.inner.queue.is_stopping() {
            return Health::Stopping;
        }
        match self.inner.ended.get() {
            Some(reason) => Health::ReadOnly { reason: reason.clone() },
            None => match lock(&self.inner.full).clone() {
                Some(reason) if !self.inner.has_room() => Health::Full { reason },
                _ => Health::Ready,
            },
        }
    }

    /// Commits one group of what waits, on the caller's thread; false when nothing did. For logs that
    /// were opened without threads of their own.
    pub fn commit(&self) -> bool {
        self.inner.commit_in_turn()
    }

    /// Vouches for the last group with an empty one, as the committer does when it is idle.
    pub fn seal(&self) {
        if !self.inner.is_stopped() {
            self.inner.seal_in_turn();
        }
    }

    /// Makes the segments durable and frees the journal behind them.
    ///
    /// # Errors
    /// The storage's failure; it has ended the writer.
    pub fn checkpoint(&self) -> Result<(), WriterError> {
        if self.inner.is_stopped() {
            return Err(WriterError::Stopped);
        }
        self.inner.checkpoint()
    }

    /// Commits what waits, seals the journal, stores a checkpoint, and gives the data directory back.
    /// Waiting readers are woken. Later appends are refused; reads go on.
    pub fn stop(&self) {
        self.threads.stop();
    }
}

impl Threads {
    fn start(&self) -> io::Result<()> {
        let mut running = lock(&self.running);
        let inner = self.inner.clone();
        let committer = std::thread::Builder::new().name("courant-commit".into());
        running.push(committer.spawn(move || inner.run_committer())?);
        let inner = self.inner.clone();
        let maintenance = std::thread::Builder::new().name("courant-maintain".into());
        running.push(maintenance.spawn(move || inner.run_maintenance())?);
        let inner = self.inner.clone();
        let compactor = std::thread::Builder::new().name("courant-compact".into());
        running.push(compactor.spawn(move || inner.run_compaction())?);
        Ok(())
    }

    fn stop(&self) {
        self.inner.queue.stop();
        self.inner.compactor.stop();
        // A callback has the turn, for which the committer may wait, and so may whoever stops the log already.
        let in_callback = self.inner.turn.is_held_here();
        let mut running = match self.running.try_lock() {
            Err(TryLockError::WouldBlock) if in_callback => return,
            Err(TryLockError::WouldBlock) => lock(&self.running),
            Err(TryLockError::Poisoned(running)) => running.into_inner(),
            Ok(running) => running,
        };
        let mut running = running.drain(..);
        if let Some(committer) = running.next().filter(|_| !in_callback) {
            join(committer);
        }
        // Another thread may be in the middle of a commit. No checkpoint may call that an orderly stop.
        let turn = self.inner.turn.wait_unless_held();
        if self.inner.stopped.swap(true, Ordering::AcqRel) {
            return;
        }
        // The maintenance thread goes last: what is still to be written may wait for it.
        while self.inner.commit() {}
        self.inner.seal();
        drop(turn);
        self.inner.maintenance.stop();
        if in_callback {
            self.inner.compactor.abandon();
        }
        running.for_each(join);
        self.inner.wake_all();
        if let Err(error) = self.inner.checkpoint() {
            tracing::error!(%error, "no checkpoint was stored; the next start replays the journal");
        }
        // Whoever still calls finds the log closed, and the directory is another process's.
        let _no_checkpoint = lock(&self.inner.checkpointing);
        let _no_group = lock(&self.inner.writer);
        lock(&self.inner.guard).take();
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if self.inner.config.background {
            self.stop();
        }
    }
}

fn join(thread: JoinHandle<()>) {
    // A callback of one of them that drops the last handle cannot wait for itself.
    if thread.thread().id() == std::thread::current().id() {
        return;
    }
    let name = thread.thread().name().unwrap_or_default().to_owned();
    if thread.join().is_err() {
        tracing::error!(thread = name, "a thread of the log panicked");
    }
}
