//! Topics as the log's users change them.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use uuid::Uuid;

use crate::Log;
use crate::catalog::{Catalog, NewTopic, Topic};
use crate::error::{AddPartitionsError, AlterTopicError, CreateTopicError, DeleteTopicError};
use crate::queue::Command;

impl Log {
    /// As [`Log::catalog`], for who only looks something up: nothing is counted up and down for it, which many threads
    /// would do at the same place. Changes of topics wait for `look`, so it is short, and asks the log for nothing.
    pub fn with_catalog<T>(&self, look: impl FnOnce(&Catalog) -> T) -> T {
        let guard = self.inner.catalog.read().unwrap_or_else(PoisonError::into_inner);
        let catalog: &Catalog = &guard;
        look(catalog)
    }

    /// How often topics have changed since the log was opened: another number than before whenever a change of a topic
    /// was answered meanwhile, or somebody has seen it in the catalog. What was found in the catalog after this was
    /// asked holds until the number is another one, so that nobody has to look again. Asking changes nothing that
    /// threads share.
    #[must_use]
    pub fn catalog_changes(&self) -> u64 {
        self.inner.catalog_changes.load(Ordering::Acquire)
    }

    /// Creates a topic. `done` is called once that is durable, or was refused.
    pub fn create_topic(
        &self,
        new: NewTopic,
        done: impl FnOnce(Result<Arc<Topic>, CreateTopicError>) + Send + 'static,
    ) {
        self.submit(Command::CreateTopic { new, done: Box::new(done) });
    }

    /// Sets configs of a topic; `None` takes one back to its default. The caller has validated them.
    /// `done` is called once that is durable, or was refused.
    pub fn alter_topic(
        &self,
        id: Uuid,
        changes: Vec<(String, Option<String>)>,
        done: impl FnOnce(Result<Arc<Topic>, AlterTopicError>) + Send + 'static,
    ) {
        self.submit(Command::AlterTopic { id, seen: None, changes, done: Box::new(done) });
    }

    /// As [`Self::alter_topic`], for changes that follow from what the topic had set when it was `seen`. When
    /// its configs are others by now it is refused with [`AlterTopicError::Changed`], which has them: so
    /// nobody takes back what somebody else has set meanwhile.
    pub fn alter_topic_seen(
        &self,
        seen: Arc<Topic>,
        changes: Vec<(String, Option<String>)>,
        done: impl FnOnce(Result<Arc<Topic>, AlterTopicError>) + Send + 'static,
    ) {
        let id = seen.id;
        self.submit(Command::AlterTopic { id, seen: Some(seen), changes, done: Box::new(done) });
    }

    /// Adds partitions to a topic until it has `total`. `done` is called once that is durable, or was
    /// refused.
    pub fn add_partitions(
        &self,
        id: Uuid,
        total: u32,
        done: impl FnOnce(Result<Arc<Topic>, AddPartitionsError>) + Send + 'static,
    ) {
        self.submit(Command::AddPartitions { id, total, done: Box::new(done) });
    }

    /// Deletes a topic with all its events and everything that groups have committed for it. `done` is called
    /// once that is durable, or was refused.
    pub fn delete_topic(&self, id: Uuid, done: impl FnOnce(Result<(), DeleteTopicError>) + Send + 'static) {
        self.submit(Command::DeleteTopic { id, done: Box::new(done) });
    }
}
