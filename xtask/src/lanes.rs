//! Two runs of `cargo test` beside each other, of which each starts the test programs of its own packages.
//!
//! Cargo runs one program after the other, and most of ours wait for servers and disks half of their time. Both
//! runs name the whole workspace, so that they have the same features and the same programs; each has this task
//! as its runner, which starts a program or leaves it to the other run. It ends a program that runs for too
//! long, so that a test that hangs is one failure and does not keep the others from being run.
//!
//! What the programs share can be shared: on the servers of others each test has databases, topics and groups of
//! its own, whose names have the number of the process or are those of one program; ports that must be known
//! before a server starts come from ranges of which each program has its own.

use std::env;
use std::path::Path;
use std::process::{Command, exit};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::process::{Ended, run_until};
use crate::tests_output;

/// Packages whose tests compute or compile all the time.
const BUSY: [&str; 2] = ["courant-compile-errors", "courant-sim"];

/// One of the runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// All other packages, and what stands in documentation.
    Main,
    /// The busy packages; they give way to the others.
    Beside,
}

impl Lane {
    const ALL: [Lane; 2] = [Lane::Main, Lane::Beside];

    /// What its cargo is told. `task` is this program.
    pub(crate) fn config(self, task: &Path) -> String {
        let runner = serde_json::json!([task.to_string_lossy(), "lane", self.name()]);
        // An array of strings is the same in JSON and in TOML.
        format!("target.'cfg(all())'.runner = {runner}")
    }

    /// Its name, for people and for cargo.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Lane::Main => "main",
            Lane::Beside => "beside",
        }
    }

    /// When one of its programs is ended. On 2 cores those of the main lane take up to 210 s, and
    /// those beside them, which give way, up to 510 s.
    pub(crate) fn longest(self) -> Duration {
        Duration::from_secs(match self {
            Lane::Main => 9 * 60,
            Lane::Beside => 12 * 60,
        })
    }

    /// Whether it starts this program of that package.
    fn starts(self, package: &str, program: &Path) -> bool {
        let lane = match package {
            _ if !is_test(program) => Lane::Main,
            package if BUSY.contains(&package) => Lane::Beside,
            _ => Lane::Main,
        };
        lane == self
    }
}

/// Whether a program has tests of code: those of documentation are programs elsewhere.
fn is_test(program: &Path) -> bool {
    program.parent().is_some_and(|folder| folder.ends_with("deps"))
}

/// `xtask lane LANE PROGRAM ARGS`, which cargo runs: runs the program, unless another lane does, and ends as it
/// does.
pub(crate) fn run(args: &[String]) -> Result<bool> {
    let [lane, program, args @ ..] = args else {
        bail!("lane is for cargo, which names the lane and a program");
    };
    let Some(lane) = Lane::ALL.into_iter().find(|known| known.name() == lane) else {
        bail!("no lane `{lane}`");
    };
    // Cargo says whose program it is.
    let package = env::var("CARGO_PKG_NAME").unwrap_or_default();
    if !lane.starts(&package, Path::new(program)) {
        return Ok(true);
    }
    if is_test(Path::new(program)) {
        // Cargo names the file of a program, and most are called the same.
        println!("{}", tests_output::testing(&package, program));
    }
    let mut command = match lane {
        Lane::Main => Command::new(program),
        Lane::Beside => Command::new("nice"),
    };
    if lane == Lane::Beside {
        command.args(["-n", "10", program]);
    }
    let ended = run_until(command.args(args), Instant::now() + lane.longest());
    match ended.with_context(|| format!("{program} does not start"))? {
        Ended::OverTime => {
            println!("{}", tests_output::over_time(&package, program, lane.longest()));
            Ok(false)
        }
        Ended::Exit(status) => match status.code() {
            Some(0) => Ok(true),
            // Tests that fail have a code of their own.
            Some(code) => exit(code),
            None => bail!("{program}: {status}"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_program_is_started_in_one_of_them() {
        let test = Path::new("/src/target/debug/deps/it-0123456789abcdef");
        let documentation = Path::new("/elsewhere/rustdoctest/rust_out");
        for package in ["courant", "courant-sim", "courant-compile-errors", "courant-sql", "courant-cli", ""]
        {
            for program in [test, documentation] {
                let lanes = Lane::ALL.map(|lane| lane.starts(package, program));
                assert_eq!(lanes.iter().filter(|starts| **starts).count(), 1, "{package} {program:?}");
            }
        }
        assert!(Lane::Beside.starts("courant-sim", test));
        assert!(Lane::Main.starts("courant-sim", documentation));
        assert!(Lane::Main.starts("courant", test));
        assert!(Lane::Main.starts("courant-cli", test));
    }

    #[test]
    fn cargo_is_told_in_its_own_language() {
        let config = Lane::Main.config(Path::new("/src/my \"target\"/xtask"));
        assert_eq!(config, r#"target.'cfg(all())'.runner = ["/src/my \"target\"/xtask","lane","main"]"#);
    }

    #[test]
    fn what_is_no_lane_is_refused() {
        let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        assert!(run(&words(&["main"])).is_err());
        assert!(run(&words(&["left", "true"])).unwrap_err().to_string().contains("left"));
    }
}
