//! What waits for the committer, in the order of its arrival.

mod returns;

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use uuid::Uuid;

use self::returns::Returns;
use crate::batch::Batch;
use crate::error::{
    AcceptGapError, AddPartitionsError, AlterTopicError, AppendError, CreateTopicError, DeleteRecordsError,
    DeleteTopicError, GroupError, ReplaceError, WriterError,
};
use crate::groups::GroupChange;
use crate::journal::EntryWriter;
use crate::limits::{
    CONFIGS_PER_TOPIC_MAX, GROUP_ENTRIES_MAX, QUEUED_BYTES_MAX, QUEUED_COMMANDS_MAX, TOPIC_CONFIGS_BYTES_MAX,
};
use crate::planted::{Defect, is_planted};
use crate::segment::Segment;
use crate::{Appended, NewTopic, PartitionId, Topic, lock};

/// Groups of one command in a row after which the next one is expected to be one too.
const LONE_MIN: usize = 8;

/// Called once with the result, after every lock is released.
pub(crate) type Done<T, E> = Box<dyn FnOnce(Result<T, E>) + Send>;

/// One thing to commit.
pub(crate) enum Command {
    Append {
        partition: PartitionId,
        batch: Batch,
        done: Done<Appended, AppendError>,
    },
    CreateTopic {
        new: NewTopic,
        done: Done<Arc<Topic>, CreateTopicError>,
    },
    AlterTopic {
        id: Uuid,
        /// What the changes follow from. They are refused when its configs are others by then.
        seen: Option<Arc<Topic>>,
        /// New values by name; `None` takes a config back to its default.
        changes: Vec<(String, Option<String>)>,
        done: Done<Arc<Topic>, AlterTopicError>,
    },
    AddPartitions {
        id: Uuid,
        total: u32,
        done: Done<Arc<Topic>, AddPartitionsError>,
    },
    DeleteTopic {
        id: Uuid,
        done: Done<(), DeleteTopicError>,
    },
    DeleteRecords {
        partition: PartitionId,
        before: u64,
        done: Done<u64, DeleteRecordsError>,
    },
    AcceptGap {
        partition: PartitionId,
        offsets: Range<u64>,
        done: Done<(), AcceptGapError>,
    },
    ReplaceSegments {
        partition: PartitionId,
        end_offset: u64,
        product: Arc<Segment>,
        done: Done<(), ReplaceError>,
    },
    ChangeGroup {
        name: String,
        change: GroupChange,
        done: Done<(), GroupError>,
    },
    AllocateProducerId {
        done: Done<i64, WriterError>,
    },
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Append { .. } => "Append",
            Self::CreateTopic { .. } => "CreateTopic",
            Self::AlterTopic { .. } => "AlterTopic",
            Self::AddPartitions { .. } => "AddPartitions",
            Self::DeleteTopic { .. } => "DeleteTopic",
            Self::DeleteRecords { .. } => "DeleteRecords",
            Self::AcceptGap { .. } => "AcceptGap",
            Self::ReplaceSegments { .. } => "ReplaceSegments",
            Self::ChangeGroup { .. } => "ChangeGroup",
            Self::AllocateProducerId { .. } => "AllocateProducerId",
        };
        f.write_str(name)
    }
}

impl Command {
    /// An upper bound of the bytes that the command takes in a group, a new segment's entry included.
    pub(crate) fn group_bytes(&self) -> usize {
        const SMALL: usize = 160;
        match self {
            Self::Append { batch, .. } => EntryWriter::append_bytes(batch.bytes().len()) + SMALL,
            Self::CreateTopic { new, .. } => {
                let configs = new.configs.iter().map(|(name, value)| name.len() + value.len() + 4);
                SMALL + new.name.as_str().len() + configs.sum::<usize>()
            }
            // The entry has all configs of the topic, those that are not changed included.
            Self::AlterTopic { .. } => SMALL + TOPIC_CONFIGS_BYTES_MAX + CONFIGS_PER_TOPIC_MAX * 4,
            Self::ChangeGroup { name, change, .. } => SMALL + name.len() + change.bytes(),
            Self::AddPartitions { .. }
            | Self::DeleteTopic { .. }
            | Self::DeleteRecords { .. }
            | Self::AcceptGap { .. }
            | Self::ReplaceSegments { .. }
            | Self::AllocateProducerId { .. } => SMALL,
        }
    }

    /// The same bytes, where the command changes a consumer group.
    fn group_change_bytes(&self) -> usize {
        if matches!(self, Self::ChangeGroup { .. }) { self.group_bytes() } else { 0 }
    }

    /// Whether the command needs room in the segments or in every later checkpoint. Groups are let
    /// through: a consumer that cannot commit could not help to make room either.
    pub(crate) fn grows(&self) -> bool {
        matches!(self, Self::Append { .. } | Self::CreateTopic { .. } | Self::AddPartitions { .. })
    }

    pub(crate) fn refuse(self, error: WriterError) {
        match self {
            Self::Append { done, .. } => done(Err(error.into())),
            Self::CreateTopic { done, .. } => done(Err(error.into())),
            Self::AlterTopic { done, .. } => done(Err(error.into())),
            Self::AddPartitions { done, .. } => done(Err(error.into())),
            Self::DeleteTopic { done, .. } => done(Err(error.into())),
            Self::DeleteRecords { done, .. } => done(Err(error.into())),
            Self::AcceptGap { done, .. } => done(Err(error.into())),
            Self::ReplaceSegments { done, .. } => done(Err(error.into())),
            Self::ChangeGroup { done, .. } => done(Err(error.into())),
            Self::AllocateProducerId { done } => done(Err(error)),
        }
    }
}

/// Why the committer was woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Woken {
    Work,
    Idle,
    /// Another thread has committed: what the committer waits for may have changed.
    LookAgain,
    Stop,
}

/// What the committer is to do about a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Push {
    /// It begins.
    Now,
    /// Nothing, until somebody wakes it.
    Quietly,
    /// It begins, unless it waits for several callers of this kind who have not all come.
    Awaited,
}

#[derive(Debug, Default)]
struct State {
    commands: VecDeque<Command>,
    bytes: usize,
    /// Those of them that are changes of groups.
    group_bytes: usize,
    /// Those whose callers bring nothing more before they are answered; at least so many, where not all that waited
    /// was taken.
    awaited: usize,
    /// Whether such callers come back when they are answered.
    returns: Returns,
    /// Another thread has committed since the committer looked.
    look_again: bool,
    /// The committer waits for work alone.
    is_unbounded: bool,
    stopping: bool,
}

impl State {
    /// How long the committer may wait for those who were answered last, if it is worth a wait.
    fn begin_wait(&mut self) -> Option<Duration> {
        // Nobody is kept waiting but those who gain by it.
        let is_theirs = self.awaited == self.commands.len();
        if self.stopping || !is_theirs {
            return None;
        }
        self.returns.begin(self.commands.is_empty())
    }
}

/// The committer's queue.
#[derive(Debug)]
pub(crate) struct Queue {
    /// Bytes of changes of groups that may wait. One waits whatever its size.
    group_bytes_max: usize,
    state: Mutex<State>,
    arrived: Condvar,
    /// Commands that wait, for who looks again and again and must not hold up those who bring some.
    count: AtomicUsize,
    /// How often in a row a single command was taken.
    lone: AtomicUsize,
    /// The first of the commands that wait has woken nobody, or one of them that came while the committer waited for
    /// others. Changed under the lock alone.
    owes_wake: AtomicBool,
}

impl Queue {
    /// One in which changes of groups take so many bytes at most.
    pub(crate) fn new(group_bytes_max: usize) -> Self {
        Self {
            group_bytes_max,
            state: Mutex::default(),
            arrived: Condvar::new(),
            count: AtomicUsize::new(0),
            lone: AtomicUsize::new(0),
            owes_wake: AtomicBool::new(false),
        }
    }

    /// Queues a command, or gives it back with the reason why not.
    pub(crate) fn push(&self, command: Command) -> Result<(), Box<(Command, WriterError)>> {
        self.put(command, Push::Now).map(|wakes| self.notify(wakes))
    }

    /// As [`Queue::push`], for a caller who brings nothing more before the answer.
    pub(crate) fn push_awaited(&self, command: Command) -> Result<(), Box<(Command, WriterError)>> {
        self.put(command, Push::Awaited).map(|wakes| self.notify(wakes))
    }

    /// As [`Queue::push`], and wakes nobody. Whoever calls this calls [`Queue::wake`] soon.
    pub(crate) fn push_quietly(&self, command: Command) -> Result<(), Box<(Command, WriterError)>> {
        self.put(command, Push::Quietly).map(drop)
    }

    /// Wakes the committer for what was pushed quietly, unless somebody has seen to that.
    pub(crate) fn wake(&self) {
        // What this thread has pushed it sees; others see to theirs.
        if !self.owes_wake.load(Ordering::Relaxed) {
            return;
        }
        let mut state = lock(&self.state);
        let wakes = self.owes_wake.swap(false, Ordering::Relaxed);
        if wakes {
            state.returns.end();
        }
        drop(state);
        self.notify(wakes);
    }

    fn notify(&self, wakes: bool) {
        if wakes {
            self.arrived.notify_one();
        }
    }

    /// Queues a command. True when the committer is to be woken for it now.
    fn put(&self, command: Command, how: Push) -> Result<bool, Box<(Command, WriterError)>> {
        // Before the lock, for which others may wait.
        let bytes = command.group_bytes();
        let of_group = command.group_change_bytes();
        let mut state = lock(&self.state);
        if state.stopping {
            return Err(Box::new((command, WriterError::Stopped)));
        }
        let full = state.bytes + bytes > QUEUED_BYTES_MAX || state.commands.len() >= QUEUED_COMMANDS_MAX;
        let is_full_of_groups = of_group > 0
            && state.group_bytes > 0
            && state.group_bytes.saturating_add(of_group) > self.group_bytes_max;
        if is_full_of_groups || (full && !state.commands.is_empty()) {
            return Err(Box::new((command, WriterError::Busy)));
        }
        state.bytes += bytes;
        state.group_bytes += of_group;
        state.commands.push_back(command);
        self.count.store(state.commands.len(), Ordering::Relaxed);
        // The committer takes all that waits: only the first one after that needs to wake it.
        let first = state.commands.len() == 1;
        match how {
            Push::Quietly => {
                // Whoever wakes the committer for this one ends its wait for others.
                if first || state.returns.is_awaited() {
                    self.owes_wake.store(true, Ordering::Relaxed);
                }
                Ok(false)
            }
            Push::Awaited => {
                state.awaited += 1;
                let was_awaited = state.returns.is_awaited();
                state.returns.come();
                // The last of those for whom the committer waits wakes it. Otherwise what is there already has woken
                // it, or its owner will.
                Ok(if was_awaited { !state.returns.is_awaited() } else { first })
            }
            Push::Now => {
                let ends_wait = state.returns.end();
                Ok(self.owes_wake.swap(false, Ordering::Relaxed) || first || ends_wait)
            }
        }
    }

    /// Queues a command that its own thread takes at once: nobody is woken. Gives it back when others wait.
    pub(crate) fn push_alone(&self, command: Command) -> Option<Command> {
        let mut state = lock(&self.state);
        let others_wait = !state.commands.is_empty() && !is_planted(Defect::LoneOvertakes);
        if state.stopping || others_wait {
            return Some(command);
        }
        state.bytes += command.group_bytes();
        state.group_bytes += command.group_change_bytes();
        state.commands.push_front(command);
        self.count.store(state.commands.len(), Ordering::Relaxed);
        None
    }

    /// Lets the committer know of a commit by another thread, if it has to: of what that one has left, and
    /// that the journal is to be sealed again.
    pub(crate) fn committed_aside(&self, was_sealed: bool) {
        let mut state = lock(&self.state);
        state.look_again = true;
        // Behind a command that woke nobody the others have not either.
        let wakes = was_sealed || state.is_unbounded || !state.commands.is_empty();
        drop(state);
        if wakes {
            self.arrived.notify_one();
        }
    }

    /// Whether only single commands have been taken for a while.
    pub(crate) fn is_lone(&self) -> bool {
        self.lone.load(Ordering::Relaxed) >= LONE_MIN
    }

    /// Everything that waits, up to a group's worth.
    pub(crate) fn take(&self, bytes_max: usize) -> Vec<Command> {
        let mut state = lock(&self.state);
        let mut taken = Vec::with_capacity(state.commands.len().min(GROUP_ENTRIES_MAX / 2));
        let (mut sum, mut of_groups) = (0, 0);
        while let Some(next) = state.commands.front() {
            let bytes = next.group_bytes();
            if !taken.is_empty() && (sum + bytes > bytes_max || taken.len() >= GROUP_ENTRIES_MAX / 2) {
                break;
            }
            sum += bytes;
            of_groups += next.group_change_bytes();
            taken.extend(state.commands.pop_front());
        }
        state.bytes = state.bytes.saturating_sub(sum);
        state.group_bytes = state.group_bytes.saturating_sub(of_groups);
        // Whoever takes comes again for what is left, or lets the committer know of it.
        self.owes_wake.store(false, Ordering::Relaxed);
        if !taken.is_empty() {
            let callers = state.awaited.min(taken.len());
            state.awaited -= callers;
            state.returns.take(callers);
        }
        match taken.len() {
            0 => {}
            1 => {
                self.lone.fetch_add(1, Ordering::Relaxed);
            }
            _ => self.lone.store(0, Ordering::Relaxed),
        }
        self.count.store(state.commands.len(), Ordering::Relaxed);
        taken
    }

    /// Notes that what was taken is about to be answered.
    pub(crate) fn answering(&self) {
        let mut state = lock(&self.state);
        let waiting = state.awaited;
        state.returns.answer(waiting);
    }

    /// How many commands wait now, without a lock.
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Waits for work; at most `idle_after`, if given, and for those who were answered last before.
    pub(crate) fn wait(&self, idle_after: Option<Duration>) -> Woken {
        let mut state = lock(&self.state);
        state.is_unbounded = idle_after.is_none();
        state = self.wait_for_returns(state);
        loop {
            if !state.commands.is_empty() {
                return Woken::Work;
            }
            if state.stopping {
                return Woken::Stop;
            }
            if std::mem::take(&mut state.look_again) {
                return Woken::LookAgain;
            }
            match idle_after {
                None => state = self.arrived.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(time) => {
                    let waited = self.arrived.wait_timeout(state, time);
                    let (guard, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
                    state = guard;
                    if timeout.timed_out() && state.commands.is_empty() && !state.stopping {
                        return Woken::Idle;
                    }
                }
            }
        }
    }

    /// Waits until those who were answered last have come again, as far as that has been worth it.
    fn wait_for_returns<'a>(&self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let Some(patience) = state.begin_wait() else { return state };
        let until = Instant::now() + patience;
        while state.returns.is_awaited() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let waited = self.arrived.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.returns.settle(Instant::now() >= until);
        state
    }

    /// Takes no more commands; those that wait are still committed.
    pub(crate) fn stop(&self) {
        let mut state = lock(&self.state);
        state.stopping = true;
        state.returns.end();
        drop(state);
        self.arrived.notify_all();
    }

    pub(crate) fn is_stopping(&self) -> bool {
        lock(&self.state).stopping
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command() -> Command {
        Command::AllocateProducerId { done: Box::new(|_| {}) }
    }

    fn push(queue: &Queue) {
        assert!(queue.push(command()).is_ok());
    }

    #[test]
    fn whoever_commits_itself_waits_behind_others_and_comes_too_late_for_a_stop() {
        let queue = Queue::new(usize::MAX);
        push(&queue);
        assert!(queue.push_alone(command()).is_some());
        assert_eq!(queue.take(usize::MAX).len(), 1);
        assert!(queue.push_alone(command()).is_none());
        assert_eq!((queue.count(), queue.take(usize::MAX).len(), queue.count()), (1, 1, 0));
        queue.stop();
        assert!(queue.push_alone(command()).is_some());
    }

    fn change(bytes: usize) -> Command {
        let change = GroupChange::Store(vec![7; bytes].into());
        Command::ChangeGroup { name: "billing".to_owned(), change, done: Box::new(|_| {}) }
    }

    /// What waits of groups has a bound of its own, which stops nothing else; one is taken whatever its size.
    #[test]
    fn changes_of_groups_wait_within_their_bound() {
        let queue = Queue::new(10_000);
        assert!(queue.push(change(50_000)).is_ok(), "it is the only one");
        let (back, error) = *queue.push(change(1)).expect_err("there is no room");
        assert!(matches!((back, error), (Command::ChangeGroup { .. }, WriterError::Busy)));
        push(&queue);
        assert_eq!(queue.take(usize::MAX).len(), 2);
        for _ in 0..2 {
            assert!(queue.push(change(4_000)).is_ok());
        }
        assert!(queue.push(change(4_000)).is_err());
        assert_eq!(queue.take(1).len(), 1, "with one taken there is room again");
        assert!(queue.push(change(4_000)).is_ok());
        assert_eq!(queue.take(usize::MAX).len(), 2);
        assert_eq!(lock(&queue.state).group_bytes, 0);
    }

    fn push_awaited(queue: &Queue) {
        assert!(queue.push_awaited(command()).is_ok());
    }

    /// Answers a group of two callers who await that, while a third one has come, and lets a committer that is patient
    /// come by. Calls `then` once it waits for them, and tells what it was woken for.
    fn awaiting_returns(queue: &Queue, then: impl FnOnce()) -> Woken {
        answer_two(queue, 1);
        std::thread::scope(|scope| {
            let committer = scope.spawn(|| queue.wait(None));
            while !lock(&queue.state).returns.is_awaited() {
                assert!(!committer.is_finished(), "it does not wait");
                std::thread::yield_now();
            }
            then();
            committer.join().expect("it does not panic")
        })
    }

    /// Answers a group of two callers who await that, while so many others have come. The two may be waited for, for an
    /// hour.
    fn answer_two(queue: &Queue, waiting: usize) {
        push_awaited(queue);
        push_awaited(queue);
        assert_eq!(queue.take(usize::MAX).len(), 2);
        (0..waiting).for_each(|_| push_awaited(queue));
        queue.answering();
        lock(&queue.state).returns.patience = Duration::from_secs(3600);
    }

    /// Symptom: of 64 tasks that each waited for an event only half were in a group. Cause: what had come during a sync
    /// was taken before those were back whom that sync had answered, and they came during the next one, for ever. Fix:
    /// they are waited for.
    #[test]
    fn what_came_during_a_sync_is_taken_with_those_whom_it_has_answered() {
        let queue = Queue::new(usize::MAX);
        let woken = awaiting_returns(&queue, || {
            push_awaited(&queue);
            assert!(lock(&queue.state).returns.is_awaited(), "one is absent");
            push_awaited(&queue);
        });
        assert_eq!((woken, queue.take(usize::MAX).len()), (Woken::Work, 3));
    }

    /// The wait is for those who gain by it alone.
    #[test]
    fn nobody_else_waits_for_those_who_were_answered() {
        let queue = Queue::new(usize::MAX);
        let woken = awaiting_returns(&queue, || push(&queue));
        assert_eq!((woken, queue.take(usize::MAX).len()), (Woken::Work, 2));
        let woken = awaiting_returns(&queue, || {
            assert!(queue.push_quietly(command()).is_ok());
            assert!(lock(&queue.state).returns.is_awaited(), "there may be more at hand");
            queue.wake();
        });
        assert_eq!((woken, queue.take(usize::MAX).len()), (Woken::Work, 2));
        answer_two(&queue, 0);
        assert!(queue.push_quietly(command()).is_ok());
        assert_eq!((queue.wait(None), queue.take(usize::MAX).len()), (Woken::Work, 1));
        assert_eq!(awaiting_returns(&queue, || queue.stop()), Woken::Work);
    }

    /// What another thread takes meanwhile is gone, and the next one wakes the committer as ever.
    #[test]
    fn who_comes_when_another_thread_has_taken_what_waited_is_not_slept_through() {
        let queue = Queue::new(usize::MAX);
        let woken = awaiting_returns(&queue, || {
            assert_eq!(queue.take(usize::MAX).len(), 1);
            push_awaited(&queue);
        });
        assert_eq!((woken, queue.take(usize::MAX).len()), (Woken::Work, 1));
    }

    #[test]
    fn who_does_not_come_back_is_not_waited_for_long() {
        let patience = Duration::from_millis(1);
        for (waiting, woken) in [(1, Woken::Work), (0, Woken::Idle)] {
            let queue = Queue::new(usize::MAX);
            answer_two(&queue, waiting);
            lock(&queue.state).returns.patience = patience;
            let begun = Instant::now();
            assert_eq!(queue.wait(Some(patience)), woken);
            assert!(begun.elapsed() >= patience);
            assert_eq!(queue.take(usize::MAX).len(), waiting);
        }
    }

    /// Lets a committer wait for work alone, calls `bring` once it does, and tells what it was woken for.
    fn woken_by(queue: &Queue, bring: impl FnOnce()) -> Woken {
        std::thread::scope(|scope| {
            let committer = scope.spawn(|| queue.wait(None));
            // Said under the lock that it then gives back only to wait.
            while !lock(&queue.state).is_unbounded {
                std::thread::yield_now();
            }
            bring();
            committer.join().expect("it does not panic")
        })
    }

    #[test]
    fn what_is_pushed_quietly_is_committed_together_when_it_is_said_so() {
        let queue = Queue::new(usize::MAX);
        let woken = woken_by(&queue, || {
            for _ in 0..3 {
                assert!(queue.push_quietly(command()).is_ok());
            }
            assert!(queue.owes_wake.load(Ordering::Relaxed));
            queue.wake();
        });
        assert_eq!((woken, queue.take(usize::MAX).len()), (Woken::Work, 3));
    }

    /// Behind a command that has woken nobody, one that is not quiet is not the first, and wakes all the same.
    #[test]
    fn whoever_is_not_quiet_wakes_for_those_who_were() {
        let queue = Queue::new(usize::MAX);
        let woken = woken_by(&queue, || {
            assert!(queue.push_quietly(command()).is_ok());
            push(&queue);
        });
        assert_eq!(woken, Woken::Work);
        assert!(!queue.owes_wake.load(Ordering::Relaxed), "once is enough");
        assert_eq!(queue.take(usize::MAX).len(), 2);
    }

    #[test]
    fn what_was_taken_in_the_meantime_wakes_nobody() {
        let queue = Queue::new(usize::MAX);
        assert!(queue.push_quietly(command()).is_ok());
        assert_eq!(queue.wait(None), Woken::Work, "whoever looks sees it");
        assert_eq!(queue.take(usize::MAX).len(), 1);
        assert!(!queue.owes_wake.load(Ordering::Relaxed));
        push(&queue);
        assert!(queue.push_quietly(command()).is_ok());
        assert!(!queue.owes_wake.load(Ordering::Relaxed), "the first one has woken somebody");
        queue.stop();
        assert!(queue.push_quietly(command()).is_err());
    }

    #[test]
    fn one_group_of_several_ends_a_row_of_single_ones() {
        let queue = Queue::new(usize::MAX);
        for _ in 0..LONE_MIN {
            assert!(!queue.is_lone());
            push(&queue);
            queue.take(usize::MAX);
        }
        assert!(queue.is_lone());
        assert_eq!(queue.take(usize::MAX).len(), 0);
        assert!(queue.is_lone(), "nothing is no group");
        push(&queue);
        push(&queue);
        queue.take(usize::MAX);
        assert!(!queue.is_lone());
    }

    /// What arrives behind a command that commits itself wakes nobody. When its thread has taken only its own,
    /// as a full group does, the committer must learn of the rest, also when it waits for work alone.
    #[test]
    fn nothing_that_is_left_behind_is_slept_through() {
        let queue = Queue::new(usize::MAX);
        std::thread::scope(|scope| {
            let committer = scope.spawn(|| queue.wait(None));
            // Said under the lock that it then gives back only to wait.
            while !lock(&queue.state).is_unbounded {
                std::thread::yield_now();
            }
            assert!(queue.push_alone(command()).is_none());
            push(&queue);
            queue.committed_aside(false);
            assert_eq!(committer.join().expect("it does not panic"), Woken::Work);
            assert_eq!(queue.take(usize::MAX).len(), 2);
        });
    }

    #[test]
    fn a_committer_that_waits_for_work_alone_learns_that_there_is_something_to_seal() {
        let queue = Queue::new(usize::MAX);
        std::thread::scope(|scope| {
            let committer = scope.spawn(|| queue.wait(None));
            while !lock(&queue.state).is_unbounded {
                std::thread::yield_now();
            }
            assert!(queue.push_alone(command()).is_none());
            assert_eq!(queue.take(usize::MAX).len(), 1);
            queue.committed_aside(true);
            // It may have met the command before it was taken, and finds nothing then.
            let woken = committer.join().expect("it does not panic");
            assert!(matches!(woken, Woken::LookAgain | Woken::Work), "{woken:?}");
            if woken == Woken::Work {
                assert_eq!(queue.wait(None), Woken::LookAgain);
            }
        });
    }
}
