//! `courant://` and `kafka://`: a service's events in a server that speaks Kafka's protocol.
//!
//! [`Kafka`] opens such engines for [`courant_engine::open_with`]. Behind it is librdkafka: an idempotent
//! producer for publishing, one consumer for each subscription, on a thread of its own, and one client for
//! everything that is only looked at.
//!
//! Options behind the addresses say how the server is spoken to: `?tls=true` or `?tls_ca=FILE` in TLS, with the feature
//! `tls`, and `sasl=` how a login is made; see [`Kafka`].
//!
//! What is the same as in the engines of the process is what the contract of
//! [`Engine`](courant_engine::Engine) says. What differs:
//!
//! - a group is shared by all processes that use the server. It is dealt out by librdkafka's
//!   `cooperative-sticky` assignor: a partition that is wanted elsewhere is revoked alone, and the others
//!   are read on;
//! - a record with a timestamp of 0, or with a header whose name is not UTF-8, is refused: the client
//!   cannot send them. One that somebody else has put there and whose header has such a name comes as
//!   [`FetchError::Undecodable`](courant_engine::FetchError::Undecodable);
//! - a topic's id is made of the log's id and the topic's name: one that is created again has the same;
//! - [`Fetched`](courant_engine::Fetched) says where a partition ended when it was sought, or behind the
//!   newest record that has come since.

mod address;
mod catalog;
mod commits;
mod engine;
mod inbox;
pub mod limits;
mod looking;
mod member;
mod open;
mod options;
mod passing;
mod password;
mod producer;
mod publish;
mod servers;
mod settings;
mod size;
mod subscription;
mod texts;

pub use open::{Kafka, KafkaWith};
pub use settings::Silence;
