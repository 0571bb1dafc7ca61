//! A member of a consumer group with rdkafka, as a Rust service would be. `clients/python/lines.py`
//! says what it speaks; of that it knows `member`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::BufRead as _;
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use rdkafka::{ClientConfig, ClientContext, Offset, TopicPartitionList};
use serde_json::{Value, json};

const DEADLINE: Duration = Duration::from_secs(180);

/// What a member knows of itself.
#[derive(Default)]
struct State {
    held: BTreeSet<i32>,
    handed_out: BTreeMap<i32, i64>,
}

struct Context {
    topic: String,
    state: Mutex<State>,
}

impl ClientContext for Context {}

impl ConsumerContext for Context {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Revoke(partitions) = rebalance {
            let revoked: Vec<i32> = partitions.elements().iter().map(|one| one.partition()).collect();
            // What was lost to others is theirs to commit.
            let _ = commit(consumer, Some(&revoked));
            let mut state = self.lock();
            for partition in &revoked {
                state.handed_out.remove(partition);
                state.held.remove(partition);
            }
            emit(&json!({"revoked": revoked}));
        }
    }

    fn post_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Assign(partitions) = rebalance {
            let mut state = self.lock();
            state.held.extend(partitions.elements().iter().map(|one| one.partition()));
            emit(&json!({"assigned": state.held}));
        }
    }
}

impl Context {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[expect(clippy::print_stdout, reason = "stdout is what the test reads")]
fn emit(line: &Value) {
    println!("{line}");
}

/// Commits what was handed out, of all partitions or of some.
fn commit(consumer: &BaseConsumer<Context>, partitions: Option<&[i32]>) -> KafkaResult<()> {
    let context = consumer.context();
    let mut offsets = TopicPartitionList::new();
    let mut committed = BTreeMap::new();
    for (partition, offset) in &context.lock().handed_out {
        if partitions.is_none_or(|wanted| wanted.contains(partition)) {
            offsets.add_partition_offset(&context.topic, *partition, Offset::Offset(*offset))?;
            committed.insert(partition.to_string(), *offset);
        }
    }
    if !committed.is_empty() {
        consumer.commit(&offsets, CommitMode::Sync)?;
    }
    emit(&json!({"committed": committed}));
    Ok(())
}

fn hex(bytes: Option<&[u8]>) -> Option<String> {
    bytes.map(|bytes| bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn record(message: &BorrowedMessage<'_>) -> Value {
    let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
    let headers: Vec<_> = headers.map(|header| json!([header.key, hex(header.value)])).collect();
    json!({
        "p": message.partition(),
        "o": message.offset(),
        "t": message.timestamp().to_millis(),
        "k": hex(message.key()),
        "v": hex(message.payload()),
        "h": headers,
    })
}

/// Does what the test says; true when that was to stop.
fn obey(consumer: &BaseConsumer<Context>, words: &[&str]) -> KafkaResult<bool> {
    let context = consumer.context();
    let held: Vec<i32> = context.lock().held.iter().copied().collect();
    let mut partitions = TopicPartitionList::new();
    for partition in &held {
        partitions.add_partition(&context.topic, *partition);
    }
    match words {
        ["commit"] => commit(consumer, None)?,
        ["pause"] => {
            consumer.pause(&partitions)?;
            emit(&json!({"paused": held}));
        }
        ["resume"] => {
            consumer.resume(&partitions)?;
            emit(&json!({"resumed": held}));
        }
        ["seek", partition, offset] => {
            let (partition, offset) = (partition.parse().unwrap_or(0), offset.parse().unwrap_or(0));
            consumer.seek(&context.topic, partition, Offset::Offset(offset), DEADLINE)?;
            context.lock().handed_out.remove(&partition);
            emit(&json!({"sought": [partition, offset]}));
        }
        ["die"] => std::process::exit(0),
        _ => {
            commit(consumer, None)?;
            return Ok(true);
        }
    }
    Ok(false)
}

fn consumer(arguments: &[String]) -> KafkaResult<BaseConsumer<Context>> {
    let [server, topic, group, options @ ..] = arguments else {
        return Err(KafkaError::ClientCreation("member SERVER TOPIC GROUP".to_owned()));
    };
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", server).set("group.id", group);
    config.set("auto.offset.reset", "earliest").set("enable.auto.commit", "false");
    for option in options.chunks_exact(2) {
        match option[0].as_str() {
            "--instance" => config.set("group.instance.id", &option[1]),
            _ => config.set("session.timeout.ms", &option[1]),
        };
    }
    let context = Context { topic: topic.clone(), state: Mutex::default() };
    let consumer: BaseConsumer<Context> = config.create_with_context(context)?;
    consumer.subscribe(&[topic])?;
    Ok(consumer)
}

fn main() -> KafkaResult<()> {
    let arguments: Vec<String> = std::env::args().skip(2).collect();
    let consumer = consumer(&arguments)?;
    let (say, said) = mpsc::channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if say.send(line).is_err() {
                return;
            }
        }
        let _ = say.send("stop".to_owned());
    });
    let begun = Instant::now();
    while begun.elapsed() < DEADLINE {
        if let Ok(line) = said.try_recv() {
            let words: Vec<&str> = line.split_whitespace().collect();
            if obey(&consumer, &words)? {
                consumer.context().lock().handed_out.clear();
                drop(consumer);
                emit(&json!({"stopped": true}));
                return Ok(());
            }
            continue;
        }
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                consumer.context().lock().handed_out.insert(message.partition(), message.offset() + 1);
                emit(&record(&message));
            }
            Some(Err(KafkaError::MessageConsumptionFatal(code))) => {
                return Err(KafkaError::MessageConsumptionFatal(code));
            }
            // The library goes on by itself.
            Some(Err(_)) | None => {}
        }
    }
    Err(KafkaError::Global(RDKafkaErrorCode::OperationTimedOut))
}
