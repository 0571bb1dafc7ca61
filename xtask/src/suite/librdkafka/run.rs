//! Runs the numbers, each against a broker of its own, and holds each to a time limit.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::suite::broker::Broker;
use crate::suite::reasons::Reasons;
use crate::suite::results::{Outcome, Row};
use crate::{prepare, process};

use super::build::Built;
use super::cases::{Case, DEFAULT_SCENARIO, Number};
use super::output::{Output, Verdict};

/// How long one start of the runner may take. The longest take a minute or two.
const LIMIT: Duration = Duration::from_secs(300);
/// The Kafka that the tests may expect: they choose their checks by it.
const KAFKA_VERSION: &str = "4.1.0";
/// The suite's own brokers have this many partitions in a topic that is created on first use.
const PARTITIONS: [&str; 2] = ["--partitions", "4"];

/// What the suite calls the settings of a broker, and how Courant is told them.
const SCENARIOS: [(&str, &[&str]); 1] = [(DEFAULT_SCENARIO, &[])];

/// Everything that the runs have in common.
#[derive(Debug)]
pub(super) struct Runs<'a> {
    pub(super) built: &'a Built,
    pub(super) broker: &'a Broker,
    pub(super) reasons: &'a Reasons,
    /// Where the outputs go, a folder for each number.
    pub(super) folder: PathBuf,
    /// Whether the numbers were asked for by name; then each one is run.
    pub(super) by_name: bool,
}

impl Runs<'_> {
    /// Runs every number, `jobs` at a time, and tells of each as it ends.
    pub(super) fn all(&self, numbers: Vec<Number>, jobs: usize) -> Vec<Row> {
        let waiting = Mutex::new(numbers.into_iter());
        let rows = Mutex::new(Vec::new());
        let next = || lock(&waiting).next();
        thread::scope(|scope| {
            for _ in 0..jobs {
                scope.spawn(|| {
                    while let Some(number) = next() {
                        let started = Instant::now();
                        let row = self.number(&number);
                        let seconds = started.elapsed().as_secs_f64();
                        println!("{} {:<40} {:<15} {seconds:.1} s", row.id, row.name, row.outcome.word());
                        lock(&rows).push(row);
                    }
                });
            }
        });
        let mut rows = rows.into_inner().unwrap_or_else(PoisonError::into_inner);
        rows.sort_by(|a, b| a.id.cmp(&b.id));
        rows
    }

    fn number(&self, number: &Number) -> Row {
        let verdict = match self.reasons.not_applicable(&number.number) {
            Some(reason) if !self.by_name => Verdict::new(Outcome::NotApplicable, reason),
            _ => together(self.verdicts(number)),
        };
        Row {
            id: number.number.clone(),
            name: number.name(),
            outcome: verdict.outcome,
            detail: verdict.detail,
        }
    }

    /// A verdict for each scenario, and one for what is not run.
    fn verdicts(&self, number: &Number) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        let mut left = Vec::new();
        for case in &number.tests {
            match runnable(case) {
                Ok(_) => left.push(case),
                Err(why) => verdicts.push(Verdict::new(Outcome::NotApplicable, why)),
            }
        }
        for (scenario, arguments) in SCENARIOS {
            let names: Vec<&str> = left
                .iter()
                .filter(|case| runnable(case) == Ok(scenario))
                .map(|case| case.name.as_str())
                .collect();
            if !names.is_empty() {
                let run = self.scenario(&number.number, scenario, arguments, &names);
                verdicts
                    .push(run.unwrap_or_else(|error| Verdict::new(Outcome::Failed, format!("{error:#}"))));
            }
        }
        verdicts
    }

    /// Runs a number in one scenario: quickly, or in full where the suite says that it must be.
    fn scenario(&self, number: &str, scenario: &str, arguments: &[&str], names: &[&str]) -> Result<Verdict> {
        let quick = self.once(number, scenario, arguments, names, true)?;
        match quick {
            Some(verdict) => Ok(verdict),
            None => {
                let full = self.once(number, scenario, arguments, names, false)?;
                full.context("the full run calls itself a quick one")
            }
        }
    }

    /// One start of the runner; `None` when a test is too long for a quick run.
    fn once(
        &self,
        number: &str,
        scenario: &str,
        arguments: &[&str],
        names: &[&str],
        quick: bool,
    ) -> Result<Option<Verdict>> {
        let folder = self.folder.join(number).join(scenario);
        prepare::empty(&folder)?;
        let mut broker = self.broker.start(&folder, &[PARTITIONS.as_slice(), arguments].concat())?;
        let settings = format!("metadata.broker.list={}\ntest.timeout.multiplier=3\n", broker.address());
        let configuration = folder.join("test.conf");
        fs::write(&configuration, settings).context("test.conf")?;
        let mut command = self.runner(number, scenario, broker.address(), &configuration);
        if quick {
            command.arg("-Q");
        }
        let mut log = File::create(folder.join("output.txt")).context("output.txt")?;
        let mut output = Output::default();
        let ended = process::stream(&mut command, Instant::now() + LIMIT, &mut |line| {
            // A full disk loses the log, not the result.
            let _ = writeln!(log, "{line}");
            output.line(line);
            false
        })
        .context("the test runner does not start")?;
        if output.is_too_long(names) {
            return Ok(None);
        }
        Ok(Some(output.judge(names, &ended, broker.has_died())))
    }

    fn runner(&self, number: &str, scenario: &str, address: &str, configuration: &Path) -> Command {
        let folder = &self.built.folder;
        let mut command = Command::new(folder.join("tests/test-runner"));
        command.args(["-p1", "-s", scenario]).current_dir(folder.join("tests"));
        // Without it the system's librdkafka would be tested, and nobody would notice.
        let libraries = format!("{0}/src:{0}/src-cpp", folder.display());
        command.env("LD_LIBRARY_PATH", libraries);
        command.env("TESTS", number).env("RDKAFKA_TEST_CONF", configuration);
        command.env("TEST_KAFKA_VERSION", KAFKA_VERSION);
        command.env("KAFKA_PATH", &self.built.kafka).env("BROKERS", address);
        // The runner takes other timeouts where it sees it.
        command.env_remove("CI");
        command
    }
}

/// The scenario that a test can be run in here, or why it cannot.
fn runnable(case: &Case) -> Result<&'static str, String> {
    if case.is_known_issue {
        return Err(format!("{}: the suite leaves it out as a known issue of librdkafka", case.name));
    }
    let known = SCENARIOS.iter().map(|(scenario, _)| *scenario);
    let mut known = known.filter(|known| case.scenarios.iter().any(|scenario| scenario == known));
    known.next().ok_or_else(|| {
        let wanted = case.scenarios.join(" or ");
        format!("{} wants a broker in the suite's scenario {wanted}", case.name)
    })
}

/// What came of a number: passed when something passed and nothing failed.
fn together(verdicts: Vec<Verdict>) -> Verdict {
    if let Some(failed) = verdicts.iter().find(|verdict| verdict.outcome == Outcome::Failed) {
        return failed.clone();
    }
    let has_passed = verdicts.iter().any(|verdict| verdict.outcome == Outcome::Passed);
    let details: Vec<_> = verdicts.iter().map(|verdict| verdict.detail.as_str()).collect();
    let details: Vec<_> = details.into_iter().filter(|detail| !detail.is_empty()).collect();
    let outcome = if has_passed { Outcome::Passed } else { Outcome::NotApplicable };
    Verdict::new(outcome, details.join("; "))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(scenarios: &[&str], is_known_issue: bool) -> Case {
        let scenarios = scenarios.iter().map(|&scenario| scenario.to_owned()).collect();
        Case { name: "0001_a".to_owned(), scenarios, is_known_issue }
    }

    #[test]
    fn a_test_is_run_where_its_scenario_can_be_had() {
        assert_eq!(runnable(&case(&["ak23", "default"], false)), Ok("default"));
        let refused = runnable(&case(&["ak23"], false)).unwrap_err();
        assert_eq!(refused, "0001_a wants a broker in the suite's scenario ak23");
        assert!(runnable(&case(&["default"], true)).is_err());
    }

    #[test]
    fn one_failure_fails_the_number() {
        let of = |outcome| Verdict::new(outcome, format!("{outcome:?}"));
        let (passed, failed) = (of(Outcome::Passed), of(Outcome::Failed));
        let other = of(Outcome::NotApplicable);
        assert_eq!(together(vec![passed.clone(), failed.clone(), other.clone()]), failed);
        let both = together(vec![other.clone(), passed]);
        assert_eq!((both.outcome, both.detail.as_str()), (Outcome::Passed, "NotApplicable; Passed"));
        assert_eq!(together(vec![other.clone()]), other);
    }
}
