//! The body of a request, read as it comes. Its share of the memory is taken before anything of it is read,
//! so one that comes slowly is cut off when others need the memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, StatusCode, header};
use futures_util::StreamExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

use super::BUSY;
use crate::api::ApiState;
use crate::api::events::BODY_UNIT_BYTES;
use crate::api::limits::{
    PUBLISH_BODY_BYTES_MAX, PUBLISH_RATE_MIN, PUBLISH_SLOW_AFTER, PUBLISH_SLOW_LOOK, PUBLISH_WAIT_MAX,
};
use crate::api::problem::{BAD_REQUEST, BODY_TOO_LARGE, Problem, ProblemKind};

static TOO_SLOW: ProblemKind =
    ProblemKind { status: StatusCode::REQUEST_TIMEOUT, code: "too_slow", title: "The body comes too slowly" };

/// The body, and its share of the memory for bodies.
pub(super) async fn received(
    state: &ApiState,
    headers: &HeaderMap,
    body: Body,
) -> Result<(Bytes, OwnedSemaphorePermit), Problem> {
    let length = headers.get(header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    let (events, own) = (state.events(), length.unwrap_or(PUBLISH_BODY_BYTES_MAX));
    let share = share(&events.bodies, &events.bodies_awaited, own).await?;
    let others = Others::beside(&events.bodies, &events.bodies_awaited, state.limits().bodies_bytes, own);
    Ok((arrived(&others, body, length).await?, share))
}

/// The memory for bodies, as one sees it who has a share of it.
struct Others<'a> {
    bodies: &'a Semaphore,
    /// How many wait for a share.
    awaited: &'a AtomicUsize,
    /// Memory is scarce when fewer bytes are left, the own share not counted. With a small budget that alone can
    /// be all there is.
    scarce_below: usize,
}

impl<'a> Others<'a> {
    /// Of so many bytes, for one who has `own` of them.
    fn beside(bodies: &'a Semaphore, awaited: &'a AtomicUsize, all: usize, own: usize) -> Self {
        Self { bodies, awaited, scarce_below: (all / 2).saturating_sub(own) }
    }

    /// Whether others need the memory, or soon may.
    fn is_scarce(&self) -> bool {
        let is_little = self.bodies.available_permits() < self.scarce_below / BODY_UNIT_BYTES;
        is_little || self.awaited.load(Ordering::Relaxed) > 0
    }
}

/// One who waits, until it is dropped.
struct Waits<'a>(&'a AtomicUsize);

impl<'a> Waits<'a> {
    fn among(awaited: &'a AtomicUsize) -> Self {
        awaited.fetch_add(1, Ordering::Relaxed);
        Self(awaited)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn share(
    bodies: &Arc<Semaphore>,
    awaited: &AtomicUsize,
    bytes: usize,
) -> Result<OwnedSemaphorePermit, Problem> {
    if bytes > PUBLISH_BODY_BYTES_MAX {
        return Err(too_large());
    }
    let units = u32::try_from(bytes.div_ceil(BODY_UNIT_BYTES)).unwrap_or(u32::MAX);
    if let Ok(share) = Arc::clone(bodies).try_acquire_many_owned(units) {
        return Ok(share);
    }
    let _waits = Waits::among(awaited);
    match timeout(PUBLISH_WAIT_MAX, Arc::clone(bodies).acquire_many_owned(units)).await {
        Ok(Ok(share)) => Ok(share),
        _ => Err(Problem::new(&BUSY, "more is being published than there is memory for; try again")),
    }
}

async fn arrived(others: &Others<'_>, body: Body, length: Option<usize>) -> Result<Bytes, Problem> {
    let begun = Instant::now();
    let mut pieces = body.into_data_stream();
    let mut arrived = Vec::with_capacity(length.unwrap_or_default());
    loop {
        match timeout(PUBLISH_SLOW_LOOK, pieces.next()).await {
            Ok(Some(Ok(piece))) => {
                if arrived.len().saturating_add(piece.len()) > PUBLISH_BODY_BYTES_MAX {
                    return Err(too_large());
                }
                arrived.extend_from_slice(&piece);
            }
            Ok(Some(Err(error))) => {
                return Err(Problem::new(&BAD_REQUEST, format!("the body has not come whole: {error}")));
            }
            Ok(None) => return Ok(Bytes::from(arrived)),
            // Nothing has come for a while.
            Err(_) => {}
        }
        if others.is_scarce() && is_slow(begun.elapsed(), arrived.len()) {
            let sentence = format!(
                "others wait for memory, and the body comes with less than {PUBLISH_RATE_MIN} bytes a second; \
                 send less in one request"
            );
            return Err(Problem::new(&TOO_SLOW, sentence));
        }
    }
}

/// Whether so much has come too slowly. The first moments do not count.
fn is_slow(elapsed: Duration, bytes: usize) -> bool {
    let counted = elapsed.saturating_sub(PUBLISH_SLOW_AFTER).as_millis();
    (bytes as u128).saturating_mul(1000) < counted.saturating_mul(PUBLISH_RATE_MIN as u128)
}

fn too_large() -> Problem {
    let sentence = format!("a body has at most {PUBLISH_BODY_BYTES_MAX} bytes; send less in one request");
    Problem::new(&BODY_TOO_LARGE, sentence)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::limits::PUBLISH_BYTES_AT_ONCE;

    #[test]
    fn what_is_slow_is_so_after_a_while() {
        let at = |ms| PUBLISH_SLOW_AFTER + Duration::from_millis(ms);
        assert!(!is_slow(at(0), 0) && is_slow(at(1), 0));
        assert!(!is_slow(at(1_000), PUBLISH_RATE_MIN) && is_slow(at(1_000), PUBLISH_RATE_MIN - 1));
        assert!(!is_slow(Duration::ZERO, 0));
    }

    #[tokio::test]
    async fn a_body_comes_whole_or_is_a_problem() {
        let bodies = Arc::new(Semaphore::new(PUBLISH_BYTES_AT_ONCE / BODY_UNIT_BYTES));
        let awaited = AtomicUsize::new(0);
        let others = Others::beside(&bodies, &awaited, PUBLISH_BYTES_AT_ONCE, PUBLISH_BODY_BYTES_MAX);
        let come = |bytes: usize, length| arrived(&others, Body::from(vec![b'x'; bytes]), length);
        assert_eq!(come(70_000, Some(70_000)).await.expect("whole").len(), 70_000);
        assert_eq!(come(0, None).await.expect("whole").len(), 0);
        let refused = come(PUBLISH_BODY_BYTES_MAX + 1, None).await.expect_err("too large");
        assert_eq!(refused.kind.code, "body_too_large");
        let refused = share(&bodies, &awaited, PUBLISH_BODY_BYTES_MAX + 1).await.expect_err("too large");
        assert_eq!(refused.kind.code, "body_too_large");
        let half = share(&bodies, &awaited, PUBLISH_BODY_BYTES_MAX).await.expect("room");
        assert!(!others.is_scarce(), "there is much left");
        drop(half);
        assert_eq!(bodies.available_permits(), PUBLISH_BYTES_AT_ONCE / BODY_UNIT_BYTES);
    }

    /// With the least budget one body has all of the memory. It may come as slowly as any, while nobody waits.
    #[tokio::test]
    async fn a_body_is_not_in_its_own_way() {
        let all = PUBLISH_BODY_BYTES_MAX;
        let bodies = Arc::new(Semaphore::new(all / BODY_UNIT_BYTES));
        let awaited = AtomicUsize::new(0);
        let others = Others::beside(&bodies, &awaited, all, all);
        let _whole = share(&bodies, &awaited, all).await.expect("room");
        assert!(!others.is_scarce(), "nobody else is there");
        let mut waits = Box::pin(share(&bodies, &awaited, 1));
        tokio::select! {
            biased;
            _ = &mut waits => panic!("there is nothing left"),
            () = std::future::ready(()) => {}
        }
        assert!(others.is_scarce(), "somebody waits");
        drop(waits);
        assert!(!others.is_scarce(), "nobody waits any more");
    }

    /// Who has a part of the memory leaves others half of the rest, about, or comes fast.
    #[tokio::test]
    async fn memory_is_scarce_when_others_have_most_of_it() {
        let bodies = Arc::new(Semaphore::new(PUBLISH_BYTES_AT_ONCE / BODY_UNIT_BYTES));
        let awaited = AtomicUsize::new(0);
        let others = Others::beside(&bodies, &awaited, PUBLISH_BYTES_AT_ONCE, PUBLISH_BODY_BYTES_MAX);
        let mut held = Vec::new();
        while !others.is_scarce() {
            held.push(share(&bodies, &awaited, PUBLISH_BODY_BYTES_MAX).await.expect("room"));
        }
        let shares = PUBLISH_BYTES_AT_ONCE / PUBLISH_BODY_BYTES_MAX;
        assert!((shares / 2..shares).contains(&held.len()), "{} of {shares}", held.len());
    }
}
