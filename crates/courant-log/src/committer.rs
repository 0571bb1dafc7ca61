//! Who commits: the committer's thread, or the thread of an append that has the log for itself.
//!
//! To hand an append to another thread and its answer back takes two wake-ups, which on a machine that has
//! little to do take about as long as the sync. Where groups have been of one command for a while, the
//! committer has nothing to add: it is there to make one sync of many. Nor has it where one thread brings all of
//! them.
//!
//! Invariant: one thread at a time, the one whose turn it is, takes from the queue and commits what it took,
//! or seals. So the order of the queue is the order of the journal.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, TryLockError};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use crate::batch::Batch;
use crate::inner::Inner;
use crate::limits::{SEAL_AFTER_EMPTY_GROUPS, SEAL_AFTER_IDLE_MS};
use crate::queue::{Command, Woken};
use crate::{AppendError, Appended, Log, PartitionId, lock};

/// Whose turn it is to commit.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    taken: Mutex<()>,
    holder: Mutex<Option<ThreadId>>,
    /// When a thread that is not the committer's has committed last.
    aside: Mutex<Option<Instant>>,
    /// Groups in a row of which nothing was written. Changed by whoever has the turn.
    empty_groups: AtomicU32,
}

/// It is this thread's turn for as long as this lives.
#[derive(Debug)]
pub(crate) struct Held<'a> {
    turn: &'a Turn,
    _taken: MutexGuard<'a, ()>,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        *lock(&self.turn.holder) = None;
    }
}

impl Turn {
    fn wait(&self) -> Held<'_> {
        self.held(lock(&self.taken))
    }

    fn try_now(&self) -> Option<Held<'_>> {
        match self.taken.try_lock() {
            Ok(taken) => Some(self.held(taken)),
            Err(TryLockError::Poisoned(poisoned)) => Some(self.held(poisoned.into_inner())),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    fn held<'a>(&'a self, taken: MutexGuard<'a, ()>) -> Held<'a> {
        *lock(&self.holder) = Some(thread::current().id());
        Held { turn: self, _taken: taken }
    }

    /// Whether it is this thread's turn: then it is in a callback.
    pub(crate) fn is_held_here(&self) -> bool {
        *lock(&self.holder) == Some(thread::current().id())
    }

    /// `None` when it is this thread's turn already.
    pub(crate) fn wait_unless_held(&self) -> Option<Held<'_>> {
        (!self.is_held_here()).then(|| self.wait())
    }

    /// Whether it is nobody's turn.
    fn is_free(&self) -> bool {
        lock(&self.holder).is_none()
    }

    /// Notes a group, and whether nothing of it was written.
    pub(crate) fn wrote_group(&self, is_empty: bool) {
        let before = if is_empty { self.empty_groups.load(Ordering::Relaxed) } else { 0 };
        self.empty_groups.store(before + u32::from(is_empty), Ordering::Relaxed);
    }

    /// Whether so many groups in a row were empty that the log counts as idle, once in so many. It is counted, and
    /// not timed, so that nothing that is refused costs a look at the clock.
    pub(crate) fn counts_as_idle(&self) -> bool {
        let is_idle = self.empty_groups.load(Ordering::Relaxed) >= SEAL_AFTER_EMPTY_GROUPS;
        if is_idle {
            self.empty_groups.store(0, Ordering::Relaxed);
        }
        is_idle
    }

    /// What is left of a time since another thread than the committer's has committed.
    fn left_of(&self, time: Duration) -> Option<Duration> {
        let since = (*lock(&self.aside))?.elapsed();
        time.checked_sub(since).filter(|left| !left.is_zero())
    }
}

impl Inner {
    /// The committer's thread.
    pub(crate) fn run_committer(&self) {
        let idle_after = Duration::from_millis(SEAL_AFTER_IDLE_MS);
        let mut may_seal = true;
        let mut patience = idle_after;
        loop {
            let sealed = lock(&self.writer).journal.sealed() || self.ended.get().is_some();
            let woken = self.queue.wait((!sealed && may_seal).then_some(patience));
            patience = idle_after;
            match woken {
                Woken::Stop => return,
                Woken::LookAgain => {
                    may_seal = true;
                    patience = self.turn.left_of(idle_after).unwrap_or(idle_after);
                }
                woken => {
                    if let (Woken::Idle, Some(left)) = (woken, self.turn.left_of(idle_after)) {
                        // Others have committed meanwhile.
                        patience = left;
                        continue;
                    }
                    let done = catch_unwind(AssertUnwindSafe(|| match woken {
                        // On a full ring and a full disk there is nowhere to seal until something
                        // changes.
                        Woken::Idle => {
                            let _turn = self.turn.wait();
                            // Who had the turn until now has committed.
                            self.turn.left_of(idle_after).is_some() || self.seal()
                        }
                        _ => {
                            let _turn = self.turn.wait();
                            self.commit()
                        }
                    }));
                    may_seal = done.unwrap_or_else(|_| {
                        self.end_because("the committer panicked, which is a defect");
                        false
                    });
                }
            }
        }
    }

    /// As [`Inner::commit`], for a thread that may not have the turn.
    pub(crate) fn commit_in_turn(&self) -> bool {
        let _turn = self.turn.wait_unless_held();
        self.commit()
    }

    /// As [`Inner::seal`], for a thread that may not have the turn.
    pub(crate) fn seal_in_turn(&self) {
        let _turn = self.turn.wait_unless_held();
        self.seal();
    }

    /// Commits a command on this thread when nobody else has anything to commit, and the last groups were of
    /// one command too. Gives it back otherwise. It is the same in a log without threads, so that the simulation
    /// comes here.
    fn commit_here(&self, command: Command) -> Option<Command> {
        if !self.queue.is_lone() {
            return Some(command);
        }
        let Some(turn) = self.turn.try_now() else { return Some(command) };
        // Only who has the turn seals.
        let was_sealed = lock(&self.writer).journal.sealed();
        if let Some(command) = self.queue.push_alone(command) {
            return Some(command);
        }
        self.commit_aside(turn, was_sealed);
        None
    }

    /// Commits what waits on this thread, or leaves it to the committer when it is somebody's turn.
    fn commit_waiting_here(&self) {
        // What this thread has brought was taken by somebody else, or it has brought nothing. That is no commit, and
        // the log as idle as before.
        if self.queue.count() == 0 {
            return;
        }
        let Some(turn) = self.turn.try_now() else { return self.queue.wake() };
        let was_sealed = lock(&self.writer).journal.sealed();
        self.commit_aside(turn, was_sealed);
    }

    /// Commits on this thread, whose turn it is.
    fn commit_aside(&self, turn: Held<'_>, was_sealed: bool) {
        match catch_unwind(AssertUnwindSafe(|| self.commit())) {
            Ok(true) => {}
            // Somebody else was here first.
            Ok(false) => return,
            Err(_) => {
                self.end_because("a commit panicked, which is a defect");
            }
        }
        *lock(&self.turn.aside) = Some(Instant::now());
        drop(turn);
        self.queue.committed_aside(was_sealed);
    }
}

impl Log {
    /// As [`Log::append`], for a caller that may wait for the disk: where nobody else appends, this thread
    /// commits the batch, and `done` is called on it before this returns. Elsewhere it is with the committer.
    pub fn append_here(
        &self,
        partition: PartitionId,
        batch: Batch,
        done: impl FnOnce(Result<Appended, AppendError>) + Send + 'static,
    ) {
        let command = Command::Append { partition, batch, done: Box::new(done) };
        if let Some(command) = self.inner.commit_here(command) {
            self.submit(command);
        }
    }

    /// As [`Log::append`], for a caller that awaits the answer before it appends again, as a task does that publishes
    /// one event after the other. Where several of them are answered together, the committer waits until they have
    /// come again, so that all of them go into one group: no longer than the last group took, and than
    /// [`RETURN_MAX_MICROS`](crate::limits::RETURN_MAX_MICROS), and hardly ever where that has brought nothing
    /// lately. It ends as soon as anybody appends in another way.
    pub fn append_awaited(
        &self,
        partition: PartitionId,
        batch: Batch,
        done: impl FnOnce(Result<Appended, AppendError>) + Send + 'static,
    ) {
        let command = Command::Append { partition, batch, done: Box::new(done) };
        if let Err(refused) = self.inner.queue.push_awaited(command) {
            let (command, error) = *refused;
            command.refuse(error);
        }
    }

    /// As [`Log::wake_committer`], for a caller that may wait for the disk: this thread commits what waits, whoever
    /// has brought it, and the callbacks are called on it before this returns. While somebody else commits, it is
    /// left to the committer.
    pub fn commit_here(&self) {
        self.inner.commit_waiting_here();
    }

    /// Whether nobody else seems to append, so that [`Log::append_here`] would commit on its caller's thread.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        let inner = &self.inner;
        inner.queue.is_lone() && inner.queue.count() == 0 && inner.turn.is_free()
    }
}
