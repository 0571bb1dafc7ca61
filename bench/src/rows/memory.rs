//! Memory of the server: with nothing to do, after much was written and read, with many connections, with many
//! partitions.

use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::{Bench, progress};
use crate::client::{Reader, Writer};
use crate::goal;
use crate::server::Server;
use crate::table::{Cell, Column, Table};
use crate::wire::{self, Connection, Produce};

/// How long the server is left alone before it is looked at.
const SETTLE: Duration = Duration::from_secs(1);
/// Clients that are connected at the same time.
const CLIENTS: usize = 64;
/// What each of them has sent: one batch.
const EVENTS_EACH: u64 = 500;
const EVENT_BYTES: usize = 1024;
/// A topic that each of its partitions has one event of.
const MANY: &str = "many";
const PARTITIONS: u32 = 1_000;

pub(super) fn run(bench: &Bench) -> Result<Table> {
    progress("memory");
    let data = bench.fresh_dir()?;
    let server = bench.start(&data)?;
    let rows = server.blame(measure(&server, bench.options.memory_events))?;
    Ok(Table {
        key: "memory",
        title: "Memory of the server".to_owned(),
        note: "PSS and RSS of /proc/PID/smaps_rollup, one after the other on the same server, a second \
               after the clients were done. The page cache, where the log is, belongs to the system.",
        columns: vec![
            Column::text("state", "state"),
            Column::number("PSS MiB", "pss_mib"),
            goal::COLUMNS[0],
            goal::COLUMNS[1],
            Column::number("RSS MiB", "rss_mib"),
            Column::number("connections", "connections"),
        ],
        rows,
    })
}

fn measure(server: &Server, events: u64) -> Result<Vec<Vec<Cell>>> {
    let mut rows = vec![row(server, "idle".to_owned(), Some(20))?];

    let bootstrap = server.bootstrap();
    let mut writer = Writer::new(&bootstrap, EVENT_BYTES, false)?;
    writer.send(1)?;
    let mut reader = Reader::start(&bootstrap, events)?;
    writer.send(events - 1)?;
    reader.finish()?;
    drop((writer, reader));
    rows.push(row(server, format!("after {events} events of 1 KiB, written and read"), None)?);

    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let mut client = Writer::new(&bootstrap, EVENT_BYTES, false)?;
        client.send(EVENTS_EACH)?;
        clients.push(client);
    }
    let connected = row(server, format!("then with {CLIENTS} producers connected"), Some(64))?;
    let connections = server.counters()?.connections;
    ensure!(
        connections >= CLIENTS as u64,
        "{CLIENTS} producers should be connected, and the server has {connections} connections"
    );
    rows.push(connected);

    let mut connection = Connection::open(&bootstrap)?;
    connection.create_topic(MANY, PARTITIONS, &[])?;
    let mut request = Produce::new(MANY, &wire::batch(1, EVENT_BYTES)?)?;
    connection.produce(&mut request, PARTITIONS, PARTITIONS.into())?;
    rows.push(row(server, format!("then with {PARTITIONS} partitions more, written to"), None)?);
    Ok(rows)
}

/// `most`: what is asked for, in megabytes.
fn row(server: &Server, state: String, most: Option<u32>) -> Result<Vec<Cell>> {
    thread::sleep(SETTLE);
    let memory = server.memory()?;
    let megabytes = memory.pss_kib as f64 * 1024.0 / 1e6;
    let [asked, reached] = match most {
        Some(most) => goal::cells(&format!("≤ {most} MB"), &[goal::at_most(megabytes, most.into())]),
        None => goal::cells("", &[]),
    };
    Ok(vec![
        Cell::Text(state),
        Cell::Number(memory.pss_kib as f64 / 1024.0, 1),
        asked,
        reached,
        Cell::Number(memory.rss_kib as f64 / 1024.0, 1),
        Cell::Count(server.counters()?.connections),
    ])
}
