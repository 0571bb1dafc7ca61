//! RabbitMQ: each event is a message of one queue, confirmed by its number on the channel.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use super::amqp::{self, Args, BODY, METHOD, Method};
use super::connection::{Answer, Connection, Protocol};
use super::{Client, EVENT_BYTES};
use crate::passing::{Receiver, Sender};

const QUEUE: &str = "bench";
const DECLARE: Method = (50, 10);
const DECLARE_OK: Method = (50, 11);
const SELECT: Method = (85, 10);
const SELECT_OK: Method = (85, 11);
const QOS: Method = (60, 10);
const QOS_OK: Method = (60, 11);
const CONSUME: Method = (60, 20);
const CONSUME_OK: Method = (60, 21);
const DELIVER: Method = (60, 60);
const ACK: Method = (60, 80);
const NACK: Method = (60, 120);

/// Bits of a declaration: only asked about; there after a restart.
const PASSIVE: u8 = 1;
const DURABLE: u8 = 2;
/// The bit of an answer that is one to all before it too.
const MULTIPLE: u8 = 1;
/// How often a queue that says it is empty is asked again: a busy one says so too.
const ASKED_MAX: u32 = 20;
const ASKED_AGAIN: Duration = Duration::from_millis(100);
/// Events that may be with the consumer without an answer. A stream wants one.
const PREFETCH: u16 = 1_000;

/// What keeps the events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Queue {
    /// A log of Raft, synced before a confirmation.
    Quorum,
    /// A log that the system writes when it likes.
    Stream,
}

impl Queue {
    fn kind(self) -> &'static str {
        match self {
            Queue::Quorum => "quorum",
            Queue::Stream => "stream",
        }
    }

    fn declare(self, connection: &mut Connection, bits: u8) -> Result<Vec<u8>> {
        let args = Args::default().short(0).short_text(QUEUE).byte(bits);
        let args = args.table(&[("x-queue-type", self.kind())]).0;
        amqp::call(connection, DECLARE, &args, DECLARE_OK)
    }
}

pub(super) struct Rabbit {
    connection: Connection,
    version: String,
    queue: Queue,
    events: Events,
}

impl Rabbit {
    /// To an address with a scheme. The queue is made.
    pub(super) fn connect(address: &str, queue: Queue) -> Result<Rabbit> {
        let (mut connection, version) = amqp::open(address)?;
        queue.declare(&mut connection, DURABLE)?;
        amqp::call(&mut connection, SELECT, &[0], SELECT_OK)?;
        let event = amqp::event(QUEUE, &[b'x'; EVENT_BYTES])?;
        Ok(Rabbit { connection, version, queue, events: Events { event, sent: 0, waiting: BTreeMap::new() } })
    }
}

impl Client for Rabbit {
    fn about(&mut self) -> Result<String> {
        Ok(format!("RabbitMQ {}, one node, {} queue, publisher confirms", self.version, self.queue.kind()))
    }

    fn wait(&mut self, waiting: usize, time: Duration) -> Result<Vec<u32>> {
        self.connection.wait(&mut self.events, waiting, time)
    }

    /// A stream counts its events only from time to time.
    fn stored(&mut self) -> Result<Option<u64>> {
        if self.queue == Queue::Stream {
            return Ok(None);
        }
        for _ in 0..ASKED_MAX {
            let count = count_in(&self.queue.declare(&mut self.connection, PASSIVE)?)?;
            if count > 0 {
                return Ok(Some(count));
            }
            thread::sleep(ASKED_AGAIN);
        }
        Ok(Some(0))
    }
}

/// How many events the answer to a declaration says the queue has: behind its name.
fn count_in(answer: &[u8]) -> Result<u64> {
    let name = answer.first().context("a queue without a name")?;
    let count = answer.get(1 + usize::from(*name)..).and_then(|rest| rest.first_chunk());
    Ok(u32::from_be_bytes(*count.context("a queue without a length")?).into())
}

/// Events on the channel, which counts them from 1.
struct Events {
    event: Vec<u8>,
    sent: u64,
    waiting: BTreeMap<u64, usize>,
}

impl Protocol for Events {
    fn publish(&mut self, producer: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.event);
        self.sent += 1;
        self.waiting.insert(self.sent, producer);
    }

    fn answer(&mut self, bytes: &[u8]) -> Result<Option<(usize, Answer)>> {
        let Some((length, frame)) = amqp::frame(bytes)? else { return Ok(None) };
        if frame.kind != METHOD {
            return Ok(Some((length, Answer::Nothing)));
        }
        let (called, args) = amqp::method_in(frame.payload)?;
        ensure!(called != NACK, "an event was not stored");
        if called != ACK {
            return Ok(Some((length, Answer::Nothing)));
        }
        let (number, bits) = number_in(args)?;
        if bits & MULTIPLE == 0 {
            let producer = self.waiting.remove(&number).context("an answer that nobody waits for")?;
            return Ok(Some((length, Answer::Acknowledged(producer))));
        }
        let Some(producer) = self.next_to(number) else { return Ok(Some((length, Answer::Nothing))) };
        // It stays at the front until all have it.
        let more = self.waiting.first_key_value().is_some_and(|(first, _)| *first <= number);
        Ok(Some((if more { 0 } else { length }, Answer::Acknowledged(producer))))
    }
}

impl Events {
    /// The first of those who wait that an answer up to this number is for.
    fn next_to(&mut self, number: u64) -> Option<usize> {
        let first = self.waiting.first_entry().filter(|first| *first.key() <= number)?;
        Some(first.remove())
    }
}

/// The number of an event, and what follows.
fn number_in(args: &[u8]) -> Result<(u64, u8)> {
    let (number, rest) = args.split_first_chunk().context("an answer without a number")?;
    Ok((u64::from_be_bytes(*number), rest.first().copied().unwrap_or(0)))
}

/// A producer that waits for nobody, and a consumer.
pub(super) fn pass(address: &str, queue: Queue) -> Result<(Box<dyn Sender>, Box<dyn Receiver>)> {
    let rabbit = Rabbit::connect(address, queue)?;
    // Who consumes the events sees whether one is missing.
    rabbit.connection.leave_unread()?;
    let (mut connection, _) = amqp::open(address)?;
    amqp::call(&mut connection, QOS, &Args::default().int(0).short(PREFETCH).byte(0).0, QOS_OK)?;
    let offset: &[(&str, &str)] = if queue == Queue::Stream { &[("x-stream-offset", "first")] } else { &[] };
    let args = Args::default().short(0).short_text(QUEUE).short_text("").byte(0).table(offset).0;
    amqp::call(&mut connection, CONSUME, &args, CONSUME_OK)?;
    Ok((Box::new(Producer(rabbit.connection)), Box::new(Consumer(connection))))
}

struct Producer(Connection);

impl Sender for Producer {
    fn send(&mut self, payload: &[u8]) -> Result<()> {
        self.0.send(&amqp::event(QUEUE, payload)?)
    }
}

struct Consumer(Connection);

/// What a consumer gets.
enum Got {
    /// The number by which the next event is answered.
    Number(u64),
    Event(Vec<u8>),
    Nothing,
}

impl Receiver for Consumer {
    fn receive(&mut self) -> Result<Vec<Vec<u8>>> {
        let (mut events, mut number) = (Vec::new(), 0);
        // One event, and those that have come with it.
        while events.is_empty() || self.0.has_more() {
            match self.0.next(got)? {
                Got::Number(next) => number = next,
                Got::Event(event) => events.push(event),
                Got::Nothing => {}
            }
        }
        let answer = Args::default().long(number).byte(MULTIPLE).0;
        self.0.send(&amqp::on_channel(ACK, &answer)?)?;
        Ok(events)
    }
}

fn got(bytes: &[u8]) -> Result<Option<(usize, Got)>> {
    let Some((length, frame)) = amqp::frame(bytes)? else { return Ok(None) };
    let got = match frame.kind {
        METHOD => {
            let (called, args) = amqp::method_in(frame.payload)?;
            if called != DELIVER {
                bail!("the server calls method {called:?} of a consumer");
            }
            // Behind the consumer's name.
            let name = args.first().context("a delivery to nobody")?;
            Got::Number(number_in(args.get(1 + usize::from(*name)..).unwrap_or_default())?.0)
        }
        BODY => Got::Event(frame.payload.to_vec()),
        _ => Got::Nothing,
    };
    Ok(Some((length, got)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(producers: usize) -> Events {
        let mut events = Events { event: b"e".to_vec(), sent: 0, waiting: BTreeMap::new() };
        for producer in 0..producers {
            events.publish(producer, &mut Vec::new());
        }
        events
    }

    fn ack(number: u64, bits: u8) -> Vec<u8> {
        amqp::on_channel(ACK, &Args::default().long(number).byte(bits).0).unwrap()
    }

    #[test]
    fn one_answer_to_many_is_one_to_each() {
        let mut events = events(4);
        let answer = ack(3, MULTIPLE);
        let mut found = Vec::new();
        loop {
            let (length, answered) = events.answer(&answer).unwrap().unwrap();
            let Answer::Acknowledged(producer) = answered else { panic!("{answered:?}") };
            found.push(producer);
            // An event that is sent meanwhile is not meant.
            events.publish(producer, &mut Vec::new());
            if length > 0 {
                assert_eq!(length, answer.len());
                break;
            }
        }
        assert_eq!(found, [0, 1, 2]);
        assert_eq!(events.waiting.keys().copied().collect::<Vec<_>>(), [4, 5, 6, 7]);
    }

    #[test]
    fn answers_may_come_in_any_order() {
        let mut events = events(3);
        let answer = ack(2, 0);
        assert_eq!(events.answer(&answer).unwrap(), Some((answer.len(), Answer::Acknowledged(1))));
        assert!(events.answer(&answer).is_err());
        let all = ack(2, MULTIPLE);
        assert_eq!(events.answer(&all).unwrap(), Some((all.len(), Answer::Acknowledged(0))));
        assert_eq!(events.answer(&all).unwrap(), Some((all.len(), Answer::Nothing)));
    }

    #[test]
    fn an_event_that_is_refused_is_an_error() {
        let refused = amqp::on_channel(NACK, &Args::default().long(1).byte(0).0).unwrap();
        assert!(events(1).answer(&refused).is_err());
    }

    #[test]
    fn a_delivery_has_its_number_behind_a_name() {
        let args = Args::default().short_text("ctag").long(77).byte(0).short_text("").short_text(QUEUE).0;
        let delivery = amqp::on_channel(DELIVER, &args).unwrap();
        let Some((length, Got::Number(77))) = got(&delivery).unwrap() else { panic!("no number") };
        assert_eq!(length, delivery.len());
        let event = amqp::event(QUEUE, b"hi").unwrap();
        let body = &event[event.len() - 10..];
        let Some((10, Got::Event(event))) = got(body).unwrap() else { panic!("no event") };
        assert_eq!(event, b"hi");
    }

    #[test]
    fn a_queue_says_its_length_behind_its_name() {
        let answer = Args::default().short_text(QUEUE).int(42).int(0).0;
        assert_eq!(count_in(&answer).unwrap(), 42);
        assert!(count_in(&answer[..4]).is_err());
    }
}
