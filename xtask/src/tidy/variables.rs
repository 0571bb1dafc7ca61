//! What tests read of the environment is known to whoever runs them.

use std::collections::BTreeSet;

use super::finding::Finding;
use super::metadata::Workspace;
use super::rust;
use super::tree::{SourceFile, Tree};

/// Where somebody looks who wants longer tests, or servers of others for them.
const PAGE: &str = "CONTRIBUTING.md";

/// Names what nobody else is to set, and so is no place where a variable is known from.
const HERE: &str = "xtask/src/tidy/variables.rs";

/// How all of them begin.
const PREFIX: &str = "COURANT_";

/// What tests say to the processes that they start themselves, and to nobody else.
const SAID_BY_TESTS: [&str; 5] = [
    "COURANT_TEST_DEFECT",
    "COURANT_SQL_TEST_HOLD",
    "COURANT_PARKED_CHILD",
    "COURANT_SIGNALS_CHILD",
    "COURANT_TEST_CLAIMS_CHILD",
];

/// A variable that a test names is on the page for contributors, or the product or a task of the project names it
/// as well: what those set or read they document themselves.
pub(super) fn listed(tree: &Tree, _: &Workspace) -> Vec<Finding> {
    let elsewhere: BTreeSet<&str> = tree
        .product_code()
        .filter(|file| file.path != HERE)
        .flat_map(named)
        .map(|(_, variable)| variable)
        .collect();
    let page = tree.file(PAGE).map_or("", |page| page.text.as_str());
    let is_listed = |variable: &str| {
        SAID_BY_TESTS.contains(&variable)
            || elsewhere.contains(variable)
            || rust::words(page, variable).next().is_some()
    };
    let mut findings = Vec::new();
    for file in tree.files().filter(|file| is_test(file)) {
        for (at, variable) in named(file).filter(|(_, variable)| !is_listed(variable)) {
            findings.push(Finding::at(
                &file.path,
                rust::line_of(&file.text, at),
                format!("reads {variable}, and {PAGE} does not name it"),
                format!("say in {PAGE} what it does, and with which value tests are run before a release"),
            ));
        }
    }
    findings
}

/// A test of a crate, apart from the code that it tests.
fn is_test(file: &SourceFile) -> bool {
    file.is_rust() && file.path.starts_with("crates/") && file.path.contains("/tests/")
}

/// The variables that stand in a file as a whole text, and where.
fn named(file: &SourceFile) -> impl Iterator<Item = (usize, &str)> {
    file.text.match_indices(PREFIX).filter_map(|(at, _)| {
        let rest = &file.text[at..];
        let is_name = |char: char| char.is_ascii_uppercase() || char.is_ascii_digit() || char == '_';
        let variable = &rest[..rest.find(|char: char| !is_name(char)).unwrap_or(rest.len())];
        let is_whole = file.text[..at].ends_with('"') && rest[variable.len()..].starts_with('"');
        is_whole.then_some((at, variable))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(files: &[(&str, &str)]) -> Vec<String> {
        let found = listed(&Tree::of(files), &Workspace::default());
        found.into_iter().map(|finding| finding.place).collect()
    }

    #[test]
    fn a_variable_that_nobody_is_told_of_is_found() {
        let test = "//! T.\nfn f() {\n    from_environment(\"COURANT_NEW_ROUNDS\", 3);\n}\n";
        let at = "crates/a/tests/it/long.rs";
        assert_eq!(places(&[(at, test)]), ["crates/a/tests/it/long.rs:3"]);
        assert_eq!(places(&[(at, test), (PAGE, "`COURANT_NEW_ROUNDS=9` is long")]), [""; 0]);
        // Another one that begins like it says nothing of it.
        assert_eq!(places(&[(at, test), (PAGE, "`COURANT_NEW_ROUNDS_2=9`")]).len(), 1);
    }

    #[test]
    fn what_a_task_sets_or_the_product_reads_is_known() {
        let test = "const A: &str = \"COURANT_A\";\n// \"COURANT_B is no name\", and COURANT_C is no text\n";
        let at = "crates/a/tests/it/a.rs";
        assert_eq!(places(&[(at, test), ("xtask/src/run.rs", "cargo.env(\"COURANT_A\", \"1\");")]), [""; 0]);
        assert_eq!(places(&[(at, test), ("crates/b/src/table.rs", "env = \"COURANT_A\"")]), [""; 0]);
        assert_eq!(places(&[(at, test), (HERE, "\"COURANT_A\"")]), ["crates/a/tests/it/a.rs:1"]);
        assert_eq!(places(&[(at, &format!("f(\"{}\");", SAID_BY_TESTS[0]))]), [""; 0]);
    }
}
