//! Servers of others, started and ended by the project's own task.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

/// The program of the project's tasks, which names itself when it starts this one.
const TASK: &str = "COURANT_BENCH_XTASK";

/// All that it knows.
pub(super) const NAMES: [&str; 6] = ["postgres", "mariadb", "kafka", "redis", "nats", "rabbitmq"];

/// What starts and ends servers.
pub(super) struct Engines {
    task: PathBuf,
    /// Where their folders are.
    folder: PathBuf,
}

impl Engines {
    /// The task keeps them in the workspace, wherever else this program was built into.
    pub(super) fn from_environment() -> Result<Engines> {
        let task = env::var_os(TASK).context("peers are started by `cargo xtask bench peers`")?;
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/engines");
        Ok(Engines { task: PathBuf::from(task), folder })
    }

    /// Starts one with new data.
    pub(super) fn up(&self, name: &'static str, settings: &[&str]) -> Result<Running<'_>> {
        let before = self.task(&["status", name])?;
        ensure!(
            address(name, &before).is_none(),
            "{name} runs already, with data of somebody else: `cargo xtask engines down {name}` first"
        );
        let said = self.task(&[["up", name].as_slice(), settings].concat())?;
        let address =
            address(name, &said).with_context(|| format!("{name} does not run: {said}"))?.to_owned();
        // From here on it is ended, whatever happens.
        let mut running = Running { engines: self, name, address, pid: 0, ended: false };
        running.pid = self.pid(name)?;
        Ok(running)
    }

    /// Whether it runs now, whoever has started it.
    pub(super) fn runs(&self, name: &str) -> bool {
        self.task(&["status", name]).is_ok_and(|said| address(name, &said).is_some())
    }

    /// Ends it by the number of its process, if it runs.
    pub(super) fn down(&self, name: &str) -> Result<()> {
        self.task(&["down", name]).map(drop)
    }

    /// The first process of a server.
    fn pid(&self, name: &str) -> Result<u32> {
        // Postgres and MariaDB keep the file themselves, Postgres with more in it.
        let file = match name {
            "postgres" => self.folder.join("postgres/data/postmaster.pid"),
            "mariadb" => self.folder.join("mariadb/data/pid"),
            other => self.folder.join(other).join("pid"),
        };
        let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        let number = text.lines().next().and_then(|line| line.trim().parse().ok());
        number.with_context(|| format!("{} names no process", file.display()))
    }

    fn task(&self, args: &[&str]) -> Result<String> {
        let mut command = Command::new(&self.task);
        // The task finds the workspace by itself; what cargo has told this program is not about it.
        command.arg("engines").args(args).env_remove("CARGO_MANIFEST_DIR");
        let output = command.output().with_context(|| format!("{} does not start", self.task.display()))?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "engines {}: {}", args.join(" "), errors.trim());
        Ok(said)
    }
}

/// The address in what the task says of a server that runs.
fn address<'said>(name: &str, said: &'said str) -> Option<&'said str> {
    said.lines().find_map(|line| {
        let (_, address) = line.strip_prefix(name)?.strip_prefix(" runs: ")?.split_once('=')?;
        Some(address)
    })
}

/// A server that was started here. It is ended when dropped.
pub(super) struct Running<'engines> {
    engines: &'engines Engines,
    name: &'static str,
    address: String,
    pid: u32,
    ended: bool,
}

impl Running<'_> {
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    pub(super) fn down(mut self) -> Result<()> {
        self.engines.down(self.name)?;
        self.ended = true;
        Ok(())
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if !self.ended {
            // Somebody else has failed before, and that is the error to tell.
            let _ = self.engines.down(self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_stands_behind_its_variable() {
        let said =
            "go-programs: as it was (go1.26 0)\nredis runs: COURANT_TEST_REDIS=redis://127.0.0.1:7001\n";
        assert_eq!(address("redis", said), Some("redis://127.0.0.1:7001"));
        assert_eq!(address("nats", said), None);
        assert_eq!(address("redis", "redis does not run\n"), None);
    }
}
