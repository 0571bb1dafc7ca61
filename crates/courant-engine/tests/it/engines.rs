//! The engines of this crate.

use std::sync::Arc;

use courant_engine::{Engine, OpenError, open};
use tempfile::TempDir;

use crate::place::{Place, still};

/// Opens an engine whose date stands still.
pub(crate) async fn opened(url: &str) -> Result<Arc<dyn Engine>, OpenError> {
    open(&url.parse().expect("a URL"), still()).await
}

/// The URL of an engine in a directory.
pub(crate) fn embedded_in(dir: &TempDir) -> String {
    format!("embedded:{}", dir.path().display())
}

pub(crate) async fn memory() -> Place {
    Place::new(opened("memory:").await.expect("opens"), true, None)
}

pub(crate) async fn embedded() -> Place {
    let dir = TempDir::new().expect("a directory");
    let engine = opened(&embedded_in(&dir)).await.expect("opens");
    Place::new(engine, true, Some(Box::new(dir)))
}
