//! `cargo xtask bench`: hands over to the benchmark crate, built as users build the server.

use std::path::Path;

use anyhow::{Context as _, Result};

use crate::process;

/// Runs the benchmark crate with `args`; its figures go straight to the terminal.
pub(crate) fn run(root: &Path, args: &[String]) -> Result<bool> {
    let status = process::cargo(root)
        .args(["run", "--release", "--package", "courant-bench", "--"])
        .args(args)
        .status()
        .context("cargo does not start")?;
    Ok(status.success())
}
