//! The workspace as cargo sees it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::process;

/// The platform that packages are counted for.
const PLATFORM: &str = "x86_64-unknown-linux-gnu";
/// The package that is the server as users build it.
const SERVER: &str = "courant-cli";

/// The members of the workspace.
#[derive(Debug, Default)]
pub(super) struct Workspace {
    pub(super) packages: Vec<Package>,
    /// Packages that are compiled into the server, itself included.
    pub(super) serve_packages: usize,
}

/// One member.
#[derive(Debug, Default)]
pub(super) struct Package {
    pub(super) name: String,
    pub(super) version: String,
    /// Direct dependencies, without those of tests.
    pub(super) dependencies: Vec<Dependency>,
    /// Those of tests alone.
    pub(super) dev_dependencies: Vec<String>,
    /// Whether it is loaded into the compiler.
    pub(super) is_proc_macro: bool,
    pub(super) features: BTreeMap<String, Vec<String>>,
}

/// A direct dependency.
#[derive(Debug, Default)]
pub(super) struct Dependency {
    pub(super) name: String,
    /// Features that the manifest asks for unconditionally.
    pub(super) features: Vec<String>,
}

impl Workspace {
    /// Asks cargo.
    pub(super) fn load(root: &Path) -> Result<Workspace> {
        let mut cargo = process::cargo(root);
        cargo.args(["metadata", "--format-version", "1", "--filter-platform", PLATFORM]);
        let output = cargo.output().context("cargo does not start")?;
        if !output.status.success() {
            bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        let metadata = serde_json::from_slice(&output.stdout).context("cargo metadata")?;
        Ok(Workspace::parse(&metadata))
    }

    fn parse(metadata: &Value) -> Workspace {
        let members: BTreeSet<_> = texts(&metadata["workspace_members"]).into_iter().collect();
        let packages = list(&metadata["packages"])
            .iter()
            .filter(|package| members.contains(&text(&package["id"])))
            .map(package)
            .collect();
        Workspace { packages, serve_packages: reached(metadata, SERVER) }
    }

    /// The member called `name`.
    pub(super) fn package(&self, name: &str) -> Option<&Package> {
        self.packages.iter().find(|package| package.name == name)
    }
}

fn package(value: &Value) -> Package {
    let (of_tests, dependencies): (Vec<_>, Vec<_>) = list(&value["dependencies"])
        .iter()
        .partition(|dependency| dependency["kind"].as_str() == Some("dev"));
    let dependency =
        |value: &Value| Dependency { name: text(&value["name"]), features: texts(&value["features"]) };
    let kinds = list(&value["targets"]).iter().flat_map(|target| texts(&target["kind"]));
    let features = value["features"].as_object().into_iter().flatten();
    Package {
        name: text(&value["name"]),
        version: text(&value["version"]),
        dependencies: dependencies.into_iter().map(dependency).collect(),
        dev_dependencies: of_tests.iter().map(|dependency| text(&dependency["name"])).collect(),
        is_proc_macro: kinds.into_iter().any(|kind| kind == "proc-macro"),
        features: features.map(|(name, enables)| (name.clone(), texts(enables))).collect(),
    }
}

/// How many packages the one called `name` is built from, itself and build scripts' included.
fn reached(metadata: &Value, name: &str) -> usize {
    let nodes: BTreeMap<_, _> =
        list(&metadata["resolve"]["nodes"]).iter().map(|node| (text(&node["id"]), &node["deps"])).collect();
    let start = list(&metadata["packages"]).iter().find(|package| package["name"] == name);
    let mut waiting: Vec<_> = start.map(|package| text(&package["id"])).into_iter().collect();
    let mut seen = BTreeSet::new();
    while let Some(id) = waiting.pop() {
        if !seen.insert(id.clone()) {
            continue;
        }
        let Some(dependencies) = nodes.get(&id) else {
            continue;
        };
        for dependency in list(dependencies) {
            let kinds = list(&dependency["dep_kinds"]);
            if kinds.iter().any(|kind| kind["kind"].as_str() != Some("dev")) {
                waiting.push(text(&dependency["pkg"]));
            }
        }
    }
    seen.len()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn texts(value: &Value) -> Vec<String> {
    list(value).iter().map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_and_what_they_build_on() {
        let metadata = serde_json::json!({
            "workspace_members": ["1", "2"],
            "packages": [
                { "id": "1", "name": "courant-cli", "version": "0.1.0",
                  "features": { "planted-defects": ["courant-log/planted-defects"] },
                  "dependencies": [
                      { "name": "courant-log", "kind": null, "features": ["x"] },
                      { "name": "tempfile", "kind": "dev", "features": [] } ] },
                { "id": "2", "name": "courant-log", "version": "0.1.0", "features": {},
                  "dependencies": [], "targets": [{ "kind": ["proc-macro"] }, { "kind": ["test"] }] },
                { "id": "3", "name": "tempfile", "version": "3.0.0", "features": {},
                  "dependencies": [] },
            ],
            "resolve": { "nodes": [
                { "id": "1", "deps": [
                    { "pkg": "2", "dep_kinds": [{ "kind": null }] },
                    { "pkg": "3", "dep_kinds": [{ "kind": "dev" }] } ] },
                { "id": "2", "deps": [] },
                { "id": "3", "deps": [] },
            ] },
        });
        let workspace = Workspace::parse(&metadata);
        assert_eq!(workspace.packages.len(), 2);
        assert_eq!(workspace.serve_packages, 2);
        let cli = workspace.package("courant-cli").unwrap();
        assert_eq!(cli.dependencies.len(), 1);
        assert_eq!(cli.dependencies[0].features, ["x"]);
        assert_eq!(cli.dev_dependencies, ["tempfile"]);
        assert!(!cli.is_proc_macro && workspace.package("courant-log").unwrap().is_proc_macro);
        assert_eq!(cli.features["planted-defects"], ["courant-log/planted-defects"]);
    }
}
