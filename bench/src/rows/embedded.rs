//! The log in one's own process: no server, no socket, and what is left then.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use courant::engine::{Engine, EngineConfig, NewRecord, NewTopic, beside_server};
use courant_core::topic::TopicName;
use courant_log::storage::DiskStorage;
use courant_log::{Batch, Log, LogConfig, LogMetrics, SystemClock, SystemEntropy};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

use super::{Bench, CHECKPOINTS_MIN, PROBE_COLUMNS, WARM_MAX, micros, probe_cells, progress};
use crate::floor::{self, How, Until};
use crate::percentile;
use crate::probe::{self, Probe};
use crate::process;
use crate::table::{Cell, Column, Table};
use crate::wire;

const TOPIC: &str = "embedded";
const EVENT_BYTES: usize = 100;
const BATCH: usize = 500;
/// Tasks that publish batches at the same time.
const BATCH_TASKS: usize = 4;
/// Tasks that each wait for an event of theirs.
const TASKS: usize = 64;
const WARM_UP: u32 = 10;
/// Events of the relaxed row beside those of the others: a second or two of what is wanted.
const MORE: u64 = 5;

/// What a row has come to.
struct Taken {
    events: u64,
    time: Duration,
    /// Nanoseconds of single events.
    waits: Vec<u32>,
    cpu: f64,
    before: LogMetrics,
    after: LogMetrics,
}

/// What a row is compared with, and what is wanted.
struct Against {
    name: &'static str,
    ratio: Option<f64>,
    wanted: &'static str,
}

pub(super) fn run(bench: &Bench) -> Result<Table> {
    let runtime = Builder::new_multi_thread().enable_all().build().context("no runtime can be made")?;
    let columns = [
        Column::text("embedded", "case"),
        Column::number("events/s", "events_per_s"),
        Column::number("p50 µs", "p50_us"),
        Column::number("p99 µs", "p99_us"),
        Column::text("compared with", "against"),
        Column::number("ratio", "ratio"),
        Column::text("wanted", "wanted"),
        Column::number("CPU s/M", "cpu_s_per_million"),
        Column::number("syncs/s", "syncs_per_s"),
        Column::number("checkpoints", "checkpoints"),
        Column::number("longest ms", "longest_journal_wait_ms"),
    ];
    let rows = vec![
        relaxed(bench, &runtime)?,
        on_the_callers_thread(bench)?,
        single(bench, &runtime, 1)?,
        single(bench, &runtime, TASKS)?,
    ];
    Ok(Table {
        key: "embedded",
        title: "Embedded: the log in the program itself".to_owned(),
        note: "Events of 100 B through the engine `embedded:`, as services publish them; CPU is that of the \
               whole program. Relaxed is `courant.durability=interval`: four tasks publish batches of 500. On \
               the caller's thread a log without threads of its own is appended to and committed, one event \
               after the other. The zero-filled sync is the probe's; the floor is a server on one connection, \
               with as many waiting, just before.",
        columns: columns.into_iter().chain(PROBE_COLUMNS).collect(),
        rows,
    })
}

/// Batches in a topic that is synced a tenth of a second later.
fn relaxed(bench: &Bench, runtime: &Runtime) -> Result<Vec<Cell>> {
    progress("embedded, relaxed, in batches");
    // Every byte is written twice: journal and segment.
    let bytes = bench.options.events * MORE * EVENT_BYTES as u64 * 2;
    probe::warm_memory(bench.scratch.path(), bytes.min(WARM_MAX))?;
    let dir = bench.fresh_dir()?;
    let probe = bench.probe()?;
    let log = open(dir.path(), true)?;
    let engine = engine(runtime, &log, "interval")?;
    let calls = bench.options.events * MORE / BATCH as u64;
    runtime.block_on(batches(&engine, calls / u64::from(WARM_UP)))?;
    let taken = measured(&log, || {
        let events = runtime.block_on(batches(&engine, calls))?;
        Ok((events, Vec::new()))
    })?;
    let against = Against { name: "", ratio: None, wanted: "5,000,000/s" };
    let row = row("relaxed, 500 in a batch", &taken, &probe, &against);
    close(runtime, &engine, &log);
    Ok(row)
}

/// A few tasks that publish so many batches together; the events.
async fn batches(engine: &Arc<dyn Engine>, calls: u64) -> Result<u64> {
    let mut tasks = JoinSet::new();
    let each = (calls / BATCH_TASKS as u64).max(1);
    for _ in 0..BATCH_TASKS {
        let engine = Arc::clone(engine);
        tasks.spawn(async move {
            let record = record();
            for _ in 0..each {
                for result in engine.publish(vec![record.clone(); BATCH]).await {
                    result.context("an event was not taken")?;
                }
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.context("a publishing task panicked")??;
    }
    Ok(each * (BATCH_TASKS * BATCH) as u64)
}

/// One durable event after the other, by a log without threads.
fn on_the_callers_thread(bench: &Bench) -> Result<Vec<Cell>> {
    progress("embedded, committed on the caller's thread");
    let dir = bench.fresh_dir()?;
    let probe = bench.probe()?;
    let log = open(dir.path(), false)?;
    let (send, created) = mpsc::channel();
    let new = courant_log::NewTopic {
        name: TopicName::new(TOPIC).context("the topic has no legal name")?,
        partitions: 1,
        configs: BTreeMap::new(),
    };
    log.create_topic(new, move |result| {
        // Somebody waits for it until it is here.
        let _ = send.send(result);
    });
    log.commit();
    let topic = created.try_recv().context("the topic was not created")??;
    let partition = *topic.partitions.first().context("the topic has no partition")?;
    let batch = Batch::validate(wire::batch(1, EVENT_BYTES)?)?;
    let append = |time: Duration| -> Result<Vec<u32>> {
        let (send, stored) = mpsc::channel();
        let until = Instant::now() + time;
        let mut waits = Vec::new();
        loop {
            let begun = Instant::now();
            if begun >= until {
                return Ok(waits);
            }
            let send = send.clone();
            log.append(partition, batch.clone(), move |result| {
                let _ = send.send(result);
            });
            log.commit();
            stored.try_recv().context("an event was not answered")?.context("an event was not stored")?;
            waits.push(nanos(begun));
        }
    };
    append(bench.options.single_time / WARM_UP)?;
    let mut taken = measured(&log, || {
        let waits = append(bench.options.single_time)?;
        Ok((waits.len() as u64, waits))
    })?;
    let ratio = median_of(&mut taken)? / probe.p50.as_secs_f64();
    let against = Against { name: "a zero-filled sync (p50)", ratio: Some(ratio), wanted: "≤ 1.15" };
    let row = row("one durable event, on the caller's thread", &taken, &probe, &against);
    log.stop();
    Ok(row)
}

/// Durable events of so many tasks, each of which waits for its last one.
fn single(bench: &Bench, runtime: &Runtime, tasks: usize) -> Result<Vec<Cell>> {
    progress(&format!("embedded, {tasks} waiting"));
    let time = bench.options.single_time;
    let floor = if tasks == 1 { None } else { Some(floor_of(bench, tasks)?) };
    let dir = bench.fresh_dir()?;
    let probe = bench.probe()?;
    let log = open(dir.path(), true)?;
    let engine = engine(runtime, &log, "sync")?;
    runtime.block_on(waits(&engine, tasks, time / WARM_UP))?;
    let mut taken = measured(&log, || {
        let waits = runtime.block_on(waits(&engine, tasks, time))?;
        Ok((waits.len() as u64, waits))
    })?;
    let (name, against) = match floor {
        None => {
            let ratio = Some(median_of(&mut taken)? / probe.p50.as_secs_f64());
            ("one durable event, by a task", Against { name: "a zero-filled sync (p50)", ratio, wanted: "" })
        }
        Some(floor) => {
            let ratio = Some(taken.events as f64 / taken.time.as_secs_f64() / floor);
            ("durable events, 64 tasks", Against { name: "the floor", ratio, wanted: "≥ 0.80" })
        }
    };
    let row = row(name, &taken, &probe, &against);
    close(runtime, &engine, &log);
    Ok(row)
}

/// Events per second of the floor with as many waiting.
fn floor_of(bench: &Bench, waiting: usize) -> Result<f64> {
    let dir = bench.fresh_dir()?;
    let message = wire::batch(1, EVENT_BYTES)?;
    let until = Until::Elapsed(bench.options.single_time);
    Ok(floor::measure(dir.path(), How::Sync, &message, waiting, until)?.per_second())
}

async fn waits(engine: &Arc<dyn Engine>, tasks: usize, time: Duration) -> Result<Vec<u32>> {
    let until = Instant::now() + time;
    let mut running = JoinSet::new();
    for _ in 0..tasks {
        let engine = Arc::clone(engine);
        running.spawn(async move {
            let (record, mut waits) = (record(), Vec::new());
            loop {
                let begun = Instant::now();
                if begun >= until {
                    return anyhow::Ok(waits);
                }
                let answers = engine.publish(vec![record.clone()]).await;
                for answer in answers {
                    answer.context("an event was not taken")?;
                }
                waits.push(nanos(begun));
            }
        });
    }
    let mut all = Vec::new();
    while let Some(ended) = running.join_next().await {
        all.append(&mut ended.context("a waiting task panicked")??);
    }
    Ok(all)
}

/// The log of a directory, as an engine opens it, or without threads.
fn open(dir: &Path, background: bool) -> Result<Log> {
    let storage = DiskStorage::open(dir).with_context(|| dir.display().to_string())?;
    let config = LogConfig { background, ..LogConfig::new(Arc::new(SystemClock), Arc::new(SystemEntropy)) };
    let (log, _) = Log::open(Arc::new(storage), config).context("the log does not open")?;
    Ok(log)
}

/// The engine on a log whose counters can be read, and its topic.
fn engine(runtime: &Runtime, log: &Log, durability: &str) -> Result<Arc<dyn Engine>> {
    let engine = beside_server(log.clone(), EngineConfig::system());
    let name = TopicName::new(TOPIC).context("the topic has no legal name")?;
    let topic = NewTopic::new(name, 1).with("courant.durability", durability);
    let created = runtime.block_on(engine.create_topics(vec![topic]));
    for topic in created {
        topic.context("the topic cannot be created")?;
    }
    Ok(engine)
}

fn close(runtime: &Runtime, engine: &Arc<dyn Engine>, log: &Log) {
    runtime.block_on(engine.close());
    log.stop();
}

fn record() -> NewRecord {
    let value = Some(Bytes::from(vec![b'x'; EVENT_BYTES]));
    NewRecord {
        topic: TOPIC.into(),
        partition: Some(0),
        key: None,
        value,
        headers: Vec::new(),
        timestamp_ms: None,
    }
}

fn nanos(since: Instant) -> u32 {
    u32::try_from(since.elapsed().as_nanos()).unwrap_or(u32::MAX)
}

/// What `work` takes; it says how many events it has stored, and how long each waited.
fn measured(log: &Log, work: impl FnOnce() -> Result<(u64, Vec<u32>)>) -> Result<Taken> {
    let (before, cpu) = (log.metrics(), process::cpu_seconds(std::process::id())?);
    let begun = Instant::now();
    let (events, waits) = work()?;
    let time = begun.elapsed();
    let cpu = process::cpu_seconds(std::process::id())? - cpu;
    let after = log.metrics();
    let stored = after.appended_events - before.appended_events;
    ensure!(stored == events, "{events} events were acknowledged, and the log counts {stored}");
    Ok(Taken { events, time, waits, cpu, before, after })
}

/// In seconds.
fn median_of(taken: &mut Taken) -> Result<f64> {
    let (p50, _) = percentile::median_and_99th(&mut taken.waits).context("nothing was stored")?;
    Ok(f64::from(p50) / 1e9)
}

fn row(name: &str, taken: &Taken, probe: &Probe, against: &Against) -> Vec<Cell> {
    let seconds = taken.time.as_secs_f64();
    let mut waits = taken.waits.clone();
    let wait = percentile::median_and_99th(&mut waits);
    let micros_of = |nanos: u32| Cell::rounded(micros(Duration::from_nanos(nanos.into())));
    let syncs = taken.after.syncs - taken.before.syncs;
    let checkpoints = taken.after.checkpoints - taken.before.checkpoints;
    let mut figures = vec![
        Cell::rounded(taken.events as f64 / seconds),
        wait.map_or(Cell::Missing, |(p50, _)| micros_of(p50)),
        wait.map_or(Cell::Missing, |(_, p99)| micros_of(p99)),
    ];
    let mut ratio = against.ratio.map_or(Cell::Missing, |ratio| Cell::Number(ratio, 2));
    let mut remarks = Vec::new();
    if syncs == 0 {
        remarks.push("void: the log did not sync".to_owned());
    }
    if syncs == 0 || probe.is_busy() {
        figures.fill(Cell::Void);
        ratio = Cell::Void;
    }
    if checkpoints < CHECKPOINTS_MIN {
        remarks.push(format!("fewer than {CHECKPOINTS_MIN} checkpoints"));
    }
    let mut row = vec![Cell::text(name)];
    row.append(&mut figures);
    row.extend([
        Cell::text(against.name),
        ratio,
        Cell::text(against.wanted),
        Cell::Number(taken.cpu * 1e6 / taken.events as f64, 2),
        Cell::rounded(syncs as f64 / seconds),
        Cell::Count(checkpoints),
        Cell::Number(taken.after.journal_wait_longest_us as f64 / 1e3, 1),
    ]);
    row.append(&mut probe_cells(probe, (!remarks.is_empty()).then(|| remarks.join("; "))));
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(syncs: u64, checkpoints: u64) -> Taken {
        // The type has no constructor outside its crate.
        let mut after = LogMetrics::default();
        after.syncs = syncs;
        after.checkpoints = checkpoints;
        let time = Duration::from_secs(1);
        Taken { events: 10_000, time, waits: vec![90_000], cpu: 0.4, before: LogMetrics::default(), after }
    }

    fn row_of(taken: &Taken, probe_us: u64) -> Vec<Cell> {
        let probe =
            Probe { p50: Duration::from_micros(probe_us), p99: Duration::from_micros(400), idle: 1.0 };
        let against = Against { name: "a sync", ratio: Some(1.125), wanted: "≤ 1.15" };
        row("one", taken, &probe, &against)
    }

    #[test]
    fn a_log_that_did_not_sync_and_a_busy_machine_are_void() {
        let good = row_of(&taken(10_000, 3), 80);
        assert_eq!(good.len(), 14);
        assert_eq!(good[1..4], [Cell::Count(10_000), Cell::Count(90), Cell::Count(90)]);
        assert_eq!((&good[5], &good[13]), (&Cell::Number(1.125, 2), &Cell::text("")));
        for void in [row_of(&taken(0, 3), 80), row_of(&taken(10_000, 3), 300)] {
            assert!(void[1..4].iter().chain([&void[5]]).all(|cell| *cell == Cell::Void), "{void:?}");
        }
        assert_eq!(row_of(&taken(10_000, 2), 80)[13], Cell::text("fewer than 3 checkpoints"));
    }
}
