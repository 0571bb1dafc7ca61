//! Cuts what a client sends into frames: a 4-byte length, then that many bytes.
//!
//! Only Produce carries records, so only its frames may be large; a frame above
//! [`limits::SMALL_FRAME_BYTES_MAX`] shows its API key before anything else of it is read.
//!
//! The buffer grows with the bytes that arrived, never with the length that is claimed: it is at
//! most twice what was received plus [`limits::READ_AHEAD_BYTES_MAX`], and an idle connection has
//! none.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead as _, AsyncReadExt as _, ReadBuf};
use tokio::net::tcp::ReadHalf;
use tokio::time::{Duration, Instant, Sleep, sleep_until, timeout};

use crate::budget::{Budget, Grant};
use crate::limits;
use crate::wire::ApiKey;

const PREFIX_BYTES: usize = 4;

/// The first field of a request.
const API_KEY_BYTES: usize = 2;

thread_local! {
    /// Where small requests are received.
    static ROOM: RefCell<[u8; limits::FIRST_READ_BYTES]> =
        const { RefCell::new([0; limits::FIRST_READ_BYTES]) };
}

/// Why no further frame comes out of a connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum FrameError {
    #[error("the client closed the connection")]
    Closed,
    #[error("the client closed the connection after {received} bytes of a request")]
    Cut { received: usize },
    #[error("reading from the client failed: {0}")]
    Io(#[source] io::Error),
    #[error("nothing arrived for {seconds} s")]
    Idle { seconds: u64 },
    #[error(
        "a request stopped in the middle, after {received} bytes, and nothing followed for {seconds} s",
        seconds = limits::FRAME_SILENCE_MAX.as_secs()
    )]
    Silent { received: usize },
    #[error("a request comes too slowly: {received} bytes after {seconds} s")]
    Slow { received: usize, seconds: u64 },
    #[error("{0} spoke to the Kafka port")]
    NotKafka(Stranger),
    #[error(
        "a request claims {claimed} bytes; a Kafka request has {min} to {max}",
        min = limits::FRAME_BYTES_MIN
    )]
    Length { claimed: i32, max: usize },
    #[error("a request for {key} claims {claimed} bytes; it can have {max}", max = limits::SMALL_FRAME_BYTES_MAX)]
    TooLargeFor { key: ApiKey, claimed: usize },
    #[error("the requests of all connections together exceed the memory set aside for them")]
    Overload,
}

/// A protocol that is recognised by its first four bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stranger {
    Http,
    Tls,
    Ssh,
}

impl std::fmt::Display for Stranger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Http => "an HTTP client",
            Self::Tls => "a TLS client (a Kafka client with security.protocol=SSL?)",
            Self::Ssh => "an SSH client",
        })
    }
}

/// A request without its length prefix.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) bytes: Bytes,
    /// Its share of the memory for requests, to be kept until the request is answered.
    pub(super) grant: Grant,
}

/// The read half of a connection.
#[derive(Debug)]
pub(super) struct Frames<'a> {
    socket: ReadHalf<'a>,
    budget: Budget,
    frame_bytes_max: usize,
    received: BytesMut,
    /// Where the next buffer starts: the size of the last frame, within bounds.
    first_bytes: usize,
    /// Whether a whole frame has come. Until then a connection has to hurry.
    greeted: bool,
    /// When the frame that is being received began.
    begun: Instant,
    alarm: Alarm,
}

/// The one timer of a connection. Nearly every wait ends before its time is up, so it is not set anew for each:
/// only when it goes off is it known whether that is the time that somebody waits for.
#[derive(Debug)]
struct Alarm(Pin<Box<Sleep>>);

impl Alarm {
    fn at(deadline: Instant) -> Self {
        Self(Box::pin(sleep_until(deadline)))
    }

    /// Whether it is that late.
    fn poll(&mut self, deadline: Instant, context: &mut Context<'_>) -> Poll<()> {
        if deadline < self.0.deadline() {
            self.0.as_mut().reset(deadline);
        }
        loop {
            ready!(self.0.as_mut().poll(context));
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            // It was set for an earlier wait, which is over.
            self.0.as_mut().reset(deadline);
        }
    }
}

impl<'a> Frames<'a> {
    pub(super) fn new(socket: ReadHalf<'a>, budget: Budget, frame_bytes_max: usize) -> Self {
        Self {
            socket,
            budget,
            frame_bytes_max,
            received: BytesMut::new(),
            first_bytes: limits::FIRST_READ_BYTES,
            greeted: false,
            begun: Instant::now(),
            alarm: Alarm::at(Instant::now() + limits::FIRST_REQUEST_MAX),
        }
    }

    /// The next frame, as soon as all of it is here.
    pub(super) async fn next(&mut self) -> Result<Frame, FrameError> {
        if self.received.is_empty() {
            // Frees the buffer, or leaves it to those who hold parts of it.
            self.received = BytesMut::new();
            self.first_bytes_of_a_frame().await?;
        }
        self.begun = Instant::now();
        while self.received.len() < PREFIX_BYTES {
            self.fill(usize::MAX).await?;
        }
        let prefix = [self.received[0], self.received[1], self.received[2], self.received[3]];
        let length = frame_length(prefix, self.frame_bytes_max)?;
        self.received.advance(PREFIX_BYTES);
        if length > limits::SMALL_FRAME_BYTES_MAX {
            while self.received.len() < API_KEY_BYTES {
                self.fill(length - self.received.len()).await?;
            }
            check_large(length, [self.received[0], self.received[1]])?;
        }
        let grant = self.receive(length).await?;
        self.greeted = true;
        self.first_bytes = length.clamp(limits::FIRST_READ_BYTES, limits::READ_AHEAD_BYTES_MAX);
        Ok(Frame { bytes: self.received.split_to(length).freeze(), grant })
    }

    /// Whether nothing of the next frame has been received yet.
    pub(super) fn is_drained(&self) -> bool {
        self.received.is_empty()
    }

    /// Receives the first `length` bytes and the memory for them: granted as they arrive, in
    /// strides, so that a claim costs the others nothing.
    async fn receive(&mut self, length: usize) -> Result<Grant, FrameError> {
        let mut grant = Grant::default();
        while self.received.len() < length {
            let have = self.received.len().next_multiple_of(limits::READ_AHEAD_BYTES_MAX);
            self.cover(&mut grant, have.min(length)).await?;
            // Bytes behind a large frame would keep all of its memory when its grant is gone.
            let missing = length - self.received.len();
            let take = if length > limits::READ_AHEAD_BYTES_MAX { missing } else { usize::MAX };
            self.fill(take).await?;
        }
        self.cover(&mut grant, length).await?;
        Ok(grant)
    }

    /// Waits between frames, where nothing is amiss when the client closes.
    async fn first_bytes_of_a_frame(&mut self) -> Result<(), FrameError> {
        let patience = if self.greeted { limits::IDLE_MAX } else { limits::FIRST_REQUEST_MAX };
        match self.take(usize::MAX, Instant::now() + patience).await? {
            None => Err(FrameError::Idle { seconds: patience.as_secs() }),
            Some(0) => Err(FrameError::Closed),
            Some(_) => Ok(()),
        }
    }

    /// Waits for more of a frame and takes what is there, at most `most`.
    async fn fill(&mut self, most: usize) -> Result<(), FrameError> {
        let received = self.received.len();
        let silent = Instant::now() + limits::FRAME_SILENCE_MAX;
        let slow = self.begun + patience(received);
        match self.take(most, silent.min(slow)).await? {
            None if slow <= silent => {
                Err(FrameError::Slow { received, seconds: self.begun.elapsed().as_secs() })
            }
            None => Err(FrameError::Silent { received }),
            Some(0) => Err(FrameError::Cut { received }),
            Some(_) => Ok(()),
        }
    }

    /// Takes what the socket has, at most `most` bytes, as soon as there is something. 0: the client closed;
    /// `None`: nothing came until `deadline`.
    async fn take(&mut self, most: usize, deadline: Instant) -> Result<Option<usize>, FrameError> {
        let taken = poll_fn(|context| match self.poll_take(most, context) {
            Poll::Ready(taken) => Poll::Ready(taken.map(Some)),
            Poll::Pending => self.alarm.poll(deadline, context).map(|()| Ok(None)),
        });
        taken.await.map_err(FrameError::Io)
    }

    /// One read that leaves room in the buffer has emptied the socket: the runtime sees that, and no second
    /// one is made to find nothing.
    fn poll_take(&mut self, most: usize, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let is_small = self.first_bytes <= limits::FIRST_READ_BYTES && most == usize::MAX;
        if is_small && self.received.is_empty() {
            return self.poll_small(context);
        }
        ready!(self.socket.as_ref().poll_read_ready(context))?;
        if self.received.capacity() == self.received.len() {
            // Only now, with bytes waiting, is memory taken.
            let room = self.received.len().clamp(self.first_bytes, limits::READ_AHEAD_BYTES_MAX);
            self.received.reserve(room.min(most.max(limits::FIRST_READ_BYTES)));
        }
        let mut room = (&mut self.received).limit(most);
        let taken = pin!(self.socket.read_buf(&mut room)).poll(context);
        if taken.is_pending() && self.received.is_empty() {
            // There were none after all.
            self.received = BytesMut::new();
        }
        taken
    }

    /// Where the last request was small, this one is received in the room that its thread has for them, and
    /// what is kept is as large as it is: it goes to another thread, which gives small memory back for less.
    fn poll_small(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        ROOM.with_borrow_mut(|room| -> Poll<io::Result<usize>> {
            let mut room = ReadBuf::new(room);
            ready!(Pin::new(&mut self.socket).poll_read(context, &mut room))?;
            self.received = BytesMut::from(room.filled());
            Poll::Ready(Ok(self.received.len()))
        })
    }

    async fn cover(&mut self, grant: &mut Grant, bytes: usize) -> Result<(), FrameError> {
        if self.budget.try_cover(grant, bytes) {
            return Ok(());
        }
        let waiting = Instant::now();
        timeout(limits::BUDGET_WAIT_MAX, self.budget.cover(grant, bytes))
            .await
            .map_err(|_| FrameError::Overload)?;
        // The client is not to blame for this delay.
        self.begun += waiting.elapsed();
        Ok(())
    }
}

/// How long a frame may take of which `received` bytes are here.
fn patience(received: usize) -> Duration {
    limits::FRAME_SILENCE_MAX + limits::transfer_time(received)
}

/// Refuses a large frame unless it is for Produce.
fn check_large(length: usize, key: [u8; API_KEY_BYTES]) -> Result<(), FrameError> {
    match ApiKey(i16::from_be_bytes(key)) {
        ApiKey::PRODUCE => Ok(()),
        key => Err(FrameError::TooLargeFor { key, claimed: length }),
    }
}

/// The length a frame claims, if a Kafka request can have it.
fn frame_length(prefix: [u8; PREFIX_BYTES], max: usize) -> Result<usize, FrameError> {
    if let Some(stranger) = stranger(prefix) {
        return Err(FrameError::NotKafka(stranger));
    }
    let claimed = i32::from_be_bytes(prefix);
    usize::try_from(claimed)
        .ok()
        .filter(|length| (limits::FRAME_BYTES_MIN..=max).contains(length))
        .ok_or(FrameError::Length { claimed, max })
}

/// Read as a length, each of these is above 340 MB, so that no Kafka frame is mistaken for one.
fn stranger(prefix: [u8; PREFIX_BYTES]) -> Option<Stranger> {
    match &prefix {
        b"GET " | b"POST" | b"HEAD" | b"PUT " | b"DELE" | b"OPTI" | b"PATC" | b"CONN" | b"PRI " => {
            Some(Stranger::Http)
        }
        b"SSH-" => Some(Stranger::Ssh),
        [0x16, 0x03, ..] => Some(Stranger::Tls),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::{TcpListener, TcpStream};

    const MAX: usize = 1_000_000;

    #[track_caller]
    fn refused(prefix: [u8; 4]) -> FrameError {
        frame_length(prefix, MAX).expect_err("the prefix must be refused")
    }

    /// What epoll reports is a change: a runtime that has not seen the socket empty asks it again.
    #[tokio::test]
    async fn a_request_that_is_here_whole_takes_one_read() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let mut client =
            TcpStream::connect(listener.local_addr().expect("an address")).await.expect("connects");
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let (read, _write) = stream.split();
        let mut frames = Frames::new(read, Budget::new(MAX), MAX);
        for _ in 0..3 {
            client.write_all(b"\0\0\0\x0812345678").await.expect("it is sent");
            let frame = frames.next().await.expect("a frame");
            assert_eq!(&frame.bytes[..], b"12345678");
            let reads_again =
                poll_fn(|context| Poll::Ready(frames.socket.as_ref().poll_read_ready(context).is_ready()));
            assert!(!reads_again.await);
        }
        drop(client);
        assert!(matches!(frames.next().await, Err(FrameError::Closed)));
    }

    #[tokio::test]
    async fn requests_are_cut_apart_and_put_together_whatever_their_size() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let mut client =
            TcpStream::connect(listener.local_addr().expect("an address")).await.expect("connects");
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let (read, _write) = stream.split();
        let mut frames = Frames::new(read, Budget::new(MAX), MAX);
        const FIRST: usize = limits::FIRST_READ_BYTES;
        let lengths =
            [8, 9, FIRST - PREFIX_BYTES, FIRST, 3 * FIRST + 5, 2 * limits::READ_AHEAD_BYTES_MAX, 8, 10];
        let body = |length: usize| (0..length).map(|at| (at % 251) as u8).collect::<Vec<_>>();
        let sent =
            lengths.map(|length| [&(length as u32).to_be_bytes()[..], &body(length)].concat()).concat();
        let (write, received) = tokio::join!(client.write_all(&sent), async {
            let mut received = Vec::new();
            for _ in lengths {
                received.push(frames.next().await.expect("a frame").bytes);
            }
            received
        });
        write.expect("it is sent");
        for (bytes, length) in received.iter().zip(lengths) {
            assert!(*bytes == body(length), "a request of {length} bytes is another one");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_alarm_goes_off_at_the_time_of_the_wait_that_it_is_asked_for() {
        let begun = Instant::now();
        let after = |seconds| begun + Duration::from_secs(seconds);
        let mut alarm = Alarm::at(after(30));
        // Somebody waits for less, and then no more.
        let waits = poll_fn(|context| Poll::Ready(alarm.poll(after(10), context).is_pending()));
        assert!(waits.await);
        for seconds in [60, 65, 100] {
            poll_fn(|context| alarm.poll(after(seconds), context)).await;
            let late = Instant::now().duration_since(after(seconds));
            assert!(late < Duration::from_secs(1), "{late:?} behind {seconds} s");
            assert!(Instant::now() >= after(seconds));
        }
        let waits = poll_fn(|context| Poll::Ready(alarm.poll(after(600), context).is_pending()));
        assert!(waits.await);
        poll_fn(|context| alarm.poll(after(110), context)).await;
        assert!(Instant::now() < after(111), "a wait that ends earlier sets it anew");
    }

    #[test]
    fn lengths_outside_the_bounds_are_refused() {
        for claimed in [i32::MIN, -1, 0, 7, 1_000_001, i32::MAX] {
            match refused(claimed.to_be_bytes()) {
                FrameError::Length { claimed: told, .. } => assert_eq!(told, claimed),
                other => panic!("{claimed}: {other}"),
            }
        }
        assert_eq!(frame_length(8_i32.to_be_bytes(), MAX).ok(), Some(8));
        assert_eq!(frame_length(1_000_000_i32.to_be_bytes(), MAX).ok(), Some(MAX));
    }

    #[test]
    fn strangers_are_named() {
        let named = |prefix| refused(prefix).to_string();
        assert!(named(*b"GET ").starts_with("an HTTP client"));
        assert!(named(*b"SSH-").starts_with("an SSH client"));
        assert!(named([0x16, 0x03, 0x01, 0x02]).starts_with("a TLS client"));
    }

    #[test]
    fn only_produce_is_large() {
        assert!(check_large(MAX, ApiKey::PRODUCE.0.to_be_bytes()).is_ok());
        let refused = check_large(MAX, ApiKey::METADATA.0.to_be_bytes()).expect_err("it is too large");
        assert!(matches!(refused, FrameError::TooLargeFor { key: ApiKey::METADATA, claimed: MAX }));
    }

    #[test]
    fn a_frame_has_to_come_at_a_rate() {
        assert_eq!(patience(0), limits::FRAME_SILENCE_MAX);
        let all = patience(limits::FRAME_BYTES_MAX);
        assert!(all > patience(limits::FRAME_BYTES_MAX / 2));
        assert!(all < Duration::from_secs(600), "the largest frame takes {all:?} at most");
    }
}
