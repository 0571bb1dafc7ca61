//! Committed offsets: checked against the group, kept by the log.

use std::collections::BTreeSet;

use courant_log::{CommittedOffset, GroupError, PartitionId};
use tokio::sync::oneshot;

use super::{Coordinator, Identity, from_log};
use crate::groups::subscription;
use crate::wire::ErrorCode;

/// What is to be committed, by whom.
#[derive(Debug)]
pub(crate) struct Commit {
    pub(crate) who: Identity,
    pub(crate) offsets: Vec<(PartitionId, CommittedOffset)>,
}

/// What is to be forgotten: partitions with the topics that they are of.
#[derive(Debug)]
pub(crate) struct DeleteOffsets {
    pub(crate) partitions: Vec<(String, PartitionId)>,
}

type Kept = oneshot::Receiver<Result<(), GroupError>>;

impl Coordinator {
    /// Checks a commit and hands it to the log, in the order in which the group is asked.
    pub(crate) fn commit(&self, group: &str, commit: Commit) -> Result<Kept, ErrorCode> {
        let is_simple = commit.who.generation < 0;
        let now = self.now();
        let committed = self.with(group, is_simple, |cell, inner| {
            inner.group.may_commit(&commit.who, now.ms)?;
            self.watch(cell, inner);
            let (done, kept) = oneshot::channel();
            let committing = inner.committing.clone();
            self.log.commit_offsets(group.to_owned(), commit.offsets, move |result| {
                drop(committing);
                // The client may have gone; what it committed stays.
                let _ = done.send(result);
            });
            Ok(kept)
        });
        match committed {
            Ok(kept) => kept,
            // The client remembers a group that is gone.
            Err(ErrorCode::GROUP_ID_NOT_FOUND) => Err(ErrorCode::ILLEGAL_GENERATION),
            Err(code) => Err(code),
        }
    }

    /// Waits until the log has kept it.
    pub(crate) async fn kept(kept: Kept) -> Result<(), ErrorCode> {
        match kept.await {
            Ok(result) => result.map_err(|failure| from_log(&failure)),
            Err(_) => Err(ErrorCode::COORDINATOR_NOT_AVAILABLE),
        }
    }

    /// Deletes a group that has no members, and all that it has committed.
    pub(crate) fn delete(&self, group: &str) -> Result<Kept, ErrorCode> {
        self.with(group, false, |cell, inner| {
            if !inner.group.is_empty() {
                return Err(ErrorCode::NON_EMPTY_GROUP);
            }
            if !self.exists(cell, inner) {
                return Err(ErrorCode::GROUP_ID_NOT_FOUND);
            }
            let (done, kept) = oneshot::channel();
            self.log.delete_group(group.to_owned(), move |result| drop(done.send(result)));
            inner.group.kill();
            Ok(kept)
        })?
    }

    /// Forgets offsets. Those of topics that members subscribe to are in use: one outcome for each.
    pub(crate) fn delete_offsets(
        &self,
        group: &str,
        delete: &DeleteOffsets,
    ) -> Result<(Vec<Result<(), ErrorCode>>, Kept), ErrorCode> {
        self.with(group, false, |cell, inner| {
            if !self.exists(cell, inner) {
                return Err(ErrorCode::GROUP_ID_NOT_FOUND);
            }
            if !inner.group.is_empty() && !inner.group.is_of_consumers() {
                return Err(ErrorCode::NON_EMPTY_GROUP);
            }
            let mut in_use = BTreeSet::new();
            for metadata in inner.group.subscriptions() {
                subscription::topics(metadata, &mut in_use);
            }
            let outcome = |(topic, _): &(String, PartitionId)| match in_use.contains(topic) {
                true => Err(ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC),
                false => Ok(()),
            };
            let outcomes: Vec<_> = delete.partitions.iter().map(outcome).collect();
            let free = delete.partitions.iter().zip(&outcomes).filter(|(_, outcome)| outcome.is_ok());
            let free = free.map(|((_, partition), _)| *partition).collect();
            let (done, kept) = oneshot::channel();
            self.log.delete_offsets(group.to_owned(), free, move |result| drop(done.send(result)));
            Ok((outcomes, kept))
        })?
    }
}
