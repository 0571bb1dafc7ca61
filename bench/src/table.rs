//! Figures as Markdown, for people, and as JSON, for programs.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

/// Everything that a run says.
#[derive(Debug)]
pub(crate) struct Report {
    facts: Vec<(&'static str, String)>,
    tables: Vec<Table>,
}

impl Report {
    /// One without figures yet.
    pub(crate) fn new(facts: Vec<(&'static str, String)>) -> Report {
        Report { facts, tables: Vec::new() }
    }

    pub(crate) fn add(&mut self, table: Table) {
        self.tables.push(table);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    pub(crate) fn markdown(&self) -> String {
        let facts: Vec<String> = self.facts.iter().map(|(key, value)| format!("{key}: {value}")).collect();
        let mut text = format!("{}\n", facts.join("; "));
        for table in &self.tables {
            text.push('\n');
            text.push_str(&table.markdown());
        }
        text
    }

    pub(crate) fn json(&self) -> String {
        let facts: Map<String, Value> =
            self.facts.iter().map(|(key, value)| (key.replace(' ', "_"), json!(value))).collect();
        let tables: Map<String, Value> =
            self.tables.iter().map(|table| (table.key.to_owned(), table.json())).collect();
        format!("{:#}\n", json!({ "machine": facts, "rows": tables }))
    }
}

/// Rows of one kind.
#[derive(Debug)]
pub(crate) struct Table {
    /// Its name in JSON.
    pub(crate) key: &'static str,
    pub(crate) title: String,
    /// How the figures were taken.
    pub(crate) note: &'static str,
    pub(crate) columns: Vec<Column>,
    pub(crate) rows: Vec<Vec<Cell>>,
}

/// What a column shows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    /// For people.
    pub(crate) head: &'static str,
    /// For programs, with its unit.
    pub(crate) key: &'static str,
    pub(crate) is_text: bool,
}

impl Column {
    pub(crate) const fn text(head: &'static str, key: &'static str) -> Column {
        Column { head, key, is_text: true }
    }

    pub(crate) const fn number(head: &'static str, key: &'static str) -> Column {
        Column { head, key, is_text: false }
    }
}

/// One figure.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Cell {
    Text(String),
    Count(u64),
    /// With this many digits behind the point.
    Number(f64, usize),
    /// Nobody knows.
    Missing,
    /// It was measured and means nothing.
    Void,
}

impl Cell {
    pub(crate) fn text(text: impl Into<String>) -> Cell {
        Cell::Text(text.into())
    }

    /// A rate or another large number, without digits behind the point.
    pub(crate) fn rounded(value: f64) -> Cell {
        // What is no number stays visible as such.
        if value.is_finite() && value >= 0.0 { Cell::Count(value.round() as u64) } else { Cell::Missing }
    }

    fn markdown(&self) -> String {
        match self {
            Cell::Text(text) => text.replace('|', "\\|"),
            Cell::Count(count) => grouped(*count),
            Cell::Number(value, digits) if value.is_finite() => format!("{value:.digits$}"),
            // The median of nothing, or a part of nothing.
            Cell::Number(..) | Cell::Missing => "–".to_owned(),
            Cell::Void => "void".to_owned(),
        }
    }

    fn json(&self) -> Value {
        match self {
            Cell::Text(text) => json!(text),
            Cell::Count(count) => json!(count),
            Cell::Number(value, _) => json!(value),
            Cell::Missing | Cell::Void => Value::Null,
        }
    }
}

impl Table {
    fn markdown(&self) -> String {
        let heads = self.columns.iter().map(|column| column.head.to_owned());
        let mut lines: Vec<Vec<String>> = vec![heads.collect()];
        lines.extend(self.rows.iter().map(|row| row.iter().map(Cell::markdown).collect()));
        let width = |index: usize| {
            let cells = lines.iter().filter_map(|line| line.get(index));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();

        let mut text = format!("## {}\n\n", self.title);
        for (number, line) in lines.iter().enumerate() {
            text.push('|');
            for ((cell, column), &width) in line.iter().zip(&self.columns).zip(&widths) {
                // Writing to a string does not fail.
                let _ = if column.is_text {
                    write!(text, " {cell:<width$} |")
                } else {
                    write!(text, " {cell:>width$} |")
                };
            }
            text.push('\n');
            if number == 0 {
                text.push_str(&self.rule(&widths));
            }
        }
        let _ = write!(text, "\n{}\n", self.note);
        text
    }

    /// The line under the heads.
    fn rule(&self, widths: &[usize]) -> String {
        let columns = self.columns.iter().zip(widths);
        let cells: String = columns
            .map(|(column, width)| {
                let dashes = "-".repeat(width + 1);
                if column.is_text { format!("{dashes}-|") } else { format!("{dashes}:|") }
            })
            .collect();
        format!("|{cells}\n")
    }

    fn json(&self) -> Value {
        let object = |row: &Vec<Cell>| {
            let cells = self.columns.iter().zip(row);
            let object: Map<String, Value> =
                cells.map(|(column, cell)| (column.key.to_owned(), cell.json())).collect();
            Value::Object(object)
        };
        self.rows.iter().map(object).collect()
    }
}

/// 1234567 as 1,234,567.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut report = Report::new(vec![("load before", "0.1".to_owned())]);
        report.add(Table {
            key: "batch",
            title: "Batches".to_owned(),
            note: "By hand.",
            columns: vec![
                Column::text("row", "row"),
                Column::number("events/s", "events_per_s"),
                Column::number("CPU", "cpu_s"),
            ],
            rows: vec![
                vec![Cell::text("a|b"), Cell::rounded(1_234_567.4), Cell::Number(0.256, 2)],
                vec![Cell::text("none"), Cell::Void, Cell::Missing],
            ],
        });
        report
    }

    #[test]
    fn a_table_reads_well_as_plain_text() {
        let expected = "\
load before: 0.1

## Batches

| row  |  events/s |  CPU |
|------|----------:|-----:|
| a\\|b | 1,234,567 | 0.26 |
| none |      void |    – |

By hand.
";
        assert_eq!(report().markdown(), expected);
    }

    #[test]
    fn programs_get_names_and_plain_numbers() {
        let value: Value = serde_json::from_str(&report().json()).unwrap();
        assert_eq!(value["machine"]["load_before"], "0.1");
        assert_eq!(value["rows"]["batch"][0]["events_per_s"], 1_234_567);
        assert_eq!(value["rows"]["batch"][0]["cpu_s"], 0.256);
        assert!(value["rows"]["batch"][1]["events_per_s"].is_null());
    }

    #[test]
    fn thousands_are_set_apart() {
        let shown = [0, 999, 1_000, 12_345_678].map(grouped);
        assert_eq!(shown, ["0", "999", "1,000", "12,345,678"]);
        assert_eq!(Cell::rounded(f64::INFINITY), Cell::Missing);
        assert_eq!(Cell::Number(f64::NAN, 2).markdown(), "–");
    }
}
