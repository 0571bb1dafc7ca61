//! `cargo xtask build`: the console, and the server with it.
//!
//! Nothing else runs npm: a build script that did would fail where nobody sees why.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Error, Result, bail};

use crate::files;
use crate::prepare::{once, retry};
use crate::process;
use crate::tidy;

const SOURCE: &str = "console";
/// What npm installs by: the second names every file with its checksum.
const MANIFESTS: [&str; 2] = ["package.json", "package-lock.json"];
/// How long npm and Vite may take.
const PATIENCE: Duration = Duration::from_secs(600);

/// Where the built console is put, for `courant-console` to take.
pub(crate) const PAGE: &str = "crates/courant-console/assets/dist/index.html";

/// Builds the console and the server.
pub(crate) fn run(root: &Path, args: &[String]) -> Result<bool> {
    let is_release = match args {
        [] => false,
        [flag] if flag == "--release" => true,
        other => bail!("build takes --release, got `{}`", other.join(" ")),
    };
    console(root, Instant::now() + PATIENCE)?;
    let mut cargo = process::cargo(root);
    cargo.args(["build", "--package", "courant-cli", "--bin", "courant"]);
    if is_release {
        cargo.arg("--release");
    }
    Ok(cargo.status().context("cargo does not start")?.success())
}

/// Builds the console, below its budget of bytes.
pub(crate) fn console(root: &Path, deadline: Instant) -> Result<()> {
    install(root, deadline)?;
    for script in ["build", "size"] {
        npm(root, &["run", "--silent", script], deadline)?;
    }
    Ok(())
}

/// Checks the console's types and runs its unit tests.
pub(crate) fn console_tests(root: &Path, deadline: Instant) -> Result<()> {
    install(root, deadline)?;
    for script in ["check", "test"] {
        npm(root, &["run", "--silent", script], deadline)?;
    }
    Ok(())
}

/// The packages of the console, as its lock file names them.
fn install(root: &Path, deadline: Instant) -> Result<()> {
    let version = process::answer("node", &["--version"]).context(
        "there is no Node.js here, which builds the console: install 20.19 or newer, or build a server \
         without a console with COURANT_CONSOLE=none cargo build --release",
    )?;
    if !is_new_enough(&version) {
        bail!(
            "this is Node.js {version}, and the console is built by 20.19, 22.12 or newer: install one, or \
             build a server without a console with COURANT_CONSOLE=none cargo build --release"
        );
    }
    let folder = root.join(SOURCE);
    let manifests = MANIFESTS.map(PathBuf::from);
    let wanted = files::text(&folder, &manifests).context(SOURCE)?;
    let packages = folder.join("node_modules");
    if !packages.is_dir() {
        fs::create_dir(&packages).with_context(|| format!("{} cannot be made", packages.display()))?;
    }
    // The stamp stands among the packages, so that it goes when they go.
    once(&packages, "console-packages", &format!("{version} {:016x}", tidy::hash(&wanted)), || {
        retry("npm ci", deadline, || {
            let mut command = npm_command(root);
            // Nothing that is installed has a reason to run something here, and nobody is told of it.
            command.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier"]);
            command
        })
        .map_err(Error::msg)
    })
}

fn npm_command(root: &Path) -> Command {
    let mut command = Command::new(process::find_program("npm").unwrap_or_else(|| PathBuf::from("npm")));
    command.current_dir(root.join(SOURCE));
    command
}

fn npm(root: &Path, args: &[&str], deadline: Instant) -> Result<()> {
    let what = format!("npm {}", args.join(" "));
    let ended = process::stream(npm_command(root).args(args), deadline, &mut |_| true);
    let ended = ended.with_context(|| format!("{what} does not start"))?;
    if !ended.is_success() {
        bail!("{what}: {}", ended.describe());
    }
    Ok(())
}

/// Whether Vite takes this Node.js: 20.19 and later ones of 20, 22.12 and whatever came after.
fn is_new_enough(version: &str) -> bool {
    let numbers = version.trim_start_matches('v').split('.');
    let mut numbers = numbers.map(|number| number.parse::<u32>().unwrap_or(0));
    match (numbers.next(), numbers.next()) {
        (Some(20), Some(minor)) => minor >= 19,
        (Some(22), Some(minor)) => minor >= 12,
        (Some(major), _) => major > 22,
        (None, _) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_that_vite_refuses_are_refused_with_a_sentence() {
        for good in ["v20.19.0", "v20.20.2", "v22.12.0", "v24.0.1", "v26.1.0"] {
            assert!(is_new_enough(good), "{good}");
        }
        for old in ["v18.20.4", "v20.18.9", "v21.7.3", "v22.11.0", "", "garbage"] {
            assert!(!is_new_enough(old), "{old}");
        }
    }

    #[test]
    fn only_release_is_an_argument() {
        let refused = run(Path::new("nowhere"), &["--relase".to_owned()]).unwrap_err();
        assert!(refused.to_string().contains("--release"), "{refused}");
    }
}
