//! `cargo xtask suite`: acceptance suites that others have written, run against Courant.
//!
//! They take longer than a change should wait for, so `cargo xtask test` leaves them out. What came
//! of them is committed: these commands write docs/compatibility.md, and fail where a result and the
//! committed reasons of `xtask/suites/` disagree.

mod librdkafka;
mod rdkafka_crate;

mod broker;
mod library_table;
mod page;
mod reasons;
mod registry;
mod results;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};

pub(crate) use library_table::fresh_file as fresh_clients_file;
use reasons::Reasons;
use results::{Outcome, Results};

const NAMES: &str = "librdkafka, rdkafka-crate, page";

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
struct Options {
    /// Tests by name or number; all when empty.
    only: Vec<String>,
    /// Tests that run at the same time, each with a broker of its own.
    jobs: usize,
    /// A broker that runs already; else Courant is built and started.
    broker: Option<String>,
}

/// Runs one suite, or writes the page from what the last runs have left.
pub(crate) fn run(root: &Path, args: &[String]) -> Result<bool> {
    let (name, rest) = args.split_first().with_context(|| format!("suite needs one of: {NAMES}"))?;
    let options = parse(rest)?;
    match name.as_str() {
        "librdkafka" => librdkafka::run(root, &options),
        "rdkafka-crate" => rdkafka_crate::run(root, &options),
        "page" => page::write(root).map(|()| true),
        other => bail!("no suite `{other}`; there are: {NAMES}"),
    }
}

fn parse(args: &[String]) -> Result<Options> {
    let mut options = Options { only: Vec::new(), jobs: 1, broker: None };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().with_context(|| format!("{arg} needs a value"));
        match arg.as_str() {
            "--only" => options.only = value()?.split(',').map(|name| name.trim().to_owned()).collect(),
            "--jobs" => {
                options.jobs = value()?.parse().context("--jobs needs a number")?;
                ensure!(options.jobs > 0, "--jobs needs a number above 0");
            }
            "--broker" => options.broker = Some(value()?.clone()),
            other => bail!("suite takes --only TESTS, --jobs N and --broker HOST:PORT, got `{other}`"),
        }
    }
    Ok(options)
}

/// Where the output of a suite's tests and their results are kept.
fn folder(root: &Path, suite: &str) -> PathBuf {
    root.join("target/suites").join(suite)
}

/// Tells what came of a run. A whole run against Courant is saved and goes into the page.
fn conclude(
    root: &Path,
    suite: &str,
    results: &Results,
    reasons: &Reasons,
    options: &Options,
) -> Result<bool> {
    for row in results.rows.iter().filter(|row| row.outcome != Outcome::Passed) {
        println!("{:<15} {} {}: {}", row.outcome.word(), row.id, row.name, row.detail);
    }
    println!("{}: {}", results.of, results.summary());
    println!("what each test said: {}", folder(root, suite).display());
    if options.broker.is_some() {
        return Ok(results.rows.iter().all(|row| row.outcome != Outcome::Failed));
    }
    let is_whole = options.only.is_empty();
    let disagreements = reasons.disagreements(results, is_whole);
    for disagreement in &disagreements {
        println!("xtask/suites/{suite}.toml: {disagreement}");
    }
    if is_whole {
        let path = page::saved(root, suite);
        fs::write(&path, results.to_text()).with_context(|| path.display().to_string())?;
        page::write(root)?;
    }
    Ok(disagreements.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(args: &[&str]) -> Result<Options> {
        parse(&args.iter().map(|&arg| arg.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn arguments() {
        assert_eq!(options(&[]).unwrap(), Options { only: Vec::new(), jobs: 1, broker: None });
        let all = options(&["--only", "0001, 0012", "--jobs", "2", "--broker", "127.0.0.1:9092"]).unwrap();
        assert_eq!(all.only, ["0001", "0012"]);
        assert_eq!((all.jobs, all.broker.as_deref()), (2, Some("127.0.0.1:9092")));
        for wrong in [["--jobs", "0"].as_slice(), &["--jobs", "many"], &["--only"], &["--all"]] {
            assert!(options(wrong).is_err(), "{wrong:?}");
        }
    }
}
