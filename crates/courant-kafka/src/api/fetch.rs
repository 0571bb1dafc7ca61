//! Fetch (key 1): batches out of the log, waiting for them when there are none.
//!
//! Versions: up to 12 topics are names, from 13 ids. From 7 on a client may open a session (KIP-227):
//! then it sends what changes in the partitions that it reads, and is answered what it does not know.
//! What is read and waited for is the same with a session and without.
//!
//! Waiting costs nothing: a waiter is registered with the log and no partition is read until as
//! many bytes as the client asked for have arrived, its time is up, or something went wrong.

mod cache;
mod pass;
mod plan;
mod session;

use std::sync::Arc;

use courant_log::{Health, PartitionId};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout, timeout_at};

pub(crate) use self::cache::SessionCache;
use self::cache::{Held, NO_SESSION};
use self::pass::Pass;
use self::plan::Plan;
use self::session::Session;
use super::target::Naming;
use super::traces;
use super::{Answered, Refusal};
use crate::broker::Caller;
use crate::budget::Grant;
use crate::limits;
use crate::wire::ErrorCode;
use crate::wire::messages::{FetchRequest, FetchResponse, FetchableTopicResponse};

/// The epochs of requests that name everything they want: the one that closes a session and opens
/// none, and the one that opens one.
const WITHOUT_SESSION: i32 = -1;
const OPENING: i32 = 0;

/// Bytes of a partition in an encoded answer, besides its records, and of a topic, besides its name.
const PARTITION_BYTES: usize = 64;
const TOPIC_BYTES: usize = 32;

/// Answers a Fetch. Dropping the future ends its wait.
pub(super) async fn answer(
    caller: Arc<Caller>,
    mut request: FetchRequest,
    version: i16,
) -> Answered<FetchResponse> {
    let cache = &caller.broker.fetch_sessions;
    let naming = plan::naming(version);
    let standing = match Standing::of(cache, &mut request, naming) {
        Ok(standing) => standing,
        Err(code) => {
            let response = FetchResponse { error_code: code.0, ..FetchResponse::default() };
            return Ok((response, Grant::default()));
        }
    };
    let bytes_max = caller.broker.limits().fetch_bytes_max;
    let plan = Plan::new(&caller.log().catalog(), request, version, bytes_max);
    let pass = read(&caller, &plan).await;
    let records = pass.bytes;
    let (mut response, mut grant) = pass.into_fetched();
    traces::fetched(&caller, &response.responses);
    let continued = matches!(standing, Standing::Continuing(_));
    response.session_id = standing.tell(cache, naming, &mut response.responses);
    // The memory of a request covers an answer about the partitions that it names, but not one about
    // those that it named long ago.
    let told: usize = if continued { response.responses.iter().map(topic_bytes).sum() } else { 0 };
    if told > limits::SMALL_ANSWER_BYTES {
        let cover = caller.broker.response_budget.cover(&mut grant, records + told);
        timeout(limits::BUDGET_WAIT_MAX, cover).await.map_err(|_| Refusal::Overload)?;
    }
    Ok((response, grant))
}

fn topic_bytes(topic: &FetchableTopicResponse) -> usize {
    TOPIC_BYTES + topic.topic.len() + topic.partitions.len() * PARTITION_BYTES
}

/// Reads until there is enough, or nothing more to wait for.
async fn read(caller: &Caller, plan: &Plan) -> Pass {
    let mut last = plan.deadline <= Instant::now();
    loop {
        let pass = Pass::read(caller, plan).await;
        // An error is told at once: a client that waits for it would wait in vain.
        let enough = pass.bytes >= plan.bytes_min || pass.seen.is_empty();
        if last || enough || pass.failed || pass.starved {
            return pass;
        }
        let missing = (plan.bytes_min - pass.bytes) as u64;
        // What was read is dropped: nothing is held while waiting.
        let seen = pass.into_seen();
        last = !more_arrives(caller, &seen, missing, plan.deadline).await;
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

/// How a Fetch stands to sessions.
#[derive(Debug)]
enum Standing<'a> {
    /// It names everything, and nothing of it is remembered.
    Alone,
    /// It names everything, and is remembered once it is answered.
    Opening(Session),
    /// It names what changes.
    Continuing(Held<'a>),
}

impl<'a> Standing<'a> {
    /// Finds the session of a request, and makes the request name everything that is to be read.
    fn of(cache: &'a SessionCache, request: &mut FetchRequest, naming: Naming) -> Result<Self, ErrorCode> {
        let id = request.session_id;
        match request.session_epoch {
            WITHOUT_SESSION => {
                cache.close(id);
                Ok(Self::Alone)
            }
            OPENING => {
                cache.close(id);
                let session = Session::of(std::mem::take(&mut request.topics));
                request.topics = session.topics();
                Ok(Self::Opening(session))
            }
            epoch => {
                let mut held = cache.take(id, epoch, naming)?;
                if !held.update(std::mem::take(&mut request.topics), &request.forgotten_topics_data) {
                    // The client begins anew, which is how it finds out what there is room for.
                    held.close();
                    return Err(ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
                }
                request.topics = held.session.topics();
                if held.session.is_empty() {
                    held.close();
                    return Ok(Self::Alone);
                }
                Ok(Self::Continuing(held))
            }
        }
    }

    /// Remembers what the client is told, and leaves out what it knows. Returns the id of the session
    /// that the client has from now on.
    fn tell(self, cache: &SessionCache, naming: Naming, responses: &mut Vec<FetchableTopicResponse>) -> i32 {
        match self {
            Self::Alone => NO_SESSION,
            Self::Opening(mut session) => {
                session.tell_all(responses);
                cache.open(session, naming)
            }
            Self::Continuing(mut held) => {
                held.session.tell_news(responses);
                held.id
            }
        }
    }
}
