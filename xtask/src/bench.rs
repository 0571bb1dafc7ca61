//! `cargo xtask bench`: builds the server as users do and hands over to the benchmark crate.

use std::env;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::process;
use crate::release;

/// Runs the benchmark crate with `args`; its figures go straight to the terminal.
pub(crate) fn run(root: &Path, args: &[String]) -> Result<bool> {
    release::build(root)?;
    let status = process::cargo(root)
        .args(["run", "--release", "--package", "courant-bench", "--"])
        .args(args)
        // What is measured beside others starts those with this program.
        .env("COURANT_BENCH_XTASK", env::current_exe().context("this program does not find itself")?)
        .status()
        .context("cargo does not start")?;
    Ok(status.success())
}
