//! What can go wrong, one enum per kind of operation.

use crate::wire::{ErrorCode, WireError};
use courant_log::batch::BatchError;
use courant_log::batch::records::RecordError;
use std::fmt;
use std::io;
use std::time::Duration;

/// One request to one server did not come to an answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// No connection could be made.
    #[error("nothing answers at {address}: {source}")]
    Unreachable {
        /// Where a server was looked for.
        address: String,
        /// What the system says.
        source: io::Error,
    },
    /// Somebody answers, and there is no TLS with them.
    #[error("there is no TLS with {address}: {source}")]
    Tls {
        /// Where a server was looked for.
        address: String,
        /// Why it is not believed, or why it does not shake hands.
        source: io::Error,
    },
    /// A server announces an address for itself where nothing answers.
    #[error("{via} tells clients to use {address}, and nothing answers there: {source}")]
    AdvertisedUnreachable {
        /// The address that answered.
        via: String,
        /// The address that it announced.
        address: String,
        /// What the system says.
        source: io::Error,
    },
    /// The answer did not come in time.
    #[error("{address} did not answer {api} within {} ms", .after.as_millis())]
    TimedOut {
        /// Whom we asked.
        address: String,
        /// What we asked.
        api: &'static str,
        /// How long we waited.
        after: Duration,
    },
    /// The connection ended before the answer.
    #[error("the connection to {address} broke: {source}")]
    Lost {
        /// Whom we asked.
        address: String,
        /// What the system says.
        source: io::Error,
    },
    /// What came back is no answer to what was asked.
    #[error("what answers at {address} does not speak the Kafka protocol: {reason}")]
    NotKafka {
        /// Whom we asked.
        address: String,
        /// What is wrong with the answer.
        reason: String,
    },
    /// An answer is larger than the client accepts.
    #[error("{address} announced an answer of {bytes} bytes; {max} are accepted")]
    TooLarge {
        /// Whom we asked.
        address: String,
        /// What it announced.
        bytes: u64,
        /// The bound.
        max: usize,
    },
    /// Server and client share no version of an API.
    #[error("{address} offers no version of {api} that this client speaks")]
    Unsupported {
        /// Whom we would ask.
        address: String,
        /// What we would ask.
        api: &'static str,
    },
    /// A request cannot be written: one of its fields does not fit its length field.
    #[error("the request {api} cannot be written: {source}")]
    Unwritable {
        /// The API of the request.
        api: &'static str,
        /// Which bound it broke.
        source: WireError,
    },
}

impl CallError {
    /// Whether the same request may succeed on a new connection.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::AdvertisedUnreachable { .. }
            | Self::TimedOut { .. }
            | Self::Lost { .. } => true,
            // Who is not believed, or speaks something else, will be and do so again.
            Self::Tls { source, .. } => matches!(
                source.kind(),
                io::ErrorKind::ConnectionReset
                    | io::ErrorKind::ConnectionAborted
                    | io::ErrorKind::UnexpectedEof
                    | io::ErrorKind::BrokenPipe
                    | io::ErrorKind::TimedOut
            ),
            _ => false,
        }
    }
}

/// The server understood and said no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Kafka's error code.
    pub code: ErrorCode,
    /// The server's own words, if it sent any.
    pub message: Option<String>,
}

impl Refusal {
    pub(super) fn new(error_code: i16, message: Option<String>) -> Self {
        Self { code: ErrorCode(error_code), message: message.filter(|m| !m.is_empty()) }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.message {
            Some(message) => write!(f, "{message} ({})", self.code.name()),
            None => write!(f, "{}", self.code.name()),
        }
    }
}

impl std::error::Error for Refusal {}

/// Looking at or changing topics failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdminError {
    /// There was no answer.
    #[error(transparent)]
    Call(#[from] CallError),
    /// There is no such topic.
    #[error("there is no topic `{topic}`")]
    UnknownTopic {
        /// Its name.
        topic: String,
    },
    /// There is such a topic already.
    #[error("topic `{topic}` already exists")]
    TopicExists {
        /// Its name.
        topic: String,
    },
    /// The topic has no such partition.
    #[error("topic `{topic}` has no partition {partition}")]
    UnknownPartition {
        /// The topic's name.
        topic: String,
        /// The number that was asked for.
        partition: i32,
    },
    /// A partition has no leader at the moment.
    #[error("partition {partition} of topic `{topic}` has no leader at the moment")]
    NoLeader {
        /// The topic's name.
        topic: String,
        /// The partition's number.
        partition: i32,
    },
    /// There is no such consumer group.
    #[error("there is no consumer group `{group}`")]
    UnknownGroup {
        /// Its name.
        group: String,
    },
    /// A consumer group has members, who alone may commit.
    #[error("consumer group `{group}` has members")]
    GroupInUse {
        /// Its name.
        group: String,
    },
    /// The server said no.
    #[error("the server refused: {0}")]
    Refused(Refusal),
    /// The answer does not hold what was asked for.
    #[error("the answer to {api} does not mention `{missing}`")]
    Incomplete {
        /// The API of the answer.
        api: &'static str,
        /// What is missing.
        missing: String,
    },
}

/// Publishing failed. Records of the same call may have been acknowledged before.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The topic, its leader or the server could not be reached.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// A single record is larger than the server accepts.
    #[error("an event of {bytes} bytes is larger than topic `{topic}` accepts: {refusal}")]
    TooLarge {
        /// The topic's name.
        topic: String,
        /// Bytes of the record's batch.
        bytes: usize,
        /// The server's words.
        refusal: Refusal,
    },
    /// A record cannot be written in Kafka's record format.
    #[error("an event cannot be encoded: {0}")]
    Encode(#[from] RecordError),
    /// The server said no.
    #[error("the server refused: {0}")]
    Refused(Refusal),
    /// The server answered with errors that may pass, until the time was up.
    #[error("the server was not ready within {} ms: {last}", .after.as_millis())]
    GaveUp {
        /// How long it was tried.
        after: Duration,
        /// The last of its answers.
        last: Refusal,
    },
}

impl From<CallError> for PublishError {
    fn from(error: CallError) -> Self {
        Self::Admin(AdminError::Call(error))
    }
}

/// Reading failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// The topic, its leader or the server could not be reached.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// The offset is before the oldest or after the newest record.
    #[error("offset {offset} is not in partition {partition} of topic `{topic}` (any more)")]
    OutOfRange {
        /// The topic's name.
        topic: String,
        /// The partition's number.
        partition: i32,
        /// The offset that was asked for.
        offset: i64,
    },
    /// The server said no.
    #[error("the server refused: {0}")]
    Refused(Refusal),
    /// A batch is larger than the client accepts.
    #[error("the batch at offset {offset} of partition {partition} is larger than {max} bytes")]
    BatchTooLarge {
        /// The partition's number.
        partition: i32,
        /// Where the batch begins.
        offset: i64,
        /// The bound.
        max: usize,
    },
    /// A batch is not in the format of its bytes' header.
    #[error("the batch at offset {offset} of partition {partition} is damaged: {source}")]
    Batch {
        /// The partition's number.
        partition: i32,
        /// Where the batch was expected.
        offset: i64,
        /// What is wrong.
        source: BatchError,
    },
    /// The records of a batch cannot be read.
    #[error("the records at offset {offset} of partition {partition} cannot be read: {source}")]
    Records {
        /// The partition's number.
        partition: i32,
        /// Where the batch begins.
        offset: i64,
        /// What is wrong.
        source: RecordError,
    },
}

impl From<CallError> for FetchError {
    fn from(error: CallError) -> Self {
        Self::Admin(AdminError::Call(error))
    }
}
