//! What an event takes from a producer to a consumer at a steady rate, whatever the server between them speaks.
//!
//! Each event carries the moment in which the producer handed it over. The producer goes by the clock and waits
//! for nobody; the consumer has to get every event, or the measurement fails.

use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use rdkafka::consumer::BaseConsumer;
use rdkafka::message::Message as _;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, ThreadedProducer};

use crate::client::{self, PARTITION, PATIENCE, TOPIC};
use crate::wire::{self, Connection, Produce};

pub(crate) const PER_SECOND: u64 = 5_000;
pub(crate) const EVENT_BYTES: usize = 100;
/// Hexadecimal digits of a moment, at the beginning of an event: they may stand in every protocol.
const STAMP_BYTES: usize = 16;
/// How long the consumer waits before it looks whether it has waited too long.
const POLL: Duration = Duration::from_millis(100);

/// A producer that waits for no acknowledgement.
pub(crate) trait Sender {
    /// Sends an event.
    fn send(&mut self, payload: &[u8]) -> Result<()>;
}

/// A consumer, in a thread of its own.
pub(crate) trait Receiver: Send {
    /// Waits for events, and gives all that have come. No events for a long time are an error.
    fn receive(&mut self) -> Result<Vec<Vec<u8>>>;
}

/// What was measured.
#[derive(Debug)]
pub(crate) struct Taken<B> {
    /// Nanoseconds that each event took.
    pub(crate) waits: Vec<u64>,
    /// How long events were sent for.
    pub(crate) time: Duration,
    /// The moment before the first of them.
    pub(crate) before: B,
}

/// Passes so many events. Others come first and do not count: connections, memory and compilers get warm. What
/// `before` gives is taken between the two.
pub(crate) fn measure<B>(
    mut sender: Box<dyn Sender>,
    receiver: Box<dyn Receiver>,
    warm_up: u64,
    events: u64,
    before: impl FnOnce() -> Result<B>,
) -> Result<Taken<B>> {
    let reader = thread::spawn(move || read(receiver, warm_up + events));
    paced(sender.as_mut(), warm_up)?;
    let before = before()?;
    let (first, begun) = (now(), Instant::now());
    paced(sender.as_mut(), events)?;
    let time = begun.elapsed();
    let all = reader.join().map_err(|_| anyhow!("the consumer panicked"))??;
    let waits: Vec<u64> =
        all.into_iter().filter(|(stamp, _)| *stamp >= first).map(|(_, wait)| wait).collect();
    ensure!(waits.len() as u64 == events, "{events} events were sent, and {} of them came", waits.len());
    Ok(Taken { waits, time, before })
}

/// Nanoseconds since the first call, for producer and consumer of this process alike.
fn now() -> u64 {
    static BEGINNING: OnceLock<Instant> = OnceLock::new();
    u64::try_from(BEGINNING.get_or_init(Instant::now).elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// Sends so many events, each when it is due.
fn paced(sender: &mut dyn Sender, events: u64) -> Result<()> {
    let begun = Instant::now();
    for number in 0..events {
        let due = begun + Duration::from_nanos(number * (1_000_000_000 / PER_SECOND));
        let early = due.saturating_duration_since(Instant::now());
        if !early.is_zero() {
            thread::sleep(early);
        }
        sender.send(&stamped(now()))?;
    }
    Ok(())
}

fn stamped(moment: u64) -> [u8; EVENT_BYTES] {
    let mut payload = [b'x'; EVENT_BYTES];
    payload[..STAMP_BYTES].copy_from_slice(format!("{moment:016x}").as_bytes());
    payload
}

fn stamp_of(payload: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(payload.get(..STAMP_BYTES)?).ok()?;
    u64::from_str_radix(digits, 16).ok()
}

/// Reads so many events: when each was sent, and what it took.
fn read(mut receiver: Box<dyn Receiver>, events: u64) -> Result<Vec<(u64, u64)>> {
    let mut all = Vec::new();
    while (all.len() as u64) < events {
        let came = receiver.receive().with_context(|| format!("after {} of {events} events", all.len()))?;
        let at = now();
        for event in came {
            let stamp = stamp_of(&event).context("an event has no stamp")?;
            all.push((stamp, at.saturating_sub(stamp)));
        }
    }
    Ok(all)
}

/// Both by librdkafka, to a topic that is there.
pub(crate) fn by_librdkafka(bootstrap: &str) -> Result<(Box<dyn Sender>, Box<dyn Receiver>)> {
    let producer: ThreadedProducer<DefaultProducerContext> = client::writer_config(bootstrap)
        .set("linger.ms", "0")
        .set("socket.nagle.disable", "true")
        .create()
        .context("no producer can be made")?;
    Ok((Box::new(Producer(producer)), Box::new(Consumer(client::consumer(bootstrap)?))))
}

struct Producer(ThreadedProducer<DefaultProducerContext>);

impl Sender for Producer {
    fn send(&mut self, payload: &[u8]) -> Result<()> {
        let record = BaseRecord::<(), [u8]>::to(TOPIC).partition(PARTITION).payload(payload);
        self.0.send(record).map_err(|(error, _)| anyhow!("an event cannot be sent: {error}"))
    }
}

struct Consumer(BaseConsumer);

impl Receiver for Consumer {
    fn receive(&mut self) -> Result<Vec<Vec<u8>>> {
        let begun = Instant::now();
        loop {
            match self.0.poll(POLL) {
                Some(Ok(message)) => return Ok(vec![message.payload().unwrap_or_default().to_vec()]),
                Some(Err(error)) if !client::passes(&error) => bail!("reading: {error}"),
                Some(Err(_)) | None => {}
            }
            ensure!(begun.elapsed() < PATIENCE, "nothing came for {} s", PATIENCE.as_secs());
        }
    }
}

/// The same of clients that hand nothing from one thread to another, on whichever side: each event is a request of its
/// own, and the consumer asks again when its last request for events is answered.
pub(crate) fn without_library(bootstrap: &str) -> Result<(Box<dyn Sender>, Box<dyn Receiver>)> {
    let producer = Connection::open(bootstrap)?;
    // Who consumes the events sees whether one is missing.
    producer.leave_unread()?;
    let connection = Connection::open(bootstrap)?;
    Ok((Box::new(LeanProducer(producer)), Box::new(LeanConsumer { connection, offset: 0 })))
}

struct LeanProducer(Connection);

impl Sender for LeanProducer {
    fn send(&mut self, payload: &[u8]) -> Result<()> {
        self.0.begin(&mut Produce::new(TOPIC, &wire::batch_of(payload)?)?)
    }
}

struct LeanConsumer {
    connection: Connection,
    /// Behind what has come.
    offset: i64,
}

impl Receiver for LeanConsumer {
    fn receive(&mut self) -> Result<Vec<Vec<u8>>> {
        let begun = Instant::now();
        loop {
            let (events, behind) = self.connection.fetch_events(TOPIC, self.offset)?;
            self.offset = behind;
            if !events.is_empty() {
                return Ok(events);
            }
            ensure!(begun.elapsed() < PATIENCE, "nothing came for {} s", PATIENCE.as_secs());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Events go from one thread to another, and nothing is between them.
    impl Sender for mpsc::Sender<Vec<u8>> {
        fn send(&mut self, payload: &[u8]) -> Result<()> {
            mpsc::Sender::send(self, payload.to_vec()).context("nobody reads")
        }
    }

    impl Receiver for mpsc::Receiver<Vec<u8>> {
        fn receive(&mut self) -> Result<Vec<Vec<u8>>> {
            Ok(vec![self.recv().context("nobody sends")?])
        }
    }

    #[test]
    fn one_clock_is_everybodys() {
        let first = now();
        let other = thread::spawn(now).join().unwrap();
        assert!(first <= other && other <= now());
    }

    #[test]
    fn an_event_carries_its_moment() {
        assert_eq!(stamp_of(&stamped(u64::MAX)), Some(u64::MAX));
        assert_eq!(stamp_of(&stamped(17)), Some(17));
        assert_eq!(stamp_of(b"short"), None);
        assert_eq!(stamp_of(&[b'x'; EVENT_BYTES]), None);
    }

    /// The events before count for nothing, and those that count all do.
    #[test]
    fn only_what_comes_after_the_warm_up_counts() {
        let (sender, receiver) = mpsc::channel::<Vec<u8>>();
        let taken = measure(Box::new(sender), Box::new(receiver), 20, 50, || Ok("before")).unwrap();
        assert_eq!((taken.waits.len(), taken.before), (50, "before"));
        assert!(taken.time >= Duration::from_millis(9), "{:?}", taken.time);
    }

    #[test]
    fn an_event_that_does_not_come_is_an_error() {
        let (sender, receiver) = mpsc::channel::<Vec<u8>>();
        drop(sender);
        let (other, _unread) = mpsc::channel::<Vec<u8>>();
        assert!(measure(Box::new(other), Box::new(receiver), 1, 1, || Ok(())).is_err());
    }
}
