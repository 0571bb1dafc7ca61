//! NATS with JetStream: each event is a message of one stream, in a file, acknowledged to a subject that names
//! its producer.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use super::connection::{self, Answer, Connection, Protocol, line};
use super::{Client, EVENT_BYTES};
use crate::passing::{Receiver, Sender};

const STREAM: &str = "bench";
/// Where answers go, with a producer's number or a word behind it.
const ANSWERS: &str = "courant.answers.";
const ASKED: &str = "asked";
/// Where events go for the consumer.
const EVENTS: &str = "courant.events";
/// What the subscription of answers is called in what comes for it, and that of events.
const OF_ANSWERS: &str = "1";
const OF_EVENTS: &str = "2";
const PONG: &[u8] = b"PONG\r\n";
/// Bytes that a message may have.
const MESSAGE_MAX: usize = 512 * 1024;

pub(super) struct Nats {
    connection: Connection,
    version: String,
    events: Events,
}

impl Nats {
    pub(super) fn connect(address: &str) -> Result<Nats> {
        Nats::with_answers(address, "*")
    }

    /// As [`Nats::connect`], with the answers to what is asked for, and none to events.
    fn without_acknowledgements(address: &str) -> Result<Nats> {
        Nats::with_answers(address, ASKED)
    }

    /// Gets the answers to this one, or to all.
    fn with_answers(address: &str, of: &str) -> Result<Nats> {
        let mut connection = Connection::open(connection::place(address, "nats://")?)?;
        let greeting = connection.next(|bytes| {
            Ok(line(bytes).map(|(line, next)| (next, String::from_utf8_lossy(line).into_owned())))
        })?;
        let facts =
            greeting.strip_prefix("INFO ").with_context(|| format!("the server says `{greeting}`"))?;
        let facts: Value = serde_json::from_str(facts).context("the server's greeting")?;
        let version = facts["version"].as_str().unwrap_or("of an unknown version").to_owned();
        let hello =
            json!({ "verbose": false, "pedantic": false, "lang": "rust", "version": "1", "protocol": 1 });
        connection.send(format!("CONNECT {hello}\r\nSUB {ANSWERS}{of} {OF_ANSWERS}\r\n").as_bytes())?;
        let payload = format!("{EVENT_BYTES}\r\n{}\r\n", "x".repeat(EVENT_BYTES));
        let mut nats = Nats { connection, version, events: Events { payload } };
        let stream = json!({
            "name": STREAM,
            "subjects": [STREAM],
            "storage": "file",
            "retention": "limits",
            "num_replicas": 1,
        });
        nats.ask("STREAM.CREATE", &stream.to_string())?;
        Ok(nats)
    }

    /// Asks for something about the stream, or about its consumers.
    fn ask(&mut self, what: &str, body: &str) -> Result<Value> {
        let length = body.len();
        let request = format!("PUB $JS.API.{what}.{STREAM} {ANSWERS}{ASKED} {length}\r\n{body}\r\n");
        self.connection.send(request.as_bytes())?;
        loop {
            let message = self.connection.next(|bytes| {
                let found = message(bytes)?;
                Ok(found.map(|(length, message)| (length, message.owned())))
            })?;
            match message {
                Said::Answer(body) => {
                    let answer: Value = serde_json::from_str(&body).with_context(|| body.clone())?;
                    ensure!(answer["error"].is_null(), "{what}: {}", answer["error"]);
                    return Ok(answer);
                }
                Said::Event(_) => bail!("an event has come before one was sent"),
                Said::Ping => self.connection.send(PONG)?,
                Said::Nothing => {}
            }
        }
    }
}

impl Client for Nats {
    fn about(&mut self) -> Result<String> {
        // A server does not tell this setting; one that does not know it does not start.
        Ok(format!("NATS {}, JetStream in a file, sync_interval always", self.version))
    }

    fn wait(&mut self, waiting: usize, time: Duration) -> Result<Vec<u32>> {
        self.connection.wait(&mut self.events, waiting, time)
    }

    fn stored(&mut self) -> Result<Option<u64>> {
        let stream = self.ask("STREAM.INFO", "")?;
        let events = stream["state"]["messages"].as_u64();
        events.map(Some).with_context(|| format!("the stream has no length: {stream}"))
    }
}

/// A producer that waits for nobody, and a consumer.
pub(super) fn pass(address: &str) -> Result<(Box<dyn Sender>, Box<dyn Receiver>)> {
    let producer = Nats::connect(address)?;
    // Who consumes the events sees whether one is missing.
    producer.connection.leave_unread()?;
    let mut consumer = Nats::without_acknowledgements(address)?;
    consumer.connection.send(format!("SUB {EVENTS} {OF_EVENTS}\r\n").as_bytes())?;
    let wanted = json!({
        "stream_name": STREAM,
        "config": { "deliver_subject": EVENTS, "deliver_policy": "all", "ack_policy": "none" },
    });
    consumer.ask("CONSUMER.CREATE", &wanted.to_string())?;
    Ok((Box::new(Producer(producer.connection)), Box::new(Consumer(consumer.connection))))
}

struct Producer(Connection);

impl Sender for Producer {
    fn send(&mut self, payload: &[u8]) -> Result<()> {
        let mut event = format!("PUB {STREAM} {ANSWERS}0 {}\r\n", payload.len()).into_bytes();
        event.extend_from_slice(payload);
        event.extend_from_slice(b"\r\n");
        self.0.send(&event)
    }
}

struct Consumer(Connection);

impl Receiver for Consumer {
    fn receive(&mut self) -> Result<Vec<Vec<u8>>> {
        let mut events = Vec::new();
        // One event, and those that have come with it.
        while events.is_empty() || self.0.has_more() {
            let said = self.0.next(|bytes| {
                let found = message(bytes)?;
                Ok(found.map(|(length, message)| (length, message.owned())))
            })?;
            match said {
                Said::Event(event) => events.push(event.into_bytes()),
                Said::Ping => self.0.send(PONG)?,
                Said::Answer(_) | Said::Nothing => {}
            }
        }
        Ok(events)
    }
}

struct Events {
    /// What stands behind the subject for the answer.
    payload: String,
}

impl Protocol for Events {
    fn publish(&mut self, producer: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(format!("PUB {STREAM} {ANSWERS}{producer} ").as_bytes());
        out.extend_from_slice(self.payload.as_bytes());
    }

    fn answer(&mut self, bytes: &[u8]) -> Result<Option<(usize, Answer)>> {
        let Some((length, message)) = message(bytes)? else { return Ok(None) };
        let answer = match message {
            Message::Data { subject, body, .. } => {
                // An error stands in the place of the stream's name.
                let is_stored = body.starts_with(b"{\"stream\":");
                ensure!(is_stored, "an event was not stored: {}", String::from_utf8_lossy(body));
                let producer = subject.strip_prefix(ANSWERS).and_then(|number| number.parse().ok());
                Answer::Acknowledged(producer.with_context(|| format!("an answer to `{subject}`"))?)
            }
            Message::Ping => Answer::Say(PONG),
            Message::Nothing => Answer::Nothing,
        };
        Ok(Some((length, answer)))
    }
}

/// What a server says.
#[derive(Debug, PartialEq, Eq)]
enum Message<'bytes> {
    Data {
        /// Where it was sent: of an event that of the stream, and not that of its consumer.
        subject: &'bytes str,
        /// The subscription that it comes for.
        subscription: &'bytes str,
        body: &'bytes [u8],
    },
    Ping,
    /// Facts about it, or that all is well.
    Nothing,
}

/// The same without what it was read from.
enum Said {
    Event(String),
    Answer(String),
    Ping,
    Nothing,
}

impl Message<'_> {
    fn owned(&self) -> Said {
        match self {
            Message::Data { subscription, body, .. } => {
                let body = String::from_utf8_lossy(body).into_owned();
                if *subscription == OF_EVENTS { Said::Event(body) } else { Said::Answer(body) }
            }
            Message::Ping => Said::Ping,
            Message::Nothing => Said::Nothing,
        }
    }
}

/// What stands at the front, and its length.
fn message(bytes: &[u8]) -> Result<Option<(usize, Message<'_>)>> {
    let Some((line, next)) = line(bytes) else { return Ok(None) };
    let text = std::str::from_utf8(line).context("the server does not speak text")?;
    let mut words = text.split_ascii_whitespace();
    match words.next() {
        Some("MSG") => {
            let unclear = || format!("the server says `{text}`");
            let subject = words.next().with_context(unclear)?;
            let subscription = words.next().with_context(unclear)?;
            let length = words.next_back().and_then(|length| length.parse::<usize>().ok());
            let length = length.filter(|length| *length <= MESSAGE_MAX).with_context(unclear)?;
            let (end, whole) = (next + length, next + length + 2);
            let found = bytes.get(next..end).filter(|_| bytes.len() >= whole);
            Ok(found.map(|body| (whole, Message::Data { subject, subscription, body })))
        }
        Some("PING") => Ok(Some((next, Message::Ping))),
        Some("INFO" | "PONG" | "+OK") => Ok(Some((next, Message::Nothing))),
        // Nobody stores the subject, or the server has ended the connection.
        _ => bail!("the server says `{text}`"),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// Answers what a client asks for, up to this. Behind the answer about its consumer, if it makes one, come the
    /// acknowledgement of an event, and the event. What the client has subscribed to.
    fn serve_one(listener: &TcpListener, last: &str) -> Vec<String> {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"INFO {\"version\":\"2.0\"}\r\n").unwrap();
        let mut subscriptions = Vec::new();
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        while let Some(line) = lines.next().transpose().unwrap() {
            if let Some(subscription) = line.strip_prefix("SUB ") {
                subscriptions.push(subscription.to_owned());
            } else if line.starts_with("PUB ") {
                let body = lines.next().unwrap().unwrap();
                assert!(body.starts_with('{'), "{body}");
                stream.write_all(b"MSG courant.answers.asked 1 2\r\n{}\r\n").unwrap();
                if line.contains(last) {
                    break;
                }
            }
        }
        if last == CONSUMER {
            let acknowledged = b"MSG courant.answers.0 1 26\r\n{\"stream\":\"bench\",\"seq\":1}\r\n";
            stream.write_all(acknowledged).unwrap();
            stream.write_all(b"MSG bench 2 $JS.ACK.bench.1 3\r\none\r\n").unwrap();
        }
        subscriptions
    }

    const CONSUMER: &str = "CONSUMER.CREATE";

    /// Symptom: no round counted, because "an event has no stamp". Cause: the consumer's connection subscribed to the
    /// answers to all events and took each for an event. Now it subscribes to its own, and an event is what comes for
    /// the subscription of events.
    #[test]
    fn acknowledgements_are_no_events() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("nats://{}", listener.local_addr().unwrap());
        // The producer comes first.
        let server =
            thread::spawn(move || ["STREAM.CREATE", CONSUMER].map(|last| serve_one(&listener, last)));
        let (_producer, mut consumer) = pass(&address).unwrap();
        assert_eq!(consumer.receive().unwrap(), [b"one"]);
        let [of_the_producer, of_the_consumer] = server.join().unwrap();
        assert_eq!(of_the_producer, ["courant.answers.* 1"]);
        assert_eq!(of_the_consumer, ["courant.answers.asked 1", "courant.events 2"]);
    }

    fn events() -> Events {
        Events { payload: "2\r\nhi\r\n".to_owned() }
    }

    #[test]
    fn an_event_asks_for_an_answer_to_its_producer() {
        let mut out = Vec::new();
        events().publish(17, &mut out);
        assert_eq!(out, b"PUB bench courant.answers.17 2\r\nhi\r\n");
    }

    #[test]
    fn an_acknowledgement_names_its_producer() {
        let answer = b"MSG courant.answers.17 1 26\r\n{\"stream\":\"bench\",\"seq\":1}\r\n";
        let found = events().answer(answer).unwrap();
        assert_eq!(found, Some((answer.len(), Answer::Acknowledged(17))));
        for length in 0..answer.len() {
            assert_eq!(events().answer(&answer[..length]).unwrap(), None, "{length}");
        }
    }

    #[test]
    fn an_event_that_is_not_stored_is_an_error() {
        let refused = b"MSG courant.answers.1 1 28\r\n{\"error\":{\"err_code\":10077}}\r\n";
        let error = events().answer(refused).unwrap_err();
        assert!(error.to_string().contains("10077"), "{error}");
        let nobody = b"HMSG courant.answers.1 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\n";
        assert!(events().answer(nobody).is_err());
    }

    #[test]
    fn a_ping_is_answered() {
        assert_eq!(events().answer(b"PING\r\n").unwrap(), Some((6, Answer::Say(PONG))));
        assert_eq!(events().answer(b"INFO {}\r\n").unwrap(), Some((9, Answer::Nothing)));
    }
}
