//! `cargo xtask check`: what a change must pass before it is shown to anyone. Rust only.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::counts::COUNT;
use crate::process;
use crate::report::Report;
use crate::stage::{self, Stage, Tally};
use crate::tests_output::TestOutput;
use crate::tidy;

/// The one feature set of every build here, so that nothing is built twice. Planted defects only
/// act when a test plants one or the environment names it; the released server does not contain them.
pub(crate) const FEATURES: [&str; 2] = [
    "--features",
    concat!(
        "courant-cli/planted-defects,courant-sim/planted-defects,courant/planted-defects,",
        "courant/postgres,courant-cli/postgres,courant-conformance/postgres,",
        "courant/mariadb,courant-cli/mariadb,courant-conformance/mariadb,courant-cli/kafka,courant-cli/tls,",
        "courant/listen",
    ),
];

pub(crate) const FMT: Stage = Stage { name: "fmt", budget_s: 10 };
pub(crate) const CLIPPY: Stage = Stage { name: "clippy", budget_s: 225 };
pub(crate) const TIDY: Stage = Stage { name: "tidy", budget_s: 10 };
const UNIT: Stage = Stage { name: "unit", budget_s: 40 };

/// Runs the stages; all of them, whatever the earlier ones found.
pub(crate) fn run(root: &Path, args: &[String]) -> Result<bool> {
    if let Some(unknown) = args.first() {
        bail!("check takes no arguments, got `{unknown}`");
    }
    let mut report = Report::default();
    lint(root, process::cargo, &mut report);
    report.run(UNIT, |deadline| {
        let mut cargo = process::cargo(root);
        cargo.args(["test", "--workspace", "--lib", "--bins", "--no-fail-fast"]).args(FEATURES);
        cargo.env(COUNT.0, COUNT.1);
        stage::run_tests(&mut cargo, deadline, TestOutput::new())
    });
    Ok(report.close())
}

/// The stages that look at the source without running it.
pub(crate) fn lint(root: &Path, cargo: fn(&Path) -> Command, report: &mut Report) {
    fmt(root, report);
    clippy(cargo(root), report);
    tidy(root, report);
}

/// Whether everything is formatted.
pub(crate) fn fmt(root: &Path, report: &mut Report) {
    report.run(FMT, |deadline| {
        let mut cargo = process::cargo(root);
        cargo.args(["fmt", "--all", "--", "--check"]);
        let mut tally = stage::run_program("cargo fmt", &mut cargo, deadline);
        if tally.failed > 0 {
            tally.problems.push("`cargo fmt --all` formats everything".to_owned());
        }
        tally
    });
}

/// Whether clippy has anything to say.
pub(crate) fn clippy(mut cargo: Command, report: &mut Report) {
    report.run(CLIPPY, |deadline| {
        cargo.args(["clippy", "--workspace", "--all-targets"]).args(FEATURES);
        cargo.args(["--", "-D", "warnings"]);
        stage::run_program("cargo clippy", &mut cargo, deadline)
    });
}

/// Whether the invariants hold.
pub(crate) fn tidy(root: &Path, report: &mut Report) {
    report.run(TIDY, |_| match tidy::check(root) {
        Ok(tally) => tally,
        Err(error) => Tally::fail(format!("{error:#}")),
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budgets_keep_check_under_five_minutes() {
        let sum: u64 = [FMT, CLIPPY, TIDY, UNIT].iter().map(|stage| stage.budget_s).sum();
        assert!(sum <= 300, "{sum} s");
    }
}
