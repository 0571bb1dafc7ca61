//! Many connections at the same time: what each of them costs the server while nothing happens, what they cost a
//! producer beside them, and all of them at once.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{Before, Bench, PROBE_COLUMNS, USED_COLUMNS, durable_row, probe_cells, progress, used_cells};
use crate::client::{TOPIC, Writer};
use crate::probe::Probe;
use crate::server::Server;
use crate::table::{Cell, Column, Table};
use crate::wire::{self, Connection, Produce};

/// Connections of the client that is measured beside them: the server takes so many fewer of the others.
const OTHERS: usize = 8;
/// Files that are open here and in the server besides connections.
const MORE_FILES: u64 = 10_000;
/// How long nothing happens.
const IDLE: Duration = Duration::from_secs(5);
/// How long the server is left alone before its memory is looked at.
const SETTLE: Duration = Duration::from_secs(1);
const EVENT_BYTES: usize = 100;

pub(super) fn run(bench: &Bench) -> Result<Table> {
    let wanted = bench.options.connections;
    progress(&format!("{wanted} connections"));
    let files = allow_files(wanted as u64 + MORE_FILES);
    let data = bench.fresh_dir()?;
    let probe = bench.probe()?;
    // It may have as many files as this process.
    let server = bench.start(&data)?;
    let rows = server.blame(measure(&server, bench, &probe, files))?;
    let columns = [
        Column::text("many connections", "state"),
        Column::number("connections", "connections"),
        Column::number("PSS MiB", "pss_mib"),
        Column::number("KiB each", "kib_per_connection"),
        Column::number("CPU of a core %", "cpu_percent"),
        Column::number("acked/s", "acked_per_s"),
    ];
    Ok(Table {
        key: "connections",
        title: format!("Connections: {wanted}"),
        note: "Connections of a driver of this program that have asked for the versions of the API and then do \
               nothing; `KiB each` is what PSS has grown by. Batches: one producer of librdkafka (linger 5 ms, \
               batches of 500 × 100 B, acks=all). One from each: every connection sends one event and waits \
               for its acknowledgement, all at the same time.",
        columns: columns.into_iter().chain(USED_COLUMNS).chain(PROBE_COLUMNS).collect(),
        rows,
    })
}

/// Lets this process and what it starts have so many files open, or as many as it may.
fn allow_files(wanted: u64) -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    let enough = |files: Option<u64>| files.is_none_or(|files| files >= wanted);
    if !enough(limit.maximum) {
        // Only the administrator may.
        let raised = Rlimit { current: Some(wanted), maximum: Some(wanted) };
        if setrlimit(Resource::Nofile, raised).is_ok() {
            return Some(wanted);
        }
    }
    if !enough(limit.current) {
        // What it may not have it goes on without.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    }
    getrlimit(Resource::Nofile).current
}

fn measure(server: &Server, bench: &Bench, probe: &Probe, files: Option<u64>) -> Result<Vec<Vec<Cell>>> {
    let events = bench.options.events;
    let bootstrap = server.bootstrap();
    let mut alone = Connection::open(&bootstrap)?;
    alone.create_topic(TOPIC, 1, &[])?;
    drop(alone);
    let mut rows = vec![batches(server, "batches, nobody else there", events, probe)?];

    let before = pss_kib(server)?;
    let wanted = bench.options.connections.saturating_sub(OTHERS);
    let mut connections = open(&bootstrap, wanted);
    ensure!(!connections.is_empty(), "the server takes no connections");
    let remark = (connections.len() < wanted).then(|| {
        let files = files.map_or("no limit of".to_owned(), |files| files.to_string());
        format!("{} of {wanted} were taken, with {files} open files", connections.len())
    });
    rows.push(idle(server, before, connections.len(), probe, remark)?);
    rows.push(batches(server, "batches, beside them", events, probe)?);
    rows.push(one_from_each(server, &mut connections, probe)?);
    Ok(rows)
}

/// As many as the server takes.
fn open(bootstrap: &str, wanted: usize) -> Vec<Connection> {
    let mut connections = Vec::new();
    while connections.len() < wanted {
        let opened = Connection::open(bootstrap).and_then(|mut connection| {
            connection.greet()?;
            Ok(connection)
        });
        match opened {
            Ok(connection) => connections.push(connection),
            Err(error) => {
                progress(&format!("{} connections, and then: {error:#}", connections.len()));
                break;
            }
        }
    }
    connections
}

fn pss_kib(server: &Server) -> Result<u64> {
    thread::sleep(SETTLE);
    Ok(server.memory()?.pss_kib)
}

/// What the server has and takes while nothing happens.
fn idle(
    server: &Server,
    before_kib: u64,
    connections: usize,
    probe: &Probe,
    remark: Option<String>,
) -> Result<Vec<Cell>> {
    let pss = pss_kib(server)?;
    let (cpu, begun) = (server.cpu_seconds()?, Instant::now());
    thread::sleep(IDLE);
    let percent = (server.cpu_seconds()? - cpu) * 100.0 / begun.elapsed().as_secs_f64();
    let mut row = vec![
        Cell::text("nothing happens"),
        Cell::Count(server.counters()?.connections),
        Cell::Number(pss as f64 / 1024.0, 1),
        Cell::Number(pss.saturating_sub(before_kib) as f64 / connections as f64, 1),
        Cell::Number(percent, 1),
        Cell::Missing,
    ];
    row.extend(USED_COLUMNS.map(|_| Cell::Missing));
    row.append(&mut probe_cells(probe, remark));
    Ok(row)
}

/// A producer of batches.
fn batches(server: &Server, name: &str, events: u64, probe: &Probe) -> Result<Vec<Cell>> {
    let mut writer = Writer::new(&server.bootstrap(), EVENT_BYTES, false)?;
    writer.send(1)?;
    let before = Before::now(server)?;
    let acked = writer.send(events)?.duration_since(before.at);
    loaded(server, name, &before, events, acked, probe)
}

/// One event from each connection, all at the same time.
fn one_from_each(server: &Server, connections: &mut [Connection], probe: &Probe) -> Result<Vec<Cell>> {
    let mut request = Produce::new(TOPIC, &wire::batch(1, EVENT_BYTES)?)?;
    let before = Before::now(server)?;
    for connection in connections.iter_mut() {
        connection.begin(&mut request)?;
    }
    for connection in connections.iter_mut() {
        connection.produced()?;
    }
    let acked = before.at.elapsed();
    loaded(server, "one from each", &before, connections.len() as u64, acked, probe)
}

fn loaded(
    server: &Server,
    name: &str,
    before: &Before,
    events: u64,
    acked: Duration,
    probe: &Probe,
) -> Result<Vec<Cell>> {
    let used = before.used(server)?;
    let mut figures = vec![Cell::rounded(events as f64 / acked.as_secs_f64())];
    figures.append(&mut used_cells(&used, events, acked));
    let mut row = durable_row(name.to_owned(), figures, &used, probe);
    let state = [
        Cell::Count(server.counters()?.connections),
        Cell::Number(server.memory()?.pss_kib as f64 / 1024.0, 1),
        Cell::Missing,
        Cell::Missing,
    ];
    drop(row.splice(1..1, state));
    Ok(row)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asking for what there is changes nothing.
    #[test]
    fn files_that_may_be_open_may_be_asked_for_again() {
        let before = getrlimit(Resource::Nofile);
        assert_eq!(allow_files(16), before.current);
        assert_eq!(getrlimit(Resource::Nofile), before);
    }

    #[test]
    fn who_takes_no_connections_has_none() {
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = closed.local_addr().unwrap().to_string();
        drop(closed);
        assert!(open(&address, 3).is_empty());
    }
}
