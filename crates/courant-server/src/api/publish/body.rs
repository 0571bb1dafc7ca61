//! The body of a request, read as it comes. Its share of the memory is taken before anything of it is read,
//! so one that comes slowly is cut off when others need the memory.

use std::sync::Arc;
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
    let bodies = &state.events().bodies;
    let share = share(bodies, length.unwrap_or(PUBLISH_BODY_BYTES_MAX)).await?;
    let scarce_below = state.limits().bodies_bytes / 2;
    Ok((arrived(bodies, scarce_below, body, length).await?, share))
}

async fn share(bodies: &Arc<Semaphore>, bytes: usize) -> Result<OwnedSemaphorePermit, Problem> {
    if bytes > PUBLISH_BODY_BYTES_MAX {
        return Err(too_large());
    }
    let units = u32::try_from(bytes.div_ceil(BODY_UNIT_BYTES)).unwrap_or(u32::MAX);
    match timeout(PUBLISH_WAIT_MAX, Arc::clone(bodies).acquire_many_owned(units)).await {
        Ok(Ok(share)) => Ok(share),
        _ => Err(Problem::new(&BUSY, "more is being published than there is memory for; try again")),
    }
}

/// Fewer bytes than `scarce_below` are left for bodies when memory is scarce.
async fn arrived(
    bodies: &Semaphore,
    scarce_below: usize,
    body: Body,
    length: Option<usize>,
) -> Result<Bytes, Problem> {
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
        if is_scarce(bodies, scarce_below) && is_slow(begun.elapsed(), arrived.len()) {
            let sentence = format!(
                "others wait for memory, and the body comes with less than {PUBLISH_RATE_MIN} bytes a second; \
                 send less in one request"
            );
            return Err(Problem::new(&TOO_SLOW, sentence));
        }
    }
}

/// Whether fewer bytes are left than that.
fn is_scarce(bodies: &Semaphore, scarce_below: usize) -> bool {
    bodies.available_permits() < scarce_below / BODY_UNIT_BYTES
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

    const SCARCE_BELOW: usize = PUBLISH_BYTES_AT_ONCE / 2;

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
        let come = |bytes: usize, length| {
            let bodies = Arc::clone(&bodies);
            async move { arrived(&bodies, SCARCE_BELOW, Body::from(vec![b'x'; bytes]), length).await }
        };
        assert_eq!(come(70_000, Some(70_000)).await.expect("whole").len(), 70_000);
        assert_eq!(come(0, None).await.expect("whole").len(), 0);
        let refused = come(PUBLISH_BODY_BYTES_MAX + 1, None).await.expect_err("too large");
        assert_eq!(refused.kind.code, "body_too_large");
        let refused = share(&bodies, PUBLISH_BODY_BYTES_MAX + 1).await.expect_err("too large");
        assert_eq!(refused.kind.code, "body_too_large");
        let half = share(&bodies, PUBLISH_BODY_BYTES_MAX).await.expect("room");
        assert!(!is_scarce(&bodies, SCARCE_BELOW), "there is much left");
        drop(half);
        assert_eq!(bodies.available_permits(), PUBLISH_BYTES_AT_ONCE / BODY_UNIT_BYTES);
    }
}
