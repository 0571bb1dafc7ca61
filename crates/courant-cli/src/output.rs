//! Data on stdout: a table for people, `json` for one document, `jsonl` for streams.

use crate::text::one_line;
use clap::ValueEnum;
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use serde::Serialize;
use std::io::{self, IsTerminal, Write};

/// How data is written to stdout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Aligned columns, for people
    Table,
    /// One JSON document
    Json,
    /// One JSON object per line
    Jsonl,
}

impl Format {
    /// What was asked for, else a table on a terminal and JSON lines anywhere else.
    pub(crate) fn or_default(asked: Option<Self>) -> Self {
        asked.unwrap_or(if io::stdout().is_terminal() { Self::Table } else { Self::Jsonl })
    }
}

/// One object of the output. Its JSON form is its `Serialize`.
pub(crate) trait Row: Serialize {
    /// Column titles of the table.
    const TITLES: &'static [&'static str];
    /// Widths of the columns but the last, for tables that grow while they are read.
    const WIDTHS: &'static [usize] = &[];

    /// The cells, one for each title.
    fn cells(&self) -> Vec<String>;
}

/// A writer whose reader may go away before the end (`| head`). Then nothing more is written, and nothing fails:
/// what a command does and how it ends do not depend on whether anybody reads of it.
#[derive(Debug)]
pub(crate) struct Heedless<W>(W);

impl<W> Heedless<W> {
    pub(crate) fn new(out: W) -> Self {
        Self(out)
    }
}

impl<W: Write> Write for Heedless<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.0.write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(bytes.len()),
            written => written,
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self.0.flush() {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            flushed => flushed,
        }
    }
}

/// The longest text that a cell shows, in characters.
const CELL_CHARS_MAX: usize = 200;

/// Writes a list whose end is known: an array in `json`. That nobody reads it is no error.
pub(crate) fn list<R: Row>(out: &mut impl Write, format: Format, rows: &[R]) -> io::Result<()> {
    let out = &mut Heedless::new(out);
    match format {
        Format::Table => writeln!(out, "{}", table(rows)),
        Format::Json => {
            serde_json::to_writer_pretty(&mut *out, rows)?;
            writeln!(out)
        }
        Format::Jsonl => rows.iter().try_for_each(|row| line(out, row)),
    }?;
    out.flush()
}

/// Writes one object: itself, not an array of one, in `json`. That nobody reads it is no error.
pub(crate) fn one<R: Row>(out: &mut impl Write, format: Format, row: &R) -> io::Result<()> {
    let out = &mut Heedless::new(out);
    match format {
        Format::Table => writeln!(out, "{}", table(std::slice::from_ref(row))),
        Format::Json => {
            serde_json::to_writer_pretty(&mut *out, row)?;
            writeln!(out)
        }
        Format::Jsonl => line(out, row),
    }?;
    out.flush()
}

fn line<R: Row>(out: &mut impl Write, row: &R) -> io::Result<()> {
    serde_json::to_writer(&mut *out, row)?;
    writeln!(out)
}

/// Aligned columns without lines around them.
fn table<R: Row>(rows: &[R]) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).force_no_tty();
    table.set_header(R::TITLES.iter().map(|title| title.to_uppercase()));
    for row in rows {
        let cells = row.cells();
        debug_assert_eq!(cells.len(), R::TITLES.len(), "a cell for each title");
        table.add_row(cells.iter().map(|cell| one_line(cell, CELL_CHARS_MAX)));
    }
    let lines: Vec<String> = table
        .lines()
        .map(|line| {
            // The first column begins at the left edge, as in every other listing of a shell.
            let line = line.strip_prefix(' ').unwrap_or(&line);
            line.trim_end().to_owned()
        })
        .collect();
    lines.join("\n")
}

/// Writes objects as they come, for as long as they come. Over a [`Heedless`] writer where the command has more to
/// do than to write them; over any other one, a reader that has gone is an error, and the command can end.
#[derive(Debug)]
pub(crate) struct Stream<W> {
    out: W,
    format: Format,
    rows: u64,
}

impl<W: Write> Stream<W> {
    pub(crate) fn new(out: W, format: Format) -> Self {
        Self { out, format, rows: 0 }
    }

    /// Adds one object.
    pub(crate) fn row<R: Row>(&mut self, row: &R) -> io::Result<()> {
        match self.format {
            Format::Table => {
                if self.rows == 0 {
                    let titles: Vec<String> = R::TITLES.iter().map(|t| t.to_uppercase()).collect();
                    write_columns(&mut self.out, &titles, R::WIDTHS)?;
                }
                write_columns(&mut self.out, &row.cells(), R::WIDTHS)?;
            }
            Format::Json => {
                let before: &[u8] = if self.rows == 0 { b"[\n" } else { b",\n" };
                self.out.write_all(before)?;
                serde_json::to_writer(&mut self.out, row)?;
            }
            Format::Jsonl => line(&mut self.out, row)?,
        }
        self.rows += 1;
        Ok(())
    }

    /// Hands what was written so far to the reader.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// Closes the document.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        if self.format == Format::Json {
            let end: &[u8] = if self.rows == 0 { b"[]\n" } else { b"\n]\n" };
            self.out.write_all(end)?;
        }
        self.out.flush()
    }
}

/// One row with columns of fixed widths; a cell that is wider pushes the rest to the right.
fn write_columns(out: &mut impl Write, cells: &[String], widths: &[usize]) -> io::Result<()> {
    let mut line = String::new();
    for (i, cell) in cells.iter().enumerate() {
        let cell = one_line(cell, CELL_CHARS_MAX);
        let width = widths.get(i).copied().unwrap_or(0);
        line.push_str(&format!("{cell:<width$}"));
        line.push_str("  ");
    }
    writeln!(out, "{}", line.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    struct Pair {
        name: &'static str,
        count: i64,
    }

    impl Row for Pair {
        const TITLES: &'static [&'static str] = &["name", "count"];
        const WIDTHS: &'static [usize] = &[6];

        fn cells(&self) -> Vec<String> {
            vec![self.name.to_owned(), self.count.to_string()]
        }
    }

    const ROWS: [Pair; 2] = [Pair { name: "a", count: i64::MAX }, Pair { name: "b\n", count: 2 }];

    fn listed(format: Format) -> String {
        let mut out = Vec::new();
        list(&mut out, format, &ROWS).expect("memory");
        String::from_utf8(out).expect("text")
    }

    fn streamed(format: Format, rows: &[Pair]) -> String {
        let mut out = Vec::new();
        let mut stream = Stream::new(&mut out, format);
        for row in rows {
            stream.row(row).expect("memory");
        }
        stream.finish().expect("memory");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn json_lines_hold_one_object_each_with_exact_numbers() {
        let expected = "{\"name\":\"a\",\"count\":9223372036854775807}\n\
                        {\"name\":\"b\\n\",\"count\":2}\n";
        assert_eq!(listed(Format::Jsonl), expected);
        assert_eq!(streamed(Format::Jsonl, &ROWS), expected);
    }

    #[test]
    fn json_is_one_document_also_when_streamed_and_when_empty() {
        for text in [listed(Format::Json), streamed(Format::Json, &ROWS)] {
            let value: serde_json::Value = serde_json::from_str(&text).expect("json");
            assert_eq!(value[0]["count"].as_i64(), Some(i64::MAX));
            assert_eq!(value.as_array().map(Vec::len), Some(2));
        }
        assert_eq!(streamed(Format::Json, &[]), "[]\n");
    }

    #[test]
    fn tables_have_titles_and_one_line_per_row() {
        for text in [listed(Format::Table), streamed(Format::Table, &ROWS)] {
            let lines: Vec<&str> = text.lines().collect();
            assert_eq!(lines.len(), 3, "{text}");
            assert!(lines[0].starts_with("NAME"), "{text}");
            assert!(lines[1].ends_with("9223372036854775807"), "{text}");
            assert!(lines[2].starts_with("b\\n"), "{text}");
        }
    }

    /// A writer that fails.
    struct Failing(io::ErrorKind);

    impl Write for Failing {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(self.0.into())
        }
    }

    /// Symptom: `courant log verify | head -0` ended with 0 whatever was damaged, as did each command that prints before
    /// it has come to its exit code. Cause: a reader that has gone ended the command as if all were done. Fix: it ends
    /// only those that have nothing else to do.
    #[test]
    fn a_reader_that_has_gone_ends_nothing_but_a_stream_that_is_all() {
        for format in [Format::Table, Format::Json, Format::Jsonl] {
            let (gone, full) = (io::ErrorKind::BrokenPipe, io::ErrorKind::StorageFull);
            assert!(list(&mut Failing(gone), format, &ROWS).is_ok());
            assert!(one(&mut Failing(gone), format, &ROWS[0]).is_ok());
            assert_eq!(list(&mut Failing(full), format, &ROWS).expect_err("full").kind(), full);
            assert_eq!(one(&mut Failing(full), format, &ROWS[0]).expect_err("full").kind(), full);
            let mut heedless = Stream::new(Heedless::new(Failing(gone)), format);
            assert!(heedless.row(&ROWS[0]).and_then(|()| heedless.finish()).is_ok());
            assert!(Stream::new(Failing(gone), format).row(&ROWS[0]).is_err());
        }
    }

    #[test]
    fn one_object_is_not_an_array() {
        let mut out = Vec::new();
        one(&mut out, Format::Json, &ROWS[1]).expect("memory");
        let value: serde_json::Value = serde_json::from_slice(&out).expect("json");
        assert_eq!(value["count"], 2);
    }
}
