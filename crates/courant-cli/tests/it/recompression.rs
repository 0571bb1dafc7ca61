//! `compression.type`: what is stored has the topic's codec, whatever the producer used, and is the same.

use std::collections::BTreeSet;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{Headers as _, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _, ThreadedProducer};
use rdkafka::{Offset, TopicPartitionList};
use tempfile::tempdir;

use crate::PATIENCE;
use crate::raw::Connection;
use crate::server::{Server, courant};

/// As clients name them, and as the topic does, with their numbers in a batch.
const CODECS: [(&str, &str, i16); 5] = [
    ("none", "uncompressed", 0),
    ("gzip", "gzip", 1),
    ("snappy", "snappy", 2),
    ("lz4", "lz4", 3),
    ("zstd", "zstd", 4),
];
const EVENTS: usize = 50;

fn value(sent_as: &str, number: usize) -> String {
    format!("{sent_as} {number} ").repeat(1 + number)
}

fn publish(bootstrap: &str, topic: &str) {
    for (sent_as, ..) in CODECS {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", bootstrap).set("compression.type", sent_as);
        config.set("enable.idempotence", "true").set("linger.ms", "20");
        let producer: ThreadedProducer<_> = config.create().expect("a producer");
        for number in 0..EVENTS {
            let (key, value) = (format!("key {number}"), value(sent_as, number));
            let headers =
                OwnedHeaders::new().insert(rdkafka::message::Header { key: "sent", value: Some(sent_as) });
            let record = BaseRecord::to(topic).partition(0).key(&key).payload(&value).headers(headers);
            producer.send(record).map_err(|(error, _)| error).expect("queued");
        }
        producer.flush(PATIENCE).expect("all are acknowledged");
    }
}

fn read(bootstrap: &str, topic: &str) -> Vec<(i64, String, String, String)> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("group.id", "none").set("check.crcs", "true");
    let reader: BaseConsumer = config.create().expect("a consumer");
    let mut places = TopicPartitionList::new();
    places.add_partition_offset(topic, 0, Offset::Beginning).unwrap();
    reader.assign(&places).unwrap();
    let text = |bytes: Option<&[u8]>| String::from_utf8(bytes.expect("there").to_vec()).expect("text");
    (0..EVENTS * CODECS.len())
        .map(|_| {
            let event = reader.poll(PATIENCE).expect("in time").expect("an event");
            let header = text(event.headers().expect("headers").get(0).value);
            (event.offset(), text(event.key()), text(event.payload()), header)
        })
        .collect()
}

#[test]
fn every_codec_becomes_the_topics_and_nothing_else_changes() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    let bootstrap = server.bootstrap();
    let expected: Vec<_> = CODECS
        .iter()
        .flat_map(|(sent_as, ..)| (0..EVENTS).map(|number| (*sent_as, number)))
        .zip(0..)
        .map(|((sent_as, number), offset)| {
            (offset, format!("key {number}"), value(sent_as, number), sent_as.to_owned())
        })
        .collect();
    for (_, stored_as, codec) in CODECS {
        let config = format!("compression.type={stored_as}");
        let created =
            courant(&["topic", "create", stored_as, "--config", &config, "--server", &bootstrap], "");
        assert!(created.status.success(), "{}", String::from_utf8_lossy(&created.stderr));
        publish(&bootstrap, stored_as);
        let batches = Connection::open(server.kafka()).batches(stored_as, 0);
        let codecs: BTreeSet<i16> = batches.iter().map(|batch| batch.codec).collect();
        assert_eq!(codecs, BTreeSet::from([codec]), "{stored_as}");
        assert!(batches.iter().all(|batch| batch.producer_id >= 0), "producers and their sequences stay");
        assert_eq!(read(&bootstrap, stored_as), expected, "{stored_as}");
    }
    server.assert_well("recompression");
}
