//! The members of a group: what each one is, which of them leads, and how they choose a way to assign.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{Effect, Group, Identity, JoinRefused, State, Ticket};
use crate::groups::stored::StoredMember;
use crate::wire::ErrorCode;

/// Lengths and numbers of a member, and of one of its protocols, in what is stored of a group: a little
/// more than they take.
const MEMBER_BYTES: usize = 32;
const PROTOCOL_BYTES: usize = 8;

/// One way to assign, and what a member has to say for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Protocol {
    pub(crate) name: String,
    pub(crate) metadata: Bytes,
}

/// One member.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) instance_id: Option<String>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    pub(crate) session_ms: i64,
    pub(crate) rebalance_ms: i64,
    /// The best one first.
    pub(crate) protocols: Vec<Protocol>,
    pub(crate) assignment: Bytes,
    /// When it is taken for dead, unless it is heard of or waits for an answer.
    pub(crate) expires_ms: i64,
    pub(super) joining: Option<Ticket>,
    pub(super) syncing: Option<Ticket>,
    /// Whether it has asked for its assignment in this generation.
    pub(super) has_synced: bool,
}

impl Member {
    pub(super) fn restored(stored: StoredMember, now_ms: i64) -> (String, Self) {
        let member = Self {
            instance_id: stored.instance_id,
            client_id: stored.client_id,
            client_host: stored.client_host,
            session_ms: i64::from(stored.session_ms),
            rebalance_ms: i64::from(stored.rebalance_ms),
            protocols: stored.protocols,
            assignment: stored.assignment,
            expires_ms: now_ms.saturating_add(i64::from(stored.session_ms)),
            joining: None,
            syncing: None,
            has_synced: true,
        };
        (stored.member_id, member)
    }

    /// Whether a request of it is still open.
    pub(super) fn waits(&self) -> bool {
        self.joining.is_some() || self.syncing.is_some()
    }

    pub(super) fn heard_of(&mut self, now_ms: i64) {
        self.expires_ms = now_ms.saturating_add(self.session_ms);
    }

    pub(super) fn metadata(&self, protocol: &str) -> Option<Bytes> {
        self.protocols.iter().find(|one| one.name == protocol).map(|one| one.metadata.clone())
    }

    fn supports(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|one| one.name == protocol)
    }

    /// What it takes in what is stored, without its assignment.
    pub(super) fn bytes(&self, id: &str) -> usize {
        let instance_id = self.instance_id.as_deref().unwrap_or_default();
        bytes_of([id, instance_id, &self.client_id, &self.client_host], &self.protocols)
    }

    /// Answers what it waits for.
    pub(super) fn refuse(&mut self, code: ErrorCode, effects: &mut Vec<Effect>) {
        if let Some(ticket) = self.joining.take() {
            effects.push(Effect::Join(ticket, Err(JoinRefused::new(code))));
        }
        if let Some(ticket) = self.syncing.take() {
            effects.push(Effect::Sync(ticket, Err(code)));
        }
    }
}

/// What a member of these texts takes in what is stored, without its assignment.
pub(super) fn bytes_of(texts: [&str; 4], protocols: &[Protocol]) -> usize {
    let texts: usize = texts.iter().map(|text| text.len()).sum();
    let protocol = |one: &Protocol| PROTOCOL_BYTES + one.name.len() + one.metadata.len();
    MEMBER_BYTES + texts + protocols.iter().map(protocol).sum::<usize>()
}

impl Group {
    /// Checks that a request comes from a member of this generation, and says which.
    pub(super) fn member_of(&self, who: &Identity) -> Result<String, ErrorCode> {
        let id = self.known(who)?;
        if who.generation != self.generation {
            return Err(ErrorCode::ILLEGAL_GENERATION);
        }
        Ok(id)
    }

    /// Checks that a request comes from a member, whatever its generation.
    pub(super) fn known(&self, who: &Identity) -> Result<String, ErrorCode> {
        if let Some(instance) = &who.instance_id {
            match self.statics.get(instance) {
                None => return Err(ErrorCode::UNKNOWN_MEMBER_ID),
                Some(current) if *current != who.member_id => return Err(ErrorCode::FENCED_INSTANCE_ID),
                Some(_) => {}
            }
        }
        match self.members.contains_key(&who.member_id) {
            true => Ok(who.member_id.clone()),
            false => Err(ErrorCode::UNKNOWN_MEMBER_ID),
        }
    }

    /// Keeps the leader if it is still there, else takes the first member that has come back.
    pub(super) fn elect_leader(&mut self) {
        if self.leader.as_ref().is_some_and(|leader| self.members.contains_key(leader)) {
            return;
        }
        let back = self.members.iter().find(|(_, member)| member.joining.is_some());
        self.leader = back.or(self.members.iter().next()).map(|(id, _)| id.clone());
    }

    /// Whether members with these protocols could be in the group together with the others.
    pub(super) fn fits(&self, protocol_type: &str, protocols: &[Protocol]) -> bool {
        if self.members.is_empty() {
            return true;
        }
        let supported = |one: &Protocol| self.members.values().all(|member| member.supports(&one.name));
        self.protocol_type.as_deref() == Some(protocol_type) && protocols.iter().any(supported)
    }

    /// The way to assign: each member votes for the best of those that all of them know. Where votes
    /// are equal, the leader's order decides.
    pub(super) fn choose_protocol(&self) -> Option<String> {
        let known_to_all = |name: &str| self.members.values().all(|member| member.supports(name));
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.members.values() {
            if let Some(best) = member.protocols.iter().find(|one| known_to_all(&one.name)) {
                *votes.entry(&best.name).or_default() += 1;
            }
        }
        let most = votes.values().max().copied()?;
        let leader = self.leader.as_ref().and_then(|leader| self.members.get(leader));
        let preferred = leader.iter().flat_map(|leader| &leader.protocols).map(|one| one.name.as_str());
        let mut best = preferred.chain(votes.keys().copied()).filter(|name| votes.get(name) == Some(&most));
        best.next().map(str::to_owned)
    }

    /// Time that the slowest member has to come back.
    pub(super) fn rebalance_ms(&self) -> i64 {
        self.members.values().map(|member| member.rebalance_ms).max().unwrap_or(0)
    }

    /// Bytes that all members take in what is stored, without their assignments.
    pub(super) fn bytes(&self) -> usize {
        self.members.iter().map(|(id, member)| member.bytes(id)).sum()
    }

    /// Whether everyone who may come back has.
    pub(super) fn all_are_back(&self) -> bool {
        self.pending.is_empty() && self.members.values().all(|member| member.joining.is_some())
    }

    /// A sign of life. An error tells the member what to do.
    pub(crate) fn heartbeat(&mut self, who: &Identity, now_ms: i64) -> Result<(), ErrorCode> {
        let id = self.member_of(who)?;
        if let Some(member) = self.members.get_mut(&id) {
            member.heard_of(now_ms);
        }
        match self.state {
            State::Preparing { .. } => Err(ErrorCode::REBALANCE_IN_PROGRESS),
            State::Completing { .. } | State::Stable => Ok(()),
            State::Empty | State::Dead => Err(ErrorCode::UNKNOWN_MEMBER_ID),
        }
    }

    /// Whether offsets may be committed by that member, or by somebody who is in no group.
    pub(crate) fn may_commit(&mut self, who: &Identity, now_ms: i64) -> Result<(), ErrorCode> {
        if who.generation < 0 && self.state == State::Empty {
            return Ok(());
        }
        if who.generation >= 0 && self.state == State::Empty && self.generation == 0 {
            // Nothing was ever here: the client remembers a group that is gone.
            return Err(ErrorCode::ILLEGAL_GENERATION);
        }
        let id = self.member_of(who)?;
        if let Some(member) = self.members.get_mut(&id) {
            member.heard_of(now_ms);
        }
        match self.state {
            // The generation has ended for the member that asks: it must join first.
            State::Completing { .. } => Err(ErrorCode::REBALANCE_IN_PROGRESS),
            State::Preparing { .. } | State::Stable => Ok(()),
            State::Empty | State::Dead => Err(ErrorCode::UNKNOWN_MEMBER_ID),
        }
    }
}
