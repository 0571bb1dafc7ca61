//! Asking about consumer groups and changing what they have committed.

use std::collections::{BTreeMap, BTreeSet};

use courant_core::consumer::COPY_OF_PROGRESS;

use super::backoff::Backoff;
use super::{Address, AdminError, Client, Refusal};
use crate::wire::messages::offset_commit::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use crate::wire::messages::offset_fetch::OffsetFetchRequestGroup;
use crate::wire::messages::{
    DeleteGroupsRequest, DescribeGroupsRequest, FindCoordinatorRequest, ListGroupsRequest,
    OffsetCommitRequest, OffsetFetchRequest, OffsetFetchResponse,
};
use crate::wire::{ErrorCode, Request};

/// A group in the list of all groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupListing {
    /// Its name.
    pub name: String,
    /// What it is a group of; `consumer` for consumers of topics, empty when nobody was ever in it.
    pub protocol_type: String,
    /// Kafka's name of its state; empty from servers before Kafka 2.6.
    pub state: String,
}

/// A group and its members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupDescription {
    /// Its name.
    pub name: String,
    /// Kafka's name of its state.
    pub state: String,
    /// What it is a group of.
    pub protocol_type: String,
    /// The way to assign that it has chosen; empty while it has not.
    pub protocol: String,
    /// Its members.
    pub members: Vec<GroupMember>,
}

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMember {
    /// The id that the coordinator knows it by.
    pub id: String,
    /// The name that it has over restarts, if it has one.
    pub instance_id: Option<String>,
    /// What its client calls itself.
    pub client_id: String,
    /// Where its client connects from.
    pub host: String,
    /// What it is assigned, by topic; empty when that is not of the consumer protocol.
    pub assigned: BTreeMap<String, Vec<i32>>,
}

/// Committed offsets by topic and partition.
pub type CommittedOffsets = BTreeMap<String, BTreeMap<i32, i64>>;

/// The first version of OffsetFetch with several groups.
const SEVERAL_GROUPS_FROM: i16 = 8;
/// The first version of FindCoordinator with several keys.
const SEVERAL_KEYS_FROM: i16 = 4;

impl Client {
    /// All groups that any server coordinates, by name.
    ///
    /// # Errors
    /// No answer, or a refusal.
    pub async fn groups(&mut self) -> Result<Vec<GroupListing>, AdminError> {
        self.metadata(super::Ask::Nodes, false).await?;
        let mut groups = Vec::new();
        for address in self.nodes.values().cloned().collect::<Vec<_>>() {
            let response = self.call(&address, i16::MAX, |_| ListGroupsRequest::default()).await?;
            check(response.error_code)?;
            groups.extend(response.groups.into_iter().map(|group| GroupListing {
                name: group.group_id,
                protocol_type: group.protocol_type,
                state: group.group_state,
            }));
        }
        groups.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(groups)
    }

    /// One group with its members.
    ///
    /// # Errors
    /// [`AdminError::UnknownGroup`] when nobody knows it.
    pub async fn group(&mut self, name: &str) -> Result<GroupDescription, AdminError> {
        let make =
            |_| DescribeGroupsRequest { groups: vec![name.to_owned()], ..DescribeGroupsRequest::default() };
        let response = self.ask_coordinator(name, make, |response| {
            response.groups.first().map_or(ErrorCode::NONE, |group| ErrorCode(group.error_code))
        });
        let group = response.await?.groups.into_iter().next();
        // Before version 6 a group that is not there is one that is dead.
        let group = group.filter(|group| group.group_state != "Dead");
        let group = group.ok_or_else(|| AdminError::UnknownGroup { group: name.to_owned() })?;
        let members = group.members.into_iter().map(|member| GroupMember {
            id: member.member_id,
            instance_id: member.group_instance_id,
            client_id: member.client_id,
            host: member.client_host,
            assigned: super::assignment::decode(&member.member_assignment).unwrap_or_default(),
        });
        Ok(GroupDescription {
            name: group.group_id,
            state: group.group_state,
            protocol_type: group.protocol_type,
            protocol: group.protocol_data,
            members: members.collect(),
        })
    }

    /// The topics for which a group has committed copies, of one partition at least: it is a service, whose progress
    /// is in its own database, and setting them changes nothing.
    ///
    /// # Errors
    /// As [`Client::committed`].
    pub async fn copied(&mut self, group: &str) -> Result<BTreeSet<String>, AdminError> {
        let response = self.offsets_of(group).await?;
        let is_copy = |metadata: &Option<String>| metadata.as_deref() == Some(COPY_OF_PROGRESS);
        let mut copied = BTreeSet::new();
        for topic in &response.topics {
            if topic.partitions.iter().any(|one| is_copy(&one.metadata)) {
                copied.insert(topic.name.clone());
            }
        }
        for topic in response.groups.iter().flat_map(|group| &group.topics) {
            if topic.partitions.iter().any(|one| is_copy(&one.metadata)) {
                copied.insert(topic.name.clone());
            }
        }
        Ok(copied)
    }

    async fn offsets_of(&mut self, group: &str) -> Result<OffsetFetchResponse, AdminError> {
        let make = |version: i16| {
            if version >= SEVERAL_GROUPS_FROM {
                let group = OffsetFetchRequestGroup {
                    group_id: group.to_owned(),
                    topics: None,
                    member_epoch: -1,
                    ..OffsetFetchRequestGroup::default()
                };
                return OffsetFetchRequest { groups: vec![group], ..OffsetFetchRequest::default() };
            }
            let group_id = group.to_owned();
            OffsetFetchRequest { group_id, topics: None, ..OffsetFetchRequest::default() }
        };
        let response = self.ask_coordinator(group, make, |response| {
            let of_group = response.groups.first().map(|group| group.error_code);
            ErrorCode(of_group.unwrap_or(response.error_code))
        });
        response.await
    }

    /// Everything that a group has committed.
    ///
    /// # Errors
    /// No answer, or a refusal. A group that nobody knows has committed nothing.
    pub async fn committed(&mut self, group: &str) -> Result<CommittedOffsets, AdminError> {
        let response = self.offsets_of(group).await?;
        let mut committed = CommittedOffsets::new();
        let mut put = |topic: &str, partition: i32, offset: i64| {
            if offset >= 0 {
                committed.entry(topic.to_owned()).or_default().insert(partition, offset);
            }
        };
        for topic in &response.topics {
            let partitions = topic.partitions.iter();
            partitions.for_each(|one| put(&topic.name, one.partition_index, one.committed_offset));
        }
        for topic in response.groups.iter().flat_map(|group| &group.topics) {
            let partitions = topic.partitions.iter();
            partitions.for_each(|one| put(&topic.name, one.partition_index, one.committed_offset));
        }
        Ok(committed)
    }

    /// Commits offsets for a group that has no members.
    ///
    /// # Errors
    /// [`AdminError::GroupInUse`] when it has some, or a refusal.
    pub async fn commit(&mut self, group: &str, offsets: &CommittedOffsets) -> Result<(), AdminError> {
        self.commit_as(group, offsets, (-1, String::new())).await
    }

    /// Commits offsets as a member of a generation.
    pub(super) async fn commit_as(
        &mut self,
        group: &str,
        offsets: &CommittedOffsets,
        (generation, member_id): (i32, String),
    ) -> Result<(), AdminError> {
        let make = |_| OffsetCommitRequest {
            group_id: group.to_owned(),
            generation_id_or_member_epoch: generation,
            member_id: member_id.clone(),
            retention_time_ms: -1,
            topics: offsets
                .iter()
                .map(|(topic, partitions)| OffsetCommitRequestTopic {
                    name: topic.clone(),
                    partitions: partitions.iter().map(place).collect(),
                })
                .collect(),
            ..OffsetCommitRequest::default()
        };
        let first_error = |response: &<OffsetCommitRequest as Request>::Response| {
            let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
            let codes = partitions.map(|partition| ErrorCode(partition.error_code));
            codes.into_iter().find(|code| !code.is_none()).unwrap_or(ErrorCode::NONE)
        };
        self.ask_coordinator(group, make, first_error).await.map(drop)
    }

    /// Forgets a group without members, and all that it has committed.
    ///
    /// # Errors
    /// [`AdminError::UnknownGroup`], [`AdminError::GroupInUse`], or a refusal.
    pub async fn delete_group(&mut self, group: &str) -> Result<(), AdminError> {
        let make = |_| DeleteGroupsRequest { groups_names: vec![group.to_owned()] };
        let result = self.ask_coordinator(group, make, |response| {
            response.results.first().map_or(ErrorCode::NONE, |result| ErrorCode(result.error_code))
        });
        result.await.map(drop)
    }

    /// Asks the coordinator of a group, and again when another node has become it.
    pub(super) async fn ask_coordinator<R: Request>(
        &mut self,
        group: &str,
        make: impl Fn(i16) -> R,
        code_of: impl Fn(&R::Response) -> ErrorCode,
    ) -> Result<R::Response, AdminError> {
        let mut backoff = Backoff::within(self.timeout());
        loop {
            let code = match self.coordinator(group).await? {
                Err(code) => code,
                Ok(address) => {
                    let response = self.call(&address, i16::MAX, &make).await?;
                    match code_of(&response) {
                        ErrorCode::NONE => return Ok(response),
                        code => code,
                    }
                }
            };
            let moves = [
                ErrorCode::COORDINATOR_NOT_AVAILABLE,
                ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
                ErrorCode::NOT_COORDINATOR,
            ];
            if !moves.contains(&code) || !backoff.pause().await {
                return Err(refused(group, code));
            }
        }
    }

    /// Who coordinates a group, or why nobody does for now.
    async fn coordinator(&mut self, group: &str) -> Result<Result<Address, ErrorCode>, AdminError> {
        let make = |version: i16| match version >= SEVERAL_KEYS_FROM {
            true => FindCoordinatorRequest {
                coordinator_keys: vec![group.to_owned()],
                ..FindCoordinatorRequest::default()
            },
            false => FindCoordinatorRequest { key: group.to_owned(), ..FindCoordinatorRequest::default() },
        };
        let response = self.call_any(make).await?;
        let (code, host, port) = match response.coordinators.into_iter().next() {
            Some(found) => (found.error_code, found.host, found.port),
            None => (response.error_code, response.host, response.port),
        };
        match u16::try_from(port) {
            Ok(port) if code == 0 => Ok(Ok(Address { host, port })),
            _ => Ok(Err(ErrorCode(code))),
        }
    }
}

fn place((partition, offset): (&i32, &i64)) -> OffsetCommitRequestPartition {
    OffsetCommitRequestPartition {
        partition_index: *partition,
        committed_offset: *offset,
        committed_leader_epoch: -1,
        committed_metadata: Some(String::new()),
    }
}

fn check(error_code: i16) -> Result<(), AdminError> {
    match error_code {
        0 => Ok(()),
        code => Err(AdminError::Refused(Refusal::new(code, None))),
    }
}

/// The refusals that have a name of their own.
fn refused(group: &str, code: ErrorCode) -> AdminError {
    let group = group.to_owned();
    match code {
        ErrorCode::GROUP_ID_NOT_FOUND => AdminError::UnknownGroup { group },
        // Only members may commit, or the group is not empty.
        ErrorCode::UNKNOWN_MEMBER_ID | ErrorCode::NON_EMPTY_GROUP => AdminError::GroupInUse { group },
        code => AdminError::Refused(Refusal::new(code.0, None)),
    }
}
