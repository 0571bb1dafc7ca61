//! Consumer groups for whoever is no Kafka client, such as an HTTP API in the same process.

use std::collections::BTreeMap;

use courant_log::{CommittedOffset, GroupError, PartitionId};

use super::{Commit, Identity};
use crate::Broker;
use crate::client::assignment;
use crate::wire::ErrorCode;

/// A consumer group as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupView {
    /// As Kafka calls it: `Empty`, `Stable`, `PreparingRebalance` or `CompletingRebalance`.
    pub state: &'static str,
    /// `consumer` for consumers; empty where there was no member yet.
    pub protocol_type: String,
    /// How partitions are assigned, such as `range`.
    pub protocol: String,
    /// Its members, in the order of their ids.
    pub members: Vec<GroupMember>,
}

/// A member of a consumer group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMember {
    /// The id that the coordinator gave it.
    pub id: String,
    /// Of a static member.
    pub instance_id: Option<String>,
    /// What the client calls itself.
    pub client_id: String,
    /// Where it connects from.
    pub host: String,
    /// Partitions by topic, where it speaks the protocol of consumers.
    pub assigned: BTreeMap<String, Vec<i32>>,
}

/// Why a consumer group was not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeGroupError {
    /// There is no group of that name.
    #[error("the group does not exist")]
    NotFound,
    /// Its members would go on as before.
    #[error("the group has members; stop them first")]
    InUse,
    /// There are as many groups as there can be.
    #[error("there are too many groups; delete some")]
    TooMany,
    /// The log did not keep it.
    #[error(transparent)]
    Log(#[from] GroupError),
    /// The log went away before it answered.
    #[error("the log is stopping")]
    Stopped,
}

impl Broker {
    /// The names of all consumer groups, sorted.
    #[must_use]
    pub fn group_names(&self) -> Vec<String> {
        self.groups().list().into_keys().collect()
    }

    /// The group of that name, if there is one.
    #[must_use]
    pub fn describe_group(&self, name: &str) -> Option<GroupView> {
        let group = self.groups().describe(name)?;
        let mut members: Vec<_> = group
            .members
            .into_iter()
            .map(|member| GroupMember {
                id: member.member_id,
                instance_id: member.instance_id,
                client_id: member.client_id,
                host: member.client_host,
                assigned: assignment::decode(&member.assignment).unwrap_or_default(),
            })
            .collect();
        members.sort_by(|a, b| a.id.cmp(&b.id));
        let (protocol_type, protocol) = (group.protocol_type, group.protocol);
        Some(GroupView { state: group.state, protocol_type, protocol, members })
    }

    /// Says where a group without members goes on. One that does not exist is made by it. Partitions
    /// that do not exist are left out.
    ///
    /// # Errors
    /// See [`ChangeGroupError`].
    pub async fn commit_for_group(
        &self,
        name: &str,
        offsets: Vec<(PartitionId, CommittedOffset)>,
    ) -> Result<(), ChangeGroupError> {
        // Nobody of a generation: only a group without members takes that.
        let who = Identity { generation: -1, ..Identity::default() };
        let kept = self.groups().commit(name, Commit { who, offsets }).map_err(refused)?;
        Ok(kept.await.map_err(|_| ChangeGroupError::Stopped)??)
    }

    /// Forgets a group without members, and all that it has committed.
    ///
    /// # Errors
    /// See [`ChangeGroupError`].
    pub async fn delete_group(&self, name: &str) -> Result<(), ChangeGroupError> {
        let kept = self.groups().delete(name).map_err(refused)?;
        Ok(kept.await.map_err(|_| ChangeGroupError::Stopped)??)
    }
}

/// What the coordinator's refusals mean for who is no member.
fn refused(code: ErrorCode) -> ChangeGroupError {
    match code {
        ErrorCode::GROUP_ID_NOT_FOUND => ChangeGroupError::NotFound,
        ErrorCode::GROUP_MAX_SIZE_REACHED => ChangeGroupError::TooMany,
        _ => ChangeGroupError::InUse,
    }
}
