//! What the hot paths take in instructions: the gate against growing slower bit by bit.
//!
//! `valgrind --tool=callgrind` counts the same work to the same figure on a busy machine, where a clock says
//! nothing. It runs this very program again, with one of the drivers below, and counts what happens inside
//! [`counted_here`] alone: no start, no time, no addresses, one thread; the log is in memory, and its clock
//! stands still.
//!
//! What is counted is compiled as the tests are: the log, and what checksums and copies bytes, at level 1,
//! this crate not at all. A step of this crate weighs more than in the released server. So the gate says
//! that something takes more than it did, and where; how much slower the server is, `cargo xtask bench` says.
//!
//! Checksums and copies choose their instructions by the processor, and it is valgrind that answers when they ask
//! for it: the processor that it makes up has AVX2 where the real one has, and no AVX-512. So machines with AVX2
//! count the same, whatever else they have. The C library has its own share. The committed file says what its
//! counts were taken on; on anything else nothing is compared.
//!
//! `cargo xtask counts` shows the figures, and with `--bless` writes them into the committed file.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::{env, fs};

use bytes::Bytes;
use courant_core::clock::Clock;
use courant_core::entropy::Entropy;
use courant_core::topic::TopicName;
use courant_log::batch::records::{self, NewRecord};
use courant_log::storage::MemoryStorage;
use courant_log::{Batch, Codec, Log, LogConfig, NewTopic, Topic};
use tokio::runtime::{Builder, Runtime};
use uuid::Uuid;

use super::{Pending, Shares, dispatch};
use crate::broker::{Broker, Caller};
use crate::budget::Grant;
use crate::config::KafkaConfig;
use crate::wire::messages::{
    FetchPartition, FetchRequest, FetchTopic, PartitionProduceData, ProduceRequest, TopicProduceData,
};
use crate::wire::{Request, encode_request};

/// Where the drivers are among the tests, and the test that runs them.
const MODULE: &str = "api::counts";
const GATE: &str = "instructions_stay_what_they_were";

/// The drivers that are counted.
const DRIVERS: [&str; 4] = ["produce", "fetch", "flush", "spread"];

const COMMITTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/instruction-counts.txt");
/// Set by `cargo xtask`, which compiles all of the workspace. By itself this crate is another program.
const COUNT: &str = "COURANT_TEST_COUNTS";
/// Set by `cargo xtask counts --bless`.
const BLESS: &str = "COURANT_TEST_BLESS_COUNTS";

const HEAD: &str = "\
# Instructions of the drivers in src/api/counts.rs, by callgrind, as `cargo xtask counts --bless` writes them.
# The gate fails at a difference of 2 %. After a change that is worth it, and with another compiler, they are
# written anew; on another machine than the one named here nothing is compared.
";
/// In front of what the committed counts were taken on.
const MACHINE: &str = "machine";
/// In front of what a driver sees of the processor.
const PROCESSOR: &str = "the processor has ";

/// A count may differ from the committed one by so much.
const TOLERANCE_PERCENT: u64 = 2;

const TOPIC: &str = "counts";
const NOW_MS: i64 = 1_700_000_000_000;
const EVENT_BYTES: usize = 100;
/// Events of a batch, as the benchmarks have them.
const BATCH: usize = 500;
/// How often a driver does what is counted.
const ROUNDS: u32 = 50;
/// Producers that wait for the same sync.
const WAITING: u32 = 64;
/// No round needs a second journal file.
const JOURNAL_BYTES: u64 = 32 * 1024 * 1024;
const STORAGE_BYTES: u64 = 256 * 1024 * 1024;
const FETCH_BYTES: i32 = 1024 * 1024;

/// The one function whose instructions count, with all that it calls. It is found by its name, so nothing
/// else may have this name in its own; and it has a loop, so that it is left only when everything is done.
#[inline(never)]
fn counted_here(rounds: u32, round: &mut dyn FnMut()) {
    for _ in 0..rounds {
        round();
    }
}

/// Says what it is counted on, and does the work that counts.
fn counted(round: &mut dyn FnMut()) {
    println!("{PROCESSOR}{}", processor());
    counted_here(ROUNDS, round);
}

/// What checksums and copies choose by, as far as this process is told.
fn processor() -> String {
    #[cfg(target_arch = "x86_64")]
    let features = [
        ("sse4.2", std::arch::is_x86_feature_detected!("sse4.2")),
        ("pclmulqdq", std::arch::is_x86_feature_detected!("pclmulqdq")),
        ("avx2", std::arch::is_x86_feature_detected!("avx2")),
        ("avx512vl", std::arch::is_x86_feature_detected!("avx512vl")),
        ("vpclmulqdq", std::arch::is_x86_feature_detected!("vpclmulqdq")),
    ];
    #[cfg(not(target_arch = "x86_64"))]
    let features: [(&str, bool); 0] = [];
    let there: Vec<_> = features.iter().filter(|(_, is_there)| *is_there).map(|(name, _)| *name).collect();
    there.join(" ")
}

struct StandsStill;

impl Clock for StandsStill {
    fn now_ms(&self) -> i64 {
        NOW_MS
    }

    fn elapsed_ms(&self) -> u64 {
        0
    }
}

#[derive(Default)]
struct OneByOne(AtomicU64);

impl Entropy for OneByOne {
    fn uuid(&self) -> Uuid {
        Uuid::from_u128(u128::from(self.0.fetch_add(1, Ordering::Relaxed)) + 1)
    }
}

/// A broker on a log in memory, without threads and without sockets.
struct Door {
    caller: Arc<Caller>,
    topic: Arc<Topic>,
}

impl Door {
    fn open() -> Self {
        Self::of(1)
    }

    /// One with a topic of so many partitions.
    fn of(partitions: u32) -> Self {
        let config = LogConfig {
            background: false,
            journal_file_bytes: JOURNAL_BYTES,
            first_journal_file_bytes: JOURNAL_BYTES,
            reserve_bytes: 0,
            ..LogConfig::new(Arc::new(StandsStill), Arc::new(OneByOne::default()))
        };
        let storage = Arc::new(MemoryStorage::new(STORAGE_BYTES));
        let (log, _) = Log::open(storage, config).expect("the log opens");
        let (created, answer) = mpsc::channel();
        let name = TopicName::new(TOPIC).expect("a legal name");
        log.create_topic(NewTopic { name, partitions, configs: BTreeMap::new() }, move |result| {
            created.send(result).expect("somebody waits for it");
        });
        assert!(log.commit());
        let topic = answer.recv().expect("it is answered").expect("it is created");
        let address = "127.0.0.1:9092".parse().expect("an address");
        let broker = Arc::new(Broker::new(log, KafkaConfig::default()));
        Self { caller: Arc::new(Caller::new(broker, address, address)), topic }
    }

    fn log(&self) -> &Log {
        self.caller.log()
    }

    /// Events that were acknowledged.
    fn events(&self) -> u64 {
        let ends = self.topic.partitions.iter().map(|id| self.log().offsets(*id).expect("it is there"));
        ends.map(|ends| ends.high_watermark).sum()
    }

    fn dispatch(&self, frame: &Bytes) -> Pending {
        let shares = Shares { memory: Grant::default(), in_flight: Grant::default() };
        // Another thread commits, as it does where several requests are under way.
        dispatch(&self.caller, frame.clone(), shares, false).expect("a request that is served")
    }

    /// From the frame of a Produce to the frame of its answer.
    fn produce(&self, frame: &Bytes) {
        let pending = self.dispatch(frame);
        assert!(self.log().commit());
        let reply = pending.try_resolve().expect("the log has answered").expect("it is answered");
        assert!(!reply.pieces.is_empty());
    }

    /// From the frame of a Fetch to the frame of its answer, of so many bytes.
    fn fetch(&self, runtime: &Runtime, frame: &Bytes) -> usize {
        let reply = runtime.block_on(self.dispatch(frame).resolve()).expect("it is answered");
        reply.pieces.iter().map(Bytes::len).sum()
    }
}

/// A request as it comes out of `connection/frames.rs`: without its length.
fn frame<R: Request>(request: &R, version: i16) -> Bytes {
    let pieces = encode_request(request, version, 1, Some("counts")).expect("it can be written");
    Bytes::from(pieces.concat()).slice(4..)
}

fn batch(events: usize) -> Bytes {
    let record = NewRecord {
        timestamp: NOW_MS,
        key: None,
        value: Some(Bytes::from(vec![b'x'; EVENT_BYTES])),
        headers: Vec::new(),
    };
    records::encode(&vec![record; events], Codec::None, None).expect("it can be encoded")
}

/// One batch for the one partition, by name.
fn produce_frame() -> Bytes {
    let partition = PartitionProduceData { index: 0, records: Some(batch(BATCH)) };
    let topic = TopicProduceData {
        name: TOPIC.to_owned(),
        partition_data: vec![partition],
        ..TopicProduceData::default()
    };
    let request =
        ProduceRequest { acks: -1, timeout_ms: 1000, topic_data: vec![topic], ..ProduceRequest::default() };
    frame(&request, 12)
}

/// Everything from the beginning on, up to a MiB.
fn fetch_frame(topic: &Topic) -> Bytes {
    let partition = FetchPartition {
        partition: 0,
        fetch_offset: 0,
        partition_max_bytes: FETCH_BYTES,
        ..FetchPartition::default()
    };
    let request = FetchRequest {
        max_wait_ms: 0,
        min_bytes: 1,
        max_bytes: FETCH_BYTES,
        topics: vec![FetchTopic { topic_id: topic.id, partitions: vec![partition], ..FetchTopic::default() }],
        ..FetchRequest::default()
    };
    frame(&request, 17)
}

/// Decode, validate, append, and the answer: batches of 500 events, one to a group.
#[test]
fn produce() {
    let door = Door::open();
    let frame = produce_frame();
    // The first one makes the segment.
    door.produce(&frame);
    counted(&mut || door.produce(&frame));
    assert_eq!(door.events(), u64::from(ROUNDS + 1) * BATCH as u64);
}

/// A Fetch to its answer: as many of these batches as go into a MiB.
#[test]
fn fetch() {
    let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
    let door = Door::open();
    for _ in 0..ROUNDS {
        door.produce(&produce_frame());
    }
    let frame = fetch_frame(&door.topic);
    let bytes = door.fetch(&runtime, &frame);
    assert!(bytes > BATCH * EVENT_BYTES * 10, "{bytes} bytes are no good part of a MiB");
    counted(&mut || assert_eq!(door.fetch(&runtime, &frame), bytes));
}

/// The flush loop: 64 producers with an event each, written and synced as one group.
#[test]
fn flush() {
    flush_to(1);
}

/// The same, but each has a partition of its own: what a partition costs the flush loop.
#[test]
fn spread() {
    flush_to(WAITING);
}

fn flush_to(partitions: u32) {
    let door = Door::of(partitions);
    let batch = Batch::validate(batch(1)).expect("a batch");
    let mut group = || {
        for producer in 0..WAITING {
            let partition = door.topic.partitions[(producer % partitions) as usize];
            door.log().append(partition, batch.clone(), |result| {
                result.expect("it is stored");
            });
        }
        assert!(door.log().commit());
    };
    group();
    let groups = door.log().metrics().groups;
    counted(&mut group);
    assert_eq!(door.events(), u64::from((ROUNDS + 1) * WAITING));
    assert_eq!(door.log().metrics().groups - groups, u64::from(ROUNDS), "one group for all that wait");
}

#[test]
fn instructions_stay_what_they_were() {
    let blesses = env::var_os(BLESS).is_some();
    let skip = |reason: &str| {
        assert!(!blesses, "nothing is committed: {reason}");
        println!("SKIPPED: {MODULE}::{GATE}: {reason}");
    };
    if let Some(reason) = no_counts_here() {
        return skip(reason);
    }
    let mut processors = BTreeSet::new();
    let counts = DRIVERS.map(|driver| {
        let (count, processor) = count(driver);
        processors.insert(processor);
        (driver, count)
    });
    assert_eq!(processors.len(), 1, "the drivers have seen different processors: {processors:?}");
    let machine = format!("{}; {}", c_library(), processors.into_iter().collect::<String>());
    if blesses {
        fs::write(COMMITTED, page(&machine, &counts)).expect("the file can be written");
    }
    let committed = parse(&fs::read_to_string(COMMITTED).expect("the file is committed"));
    if let Some(other) = committed.machine.filter(|other| *other != machine) {
        println!("counted on {machine}; committed are the counts of {other}");
        return skip("the committed counts are those of another processor or C library");
    }
    let mut problems = Vec::new();
    for (driver, count) in counts {
        let before = committed.counts.get(driver).copied();
        println!("{driver}: {count} instructions, {} committed", before.unwrap_or_default());
        problems.extend(judge(driver, count, before));
    }
    let gone = committed.counts.keys().filter(|driver| !DRIVERS.contains(&driver.as_str()));
    problems.extend(gone.map(|driver| format!("{driver} is in {COMMITTED} and counted nowhere")));
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// Why nothing can be compared on this machine or in this build.
fn no_counts_here() -> Option<&'static str> {
    let valgrind = Command::new("valgrind").arg("--version").output();
    if !valgrind.is_ok_and(|answer| answer.status.success()) {
        Some("there is no valgrind")
    } else if !cfg!(target_arch = "x86_64") {
        Some("the committed counts are those of x86-64")
    } else if !cfg!(debug_assertions) {
        Some("the committed counts are those of the profile that tests are compiled with")
    } else if env::var_os(COUNT).is_none() {
        Some("only `cargo xtask` compiles what the committed counts are those of")
    } else {
        None
    }
}

/// The C library, whose copies and allocations are counted too.
fn c_library() -> String {
    let asked = Command::new("getconf").arg("GNU_LIBC_VERSION").output();
    let said = asked.ok().filter(|answer| answer.status.success()).map(|answer| answer.stdout);
    let said = said.map(|said| String::from_utf8_lossy(&said).trim().to_owned());
    said.filter(|said| !said.is_empty()).unwrap_or_else(|| "another C library than glibc".to_owned())
}

/// Instructions of a driver inside [`counted_here`], and the processor that it was shown.
fn count(driver: &str) -> (u64, String) {
    let out = env::temp_dir().join(format!("courant-counts-{}-{driver}", std::process::id()));
    let output = Command::new("valgrind")
        // Somebody's own options would count something else.
        .env_remove("VALGRIND_OPTS")
        .env_remove("GLIBC_TUNABLES")
        .args(["--tool=callgrind", "--toggle-collect=*counted_here*"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(env::current_exe().expect("this program finds itself"))
        .args(["--exact", &format!("{MODULE}::{driver}"), "--test-threads=1", "--nocapture"])
        .output()
        .expect("valgrind starts");
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("1 passed"), "{driver}: {said}");
    let text = fs::read_to_string(&out).unwrap_or_else(|error| panic!("{}: {error}\n{said}", out.display()));
    fs::remove_file(&out).expect("it can be removed");
    let total = total(&text).unwrap_or_else(|| panic!("{driver}: callgrind says no total\n{said}"));
    assert!(total > 0, "{driver}: callgrind has not seen {MODULE}::counted_here\n{said}");
    let processor = said.lines().find_map(|line| line.split_once(PROCESSOR));
    let (_, processor) = processor.unwrap_or_else(|| panic!("{driver} says no processor\n{said}"));
    (total, processor.trim().to_owned())
}

/// The last line of callgrind's file that has one.
fn total(text: &str) -> Option<u64> {
    let mut lines = text.lines().rev();
    lines.find_map(|line| line.strip_prefix("totals:"))?.trim().parse().ok()
}

/// What is wrong with a count.
fn judge(driver: &str, count: u64, committed: Option<u64>) -> Option<String> {
    let Some(committed) = committed else {
        return Some(format!("{driver} has no committed count: `cargo xtask counts --bless` writes it"));
    };
    if count.abs_diff(committed) * 100 <= committed * TOLERANCE_PERCENT {
        return None;
    }
    let percent = 100.0 * count.abs_diff(committed) as f64 / committed as f64;
    Some(if count > committed {
        format!(
            "{driver} takes {count} instructions, {percent:.1} % more than {committed}: see where with \
             callgrind_annotate on what `valgrind --tool=callgrind` writes of the test {MODULE}::{driver}; if \
             that is worth it, `cargo xtask counts --bless`"
        )
    } else {
        format!(
            "{driver} takes {count} instructions, {percent:.1} % less than {committed}: `cargo xtask counts \
             --bless`, so that it stays so"
        )
    })
}

fn page(machine: &str, counts: &[(&str, u64)]) -> String {
    let mut page = format!("{HEAD}{MACHINE} {machine}\n");
    for (driver, count) in counts {
        writeln!(page, "{driver} {count}").expect("a string takes it");
    }
    page
}

/// What the committed file says.
#[derive(Debug, Default, PartialEq, Eq)]
struct Committed {
    machine: Option<String>,
    counts: BTreeMap<String, u64>,
}

fn parse(page: &str) -> Committed {
    let mut committed = Committed::default();
    for line in page.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (name, value) = line.split_once(' ').unwrap_or((line, ""));
        if name == MACHINE {
            committed.machine = Some(value.to_owned());
            continue;
        }
        let count = value.parse::<u64>().unwrap_or_else(|_| panic!("{COMMITTED}: `{line}` is no count"));
        committed.counts.insert(name.to_owned(), count);
    }
    committed
}

#[test]
fn two_percent_are_let_through() {
    assert_eq!(judge("produce", 1_020, Some(1_000)), None);
    assert_eq!(judge("produce", 980, Some(1_000)), None);
    assert!(judge("produce", 1_021, Some(1_000)).is_some_and(|said| said.contains("2.1 % more")));
    assert!(judge("produce", 979, Some(1_000)).is_some_and(|said| said.contains("2.1 % less")));
    assert!(judge("produce", 1, None).is_some());
}

#[test]
fn what_is_written_is_read_again() {
    let committed = parse(&page("glibc 2.36; sse4.2 avx2", &[("fetch", 7), ("flush", 9)]));
    assert_eq!(committed.machine.as_deref(), Some("glibc 2.36; sse4.2 avx2"));
    let counts = committed.counts.into_iter().collect::<Vec<_>>();
    assert_eq!(counts, [("fetch".to_owned(), 7), ("flush".to_owned(), 9)]);
    assert_eq!(parse(HEAD), Committed::default());
    assert_eq!(total("summary: 12\nfn=(1) main\n1 12\n\ntotals: 12\n"), Some(12));
    assert_eq!(total("events: Ir\n"), None);
}
