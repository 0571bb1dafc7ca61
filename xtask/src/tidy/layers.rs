//! Which crate may build on which.

use std::collections::BTreeSet;

use super::finding::Finding;
use super::metadata::{Package, Workspace};
use super::tree::Tree;

/// Packages in the server may not become more than this: each one is code to trust. They are counted with the
/// features that all members together ask for; the driver for MariaDB, which a plain server has not, is two.
pub(super) const SERVE_PACKAGES_MAX: usize = 272;

/// Each member, and the members it may build on. Arrows only point up this list.
const LAYERS: [(&str, &[&str]); 19] = [
    ("courant-core", &[]),
    ("courant-log", &["courant-core"]),
    ("courant-engine", &["courant-core", "courant-log"]),
    ("courant-sql", &["courant-core"]),
    ("courant-macros", &[]),
    ("courant-engine-kafka", &["courant-core", "courant-engine", "courant-log"]),
    ("courant-conformance", &["courant-core", "courant-engine", "courant-sql"]),
    ("courant-backup-s3", &["courant-core", "courant-log"]),
    ("courant-kafka", &["courant-core", "courant-log"]),
    ("courant-console", &[]),
    ("courant-otlp", &["courant-core"]),
    ("courant-server", &["courant-console", "courant-core", "courant-log", "courant-kafka"]),
    (
        "courant",
        &[
            "courant-core",
            "courant-engine",
            "courant-engine-kafka",
            "courant-macros",
            "courant-server",
            "courant-sql",
        ],
    ),
    ("courant-history", &[]),
    (
        "courant-cli",
        &[
            "courant",
            "courant-core",
            "courant-log",
            "courant-backup-s3",
            "courant-kafka",
            "courant-otlp",
            "courant-server",
            "courant-history",
            "courant-sql",
        ],
    ),
    ("courant-bench", &["courant", "courant-core", "courant-log"]),
    ("courant-compile-errors", &[]),
    ("courant-sim", &["courant-core", "courant-log"]),
    ("xtask", &[]),
];

/// All that `courant-core` may build on: nothing in it reads, writes, waits or spawns.
const CORE_DEPENDENCIES: [&str; 8] =
    ["bytes", "hmac", "jiff", "serde", "serde_json", "sha2", "thiserror", "uuid"];

/// Packages that only some members may use, and why.
const OWNERS: [(&str, &[&str], &str); 9] = [
    ("axum", &["courant-server"], "only courant-server knows HTTP"),
    ("hyper", &["courant-server"], "only courant-server knows HTTP"),
    ("prometheus-client", &["courant-server"], "hand counters up as plain numbers"),
    ("object_store", &["courant-backup-s3"], "only courant-backup-s3 knows object stores"),
    ("sqlx", &["courant-sql"], "only courant-sql knows databases: use `courant_sql::sqlx`"),
    ("clap", &["courant-cli", "courant-bench"], "only courant-cli reads the command line"),
    ("tracing-subscriber", &["courant-cli", "courant-bench"], "only the binary decides where logs go"),
    ("kafka-protocol", &[], "it aborts on small frames: it is the oracle of tests, nothing else"),
    ("anyhow", &["courant-cli", "courant-bench", "xtask"], "libraries have one error enum per operation"),
];

/// Arrows between members point down, and `courant-core` stays free of I/O.
pub(super) fn arrows(_: &Tree, workspace: &Workspace) -> Vec<Finding> {
    let members: BTreeSet<_> = workspace.packages.iter().map(|p| p.name.as_str()).collect();
    let mut findings = Vec::new();
    for package in &workspace.packages {
        let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == package.name) else {
            findings.push(Finding::new(
                &package.name,
                "stands in no layer",
                "add it to LAYERS in xtask/src/tidy/layers.rs and to ARCHITECTURE.md",
            ));
            continue;
        };
        let internal = package.dependencies.iter().filter(|d| members.contains(d.name.as_str()));
        for dependency in internal.filter(|d| !allowed.contains(&d.name.as_str())) {
            findings.push(Finding::new(
                &package.name,
                format!("builds on {}, which is not below it", dependency.name),
                "move what both need into a lower crate, or hand it in through a trait of the lower one",
            ));
        }
    }
    if let Some(core) = workspace.package("courant-core") {
        findings.extend(core_is_pure(core));
    }
    findings.extend(workspace.packages.iter().filter_map(tests_of_a_proc_macro));
    if workspace.serve_packages > SERVE_PACKAGES_MAX {
        findings.push(Finding::new(
            "courant-cli",
            format!("is built from {} packages", workspace.serve_packages),
            format!("stay below {SERVE_PACKAGES_MAX}: `cargo tree -e normal` shows who brings what"),
        ));
    }
    findings
}

fn core_is_pure(core: &Package) -> impl Iterator<Item = Finding> {
    let foreign = core.dependencies.iter().filter(|d| !CORE_DEPENDENCIES.contains(&d.name.as_str()));
    foreign.map(|dependency| {
        Finding::new(
            "courant-core",
            format!("builds on {}", dependency.name),
            "courant-core does no I/O and spawns nothing: put the code that needs it in the crate above, \
             behind a trait of the core",
        )
    })
}

/// Cargo builds what a proc macro needs for its tests as it builds the macro, for the compiler, and with other features
/// than the rest: whoever builds the workspace builds most of it twice.
fn tests_of_a_proc_macro(package: &Package) -> Option<Finding> {
    let first = package.dev_dependencies.first().filter(|_| package.is_proc_macro)?;
    let way_out =
        "put the tests that need it into courant-compile-errors, or into a crate that uses the macro";
    Some(Finding::new(&package.name, format!("has {first} built once more, for its tests"), way_out))
}

/// A technology is known by the crates that own it.
pub(super) fn owners(_: &Tree, workspace: &Workspace) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (technology, owners, why) in OWNERS {
        let users = workspace.packages.iter().filter(|package| {
            !owners.contains(&package.name.as_str())
                && package.dependencies.iter().any(|dependency| dependency.name == technology)
        });
        findings
            .extend(users.map(|package| Finding::new(&package.name, format!("builds on {technology}"), why)));
    }
    findings
}

const PLANTED: &str = "planted-defects";

/// The switch that breaks a guarantee on purpose is never on by default.
pub(super) fn planted_defects(_: &Tree, workspace: &Workspace) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in &workspace.packages {
        if enabled(package, "default").iter().any(|name| name.ends_with(PLANTED)) {
            findings.push(Finding::new(
                &package.name,
                format!("has {PLANTED} in its default features"),
                "take it out: only builds for tests ask for it, with --features",
            ));
        }
        let asks = |d: &&super::metadata::Dependency| d.features.iter().any(|f| f == PLANTED);
        for dependency in package.dependencies.iter().filter(asks) {
            findings.push(Finding::new(
                &package.name,
                format!("always turns on {PLANTED} of {}", dependency.name),
                format!(
                    "forward it from a feature of its own: {PLANTED} = [\"{}/{PLANTED}\"]",
                    dependency.name
                ),
            ));
        }
    }
    findings
}

/// Everything that a feature turns on, through features of the same package.
fn enabled(package: &Package, feature: &str) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    let mut waiting = vec![feature.to_owned()];
    while let Some(name) = waiting.pop() {
        if seen.insert(name.clone()) {
            waiting.extend(package.features.get(&name).into_iter().flatten().cloned());
        }
    }
    seen
}

/// Every member has the version of the first.
pub(super) fn one_version(_: &Tree, workspace: &Workspace) -> Vec<Finding> {
    let Some(first) = workspace.packages.first() else {
        return Vec::new();
    };
    let others = workspace.packages.iter().filter(|package| package.version != first.version);
    others
        .map(|package| {
            Finding::new(
                &package.name,
                format!("is at {}, {} at {}", package.version, first.name, first.version),
                "write `version.workspace = true` in its manifest",
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::metadata::Dependency;
    use super::*;

    fn package(name: &str, dependencies: &[&str]) -> Package {
        let dependency = |name: &&str| Dependency { name: (*name).to_owned(), ..Dependency::default() };
        Package {
            name: name.to_owned(),
            version: "0.1.0".to_owned(),
            dependencies: dependencies.iter().map(dependency).collect(),
            ..Package::default()
        }
    }

    fn workspace(packages: Vec<Package>) -> Workspace {
        Workspace { packages, serve_packages: 1 }
    }

    fn places(findings: &[Finding]) -> Vec<&str> {
        findings.iter().map(|finding| finding.place.as_str()).collect()
    }

    #[test]
    fn an_arrow_upwards_is_found() {
        let found = arrows(
            &Tree::of(&[]),
            &workspace(vec![
                package("courant-core", &["thiserror", "tokio"]),
                package("courant-log", &["courant-core", "courant-kafka", "bytes"]),
                package("courant-kafka", &["courant-log"]),
                package("courant-new", &[]),
            ]),
        );
        assert_eq!(places(&found), ["courant-log", "courant-new", "courant-core"]);
    }

    #[test]
    fn what_would_be_built_twice_is_found() {
        let for_tests = |name: &str, is_proc_macro: bool| {
            let dev_dependencies = vec!["serde".to_owned()];
            Package { is_proc_macro, dev_dependencies, ..package(name, &[]) }
        };
        let packages =
            vec![for_tests("courant-core", false), for_tests("courant-macros", true), package("xtask", &[])];
        assert_eq!(places(&arrows(&Tree::of(&[]), &workspace(packages))), ["courant-macros"]);
    }

    #[test]
    fn a_technology_in_the_wrong_crate_is_found() {
        let found = owners(
            &Tree::of(&[]),
            &workspace(vec![
                package("courant-kafka", &["axum"]),
                package("courant-server", &["axum", "anyhow"]),
                package("courant-bench", &["kafka-protocol"]),
            ]),
        );
        assert_eq!(places(&found), ["courant-kafka", "courant-bench", "courant-server"]);
    }

    #[test]
    fn planted_defects_on_by_default_are_found() {
        let mut by_default = package("a", &[]);
        by_default.features.insert("default".to_owned(), vec!["more".to_owned()]);
        by_default.features.insert("more".to_owned(), vec!["b/planted-defects".to_owned()]);
        let mut always = package("b", &["courant-log"]);
        always.dependencies[0].features.push(PLANTED.to_owned());
        let mut fine = package("c", &[]);
        fine.features.insert(PLANTED.to_owned(), vec![]);
        let found = planted_defects(&Tree::of(&[]), &workspace(vec![by_default, always, fine]));
        assert_eq!(places(&found), ["a", "b"]);
    }

    #[test]
    fn two_versions_are_found() {
        let mut other = package("b", &[]);
        other.version = "0.2.0".to_owned();
        let found = one_version(&Tree::of(&[]), &workspace(vec![package("a", &[]), other]));
        assert_eq!(places(&found), ["b"]);
    }
}
