//! librdkafka's own acceptance suite: one number for each thing that it tests.
//!
//! Only the numbers that need a broker are run; the others test librdkafka against itself.

mod build;
mod cases;
mod kafka_tools;
mod output;
mod run;

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use super::broker::Broker;
use super::reasons::Reasons;
use super::results::Results;
use super::{Options, conclude, folder};
use cases::Number;
use run::Runs;

const SUITE: &str = "librdkafka";

/// Builds the suite and the server, and runs the numbers that are asked for.
pub(super) fn run(root: &Path, options: &Options) -> Result<bool> {
    let reasons = Reasons::load(root, SUITE)?;
    let built = build::build(root)?;
    let source = fs::read_to_string(built.folder.join("tests/test.c")).context("tests/test.c")?;
    let numbers = chosen(cases::numbers(&source)?, &options.only)?;
    let broker = Broker::chosen(root, options)?;
    let runs = Runs {
        built: &built,
        broker: &broker,
        reasons: &reasons,
        folder: folder(root, SUITE),
        by_name: !options.only.is_empty(),
    };
    let rows = runs.all(numbers, options.jobs);
    let results = Results { of: format!("librdkafka {}", built.version), rows };
    conclude(root, SUITE, &results, &reasons, options)
}

/// The numbers that are asked for; all when none is.
fn chosen(mut numbers: Vec<Number>, only: &[String]) -> Result<Vec<Number>> {
    for wanted in only {
        let is_there = numbers.iter().any(|number| number.number == *wanted);
        ensure!(is_there, "the suite has no number {wanted} that needs a broker");
    }
    if !only.is_empty() {
        numbers.retain(|number| only.contains(&number.number));
    }
    Ok(numbers)
}
