//! D3: however many events are parked, they are in the store, and not in memory.

use std::path::Path;
use std::process::Command;

use courant::engine::{Engine, Header, NewRecord};
use courant::prelude::*;
use courant::store_api::{Consumer, ParkedOf, Store as _};
use courant::{ConsumerName, Running};

use crate::given::from_environment;

/// Events of a run in the CI. `COURANT_PARKED_EVENTS` sets another number.
const EVENTS: u64 = 12_000;
const KEYS: u64 = 20;
const VALUE_BYTES: usize = 8 * 1024;
const BATCH: u64 = 100;
/// What the process may grow by while three quarters of the events are parked: far less than they have.
const GROWTH_MAX: u64 = 32 * 1024 * 1024;

/// Says that this process is the one that parks.
const CHILD: &str = "COURANT_PARKED_CHILD";
const CHILD_TEST: &str = "parked::in_a_process_of_its_own";

#[derive(Event, Serialize, Deserialize)]
#[event(type = "test.heavy", topic = "test.heavy", key = key)]
struct Heavy {
    key: String,
    text: String,
}

async fn refuse(event: Heavy) -> Result<(), HandlerError> {
    Err(HandlerError::park(format!("nobody can do {}", event.key)))
}

async fn refusing(dir: &Path) -> Running<Sqlite> {
    let service = App::new("test")
        .engine(format!("embedded:{}", dir.join("events").display()))
        .partitions(1)
        .store(Sqlite::open(&dir.join("service.db")).await.expect("opens"))
        .subscribe(Subscription::named("refusing").parked_max(10_000_000).on(refuse))
        .build()
        .await;
    service.expect("fits together").start().await.expect("starts")
}

/// Publishes events `from` to `to`, in batches.
async fn publish(engine: &dyn Engine, from: u64, to: u64) {
    let text = "x".repeat(VALUE_BYTES);
    for first in (from..to).step_by(usize::try_from(BATCH).expect("small")) {
        let records = (first..to.min(first + BATCH)).map(|n| {
            let key = format!("key-{}", n % KEYS);
            let value = format!(r#"{{"key":"{key}","text":"{text}"}}"#);
            NewRecord {
                headers: vec![Header::new("ce_type", "test.heavy"), Header::new("ce_id", n.to_string())],
                ..NewRecord::new("test.heavy", key, value)
            }
        });
        for answer in engine.publish(records.collect()).await {
            answer.expect("publishes");
        }
    }
}

/// Bytes of this process that are in memory.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux says");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it is there");
    let kib: u64 = line.trim().trim_end_matches(" kB").trim().parse().expect("a number");
    kib * 1024
}

/// Parks them all. Says how much memory that has taken, after a quarter of them and at the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_process_of_its_own() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let mut service = refusing(directory.path()).await;
    let engine = service.engine().clone();
    let events = from_environment("COURANT_PARKED_EVENTS", EVENTS);
    for (from, to) in [(0, events / 4), (events / 4, events)] {
        publish(&*engine, from, to).await;
        service.settle().await.expect("settles");
        let consumer = Consumer { name: ConsumerName::new("refusing").expect("legal"), generation: 1 };
        let counts = service.store().parked_counts(ParkedOf::all(&consumer)).await.expect("counts");
        assert_eq!((counts.blocking, counts.queued, counts.waiting), (KEYS, to - KEYS, 0));
        println!("resident {}", resident());
    }
    service.stop().await.expect("stops");
}

#[test]
fn many_parked_events_are_not_in_memory() {
    let program = std::env::current_exe().expect("this test has a path");
    let child = Command::new(program)
        .args(["--exact", CHILD_TEST, "--nocapture"])
        .env(CHILD, "1")
        .output()
        .expect("it starts");
    let (said, errors) = (String::from_utf8_lossy(&child.stdout), String::from_utf8_lossy(&child.stderr));
    assert!(child.status.success(), "{said}\n{errors}");
    let resident = said.lines().filter_map(|line| line.rsplit_once("resident "));
    let resident: Vec<u64> = resident.map(|(_, bytes)| bytes.trim().parse().expect("a number")).collect();
    let [quarter, all] = resident[..] else { panic!("it says how much it takes twice: {said}") };
    let grown = all.saturating_sub(quarter);
    assert!(grown < GROWTH_MAX, "from {quarter} to {all} bytes, with three quarters of the events");
}
