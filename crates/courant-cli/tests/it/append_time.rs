//! `message.timestamp.type=LogAppendTime`: events have the time of their arrival, whatever the
//! producer's clock says and however they are compressed.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{Message as _, Timestamp};
use rdkafka::producer::{BaseRecord, Producer as _, ThreadedProducer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde_json::{Value, json};
use tempfile::tempdir;

use crate::PATIENCE;
use crate::server::{Server, courant};

const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];
const TOPIC: &str = "arrivals";

fn now_ms() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

fn consumer(server: &Server) -> BaseConsumer {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", server.bootstrap()).set("group.id", "none");
    config.create().expect("a consumer")
}

#[test]
fn events_have_the_time_of_their_arrival() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    let bootstrap = server.bootstrap();
    let set = "message.timestamp.type=LogAppendTime";
    let created = courant(&["topic", "create", TOPIC, "--config", set, "--server", &bootstrap], "");
    assert!(created.status.success(), "{}", String::from_utf8_lossy(&created.stderr));

    let before = now_ms();
    for codec in CODECS {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &bootstrap)
            .set("compression.type", codec)
            .set("enable.idempotence", "true");
        let producer: ThreadedProducer<_> = config.create().expect("a producer");
        for number in 0..20 {
            let value = format!("{codec} {number}").repeat(20);
            // Long ago, and in a future that has not come.
            let said = if number % 2 == 0 { 1_000 } else { before + 86_400_000 };
            let record = BaseRecord::<str, str>::to(TOPIC).partition(0).payload(&value).timestamp(said);
            producer.send(record).map_err(|(error, _)| error).expect("queued");
        }
        producer.flush(PATIENCE).expect("all are acknowledged");
    }
    let after = now_ms();

    let reader = consumer(&server);
    let mut places = TopicPartitionList::new();
    places.add_partition_offset(TOPIC, 0, Offset::Beginning).unwrap();
    reader.assign(&places).unwrap();
    let mut times = Vec::new();
    while times.len() < 20 * CODECS.len() {
        let event = reader.poll(PATIENCE).expect("in time").expect("an event");
        let Timestamp::LogAppendTime(time) = event.timestamp() else { panic!("{:?}", event.timestamp()) };
        assert!((before..=after).contains(&time), "{before} <= {time} <= {after}");
        times.push(time);
    }
    assert!(times.is_sorted(), "{times:?}");

    // Found by the time of arrival, and not by what the producer said.
    let at = |time: i64| {
        let mut asked = TopicPartitionList::new();
        asked.add_partition_offset(TOPIC, 0, Offset::Offset(time)).unwrap();
        let found = reader.offsets_for_times(asked, PATIENCE).unwrap();
        found.find_partition(TOPIC, 0).unwrap().offset()
    };
    assert_eq!(at(1_000), Offset::Offset(0));
    assert_eq!(at(before), Offset::Offset(0));
    assert_eq!(at(after + 1), Offset::End);
    let last = times.iter().position(|time| time == times.last().unwrap()).unwrap();
    assert_eq!(at(*times.last().unwrap()), Offset::Offset(i64::try_from(last).unwrap()));

    // The other way round for topics that do not ask for it; and it can be changed while events come.
    let altered = courant(
        &["topic", "alter", TOPIC, "--config", "message.timestamp.type=CreateTime", "--server", &bootstrap],
        "",
    );
    assert!(altered.status.success(), "{}", String::from_utf8_lossy(&altered.stderr));
    let shown = courant(&["topic", "configs", TOPIC, "-o", "json", "--server", &bootstrap], "");
    let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert!(!shown.as_array().unwrap().contains(&json!("LogAppendTime")), "{shown}");
    let mut config = ClientConfig::new();
    let producer: ThreadedProducer<_> =
        config.set("bootstrap.servers", &bootstrap).create().expect("a producer");
    let record = BaseRecord::<str, str>::to(TOPIC).partition(0).payload("mine").timestamp(77);
    producer.send(record).map_err(|(error, _)| error).expect("queued");
    producer.flush(PATIENCE).expect("acknowledged");
    let event = reader.poll(Duration::from_secs(60)).expect("in time").expect("an event");
    assert_eq!(event.timestamp(), Timestamp::CreateTime(77));
}
