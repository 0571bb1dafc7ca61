//! Handing out assignments: the leader's, to everyone, once they are durable.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{Effect, Group, Identity, Member, Now, State, Storing, Ticket};
use crate::wire::ErrorCode;

/// A request for an assignment, and from the leader the assignments of all.
#[derive(Clone, Debug)]
pub(crate) struct Sync {
    pub(crate) who: Identity,
    /// What the client believes the group has agreed on; `None`: it does not say.
    pub(crate) protocol_type: Option<String>,
    pub(crate) protocol: Option<String>,
    pub(crate) assignments: BTreeMap<String, Bytes>,
}

/// One member's assignment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Synced {
    pub(crate) protocol_type: String,
    pub(crate) protocol: String,
    pub(crate) assignment: Bytes,
}

impl Group {
    /// A member wants its assignment. It is answered now, or when the leader has assigned and that is
    /// durable.
    pub(crate) fn sync(&mut self, ticket: Ticket, sync: Sync, now: Now) -> Vec<Effect> {
        let mut effects = Vec::new();
        if let Err(code) = self.try_sync(ticket, sync, now, &mut effects) {
            effects.push(Effect::Sync(ticket, Err(code)));
        }
        effects
    }

    fn try_sync(
        &mut self,
        ticket: Ticket,
        sync: Sync,
        now: Now,
        effects: &mut Vec<Effect>,
    ) -> Result<(), ErrorCode> {
        let id = self.member_of(&sync.who)?;
        let differs = |said: &Option<String>, is: &Option<String>| said.is_some() && said != is;
        if differs(&sync.protocol_type, &self.protocol_type) || differs(&sync.protocol, &self.protocol) {
            return Err(ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
        }
        let assigns = self.leader.as_ref() == Some(&id) && !self.is_storing();
        if assigns && matches!(self.state, State::Completing { .. }) {
            self.check_assignments(&sync.assignments)?;
        }
        let Some(member) = self.members.get_mut(&id) else {
            return Err(ErrorCode::UNKNOWN_MEMBER_ID);
        };
        match self.state {
            State::Preparing { .. } => Err(ErrorCode::REBALANCE_IN_PROGRESS),
            State::Stable => {
                member.heard_of(now.ms);
                member.has_synced = true;
                let assignment = member.assignment.clone();
                effects.push(Effect::Sync(ticket, Ok(self.synced(assignment))));
                Ok(())
            }
            State::Completing { .. } => {
                // An older request of the member that still waits is not waited for any more.
                member.refuse(ErrorCode::REBALANCE_IN_PROGRESS, effects);
                member.heard_of(now.ms);
                member.has_synced = true;
                member.syncing = Some(ticket);
                if assigns {
                    self.assign(sync.assignments);
                    let generation = self.generation;
                    let effect = self.store(Storing::Assignment { generation }, now);
                    effects.push(effect);
                }
                Ok(())
            }
            State::Empty | State::Dead => Err(ErrorCode::UNKNOWN_MEMBER_ID),
        }
    }

    /// Whether this generation's assignment is on its way to the disk.
    fn is_storing(&self) -> bool {
        let generation = self.generation;
        let of_this = |storing: &Storing| matches!(storing, Storing::Assignment { generation: of } if *of == generation);
        self.storing.values().any(of_this)
    }

    /// What is stored of a group has to fit into one entry of the journal.
    fn check_assignments(&self, assignments: &BTreeMap<String, Bytes>) -> Result<(), ErrorCode> {
        let assigned: usize = assignments.values().map(Bytes::len).sum();
        match self.bytes() + assigned > self.rules.bytes_max {
            true => Err(ErrorCode::GROUP_MAX_SIZE_REACHED),
            false => Ok(()),
        }
    }

    /// Assignments for members that are not there are nobody's.
    fn assign(&mut self, mut assignments: BTreeMap<String, Bytes>) {
        for (id, member) in &mut self.members {
            member.assignment = assignments.remove(id).unwrap_or_default();
        }
    }

    /// The assignment is durable, or could not be made so: then everyone has to come back.
    pub(super) fn assigned(&mut self, durable: bool, now: Now, effects: &mut Vec<Effect>) {
        if durable && let State::Completing { until_ms } = self.state {
            self.late_ms = self.members.values().any(|member| !member.has_synced).then_some(until_ms);
            self.state = State::Stable;
        }
        let ids: Vec<_> = self.members.keys().cloned().collect();
        for id in ids {
            let Some(member) = self.members.get_mut(&id) else { continue };
            let Some(ticket) = member.syncing.take() else { continue };
            member.heard_of(now.ms);
            let assignment = member.assignment.clone();
            let answer =
                if durable { Ok(self.synced(assignment)) } else { Err(ErrorCode::COORDINATOR_NOT_AVAILABLE) };
            effects.push(Effect::Sync(ticket, answer));
        }
        if !durable {
            self.rebalance(now, effects);
        }
    }

    /// Members that joined and never asked for their assignment are out: they hold partitions that
    /// nobody reads.
    pub(super) fn sync_is_over(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let late = |member: &Member| !member.has_synced;
        let late: Vec<_> =
            self.members.iter().filter(|(_, member)| late(member)).map(|(id, _)| id.clone()).collect();
        if !late.is_empty() {
            self.remove(&late, now, effects);
        } else if let State::Completing { .. } = self.state {
            // All of them wait for the disk.
            let until_ms = now.ms.saturating_add(self.rebalance_ms().max(1));
            self.state = State::Completing { until_ms };
        }
    }

    fn synced(&self, assignment: Bytes) -> Synced {
        Synced {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            protocol: self.protocol.clone().unwrap_or_default(),
            assignment,
        }
    }
}
