//! One connection: reads requests, has them answered, writes the answers in order.
//!
//! ```text
//! socket ─▶ frames ─▶ api::dispatch ─▶ queue of 32 ─▶ answers ─▶ socket
//! ```
//!
//! Invariants:
//! - answers leave in the order in which their requests came;
//! - a Produce is handed to the log before the next request is read, so that batches of one
//!   connection reach the log in the order in which they were sent;
//! - when the client goes away, everything that waits on its behalf is dropped with this task;
//! - what a connection has with the log at one time is bounded, in requests and in bytes.
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

use courant_log::Log;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tracing::{debug, error, warn};

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
        queue.room().await;
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
        match api::dispatch(caller, frame.bytes, shares, is_alone) {
            Ok(Pending::Now(work)) => queue.put(Pending::Turn(work.await)),
            Ok(pending) => queue.put(pending),
            Err(refusal) => return Read::Over(refusal.into()),
        }
        streaks.produces.done();
        streaks.fetches.done();
    }
}

/// One log line per ending; whose fault it is decides how loud.
fn report(broker: &Broker, peer: SocketAddr, end: &End) {
    match end {
        End::Stopping
        | End::Frames(FrameError::Closed | FrameError::Idle { .. } | FrameError::Io(_))
        | End::Answers(AnswerError::Io(_) | AnswerError::Refused(Refusal::LogGone)) => {
            debug!(%peer, "connection closed: {end}")
        }
        End::Frames(FrameError::NotKafka(frames::Stranger::Http)) => {
            broker.counters.bad_request();
            match &broker.config().http {
                Some(http) => warn!(%peer, "{end}; HTTP is at {http}"),
                None => warn!(%peer, "{end}; this server has no HTTP address"),
            }
        }
        End::Frames(FrameError::NotKafka(frames::Stranger::Tls)) => {
            broker.counters.bad_request();
            // Behind a handshake nobody begins another one, so this server is one without.
            warn!(%peer, "{end}; this server speaks no TLS: start it with --tls-cert and --tls-key, or let the client say \
                          security.protocol=PLAINTEXT");
        }
        End::Refused(Refusal::Encode { .. }) | End::Answers(AnswerError::Refused(Refusal::Encode { .. })) => {
            error!(%peer, "connection closed: {end}");
        }
        End::Frames(_) | End::Refused(_) | End::Answers(_) => {
            broker.counters.bad_request();
            warn!(%peer, "connection closed: {end}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

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
