//! The page of benchmarks: everything that is measured, by one command, losses included.
//!
//! A part that cannot be measured says why on the page; the others stand there all the same.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context as _, Result, bail};

use crate::machine;
use crate::options::{self, Asked};
use crate::rows::Bench;
use crate::say;
use crate::table::Report;
use crate::{built, console, framework, peers};

const USAGE: &str = "\
cargo xtask bench page [OPTIONS]

  --only LIST    of rows,single,passing,kafka,framework,console [default: all]
  --quick        a tenth of everything, to see that it works; the page is printed, and nothing is kept

Writes docs/benchmarks.md. Each part is kept in target/bench-page, so they can be measured in several runs: the
page is written when all parts are there that were measured after the server was built. All of them take not
quite 40 minutes on 2 cores, in which nothing else may run. What each part takes is in `cargo xtask bench
--help`, `peers --help`, `framework --help` and `console --help`.
";

const PAGE: &str = "docs/benchmarks.md";
/// Where parts are kept, below the target folder.
const KEPT: &str = "bench-page";

/// More than the usual number, so that durable rows go through their checkpoints.
const ROWS: [&str; 2] = ["--events", "4000000"];
/// What keeps the page within its time. One producer alone is among the rows of the server.
const SINGLE: [&str; 6] = ["--what", "single", "--waiting", "64,256", "--seconds", "2"];
const PASSING: [&str; 6] = ["--what", "passing", "--seconds", "3", "--only", PASSING_PEERS];
const PASSING_PEERS: &str = "redis-always,nats,postgres,kafka-flush,rabbitmq-quorum,redis-everysec,kafka";
const KAFKA: [&str; 4] = ["--what", "batch", "--events", "3000000"];
const CONSOLE: [&str; 2] = ["--seconds", "7"];
/// Servers that the framework is measured on, besides SQLite.
const DATABASES: [&str; 2] = ["postgres", "mariadb"];

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
  before. Above 250 µs, or where a tenth of the CPUs has had something to do before it, the machine is busy, and
  the row or the round is void.
- A durable row without syncs is void too, and one that has gone through fewer than three checkpoints says so.
- The **floor** is the least that any server can do for an event on this machine.
- **wanted** is what the project asks of itself. A row that does not reach it stays.
- Each part begins with the server and the machine that it was measured on.
- There are no figures with TLS: the server does not speak it.
";

/// What the page has, in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Section {
    Rows,
    Single,
    Passing,
    Kafka,
    Framework,
    Console,
}

impl Section {
    const ALL: [Section; 6] = [
        Section::Rows,
        Section::Single,
        Section::Passing,
        Section::Kafka,
        Section::Framework,
        Section::Console,
    ];

    fn name(self) -> &'static str {
        match self {
            Section::Rows => "rows",
            Section::Single => "single",
            Section::Passing => "passing",
            Section::Kafka => "kafka",
            Section::Framework => "framework",
            Section::Console => "console",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Section::Rows => "The server and the log",
            Section::Single => "Single events, beside others",
            Section::Passing => "From a producer to a consumer, beside others",
            Section::Kafka => "Batches, beside Apache Kafka",
            Section::Framework => "Through the framework",
            Section::Console => "An open console",
        }
    }

    /// Measures it: its tables, and what went wrong, if anything did.
    fn measure(self, target: &Path, quick: bool) -> (String, Option<String>) {
        let args = |given: &[&str]| {
            let quick = quick.then_some("--quick");
            given.iter().copied().chain(quick).map(str::to_owned).collect::<Vec<_>>().into_iter()
        };
        let measured = match self {
            Section::Rows => return rows(target, args(&ROWS)),
            Section::Single => peers::run(args(&SINGLE), target),
            Section::Passing => peers::run(args(&PASSING), target),
            Section::Kafka => peers::run(args(&KAFKA), target),
            Section::Framework => return effects(target, args(&[])),
            Section::Console => built(target).and_then(|courant| {
                console::run(args(&CONSOLE), &courant, target, machine::facts(&courant)?)
            }),
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
fn rows(target: &Path, args: impl Iterator<Item = String>) -> (String, Option<String>) {
    let begun = facts(target).and_then(|facts| match options::parse(args)? {
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

/// The figures of the framework, with databases of their own; without those that there are not.
fn effects(target: &Path, args: impl Iterator<Item = String>) -> (String, Option<String>) {
    let args: Vec<String> = args.collect();
    let measured =
        |more: Vec<String>| framework::run(args.iter().cloned().chain(more), target, facts(target)?);
    let mut failed = Vec::new();
    let taken = peers::with_databases(target, &DATABASES, |addresses| {
        let (mut only, mut more) = ("sqlite".to_owned(), Vec::new());
        for (name, address) in DATABASES.iter().zip(addresses) {
            match address {
                Ok(address) => {
                    only.push_str(&format!(",{name}"));
                    more.extend([format!("--{name}"), (*address).to_owned()]);
                }
                Err(error) => failed.push(format!("{name}: {error:#}")),
            }
        }
        more.extend(["--only".to_owned(), only]);
        measured(more)
    });
    let tables = taken.or_else(|error| {
        failed.push(format!("{error:#}"));
        measured(vec!["--only".to_owned(), "sqlite".to_owned()])
    });
    let tables = tables.unwrap_or_else(|error| {
        failed.push(format!("{error:#}"));
        String::new()
    });
    (tables, Some(failed.join("; ")).filter(|failed| !failed.is_empty()))
}

#[derive(Debug, PartialEq, Eq)]
struct Options {
    sections: Vec<Section>,
    quick: bool,
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

/// Measures, and writes the page when all of it is there; gives back what is to be printed.
pub(crate) fn run(args: impl Iterator<Item = String>, target: &Path) -> Result<String> {
    let Some(options) = parse(args)? else { return Ok(USAGE.to_owned()) };
    let kept = target.join(KEPT);
    let mut measured = String::new();
    for section in &options.sections {
        say(format_args!("bench: the page, {}", section.name()));
        let (tables, failed) = section.measure(target, options.quick);
        if let Some(failed) = &failed {
            say(format_args!("FAILED: {}: {failed}", section.name()));
        }
        let text = shown(*section, &tables, failed.as_deref());
        measured.push_str(&text);
        if !options.quick {
            keep(&kept, *section, &text)?;
        }
    }
    if options.quick {
        return Ok(measured);
    }
    let built = fs::metadata(built(target)?)
        .and_then(|server| server.modified())
        .context("the server does not say when it was built")?;
    let (page, missing) = put_together(&kept, built)?;
    if !missing.is_empty() {
        return Ok(format!("{measured}\n{PAGE} is not written; still to measure: {}\n", missing.join(",")));
    }
    let path = root().join(PAGE);
    fs::write(&path, page).with_context(|| format!("{} cannot be written", path.display()))?;
    Ok(format!("{PAGE} is written\n"))
}

fn keep(kept: &Path, section: Section, text: &str) -> Result<()> {
    let path = part(kept, section);
    fs::create_dir_all(kept)
        .and_then(|()| fs::write(&path, text))
        .with_context(|| format!("{} cannot be written", path.display()))
}

fn part(kept: &Path, section: Section) -> PathBuf {
    kept.join(format!("{}.md", section.name()))
}

/// The page from the parts that are kept, and those that are missing or older than the server: figures of two
/// servers are no page.
fn put_together(kept: &Path, built: SystemTime) -> Result<(String, Vec<&'static str>)> {
    let (mut page, mut missing) = (HEAD.to_owned(), Vec::new());
    for section in Section::ALL {
        let path = part(kept, section);
        let is_new =
            fs::metadata(&path).and_then(|file| file.modified()).is_ok_and(|measured| measured >= built);
        if is_new {
            page.push_str(&fs::read_to_string(&path).with_context(|| path.display().to_string())?);
        } else {
            missing.push(section.name());
        }
    }
    Ok((page, missing))
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
    use std::time::Duration;

    use super::*;

    fn options(line: &str) -> Result<Option<Options>> {
        parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn parts_are_measured_in_the_order_of_the_page() {
        assert_eq!(options("").unwrap().unwrap().sections, Section::ALL);
        let some = options("--only framework,rows --quick").unwrap().unwrap();
        assert_eq!((some.sections, some.quick), (vec![Section::Rows, Section::Framework], true));
        assert_eq!(options("--help").unwrap(), None);
        for line in ["--only peers", "--only", "--json"] {
            assert!(options(line).is_err(), "{line}");
        }
    }

    #[test]
    fn a_page_is_whole_and_of_one_server() {
        let kept = tempfile::tempdir().unwrap();
        let built = SystemTime::UNIX_EPOCH;
        for section in &Section::ALL[1..] {
            keep(kept.path(), *section, &format!("<{}>", section.name())).unwrap();
        }
        assert_eq!(put_together(kept.path(), built).unwrap().1, ["rows"]);
        keep(kept.path(), Section::Rows, "<rows>").unwrap();
        let (page, missing) = put_together(kept.path(), built).unwrap();
        assert!(page.ends_with("<rows><single><passing><kafka><framework><console>"), "{page}");
        assert!(missing.is_empty(), "{missing:?}");
        // A server that was built since has other figures.
        let later = SystemTime::now() + Duration::from_secs(60);
        assert_eq!(put_together(kept.path(), later).unwrap().1.len(), Section::ALL.len());
    }

    #[test]
    fn tables_stand_below_their_part_and_a_failure_before_them() {
        let tables = "server: courant 0.1.0\n\n## Start-up\n\n| a |\n";
        assert_eq!(
            shown(Section::Rows, tables, None),
            "\n## The server and the log\n\nserver: courant 0.1.0\n\n### Start-up\n\n| a |\n"
        );
        assert_eq!(
            shown(Section::Single, "", Some("no apt-get\nhere")),
            "\n## Single events, beside others\n\nNot measured to its end: no apt-get here\n"
        );
    }
}
