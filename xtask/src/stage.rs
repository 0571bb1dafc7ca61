//! One stage of a task: a name, a time budget, and what came of it.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::process::{self, Ended};
use crate::tests_output::TestOutput;

/// Something that could not be run here, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Skip {
    /// The test's or the stage's name.
    pub(crate) name: String,
    /// What was missing.
    pub(crate) reason: String,
}

/// What a stage counted.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// What the test runner called passed; see [`Tally::passed`].
    pub(crate) passed: u64,
    /// Of those, the ones that said themselves that they were skipped.
    pub(crate) passed_but_skipped: u64,
    pub(crate) failed: u64,
    /// Tests that the stage left to other stages.
    pub(crate) filtered: u64,
    pub(crate) skips: Vec<Skip>,
    /// Names of failed tests, and sentences about other failures.
    pub(crate) problems: Vec<String>,
}

impl Tally {
    /// Tests that ran and passed.
    pub(crate) fn passed(&self) -> u64 {
        self.passed.saturating_sub(self.passed_but_skipped)
    }

    /// Tests that the stage met: passed, failed or skipped.
    pub(crate) fn met(&self) -> u64 {
        self.passed() + self.failed + self.skips.len() as u64
    }

    /// One thing that succeeded.
    pub(crate) fn pass() -> Self {
        Tally { passed: 1, ..Tally::default() }
    }

    /// One thing that failed.
    pub(crate) fn fail(problem: impl Into<String>) -> Self {
        let mut tally = Tally::default();
        tally.add_failure(problem);
        tally
    }

    /// One thing that could not be run.
    pub(crate) fn skip(name: impl Into<String>, reason: impl Into<String>) -> Self {
        let skip = Skip { name: name.into(), reason: reason.into() };
        Tally { skips: vec![skip], ..Tally::default() }
    }

    /// Counts one more failure.
    pub(crate) fn add_failure(&mut self, problem: impl Into<String>) {
        self.failed += 1;
        self.problems.push(problem.into());
    }

    /// Adds what another part of the stage counted.
    pub(crate) fn merge(&mut self, mut other: Tally) {
        self.passed += other.passed;
        self.passed_but_skipped += other.passed_but_skipped;
        self.failed += other.failed;
        self.filtered += other.filtered;
        self.skips.append(&mut other.skips);
        self.problems.append(&mut other.problems);
    }
}

/// A stage's name and the time it may take. Over the budget is a warning, over twice the budget a
/// failure: a test suite becomes slow by not being told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stage {
    pub(crate) name: &'static str,
    pub(crate) budget_s: u64,
}

impl Stage {
    /// When whatever the stage started is killed.
    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + 2 * self.budget()
    }

    /// The time that the stage may take.
    pub(crate) fn budget(&self) -> Duration {
        Duration::from_secs(self.budget_s)
    }
}

/// Runs a program whose exit code is its whole result.
pub(crate) fn run_program(what: &str, command: &mut Command, deadline: Instant) -> Tally {
    match process::stream(command, deadline, &mut |_| true) {
        Ok(ended) if ended.is_success() => Tally::pass(),
        Ok(ended) => Tally::fail(format!("{what}: {}", ended.describe())),
        Err(error) => Tally::fail(format!("{what} does not start: {error}")),
    }
}

/// Runs `cargo test` and counts what its binaries print.
pub(crate) fn run_tests(command: &mut Command, deadline: Instant, output: TestOutput) -> Tally {
    count_tests(command, deadline, output, &mut |_| true)
}

/// As [`run_tests`], beside another run: what belongs on the terminal is handed back.
pub(crate) fn run_tests_beside(
    command: &mut Command,
    deadline: Instant,
    output: TestOutput,
) -> (Tally, Vec<String>) {
    let mut lines = Vec::new();
    let tally = count_tests(command, deadline, output, &mut |line| {
        lines.push(line.to_owned());
        false
    });
    (tally, lines)
}

/// `show` sees each line that belongs on the terminal and says whether it goes there now.
fn count_tests(
    command: &mut Command,
    deadline: Instant,
    mut output: TestOutput,
    show: &mut dyn FnMut(&str) -> bool,
) -> Tally {
    let ended = process::stream(command, deadline, &mut |line| output.line(line) && show(line));
    let at = output.at();
    let mut tally = output.finish();
    match ended {
        Ok(ended @ Ended::OverTime) => {
            let at = at.map(|at| format!("; {at}")).unwrap_or_default();
            tally.add_failure(format!("{}{at}", ended.describe()));
        }
        // A binary that does not compile or that aborts reports no failed test.
        Ok(ended) if !ended.is_success() && tally.failed == 0 => {
            tally.add_failure(format!("cargo test: {}", ended.describe()));
        }
        Ok(_) => {}
        Err(error) => tally.add_failure(format!("cargo test does not start: {error}")),
    }
    tally
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Otherwise the one that hangs is found by counting those that have passed.
    #[test]
    fn tests_that_are_killed_are_named() {
        let output = "echo '     Running tests/it/main.rs (deps/it-1)'; echo 'running 2 tests'; \
                      echo 'test one ... ok'; echo 'test two has been running for over 60 seconds'; sleep 60";
        let mut command = Command::new("sh");
        command.args(["-c", output]);
        let deadline = Instant::now() + Duration::from_secs(6);
        let (tally, lines) = run_tests_beside(&mut command, deadline, TestOutput::quiet());
        assert_eq!(lines.len(), 4);
        let expected = "killed: twice over its time budget; it was at `Running tests/it/main.rs (deps/it-1)`, \
                        which waited for two";
        assert_eq!(tally.problems, [expected]);
    }
}
