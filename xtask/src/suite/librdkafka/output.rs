//! Reads what librdkafka's test runner prints, and says what came of a test.
//!
//! The runner closes with a table, a line for each test:
//! `| 0012_produce_consume      |     PASSED |   0.512s | why, unless it passed`

use crate::process::Ended;
use crate::suite::results::Outcome;

const STATES: [&str; 5] = ["PASSED", "FAILED", "SKIPPED", "RUNNING", "DNS"];
/// What a test says that skips itself because the run is a quick one.
const TOO_LONG: &str = "quick mode";

/// What the runner has printed.
#[derive(Debug, Default)]
pub(super) struct Output {
    table: Vec<Line>,
    /// The first failure that it told, and where it was.
    failure: Option<String>,
    /// The next line says what the failure was.
    is_told_next: bool,
}

/// A line of the table at the end.
#[derive(Debug)]
struct Line {
    name: String,
    state: String,
    why: String,
}

/// What came of one or more tests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) outcome: Outcome,
    pub(super) detail: String,
}

impl Verdict {
    /// A verdict with what there is to say about it.
    pub(super) fn new(outcome: Outcome, detail: impl Into<String>) -> Verdict {
        Verdict { outcome, detail: detail.into() }
    }
}

impl Output {
    /// Takes one line.
    pub(super) fn line(&mut self, line: &str) {
        let line = without_colours(line);
        if self.is_told_next {
            self.is_told_next = false;
            if let Some(failure) = &mut self.failure {
                failure.push_str(": ");
                failure.push_str(line.trim());
            }
        } else if let Some((_, place)) = line.split_once("\" failed at ")
            && self.failure.is_none()
        {
            let place = place.split(" at ").next().unwrap_or(place);
            self.failure = Some(place.trim_end_matches("()").to_owned());
            self.is_told_next = true;
        } else if let Some(line) = table_line(&line) {
            // The table may be printed twice; the last one is right.
            self.table.retain(|known| known.name != line.name);
            self.table.push(line);
        }
    }

    /// True when one of these tests skipped itself because it takes too long for a quick run.
    pub(super) fn is_too_long(&self, names: &[&str]) -> bool {
        let mut lines = self.table.iter().filter(|line| names.contains(&line.name.as_str()));
        lines.any(|line| line.state == "SKIPPED" && line.why.contains(TOO_LONG))
    }

    /// What came of the tests called `names`. Passed is only what the table calls so, in a run that
    /// ended well.
    pub(super) fn judge(&self, names: &[&str], ended: &Ended, broker_died: bool) -> Verdict {
        let failed = |why: String| Verdict::new(Outcome::Failed, why);
        let told = || self.failure.clone().unwrap_or_else(|| format!("the runner: {}", ended.describe()));
        if broker_died {
            return failed("the server ended".to_owned());
        }
        if matches!(ended, Ended::OverTime) {
            return failed(format!(
                "did not end in time; {}",
                self.failure.as_deref().unwrap_or("it said nothing")
            ));
        }
        let mut passed = 0;
        let mut skipped = Vec::new();
        for name in names {
            let line = self.table.iter().find(|line| line.name == *name);
            match line.map(|line| (line.state.as_str(), line.why.as_str())) {
                Some(("PASSED", _)) => passed += 1,
                Some(("SKIPPED", why)) => skipped.push(format!("{name} skips itself: {why}")),
                Some(_) | None => return failed(told()),
            }
        }
        if !ended.is_success() {
            return failed(told());
        }
        let outcome = if passed > 0 { Outcome::Passed } else { Outcome::NotApplicable };
        Verdict::new(outcome, skipped.join("; "))
    }
}

fn table_line(line: &str) -> Option<Line> {
    let mut cells = line.strip_prefix('|')?.splitn(4, '|').map(str::trim);
    let (name, state, _duration) = (cells.next()?, cells.next()?, cells.next()?);
    let why = cells.next().unwrap_or_default();
    let is_known = STATES.contains(&state);
    is_known.then(|| Line { name: name.to_owned(), state: state.to_owned(), why: why.to_owned() })
}

/// The line without the escape sequences that colour it.
fn without_colours(line: &str) -> String {
    let mut plain = String::new();
    let mut rest = line;
    while let Some((before, escaped)) = rest.split_once('\u{1b}') {
        plain.push_str(before);
        let end = escaped.find(|c: char| c.is_ascii_alphabetic());
        rest = end.map_or("", |end| &escaped[end + 1..]);
    }
    plain.push_str(rest);
    plain
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::ExitStatus;

    use super::*;

    const PASSED: &str = "\u{1b}[36m[<MAIN>           /  1.201s] ALL-TESTS: duration 1201.190ms\n\
        \u{1b}[0mTEST 20261127080553 (bare, scenario default) SUMMARY\n\
        #==================================================================#\n\
        |\u{1b}[32m <MAIN>                                   |     PASSED |   1.201s \u{1b}[0m|\n\
        |\u{1b}[32m 0022_consume_batch                       |     PASSED |   1.023s \u{1b}[0m|\n\
        |\u{1b}[36m 0022_consume_batch_local                 |    SKIPPED |   0.000s \u{1b}[0m|\u{1b}[36m Not here\u{1b}[0m\n\
        #==================================================================#\n";
    const FAILED: &str = "\u{1b}[0m\u{1b}[31m### Test \"0081_admin (do_test:12)\" failed at \
        test.c:5872:test_get_broker_ids() at Fri Nov 27 08:08:41 2026: ###\n\
        Test assertion failed: \"!err\": Local: Broker transport failure\n\
        \u{1b}[31m### Test \"<MAIN>\" failed at test.c:1798:test_wait_exit() at Fri Nov 27 08:08:43 2026: ###\n\
        3 thread(s) still active in librdkafka\n\
        |\u{1b}[31m 0081_admin                               |     FAILED |   0.020s \u{1b}[0m|\u{1b}[31m test_get\u{1b}[0m\n";

    fn read(text: &str) -> Output {
        let mut output = Output::default();
        text.lines().for_each(|line| output.line(line));
        output
    }

    fn exit(code: i32) -> Ended {
        Ended::Exit(ExitStatus::from_raw(code << 8))
    }

    #[test]
    fn only_what_the_table_calls_passed_has_passed() {
        let output = read(PASSED);
        let judge = |names: &[&str], ended: &Ended, died| output.judge(names, ended, died).outcome;
        assert_eq!(judge(&["0022_consume_batch"], &exit(0), false), Outcome::Passed);
        assert_eq!(judge(&["0022_consume_batch"], &exit(1), false), Outcome::Failed);
        assert_eq!(judge(&["0022_consume_batch"], &exit(0), true), Outcome::Failed);
        assert_eq!(judge(&["0022_consume_batch"], &Ended::OverTime, false), Outcome::Failed);
        assert_eq!(judge(&["0022_consume"], &exit(0), false), Outcome::Failed);
    }

    #[test]
    fn a_skip_is_no_pass_and_says_why() {
        let output = read(PASSED);
        let skipped = output.judge(&["0022_consume_batch_local"], &exit(0), false);
        assert_eq!(skipped.outcome, Outcome::NotApplicable);
        assert_eq!(skipped.detail, "0022_consume_batch_local skips itself: Not here");
        let both = output.judge(&["0022_consume_batch", "0022_consume_batch_local"], &exit(0), false);
        assert_eq!((both.outcome, both.detail), (Outcome::Passed, skipped.detail));
        assert!(!output.is_too_long(&["0022_consume_batch_local"]));
        let quick = "| 0082_fetch_max_bytes | SKIPPED | 0.000s | Test skipped due to quick mode";
        assert!(read(quick).is_too_long(&["0082_fetch_max_bytes"]));
    }

    #[test]
    fn a_failure_tells_where_it_was() {
        let verdict = read(FAILED).judge(&["0081_admin"], &exit(134), false);
        assert_eq!(verdict.outcome, Outcome::Failed);
        let told = "test.c:5872:test_get_broker_ids: Test assertion failed: \"!err\": Local: Broker transport failure";
        assert_eq!(verdict.detail, told);
    }
}
