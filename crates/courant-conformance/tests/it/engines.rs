//! The engines on the log of this process keep the contract.

use courant_conformance::{Opening, Report, Subject, assert_listed, check};
use courant_engine::{EngineConfig, EngineUrl, open};

const PAGE: &str = include_str!("../../../../docs/guide/framework/engines.md");

/// Neither of them says that it could do this, and a service that needs it is refused.
const NOT_SAID: [&str; 2] = [
    "publishing::an_event_that_comes_again_is_stored_once",
    "groups::members_in_several_processes_share_the_partitions",
];

pub(crate) fn opening(url: String) -> Opening {
    Box::pin(async move {
        let url: EngineUrl = url.parse()?;
        Ok(open(&url, EngineConfig::system()).await?)
    })
}

async fn held(listed: &str, url: String) -> Report {
    let engine = opening(url.clone()).await.expect("opens");
    assert_listed(PAGE, listed, &engine.capabilities());
    engine.close().await;
    let report = check(&Subject::new(listed, move || opening(url.clone()))).await;
    report.assert_kept();
    report
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory() {
    let report = held("memory:", "memory:".to_owned()).await;
    // It keeps nothing either, and says so; everything else is asked of it.
    let mut left_out = report.left_out.iter();
    assert!(
        left_out.all(|name| name.starts_with("keeping::") || NOT_SAID.contains(name)),
        "{:?}",
        report.left_out
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn embedded() {
    let dir = tempfile::tempdir().expect("a directory");
    let report = held("embedded:", format!("embedded:{}", dir.path().display())).await;
    assert_eq!(report.left_out, NOT_SAID);
}
