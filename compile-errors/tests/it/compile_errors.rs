//! What the compiler says about handlers and events that are wrong is part of the API.
//!
//! Each program of `tests/ui` is a target of this package that cargo leaves alone unless it is named. One cargo
//! compiles them all against what was built for the other tests, so that nothing else is compiled for them.
//! With `COURANT_TEST_BLESS=1` what the compiler says now is written beside the programs, for `git diff` to show.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

/// Where this package stands in the workspace.
const PACKAGE: &str = "compile-errors";
const PROGRAMS: &str = "tests/ui";

#[test]
fn what_the_compiler_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace around it");
    let programs = programs(&root.join(PACKAGE).join(PROGRAMS));
    assert!(!programs.is_empty(), "no programs in {PROGRAMS}");
    let (refused, complaints) = compile(root);
    let mut wrong = Vec::new();
    for program in &programs {
        let name = program.file_name().expect("a file").to_string_lossy();
        let Some(said) = refused.get(program) else {
            wrong.push(format!("{name} is not refused, or is no [[test]] of Cargo.toml"));
            continue;
        };
        let beside = program.with_extension("stderr");
        let expected = fs::read_to_string(&beside).unwrap_or_default();
        if words(&expected) == words(said) {
            continue;
        }
        if env::var_os("COURANT_TEST_BLESS").is_some() {
            fs::write(&beside, said).expect("writes");
        } else {
            wrong.push(format!("of {name} it was said\n{expected}\nand now\n{said}"));
        }
    }
    assert!(
        wrong.is_empty(),
        "{}\n\nCOURANT_TEST_BLESS=1 writes what is said now. Cargo itself said:\n{complaints}",
        wrong.join("\n\n")
    );
}

/// The programs, in order.
fn programs(folder: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(folder).expect("the folder is read").map(|file| file.expect("a file").path());
    let mut programs: Vec<PathBuf> =
        files.filter(|path| path.extension().is_some_and(|e| e == "rs")).collect();
    programs.sort();
    programs
}

/// What is said about each program that does not compile, by its file; and what cargo says itself.
fn compile(root: &Path) -> (BTreeMap<PathBuf, String>, String) {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root).arg("build");
    // With what the other tests were built with, or everything would be built again.
    match env::var("COURANT_TEST_FEATURES") {
        Ok(features) => cargo.args(["--workspace", "--features", &features]),
        Err(_) => cargo.args(["--package", "courant-compile-errors"]),
    };
    cargo.args(["--test", "ui_*", "--keep-going", "--quiet", "--color=never", "--message-format=json"]);
    // What cargo has told this test about its package is no business of the next cargo.
    for (name, _) in env::vars_os() {
        let known = name.to_string_lossy();
        if known.starts_with("CARGO_PKG_") || known.starts_with("CARGO_MANIFEST_") {
            cargo.env_remove(&name);
        }
    }
    // Away from a terminal, whose width would be that of the messages.
    let output = cargo.stdin(Stdio::null()).output().expect("cargo starts");
    let messages = String::from_utf8_lossy(&output.stdout);
    (said(&messages, root), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// The errors among cargo's messages, by the file of their program.
fn said(messages: &str, root: &Path) -> BTreeMap<PathBuf, String> {
    let mut said: BTreeMap<PathBuf, String> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for line in messages.lines() {
        let Ok(message) = serde_json::from_str::<Value>(line) else { continue };
        let (Some(program), Some(rendered)) =
            (message["target"]["src_path"].as_str(), message["message"]["rendered"].as_str())
        else {
            continue;
        };
        let is_error = message["message"]["level"] == "error";
        // The compiler may repeat itself to the letter.
        if !is_error || rendered.starts_with("error: aborting due to ") || !seen.insert(line) {
            continue;
        }
        let text = said.entry(PathBuf::from(program)).or_default();
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&without_places(rendered, root));
    }
    said
}

/// A message without what differs from machine to machine, and without the lines of other files, which move.
fn without_places(message: &str, root: &Path) -> String {
    let mut text = String::new();
    let mut is_elsewhere = false;
    for line in message.trim_end().lines() {
        let bare = line.trim_start();
        let indent = &line[..line.len() - bare.len()];
        let arrow = ["--> ", "::: "].into_iter().find(|arrow| bare.starts_with(*arrow));
        if let Some(arrow) = arrow {
            let (place, is_other) = place(&bare[arrow.len()..], root);
            is_elsewhere = is_other;
            text.push_str(&format!("{indent}{arrow}{place}"));
        } else if is_elsewhere && bare.starts_with(|c: char| c.is_ascii_digit() || c == '|' || c == '.') {
            let code = bare.trim_start_matches(|c: char| c.is_ascii_digit());
            text.push_str(&format!("{indent}{:width$}{code}", "", width = bare.len() - code.len()));
        } else if bare.starts_with("and ") && bare.ends_with(" others") {
            is_elsewhere = false;
            text.push_str(&format!("{indent}and $N others"));
        } else {
            is_elsewhere = false;
            text.push_str(line);
        }
        text.truncate(text.trim_end_matches(' ').len());
        text.push('\n');
    }
    text
}

/// `FILE:LINE:COLUMN`, as it is written beside a program, and whether it is another file.
fn place(place: &str, root: &Path) -> (String, bool) {
    let root = format!("{}/", root.display());
    let place = place.strip_prefix(&root).unwrap_or(place);
    let own = place.strip_prefix(PACKAGE).and_then(|place| place.strip_prefix('/'));
    if let Some(own) = own.filter(|own| own.starts_with(PROGRAMS)) {
        return (own.to_owned(), false);
    }
    let file = place.rsplitn(3, ':').nth(2).unwrap_or(place);
    let file = match Path::new(file).file_name() {
        Some(name) if file.starts_with('/') => format!("$ELSEWHERE/{}", name.to_string_lossy()),
        _ => format!("$WORKSPACE/{file}"),
    };
    (file, true)
}

/// What is compared: lines of words. How far they are indented depends on the longest number of a line.
fn words(text: &str) -> Vec<String> {
    let lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    lines.filter(|line| !line.is_empty()).collect()
}

/// Lines of the program stay, those of other files go, and an error of another program is not taken for its own.
#[test]
fn errors_are_told_apart_and_keep_what_is_their_own() {
    let rendered = "error[E0277]: no\n   --> compile-errors/tests/ui/a.rs:9:5\n    |\n  9 |     on(bill);\n\
                    note: required\n   --> /src/crates/courant/src/event.rs:114:5\n    |\n114 |     fn on();\n    \
                    |        ^^ here\n    = help: these\n            and 12 others\n\n";
    let message = |program: &str, level: &str, rendered: &str| {
        serde_json::json!({
            "reason": "compiler-message",
            "target": { "src_path": program },
            "message": { "level": level, "rendered": rendered },
        })
    };
    let messages = [
        message("/src/a.rs", "error", rendered),
        message("/src/a.rs", "error", rendered),
        message("/src/a.rs", "error", "error: aborting due to 1 previous error\n\n"),
        message("/src/b.rs", "warning", "warning: unused\n\n"),
        serde_json::json!({ "reason": "build-finished", "success": false }),
    ];
    let messages = messages.map(|message| message.to_string()).join("\n");
    let said = said(&messages, Path::new("/src"));
    assert_eq!(said.keys().collect::<Vec<_>>(), [Path::new("/src/a.rs")]);
    let expected = "error[E0277]: no\n --> tests/ui/a.rs:9:5\n |\n9 | on(bill);\nnote: required\n --> \
                    $WORKSPACE/crates/courant/src/event.rs\n | \n | fn on();\n | ^^ here\n = help: these\n \
                    and $N others\n";
    assert_eq!(words(&said[Path::new("/src/a.rs")]), words(expected));
    assert_ne!(words(&said[Path::new("/src/a.rs")]), words(&expected.replace(":9:5", ":9:6")));
}
