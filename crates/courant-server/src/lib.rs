//! One process from the parts: the log, the Kafka front-end, HTTP.
//!
//! [`Server::start`] is the whole of it. Nothing here reads the command line or the environment;
//! everything comes in a [`ServerConfig`].

mod config;

mod server;

mod files;

mod memory;

mod bind;

mod http;

mod api;

mod client;

mod demo;

mod console;

mod connections;

mod sockets;

mod metrics;

mod scrub;

mod error;

pub mod planted;

pub use api::{ApiSettings, ApiTokens, InvalidServiceKeys, InvalidTokens, ServiceKeys, TraceSettings};
pub use client::{ApiClient, ApiError, ApiUrl, InvalidApiUrl, path_part};
pub use config::{CompactionSettings, ServerConfig};
pub use courant_log::RecoveryReport;
pub use demo::{Demo, DemoAnswer, DemoDesk, DemoError, DemoFigures, DemoState, DemoSwitch, DemoTick};
pub use error::StartError;
pub use files::{FILES_MIN, files_wanted};
pub use memory::{MEMORY_MIN, MemoryBound};
pub use server::Server;
