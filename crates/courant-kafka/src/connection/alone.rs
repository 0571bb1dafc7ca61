//! A connection whose client sends small Produces, and that is the only one to do so.
//!
//! For such a client every step between a request and its answer counts. On its way through the runtime a request
//! wakes other threads: one that commits, or one that takes over while this one waits for the disk. So the
//! connection leaves the runtime for a while: its thread receives what is there, commits it, answers, and waits
//! in the socket for more. `docs/decisions/0019-a-lone-client-keeps-its-thread.md` and
//! `docs/decisions/0021-the-only-producer-keeps-its-thread.md`.
//!
//! Invariants:
//! - one connection at a time does so: clients can take no more than one thread in this way;
//! - what is not a whole small Produce is handed back as it was received, and met as everywhere else;
//! - a client that is silent, a broker that stops, somebody else who appends, and a time that is up end it
//!   within milliseconds.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::TcpStream as Socket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::net::TcpStream;
use tokio::task::block_in_place;

use super::answers::AnswerError;
use super::frames::{Frame, FrameError};
use super::{End, Wakes};
use crate::api::{self, Pending, Reply};
use crate::broker::{Broker, Caller, Counters};
use crate::budget::Grant;
use crate::limits;
use crate::wire::ApiKey;

/// Bytes of the length in front of a request, and of the key with which it begins.
const PREFIX_BYTES: usize = 4;
const API_KEY_BYTES: usize = 2;

/// How many requests in a row were small Produces of the only client that sends any.
#[derive(Debug)]
pub(super) struct Streak {
    /// How soon each comes behind the one before.
    gap_max: Duration,
    requests: u32,
    /// When the last of them was handed on.
    done: Option<Instant>,
    /// Nothing else of the connection is under way.
    is_pure: bool,
}

impl Streak {
    pub(super) fn new(gap_max: Duration) -> Self {
        Self { gap_max, requests: 0, done: None, is_pure: false }
    }

    /// One that the next request completes.
    pub(super) fn nearly_long(gap_max: Duration) -> Self {
        Self { gap_max, requests: limits::ALONE_REQUESTS_MIN - 1, done: Some(Instant::now()), is_pure: true }
    }

    /// Notes a request: whether it `is_one` of these, and whether all before it are answered. True when there have
    /// been enough of them, each soon after the one before.
    pub(super) fn came(&mut self, is_one: bool, is_first: bool) -> bool {
        if !is_one {
            *self = Self::new(self.gap_max);
            return false;
        }
        self.is_pure |= is_first;
        let is_soon = self.done.is_some_and(|done| done.elapsed() <= self.gap_max);
        self.requests = if self.is_pure && is_soon { self.requests.saturating_add(1) } else { 0 };
        self.requests >= limits::ALONE_REQUESTS_MIN
    }

    /// Notes that what could be done at once for a request is done.
    pub(super) fn done(&mut self) {
        self.done = Some(Instant::now());
    }
}

/// Whom a thread can be kept for: one of each at a time.
#[derive(Clone, Copy, Debug)]
pub(super) enum Of {
    Producers,
    Readers,
}

impl Of {
    fn is_taken(self, broker: &Broker) -> &AtomicBool {
        match self {
            Self::Producers => &broker.keeps_thread,
            Self::Readers => &broker.reader_keeps_thread,
        }
    }
}

/// The right to keep a thread, which one connection at a time has.
#[derive(Debug)]
pub(super) struct Seat {
    broker: Arc<Broker>,
    of: Of,
}

impl Seat {
    /// Whether it can be had: nobody has it, there is another thread that could go on, and no end is near.
    pub(super) fn is_free(broker: &Broker, of: Of) -> bool {
        !of.is_taken(broker).load(Ordering::Relaxed) && !broker.is_stopping() && api::can_wait()
    }

    /// The right, if it can be had.
    pub(super) fn take(broker: &Arc<Broker>, of: Of) -> Option<Self> {
        let is_free = Self::is_free(broker, of) && !of.is_taken(broker).swap(true, Ordering::AcqRel);
        is_free.then(|| Self { broker: Arc::clone(broker), of })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.of.is_taken(&self.broker).store(false, Ordering::Release);
    }
}

/// A request of a client that is alone, and the right to stay on this thread with it.
#[derive(Debug)]
pub(super) struct Alone {
    pub(super) frame: Frame,
    /// What was received behind it.
    pub(super) received: BytesMut,
    pub(super) seat: Seat,
}

/// What a connection has when it goes on as others do.
#[derive(Debug, Default)]
pub(super) struct Left {
    /// Received, and not looked at.
    pub(super) received: BytesMut,
    /// Answers that are still to come, or to be written.
    pub(super) pending: VecDeque<Pending>,
    /// Only its time was up.
    pub(super) is_still_alone: bool,
    /// The same, of a client that reads at the end of the log.
    pub(super) is_still_following: bool,
    /// Why the connection ends behind these answers, if it does.
    pub(super) end: Option<End>,
}

/// Whether this is a small Produce, and the connection has sent the one before it, too. Every Produce is to be
/// asked about.
pub(super) fn is_of_the_only_one(caller: &Arc<Caller>, request: &[u8]) -> bool {
    if !is_produce(request) {
        return false;
    }
    let before = caller.broker.appender.swap(number(caller), Ordering::Relaxed);
    before == number(caller) && request.len() <= limits::ALONE_REQUEST_BYTES_MAX
}

/// What no other connection has for as long as this one is there.
fn number(caller: &Arc<Caller>) -> usize {
    Arc::as_ptr(caller).addr()
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
    aside(stream, |socket| {
        caller.broker.counters.thread_kept();
        let Alone { frame, received, seat: _seat } = alone;
        answer_all(caller, socket, Some(frame), Room::of(&received, ApiKey::PRODUCE))
    })
}

/// Takes a socket out of the runtime for as long as `serve` has it: then this thread waits in it.
///
/// # Errors
/// What the socket says. It is closed then.
pub(super) fn aside(
    stream: TcpStream,
    serve: impl FnOnce(&mut Socket) -> Left,
) -> io::Result<(TcpStream, Left)> {
    let mut socket = stream.into_std()?;
    // Another thread goes on with what else is to be done here, heartbeats among it.
    let left = block_in_place(|| {
        socket.set_nonblocking(false)?;
        socket.set_read_timeout(Some(limits::ALONE_SILENCE_MAX))?;
        socket.set_write_timeout(Some(limits::ALONE_SILENCE_MAX))?;
        Ok::<_, io::Error>(serve(&mut socket))
    })?;
    socket.set_nonblocking(true)?;
    Ok((TcpStream::from_std(socket)?, left))
}

/// Answers what comes until the client is not alone any more, or something else ends it.
fn answer_all(
    caller: &Arc<Caller>,
    socket: &mut (impl io::Read + io::Write),
    mut next: Option<Frame>,
    mut room: Room,
) -> Left {
    let until = Instant::now() + limits::ALONE_TIME_MAX;
    loop {
        if let Some(frame) = next.take().or_else(|| room.take(caller)) {
            next = Some(frame);
            if let Some(left) = answer(caller, socket, || next.take().or_else(|| room.take(caller))) {
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
        let is_still_alone = caller.broker.appender.load(Ordering::Relaxed) == number(caller);
        if !is_still_alone || caller.broker.is_stopping() || Instant::now() >= until {
            return Left { received: room.rest(), is_still_alone, ..Left::default() };
        }
    }
}

/// What was received, and the only kind of request that is answered here.
pub(super) struct Room {
    key: ApiKey,
    bytes: Vec<u8>,
    /// What of it was taken, and where it ends.
    taken: usize,
    filled: usize,
}

impl Room {
    pub(super) fn of(received: &[u8], key: ApiKey) -> Self {
        let mut bytes = vec![0; limits::READ_AHEAD_BYTES_MAX.max(received.len())];
        bytes[..received.len()].copy_from_slice(received);
        Self { key, bytes, taken: 0, filled: received.len() }
    }

    /// What is left of it.
    pub(super) fn rest(&self) -> BytesMut {
        BytesMut::from(&self.bytes[self.taken..self.filled])
    }

    /// The length of the next request, if that is one that is answered here, and what there is of it.
    fn begin(&self, caller: &Caller) -> Option<(usize, &[u8])> {
        let (prefix, request) = self.bytes[self.taken..self.filled].split_first_chunk::<PREFIX_BYTES>()?;
        let length = usize::try_from(i32::from_be_bytes(*prefix)).ok()?;
        let most = caller.broker.limits().frame_bytes_max.min(limits::ALONE_REQUEST_BYTES_MAX);
        let is_right = (limits::FRAME_BYTES_MIN..=most).contains(&length);
        // Of a request that is cut within its key nothing is known.
        let is_of_key = || request.starts_with(&self.key.0.to_be_bytes());
        let is_right = is_right && (request.len() < API_KEY_BYTES || is_of_key());
        is_right.then_some((length, request))
    }

    /// Whether nothing is there, or the beginning of a request that is answered here.
    pub(super) fn is_begun(&self, caller: &Caller) -> bool {
        let is_cut = |(length, request): (usize, &[u8])| request.len() < length;
        self.filled - self.taken < PREFIX_BYTES || self.begin(caller).is_some_and(is_cut)
    }

    /// The next request, if it is there whole, is small and of that kind, and there is memory for it.
    pub(super) fn take(&mut self, caller: &Caller) -> Option<Frame> {
        let (length, request) = self.begin(caller)?;
        let request = request.get(..length)?;
        let mut grant = Grant::default();
        if !caller.broker.request_budget.try_cover(&mut grant, length) {
            return None;
        }
        let bytes = Bytes::copy_from_slice(request);
        self.taken += PREFIX_BYTES + length;
        Some(Frame { bytes, grant })
    }

    /// Waits for more. False when nothing has come.
    pub(super) fn fill(&mut self, socket: &mut impl io::Read) -> io::Result<bool> {
        self.bytes.copy_within(self.taken..self.filled, 0);
        self.filled -= self.taken;
        self.taken = 0;
        match socket.read(&mut self.bytes[self.filled..]) {
            Ok(read) => {
                self.filled += read;
                Ok(read > 0)
            }
            Err(error) if is_silence(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Whether the time was up, or somebody has interrupted the wait.
fn is_silence(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

/// Hands requests to the log, commits them together, and writes their answers. `None` when that is done for all
/// of them.
fn answer(
    caller: &Arc<Caller>,
    socket: &mut impl io::Write,
    mut next: impl FnMut() -> Option<Frame>,
) -> Option<Left> {
    let mut left = Left::default();
    {
        // Also behind a panic, others are to have their answers.
        let _wakes = Wakes(caller.log());
        let mut weight = 0;
        while weight < limits::SMALL_PRODUCES_IN_FLIGHT_MAX
            && let Some(frame) = next()
        {
            let shares = api::Shares { memory: frame.grant, in_flight: Grant::default() };
            match api::dispatch(caller, frame.bytes, shares, false) {
                Ok(pending) => {
                    weight += pending.weight();
                    left.pending.push_back(pending);
                }
                Err(refusal) => {
                    left.end = Some(End::Refused(refusal));
                    break;
                }
            }
        }
        caller.log().commit_here();
    }
    let (mut answers, mut grants) = (Vec::new(), <[Grant; 2]>::default());
    while let Some(pending) = left.pending.pop_front() {
        match pending.try_resolve() {
            Ok(Ok(reply)) => {
                reply.pieces.iter().for_each(|piece| answers.extend_from_slice(piece));
                // Each of the two is of the same budget in every reply.
                grants.iter_mut().zip(reply.grants).for_each(|(all, one)| all.take_in(one));
            }
            Ok(Err(refusal)) => {
                left.end = Some(End::Answers(AnswerError::Refused(refusal)));
                left.pending.clear();
            }
            // Somebody else has it: the committer.
            Err(pending) => {
                left.pending.push_front(pending);
                break;
            }
        }
    }
    if let Some(rest) = write(&caller.broker.counters, socket, answers.into()) {
        left.pending.push_front(Pending::Ready(Reply { pieces: vec![rest], grants }));
    }
    let is_done = left.pending.is_empty() && left.end.is_none();
    (!is_done).then_some(left)
}

/// Writes answers. What of them cannot be written at once, if anything: a client that takes a little now and then is
/// met by the connection, which has the clocks for that.
pub(super) fn write(counters: &Counters, socket: &mut impl io::Write, mut answers: Bytes) -> Option<Bytes> {
    if answers.is_empty() {
        return None;
    }
    // What has failed fails for the connection, too.
    let written = socket.write(&answers).unwrap_or_default();
    counters.response(written);
    answers.advance(written);
    (!answers.is_empty()).then_some(answers)
}

#[cfg(test)]
pub(super) mod tests {
    use std::net::SocketAddr;

    use super::*;
    use courant_log::storage::MemoryStorage;
    use courant_log::{Log, LogConfig, SystemClock, SystemEntropy};

    use crate::config::KafkaConfig;
    use crate::connection::tests as connection_tests;
    use crate::wire::encode_request;
    use crate::wire::messages::{PartitionProduceData, ProduceRequest, TopicProduceData};

    pub(in crate::connection) fn broker() -> Arc<Broker> {
        let config = LogConfig {
            background: false,
            journal_file_bytes: 64 * 1024,
            first_journal_file_bytes: 64 * 1024,
            reserve_bytes: 0,
            ..LogConfig::new(Arc::new(SystemClock), Arc::new(SystemEntropy))
        };
        let storage = Arc::new(MemoryStorage::new(64 * 1024 * 1024));
        let (log, _) = Log::open(storage, config).expect("a new log opens");
        Arc::new(Broker::new(log, KafkaConfig::default()))
    }

    /// Nobody takes the right of others.
    ///
    /// Whoever has sent much at once has some of it received already, and would go on with that for as long as there is
    /// more, behind a stop as before it.
    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn one_connection_at_a_time_has_the_right_and_none_behind_a_stop() {
        let broker = broker();
        let taken = tokio::spawn(async move {
            let seat = Seat::take(&broker, Of::Producers).expect("nobody has it");
            assert!(!Seat::is_free(&broker, Of::Producers) && Seat::take(&broker, Of::Producers).is_none());
            let other = Seat::take(&broker, Of::Readers).expect("it is another one");
            assert!(!Seat::is_free(&broker, Of::Readers) && Seat::take(&broker, Of::Readers).is_none());
            drop(seat);
            assert!(Seat::is_free(&broker, Of::Producers) && !Seat::is_free(&broker, Of::Readers));
            drop(other);
            assert!(Seat::is_free(&broker, Of::Readers));
            broker.stop();
            Seat::take(&broker, Of::Producers).is_some() || Seat::take(&broker, Of::Readers).is_some()
        });
        assert!(!taken.await.expect("no panic"));
    }

    /// As if it had been noted at a time that no test comes to: whatever comes next comes soon behind it, however
    /// slow the machine is.
    fn done_soon(streak: &mut Streak) {
        streak.done = Some(Instant::now() + Duration::from_secs(3_600));
    }

    #[test]
    fn a_client_is_alone_for_a_while_before_it_keeps_a_thread() {
        let mut streak = Streak::new(limits::ALONE_GAP_MAX);
        assert!(!streak.came(true, true), "the first one comes behind nothing");
        done_soon(&mut streak);
        for _ in 1..limits::ALONE_REQUESTS_MIN {
            assert!(!streak.came(true, false));
        }
        assert!(streak.came(true, false));
        assert!(!streak.came(false, false), "another request");
        done_soon(&mut streak);
        for _ in 0..2 * limits::ALONE_REQUESTS_MIN {
            assert!(!streak.came(true, false), "which may wait for long");
        }
        assert!(!streak.came(true, true));
        assert_eq!(streak.requests, 1, "it is answered");
    }

    #[test]
    fn a_client_that_takes_its_time_keeps_no_thread() {
        let mut streak = Streak::nearly_long(limits::ALONE_GAP_MAX);
        streak.done = Instant::now().checked_sub(limits::ALONE_GAP_MAX * 2);
        assert!(!streak.came(true, true));
        assert_eq!(streak.requests, 0);
    }

    /// Gives a request a byte at a time, without a pause. Its broker stops behind a few of them.
    pub(in crate::connection) struct Drip {
        pub(in crate::connection) request: Vec<u8>,
        pub(in crate::connection) given: usize,
        broker: Arc<Broker>,
    }

    /// Bytes behind which the broker stops: the length and the key of the request are there, and little more.
    pub(in crate::connection) const STOPS_BEHIND: usize = 9;

    impl Drip {
        /// A request of that kind, as long as one may be.
        pub(in crate::connection) fn of(key: ApiKey, broker: Arc<Broker>) -> Self {
            let length = limits::ALONE_REQUEST_BYTES_MAX;
            let prefix = i32::try_from(length).expect("a small request").to_be_bytes();
            let mut request = [&prefix[..], &key.0.to_be_bytes()].concat();
            request.resize(PREFIX_BYTES + length, 0);
            Self { request, given: 0, broker }
        }
    }

    impl io::Read for Drip {
        fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
            let Some(byte) = self.request.get(self.given) else { return Ok(0) };
            bytes[0] = *byte;
            self.given += 1;
            if self.given == STOPS_BEHIND {
                self.broker.stop();
            }
            Ok(1)
        }
    }

    impl io::Write for Drip {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Nothing else ends it: no byte comes late, and the request is not whole for a long time.
    #[test]
    fn a_stop_is_met_within_a_request() {
        let broker = broker();
        let here = SocketAddr::from(([127, 0, 0, 1], 1));
        let caller = Arc::new(Caller::new(Arc::clone(&broker), here, here));
        broker.appender.store(number(&caller), Ordering::Relaxed);
        let mut drip = Drip::of(ApiKey::PRODUCE, broker);
        let left = answer_all(&caller, &mut drip, None, Room::of(&[], ApiKey::PRODUCE));
        assert_eq!(drip.given, STOPS_BEHIND, "not a byte more is waited for");
        assert_eq!(left.received, drip.request[..STOPS_BEHIND], "and what has come is handed back");
        assert!(left.end.is_none() && left.pending.is_empty());
    }

    /// Takes a byte at a time, as often as it is asked.
    #[derive(Default)]
    struct Slow(Vec<u8>);

    impl io::Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.extend(bytes.first());
            Ok(bytes.len().min(1))
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Otherwise a client keeps the thread for as long as it likes, and a stop waits for it.
    #[test]
    fn a_client_that_takes_answers_slowly_is_not_waited_for() {
        let (counters, mut slow) = (Counters::default(), Slow::default());
        let rest = write(&counters, &mut slow, Bytes::from_static(b"answers"));
        assert_eq!(rest.as_deref(), Some(&b"nswers"[..]));
        assert_eq!(slow.0, b"a");
        assert_eq!(write(&counters, &mut slow, Bytes::from_static(b"n")), None);
        assert_eq!(write(&counters, &mut slow, Bytes::new()), None);
        assert_eq!(slow.0, b"an");
    }

    /// Symptom: clients that kept a thread, asked much and read nothing had answers that nobody counted. Cause: what
    /// covers them was given back before they were written. Fix: the connection has it with the rest of them.
    #[test]
    fn what_is_left_of_answers_is_covered_until_it_is_written() {
        let broker = broker();
        let here = SocketAddr::from(([127, 0, 0, 1], 1));
        let caller = Arc::new(Caller::new(Arc::clone(&broker), here, here));
        let partition_data = vec![PartitionProduceData::default(); 400];
        let topic =
            TopicProduceData { name: "absent".to_owned(), partition_data, ..TopicProduceData::default() };
        let request = ProduceRequest { acks: -1, topic_data: vec![topic], ..ProduceRequest::default() };
        let frame = encode_request(&request, 9, 1, Some("raw")).expect("it can be written").concat();
        let bytes = Bytes::from(frame).slice(PREFIX_BYTES..);
        let mut frames = (0..2).map(|_| Frame { bytes: bytes.clone(), grant: Grant::default() });
        let left = answer(&caller, &mut Slow::default(), || frames.next());
        let left = left.expect("the client takes a byte");
        let Some(Pending::Ready(reply)) = left.pending.front() else { panic!("the rest is there") };
        let due: usize = reply.pieces.iter().map(Bytes::len).sum();
        let covered = broker.request_budget.granted();
        assert!(due > limits::SMALL_ANSWER_BYTES && covered >= due, "{covered} of {due}");
        drop(left);
        assert_eq!(broker.request_budget.granted(), 0);
    }

    /// One read may bring more than that, and large requests are as few as elsewhere.
    #[test]
    fn what_is_committed_together_is_many_small_requests_or_few_large_ones() {
        let broker = connection_tests::broker();
        let here = SocketAddr::from(([127, 0, 0, 1], 1));
        let caller = Arc::new(Caller::new(Arc::clone(&broker), here, here));
        let cases = [
            (1, limits::SMALL_PRODUCES_IN_FLIGHT_MAX),
            (limits::SMALL_PRODUCE_BYTES_MAX, limits::REQUESTS_IN_FLIGHT_MAX),
        ];
        for (value_bytes, together) in cases {
            let groups = broker.log().metrics().groups;
            let mut frames = (0..).map(|id| {
                let bytes = Bytes::from(connection_tests::produce(id, value_bytes)).slice(PREFIX_BYTES..);
                let mut grant = Grant::default();
                assert!(broker.request_budget.try_cover(&mut grant, bytes.len()));
                Frame { bytes, grant }
            });
            let mut socket = Vec::<u8>::new();
            assert!(answer(&caller, &mut socket, || frames.next()).is_none(), "all of them are answered");
            assert_eq!(broker.log().metrics().groups, groups + 1);
            let mut rest = &socket[..];
            let mut answered = Vec::new();
            while let Some((length, frame)) = rest.split_first_chunk::<PREFIX_BYTES>() {
                let length = usize::try_from(i32::from_be_bytes(*length)).expect("a length");
                let (id, _) = frame.split_first_chunk().expect("a correlation id");
                answered.push(i32::from_be_bytes(*id));
                rest = &frame[length..];
            }
            let ids: Vec<i32> = (0..).take(together).collect();
            assert_eq!(answered, ids);
            assert_eq!(broker.request_budget.granted(), 0);
        }
    }

    /// Then as many go on as of other requests, of which not everything is counted.
    #[test]
    fn without_memory_small_requests_are_as_few_as_others() {
        let broker = connection_tests::broker();
        let here = SocketAddr::from(([127, 0, 0, 1], 1));
        let caller = Arc::new(Caller::new(Arc::clone(&broker), here, here));
        let mut all = Grant::default();
        assert!(broker.request_budget.try_cover(&mut all, usize::MAX));
        let mut taken = 0;
        let mut next = || {
            taken += 1;
            let bytes = Bytes::from(connection_tests::produce(taken, 1)).slice(PREFIX_BYTES..);
            Some(Frame { bytes, grant: Grant::default() })
        };
        assert!(answer(&caller, &mut Vec::<u8>::new(), &mut next).is_none());
        assert_eq!(taken, limits::REQUESTS_IN_FLIGHT_MAX as i32);
    }

    #[test]
    fn behind_a_time_that_was_up_one_request_is_enough() {
        let mut streak = Streak::nearly_long(limits::ALONE_GAP_MAX);
        done_soon(&mut streak);
        assert!(streak.came(true, false));
    }
}
