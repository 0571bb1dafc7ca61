//! `cargo xtask counts`: the gate of instruction counts alone, and what it compares with written anew.

use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::check::FEATURES;
use crate::process;

/// The test that counts; `crates/courant-kafka/src/api/counts.rs` says how and what.
const TEST: &str = "api::counts::instructions_stay_what_they_were";
/// Tells it that it is compiled as the committed counts were.
pub(crate) const COUNT: (&str, &str) = ("COURANT_TEST_COUNTS", "1");
/// Tells it to write what it has counted.
const BLESS: &str = "COURANT_TEST_BLESS_COUNTS";

/// Counts, in the programs that the tests are compiled to.
pub(crate) fn run(root: &Path, args: &[String]) -> Result<bool> {
    let is_blessed = match args {
        [] => false,
        [flag] if flag == "--bless" => true,
        other => bail!("counts takes --bless, got `{}`", other.join(" ")),
    };
    let mut cargo = process::cargo(root);
    // All of the workspace: other features would be another program.
    cargo.args(["test", "--quiet", "--workspace", "--lib"]).args(FEATURES);
    cargo.args(["--", "--exact", TEST, "--nocapture"]);
    cargo.env(COUNT.0, COUNT.1);
    if is_blessed {
        cargo.env(BLESS, "1");
    }
    Ok(cargo.status().context("cargo does not start")?.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bless_is_an_argument() {
        let refused = run(Path::new("nowhere"), &["--blss".to_owned()]).unwrap_err();
        assert!(refused.to_string().contains("--bless"), "{refused}");
    }
}
