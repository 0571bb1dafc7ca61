//! Two runs of `cargo test` beside each other, of which each starts the test programs of its own packages.
//!
//! Cargo runs one program after the other, and most of ours wait for servers and disks half of their time. Both
//! runs name the whole workspace, so that they have the same features and the same programs; each has this task
//! as its runner, which starts a program or leaves it to the other run.

use std::env;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

/// Packages whose tests compute or compile all the time.
const BUSY: [&str; 2] = ["courant-macros", "courant-sim"];

/// One of the two runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// All other packages, and what stands in documentation.
    Main,
    /// The busy packages; they give way to the others.
    Beside,
}

impl Lane {
    /// What its cargo is told. `task` is this program.
    pub(crate) fn config(self, task: &Path) -> String {
        let runner = serde_json::json!([task.to_string_lossy(), "lane", self.name()]);
        // An array of strings is the same in JSON and in TOML.
        format!("target.'cfg(all())'.runner = {runner}")
    }

    fn name(self) -> &'static str {
        match self {
            Lane::Main => "main",
            Lane::Beside => "beside",
        }
    }

    /// Whether it starts this program of that package.
    fn starts(self, package: &str, program: &Path) -> bool {
        // The tests of documentation are programs elsewhere.
        let is_test = program.parent().is_some_and(|folder| folder.ends_with("deps"));
        (is_test && BUSY.contains(&package)) == (self == Lane::Beside)
    }
}

/// `xtask lane LANE PROGRAM ARGS`, which cargo runs: becomes the program, unless the other lane does.
pub(crate) fn run(args: &[String]) -> Result<bool> {
    let [lane, program, args @ ..] = args else {
        bail!("lane is for cargo, which names the lane and a program");
    };
    let Some(lane) = [Lane::Main, Lane::Beside].into_iter().find(|known| known.name() == lane) else {
        bail!("no lane `{lane}`");
    };
    // Cargo says whose program it is.
    let package = env::var("CARGO_PKG_NAME").unwrap_or_default();
    if !lane.starts(&package, Path::new(program)) {
        return Ok(true);
    }
    let mut command = match lane {
        Lane::Main => Command::new(program),
        Lane::Beside => Command::new("nice"),
    };
    if lane == Lane::Beside {
        command.args(["-n", "10", program]);
    }
    Err(command.args(args).exec()).with_context(|| format!("{program} does not start"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_program_is_started_in_one_of_the_two() {
        let test = Path::new("/src/target/debug/deps/it-0123456789abcdef");
        let documentation = Path::new("/elsewhere/rustdoctest/rust_out");
        for package in ["courant", "courant-sim", "courant-macros", "courant-sql", ""] {
            for program in [test, documentation] {
                let lanes = [Lane::Main, Lane::Beside].map(|lane| lane.starts(package, program));
                assert_eq!(lanes.iter().filter(|starts| **starts).count(), 1, "{package} {program:?}");
            }
        }
        assert!(Lane::Beside.starts("courant-sim", test));
        assert!(Lane::Main.starts("courant-sim", documentation));
        assert!(Lane::Main.starts("courant", test));
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
