//! From a request to its answer: one file per API, named as Kafka names it.
//!
//! When a request is worked on, and what that means for the requests behind it on the same
//! connection:
//!
//! | | works | answers |
//! |---|---|---|
//! | Produce | at once, into the log, in the order of arrival | when the log has it on disk |
//! | Metadata, CreateTopics, DeleteTopics, InitProducerId | before the next request is read | at its turn |
//! | Fetch, ListOffsets | when every earlier answer is known, so that they see what was produced before | then |
//! | ApiVersions, FindCoordinator | at once | at its turn |

mod api_versions;
mod create_topics;
mod delete_topics;
mod fetch;
mod find_coordinator;
mod init_producer_id;
mod list_offsets;
mod metadata;
mod produce;
mod target;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot::{self, error::TryRecvError};

use crate::broker::Caller;
use crate::budget::Grant;
use crate::wire::messages::{
    ApiVersionsRequest, CreateTopicsRequest, FetchRequest, FindCoordinatorRequest,
    InitProducerIdRequest, ListOffsetsRequest, ProduceRequest, ProduceResponse,
};
use crate::wire::{
    ApiKey, ErrorCode, Reader, Request, RequestHeader, Response, WireError, decode_body,
    encode_response, range_of,
};

/// What a client is told that wants a transaction.
const NO_TRANSACTIONS: &str = "transactions are not served yet";

/// An encoded answer. Empty for a Produce with acks=0.
#[derive(Debug, Default)]
pub(crate) struct Reply {
    /// The frame, with its length.
    pub(crate) pieces: Vec<Bytes>,
    /// Its share of the memory for answers, to be kept until it is written.
    pub(crate) grant: Option<Grant>,
}

/// Work that ends in an answer.
pub(crate) type Work = Pin<Box<dyn Future<Output = Result<Reply, Refusal>> + Send>>;

/// An answer to come.
pub(crate) enum Pending {
    /// It is here.
    Ready(Reply),
    /// To be worked on before the next request is read.
    Now(Work),
    /// To be worked on when every earlier answer is known.
    Turn(Work),
    /// With the log.
    Produced(Produced),
}

impl Pending {
    /// Waits for the answer, working on it where that is left to do.
    pub(crate) async fn resolve(self) -> Result<Reply, Refusal> {
        match self {
            Self::Ready(reply) => Ok(reply),
            Self::Now(work) | Self::Turn(work) => work.await,
            Self::Produced(mut produced) => {
                let results = (&mut produced.results)
                    .await
                    .map_err(|_| Refusal::LogGone)?;
                produced.reply(&results)
            }
        }
    }

    /// The answer if it is there already.
    pub(crate) fn try_resolve(self) -> Result<Result<Reply, Refusal>, Self> {
        match self {
            Self::Ready(reply) => Ok(Ok(reply)),
            Self::Produced(mut produced) => match produced.results.try_recv() {
                Ok(results) => Ok(produced.reply(&results)),
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
    results: oneshot::Receiver<ProduceResponse>,
    /// False with acks=0: then there is no answer, and an error closes the connection.
    answered: bool,
    call: Call,
}

impl Produced {
    fn reply(&self, results: &ProduceResponse) -> Result<Reply, Refusal> {
        if self.answered {
            return self.call.reply(results);
        }
        match produce::first_error(results) {
            None => Ok(Reply::default()),
            Some((code, message)) => Err(Refusal::Unanswered {
                code: ErrorCode(code),
                message,
            }),
        }
    }
}

/// Why a request gets no answer but a closed connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("a request has no readable header: {0}")]
    Header(#[source] WireError),
    #[error("a request is for {key}, which is not served")]
    UnknownApi { key: ApiKey },
    #[error("a request is for version {version} of {key}; {min} to {max} are served")]
    Version {
        key: ApiKey,
        version: i16,
        min: i16,
        max: i16,
    },
    #[error("a request for version {version} of {key} is malformed: {source}")]
    Malformed {
        key: ApiKey,
        version: i16,
        source: WireError,
    },
    #[error("a Produce with acks=0 failed with {code}: {message}")]
    Unanswered { code: ErrorCode, message: String },
    #[error("the log is gone")]
    LogGone,
    #[error(
        "version {version} of the answer to {key} cannot be written, which is a defect: {source}"
    )]
    Encode {
        key: ApiKey,
        version: i16,
        source: WireError,
    },
}

/// Reads one request and starts what answers it.
///
/// A Produce has been handed to the log when this returns.
pub(crate) fn dispatch(caller: &Arc<Caller>, frame: Bytes) -> Result<Pending, Refusal> {
    caller.broker.counters.request(frame.len());
    let mut reader = Reader::new(frame);
    let header = RequestHeader::parse(&mut reader).map_err(Refusal::Header)?;
    let key = header.api_key;
    let range = range_of(key).ok_or(Refusal::UnknownApi { key })?;
    let mut call = Call {
        caller: Arc::clone(caller),
        version: header.api_version,
        correlation_id: header.correlation_id,
    };
    if !range.serves(header.api_version) {
        if key == ApiKey::API_VERSIONS {
            call.version = 0;
            return Ok(Pending::Ready(call.reply(&api_versions::of_the_future())?));
        }
        return Err(Refusal::Version {
            key,
            version: header.api_version,
            min: range.min,
            max: range.max,
        });
    }
    call.start(key, reader)
}

/// One request, as far as its answer has to know it.
#[derive(Debug)]
struct Call {
    caller: Arc<Caller>,
    version: i16,
    correlation_id: i32,
}

impl Call {
    fn start(self, key: ApiKey, reader: Reader) -> Result<Pending, Refusal> {
        match key {
            ApiKey::PRODUCE => self.produce(reader),
            ApiKey::FETCH => self.fetch(reader),
            ApiKey::LIST_OFFSETS => self
                .work(reader, |caller, request: ListOffsetsRequest, _| {
                    list_offsets::handle(caller, request)
                })
                .map(Pending::Turn),
            ApiKey::METADATA => self.work(reader, metadata::handle).map(Pending::Now),
            ApiKey::CREATE_TOPICS => self
                .work(reader, |caller, request: CreateTopicsRequest, _| {
                    create_topics::handle(caller, request)
                })
                .map(Pending::Now),
            ApiKey::DELETE_TOPICS => self.work(reader, delete_topics::handle).map(Pending::Now),
            ApiKey::INIT_PRODUCER_ID => self
                .work(reader, |caller, request: InitProducerIdRequest, _| {
                    init_producer_id::handle(caller, request)
                })
                .map(Pending::Now),
            ApiKey::API_VERSIONS => {
                let request: ApiVersionsRequest = self.body(reader)?;
                let response = api_versions::handle(&self.caller, &request, self.version);
                self.reply(&response).map(Pending::Ready)
            }
            ApiKey::FIND_COORDINATOR => {
                let request: FindCoordinatorRequest = self.body(reader)?;
                let response = find_coordinator::handle(&self.caller, request, self.version);
                self.reply(&response).map(Pending::Ready)
            }
            _ => Err(Refusal::UnknownApi { key }),
        }
    }

    fn produce(self, reader: Reader) -> Result<Pending, Refusal> {
        let request: ProduceRequest = self.body(reader)?;
        let answered = request.acks != 0;
        let results = produce::submit(&self.caller, request, self.version);
        Ok(Pending::Produced(Produced {
            results,
            answered,
            call: self,
        }))
    }

    fn fetch(self, reader: Reader) -> Result<Pending, Refusal> {
        let request: FetchRequest = self.body(reader)?;
        Ok(Pending::Turn(Box::pin(async move {
            let caller = Arc::clone(&self.caller);
            let (response, grant) = fetch::handle(caller, request, self.version).await;
            let reply = self.reply(&response)?;
            Ok(Reply {
                grant: Some(grant),
                ..reply
            })
        })))
    }

    /// An asynchronous handler and the encoding of what it returns.
    fn work<R, F>(
        self,
        reader: Reader,
        handle: impl FnOnce(Arc<Caller>, R, i16) -> F,
    ) -> Result<Work, Refusal>
    where
        R: Request,
        F: Future<Output = R::Response> + Send + 'static,
    {
        let request: R = self.body(reader)?;
        let response = handle(Arc::clone(&self.caller), request, self.version);
        Ok(Box::pin(async move {
            let response = response.await;
            self.reply(&response)
        }))
    }

    fn body<R: Request>(&self, mut reader: Reader) -> Result<R, Refusal> {
        decode_body(&mut reader, self.version).map_err(|source| Refusal::Malformed {
            key: R::KEY,
            version: self.version,
            source,
        })
    }

    fn reply<R: Response>(&self, response: &R) -> Result<Reply, Refusal> {
        match encode_response(response, self.version, self.correlation_id) {
            Ok(pieces) => Ok(Reply {
                pieces,
                grant: None,
            }),
            Err(source) => Err(Refusal::Encode {
                key: R::KEY,
                version: self.version,
                source,
            }),
        }
    }
}
