//! Server-sent events: the answer of everything that goes on while somebody listens.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::future::Future;

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, header};
use axum::response::Response;
use futures_util::stream::unfold;

/// The content type of the answer.
pub(crate) const EVENT_STREAM: &str = "text/event-stream";

/// Something that gives one piece of a stream after the other. A piece is asked for when the one before
/// it is on its way to the client, so a client that does not read holds one piece and no more.
pub(crate) trait Pieces: Send + 'static {
    /// The next piece; `None` at the end.
    fn next(&mut self) -> impl Future<Output = Option<String>> + Send;
}

/// The answer that sends these pieces.
pub(crate) fn answer(pieces: impl Pieces) -> Response {
    let stream = unfold(pieces, |mut pieces| async move {
        let piece = pieces.next().await?;
        Some((Ok::<_, Infallible>(Bytes::from(piece)), pieces))
    });
    let mut response = Response::new(Body::from_stream(stream));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(EVENT_STREAM));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // A proxy that collects an answer before it passes it on would never come to its end.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// Adds an event. `data` is JSON in one line; an id is where the client may go on behind the event.
pub(crate) fn event(piece: &mut String, name: &str, id: Option<&str>, data: &str) {
    debug_assert!(!data.contains('\n'), "an event's data is one line");
    // Writing into a text cannot fail.
    let _ = writeln!(piece, "event: {name}");
    if let Some(id) = id {
        let _ = writeln!(piece, "id: {id}");
    }
    let _ = writeln!(piece, "data: {data}\n");
}

/// Adds a sign of life. It is no event for the client, which remembers the id.
pub(crate) fn heartbeat(piece: &mut String, id: Option<&str>) {
    piece.push_str(": heartbeat\n");
    if let Some(id) = id {
        let _ = writeln!(piece, "id: {id}");
    }
    piece.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_and_heartbeats_are_blocks_of_lines() {
        let mut piece = String::new();
        event(&mut piece, "record", Some("7"), "{}");
        event(&mut piece, "end", None, "{}");
        heartbeat(&mut piece, Some("7"));
        assert_eq!(piece, "event: record\nid: 7\ndata: {}\n\nevent: end\ndata: {}\n\n: heartbeat\nid: 7\n\n");
    }
}
