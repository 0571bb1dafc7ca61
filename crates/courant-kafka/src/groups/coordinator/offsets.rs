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

/// Hears what became of it.
type Done = Box<dyn FnOnce(Result<(), GroupError>) + Send>;

/// A client that commits remembers a group that is gone.
fn gone(code: ErrorCode) -> ErrorCode {
    match code {
        ErrorCode::GROUP_ID_NOT_FOUND => ErrorCode::ILLEGAL_GENERATION,
        code => code,
    }
}

impl Coordinator {
    /// Checks a commit and hands it to the log, in the order in which the group is asked.
    pub(crate) fn commit(&self, group: &str, commit: Commit) -> Result<Kept, ErrorCode> {
        let Commit { who, offsets } = commit;
        let committed = self.by_committer(group, who.generation < 0, &who, |done| {
            self.log.commit_offsets(group.to_owned(), offsets, done);
        });
        committed.map_err(gone)
    }

    /// Takes back what was committed, for who may commit. `None`: there is no group, and nothing was.
    pub(crate) fn take_back(
        &self,
        group: &str,
        who: &Identity,
        partitions: Vec<PartitionId>,
    ) -> Result<Option<Kept>, ErrorCode> {
        let taken_back = self.by_committer(group, false, who, |done| {
            self.log.delete_offsets(group.to_owned(), partitions, done);
        });
        match taken_back {
            Ok(kept) => Ok(Some(kept)),
            Err(ErrorCode::GROUP_ID_NOT_FOUND) if who.generation < 0 => Ok(None),
            Err(code) => Err(gone(code)),
        }
    }

    /// Hands something to the log that only who may commit may do.
    fn by_committer(
        &self,
        group: &str,
        make: bool,
        who: &Identity,
        hand_over: impl FnOnce(Done),
    ) -> Result<Kept, ErrorCode> {
        let now = self.now();
        self.with(group, make, |cell, inner| -> Result<Kept, ErrorCode> {
            inner.group.may_commit(who, now.ms)?;
            self.watch(cell, inner);
            let (done, kept) = oneshot::channel();
            let committing = inner.committing.clone();
            hand_over(Box::new(move |result| {
                drop(committing);
                // The client may have gone; what it committed stays.
                let _ = done.send(result);
            }));
            Ok(kept)
        })?
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
