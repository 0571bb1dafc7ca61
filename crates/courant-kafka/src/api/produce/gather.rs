//! Collects the results of one Produce, which arrive from the log one by one, on its thread.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use courant_log::Appended;
use tokio::sync::oneshot;

use super::{Memory, Refused};
use crate::budget::{Budget, Grant};
use crate::limits;
use crate::wire::ErrorCode;
use crate::wire::messages::{BatchIndexAndErrorMessage, PartitionProduceResponse, ProduceResponse};

/// Index of a topic and of a partition in the request, and so in the answer.
type At = (usize, usize);

/// The answer to a Produce, and the memory that the answer itself takes.
#[derive(Debug)]
pub(in crate::api) struct Settled {
    pub(in crate::api) response: ProduceResponse,
    pub(in crate::api) grant: Grant,
}

/// One share in an answer that is sent when the last share is settled.
///
/// Each result takes microseconds under the lock: it may run on the log's committing thread.
#[derive(Debug)]
pub(super) struct Gather(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    response: ProduceResponse,
    /// Results to come, plus one while the request is still being submitted.
    open: usize,
    done: Option<oneshot::Sender<Settled>>,
    /// Covers the batches, which are in memory until the last result is here.
    memory: Memory,
    /// Records that the answer names.
    named: usize,
}

impl Gather {
    /// Collects into `response` and sends it to `done`. Until then `memory` is taken.
    pub(super) fn new(response: ProduceResponse, memory: Memory, done: oneshot::Sender<Settled>) -> Self {
        Self(Arc::new(Mutex::new(State { response, open: 1, done: Some(done), memory, named: 0 })))
    }

    /// Takes memory for a batch that has become so many bytes larger than what was sent. False where there is
    /// none: nobody waits here, who sends it again does.
    pub(super) fn grow(&self, budget: &Budget, bytes: usize) -> bool {
        bytes == 0 || budget.try_more(&mut self.lock().memory.grant, bytes)
    }

    /// Leaves of the records that are to blame those that the answer may name, and none where there is no memory
    /// for them: then the whole batch is to blame, which is what a client does with it anyway.
    pub(super) fn name(&self, budget: &Budget, records: &mut Vec<usize>) {
        let mut state = self.lock();
        records.truncate(limits::RECORD_ERRORS_MAX - state.named);
        let bytes = records.len() * limits::RECORD_ERROR_BYTES;
        if !budget.try_more(&mut state.memory.grant, bytes) {
            records.clear();
            return;
        }
        state.named += records.len();
        state.memory.answer_bytes += bytes;
    }

    /// A share for one batch. It must be settled once, by `stored` or `refuse`.
    pub(super) fn one_more(&self) -> Share {
        self.lock().open += 1;
        Share(Self(Arc::clone(&self.0)))
    }

    /// Notes a batch that never went to the log.
    pub(super) fn refuse(&self, at: At, refused: Refused) {
        set_refused(&mut self.lock().response, at, refused);
    }

    /// Notes the time that a batch was given.
    pub(super) fn at_time(&self, at: At, append_time_ms: i64) {
        if let Some(partition) = partition(&mut self.lock().response, at) {
            partition.log_append_time_ms = append_time_ms;
        }
    }

    /// Says that every batch of the request was handed over.
    pub(super) fn submitted(self) {
        self.settle();
    }

    fn settle(&self) {
        let mut state = self.lock();
        state.open -= 1;
        if state.open == 0
            && let Some(done) = state.done.take()
        {
            let response = std::mem::take(&mut state.response);
            let mut grant = std::mem::take(&mut state.memory.grant);
            grant.shrink_to(state.memory.answer_bytes);
            let in_flight = std::mem::take(&mut state.memory.in_flight);
            drop(state);
            // Before the answer, which another thread takes up at once.
            drop(in_flight);
            // Nobody listens when the client is gone. What was stored stays stored.
            let _ = done.send(Settled { response, grant });
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change of the state is complete before anything can panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right and the duty to report one batch.
#[derive(Debug)]
pub(super) struct Share(Gather);

impl Share {
    /// The batch is on disk.
    pub(super) fn stored(self, at: At, appended: &Appended) {
        if let Some(partition) = partition(&mut self.0.lock().response, at) {
            partition.error_code = ErrorCode::NONE.0;
            partition.base_offset = offset(appended.base_offset);
            partition.log_start_offset = offset(appended.log_start);
        }
        self.0.settle();
    }

    /// The log did not take the batch.
    pub(super) fn refuse(self, at: At, refused: Refused) {
        self.0.refuse(at, refused);
        self.0.settle();
    }
}

fn offset(offset: u64) -> i64 {
    i64::try_from(offset).unwrap_or(i64::MAX)
}

fn partition(response: &mut ProduceResponse, at: At) -> Option<&mut PartitionProduceResponse> {
    response.responses.get_mut(at.0)?.partition_responses.get_mut(at.1)
}

fn set_refused(response: &mut ProduceResponse, at: At, refused: Refused) {
    let Some(partition) = partition(response, at) else {
        return;
    };
    let blamed = |index: &usize| BatchIndexAndErrorMessage {
        batch_index: i32::try_from(*index).unwrap_or(i32::MAX),
        batch_index_error_message: None,
    };
    partition.error_code = refused.code.0;
    partition.log_append_time_ms = -1;
    partition.log_start_offset = refused.log_start.map_or(-1, offset);
    partition.record_errors = refused.records.iter().map(blamed).collect();
    partition.error_message = Some(refused.message);
}
