//! Writes answers in the order of their requests, several at once when several are ready.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use bytes::{Buf, Bytes};
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::WriteHalf;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::api::{Pending, Refusal, Reply};
use crate::broker::Broker;
use crate::budget::Grant;
use crate::limits;

/// A request that was accepted and whose answer is due at its turn.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) pending: Pending,
    /// The memory of the request, free again when its answer is known.
    pub(super) grant: Grant,
}

/// Why answers can no longer be written.
#[derive(Debug, thiserror::Error)]
pub(super) enum AnswerError {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("writing to the client failed: {0}")]
    Io(#[source] io::Error),
    #[error("the client left its answers unread for {seconds} s", seconds = limits::WRITE_SILENCE_MAX.as_secs())]
    Unread,
}

/// Writes until the queue is closed and empty.
///
/// Dropping the future drops every answer that is still pending: a Fetch that waits for data stops
/// waiting, a Produce is still written to the log.
pub(super) async fn write(
    mut socket: WriteHalf<'_>,
    mut queue: mpsc::Receiver<Queued>,
    broker: &Broker,
) -> Result<(), AnswerError> {
    let mut outgoing = Outgoing::default();
    let mut held: Option<Queued> = None;
    loop {
        let queued = match held.take() {
            Some(queued) => queued,
            None => match queue.recv().await {
                Some(queued) => queued,
                None => return Ok(()),
            },
        };
        outgoing.push(queued.pending.resolve().await?);
        drop(queued.grant);
        while outgoing.bytes < limits::COALESCED_BYTES_MAX {
            let Ok(Queued { pending, grant }) = queue.try_recv() else {
                break;
            };
            match pending.try_resolve() {
                Ok(reply) => outgoing.push(reply?),
                Err(pending) => {
                    held = Some(Queued { pending, grant });
                    break;
                }
            }
        }
        broker.counters.response(outgoing.bytes);
        outgoing.write_to(&mut socket).await?;
    }
}

/// Encoded answers on their way to the socket.
#[derive(Debug, Default)]
struct Outgoing {
    pieces: VecDeque<Bytes>,
    bytes: usize,
    /// Shares of the memory for answers, free again when the bytes are written.
    grants: Vec<Grant>,
}

impl Outgoing {
    fn push(&mut self, reply: Reply) {
        for piece in reply.pieces {
            // An empty piece would make a write of 0 bytes look like a closed socket.
            if !piece.is_empty() {
                self.bytes += piece.len();
                self.pieces.push_back(piece);
            }
        }
        self.grants.extend(reply.grant);
    }

    async fn write_to(&mut self, socket: &mut WriteHalf<'_>) -> Result<(), AnswerError> {
        while !self.pieces.is_empty() {
            let mut slices = [IoSlice::new(&[]); limits::WRITE_PIECES_MAX];
            let count = self.pieces.len().min(slices.len());
            for (slice, piece) in slices.iter_mut().zip(&self.pieces) {
                *slice = IoSlice::new(piece);
            }
            let write = socket.write_vectored(&slices[..count]);
            let written = match timeout(limits::WRITE_SILENCE_MAX, write).await {
                Err(_) => return Err(AnswerError::Unread),
                Ok(Err(error)) => return Err(AnswerError::Io(error)),
                Ok(Ok(0)) => return Err(AnswerError::Io(io::ErrorKind::WriteZero.into())),
                Ok(Ok(written)) => written,
            };
            self.advance(written);
        }
        self.bytes = 0;
        self.grants.clear();
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
