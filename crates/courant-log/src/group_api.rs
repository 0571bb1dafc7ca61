//! Consumer groups as the log's users see them.

use std::sync::PoisonError;

use bytes::Bytes;

use crate::error::GroupError;
use crate::groups::GroupChange;
use crate::queue::Command;
use crate::{CommittedOffset, Log, PartitionId, StoredGroup};

impl Log {
    /// Remembers how far a group has come. `done` is called once that is as durable as an event, or
    /// was refused. Partitions that do not exist are left out.
    pub fn commit_offsets(
        &self,
        group: String,
        offsets: Vec<(PartitionId, CommittedOffset)>,
        done: impl FnOnce(Result<(), GroupError>) + Send + 'static,
    ) {
        self.change_group(group, GroupChange::Commit(offsets), done);
    }

    /// Keeps a coordinator's state of a group in the place of what it stored before.
    pub fn store_group(
        &self,
        group: String,
        state: Bytes,
        done: impl FnOnce(Result<(), GroupError>) + Send + 'static,
    ) {
        self.change_group(group, GroupChange::Store(state), done);
    }

    /// Forgets what a group has committed for these partitions.
    pub fn delete_offsets(
        &self,
        group: String,
        partitions: Vec<PartitionId>,
        done: impl FnOnce(Result<(), GroupError>) + Send + 'static,
    ) {
        self.change_group(group, GroupChange::DeleteOffsets(partitions), done);
    }

    /// Forgets a group and all that it has committed. One that does not exist is forgotten already.
    pub fn delete_group(&self, group: String, done: impl FnOnce(Result<(), GroupError>) + Send + 'static) {
        self.change_group(group, GroupChange::Delete, done);
    }

    fn change_group(
        &self,
        name: String,
        change: GroupChange,
        done: impl FnOnce(Result<(), GroupError>) + Send + 'static,
    ) {
        match change.check(&name) {
            Ok(()) => self.submit(Command::ChangeGroup { name, change, done: Box::new(done) }),
            Err(error) => done(Err(error)),
        }
    }

    /// A group as it is durable now.
    #[must_use]
    pub fn group(&self, name: &str) -> Option<StoredGroup> {
        self.inner.groups.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// Whether something of a group is durable now. [`Log::group`] copies all of it.
    #[must_use]
    pub fn has_group(&self, name: &str) -> bool {
        self.inner.groups.read().unwrap_or_else(PoisonError::into_inner).get(name).is_some()
    }

    /// What a group has committed for one partition.
    #[must_use]
    pub fn committed_offset(&self, group: &str, partition: PartitionId) -> Option<CommittedOffset> {
        let groups = self.inner.groups.read().unwrap_or_else(PoisonError::into_inner);
        groups.get(group)?.offsets.get(&partition).cloned()
    }

    /// The names of all groups, sorted.
    #[must_use]
    pub fn groups(&self) -> Vec<String> {
        let groups = self.inner.groups.read().unwrap_or_else(PoisonError::into_inner);
        groups.iter().map(|(name, _)| name.to_owned()).collect()
    }
}
