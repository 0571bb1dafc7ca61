//! The maintenance thread: checkpoints, syncs ahead of them, new journal files and retention, off the
//! committer, which waits for it only when the ring is full.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::error::WriterError;
use crate::inner::Inner;
use crate::journal::{FillSteps, JournalWriter, RingFile, Unsynced, capacity_of};
use crate::limits::{FILL_PAST_BYTES, FILL_STEP_BYTES, FILL_WRITE_BYTES, RING_FILES_FIRST};
use crate::writer::Writer;
use crate::{lock, reserve};

/// How long after a failure a checkpoint may be tried again without being asked for: not at every look, which
/// may come each second, and each failure is a line in the server's log.
const RETRY_AFTER: Duration = Duration::from_secs(30);

/// What the maintenance thread is asked for, and the signal that something was done.
#[derive(Debug, Default)]
pub(crate) struct Maintenance {
    asked: Mutex<Asked>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Asked {
    checkpoint: bool,
    file: bool,
    write_back: bool,
    /// Of the journal, for the disk.
    begin: Option<Unsynced>,
    /// Bytes of a checkpoint, for which room is to be held.
    reserve: Option<u64>,
    stop: bool,
    /// Counts what was done, so that a waiter does not miss it.
    rounds: u64,
    busy: bool,
    /// How many wait for what is asked for.
    waiting: usize,
    /// How the last checkpoint failed, if it did.
    failed: Option<WriterError>,
    /// When it is time to try that one again.
    retry_at: Option<Instant>,
}

/// What the thread does next.
enum Work {
    Round {
        checkpoint: bool,
        file: bool,
        write_back: bool,
        begin: Option<Unsynced>,
        reserve: Option<u64>,
    },
    /// What is looked at from time to time, retention above all.
    Look,
    /// Somebody changed what the thread waits for.
    Nothing,
}

impl Asked {
    fn is_something(&self) -> bool {
        self.checkpoint || self.file || self.write_back || self.begin.is_some() || self.reserve.is_some()
    }
}

impl Maintenance {
    pub(crate) fn notify(&self) {
        let _asked = lock(&self.asked);
        self.changed.notify_all();
    }

    pub(crate) fn stop(&self) {
        lock(&self.asked).stop = true;
        self.changed.notify_all();
    }

    /// Waits until the round under way is done, if there is one. Asks for nothing.
    fn await_round(&self, has_ended: impl Fn() -> bool) {
        let mut asked = lock(&self.asked);
        let rounds = asked.rounds;
        asked.waiting += 1;
        self.changed.notify_all();
        while asked.busy && asked.rounds == rounds && !has_ended() && !asked.stop {
            asked = self.changed.wait(asked).unwrap_or_else(PoisonError::into_inner);
        }
        asked.waiting -= 1;
    }

    fn is_stopping(&self) -> bool {
        lock(&self.asked).stop
    }

    /// Leaves the disk to others for so long, unless somebody waits for what this thread does. False when the
    /// log stops: then nobody does any more.
    fn rest(&self, time: Duration) -> bool {
        let until = Instant::now() + time;
        let mut asked = lock(&self.asked);
        while asked.waiting == 0 && !asked.stop {
            let Some(left) = until.checked_duration_since(Instant::now()) else { return true };
            let waited = self.changed.wait_timeout(asked, left);
            asked = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        !asked.stop
    }
}

impl Inner {
    /// The maintenance thread.
    pub(crate) fn run_maintenance(&self) {
        let mut looked = Instant::now();
        while let Some(work) = self.next_work(looked) {
            let (checkpoint, file, write_back, begin, reserve) = match work {
                Work::Round { checkpoint, file, write_back, begin, reserve } => {
                    (checkpoint, file, write_back, begin, reserve)
                }
                Work::Look => {
                    looked = Instant::now();
                    if catch_unwind(AssertUnwindSafe(|| self.look())).is_err() {
                        self.end_because("the maintenance thread panicked, which is a defect");
                    }
                    continue;
                }
                Work::Nothing => continue,
            };
            let done = catch_unwind(AssertUnwindSafe(|| {
                if let Some(begin) = begin {
                    begin.begin();
                }
                if let Some(bytes) = reserve {
                    // A checkpoint of another thread that finds no room gives the file away. Not while it is filled:
                    // that would take the room anew, in a file that is gone.
                    let _no_checkpoint = lock(&self.checkpointing);
                    reserve::keep(&*self.storage, bytes, self.config.reserve_bytes);
                }
                if file {
                    self.grow_ring();
                }
                if write_back && !checkpoint {
                    self.write_back();
                }
                // An error is kept: every append that needs the journal's room names it.
                if checkpoint { self.checkpoint().err() } else { None }
            }));
            let failed = match done {
                Ok(failed) => failed,
                Err(_) => Some(self.end_because("the maintenance thread panicked, which is a defect")),
            };
            let mut asked = lock(&self.maintenance.asked);
            asked.rounds += 1;
            asked.busy = false;
            if checkpoint {
                asked.retry_at = failed.is_some().then(|| Instant::now() + RETRY_AFTER);
                asked.failed = failed;
            }
            drop(asked);
            self.maintenance.changed.notify_all();
        }
    }

    /// What is done from time to time without being asked for.
    fn look(&self) {
        self.enforce_retention();
        // Nobody else may ask for it: a log that is full takes nothing for which it would need one, and what was
        // deleted keeps its room until there is one.
        let retry_at = lock(&self.maintenance.asked).retry_at;
        if retry_at.is_some_and(|at| at <= Instant::now()) && self.ended.get().is_none() {
            self.request_checkpoint();
        }
        // The committer gives all of them back, but only behind appends: what reads have needed since then stays.
        self.buffers.give_back_unneeded();
    }

    /// Waits for what is asked for, or until it is time for retention, which was last looked at then.
    /// `None`: the log stops.
    fn next_work(&self, looked: Instant) -> Option<Work> {
        let due = looked + Duration::from_millis(self.retention_interval_ms());
        let mut asked = lock(&self.maintenance.asked);
        if !asked.stop && !asked.is_something() {
            let Some(left) = due.checked_duration_since(Instant::now()) else {
                return Some(Work::Look);
            };
            let waited = self.maintenance.changed.wait_timeout(asked, left);
            asked = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        if asked.stop {
            return None;
        }
        if !asked.is_something() {
            return Some(Work::Nothing);
        }
        asked.busy = true;
        let checkpoint = std::mem::take(&mut asked.checkpoint);
        let file = std::mem::take(&mut asked.file);
        let write_back = std::mem::take(&mut asked.write_back);
        let (begin, reserve) = (asked.begin.take(), asked.reserve.take());
        Some(Work::Round { checkpoint, file, write_back, begin, reserve })
    }

    /// Asks for what a ring lacks that has begun with one file. Until it is there, an append waits where the first
    /// file is full, and a checkpoint frees none.
    pub(crate) fn complete_ring(&self) {
        if lock(&self.writer).journal.files() < RING_FILES_FIRST {
            self.ask(false, true, false);
        }
    }

    /// Asks for what the next groups will need, early enough that they need not wait for it.
    pub(crate) fn ask_for_maintenance(&self, writer: &mut Writer) {
        if !self.config.background {
            return;
        }
        let journal = &writer.journal;
        // A file takes a while to fill, and the next one is to be there when it is needed.
        let is_short = match journal.free_files() {
            0 => true,
            1 => journal.is_half_full() && writer.ring_grows,
            _ => false,
        };
        let grow = journal.files() < self.config.journal_files && is_short;
        let since = journal.bytes_since(writer.checkpoint.position);
        // A file is free again only when nothing behind the checkpoint stands in it. So room for another
        // third is left while a checkpoint is under way, however the files lie.
        let checkpoint =
            since > self.ring_bytes_to_come(writer) / 3 || 2 * writer.dirty.len() > self.handles.dirty_max();
        let (write_back, begin) = (writer.is_write_back_due(&*self.config.clock), journal.is_begin_due());
        // What is under way will make room; whether it was enough is seen afterwards.
        if (grow || checkpoint || write_back || begin) && !lock(&self.maintenance.asked).busy {
            self.ask(checkpoint, grow, write_back);
            if begin {
                self.ask_to_begin(&mut writer.journal);
            }
        }
    }

    /// Has the disk told of what the journal holds for nobody who waits. That may wait for other threads of the
    /// system, so the committer does not do it.
    fn ask_to_begin(&self, journal: &mut JournalWriter) {
        let mut asked = lock(&self.maintenance.asked);
        // Where it was asked for and not done yet, a later group asks for the rest.
        if asked.begin.is_none() {
            asked.begin = journal.take_unbegun();
            drop(asked);
            self.maintenance.changed.notify_all();
        }
    }

    /// Holds room for a checkpoint of so many bytes, soon: who has stored one, at a start above all, does not wait
    /// for it.
    pub(crate) fn keep_reserve(&self, bytes: u64) {
        let mut asked = lock(&self.maintenance.asked);
        if !self.config.background || asked.stop {
            drop(asked);
            return reserve::keep(&*self.storage, bytes, self.config.reserve_bytes);
        }
        asked.reserve = Some(bytes);
        drop(asked);
        self.maintenance.changed.notify_all();
    }

    /// Bytes of the ring when it has grown as far as it will. A checkpoint before that would free less than
    /// the next file brings, and come again soon.
    fn ring_bytes_to_come(&self, writer: &Writer) -> u64 {
        let lacking = self.config.journal_files.saturating_sub(writer.journal.files());
        let more = if writer.ring_grows { lacking as u64 } else { 0 };
        writer.journal.ring_bytes() + more * capacity_of(self.config.journal_file_bytes)
    }

    fn ask(&self, checkpoint: bool, file: bool, write_back: bool) {
        let mut asked = lock(&self.maintenance.asked);
        let had = (asked.checkpoint, asked.file, asked.write_back);
        asked.checkpoint |= checkpoint;
        asked.file |= file;
        asked.write_back |= write_back;
        let news = had != (asked.checkpoint, asked.file, asked.write_back);
        drop(asked);
        if news {
            self.maintenance.changed.notify_all();
        }
    }

    /// Asks for a checkpoint soon; nobody waits for it.
    pub(crate) fn request_checkpoint(&self) {
        if self.config.background {
            self.ask(true, false, false);
        }
    }

    /// Returns when a journal file is free, or says why none will be.
    pub(crate) fn wait_for_journal_file(&self) -> Result<(), WriterError> {
        if self.config.background {
            // What is under way may free a file, or make one: then nothing more needs to be waited for.
            self.maintenance.await_round(|| self.ended.get().is_some());
            self.check_ended()?;
            if lock(&self.writer).journal.free_files() > 0 {
                return Ok(());
            }
        }
        let can_grow = lock(&self.writer).journal.files() < self.config.journal_files;
        let failed = if self.config.background {
            self.await_maintenance(can_grow)
        } else {
            if can_grow {
                self.grow_ring();
            }
            let helped = lock(&self.writer).journal.free_files() > 0;
            if helped { None } else { self.checkpoint().err() }
        };
        self.check_ended()?;
        if lock(&self.writer).journal.free_files() > 0 {
            return Ok(());
        }
        // Neither a checkpoint nor a new file helped: there is no room for either.
        Err(failed.unwrap_or_else(|| self.disk_full()))
    }

    /// Returns when a checkpoint has been stored that covers everything committed by now, or says why none
    /// was.
    pub(crate) fn wait_for_checkpoint(&self) -> Result<(), WriterError> {
        let failed =
            if self.config.background { self.await_maintenance(false) } else { self.checkpoint().err() };
        self.check_ended()?;
        failed.map_or(Ok(()), Err)
    }

    /// Waits for a round of the maintenance thread; returns how its checkpoint failed, if it did.
    fn await_maintenance(&self, file: bool) -> Option<WriterError> {
        let mut asked = lock(&self.maintenance.asked);
        // The round under way may have begun before there was anything to free.
        let rounds = asked.rounds + if asked.busy { 2 } else { 1 };
        asked.checkpoint = true;
        asked.file |= file;
        asked.waiting += 1;
        self.maintenance.changed.notify_all();
        while asked.rounds < rounds && self.ended.get().is_none() && !asked.stop {
            asked = self.maintenance.changed.wait(asked).unwrap_or_else(PoisonError::into_inner);
        }
        asked.waiting -= 1;
        asked.failed.clone()
    }

    pub(crate) fn disk_full(&self) -> WriterError {
        let free_bytes = self.storage.free_bytes().unwrap_or(0);
        let needed_bytes = self.config.reserve_bytes + self.config.first_journal_file_bytes;
        WriterError::DiskFull { free_bytes, needed_bytes: needed_bytes.max(free_bytes + 1) }
    }

    /// Bytes of the storage that the ring may take and leave so many free.
    fn ring_room(&self, kept_free: u64) -> u64 {
        self.storage.free_bytes().unwrap_or(0).saturating_sub(kept_free)
    }

    /// Whether the ring could grow by a file of full size now.
    pub(crate) fn has_room_for_a_file(&self) -> bool {
        self.config.journal_file_bytes <= self.ring_room(self.config.reserve_bytes)
    }

    /// Adds a file to the ring. Without room on the storage the ring stays as small as it is, and
    /// checkpoints come more often.
    ///
    /// A file is filled in steps, and after each of them the disk is left to others for as long as it took:
    /// `docs/decisions/0013-ring-files-are-filled-in-steps.md`. A log that stops does not wait for it, and what
    /// appends have taken of the room meanwhile is not taken from the reserve instead. The second file may take of the
    /// reserve, as at a start: of a ring of one file a checkpoint frees none, and once that is full nothing is taken
    /// any more, also no deletion, which alone would make room.
    fn grow_ring(&self) {
        let (number, files) = {
            let writer = lock(&self.writer);
            (writer.next_file_number, writer.journal.files())
        };
        if files >= self.config.journal_files {
            return;
        }
        let (first, full) = (self.config.first_journal_file_bytes, self.config.journal_file_bytes);
        let (wanted, kept_free) =
            if files < RING_FILES_FIRST { (first, 0) } else { (full, self.config.reserve_bytes) };
        // On a storage that is nearly full the ring makes do with small files.
        let free = self.ring_room(kept_free);
        let file_bytes = [wanted, first].into_iter().find(|bytes| *bytes <= free);
        let made = file_bytes.and_then(|file_bytes| self.make_ring_file(number, file_bytes, kept_free));
        let mut writer = lock(&self.writer);
        writer.ring_grows = made.as_ref().is_some_and(|file| file.file_bytes >= wanted);
        if let Some(file) = made {
            writer.next_file_number = number + 1;
            writer.journal.add_free(file);
        }
    }

    fn make_ring_file(&self, number: u64, file_bytes: u64, kept_free: u64) -> Option<RingFile> {
        let mut begun = Instant::now();
        let rest = || -> io::Result<()> {
            let goes_on = !self.config.background || self.maintenance.rest(begun.elapsed());
            begun = Instant::now();
            if !goes_on {
                return Err(io::ErrorKind::Interrupted.into());
            }
            match self.storage.free_bytes() {
                Ok(free) if free < kept_free.saturating_add(FILL_STEP_BYTES) => {
                    Err(io::ErrorKind::StorageFull.into())
                }
                // What cannot be measured is not held against it: the write itself will tell.
                _ => Ok(()),
            }
        };
        let steps = FillSteps { write: FILL_WRITE_BYTES, sync: FILL_STEP_BYTES, past: FILL_PAST_BYTES };
        let made = RingFile::create_in_steps(&*self.storage, number, file_bytes, steps, rest);
        // Nothing of the log is in that file yet.
        made.inspect_err(|error| {
            if !self.maintenance.is_stopping() {
                tracing::warn!(%error, "the journal goes on with the files that it has");
            }
        })
        .ok()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, mpsc};

    use super::*;
    use crate::journal;
    use crate::limits::BUFFER_BYTES;
    use crate::storage::{FaultyStorage, MemoryStorage, Storage as _};
    use crate::{Log, LogConfig, SystemClock, SystemEntropy};

    /// Longer than any test may take: it ends because of what is tested, or not at all.
    const LONG: Duration = Duration::from_secs(3600);

    #[test]
    fn nobody_rests_while_somebody_waits() {
        let maintenance = Maintenance::default();
        std::thread::scope(|scope| {
            let resting = scope.spawn(|| maintenance.rest(LONG));
            lock(&maintenance.asked).waiting += 1;
            maintenance.notify();
            assert!(resting.join().expect("it does not panic"));
        });
        assert!(maintenance.rest(LONG));
    }

    /// The work that is under way is waited for, and no other is asked for.
    #[test]
    fn a_round_is_over_when_its_work_is_done() {
        let maintenance = Maintenance::default();
        maintenance.await_round(|| false);
        lock(&maintenance.asked).busy = true;
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| maintenance.await_round(|| false));
            while lock(&maintenance.asked).waiting == 0 {
                std::thread::yield_now();
            }
            {
                let mut asked = lock(&maintenance.asked);
                assert!(!asked.is_something());
                asked.busy = false;
                asked.rounds += 1;
            }
            maintenance.notify();
            waiting.join().expect("it does not panic");
        });
        assert_eq!(lock(&maintenance.asked).waiting, 0);
        lock(&maintenance.asked).busy = true;
        maintenance.await_round(|| true);
        maintenance.stop();
        maintenance.await_round(|| false);
    }

    #[test]
    fn a_rest_ends_by_itself_and_when_the_log_stops() {
        let maintenance = Maintenance::default();
        let begun = Instant::now();
        assert!(maintenance.rest(Duration::from_millis(2)));
        assert!(begun.elapsed() >= Duration::from_millis(2));
        maintenance.stop();
        assert!(!maintenance.rest(LONG), "what it does is not wanted any more");
    }

    /// Symptom: a log on a disk that filled up while its ring grew had less than the reserve left for a checkpoint.
    /// Cause: the room for a file was looked at before its first step, and appends went on beside all of them. Fix:
    /// it is looked at before each step.
    #[test]
    fn a_file_that_would_eat_into_the_reserve_is_given_up() {
        const RESERVE: u64 = 1024 * 1024;
        const FILE: u64 = 8 * FILL_STEP_BYTES;
        let storage = FaultyStorage::new(1, 64 * 1024 * 1024);
        let mut config = LogConfig::new(Arc::new(SystemClock), Arc::new(SystemEntropy));
        (config.reserve_bytes, config.background) = (RESERVE, false);
        (config.first_journal_file_bytes, config.journal_file_bytes) = (64 * 1024, FILE);
        let (log, _) = Log::open(Arc::new(storage.clone()), config).expect("opens");
        let inner = &log.inner;
        let files = || lock(&inner.writer).journal.files();
        let before = files();
        storage.set_free_bytes(RESERVE + FILE);
        let mut steps = 0;
        storage.set_hook(Box::new(move |storage, _, what| {
            steps += u64::from(what == "sync_data");
            if what == "sync_data" && steps == 2 {
                // Others have taken all but this.
                storage.set_free_bytes(RESERVE + FILL_STEP_BYTES - 1);
            }
        }));
        inner.grow_ring();
        storage.clear_hook();
        assert_eq!(files(), before);
        assert!(storage.list(journal::DIR).expect("lists").iter().all(|name| !name.ends_with(".new")));
        assert_eq!(storage.free_bytes().expect("it is alive"), RESERVE + 3 * FILL_STEP_BYTES - 1);
        storage.set_free_bytes(RESERVE + FILE);
        inner.grow_ring();
        assert_eq!(files(), before + 1, "with room enough it is made");
    }

    /// Symptom: where others filled the disk while a log began, nothing was taken any more once the first file of the
    /// journal was full, also no deletion, until it was started anew. Cause: the second file was made only where it left
    /// the reserve free, and of a ring of one file a checkpoint frees none. Fix: it may take of the reserve, as at a
    /// start.
    #[test]
    fn the_second_file_may_take_of_the_reserve() {
        const RESERVE: u64 = 4 * FILL_STEP_BYTES;
        const FILE: u64 = 2 * FILL_STEP_BYTES;
        let storage = FaultyStorage::new(1, 64 * 1024 * 1024);
        let mut config = LogConfig::new(Arc::new(SystemClock), Arc::new(SystemEntropy));
        (config.reserve_bytes, config.background) = (RESERVE, false);
        (config.first_journal_file_bytes, config.journal_file_bytes) = (FILE, FILE);
        let (log, _) = Log::open(Arc::new(storage.clone()), config).expect("opens");
        let inner = &log.inner;
        let files = || lock(&inner.writer).journal.files();
        // As a start with threads leaves it.
        lock(&inner.writer).journal.release(0, 1);
        assert_eq!(files(), 1);
        storage.set_free_bytes(FILE - 1);
        inner.grow_ring();
        assert_eq!(files(), 1, "there is no room at all");
        storage.set_free_bytes(RESERVE);
        inner.grow_ring();
        assert_eq!(files(), 2);
        inner.grow_ring();
        assert_eq!(files(), 2, "the third one leaves the reserve free");
    }

    /// Symptom: a checkpoint that found no room gave away the file that holds some, and found none again. Cause: a
    /// thread of the log was adding to that file, and took the room for what had no name any more. Fix: one after the
    /// other.
    #[test]
    fn room_is_not_given_away_while_it_is_filled() {
        const FILE: u64 = 64 * 1024;
        let storage = FaultyStorage::new(1, 64 * 1024 * 1024);
        let mut config = LogConfig::new(Arc::new(SystemClock), Arc::new(SystemEntropy));
        config.reserve_bytes = 0;
        (config.first_journal_file_bytes, config.journal_file_bytes) = (FILE, FILE);
        let (log, _) = Log::open(Arc::new(storage.clone()), config).expect("opens");
        let inner = log.inner.clone();
        let is_at_work = || {
            let asked = lock(&inner.maintenance.asked);
            asked.busy || asked.is_something()
        };
        // What a start leaves to the thread.
        while is_at_work() {
            std::thread::yield_now();
        }
        let (tells, told) = mpsc::channel();
        let looked_at = inner.clone();
        storage.set_hook(Box::new(move |_, _, what| {
            if what == "write" && std::thread::current().name() == Some("courant-maintain") {
                let _ = tells.send(looked_at.checkpointing.try_lock().is_err());
            }
        }));
        inner.keep_reserve(1024 * 1024);
        let is_held = told.recv_timeout(Duration::from_secs(120)).expect("room is held");
        storage.clear_hook();
        assert!(is_held, "a checkpoint may be taken meanwhile");
    }

    /// Symptom: on a full disk a topic was deleted, room was made for a checkpoint, and the room of the topic did not
    /// come back, for hours. Cause: a checkpoint that had found no room was tried again when the journal needed one,
    /// and a log that refuses appends hardly fills its journal. Fix: it is tried again from time to time.
    #[test]
    fn a_checkpoint_that_found_no_room_is_tried_again_by_itself() {
        let storage = FaultyStorage::new(1, 64 * 1024 * 1024);
        let mut config = LogConfig::new(Arc::new(SystemClock), Arc::new(SystemEntropy));
        config.reserve_bytes = 0;
        (config.first_journal_file_bytes, config.journal_file_bytes) = (64 * 1024, 64 * 1024);
        let (log, _) = Log::open(Arc::new(storage.clone()), config).expect("opens");
        let inner = &log.inner;
        let is_at_work = || {
            let asked = lock(&inner.maintenance.asked);
            asked.busy || asked.is_something()
        };
        let settle = || {
            while is_at_work() {
                std::thread::yield_now();
            }
        };
        settle();
        let is_asked_for = || {
            let before = log.metrics().checkpoints;
            inner.look();
            // In this order: what is done was asked for.
            is_at_work() || log.metrics().checkpoints > before
        };
        assert!(!is_asked_for(), "none has failed");
        // Others take all room, also what is given away.
        storage.set_hook(Box::new(|storage, _, _| storage.set_free_bytes(0)));
        storage.set_free_bytes(0);
        inner.request_checkpoint();
        settle();
        assert!(matches!(lock(&inner.maintenance.asked).failed, Some(WriterError::DiskFull { .. })));
        storage.clear_hook();
        storage.set_free_bytes(32 * 1024 * 1024);
        assert!(!is_asked_for(), "that would be a line in the server's log for every look");
        lock(&inner.maintenance.asked).retry_at = Some(Instant::now());
        assert!(is_asked_for(), "it is not tried again");
        settle();
        assert!(lock(&inner.maintenance.asked).failed.is_none());
        assert!(!is_asked_for(), "it has been stored");
    }

    /// Symptom: a log that was read for a while, and not appended to, kept eight mebibytes for reads as long as it
    /// ran. Cause: they were given back behind the last append alone. Fix: they are looked at from time to time.
    #[test]
    fn what_reads_have_needed_is_given_back_also_where_nobody_appends() {
        let mut config = LogConfig::new(Arc::new(SystemClock), Arc::new(SystemEntropy));
        (config.reserve_bytes, config.background) = (0, false);
        let (log, _) = Log::open(Arc::new(MemoryStorage::new(64 * 1024 * 1024)), config).expect("opens");
        let inner = &log.inner;
        log.seal();
        let read = inner.buffers.take(BUFFER_BYTES);
        assert!(read.is_some());
        log.seal();
        inner.look();
        assert_eq!(inner.buffers.made(), 1, "somebody has it");
        drop(read);
        inner.look();
        inner.look();
        assert_eq!(inner.buffers.made(), 0);
    }
}
