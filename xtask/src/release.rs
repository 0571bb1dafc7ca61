//! The server as users build it.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::process;

/// Builds the server by itself: a build of the whole workspace would bring the features of tests into
/// it.
pub(crate) fn build(root: &Path) -> Result<PathBuf> {
    let built = process::cargo(root)
        .args(["build", "--release"])
        .args(["--package", "courant-cli", "--bin", "courant"])
        .status()
        .context("cargo does not start")?;
    if !built.success() {
        bail!("the server does not build");
    }
    Ok(root.join("target/release/courant"))
}
