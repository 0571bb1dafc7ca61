//! The sources of a crate that the workspace already builds on.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::process;

/// A crate as cargo has unpacked it. Nothing is ever written there.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) folder: PathBuf,
    pub(super) version: String,
}

/// Asks cargo where the crate called `name` is.
pub(super) fn source(root: &Path, name: &str) -> Result<Source> {
    let mut cargo = process::cargo(root);
    let output =
        cargo.args(["metadata", "--format-version", "1"]).output().context("cargo does not start")?;
    if !output.status.success() {
        bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let metadata = serde_json::from_slice(&output.stdout).context("cargo metadata")?;
    find(&metadata, name).with_context(|| format!("nothing here builds on the crate {name}"))
}

fn find(metadata: &Value, name: &str) -> Option<Source> {
    let package = metadata["packages"].as_array()?.iter().find(|package| package["name"] == name)?;
    let manifest = Path::new(package["manifest_path"].as_str()?);
    Some(Source { folder: manifest.parent()?.to_owned(), version: package["version"].as_str()?.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crate_is_found_by_its_name() {
        let metadata = serde_json::json!({ "packages": [
            { "name": "rdkafka", "version": "0.39.0", "manifest_path": "/src/rdkafka-0.39.0/Cargo.toml" },
            { "name": "rdkafka-sys", "version": "4.10.0+2.12.1",
              "manifest_path": "/src/rdkafka-sys-4.10.0+2.12.1/Cargo.toml" },
        ] });
        let source = find(&metadata, "rdkafka-sys").unwrap();
        assert_eq!(source.folder, Path::new("/src/rdkafka-sys-4.10.0+2.12.1"));
        assert_eq!(source.version, "4.10.0+2.12.1");
        assert_eq!(find(&metadata, "rdkafka-sy"), None);
    }
}
