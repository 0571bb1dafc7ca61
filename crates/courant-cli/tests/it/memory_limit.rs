//! A server in a memory group that is smaller than the log: it is not killed, and nothing is lost.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use courant_history::{History, Stamp};
use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::{DeliveryResult, Message as _};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tempfile::tempdir;

use crate::server::Launch;
use crate::{PATIENCE, is_root, skip};

const LIMIT_BYTES: u64 = 192 << 20;

const TOPIC: &str = "heavy";
const PARTITIONS: u32 = 4;
const PRODUCERS: u64 = 2;
/// Of each producer in each partition. All of them together are 600 MiB.
const EVENTS: u64 = 1_280;
const EVENT_BYTES: usize = 60 << 10;

/// A memory group of its own. It is removed when dropped, so a server in it must be dropped before.
struct Group {
    folder: PathBuf,
    /// Version 2 of the kernel's groups.
    is_unified: bool,
}

impl Group {
    /// Makes one, or says why `test` cannot run here.
    fn for_test(test: &str) -> Option<Group> {
        match Group::new() {
            Ok(group) => Some(group),
            Err(reason) => {
                skip(test, &reason);
                None
            }
        }
    }

    fn new() -> Result<Group, String> {
        if !is_root() {
            return Err("a memory group takes root".to_owned());
        }
        let mut reasons = Vec::new();
        for (root, file) in
            [("/sys/fs/cgroup", "memory.max"), ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")]
        {
            let folder = Path::new(root).join(format!("courant-test-{}", std::process::id()));
            match fs::create_dir(&folder) {
                Ok(()) => {}
                Err(error) => {
                    reasons.push(format!("{}: {error}", folder.display()));
                    continue;
                }
            }
            let group = Group { folder, is_unified: file == "memory.max" };
            // In any other folder this makes no file of that name, or an empty group without the controller.
            if !group.folder.join(file).exists() {
                reasons.push(format!("{root} does not limit memory"));
                continue;
            }
            match fs::write(group.folder.join(file), LIMIT_BYTES.to_string()) {
                Ok(()) => return Ok(group),
                Err(error) => reasons.push(format!("{root}: {error}")),
            }
        }
        Err(reasons.join("; "))
    }

    /// The shell command with which a process enters it.
    fn enter(&self) -> String {
        format!("echo $$ > '{}'", self.folder.join("cgroup.procs").display())
    }

    /// Processes that were killed for want of memory.
    fn killed(&self) -> u64 {
        self.figure(if self.is_unified { "memory.events" } else { "memory.oom_control" }, "oom_kill")
    }

    /// How often the limit was reached.
    fn reached(&self) -> u64 {
        if self.is_unified { self.figure("memory.events", "max") } else { self.figure("memory.failcnt", "") }
    }

    /// The number behind a name in a file of lines; of the file's only number where there is no name.
    fn figure(&self, file: &str, name: &str) -> u64 {
        let text = fs::read_to_string(self.folder.join(file)).expect("a file of the group");
        let value = text.lines().find_map(|line| match line.rsplit_once(' ') {
            Some((found, value)) if found == name => Some(value),
            None if name.is_empty() => Some(line),
            _ => None,
        });
        value.and_then(|value| value.trim().parse().ok()).unwrap_or_else(|| panic!("no {name} in {text}"))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.folder);
    }
}

/// Tells the history what was answered.
struct Recorder {
    history: Arc<Mutex<History>>,
    given_up: Mutex<Vec<String>>,
}

impl ClientContext for Recorder {}

impl ProducerContext for Recorder {
    type DeliveryOpaque = Box<Stamp>;

    fn delivery(&self, result: &DeliveryResult<'_>, stamp: Box<Stamp>) {
        match result {
            Ok(message) => {
                let offset = u64::try_from(message.offset()).ok();
                self.history.lock().unwrap().acknowledged(&stamp, offset);
            }
            Err((error, _)) => self.given_up.lock().unwrap().push(format!("{stamp}: {error}")),
        }
    }
}

fn produce(bootstrap: &str, number: u64, history: &Arc<Mutex<History>>) {
    let producer: ThreadedProducer<Recorder> = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("enable.idempotence", "true")
        // What waits in the client is no load for the server.
        .set("queue.buffering.max.kbytes", "16384")
        .create_with_context(Recorder { history: Arc::clone(history), given_up: Mutex::default() })
        .expect("a producer");
    for sequence in 0..EVENTS {
        for partition in 0..PARTITIONS {
            let stamp = Stamp { topic: TOPIC.to_owned(), partition, producer: number, sequence };
            history.lock().unwrap().sent(&stamp);
            let value = stamp.to_value(EVENT_BYTES);
            let mut record = BaseRecord::<(), [u8], Box<Stamp>>::with_opaque_to(TOPIC, Box::new(stamp))
                .partition(i32::try_from(partition).unwrap())
                .payload(&value);
            while let Err((error, back)) = producer.send(record) {
                assert_eq!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::QueueFull), "{error}");
                record = back;
                // Gives its thread time to send.
                let _ = producer.flush(Duration::from_millis(50));
            }
        }
    }
    producer.flush(2 * PATIENCE).expect("all are answered");
    let given_up = producer.context().given_up.lock().unwrap();
    assert!(given_up.is_empty(), "{} were given up, the first: {:?}", given_up.len(), given_up.first());
}

/// Reads everything from the beginning on, also what is written meanwhile.
fn read(bootstrap: &str, name: &str, history: &Mutex<History>) {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        // The library wants a group even where assign() makes none.
        .set("group.id", "assigned-by-hand")
        .set("enable.auto.commit", "false")
        .set("check.crcs", "true")
        .create()
        .expect("a consumer");
    let mut wanted = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        let partition = i32::try_from(partition).unwrap();
        wanted.add_partition_offset(TOPIC, partition, Offset::Beginning).expect("an assignment");
    }
    consumer.assign(&wanted).expect("an assignment");
    let all = EVENTS * PRODUCERS * u64::from(PARTITIONS);
    let deadline = Instant::now() + 4 * PATIENCE;
    let mut seen = 0;
    while seen < all {
        assert!(Instant::now() < deadline, "{name} has read {seen} of {all} events");
        // Without an event, or with a connection that is only being made, it asks again.
        let Some(Ok(event)) = consumer.poll(Duration::from_millis(200)) else { continue };
        let (partition, offset) = (u32::try_from(event.partition()), u64::try_from(event.offset()));
        let value = event.payload().unwrap_or_default();
        history.lock().unwrap().read(name, TOPIC, partition.unwrap(), offset.unwrap(), value);
        seen += 1;
    }
    let mut history = history.lock().unwrap();
    for partition in 0..PARTITIONS {
        history.complete(name, TOPIC, partition, 0, EVENTS * PRODUCERS);
    }
}

#[test]
fn a_log_of_three_times_the_memory_is_written_and_read_and_nobody_is_killed() {
    const NAME: &str =
        "memory_limit::a_log_of_three_times_the_memory_is_written_and_read_and_nobody_is_killed";
    let Some(group) = Group::for_test(NAME) else {
        return;
    };
    let data = tempdir().unwrap();
    let launch = Launch::on(data.path()).first(&group.enter());
    let server = launch.start();
    server.create_topic(TOPIC, i32::try_from(PARTITIONS).unwrap());
    let bootstrap = server.bootstrap();
    let history = Arc::new(Mutex::new(History::new()));
    thread::scope(|scope| {
        for number in 0..PRODUCERS {
            let (bootstrap, history) = (&bootstrap, &history);
            scope.spawn(move || produce(bootstrap, number, history));
        }
        for name in ["a reader", "another reader"] {
            let (bootstrap, history) = (&bootstrap, &history);
            scope.spawn(move || read(bootstrap, name, history));
        }
    });
    assert!(group.reached() > 0, "the limit was never reached: this proves nothing");
    assert_eq!(group.killed(), 0, "the server said:\n{}", server.stderr());
    server.assert_well("more data than memory");

    // The journal is read within the same bounds.
    server.kill();
    let server = launch.start();
    read(&server.bootstrap(), "a reader after SIGKILL", &history);
    assert_eq!(group.killed(), 0, "the server said:\n{}", server.stderr());
    server.assert_well("a start with more data than memory");
    let findings: Vec<String> =
        history.lock().unwrap().check().iter().take(10).map(ToString::to_string).collect();
    assert!(findings.is_empty(), "{findings:#?}");
}
