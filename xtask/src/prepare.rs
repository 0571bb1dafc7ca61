//! Makes what the tests need, through the machine's package managers, once.
//!
//! Nothing here is wanted for building and running Courant itself. What cannot be had is a skip
//! with its reason; the tests that would use it say so again when their turn comes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::process;
use crate::stage::Tally;
use crate::tidy;

/// Networks fail; they are asked this often, with a longer pause each time.
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_secs(4);

const REQUIREMENTS: &str = "clients/python/requirements.txt";

/// A program that the tests run, and the Debian package that brings it.
struct Tool {
    program: &'static str,
    package: &'static str,
}

const TOOLS: [Tool; 5] = [
    Tool { program: "kcat", package: "kcat" },
    Tool { program: "mkfs.ext4", package: "e2fsprogs" },
    Tool { program: "losetup", package: "util-linux" },
    Tool { program: "make", package: "make" },
    Tool { program: "python3", package: "python3" },
];

/// Prepares everything.
pub(crate) fn run(root: &Path, deadline: Instant) -> Tally {
    let mut tally = crates(root, deadline);
    tally.merge(tools(deadline));
    tally.merge(python(root, deadline));
    tally
}

/// The Python of the test clients, when it has been made.
pub(crate) fn python_path(root: &Path) -> Option<PathBuf> {
    let python = environment(root).join("bin/python");
    (stamp_path(root).is_file() && python.is_file()).then_some(python)
}

/// Downloads the crates, so that a slow network is seen here and not as a slow build.
fn crates(root: &Path, deadline: Instant) -> Tally {
    let rustc = process::answer("rustc", &["-vV"]).unwrap_or_default();
    let host = rustc.lines().find_map(|line| line.strip_prefix("host: "));
    match retry("cargo fetch", deadline, || {
        let mut cargo = process::cargo(root);
        cargo.arg("fetch");
        if let Some(host) = host {
            cargo.args(["--target", host]);
        }
        cargo
    }) {
        Ok(()) => Tally::pass(),
        Err(reason) => Tally::fail(reason),
    }
}

/// Installs the programs that are missing.
fn tools(deadline: Instant) -> Tally {
    let mut packages: Vec<_> = missing().map(|tool| tool.package).collect();
    if process::answer("python3", &["-c", "import venv, ensurepip"]).is_none() {
        packages.push("python3-venv");
    }
    let refused = if packages.is_empty() { None } else { install(&packages, deadline).err() };
    let mut tally = Tally { passed: (TOOLS.len() - missing().count()) as u64, ..Tally::default() };
    for tool in missing() {
        let reason = refused.as_deref().unwrap_or("the package did not bring it");
        tally.merge(Tally::skip(format!("prepare::{}", tool.program), reason));
    }
    tally
}

fn missing() -> impl Iterator<Item = &'static Tool> {
    TOOLS.iter().filter(|tool| process::find_program(tool.program).is_none())
}

/// Installs Debian packages; the error says why it could not.
fn install(packages: &[&str], deadline: Instant) -> Result<(), String> {
    if process::find_program("apt-get").is_none() {
        return Err(format!("no apt-get here: install {} by hand", packages.join(" ")));
    }
    let sudo = !process::is_root();
    if sudo && process::answer("sudo", &["-n", "true"]).is_none() {
        return Err(format!("not root and no sudo: apt-get install {}", packages.join(" ")));
    }
    let apt = |args: &[&str]| {
        let mut command = Command::new(if sudo { "sudo" } else { "env" });
        if sudo {
            command.args(["-n", "env"]);
        }
        command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-o", "Acquire::Retries=3"]);
        command.args(args);
        command
    };
    retry("apt-get update", deadline, || apt(&["update"]))?;
    let arguments = [["install", "-y", "--no-install-recommends"].as_slice(), packages].concat();
    retry("apt-get install", deadline, || apt(&arguments))
}

/// Makes the Python environment of the test clients. It is kept until the requirements change.
fn python(root: &Path, deadline: Instant) -> Tally {
    let name = "prepare::python";
    let requirements = match fs::read_to_string(root.join(REQUIREMENTS)) {
        Ok(text) => text,
        Err(error) => return Tally::fail(format!("{REQUIREMENTS}: {error}")),
    };
    let Some(version) = process::answer("python3", &["--version"]) else {
        return Tally::skip(name, "no python3 here");
    };
    let stamp = format!("{version} {:016x}\n", tidy::hash(&requirements));
    let made = fs::read_to_string(stamp_path(root)).is_ok_and(|made| made == stamp);
    if made && python_path(root).is_some() {
        println!("python environment: as it was ({})", stamp.trim());
        return Tally::pass();
    }
    match make_environment(root, deadline) {
        Ok(()) => match fs::write(stamp_path(root), stamp) {
            Ok(()) => Tally::pass(),
            Err(error) => Tally::fail(format!("python stamp: {error}")),
        },
        Err(error) => Tally::skip(name, format!("{error:#}")),
    }
}

fn make_environment(root: &Path, deadline: Instant) -> Result<()> {
    let folder = environment(root);
    if folder.exists() {
        fs::remove_dir_all(&folder).context("the old Python environment does not go")?;
    }
    fs::create_dir_all(&folder).context("the Python environment's folder")?;
    retry("python3 -m venv", deadline, || {
        let mut command = Command::new("python3");
        command.args(["-m", "venv", "--clear"]).arg(&folder);
        command
    })
    .map_err(anyhow::Error::msg)?;
    retry("pip install", deadline, || {
        let mut command = Command::new(folder.join("bin/python"));
        command.args(["-m", "pip", "install", "--disable-pip-version-check", "--quiet"]);
        command.args(["--only-binary", ":all:", "--retries", "3", "--timeout", "30"]);
        command.arg("-r").arg(root.join(REQUIREMENTS));
        command
    })
    .map_err(anyhow::Error::msg)
}

fn environment(root: &Path) -> PathBuf {
    root.join("target/tools/python")
}

fn stamp_path(root: &Path) -> PathBuf {
    environment(root).join(".made-from")
}

/// Runs a program until it succeeds, a few times; the error is a sentence for a report.
fn retry(what: &str, deadline: Instant, command: impl Fn() -> Command) -> Result<(), String> {
    let mut last = String::new();
    for attempt in 1..=ATTEMPTS {
        if attempt > 1 {
            println!("{what}: {last}; again in {} s", (PAUSE * (attempt - 1)).as_secs());
            thread::sleep(PAUSE * (attempt - 1));
        }
        if Instant::now() > deadline {
            return Err(format!("{what}: no time left"));
        }
        match process::stream(&mut command(), deadline, &mut |_| true) {
            Ok(ended) if ended.is_success() => return Ok(()),
            Ok(ended) => last = ended.describe(),
            Err(error) => return Err(format!("{what} does not start: {error}")),
        }
    }
    Err(format!("{what}: {last}, {ATTEMPTS} times"))
}
