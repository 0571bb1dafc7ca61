//! The Node.js programs of the test clients: beside the packages that npm installs for them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Error, Result};

use crate::files;
use crate::process;
use crate::stage::Tally;
use crate::tidy;

use super::made::{self, empty, once};
use super::retry::retry;

const SOURCE: &str = "clients/node";
const PACKAGES: &str = "node-packages";
const PROGRAMS: &str = "node-programs";
/// What npm installs by: the second names every file with its checksum.
const MANIFESTS: [&str; 2] = ["package.json", "package-lock.json"];

/// Installs the packages and copies the programs beside them, where Node.js looks for packages.
pub(super) fn make(root: &Path, deadline: Instant) -> Tally {
    let name = "prepare::node-clients";
    let Some(npm) = process::find_program("npm") else {
        return Tally::skip(name, "no npm here");
    };
    made::tally(name, programs(root, &npm, deadline))
}

/// The folder with the programs, when packages and programs are there.
pub(super) fn clients(root: &Path) -> Option<PathBuf> {
    let folder = folder(root);
    (made::is_made(&folder, PACKAGES) && made::is_made(&folder, PROGRAMS)).then_some(folder)
}

fn programs(root: &Path, npm: &Path, deadline: Instant) -> Result<()> {
    let (source, folder) = (root.join(SOURCE), folder(root));
    let node = process::answer("node", &["--version"]).context("no node here")?;
    let manifests = MANIFESTS.map(PathBuf::from);
    let wanted = files::text(&source, &manifests).context(SOURCE)?;
    once(&folder, PACKAGES, &format!("{node} {:016x}", tidy::hash(&wanted)), || {
        empty(&folder)?;
        files::copy(&source, &folder, &manifests)?;
        retry("npm ci", deadline, || {
            let mut command = Command::new(npm);
            // Nothing that is installed has a reason to run something here, and nobody is told of it.
            command.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier"]);
            command.current_dir(&folder);
            command
        })
        .map_err(Error::msg)
    })?;
    let mut sources = files::below(&source)?;
    sources.retain(|file| file.extension().is_some_and(|extension| extension == "mjs"));
    let text = files::text(&source, &sources)?;
    once(&folder, PROGRAMS, &format!("{:016x}", tidy::hash(&text)), || {
        files::copy(&source, &folder, &sources)
    })
}

fn folder(root: &Path) -> PathBuf {
    super::folder(root, "node")
}
