//! The examples print what the guide says, on files of their own.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where cargo puts the examples that it builds with this test.
fn built(name: &str) -> Option<PathBuf> {
    let test = std::env::current_exe().expect("this test has a path");
    let example = test.parent()?.parent()?.join("examples").join(name);
    example.is_file().then_some(example)
}

fn printed(name: &str, directory: &Path) -> Option<String> {
    let Some(example) = built(name) else {
        // Not `eprintln!`: the test harness would swallow it.
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED: examples::{name}: it was not built; run the tests without --test"
        );
        return None;
    };
    let output = Command::new(example).current_dir(directory).output().expect("runs");
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{name}: {errors}");
    Some(String::from_utf8(output.stdout).expect("text"))
}

/// Fails unless the page shows the program as it is.
fn assert_shown(page: &str, example: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let source = format!("crates/courant/examples/{example}");
    let text = fs::read_to_string(root.join("docs/guide/framework").join(page)).expect("the page");
    let program = fs::read_to_string(root.join(&source)).expect("the program");
    // What only the project's own lints want is not shown.
    let lines = program.split_inclusive('\n').filter(|line| !line.starts_with("#![allow(clippy::"));
    let program: String = lines.collect();
    let (_, after) = text.split_once(&format!("<!-- begin {source} -->\n")).expect("the mark of the program");
    let (shown, _) = after.split_once("\n<!-- end -->").expect("the mark of its end");
    let (_, shown) = shown.split_once('\n').expect("a fence");
    let shown = shown.strip_suffix("```").expect("a fence");
    assert!(shown == program, "{page} does not show {source} as it is");
}

#[test]
fn the_guide_shows_the_examples() {
    assert_shown("effects-once.md", "2-effects-once.rs");
    assert_shown("poison-messages.md", "3-poison.rs");
}

#[test]
fn hello() {
    let directory = tempfile::tempdir().expect("a directory");
    if let Some(printed) = printed("hello", directory.path()) {
        let mut lines: Vec<&str> = printed.lines().collect();
        lines.sort_unstable();
        assert_eq!(lines, ["Welcome, Ada!", "Welcome, Grace!"]);
    }
}

#[test]
fn effects_once() {
    let directory = tempfile::tempdir().expect("a directory");
    let Some(first) = printed("effects-once", directory.path()) else { return };
    assert_eq!(first, "espresso: 250 cents\n");
    let again = printed("effects-once", directory.path());
    assert_eq!(again.as_deref(), Some(""), "it was billed the first time");
}

#[test]
fn poison() {
    let directory = tempfile::tempdir().expect("a directory");
    let Some(printed) = printed("poison", directory.path()) else { return };
    let expected = "billed filter to Grace\n\
                    billed tea to Grace\n\
                    parked shop.orders/0@0: the till for Ada is closed\n\
                    billed espresso to Ada\n\
                    billed cake to Ada\n";
    assert_eq!(printed, expected);
}
