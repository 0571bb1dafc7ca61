//! The engines on the log of this process keep the contract.

use courant_conformance::{Opening, Subject, check};
use courant_engine::{EngineConfig, EngineUrl, open};

pub(crate) fn opening(url: String) -> Opening {
    Box::pin(async move {
        let url: EngineUrl = url.parse()?;
        Ok(open(&url, EngineConfig::system()).await?)
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory() {
    let report = check(&Subject::new("memory:", || opening("memory:".to_owned()))).await;
    report.assert_kept();
    // It keeps nothing, and says so; everything else is asked of it.
    assert!(report.left_out.iter().all(|name| name.starts_with("keeping::")), "{:?}", report.left_out);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn embedded() {
    let dir = tempfile::tempdir().expect("a directory");
    let url = format!("embedded:{}", dir.path().display());
    let report = check(&Subject::new("embedded:", move || opening(url.clone()))).await;
    report.assert_kept();
    assert_eq!(report.left_out, Vec::<&str>::new());
}
