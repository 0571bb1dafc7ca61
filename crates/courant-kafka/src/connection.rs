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
//! - when the client goes away, everything that waits on its behalf is dropped with this task.

mod answers;
mod frames;

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tracing::{debug, error, warn};

use self::answers::{AnswerError, Queued};
use self::frames::{FrameError, Frames};
use crate::api::{self, Pending, Refusal};
use crate::broker::{Broker, Caller, Place};
use crate::limits;

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

/// Serves one client until it goes away, breaks the protocol, or the broker stops.
pub(crate) async fn run(
    place: Place,
    broker: Arc<Broker>,
    mut stream: TcpStream,
    peer: SocketAddr,
) {
    let local = match prepare(&stream) {
        Ok(local) => local,
        Err(error) => {
            debug!(%peer, %error, "the client was gone before it was served");
            return;
        }
    };
    debug!(%peer, %local, "connected");
    let caller = Arc::new(Caller {
        broker: Arc::clone(&broker),
        peer,
        local,
    });
    let (read, write) = stream.split();
    let frames = Frames::new(
        read,
        broker.request_budget.clone(),
        broker.limits().frame_bytes_max,
    );
    let (queue, queued) = mpsc::channel(limits::REQUESTS_IN_FLIGHT_MAX);
    let mut answers = pin!(answers::write(write, queued, &broker));
    let end = tokio::select! {
        end = read_requests(&caller, frames, queue) => end,
        result = &mut answers => match result {
            // The queue is open while requests are read, so the writer only ends with an error.
            Ok(()) => return,
            Err(error) => error.into(),
        },
        () = broker.stopped() => End::Stopping,
    };
    report(&broker, peer, &end);
    // What was accepted is answered, unless nobody is there to read it.
    let drain = match &end {
        End::Refused(_) | End::Stopping => limits::DRAIN_MAX,
        End::Frames(FrameError::Length { .. } | FrameError::NotKafka(_)) => limits::DRAIN_MAX,
        End::Frames(_) | End::Answers(_) => Duration::ZERO,
    };
    if !drain.is_zero() {
        // Either everything is written, or the time is up, or the socket is dead: all end here.
        let _ = timeout(drain, answers).await;
    }
    drop(place);
}

/// Sets what every connection has set and returns the address that the client connected to.
fn prepare(stream: &TcpStream) -> std::io::Result<SocketAddr> {
    // Answers are written whole; waiting for more to send would only delay them.
    stream.set_nodelay(true)?;
    SockRef::from(stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(limits::KEEPALIVE))?;
    stream.local_addr()
}

async fn read_requests(
    caller: &Arc<Caller>,
    mut frames: Frames<'_>,
    queue: mpsc::Sender<Queued>,
) -> End {
    loop {
        let frame = match frames.next().await {
            Ok(frame) => frame,
            Err(error) => return error.into(),
        };
        // First a slot in the queue, then the work: no more than that is ever in flight.
        let Ok(slot) = queue.reserve().await else {
            return End::Stopping;
        };
        let pending = match api::dispatch(caller, frame.bytes) {
            Ok(Pending::Now(future)) => future.await.map(Pending::Ready),
            other => other,
        };
        match pending {
            Ok(pending) => slot.send(Queued {
                pending,
                grant: frame.grant,
            }),
            Err(refusal) => return refusal.into(),
        }
    }
}

/// One log line per ending; whose fault it is decides how loud.
fn report(broker: &Broker, peer: SocketAddr, end: &End) {
    match end {
        End::Stopping
        | End::Frames(FrameError::Closed | FrameError::Idle | FrameError::Io(_))
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
        End::Refused(Refusal::Encode { .. })
        | End::Answers(AnswerError::Refused(Refusal::Encode { .. })) => {
            error!(%peer, "connection closed: {end}");
        }
        End::Frames(_) | End::Refused(_) | End::Answers(_) => {
            broker.counters.bad_request();
            warn!(%peer, "connection closed: {end}");
        }
    }
}
