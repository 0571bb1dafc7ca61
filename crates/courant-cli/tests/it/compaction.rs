//! A compacted topic on a running server: a reader finds the newest event of each key at its offset,
//! whatever was killed, and a deleted key is gone.

use std::collections::BTreeMap;
use std::time::Instant;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Message as _;
use rdkafka::producer::{BaseRecord, Producer as _, ThreadedProducer};
use rdkafka::{Offset, TopicPartitionList};
use tempfile::tempdir;

use crate::cli::{run, said};
use crate::server::{Launch, Server};
use crate::{Dice, PATIENCE, eventually, seed};

const TOPIC: &str = "stock";
const KEYS: u64 = 40;
const EVENTS: u64 = 6_000;

/// The newest offset and value of each key; no value: it was deleted.
type State = BTreeMap<String, (i64, Option<Vec<u8>>)>;

/// Sends events of few keys, a tenth of them tombstones, and follows what they make of `state`.
fn publish(server: &Server, dice: &mut Dice, from: i64, state: &mut State) -> i64 {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", server.bootstrap()).set("enable.idempotence", "true");
    config.set("compression.type", "lz4").set("linger.ms", "5");
    let producer: ThreadedProducer<_> = config.create().expect("a producer");
    for number in 0..EVENTS {
        let key = format!("item-{}", dice.between(0, KEYS));
        let value = (dice.between(0, 10) > 0).then(|| dice.bytes(1_000));
        let record = BaseRecord::to(TOPIC).partition(0).key(&key);
        let record = match &value {
            Some(value) => record.payload(value),
            None => record,
        };
        producer.send(record).map_err(|(error, _)| error).expect("queued");
        state.insert(key, (from + number as i64, value));
    }
    producer.flush(PATIENCE).expect("all are acknowledged");
    from + EVENTS as i64
}

/// What a reader makes of the topic, and how many events it got.
fn read(server: &Server, end: i64) -> (State, u64) {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", server.bootstrap()).set("group.id", "none").set("check.crcs", "true");
    config.set("enable.partition.eof", "true");
    let reader: BaseConsumer = config.create().expect("a consumer");
    let mut places = TopicPartitionList::new();
    places.add_partition_offset(TOPIC, 0, Offset::Beginning).expect("a place");
    reader.assign(&places).expect("assigned");
    let (mut state, mut events, mut last) = (State::new(), 0, -1);
    loop {
        let event = match reader.poll(PATIENCE).expect("in time") {
            Ok(event) => event,
            Err(rdkafka::error::KafkaError::PartitionEOF(_)) => break,
            Err(error) => panic!("{error}"),
        };
        assert!(last < event.offset() && event.offset() < end, "{} behind {last}", event.offset());
        (last, events) = (event.offset(), events + 1);
        let key = String::from_utf8(event.key().expect("a key").to_vec()).expect("text");
        state.insert(key, (event.offset(), event.payload().map(<[u8]>::to_vec)));
    }
    (state, events)
}

fn live(state: &State) -> State {
    state.iter().filter(|(_, (_, value))| value.is_some()).map(|(k, v)| (k.clone(), v.clone())).collect()
}

/// What a reader makes of the topic that begins anew until it is as it should be, or until the time is over.
///
/// A tombstone goes here a second after its first compaction. A reader that takes longer than that may have seen an
/// event, and not what has deleted it; the next one sees neither. What is lost or comes back stays wrong.
fn read_until(server: &Server, end: i64, is_right: impl Fn(&State, u64) -> bool) -> (State, u64) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (found, events) = read(server, end);
        if is_right(&found, events) || Instant::now() >= deadline {
            return (found, events);
        }
    }
}

fn compactions(server: &Server) -> u64 {
    server.counter("courant_log_compactions_total")
}

fn start(data: &std::path::Path) -> Server {
    Launch::on(data).arguments(&["--compaction-interval-seconds", "1"]).start()
}

#[test]
fn the_newest_of_each_key_is_left_over_kills_and_deleted_keys_are_gone() {
    let data = tempdir().unwrap();
    let mut dice = Dice::new(seed());
    let mut server = start(data.path());
    let mut create = vec!["topic", "create", TOPIC];
    for config in [
        "cleanup.policy=compact",
        "segment.bytes=1048576",
        "min.cleanable.dirty.ratio=0.01",
        "delete.retention.ms=0",
    ] {
        create.extend(["--config", config]);
    }
    said(run(&server, &create));
    let (mut state, mut end) = (State::new(), 0);
    for round in 0..3 {
        end = publish(&server, &mut dice, end, &mut state);
        eventually("a compaction", PATIENCE, || (compactions(&server) > 0).then_some(()));
        let expected = live(&state);
        let (found, _) = read_until(&server, end, |found, _| live(found) == expected);
        assert_eq!(live(&found), expected, "round {round}");
        if round < 2 {
            // In the midst of what comes next.
            server.kill();
            server = start(data.path());
        }
    }
    // With the newest segment sealed, what is left is little more than one event for each key.
    let filler = "x".repeat(900_000);
    for _ in 0..2 {
        said(courant_pub(&server, &filler));
        end += 1;
    }
    let expected = live(&state);
    let without_filler = |found: &State| {
        let mut rest = live(found);
        rest.remove("filler").map(|_| rest)
    };
    let (found, events) = read_until(&server, end, |found, events| {
        events <= 2 * KEYS && without_filler(found).as_ref() == Some(&expected)
    });
    assert!(events <= 2 * KEYS, "all but the newest segments are compacted: {events} events");
    assert_eq!(without_filler(&found).expect("it is there"), expected, "{events} events");
    assert_eq!(server.counter("courant_log_compaction_failures_total"), 0);
    assert_eq!(server.counter("courant_log_damaged_places"), 0);
    let (status, stderr) = server.stop();
    assert!(status.success(), "{stderr}");
    let verified = crate::server::courant(&["log", "verify", "--data", &data.path().to_string_lossy()], "");
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
}

fn courant_pub(server: &Server, value: &str) -> std::process::Output {
    let bootstrap = server.bootstrap();
    crate::server::courant(&["pub", TOPIC, "--key", "filler", "--server", &bootstrap], value)
}
