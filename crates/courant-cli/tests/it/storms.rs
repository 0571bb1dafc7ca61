//! Many clients at once: connections that do nothing, and groups that never come to rest.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use tempfile::tempdir;

use crate::clients::member::{Member, listen_until};
use crate::clients::rdkafka_client;
use crate::raw;
use crate::server::{Launch, Server};

const IDLE_CONNECTIONS: usize = 1_000;
const IDLE_KIB_MAX: u64 = 20 * 1024;

/// Threads that join and leave one group, and how often each does at least.
const STORM_MEMBERS: usize = 16;
const STORM_ROUNDS: usize = 20;

#[test]
fn a_thousand_idle_connections_take_little_memory() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    raw::Connection::open(server.kafka()).api_versions().expect("an answer");
    let before = server.memory_kib("VmRSS");
    let idle: Vec<_> = (0..IDLE_CONNECTIONS)
        .map(|_| {
            let mut connection = raw::Connection::open(server.kafka());
            connection.api_versions().expect("an answer");
            connection
        })
        .collect();
    let after = server.memory_kib("VmRSS");
    assert_eq!(idle.len(), IDLE_CONNECTIONS);
    assert!(after.saturating_sub(before) <= IDLE_KIB_MAX, "{before} KiB before, {after} KiB after");
}

/// Members of one group come and go as fast as they can; a member of another group consumes meanwhile.
/// It keeps its partitions and is handed every record once.
#[test]
fn a_storm_in_one_group_is_not_felt_in_another() {
    const TOPIC: &str = "orders";
    const RECORDS: usize = 2_000;
    let data = tempdir().unwrap();
    let server = Launch::on(data.path()).start();
    server.create_topic(TOPIC, 6);
    let binaries = Path::new(env!("CARGO_BIN_EXE_courant")).parent().expect("it is in a folder");
    let command = Command::new(binaries.join("examples/rdkafka_client"));
    let mut member = Member::start(command, "rdkafka", &server.bootstrap(), TOPIC, "quiet");
    listen_until("it has all partitions", &mut [&mut member], |one| one[0].held.len() == 6);

    let over = Arc::new(AtomicBool::new(false));
    let rounds = Arc::new(AtomicUsize::new(0));
    let storm: Vec<_> = (0..STORM_MEMBERS)
        .map(|_| {
            let (address, over, rounds) = (server.kafka(), over.clone(), rounds.clone());
            thread::spawn(move || {
                let mut connection = raw::Connection::open(address);
                let mut done = 0;
                while done < STORM_ROUNDS || !over.load(Ordering::Relaxed) {
                    let (error, id) = connection.join_group("storm").expect("an answer");
                    assert_eq!(error, 0, "joining");
                    assert_eq!(connection.leave_group("storm", &id).expect("an answer"), 0, "leaving");
                    done += 1;
                    rounds.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for _ in 0..4 {
        let records = crate::clients::keyed(RECORDS / 4, "rdkafka");
        let reports = rdkafka_client::produce(&server.bootstrap(), TOPIC, &[], &records);
        assert!(reports.iter().all(Result::is_ok));
    }
    listen_until("it has all records", &mut [&mut member], |one| one[0].records.len() >= RECORDS);
    over.store(true, Ordering::Relaxed);
    for thread in storm {
        thread.join().expect("every round was answered");
    }
    assert!(rounds.load(Ordering::Relaxed) >= STORM_MEMBERS * STORM_ROUNDS);
    member.ask("commit", "committed");
    let mut places = member.records.clone();
    places.sort_unstable();
    places.dedup();
    assert_eq!((places.len(), member.records.len(), member.changes), (RECORDS, RECORDS, 1));
    member.stop();
}
