//! `cargo xtask torture`: the tests of durability for as long as somebody has time, and the page that
//! says what they have come to.

mod page;
mod runs;

use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use self::runs::Run;
use crate::check::FEATURES;
use crate::process;

/// Where the simulation goes on when it was stopped.
const STATE: &str = "target/torture/sim.state";
/// Where a test of the real kernel says what it did.
const DONE: &str = "target/torture/done";

/// A test of the built binary that can be asked for more rounds than it has in CI.
struct Kernel {
    kind: &'static str,
    test: &'static str,
    count_variable: &'static str,
    rounds: u64,
}

const KERNEL: [Kernel; 2] = [
    Kernel {
        kind: "kills",
        test: "kill::kills_lose_nothing",
        count_variable: "COURANT_TEST_KILLS",
        rounds: 1_000,
    },
    Kernel {
        kind: "power-cuts",
        test: "power_cut::cuts_lose_nothing",
        count_variable: "COURANT_TEST_CUTS",
        rounds: 20_000,
    },
];

/// Runs what the arguments name. What it says goes straight to the terminal.
pub(crate) fn run(root: &Path, args: &[String]) -> Result<bool> {
    fs::create_dir_all(root.join("target/torture")).context("target/torture")?;
    let (kind, rest) = args.split_first().map_or(("", args), |(kind, rest)| (kind.as_str(), rest));
    match KERNEL.iter().find(|kernel| kernel.kind == kind) {
        Some(kernel) => kernel_run(root, kernel, rest),
        None if kind == "sim" => simulation(root, rest),
        None if kind == "page" => page::write(root).map(|()| true),
        None => bail!("torture what? There are: sim, kills, power-cuts, page"),
    }
}

/// The simulation in release mode.
fn simulation(root: &Path, args: &[String]) -> Result<bool> {
    let state = root.join(STATE);
    let before = runs::simulated(&state)?;
    let here = Run::here(root)?;
    let began = Instant::now();
    let mut cargo = process::cargo(root);
    cargo.args(["run", "--release", "--package", "courant-sim", "--", "--state"]).arg(&state).args(args);
    // A crash point that fails has panicked; its sentence is in the report, and once is enough.
    cargo.env("RUST_BACKTRACE", "0");
    let passed = cargo.status().context("cargo does not start")?.success();
    let after = runs::simulated(&state)?;
    if after.points > before.points {
        let nested = after.nested - before.nested;
        Run {
            kind: "sim".to_owned(),
            rounds: after.points - before.points,
            detail: format!("{nested} of a recovery, {} scripts", after.scripts - before.scripts),
            seeds: format!("{} to {}", before.next_seed, after.next_seed.saturating_sub(1)),
            failures: after.failures - before.failures,
            seconds: began.elapsed().as_secs(),
            filesystem: "in memory".to_owned(),
            ..here
        }
        .record(root)?;
    }
    Ok(passed)
}

/// A test of the acceptance tests, with more rounds.
fn kernel_run(root: &Path, kernel: &Kernel, args: &[String]) -> Result<bool> {
    let (mut rounds, mut seed) = (kernel.rounds, 1);
    for pair in args.chunks(2) {
        match pair {
            [name, value] if name == "--count" => rounds = value.parse().context("--count takes a number")?,
            [name, value] if name == "--seed" => {
                seed = value.parse::<u64>().context("--seed takes a number")?
            }
            _ => bail!("torture {} takes --count N and --seed N", kernel.kind),
        }
    }
    let done = root.join(DONE);
    let _ = fs::remove_file(&done);
    let here = Run::here(root)?;
    let began = Instant::now();
    let mut cargo = process::cargo(root);
    cargo.args(["test", "--workspace", "--test", "it"]).args(FEATURES).args(["--", "--exact", kernel.test]);
    cargo.env(kernel.count_variable, rounds.to_string()).env("COURANT_TEST_SEED", seed.to_string());
    cargo.env("COURANT_TEST_DONE", &done);
    let passed = cargo.status().context("cargo does not start")?.success();
    // A test that was skipped has done nothing, and one that failed says why.
    match fs::read_to_string(&done) {
        Ok(detail) if passed => {
            let (filesystem, detail) = detail.trim().split_once('\t').context("what the test has done")?;
            Run {
                kind: kernel.kind.to_owned(),
                rounds,
                detail: detail.to_owned(),
                seeds: seed.to_string(),
                failures: 0,
                seconds: began.elapsed().as_secs(),
                filesystem: filesystem.to_owned(),
                ..here
            }
            .record(root)?;
        }
        _ if passed => println!("torture: the test did not run here; nothing is recorded"),
        _ => {}
    }
    Ok(passed)
}
