//! One process from the parts: the log, the Kafka front-end, HTTP.
//!
//! [`Server::start`] is the whole of it. Nothing here reads the command line or the environment;
//! everything comes in a [`ServerConfig`].

mod config;

mod server;

mod bind;

mod http;

mod connections;

mod metrics;

mod error;

pub use config::ServerConfig;
pub use courant_log::RecoveryReport;
pub use error::StartError;
pub use server::Server;
