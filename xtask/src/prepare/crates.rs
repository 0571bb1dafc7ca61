//! The crates that everything is built from.

use std::path::Path;
use std::time::Instant;

use crate::process;
use crate::stage::Tally;

use super::retry::retry;

/// Downloads the crates, so that a slow network is seen here and not as a slow build.
pub(super) fn fetch(root: &Path, deadline: Instant) -> Tally {
    let rustc = process::answer("rustc", &["-vV"]).unwrap_or_default();
    let host = rustc.lines().find_map(|line| line.strip_prefix("host: "));
    match retry("cargo fetch", deadline, || {
        let mut cargo = process::cargo(root);
        cargo.arg("fetch");
        if let Some(host) = host {
            cargo.args(["--target", host]);
        }
        cargo
    }) {
        Ok(()) => Tally::pass(),
        Err(reason) => Tally::fail(reason),
    }
}
