//! The project's own tasks: `cargo xtask build | check | test | tidy | suite | torture | counts | bench`.
//!
//! No shell scripts: what a person or the CI runs is here, in the project's own language.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a task speaks to the person who started it")]

mod build;
mod check;
mod files;
mod lanes;
mod prepare;
mod process;
mod release;
mod report;
mod stage;
mod test;
mod tests_output;

mod bench;
mod counts;
mod engines;
mod suite;
mod tidy;
mod torture;

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};

const USAGE: &str = "\
cargo xtask COMMAND

  build [--release]         the console, which needs Node.js 20.19 or newer, and the server with it
  check                     format, clippy, tidy, unit tests; Rust only, a few minutes
  test                      everything; prepares what it needs, closes with a table
       --require-all        a skip that xtask/allowed-skips.txt does not name fails the run
       --only STAGE         one stage (and what it needs)
  tidy [--bless]            the invariants of ARCHITECTURE.md; --bless renews the format hashes
  suite NAME                an acceptance suite of others against Courant; writes docs/compatibility.md
        librdkafka          librdkafka's own tests, built from the crate rdkafka-sys
        rdkafka-crate       the tests of the crate rdkafka
        page                the page again, with what the client tests have left
       --only TESTS         some of its tests, by number or name, with commas; the page stays
       --jobs N             tests at the same time, each against a server of its own
       --broker HOST:PORT   against a broker that runs already; the page stays
  torture sim [ARGS]        the simulation: 10 million crash points, or as many as there is time for
       --minutes N          stops then; the next run goes on where this one was
       --points N           stops after so many in all runs
       --seed N             one script only, with everything that is wrong in it
  torture damage [ARGS]     every byte of small data directories goes bad, one directory after the other
       --minutes N          stops then; the next run goes on where this one was
       --seed N             that directory only
  torture kills | power-cuts  a real server killed, or its file system shut down, under load
       --count N            so many times (1000 and 20000)
       --seed N             of the load and of the moments
       --lanes N            disks at the same time (8); of power-cuts only
  engines up|down|status NAME  servers that tests and benchmarks use; NAME: postgres, mariadb, kafka, redis,
                            nats, rabbitmq; the tests start the first three themselves
       --for VALUE          up kafka: tests (as without), figures: with the memory and threads of its own scripts
       --appendfsync VALUE  up redis: always (as without), everysec
       --sync-interval VALUE  up nats: always (as without), 2m
  torture page              docs/reliability.md, from the runs so far
  counts [--bless]          instructions of the hot paths, by valgrind, beside the committed ones; --bless
                            commits what was counted
  bench [ARGS]              the benchmark crate, in release mode; ARGS go to it
";

fn main() -> ExitCode {
    match run(env::args().skip(1).collect()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Runs the command that the arguments name; `false` when it ran and found something wrong.
fn run(args: Vec<String>) -> Result<bool> {
    let root = root()?;
    let (command, rest) = match args.split_first() {
        Some((command, rest)) => (command.as_str(), rest),
        None => bail!("no command\n\n{USAGE}"),
    };
    match command {
        "build" => build::run(&root, rest),
        "check" => check::run(&root, rest),
        "test" => test::run(&root, rest),
        "tidy" => tidy::run(&root, rest),
        "suite" => suite::run(&root, rest),
        "counts" => counts::run(&root, rest),
        "bench" => bench::run(&root, rest),
        "torture" => torture::run(&root, rest),
        "engines" => engines::run(&root, rest),
        "lane" => lanes::run(rest),
        "help" | "-h" | "--help" => {
            print!("{USAGE}");
            Ok(true)
        }
        other => bail!("no command `{other}`\n\n{USAGE}"),
    }
}

/// The workspace's root: the folder above this package.
fn root() -> Result<PathBuf> {
    let own = env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    let root = own.parent().context("xtask stands in the workspace's root")?;
    Ok(root.to_path_buf())
}
