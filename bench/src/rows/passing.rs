//! From a producer to a consumer at a steady rate: how long an event takes, with its sync on the way.

use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use rdkafka::consumer::BaseConsumer;
use rdkafka::message::Message as _;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};

use super::{Before, Bench, PROBE_COLUMNS, USED_COLUMNS, Used, durable_row, micros, progress, used_cells};
use crate::client::{self, PARTITION, PATIENCE, TOPIC};
use crate::percentile;
use crate::server::Server;
use crate::table::{Cell, Column, Table};

const PER_SECOND: u64 = 5_000;
const EVENT_BYTES: usize = 100;
/// Events before those that count: connections, the topic, memory.
const WARM_UP: u64 = 5_000;
/// How long the consumer waits before it looks whether it has waited too long.
const POLL: Duration = Duration::from_millis(100);
const WANTED: &str = "p50 ≤ 350 µs, p99 ≤ 1,200 µs";

/// Nanoseconds since the first call, for producer and consumer of this process alike.
fn now() -> u64 {
    static BEGINNING: OnceLock<Instant> = OnceLock::new();
    u64::try_from(BEGINNING.get_or_init(Instant::now).elapsed().as_nanos()).unwrap_or(u64::MAX)
}

pub(super) fn run(bench: &Bench) -> Result<Table> {
    let events = bench.options.single_time.as_secs() * PER_SECOND;
    progress("producer to consumer");
    let data = bench.fresh_dir()?;
    let probe = bench.probe()?;
    let server = bench.start(&data)?;
    let (mut taken, time, used) = server.blame(measure(&server, events))?;
    let (p50, p99) = percentile::median_and_99th(&mut taken).context("nothing was read")?;
    let [p50, p99] = [p50, p99].map(Duration::from_nanos);
    let mut figures = vec![
        Cell::rounded(events as f64 / time.as_secs_f64()),
        Cell::rounded(micros(p50)),
        Cell::rounded(micros(p99)),
        Cell::Number(p50.as_secs_f64() / probe.p50.as_secs_f64(), 1),
    ];
    figures.append(&mut used_cells(&used, events, time));
    let mut row = durable_row("100 B, one by one".to_owned(), figures, &used, &probe);
    row.insert(1, Cell::text(WANTED));
    let columns = [
        Column::text("producer to consumer", "load"),
        Column::text("wanted", "wanted"),
        Column::number("events/s", "events_per_s"),
        Column::number("p50 µs", "p50_us"),
        Column::number("p99 µs", "p99_us"),
        Column::number("p50 × probe", "p50_per_probe"),
    ];
    Ok(Table {
        key: "passing",
        title: format!("Producer to consumer: {events} events at {PER_SECOND} per second"),
        note: "Each event carries the moment in which the producer handed it to librdkafka (linger 0, acks=all, \
               idempotence off, without Nagle's algorithm), and is compared when the consumer has it from \
               librdkafka. The producer goes by the clock and waits for nobody.",
        columns: columns.into_iter().chain(USED_COLUMNS).chain(PROBE_COLUMNS).collect(),
        rows: vec![row],
    })
}

/// What each event took in nanoseconds, and how long they were sent for.
fn measure(server: &Server, events: u64) -> Result<(Vec<u64>, Duration, Used)> {
    let bootstrap = server.bootstrap();
    let producer: ThreadedProducer<DefaultProducerContext> = client::writer_config(&bootstrap)
        .set("linger.ms", "0")
        .set("socket.nagle.disable", "true")
        .create()
        .context("no producer can be made")?;
    // One event makes the topic.
    send(&producer)?;
    producer.flush(PATIENCE).context("the first event was not acknowledged")?;
    let consumer = client::consumer(&bootstrap)?;
    let reader = thread::spawn(move || read(&consumer, 1 + WARM_UP + events));
    paced(&producer, WARM_UP)?;
    let before = Before::now(server)?;
    paced(&producer, events)?;
    let time = before.at.elapsed();
    let all = reader.join().map_err(|_| anyhow!("the consumer panicked"))??;
    let used = before.used(server)?;
    let counted = usize::try_from(1 + WARM_UP)?;
    Ok((all.get(counted..).unwrap_or_default().to_vec(), time, used))
}

/// Sends so many events, each when it is due.
fn paced(producer: &ThreadedProducer<DefaultProducerContext>, events: u64) -> Result<()> {
    let begun = Instant::now();
    for number in 0..events {
        let due = begun + Duration::from_nanos(number * (1_000_000_000 / PER_SECOND));
        let early = due.saturating_duration_since(Instant::now());
        if !early.is_zero() {
            thread::sleep(early);
        }
        send(producer)?;
    }
    Ok(())
}

fn send(producer: &ThreadedProducer<DefaultProducerContext>) -> Result<()> {
    let mut payload = [b'x'; EVENT_BYTES];
    payload[..size_of::<u64>()].copy_from_slice(&now().to_le_bytes());
    let record = BaseRecord::<(), [u8]>::to(TOPIC).partition(PARTITION).payload(&payload);
    producer.send(record).map_err(|(error, _)| anyhow!("an event cannot be sent: {error}"))
}

/// Reads so many events; what each took.
fn read(consumer: &BaseConsumer, events: u64) -> Result<Vec<u64>> {
    let mut taken = Vec::new();
    let mut last = Instant::now();
    while (taken.len() as u64) < events {
        match consumer.poll(POLL) {
            Some(Ok(message)) => {
                let stamp = message.payload().and_then(client::number_in).context("an event has no stamp")?;
                taken.push(now().saturating_sub(stamp));
                last = Instant::now();
            }
            Some(Err(error)) if !client::passes(&error) => bail!("after {} events: {error}", taken.len()),
            Some(Err(_)) | None => {}
        }
        ensure!(last.elapsed() < PATIENCE, "the consumer got {} of {events} events", taken.len());
    }
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_clock_is_everybodys() {
        let first = now();
        let other = thread::spawn(now).join().unwrap();
        assert!(first <= other && other <= now());
    }
}
