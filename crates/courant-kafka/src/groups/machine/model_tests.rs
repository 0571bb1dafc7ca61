//! Many members that do anything at any time, against what must always hold.
//!
//! The model is a crowd of clients as they are written everywhere: they join, sync, send heartbeats,
//! leave, fall silent, come back; the coordinator is restarted from what it stored; the disk fails. What
//! each of them believes is compared with what all the others believe.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use proptest::prelude::*;

use super::tests::{at, join, rules, sync, who};
use super::*;

const CLIENTS: usize = 5;
const SESSION_MS: i64 = 10_000;

#[derive(Clone, Debug)]
enum Step {
    Join(usize),
    Sync(usize),
    Heartbeat(usize),
    Leave(usize),
    /// The process of a client is started anew.
    Restart(usize),
    Pass(i64),
    /// The oldest store that is under way ends.
    Stored(bool),
    RestartCoordinator,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..CLIENTS).prop_map(Step::Join),
        6 => (0..CLIENTS).prop_map(Step::Sync),
        3 => (0..CLIENTS).prop_map(Step::Heartbeat),
        1 => (0..CLIENTS).prop_map(Step::Leave),
        1 => (0..CLIENTS).prop_map(Step::Restart),
        2 => prop_oneof![1..500_i64, 5_000..15_000_i64, Just(61_000)].prop_map(Step::Pass),
        5 => prop_oneof![9 => Just(true), 1 => Just(false)].prop_map(Step::Stored),
        1 => Just(Step::RestartCoordinator),
    ]
}

/// What a client knows.
#[derive(Clone, Debug, Default)]
struct Client {
    /// Client 0 and 1 are static.
    instance_id: Option<String>,
    member_id: String,
    /// It was given an id and is to join with it.
    comes: bool,
    generation: i32,
    leads: bool,
    members: Vec<String>,
    waits_since: Option<(Ticket, i64)>,
}

struct World {
    group: Group,
    clients: Vec<Client>,
    now_ms: i64,
    ticket: Ticket,
    fresh: u64,
    /// Requests that are open, and whose.
    open: BTreeMap<Ticket, usize>,
    stores: Vec<(u64, Bytes)>,
    durable: Option<Bytes>,
    /// Who was told to own what, by generation.
    owned: BTreeMap<i32, BTreeMap<String, String>>,
    leaders: BTreeMap<i32, String>,
    assigned: i32,
}

impl World {
    fn new() -> Self {
        let client = |number: usize| Client {
            instance_id: (number < 2).then(|| format!("instance-{number}")),
            ..Client::default()
        };
        Self {
            group: Group::new(rules(0)),
            clients: (0..CLIENTS).map(client).collect(),
            now_ms: 0,
            ticket: 0,
            fresh: 0,
            open: BTreeMap::new(),
            stores: Vec::new(),
            durable: None,
            owned: BTreeMap::new(),
            leaders: BTreeMap::new(),
            assigned: 0,
        }
    }

    fn identity(&self, client: usize) -> Identity {
        let client = &self.clients[client];
        Identity { instance_id: client.instance_id.clone(), ..who(&client.member_id, client.generation) }
    }

    fn ask(&mut self, client: usize) -> Ticket {
        self.ticket += 1;
        self.open.insert(self.ticket, client);
        self.clients[client].waits_since = Some((self.ticket, self.now_ms));
        self.ticket
    }

    fn step(&mut self, step: &Step) {
        let now = at(self.now_ms);
        match step {
            Step::Join(client) | Step::Sync(client) if self.clients[*client].waits_since.is_some() => {}
            Step::Join(client) => {
                self.fresh += 1;
                let ticket = self.ask(*client);
                let mine = self.clients[*client].clone();
                let fresh = format!("member-{:04}", self.fresh);
                let join =
                    Join { instance_id: mine.instance_id, id_first: true, ..join(&mine.member_id, &fresh) };
                let effects = self.group.join(ticket, join, now);
                self.take(effects);
            }
            Step::Sync(client) => {
                let ticket = self.ask(*client);
                let mine = self.clients[*client].clone();
                let all: Vec<_> =
                    mine.members.iter().filter(|_| mine.leads).map(|id| (&**id, &**id)).collect();
                let sync = Sync { who: self.identity(*client), ..sync("", 0, &all) };
                let effects = self.group.sync(ticket, sync, now);
                self.take(effects);
            }
            Step::Heartbeat(client) => {
                let alive = self.group.heartbeat(&self.identity(*client), self.now_ms);
                let is_out =
                    matches!(alive, Err(ErrorCode::UNKNOWN_MEMBER_ID | ErrorCode::FENCED_INSTANCE_ID));
                if is_out && !self.clients[*client].comes {
                    self.clients[*client].member_id.clear();
                }
            }
            Step::Leave(client) => {
                let id = self.clients[*client].member_id.clone();
                let (_, effects) = self.group.leave(&[(id, None)], now);
                self.take(effects);
            }
            Step::Restart(client) => {
                // What it asked for is answered to nobody.
                self.open.retain(|_, of| of != client);
                let instance_id = self.clients[*client].instance_id.clone();
                self.clients[*client] = Client { instance_id, ..Client::default() };
            }
            Step::Pass(ms) => {
                let end = self.now_ms + ms;
                while let Some(next) = self.group.next_deadline().filter(|next| *next <= end) {
                    self.now_ms = self.now_ms.max(next);
                    let effects = self.group.tick(at(self.now_ms));
                    let moved = self.group.next_deadline();
                    self.take(effects);
                    assert!(moved.is_none_or(|moved| moved > next), "a deadline stays at {next}");
                }
                self.now_ms = end;
            }
            Step::Stored(durable) => self.end_store(*durable),
            Step::RestartCoordinator => self.restart_coordinator(),
        }
        self.check();
    }

    fn end_store(&mut self, durable: bool) {
        if self.stores.is_empty() {
            return;
        }
        let (number, bytes) = self.stores.remove(0);
        if durable {
            self.durable = Some(bytes);
        }
        let effects = self.group.stored(number, durable, at(self.now_ms));
        self.take(effects);
    }

    /// Everything that was not durable is gone; so are the connections.
    fn restart_coordinator(&mut self) {
        self.stores.clear();
        self.open.clear();
        for client in &mut self.clients {
            client.waits_since = None;
        }
        self.group = match &self.durable {
            Some(bytes) => {
                let stored = StoredState::decode(bytes.clone()).expect("it was encoded here");
                Group::restore(rules(0), stored, at(self.now_ms))
            }
            None => Group::new(rules(0)),
        };
        // What was told to the leader of a generation that nobody got an assignment of is void.
        let durable = self.group.generation;
        self.leaders.retain(|generation, _| *generation <= durable);
    }

    fn take(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Store(number, bytes) => self.stores.push((number, bytes)),
                Effect::Join(ticket, answer) => {
                    let Some(client) = self.answered(ticket) else { continue };
                    self.joined(client, answer);
                }
                Effect::Sync(ticket, answer) => {
                    let Some(client) = self.answered(ticket) else { continue };
                    if let Ok(synced) = answer {
                        self.synced(client, &synced);
                    }
                }
            }
        }
    }

    fn answered(&mut self, ticket: Ticket) -> Option<usize> {
        let client = self.open.remove(&ticket)?;
        let waits = self.clients[client].waits_since.take();
        assert_eq!(waits.map(|(of, _)| of), Some(ticket), "an answer that nobody waits for");
        Some(client)
    }

    fn joined(&mut self, client: usize, answer: Result<Joined, JoinRefused>) {
        let mine = &mut self.clients[client];
        mine.comes = false;
        match answer {
            Err(refused) if refused.code == ErrorCode::MEMBER_ID_REQUIRED => {
                mine.member_id = refused.member_id;
                mine.comes = true;
            }
            Err(refused) => {
                if refused.code != ErrorCode::REBALANCE_IN_PROGRESS {
                    mine.member_id.clear();
                }
            }
            Ok(joined) => {
                mine.member_id = joined.member_id.clone();
                mine.generation = joined.generation;
                mine.leads = !joined.members.is_empty() && !joined.skip_assignment;
                mine.members = joined.members.into_iter().map(|member| member.member_id).collect();
                if mine.leads {
                    assert_eq!(joined.leader, joined.member_id);
                    let first = self.leaders.entry(joined.generation).or_insert(joined.leader.clone());
                    // A static leader that comes back has another id and the same place.
                    let is_static = mine.instance_id.is_some();
                    assert!(
                        is_static || *first == joined.leader,
                        "two lead generation {}",
                        joined.generation
                    );
                }
            }
        }
    }

    /// The member was told what it owns. The partition is named as the member for whom it was meant.
    fn synced(&mut self, client: usize, synced: &Synced) {
        let mine = &self.clients[client];
        assert!(mine.generation >= self.assigned, "generation {} after {}", mine.generation, self.assigned);
        self.assigned = mine.generation;
        let partition = String::from_utf8_lossy(&synced.assignment).into_owned();
        if partition.is_empty() {
            return;
        }
        let owner = mine.instance_id.clone().unwrap_or_else(|| mine.member_id.clone());
        let owned = self.owned.entry(mine.generation).or_default();
        let before = owned.insert(partition.clone(), owner.clone());
        assert!(
            before.is_none_or(|before| before == owner),
            "{partition} is owned twice in {}",
            mine.generation
        );
    }

    fn check(&self) {
        if let Some(leader) = &self.group.leader {
            assert!(self.group.members.contains_key(leader), "the leader is no member");
        }
        let instances: BTreeSet<_> = self.group.statics.values().collect();
        assert_eq!(instances.len(), self.group.statics.len(), "two instances are one member");
        assert!(instances.iter().all(|id| self.group.members.contains_key(*id)));
        // What waits for the disk waits as long as that takes.
        for client in self.clients.iter().filter(|_| self.stores.is_empty()) {
            if let Some((_, since)) = client.waits_since {
                // A rebalance, then the wait for those who were told and do not ask.
                assert!(self.now_ms - since <= 2 * 61_000 + SESSION_MS, "it waits since {since}");
            }
        }
    }

    /// All clients do what they should: the group becomes stable, and everyone has a share.
    fn settle(&mut self) {
        for _ in 0..40 {
            while !self.stores.is_empty() {
                self.end_store(true);
            }
            for client in 0..CLIENTS {
                let is_member = self.group.heartbeat(&self.identity(client), self.now_ms);
                match is_member {
                    Ok(()) => self.step(&Step::Sync(client)),
                    Err(ErrorCode::UNKNOWN_MEMBER_ID | ErrorCode::FENCED_INSTANCE_ID) => {
                        let mine = &self.clients[client];
                        if mine.waits_since.is_none() && !mine.comes {
                            self.clients[client].member_id.clear();
                        }
                        self.step(&Step::Join(client));
                    }
                    Err(_) => self.step(&Step::Join(client)),
                }
            }
            self.step(&Step::Pass(SESSION_MS / 2));
        }
        let description = self.group.describe();
        assert_eq!((description.state, description.members.len()), ("Stable", CLIENTS), "{:?}", self.group);
        assert!(description.members.iter().all(|member| !member.assignment.is_empty()));
        assert!(self.open.is_empty(), "still waiting: {:?}", self.open);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_nobody_owns_what_another_owns(steps in prop::collection::vec(step(), 1..120)) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
        }
        world.settle();
    }
}
