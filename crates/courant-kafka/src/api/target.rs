//! Finds the topic and the partition that a request means.

use std::sync::Arc;

use courant_log::{Catalog, PartitionId, Topic};
use uuid::Uuid;

use crate::wire::ErrorCode;

/// How a version of an API names topics. From the version that has them, ids are the only name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Naming {
    ByName,
    ById,
}

impl Naming {
    /// `first_with_ids`: the first version of the API whose topics are ids (KIP-516).
    pub(super) fn of(version: i16, first_with_ids: i16) -> Self {
        if version >= first_with_ids { Self::ById } else { Self::ByName }
    }

    /// The error for a topic that is not there (any more).
    pub(super) fn unknown(self) -> ErrorCode {
        match self {
            Self::ByName => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            Self::ById => ErrorCode::UNKNOWN_TOPIC_ID,
        }
    }

    pub(super) fn topic<'a>(
        self,
        catalog: &'a Catalog,
        name: &str,
        id: &Uuid,
    ) -> Result<&'a Arc<Topic>, ErrorCode> {
        match self {
            Self::ByName => catalog.by_name(name),
            Self::ById => catalog.by_id(id),
        }
        .ok_or(self.unknown())
    }
}

/// The log's partition behind partition number `index` of a topic.
pub(super) fn partition(topic: &Topic, index: i32) -> Result<PartitionId, ErrorCode> {
    usize::try_from(index)
        .ok()
        .and_then(|index| topic.partitions.get(index))
        .copied()
        .ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
}

/// Checks the leader epoch that a client believes in. There is one epoch, and negative means that
/// the client does not say.
pub(super) fn check_leader_epoch(claimed: i32) -> Result<(), ErrorCode> {
    if claimed > crate::broker::LEADER_EPOCH {
        return Err(ErrorCode::UNKNOWN_LEADER_EPOCH);
    }
    Ok(())
}
