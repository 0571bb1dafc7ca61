//! One record as an answer, whole. It may be large, and somebody may take it slowly: a few of them are in
//! memory at one time.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use futures_util::stream::unfold;
use serde_json::value::RawValue;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use crate::api::ApiState;
use crate::api::limits::{WHOLE_RECORD_BYTES_SMALL, WHOLE_RECORD_PIECE_BYTES, WHOLE_RECORD_WAIT_MAX};
use crate::api::problem::{Problem, ProblemKind};

static BUSY: ProblemKind =
    ProblemKind { status: StatusCode::SERVICE_UNAVAILABLE, code: "busy", title: "Too much is being read" };

/// Looks for a record and answers with it.
pub(super) async fn whole(
    state: &ApiState,
    look: impl FnOnce(&ApiState) -> Result<Box<RawValue>, Problem> + Send + 'static,
) -> Result<Response, Problem> {
    let places = Arc::clone(&state.events().whole);
    let Ok(Ok(place)) = timeout(WHOLE_RECORD_WAIT_MAX, places.acquire_owned()).await else {
        let sentence = "as many large records are on their way to clients as there is memory for; try again";
        return Err(Problem::new(&BUSY, sentence));
    };
    // The place is where the record is, also when nobody waits for it any more.
    let (record, place) = state.blocking(move |state| Ok((look(state)?, place))).await?;
    Ok(answer(record, place))
}

fn answer(record: Box<RawValue>, place: OwnedSemaphorePermit) -> Response {
    let mut text = String::from(Box::<str>::from(record));
    text.reserve_exact(1);
    text.push('\n');
    let length = HeaderValue::from(text.len());
    let body = if text.len() <= WHOLE_RECORD_BYTES_SMALL {
        Body::from(text)
    } else {
        // A piece is asked for when there is room for it on the way to the client.
        Body::from_stream(unfold((Bytes::from(text), place), |(mut rest, place)| async move {
            let piece = rest.split_to(rest.len().min(WHOLE_RECORD_PIECE_BYTES));
            (!piece.is_empty()).then_some((Ok::<_, Infallible>(piece), (rest, place)))
        }))
    };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CONTENT_LENGTH, length);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::to_bytes;
    use tokio::sync::Semaphore;

    #[tokio::test]
    async fn a_large_record_keeps_its_place_until_it_is_taken() {
        let places = Arc::new(Semaphore::new(1));
        for (bytes, left) in [(10, 1), (WHOLE_RECORD_BYTES_SMALL, 0), (3 * WHOLE_RECORD_PIECE_BYTES, 0)] {
            let record = format!("\"{}\"", "x".repeat(bytes));
            let place = Arc::clone(&places).acquire_owned().await.expect("it is open");
            let response = answer(RawValue::from_string(record.clone()).expect("JSON"), place);
            assert_eq!(places.available_permits(), left, "{bytes}");
            assert_eq!(response.headers()[header::CONTENT_LENGTH], (record.len() + 1).to_string());
            let body = to_bytes(response.into_body(), usize::MAX).await.expect("a body in memory");
            assert_eq!(body, format!("{record}\n"));
            assert_eq!(places.available_permits(), 1, "{bytes}");
        }
    }
}
