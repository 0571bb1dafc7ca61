//! A connection whose client sends one small Produce, waits for its answer, and then sends the next one, and that
//! has the log for itself.
//!
//! For such a client every step between a request and its answer counts. While a thread of the runtime waits for
//! the disk, another one takes over; it is woken for each request, to find nothing to do. So the connection
//! leaves the runtime for a while: its thread receives, commits, answers, and waits in the socket for the next
//! request. `docs/decisions/0019-a-lone-client-keeps-its-thread.md`.
//!
//! Invariants:
//! - one connection at a time does so: clients can take no more than one thread;
//! - what is not one whole small Produce is handed back as it was received, and met as everywhere else;
//! - a client that is silent, a broker that stops, and a time that is up end it within milliseconds.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream as Socket;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::net::TcpStream;
use tokio::task::block_in_place;

use super::answers::AnswerError;
use super::frames::Frame;
use super::{End, Wakes};
use crate::api::{self, Pending, Reply};
use crate::broker::{Broker, Caller};
use crate::budget::Grant;
use crate::limits;
use crate::wire::ApiKey;

/// Bytes of the length in front of a request.
const PREFIX_BYTES: usize = 4;

/// How many requests in a row were those of a client that is alone.
#[derive(Debug, Default)]
pub(super) struct Streak {
    requests: u32,
    /// When the last of them was done with.
    done: Option<Instant>,
}

impl Streak {
    /// One that the next request completes.
    pub(super) fn nearly_long() -> Self {
        Self { requests: limits::ALONE_REQUESTS_MIN - 1, done: Some(Instant::now()) }
    }

    /// Notes a request. True when there have been enough of them, each soon after the one before.
    pub(super) fn came(&mut self, is_alone: bool) -> bool {
        let goes_on = is_alone && self.done.is_some_and(|done| done.elapsed() <= limits::ALONE_GAP_MAX);
        self.requests = if goes_on { self.requests.saturating_add(1) } else { 0 };
        self.requests >= limits::ALONE_REQUESTS_MIN
    }

    /// Notes that what could be done at once for a request is done.
    pub(super) fn done(&mut self, is_alone: bool) {
        self.done = is_alone.then(Instant::now);
    }
}

/// The right to keep a thread, which one connection at a time has.
#[derive(Debug)]
pub(super) struct Seat(Arc<Broker>);

impl Seat {
    /// The right, unless somebody has it, or there is no other thread that could go on.
    pub(super) fn take(broker: &Arc<Broker>) -> Option<Self> {
        let is_free = api::can_wait() && !broker.keeps_thread.swap(true, Ordering::AcqRel);
        is_free.then(|| Self(Arc::clone(broker)))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.keeps_thread.store(false, Ordering::Release);
    }
}

/// A request of a client that is alone, and the right to stay on this thread with it.
#[derive(Debug)]
pub(super) struct Alone {
    pub(super) frame: Frame,
    pub(super) seat: Seat,
}

/// What a connection has when it goes on as others do.
#[derive(Debug, Default)]
pub(super) struct Left {
    /// Received, and not looked at.
    pub(super) received: BytesMut,
    /// An answer that is still to come, or to be written.
    pub(super) pending: Option<Pending>,
    /// Only its time was up.
    pub(super) is_still_alone: bool,
    /// Why the connection ends, if it does.
    pub(super) end: Option<End>,
}

/// Whether this may be a request of a client that is alone.
pub(super) fn may_be(caller: &Caller, request: &[u8]) -> bool {
    is_produce(request) && caller.log().is_alone()
}

fn is_produce(request: &[u8]) -> bool {
    request.starts_with(&ApiKey::PRODUCE.0.to_be_bytes())
}

/// Serves a client on this thread for as long as it is alone. Only where [`Seat::take`] has said so.
///
/// # Errors
/// What the socket says. It is closed then.
pub(super) fn keep_thread(
    caller: &Arc<Caller>,
    stream: TcpStream,
    alone: Alone,
) -> io::Result<(TcpStream, Left)> {
    let mut socket = stream.into_std()?;
    // Another thread goes on with what else is to be done here, heartbeats among it.
    let left = block_in_place(|| serve(caller, &mut socket, alone))?;
    socket.set_nonblocking(true)?;
    Ok((TcpStream::from_std(socket)?, left))
}

fn serve(caller: &Arc<Caller>, socket: &mut Socket, alone: Alone) -> io::Result<Left> {
    socket.set_nonblocking(false)?;
    socket.set_read_timeout(Some(limits::ALONE_SILENCE_MAX))?;
    socket.set_write_timeout(Some(limits::ALONE_SILENCE_MAX))?;
    caller.broker.counters.thread_kept();
    let Alone { mut frame, seat: _seat } = alone;
    let until = Instant::now() + limits::ALONE_TIME_MAX;
    let mut room = vec![0; PREFIX_BYTES + limits::FIRST_READ_BYTES];
    loop {
        if let Some(left) = answer(caller, socket, frame) {
            return Ok(left);
        }
        if caller.broker.is_stopping() {
            return Ok(Left::default());
        }
        if Instant::now() >= until {
            return Ok(Left { is_still_alone: true, ..Left::default() });
        }
        let Ok(received) = socket.read(&mut room) else {
            // Silence, or an error, which shows again.
            return Ok(Left::default());
        };
        match whole(caller, &room[..received]) {
            Some(next) => frame = next,
            None => return Ok(Left { received: BytesMut::from(&room[..received]), ..Left::default() }),
        }
    }
}

/// The request that is all of these bytes, if it is a Produce and there is memory for it.
fn whole(caller: &Caller, received: &[u8]) -> Option<Frame> {
    let (prefix, request) = received.split_first_chunk::<PREFIX_BYTES>()?;
    let length = usize::try_from(i32::from_be_bytes(*prefix)).ok()?;
    let bounds = limits::FRAME_BYTES_MIN..=caller.broker.limits().frame_bytes_max;
    if length != request.len() || !bounds.contains(&length) || !is_produce(request) {
        return None;
    }
    let mut grant = Grant::default();
    let is_covered = caller.broker.request_budget.try_cover(&mut grant, length);
    is_covered.then(|| Frame { bytes: Bytes::copy_from_slice(request), grant })
}

/// Has a request answered. `None` when its answer is written.
fn answer(caller: &Arc<Caller>, socket: &mut Socket, frame: Frame) -> Option<Left> {
    let shares = api::Shares { memory: frame.grant, in_flight: Grant::default() };
    let begun = {
        // Where others append too the committer has it. Also behind a panic: others are to have their answers.
        let _wakes = Wakes(caller.log());
        api::dispatch(caller, frame.bytes, shares, true)
    };
    let end = match begun.map(Pending::try_resolve) {
        Ok(Ok(Ok(reply))) => return write(caller, socket, &reply),
        Ok(Err(pending)) => return Some(Left { pending: Some(pending), ..Left::default() }),
        Ok(Ok(Err(refusal))) => End::Answers(AnswerError::Refused(refusal)),
        Err(refusal) => End::Refused(refusal),
    };
    Some(Left { end: Some(end), ..Left::default() })
}

/// Writes an answer. `None` when all of it is written; the rest is the connection's.
fn write(caller: &Caller, socket: &mut Socket, reply: &Reply) -> Option<Left> {
    let mut rest = Bytes::from(reply.pieces.concat());
    while !rest.is_empty() {
        match socket.write(&rest) {
            Ok(written) if written > 0 => {
                caller.broker.counters.response(written);
                rest.advance(written);
            }
            // The client does not read, or is gone.
            _ => {
                let pending = Pending::Ready(Reply { pieces: vec![rest], grant: None });
                return Some(Left { pending: Some(pending), ..Left::default() });
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_alone_for_a_while_before_it_keeps_a_thread() {
        let mut streak = Streak::default();
        // The first one comes behind nothing.
        assert!(!streak.came(true));
        streak.done(true);
        let mut streak = Streak { done: Some(Instant::now() + limits::ALONE_TIME_MAX), ..streak };
        for _ in 1..limits::ALONE_REQUESTS_MIN {
            assert!(!streak.came(true));
        }
        assert!(streak.came(true));
        assert!(!streak.came(false), "another request");
        assert!(!streak.came(true), "it begins anew");
    }

    #[test]
    fn a_client_that_takes_its_time_is_not_alone() {
        let long_ago = Instant::now().checked_sub(limits::ALONE_GAP_MAX * 2);
        let mut streak = Streak { requests: limits::ALONE_REQUESTS_MIN, done: long_ago };
        assert!(!streak.came(true));
        assert_eq!(streak.requests, 0);
        streak.done(false);
        assert!(streak.done.is_none(), "behind other requests nobody is");
    }

    #[test]
    fn behind_a_time_that_was_up_one_request_is_enough() {
        let mut streak = Streak::nearly_long();
        streak.done = Some(Instant::now() + limits::ALONE_TIME_MAX);
        assert!(streak.came(true));
    }
}
