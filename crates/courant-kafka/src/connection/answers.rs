//! Writes answers in the order of their requests, several at once when several are ready.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Buf, Bytes};
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, timeout_at};

use super::halves::Outlet;
use super::queue::Queue;
use crate::api::{Pending, Refusal, Reply};
use crate::broker::Broker;
use crate::budget::Grant;
use crate::limits;

/// Why answers can no longer be written.
#[derive(Debug, thiserror::Error)]
pub(super) enum AnswerError {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("writing to the client failed: {0}")]
    Io(#[source] io::Error),
    #[error("the client left its answers unread, {bytes} bytes of them after {seconds} s")]
    Unread { bytes: usize, seconds: u64 },
}

/// Writes until the queue is closed and empty, and takes what is written off `unanswered`.
///
/// Dropping the future drops every answer that is still pending: a Fetch that waits for data stops
/// waiting, a Produce is still written to the log.
pub(super) async fn write(
    mut socket: impl Outlet,
    queue: &Queue,
    broker: &Broker,
    unanswered: &AtomicUsize,
) -> Result<(), AnswerError> {
    let mut outgoing = Outgoing::default();
    let mut held: Option<Pending> = None;
    loop {
        let pending = match held.take() {
            Some(pending) => pending,
            None => match queue.next().await {
                Some(pending) => pending,
                None => return Ok(()),
            },
        };
        outgoing.push(pending.resolve().await?);
        let gathered = gather(&mut outgoing, queue);
        broker.counters.response(outgoing.bytes);
        // Answers that are due go out also when the next one is a refusal.
        outgoing.write_to(&mut socket).await?;
        unanswered.fetch_sub(std::mem::take(&mut outgoing.replies), Ordering::Relaxed);
        queue.written();
        held = gathered?;
    }
}

/// Adds answers that are ready. Returns the first that is not.
fn gather(outgoing: &mut Outgoing, queue: &Queue) -> Result<Option<Pending>, Refusal> {
    while outgoing.bytes < limits::COALESCED_BYTES_MAX {
        let Some(pending) = queue.try_next() else {
            break;
        };
        match pending.try_resolve() {
            Ok(reply) => outgoing.push(reply?),
            Err(pending) => return Ok(Some(pending)),
        }
    }
    Ok(None)
}

/// Encoded answers on their way to the socket.
#[derive(Debug, Default)]
struct Outgoing {
    pieces: VecDeque<Bytes>,
    bytes: usize,
    /// How many answers these are.
    replies: usize,
    /// Shares of the memory for answers and for requests, free again when the bytes are written.
    grants: Vec<Grant>,
}

impl Outgoing {
    fn push(&mut self, reply: Reply) {
        self.replies += 1;
        for piece in reply.pieces {
            // An empty piece would make a write of 0 bytes look like a closed socket.
            if !piece.is_empty() {
                self.bytes += piece.len();
                self.pieces.push_back(piece);
            }
        }
        self.grants.extend(reply.grants.into_iter().filter(|grant| grant.bytes() > 0));
    }

    /// Writes everything, within a time that grows with it: a client that takes a byte now and then
    /// would hold the memory of its answers for ever.
    async fn write_to<W: Outlet>(&mut self, socket: &mut W) -> Result<(), AnswerError> {
        let begun = Instant::now();
        let late = begun + limits::WRITE_SILENCE_MAX + limits::transfer_time(self.bytes);
        let mut heard = begun;
        let mut left = self.bytes;
        while !self.pieces.is_empty() {
            let mut slices = [IoSlice::new(&[]); limits::WRITE_PIECES_MAX];
            let count = self.pieces.len().min(slices.len());
            for (slice, piece) in slices.iter_mut().zip(&self.pieces) {
                *slice = IoSlice::new(piece);
            }
            let write = socket.write_vectored(&slices[..count]);
            let silent = heard + limits::WRITE_SILENCE_MAX;
            let written = match timeout_at(silent.min(late), write).await {
                Err(_) => {
                    return Err(AnswerError::Unread { bytes: left, seconds: begun.elapsed().as_secs() });
                }
                Ok(Err(error)) => return Err(AnswerError::Io(error)),
                Ok(Ok(0)) => return Err(AnswerError::Io(io::ErrorKind::WriteZero.into())),
                Ok(Ok(written)) => written,
            };
            left -= written;
            self.advance(written);
            // Where some is kept there is more to wait for behind the last one, too.
            if left > 0 || W::KEEPS_SOME {
                heard = Instant::now();
            }
        }
        if W::KEEPS_SOME {
            let silent = heard + limits::WRITE_SILENCE_MAX;
            match timeout_at(silent.min(late), socket.flush()).await {
                Err(_) => {
                    let (bytes, seconds) = (self.bytes, begun.elapsed().as_secs());
                    return Err(AnswerError::Unread { bytes, seconds });
                }
                Ok(flushed) => flushed.map_err(AnswerError::Io)?,
            }
        }
        self.bytes = 0;
        self.grants.clear();
        // As in the queue: room for many is not kept for as long as the connection is there.
        self.grants.shrink_to(2 * limits::REQUESTS_IN_FLIGHT_MAX);
        self.pieces.shrink_to(limits::REQUESTS_IN_FLIGHT_MAX);
        Ok(())
    }

    fn advance(&mut self, mut written: usize) {
        while let Some(piece) = self.pieces.front_mut() {
            if written < piece.len() {
                piece.advance(written);
                return;
            }
            written -= piece.len();
            self.pieces.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll, ready};

    use tokio::io::AsyncWrite;
    use tokio::time::{Duration, Sleep, sleep};

    use super::*;

    /// Nearly as long as a client may be silent.
    const SLOW: Duration = limits::WRITE_SILENCE_MAX.saturating_sub(Duration::from_secs(1));

    /// Takes all there is after a while, keeps it, and has it out after as long again.
    struct Keeps(Pin<Box<Sleep>>);

    impl Keeps {
        fn new() -> Self {
            Self(Box::pin(sleep(SLOW)))
        }
    }

    impl AsyncWrite for Keeps {
        fn poll_write(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            ready!(self.0.as_mut().poll(context));
            self.0.as_mut().reset(Instant::now() + SLOW);
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.0.as_mut().poll(context).map(Ok)
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    impl Outlet for Keeps {
        const KEEPS_SOME: bool = true;
    }

    /// A large answer, for which there is more time than for one silence.
    #[tokio::test(start_paused = true)]
    async fn a_client_that_goes_on_reading_has_its_time_anew_for_what_tls_keeps() {
        let answer = Bytes::from(vec![0; 16 * 1024 * 1024]);
        assert!(limits::transfer_time(answer.len()) > limits::WRITE_SILENCE_MAX);
        let mut outgoing = Outgoing::default();
        outgoing.push(Reply { pieces: vec![answer], ..Reply::default() });
        let begun = Instant::now();
        outgoing.write_to(&mut Keeps::new()).await.expect("it was never silent for too long");
        assert!(begun.elapsed() >= SLOW * 2, "nothing was waited for");
        assert_eq!(outgoing.bytes, 0);
    }
}
