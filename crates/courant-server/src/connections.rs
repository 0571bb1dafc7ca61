//! Bounds on HTTP connections: how many there are, how many requests each has at one time, how long it may say
//! nothing, and how long a peer that has vanished is believed to be there.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep};
use tracing::debug;

use crate::sockets::{Socket, Sockets};

/// How long a connection may go without taking a part of an answer, so also how long a request may
/// take to arrive. Between the usual intervals of scrapes (15, 30 and 60 s), so that a kept
/// connection does not end at the moment of the next one.
const SILENCE_MAX: Duration = Duration::from_secs(45);

/// What a client of HTTP/2 says first (RFC 9113, section 3.4). A connection of that kind has hundreds of requests at
/// one time, and answers its pings for ever, so no bound on connections would hold. Whether the library below would
/// speak it is up to the features that any other crate of the program asks for.
const HTTP_2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A socket that accepts while there are places.
#[derive(Debug)]
pub(crate) struct Bounded {
    listener: TcpListener,
    places: Arc<Semaphore>,
    sockets: Sockets,
}

impl Bounded {
    /// Shares `places` with the other listeners.
    pub(crate) fn new(listener: TcpListener, places: Arc<Semaphore>, sockets: Sockets) -> Self {
        Self { listener, places, sockets }
    }
}

impl Listener for Bounded {
    type Io = Connection<Socket>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        // Nobody closes the semaphore; without a place a connection would only be unbounded.
        let place = Arc::clone(&self.places).acquire_owned().await.ok();
        let (stream, peer) = Listener::accept(&mut self.listener).await;
        if let Err(error) = stream.set_nodelay(true) {
            // Its answers only come later.
            debug!(%peer, %error, "small answers to an HTTP client wait for its receipts");
        }
        if let Err(error) = expect_receipts(&stream, SILENCE_MAX) {
            // A peer that has gone is met by the first read, too.
            debug!(%peer, %error, "whether an HTTP client is still there will be known late");
        }
        (Connection::new(self.sockets.over(stream, peer), place), peer)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// Ends the connection when its peer has not received for so long what was sent to it. The kernel takes what a
/// live tail says to a peer whose machine or network is gone, and would repeat it for a quarter of an hour before
/// anybody is told: the bytes count as written.
#[cfg(target_os = "linux")]
fn expect_receipts(stream: &TcpStream, within: Duration) -> io::Result<()> {
    socket2::SockRef::from(stream).set_tcp_user_timeout(Some(within))
}

/// Other systems have their own idea of how long that takes.
#[cfg(not(target_os = "linux"))]
fn expect_receipts(_: &TcpStream, _: Duration) -> io::Result<()> {
    Ok(())
}

/// Where a request comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) SocketAddr);

impl Connected<IncomingStream<'_, Bounded>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Bounded>) -> Self {
        Self(*stream.remote_addr())
    }
}

/// A connection that ends when its peer neither asks nor reads for [`SILENCE_MAX`], or speaks HTTP/2.
#[derive(Debug)]
pub(crate) struct Connection<S> {
    stream: S,
    silence: Pin<Box<Sleep>>,
    /// Bytes of [`HTTP_2_PREFACE`] that have come; `None` once something else has.
    preface: Option<usize>,
    /// Given back when the connection ends.
    _place: Option<OwnedSemaphorePermit>,
}

impl<S> Connection<S> {
    fn new(stream: S, place: Option<OwnedSemaphorePermit>) -> Self {
        Self { stream, silence: Box::pin(sleep(SILENCE_MAX)), preface: Some(0), _place: place }
    }

    /// `Err` when the time is up; else the task is woken when it is.
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.silence.as_mut().poll(context) {
            Poll::Ready(()) => Err(ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }

    /// Whether the bytes that have come until now, with these, are the beginning of HTTP/2.
    fn is_http_2(&mut self, bytes: &[u8]) -> bool {
        let Some(come) = self.preface else { return false };
        let rest = HTTP_2_PREFACE.get(come..).unwrap_or_default();
        let compared = rest.len().min(bytes.len());
        let is_same = rest[..compared] == bytes[..compared];
        self.preface = is_same.then_some(come + compared);
        is_same && compared == rest.len()
    }

    /// Only a written byte counts: who sends a request byte by byte gains no time by it.
    fn heard(&mut self, written: &Poll<io::Result<usize>>) {
        if matches!(written, Poll::Ready(Ok(1..))) {
            self.silence.as_mut().reset(Instant::now() + SILENCE_MAX);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Connection<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(context)?;
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if self.is_http_2(buffer.filled().get(before..).unwrap_or_default()) {
            return Poll::Ready(Err(io::Error::new(ErrorKind::Unsupported, "HTTP/2 is not spoken here")));
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Connection<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(context)?;
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.heard(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check(context)?;
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.heard(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    #[tokio::test]
    async fn a_request_that_drips_in_ends_the_connection() {
        let (stream, mut peer) = duplex(64);
        let mut connection = Connection::new(stream, None);
        connection.silence.as_mut().reset(Instant::now() + Duration::from_millis(5));
        let ended = loop {
            peer.write_all(b"G").await.expect("memory");
            if let Err(error) = connection.read_u8().await {
                break error;
            }
            sleep(Duration::from_millis(1)).await;
        };
        assert_eq!(ended.kind(), ErrorKind::TimedOut);
    }

    /// Reads what a peer says in these pieces, each on its own.
    async fn read_in_pieces(pieces: &[&[u8]]) -> io::Result<Vec<u8>> {
        let (stream, mut peer) = duplex(64);
        let mut connection = Connection::new(stream, None);
        let mut read = Vec::new();
        for piece in pieces {
            peer.write_all(piece).await.expect("memory");
            let mut bytes = vec![0; piece.len()];
            connection.read_exact(&mut bytes).await?;
            read.extend(bytes);
        }
        Ok(read)
    }

    /// Symptom: one connection had 150 requests at one time, and stayed for as long as its client sent pings. Cause: a
    /// crate for another part of the program asked for HTTP/2 of the library that the HTTP port is made of, which then
    /// speaks it with whoever begins so. Fix: who begins so is not read any further.
    #[tokio::test]
    async fn http_2_is_not_spoken_however_it_comes() {
        for at in 1..HTTP_2_PREFACE.len() {
            let (first, second) = HTTP_2_PREFACE.split_at(at);
            let refused = read_in_pieces(&[first, second]).await.expect_err("HTTP/2");
            assert_eq!(refused.kind(), ErrorKind::Unsupported, "{at}");
        }
        let with_settings = [HTTP_2_PREFACE, b"\0\0\0\x04\0\0\0\0\0"].concat();
        let refused = read_in_pieces(&[&with_settings]).await.expect_err("HTTP/2");
        assert_eq!(refused.kind(), ErrorKind::Unsupported);
        // What only resembles it is read as it is, and later on it is a body like any other.
        for pieces in [[&b"PRI"[..], &b"NT / HTTP/1.1"[..]], [&b"GET / HTTP/1.1"[..], HTTP_2_PREFACE]] {
            assert_eq!(read_in_pieces(&pieces).await.expect("HTTP/1"), pieces.concat());
        }
    }

    #[tokio::test]
    async fn an_answer_buys_time() {
        let (stream, mut peer) = duplex(64);
        let mut connection = Connection::new(stream, None);
        // Far enough away for the slowest machine, and nearer than what an answer buys.
        let nearly_over = Instant::now() + SILENCE_MAX / 2;
        connection.silence.as_mut().reset(nearly_over);
        connection.write_all(b"ok").await.expect("memory");
        assert!(connection.silence.deadline() > nearly_over);
        peer.write_all(b"G").await.expect("memory");
        assert_eq!(connection.read_u8().await.expect("a byte"), b'G');
    }

    #[tokio::test]
    async fn places_are_taken_and_given_back() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let places = Arc::new(Semaphore::new(1));
        let mut bounded = Bounded::new(listener, Arc::clone(&places), Sockets::new(None));
        let address = Listener::local_addr(&bounded).expect("an address");
        let _peer = TcpStream::connect(address).await.expect("a connection");
        let (connection, _) = bounded.accept().await;
        assert_eq!(places.available_permits(), 0);
        drop(connection);
        assert_eq!(places.available_permits(), 1);
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn every_connection_expects_receipts() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let mut bounded = Bounded::new(listener, Arc::new(Semaphore::new(1)), Sockets::new(None));
        let address = Listener::local_addr(&bounded).expect("an address");
        let _peer = TcpStream::connect(address).await.expect("a connection");
        let (connection, _) = bounded.accept().await;
        let Socket::Plain { stream, .. } = &connection.stream else { panic!("without TLS") };
        let set = socket2::SockRef::from(stream).tcp_user_timeout().expect("a TCP socket");
        assert_eq!(set, Some(SILENCE_MAX));
    }

    /// Symptom: a client that keeps its connection waited up to 40 ms for the rest of an answer. Cause: the kernel held
    /// back a small piece until the one before it was acknowledged, and the client's kernel delayed that. Fix: nothing
    /// is held back, as on the Kafka port.
    #[tokio::test]
    async fn small_answers_wait_for_no_receipt() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let mut bounded = Bounded::new(listener, Arc::new(Semaphore::new(1)), Sockets::new(None));
        let address = Listener::local_addr(&bounded).expect("an address");
        let _peer = TcpStream::connect(address).await.expect("a connection");
        let (connection, _) = bounded.accept().await;
        let Socket::Plain { stream, .. } = &connection.stream else { panic!("without TLS") };
        assert!(stream.nodelay().expect("a TCP socket"));
    }

    /// The kernel of the peer drops what comes before it looks at it: no receipt, and no word that nobody is
    /// there. By itself the connection would live for a quarter of an hour.
    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_peer_that_vanishes_ends_its_connection() {
        /// Takes nothing of any packet: `BPF_RET | BPF_K` with 0 bytes.
        const NOTHING: socket2::SockFilter = socket2::SockFilter::new(0x06, 0, 0, 0);

        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let address = listener.local_addr().expect("an address");
        let peer = TcpStream::connect(address).await.expect("a connection");
        let (mut stream, _) = listener.accept().await.expect("a connection");
        expect_receipts(&stream, Duration::from_millis(300)).expect("a TCP socket");
        socket2::SockRef::from(&peer).attach_filter(&[NOTHING]).expect("a filter");

        stream.write_all(b": heartbeat\n\n").await.expect("the kernel takes it");
        let read = tokio::time::timeout(Duration::from_secs(30), stream.read_u8()).await;
        let ended = read.expect("it ends in time").expect_err("nobody is there");
        assert_eq!(ended.kind(), ErrorKind::TimedOut);
    }
}
