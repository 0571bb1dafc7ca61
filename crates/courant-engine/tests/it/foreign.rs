//! What others have put into the log of a directory, which the engine has to make sense of.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use bytes::Bytes;
use courant_engine::{FetchError, Partition, ReadBack, ReadError};
use courant_log::batch::records::{NewRecord, encode};
use courant_log::crc::crc32c;
use courant_log::storage::DiskStorage;
use courant_log::{Batch, Codec, Log, LogConfig, NewTopic, PartitionId, SystemClock, SystemEntropy};
use tempfile::TempDir;

use crate::engines::{embedded_in, opened};
use crate::place::{read, subscribe, topic_name};

/// The log of a directory, opened as a server opens it.
pub(crate) fn log_in(dir: &Path) -> Log {
    let storage = DiskStorage::open(dir).expect("opens");
    let config = LogConfig::new(Arc::new(SystemClock), Arc::new(SystemEntropy));
    Log::open(Arc::new(storage), config).expect("opens").0
}

fn create(log: &Log, name: &str) -> PartitionId {
    let (created, topic) = channel();
    let new = NewTopic { name: topic_name(name), partitions: 1, configs: [].into() };
    log.create_topic(new, move |topic| created.send(topic).expect("sends"));
    topic.recv().expect("answered").expect("created").partitions[0]
}

fn append(log: &Log, partition: PartitionId, batch: Bytes) {
    let (done, answer) = channel();
    let batch = Batch::validate(batch).expect("a batch");
    log.append(partition, batch, move |appended| done.send(appended).expect("sends"));
    answer.recv().expect("answered").expect("appended");
}

fn batch(values: &[&'static str], codec: Codec) -> Bytes {
    let record = |value: &&'static str| NewRecord { value: Some((*value).into()), ..NewRecord::default() };
    encode(&values.iter().map(record).collect::<Vec<_>>(), codec, None).expect("encodes")
}

/// A batch whose checksum is right and whose one record says that a header follows, which does not. A
/// server stores it: it does not look at records.
fn broken() -> Bytes {
    let mut bytes = batch(&["broken"], Codec::None).to_vec();
    *bytes.last_mut().expect("bytes") = 2;
    let crc = crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes.into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_are_read_whatever_compressed_them() {
    let dir = TempDir::new().expect("a directory");
    let log = log_in(dir.path());
    let partition = create(&log, "orders");
    for codec in Codec::ALL {
        append(&log, partition, batch(&[codec.name(), "second"], codec));
    }
    log.stop();
    let engine = opened(&embedded_in(&dir)).await.expect("opens");
    let mut subscription = subscribe(&*engine, "billing", "orders").await;
    let records = read(&mut *subscription, 2 * Codec::ALL.len()).await;
    let first: Vec<_> = records.iter().step_by(2).map(|record| record.value.as_deref()).collect();
    assert_eq!(first, Codec::ALL.map(|codec| Some(codec.name().as_bytes())));
    engine.close().await;
}

/// What is sound before it comes first; then it is named, with the offset behind it; then the rest comes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_are_no_records_is_named_and_can_be_passed() {
    let dir = TempDir::new().expect("a directory");
    let log = log_in(dir.path());
    let partition = create(&log, "orders");
    append(&log, partition, batch(&["first", "second"], Codec::None));
    append(&log, partition, broken());
    append(&log, partition, batch(&["last"], Codec::None));
    log.stop();
    let engine = opened(&embedded_in(&dir)).await.expect("opens");
    let mut subscription = subscribe(&*engine, "billing", "orders").await;
    let sound = read(&mut *subscription, 2).await;
    assert_eq!(sound[1].value.as_deref(), Some(&b"second"[..]));
    let error = subscription.next(Duration::ZERO).await.expect_err("no records");
    let FetchError::Undecodable { partition, offset: 2, next_offset: 3, .. } = error else {
        panic!("{error:?}");
    };
    assert_eq!(partition, Partition::new("orders", 0));
    subscription.seek(vec![partition.at(3)]).expect("assigned");
    assert_eq!(read(&mut *subscription, 1).await[0].value.as_deref(), Some(&b"last"[..]));
    let back = engine.read(vec![partition.at(2), partition.at(3)]).await;
    assert!(matches!(&back[0], Err(ReadError::Failed { .. })), "{back:?}");
    assert!(matches!(&back[1], Ok(ReadBack::Found(_))), "{back:?}");
    engine.close().await;
}
