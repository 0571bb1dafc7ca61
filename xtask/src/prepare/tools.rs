//! Programs and headers that a Debian machine may lack.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use crate::process;
use crate::stage::Tally;

use super::retry::retry;

/// Something that must be there, and the Debian package that brings it.
#[derive(Debug)]
pub(crate) struct Tool {
    /// The name of a program, or the path of a file.
    pub(crate) needs: &'static str,
    pub(crate) package: &'static str,
}

const BASE: [Tool; 6] = [
    Tool { needs: "kcat", package: "kcat" },
    Tool { needs: "curl", package: "curl" },
    Tool { needs: "mkfs.ext4", package: "e2fsprogs" },
    Tool { needs: "losetup", package: "util-linux" },
    Tool { needs: "make", package: "make" },
    Tool { needs: "python3", package: "python3" },
];
/// The feature `tls` is built with the OpenSSL of the system.
const OPENSSL: [Tool; 2] = [
    Tool { needs: "pkg-config", package: "pkg-config" },
    Tool { needs: "/usr/include/openssl/ssl.h", package: "libssl-dev" },
];
const CLOCK: [Tool; 1] = [Tool { needs: "faketime", package: "faketime" }];
const JAVA: [Tool; 2] =
    [Tool { needs: "javac", package: "openjdk-17-jdk-headless" }, Tool { needs: "mvn", package: "maven" }];
const GO: [Tool; 1] = [Tool { needs: "go", package: "golang-go" }];
const NODE: [Tool; 2] = [Tool { needs: "node", package: "nodejs" }, Tool { needs: "npm", package: "npm" }];
const BROWSER: [Tool; 1] = [Tool { needs: "/usr/bin/chromium", package: "chromium" }];
const COUNTS: [Tool; 1] = [Tool { needs: VALGRIND, package: VALGRIND }];

/// Where it cannot be had, the test that counts instructions says that it was skipped.
const VALGRIND: &str = "valgrind";

/// What is installed together: a package that cannot be had takes only its own group with it.
const GROUPS: [&[Tool]; 8] = [&BASE, &OPENSSL, &CLOCK, &JAVA, &GO, &NODE, &BROWSER, &COUNTS];

/// Installs what the tests use and the machine lacks.
pub(super) fn install(deadline: Instant) -> Tally {
    let mut apt = Apt::default();
    let mut tally = Tally::default();
    for group in GROUPS {
        let mut packages = packages(group);
        let is_base = group.iter().any(|tool| tool.needs == "python3");
        if is_base && process::answer("python3", &["-c", "import venv, ensurepip"]).is_none() {
            packages.push("python3-venv");
        }
        let refused = if packages.is_empty() { None } else { apt.install(&packages, deadline).err() };
        for tool in group {
            tally.merge(if is_there(tool) {
                Tally::pass()
            } else {
                let reason = refused.as_deref().unwrap_or("the package did not bring it");
                if tool.needs == VALGRIND {
                    println!("instructions are not counted: no {VALGRIND}: {reason}");
                    continue;
                }
                Tally::skip(format!("prepare::{}", tool.needs), reason)
            });
        }
    }
    tally
}

/// Installs what is missing of these; the error names what is missing still, and why.
pub(crate) fn install_missing(tools: &[Tool], deadline: Instant) -> Result<(), String> {
    let packages = packages(tools);
    if packages.is_empty() {
        return Ok(());
    }
    let installed = Apt::default().install(&packages, deadline);
    let missing: Vec<_> = tools.iter().filter(|tool| !is_there(tool)).map(|tool| tool.needs).collect();
    match (missing.is_empty(), installed) {
        (true, _) => Ok(()),
        (false, Ok(())) => Err(format!("{} is missing, the package did not bring it", missing.join(", "))),
        (false, Err(reason)) => Err(format!("{} is missing: {reason}", missing.join(", "))),
    }
}

fn packages(tools: &[Tool]) -> Vec<&'static str> {
    tools.iter().filter(|tool| !is_there(tool)).map(|tool| tool.package).collect()
}

fn is_there(tool: &Tool) -> bool {
    if tool.needs.starts_with('/') {
        Path::new(tool.needs).is_file()
    } else {
        process::find_program(tool.needs).is_some()
    }
}

/// The package manager. Its lists are fetched once, when something is missing.
#[derive(Debug, Default)]
struct Apt {
    lists: Option<Result<(), String>>,
}

impl Apt {
    /// Installs Debian packages; the error says why it could not.
    fn install(&mut self, packages: &[&str], deadline: Instant) -> Result<(), String> {
        if process::find_program("apt-get").is_none() {
            return Err(format!("no apt-get here: install {} by hand", packages.join(" ")));
        }
        let sudo = !process::is_root();
        if sudo && process::answer("sudo", &["-n", "true"]).is_none() {
            return Err(format!("not root and no sudo: apt-get install {}", packages.join(" ")));
        }
        self.lists
            .get_or_insert_with(|| retry("apt-get update", deadline, || apt_get(sudo, &["update"])))
            .clone()?;
        let arguments = [["install", "-y", "--no-install-recommends"].as_slice(), packages].concat();
        retry("apt-get install", deadline, || apt_get(sudo, &arguments))
    }
}

fn apt_get(sudo: bool, arguments: &[&str]) -> Command {
    let mut command = Command::new(if sudo { "sudo" } else { "env" });
    if sudo {
        command.args(["-n", "env"]);
    }
    command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-o", "Acquire::Retries=3"]);
    command.args(arguments);
    command
}
