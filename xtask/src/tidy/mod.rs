//! `cargo xtask tidy`: the invariants of ARCHITECTURE.md, as checks.
//!
//! A check is a function from the tree's text and the workspace's metadata to findings, so that
//! each one is tested on a planted violation. A finding says what to do instead.

mod finding;
mod formats;
mod layers;
mod links;
mod map;
mod metadata;
mod rust;
mod seams;
mod size;
mod tree;
mod variables;
mod words;

use std::path::Path;

use anyhow::{Result, bail};

pub(crate) use formats::hash;

use crate::stage::Tally;
use finding::Finding;
use metadata::Workspace;
use tree::Tree;

type Check = fn(&Tree, &Workspace) -> Vec<Finding>;

/// Every check, by the sentence that it guards.
const CHECKS: [(&str, Check); 16] = [
    ("dependencies point down the layers", layers::arrows),
    ("a technology stays in the crates that own it", layers::owners),
    ("planted defects are in nobody's default features", layers::planted_defects),
    ("one version for the whole family", layers::one_version),
    ("files, environment, clock, wire and HTTP stay behind their seams", seams::check),
    ("on-disk formats and their pages change together", formats::check),
    ("ARCHITECTURE.md names what is there, all of it", map::check),
    ("files stay small", size::files),
    ("functions stay small", size::functions),
    ("every module says what it is for", words::module_docs),
    ("nothing is left to do", words::unfinished),
    ("no registry is named by host", words::registry_hosts),
    ("no path of somebody's machine", words::workplace_paths),
    ("links between pages resolve", links::check),
    ("links lead to every page of docs/", links::reached),
    ("what tests read of the environment is listed", variables::listed),
];

/// Runs tidy as a command.
pub(crate) fn run(root: &Path, args: &[String]) -> Result<bool> {
    match args {
        [] => {}
        [bless] if bless == "--bless" => {
            for page in formats::bless(root)? {
                println!("blessed {page}");
            }
        }
        [other, ..] => bail!("tidy takes --bless, got `{other}`"),
    }
    Ok(check(root)?.failed == 0)
}

/// Runs every check on the tree at `root`, prints findings and sizes, counts the checks.
pub(crate) fn check(root: &Path) -> Result<Tally> {
    let tree = Tree::load(root)?;
    let workspace = Workspace::load(root)?;
    let mut tally = Tally::default();
    for (name, check) in CHECKS {
        let findings = check(&tree, &workspace);
        if findings.is_empty() {
            tally.passed += 1;
            continue;
        }
        println!("\n{name}:");
        for finding in &findings {
            println!("{finding}");
        }
        tally.add_failure(format!("{name}: {} finding(s)", findings.len()));
    }
    println!("{}", size::summary(&tree));
    println!("packages in the server: {} (budget {})", workspace.serve_packages, layers::SERVE_PACKAGES_MAX);
    println!("tidy: {} checks, {} with findings", CHECKS.len(), tally.failed);
    Ok(tally)
}
