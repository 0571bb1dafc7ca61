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
/// The same of damage.
const DAMAGE_STATE: &str = "target/torture/damage.state";
/// Where a test of the real kernel says what it did.
const DONE: &str = "target/torture/done";

/// A test of the built binary that can be asked for more rounds than it has in CI.
struct Kernel {
    kind: &'static str,
    test: &'static str,
    count_variable: &'static str,
    rounds: u64,
    /// At the same time, each on a disk and with a server of its own; where the test can do that.
    lanes: Option<u64>,
}

/// How many of them the test is told to run at the same time. They wait for clients most of the time.
const LANES_VARIABLE: &str = "COURANT_TEST_LANES";

const KERNEL: [Kernel; 2] = [
    Kernel {
        kind: "kills",
        test: "kill::kills_lose_nothing",
        count_variable: "COURANT_TEST_KILLS",
        rounds: 1_000,
        lanes: None,
    },
    Kernel {
        kind: "power-cuts",
        test: "power_cut::cuts_lose_nothing",
        count_variable: "COURANT_TEST_CUTS",
        rounds: 20_000,
        lanes: Some(8),
    },
];

/// Runs what the arguments name. What it says goes straight to the terminal.
pub(crate) fn run(root: &Path, args: &[String]) -> Result<bool> {
    fs::create_dir_all(root.join("target/torture")).context("target/torture")?;
    let (kind, rest) = args.split_first().map_or(("", args), |(kind, rest)| (kind.as_str(), rest));
    match KERNEL.iter().find(|kernel| kernel.kind == kind) {
        Some(kernel) => kernel_run(root, kernel, rest),
        None if kind == "sim" => simulation(root, rest),
        None if kind == "damage" => damage(root, rest),
        None if kind == "page" => page::write(root).map(|()| true),
        None => bail!("torture what? There are: sim, damage, kills, power-cuts, page"),
    }
}

/// The simulation in release mode.
fn simulation(root: &Path, args: &[String]) -> Result<bool> {
    let state = root.join(STATE);
    let before = runs::simulated(&state)?;
    let here = Run::here(root)?;
    let began = Instant::now();
    let passed = run_sim(root, &[], &state, args)?;
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

/// Every byte of small data directories, in release mode.
fn damage(root: &Path, args: &[String]) -> Result<bool> {
    let state = root.join(DAMAGE_STATE);
    let before = runs::spoilt(&state)?;
    let here = Run::here(root)?;
    let began = Instant::now();
    let passed = run_sim(root, &["damage"], &state, args)?;
    let after = runs::spoilt(&state)?;
    if after.cases > before.cases {
        let (refused, unharmed) = (after.refused - before.refused, after.unharmed - before.unharmed);
        let (named, whole) = (after.named - before.named, after.directories - before.directories);
        // A directory of which no byte went bad yet is not one of them.
        let last = if after.next == 0 { after.seed.saturating_sub(1) } else { after.seed };
        Run {
            kind: "damage".to_owned(),
            rounds: after.cases - before.cases,
            detail: format!(
                "{refused} starts refused, {unharmed} unharmed, {named} with events refused and named; \
                 {whole} directories to their last byte"
            ),
            seeds: format!("{} to {last}", before.seed),
            failures: after.failures - before.failures,
            seconds: began.elapsed().as_secs(),
            filesystem: "in memory".to_owned(),
            ..here
        }
        .record(root)?;
    }
    Ok(passed)
}

/// Runs `courant-sim`, which goes on where its state says.
fn run_sim(root: &Path, command: &[&str], state: &Path, args: &[String]) -> Result<bool> {
    let mut cargo = process::cargo(root);
    cargo.args(["run", "--release", "--package", "courant-sim", "--"]).args(command);
    cargo.arg("--state").arg(state).args(args);
    // A case that fails has panicked; its sentence is in the report, and once is enough.
    cargo.env("RUST_BACKTRACE", "0");
    Ok(cargo.status().context("cargo does not start")?.success())
}

/// A test of the acceptance tests, with more rounds.
fn kernel_run(root: &Path, kernel: &Kernel, args: &[String]) -> Result<bool> {
    let (mut rounds, mut seed, mut lanes) = (kernel.rounds, 1, kernel.lanes);
    for pair in args.chunks(2) {
        match pair {
            [name, value] if name == "--count" => rounds = value.parse().context("--count takes a number")?,
            [name, value] if name == "--seed" => {
                seed = value.parse::<u64>().context("--seed takes a number")?
            }
            [name, value] if name == "--lanes" && lanes.is_some() => {
                lanes = Some(value.parse::<u64>().context("--lanes takes a number")?.max(1));
            }
            _ if lanes.is_some() => {
                bail!("torture {} takes --count N, --seed N and --lanes N", kernel.kind)
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
    if let Some(lanes) = lanes {
        cargo.env(LANES_VARIABLE, lanes.to_string());
    }
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
