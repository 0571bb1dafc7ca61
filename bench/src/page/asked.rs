//! What is asked of the rows of all tables, and whether they reach it, in one table at the beginning of the page.

use std::fmt::Write as _;

/// What tables call the two columns, and the one that names a server.
const ASKED: &str = "asked";
const REACHED: &str = "reached";
const SERVER: &str = "server";

/// A row of which something is asked.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Row {
    title: String,
    name: String,
    asked: String,
    reached: String,
}

/// Those rows in the tables of this text.
pub(super) fn rows(text: &str) -> Vec<Row> {
    let (mut title, mut heads, mut rows) = (String::new(), Vec::new(), Vec::new());
    for line in text.lines() {
        if let Some(named) = line.strip_prefix("## ") {
            named.split(':').next().unwrap_or_default().clone_into(&mut title);
        }
        if !line.starts_with('|') {
            heads.clear();
            continue;
        }
        let cells = cells(line);
        if heads.is_empty() {
            heads = cells;
            continue;
        }
        // The line below the heads.
        if line.starts_with("|-") {
            continue;
        }
        let of = |head: &str| {
            let at = heads.iter().position(|one| one == head)?;
            cells.get(at).filter(|cell| !cell.is_empty()).cloned()
        };
        if let (Some(asked), Some(reached)) = (of(ASKED), of(REACHED)) {
            let first = cells.first().cloned().unwrap_or_default();
            let name = of(SERVER).filter(|server| *server != first).map_or_else(
                || first.clone(),
                |server| {
                    let head = heads.first().map_or("", String::as_str);
                    format!("{server}, {first} {head}")
                },
            );
            rows.push(Row { title: title.clone(), name, asked, reached });
        }
    }
    rows
}

/// Cells of a line, without what is around them. A bar within a cell has a backslash before it.
fn cells(line: &str) -> Vec<String> {
    let line = line.trim().trim_start_matches('|').replace("\\|", "\u{0}");
    let line = line.strip_suffix('|').unwrap_or(&line);
    line.split('|').map(|cell| cell.trim().replace('\u{0}', "\\|")).collect()
}

/// All of them.
pub(super) fn table(rows: &[Row]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let reached = rows.iter().filter(|row| row.reached == "yes").count();
    let mut text = format!(
        "\n## What is asked, and what is reached\n\n{reached} of {} rows.\n\n| measure | row | asked | reached |\n\
         |---|---|---|---|\n",
        rows.len()
    );
    for Row { title, name, asked, reached } in rows {
        // Writing to a string does not fail.
        let _ = writeln!(text, "| {title} | {name} | {asked} | {reached} |");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_which_something_is_asked_is_found_by_its_columns() {
        let text = "## Batches: 4 events\n\n| load | asked | acked/s | reached |\n|---|---|--:|---|\n\
                    | a\\|b | ≤ 1 | 7 | no |\n| c |  | 8 |  |\n\nA note.\n\n\
                    ## Single events, medians\n\n| waiting | server | asked | reached |\n|--:|---|---|---|\n\
                    | 64 | Redis 7 | rate ≥ 1.5 | yes |\n";
        let rows = rows(text);
        assert_eq!(rows.len(), 2, "{rows:?}");
        assert_eq!((rows[0].title.as_str(), rows[0].name.as_str()), ("Batches", "a\\|b"));
        assert_eq!((rows[0].asked.as_str(), rows[0].reached.as_str()), ("≤ 1", "no"));
        assert_eq!(rows[1].name, "Redis 7, 64 waiting");
        let table = table(&rows);
        assert!(table.contains("1 of 2 rows."), "{table}");
        assert!(table.ends_with("| Redis 7, 64 waiting | rate ≥ 1.5 | yes |\n"), "{table}");
    }

    #[test]
    fn without_such_rows_there_is_no_table() {
        assert_eq!(table(&rows("| a | b |\n|---|---|\n| 1 | 2 |\n")), "");
    }
}
