//! The server as users build it.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::process;

/// Builds the server by itself: a build of the whole workspace would bring the features of tests into
/// it.
pub(crate) fn build(root: &Path) -> Result<PathBuf> {
    let mut command = process::cargo(root);
    command.args(["build", "--release"]).args(["--package", "courant-cli", "--bin", "courant"]);
    // Nobody looks at the console of a server that is measured.
    if !root.join(crate::build::PAGE).is_file() {
        command.env("COURANT_CONSOLE", "none");
    }
    if !command.status().context("cargo does not start")?.success() {
        bail!("the server does not build");
    }
    Ok(root.join("target/release/courant"))
}
