//! What engines are expected to say that they can do: a table in a page, which is held against them.

use std::collections::BTreeMap;

use courant_engine::Capabilities;

/// Panics unless the table of a page expects of the engine exactly what it says that it can do.
///
/// The table is one of Markdown, with a column for each engine and a row for each capability. Of a column's
/// head and of a row's first cell counts what stands between the first two backticks, of all other cells
/// everything but the backticks.
///
/// # Panics
/// With what the table expects, and what the engine says.
#[track_caller]
pub fn assert_listed(page: &str, engine: &str, can: &Capabilities) {
    assert_eq!(listed(page, engine), said(can), "what is listed of {engine}, and what it says");
}

/// What is expected of an engine, by capability. Nothing, where no table has a column for it.
fn listed(page: &str, engine: &str) -> BTreeMap<String, String> {
    let mut lines = page.lines().map(cells);
    let column = lines.by_ref().find_map(|cells| cells.iter().position(|cell| marked(cell) == Some(engine)));
    let Some(column) = column else { return BTreeMap::new() };
    let rows = lines.take_while(|cells| !cells.is_empty());
    rows.filter_map(|cells| {
        let value = cells.get(column)?.replace('`', "");
        Some((marked(cells.first()?)?.to_owned(), value))
    })
    .collect()
}

/// The cells of a line, none if it is no line of a table.
fn cells(line: &str) -> Vec<&str> {
    let inner = line.trim().strip_prefix('|').and_then(|line| line.strip_suffix('|'));
    inner.map(|inner| inner.split('|').map(str::trim).collect()).unwrap_or_default()
}

/// What stands between the first two backticks.
fn marked(cell: &str) -> Option<&str> {
    cell.split('`').nth(1)
}

fn said(can: &Capabilities) -> BTreeMap<String, String> {
    let Capabilities {
        order,
        replay,
        durability,
        lifetime,
        publish_dedup,
        groups,
        time_lookup,
        access,
        record_bytes_max,
        partitions_max,
    } = can;
    let said = [
        ("order", format!("{order:?}")),
        ("replay", format!("{replay:?}")),
        ("durability", format!("{durability:?}")),
        ("lifetime", format!("{lifetime:?}")),
        ("publish_dedup", format!("{publish_dedup:?}")),
        ("groups", format!("{groups:?}")),
        ("time_lookup", format!("{time_lookup:?}")),
        ("access", format!("{access:?}")),
        ("record_bytes_max", record_bytes_max.to_string()),
        ("partitions_max", partitions_max.to_string()),
    ];
    said.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "Engines.\n\n\
                        | what | `one` | `other` alone |\n\
                        |---|---|---|\n\
                        | `order` of records | `Key` | 7 |\n\
                        | not meant | 1 | 2 |\n\
                        | `access` | Login | `Process` |\n\n\
                        | `order` | `Nothing` | 8 |\n";

    #[test]
    fn a_column_is_read_to_the_end_of_its_table() {
        let of = |engine| listed(PAGE, engine).into_iter().collect::<Vec<_>>();
        let expected = |access: &str, order: &str| {
            vec![("access".to_owned(), access.to_owned()), ("order".to_owned(), order.to_owned())]
        };
        assert_eq!(of("one"), expected("Login", "Key"));
        assert_eq!(of("other"), expected("Process", "7"));
        assert_eq!(of("third"), Vec::new());
    }
}
