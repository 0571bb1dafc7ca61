//! One connection that many producers share: what is ready goes out in one write, and answers are taken as they
//! come. No library of a peer does less, so the peer is measured at its best.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes that are read at once.
const CHUNK: usize = 64 * 1024;
/// Bytes that may wait for the rest of an answer.
const ANSWER_MAX: usize = 1024 * 1024;

/// What stands at the front of what was received.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The event of this producer is acknowledged.
    Acknowledged(usize),
    /// The server wants to hear this.
    Say(&'static [u8]),
    /// Nothing that matters.
    Nothing,
}

/// How producers talk to a server.
pub(super) trait Protocol {
    /// Adds the next event of a producer to what is sent.
    fn publish(&mut self, producer: usize, out: &mut Vec<u8>);

    /// The answer at the front, and how long it is; `None` while some of it is on its way.
    fn answer(&mut self, bytes: &[u8]) -> Result<Option<(usize, Answer)>>;
}

/// A connection, and what came over it.
pub(super) struct Connection {
    stream: TcpStream,
    chunk: Box<[u8]>,
    bytes: Vec<u8>,
    /// So many of the bytes have been looked at.
    at: usize,
}

impl Connection {
    /// To `HOST:PORT`.
    pub(super) fn open(address: &str) -> Result<Connection> {
        let stream = TcpStream::connect(address).with_context(|| format!("{address} cannot be reached"))?;
        stream.set_nodelay(true).context("the connection")?;
        stream.set_read_timeout(Some(PATIENCE)).context("the connection")?;
        stream.set_write_timeout(Some(PATIENCE)).context("the connection")?;
        Ok(Connection { stream, chunk: vec![0; CHUNK].into_boxed_slice(), bytes: Vec::new(), at: 0 })
    }

    pub(super) fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).context("the server does not take what is sent")
    }

    /// Waits until `read` finds something whole at the front, and takes it out.
    pub(super) fn next<T>(&mut self, read: impl Fn(&[u8]) -> Result<Option<(usize, T)>>) -> Result<T> {
        loop {
            if let Some((length, found)) = read(self.front())? {
                self.at += length;
                return Ok(found);
            }
            self.fill()?;
        }
    }

    /// Whether something has come that nobody has looked at.
    pub(super) fn has_more(&self) -> bool {
        self.at < self.bytes.len()
    }

    /// Takes what comes from here on, and forgets it, to the end of the connection.
    pub(super) fn leave_unread(&self) -> Result<()> {
        let mut stream = self.stream.try_clone().context("the connection")?;
        thread::spawn(move || {
            let mut chunk = vec![0; CHUNK];
            while matches!(stream.read(&mut chunk), Ok(read) if read > 0) {}
        });
        Ok(())
    }

    fn front(&self) -> &[u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    fn fill(&mut self) -> Result<()> {
        self.bytes.drain(..self.at);
        self.at = 0;
        ensure!(self.bytes.len() < ANSWER_MAX, "an answer is longer than {ANSWER_MAX} bytes");
        let read = self.stream.read(&mut self.chunk).context("the server does not answer")?;
        ensure!(read > 0, "the server has closed the connection");
        self.bytes.extend_from_slice(&self.chunk[..read]);
        Ok(())
    }

    /// Lets so many producers publish for so long, each its next event when its last one was acknowledged. The
    /// nanoseconds that each acknowledgement took.
    pub(super) fn wait(
        &mut self,
        protocol: &mut dyn Protocol,
        producers: usize,
        time: Duration,
    ) -> Result<Vec<u32>> {
        let (mut out, mut taken) = (Vec::new(), Vec::new());
        let begun = Instant::now();
        let mut sent = vec![begun; producers];
        for producer in 0..producers {
            protocol.publish(producer, &mut out);
        }
        let mut waiting = producers;
        while waiting > 0 {
            self.send(&out)?;
            out.clear();
            self.fill()?;
            while let Some((length, answer)) = protocol.answer(self.front())? {
                self.at += length;
                let producer = match answer {
                    Answer::Acknowledged(producer) => producer,
                    Answer::Say(bytes) => {
                        out.extend_from_slice(bytes);
                        continue;
                    }
                    Answer::Nothing => continue,
                };
                let now = Instant::now();
                let before = sent.get_mut(producer).context("an answer to nobody")?;
                taken.push(u32::try_from((now - *before).as_nanos()).unwrap_or(u32::MAX));
                if now - begun < time {
                    *before = now;
                    protocol.publish(producer, &mut out);
                } else {
                    waiting -= 1;
                }
            }
        }
        Ok(taken)
    }
}

/// The line at the front without its end, and where the next one begins.
pub(super) fn line(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let length = bytes.windows(2).position(|two| two == b"\r\n")?;
    Some((bytes.get(..length)?, length + 2))
}

/// What stands behind `scheme` in an address.
pub(super) fn place<'address>(address: &'address str, scheme: &str) -> Result<&'address str> {
    address.strip_prefix(scheme).with_context(|| format!("`{address}` does not begin with {scheme}"))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// Each event is the byte `e`, each acknowledgement a letter that names the producer.
    struct Letters;

    impl Protocol for Letters {
        fn publish(&mut self, _: usize, out: &mut Vec<u8>) {
            out.push(b'e');
        }

        fn answer(&mut self, bytes: &[u8]) -> Result<Option<(usize, Answer)>> {
            Ok(bytes.first().map(|letter| (1, Answer::Acknowledged(usize::from(letter - b'a')))))
        }
    }

    #[test]
    fn every_event_is_waited_for_also_after_the_time() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut events = [0; 2];
            let mut answered = 0;
            // Both wait at the same time, and the second one is answered first.
            while stream.read_exact(&mut events).is_ok() {
                stream.write_all(b"ba").unwrap();
                answered += 2;
            }
            answered
        });
        let mut connection = Connection::open(&address).unwrap();
        let taken = connection.wait(&mut Letters, 2, Duration::ZERO).unwrap();
        assert_eq!(taken.len(), 2);
        drop(connection);
        assert_eq!(server.join().unwrap(), 2);
    }

    #[test]
    fn a_line_ends_with_two_characters() {
        assert_eq!(line(b"+OK\r\nnext"), Some((b"+OK".as_slice(), 5)));
        assert_eq!(line(b"+OK\r"), None);
    }
}
