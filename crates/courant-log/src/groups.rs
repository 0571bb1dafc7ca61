//! Consumer groups as the log keeps them: what they have committed, and the state that their
//! coordinator wants back after a restart.
//!
//! Like the catalog of topics they live in the journal and in checkpoints, so that a commit is as
//! durable as an event, and so that deleting a topic takes its commits away in the same entry.
//! Offsets belong to partition ids, which are never given twice: a topic that is created again under
//! the same name begins without commits.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::PartitionId;
use crate::error::GroupError;
use crate::limits::{COMMIT_METADATA_BYTES_MAX, GROUP_NAME_BYTES_MAX};

/// What a group has committed for one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The next offset to be consumed.
    pub offset: u64,
    /// Leader epoch of the event before it; -1: the client did not say.
    pub leader_epoch: i32,
    /// Whatever the client wanted to keep with it.
    pub metadata: String,
    /// When it was committed, in milliseconds since 1970.
    pub committed_ms: i64,
}

/// One group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredGroup {
    /// What the coordinator stored; empty for a group that only commits. The log does not read it.
    pub state: Bytes,
    /// What was committed for each partition that still exists.
    pub offsets: BTreeMap<PartitionId, CommittedOffset>,
}

/// A change of one group, as it is queued, journaled and replayed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum GroupChange {
    Commit(Vec<(PartitionId, CommittedOffset)>),
    Store(Bytes),
    DeleteOffsets(Vec<PartitionId>),
    Delete,
}

impl GroupChange {
    /// An upper bound of what the change takes in a journal entry, besides the group's name.
    pub(crate) fn bytes(&self) -> usize {
        const OFFSET_BYTES: usize = 8 + 8 + 4 + 8 + 2;
        match self {
            Self::Commit(offsets) => {
                let metadata: usize = offsets.iter().map(|(_, offset)| offset.metadata.len()).sum();
                4 + offsets.len() * OFFSET_BYTES + metadata
            }
            Self::Store(state) => 4 + state.len(),
            Self::DeleteOffsets(partitions) => 4 + partitions.len() * 8,
            Self::Delete => 0,
        }
    }

    /// Strings in a journal entry have a length of 16 bits.
    pub(crate) fn check(&self, group: &str) -> Result<(), GroupError> {
        let check = |bytes: usize, max: usize| match bytes > max {
            true => Err(GroupError::TooLarge { bytes, max }),
            false => Ok(()),
        };
        check(group.len(), GROUP_NAME_BYTES_MAX)?;
        match self {
            Self::Commit(offsets) => offsets
                .iter()
                .try_for_each(|(_, offset)| check(offset.metadata.len(), COMMIT_METADATA_BYTES_MAX)),
            _ => Ok(()),
        }
    }
}

/// All groups at one moment. Cloning shares them: a checkpoint takes them at a group boundary.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Groups(BTreeMap<Arc<str>, Arc<StoredGroup>>);

impl Groups {
    pub(crate) fn get(&self, name: &str) -> Option<&StoredGroup> {
        self.0.get(name).map(|group| &**group)
    }

    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &StoredGroup)> {
        self.0.iter().map(|(name, group)| (&**name, &**group))
    }

    pub(crate) fn insert(&mut self, name: &str, group: StoredGroup) {
        self.0.insert(name.into(), Arc::new(group));
    }

    pub(crate) fn apply(&mut self, name: &str, change: GroupChange) {
        match change {
            GroupChange::Commit(offsets) => self.entry(name).offsets.extend(offsets),
            GroupChange::Store(state) => self.entry(name).state = state,
            GroupChange::DeleteOffsets(partitions) => self.forget_in(name, &partitions),
            GroupChange::Delete => {
                self.0.remove(name);
            }
        }
    }

    /// Removes what every group has committed for partitions that are deleted.
    pub(crate) fn forget(&mut self, partitions: &[PartitionId]) {
        let commits = |group: &StoredGroup| partitions.iter().any(|id| group.offsets.contains_key(id));
        let having = self.0.iter().filter(|(_, group)| commits(group));
        let names: Vec<Arc<str>> = having.map(|(name, _)| name.clone()).collect();
        for name in names {
            self.forget_in(&name, partitions);
        }
    }

    /// A group that is left with nothing is none.
    fn forget_in(&mut self, name: &str, partitions: &[PartitionId]) {
        let Some(group) = self.0.get_mut(name).map(Arc::make_mut) else { return };
        for partition in partitions {
            group.offsets.remove(partition);
        }
        if group.state.is_empty() && group.offsets.is_empty() {
            self.0.remove(name);
        }
    }

    fn entry(&mut self, name: &str) -> &mut StoredGroup {
        Arc::make_mut(self.0.entry(name.into()).or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORDERS: PartitionId = PartitionId(1);
    const PAYMENTS: PartitionId = PartitionId(2);

    fn at(offset: u64) -> CommittedOffset {
        CommittedOffset { offset, leader_epoch: 0, metadata: "note".into(), committed_ms: 7 }
    }

    fn committed() -> Groups {
        let mut groups = Groups::default();
        groups.apply("billing", GroupChange::Commit(vec![(ORDERS, at(5)), (PAYMENTS, at(6))]));
        groups.apply("audit", GroupChange::Commit(vec![(ORDERS, at(7))]));
        groups
    }

    #[test]
    fn the_newest_commit_counts() {
        let mut groups = committed();
        groups.apply("billing", GroupChange::Commit(vec![(ORDERS, at(3))]));
        let billing = groups.get("billing").expect("it committed");
        assert_eq!(billing.offsets[&ORDERS].offset, 3);
        assert_eq!(billing.offsets[&PAYMENTS].offset, 6);
    }

    #[test]
    fn a_deleted_topic_takes_its_commits_away_and_groups_that_had_nothing_else() {
        let mut groups = committed();
        groups.forget(&[ORDERS]);
        assert_eq!(groups.get("audit"), None);
        assert_eq!(groups.get("billing").expect("it has payments").offsets.len(), 1);
        groups.apply("billing", GroupChange::Store(Bytes::from_static(b"members")));
        groups.apply("billing", GroupChange::DeleteOffsets(vec![PAYMENTS]));
        assert_eq!(groups.get("billing").expect("it has members").offsets.len(), 0);
        groups.apply("billing", GroupChange::Delete);
        assert_eq!(groups, Groups::default());
    }

    #[test]
    fn a_snapshot_does_not_change_with_the_groups() {
        let mut groups = committed();
        let before = groups.clone();
        groups.apply("billing", GroupChange::Commit(vec![(ORDERS, at(9))]));
        assert_eq!(before, committed());
    }

    #[test]
    fn what_no_entry_can_hold_is_refused() {
        let commit = |metadata: usize| {
            let offset = CommittedOffset { metadata: "x".repeat(metadata), ..at(1) };
            GroupChange::Commit(vec![(ORDERS, offset)])
        };
        assert_eq!(commit(COMMIT_METADATA_BYTES_MAX).check("g"), Ok(()));
        assert!(commit(COMMIT_METADATA_BYTES_MAX + 1).check("g").is_err());
        assert!(GroupChange::Delete.check(&"g".repeat(GROUP_NAME_BYTES_MAX + 1)).is_err());
    }
}
