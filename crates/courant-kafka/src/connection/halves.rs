//! The two halves of what a connection runs on: a socket, or TLS on one.
//!
//! A connection is made for each of the two by the compiler, so that one without TLS does what it did before there was
//! any.

use std::io;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadHalf, WriteHalf};
use tokio::net::tcp;

use crate::tls::TlsSocket;

/// Where requests come from.
pub(super) trait Incoming: AsyncRead + Unpin + Send {
    /// Whether the connection may keep its thread, with the socket and without this.
    const MAY_BE_ALONE: bool;

    /// Whether anything may be there to read, before memory is taken for it; else the task is woken when there is.
    fn poll_arrived(&self, context: &mut Context<'_>) -> Poll<io::Result<()>>;
}

impl Incoming for tcp::ReadHalf<'_> {
    const MAY_BE_ALONE: bool = true;

    fn poll_arrived(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.as_ref().poll_read_ready(context)
    }
}

impl Incoming for ReadHalf<&mut TlsSocket> {
    const MAY_BE_ALONE: bool = false;

    fn poll_arrived(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What is in the socket is no sign: it may be decrypted already, or be no data. The memory is given back where
        // nothing comes.
        Poll::Ready(Ok(()))
    }
}

/// Where answers go.
pub(super) trait Outlet: AsyncWrite + Unpin + Send {
    /// Whether a part of what was written may stay here until somebody flushes.
    const KEEPS_SOME: bool;
}

impl Outlet for tcp::WriteHalf<'_> {
    const KEEPS_SOME: bool = false;
}

impl Outlet for WriteHalf<&mut TlsSocket> {
    const KEEPS_SOME: bool = true;
}
