//! The pages "Use it from …": the programs that they show are those that run here.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::tempdir;

use super::program::{java, node};
use crate::server::Server;
use crate::{example, python_script, skip};

/// The project's folder.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Fails unless the page shows the program as it is.
fn assert_shown(page: &str, source: &str) {
    let text = fs::read_to_string(root().join("docs/guide/clients").join(page)).expect("the page");
    let program = fs::read_to_string(root().join(source)).expect("the program");
    // What only the project's own lints want is not shown.
    let lines = program.split_inclusive('\n').filter(|line| !line.starts_with("#![allow(clippy::"));
    let program: String = lines.collect();
    let (_, after) = text.split_once(&format!("<!-- begin {source} -->\n")).expect("the mark of the program");
    let (shown, _) = after.split_once("\n<!-- end -->").expect("the mark of its end");
    let (_, shown) = shown.split_once('\n').expect("a fence");
    let shown = shown.strip_suffix("```").expect("a fence");
    assert!(shown == program, "{page} does not show {source} as it is");
}

/// Runs the program as the page says: twice, and the second time only what is new is billed.
fn assert_runs(words: &[OsString]) {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    server.create_topic("orders.placed", 1);
    for run in 0..2 {
        let output = Command::new(&words[0])
            .args(&words[1..])
            .arg(server.bootstrap())
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .output()
            .expect("the program starts");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        let first = run * 3;
        let placed = (first..first + 3).map(|offset| format!("placed at 0/{offset}"));
        let billed = ["espresso", "flat white", "filter"].map(|order| format!("billed customer-1: {order}"));
        assert_eq!(said.lines().collect::<Vec<_>>(), placed.chain(billed).collect::<Vec<_>>());
    }
}

fn prepared(variable: &str, test: &str) -> Option<PathBuf> {
    let place = std::env::var_os(variable).map(PathBuf::from);
    if place.is_none() {
        skip(&format!("clients::guide::{test}"), &format!("{variable} names nothing"));
    }
    place
}

#[test]
fn python() {
    assert_shown("python.md", "clients/python/guide/guide.py");
    if let Some(python) = prepared("COURANT_TEST_PYTHON", "python") {
        assert_runs(&[python.into(), python_script("guide/guide.py").into()]);
    }
}

#[test]
fn java_of_both_versions() {
    assert_shown("java.md", "clients/java/guide/Guide.java");
    for version in ["COURANT_TEST_JAVA_39", "COURANT_TEST_JAVA_4"] {
        if let Some(folder) = prepared(version, "java_of_both_versions") {
            assert_runs(&java(&folder, "Guide"));
        }
    }
}

#[test]
fn go() {
    assert_shown("go.md", "clients/go/guide/main.go");
    if let Some(folder) = prepared("COURANT_TEST_GO", "go") {
        assert_runs(&[folder.join("guide").into()]);
    }
}

#[test]
fn node_js() {
    assert_shown("node.md", "clients/node/guide/guide.mjs");
    if let Some(folder) = prepared("COURANT_TEST_NODE_CLIENTS", "node_js") {
        assert_runs(&node(&folder, "guide/guide.mjs"));
    }
}

#[test]
fn rust() {
    assert_shown("rust.md", "clients/rust/guide/main.rs");
    assert_runs(&[example("rdkafka_guide").into()]);
}
