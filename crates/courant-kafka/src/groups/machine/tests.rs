//! One group, told what happens; the answers in words.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};

use super::*;

const SESSION_MS: i64 = 10_000;
const REBALANCE_MS: i64 = 60_000;

pub(super) fn rules(initial_delay_ms: i64) -> Rules {
    Rules {
        session_ms_min: 10,
        session_ms_max: 1_800_000,
        initial_delay_ms,
        members_max: 2_000,
        bytes_max: 4_000_000,
    }
}

pub(super) fn at(ms: i64) -> Now {
    Now { ms, wall_ms: 1_700_000_000_000 + ms }
}

pub(super) fn protocol(name: &str) -> Protocol {
    Protocol { name: name.to_owned(), metadata: Bytes::from(format!("{name}: orders")) }
}

/// A client that has an id, or wants `fresh`.
pub(super) fn join(member_id: &str, fresh: &str) -> Join {
    Join {
        member_id: member_id.to_owned(),
        fresh_id: fresh.to_owned(),
        instance_id: None,
        client_id: "client".to_owned(),
        client_host: "/127.0.0.1".to_owned(),
        session_ms: SESSION_MS,
        rebalance_ms: REBALANCE_MS,
        protocol_type: "consumer".to_owned(),
        protocols: vec![protocol("range")],
        id_first: false,
        may_skip: true,
    }
}

fn instance(member_id: &str, fresh: &str, instance: &str) -> Join {
    Join { instance_id: Some(instance.to_owned()), ..join(member_id, fresh) }
}

pub(super) fn who(member_id: &str, generation: i32) -> Identity {
    Identity { member_id: member_id.to_owned(), instance_id: None, generation }
}

pub(super) fn sync(member_id: &str, generation: i32, assignments: &[(&str, &str)]) -> Sync {
    let assignment = |(id, what): &(&str, &str)| ((*id).to_owned(), Bytes::from((*what).to_owned()));
    Sync {
        who: who(member_id, generation),
        protocol_type: Some("consumer".to_owned()),
        protocol: Some("range".to_owned()),
        assignments: assignments.iter().map(assignment).collect::<BTreeMap<_, _>>(),
    }
}

/// Effects in words: `1 joined 1 a of a,b` (ticket, generation, leader, members), `2 syncs 0,1`,
/// `3 refused REBALANCE_IN_PROGRESS`, `stores`.
fn words(effects: &[Effect]) -> Vec<String> {
    let word = |effect: &Effect| match effect {
        Effect::Join(ticket, Ok(joined)) => {
            let members: Vec<_> =
                joined.members.iter().map(|member: &JoinedMember| &*member.member_id).collect();
            let of = if members.is_empty() { String::new() } else { format!(" of {}", members.join(",")) };
            let skip = if joined.skip_assignment { " as it is" } else { "" };
            format!("{ticket} joined {} {}{of}{skip}", joined.generation, joined.leader)
        }
        Effect::Join(ticket, Err(refused)) => format!("{ticket} refused {}", refused.code.name()),
        Effect::Sync(ticket, Ok(synced)) => {
            format!("{ticket} syncs {}", String::from_utf8_lossy(&synced.assignment))
        }
        Effect::Sync(ticket, Err(code)) => format!("{ticket} refused {}", code.name()),
        Effect::Store(..) => "stores".to_owned(),
    };
    effects.iter().map(word).collect()
}

/// A group under test, which makes everything durable that it is asked to.
struct Test {
    group: Group,
    ticket: Ticket,
}

impl Test {
    fn new() -> Self {
        Self { group: Group::new(rules(0)), ticket: 0 }
    }

    /// Does something with the next ticket and makes durable what follows from it.
    fn run(&mut self, now_ms: i64, run: impl FnOnce(&mut Group, Ticket) -> Vec<Effect>) -> Vec<String> {
        self.ticket += 1;
        let mut effects = run(&mut self.group, self.ticket);
        let numbers: Vec<_> = effects
            .iter()
            .filter_map(|effect| if let Effect::Store(number, _) = effect { Some(*number) } else { None })
            .collect();
        for number in numbers {
            effects.extend(self.group.stored(number, true, at(now_ms)));
        }
        words(&effects)
    }

    fn join(&mut self, ms: i64, join: Join) -> Vec<String> {
        self.run(ms, |group, ticket| group.join(ticket, join, at(ms)))
    }

    fn sync(&mut self, ms: i64, sync: Sync) -> Vec<String> {
        self.run(ms, |group, ticket| group.sync(ticket, sync, at(ms)))
    }

    fn tick(&mut self, ms: i64) -> Vec<String> {
        self.run(ms, |group, _| group.tick(at(ms)))
    }

    fn leave(&mut self, ms: i64, id: &str) -> Vec<String> {
        self.run(ms, |group, _| {
            let (outcomes, effects) = group.leave(&[(id.to_owned(), None)], at(ms));
            assert_eq!(outcomes, [Ok(())]);
            effects
        })
    }

    /// `a` leads and has 0; `b` follows and has 1; generation 2.
    fn of_two() -> Self {
        let mut test = Self::new();
        assert_eq!(test.join(0, join("", "a")), ["1 joined 1 a of a"]);
        assert_eq!(test.join(0, join("", "b")), Vec::<String>::new());
        assert_eq!(test.join(0, join("a", "")), ["3 joined 2 a of a,b", "2 joined 2 a"]);
        assert_eq!(test.sync(0, sync("b", 2, &[])), Vec::<String>::new());
        assert_eq!(
            test.sync(0, sync("a", 2, &[("a", "0"), ("b", "1")])),
            ["stores", "5 syncs 0", "4 syncs 1"]
        );
        test
    }

    /// As [`Self::of_two`], of static members `one` and `two`.
    fn of_two_statics() -> Self {
        let mut test = Self::new();
        test.join(0, instance("", "a", "one"));
        test.join(0, instance("", "b", "two"));
        test.join(0, instance("a", "", "one"));
        test.sync(0, Sync { who: static_who("b", "two", 2), ..sync("b", 2, &[]) });
        let leader = Sync { who: static_who("a", "one", 2), ..sync("a", 2, &[("a", "0"), ("b", "1")]) };
        assert_eq!(test.sync(0, leader).len(), 3);
        test.ticket = 10;
        test
    }
}

fn static_who(member_id: &str, instance: &str, generation: i32) -> Identity {
    Identity { instance_id: Some(instance.to_owned()), ..who(member_id, generation) }
}

/// What a consumer says in version 3 of its protocol: a topic, the partitions of it that it had, and in which
/// generation.
fn subscribed(topic: &str, had: &[i32], generation: i32) -> Protocol {
    let put_topic = |out: &mut BytesMut| {
        out.put_i32(1);
        out.put_i16(i16::try_from(topic.len()).expect("a short name"));
        out.put_slice(topic.as_bytes());
    };
    let mut metadata = BytesMut::new();
    metadata.put_i16(3);
    put_topic(&mut metadata);
    metadata.put_i32(-1); // Nothing for whoever assigns.
    put_topic(&mut metadata);
    metadata.put_i32(i32::try_from(had.len()).expect("a few"));
    for partition in had {
        metadata.put_i32(*partition);
    }
    metadata.put_i32(generation);
    metadata.put_i16(-1); // No rack.
    Protocol { metadata: metadata.freeze(), ..protocol("range") }
}

fn none() -> Vec<String> {
    Vec::new()
}

#[test]
fn a_client_without_an_id_gets_one_first_and_comes_back_with_it() {
    let mut group = Group::new(rules(0));
    let first = Join { id_first: true, ..join("", "a") };
    let effects = group.join(1, first, at(0));
    let Effect::Join(1, Err(refused)) = &effects[0] else { panic!("{effects:?}") };
    assert_eq!((refused.code, refused.member_id.as_str()), (ErrorCode::MEMBER_ID_REQUIRED, "a"));
    assert_eq!(
        words(&group.join(2, Join { id_first: true, ..join("a", "x") }, at(0))),
        ["2 joined 1 a of a"]
    );
    // An id that nobody gave, and one whose time is over.
    assert_eq!(words(&group.join(3, join("z", ""), at(0))), ["3 refused UNKNOWN_MEMBER_ID"]);
    group.join(4, Join { id_first: true, ..join("", "b") }, at(0));
    group.tick(at(SESSION_MS));
    assert_eq!(words(&group.join(5, join("b", ""), at(SESSION_MS))), ["5 refused UNKNOWN_MEMBER_ID"]);
}

#[test]
fn static_members_need_no_id_first() {
    let mut group = Group::new(rules(0));
    let first = Join { id_first: true, ..instance("", "a", "one") };
    assert_eq!(words(&group.join(1, first, at(0))), ["1 joined 1 a of a"]);
}

#[test]
fn a_rebalance_waits_for_everyone_and_the_leader_hears_of_all() {
    let mut test = Test::of_two();
    assert_eq!(test.join(1, join("", "c")), none());
    assert_eq!(test.group.heartbeat(&who("a", 2), 2), Err(ErrorCode::REBALANCE_IN_PROGRESS));
    assert_eq!(test.join(2, join("b", "")), none());
    assert_eq!(test.join(3, join("a", "")), ["8 joined 3 a of a,b,c", "7 joined 3 a", "6 joined 3 a"]);
}

#[test]
fn who_does_not_come_back_in_time_is_out() {
    let mut test = Test::of_two();
    assert_eq!(test.join(1, join("", "c")), none());
    // It sends heartbeats, but never joins.
    for ms in (5_000..60_000).step_by(5_000) {
        assert_eq!(test.group.heartbeat(&who("a", 2), ms), Err(ErrorCode::REBALANCE_IN_PROGRESS));
        assert_eq!(test.group.heartbeat(&who("b", 2), ms), Err(ErrorCode::REBALANCE_IN_PROGRESS));
        assert_eq!(test.tick(ms), none());
    }
    let joined = test.tick(1 + REBALANCE_MS);
    assert_eq!(joined, ["6 joined 3 c of c"]);
    assert_eq!(test.group.heartbeat(&who("a", 3), 60_002), Err(ErrorCode::UNKNOWN_MEMBER_ID));
}

#[test]
fn the_first_members_wait_for_more_of_them() {
    let mut group = Group::new(Rules { initial_delay_ms: 3_000, ..rules(0) });
    assert_eq!(words(&group.join(1, join("", "a"), at(0))), none());
    assert_eq!(words(&group.join(2, join("", "b"), at(2_900))), none());
    // The newcomer extends the wait, silence ends it.
    assert_eq!(words(&group.tick(at(3_000))), none());
    assert_eq!(group.next_deadline(), Some(6_000));
    assert_eq!(words(&group.tick(at(6_000))), ["1 joined 1 a of a,b", "2 joined 1 a"]);
}

#[test]
fn newcomers_cannot_extend_the_first_wait_for_ever() {
    let mut group = Group::new(Rules { initial_delay_ms: 3_000, ..rules(0) });
    let mut ms = 0;
    let mut ticket = 1;
    group.join(ticket, join("", "m000"), at(ms));
    loop {
        ticket += 1;
        group.join(ticket, join("", &format!("m{ticket:03}")), at(ms));
        ms += 3_000;
        if !group.tick(at(ms)).is_empty() {
            break;
        }
        assert!(ms <= REBALANCE_MS, "still waiting");
    }
    assert_eq!(ms, REBALANCE_MS);
}

#[test]
fn nobody_hears_of_an_assignment_before_it_is_durable() {
    let mut test = Test::new();
    test.join(0, join("", "a"));
    let effects = test.group.sync(2, sync("a", 1, &[("a", "0")]), at(0));
    let [Effect::Store(number, _)] = effects[..] else { panic!("{effects:?}") };
    // The same member asks again while the disk works.
    assert_eq!(
        words(&test.group.sync(3, sync("a", 1, &[("a", "0")]), at(0))),
        ["2 refused REBALANCE_IN_PROGRESS"]
    );
    assert_eq!(words(&test.group.stored(number, true, at(1))), ["3 syncs 0"]);
}

#[test]
fn an_assignment_that_is_not_stored_makes_everyone_join_again() {
    let mut test = Test::new();
    test.join(0, join("", "a"));
    let effects = test.group.sync(2, sync("a", 1, &[("a", "0")]), at(0));
    let [Effect::Store(number, _)] = effects[..] else { panic!("{effects:?}") };
    assert_eq!(words(&test.group.stored(number, false, at(1))), ["2 refused COORDINATOR_NOT_AVAILABLE"]);
    assert_eq!(test.group.heartbeat(&who("a", 1), 2), Err(ErrorCode::REBALANCE_IN_PROGRESS));
    test.ticket = 10;
    assert_eq!(test.join(3, join("a", "")), ["11 joined 2 a of a"]);
}

#[test]
fn a_rebalance_ends_the_wait_for_an_assignment() {
    let mut test = Test::of_two();
    test.join(1, join("", "c"));
    test.join(1, join("b", ""));
    test.join(1, join("a", ""));
    assert_eq!(test.sync(2, sync("b", 3, &[])), none());
    assert_eq!(test.join(3, join("", "d")), ["9 refused REBALANCE_IN_PROGRESS"]);
    assert_eq!(test.sync(4, sync("a", 3, &[])), ["11 refused REBALANCE_IN_PROGRESS"]);
}

#[test]
fn who_joins_and_never_asks_for_its_assignment_is_out() {
    let mut test = Test::new();
    test.join(0, Join { session_ms: 1_000_000, ..join("", "a") });
    test.join(0, Join { session_ms: 1_000_000, ..join("", "b") });
    test.join(0, join("a", ""));
    assert_eq!(test.sync(0, sync("a", 2, &[("a", "0"), ("b", "1")])), ["stores", "4 syncs 0"]);
    // Stable: the assignment waits for whoever asks late.
    assert_eq!(test.sync(1, sync("b", 2, &[])), ["5 syncs 1"]);
    test.join(2, join("", "c"));
    test.join(2, join("a", ""));
    test.join(2, join("b", ""));
    assert_eq!(test.sync(3, sync("b", 3, &[])), none());
    assert_eq!(test.tick(2 + REBALANCE_MS), ["9 refused REBALANCE_IN_PROGRESS"]);
    assert_eq!(test.group.describe().members.len(), 1, "the leader and the newcomer never asked");
}

#[test]
fn who_holds_partitions_and_never_asks_which_is_out_of_a_stable_group_too() {
    let patient = |join: Join| Join { session_ms: 1_000_000, ..join };
    let mut test = Test::new();
    test.join(0, patient(join("", "a")));
    test.join(0, patient(join("", "b")));
    test.join(0, patient(join("a", "")));
    assert_eq!(test.sync(0, sync("a", 2, &[("a", "0"), ("b", "1")])), ["stores", "4 syncs 0"]);
    assert_eq!(test.group.next_deadline(), Some(REBALANCE_MS));
    assert_eq!(test.tick(REBALANCE_MS - 1), none());
    assert_eq!(test.group.heartbeat(&who("b", 2), REBALANCE_MS - 1), Ok(()));
    assert_eq!(test.tick(REBALANCE_MS), none());
    assert_eq!(test.group.heartbeat(&who("b", 2), REBALANCE_MS), Err(ErrorCode::UNKNOWN_MEMBER_ID));
    assert_eq!(test.group.heartbeat(&who("a", 2), REBALANCE_MS), Err(ErrorCode::REBALANCE_IN_PROGRESS));
    // Who asks late, and in time, stays.
    let mut test = Test::new();
    test.join(0, patient(join("", "a")));
    test.join(0, patient(join("", "b")));
    test.join(0, patient(join("a", "")));
    test.sync(0, sync("a", 2, &[("a", "0"), ("b", "1")]));
    assert_eq!(test.sync(1, sync("b", 2, &[])), ["5 syncs 1"]);
    assert_eq!(test.tick(REBALANCE_MS), none());
    assert_eq!((test.group.describe().state, test.group.describe().members.len()), ("Stable", 2));
}

#[test]
fn a_member_that_changes_nothing_gets_the_same_answer_again() {
    let mut test = Test::of_two();
    assert_eq!(test.join(1, join("b", "")), ["6 joined 2 a"]);
    assert_eq!(test.sync(1, sync("b", 2, &[])), ["7 syncs 1"]);
    // The leader may have seen topics change.
    assert_eq!(test.join(2, join("a", "")), none());
    assert_eq!(test.join(3, join("b", "")), ["8 joined 3 a of a,b", "9 joined 3 a"]);
}

#[test]
fn a_follower_that_changes_its_subscription_causes_a_rebalance() {
    let mut test = Test::of_two();
    let other = Protocol { metadata: Bytes::from_static(b"payments"), ..protocol("range") };
    assert_eq!(test.join(1, Join { protocols: vec![other], ..join("b", "") }), none());
    assert_eq!(test.group.heartbeat(&who("a", 2), 2), Err(ErrorCode::REBALANCE_IN_PROGRESS));
}

#[test]
fn members_agree_on_a_way_to_assign() {
    let mut test = Test::new();
    let offers = |names: &[&str], join: Join| Join {
        protocols: names.iter().map(|name| protocol(name)).collect(),
        ..join
    };
    test.join(0, offers(&["range", "sticky"], join("", "a")));
    assert_eq!(
        test.join(0, offers(&["roundrobin"], join("", "x"))),
        ["2 refused INCONSISTENT_GROUP_PROTOCOL"]
    );
    assert_eq!(test.join(0, offers(&[], join("", "x"))), ["3 refused INCONSISTENT_GROUP_PROTOCOL"]);
    let connect = Join { protocol_type: "connect".to_owned(), ..join("", "x") };
    assert_eq!(test.join(0, connect), ["4 refused INCONSISTENT_GROUP_PROTOCOL"]);
    test.join(0, offers(&["sticky", "range"], join("", "b")));
    test.join(0, offers(&["sticky"], join("", "c")));
    test.join(0, offers(&["range", "sticky"], join("a", "")));
    assert_eq!(test.group.choose_protocol(), Some("sticky".to_owned()), "the only one that all know");
    assert_eq!(
        test.sync(0, Sync { protocol: Some("range".to_owned()), ..sync("a", 2, &[]) }),
        ["8 refused INCONSISTENT_GROUP_PROTOCOL"]
    );
}

#[test]
fn votes_decide_and_where_they_are_equal_the_leader() {
    let mut group = Group::new(rules(0));
    let offers = |names: &[&str], fresh: &str| Join {
        protocols: names.iter().map(|name| protocol(name)).collect(),
        ..join("", fresh)
    };
    group.join(1, offers(&["sticky", "range"], "a"), at(0));
    group.join(2, offers(&["range", "sticky"], "b"), at(0));
    assert_eq!(group.choose_protocol(), Some("sticky".to_owned()));
    group.join(3, offers(&["range", "sticky"], "c"), at(0));
    assert_eq!(group.choose_protocol(), Some("range".to_owned()));
}

#[test]
fn heartbeats_say_what_to_do() {
    let mut test = Test::of_two();
    assert_eq!(test.group.heartbeat(&who("a", 2), 0), Ok(()));
    assert_eq!(test.group.heartbeat(&who("z", 2), 0), Err(ErrorCode::UNKNOWN_MEMBER_ID));
    assert_eq!(test.group.heartbeat(&who("a", 1), 0), Err(ErrorCode::ILLEGAL_GENERATION));
    assert_eq!(test.group.heartbeat(&static_who("a", "one", 2), 0), Err(ErrorCode::UNKNOWN_MEMBER_ID));
}

#[test]
fn a_silent_member_is_out_and_one_that_waits_is_not() {
    let mut test = Test::of_two();
    assert_eq!(test.group.heartbeat(&who("a", 2), SESSION_MS - 1), Ok(()));
    assert_eq!(test.tick(SESSION_MS - 1), none());
    assert_eq!(test.tick(SESSION_MS), none());
    assert_eq!(test.group.describe().members.len(), 1, "b was silent");
    assert_eq!(test.group.heartbeat(&who("a", 2), SESSION_MS), Err(ErrorCode::REBALANCE_IN_PROGRESS));
    // Its request to join waits longer than its session is.
    let mut test = Test::of_two();
    test.join(1, join("", "c"));
    assert_eq!(test.group.heartbeat(&who("a", 2), SESSION_MS), Err(ErrorCode::REBALANCE_IN_PROGRESS));
    assert_eq!(test.tick(SESSION_MS), none());
    let ids: Vec<_> = test.group.describe().members.into_iter().map(|member| member.member_id).collect();
    assert_eq!(ids, ["a", "c"]);
}

#[test]
fn who_leaves_is_missed_at_once() {
    let mut test = Test::of_two();
    assert_eq!(test.leave(1, "a"), none());
    assert_eq!(test.join(2, join("b", "")), ["7 joined 3 b of b"], "the follower leads");
    assert_eq!(test.leave(3, "b"), ["stores"]);
    assert!(test.group.is_empty() && test.group.empty_since_ms().is_some());
    assert_eq!(test.join(4, join("", "c")), ["9 joined 5 c of c"], "the generation goes on");
}

#[test]
fn one_request_takes_several_members_out() {
    let mut test = Test::of_two_statics();
    let leaving = [
        (String::new(), Some("one".to_owned())),
        ("z".to_owned(), Some("two".to_owned())),
        (String::new(), Some("three".to_owned())),
        ("z".to_owned(), None),
    ];
    let (outcomes, _) = test.group.leave(&leaving, at(1));
    assert_eq!(
        outcomes,
        [
            Ok(()),
            Err(ErrorCode::FENCED_INSTANCE_ID),
            Err(ErrorCode::UNKNOWN_MEMBER_ID),
            Err(ErrorCode::UNKNOWN_MEMBER_ID)
        ]
    );
    assert_eq!(test.group.describe().members.len(), 1);
}

#[test]
fn a_static_member_comes_back_without_a_rebalance_and_its_old_self_is_fenced() {
    let mut test = Test::of_two_statics();
    assert_eq!(test.join(1, instance("", "b2", "two")), ["stores", "11 joined 2 a"]);
    let synced = Sync { who: static_who("b2", "two", 2), ..sync("", 2, &[]) };
    assert_eq!(test.sync(1, synced), ["12 syncs 1"], "it has what it had");
    assert_eq!(test.group.heartbeat(&static_who("b", "two", 2), 1), Err(ErrorCode::FENCED_INSTANCE_ID));
    assert_eq!(test.join(1, instance("b", "", "two")), ["13 refused FENCED_INSTANCE_ID"]);
    assert_eq!(test.group.heartbeat(&static_who("a", "one", 2), 1), Ok(()), "nobody else noticed");
}

#[test]
fn a_static_leader_comes_back_and_leaves_the_assignments_as_they_are() {
    let mut test = Test::of_two_statics();
    assert_eq!(test.join(1, instance("", "a2", "one")), ["stores", "11 joined 2 a2 of a2,b as it is"]);
    let mut test = Test::of_two_statics();
    let older = Join { may_skip: false, ..instance("", "a2", "one") };
    assert_eq!(test.join(1, older), ["stores", "11 joined 2 a"], "an older client follows");
}

#[test]
fn a_static_member_that_comes_back_with_another_subscription_causes_a_rebalance() {
    let mut test = Test::of_two_statics();
    let other = Protocol { metadata: Bytes::from_static(b"payments"), ..protocol("range") };
    let back = Join { protocols: vec![other], ..instance("", "b2", "two") };
    assert_eq!(test.join(1, back), none());
    assert_eq!(test.join(2, instance("a", "", "one")), ["12 joined 3 a of a,b2", "11 joined 3 a"]);
}

/// Symptom: a static member that was restarted caused a rebalance of a group that had been rebalanced before.
/// Cause: what it said was compared byte by byte, and clients say which partitions they had and in which
/// generation, of which a new process knows nothing. Fix: only the topics are compared.
#[test]
fn a_static_member_that_has_forgotten_what_it_had_comes_back_without_a_rebalance() {
    let says = |protocol: Protocol, join: Join| Join { protocols: vec![protocol], ..join };
    let fresh = |topic: &str| subscribed(topic, &[], -1);
    let mut test = Test::new();
    test.join(0, says(fresh("orders"), instance("", "a", "one")));
    test.join(0, says(fresh("orders"), instance("", "b", "two")));
    test.join(0, says(subscribed("orders", &[0, 1], 1), instance("a", "", "one")));
    let leader = Sync { who: static_who("a", "one", 2), ..sync("a", 2, &[("a", "0"), ("b", "1")]) };
    assert_eq!(test.sync(0, leader), ["stores", "4 syncs 0"]);
    let back = test.join(1, says(fresh("orders"), instance("", "a2", "one")));
    assert_eq!(back, ["stores", "5 joined 2 a2 of a2,b as it is"]);
    assert_eq!(test.group.heartbeat(&static_who("b", "two", 2), 1), Ok(()), "nobody else noticed");
    // Another topic is nobody's until everyone has come back.
    assert_eq!(test.join(2, says(fresh("payments"), instance("", "a3", "one"))), none());
    let rebalanced = Err(ErrorCode::REBALANCE_IN_PROGRESS);
    assert_eq!(test.group.heartbeat(&static_who("b", "two", 2), 2), rebalanced);
}

#[test]
fn a_static_member_that_changes_the_vote_causes_a_rebalance() {
    let offers = |names: &[&str], join: Join| Join {
        protocols: names.iter().map(|name| protocol(name)).collect(),
        ..join
    };
    let mut test = Test::new();
    test.join(0, offers(&["sticky", "range"], instance("", "a", "one")));
    test.join(0, offers(&["range"], instance("", "b", "two")));
    test.join(0, offers(&["sticky", "range"], instance("a", "", "one")));
    let leader = Sync { who: static_who("a", "one", 2), ..sync("a", 2, &[("a", "0"), ("b", "1")]) };
    assert_eq!(test.sync(0, leader), ["stores", "4 syncs 0"]);
    // `range` is what both know, until the last of them is restarted with the new settings.
    assert_eq!(test.join(1, offers(&["sticky", "range"], instance("", "b2", "two"))), none());
    let joined = test.join(2, offers(&["sticky", "range"], instance("a", "", "one")));
    assert_eq!(joined, ["6 joined 3 a of a,b2", "5 joined 3 a"]);
    assert_eq!(test.group.protocol.as_deref(), Some("sticky"));
}

#[test]
fn a_static_member_that_waits_twice_is_answered_twice() {
    let mut test = Test::of_two_statics();
    test.join(1, instance("", "c", "three"));
    assert_eq!(test.join(2, instance("b", "", "two")), none());
    assert_eq!(test.join(3, instance("", "b2", "two")), ["12 refused FENCED_INSTANCE_ID"]);
}

#[test]
fn a_static_member_keeps_its_place_through_a_rebalance_that_it_misses() {
    let mut test = Test::of_two_statics();
    let slow = Join { rebalance_ms: 1_000, ..instance("", "c", "three") };
    test.join(1, slow);
    test.join(1, Join { rebalance_ms: 1_000, ..instance("a", "", "one") });
    // `two` had 60 s when it joined, and is silent; its session ends first.
    assert_eq!(test.tick(SESSION_MS), ["12 joined 3 a of a,c", "11 joined 3 a"]);
}

#[test]
fn commits_come_from_members_of_this_generation_or_from_nobody_in_an_empty_group() {
    let mut test = Test::new();
    assert_eq!(test.group.may_commit(&who("", -1), 0), Ok(()));
    assert_eq!(test.group.may_commit(&who("a", 3), 0), Err(ErrorCode::ILLEGAL_GENERATION));
    let mut test = Test::of_two();
    assert_eq!(test.group.may_commit(&who("", -1), 0), Err(ErrorCode::UNKNOWN_MEMBER_ID));
    assert_eq!(test.group.may_commit(&who("z", 2), 0), Err(ErrorCode::UNKNOWN_MEMBER_ID));
    assert_eq!(test.group.may_commit(&who("a", 1), 0), Err(ErrorCode::ILLEGAL_GENERATION));
    assert_eq!(test.group.may_commit(&who("a", 2), 0), Ok(()));
    // While members come back, the old generation still commits; once they are told of a new one, it
    // is over.
    test.join(1, join("", "c"));
    assert_eq!(test.group.may_commit(&who("a", 2), 1), Ok(()));
    test.join(1, join("a", ""));
    test.join(1, join("b", ""));
    assert_eq!(test.group.may_commit(&who("a", 2), 1), Err(ErrorCode::ILLEGAL_GENERATION));
    assert_eq!(test.group.may_commit(&who("a", 3), 1), Err(ErrorCode::REBALANCE_IN_PROGRESS));
    let mut test = Test::of_two_statics();
    assert_eq!(test.group.may_commit(&static_who("a", "two", 2), 0), Err(ErrorCode::FENCED_INSTANCE_ID));
}

#[test]
fn bounds_are_kept() {
    let mut group = Group::new(Rules { members_max: 2, bytes_max: 1_000, ..rules(0) });
    let session = |session_ms| Join { session_ms, ..join("", "a") };
    assert_eq!(words(&group.join(1, session(9), at(0))), ["1 refused INVALID_SESSION_TIMEOUT"]);
    assert_eq!(words(&group.join(2, session(1_800_001), at(0))), ["2 refused INVALID_SESSION_TIMEOUT"]);
    let long = Protocol { metadata: Bytes::from(vec![0; 1_000]), ..protocol("range") };
    let long = Join { protocols: vec![long], ..join("", "a") };
    assert_eq!(words(&group.join(3, long, at(0))), ["3 refused GROUP_MAX_SIZE_REACHED"]);
    // Names are stored too.
    let long = instance("", "a", &"x".repeat(1_000));
    assert_eq!(words(&group.join(3, long, at(0))), ["3 refused GROUP_MAX_SIZE_REACHED"]);
    group.join(4, join("", "a"), at(0));
    group.join(5, Join { id_first: true, ..join("", "b") }, at(0));
    assert_eq!(words(&group.join(6, join("", "c"), at(0))), ["6 refused GROUP_MAX_SIZE_REACHED"]);
    // Who was given an id has a place.
    assert_eq!(words(&group.join(7, join("b", ""), at(0))), none());
}

#[test]
fn a_member_that_comes_back_takes_the_place_that_it_had() {
    let long = || Protocol { metadata: Bytes::from(vec![0; 600]), ..protocol("range") };
    let of = |join: Join| Join { protocols: vec![long()], ..join };
    let mut group = Group::new(Rules { bytes_max: 1_000, ..rules(0) });
    assert_eq!(words(&group.join(1, of(instance("", "a", "one")), at(0))), ["1 joined 1 a of a"]);
    assert_eq!(words(&group.join(2, of(instance("a", "", "one")), at(0))), ["2 joined 1 a of a"]);
    assert_eq!(words(&group.join(3, of(instance("", "a2", "one")), at(0))), ["3 joined 2 a2 of a2"]);
    assert_eq!(words(&group.join(4, of(join("", "b")), at(0))), ["4 refused GROUP_MAX_SIZE_REACHED"]);
}

#[test]
fn assignments_that_are_too_long_to_be_stored_are_refused() {
    let mut group = Group::new(Rules { bytes_max: 1_000, ..rules(0) });
    group.join(1, join("", "a"), at(0));
    let long = "x".repeat(1_000);
    let effects = group.sync(2, sync("a", 1, &[("a", long.as_str())]), at(0));
    assert_eq!(words(&effects), ["2 refused GROUP_MAX_SIZE_REACHED"]);
    assert_eq!(words(&group.sync(3, sync("a", 1, &[("a", "0")]), at(0))), ["stores"]);
}

#[test]
fn what_is_stored_is_no_longer_than_what_is_counted() {
    // The group's own fields, and the two assignments of one byte.
    const REST: usize = 100;
    let mut test = Test::of_two_statics();
    let Effect::Store(_, bytes) = test.group.store(Storing::Nothing, at(0)) else { panic!("it stores") };
    assert!(bytes.len() <= test.group.bytes() + REST, "{} of {}", bytes.len(), test.group.bytes());
}

#[test]
fn a_restart_is_no_rebalance() {
    let mut test = Test::of_two();
    let Effect::Store(_, bytes) = test.group.store(Storing::Nothing, at(0)) else { panic!("it stores") };
    let stored = StoredState::decode(bytes).expect("it is whole");
    let mut group = Group::restore(rules(0), stored, at(1_000));
    assert_eq!(group.heartbeat(&who("b", 2), 1_001), Ok(()));
    assert_eq!(words(&group.sync(1, sync("b", 2, &[]), at(1_001))), ["1 syncs 1"]);
    assert_eq!(group.describe().state, "Stable");
    // `a` is never heard of again; it has a whole session from the restart on.
    assert_eq!(group.tick(at(1_000 + SESSION_MS - 1)), []);
    group.tick(at(1_000 + SESSION_MS));
    assert_eq!(group.describe().state, "PreparingRebalance");
}

#[test]
fn a_thousand_members_come_and_go_and_no_partition_is_owned_twice() {
    const MEMBERS: usize = 1_000;
    let mut test = Test::new();
    let ids: Vec<_> = (0..MEMBERS).map(|number| format!("m{number:04}")).collect();
    for id in &ids {
        test.join(0, join("", id));
    }
    // The first of them leads and was alone in generation 1.
    let joined = test.join(0, join("m0000", ""));
    assert_eq!(joined.len(), MEMBERS);
    let mut generation = 2;
    for gone in [0, 1, 500, 998] {
        let there: Vec<_> = ids[gone..].iter().map(String::as_str).collect();
        if gone > 0 {
            for id in test.group.members.keys().cloned().collect::<Vec<_>>() {
                if !there.contains(&id.as_str()) {
                    test.leave(0, &id);
                }
            }
            for id in &there {
                test.join(0, join(id, ""));
            }
            generation += 1;
        }
        assert_eq!(test.group.generation, generation);
        let leader = test.group.leader.clone().expect("there is one");
        let owned: Vec<_> = there.iter().map(|id| (*id, *id)).collect();
        let mut synced = Vec::new();
        for id in there.iter().filter(|id| **id != leader) {
            synced.extend(test.sync(0, sync(id, generation, &[])));
        }
        synced.extend(test.sync(0, sync(&leader, generation, &owned)));
        synced.retain(|effect| effect != "stores");
        let mut partitions: Vec<_> = synced.iter().map(|answer| answer.split(' ').nth(2)).collect();
        assert_eq!(partitions.len(), there.len(), "everyone is answered");
        partitions.sort_unstable();
        partitions.dedup();
        assert_eq!(partitions.len(), there.len(), "a partition is owned twice");
    }
}
