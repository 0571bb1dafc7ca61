//! The embedded log of a service, served on loopback while the service runs: for the command line, for the console,
//! for whoever speaks Kafka's protocol on this machine.
//!
//! ```text
//!   service ──▶ engine ──▶ log in a directory ◀── server on loopback ◀── courant tail, the console
//! ```
//!
//! It is one log, which a server has open and the service's engine stands beside. Nothing is copied, offsets are
//! the same on both sides, and the directory opens afterwards without a server, or under `courant serve`.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use courant_engine::{Engine, EngineConfig, EngineUrl, beside_server};
use courant_server::{Server, ServerConfig, StartError};

/// How long what a group has committed is kept: the longest that can be said to tools, some 4,000 years. Services are
/// no members of the server's groups, so that it would take what they have committed for left behind. One without
/// a store that was at rest for longer would begin anew.
const OFFSETS_KEPT: Duration = Duration::from_secs(2_147_483_647 * 60);

/// Where an embedded log is to be reached. At first where a server is: `127.0.0.1:9092` for Kafka's protocol, and
/// `127.0.0.1:8080` for HTTP and the console.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen {
    kafka: SocketAddr,
    http: SocketAddr,
}

/// An embedded log that is open in this process and can be reached on loopback. Services take
/// [`Listening::engine`]; when they have stopped, [`Listening::stop`] ends it in order.
///
/// Dropped, it stops nothing in order: what was acknowledged is there when the directory is opened the next time.
pub struct Listening {
    server: Server,
    engine: Arc<dyn Engine>,
}

/// Why an embedded log cannot be reached.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// The URL names another engine.
    #[error("{url} is no embedded log: write embedded:PATH; what runs elsewhere is reached there")]
    NotEmbedded {
        /// The URL.
        url: EngineUrl,
    },
    /// The address can be reached from other machines, and nothing protects the log.
    #[error(
        "{address} can be reached from other machines, and nothing protects the log: listen on 127.0.0.1, or \
         have a server"
    )]
    NotLoopback {
        /// The address.
        address: SocketAddr,
    },
    /// Another program has the address.
    #[error("{address} is in use by another program: choose another port, or 0 for any that is free")]
    AddressInUse {
        /// The address.
        address: SocketAddr,
    },
    /// One address for both.
    #[error("Kafka's protocol and HTTP cannot both have {address}: give one of them another port")]
    OneAddress {
        /// The address.
        address: SocketAddr,
    },
    /// The system does not let it be listened on.
    #[error("{address} cannot be listened on: {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// Another program has the log open, or an engine of this one.
    #[error(
        "the log in {} is in use: end the program that has it open, or name another directory",
        .directory.display()
    )]
    InUse {
        /// The directory.
        directory: PathBuf,
    },
    /// The server does not start, as when the directory cannot be used.
    #[error(transparent)]
    Start(StartError),
}

impl Default for Listen {
    fn default() -> Self {
        let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Self { kafka: local(9092), http: local(8080) }
    }
}

impl Listen {
    /// Where Kafka's protocol is spoken. Port 0 picks a free one.
    #[must_use]
    pub fn kafka(self, address: SocketAddr) -> Self {
        Self { kafka: address, ..self }
    }

    /// Where the HTTP API and the console are. Port 0 picks a free one.
    #[must_use]
    pub fn http(self, address: SocketAddr) -> Self {
        Self { http: address, ..self }
    }

    /// Opens the log of a directory, `embedded:PATH`, and listens. Must be called inside a Tokio runtime.
    ///
    /// Clients create no topic by asking for it: to look is not to change. What groups have committed is kept for
    /// ever, as without a server.
    ///
    /// # Errors
    /// See [`ListenError`].
    pub async fn open(self, url: &EngineUrl) -> Result<Listening, ListenError> {
        let EngineUrl::Embedded(directory) = url else {
            return Err(ListenError::NotEmbedded { url: url.clone() });
        };
        for address in [self.kafka, self.http] {
            if !address.ip().is_loopback() {
                return Err(ListenError::NotLoopback { address });
            }
        }
        if self.kafka == self.http && self.kafka.port() != 0 {
            return Err(ListenError::OneAddress { address: self.kafka });
        }
        let config = ServerConfig {
            kafka: self.kafka.to_string(),
            http: self.http.to_string(),
            auto_create: false,
            offsets_retention: OFFSETS_KEPT,
            ..ServerConfig::local(directory)
        };
        let server = Box::pin(Server::start(config)).await.map_err(ListenError::from)?;
        let engine = beside_server(server.log().clone(), EngineConfig::system());
        Ok(Listening { server, engine })
    }
}

impl Listening {
    /// The engine of services: `App::new("billing").engine(listening.engine())`.
    pub fn engine(&self) -> Arc<dyn Engine> {
        self.engine.clone()
    }

    /// Where Kafka's protocol is spoken, with the real port. `None` never comes: it listens somewhere.
    pub fn kafka(&self) -> Option<SocketAddr> {
        self.server.kafka_addresses().first().copied()
    }

    /// Where the HTTP API and the console are, with the real port. `None` never comes.
    pub fn http(&self) -> Option<SocketAddr> {
        self.server.http_addresses().first().copied()
    }

    /// Ends in order: the last answers to clients, then the log. The services on it are to have stopped.
    pub async fn stop(self) {
        self.engine.close().await;
        Box::pin(self.server.stop()).await;
    }
}

impl fmt::Debug for Listening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listening").field("server", &self.server).finish_non_exhaustive()
    }
}

impl From<StartError> for ListenError {
    fn from(error: StartError) -> Self {
        // What is said of flags says nothing to a program that has none.
        if let Some(directory) = error.directory_in_use() {
            return Self::InUse { directory: directory.to_owned() };
        }
        match error {
            StartError::InUse { address, .. } => Self::AddressInUse { address },
            StartError::Bind { address, source, .. } => Self::Bind { address, source },
            other => Self::Start(other),
        }
    }
}
