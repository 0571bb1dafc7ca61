//! Consumer groups: members that come and go, what they commit, and what administrators see of them.

use std::time::Duration;

use bytes::Bytes;
use courant_kafka::KafkaConfig;
use courant_kafka::wire::ErrorCode;
use courant_kafka::wire::messages::join_group::JoinGroupRequestProtocol;
use courant_kafka::wire::messages::leave_group::MemberIdentity;
use courant_kafka::wire::messages::offset_commit::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use courant_kafka::wire::messages::offset_delete::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use courant_kafka::wire::messages::offset_fetch::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use courant_kafka::wire::messages::sync_group::SyncGroupRequestAssignment;
use courant_kafka::wire::messages::{
    DeleteGroupsRequest, DescribeGroupsRequest, HeartbeatRequest, JoinGroupRequest, JoinGroupResponse,
    LeaveGroupRequest, ListGroupsRequest, OffsetCommitRequest, OffsetDeleteRequest, OffsetFetchRequest,
    SyncGroupRequest, SyncGroupResponse,
};
use courant_log::storage::MemoryStorage;

use crate::support::{Raw, Running, soon};

const GROUP: &str = "billing";

/// What a consumer of the topic `orders` says: version 1, its topics, no more.
const SUBSCRIPTION: &[u8] = b"\0\x01\0\0\0\x01\0\x06orders\xff\xff\xff\xff";

/// Without the wait for more members that a service is started with.
fn config() -> KafkaConfig {
    KafkaConfig { group_initial_rebalance_delay: Duration::ZERO, ..KafkaConfig::default() }
}

fn join(group: &str, member_id: &str) -> JoinGroupRequest {
    JoinGroupRequest {
        group_id: group.to_owned(),
        session_timeout_ms: 60_000,
        rebalance_timeout_ms: 60_000,
        member_id: member_id.to_owned(),
        protocol_type: "consumer".to_owned(),
        protocols: vec![JoinGroupRequestProtocol {
            name: "range".to_owned(),
            metadata: Bytes::from_static(SUBSCRIPTION),
        }],
        ..JoinGroupRequest::default()
    }
}

fn sync(joined: &JoinGroupResponse, assignments: &[(&str, &str)]) -> SyncGroupRequest {
    let assignment = |(id, what): &(&str, &str)| SyncGroupRequestAssignment {
        member_id: (*id).to_owned(),
        assignment: Bytes::copy_from_slice(what.as_bytes()),
    };
    SyncGroupRequest {
        group_id: GROUP.to_owned(),
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        protocol_type: Some("consumer".to_owned()),
        protocol_name: Some("range".to_owned()),
        assignments: assignments.iter().map(assignment).collect(),
        ..SyncGroupRequest::default()
    }
}

fn leave(member_id: &str) -> LeaveGroupRequest {
    LeaveGroupRequest {
        group_id: GROUP.to_owned(),
        members: vec![MemberIdentity { member_id: member_id.to_owned(), ..MemberIdentity::default() }],
        ..LeaveGroupRequest::default()
    }
}

async fn heartbeat(raw: &mut Raw, joined: &JoinGroupResponse) -> ErrorCode {
    let request = HeartbeatRequest {
        group_id: GROUP.to_owned(),
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        ..HeartbeatRequest::default()
    };
    ErrorCode(raw.call(&request, 4).await.error_code)
}

/// Sends heartbeats until one is told of a rebalance, which another connection is about to cause.
async fn is_told_of_a_rebalance(raw: &mut Raw, joined: &JoinGroupResponse) {
    let told = async {
        loop {
            match heartbeat(raw, joined).await {
                ErrorCode::NONE => {}
                code => break code,
            }
        }
    };
    let code = soon("a member is told of a rebalance", told).await;
    assert_eq!(code, ErrorCode::REBALANCE_IN_PROGRESS);
}

/// The id that a client is given before it joins.
async fn member_id(raw: &mut Raw) -> String {
    let answer = raw.call(&join(GROUP, ""), 9).await;
    assert_eq!(ErrorCode(answer.error_code), ErrorCode::MEMBER_ID_REQUIRED);
    assert!(answer.member_id.starts_with("raw-"), "{}", answer.member_id);
    answer.member_id
}

/// The only member of the group, which has everything.
async fn alone(running: &Running) -> (Raw, JoinGroupResponse) {
    let mut raw = running.connect().await;
    let id = member_id(&mut raw).await;
    let joined = raw.call(&join(GROUP, &id), 9).await;
    assert_eq!((joined.error_code, joined.leader.as_str(), joined.member_id.as_str()), (0, &*id, &*id));
    assert_eq!(joined.members.len(), 1);
    assert_eq!(joined.members[0].metadata, SUBSCRIPTION);
    let synced = raw.call(&sync(&joined, &[(id.as_str(), "all")]), 5).await;
    assert_eq!((synced.error_code, &synced.assignment[..]), (0, &b"all"[..]));
    (raw, joined)
}

/// A commit for the topic `orders` by nobody in particular: partition, offset, leader epoch, metadata.
fn commit(group: &str, partitions: &[(i32, i64, i32, &str)]) -> OffsetCommitRequest {
    let partition = |(index, offset, epoch, metadata): &(i32, i64, i32, &str)| OffsetCommitRequestPartition {
        partition_index: *index,
        committed_offset: *offset,
        committed_leader_epoch: *epoch,
        committed_metadata: Some((*metadata).to_owned()),
    };
    OffsetCommitRequest {
        group_id: group.to_owned(),
        topics: vec![OffsetCommitRequestTopic {
            name: "orders".to_owned(),
            partitions: partitions.iter().map(partition).collect(),
        }],
        ..OffsetCommitRequest::default()
    }
}

async fn commits(raw: &mut Raw, request: &OffsetCommitRequest) -> Vec<ErrorCode> {
    let answer = raw.call(request, 9).await;
    let partitions = answer.topics.iter().flat_map(|topic| &topic.partitions);
    partitions.map(|partition| ErrorCode(partition.error_code)).collect()
}

/// Everything that a group has committed: partition, offset, leader epoch, metadata.
async fn committed(raw: &mut Raw, group: &str) -> Vec<(i32, i64, i32, String)> {
    let request =
        OffsetFetchRequest { group_id: group.to_owned(), topics: None, ..OffsetFetchRequest::default() };
    let answer = raw.call(&request, 7).await;
    assert_eq!(answer.error_code, 0);
    let partitions = answer.topics.into_iter().flat_map(|topic| topic.partitions);
    let found = partitions.map(|found| {
        let metadata = found.metadata.unwrap_or_default();
        (found.partition_index, found.committed_offset, found.committed_leader_epoch, metadata)
    });
    found.collect()
}

async fn deletes(raw: &mut Raw) -> ErrorCode {
    let request = DeleteGroupsRequest { groups_names: vec![GROUP.to_owned()] };
    ErrorCode(raw.call(&request, 2).await.results[0].error_code)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_share_what_there_is_and_inherit_from_who_leaves() {
    let running = Running::with(config()).await;
    let (mut first, joined) = alone(&running).await;
    assert_eq!(joined.generation_id, 1);

    let mut second = running.connect().await;
    let id = member_id(&mut second).await;
    second.send(&join(GROUP, &id), 9, 1).await;
    is_told_of_a_rebalance(&mut first, &joined).await;
    let joined = first.call(&join(GROUP, &joined.member_id), 9).await;
    assert_eq!((joined.generation_id, joined.members.len()), (2, 2));
    let (_, followed): (_, JoinGroupResponse) = second.receive(9).await;
    assert_eq!((followed.generation_id, followed.members.len()), (2, 0));
    assert_eq!((&followed.leader, &followed.member_id), (&joined.member_id, &id));

    // The follower waits for the leader, and each hears of its own share only.
    second.send(&sync(&followed, &[]), 5, 2).await;
    let shares = [(joined.member_id.as_str(), "0"), (id.as_str(), "1")];
    let synced = first.call(&sync(&joined, &shares), 5).await;
    assert_eq!((synced.error_code, &synced.assignment[..]), (0, &b"0"[..]));
    let (_, synced): (_, SyncGroupResponse) = second.receive(5).await;
    assert_eq!((synced.error_code, &synced.assignment[..]), (0, &b"1"[..]));

    let left = first.call(&leave(&joined.member_id), 5).await;
    assert_eq!((left.error_code, left.members[0].error_code), (0, 0));
    assert_eq!(heartbeat(&mut second, &followed).await, ErrorCode::REBALANCE_IN_PROGRESS);
    assert_eq!(heartbeat(&mut first, &joined).await, ErrorCode::UNKNOWN_MEMBER_ID);
    let leads = second.call(&join(GROUP, &id), 9).await;
    assert_eq!((leads.generation_id, &leads.leader), (3, &id));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_version_joins() {
    let running = Running::with(config()).await;
    let mut raw = running.connect().await;
    for version in 0..=9 {
        let group = format!("group-{version}");
        let mut joined = raw.call(&join(&group, ""), version).await;
        if version >= 4 {
            assert_eq!(ErrorCode(joined.error_code), ErrorCode::MEMBER_ID_REQUIRED, "version {version}");
            joined = raw.call(&join(&group, &joined.member_id), version).await;
        }
        assert_eq!((joined.error_code, joined.generation_id), (0, 1), "version {version}");
        let request =
            SyncGroupRequest { group_id: group, ..sync(&joined, &[(joined.member_id.as_str(), "all")]) };
        let synced = raw.call(&request, version.min(5)).await;
        assert_eq!((synced.error_code, &synced.assignment[..]), (0, &b"all"[..]), "version {version}");
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_join_is_told_why() {
    let running = Running::with(config()).await;
    let mut raw = running.connect().await;
    let long = "x".repeat(5_000);
    let none = JoinGroupRequest { protocols: Vec::new(), ..join(GROUP, "") };
    for (request, code) in [
        (join("", ""), ErrorCode::INVALID_GROUP_ID),
        (join(&long, ""), ErrorCode::INVALID_GROUP_ID),
        (join(GROUP, "nobody"), ErrorCode::UNKNOWN_MEMBER_ID),
        (none, ErrorCode::INCONSISTENT_GROUP_PROTOCOL),
        (JoinGroupRequest { session_timeout_ms: 0, ..join(GROUP, "") }, ErrorCode::INVALID_SESSION_TIMEOUT),
    ] {
        let answer = raw.call(&request, 9).await;
        assert_eq!(ErrorCode(answer.error_code), code, "{request:?}");
    }
    running.stop().await;
}

/// The id that it gets is made of its name, and must not be longer than ids may be.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_static_member_with_a_long_name_comes_back() {
    let running = Running::with(config()).await;
    let mut raw = running.connect().await;
    let name = "x".repeat(1_000);
    let of = |id: &str| JoinGroupRequest { group_instance_id: Some(name.clone()), ..join(GROUP, id) };
    let joined = raw.call(&of(""), 9).await;
    assert_eq!(joined.error_code, 0, "it needs no id first");
    let again = raw.call(&of(&joined.member_id), 9).await;
    assert_eq!((again.error_code, &again.member_id), (0, &joined.member_id));
    let restarted = raw.call(&of(""), 9).await;
    assert_eq!(restarted.error_code, 0);
    assert_ne!(restarted.member_id, joined.member_id);
    let fenced = raw.call(&of(&joined.member_id), 9).await;
    assert_eq!(ErrorCode(fenced.error_code), ErrorCode::FENCED_INSTANCE_ID);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_comes_back_as_it_was() {
    let running = Running::with(config()).await;
    running.topic("orders", 3).await;
    let mut raw = running.connect().await;
    let long = "x".repeat(4_097);
    let request =
        commit("simple", &[(0, 5, 3, "größer"), (1, 7, -1, ""), (2, 1, -1, long.as_str()), (3, 1, -1, "")]);
    assert_eq!(
        commits(&mut raw, &request).await,
        [
            ErrorCode::NONE,
            ErrorCode::NONE,
            ErrorCode::OFFSET_METADATA_TOO_LARGE,
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        ]
    );
    let all = [(0, 5, 3, "größer".to_owned()), (1, 7, -1, String::new())];
    assert_eq!(committed(&mut raw, "simple").await, all);
    assert!(committed(&mut raw, "unknown").await.is_empty());

    // Nothing committed is no error, whoever asks and for whatever.
    let group = |name: &str| OffsetFetchRequestGroup {
        group_id: name.to_owned(),
        topics: Some(vec![OffsetFetchRequestTopics {
            name: "orders".to_owned(),
            partition_indexes: vec![1, 2, 99],
        }]),
        ..OffsetFetchRequestGroup::default()
    };
    let request = OffsetFetchRequest {
        groups: vec![group("simple"), group("unknown")],
        ..OffsetFetchRequest::default()
    };
    for version in [8, 9] {
        let answer = raw.call(&request, version).await;
        assert_eq!(answer.groups.len(), 2);
        for (group, expected) in answer.groups.iter().zip([[7, -1, -1], [-1, -1, -1]]) {
            assert_eq!(group.error_code, 0);
            let partitions = &group.topics[0].partitions;
            assert!(partitions.iter().all(|partition| partition.error_code == 0), "{group:?}");
            let offsets: Vec<_> = partitions.iter().map(|partition| partition.committed_offset).collect();
            assert_eq!(offsets, expected);
        }
    }
    let request = OffsetFetchRequest {
        group_id: "simple".to_owned(),
        topics: Some(vec![OffsetFetchRequestTopic { name: "orders".to_owned(), partition_indexes: vec![0] }]),
        ..OffsetFetchRequest::default()
    };
    for version in 1..=7 {
        let answer = raw.call(&request, version).await;
        assert_eq!(answer.topics[0].partitions[0].committed_offset, 5, "version {version}");
    }
    running.stop().await;
}

/// Symptom: `resetOffsets` of kafkajs never came back. Cause: it commits -1 or -2, which was refused. Fix: as from Kafka,
/// whoever asks is told that nothing is committed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_negative_commit_takes_back_what_was_committed() {
    let running = Running::with(config()).await;
    running.topic("orders", 3).await;
    let mut raw = running.connect().await;
    let nobody = commit("unknown", &[(0, -2, -1, "")]);
    assert_eq!(commits(&mut raw, &nobody).await, [ErrorCode::NONE]);
    assert!(committed(&mut raw, "unknown").await.is_empty());
    let remembers = OffsetCommitRequest { generation_id_or_member_epoch: 1, ..nobody };
    assert_eq!(commits(&mut raw, &remembers).await, [ErrorCode::ILLEGAL_GENERATION]);

    commits(&mut raw, &commit("simple", &[(0, 5, -1, ""), (1, 7, -1, "")])).await;
    let some = commit("simple", &[(0, -2, -1, ""), (2, 9, -1, ""), (1, i64::MIN, -1, ""), (3, -1, -1, "")]);
    let ok = ErrorCode::NONE;
    assert_eq!(commits(&mut raw, &some).await, [ok, ok, ok, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION]);
    assert_eq!(committed(&mut raw, "simple").await, [(2, 9, -1, String::new())]);

    // Who may not commit takes nothing back.
    let (mut member, joined) = alone(&running).await;
    let by_it = |offset: i64| OffsetCommitRequest {
        generation_id_or_member_epoch: joined.generation_id,
        member_id: joined.member_id.clone(),
        ..commit(GROUP, &[(0, offset, -1, "")])
    };
    assert_eq!(commits(&mut member, &by_it(5)).await, [ErrorCode::NONE]);
    assert_eq!(commits(&mut raw, &commit(GROUP, &[(0, -1, -1, "")])).await, [ErrorCode::UNKNOWN_MEMBER_ID]);
    assert_eq!(committed(&mut raw, GROUP).await, [(0, 5, -1, String::new())]);
    assert_eq!(commits(&mut member, &by_it(-1)).await, [ErrorCode::NONE]);
    assert!(committed(&mut raw, GROUP).await.is_empty());
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_members_commit_for_a_group_that_has_some() {
    let running = Running::with(config()).await;
    running.topic("orders", 1).await;
    let (mut raw, joined) = alone(&running).await;
    // What is not there is not there, whatever else is wrong.
    let by_nobody = commit(GROUP, &[(0, 5, -1, ""), (1, 5, -1, "")]);
    assert_eq!(
        commits(&mut raw, &by_nobody).await,
        [ErrorCode::UNKNOWN_MEMBER_ID, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION]
    );
    let by = |generation: i32| OffsetCommitRequest {
        generation_id_or_member_epoch: generation,
        member_id: joined.member_id.clone(),
        ..commit(GROUP, &[(0, 5, -1, "")])
    };
    assert_eq!(commits(&mut raw, &by(2)).await, [ErrorCode::ILLEGAL_GENERATION]);
    assert_eq!(commits(&mut raw, &by(1)).await, [ErrorCode::NONE]);
    let elsewhere = OffsetCommitRequest { group_id: "unknown".to_owned(), ..by(1) };
    assert_eq!(commits(&mut raw, &elsewhere).await, [ErrorCode::ILLEGAL_GENERATION]);
    raw.call(&leave(&joined.member_id), 5).await;
    assert_eq!(commits(&mut raw, &commit(GROUP, &[(0, 6, -1, "")])).await, [ErrorCode::NONE]);
    assert_eq!(committed(&mut raw, GROUP).await, [(0, 6, -1, String::new())]);
    running.stop().await;
}

/// A request that is refused makes no group.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_are_listed_by_state_and_type() {
    let running = Running::with(config()).await;
    running.topic("orders", 1).await;
    let (mut raw, _) = alone(&running).await;
    commits(&mut raw, &commit("simple", &[(0, 5, -1, "")])).await;
    commits(&mut raw, &commit("nothing", &[(9, 5, -1, "")])).await;
    raw.call(&join("", ""), 9).await;
    for (states, types, expected) in [
        (vec![], vec![], vec![GROUP, "simple"]),
        (vec!["Stable"], vec!["classic"], vec![GROUP]),
        (vec!["empty", "Dead"], vec![], vec!["simple"]),
        (vec![], vec!["consumer"], vec![]),
    ] {
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let request = ListGroupsRequest { states_filter: owned(&states), types_filter: owned(&types) };
        let answer = raw.call(&request, 5).await;
        let names: Vec<_> = answer.groups.iter().map(|group| group.group_id.as_str()).collect();
        assert_eq!(names, expected, "{states:?} {types:?}");
        assert!(answer.groups.iter().all(|group| group.group_type == "classic"));
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_are_described_with_their_members() {
    let running = Running::with(config()).await;
    let (mut raw, joined) = alone(&running).await;
    let mut request = DescribeGroupsRequest {
        groups: vec![GROUP.to_owned(), "unknown".to_owned()],
        ..DescribeGroupsRequest::default()
    };
    let answer = raw.call(&request, 5).await;
    let group = &answer.groups[0];
    assert_eq!((group.error_code, group.group_state.as_str()), (0, "Stable"));
    assert_eq!((group.protocol_type.as_str(), group.protocol_data.as_str()), ("consumer", "range"));
    assert_eq!(group.authorized_operations, i32::MIN, "nobody asked");
    let member = &group.members[0];
    assert_eq!((&member.member_id, member.client_id.as_str()), (&joined.member_id, "raw"));
    assert_eq!(member.client_host, "/127.0.0.1");
    assert_eq!((&member.member_metadata[..], &member.member_assignment[..]), (SUBSCRIPTION, &b"all"[..]));
    let unknown = &answer.groups[1];
    assert_eq!((unknown.error_code, unknown.group_state.as_str()), (0, "Dead"));

    request.include_authorized_operations = true;
    let answer = raw.call(&request, 6).await;
    // Read, delete, describe.
    assert_eq!(answer.groups[0].authorized_operations, 1 << 3 | 1 << 6 | 1 << 8);
    let unknown = &answer.groups[1];
    assert_eq!(ErrorCode(unknown.error_code), ErrorCode::GROUP_ID_NOT_FOUND);
    assert!(unknown.error_message.as_ref().is_some_and(|message| message.contains("unknown")));

    // One that is too long to be quoted whole is answered all the same, and the connection stays open.
    request.groups = vec!["x".repeat(32_767)];
    let answer = raw.call(&request, 6).await;
    assert_eq!(ErrorCode(answer.groups[0].error_code), ErrorCode::GROUP_ID_NOT_FOUND);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_use_is_not_deleted() {
    let running = Running::with(config()).await;
    running.topic("orders", 1).await;
    running.topic("payments", 1).await;
    let mut raw = running.connect().await;
    let mut both = commit(GROUP, &[(0, 5, -1, "")]);
    both.topics.push(OffsetCommitRequestTopic { name: "payments".to_owned(), ..both.topics[0].clone() });
    assert_eq!(commits(&mut raw, &both).await, [ErrorCode::NONE; 2]);
    let (mut member, joined) = alone(&running).await;

    let topic = |name: &str| OffsetDeleteRequestTopic {
        name: name.to_owned(),
        partitions: vec![OffsetDeleteRequestPartition { partition_index: 0 }],
    };
    let request = OffsetDeleteRequest {
        group_id: GROUP.to_owned(),
        topics: vec![topic("orders"), topic("payments"), topic("nowhere")],
    };
    let answer = raw.call(&request, 0).await;
    assert_eq!(answer.error_code, 0);
    let codes: Vec<_> = answer.topics.iter().map(|topic| ErrorCode(topic.partitions[0].error_code)).collect();
    assert_eq!(
        codes,
        [ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC, ErrorCode::NONE, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION]
    );
    assert_eq!(committed(&mut raw, GROUP).await, [(0, 5, -1, String::new())]);
    let unknown = OffsetDeleteRequest { group_id: "unknown".to_owned(), ..request };
    assert_eq!(ErrorCode(raw.call(&unknown, 0).await.error_code), ErrorCode::GROUP_ID_NOT_FOUND);

    assert_eq!(deletes(&mut raw).await, ErrorCode::NON_EMPTY_GROUP);
    member.call(&leave(&joined.member_id), 5).await;
    assert_eq!(deletes(&mut raw).await, ErrorCode::NONE);
    assert_eq!(deletes(&mut raw).await, ErrorCode::GROUP_ID_NOT_FOUND);
    assert!(committed(&mut raw, GROUP).await.is_empty());
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_is_no_rebalance() {
    let storage = MemoryStorage::new(64 * 1024 * 1024);
    let running = Running::on(&storage, config()).await;
    running.topic("orders", 1).await;
    let (mut raw, joined) = alone(&running).await;
    let request = OffsetCommitRequest {
        generation_id_or_member_epoch: joined.generation_id,
        member_id: joined.member_id.clone(),
        ..commit(GROUP, &[(0, 5, -1, "half")])
    };
    assert_eq!(commits(&mut raw, &request).await, [ErrorCode::NONE]);
    drop(raw);
    running.stop().await;

    let running = Running::on(&storage, config()).await;
    let mut raw = running.connect().await;
    assert_eq!(heartbeat(&mut raw, &joined).await, ErrorCode::NONE);
    let synced = raw.call(&sync(&joined, &[]), 5).await;
    assert_eq!((synced.error_code, &synced.assignment[..]), (0, &b"all"[..]));
    assert_eq!(committed(&mut raw, GROUP).await, [(0, 5, -1, "half".to_owned())]);
    assert_eq!(commits(&mut raw, &request).await, [ErrorCode::NONE]);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_is_answered_when_the_server_stops() {
    let running = Running::with(config()).await;
    let (mut first, joined) = alone(&running).await;
    let mut second = running.connect().await;
    let id = member_id(&mut second).await;
    second.send(&join(GROUP, &id), 9, 1).await;
    is_told_of_a_rebalance(&mut first, &joined).await;
    running.stop().await;
    let (_, answer): (_, JoinGroupResponse) = second.receive(9).await;
    assert_eq!(ErrorCode(answer.error_code), ErrorCode::COORDINATOR_NOT_AVAILABLE);
}
