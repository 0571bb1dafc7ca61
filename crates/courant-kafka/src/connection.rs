//! One connection: reads requests, has them answered, writes the answers in order.
//!
//! ```text
//! socket ─▶ frames ─▶ api::dispatch ─▶ bounded queue ─▶ answers ─▶ socket
//! ```
//!
//! Invariants:
//! - answers leave in the order in which their requests came;
//! - a Produce is handed to the log before the next request is read, so that batches of one
//!   connection reach the log in the order in which they were sent;
//! - when the client goes away, everything that waits on its behalf is dropped with this task;
//! - what a connection has with the log at one time is bounded, in requests and in bytes: few requests, or many small
//!   Produces, of which everything is counted.
//!
//! A client that sends small Produces, and is the only one to do so, is served by one thread for a while: see `alone`.
//! So is one that reads at the end of the log: see `tail`.

mod alone;
mod answers;
mod frames;
mod halves;
mod queue;
mod tail;

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use courant_log::Log;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tracing::debug;

use self::alone::{Alone, Left, Of, Seat, Streak};
use self::answers::AnswerError;
use self::frames::{FrameError, Frames};
use self::halves::{Incoming, Outlet};
use self::queue::Queue;
use self::tail::Follower;
use crate::api::{self, Pending, Refusal};
use crate::broker::{Broker, Caller, Place};
use crate::budget::{Budget, Grant};
use crate::limits;
use crate::tls::{HandshakeError, Port, ServerTls};

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error(transparent)]
    Frames(#[from] FrameError),
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(transparent)]
    Answers(#[from] AnswerError),
    #[error("the server stops")]
    Stopping,
}

/// How the requests of a connection were read.
#[derive(Debug)]
enum Read {
    /// To an end.
    Over(End),
    /// Until its client was alone. Everything before that is answered.
    Alone(Alone),
    /// Until its client was seen to read at the end of the log. The same holds.
    Follows(Follower),
}

impl End {
    /// Whether somebody may still read: then what was accepted is answered.
    fn leaves_a_reader(&self) -> bool {
        match self {
            Self::Frames(FrameError::Closed | FrameError::Cut { .. } | FrameError::Io(_)) => false,
            Self::Answers(AnswerError::Io(_) | AnswerError::Unread { .. }) => false,
            Self::Frames(_) | Self::Answers(AnswerError::Refused(_)) => true,
            Self::Refused(_) | Self::Stopping => true,
        }
    }
}

/// Serves one client until it goes away, breaks the protocol, or the broker stops.
pub(crate) async fn run(place: Place, broker: Arc<Broker>, mut stream: TcpStream, peer: SocketAddr) {
    let local = match prepare(&stream) {
        Ok(local) => local,
        Err(error) => {
            debug!(%peer, %error, "the client was gone before it was served");
            return;
        }
    };
    debug!(%peer, %local, "connected");
    let caller = Arc::new(Caller::new(Arc::clone(&broker), peer, local));
    let mut left = None;
    let end = loop {
        let (read, write) = stream.split();
        let kept = match serve(&caller, read, write, left.take()).await {
            Read::Over(end) => break end,
            Read::Alone(alone) => alone::keep_thread(&caller, stream, alone),
            Read::Follows(follower) => tail::keep_thread(&caller, stream, follower),
        };
        match kept {
            Ok((again, what)) => {
                stream = again;
                left = Some(what);
            }
            Err(error) => {
                broker.buffers.give_back();
                report(&broker, peer, &End::Frames(FrameError::Io(error)));
                return;
            }
        }
    };
    // A client that has gone may have been the one that needed them.
    broker.buffers.give_back();
    report(&broker, peer, &end);
    if end.leaves_a_reader() {
        linger(&mut stream).await;
    }
    drop(place);
}

/// As [`run`], behind a handshake. Such a client never has a thread for itself: what it sends and is sent goes through
/// the memory of TLS.
pub(crate) async fn run_with_tls(
    place: Place,
    broker: Arc<Broker>,
    stream: TcpStream,
    peer: SocketAddr,
    tls: ServerTls,
) {
    let local = match prepare(&stream) {
        Ok(local) => local,
        Err(error) => {
            debug!(%peer, %error, "the client was gone before it was served");
            return;
        }
    };
    let shaken = tokio::select! {
        shaken = tls.accept(stream) => shaken,
        () = broker.stopped() => return,
    };
    let mut stream = match shaken {
        Ok(stream) => stream,
        Err(error) => {
            if matches!(error, HandshakeError::Plain | HandshakeError::Failed(_)) {
                broker.counters.bad_request();
            }
            tls.report(Port::Kafka, peer, &error);
            return;
        }
    };
    debug!(%peer, %local, "connected, with TLS");
    let caller = Arc::new(Caller::new(Arc::clone(&broker), peer, local));
    let (read, write) = tokio::io::split(&mut *stream);
    let end = match serve(&caller, read, write, None).await {
        Read::Over(end) => end,
        // Its read half says that it never has a thread.
        Read::Alone(_) | Read::Follows(_) => End::Stopping,
    };
    broker.buffers.give_back();
    report(&broker, peer, &end);
    if end.leaves_a_reader() {
        linger(&mut *stream).await;
    }
    drop(place);
}

/// Reads requests and writes answers until one of the two ends; then writes what is still due.
async fn serve<R: Incoming, W: Outlet>(caller: &Arc<Caller>, read: R, write: W, left: Option<Left>) -> Read {
    let broker = &caller.broker;
    let (budget, buffers) = (broker.request_budget.clone(), broker.buffers.clone());
    let mut frames = Frames::new(read, budget, buffers, broker.limits().frame_bytes_max);
    let queue = Queue::default();
    // Requests whose answer is not written yet. The queue does not say it: the first of them has left it.
    let unanswered = AtomicUsize::new(0);
    let streaks = Streaks::behind(left.as_ref(), broker.limits().alone_gap_max);
    let mut ended = None;
    if let Some(left) = left {
        frames.go_on(left.received);
        unanswered.store(left.pending.len(), Ordering::Relaxed);
        left.pending.into_iter().for_each(|pending| queue.put(pending));
        ended = left.end;
    }
    let mut answers = pin!(answers::write(write, &queue, broker, &unanswered));
    let end = if let Some(end) = ended {
        end
    } else {
        let mut reading = pin!(read_requests(caller, frames, &queue, &unanswered, streaks));
        let reading = poll_fn(|context| {
            // Whenever reading waits for something, and also behind a panic: others are to have their answers.
            let _wakes = Wakes(caller.log());
            reading.as_mut().poll(context)
        });
        tokio::select! {
            // In this order: what was read is taken up by the same poll, and nobody is woken for it.
            biased;
            read = reading => match read {
                Read::Over(end) => end,
                kept => return kept,
            },
            // The queue is open while requests are read, so the writer only ends with an error.
            result = &mut answers => return Read::Over(result.map_or_else(End::from, |()| End::Stopping)),
            () = broker.stopped_beside() => End::Stopping,
        }
    };
    queue.close();
    if end.leaves_a_reader() {
        // Either everything is written, or the time is up, or the socket is dead: all end here.
        let _ = timeout(limits::DRAIN_MAX, answers).await;
    }
    Read::Over(end)
}

/// Ends the answers in order: tells the client that no more follow and takes what it still sends.
async fn linger<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) {
    let rest = async {
        stream.shutdown().await?;
        let mut bytes = [0; 4096];
        let mut thrown_away = 0;
        while thrown_away < limits::LINGER_BYTES_MAX {
            // A client that has nothing more under way is left waiting no longer.
            let Ok(read) = timeout(limits::LINGER_SILENCE_MAX, stream.read(&mut bytes)).await else {
                break;
            };
            match read? {
                0 => break,
                read => thrown_away += read,
            }
        }
        Ok::<_, std::io::Error>(())
    };
    // A socket that is dead or a client that does not stop: there is nothing more to do for it.
    let _ = timeout(limits::LINGER_MAX, rest).await;
}

/// Sets what every connection has set and returns the address that the client connected to.
fn prepare(stream: &TcpStream) -> std::io::Result<SocketAddr> {
    // Answers are written whole; waiting for more to send would only delay them.
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(limits::KEEPALIVE)
        .with_interval(limits::KEEPALIVE_INTERVAL)
        .with_retries(limits::KEEPALIVE_RETRIES);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)?;
    stream.local_addr()
}

/// Wakes the committer for what was handed to the log quietly, when it is dropped.
struct Wakes<'a>(&'a Log);

impl Drop for Wakes<'_> {
    fn drop(&mut self) {
        self.0.wake_committer();
    }
}

/// What came in a row.
#[derive(Debug)]
struct Streaks {
    produces: Streak,
    fetches: Streak,
}

impl Streaks {
    /// As they are behind a time in which the connection has kept a thread, if it did.
    fn behind(left: Option<&Left>, gap_max: Duration) -> Self {
        let streak = |goes_on| if goes_on { Streak::nearly_long(gap_max) } else { Streak::new(gap_max) };
        Self {
            produces: streak(left.is_some_and(|left| left.is_still_alone)),
            fetches: streak(left.is_some_and(|left| left.is_still_following)),
        }
    }
}

/// Hands requests on until there are no more. What of them goes to the log is to be committed together where it
/// came together, so the committer is woken when there is nothing more at hand.
async fn read_requests<R: Incoming>(
    caller: &Arc<Caller>,
    mut frames: Frames<R>,
    queue: &Queue,
    unanswered: &AtomicUsize,
    mut streaks: Streaks,
) -> Read {
    let window = Budget::new(limits::BYTES_IN_FLIGHT_MAX);
    loop {
        if !frames.has_next() {
            // The disk need not wait for more to be received.
            caller.log().wake_committer();
        }
        let frame = match frames.next().await {
            Ok(frame) => frame,
            Err(error) => return Read::Over(error.into()),
        };
        // First room in the queue, then the work: no more than that is ever in flight.
        let waiting = queue.room().await;
        let mut in_flight = Grant::default();
        if frame.bytes.len() > limits::UNCOUNTED_FRAME_BYTES_MAX {
            // All of it is free again once the log is done with what it has.
            window.cover(&mut in_flight, frame.bytes.len()).await;
        }
        // A client that sends one small request and waits for its answer: then there is nothing to read, and
        // nothing to write, for as long as the log is busy with it.
        let is_small = frame.bytes.len() <= limits::FIRST_READ_BYTES;
        let is_first = unanswered.load(Ordering::Relaxed) == 0;
        let reads_on = tail::is_fetch(&frame.bytes) && is_first;
        if streaks.fetches.came(reads_on, is_first)
            && R::MAY_BE_ALONE
            && let Some(seat) = Seat::take(&caller.broker, Of::Readers)
        {
            return Read::Follows(Follower { frame, received: frames.rest(), seat });
        }
        if streaks.produces.came(alone::is_of_the_only_one(caller, &frame.bytes), is_first)
            && R::MAY_BE_ALONE
            && Seat::is_free(&caller.broker, Of::Producers)
        {
            // All of it is with the log. Who leaves answers unread has not got the seat for that time.
            queue.answered(unanswered).await;
            if let Some(seat) = Seat::take(&caller.broker, Of::Producers) {
                return Read::Alone(Alone { frame, received: frames.rest(), seat });
            }
        }
        let is_alone = is_small && frames.is_drained() && is_first;
        unanswered.fetch_add(1, Ordering::Relaxed);
        let shares = api::Shares { memory: frame.grant, in_flight };
        match api::dispatch(caller, kept(frame.bytes, waiting), shares, is_alone) {
            Ok(Pending::Now(work)) => queue.put(Pending::Turn(work.await)),
            Ok(pending) => queue.put(pending),
            Err(refusal) => return Read::Over(refusal.into()),
        }
        streaks.produces.done();
        streaks.fetches.done();
    }
}

/// A request as it is kept, behind so many that wait. What it was received with may be as large as a connection reads
/// ahead, and stays there for as long as it does; where there are many, only its own bytes do.
fn kept(request: Bytes, waiting: usize) -> Bytes {
    let is_one_of_many = waiting >= limits::REQUESTS_IN_FLIGHT_MAX;
    if is_one_of_many && request.len() <= limits::SMALL_PRODUCE_BYTES_MAX {
        Bytes::copy_from_slice(&request)
    } else {
        request
    }
}

/// One log line per ending, unless there are many like it; whose fault it is decides how loud.
fn report(broker: &Broker, peer: SocketAddr, end: &End) {
    let lines = &broker.lines;
    match end {
        End::Stopping
        | End::Frames(FrameError::Closed | FrameError::Idle { .. } | FrameError::Io(_))
        | End::Answers(AnswerError::Io(_) | AnswerError::Refused(Refusal::LogGone)) => {
            debug!(%peer, "connection closed: {end}")
        }
        End::Frames(FrameError::NotKafka(frames::Stranger::Http)) => {
            broker.counters.bad_request();
            match &broker.config().http {
                Some(http) => lines.http.warn(peer, format_args!("{end}; HTTP is at {http}")),
                None => lines.http.warn(peer, format_args!("{end}; this server has no HTTP address")),
            }
        }
        End::Frames(FrameError::NotKafka(frames::Stranger::Tls)) => {
            broker.counters.bad_request();
            // Behind a handshake nobody begins another one, so this server is one without.
            let advice = "this server speaks no TLS: start it with --tls-cert and --tls-key, or let the client say \
                          security.protocol=PLAINTEXT";
            lines.tls.warn(peer, format_args!("{end}; {advice}"));
        }
        End::Refused(Refusal::Encode { .. }) | End::Answers(AnswerError::Refused(Refusal::Encode { .. })) => {
            lines.defects.error(format_args!("connection of {peer} closed: {end}"));
        }
        End::Frames(_) | End::Refused(_) | End::Answers(_) => {
            broker.counters.bad_request();
            let seldom = match end {
                End::Frames(_) => &lines.frames,
                End::Answers(AnswerError::Unread { .. }) => &lines.unread,
                _ => &lines.requests,
            };
            seldom.warn(peer, format_args!("connection closed: {end}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bytes::BytesMut;
    use courant_core::topic::TopicName;
    use courant_log::batch::records::{self, NewRecord};
    use courant_log::storage::MemoryStorage;
    use courant_log::{Codec, LogConfig, NewTopic, SystemClock, SystemEntropy};
    use tokio::net::{TcpListener, TcpSocket};
    use tokio::task::{JoinHandle, yield_now};

    use super::*;
    use crate::config::KafkaConfig;
    use crate::wire::messages::{PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData};
    use crate::wire::{decode_response, encode_request};

    const TOPIC: &str = "audit";
    /// So many small Produces wait behind the one that is waited for.
    const SMALL: i32 = limits::SMALL_PRODUCES_IN_FLIGHT_MAX as i32;
    /// Small buffers of the system, so that a client that reads nothing is seen soon.
    const BUFFER_BYTES: u32 = 4 * 1024;

    /// A broker with a topic, on a log that commits when it is told to.
    pub(in crate::connection) fn broker() -> Arc<Broker> {
        let config = LogConfig {
            background: false,
            journal_file_bytes: 8 * 1024 * 1024,
            first_journal_file_bytes: 8 * 1024 * 1024,
            reserve_bytes: 0,
            ..LogConfig::new(Arc::new(SystemClock), Arc::new(SystemEntropy))
        };
        let storage = Arc::new(MemoryStorage::new(256 * 1024 * 1024));
        let (log, _) = Log::open(storage, config).expect("a new log opens");
        let name = TopicName::new(TOPIC).expect("a legal name");
        log.create_topic(NewTopic { name, partitions: 1, configs: BTreeMap::new() }, |created| {
            created.expect("it is created");
        });
        assert!(log.commit());
        Arc::new(Broker::new(log, KafkaConfig::default()))
    }

    /// A request with one event of so many bytes, behind its length.
    pub(in crate::connection) fn produce(id: i32, value_bytes: usize) -> Vec<u8> {
        let record = NewRecord { value: Some(Bytes::from(vec![b'x'; value_bytes])), ..NewRecord::default() };
        let records = records::encode(&[record], Codec::None, None).expect("it can be encoded");
        let partition_data = vec![PartitionProduceData { index: 0, records: Some(records) }];
        let topic =
            TopicProduceData { name: TOPIC.to_owned(), partition_data, ..TopicProduceData::default() };
        let request = ProduceRequest { acks: -1, topic_data: vec![topic], ..ProduceRequest::default() };
        encode_request(&request, 9, id, Some("raw")).expect("it can be written").concat()
    }

    /// A client's socket, and the server's with where it comes from.
    async fn connected() -> (TcpStream, TcpStream, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(BUFFER_BYTES).expect("it can be set");
        let client = socket.connect(listener.local_addr().expect("an address")).await.expect("a connection");
        let (stream, peer) = listener.accept().await.expect("a connection");
        SockRef::from(&stream).set_send_buffer_size(BUFFER_BYTES as usize).expect("it can be set");
        (client, stream, peer)
    }

    fn serves(broker: &Arc<Broker>, stream: TcpStream, peer: SocketAddr) -> JoinHandle<()> {
        let place = Place::take(broker).expect("there is room for one");
        tokio::spawn(run(place, Arc::clone(broker), stream, peer))
    }

    /// Waits for something that must happen. Nothing waits it out.
    async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
        timeout(Duration::from_secs(60), future).await.unwrap_or_else(|_| panic!("waited in vain: {what}"))
    }

    /// Waits until so many requests were begun. With one thread for all, each goes as far as it can before this looks.
    async fn begun(broker: &Broker, requests: i32) {
        let requests = u64::try_from(requests).expect("a number");
        let begun = async {
            while broker.metrics().requests < requests {
                yield_now().await;
            }
        };
        soon("requests are begun", begun).await;
        assert_eq!(broker.metrics().requests, requests);
    }

    /// The next answer: to which request, with which error and offset.
    async fn answer(client: &mut TcpStream) -> (i32, i16, i64) {
        let received = async {
            let length = client.read_i32().await?;
            let mut frame = vec![0; usize::try_from(length).expect("a length")];
            client.read_exact(&mut frame).await?;
            Ok::<_, std::io::Error>(Bytes::from(frame))
        };
        let frame = soon("an answer", received).await.expect("an answer");
        let (header, answer) = decode_response::<ProduceResponse>(frame, 9).expect("a readable answer");
        let partition = &answer.responses[0].partition_responses[0];
        (header.correlation_id, partition.error_code, partition.base_offset)
    }

    /// Symptom: clients that share a connection and pack nothing had a quarter of the events a second of those that do,
    /// however many of them waited. Cause: a sync had 32 events of theirs, as many requests as might be under way. Fix:
    /// of small Produces there may be more.
    #[tokio::test]
    async fn small_produces_that_wait_for_the_disk_are_many_and_have_one_group() {
        const MORE: i32 = 40;
        let broker = broker();
        let (mut client, stream, peer) = connected().await;
        let sent = (0..1 + SMALL + MORE).flat_map(|id| produce(id, 1)).collect::<Vec<_>>();
        soon("there is room in the socket", client.write_all(&sent)).await.expect("it is sent");
        let serves = serves(&broker, stream, peer);
        let groups = broker.log().metrics().groups;
        for (ids, group) in [(0..1 + SMALL, 1), (1 + SMALL..1 + SMALL + MORE, 2)] {
            begun(&broker, ids.end).await;
            assert!(broker.log().commit());
            assert_eq!(broker.log().metrics().groups, groups + group, "all that wait are in one");
            for id in ids {
                assert_eq!(answer(&mut client).await, (id, 0, i64::from(id)));
            }
        }
        drop(client);
        soon("the connection ends", serves).await.expect("no panic");
        assert_eq!(broker.request_budget.granted(), 0);
    }

    /// Each of them has a kibibyte of the memory for requests until its answer is written.
    #[tokio::test]
    async fn answers_that_nobody_reads_are_no_more_than_may_be_and_all_of_them_are_counted() {
        const REQUESTS: i32 = 5_000;
        const ROUNDS: usize = 2_000;
        const EACH: usize = 1024;
        let broker = broker();
        let (mut client, stream, peer) = connected().await;
        let serves = serves(&broker, stream, peer);
        let sent = (0..REQUESTS).flat_map(|id| produce(id, 1)).collect::<Vec<_>>();
        let sends = tokio::spawn(async move {
            let sent = client.write_all(&sent).await;
            // It stays connected, and reads nothing.
            std::future::pending::<()>().await;
            drop((client, sent));
        });
        let mut most = 0;
        for _ in 0..ROUNDS {
            broker.log().commit();
            yield_now().await;
            most = most.max(broker.request_budget.granted());
        }
        let full = async {
            while broker.log().commit() || broker.request_budget.granted() < EACH * SMALL as usize {
                yield_now().await;
            }
        };
        soon("what may wait is there, and the log has nothing more of it", full).await;
        assert!(broker.metrics().requests < REQUESTS as u64, "some stays in the socket");
        // Those that are being written, those that wait behind them, and one for which there is no room.
        let bound = EACH * (2 * (1 + SMALL as usize) + 1);
        assert!(most <= bound, "{most} of {bound}");
        sends.abort();
        assert!(sends.await.is_err_and(|ended| ended.is_cancelled()));
        soon("the connection ends", serves).await.expect("no panic");
        // The system may have taken some more answers meanwhile, when it saw fit, and so the log some more requests.
        while broker.log().commit() {}
        assert_eq!(broker.request_budget.granted(), 0);
    }

    /// What a thread that was kept leaves, when somebody else commits, are as many as may wait here. What it has received
    /// behind them waits for room.
    #[tokio::test]
    async fn what_a_kept_thread_leaves_is_answered_in_order_and_more_waits_for_room() {
        const MORE: i32 = 3;
        let broker = broker();
        let (mut client, mut stream, peer) = connected().await;
        let caller = Arc::new(Caller::new(Arc::clone(&broker), peer, peer));
        let taken = |id| {
            let bytes = Bytes::from(produce(id, 1)).slice(size_of::<u32>()..);
            let shares = api::Shares { memory: Grant::default(), in_flight: Grant::default() };
            api::dispatch(&caller, bytes, shares, false).expect("it is a request")
        };
        let pending = (0..SMALL).map(taken).collect();
        let received = (SMALL..SMALL + MORE).flat_map(|id| produce(id, 1)).collect::<Vec<_>>();
        let left = Left { received: BytesMut::from(&received[..]), pending, ..Left::default() };
        let serves = tokio::spawn(async move {
            let (read, write) = stream.split();
            serve(&caller, read, write, Some(left)).await
        });
        for ids in [0..1 + SMALL, 1 + SMALL..SMALL + MORE] {
            begun(&broker, ids.end).await;
            assert!(broker.log().commit());
            for id in ids {
                assert_eq!(answer(&mut client).await, (id, 0, i64::from(id)));
            }
        }
        drop(client);
        let ended = soon("the connection ends", serves).await.expect("no panic");
        assert!(matches!(ended, Read::Over(End::Frames(FrameError::Closed))), "{ended:?}");
        assert_eq!(broker.request_budget.granted(), 0);
    }

    #[test]
    fn only_of_many_small_requests_each_has_memory_of_its_own() {
        let small = Bytes::from(vec![7; limits::SMALL_PRODUCE_BYTES_MAX]);
        let large = Bytes::from(vec![7; limits::SMALL_PRODUCE_BYTES_MAX + 1]);
        let stays = |request: &Bytes, waiting| kept(request.clone(), waiting).as_ptr() == request.as_ptr();
        assert!(stays(&small, limits::REQUESTS_IN_FLIGHT_MAX - 1));
        assert!(!stays(&small, limits::REQUESTS_IN_FLIGHT_MAX));
        assert!(stays(&large, limits::REQUESTS_IN_FLIGHT_MAX));
        assert_eq!(kept(small.clone(), limits::REQUESTS_IN_FLIGHT_MAX), small);
    }

    /// Symptom: a client that was told to speak TLS, and tried again and again, wrote a line for each try. Cause: only
    /// handshakes of servers with TLS were said seldom. Fix: all that clients can cause is.
    #[tokio::test]
    async fn what_a_client_does_again_and_again_is_said_seldom_and_counted_each_time() {
        const TIMES: u64 = 50;
        let (broker, peer) = (broker(), SocketAddr::from(([127, 0, 0, 1], 9)));
        let lines = &broker.lines;
        let stranger = |stranger| End::Frames(FrameError::NotKafka(stranger));
        let unknown = || Refusal::UnknownApi { key: crate::wire::ApiKey(999) };
        for _ in 0..TIMES {
            report(&broker, peer, &stranger(frames::Stranger::Http));
            report(&broker, peer, &stranger(frames::Stranger::Tls));
            report(&broker, peer, &End::Frames(FrameError::Cut { received: 1 }));
            report(&broker, peer, &End::Refused(unknown()));
            report(&broker, peer, &End::Answers(AnswerError::Refused(unknown())));
            report(&broker, peer, &End::Answers(AnswerError::Unread { bytes: 1, seconds: 1 }));
        }
        assert_eq!(broker.metrics().bad_requests, 6 * TIMES);
        assert_eq!((lines.http.unsaid(), lines.tls.unsaid()), (TIMES - 1, TIMES - 1));
        // Of those that a client that works may cause there are some.
        for (times, seldom) in [(TIMES, &lines.frames), (2 * TIMES, &lines.requests), (TIMES, &lines.unread)]
        {
            assert!((1..times - 1).contains(&seldom.unsaid()), "{seldom:?}");
        }
    }

    /// The numbers that the guide names, not those of the system.
    #[tokio::test]
    async fn a_peer_that_has_vanished_is_asked_for_soon() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let address = listener.local_addr().expect("an address");
        let _peer = TcpStream::connect(address).await.expect("a connection");
        let (stream, _) = listener.accept().await.expect("a connection");
        assert_eq!(prepare(&stream).expect("a TCP socket"), address);
        let socket = SockRef::from(&stream);
        assert!(socket.keepalive().expect("it can be asked"));
        assert_eq!(socket.tcp_keepalive_time().expect("it can be asked"), Duration::from_secs(60));
        assert_eq!(socket.tcp_keepalive_interval().expect("it can be asked"), Duration::from_secs(10));
        assert_eq!(socket.tcp_keepalive_retries().expect("it can be asked"), 3);
    }
}
