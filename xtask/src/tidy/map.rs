//! ARCHITECTURE.md is a map, and a map that nobody checks leads astray.

use std::collections::BTreeSet;

use super::finding::Finding;
use super::metadata::Workspace;
use super::tree::Tree;

const MAP: &str = "ARCHITECTURE.md";
/// Names that begin like a crate and are none.
const NO_CRATES: [&str; 1] = ["courant-data"];

/// The map names every package, and every file and package it names is there.
pub(super) fn check(tree: &Tree, workspace: &Workspace) -> Vec<Finding> {
    let Some(map) = tree.file(MAP) else {
        return vec![Finding::new(MAP, "is not there", "write it: path of an event, code map, invariants")];
    };
    let packages: BTreeSet<_> = workspace.packages.iter().map(|p| p.name.as_str()).collect();
    let spans: Vec<_> = code_spans(&map.text).collect();
    let mut findings: Vec<_> = packages
        .iter()
        .filter(|package| !spans.iter().any(|(_, span)| span.split('/').any(|part| part == **package)))
        .map(|package| Finding::new(MAP, format!("does not name `{package}`"), "add a line to the code map"))
        .collect();
    for (line, span) in spans {
        let is_path =
            ["crates/", "xtask/", "docs/", "clients/", ".ci/"].iter().any(|folder| span.starts_with(folder));
        let is_gone = if is_path {
            !tree.exists(span.trim_end_matches('/'))
        } else {
            looks_like_a_crate(span) && !packages.contains(span)
        };
        if is_gone {
            findings.push(Finding::at(
                MAP,
                line,
                format!("names `{span}`, which is not there"),
                "name what took its place, or take the line out",
            ));
        }
    }
    findings
}

fn looks_like_a_crate(span: &str) -> bool {
    span.strip_prefix("courant-")
        .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b == b'-' || b.is_ascii_lowercase()))
        && !NO_CRATES.contains(&span)
}

/// What stands between single backticks, with its line.
fn code_spans(page: &str) -> impl Iterator<Item = (usize, &str)> {
    page.lines()
        .enumerate()
        .filter(|(_, line)| !line.starts_with("```"))
        .flat_map(|(at, line)| line.split('`').skip(1).step_by(2).map(move |span| (at + 1, span)))
}

#[cfg(test)]
mod tests {
    use super::super::metadata::Package;
    use super::*;

    #[test]
    fn a_map_that_has_rotted_is_found() {
        let package = |name: &str| Package { name: name.to_owned(), ..Package::default() };
        let workspace =
            Workspace { packages: vec![package("courant-log"), package("courant-new")], serve_packages: 0 };
        let tree = Tree::of(&[
            (
                MAP,
                "`crates/courant-log` holds `courant-data`.\n`courant-old`, `crates/courant-log/src/gone.rs`\n",
            ),
            ("crates/courant-log/src/lib.rs", ""),
        ]);
        let problems: Vec<_> = check(&tree, &workspace).into_iter().map(|f| f.problem).collect();
        assert_eq!(
            problems,
            [
                "does not name `courant-new`",
                "names `courant-old`, which is not there",
                "names `crates/courant-log/src/gone.rs`, which is not there",
            ]
        );
    }
}
