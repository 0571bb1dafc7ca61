//! TLS below the Kafka protocol, and below HTTP, which has its sockets from here.
//!
//! Invariants:
//! - TLS 1.2 and 1.3 alone, with the cryptography that the rest of the program has;
//! - a client that says nothing has a place among the connections, and no memory of TLS;
//! - so many handshakes are made at one time, each within a time; a client that is waited for keeps others waiting for
//!   a moment at most;
//! - a certificate that is of no use never takes the place of one that is.

mod client;
mod identity;
mod validity;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, PoisonError, RwLock};

use jiff::Timestamp;
use rustls::ServerConfig;
use rustls::server::Acceptor;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::LazyConfigAcceptor;
use tracing::debug;

pub use self::client::{ClientSocket, ClientTls, InvalidAuthority};
pub use self::identity::InvalidIdentity;
pub use self::validity::Validity;
use crate::limits;
pub use crate::seldom::Seldom;

/// What a connection with TLS takes beyond one without, in bytes: what was received and is not decrypted yet, what
/// was and is not read, and what waits to be sent.
pub const CONNECTION_BYTES: usize = limits::TLS_CONNECTION_BYTES;

/// The first byte of whatever a client that speaks TLS says first: a record with a handshake.
pub const FIRST_BYTE: u8 = 0x16;

/// Bytes that are read of a client that does not speak TLS: its first request.
const PLAIN_BYTES_READ: usize = 1024;

/// A socket behind its handshake.
pub type TlsSocket = tokio_rustls::server::TlsStream<TcpStream>;

/// The certificate of a server and its key, which can be replaced while it runs, and who shakes hands with it.
#[derive(Clone)]
pub struct ServerTls(Arc<Shared>);

struct Shared {
    /// What the next handshake is made with.
    current: RwLock<(Arc<ServerConfig>, Validity)>,
    handshakes: Semaphore,
    /// Each port has lines of its own: a probe that asks the one without TLS hides nobody at the other.
    kafka: Lines,
    http: Lines,
}

/// What is said of the clients of one port.
#[derive(Default)]
struct Lines {
    /// Lines about clients that do not speak TLS.
    plain: Seldom,
    /// Lines about handshakes that have failed.
    failed: Seldom,
}

/// The port that a line is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// That of Kafka clients.
    Kafka,
    /// That of HTTP.
    Http,
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kafka => "Kafka port",
            Self::Http => "HTTP port",
        })
    }
}

/// Why a client has no TLS.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// It closed the connection before it said anything.
    #[error("the client closed the connection before it said anything")]
    Closed,
    /// It speaks something else.
    #[error(
        "a client without TLS spoke to it; Kafka clients need security.protocol=SSL, browsers and curl https://"
    )]
    Plain,
    /// It takes too long.
    #[error("the handshake was not over after {} s", limits::HANDSHAKE_MAX.as_secs())]
    Late,
    /// What it says, or what it says of our certificate, or the socket.
    #[error("the handshake failed: {0}")]
    Failed(#[source] io::Error),
}

impl ServerTls {
    /// TLS with a certificate and the chain behind it, and with its key, both in PEM. `now` decides whether the
    /// certificate is good.
    ///
    /// # Errors
    /// Why these are of no use.
    pub fn new(certificate: &[u8], key: &[u8], now: Timestamp) -> Result<Self, InvalidIdentity> {
        Ok(Self::with_turns(identity::read(certificate, key, now)?, limits::HANDSHAKES_MAX))
    }

    /// With so many handshakes at one time.
    fn with_turns(current: (Arc<ServerConfig>, Validity), turns: usize) -> Self {
        Self(Arc::new(Shared {
            current: RwLock::new(current),
            handshakes: Semaphore::new(turns),
            kafka: Lines::default(),
            http: Lines::default(),
        }))
    }

    /// Takes another certificate and its key for all handshakes from now on. Connections that are there stay.
    ///
    /// # Errors
    /// Why these are of no use. Those that were there stay.
    pub fn replace(&self, certificate: &[u8], key: &[u8], now: Timestamp) -> Result<(), InvalidIdentity> {
        let next = identity::read(certificate, key, now)?;
        *self.0.current.write().unwrap_or_else(PoisonError::into_inner) = next;
        Ok(())
    }

    /// For how long the certificate is good.
    #[must_use]
    pub fn validity(&self) -> Validity {
        self.0.current.read().unwrap_or_else(PoisonError::into_inner).1
    }

    /// Shakes hands with a client.
    ///
    /// # Errors
    /// Why there is no TLS with it. Its socket is closed.
    pub async fn accept(&self, stream: TcpStream) -> Result<Box<TlsSocket>, HandshakeError> {
        match timeout(limits::HANDSHAKE_MAX, self.shake_hands(stream)).await {
            Ok(done) => done,
            Err(_) => Err(HandshakeError::Late),
        }
    }

    async fn shake_hands(&self, stream: TcpStream) -> Result<Box<TlsSocket>, HandshakeError> {
        let mut first = [0];
        // Until then nothing is made for it, and it takes no turn from those who speak.
        match stream.peek(&mut first).await.map_err(HandshakeError::Failed)? {
            0 => return Err(HandshakeError::Closed),
            _ if first[0] != FIRST_BYTE => {
                // A socket that is closed with input unread is reset, and its client is told less than the end.
                let _ = stream.try_read(&mut [0; PLAIN_BYTES_READ]);
                return Err(HandshakeError::Plain);
            }
            _ => {}
        }
        // What it wants has to be here whole: a byte of it costs a client nothing.
        let hello = LazyConfigAcceptor::new(Acceptor::default(), stream);
        let hello = hello.await.map_err(HandshakeError::Failed)?;
        // Nobody closes the semaphore; without a turn a handshake would only be unbounded.
        let turn = self.0.handshakes.acquire().await.ok();
        let mut shaking = pin!(hello.into_stream(self.config()));
        let in_turn = timeout(limits::HANDSHAKE_TURN_MAX, shaking.as_mut()).await;
        // Behind that our part is done, and only its client is waited for.
        drop(turn);
        let accepted = if let Ok(accepted) = in_turn { accepted } else { shaking.await };
        // It is large, and moves to where the connection is.
        accepted.map(Box::new).map_err(HandshakeError::Failed)
    }

    fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.0.current.read().unwrap_or_else(PoisonError::into_inner).0)
    }

    /// Says in the log that there is no TLS with a client of this port, seldom enough that nobody can fill the log
    /// with it.
    pub fn report(&self, port: Port, peer: SocketAddr, error: &HandshakeError) {
        match self.seldom(port, error) {
            Some(seldom) => seldom.warn(peer, format_args!("{port}, TLS: {error}")),
            None => debug!(%peer, "{port}, TLS: {error}"),
        }
    }

    /// What says when it is time for another line; `None` where nobody has to be told.
    fn seldom(&self, port: Port, error: &HandshakeError) -> Option<&Seldom> {
        let lines = match port {
            Port::Kafka => &self.0.kafka,
            Port::Http => &self.0.http,
        };
        match error {
            HandshakeError::Plain => Some(&lines.plain),
            HandshakeError::Failed(_) => Some(&lines.failed),
            HandshakeError::Closed | HandshakeError::Late => None,
        }
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls").field("validity", &self.validity()).finish_non_exhaustive()
    }
}

/// The same one, and not one with the same files.
impl PartialEq for ServerTls {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for ServerTls {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::task::Poll;
    use std::time::Instant;
    use tokio::net::TcpListener;

    const CERTIFICATE: &[u8] = include_bytes!("../tests/certificates/server.pem");
    const KEY: &[u8] = include_bytes!("../tests/certificates/server-key.pem");

    fn server() -> ServerTls {
        ServerTls::new(CERTIFICATE, KEY, Timestamp::now()).expect("a good certificate")
    }

    /// One that makes a single handshake at a time.
    fn server_with_one_turn() -> ServerTls {
        let current = identity::read(CERTIFICATE, KEY, Timestamp::now()).expect("a good certificate");
        ServerTls::with_turns(current, 1)
    }

    /// Shakes hands with another client, in much less time than a client may take that says no more.
    async fn assert_serves_others(server: &ServerTls, listener: &TcpListener) {
        let address = listener.local_addr().expect("an address");
        let stream = TcpStream::connect(address).await.expect("a connection");
        let (accepted, _) = listener.accept().await.expect("a connection");
        let client = ClientTls::of_the_server(CERTIFICATE).expect("a certificate");
        let both = async { tokio::join!(server.accept(accepted), client.connect("localhost", stream)) };
        let both = timeout(limits::HANDSHAKE_MAX / 2, both).await;
        let (served, shaken) = both.expect("it waits for a client that says no more");
        assert!(served.is_ok() && shaken.is_ok(), "{served:?}");
    }

    async fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let address = listener.local_addr().expect("an address");
        (listener, address)
    }

    #[tokio::test(start_paused = true)]
    async fn a_handshake_has_its_time_and_no_more() {
        let (listener, address) = listener().await;
        let _silent = TcpStream::connect(address).await.expect("a connection");
        let (stream, _) = listener.accept().await.expect("a connection");
        let begun = tokio::time::Instant::now();
        let ended = server().accept(stream).await;
        assert!(matches!(ended, Err(HandshakeError::Late)), "{ended:?}");
        assert!(begun.elapsed() >= limits::HANDSHAKE_MAX);
        assert!(begun.elapsed() < limits::HANDSHAKE_MAX * 2);
    }

    /// Otherwise whoever opens connections and says nothing keeps all others away.
    #[tokio::test]
    async fn clients_that_say_nothing_take_no_turn() {
        let (server, (listener, address)) = (server(), listener().await);
        let mut silent = Vec::new();
        for _ in 0..=limits::HANDSHAKES_MAX {
            silent.push(TcpStream::connect(address).await.expect("a connection"));
            let (stream, _) = listener.accept().await.expect("a connection");
            let server = server.clone();
            tokio::spawn(async move { server.accept(stream).await.map(drop) });
        }
        // All of them are looked at once before the next one comes.
        tokio::task::yield_now().await;
        assert_eq!(server.0.handshakes.available_permits(), limits::HANDSHAKES_MAX);
        assert_serves_others(&server, &listener).await;
    }

    /// As many clients as there are turns, with a byte each, would keep all others away.
    #[tokio::test]
    async fn a_client_that_stops_in_its_first_words_takes_no_turn() {
        use tokio::io::AsyncWriteExt as _;

        let (server, (listener, address)) = (server_with_one_turn(), listener().await);
        let mut stopped = TcpStream::connect(address).await.expect("a connection");
        let (stream, _) = listener.accept().await.expect("a connection");
        stopped.write_all(&[FIRST_BYTE, 3, 1, 2, 0, 1]).await.expect("it is sent");
        let waits = server.clone();
        tokio::spawn(async move { waits.accept(stream).await.map(drop) });
        assert_serves_others(&server, &listener).await;
        assert_eq!(server.0.handshakes.available_permits(), 1);
        drop(stopped);
    }

    /// The same behind its first words. A client that is only slow has its handshake all the same.
    #[tokio::test]
    async fn a_client_that_stops_in_the_middle_keeps_others_for_a_moment_only() {
        let (server, (listener, address)) = (server_with_one_turn(), listener().await);
        let stream = TcpStream::connect(address).await.expect("a connection");
        let (accepted, _) = listener.accept().await.expect("a connection");
        let client = ClientTls::of_the_server(CERTIFICATE).expect("a certificate");
        let mut slow = pin!(client.connect("localhost", stream));
        // Its first words are sent, and nobody looks for the answer.
        let is_waiting = poll_fn(|context| Poll::Ready(slow.as_mut().poll(context).is_pending())).await;
        assert!(is_waiting);
        let waits = server.clone();
        let served = tokio::spawn(async move { waits.accept(accepted).await.map(drop) });
        while server.0.handshakes.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        assert_serves_others(&server, &listener).await;
        let _socket = slow.await.expect("a handshake");
        served.await.expect("no panic").expect("a handshake");
    }

    #[tokio::test]
    async fn who_hangs_up_and_who_speaks_something_else_are_told_apart() {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

        let (server, (listener, address)) = (server(), listener().await);
        let gone = TcpStream::connect(address).await.expect("a connection");
        let (stream, _) = listener.accept().await.expect("a connection");
        drop(gone);
        assert!(matches!(server.accept(stream).await, Err(HandshakeError::Closed)));

        let mut plain = TcpStream::connect(address).await.expect("a connection");
        let (stream, _) = listener.accept().await.expect("a connection");
        plain.write_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("it is sent");
        assert!(matches!(server.accept(stream).await, Err(HandshakeError::Plain)));
        // An end, and no reset: the client knows that nothing was lost on its way.
        assert_eq!(plain.read(&mut [0; 8]).await.expect("an orderly end"), 0);
    }

    /// A probe that speaks http:// comes every few seconds, and would take every line there is.
    #[test]
    fn a_line_about_one_port_takes_none_from_the_other() {
        let (server, now) = (server(), Instant::now());
        let failed = HandshakeError::Failed(io::ErrorKind::InvalidData.into());
        for error in [&HandshakeError::Plain, &failed] {
            let say = |port| server.seldom(port, error).expect("it is worth a line").say(now);
            assert_eq!((say(Port::Http), say(Port::Http)), (Some(0), None));
            assert_eq!((say(Port::Kafka), say(Port::Kafka)), (Some(0), None), "{error}");
        }
        for error in [HandshakeError::Closed, HandshakeError::Late] {
            assert!(server.seldom(Port::Kafka, &error).is_none(), "{error}");
        }
    }
}
