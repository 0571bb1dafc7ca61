//! The page of benchmarks: everything that is measured, by one command, losses included.
//!
//! Each part is measured by a process of its own, within a limited time, and kept by itself. The page is what there
//! is of all of them: a part that cannot be measured says why, and the others stand there all the same.

mod asked;
mod child;
mod kept;
mod part;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use crate::{built, out, peers, probe, say};

use kept::Kept;
use part::{PARTS, Part, Section};

const USAGE: &str = "\
cargo xtask bench page [OPTIONS]

  --only LIST    of rows,single,passing,kafka,framework,console, or of the parts that `--list` names [default: all]
  --quick        as many rounds, each of them short, and fewer peers: not quite 20 minutes
  --write        measures nothing, and writes the page from what was measured before
  --list         the parts, and how long each may take

Writes docs/benchmarks.md after each part, from all parts that were measured after the server was built, and says
which are not there. They are kept in target/bench-page, so they can be measured in several runs; where there is a
whole run of a part, a short one does not take its place. All of them take some 50 minutes on 2 cores, in which
nothing else may run. A part that is over its time is ended, with the servers that it has started.
";

const PAGE: &str = "docs/benchmarks.md";
/// Where parts are kept, below the target folder.
const KEPT: &str = "bench-page";
/// How the directories begin in which parts have their data, beside that one.
const SCRATCH: [&str; 4] = ["bench-data-", "bench-peers-", "bench-framework-", "bench-console-"];
/// The command of this program that measures one part.
pub(crate) const COMMAND: &str = "page-part";
const QUICK: &str = "--quick";

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
- **asked** is what the project asks of itself, and **reached** whether the row reaches it: yes, no, void, or not
  shown, where a durable row has gone through fewer than three checkpoints. A row that does not reach it stays.
- Each part begins with the server and the machine that it was measured on, where they are not those before.
- Servers run without a budget of memory (`--memory`), so each part of them has the bounds of
  [the guide](guide/memory.md); the rows of memory and of connections show what they take under load.
";

#[derive(Debug, PartialEq, Eq)]
struct Options {
    parts: Vec<&'static Part>,
    quick: bool,
}

enum Asked {
    Text(String),
    Run(Options),
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Asked> {
    let mut options = Options { parts: PARTS.iter().collect(), quick: false };
    while let Some(arg) = args.next() {
        match arg.as_str() {
            QUICK => options.quick = true,
            "--write" => options.parts.clear(),
            "--only" => options.parts = parts_of(&args.next().context("--only needs a value")?)?,
            "--list" => return Ok(Asked::Text(listed())),
            "-h" | "--help" => return Ok(Asked::Text(USAGE.to_owned())),
            other => bail!("there is no option `{other}`\n\n{USAGE}"),
        }
    }
    Ok(Asked::Run(options))
}

/// A name is that of a part, or of all below a heading.
fn parts_of(list: &str) -> Result<Vec<&'static Part>> {
    let named: Vec<&str> = list.split(',').map(str::trim).collect();
    let known = |name: &str| PARTS.iter().any(|part| part.name == name || part.section.name() == name);
    if let Some(unknown) = named.iter().find(|name| !known(name)) {
        let sections = Section::ALL.map(Section::name).join(",");
        let parts: Vec<&str> = PARTS.iter().map(|part| part.name).collect();
        bail!("the page has no part `{unknown}`; --only takes some of {sections}, or of {}", parts.join(","));
    }
    let wanted = |part: &&Part| named.contains(&part.name) || named.contains(&part.section.name());
    Ok(PARTS.iter().filter(wanted).collect())
}

fn listed() -> String {
    let line = |part: &Part| {
        let [whole, short] = [false, true].map(|short| part.limit(short).as_secs());
        format!("{:<20} up to {whole} s, or {short} s with --quick\n", part.name)
    };
    PARTS.iter().map(line).collect()
}

/// Measures the parts, and writes the page after each; gives back what is to be printed.
pub(crate) fn run(args: impl Iterator<Item = String>, target: &Path) -> Result<String> {
    let options = match parse(args)? {
        Asked::Text(text) => return Ok(text),
        Asked::Run(options) => options,
    };
    let built = fs::metadata(built(target)?)
        .and_then(|server| server.modified())
        .context("the server does not say when it was built")?;
    let kept = Kept::new(target.join(KEPT), built);
    let mut absent = write(&kept)?;
    let mut failed = Vec::new();
    for part in options.parts.iter().copied() {
        say(format_args!("bench: the page, {}", part.name));
        let begun = Instant::now();
        let (text, failure) = measured(part, options.quick);
        kept.keep(part, options.quick, &text, failure.as_deref())?;
        absent = write(&kept)?;
        let took = begun.elapsed().as_secs();
        match failure {
            Some(failure) => {
                sweep(target);
                say(format_args!("FAILED: {} after {took} s: {failure}", part.name));
                failed.push(part.name);
            }
            None => say(format_args!("bench: {} took {took} s", part.name)),
        }
    }
    let absent =
        if absent.is_empty() { String::new() } else { format!("; not measured: {}", absent.join(",")) };
    let said = format!("{PAGE} is written{absent}\n");
    if failed.is_empty() {
        return Ok(said);
    }
    bail!("{said}not measured to their end: {}", failed.join(","))
}

/// What a part has come to, and what went wrong, if anything did. Afterwards no server runs that did not before.
fn measured(part: &Part, quick: bool) -> (String, Option<String>) {
    let before = peers::running();
    let mut args = vec![COMMAND, part.name];
    args.extend(quick.then_some(QUICK));
    let ended = child::run(&args, part.limit(quick));
    let (text, failed) = match ended {
        Ok((text, true)) => (text, None),
        Ok((text, false)) => {
            // The first line is the reason, where it got so far.
            let (reason, tables) = text.split_once('\n').unwrap_or((text.as_str(), ""));
            let reason = if reason.is_empty() { "it has ended by itself" } else { reason };
            (tables.to_owned(), Some(reason.to_owned()))
        }
        Err(error) => (String::new(), Some(format!("{error:#}"))),
    };
    if failed.is_some() {
        peers::end_others(&before);
    }
    (text, failed)
}

/// Removes the data of a part that was ended before it could do so itself.
fn sweep(target: &Path) {
    for entry in fs::read_dir(target).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if SCRATCH.iter().any(|prefix| name.starts_with(prefix)) {
            // What stays costs room on the disk, and no figure.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Writes the page from what is there, and gives back what is not.
fn write(kept: &Kept) -> Result<Vec<&'static str>> {
    let (body, absent) = kept.put_together()?;
    if absent.len() == PARTS.len() {
        return Ok(absent);
    }
    let path = root().join(PAGE);
    fs::write(&path, format!("{HEAD}{body}"))
        .with_context(|| format!("{} cannot be written", path.display()))?;
    Ok(absent)
}

/// Measures one part, in a process of its own: its tables go to stdout, and before them a line with the reason why
/// they are not all.
pub(crate) fn one(mut args: impl Iterator<Item = String>, target: &Path) -> Result<()> {
    let name = args.next().context("a part needs a name")?;
    let quick = args.next().is_some_and(|arg| arg == QUICK);
    let part = PARTS.iter().find(|part| part.name == name);
    let part = part.with_context(|| format!("the page has no part `{name}`"))?;
    if quick {
        probe::be_short();
    }
    let (tables, failed) = part.measure(target, quick);
    match failed {
        None => out(&tables),
        Some(failed) => {
            out(&format!("{}\n{tables}", failed.trim().replace('\n', " ")))?;
            bail!("{failed}")
        }
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(line: &str) -> Result<Asked> {
        parse(line.split_whitespace().map(str::to_owned))
    }

    fn parts(line: &str) -> (Vec<&'static str>, bool) {
        match options(line).unwrap() {
            Asked::Run(options) => (options.parts.iter().map(|part| part.name).collect(), options.quick),
            Asked::Text(text) => panic!("`{line}` is answered with {text}"),
        }
    }

    #[test]
    fn parts_are_measured_in_the_order_of_the_page() {
        assert_eq!(parts("").0.len(), PARTS.len());
        assert_eq!(parts("--only kafka,floor --quick"), (vec!["floor", "kafka"], true));
        let framework = vec!["framework-sqlite", "framework-postgres", "framework-mariadb"];
        assert_eq!(parts("--only framework"), (framework, false));
        assert!(parts("--write").0.is_empty());
        assert!(matches!(options("--help").unwrap(), Asked::Text(text) if text == USAGE));
    }

    #[test]
    fn data_of_a_part_that_was_ended_go_and_what_was_measured_stays() {
        let target = tempfile::tempdir().unwrap();
        for name in ["bench-data-x1/deep", "bench-peers-x2", KEPT, "release"] {
            fs::create_dir_all(target.path().join(name)).unwrap();
        }
        sweep(target.path());
        let mut left: Vec<_> =
            fs::read_dir(target.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, [KEPT, "release"]);
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for line in ["--only rows,latency", "--only", "--rows batch"] {
            assert!(options(line).is_err(), "{line}");
        }
    }

    #[test]
    fn every_part_is_listed_with_its_time() {
        let listed = listed();
        assert_eq!(listed.lines().count(), PARTS.len());
        assert!(listed.contains("framework-mariadb    up to 600 s, or 300 s with --quick\n"), "{listed}");
    }
}
