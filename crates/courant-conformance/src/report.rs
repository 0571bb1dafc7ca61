//! Holding an engine against the scenarios, one after the other.

use std::sync::Arc;

use courant_engine::Engine;
use tokio::time::timeout;

use crate::{Failure, Scenario, Stage, Subject, scenarios};

/// A scenario that takes this many times the subject's patience has failed.
const SCENARIO_PATIENCE: u32 = 10;

/// Engines that are held against the scenarios side by side.
const SHARES: usize = 4;

/// What has become of each scenario, by its name.
#[derive(Debug)]
pub struct Report {
    /// The subject's name.
    pub subject: String,
    /// Scenarios whose promise was kept.
    pub kept: Vec<&'static str>,
    /// Scenarios whose promise was not kept, and what was seen.
    pub broken: Vec<(&'static str, Failure)>,
    /// Scenarios that ask for what the subject says that it cannot do.
    pub left_out: Vec<&'static str>,
}

impl Report {
    /// Panics unless every promise was kept.
    ///
    /// # Panics
    /// With a line for each promise that was not.
    #[track_caller]
    pub fn assert_kept(&self) {
        self.assert_kept_but(&[]);
    }

    /// Panics unless every promise was kept but these, and each of these was broken: a promise that is kept
    /// again is taken off the list.
    ///
    /// # Panics
    /// With a line for each promise that was not kept.
    #[track_caller]
    pub fn assert_kept_but(&self, these: &[&str]) {
        let mut broken = Vec::new();
        let mut lines = Vec::new();
        for (name, failure) in &self.broken {
            if these.contains(name) {
                broken.push(*name);
            } else {
                lines.push(format!("{name}: {failure}"));
            }
        }
        assert!(lines.is_empty(), "{} breaks {}:\n{}", self.subject, lines.len(), lines.join("\n"));
        assert!(!self.kept.is_empty(), "{}: nothing was asked of it", self.subject);
        assert_eq!(broken.len(), these.len(), "{} keeps more than was said: {broken:?}", self.subject);
    }

    /// Nothing was tried yet.
    pub(crate) fn of(subject: &str) -> Self {
        Self { subject: subject.to_owned(), kept: Vec::new(), broken: Vec::new(), left_out: Vec::new() }
    }

    pub(crate) fn count(&mut self, name: &'static str, outcome: Result<(), Failure>) {
        match outcome {
            Ok(()) => self.kept.push(name),
            Err(failure) => self.broken.push((name, failure)),
        }
    }
}

/// Holds an engine against every scenario.
pub async fn check(subject: &Subject) -> Report {
    check_some(subject, |_| true).await
}

/// As [`check`], on four engines at the same time, each of which has its share of the scenarios: for engines
/// on which scenarios wait most of the time.
pub async fn check_side_by_side(subject: &Subject) -> Report {
    let reports = tokio::join!(share(subject, 0), share(subject, 1), share(subject, 2), share(subject, 3));
    let mut whole = Report::of(subject.name());
    for report in <[Report; SHARES]>::from(reports) {
        whole.kept.extend(report.kept);
        whole.broken.extend(report.broken);
        whole.left_out.extend(report.left_out);
    }
    whole
}

/// Every fourth scenario.
async fn share(subject: &Subject, number: usize) -> Report {
    let names: Vec<&str> = scenarios().iter().map(Scenario::name).collect();
    check_some(subject, |name| {
        let place = names.iter().position(|known| *known == name);
        place.is_some_and(|place| place % SHARES == number)
    })
    .await
}

/// Holds an engine against the scenarios whose names are wanted.
pub async fn check_some(subject: &Subject, wanted: impl Fn(&str) -> bool) -> Report {
    let mut report = Report::of(subject.name());
    let mut engine: Option<Arc<dyn Engine>> = None;
    for scenario in scenarios().into_iter().filter(|scenario| wanted(scenario.name())) {
        let opened = match engine.take() {
            Some(engine) => Ok(engine),
            None => subject.open().await,
        };
        match opened {
            Ok(opened) if scenario.asks_for(&opened.capabilities()) => {
                let (outcome, left) = run(subject, scenario, opened).await;
                report.count(scenario.name(), outcome);
                engine = left;
            }
            Ok(opened) => {
                report.left_out.push(scenario.name());
                engine = Some(opened);
            }
            Err(failure) => report.count(scenario.name(), Err(failure)),
        }
    }
    if let Some(engine) = engine {
        // One that does not close has a scenario that says so.
        let _ = timeout(subject.patience_of(), engine.close()).await;
    }
    report
}

/// Runs one scenario. Gives back the engine if the next one can have it.
async fn run(
    subject: &Subject,
    scenario: Scenario,
    engine: Arc<dyn Engine>,
) -> (Result<(), Failure>, Option<Arc<dyn Engine>>) {
    let mut stage = Stage::new(subject.clone(), engine);
    let most = subject.patience_of() * SCENARIO_PATIENCE;
    let outcome = match timeout(most, scenario.run(&mut stage)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Failure::new(format!("it does not end within {most:?}"))),
    };
    (outcome, stage.into_engine())
}
