//! What is answered when a group is committed, in order, and outside of every lock.

use std::sync::Arc;

use crate::partition::Partition;
use crate::queue::Done;
use crate::{AppendError, Appended};

/// One answer.
pub(super) enum Answer {
    /// A batch is in the log. Nearly all answers are this one, so it takes no memory of its own.
    Appended { partition: Arc<Partition>, base_offset: u64, done: Done<Appended, AppendError> },
    /// Any other.
    Other(Box<dyn FnOnce() + Send>),
}

impl Answer {
    /// Calls back.
    pub(super) fn give(self) {
        match self {
            Self::Appended { partition, base_offset, done } => {
                let log_start = partition.offsets().start;
                done(Ok(Appended { base_offset, log_start }));
            }
            Self::Other(answer) => answer(),
        }
    }
}

/// The answers of a group.
#[derive(Default)]
pub(super) struct Answers(Vec<Answer>);

impl Answers {
    /// Makes room for so many more.
    pub(super) fn reserve(&mut self, count: usize) {
        self.0.reserve(count);
    }

    /// A batch is in the log.
    pub(super) fn appended(
        &mut self,
        partition: Arc<Partition>,
        base_offset: u64,
        done: Done<Appended, AppendError>,
    ) {
        self.0.push(Answer::Appended { partition, base_offset, done });
    }

    /// Any other answer.
    pub(super) fn push(&mut self, answer: Box<dyn FnOnce() + Send>) {
        self.0.push(Answer::Other(answer));
    }

    /// All of them, in order. None is left, and the memory for as many more stays.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Answer> {
        self.0.drain(..)
    }
}

impl Extend<Box<dyn FnOnce() + Send>> for Answers {
    fn extend<T: IntoIterator<Item = Box<dyn FnOnce() + Send>>>(&mut self, answers: T) {
        self.0.extend(answers.into_iter().map(Answer::Other));
    }
}
