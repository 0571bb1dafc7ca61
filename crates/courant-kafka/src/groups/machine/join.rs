//! Joining: who may come in, what a rebalance waits for, and what everyone hears when it is over.

use bytes::Bytes;

use super::members::bytes_of;
use super::{Effect, FirstJoin, Group, Member, Now, Protocol, State, Storing, Ticket};
use crate::groups::subscription;
use crate::wire::ErrorCode;

/// A request to join.
#[derive(Clone, Debug)]
pub(crate) struct Join {
    /// Empty for a client that has no id yet.
    pub(crate) member_id: String,
    /// The id that the client gets if it has none. Never given twice.
    pub(crate) fresh_id: String,
    pub(crate) instance_id: Option<String>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    pub(crate) session_ms: i64,
    pub(crate) rebalance_ms: i64,
    pub(crate) protocol_type: String,
    pub(crate) protocols: Vec<Protocol>,
    /// The client is to come back with the id that it is given (KIP-394).
    pub(crate) id_first: bool,
    /// The client understands that a leader leaves the assignments as they are (KIP-814).
    pub(crate) may_skip: bool,
}

impl Join {
    /// What the member takes in what is stored, under the longer of the ids that it may get.
    fn bytes(&self) -> usize {
        let id = [&self.member_id, &self.fresh_id].into_iter().max_by_key(|id| id.len());
        let id = id.map_or("", String::as_str);
        let instance_id = self.instance_id.as_deref().unwrap_or_default();
        bytes_of([id, instance_id, &self.client_id, &self.client_host], &self.protocols)
    }
}

/// The generation that a member is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Joined {
    pub(crate) generation: i32,
    pub(crate) protocol_type: String,
    pub(crate) protocol: String,
    pub(crate) leader: String,
    pub(crate) member_id: String,
    pub(crate) skip_assignment: bool,
    /// Everyone, for the leader; nobody for the others.
    pub(crate) members: Vec<JoinedMember>,
}

/// A member as its leader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct JoinedMember {
    pub(crate) member_id: String,
    pub(crate) instance_id: Option<String>,
    pub(crate) metadata: Bytes,
}

/// Why a member is not in the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct JoinRefused {
    pub(crate) code: ErrorCode,
    /// The id to come back with; empty when there is none.
    pub(crate) member_id: String,
}

impl JoinRefused {
    pub(crate) fn new(code: ErrorCode) -> Self {
        Self { code, member_id: String::new() }
    }
}

impl Group {
    /// A client wants to join. It is answered now or when the rebalance is over.
    pub(crate) fn join(&mut self, ticket: Ticket, join: Join, now: Now) -> Vec<Effect> {
        let mut effects = Vec::new();
        if let Err(refused) = self.try_join(ticket, join, now, &mut effects) {
            effects.push(Effect::Join(ticket, Err(refused)));
        }
        effects
    }

    fn try_join(
        &mut self,
        ticket: Ticket,
        join: Join,
        now: Now,
        effects: &mut Vec<Effect>,
    ) -> Result<(), JoinRefused> {
        self.check(&join)?;
        let current = join.instance_id.as_ref().map(|instance| self.statics.get(instance).cloned());
        match current {
            Some(Some(current)) if join.member_id.is_empty() => {
                self.comes_back(ticket, &current, join, now, effects);
            }
            Some(Some(current)) if current != join.member_id => {
                return Err(JoinRefused::new(ErrorCode::FENCED_INSTANCE_ID));
            }
            Some(Some(_)) => self.rejoins(ticket, join, now, effects),
            Some(None) if join.member_id.is_empty() => {
                let id = join.fresh_id.clone();
                self.comes_in(ticket, id, join, now, effects)?;
            }
            None if join.member_id.is_empty() && join.id_first => {
                self.check_size(1)?;
                self.pending.insert(join.fresh_id.clone(), now.ms.saturating_add(join.session_ms));
                let code = ErrorCode::MEMBER_ID_REQUIRED;
                return Err(JoinRefused { code, member_id: join.fresh_id });
            }
            None if join.member_id.is_empty() => {
                let id = join.fresh_id.clone();
                self.comes_in(ticket, id, join, now, effects)?;
            }
            None if self.pending.contains_key(&join.member_id) => {
                let id = join.member_id.clone();
                self.comes_in(ticket, id, join, now, effects)?;
            }
            None if self.members.contains_key(&join.member_id) => self.rejoins(ticket, join, now, effects),
            Some(None) | None => return Err(JoinRefused::new(ErrorCode::UNKNOWN_MEMBER_ID)),
        }
        Ok(())
    }

    /// The id under which who joins may be in the group already: a static member may come back under another one.
    fn place_of<'a>(&'a self, join: &'a Join) -> &'a String {
        let place = join.instance_id.as_ref().and_then(|instance| self.statics.get(instance));
        place.unwrap_or(&join.member_id)
    }

    /// Whether who joins is in the group already.
    pub(crate) fn has_place_for(&self, join: &Join) -> bool {
        self.members.contains_key(self.place_of(join))
    }

    fn check(&self, join: &Join) -> Result<(), JoinRefused> {
        let session_ms = self.rules.session_ms_min..=self.rules.session_ms_max;
        if !session_ms.contains(&join.session_ms) {
            return Err(JoinRefused::new(ErrorCode::INVALID_SESSION_TIMEOUT));
        }
        let says_nothing = join.protocol_type.is_empty() || join.protocols.is_empty();
        if says_nothing || !self.fits(&join.protocol_type, &join.protocols) {
            return Err(JoinRefused::new(ErrorCode::INCONSISTENT_GROUP_PROTOCOL));
        }
        let place = self.place_of(join);
        let replaced = self.members.get(place).map_or(0, |member| member.bytes(place));
        if self.bytes() - replaced + join.bytes() > self.rules.bytes_max {
            return Err(JoinRefused::new(ErrorCode::GROUP_MAX_SIZE_REACHED));
        }
        Ok(())
    }

    fn check_size(&self, more: usize) -> Result<(), JoinRefused> {
        if self.members.len() + self.pending.len() + more > self.rules.members_max {
            return Err(JoinRefused::new(ErrorCode::GROUP_MAX_SIZE_REACHED));
        }
        Ok(())
    }

    /// A new member. It waits for the rebalance that it causes.
    fn comes_in(
        &mut self,
        ticket: Ticket,
        id: String,
        join: Join,
        now: Now,
        effects: &mut Vec<Effect>,
    ) -> Result<(), JoinRefused> {
        let was_pending = self.pending.remove(&id).is_some();
        if !was_pending {
            self.check_size(1)?;
        }
        if let Some(instance) = &join.instance_id {
            self.statics.insert(instance.clone(), id.clone());
        }
        self.protocol_type = Some(join.protocol_type.clone());
        self.members.insert(id, member(ticket, join, now.ms));
        if let State::Preparing { first: Some(first), .. } = &mut self.state {
            first.newcomer = true;
        }
        self.elect_leader();
        self.rebalance(now, effects);
        Ok(())
    }

    /// A member that is known joins again: because of a rebalance, or because something changed.
    fn rejoins(&mut self, ticket: Ticket, join: Join, now: Now, effects: &mut Vec<Effect>) {
        let id = join.member_id.clone();
        let is_leader = self.leader.as_ref() == Some(&id);
        let Some(member) = self.members.get_mut(&id) else { return };
        let is_same = member.protocols == join.protocols;
        let goes_on = match self.state {
            // It missed the answer: it gets the same once more.
            State::Completing { .. } => is_same,
            // A leader that joins again has seen the topics change, for example.
            State::Stable => is_same && !is_leader,
            State::Empty | State::Preparing { .. } | State::Dead => false,
        };
        member.update(join, now.ms);
        // An older request of the member that still waits is not waited for any more.
        member.refuse(ErrorCode::REBALANCE_IN_PROGRESS, effects);
        if goes_on {
            effects.push(Effect::Join(ticket, Ok(self.joined(&id, is_leader))));
            return;
        }
        member.joining = Some(ticket);
        self.rebalance(now, effects);
    }

    /// A static member comes back under another id, usually after its process was restarted. Who had
    /// the old id is fenced (KIP-345).
    fn comes_back(&mut self, ticket: Ticket, old: &str, join: Join, now: Now, effects: &mut Vec<Effect>) {
        let Some(mut member) = self.members.remove(old) else { return };
        let id = join.fresh_id.clone();
        let may_skip = join.may_skip;
        let was_leader = self.leader.as_deref() == Some(old);
        let chosen = self.protocol.clone().unwrap_or_default();
        let before = member.metadata(&chosen);
        member.refuse(ErrorCode::FENCED_INSTANCE_ID, effects);
        member.update(join, now.ms);
        let both = before.zip(member.metadata(&chosen));
        let is_same = both.is_some_and(|(before, after)| self.wants_the_same(&before, &after));
        if let Some(instance) = &member.instance_id {
            self.statics.insert(instance.clone(), id.clone());
        }
        if was_leader {
            self.leader = Some(id.clone());
        }
        self.members.insert(id.clone(), member);
        // What it offers besides may let the vote end differently, as in the last step of a rolling
        // change of the way to assign: then everyone has to hear of it.
        let goes_on = self.state == State::Stable && is_same && self.choose_protocol() == self.protocol;
        if !goes_on {
            if let Some(member) = self.members.get_mut(&id) {
                member.joining = Some(ticket);
            }
            return self.rebalance(now, effects);
        }
        let mut joined = self.joined(&id, was_leader && may_skip);
        joined.skip_assignment = was_leader && may_skip;
        if was_leader && !may_skip {
            // An older client would assign anew; as a follower it only asks for what it had.
            joined.leader = old.to_owned();
        }
        let effect = self.store(Storing::Returned { ticket, joined }, now);
        effects.push(effect);
    }

    /// Whether a static member that says `after` instead of `before` needs no new assignment. A consumer also
    /// says which partitions it had and in which generation, and after a restart it had none: only its topics
    /// count.
    fn wants_the_same(&self, before: &Bytes, after: &Bytes) -> bool {
        before == after || (self.is_of_consumers() && subscription::is_to_the_same_topics(before, after))
    }

    /// Everyone has to come back; who waits for an assignment is told.
    pub(super) fn rebalance(&mut self, now: Now, effects: &mut Vec<Effect>) {
        match self.state {
            State::Preparing { .. } => {}
            State::Empty => {
                let delay_ms = self.rules.initial_delay_ms;
                let left_ms = (self.rebalance_ms() - delay_ms).max(0);
                let first = Some(FirstJoin { left_ms, newcomer: false });
                self.state = State::Preparing { until_ms: now.ms.saturating_add(delay_ms), first };
            }
            State::Completing { .. } | State::Stable | State::Dead => {
                for member in self.members.values_mut() {
                    if let Some(ticket) = member.syncing.take() {
                        // It may have waited for longer than its session is.
                        member.heard_of(now.ms);
                        effects.push(Effect::Sync(ticket, Err(ErrorCode::REBALANCE_IN_PROGRESS)));
                    }
                }
                let until_ms = now.ms.saturating_add(self.rebalance_ms());
                self.state = State::Preparing { until_ms, first: None };
            }
        }
        match self.state {
            State::Preparing { until_ms, first } if until_ms <= now.ms => {
                self.preparing_is_over(first, now, effects);
            }
            _ => self.complete_when_all_are_back(now, effects),
        }
    }

    pub(super) fn complete_when_all_are_back(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let nobody_comes = self.members.is_empty() && self.pending.is_empty();
        match self.state {
            State::Preparing { first: None, .. } if self.all_are_back() => self.complete(now, effects),
            State::Preparing { .. } if nobody_comes => self.complete(now, effects),
            _ => {}
        }
    }

    /// The time to come back is over. The first members of a group wait on while more of them come.
    pub(super) fn preparing_is_over(
        &mut self,
        first: Option<FirstJoin>,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        if let Some(FirstJoin { left_ms, newcomer: true }) = first
            && left_ms > 0
        {
            let delay_ms = self.rules.initial_delay_ms.min(left_ms);
            let first = Some(FirstJoin { left_ms: left_ms - delay_ms, newcomer: false });
            self.state = State::Preparing { until_ms: now.ms.saturating_add(delay_ms), first };
            return;
        }
        let late: Vec<_> = self
            .members
            .iter()
            .filter(|(_, member)| member.joining.is_none() && member.instance_id.is_none())
            .map(|(id, _)| id.clone())
            .collect();
        for id in late {
            self.forget(&id, effects);
        }
        self.complete(now, effects);
    }

    /// A new generation of those who are back. Static members that are not keep their place until
    /// their session ends.
    fn complete(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if self.members.is_empty() {
            self.generation = self.generation.saturating_add(1);
            self.protocol = None;
            self.leader = None;
            self.state = State::Empty;
            self.empty_since_ms = Some(now.wall_ms);
            let effect = self.store(Storing::Nothing, now);
            effects.push(effect);
            return;
        }
        let until_ms = now.ms.saturating_add(self.rebalance_ms());
        if self.members.values().all(|member| member.joining.is_none()) {
            self.state = State::Preparing { until_ms, first: None };
            return;
        }
        let leads = |id: &String| self.members.get(id).is_some_and(|leader| leader.joining.is_some());
        if !self.leader.as_ref().is_some_and(leads) {
            self.leader = None;
            let back = self.members.iter().find(|(_, member)| member.joining.is_some());
            self.leader = back.map(|(id, _)| id.clone());
        }
        self.generation = self.generation.saturating_add(1);
        self.protocol = self.choose_protocol();
        self.state = State::Completing { until_ms };
        self.empty_since_ms = None;
        let ids: Vec<_> = self.members.keys().cloned().collect();
        for id in ids {
            let is_leader = self.leader.as_ref() == Some(&id);
            let joined = self.joined(&id, is_leader);
            let Some(member) = self.members.get_mut(&id) else { continue };
            member.assignment = Bytes::new();
            // Who is not back has nothing to ask for.
            member.has_synced = member.joining.is_none();
            if let Some(ticket) = member.joining.take() {
                member.heard_of(now.ms);
                effects.push(Effect::Join(ticket, Ok(joined)));
            }
        }
    }

    /// What a member hears of the generation; `with_members`: that it leads.
    fn joined(&self, id: &str, with_members: bool) -> Joined {
        let protocol = self.protocol.clone().unwrap_or_default();
        let member = |(id, member): (&String, &Member)| JoinedMember {
            member_id: id.clone(),
            instance_id: member.instance_id.clone(),
            metadata: member.metadata(&protocol).unwrap_or_default(),
        };
        Joined {
            generation: self.generation,
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            leader: self.leader.clone().unwrap_or_default(),
            member_id: id.to_owned(),
            skip_assignment: false,
            members: if with_members { self.members.iter().map(member).collect() } else { Vec::new() },
            protocol,
        }
    }
}

fn member(ticket: Ticket, join: Join, now_ms: i64) -> Member {
    Member {
        expires_ms: now_ms.saturating_add(join.session_ms),
        instance_id: join.instance_id,
        client_id: join.client_id,
        client_host: join.client_host,
        session_ms: join.session_ms,
        rebalance_ms: join.rebalance_ms,
        protocols: join.protocols,
        assignment: Bytes::new(),
        joining: Some(ticket),
        syncing: None,
        has_synced: false,
    }
}

impl Member {
    fn update(&mut self, join: Join, now_ms: i64) {
        self.client_id = join.client_id;
        self.client_host = join.client_host;
        self.session_ms = join.session_ms;
        self.rebalance_ms = join.rebalance_ms;
        self.protocols = join.protocols;
        self.heard_of(now_ms);
    }
}
