//! The page of benchmarks: everything that is measured, by one command, losses included.
//!
//! A part that cannot be measured says why on the page; the others stand there all the same.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::machine;
use crate::options::{self, Asked};
use crate::rows::Bench;
use crate::say;
use crate::table::Report;
use crate::{built, console, framework, peers};

const USAGE: &str = "\
cargo xtask bench page [OPTIONS]

  --only LIST    of rows,peers,framework,console [default: all]; the page is printed and not written
  --quick        a tenth of everything, to see that it works; the page is printed and not written

Writes docs/benchmarks.md. Takes what each part takes: see `cargo xtask bench`, `peers --help`, `framework
--help` and `console --help`. It takes an hour or more, in which nothing else may run.
";

const PAGE: &str = "docs/benchmarks.md";

/// More than the usual number, so that durable rows go through their checkpoints.
const EVENTS: &str = "4000000";

const HEAD: &str = "\
# Benchmarks

Written by `cargo xtask bench page`; nothing here is edited by hand, and what was lost to others is not left
out. Client and server share the machine. Durable means on disk at the acknowledgement, which is the default.

How to read the figures:

- **CPU seconds per million events** are what counts: they hold within a third on a busy machine, where rates
  change by factors. They are those of the server with all its threads and children, from `/proc/PID/stat`.
- **Rates** are worth something as ratios within a round. What is compared runs in turns, in every second round
  in the other order, on new data each time; the table says the median, the least and the most.
- Beside every durable figure stands the **probe**: 4 KiB written over zeros, and a sync, on the same disk just
  before. Above 250 µs the machine is busy, and the row or the round is void.
- A durable row without syncs is void too, and one that has gone through fewer than three checkpoints says so.
- The **floor** is the least that any server can do for an event on this machine.
- **wanted** is what the project asks of itself. A row that does not reach it stays.
";

/// What the page has, in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Section {
    Rows,
    Peers,
    Framework,
    Console,
}

impl Section {
    const ALL: [Section; 4] = [Section::Rows, Section::Peers, Section::Framework, Section::Console];

    fn name(self) -> &'static str {
        match self {
            Section::Rows => "rows",
            Section::Peers => "peers",
            Section::Framework => "framework",
            Section::Console => "console",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Section::Rows => "The server and the log",
            Section::Peers => "Beside others",
            Section::Framework => "Through the framework",
            Section::Console => "An open console",
        }
    }

    /// Measures it: its tables, and what went wrong, if anything did.
    fn measure(self, target: &Path, quick: bool) -> (String, Option<String>) {
        let quick_one = || quick.then(|| "--quick".to_owned()).into_iter();
        let measured = match self {
            Section::Rows => return rows(target, quick),
            Section::Peers => peers::run(quick_one(), target),
            Section::Framework => facts(target).and_then(|f| framework::run(quick_one(), target, f)),
            Section::Console => built(target)
                .and_then(|courant| console::run(quick_one(), &courant, target, machine::facts(&courant)?)),
        };
        match measured {
            Ok(tables) => (tables, None),
            Err(error) => (String::new(), Some(format!("{error:#}"))),
        }
    }
}

fn facts(target: &Path) -> Result<Vec<(&'static str, String)>> {
    machine::facts(&built(target)?)
}

/// The rows of the server. What was taken before an error stands there all the same.
fn rows(target: &Path, quick: bool) -> (String, Option<String>) {
    let mut args = vec!["--events".to_owned(), EVENTS.to_owned()];
    args.extend(quick.then(|| "--quick".to_owned()));
    let begun = facts(target).and_then(|facts| match options::parse(args.into_iter())? {
        Asked::Run(options) => Ok((Report::new(facts), Bench::new(built(target)?, target, options)?)),
        Asked::Help => bail!("no figures were asked for"),
    });
    match begun {
        Ok((mut report, bench)) => {
            let measured = bench.run(&mut report);
            (report.markdown(), measured.err().map(|error| format!("{error:#}")))
        }
        Err(error) => (String::new(), Some(format!("{error:#}"))),
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Options {
    sections: Vec<Section>,
    quick: bool,
}

impl Options {
    /// A page of which something is missing is nobody's page.
    fn writes(&self) -> bool {
        !self.quick && self.sections == Section::ALL
    }
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Option<Options>> {
    let mut options = Options { sections: Section::ALL.to_vec(), quick: false };
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--quick" => options.quick = true,
            "--only" => options.sections = sections_of(&args.next().context("--only needs a value")?)?,
            "-h" | "--help" => return Ok(None),
            other => bail!("there is no option `{other}`\n\n{USAGE}"),
        }
    }
    Ok(Some(options))
}

fn sections_of(list: &str) -> Result<Vec<Section>> {
    let named: Vec<&str> = list.split(',').map(str::trim).collect();
    let known = Section::ALL.map(Section::name);
    if let Some(unknown) = named.iter().find(|name| !known.contains(name)) {
        bail!("the page has no part `{unknown}`; --only takes some of {}", known.join(","));
    }
    Ok(Section::ALL.into_iter().filter(|section| named.contains(&section.name())).collect())
}

/// Measures, and writes the page; gives back what is to be printed.
pub(crate) fn run(args: impl Iterator<Item = String>, target: &Path) -> Result<String> {
    let Some(options) = parse(args)? else { return Ok(USAGE.to_owned()) };
    let mut page = HEAD.to_owned();
    for section in &options.sections {
        say(format_args!("bench: the page, {}", section.name()));
        let (tables, failed) = section.measure(target, options.quick);
        if let Some(failed) = &failed {
            say(format_args!("FAILED: {}: {failed}", section.name()));
        }
        page.push_str(&shown(*section, &tables, failed.as_deref()));
    }
    if !options.writes() {
        return Ok(page);
    }
    let path = root().join(PAGE);
    fs::write(&path, page).with_context(|| format!("{} cannot be written", path.display()))?;
    Ok(format!("{PAGE} is written\n"))
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A part of the page: its tables one level below its title.
fn shown(section: Section, tables: &str, failed: Option<&str>) -> String {
    let mut text = format!("\n## {}\n", section.title());
    // Writing to a string does not fail.
    if let Some(failed) = failed {
        let _ = write!(text, "\nNot measured to its end: {}\n", failed.trim().replace('\n', " "));
    }
    if !tables.is_empty() {
        text.push('\n');
    }
    for line in tables.lines() {
        if line.starts_with("## ") {
            text.push('#');
        }
        let _ = writeln!(text, "{line}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(line: &str) -> Result<Option<Options>> {
        parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn only_a_whole_page_is_written() {
        assert!(options("").unwrap().unwrap().writes());
        assert!(!options("--quick").unwrap().unwrap().writes());
        let some = options("--only framework,rows").unwrap().unwrap();
        assert_eq!(some.sections, [Section::Rows, Section::Framework]);
        assert!(!some.writes());
        assert_eq!(options("--help").unwrap(), None);
        for line in ["--only kafka", "--only", "--json"] {
            assert!(options(line).is_err(), "{line}");
        }
    }

    #[test]
    fn tables_stand_below_their_part_and_a_failure_before_them() {
        let tables = "server: courant 0.1.0\n\n## Start-up\n\n| a |\n";
        assert_eq!(
            shown(Section::Rows, tables, None),
            "\n## The server and the log\n\nserver: courant 0.1.0\n\n### Start-up\n\n| a |\n"
        );
        assert_eq!(
            shown(Section::Peers, "", Some("no apt-get\nhere")),
            "\n## Beside others\n\nNot measured to its end: no apt-get here\n"
        );
    }
}
