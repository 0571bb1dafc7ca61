//! What an HTTP connection runs on: a socket, or TLS on one.
//!
//! The handshake is made by the task of its connection, when that first wants to read: whoever accepts waits for nobody.

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use courant_kafka::tls::{FIRST_BYTE, Port, Seldom, ServerTls, TlsSocket};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tracing::warn;

/// Makes the sockets of connections.
#[derive(Clone, Debug)]
pub(crate) struct Sockets {
    tls: Option<ServerTls>,
    /// Lines about clients that speak TLS where nobody else does.
    strangers: Arc<Seldom>,
}

impl Sockets {
    pub(crate) fn new(tls: Option<ServerTls>) -> Self {
        Self { tls, strangers: Arc::default() }
    }

    pub(crate) fn over(&self, stream: TcpStream, peer: SocketAddr) -> Socket {
        match self.tls.clone() {
            None => Socket::Plain { stream, first: Some((peer, Arc::clone(&self.strangers))) },
            Some(tls) => Socket::Handshake(Box::pin(async move {
                let accepted = tls.accept(stream).await;
                accepted.map_err(|error| {
                    tls.report(Port::Http, peer, &error);
                    io::Error::new(ErrorKind::ConnectionAborted, error)
                })
            })),
        }
    }
}

/// A handshake under way.
type Handshake = Pin<Box<dyn Future<Output = io::Result<Box<TlsSocket>>> + Send>>;

/// A socket, in one of its states.
pub(crate) enum Socket {
    /// Without TLS.
    Plain {
        stream: TcpStream,
        /// Until something was read: whose it is, and where lines about it go.
        first: Option<(SocketAddr, Arc<Seldom>)>,
    },
    /// Before TLS.
    Handshake(Handshake),
    /// With TLS.
    Tls(Box<TlsSocket>),
    /// There is no TLS with this client.
    Failed,
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain { .. } => "Plain",
            Self::Handshake(_) => "Handshake",
            Self::Tls(_) => "Tls",
            Self::Failed => "Failed",
        })
    }
}

impl Socket {
    /// Goes on with the handshake, if it is not over.
    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self::Handshake(handshake) = self else { return Poll::Ready(Ok(())) };
        match ready!(handshake.as_mut().poll(context)) {
            Ok(stream) => *self = Self::Tls(stream),
            Err(error) => {
                *self = Self::Failed;
                return Poll::Ready(Err(error));
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// Says once in a while that a client speaks TLS to a port without.
fn look_at(first: &[u8], peer: SocketAddr, strangers: &Seldom) {
    if first.first() != Some(&FIRST_BYTE) {
        return;
    }
    if let Some(unsaid) = strangers.say(Instant::now()) {
        warn!(
            %peer,
            unsaid,
            "a TLS client spoke to the HTTP port; this server speaks no TLS: say http://, or start it with --tls-cert \
             and --tls-key"
        );
    }
}

fn gone() -> io::Error {
    ErrorKind::NotConnected.into()
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let socket = self.get_mut();
        ready!(socket.poll_ready(context))?;
        match socket {
            Self::Plain { stream, first } => {
                let before = buffer.filled().len();
                ready!(Pin::new(stream).poll_read(context, buffer))?;
                if let Some((peer, strangers)) = first.take() {
                    look_at(&buffer.filled()[before..], peer, &strangers);
                }
                Poll::Ready(Ok(()))
            }
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Handshake(_) | Self::Failed => Poll::Ready(Err(gone())),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let socket = self.get_mut();
        ready!(socket.poll_ready(context))?;
        match socket {
            Self::Plain { stream, .. } => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Handshake(_) | Self::Failed => Poll::Ready(Err(gone())),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let socket = self.get_mut();
        ready!(socket.poll_ready(context))?;
        match socket {
            Self::Plain { stream, .. } => Pin::new(stream).poll_write_vectored(context, parts),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(context, parts),
            Self::Handshake(_) | Self::Failed => Poll::Ready(Err(gone())),
        }
    }

    fn is_write_vectored(&self) -> bool {
        // Both do: it is asked before the handshake.
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain { stream, .. } => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
            // Nothing was written.
            Self::Handshake(_) | Self::Failed => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain { stream, .. } => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
            // Its socket is closed when it is dropped.
            Self::Handshake(_) | Self::Failed => Poll::Ready(Ok(())),
        }
    }
}
