//! Recovery after SIGKILL: from the start of the process to its line `ready`, on a large log.

use anyhow::{Result, ensure};

use super::{Bench, PROBE_COLUMNS, millis, probe_cells, progress};
use crate::client::{self, Writer};
use crate::table::{Cell, Column, Table};

const EVENT_BYTES: usize = 1024;
const EVENTS_PER_MIB: u64 = 1024;

pub(super) fn run(bench: &Bench) -> Result<Table> {
    let mib = bench.options.recover_mib;
    let events = mib * EVENTS_PER_MIB;
    progress(&format!("recovery of {mib} MiB"));
    let data = bench.fresh_dir()?;
    let probe = bench.probe()?;
    let server = bench.start(&data)?;
    // A retry stores nothing twice, so the number of events is known.
    let filled =
        Writer::new(&server.bootstrap(), EVENT_BYTES, true).and_then(|mut writer| writer.send(events));
    server.blame(filled)?;
    server.kill()?;

    let server = bench.start(&data)?;
    let stored = server.blame(client::events_stored(&server.bootstrap()))?;
    ensure!(
        stored == events,
        "{events} events were acknowledged before the kill and {stored} are there after it"
    );
    let mut row = vec![
        Cell::text("after kill -9 under no load"),
        Cell::Count(mib),
        Cell::Count(events),
        Cell::Number(millis(server.start_time()), 1),
        Cell::text(server.recovery().unwrap_or_default()),
    ];
    row.append(&mut probe_cells(&probe, None));
    let columns = [
        Column::text("recovery", "state"),
        Column::number("log MiB", "log_mib"),
        Column::number("events", "events"),
        Column::number("ms", "ms"),
        Column::text("the server says", "server_says"),
    ];
    Ok(Table {
        key: "recover",
        title: "Recovery".to_owned(),
        note: "Killed right after the last acknowledgement, then from the start of the process to its \
               line `ready`, with the log still in the page cache. All events were there.",
        columns: columns.into_iter().chain(PROBE_COLUMNS).collect(),
        rows: vec![row],
    })
}
