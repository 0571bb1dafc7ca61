//! Start-up on an empty directory: from the start of the process to its line `ready`.

use std::time::Duration;

use anyhow::{Context as _, Result};

use super::{Bench, PROBE_COLUMNS, millis, probe_cells, progress};
use crate::goal;
use crate::percentile;
use crate::table::{Cell, Column, Table};

const RUNS: u64 = 5;

pub(super) fn run(bench: &Bench) -> Result<Table> {
    progress("start-up");
    let probe = bench.probe()?;
    let mut times = Vec::new();
    for _ in 0..RUNS {
        let data = bench.fresh_dir()?;
        times.push(bench.start(&data)?.start_time());
    }
    // Sorts them too.
    let (median, _) = percentile::median_and_99th(&mut times).context("nothing was started")?;
    let shown = |time: Option<&Duration>| time.map_or(Cell::Missing, |t| Cell::Number(millis(*t), 1));
    let took = if probe.is_busy() { f64::NAN } else { millis(median) };
    let [asked, reached] = goal::cells("< 50 ms", &[goal::below(took, 50.0)]);
    let mut row = vec![
        Cell::text("empty directory"),
        Cell::Count(RUNS),
        Cell::Number(millis(median), 1),
        asked,
        reached,
        shown(times.first()),
        shown(times.last()),
    ];
    row.append(&mut probe_cells(&probe, None));
    let columns = [
        Column::text("start-up", "state"),
        Column::number("runs", "runs"),
        Column::number("median ms", "median_ms"),
        goal::COLUMNS[0],
        goal::COLUMNS[1],
        Column::number("least ms", "least_ms"),
        Column::number("most ms", "most_ms"),
    ];
    Ok(Table {
        key: "start",
        title: "Start-up".to_owned(),
        note: "From the start of the process to its line `ready`; the journal is made and zero-filled \
               on the way.",
        columns: columns.into_iter().chain(PROBE_COLUMNS).collect(),
        rows: vec![row],
    })
}
