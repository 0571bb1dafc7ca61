//! What is tried out: how an engine is opened, and how long it may take.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use courant_engine::{Boxed, Engine};

use crate::Failure;

/// An engine that is being opened.
pub type Opening = Boxed<'static, Result<Arc<dyn Engine>, Box<dyn Error + Send + Sync>>>;

/// An engine to be tried out. Clones are the same one.
#[derive(Clone)]
pub struct Subject {
    name: Arc<str>,
    open: Arc<dyn Fn() -> Opening + Send + Sync>,
    patience: Duration,
}

/// Long enough that only what never comes is not there by then.
const PATIENCE: Duration = Duration::from_secs(30);

impl Subject {
    /// An engine, by a name for the report and a way to open it. Where its records outlive it, opening it
    /// again must find them; it is closed before that. Where its groups are those of several processes, it is also
    /// opened beside the one that is open.
    pub fn new(name: impl Into<Arc<str>>, open: impl Fn() -> Opening + Send + Sync + 'static) -> Self {
        Self { name: name.into(), open: Arc::new(open), patience: PATIENCE }
    }

    /// Gives up after this time what has not come, instead of after 30 seconds.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn patience_of(&self) -> Duration {
        self.patience
    }

    pub(crate) async fn open(&self) -> Result<Arc<dyn Engine>, Failure> {
        (self.open)().await.map_err(|error| Failure::new(format!("the engine does not open: {error}")))
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subject")
            .field("name", &self.name)
            .field("patience", &self.patience)
            .finish_non_exhaustive()
    }
}
