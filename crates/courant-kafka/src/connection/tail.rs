//! A connection whose client reads at the end of the log, and asks again whenever it has what is new.
//!
//! For such a client every step between an event on disk and its answer counts. In the runtime the thread that
//! commits wakes a worker, which wakes another one to help it before it looks at the Fetch. So the connection leaves
//! the runtime for a while: its thread receives a Fetch, waits for the event, writes the answer, and waits in the
//! socket for the next Fetch; whoever commits wakes this one thread.
//! `docs/decisions/0025-a-reader-at-the-end-keeps-its-thread.md`.
//!
//! Invariants:
//! - one connection at a time does so: clients can take no more than one thread in this way;
//! - what is not a whole Fetch is handed back as it was received, and met as everywhere else;
//! - a Fetch that waits for long, a large answer, a client that is silent, a broker that stops and a time that is up
//!   end it within milliseconds. A Fetch that waits is handed back as far as it has come.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use tokio::net::TcpStream;

use super::End;
use super::alone::{self, Left, Room, Seat};
use super::answers::AnswerError;
use super::frames::{Frame, FrameError};
use crate::api::{self, Pending, Refusal, Reply};
use crate::broker::{Caller, Counters};
use crate::budget::Grant;
use crate::limits;
use crate::wire::ApiKey;

/// A Fetch of a client that reads on and on, and the right to stay on this thread with it.
#[derive(Debug)]
pub(super) struct Follower {
    pub(super) frame: Frame,
    /// What was received behind it.
    pub(super) received: BytesMut,
    pub(super) seat: Seat,
}

pub(super) fn is_fetch(request: &[u8]) -> bool {
    request.starts_with(&ApiKey::FETCH.0.to_be_bytes())
}

/// Serves a client on this thread for as long as it reads on. Only where [`Seat::take`] has said so.
///
/// # Errors
/// What the socket says. It is closed then.
pub(super) fn keep_thread(
    caller: &Arc<Caller>,
    stream: TcpStream,
    follower: Follower,
) -> io::Result<(TcpStream, Left)> {
    alone::aside(stream, |socket| {
        caller.broker.counters.reader_thread_kept();
        let Follower { frame, received, seat: _seat } = follower;
        follow(caller, socket, frame, Room::of(&received, ApiKey::FETCH))
    })
}

/// Answers one Fetch after the other until something ends it.
fn follow(
    caller: &Arc<Caller>,
    socket: &mut (impl io::Read + io::Write),
    first: Frame,
    mut room: Room,
) -> Left {
    let until = Instant::now() + limits::ALONE_TIME_MAX;
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut next = Some(first);
    loop {
        if let Some(frame) = next.take().or_else(|| room.take(caller)) {
            if let Some(left) = answer(caller, socket, frame, &waker) {
                return Left { received: room.rest(), ..left };
            }
        } else {
            let more = if room.is_begun(caller) { room.fill(socket) } else { Ok(false) };
            if !matches!(more, Ok(true)) {
                // Silence and an end are met by the connection. An error is told once: behind it there is an end.
                let end = more.err().map(|error| End::Frames(FrameError::Io(error)));
                return Left { received: room.rest(), end, ..Left::default() };
            }
        }
        // Also behind a part of a request: the next one may be a byte, and the one behind it.
        if caller.broker.is_stopping() || Instant::now() >= until {
            return Left { received: room.rest(), is_still_following: true, ..Left::default() };
        }
    }
}

/// Answers a Fetch. `None` when that is done.
fn answer(caller: &Arc<Caller>, socket: &mut impl io::Write, frame: Frame, waker: &Waker) -> Option<Left> {
    let shares = api::Shares { memory: frame.grant, in_flight: Grant::default() };
    let pending = match api::dispatch(caller, frame.bytes, shares, false) {
        Ok(pending) => pending,
        Err(refusal) => return Some(ended(End::Refused(refusal))),
    };
    match soon(pending, waker) {
        Ok(Ok(reply)) => write(&caller.broker.counters, socket, reply),
        Ok(Err(refusal)) => Some(ended(End::Answers(AnswerError::Refused(refusal)))),
        Err(pending) => Some(due(pending)),
    }
}

/// The answer, if it is there soon. Whatever it waits for wakes this thread.
fn soon(pending: Pending, waker: &Waker) -> Result<Result<Reply, Refusal>, Pending> {
    let mut work = match pending {
        Pending::Turn(work) => work,
        other => return other.try_resolve(),
    };
    let until = Instant::now() + limits::FOLLOWER_WAIT_MAX;
    let mut context = Context::from_waker(waker);
    loop {
        if let Poll::Ready(answer) = work.as_mut().poll(&mut context) {
            return Ok(answer);
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            // Whoever polls it next is the one to be woken.
            return Err(Pending::Turn(work));
        }
        thread::park_timeout(left);
    }
}

/// Writes a small answer. What cannot be written at once is written by the connection, which has the clocks for that,
/// and so is a large answer, of which nothing is copied.
fn write(counters: &Counters, socket: &mut impl io::Write, reply: Reply) -> Option<Left> {
    let bytes: usize = reply.pieces.iter().map(Bytes::len).sum();
    if bytes > limits::SMALL_ANSWER_BYTES {
        return Some(due(Pending::Ready(reply)));
    }
    let mut answer = Vec::with_capacity(bytes);
    reply.pieces.iter().for_each(|piece| answer.extend_from_slice(piece));
    let rest = alone::write(counters, socket, answer.into())?;
    Some(due(Pending::Ready(Reply { pieces: vec![rest], grants: reply.grants })))
}

fn due(pending: Pending) -> Left {
    Left { pending: VecDeque::from([pending]), ..Left::default() }
}

fn ended(end: End) -> Left {
    Left { end: Some(end), ..Left::default() }
}

/// Wakes a thread that is parked.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::api::Work;
    use crate::budget::Budget;
    use crate::connection::alone::tests::{Drip, STOPS_BEHIND};
    use crate::wire::encode_request;
    use crate::wire::messages::{FetchPartition, FetchRequest, FetchTopic};
    use tokio::sync::oneshot;

    fn here() -> Waker {
        Waker::from(Arc::new(Unpark(thread::current())))
    }

    #[test]
    fn whoever_brings_what_is_waited_for_wakes_the_thread() {
        let waker = here();
        let brings = thread::spawn(move || waker.wake());
        // Without that it is parked for ever.
        thread::park();
        brings.join().expect("no panic");
        here().wake_by_ref();
        thread::park();
    }

    /// Otherwise a client that waits for a minute keeps the thread for that time, or waits in vain.
    #[test]
    fn a_wait_that_is_long_is_handed_back_and_goes_on() {
        let (bring, brought) = oneshot::channel::<()>();
        let work: Work = Box::pin(async move {
            brought.await.map_err(|_| Refusal::LogGone)?;
            Ok::<_, Refusal>(Reply::default())
        });
        let Err(pending) = soon(Pending::Turn(work), &here()) else { panic!("nothing was brought") };
        bring.send(()).expect("it is waited for");
        assert!(matches!(soon(pending, &here()), Ok(Ok(_))));
    }

    /// Nothing else ends it: no byte comes late, and the next request is not whole for a long time.
    #[test]
    fn a_stop_is_met_within_a_request() {
        let broker = alone::tests::broker();
        let here = SocketAddr::from(([127, 0, 0, 1], 1));
        let caller = Arc::new(Caller::new(Arc::clone(&broker), here, here));
        // Of a topic that is not there: it is answered at once.
        let topic = FetchTopic { partitions: vec![FetchPartition::default()], ..FetchTopic::default() };
        let request = FetchRequest { topics: vec![topic], ..FetchRequest::default() };
        let frame = encode_request(&request, 12, 1, Some("raw")).expect("it can be written").concat();
        let first = Frame { bytes: Bytes::from(frame).slice(size_of::<u32>()..), grant: Grant::default() };
        let mut drip = Drip::of(ApiKey::FETCH, broker);
        let left = follow(&caller, &mut drip, first, Room::of(&[], ApiKey::FETCH));
        assert_eq!(drip.given, STOPS_BEHIND, "not a byte more is waited for");
        assert_eq!(left.received, drip.request[..STOPS_BEHIND], "and what has come is handed back");
        assert!(left.end.is_none() && left.pending.is_empty());
        assert!(caller.broker.metrics().response_bytes > 0, "the first one is answered");
    }

    #[test]
    fn what_is_there_is_written_at_once() {
        let mut socket = Vec::<u8>::new();
        let pieces = vec![Bytes::from_static(b"ans"), Bytes::from_static(b"wer")];
        assert!(write(&Counters::default(), &mut socket, Reply { pieces, ..Reply::default() }).is_none());
        assert_eq!(socket, b"answer");
    }

    #[test]
    fn a_large_answer_is_left_to_the_connection_as_it_is() {
        let large = Bytes::from(vec![7; limits::SMALL_ANSWER_BYTES + 1]);
        let (mut socket, reply) =
            (Vec::<u8>::new(), Reply { pieces: vec![large.clone()], ..Reply::default() });
        let mut left = write(&Counters::default(), &mut socket, reply).expect("it is due");
        assert!(socket.is_empty());
        let Some(Pending::Ready(reply)) = left.pending.pop_front() else { panic!("it is there") };
        assert_eq!(reply.pieces, [large]);
        assert!(left.pending.is_empty() && left.end.is_none());
    }

    /// Takes a byte at a time.
    struct Slow;

    impl io::Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len().min(1))
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_client_that_takes_answers_slowly_is_not_waited_for() {
        let budget = Budget::new(1024);
        let mut grant = Grant::default();
        assert!(budget.try_cover(&mut grant, 1024));
        let grants = [grant, Grant::default()];
        let reply = Reply { pieces: vec![Bytes::from_static(b"answer")], grants };
        let mut left = write(&Counters::default(), &mut Slow, reply).expect("some of it is due");
        let Some(Pending::Ready(reply)) = left.pending.pop_front() else { panic!("the rest is there") };
        assert_eq!(reply.pieces, ["nswer"]);
        assert_eq!(budget.granted(), 1024, "the rest is covered until it is written");
        drop(reply);
        assert_eq!(budget.granted(), 0);
    }
}
