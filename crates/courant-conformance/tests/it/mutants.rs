//! The scenarios are judged by engines that lie: each lie is seen by the scenarios that are there because
//! of it, and a scenario that sees no lie goes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use courant_conformance::{Report, Subject, check, check_some, scenarios};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::engines::opening;
use crate::liar::Liar;
use crate::lies::{LIES, Lie};

/// What a lie keeps from coming is waited for this long.
const PATIENCE: Duration = Duration::from_secs(1);
/// Engines that lie at the same time. Most of their time is waiting.
const AT_ONCE: usize = 6;

/// An engine with one lie: in a directory where it has to be opened again, otherwise in memory.
fn subject(lie: Lie, in_files: bool) -> Subject {
    let dir = Arc::new(tempfile::tempdir().expect("a directory"));
    let opened = Arc::new(AtomicU32::new(0));
    Subject::new(format!("{lie:?}"), move || {
        let (dir, opened) = (dir.clone(), opened.clone());
        Box::pin(async move {
            let before = opened.fetch_add(1, Ordering::SeqCst);
            let name = if lie == Lie::ForgetsEverything { before.to_string() } else { "log".to_owned() };
            let in_dir = format!("embedded:{}", dir.path().join(name).display());
            let inner = opening(if in_files { in_dir } else { "memory:".to_owned() }).await?;
            Ok(Liar::around(inner, lie, before))
        })
    })
}

/// The wrapper without a lie keeps every promise: what the others break is broken by their lies.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_tells_the_truth_keeps_everything() {
    for in_files in [false, true] {
        check(&subject(Lie::Truth, in_files)).await.assert_kept();
    }
}

/// What is asked of an engine that compares ids can be kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_compares_ids_stores_what_comes_again_once() {
    let name = "publishing::an_event_that_comes_again_is_stored_once";
    let report = check_some(&subject(Lie::TruthAboutIds, false), |asked| asked == name).await;
    report.assert_kept();
    assert_eq!(report.kept, [name]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_lie_is_seen_and_every_scenario_sees_one() {
    let permits = Arc::new(Semaphore::new(AT_ONCE));
    let mut checks = JoinSet::new();
    for (lie, seen_by) in LIES {
        let permits = permits.clone();
        checks.spawn(async move {
            let _permit = permits.acquire().await.expect("open");
            let subject = subject(*lie, lie.needs_storage()).patience(PATIENCE);
            (*seen_by, check_some(&subject, |name| seen_by.contains(&name)).await)
        });
    }
    let mut useful: BTreeSet<&str> = BTreeSet::new();
    while let Some(checked) = checks.join_next().await {
        let (seen_by, report): (&[&str], Report) = checked.expect("checks");
        let broken: BTreeSet<&str> = report.broken.iter().map(|(name, _)| *name).collect();
        let expected: BTreeSet<&str> = seen_by.iter().copied().collect();
        assert_eq!(broken, expected, "{}: {:?}", report.subject, report.kept);
        useful.extend(seen_by);
    }
    let superfluous: Vec<&str> =
        scenarios().iter().map(|scenario| scenario.name()).filter(|name| !useful.contains(name)).collect();
    assert!(superfluous.is_empty(), "these see no lie: give them one, or take them out: {superfluous:?}");
}

/// Each lie stands in the table once, and there are enough of them.
#[test]
fn no_lie_is_told_twice() {
    for (at, (lie, seen_by)) in LIES.iter().enumerate() {
        assert!(!seen_by.is_empty(), "nobody sees {lie:?}");
        assert!(LIES[at + 1..].iter().all(|(other, _)| other != lie), "{lie:?} is there twice");
    }
    let names: BTreeSet<_> = scenarios().iter().map(|scenario| scenario.name()).collect();
    assert_eq!(names.len(), scenarios().len(), "names are told once");
    assert!(LIES.len() >= 15 && names.len() >= 60, "{} lies, {} scenarios", LIES.len(), names.len());
}
