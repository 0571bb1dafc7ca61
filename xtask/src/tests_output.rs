//! Reads what test binaries print, and counts.
//!
//! A test that cannot run where it is prints `SKIPPED: <name>: <reason>` and returns; the test
//! runner calls that passed, this file does not. A program that is ended because it hangs can say nothing more
//! itself: which of its tests run for long is followed meanwhile.

use std::time::Duration;

use crate::stage::{Skip, Tally};

const SKIPPED: &str = "SKIPPED: ";

/// How a lane begins what it prints about a program that it has ended.
const OVER_TIME: &str = "OVER TIME: ";

/// How the test runner speaks of a test once, after a minute.
const FOR_LONG: &str = " has been running for over ";

/// What a lane prints about a program that it starts, as cargo does.
pub(crate) fn testing(package: &str, program: &str) -> String {
    format!("     Testing {package} ({program})")
}

/// What a lane prints about a program that it has ended.
pub(crate) fn over_time(package: &str, program: &str, longest: Duration) -> String {
    format!("{OVER_TIME}killed after {} s: {package} ({program})", longest.as_secs())
}

/// Counts over the output of one or more test binaries, line by line.
#[derive(Debug, Default)]
pub(crate) struct TestOutput {
    tally: Tally,
    /// Keep the output of tests that passed off the terminal; it is read all the same.
    quiet: bool,
    muted: bool,
    failures: Vec<String>,
    in_failures: bool,
    /// The program that was started last.
    program: Option<String>,
    /// Its tests that run for long.
    long: Vec<String>,
    /// The test whose line waits for its result, where tests run one by one.
    begun: Option<String>,
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
        self.follow(line);
        if let Some((_, ended)) = line.split_once(OVER_TIME) {
            self.over_time(ended);
        } else if let Some((_, result)) = line.split_once("test result: ") {
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

    /// Where the output stands: the program that was started last, and what is known to run for long in it.
    pub(crate) fn at(&self) -> Option<String> {
        let program = self.program.as_ref()?;
        Some(format!("it was at `{program}`{}", self.waits()))
    }

    fn waits(&self) -> String {
        if self.long.is_empty() {
            return ", of whose tests none had run for more than a minute".to_owned();
        }
        format!(", which waited for {}", self.long.join(", "))
    }

    /// Notes which program runs, and which of its tests do so for long.
    fn follow(&mut self, line: &str) {
        if let Some(program) = program(line) {
            // On another stream than the one before has spoken, which may still have something to say.
            self.program = Some(program.to_owned());
        } else if line.starts_with("running ") && line.trim_end_matches('s').ends_with(" test") {
            self.nothing_runs();
        } else if let Some((before, _)) = line.split_once(FOR_LONG) {
            if let Some((_, name)) = before.rsplit_once("test ") {
                self.long.push(name.to_owned());
            }
            self.begun = reported(line).map(|(name, _)| name.to_owned()).or(self.begun.take());
        } else if let Some((name, rest)) = reported(line) {
            match ["ok", "FAILED", "ignored"].iter().any(|result| rest.starts_with(result)) {
                true => self.long.retain(|long| long != name),
                false => self.begun = Some(name.to_owned()),
            }
        } else if matches!(line, "ok" | "FAILED")
            && let Some(name) = self.begun.take()
        {
            self.long.retain(|long| *long != name);
        }
    }

    fn nothing_runs(&mut self) {
        self.long.clear();
        self.begun = None;
    }

    /// A program was ended: nobody else says that it has failed, and with what.
    fn over_time(&mut self, ended: &str) {
        let problem = format!("{ended}{}", self.waits());
        self.tally.add_failure(problem);
        self.nothing_runs();
        self.failures.clear();
        self.in_failures = false;
        self.muted = false;
    }

    fn result(&mut self, result: &str) {
        self.nothing_runs();
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

/// `test NAME ... REST`
fn reported(line: &str) -> Option<(&str, &str)> {
    line.strip_prefix("test ")?.split_once(" ... ")
}

/// `test NAME ... ignored, REASON`
fn ignored(line: &str) -> Option<(&str, &str)> {
    let (name, rest) = reported(line)?;
    Some((name, rest.strip_prefix("ignored")?.strip_prefix(", ").unwrap_or("marked #[ignore]")))
}

/// `     Running FILE (PROGRAM)`, and the same for documentation, which has no file.
fn program(line: &str) -> Option<&str> {
    let words = line.strip_prefix("   ")?.trim();
    ["Running ", "Testing ", "Doc-tests "].iter().any(|word| words.starts_with(word)).then_some(words)
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

    const KAFKA: &str = "     Running tests/it/main.rs (target/debug/deps/it-1)\n     Testing courant-kafka (/it-1)\n\
                         running 4 tests\n";

    #[test]
    fn what_runs_for_long_is_named_until_it_has_ended() {
        let mut output = TestOutput::quiet();
        assert_eq!(output.at(), None);
        let lines = "test slow has been running for over 60 seconds\n\
                     test stuck::for_ever has been running for over 60 seconds\n\
                     test slow ... ok\n\
                     test quick ... ok";
        for line in KAFKA.lines().chain(lines.lines()) {
            output.line(line);
        }
        let at = output.at().unwrap();
        assert_eq!(at, "it was at `Testing courant-kafka (/it-1)`, which waited for stuck::for_ever");
        output.line("test stuck::for_ever ... FAILED");
        assert!(output.at().unwrap().ends_with("none had run for more than a minute"));
    }

    /// The name and the result are then two lines, with what the test prints between them.
    #[test]
    fn so_it_is_where_tests_run_one_by_one() {
        let mut output = TestOutput::new();
        output.line("   Doc-tests courant");
        for line in ["test cut ... test cut has been running for over 60 seconds", "cut 17", "ok"] {
            output.line(line);
        }
        assert!(output.at().unwrap().contains("none had"), "its own line began before");
        for line in ["test next ... a sentence", "test next has been running for over 60 seconds"] {
            output.line(line);
        }
        assert_eq!(output.at().unwrap(), "it was at `Doc-tests courant`, which waited for next");
        output.line("ok");
        assert!(output.at().unwrap().contains("none had"));
    }

    #[test]
    fn a_program_that_was_ended_is_a_failure_and_the_next_one_begins_anew() {
        let ended = over_time("courant-kafka", "/it-1", Duration::from_secs(360));
        let long = "test stuck has been running for over 60 seconds";
        let next = "running 1 test\ntest result: ok. 1 passed; 0 failed; 0 ignored; 0 filtered out";
        let (tally, shown) = read(true, &format!("{KAFKA}{long}\n{ended}\n{next}"));
        assert_eq!((tally.passed(), tally.failed), (1, 1));
        let problem = "killed after 360 s: courant-kafka (/it-1), which waited for stuck";
        assert_eq!(tally.problems, [problem]);
        assert!(shown.contains(&ended));
    }

    #[test]
    fn a_lane_names_programs_as_they_are_read() {
        let line = testing("courant-kafka", "/it-1");
        assert_eq!(program(&line), Some("Testing courant-kafka (/it-1)"));
        assert_eq!(program("Running in circles"), None);
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
