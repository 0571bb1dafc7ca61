//! Single events: each producer sends the next one when the last one is on disk.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use rdkafka::producer::{FutureProducer, FutureRecord};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

use super::{Before, Bench, PROBE_COLUMNS, USED_COLUMNS, Used, durable_row, micros, progress, used_cells};
use crate::client::{PARTITION, PATIENCE, TOPIC, writer_config};
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
        note: "One client (linger 0, acks=all, idempotence off) shared by tasks that each wait for \
               their acknowledgement before they send again; the client alone takes about 70 µs.",
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
pub(crate) struct Producers {
    producer: FutureProducer,
    runtime: Runtime,
}

impl Producers {
    /// To any server that speaks the protocol.
    pub(crate) fn new(bootstrap: &str) -> Result<Producers> {
        let producer =
            writer_config(bootstrap).set("linger.ms", "0").create().context("no producer can be made")?;
        // One thread for all tasks: the server has its share of the machine too.
        let runtime =
            Builder::new_current_thread().enable_time().build().context("no runtime can be made")?;
        Ok(Producers { producer, runtime })
    }

    /// Nanoseconds that each acknowledgement took.
    pub(crate) fn wait(&self, waiting: usize, time: Duration) -> Result<Vec<u32>> {
        self.runtime.block_on(async {
            let until = Instant::now() + time;
            let mut tasks = JoinSet::new();
            for _ in 0..waiting {
                tasks.spawn(wait_in_turn(self.producer.clone(), until));
            }
            let mut all = Vec::new();
            while let Some(ended) = tasks.join_next().await {
                all.append(&mut ended.context("a waiting task panicked")??);
            }
            Ok(all)
        })
    }
}

async fn wait_in_turn(producer: FutureProducer, until: Instant) -> Result<Vec<u32>> {
    let payload = vec![b'x'; EVENT_BYTES];
    let mut taken = Vec::new();
    loop {
        let sent = Instant::now();
        if sent >= until {
            return Ok(taken);
        }
        let record = FutureRecord::<(), [u8]>::to(TOPIC).partition(PARTITION).payload(&payload);
        producer
            .send(record, PATIENCE)
            .await
            .map_err(|(error, _)| anyhow!("an event was not acknowledged: {error}"))?;
        taken.push(u32::try_from(sent.elapsed().as_nanos()).unwrap_or(u32::MAX));
    }
}
