//! The rows, and what they have in common: a fresh directory, a probe of the disk, and what the
//! server used between two moments.

mod batch;
mod client;
mod compression;
mod connections;
mod embedded;
mod floor;
mod memory;
mod partitions;
mod passing;
mod read;
mod recover;
mod relaxed;
mod single;
mod start;
mod tls;

pub(crate) use single::Producers;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use crate::options::{Options, Part};
use crate::probe::Probe;
use crate::process::{self, Written};
use crate::say;
use crate::server::{Counters, Server};
use crate::table::{Cell, Column, Report};
use crate::tls::Identity;

/// Data of a run that memory is warmed for at most.
const WARM_MAX: u64 = 2 << 30;
/// A durable row goes through so many checkpoints, or says that it did not.
const CHECKPOINTS_MIN: u64 = 3;

/// Where and how much is measured.
pub(crate) struct Bench {
    courant: PathBuf,
    /// Data of all runs, on the disk that this program was built on.
    scratch: TempDir,
    options: Options,
}

impl Bench {
    pub(crate) fn new(courant: PathBuf, target: &Path, options: Options) -> Result<Bench> {
        let scratch = tempfile::Builder::new()
            .prefix("bench-data-")
            .tempdir_in(target)
            .with_context(|| format!("no directory can be made in {}", target.display()))?;
        Ok(Bench { courant, scratch, options })
    }

    /// Measures what was asked for, in the order of [`Part::ALL`]. What fails does not stop the others.
    pub(crate) fn run(&self, report: &mut Report) -> Result<()> {
        let mut failed = Vec::new();
        for part in &self.options.parts {
            let table = match part {
                Part::Floor => floor::run(self),
                Part::Client => client::run(self),
                Part::Batch => batch::run(self),
                Part::Compression => compression::run(self),
                Part::Tls => tls::run(self),
                Part::Relaxed => relaxed::run(self),
                Part::Single => single::run(self),
                Part::Passing => passing::run(self),
                Part::Partitions => partitions::run(self),
                Part::Connections => connections::run(self),
                Part::Read => read::run(self),
                Part::Embedded => embedded::run(self),
                Part::Memory => memory::run(self),
                Part::Start => start::run(self),
                Part::Recover => recover::run(self),
            };
            match table {
                Ok(table) => report.add(table),
                Err(error) => {
                    let error = format!("the rows `{}` failed: {error:#}", part.name());
                    progress(&error);
                    failed.push(error);
                }
            }
        }
        ensure!(failed.is_empty(), "{}", failed.join("; "));
        Ok(())
    }

    /// An empty directory. What the last row left to the file system is done before it is measured.
    fn fresh_dir(&self) -> Result<TempDir> {
        let scratch = self.scratch.path();
        let cannot = || format!("no directory can be made in {}", scratch.display());
        let dir = tempfile::tempdir_in(scratch).with_context(cannot)?;
        File::open(scratch).and_then(|dir| dir.sync_all()).with_context(cannot)?;
        Ok(dir)
    }

    /// The disk now; where somebody else is at work, a little later.
    fn probe(&self) -> Result<Probe> {
        Probe::take_when_idle(self.scratch.path())
    }

    fn start(&self, data: &TempDir) -> Result<Server> {
        self.start_with(data, None)
    }

    /// With TLS, or without.
    fn start_with(&self, data: &TempDir, tls: Option<&Identity>) -> Result<Server> {
        Server::start_with(&self.courant, data.path(), tls)
    }
}

/// The moment before a measurement.
struct Before {
    server_cpu: f64,
    client_cpu: f64,
    written: Option<Written>,
    counters: Counters,
    at: Instant,
}

impl Before {
    fn now(server: &Server) -> Result<Before> {
        Ok(Before {
            counters: server.counters()?,
            written: server.written(),
            server_cpu: server.cpu_seconds()?,
            client_cpu: process::cpu_seconds(std::process::id())?,
            at: Instant::now(),
        })
    }

    /// What was used since then.
    fn used(&self, server: &Server) -> Result<Used> {
        let server_cpu = server.cpu_seconds()? - self.server_cpu;
        let client_cpu = process::cpu_seconds(std::process::id())? - self.client_cpu;
        let written = server.written().zip(self.written).map(|(after, before)| Written {
            calls: after.calls.saturating_sub(before.calls),
            bytes: after.bytes.saturating_sub(before.bytes),
        });
        let counters = server.counters()?;
        let grown =
            |counter: fn(&Counters) -> u64| counter(&counters).saturating_sub(counter(&self.counters));
        Ok(Used {
            server_cpu,
            client_cpu,
            written,
            appends: grown(|c| c.appends),
            syncs: grown(|c| c.syncs),
            checkpoints: grown(|c| c.checkpoints),
            journal_waits: grown(|c| c.journal_waits),
            longest_wait_us: counters.longest_wait_us,
        })
    }
}

/// What a measurement took of server and client.
#[derive(Clone, Copy, Debug)]
struct Used {
    server_cpu: f64,
    client_cpu: f64,
    /// By the server, where the system tells.
    written: Option<Written>,
    appends: u64,
    syncs: u64,
    checkpoints: u64,
    journal_waits: u64,
    /// Since the start of the server, which a row has for itself.
    longest_wait_us: Option<u64>,
}

/// What [`used_cells`] fills.
const USED_COLUMNS: [Column; 9] = [
    Column::number("server CPU s/M", "server_cpu_s_per_million"),
    Column::number("client CPU s/M", "client_cpu_s_per_million"),
    Column::number("events/batch", "events_per_batch"),
    Column::number("write calls/event", "write_calls_per_event"),
    Column::number("written B/event", "written_bytes_per_event"),
    Column::number("syncs/s", "syncs_per_s"),
    Column::number("checkpoints", "checkpoints"),
    Column::number("journal waits", "journal_waits"),
    Column::number("longest ms", "longest_journal_wait_ms"),
];

/// Of so many events, that were acknowledged within this time.
fn used_cells(used: &Used, events: u64, time: Duration) -> Vec<Cell> {
    let millions = events as f64 / 1e6;
    let longest = used.longest_wait_us.map(|us| us as f64 / 1e3);
    let per_event = |of: fn(Written) -> u64, digits: usize| {
        used.written.map_or(Cell::Missing, |written| Cell::Number(of(written) as f64 / events as f64, digits))
    };
    vec![
        Cell::Number(used.server_cpu / millions, 2),
        Cell::Number(used.client_cpu / millions, 2),
        Cell::Number(events as f64 / used.appends as f64, 1),
        per_event(|written| written.calls, 4),
        per_event(|written| written.bytes, 0),
        Cell::rounded(used.syncs as f64 / time.as_secs_f64()),
        Cell::Count(used.checkpoints),
        Cell::Count(used.journal_waits),
        longest.map_or(Cell::Missing, |ms| Cell::Number(ms, 1)),
    ]
}

/// What [`probe_cells`] fills.
const PROBE_COLUMNS: [Column; 3] = [
    Column::number("probe p50 µs", "probe_p50_us"),
    Column::number("probe p99 µs", "probe_p99_us"),
    Column::text("remark", "remark"),
];

/// The end of every row that the disk has a say in.
fn probe_cells(probe: &Probe, remark: Option<String>) -> Vec<Cell> {
    let busy = probe.is_busy().then(|| "busy machine".to_owned());
    let remarks: Vec<String> = busy.into_iter().chain(remark).collect();
    vec![Cell::rounded(micros(probe.p50)), Cell::rounded(micros(probe.p99)), Cell::text(remarks.join("; "))]
}

/// A durable row: its name, its figures, the probe. The figures of a server that never synced, which promised
/// too much, and of a busy machine are not shown.
fn durable_row(name: String, mut figures: Vec<Cell>, used: &Used, probe: &Probe) -> Vec<Cell> {
    if used.syncs == 0 || probe.is_busy() {
        figures.fill(Cell::Void);
    }
    let remark = if used.syncs == 0 {
        Some("void: the server did not sync".to_owned())
    } else {
        (used.checkpoints < CHECKPOINTS_MIN).then(|| format!("fewer than {CHECKPOINTS_MIN} checkpoints"))
    };
    let mut row = vec![Cell::Text(name)];
    row.append(&mut figures);
    row.append(&mut probe_cells(probe, remark));
    row
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Tells what is going on.
fn progress(what: &str) {
    say(format_args!("bench: {what}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(syncs: u64, probe_us: u64) -> Vec<Cell> {
        let used = Used {
            server_cpu: 0.6,
            client_cpu: 1.8,
            written: Some(Written { calls: 1_000, bytes: 400_000_000 }),
            appends: 4_000,
            syncs,
            checkpoints: 3,
            journal_waits: 0,
            longest_wait_us: None,
        };
        let probe =
            Probe { p50: Duration::from_micros(probe_us), p99: Duration::from_micros(900), idle: 1.0 };
        let figures = used_cells(&used, 2_000_000, Duration::from_secs(2));
        durable_row("row".to_owned(), figures, &used, &probe)
    }

    #[test]
    fn a_row_has_a_cell_for_each_column() {
        let row = row(1_000, 130);
        assert_eq!(row.len(), 1 + USED_COLUMNS.len() + PROBE_COLUMNS.len());
        assert_eq!(row[1], Cell::Number(0.3, 2));
        assert_eq!(row[3], Cell::Number(500.0, 1));
        assert_eq!((&row[4], &row[5]), (&Cell::Number(0.0005, 4), &Cell::Number(200.0, 0)));
        assert_eq!(row[6], Cell::Count(500));
        assert_eq!(row[12], Cell::text(""));
    }

    #[test]
    fn a_durable_row_of_a_busy_machine_is_void() {
        let row = row(1_000, 251);
        assert!(row[1..10].iter().all(|cell| *cell == Cell::Void));
        assert_eq!(row[12], Cell::text("busy machine"));
    }

    #[test]
    fn a_durable_row_without_syncs_is_void() {
        let row = row(0, 4_000);
        assert!(row[1..10].iter().all(|cell| *cell == Cell::Void));
        assert_eq!(row[10], Cell::Count(4_000));
        let remark = Cell::text("busy machine; void: the server did not sync");
        assert_eq!(row[12], remark);
    }
}
