//! The integration tests of the crate `rdkafka`, by which Rust programs reach Kafka.
//!
//! Its sources come with their tests. They are built in a copy, which is a workspace of its own.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{files, prepare, process};

use super::broker::Broker;
use super::reasons::Reasons;
use super::results::{Outcome, Results, Row};
use super::{Options, conclude, registry};

const SUITE: &str = "rdkafka-crate";
/// How long the build may take, and how long one test program.
const BUILD_LIMIT: Duration = Duration::from_secs(30 * 60);
const LIMIT: Duration = Duration::from_secs(10 * 60);
/// The tests count the partitions of topics that were created on first use, and some look for a broker
/// on Kafka's own port wherever they were told to look.
const SERVER: [&str; 4] = ["--partitions", "3", "--kafka", "127.0.0.1:9092"];

/// Builds the tests and the server, and runs the tests that are asked for.
pub(super) fn run(root: &Path, options: &Options) -> Result<bool> {
    ensure!(options.jobs == 1, "the tests of {SUITE} run side by side already: leave --jobs out");
    let reasons = Reasons::load(root, SUITE)?;
    let source = registry::source(root, "rdkafka")?;
    let folder = prepare::folder(root, SUITE);
    prepare::once(&folder, SUITE, &source.version, || unpack(&source.folder, &folder))?;
    let programs = programs(&folder)?;
    let mut build = cargo_test(root, &folder, &programs);
    build.arg("--no-run");
    let built = process::stream(&mut build, Instant::now() + BUILD_LIMIT, &mut |_| true)?;
    ensure!(built.is_success(), "the tests of {SUITE} do not build: {}", built.describe());

    let broker = Broker::chosen(root, options)?;
    let mut rows = Vec::new();
    for program in &programs {
        for test in listed(cargo_test(root, &folder, &[program]))? {
            let id = format!("{program}::{test}");
            if options.only.is_empty() || options.only.contains(&id) {
                rows.push(Row { id, name: String::new(), outcome: Outcome::Failed, detail: String::new() });
            }
        }
        let of_program = rows.iter_mut().filter(|row| row.id.starts_with(&format!("{program}::")));
        let output = super::folder(root, SUITE).join(program);
        let command = cargo_test(root, &folder, &[program]);
        fill(of_program.collect(), &reasons, options, &broker, &output, command)?;
    }
    ensure!(!rows.is_empty(), "no test has such a name; a name is for example test_admin::test_topics");
    let results = Results { of: format!("rdkafka {}", source.version), rows };
    conclude(root, SUITE, &results, &reasons, options)
}

/// Copies the crate, and keeps cargo from looking for its workspace above it.
fn unpack(source: &Path, folder: &Path) -> Result<()> {
    prepare::empty(folder)?;
    files::copy(source, folder, &files::below(source)?)?;
    let manifest = folder.join("Cargo.toml");
    let text = fs::read_to_string(&manifest).context("the crate's manifest")?;
    fs::write(&manifest, format!("{text}\n[workspace]\n")).context("the crate's manifest")
}

/// The names of the test programs.
fn programs(folder: &Path) -> Result<Vec<String>> {
    let files = files::below(&folder.join("tests"))?;
    let names = files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "rs"));
    let names = names.filter_map(|file| file.file_stem()?.to_str());
    Ok(names.filter(|name| name.starts_with("test_")).map(str::to_owned).collect())
}

/// `cargo test` of these programs in the copy.
fn cargo_test<S: AsRef<str>>(root: &Path, folder: &Path, programs: &[S]) -> Command {
    let mut cargo = process::cargo(root);
    cargo.arg("test").current_dir(folder);
    for program in programs {
        cargo.args(["--test", program.as_ref()]);
    }
    cargo
}

/// The tests of a program.
fn listed(mut cargo: Command) -> Result<Vec<String>> {
    let output =
        cargo.args(["--", "--list", "--format", "terse"]).output().context("cargo does not start")?;
    if !output.status.success() {
        bail!("cargo test --list: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect())
}

/// Runs those tests of one program that can be run, and fills in what came of each.
fn fill(
    mut rows: Vec<&mut Row>,
    reasons: &Reasons,
    options: &Options,
    broker: &Broker,
    output: &Path,
    mut cargo: Command,
) -> Result<()> {
    if options.only.is_empty() {
        for row in &mut rows {
            if let Some(reason) = reasons.not_applicable(&row.id) {
                row.outcome = Outcome::NotApplicable;
                row.detail = reason.to_owned();
            }
        }
        rows.retain(|row| row.outcome != Outcome::NotApplicable);
    }
    if rows.is_empty() {
        return Ok(());
    }
    prepare::empty(output)?;
    let mut broker = broker.start(output, &SERVER)?;
    cargo.env("KAFKA_HOST", broker.address()).args(["--", "--exact"]);
    cargo.args(rows.iter().map(|row| test_name(&row.id)));
    let told = tell(&mut cargo, &output.join("output.txt"))?;
    let has_died = broker.has_died();
    for row in rows {
        (row.outcome, row.detail) = if has_died {
            (Outcome::Failed, "the server ended".to_owned())
        } else {
            told.of(test_name(&row.id))
        };
        println!("{:<70} {}", row.id, row.outcome.word());
    }
    Ok(())
}

/// The test's name inside its program.
fn test_name(id: &str) -> &str {
    id.split_once("::").map_or(id, |(_, test)| test)
}

fn tell(cargo: &mut Command, output: &Path) -> Result<Told> {
    let mut log = File::create(output).with_context(|| output.display().to_string())?;
    let mut told = Told::default();
    process::stream(cargo, Instant::now() + LIMIT, &mut |line| {
        // A full disk loses the log, not the result.
        let _ = writeln!(log, "{line}");
        told.line(line);
        false
    })
    .context("cargo does not start")?;
    Ok(told)
}

/// What a test program has printed.
#[derive(Debug, Default)]
struct Told {
    /// `ok`, `FAILED` or `ignored`, by the test.
    results: BTreeMap<String, String>,
    /// The first words of each failed test.
    failures: BTreeMap<String, String>,
    /// The test whose words the next lines are.
    speaker: Option<String>,
}

/// Lines that are kept of what a failed test says: where it was, and what.
const LINES_KEPT: usize = 2;

impl Told {
    fn line(&mut self, line: &str) {
        let result = line.strip_prefix("test ").and_then(|rest| rest.rsplit_once(" ... "));
        if let Some((test, result)) = result {
            self.results.insert(test.to_owned(), result.to_owned());
        }
        if let Some(speaker) = line.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" stdout ----")) {
            self.speaker = Some(speaker.to_owned());
        } else if line == "failures:" {
            self.speaker = None;
        } else if let Some(speaker) = &self.speaker
            && !line.trim().is_empty()
        {
            let words = self.failures.entry(speaker.clone()).or_default();
            if words.lines().count() < LINES_KEPT {
                words.push_str(line.trim());
                words.push('\n');
            }
        }
    }

    fn of(&self, test: &str) -> (Outcome, String) {
        match self.results.get(test).map(String::as_str) {
            Some("ok") => (Outcome::Passed, String::new()),
            Some(result) if result.starts_with("ignored") => {
                (Outcome::NotApplicable, "its authors have marked it as ignored".to_owned())
            }
            Some(_) => (Outcome::Failed, self.failures.get(test).cloned().unwrap_or_default()),
            None => (Outcome::Failed, "did not end in time".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_and_first_words_are_read() {
        let mut told = Told::default();
        let text = "running 3 tests\ntest test_topics ... ok\ntest test_groups ... FAILED\n\
                    test utils::tests::test_populate_topic ... ok\n\nfailures:\n\n\
                    ---- test_groups stdout ----\n\nthread 'test_groups' panicked at tests/test_admin.rs:5:9:\n\
                    no group\nnote: run with\n\nfailures:\n    test_groups\n";
        text.lines().for_each(|line| told.line(line));
        assert_eq!(told.of("test_topics"), (Outcome::Passed, String::new()));
        assert_eq!(told.of("utils::tests::test_populate_topic").0, Outcome::Passed);
        let (outcome, words) = told.of("test_groups");
        assert_eq!(outcome, Outcome::Failed);
        assert_eq!(words, "thread 'test_groups' panicked at tests/test_admin.rs:5:9:\nno group\n");
        assert_eq!(told.of("test_configs").0, Outcome::Failed);
        assert_eq!(test_name("test_admin::utils::tests::a"), "utils::tests::a");
    }
}
