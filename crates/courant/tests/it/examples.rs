//! The examples print what the guide says, on every engine, on files of their own.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::server::Server;

/// Where cargo puts the examples that it builds with this test.
fn built(name: &str) -> Option<PathBuf> {
    let test = std::env::current_exe().expect("this test has a path");
    let example = test.parent()?.parent()?.join("examples").join(name);
    example.is_file().then_some(example)
}

/// What an example prints on an engine. `None`: it was not built, and the test is skipped.
fn printed(name: &str, directory: &Path, engine: &str) -> Option<String> {
    printed_with(name, directory, &[engine])
}

/// What an example prints that has more arguments than its engine.
fn printed_with(name: &str, directory: &Path, arguments: &[&str]) -> Option<String> {
    let Some(example) = built(name) else {
        // Not `eprintln!`: the test harness would swallow it.
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED: examples::{name}: it was not built; run the tests without --test"
        );
        return None;
    };
    let output = Command::new(example).args(arguments).current_dir(directory).output().expect("runs");
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{name} on {arguments:?}: {errors}");
    Some(String::from_utf8(output.stdout).expect("text"))
}

/// Runs an example on an engine in memory, one in files, and one behind a server, each of them empty and
/// in a directory of its own.
fn on_every_engine(check: impl Fn(&Path, &str)) {
    for engine in ["memory:", "embedded:./events"] {
        let directory = tempfile::tempdir().expect("a directory");
        check(directory.path(), engine);
    }
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("server");
    fs::create_dir(&data).expect("made");
    if let Some(server) = Server::start(&data) {
        check(directory.path(), &server.url());
    }
}

/// Fails unless the page shows the program as it is.
fn assert_shown(page: &str, program: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let source = format!("crates/courant/{program}");
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
fn the_guide_shows_programs_that_run() {
    assert_shown("first-service.md", "examples/1-hello.rs");
    assert_shown("handlers.md", "tests/it/asking.rs");
    assert_shown("effects-once.md", "examples/2-effects-once.rs");
    assert_shown("poison-messages.md", "examples/3-poison.rs");
    assert_shown("testing.md", "tests/it/reminding.rs");
    assert_shown("serving.md", "tests/it/serving.rs");
    assert_shown("changing-events.md", "tests/it/evolving.rs");
}

/// Pieces of the guide that need crates which this one has not, by their first lines.
const PIECES_ELSEWHERE: [&str; 2] = [
    "tracing_subscriber::fmt().log_internal_errors(false).init();",
    "let report = courant_conformance::check(&Subject::new(\"mine\", || Box::pin(open_mine()))).await;",
];

/// The Rust in a page that is no whole program: the lines of each piece.
fn pieces(page: &str) -> Vec<Vec<&str>> {
    let (mut pieces, mut before, mut lines) = (Vec::new(), "", page.lines());
    while let Some(line) = lines.next() {
        if line == "```rust" {
            let piece: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            if !before.starts_with("<!-- begin ") {
                pieces.push(piece);
            }
        }
        before = line;
    }
    pieces
}

/// Whether the lines stand in a program one below the other, all of them indented by as much.
fn stands_in(program: &str, piece: &[&str]) -> bool {
    let lines: Vec<&str> = program.lines().collect();
    lines.windows(piece.len()).any(|lines| {
        let Some(indent) = lines[0].strip_suffix(piece[0]) else { return false };
        let is_shown = |(line, shown): (&&str, &&str)| match *shown {
            "" => line.is_empty(),
            shown => line.strip_prefix(indent) == Some(shown),
        };
        indent.trim().is_empty() && lines.iter().zip(piece).all(is_shown)
    })
}

/// A piece that nobody compiles is wrong after the next change of what it calls.
#[test]
fn the_pieces_in_the_guide_are_compiled() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let programs = ["pieces.rs", "serving.rs"]
        .map(|name| fs::read_to_string(root.join("tests/it").join(name)).expect("the program"));
    let (mut compiled, mut elsewhere) = (0, BTreeSet::new());
    for page in fs::read_dir(root.join("../../docs/guide/framework")).expect("the folder") {
        let page = page.expect("a page").path();
        let text = fs::read_to_string(&page).expect("the page");
        for piece in pieces(&text) {
            assert!(!piece.is_empty(), "{}: a piece of nothing", page.display());
            if let Some(known) = PIECES_ELSEWHERE.iter().find(|known| **known == piece[0]) {
                elsewhere.insert(*known);
                continue;
            }
            let is_there = programs.iter().any(|program| stands_in(program, &piece));
            let (page, shown) = (page.display(), piece.join("\n"));
            assert!(is_there, "{page}: this stands in no program, put it into tests/it/pieces.rs:\n{shown}");
            compiled += 1;
        }
    }
    assert!(compiled > 10, "there are some");
    assert_eq!(
        elsewhere.len(),
        PIECES_ELSEWHERE.len(),
        "what is shown no more is in the list: {elsewhere:?}"
    );
}

#[test]
fn a_piece_that_no_program_has_is_seen() {
    let page = "Text\n```rust\nlet a = 1;\n\nf(a);\n```\n<!-- begin x.rs -->\n```rust\nwhole\n```\n";
    let shown = pieces(page);
    assert_eq!(shown, [["let a = 1;", "", "f(a);"]]);
    assert!(stands_in("fn g() {\n    let a = 1;\n\n    f(a);\n}\n", &shown[0]));
    for program in
        ["let a = 1;\n\nf(b);\n", "    let a = 1;\n\nf(a);\n", "let b = 2; let a = 1;\n\nf(a);\n", "f(a);\n"]
    {
        assert!(!stands_in(program, &shown[0]), "{program}");
    }
}

/// Whoever begins finds each of them, with what starts it.
#[test]
fn the_guide_names_every_example() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page =
        fs::read_to_string(root.join("../../docs/guide/framework/first-service.md")).expect("the page");
    let manifest = fs::read_to_string(root.join("Cargo.toml")).expect("the manifest");
    let mut named = 0;
    for file in fs::read_dir(root.join("examples")).expect("the folder") {
        let file = file.expect("a file").file_name().into_string().expect("text");
        let Some((number, name)) = file.trim_end_matches(".rs").split_once('-') else { continue };
        if number.parse::<u8>().is_err() {
            continue;
        }
        let target = format!("name = \"{name}\"\npath = \"examples/{file}\"\n");
        assert!(manifest.contains(&target), "{file} is not what `--example {name}` starts");
        for shown in [
            format!("](../../../crates/courant/examples/{file})"),
            format!("`cargo run -p courant --example {name}`"),
        ] {
            assert!(page.contains(&shown), "first-service.md has no {shown}");
        }
        named += 1;
    }
    assert!(named >= 5, "there are some");
}

/// The bank is written once. What is compiled for each database differs by its name alone: in the type that the
/// handlers' transactions have, and in the folder of the statements, which are the same ones by name.
#[test]
fn the_bank_differs_by_its_database_alone() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let program = |name: &str| {
        let text = fs::read_to_string(examples.join(name)).expect("the program");
        text.to_lowercase()
    };
    let statements = |folder: &str| -> BTreeSet<_> {
        let files = fs::read_dir(examples.join("bank").join(folder)).expect("the folder");
        files.map(|file| file.expect("a file").file_name()).collect()
    };
    for database in ["postgres", "mariadb"] {
        let expected = program("bank-service.rs").replace("sqlite", database);
        assert_eq!(program(&format!("bank-service-{database}.rs")), expected);
        assert_eq!(statements(database), statements("sqlite"), "{database}");
    }
    assert!(statements("sqlite").len() > 3, "there are some");
}

#[test]
fn hello() {
    on_every_engine(|directory, engine| {
        let Some(printed) = printed("hello", directory, engine) else { return };
        let mut lines: Vec<&str> = printed.lines().collect();
        lines.sort_unstable();
        assert_eq!(lines, ["Welcome, Ada!", "Welcome, Grace!"], "{engine}");
    });
}

/// Run twice: what was billed the first time is not billed again. With events in memory only, the second
/// run refuses to begin: its log is another one.
#[test]
fn effects_once() {
    on_every_engine(|directory, engine| {
        let Some(first) = printed("effects-once", directory, engine) else { return };
        assert_eq!(first, "espresso: 250 cents\n", "{engine}");
        if engine != "memory:" {
            let again = printed("effects-once", directory, engine);
            assert_eq!(again.as_deref(), Some(""), "{engine}: it was billed the first time");
        }
    });
}

#[test]
fn poison() {
    on_every_engine(|directory, engine| {
        let Some(printed) = printed("poison", directory, engine) else { return };
        let expected = "billed filter to Grace\n\
                        billed tea to Grace\n\
                        parked shop.orders/0@0: the till for Ada is closed\n\
                        billed espresso to Ada\n\
                        billed cake to Ada\n";
        assert_eq!(printed, expected, "{engine}");
    });
}

/// The order that was given up is in no table and in no log.
#[test]
fn outbox() {
    on_every_engine(|directory, engine| {
        let Some(printed) = printed("outbox", directory, engine) else { return };
        let expected = "espresso is ordered\n\
                        cake is sold out\n\
                        packing espresso, 1 of them\n";
        assert_eq!(printed, expected, "{engine}");
    });
}

#[test]
fn swap_engine() {
    on_every_engine(|directory, engine| {
        let Some(printed) = printed("swap-engine", directory, engine) else { return };
        assert_eq!(printed, "Ada owes 250\nAda owes 400\nAda owes 100\n", "{engine}");
    });
}

/// Five services in one process sell the same on every engine: what was ordered is counted, what could be paid
/// is shipped, and one customer's card is always declined.
#[test]
fn order_fulfilment() {
    on_every_engine(|directory, engine| {
        let Some(printed) = printed_with("order-fulfilment", directory, &[engine, "30"]) else { return };
        let expected = "CA: 4 orders, 4 shipped, 19700 cents\n\
                        CH: 2 orders, 2 shipped, 5050 cents\n\
                        FI: 2 orders, 2 shipped, 13350 cents\n\
                        FR: 2 orders, 0 shipped, 7550 cents\n\
                        GB: 4 orders, 4 shipped, 23850 cents\n\
                        IS: 2 orders, 2 shipped, 2100 cents\n\
                        NL: 2 orders, 2 shipped, 5050 cents\n\
                        US: 12 orders, 12 shipped, 46650 cents\n";
        assert_eq!(printed, expected, "{engine}");
    });
}
