//! Engines: where a service's events flow, behind one trait, chosen by a URL.
//!
//! A service is written once and told by an [`EngineUrl`] whether its events are kept in memory, in a
//! directory beside it, or by a server. What engines differ in is in their [`Capabilities`]; what they
//! must not differ in is the contract of [`Engine`].
//!
//! [`open`] gives `memory:` and `embedded:`, which are one log, `courant-log`, on two storages; engines of
//! servers come from crates of their own, as [`EngineFactory`] to [`open_with`]. Nothing here decides
//! what an event means: records have a key, a value, headers and a timestamp, as Kafka's have.
//!
//! All methods need a Tokio runtime with timers. None of them blocks a worker of it: what waits for a
//! disk runs on the runtime's threads for blocking work. Only dropping an engine that was not closed does.

mod capabilities;
mod engine;
mod error;
pub mod limits;
mod local;
mod position;
mod record;
mod subscription;
mod topic;
mod url;

pub use courant_log::topic_config::TimestampLimits;

pub use capabilities::{
    Access, Capabilities, Durability, GroupScope, Lifetime, OrderScope, PublishDedup, Replay, TimeLookup,
};
pub use engine::{Boxed, Engine, EngineConfig, EngineFactory, beside_server, ensure_topics, open, open_with};
pub use error::{
    CommitError, CreateTopicError, FetchError, OpenError, PublishError, ReadError, SeekError, SubscribeError,
    TopicsError,
};
pub use position::{Ends, Partition, Position, TimedOffset};
pub use record::{Header, NewRecord, ReadBack, Record};
pub use subscription::{Fetched, Next, Subscribe, Subscription};
pub use topic::{NewTopic, Topic};
pub use url::{EngineUrl, InvalidEngineUrl, MemoryOptions, RemoteUrl, Scheme};
