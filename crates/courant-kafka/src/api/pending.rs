//! Answers to come, as they wait for their turn.

use std::fmt;
use std::pin::Pin;

use tokio::sync::oneshot::{self, error::TryRecvError};

use super::produce::{self, Settled};
use super::{Call, Refusal, Reply, Work};
use crate::budget::Grant;
use crate::limits;
use crate::wire::ErrorCode;

/// An answer to come.
pub(crate) enum Pending {
    /// It is here.
    Ready(Reply),
    /// To be worked on before the next request is read; what it becomes waits for its turn.
    Now(Pin<Box<dyn Future<Output = Work> + Send>>),
    /// To be worked on when every earlier answer is known.
    Turn(Work),
    /// With the log.
    Produced(Produced),
}

impl Pending {
    /// What it weighs among the answers of its connection that are to come: see [`limits::REQUEST_WEIGHT`].
    pub(crate) fn weight(&self) -> usize {
        match self {
            Self::Produced(produced) if produced.is_small => 1,
            _ => limits::REQUEST_WEIGHT,
        }
    }

    /// Waits for the answer, working on it where that is left to do.
    pub(crate) async fn resolve(self) -> Result<Reply, Refusal> {
        match self {
            Self::Ready(reply) => Ok(reply),
            Self::Now(work) => work.await.await,
            Self::Turn(work) => work.await,
            Self::Produced(mut produced) => {
                let settled = (&mut produced.results).await.map_err(|_| Refusal::LogGone)?;
                produced.reply(settled)
            }
        }
    }

    /// The answer if it is there already.
    pub(crate) fn try_resolve(self) -> Result<Result<Reply, Refusal>, Self> {
        match self {
            Self::Ready(reply) => Ok(Ok(reply)),
            Self::Produced(mut produced) => match produced.results.try_recv() {
                Ok(settled) => Ok(produced.reply(settled)),
                Err(TryRecvError::Closed) => Ok(Err(Refusal::LogGone)),
                Err(TryRecvError::Empty) => Err(Self::Produced(produced)),
            },
            work => Err(work),
        }
    }
}

impl fmt::Debug for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ready(_) => "Ready",
            Self::Now(_) => "Now",
            Self::Turn(_) => "Turn",
            Self::Produced(_) => "Produced",
        })
    }
}

/// A Produce whose batches the log has.
#[derive(Debug)]
pub(crate) struct Produced {
    pub(super) results: oneshot::Receiver<Settled>,
    /// False with acks=0: then there is no answer, and an error closes the connection.
    pub(super) answered: bool,
    /// It was sent in few bytes, and all that it takes is counted until its answer is written.
    pub(super) is_small: bool,
    pub(super) call: Call,
}

impl Produced {
    fn reply(&self, settled: Settled) -> Result<Reply, Refusal> {
        if self.answered {
            return Ok(self.call.reply(&settled.response)?.covered(Grant::default(), settled.grant));
        }
        match produce::first_error(&settled.response) {
            None => Ok(Reply::default()),
            Some((code, message)) => Err(Refusal::Unanswered { code: ErrorCode(code), message }),
        }
    }
}
