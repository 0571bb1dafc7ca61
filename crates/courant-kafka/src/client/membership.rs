//! A member of a consumer group, with the classic protocol: it reads one topic, assigns by `range`, and
//! leads if it is told to.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::assignment::{self, Assignment};
use super::{AdminError, Client, CommittedOffsets, Refusal};
use crate::wire::ErrorCode;
use crate::wire::messages::join_group::{JoinGroupRequestProtocol, JoinGroupResponseMember};
use crate::wire::messages::leave_group::MemberIdentity;
use crate::wire::messages::sync_group::SyncGroupRequestAssignment;
use crate::wire::messages::{
    HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, SyncGroupRequest,
};

/// Silence after which the coordinator takes the member for dead.
const SESSION: Duration = Duration::from_secs(45);
/// How often the member says that it lives.
pub const HEARTBEAT_EVERY: Duration = Duration::from_secs(3);
/// Time to come back in a rebalance.
const REBALANCE: Duration = Duration::from_secs(60);

/// The first version of LeaveGroup with several members.
const SEVERAL_FROM: i16 = 3;

/// A member and what it is assigned.
#[derive(Debug)]
pub struct Membership {
    client: Client,
    group: String,
    topic: String,
    member_id: String,
    generation: i32,
    /// The partitions of the topic that this member reads.
    pub partitions: Vec<i32>,
}

/// What a heartbeat says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Everything is as it was.
    Member,
    /// The partitions are to be shared anew: commit, then [`Membership::rejoin`].
    Rebalancing,
}

impl Membership {
    /// Joins a group to read a topic; returns when the group has shared its partitions.
    ///
    /// # Errors
    /// The server's reason to refuse, or no answer.
    pub async fn join(client: Client, group: &str, topic: &str) -> Result<Self, AdminError> {
        let mut member = Self {
            client,
            group: group.to_owned(),
            topic: topic.to_owned(),
            member_id: String::new(),
            generation: -1,
            partitions: Vec::new(),
        };
        member.rejoin().await?;
        Ok(member)
    }

    /// Takes part in a rebalance, until one is complete.
    ///
    /// # Errors
    /// As [`Self::join`].
    pub async fn rejoin(&mut self) -> Result<(), AdminError> {
        loop {
            let joined = self.ask_to_join().await?;
            match ErrorCode(joined.error_code) {
                ErrorCode::NONE => {}
                ErrorCode::MEMBER_ID_REQUIRED => {
                    self.member_id = joined.member_id;
                    continue;
                }
                ErrorCode::UNKNOWN_MEMBER_ID => {
                    self.member_id.clear();
                    continue;
                }
                ErrorCode::REBALANCE_IN_PROGRESS => continue,
                code => return Err(AdminError::Refused(Refusal::new(code.0, None))),
            }
            self.member_id = joined.member_id;
            self.generation = joined.generation_id;
            let assignments = match joined.leader == self.member_id {
                true => self.assign(joined.members).await?,
                false => Vec::new(),
            };
            if self.sync(assignments).await? {
                return Ok(());
            }
        }
    }

    async fn ask_to_join(&mut self) -> Result<JoinGroupResponse, AdminError> {
        let protocols = vec![JoinGroupRequestProtocol {
            name: "range".to_owned(),
            metadata: assignment::subscription(&self.topic),
        }];
        let (group, member_id) = (self.group.clone(), self.member_id.clone());
        let make = |_| JoinGroupRequest {
            group_id: group.clone(),
            session_timeout_ms: super::admin::timeout_ms(SESSION),
            rebalance_timeout_ms: super::admin::timeout_ms(REBALANCE),
            member_id: member_id.clone(),
            protocol_type: "consumer".to_owned(),
            protocols: protocols.clone(),
            ..JoinGroupRequest::default()
        };
        // What the answer says is looked at by the caller; only a coordinator that moves is waited for.
        self.client.ask_coordinator(&self.group, make, |answer| moving(answer.error_code)).await
    }

    /// What everyone gets, when this member leads.
    async fn assign(
        &mut self,
        members: Vec<JoinGroupResponseMember>,
    ) -> Result<Vec<SyncGroupRequestAssignment>, AdminError> {
        let members: BTreeMap<String, BTreeSet<String>> = members
            .into_iter()
            .map(|member| (member.member_id, assignment::subscribed(&member.metadata)))
            .collect();
        let topics: BTreeSet<&String> = members.values().flatten().collect();
        let mut partitions = BTreeMap::new();
        for name in topics {
            match self.client.topic(name, false).await {
                Ok(topic) => partitions.insert(name.clone(), topic.partitions.len()),
                // Somebody subscribes to what is not there yet.
                Err(AdminError::UnknownTopic { .. }) => continue,
                Err(error) => return Err(error),
            };
        }
        let assigned = assignment::range(&members, &partitions).into_iter();
        let assigned = assigned.map(|(member_id, of_member): (String, Assignment)| {
            SyncGroupRequestAssignment { member_id, assignment: assignment::encode(&of_member) }
        });
        Ok(assigned.collect())
    }

    /// False when the group rebalances again.
    async fn sync(&mut self, assignments: Vec<SyncGroupRequestAssignment>) -> Result<bool, AdminError> {
        let (group, member_id, generation) = (self.group.clone(), self.member_id.clone(), self.generation);
        let make = |_| SyncGroupRequest {
            group_id: group.clone(),
            generation_id: generation,
            member_id: member_id.clone(),
            protocol_type: Some("consumer".to_owned()),
            protocol_name: Some("range".to_owned()),
            assignments: assignments.clone(),
            ..SyncGroupRequest::default()
        };
        let answer =
            self.client.ask_coordinator(&self.group, make, |answer| moving(answer.error_code)).await?;
        match ErrorCode(answer.error_code) {
            ErrorCode::NONE => {
                let mut assigned = assignment::decode(&answer.assignment).unwrap_or_default();
                self.partitions = assigned.remove(&self.topic).unwrap_or_default();
                Ok(true)
            }
            ErrorCode::REBALANCE_IN_PROGRESS
            | ErrorCode::ILLEGAL_GENERATION
            | ErrorCode::UNKNOWN_MEMBER_ID => Ok(false),
            code => Err(AdminError::Refused(Refusal::new(code.0, None))),
        }
    }

    /// Says that the member lives; to be called every [`HEARTBEAT_EVERY`].
    ///
    /// # Errors
    /// The server's reason to refuse, or no answer.
    pub async fn heartbeat(&mut self) -> Result<Standing, AdminError> {
        let (group, member_id, generation) = (self.group.clone(), self.member_id.clone(), self.generation);
        let make = |_| HeartbeatRequest {
            group_id: group.clone(),
            generation_id: generation,
            member_id: member_id.clone(),
            ..HeartbeatRequest::default()
        };
        let answer =
            self.client.ask_coordinator(&self.group, make, |answer| moving(answer.error_code)).await?;
        match ErrorCode(answer.error_code) {
            ErrorCode::NONE => Ok(Standing::Member),
            ErrorCode::REBALANCE_IN_PROGRESS
            | ErrorCode::ILLEGAL_GENERATION
            | ErrorCode::UNKNOWN_MEMBER_ID => Ok(Standing::Rebalancing),
            code => Err(AdminError::Refused(Refusal::new(code.0, None))),
        }
    }

    /// What the group has committed for the topic, by partition.
    ///
    /// # Errors
    /// As [`Client::committed`].
    pub async fn committed(&mut self) -> Result<BTreeMap<i32, i64>, AdminError> {
        let mut committed = self.client.committed(&self.group).await?;
        Ok(committed.remove(&self.topic).unwrap_or_default())
    }

    /// Commits the next offsets to be read. False when the member is out and others read on from there.
    ///
    /// # Errors
    /// The server's reason to refuse, or no answer.
    pub async fn commit(&mut self, offsets: &BTreeMap<i32, i64>) -> Result<bool, AdminError> {
        let offsets = CommittedOffsets::from([(self.topic.clone(), offsets.clone())]);
        let as_member = (self.generation, self.member_id.clone());
        match self.client.commit_as(&self.group, &offsets, as_member).await {
            Ok(()) => Ok(true),
            Err(AdminError::GroupInUse { .. }) => Ok(false),
            Err(AdminError::Refused(refusal))
                if [ErrorCode::ILLEGAL_GENERATION, ErrorCode::REBALANCE_IN_PROGRESS]
                    .contains(&refusal.code) =>
            {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Leaves the group, so that the others need not wait for the session to end.
    ///
    /// # Errors
    /// No answer.
    pub async fn leave(mut self) -> Result<(), AdminError> {
        let (group, member_id) = (self.group.clone(), self.member_id.clone());
        let make = |version: i16| {
            let member = MemberIdentity { member_id: member_id.clone(), ..MemberIdentity::default() };
            match version >= SEVERAL_FROM {
                true => LeaveGroupRequest {
                    group_id: group.clone(),
                    members: vec![member],
                    ..LeaveGroupRequest::default()
                },
                false => LeaveGroupRequest {
                    group_id: group.clone(),
                    member_id: member_id.clone(),
                    ..LeaveGroupRequest::default()
                },
            }
        };
        // Whoever is out already has left.
        let group = self.group.clone();
        self.client.ask_coordinator(&group, make, |answer| moving(answer.error_code)).await.map(drop)
    }
}

/// The code, if it says that another node coordinates; none otherwise.
fn moving(error_code: i16) -> ErrorCode {
    let code = ErrorCode(error_code);
    let moves = [
        ErrorCode::COORDINATOR_NOT_AVAILABLE,
        ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
        ErrorCode::NOT_COORDINATOR,
    ];
    if moves.contains(&code) { code } else { ErrorCode::NONE }
}
