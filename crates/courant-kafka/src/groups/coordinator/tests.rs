//! What the coordinator keeps and what it forgets, in front of a log that commits when it is told to.

use bytes::Bytes;
use courant_core::topic::TopicName;
use courant_log::storage::MemoryStorage;
use courant_log::{CommittedOffset, LogConfig, NewTopic, PartitionId, SystemEntropy};

use super::*;
use crate::groups::Protocol;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

fn coordinator() -> Coordinator {
    let config = LogConfig {
        journal_file_bytes: 1024 * 1024,
        first_journal_file_bytes: 1024 * 1024,
        reserve_bytes: 0,
        background: false,
        ..LogConfig::new(Arc::new(SystemClock), Arc::new(SystemEntropy))
    };
    let storage = Arc::new(MemoryStorage::new(64 * 1024 * 1024));
    let (log, _) = Log::open(storage, config).expect("a new log opens");
    let retention = Duration::from_secs(7 * 24 * 60 * 60);
    Coordinator::new(
        log,
        GroupSettings { initial_delay: Duration::ZERO, retention, members_bytes_max: 2_700 },
    )
}

impl Coordinator {
    /// Makes durable what the log was told.
    fn settle(&self) {
        while self.log.commit() {}
    }

    /// Names of the groups that are in memory.
    fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = self.map().keys().cloned().collect();
        names.sort_unstable();
        names
    }

    fn topic(&self) -> PartitionId {
        let (done, created) = std::sync::mpsc::channel();
        let new = NewTopic {
            name: TopicName::new("orders").expect("a legal name"),
            partitions: 1,
            configs: BTreeMap::new(),
        };
        self.log.create_topic(new, move |topic| done.send(topic).expect("it is waited for"));
        self.settle();
        created.recv().expect("an outcome").expect("a topic").partitions[0]
    }

    fn commits(&self, group: &str, partition: PartitionId, committed_ms: i64) {
        let offset = CommittedOffset { offset: 5, leader_epoch: 0, metadata: String::new(), committed_ms };
        let who = Identity { generation: -1, ..Identity::default() };
        let offsets = vec![(partition, offset)];
        self.commit(group, Commit { who, offsets }).expect("nobody is in the group");
    }

    /// Stores a group of which nobody is a member any more.
    fn store_empty(&self, group: &str, generation: i32, empty_since_ms: i64) {
        let state = StoredState {
            protocol_type: Some("consumer".to_owned()),
            generation,
            protocol: None,
            leader: None,
            empty_since_ms,
            members: Vec::new(),
        };
        self.log.store_group(group.to_owned(), state.encode(), |stored| stored.expect("it is short"));
        self.settle();
    }
}

fn join() -> Join {
    Join {
        member_id: String::new(),
        fresh_id: "member".to_owned(),
        instance_id: None,
        client_id: "client".to_owned(),
        client_host: "/127.0.0.1".to_owned(),
        session_ms: 10_000,
        rebalance_ms: 60_000,
        protocol_type: "consumer".to_owned(),
        protocols: vec![Protocol { name: "range".to_owned(), metadata: Bytes::from_static(b"orders") }],
        id_first: false,
        may_skip: false,
    }
}

/// Otherwise clients that are refused would use up the groups that there may be.
#[test]
fn a_name_alone_takes_no_memory() {
    let coordinator = coordinator();
    let mut refused = coordinator.join("refused", Join { session_ms: 0, ..join() });
    let code = refused.try_recv().expect("answered at once").expect_err("a session of no time").code;
    assert_eq!(code, ErrorCode::INVALID_SESSION_TIMEOUT);
    assert!(coordinator.describe("unknown").is_none());
    assert_eq!(coordinator.names(), Vec::<String>::new());

    // The log leaves out what is committed for a partition that is deleted.
    coordinator.commits("nothing", PartitionId(77), coordinator.now().wall_ms);
    assert_eq!(coordinator.names(), ["nothing"], "the log has not taken it yet");
    coordinator.settle();
    coordinator.expire_offsets();
    assert_eq!(coordinator.names(), Vec::<String>::new());
}

#[test]
fn a_group_that_commits_or_has_members_is_kept() {
    let coordinator = coordinator();
    let partition = coordinator.topic();
    coordinator.commits("simple", partition, coordinator.now().wall_ms);
    coordinator.expire_offsets();
    coordinator.settle();
    let mut joined = coordinator.join("members", join());
    assert_eq!(joined.try_recv().expect("answered at once").expect("joined").generation, 1);
    coordinator.expire_offsets();
    assert_eq!(coordinator.names(), ["members", "simple"]);
    assert_eq!(coordinator.log.groups(), ["simple"]);
}

#[test]
fn what_the_log_remembers_goes_on_where_it_was() {
    let coordinator = coordinator();
    coordinator.store_empty("billing", 7, coordinator.now().wall_ms);
    assert_eq!(coordinator.names(), Vec::<String>::new());
    let mut joined = coordinator.join("billing", join());
    assert_eq!(joined.try_recv().expect("answered at once").expect("joined").generation, 8);
}

/// A service in the process of the server commits past the coordinator.
#[test]
fn a_group_that_the_log_alone_knows_is_listed_and_described() {
    let coordinator = coordinator();
    coordinator.store_empty("beside", 1, coordinator.now().wall_ms);
    assert_eq!(coordinator.names(), Vec::<String>::new());
    assert_eq!(coordinator.list().into_keys().collect::<Vec<_>>(), ["beside"]);
    assert!(coordinator.describe("beside").is_some());
}

/// Members that say much of themselves, each in a group of its own, come to no more than all of them may; who is
/// in comes back, and who leaves makes room.
#[test]
fn members_of_all_groups_have_a_bound_together() {
    let coordinator = coordinator();
    let long = |member_id: &str, bytes: usize| {
        let metadata = Bytes::from(vec![7; bytes]);
        let protocols = vec![Protocol { name: "range".to_owned(), metadata }];
        Join { member_id: member_id.to_owned(), protocols, ..join() }
    };
    let joins = |group: &str, join: Join| {
        coordinator.join(group, join).try_recv().expect("answered at once").map_err(|refused| refused.code)
    };
    let full = Err(ErrorCode::GROUP_MAX_SIZE_REACHED);
    let first = joins("first", long("", 1_200)).expect("there is room");
    assert_eq!(joins("second", long("", 1_200)), full);
    assert_eq!(coordinator.names(), ["first"], "who is refused leaves no group behind");
    assert!(joins("first", long(&first.member_id, 1_200)).is_ok(), "it has its place");
    assert_eq!(joins("first", long(&first.member_id, 2_900)), full);
    assert!(joins("second", long("", 300)).is_ok(), "it is short");

    coordinator.leave("first", &[(first.member_id, None)]);
    assert!(joins("third", long("", 1_200)).is_ok(), "there is room again");
    let counted: usize = coordinator.map().values().map(|cell| cell.lock().counted).sum();
    assert_eq!(coordinator.members_bytes.load(Ordering::Relaxed), counted);
    assert!((1_500..=2_000).contains(&counted), "{counted}");
}

/// Those who are in are assigned something, and may say more of themselves, also when nobody comes in any more.
#[test]
fn newcomers_leave_room_for_those_who_are_in() {
    let coordinator = coordinator();
    let long = |bytes: usize| {
        let metadata = Bytes::from(vec![7; bytes]);
        Join { protocols: vec![Protocol { name: "range".to_owned(), metadata }], ..join() }
    };
    let mut joined = coordinator.join("first", long(100));
    let first = joined.try_recv().expect("answered at once").expect("there is room");
    // Others take whatever is left for newcomers.
    let mut others = 0;
    while coordinator.join(&format!("other-{others}"), long(50)).try_recv().expect("answered").is_ok() {
        others += 1;
    }
    assert!(others > 3, "{others}");
    let mut refused = coordinator.join("first", long(50));
    let code = refused.try_recv().expect("answered at once").expect_err("it is new").code;
    assert_eq!(code, ErrorCode::GROUP_MAX_SIZE_REACHED);

    let mut more = coordinator.join("first", Join { member_id: first.member_id.clone(), ..long(200) });
    let again = more.try_recv().expect("answered at once").expect("it is in, and says a little more");
    let who =
        Identity { member_id: first.member_id.clone(), generation: again.generation, ..Identity::default() };
    let assignments = BTreeMap::from([(first.member_id, Bytes::from(vec![7; 300]))]);
    let sync = Sync { who, protocol_type: None, protocol: None, assignments };
    let mut synced = coordinator.sync("first", sync);
    assert!(synced.try_recv().is_err(), "it waits for the disk, and is not refused");
    coordinator.settle();
    assert!(coordinator.log.has_group("first"), "its assignment is stored");
}

/// Between two generations nobody is assigned anything. Who comes into another group then does not take the room.
#[test]
fn a_rebalance_keeps_the_room_of_what_was_assigned() {
    let coordinator = coordinator();
    let long = |member_id: &str, bytes: usize| {
        let metadata = Bytes::from(vec![7; bytes]);
        let protocols = vec![Protocol { name: "range".to_owned(), metadata }];
        Join { member_id: member_id.to_owned(), protocols, ..join() }
    };
    let joins = |group: &str, join: Join| coordinator.join(group, join).try_recv().expect("answered at once");
    let assigns = |joined: &Joined| {
        let id = joined.member_id.clone();
        let who = Identity { member_id: id.clone(), generation: joined.generation, ..Identity::default() };
        let assignments = BTreeMap::from([(id, Bytes::from(vec![7; 1_500]))]);
        coordinator.sync("first", Sync { who, protocol_type: None, protocol: None, assignments })
    };
    let first = joins("first", long("", 100)).expect("there is room");
    let mut synced = assigns(&first);
    assert!(synced.try_recv().is_err(), "it waits for the disk, and is not refused");
    let again = joins("first", long(&first.member_id, 110)).expect("it is in");
    assert!(again.generation > first.generation, "a rebalance");
    let late = joins("late", long("", 600)).expect_err("there is no room");
    assert_eq!(late.code, ErrorCode::GROUP_MAX_SIZE_REACHED);
    let mut synced = assigns(&again);
    assert!(synced.try_recv().is_err(), "it waits for the disk, and is not refused");
}

/// A client that takes ids and never comes back with them is counted for as long as they are kept.
#[test]
fn ids_that_are_given_are_counted() {
    let coordinator = coordinator();
    let asks = |group: &str| {
        let long_id = Join { fresh_id: "m".repeat(160), id_first: true, ..join() };
        coordinator
            .join(group, long_id)
            .try_recv()
            .expect("answered at once")
            .expect_err("no member yet")
            .code
    };
    let mut given = 0;
    while asks(&format!("group-{given}")) == ErrorCode::MEMBER_ID_REQUIRED {
        given += 1;
        assert!(given < 100, "ids have a bound over all groups");
    }
    assert!(given > 3, "{given}");
    assert_eq!(asks("full"), ErrorCode::GROUP_MAX_SIZE_REACHED);
    let given_back = [("m".repeat(160), None)];
    coordinator.leave("group-0", &given_back);
    coordinator.leave("group-1", &given_back);
    assert_eq!(asks("full"), ErrorCode::MEMBER_ID_REQUIRED, "there is room again");
}

/// One that is in memory and has nothing, because the log has not taken its commit yet, is no group for those who
/// ask; who counts what a list takes sees the same groups as who makes it.
#[test]
fn what_is_not_durable_is_not_listed() {
    let coordinator = coordinator();
    let partition = coordinator.topic();
    coordinator.commits("billing", partition, coordinator.now().wall_ms);
    coordinator.settle();
    coordinator.commits("shipping", partition, coordinator.now().wall_ms);
    let mut joined = coordinator.join("members", join());
    joined.try_recv().expect("answered at once").expect("joined");
    assert_eq!(coordinator.names(), ["billing", "members", "shipping"]);
    let mut seen = Vec::new();
    coordinator.each(|name, _| seen.push(name.to_owned()));
    seen.sort_unstable();
    assert_eq!(seen, ["billing", "members"]);
    assert_eq!(coordinator.list().into_keys().collect::<Vec<_>>(), seen);
    assert!(coordinator.describe("shipping").is_none());
    coordinator.settle();
    assert_eq!(coordinator.list().len(), 3);
}

#[test]
fn offsets_are_kept_for_the_time_of_retention_after_the_last_member_is_gone() {
    let coordinator = coordinator();
    let partition = coordinator.topic();
    let now_ms = coordinator.now().wall_ms;
    for (group, committed_ms, empty_since_ms) in [
        ("both-old", now_ms - 9 * DAY_MS, Some(now_ms - 8 * DAY_MS)),
        ("empty-for-a-day", now_ms - 9 * DAY_MS, Some(now_ms - DAY_MS)),
        ("committed-yesterday", now_ms - DAY_MS, Some(now_ms - 8 * DAY_MS)),
        ("simple-and-old", now_ms - 8 * DAY_MS, None),
        ("simple", now_ms - DAY_MS, None),
    ] {
        // First the state: the group is taken in from the log when it commits.
        if let Some(empty_since_ms) = empty_since_ms {
            coordinator.store_empty(group, 3, empty_since_ms);
        }
        coordinator.commits(group, partition, committed_ms);
        coordinator.settle();
    }
    // A name and a generation are not kept for as long.
    coordinator.store_empty("never-committed", 3, now_ms - DAY_MS);
    coordinator.store_empty("just-left", 3, now_ms);
    coordinator.expire_offsets();
    coordinator.settle();
    let kept = ["committed-yesterday", "empty-for-a-day", "just-left", "simple"];
    assert_eq!(coordinator.log.groups(), kept);
    // Where the log itself let go, the next look finds nothing.
    coordinator.expire_offsets();
    assert_eq!(coordinator.names(), kept);
}

#[test]
fn a_group_without_deadlines_is_not_watched() {
    let coordinator = coordinator();
    let mut joined = coordinator.join("billing", join());
    joined.try_recv().expect("answered at once").expect("joined");
    let leaving = [("member".to_owned(), None)];
    assert_eq!(coordinator.leave("billing", &leaving), [Ok(())]);
    let cell = coordinator.find("billing").expect("its generation is on its way to the log");
    assert_eq!(cell.lock().watched_ms, None);
}
