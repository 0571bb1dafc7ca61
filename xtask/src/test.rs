//! `cargo xtask test`: everything, with what it needs, closed by a table.

use std::env;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use crate::check::{self, CLIPPY, FEATURES, FMT, TIDY};
use crate::counts::COUNT;
use crate::lanes::Lane;
use crate::prepare;
use crate::process;
use crate::report::Report;
use crate::stage::{self, Skip, Stage, Tally};
use crate::suite;
use crate::tests_output::TestOutput;

const PREPARE: Stage = Stage { name: "prepare", budget_s: 100 };
const BUILD: Stage = Stage { name: "build", budget_s: 385 };
const TESTS: Stage = Stage { name: "unit+integration", budget_s: 550 };
const CLIENTS: Stage = Stage { name: "clients", budget_s: 180 };
const KILL: Stage = Stage { name: "kill", budget_s: 10 };
const POWER_CUT: Stage = Stage { name: "power-cut", budget_s: 25 };

/// Every stage, in order. Together the budgets stay below the 25 minutes of a run from nothing.
const STAGES: [Stage; 9] = [PREPARE, FMT, CLIPPY, TIDY, BUILD, TESTS, CLIENTS, KILL, POWER_CUT];

/// Stages that run a part of the acceptance tests, by the module that holds it.
const PARTS: [(Stage, &str); 3] = [(CLIENTS, "clients::"), (KILL, "kill::"), (POWER_CUT, "power_cut::")];

const ALLOWED_SKIPS: &str = "xtask/allowed-skips.txt";

#[derive(Debug, Default, PartialEq, Eq)]
struct Options {
    require_all: bool,
    only: Option<String>,
}

/// Runs the stages that the arguments ask for.
pub(crate) fn run(root: &Path, args: &[String]) -> Result<bool> {
    let options = parse(args)?;
    // The build puts another in its place, of which the system would say that it is deleted.
    let task = env::current_exe().context("where this program stands")?;
    let allowed = if options.require_all { Some(allowed_skips(root)?) } else { None };
    let mut report = Report::default();
    match &options.only {
        Some(only) => run_only(root, &task, only, &mut report),
        None => run_all(root, &task, &mut report),
    }
    crate::engines::stop(root);
    if let Some(allowed) = allowed {
        for problem in not_allowed(report.skips(), &allowed) {
            let last = STAGES.iter().rev().find(|stage| report.tally(stage.name).is_some());
            if let Some(stage) = last {
                report.add_failure(stage.name, problem);
            }
        }
    }
    Ok(report.close())
}

fn parse(args: &[String]) -> Result<Options> {
    let mut options = Options::default();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--require-all" => options.require_all = true,
            "--only" => {
                let names = STAGES.map(|stage| stage.name).join(", ");
                let name = args.next().with_context(|| format!("--only needs one of: {names}"))?;
                if !STAGES.iter().any(|stage| stage.name == name) {
                    bail!("no stage `{name}`; there are: {names}");
                }
                options.only = Some(name.clone());
            }
            other => bail!("test takes --require-all and --only STAGE, got `{other}`"),
        }
    }
    Ok(options)
}

fn run_all(root: &Path, task: &Path, report: &mut Report) {
    report.run(PREPARE, |deadline| prepare::run(root, deadline));
    check::lint(root, process::cargo_anew, report);
    if !report.run(BUILD, |deadline| build(root, deadline)) {
        report.leave_out(TESTS, "the build failed");
        for (stage, _) in PARTS {
            report.leave_out(stage, "the build failed");
        }
        return;
    }
    report.run(TESTS, |deadline| tests(root, task, deadline));
    for (stage, module) in PARTS {
        run_part(root, stage, module, report);
    }
    none_falls_between(report);
}

/// One stage, with the preparation where its tests use what is prepared.
fn run_only(root: &Path, task: &Path, only: &str, report: &mut Report) {
    match only {
        "prepare" => {
            report.run(PREPARE, |deadline| prepare::run(root, deadline));
        }
        "fmt" => check::fmt(root, report),
        "clippy" => check::clippy(process::cargo_anew(root), report),
        "tidy" => check::tidy(root, report),
        "build" => {
            report.run(BUILD, |deadline| build(root, deadline));
        }
        "unit+integration" => {
            report.run(TESTS, |deadline| tests(root, task, deadline));
        }
        _ => {
            report.run(PREPARE, |deadline| prepare::run(root, deadline));
            for (stage, module) in PARTS.into_iter().filter(|(stage, _)| stage.name == only) {
                run_part(root, stage, module, report);
            }
        }
    }
}

fn build(root: &Path, deadline: Instant) -> Tally {
    let mut cargo = process::cargo_anew(root);
    cargo.args(["build", "--workspace", "--all-targets"]).args(FEATURES);
    stage::run_program("cargo build", &mut cargo, deadline)
}

/// Everything but the parts that have stages of their own, in lanes. The output of passing tests is read for
/// skips and not repeated.
fn tests(root: &Path, task: &Path, deadline: Instant) -> Tally {
    let environment = prepare::environment(root);
    let cargo = |lane: Lane| {
        let mut cargo = process::cargo_anew(root);
        cargo.args(["test", "--workspace", "--no-fail-fast"]).args(FEATURES);
        cargo.arg("--config").arg(lane.config(task));
        if lane != Lane::Main {
            // Without what stands in documentation.
            cargo.arg("--tests");
        }
        for (name, place) in &environment {
            cargo.env(name, place);
        }
        // For the tests that start a cargo of their own.
        cargo.env("COURANT_TEST_FEATURES", FEATURES[1]);
        cargo.env(COUNT.0, COUNT.1);
        // Many of them wait for servers.
        cargo.args(["--", "--show-output", "--test-threads=4"]);
        for (_, module) in PARTS {
            cargo.args(["--skip", module]);
        }
        cargo
    };
    thread::scope(|scope| {
        let start = |lane: Lane| {
            let mut command = cargo(lane);
            let run = move || stage::run_tests_beside(&mut command, deadline, TestOutput::quiet());
            (lane.name(), scope.spawn(run))
        };
        let others = [Lane::Beside].map(start);
        let mut tally = stage::run_tests(&mut cargo(Lane::Main), deadline, TestOutput::quiet());
        for (lane, run) in others {
            match run.join() {
                Ok((other, lines)) => {
                    for line in lines {
                        println!("{line}");
                    }
                    if other.met() == 0 {
                        tally.add_failure(format!(
                            "no test ran in the lane `{lane}`: nothing was proved there"
                        ));
                    }
                    tally.merge(other);
                }
                Err(_) => tally.add_failure(format!("the lane `{lane}` was not counted to its end")),
            }
        }
        tally
    })
}

/// One part of the acceptance tests. Kills and power cuts are run one by one: they measure and mount.
/// Clients wait for servers and for their own timers most of the time, so three of them run at once.
/// `--workspace` keeps the features, and so the binaries, of the build stage.
fn run_part(root: &Path, stage: Stage, module: &str, report: &mut Report) {
    if stage.name == POWER_CUT.name
        && let Some(reason) = no_power_cut_here()
    {
        report.leave_out(stage, reason);
        return;
    }
    report.run(stage, |deadline| {
        let mut cargo = process::cargo_anew(root);
        cargo.args(["test", "--workspace", "--no-fail-fast", "--test", "it"]).args(FEATURES);
        let threads = if stage.name == CLIENTS.name { "--test-threads=3" } else { "--test-threads=1" };
        cargo.args(["--", module, "--nocapture", threads]);
        cargo.envs(prepare::environment(root));
        if stage.name == CLIENTS.name {
            match suite::fresh_clients_file(root) {
                Ok(file) => cargo.env("COURANT_TEST_COMPAT_OUT", file),
                Err(error) => return Tally::fail(format!("{error:#}")),
            };
        }
        let mut tally = stage::run_tests(&mut cargo, deadline, TestOutput::new());
        if tally.met() == 0 {
            tally.add_failure(format!("no test in a module `{module}`: nothing was proved"));
        }
        tally
    });
}

fn no_power_cut_here() -> Option<&'static str> {
    if !process::is_root() {
        Some("not root: no file system can be mounted")
    } else if !Path::new("/dev/loop-control").exists() {
        Some("no loop devices here")
    } else {
        None
    }
}

/// A test that the main stage leaves out must have been met by one of the others: a module that
/// happens to be called `clients` would else never be run.
fn none_falls_between(report: &mut Report) {
    let counts: Option<Vec<_>> = PARTS
        .iter()
        .map(|(stage, _)| report.tally(stage.name))
        .map(|tally| tally.filter(|t| !t.skips.iter().any(|skip| is_stage(&skip.name))).map(Tally::met))
        .collect();
    let (Some(counts), Some(tests)) = (counts, report.tally(TESTS.name)) else {
        return;
    };
    let (left_out, met) = (tests.filtered, counts.iter().sum::<u64>());
    if left_out != met && tests.failed == 0 {
        report.add_failure(
            TESTS.name,
            format!(
                "{left_out} tests were left to the later stages, which met {met}: a test's path \
                 contains clients::, kill:: or power_cut:: outside the acceptance tests; rename it"
            ),
        );
    }
}

fn is_stage(name: &str) -> bool {
    STAGES.iter().any(|stage| stage.name == name)
}

/// The committed list of skips that are no failure: `name: reason`, one a line.
fn allowed_skips(root: &Path) -> Result<Vec<Skip>> {
    let text = fs::read_to_string(root.join(ALLOWED_SKIPS)).context(ALLOWED_SKIPS)?;
    parse_skips(&text)
}

fn parse_skips(text: &str) -> Result<Vec<Skip>> {
    let lines = text.lines().map(str::trim);
    lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| {
            let (name, reason) = line
                .split_once(": ")
                .with_context(|| format!("{ALLOWED_SKIPS}: `{line}` is not `name: reason`"))?;
            Ok(Skip { name: name.to_owned(), reason: reason.trim().to_owned() })
        })
        .collect()
}

fn not_allowed<'a>(skips: impl Iterator<Item = &'a Skip>, allowed: &[Skip]) -> Vec<String> {
    skips
        .filter(|skip| !allowed.contains(skip))
        .map(|skip| {
            format!(
                "skipped and not in {ALLOWED_SKIPS}: `{}: {}`: make it run, or add this line with \
                 a comment that says why it may be missing",
                skip.name, skip.reason
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(args: &[&str]) -> Result<Options> {
        parse(&args.iter().map(|&arg| arg.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn arguments() {
        assert_eq!(options(&[]).unwrap(), Options::default());
        let both = options(&["--only", "kill", "--require-all"]).unwrap();
        assert_eq!(both, Options { require_all: true, only: Some("kill".to_owned()) });
        assert!(options(&["--only", "nothing"]).unwrap_err().to_string().contains("power-cut"));
        assert!(options(&["--fast"]).is_err());
    }

    #[test]
    fn the_budgets_keep_a_run_from_nothing_under_25_minutes() {
        let sum: u64 = STAGES.iter().map(|stage| stage.budget_s).sum();
        assert!(sum <= 25 * 60, "{sum} s");
    }

    /// The others of the main lane still have the time that the budget gives them all.
    #[test]
    fn a_program_that_hangs_is_ended_before_its_stage_is() {
        assert!(Lane::Main.longest() <= TESTS.budget());
        assert!(Lane::Beside.longest() < 2 * TESTS.budget());
    }

    #[test]
    fn only_a_skip_with_its_very_reason_is_allowed() {
        let allowed = parse_skips("# why\n\nkill::rounds: no signals here\n").unwrap();
        let skip = |reason: &str| Skip { name: "kill::rounds".into(), reason: reason.into() };
        let skips = [skip("no signals here"), skip("too slow")];
        let problems = not_allowed(skips.iter(), &allowed);
        assert_eq!(problems.len(), 1);
        assert!(problems[0].contains("too slow"));
        assert!(parse_skips("without a reason").is_err());
    }

    #[test]
    fn a_test_that_no_stage_meets_is_a_failure() {
        let run = |met: u64| {
            let mut report = Report::default();
            report.run(TESTS, |_| Tally { passed: 9, filtered: 3, ..Tally::default() });
            for (stage, _) in PARTS {
                report.run(stage, |_| Tally { passed: met, ..Tally::default() });
            }
            none_falls_between(&mut report);
            report.tally(TESTS.name).map(|tally| tally.failed)
        };
        assert_eq!(run(1), Some(0));
        assert_eq!(run(0), Some(1));
    }
}
