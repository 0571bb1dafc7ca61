//! `cargo xtask torture sim`: the simulation for as long as somebody has time.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::process;

/// Where a run goes on when it was stopped.
const STATE: &str = "target/torture/sim.state";

/// Runs the simulation in release mode with `args`; what it says goes straight to the terminal.
pub(crate) fn run(root: &Path, args: &[String]) -> Result<bool> {
    let args = match args.split_first() {
        Some((kind, rest)) if kind == "sim" => rest,
        _ => bail!("torture what? There is: sim"),
    };
    let state = root.join(STATE);
    fs::create_dir_all(root.join("target/torture")).context("target/torture")?;
    let mut cargo = process::cargo(root);
    cargo.args(["run", "--release", "--package", "courant-sim", "--", "--state"]).arg(state).args(args);
    // A crash point that fails has panicked; its sentence is in the report, and once is enough.
    cargo.env("RUST_BACKTRACE", "0");
    Ok(cargo.status().context("cargo does not start")?.success())
}
