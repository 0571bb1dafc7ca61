//! What is tried out: how a store is opened.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use courant_engine::Boxed;
use courant_sql::Store;

use crate::Failure;

/// A store that is being opened.
pub type OpeningStore<S> = Boxed<'static, Result<S, Box<dyn Error + Send + Sync>>>;

/// Ends the transaction that is open on a connection, as a handler could: with the driver.
pub type EndingTransaction<S> =
    Arc<dyn for<'a> Fn(&'a mut <S as Store>::Connection) -> Boxed<'a, ()> + Send + Sync>;

/// Long enough that only what never ends has not ended by then.
const PATIENCE: Duration = Duration::from_secs(30);

/// A store to be tried out. Clones are the same one.
pub struct StoreSubject<S: Store> {
    name: Arc<str>,
    open: Arc<dyn Fn(u32) -> OpeningStore<S> + Send + Sync>,
    ending: Option<EndingTransaction<S>>,
    patience: Duration,
}

impl<S: Store> StoreSubject<S> {
    /// A store, by a name for the report and a way to open it. It is opened by a number: a new number is an
    /// empty database, without the framework's tables; a number that was opened before is the same database
    /// again, as the next process or another one would open it.
    pub fn new(
        name: impl Into<Arc<str>>,
        open: impl Fn(u32) -> OpeningStore<S> + Send + Sync + 'static,
    ) -> Self {
        Self { name: name.into(), open: Arc::new(open), ending: None, patience: PATIENCE }
    }

    /// Says how a transaction can be ended behind the store's back. Without it, that is not tried.
    #[must_use]
    pub fn ending(
        mut self,
        ending: impl for<'a> Fn(&'a mut S::Connection) -> Boxed<'a, ()> + Send + Sync + 'static,
    ) -> Self {
        self.ending = Some(Arc::new(ending));
        self
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn ending_of(&self) -> Option<&EndingTransaction<S>> {
        self.ending.as_ref()
    }

    pub(crate) fn patience_of(&self) -> Duration {
        self.patience
    }

    pub(crate) async fn open(&self, place: u32) -> Result<S, Failure> {
        (self.open)(place).await.map_err(|error| Failure::new(format!("the store does not open: {error}")))
    }
}

impl<S: Store> Clone for StoreSubject<S> {
    fn clone(&self) -> Self {
        let Self { name, open, ending, patience } = self;
        Self { name: name.clone(), open: open.clone(), ending: ending.clone(), patience: *patience }
    }
}

impl<S: Store> fmt::Debug for StoreSubject<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreSubject").field("name", &self.name).finish_non_exhaustive()
    }
}
