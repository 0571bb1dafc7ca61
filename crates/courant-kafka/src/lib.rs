//! The Kafka protocol in front of the log.
//!
//! Read in this order, a request's way in and its answer's way out:
//! [`listener`](KafkaServer) accepts, [`tls`] shakes hands where that is wanted, `connection` cuts frames and keeps answers in order, `wire`
//! turns bytes into messages and back without any I/O, `api` has one file per API, and `groups` is
//! the coordinator of consumer groups. [`client`] is the other end of the wire: a small client for the command line.
//!
//! ```no_run
//! # async fn example(log: courant_log::Log) -> std::io::Result<()> {
//! use std::sync::Arc;
//! use courant_kafka::{Broker, KafkaConfig, KafkaServer};
//!
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:9092").await?;
//! let broker = Arc::new(Broker::new(log, KafkaConfig::default()));
//! let server = KafkaServer::start(broker, vec![listener]);
//! server.stop(std::time::Duration::from_secs(10)).await;
//! # Ok(())
//! # }
//! ```

mod config;
mod limits;
mod memory;

mod listener;

pub mod tls;

mod connection;

pub mod wire;

mod api;

mod groups;

mod broker;
mod budget;
mod cold;
mod seldom;

pub mod client;

pub use broker::{Broker, KafkaMetrics};
pub use config::{KafkaConfig, Limits};
pub use groups::{ChangeGroupError, GroupMember, GroupView};
pub use listener::{KafkaServer, KafkaTasks};
