//! Reads what test binaries print, and counts.
//!
//! A test that cannot run where it is prints `SKIPPED: <name>: <reason>` and returns; the test
//! runner calls that passed, this file does not.

use crate::stage::{Skip, Tally};

const SKIPPED: &str = "SKIPPED: ";

/// Counts over the output of one or more test binaries, line by line.
#[derive(Debug, Default)]
pub(crate) struct TestOutput {
    tally: Tally,
    /// Keep the output of tests that passed off the terminal; it is read all the same.
    quiet: bool,
    muted: bool,
    failures: Vec<String>,
    in_failures: bool,
}

impl TestOutput {
    /// A counter that lets every line through.
    pub(crate) fn new() -> Self {
        TestOutput::default()
    }

    /// A counter for `--show-output`: reads what passing tests printed and does not repeat it.
    pub(crate) fn quiet() -> Self {
        TestOutput { quiet: true, ..TestOutput::default() }
    }

    /// Takes one line; true when it belongs on the terminal.
    pub(crate) fn line(&mut self, line: &str) -> bool {
        if let Some((_, result)) = line.split_once("test result: ") {
            self.result(result);
        } else if let Some((_, skip)) = line.split_once(SKIPPED) {
            let (name, reason) = skip.split_once(": ").unwrap_or((skip, "no reason given"));
            self.skip(name, reason, true);
        } else if let Some((name, reason)) = ignored(line) {
            self.skip(name, reason, false);
        }
        match line {
            "successes:" => self.muted = self.quiet,
            "failures:" => {
                self.muted = false;
                self.in_failures = true;
                self.failures.clear();
            }
            _ if self.in_failures => {
                if let Some(name) = line.strip_prefix("    ") {
                    self.failures.push(name.trim().to_owned());
                }
            }
            _ => {}
        }
        !self.muted
    }

    /// The counts, once the output has ended.
    pub(crate) fn finish(self) -> Tally {
        self.tally
    }

    fn result(&mut self, result: &str) {
        self.tally.passed += count(result, " passed");
        self.tally.failed += count(result, " failed");
        self.tally.filtered += count(result, " filtered out");
        if self.in_failures {
            self.tally.problems.append(&mut self.failures);
        }
        self.in_failures = false;
        self.muted = false;
    }

    /// `ran` is true where the test runner has counted, or will count, the test as passed.
    fn skip(&mut self, name: &str, reason: &str, ran: bool) {
        if self.tally.skips.iter().any(|skip| skip.name == name) {
            return;
        }
        let skip = Skip { name: name.trim().to_owned(), reason: reason.trim().to_owned() };
        self.tally.skips.push(skip);
        if ran {
            self.tally.passed_but_skipped += 1;
        }
    }
}

/// `test NAME ... ignored, REASON`
fn ignored(line: &str) -> Option<(&str, &str)> {
    let (name, rest) = line.strip_prefix("test ")?.split_once(" ... ignored")?;
    Some((name, rest.strip_prefix(", ").unwrap_or("marked #[ignore]")))
}

/// The number that stands before `word`.
fn count(text: &str, word: &str) -> u64 {
    let Some((before, _)) = text.split_once(word) else {
        return 0;
    };
    let digits = before.rfind(|c: char| !c.is_ascii_digit()).map_or(0, |at| at + 1);
    before[digits..].parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(quiet: bool, text: &str) -> (Tally, Vec<String>) {
        let mut output = if quiet { TestOutput::quiet() } else { TestOutput::new() };
        let shown = text.lines().filter(|line| output.line(line)).map(str::to_owned).collect();
        (output.finish(), shown)
    }

    #[test]
    fn counts_add_up_over_binaries() {
        let (tally, _) = read(
            false,
            "test a ... ok\n\
             test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 4 filtered out; finished in 0.10s\n\
             test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 1 filtered out; finished in 0.10s",
        );
        assert_eq!((tally.passed(), tally.failed, tally.filtered), (15, 2, 5));
    }

    #[test]
    fn a_skip_is_not_a_pass() {
        let (tally, _) = read(
            false,
            "test clients::kcat ... SKIPPED: clients::kcat: no kcat on this machine\n\
             ok\n\
             test slow ... ignored, takes an hour\n\
             test result: ok. 1 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out",
        );
        assert_eq!(tally.passed(), 0);
        let skips: Vec<_> = tally.skips.iter().map(|s| (s.name.as_str(), s.reason.as_str())).collect();
        assert_eq!(skips, [("clients::kcat", "no kcat on this machine"), ("slow", "takes an hour")]);
    }

    #[test]
    fn quiet_keeps_the_chatter_of_passing_tests_away_and_reads_it() {
        let (tally, shown) = read(
            true,
            "test a ... ok\n\nsuccesses:\n\n---- a stdout ----\nchatter\nSKIPPED: a: no disk\n\n\
             failures:\n\n---- b stdout ----\nwhy\n\nfailures:\n    b\n\n\
             test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out",
        );
        assert!(!shown.iter().any(|line| line == "chatter"));
        assert!(shown.iter().any(|line| line == "why"));
        assert_eq!(tally.skips.len(), 1);
        assert_eq!(tally.problems, ["b"]);
    }
}
