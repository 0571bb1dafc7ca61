//! The example whose engine is an argument prints the same on every engine.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::server::Server;

const TEST: &str = "one_service_prints_the_same_on_every_engine";

/// Where cargo puts the example when it builds the workspace.
fn built() -> Option<PathBuf> {
    let test = std::env::current_exe().expect("this test has a path");
    let example = test.parent()?.parent()?.join("examples/swap-engine");
    if example.is_file() {
        return Some(example);
    }
    // Not `eprintln!`: the test harness would swallow it.
    let said = "the example swap-engine was not built; run the tests with --workspace";
    let _ = writeln!(std::io::stderr(), "SKIPPED: {TEST}: {said}");
    None
}

fn printed(example: &Path, url: &str) -> String {
    let output = Command::new(example).arg(url).output().expect("runs");
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{url}: {errors}");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn one_service_prints_the_same_on_every_engine() {
    let Some(example) = built() else { return };
    let dir = TempDir::new().expect("a directory");
    let data = dir.path().join("data");
    std::fs::create_dir(&data).expect("made");
    let Some(server) = Server::start(&data, TEST) else { return };
    let embedded = format!("embedded:{}", dir.path().join("events").display());
    for url in ["memory:".to_owned(), embedded, server.url()] {
        assert_eq!(printed(&example, &url), "Ada owes 250\nAda owes 400\nAda owes 100\n", "{url}");
    }
}
