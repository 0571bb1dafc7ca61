//! Errors, one enum for each operation.

use std::io;
use std::path::PathBuf;

use crate::{Partition, limits};

/// Why an engine does not open.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The URL is right, and this binary cannot use it.
    #[error(
        "{url} needs the feature \"{feature}\" of courant, which is not built into this binary; say \
         features = [\"{feature}\"] beside courant in Cargo.toml"
    )]
    NotBuiltIn {
        /// The URL, without its credentials.
        url: String,
        /// The cargo feature that brings the engine.
        feature: &'static str,
    },
    /// The URL is right, and this binary can do a part of it only.
    #[error(
        "{url} asks for {part}, and needs the feature \"{feature}\" of courant, which is not built into this binary; \
         say features = [\"{feature}\"] beside courant in Cargo.toml"
    )]
    PartNotBuiltIn {
        /// The URL, without its credentials and options.
        url: String,
        /// What cannot be done.
        part: &'static str,
        /// The cargo feature that brings it.
        feature: &'static str,
    },
    /// The URL is right, and nobody has written the engine yet.
    #[error("there is no engine for {url} yet; there are memory:, embedded:PATH, courant:// and kafka://")]
    NoEngine {
        /// The URL, without its credentials.
        url: String,
    },
    /// Something has the directory open.
    #[error(
        "{} is in use, by a `courant serve`, another service, or this one twice: stop the other, \
         choose another directory, or share one engine in this process", .dir.display()
    )]
    InUse {
        /// The directory.
        dir: PathBuf,
    },
    /// The directory cannot be used.
    #[error("{} cannot be used as a data directory: {source}", .dir.display())]
    Directory {
        /// The directory.
        dir: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The log in it does not open.
    #[error("the log in {place} does not open: {source}")]
    Log {
        /// The directory, or "memory".
        place: String,
        /// What the log says.
        source: courant_log::OpenError,
    },
    /// What the URL says beside the scheme cannot be used.
    #[error("{url} cannot be used: {reason}")]
    Url {
        /// The URL, without its credentials.
        url: String,
        /// Which part of it, and what it can be.
        reason: String,
    },
    /// Nobody answers there.
    #[error("{url} does not answer: {reason}")]
    Unreachable {
        /// The URL, without its credentials.
        url: String,
        /// Which address, and what to look at.
        reason: String,
    },
    /// Somebody answers, and is not believed to be the server, or does not speak TLS.
    #[error("{url} is not spoken to: {reason}")]
    Tls {
        /// The URL, without its credentials.
        url: String,
        /// What is wrong with the certificate or the handshake, and what to change.
        reason: String,
    },
    /// The server does not take the login.
    #[error("{url} does not let this service in: {reason}")]
    Login {
        /// The URL, without its credentials.
        url: String,
        /// What the server says, and what to look at.
        reason: String,
    },
    /// The runtime was stopped meanwhile.
    #[error("the runtime ended while the engine was opened")]
    Interrupted,
}

/// Why topics are not described.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TopicsError {
    /// The engine is closed.
    #[error("the engine is closed")]
    Closed,
    /// The engine did not answer.
    #[error("the engine does not say which topics it has: {reason}")]
    Failed {
        /// What it said.
        reason: String,
    },
}

/// Why a topic was not created.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CreateTopicError {
    /// There is one of that name.
    #[error("topic {topic} exists already")]
    Exists {
        /// Its name.
        topic: String,
    },
    /// What is asked for cannot be had.
    #[error("topic {topic} cannot be created: {reason}")]
    Refused {
        /// Its name.
        topic: String,
        /// Which number or config is in the way, and what it can be.
        reason: String,
    },
    /// It was created or found, and is gone.
    #[error("topic {topic} was deleted while it was looked for")]
    Vanished {
        /// Its name.
        topic: String,
    },
    /// The engine takes nothing now.
    #[error("topic {topic} was not created: {reason}")]
    Failed {
        /// Its name.
        topic: String,
        /// What the engine said.
        reason: String,
    },
    /// The topics could not be looked up.
    #[error(transparent)]
    Topics(#[from] TopicsError),
}

/// Why a record was not published. It is not in the engine, except that nobody knows after
/// [`PublishError::InDoubt`], and after [`PublishError::Failed`] until the engine is opened again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// There is no such topic.
    #[error("topic {topic} does not exist; create it first")]
    UnknownTopic {
        /// The name.
        topic: String,
    },
    /// The topic has no such partition.
    #[error("{partition} does not exist; the topic has {have}")]
    UnknownPartition {
        /// The partition that was named.
        partition: Partition,
        /// How many the topic has.
        have: u32,
    },
    /// It is larger than the topic takes.
    #[error(
        "a record of {bytes} bytes is more than topic {topic} takes: its max.message.bytes is {max}; \
         raise it, or keep the data elsewhere and publish its address"
    )]
    TooLarge {
        /// The topic.
        topic: String,
        /// Bytes of the record.
        bytes: usize,
        /// Bytes that the topic takes.
        max: usize,
    },
    /// The topic is compacted, and the record has no key to compact it by.
    #[error("topic {topic} is compacted: every record in it needs a key")]
    NoKey {
        /// The topic.
        topic: String,
    },
    /// It is not one that the format can hold, or its timestamp is farther from the clock than the topic allows.
    #[error("the record cannot be stored: {reason}")]
    Unencodable {
        /// What is wrong with it.
        reason: String,
    },
    /// One before it in its partition failed, and this one was not to overtake it.
    #[error("a record before it in its partition failed, so it was not tried")]
    NotTried,
    /// More is waiting than the engine takes; try again.
    #[error("too much is waiting to be written; try again")]
    Busy,
    /// There is no room, or no file is left that the process may open.
    #[error("the engine is full: {hint}")]
    Full {
        /// How to make room.
        hint: String,
    },
    /// Nothing more is written until the engine is opened again.
    #[error("nothing more is written: {reason}")]
    Failed {
        /// What happened.
        reason: String,
    },
    /// The engine could not be asked, and nothing was sent.
    #[error("it was not sent: {reason}")]
    Unreachable {
        /// Who does not answer.
        reason: String,
    },
    /// No answer came: it may be stored or not.
    #[error("no answer came, and the record may be stored or not: {reason}")]
    InDoubt {
        /// What happened.
        reason: String,
    },
    /// The engine is closed.
    #[error("the engine is closed")]
    Closed,
}

impl PublishError {
    /// Whether the same record may be taken a little later.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        matches!(
            self,
            Self::NotTried | Self::Busy | Self::Full { .. } | Self::Unreachable { .. } | Self::InDoubt { .. }
        )
    }
}

/// Why a consumer cannot subscribe.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubscribeError {
    /// There is no such topic.
    #[error("topic {topic} does not exist; create it first")]
    UnknownTopic {
        /// The name.
        topic: String,
    },
    /// Nothing to subscribe to.
    #[error("a subscription needs at least one topic")]
    NoTopics,
    /// A group's name that no engine keeps.
    #[error("a group's name has 1 to {max} bytes, this one has {bytes}")]
    GroupName {
        /// Bytes of the name.
        bytes: usize,
        /// Bytes that it may have.
        max: usize,
    },
    /// A bound of bytes that is none.
    #[error("a subscription reads 1 to {max} bytes at a time, not {bytes}", max = limits::FETCH_BYTES_MAX)]
    Bytes {
        /// Bytes that were asked for.
        bytes: usize,
    },
    /// The engine did not answer.
    #[error("the engine does not take the subscription: {reason}")]
    Failed {
        /// What it said.
        reason: String,
    },
    /// The engine is closed.
    #[error("the engine is closed")]
    Closed,
}

/// Why a subscription gives no records.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// The offset lies before the oldest or behind the newest record.
    #[error("{partition} is to be read at offset {offset}, and has {start} to {end}")]
    OutOfRange {
        /// The partition.
        partition: Partition,
        /// Where it was to be read.
        offset: u64,
        /// Offset of the oldest record.
        start: u64,
        /// Offset behind the newest record.
        end: u64,
    },
    /// Records there are damaged and are not served. Seeking to `next_offset` passes them.
    #[error("{partition} is damaged from offset {offset} on: {reason}")]
    Damaged {
        /// The partition.
        partition: Partition,
        /// Where it was to be read.
        offset: u64,
        /// Where the damage ends, if that is known.
        next_offset: Option<u64>,
        /// What the log says.
        reason: String,
    },
    /// What a producer stored there are no records. Seeking to `next_offset` passes it.
    #[error("{partition} has something at offset {offset} that are no records: {reason}")]
    Undecodable {
        /// The partition.
        partition: Partition,
        /// The first offset of the batch.
        offset: u64,
        /// The offset behind the batch.
        next_offset: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// The partition is gone.
    #[error("{partition} does not exist any more")]
    UnknownPartition {
        /// The partition.
        partition: Partition,
    },
    /// The engine could not read it.
    #[error("{partition} cannot be read: {reason}")]
    Failed {
        /// The partition.
        partition: Partition,
        /// What the engine said.
        reason: String,
    },
    /// The group does not have the subscription as a member any more, and will not.
    #[error("the subscription has ended: {reason}")]
    Ended {
        /// What the engine said.
        reason: String,
    },
    /// The engine is closed.
    #[error("the engine is closed")]
    Closed,
}

/// Why a subscription does not take a position.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SeekError {
    /// Another subscription has the partition, or nobody.
    #[error("{partition} is not assigned to this subscription")]
    NotAssigned {
        /// The partition.
        partition: Partition,
    },
}

/// Why something about a partition is not told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// There is no such partition.
    #[error("{partition} does not exist")]
    UnknownPartition {
        /// The partition.
        partition: Partition,
    },
    /// The engine could not read it.
    #[error("{partition} cannot be read: {reason}")]
    Failed {
        /// The partition.
        partition: Partition,
        /// What the engine said.
        reason: String,
    },
    /// The engine is closed.
    #[error("the engine is closed")]
    Closed,
}

/// Why a group's progress is neither kept nor told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// There is no such partition.
    #[error("{partition} does not exist")]
    UnknownPartition {
        /// The partition.
        partition: Partition,
    },
    /// The engine does not keep it.
    #[error("what group {group} has committed is not kept: {reason}")]
    Failed {
        /// The group.
        group: String,
        /// What the engine said.
        reason: String,
    },
    /// The engine is closed.
    #[error("the engine is closed")]
    Closed,
}
