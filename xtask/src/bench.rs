//! `cargo xtask bench`: builds the server as users do and hands over to the benchmark crate.

use std::path::Path;

use anyhow::{Context as _, Result};

use crate::process;

/// Runs the benchmark crate with `args`; its figures go straight to the terminal.
///
/// The server is built first, and by itself: a build of the whole workspace would bring the features
/// of tests into it.
pub(crate) fn run(root: &Path, args: &[String]) -> Result<bool> {
    let built = process::cargo(root)
        .args(["build", "--release"])
        .args(["--package", "courant-cli", "--bin", "courant"])
        .status()
        .context("cargo does not start")?;
    if !built.success() {
        return Ok(false);
    }
    let status = process::cargo(root)
        .args(["run", "--release", "--package", "courant-bench", "--"])
        .args(args)
        .status()
        .context("cargo does not start")?;
    Ok(status.success())
}
