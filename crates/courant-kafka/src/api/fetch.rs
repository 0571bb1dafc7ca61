//! Fetch (key 1): batches out of the log, waiting for them when there are none.
//!
//! Versions: up to 12 topics are names, from 13 ids. There are no fetch sessions: the answer's
//! session id is always 0, which makes a client send whole requests (KIP-227), and topics to forget
//! are none that we remember.
//!
//! Waiting costs nothing: a waiter is registered with the log and no partition is read until as
//! many bytes as the client asked for have arrived, its time is up, or something went wrong.

mod pass;
mod plan;

use std::sync::Arc;

use courant_log::{Health, PartitionId};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use self::pass::Pass;
use self::plan::Plan;
use super::Answered;
use crate::broker::Caller;
use crate::budget::Grant;
use crate::wire::ErrorCode;
use crate::wire::messages::{FetchRequest, FetchResponse};

/// Answers a Fetch. Dropping the future ends its wait.
pub(super) async fn answer(
    caller: Arc<Caller>,
    request: FetchRequest,
    version: i16,
) -> Answered<FetchResponse> {
    // Epochs 0 and -1 carry the whole request; anything else continues a session (KIP-227).
    if request.session_id != 0 || request.session_epoch > 0 {
        let response =
            FetchResponse { error_code: ErrorCode::FETCH_SESSION_ID_NOT_FOUND.0, ..FetchResponse::default() };
        return Ok((response, Grant::default()));
    }
    let bytes_max = caller.broker.limits().fetch_bytes_max;
    let plan = Plan::new(&caller.log().catalog(), request, version, bytes_max);
    let mut last = plan.deadline <= Instant::now();
    loop {
        let pass = Pass::read(&caller, &plan).await;
        // An error is told at once: a client that waits for it would wait in vain.
        let enough = pass.bytes >= plan.bytes_min || pass.seen.is_empty();
        if last || enough || pass.failed || pass.starved {
            return Ok(pass.into_fetched());
        }
        let missing = (plan.bytes_min - pass.bytes) as u64;
        // What was read is dropped: nothing is held while waiting.
        let seen = pass.into_seen();
        last = !more_arrives(&caller, &seen, missing, plan.deadline).await;
    }
}

/// Waits until `missing` more bytes are readable. False: the time is up, or the server stops.
async fn more_arrives(caller: &Caller, seen: &[(PartitionId, u64)], missing: u64, deadline: Instant) -> bool {
    let (wake, woken) = oneshot::channel();
    let waiting = caller.log().wait(seen, missing, move || {
        // The Fetch may have been cancelled in the same moment.
        let _ = wake.send(());
    });
    let woken = tokio::select! {
        woken = timeout_at(deadline, woken) => matches!(woken, Ok(Ok(()))),
        () = caller.broker.stopped() => false,
    };
    drop(waiting);
    // A log that stops wakes every waiter at once, and would do so again and again.
    woken && !matches!(caller.log().health(), Health::Stopping)
}
