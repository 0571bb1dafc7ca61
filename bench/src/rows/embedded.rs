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

use super::{Bench, CHECKPOINTS_MIN, PROBE_COLUMNS, WARM_MAX, micros, progress};
use crate::floor::{self, How, Until};
use crate::framework::median;
use crate::goal;
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
/// Events of a relaxed round beside those of other rows: a second or two of what is asked.
const MORE: u64 = 2;
/// Fewer rounds have no median to speak of.
const ROUNDS: u32 = 5;

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

/// What a case has come to in one round.
struct Round {
    taken: Taken,
    /// To what it is compared with.
    ratio: Option<f64>,
    probe: Probe,
}

impl Round {
    fn syncs(&self) -> u64 {
        self.taken.after.syncs - self.taken.before.syncs
    }

    fn checkpoints(&self) -> u64 {
        self.taken.after.checkpoints - self.taken.before.checkpoints
    }

    fn rate(&self) -> f64 {
        self.taken.events as f64 / self.taken.time.as_secs_f64()
    }

    /// The median wait and the 99th percentile, in microseconds.
    fn waits_us(&self) -> Option<[f64; 2]> {
        let (p50, p99) = percentile::median_and_99th(&mut self.taken.waits.clone())?;
        Some([p50, p99].map(|nanos| f64::from(nanos) / 1e3))
    }

    fn counts(&self) -> bool {
        self.syncs() > 0 && !self.probe.is_busy()
    }
}

/// How the log is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Case {
    Relaxed,
    CallersThread,
    OneTask,
    Tasks,
}

impl Case {
    const ALL: [Case; 4] = [Case::Relaxed, Case::CallersThread, Case::OneTask, Case::Tasks];

    fn name(self) -> &'static str {
        match self {
            Case::Relaxed => "relaxed, 500 in a batch",
            Case::CallersThread => "one durable event, on the caller's thread",
            Case::OneTask => "one durable event, by a task",
            Case::Tasks => "durable events, 64 tasks",
        }
    }

    /// What it is compared with.
    fn against(self) -> &'static str {
        match self {
            Case::Relaxed => "",
            Case::CallersThread | Case::OneTask => "a zero-filled sync (p50)",
            Case::Tasks => "the floor",
        }
    }

    fn measure(self, bench: &Bench, runtime: &Runtime) -> Result<Round> {
        progress(&format!("embedded, {}", self.name()));
        match self {
            Case::Relaxed => relaxed(bench, runtime),
            Case::CallersThread => on_the_callers_thread(bench),
            Case::OneTask => single(bench, runtime, 1),
            Case::Tasks => single(bench, runtime, TASKS),
        }
    }

    /// What is asked, by the rounds that count.
    fn goal(self, counted: &[&Round]) -> [Cell; 2] {
        let ratio = median(counted.iter().filter_map(|round| round.ratio).collect());
        match self {
            Case::Relaxed => {
                let rate = median(counted.iter().map(|round| round.rate()).collect());
                let through = counted.iter().all(|round| round.checkpoints() >= CHECKPOINTS_MIN);
                goal::durable_cells("≥ 5,000,000/s", &[goal::at_least(rate, 5e6)], through)
            }
            Case::CallersThread => goal::cells("≤ 1.15", &[goal::at_most(ratio, 1.15)]),
            Case::OneTask => goal::cells("", &[]),
            Case::Tasks => goal::cells("≥ 0.80", &[goal::at_least(ratio, 0.8)]),
        }
    }
}

pub(super) fn run(bench: &Bench) -> Result<Table> {
    let runtime = Builder::new_multi_thread().enable_all().build().context("no runtime can be made")?;
    let mut rounds: Vec<(Case, Round)> = Vec::new();
    for round in 1..=ROUNDS {
        progress(&format!("round {round} of {ROUNDS}"));
        let mut cases = Case::ALL;
        // In every second round the other way round.
        if round.is_multiple_of(2) {
            cases.reverse();
        }
        for case in cases {
            rounds.push((case, case.measure(bench, &runtime)?));
        }
    }
    let columns = [
        Column::text("embedded", "case"),
        goal::COLUMNS[0],
        goal::COLUMNS[1],
        Column::number("events/s", "events_per_s"),
        Column::number("p50 µs", "p50_us"),
        Column::number("p99 µs", "p99_us"),
        Column::text("compared with", "against"),
        Column::number("ratio", "ratio"),
        Column::number("least", "ratio_least"),
        Column::number("most", "ratio_most"),
        Column::number("CPU s/M", "cpu_s_per_million"),
        Column::number("syncs/s", "syncs_per_s"),
        Column::number("checkpoints", "checkpoints"),
        Column::number("longest ms", "longest_journal_wait_ms"),
        Column::number("rounds", "rounds"),
    ];
    let rows = Case::ALL.into_iter().map(|case| {
        let of_case = rounds.iter().filter(|(one, _)| *one == case).map(|(_, round)| round);
        row(case, &of_case.collect::<Vec<_>>())
    });
    Ok(Table {
        key: "embedded",
        title: format!("Embedded: the log in the program itself, medians of {ROUNDS} rounds"),
        note: "Events of 100 B through the engine `embedded:`, as services publish them; CPU is that of the \
               whole program. Relaxed is `courant.durability=interval`: four tasks publish batches of 500. On \
               the caller's thread a log without threads of its own is appended to and committed, one event \
               after the other. The zero-filled sync is the probe's; the floor is a server on one connection, \
               with as many waiting, just before. A round is void in which the log did not sync, or in which \
               the probe was above 250 µs.",
        columns: columns.into_iter().chain(PROBE_COLUMNS).collect(),
        rows: rows.collect(),
    })
}

/// Batches in a topic that is synced a tenth of a second later.
fn relaxed(bench: &Bench, runtime: &Runtime) -> Result<Round> {
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
    close(runtime, &engine, &log);
    Ok(Round { taken, ratio: None, probe })
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
fn on_the_callers_thread(bench: &Bench) -> Result<Round> {
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
    let time = time_of_a_round(bench);
    append(time / WARM_UP)?;
    let mut taken = measured(&log, || {
        let waits = append(time)?;
        Ok((waits.len() as u64, waits))
    })?;
    let ratio = median_of(&mut taken)? / probe.p50.as_secs_f64();
    log.stop();
    Ok(Round { taken, ratio: Some(ratio), probe })
}

/// Durable events of so many tasks, each of which waits for its last one.
fn single(bench: &Bench, runtime: &Runtime, tasks: usize) -> Result<Round> {
    let time = time_of_a_round(bench);
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
    let ratio = match floor {
        None => median_of(&mut taken)? / probe.p50.as_secs_f64(),
        Some(floor) => taken.events as f64 / taken.time.as_secs_f64() / floor,
    };
    close(runtime, &engine, &log);
    Ok(Round { taken, ratio: Some(ratio), probe })
}

/// All rounds together take as long as single acknowledgements elsewhere.
fn time_of_a_round(bench: &Bench) -> Duration {
    bench.options.single_time / ROUNDS
}

/// Events per second of the floor with as many waiting.
fn floor_of(bench: &Bench, waiting: usize) -> Result<f64> {
    let dir = bench.fresh_dir()?;
    let message = wire::batch(1, EVENT_BYTES)?;
    let until = Until::Elapsed(time_of_a_round(bench));
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

/// The rounds of a case as one row. Where none counts, its figures are void.
fn row(case: Case, rounds: &[&Round]) -> Vec<Cell> {
    let counted: Vec<&Round> = rounds.iter().copied().filter(|round| round.counts()).collect();
    let of = |figure: fn(&Round) -> f64| median(counted.iter().map(|round| figure(round)).collect());
    let figure = |cell: Cell| if counted.is_empty() { Cell::Void } else { cell };
    let wait = |at: usize| {
        let waits: Option<Vec<f64>> = counted.iter().map(|round| Some(round.waits_us()?[at])).collect();
        figure(waits.map_or(Cell::Missing, |waits| Cell::rounded(median(waits))))
    };
    let ratios = || counted.iter().filter_map(|round| round.ratio);
    let ratio = |value: Option<f64>| {
        if case.against().is_empty() {
            return Cell::Missing;
        }
        value.map_or(Cell::Void, |value| Cell::Number(value, 2))
    };
    let middle = ratios().next().map(|_| median(ratios().collect()));
    let checkpoints = counted.iter().map(|round| round.checkpoints()).min().unwrap_or(0);
    let longest = counted.iter().map(|round| round.taken.after.journal_wait_longest_us).max();
    let probe = |figure: fn(&Probe) -> Duration| {
        Cell::rounded(median(rounds.iter().map(|round| micros(figure(&round.probe))).collect()))
    };
    let [asked, reached] = case.goal(&counted);
    vec![
        Cell::text(case.name()),
        asked,
        reached,
        figure(Cell::rounded(of(Round::rate))),
        wait(0),
        wait(1),
        Cell::text(case.against()),
        ratio(middle),
        ratio(ratios().reduce(f64::min)),
        ratio(ratios().reduce(f64::max)),
        figure(Cell::Number(of(|round| round.taken.cpu * 1e6 / round.taken.events as f64), 2)),
        figure(Cell::rounded(of(|round| round.syncs() as f64 / round.taken.time.as_secs_f64()))),
        figure(Cell::Count(checkpoints)),
        longest.map_or(Cell::Missing, |us| Cell::Number(us as f64 / 1e3, 1)),
        Cell::Count(counted.len() as u64),
        probe(|probe| probe.p50),
        probe(|probe| probe.p99),
        Cell::text(remark(case, rounds, &counted)),
    ]
}

fn remark(case: Case, rounds: &[&Round], counted: &[&Round]) -> String {
    let void = rounds.len() - counted.len();
    let void = (void > 0).then(|| format!("void rounds: {void}"));
    // Single events are too few bytes for checkpoints.
    let few = case == Case::Relaxed && counted.iter().any(|round| round.checkpoints() < CHECKPOINTS_MIN);
    let few = few.then(|| format!("fewer than {CHECKPOINTS_MIN} checkpoints"));
    void.into_iter().chain(few).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(syncs: u64, checkpoints: u64, probe_us: u64, ratio: f64) -> Round {
        // The type has no constructor outside its crate.
        let mut after = LogMetrics::default();
        after.syncs = syncs;
        after.checkpoints = checkpoints;
        let time = Duration::from_secs(1);
        let before = LogMetrics::default();
        let taken = Taken { events: 10_000, time, waits: vec![90_000], cpu: 0.4, before, after };
        let probe =
            Probe { p50: Duration::from_micros(probe_us), p99: Duration::from_micros(400), idle: 1.0 };
        Round { taken, ratio: Some(ratio), probe }
    }

    #[test]
    fn a_round_in_which_the_log_did_not_sync_and_a_busy_machine_are_void() {
        let rounds = [round(10_000, 0, 80, 1.125), round(0, 0, 80, 9.0), round(9_000, 0, 300, 9.0)];
        let good = row(Case::CallersThread, &rounds.iter().collect::<Vec<_>>());
        assert_eq!(good.len(), 18);
        assert_eq!(good[3..6], [Cell::Count(10_000), Cell::Count(90), Cell::Count(90)]);
        assert_eq!((&good[2], &good[7]), (&Cell::text("yes"), &Cell::Number(1.125, 2)));
        assert_eq!((&good[14], &good[17]), (&Cell::Count(1), &Cell::text("void rounds: 2")));
        let void = row(Case::CallersThread, &rounds[1..].iter().collect::<Vec<_>>());
        assert!(void[3..6].iter().chain(&void[7..12]).all(|cell| *cell == Cell::Void), "{void:?}");
        assert_eq!(void[2], Cell::text("void"));
    }

    /// Ten thousand events a second are not what is asked; with a rate that is, checkpoints have to be there.
    #[test]
    fn batches_have_to_go_through_checkpoints() {
        let few = round(10_000, 2, 80, 1.0);
        assert_eq!(row(Case::Relaxed, &[&few])[17], Cell::text("fewer than 3 checkpoints"));
        assert_eq!(row(Case::OneTask, &[&few])[17], Cell::text(""));
        let fast = |checkpoints| {
            let mut fast = round(10_000, checkpoints, 80, 1.0);
            fast.taken.events = 6_000_000;
            row(Case::Relaxed, &[&fast])[2].clone()
        };
        assert_eq!([fast(2), fast(3)], ["not shown", "yes"].map(Cell::text));
        assert_eq!(row(Case::Relaxed, &[&few])[2], Cell::text("no"));
    }
}
