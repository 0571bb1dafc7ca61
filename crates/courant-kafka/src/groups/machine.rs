//! One consumer group as a pure state machine.
//!
//! ```text
//!           join                 all are back, or time is up           leader assigned, stored
//!  Empty ─────────▶ Preparing ───────────────────────────▶ Completing ───────────────────────▶ Stable
//!    ▲               ▲  │  ▲                                   │                                 │
//!    └── all gone ───┘──┘  └───────── a member comes, goes or changes ───────────────────────────┘
//! ```
//!
//! Invariants:
//! - the generation only grows, also over a restart: an assignment is stored before any member hears
//!   of it, so no later generation repeats the number of one that was handed out;
//! - the leader is a member;
//! - every request that waits is answered exactly once, at the latest when its deadline has passed;
//! - a member that waits for an answer is not taken for dead.
//!
//! Time comes with each input, in milliseconds that never go back; wall time only where it is stored.

mod join;
mod leave;
mod members;
#[cfg(test)]
mod model_tests;
mod sync;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use bytes::Bytes;

#[cfg(test)]
use self::join::JoinedMember;
pub(crate) use self::join::{Join, JoinRefused, Joined};
use self::members::bytes_of;
pub(crate) use self::members::{Member, Protocol};
pub(crate) use self::sync::{Sync, Synced};
use super::stored::{StoredMember, StoredState};
use crate::wire::ErrorCode;

/// A request that waits for its answer, by the number that the shell gave it.
pub(crate) type Ticket = u64;

/// A moment, on both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Now {
    /// Milliseconds that never go back.
    pub(crate) ms: i64,
    /// Milliseconds since 1970.
    pub(crate) wall_ms: i64,
}

/// What follows from an input.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// The answer to a join.
    Join(Ticket, Result<Joined, JoinRefused>),
    /// The answer to a sync.
    Sync(Ticket, Result<Synced, ErrorCode>),
    /// Bytes to make durable; the outcome is told to [`Group::stored`] under this number.
    Store(u64, Bytes),
}

/// Bounds and times that are the same for all groups.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) session_ms_min: i64,
    pub(crate) session_ms_max: i64,
    /// How long the first members of an empty group wait for more of them.
    pub(crate) initial_delay_ms: i64,
    pub(crate) members_max: usize,
    /// Bytes that all members together may take: texts and metadata, and assignments on top of them.
    pub(crate) bytes_max: usize,
}

/// Who sends a request about a member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) member_id: String,
    pub(crate) instance_id: Option<String>,
    pub(crate) generation: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// No members; there may be committed offsets.
    Empty,
    /// Members come back to join until `until_ms`.
    Preparing {
        until_ms: i64,
        first: Option<FirstJoin>,
    },
    /// Everyone knows the generation; the leader assigns. Who has not asked by `until_ms` is out.
    Completing {
        until_ms: i64,
    },
    Stable,
    /// Nobody finds it any more.
    Dead,
}

/// The wait of a group that was empty: each newcomer extends it, up to a bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FirstJoin {
    left_ms: i64,
    newcomer: bool,
}

/// What waits for bytes to be durable.
#[derive(Debug)]
enum Storing {
    /// The assignment of a generation.
    Assignment { generation: i32 },
    /// A static member that came back under another id.
    Returned { ticket: Ticket, joined: Joined },
    /// Nobody.
    Nothing,
}

/// One group.
#[derive(Debug)]
pub(crate) struct Group {
    rules: Rules,
    state: State,
    generation: i32,
    protocol_type: Option<String>,
    /// The way to assign that the generation has chosen.
    protocol: Option<String>,
    leader: Option<String>,
    members: BTreeMap<String, Member>,
    /// Member ids of static members, by instance id.
    statics: BTreeMap<String, String>,
    /// Ids that were given and not joined with yet, and when they are forgotten.
    pending: BTreeMap<String, i64>,
    storing: BTreeMap<u64, Storing>,
    next_store: u64,
    /// When members of a stable group that never asked for their assignment are out.
    late_ms: Option<i64>,
    empty_since_ms: Option<i64>,
}

impl Group {
    pub(crate) fn new(rules: Rules) -> Self {
        Self {
            rules,
            state: State::Empty,
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            statics: BTreeMap::new(),
            pending: BTreeMap::new(),
            storing: BTreeMap::new(),
            next_store: 0,
            late_ms: None,
            empty_since_ms: None,
        }
    }

    /// The group as it was stored. Members get a whole session to be heard of again: a restart is no
    /// reason to rebalance.
    pub(crate) fn restore(rules: Rules, stored: StoredState, now: Now) -> Self {
        let mut group = Self::new(rules);
        group.generation = stored.generation;
        group.protocol_type = stored.protocol_type;
        if stored.members.is_empty() {
            group.empty_since_ms = Some(stored.empty_since_ms);
            return group;
        }
        group.protocol = stored.protocol;
        group.leader = stored.leader;
        group.state = State::Stable;
        for stored in stored.members {
            if let Some(instance) = &stored.instance_id {
                group.statics.insert(instance.clone(), stored.member_id.clone());
            }
            let (id, member) = Member::restored(stored, now.ms);
            group.members.insert(id, member);
        }
        group.elect_leader();
        group
    }

    /// The next moment at which [`Group::tick`] has something to do.
    pub(crate) fn next_deadline(&self) -> Option<i64> {
        let state = match self.state {
            State::Preparing { until_ms, .. } | State::Completing { until_ms } => Some(until_ms),
            State::Stable => self.late_ms,
            State::Empty | State::Dead => None,
        };
        let sessions = self.members.values().filter(|member| !member.waits()).map(|member| member.expires_ms);
        state.into_iter().chain(sessions).chain(self.pending.values().copied()).min()
    }

    /// Time has passed.
    pub(crate) fn tick(&mut self, now: Now) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.pending.retain(|_, until_ms| *until_ms > now.ms);
        let silent = |member: &Member| !member.waits() && member.expires_ms <= now.ms;
        let silent: Vec<_> =
            self.members.iter().filter(|(_, member)| silent(member)).map(|(id, _)| id.clone()).collect();
        if !silent.is_empty() {
            self.remove(&silent, now, &mut effects);
        }
        match self.state {
            State::Preparing { until_ms, first } if until_ms <= now.ms => {
                self.preparing_is_over(first, now, &mut effects);
            }
            State::Preparing { .. } => self.complete_when_all_are_back(now, &mut effects),
            State::Completing { until_ms } if until_ms <= now.ms => self.sync_is_over(now, &mut effects),
            State::Stable if self.late_ms.is_some_and(|late_ms| late_ms <= now.ms) => {
                self.late_ms = None;
                self.sync_is_over(now, &mut effects);
            }
            _ => {}
        }
        effects
    }

    /// The outcome of an [`Effect::Store`].
    pub(crate) fn stored(&mut self, number: u64, durable: bool, now: Now) -> Vec<Effect> {
        let mut effects = Vec::new();
        match self.storing.remove(&number) {
            Some(Storing::Assignment { generation }) => {
                // A rebalance that began in the meantime has answered those who waited.
                if generation == self.generation && matches!(self.state, State::Completing { .. }) {
                    self.assigned(durable, now, &mut effects);
                }
            }
            Some(Storing::Returned { ticket, joined }) => {
                let refused = JoinRefused::new(ErrorCode::COORDINATOR_NOT_AVAILABLE);
                effects.push(Effect::Join(ticket, if durable { Ok(joined) } else { Err(refused) }));
            }
            Some(Storing::Nothing) | None => {}
        }
        effects
    }

    /// What is to be found again after a restart.
    fn store(&mut self, waiting: Storing, now: Now) -> Effect {
        let member = |(id, member): (&String, &Member)| StoredMember::of(id, member);
        let stored = StoredState {
            protocol_type: self.protocol_type.clone(),
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            empty_since_ms: self.empty_since_ms.unwrap_or(now.wall_ms),
            members: self.members.iter().map(member).collect(),
        };
        let number = self.next_store;
        self.next_store += 1;
        self.storing.insert(number, waiting);
        Effect::Store(number, stored.encode())
    }

    /// Since when there has been no member, in milliseconds since 1970; `None` while there are some.
    pub(crate) fn empty_since_ms(&self) -> Option<i64> {
        self.empty_since_ms.filter(|_| self.state == State::Empty)
    }

    /// Whether nothing of the group is worth keeping but what it has committed.
    pub(crate) fn is_vacant(&self) -> bool {
        self.state == State::Empty && self.pending.is_empty() && self.storing.is_empty()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.state == State::Empty
    }

    /// Whether members have no assignments because they get new ones.
    pub(crate) fn is_rebalancing(&self) -> bool {
        matches!(self.state, State::Preparing { .. } | State::Completing { .. })
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.state == State::Dead
    }

    /// The group is deleted: whoever still holds it has to look it up again.
    pub(crate) fn kill(&mut self) {
        self.state = State::Dead;
    }

    /// Kafka's name of the state.
    fn state_name(&self) -> &'static str {
        match self.state {
            State::Empty => "Empty",
            State::Preparing { .. } => "PreparingRebalance",
            State::Completing { .. } => "CompletingRebalance",
            State::Stable => "Stable",
            State::Dead => "Dead",
        }
    }

    /// What DescribeGroups says. Metadata and assignments belong to a generation that is complete.
    pub(crate) fn describe(&self) -> Description {
        let is_stable = self.state == State::Stable;
        let protocol = self.protocol.clone().filter(|_| is_stable).unwrap_or_default();
        let member = |(id, member): (&String, &Member)| DescribedMember {
            member_id: id.clone(),
            instance_id: member.instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            metadata: member.metadata(&protocol).filter(|_| is_stable).unwrap_or_default(),
            assignment: if is_stable { member.assignment.clone() } else { Bytes::new() },
        };
        Description {
            state: self.state_name(),
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            members: self.members.iter().map(member).collect(),
            protocol,
        }
    }

    /// What all members take in what is stored: without their assignments, and with them.
    pub(crate) fn members_bytes(&self) -> (usize, usize) {
        let without = self.bytes();
        let assigned: usize = self.members.values().map(|member| member.assignment.len()).sum();
        (without, without + assigned)
    }

    /// What ids take that were given and not joined with yet.
    pub(crate) fn pending_bytes(&self) -> usize {
        self.pending.keys().map(|id| bytes_of([id, "", "", ""], &[])).sum()
    }

    /// Lets the members take so many bytes from now on. Those who are in stay.
    pub(crate) fn set_bytes_max(&mut self, bytes_max: usize) {
        self.rules.bytes_max = bytes_max;
    }

    /// What ListGroups says.
    pub(crate) fn listing(&self) -> Listing {
        Listing { state: self.state_name(), protocol_type: self.protocol_type.clone().unwrap_or_default() }
    }

    /// Metadata of all members for the way to assign that each prefers or that was chosen.
    pub(crate) fn subscriptions(&self) -> impl Iterator<Item = Bytes> + '_ {
        self.members.values().flat_map(|member| member.protocols.iter().map(|one| one.metadata.clone()))
    }

    /// Whether the members are consumers of topics, as far as their protocol type says.
    pub(crate) fn is_of_consumers(&self) -> bool {
        self.protocol_type.as_deref() == Some("consumer")
    }
}

/// A group in ListGroups.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Listing {
    pub(crate) state: &'static str,
    pub(crate) protocol_type: String,
}

/// A group in DescribeGroups.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Description {
    pub(crate) state: &'static str,
    pub(crate) protocol_type: String,
    pub(crate) protocol: String,
    pub(crate) members: Vec<DescribedMember>,
}

/// A member in DescribeGroups.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct DescribedMember {
    pub(crate) member_id: String,
    pub(crate) instance_id: Option<String>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    pub(crate) metadata: Bytes,
    pub(crate) assignment: Bytes,
}
