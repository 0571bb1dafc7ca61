//! The Python environment of the test clients.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Error, Result};

use crate::process;
use crate::stage::Tally;
use crate::tidy;

use super::made::{self, empty, once};
use super::retry::retry;

const REQUIREMENTS: &str = "clients/python/requirements.txt";
const STEP: &str = "python-environment";

/// Makes the environment. It is kept until Python or the requirements change.
pub(super) fn make(root: &Path, deadline: Instant) -> Tally {
    let name = "prepare::python";
    let requirements = match fs::read_to_string(root.join(REQUIREMENTS)) {
        Ok(text) => text,
        Err(error) => return Tally::fail(format!("{REQUIREMENTS}: {error}")),
    };
    let Some(version) = process::answer("python3", &["--version"]) else {
        return Tally::skip(name, "no python3 here");
    };
    let from = format!("{version} {:016x}", tidy::hash(&requirements));
    made::tally(name, once(&folder(root), STEP, &from, || environment(root, deadline)))
}

/// The Python of the environment, when it has been made.
pub(super) fn program(root: &Path) -> Option<PathBuf> {
    let python = folder(root).join("bin/python");
    (made::is_made(&folder(root), STEP) && python.is_file()).then_some(python)
}

fn environment(root: &Path, deadline: Instant) -> Result<()> {
    let folder = folder(root);
    empty(&folder)?;
    retry("python3 -m venv", deadline, || {
        let mut command = Command::new("python3");
        command.args(["-m", "venv", "--clear"]).arg(&folder);
        command
    })
    .map_err(Error::msg)?;
    retry("pip install", deadline, || {
        let mut command = Command::new(folder.join("bin/python"));
        command.args(["-m", "pip", "install", "--disable-pip-version-check", "--quiet"]);
        command.args(["--only-binary", ":all:", "--retries", "3", "--timeout", "30"]);
        command.arg("-r").arg(root.join(REQUIREMENTS));
        command
    })
    .map_err(Error::msg)
}

fn folder(root: &Path) -> PathBuf {
    super::folder(root, "python")
}
