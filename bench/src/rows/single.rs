//! Single events: each producer sends the next one when the last one is on disk.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::error::KafkaError;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};

use super::{Before, Bench, PROBE_COLUMNS, USED_COLUMNS, Used, durable_row, micros, progress, used_cells};
use crate::client::{PARTITION, TOPIC, writer_config};
use crate::goal;
use crate::percentile;
use crate::server::Server;
use crate::table::{Cell, Column, Table};

/// Producers that wait at the same time.
const WAITING: [usize; 3] = [1, 64, 256];
const EVENT_BYTES: usize = 100;
/// A run before the run is this part of it: connections, topic, memory.
const WARM_UP: u32 = 10;

/// What waiting came to.
struct Outcome {
    acks: u64,
    time: Duration,
    p50: Duration,
    p99: Duration,
    used: Used,
}

pub(super) fn run(bench: &Bench) -> Result<Table> {
    let time = bench.options.single_time;
    let mut rows = Vec::new();
    for waiting in WAITING {
        let name = format!("{waiting} waiting");
        progress(&format!("single acknowledgements, {name}"));
        let data = bench.fresh_dir()?;
        let probe = bench.probe()?;
        let server = bench.start(&data)?;
        let outcome = server.blame(measure(&server, waiting, time))?;
        let mut figures = vec![
            Cell::rounded(outcome.acks as f64 / outcome.time.as_secs_f64()),
            Cell::rounded(micros(outcome.p50)),
            Cell::rounded(micros(outcome.p99)),
            Cell::Number(outcome.p50.as_secs_f64() / probe.p50.as_secs_f64(), 1),
        ];
        figures.append(&mut used_cells(&outcome.used, outcome.acks, outcome.time));
        let counts = outcome.used.syncs > 0 && !probe.is_busy();
        let mut row = durable_row(name, figures, &outcome.used, &probe);
        drop(row.splice(1..1, goal_of(waiting, &outcome, counts)));
        rows.push(row);
    }
    let columns = [
        Column::text("durable single acks", "load"),
        goal::COLUMNS[0],
        goal::COLUMNS[1],
        Column::number("acks/s", "acks_per_s"),
        Column::number("p50 µs", "p50_us"),
        Column::number("p99 µs", "p99_us"),
        Column::number("p50 × probe", "p50_per_probe"),
    ];
    let columns = columns.into_iter().chain(USED_COLUMNS).chain(PROBE_COLUMNS);
    Ok(Table {
        key: "single",
        title: format!("Single acknowledgements: 100 B, {} s each", time.as_secs_f64()),
        note: "One client (linger 0, acks=all, idempotence off) shared by producers that each wait for \
               their acknowledgement before they send again. They have one thread, on which the \
               acknowledgements come and the next events are sent.",
        columns: columns.collect(),
        rows,
    })
}

/// What is asked of so many producers.
fn goal_of(waiting: usize, outcome: &Outcome, counts: bool) -> [Cell; 2] {
    let of = |figure: f64| if counts { figure } else { f64::NAN };
    let rate = of(outcome.acks as f64 / outcome.time.as_secs_f64());
    match waiting {
        1 => goal::cells("≥ 5,000/s", &[goal::at_least(rate, 5e3)]),
        64 => {
            let p50 = goal::at_most(of(micros(outcome.p50)), 350.0);
            goal::cells("≥ 180,000/s, p50 ≤ 350 µs", &[goal::at_least(rate, 18e4), p50])
        }
        256 => goal::cells("≥ 300,000/s", &[goal::at_least(rate, 3e5)]),
        _ => goal::cells("", &[]),
    }
}

/// Lets so many producers wait for acknowledgements of events of 100 bytes for so long.
fn measure(server: &Server, waiting: usize, time: Duration) -> Result<Outcome> {
    let producers = Producers::new(&server.bootstrap())?;
    producers.wait(waiting, time / WARM_UP)?;
    let before = Before::now(server)?;
    let mut acks = producers.wait(waiting, time)?;
    let time = before.at.elapsed();
    let used = before.used(server)?;
    let (p50, p99) = percentile::median_and_99th(&mut acks).context("no event was acknowledged in time")?;
    Ok(Outcome {
        acks: acks.len() as u64,
        time,
        p50: Duration::from_nanos(p50.into()),
        p99: Duration::from_nanos(p99.into()),
        used,
    })
}

/// Producers that share one client, each of which waits for its acknowledgement before it sends again.
///
/// All of them are one thread, the one on which the client says what was acknowledged: the server has its share
/// of the machine too, and the clients of others are no more than that.
pub(crate) struct Producers(Arc<ThreadedProducer<Turns>>);

impl Producers {
    /// To any server that speaks the protocol.
    pub(crate) fn new(bootstrap: &str) -> Result<Producers> {
        Producers::by(writer_config(bootstrap))
    }

    fn by(mut config: ClientConfig) -> Result<Producers> {
        let producer: ThreadedProducer<Turns> = config
            .set("linger.ms", "0")
            .create_with_context(Turns::default())
            .context("no producer can be made")?;
        let producer = Arc::new(producer);
        let weak = Arc::downgrade(&producer);
        let payload = [b'x'; EVENT_BYTES];
        let send = move |number: usize| match weak.upgrade() {
            Some(producer) => {
                let record = BaseRecord::<(), [u8], usize>::with_opaque_to(TOPIC, number);
                let record = record.partition(PARTITION).payload(&payload);
                producer.send(record).map_err(|(error, _)| error)
            }
            // The end: nobody waits any more.
            None => Ok(()),
        };
        // The first time, so it is taken.
        let _ = producer.context().send.set(Box::new(send));
        Ok(Producers(producer))
    }

    /// Nanoseconds that each acknowledgement took.
    pub(crate) fn wait(&self, waiting: usize, time: Duration) -> Result<Vec<u32>> {
        let turns = self.0.context();
        turns.begin(waiting, time);
        for number in 0..waiting {
            turns.send(number);
        }
        turns.end()
    }
}

/// Sends the next event of the producer with this number.
type SendNext = Box<dyn Fn(usize) -> Result<(), KafkaError> + Send + Sync>;

/// Whose turn it is: the client tells it of each acknowledgement.
#[derive(Default)]
struct Turns {
    send: OnceLock<SendNext>,
    round: Mutex<Round>,
    ended: Condvar,
}

/// What has come of one time of waiting.
#[derive(Default)]
struct Round {
    /// Who gets an acknowledgement later than this sends no more.
    until: Option<Instant>,
    /// When each producer has sent its last event.
    sent: Vec<Instant>,
    /// Nanoseconds that each acknowledgement took.
    taken: Vec<u32>,
    /// Events that are not acknowledged. Each is in time, or the client refuses it.
    open: usize,
    refused: Option<String>,
}

impl Turns {
    fn begin(&self, producers: usize, time: Duration) {
        let now = Instant::now();
        *self.round() = Round {
            until: Some(now + time),
            sent: vec![now; producers],
            open: producers,
            ..Round::default()
        };
    }

    fn send(&self, number: usize) {
        let sent = self.send.get().map_or(Ok(()), |send| send(number));
        if let Err(error) = sent {
            self.answered(number, Some(error.to_string()));
        }
    }

    /// Notes what became of a producer's last event; true when its next one is to be sent.
    fn answered(&self, number: usize, refused: Option<String>) -> bool {
        let now = Instant::now();
        let mut guard = self.round();
        let round = &mut *guard;
        let accepted = refused.is_none();
        round.refused = round.refused.take().or(refused);
        if accepted && let Some(sent) = round.sent.get_mut(number) {
            round.taken.push(u32::try_from((now - *sent).as_nanos()).unwrap_or(u32::MAX));
            *sent = now;
            if round.refused.is_none() && round.until.is_some_and(|until| now < until) {
                return true;
            }
        }
        round.open = round.open.saturating_sub(1);
        if round.open == 0 {
            self.ended.notify_all();
        }
        false
    }

    /// Waits for the last acknowledgement: what all of them took.
    fn end(&self) -> Result<Vec<u32>> {
        let ended = self.ended.wait_while(self.round(), |round| round.open > 0);
        let round = std::mem::take(&mut *ended.unwrap_or_else(PoisonError::into_inner));
        match round.refused {
            None => Ok(round.taken),
            Some(reason) => bail!("an event was not acknowledged: {reason}"),
        }
    }

    fn round(&self) -> MutexGuard<'_, Round> {
        self.round.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Turns {}

impl ProducerContext for Turns {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, number: usize) {
        let refused = result.as_ref().err().map(|(error, _)| error.to_string());
        if self.answered(number, refused) {
            self.send(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(600);

    #[test]
    fn who_is_answered_in_time_sends_again() {
        let turns = Turns::default();
        turns.begin(2, LONG);
        assert!(turns.answered(0, None) && turns.answered(0, None) && turns.answered(1, None));
        turns.begin(2, Duration::ZERO);
        assert!(!turns.answered(1, None) && !turns.answered(0, None));
        assert_eq!(turns.end().unwrap().len(), 2, "of this round alone");
    }

    #[test]
    fn nobody_sends_behind_an_event_that_was_refused() {
        let turns = Turns::default();
        turns.begin(2, LONG);
        assert!(!turns.answered(0, Some("the disk is full".to_owned())));
        assert!(!turns.answered(1, None));
        let error = turns.end().unwrap_err().to_string();
        assert_eq!(error, "an event was not acknowledged: the disk is full");
    }

    /// By the mock that librdkafka brings along, which puts its own address in the place of this one.
    #[test]
    fn producers_wait_in_turn() {
        let mut config = writer_config("127.0.0.1:1");
        config.set("test.mock.num.brokers", "1");
        let producers = Producers::by(config).unwrap();
        for _ in 0..2 {
            let taken = producers.wait(8, Duration::from_millis(50)).unwrap();
            assert!(taken.len() >= 8, "{} events were acknowledged", taken.len());
            assert!(taken.iter().all(|nanos| *nanos > 0));
        }
    }
}
