//! Cuts what a client sends into frames: a 4-byte length, then that many bytes.
//!
//! The buffer grows with the bytes that arrived, never with the length that is claimed: it is at
//! most twice what was received plus [`limits::READ_AHEAD_BYTES_MAX`], and an idle connection has
//! none.

use std::io;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::net::tcp::ReadHalf;
use tokio::time::timeout;

use crate::budget::{Budget, Grant};
use crate::limits;

const PREFIX_BYTES: usize = 4;

/// Why no further frame comes out of a connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum FrameError {
    #[error("the client closed the connection")]
    Closed,
    #[error("the client closed the connection after {received} bytes of a request")]
    Cut { received: usize },
    #[error("reading from the client failed: {0}")]
    Io(#[source] io::Error),
    #[error("nothing arrived for {minutes} minutes", minutes = limits::IDLE_MAX.as_secs() / 60)]
    Idle,
    #[error(
        "a request stopped in the middle, after {received} bytes, and nothing followed for {seconds} s",
        seconds = limits::FRAME_SILENCE_MAX.as_secs()
    )]
    Silent { received: usize },
    #[error("{0} spoke to the Kafka port")]
    NotKafka(Stranger),
    #[error(
        "a request claims {claimed} bytes; a Kafka request has {min} to {max}",
        min = limits::FRAME_BYTES_MIN
    )]
    Length { claimed: i32, max: usize },
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
}

impl<'a> Frames<'a> {
    pub(super) fn new(socket: ReadHalf<'a>, budget: Budget, frame_bytes_max: usize) -> Self {
        Self {
            socket,
            budget,
            frame_bytes_max,
            received: BytesMut::new(),
            first_bytes: limits::FIRST_READ_BYTES,
        }
    }

    /// The next frame, as soon as all of it is here.
    pub(super) async fn next(&mut self) -> Result<Frame, FrameError> {
        if self.received.is_empty() {
            // Frees the buffer, or leaves it to those who hold parts of it.
            self.received = BytesMut::new();
        }
        while self.received.len() < PREFIX_BYTES {
            self.fill(usize::MAX).await?;
        }
        let prefix = [
            self.received[0],
            self.received[1],
            self.received[2],
            self.received[3],
        ];
        let length = frame_length(prefix, self.frame_bytes_max)?;
        self.received.advance(PREFIX_BYTES);

        let mut grant = Grant::default();
        while self.received.len() < length {
            // Granted as it arrives, in strides, so that a claim costs the others nothing.
            let have = self
                .received
                .len()
                .next_multiple_of(limits::READ_AHEAD_BYTES_MAX);
            self.cover(&mut grant, have.min(length)).await?;
            self.fill(length - self.received.len()).await?;
        }
        self.cover(&mut grant, length).await?;
        self.first_bytes = length.clamp(limits::FIRST_READ_BYTES, limits::READ_AHEAD_BYTES_MAX);
        Ok(Frame {
            bytes: self.received.split_to(length).freeze(),
            grant,
        })
    }

    /// Waits for bytes and takes what is there; `missing` is what the frame still needs.
    async fn fill(&mut self, missing: usize) -> Result<(), FrameError> {
        loop {
            match timeout(self.patience(missing), self.socket.readable()).await {
                Err(_) if self.between_frames(missing) => return Err(FrameError::Idle),
                Err(_) => {
                    return Err(FrameError::Silent {
                        received: self.received.len(),
                    });
                }
                Ok(Err(error)) => return Err(FrameError::Io(error)),
                Ok(Ok(())) => {}
            }
            if self.received.capacity() == self.received.len() {
                // Only now, with bytes waiting, is memory taken.
                let room = self
                    .received
                    .len()
                    .clamp(self.first_bytes, limits::READ_AHEAD_BYTES_MAX);
                self.received
                    .reserve(room.min(missing.max(limits::FIRST_READ_BYTES)));
            }
            match self.socket.try_read_buf(&mut self.received) {
                Ok(0) if self.between_frames(missing) => return Err(FrameError::Closed),
                Ok(0) => {
                    return Err(FrameError::Cut {
                        received: self.received.len(),
                    });
                }
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(FrameError::Io(error)),
            }
        }
    }

    fn between_frames(&self, missing: usize) -> bool {
        missing == usize::MAX && self.received.is_empty()
    }

    fn patience(&self, missing: usize) -> Duration {
        if self.between_frames(missing) {
            limits::IDLE_MAX
        } else {
            limits::FRAME_SILENCE_MAX
        }
    }

    async fn cover(&self, grant: &mut Grant, bytes: usize) -> Result<(), FrameError> {
        if self.budget.try_cover(grant, bytes) {
            return Ok(());
        }
        timeout(limits::BUDGET_WAIT_MAX, self.budget.cover(grant, bytes))
            .await
            .map_err(|_| FrameError::Overload)
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

    const MAX: usize = 1_000_000;

    #[track_caller]
    fn refused(prefix: [u8; 4]) -> FrameError {
        frame_length(prefix, MAX).expect_err("the prefix must be refused")
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
        assert_eq!(
            frame_length(1_000_000_i32.to_be_bytes(), MAX).ok(),
            Some(MAX)
        );
    }

    #[test]
    fn strangers_are_named() {
        let named = |prefix| refused(prefix).to_string();
        assert!(named(*b"GET ").starts_with("an HTTP client"));
        assert!(named(*b"SSH-").starts_with("an SSH client"));
        assert!(named([0x16, 0x03, 0x01, 0x02]).starts_with("a TLS client"));
    }
}
