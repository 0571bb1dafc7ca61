//! What a batch must be before the log sees it.

use bytes::Bytes;
use courant_log::Topic;
use courant_log::batch::{Batch, BatchError, Codec, records};
use courant_log::topic_config::{self, TimestampLimits};
use tokio::task::block_in_place;

use super::{Refused, ZSTD_FROM, can_wait};
use crate::broker::Broker;
use crate::limits;
use crate::wire::ErrorCode;

/// Where the format version of a batch stands: after base offset (8), length (4), epoch (4).
const MAGIC_AT: usize = 16;

/// The batch in `records`, or why it is refused.
///
/// Size comes before the checksum, so that an oversized batch costs nothing. A request carries
/// exactly one batch per partition (Produce 3 and later); older formats are not converted. Where the
/// topic wants it, the batch gets the time of its arrival.
pub(super) fn check(
    broker: &Broker,
    topic: &Topic,
    records: Option<Bytes>,
    version: i16,
    now_ms: i64,
) -> Result<Batch, Refused> {
    let bytes = records
        .filter(|bytes| !bytes.is_empty())
        .ok_or_else(|| Refused::new(ErrorCode::INVALID_RECORD, "a partition came without a batch"))?;
    let max = topic_config::max_message_bytes(&topic.configs);
    if bytes.len() > max {
        let message = format!("the batch has {} bytes; the topic's max.message.bytes is {max}", bytes.len());
        return Err(Refused::new(ErrorCode::MESSAGE_TOO_LARGE, message));
    }
    if let Some(magic @ (0 | 1)) = bytes.get(MAGIC_AT).copied() {
        let message = format!("message format {magic} is not served; 2 is the format since 2017");
        return Err(Refused::new(ErrorCode::UNSUPPORTED_FOR_MESSAGE_FORMAT, message));
    }
    let batch = Batch::validate(bytes).map_err(|error| from_batch(&error))?;
    let header = batch.header();
    if header.is_transactional() {
        return Err(transactional());
    }
    if version < ZSTD_FROM && matches!(header.codec(), Ok(Codec::Zstd)) {
        let message = "zstd needs Produce version 7 or later";
        return Err(Refused::new(ErrorCode::UNSUPPORTED_COMPRESSION_TYPE, message));
    }
    // First, as in Kafka: a batch with mistakes of both kinds is told of its timestamps.
    if let Some(allowed) = TimestampLimits::of(&topic.configs) {
        check_timestamps(broker, &batch, allowed, now_ms)?;
    }
    if topic_config::is_compacted(&topic.configs) {
        check_keys(broker, &batch)?;
    }
    let batch = match topic_config::codec(&topic.configs) {
        Some(codec) => recompressed(broker, &batch, codec, max)?,
        None => batch,
    };
    if topic_config::has_append_time(&topic.configs) {
        return Ok(batch.with_append_time(now_ms));
    }
    Ok(batch)
}

/// Takes a batch apart when there is a place for that. Who waits for one holds up nobody: another thread goes on with
/// what else is to be done on this one, heartbeats among it. The runtime has only so many threads for that, so no more
/// than a part of them wait.
fn unpacked<T>(broker: &Broker, unpack: impl FnOnce(usize) -> T) -> Result<T, Refused> {
    let log = broker.log();
    let unpack = match log.try_unpack(unpack) {
        Ok(unpacked) => return Ok(unpacked),
        Err(unpack) => unpack,
    };
    let Ok(_waits) = broker.unpack_waits.try_acquire() else { return Err(too_many_wait()) };
    Ok(match can_wait() {
        true => block_in_place(|| log.unpack(unpack)),
        false => log.unpack(unpack),
    })
}

/// What the client is told when as many wait as may. It may send its batch again.
fn too_many_wait() -> Refused {
    let message = "many other batches wait to be unpacked, as this topic needs it: send it again";
    Refused::new(ErrorCode::REQUEST_TIMED_OUT, message)
}

/// Every record's timestamp must be as near to the clock as the topic asks (KIP-937). The header does not say: it has the
/// first record's and what the producer believes to be the newest, and the oldest may be any. So the records are gone
/// through, as in Kafka, and those to blame are named.
fn check_timestamps(
    broker: &Broker,
    batch: &Batch,
    allowed: TimestampLimits,
    now_ms: i64,
) -> Result<(), Refused> {
    let check = |timestamp_ms| allowed.check(timestamp_ms, now_ms);
    let look =
        |bytes_max| records::refused_timestamps(batch.bytes(), limits::RECORD_ERRORS_MAX, bytes_max, check);
    let refused = match batch.header().codec() {
        // They are gone through where they are: that takes no memory, and nobody has to wait for a place.
        Ok(Codec::None) => look(batch.bytes().len()),
        _ => unpacked(broker, look)?,
    };
    let refused = refused.map_err(|error| Refused::new(ErrorCode::INVALID_RECORD, error.to_string()))?;
    let Some((index, first)) = refused.first() else { return Ok(()) };
    let message = format!("record {index} of the batch: {first}");
    let records = refused.iter().map(|(index, _)| *index).collect();
    Err(Refused { records, ..Refused::new(ErrorCode::INVALID_TIMESTAMP, message) })
}

/// In a compacted topic every record needs a key. The records are named, so that a client can say which
/// of its own were refused for their own sake (KIP-467).
fn check_keys(broker: &Broker, batch: &Batch) -> Result<(), Refused> {
    let look = |bytes_max| records::without_key(batch.bytes(), limits::RECORD_ERRORS_MAX, bytes_max);
    let without = unpacked(broker, look)?
        .map_err(|error| Refused::new(ErrorCode::INVALID_RECORD, error.to_string()))?;
    if without.is_empty() {
        return Ok(());
    }
    let message = "a record without a key cannot be in a compacted topic";
    Err(Refused { records: without, ..Refused::new(ErrorCode::INVALID_RECORD, message) })
}

/// The batch under the topic's codec. It is held against `max.message.bytes` as it is stored.
fn recompressed(broker: &Broker, batch: &Batch, codec: Codec, max: usize) -> Result<Batch, Refused> {
    let batch = unpacked(broker, |bytes_max| batch.with_codec(codec, bytes_max))?
        .map_err(|error| Refused::new(ErrorCode::INVALID_RECORD, error.to_string()))?;
    let bytes = batch.bytes().len();
    if bytes > max {
        let message =
            format!("compressed as the topic says, the batch has {bytes} bytes; max.message.bytes is {max}");
        return Err(Refused::new(ErrorCode::MESSAGE_TOO_LARGE, message));
    }
    Ok(batch)
}

/// The answer to a transactional producer that came here without InitProducerId, which would have
/// told it the same. Clients treat it as fatal instead of trying for ever.
pub(super) fn transactional() -> Refused {
    Refused::new(ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED, super::super::NO_TRANSACTIONS)
}

fn from_batch(error: &BatchError) -> Refused {
    let code = match error {
        // Damaged on the way: clients send it again.
        BatchError::CrcMismatch { .. } | BatchError::Truncated { .. } | BatchError::BadLength { .. } => {
            ErrorCode::CORRUPT_MESSAGE
        }
        // Intact, and wrong: sending it again would not help.
        _ => ErrorCode::INVALID_RECORD,
    };
    Refused::new(code, error.to_string())
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, mpsc};
    use std::thread;
    use std::time::Duration;

    use courant_log::storage::MemoryStorage;
    use courant_log::{Log, LogConfig, SystemClock, SystemEntropy};
    use tokio::runtime::{Builder, Runtime};

    use super::*;
    use crate::config::KafkaConfig;

    const PATIENCE: Duration = Duration::from_secs(30);

    /// One that unpacks a batch at a time.
    fn broker() -> Arc<Broker> {
        let config = LogConfig {
            journal_file_bytes: 1024 * 1024,
            first_journal_file_bytes: 1024 * 1024,
            reserve_bytes: 0,
            background: false,
            unpacked_bytes_max: 7,
            unpacked_at_once: 1,
            ..LogConfig::new(Arc::new(SystemClock), Arc::new(SystemEntropy))
        };
        let storage = Arc::new(MemoryStorage::new(64 * 1024 * 1024));
        let (log, _) = Log::open(storage, config).expect("a new log opens");
        Arc::new(Broker::new(log, KafkaConfig::default()))
    }

    /// One with a single worker, which so many threads can take the place of.
    fn runtime(threads: usize) -> Runtime {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(1).max_blocking_threads(threads).build().expect("a runtime")
    }

    /// Whether the runtime has a thread for something else. Its clocks need one as well, so none of them is asked.
    fn goes_on(runtime: &Runtime) -> bool {
        let (begins, begun) = mpsc::channel();
        drop(runtime.spawn(async move { begins.send(()) }));
        begun.recv_timeout(PATIENCE).is_ok()
    }

    /// Calls `then` while somebody else has the only place.
    fn while_the_place_is_taken(broker: &Broker, then: impl FnOnce()) {
        thread::scope(|scope| {
            // Gone when an assertion fails, so that nobody waits for ever.
            let (_give_back, given_back) = mpsc::channel::<()>();
            let (takes, taken) = mpsc::channel();
            let holder = broker.log().clone();
            scope.spawn(move || {
                holder.unpack(|_| {
                    takes.send(()).expect("it is waited for");
                    let _ = given_back.recv();
                });
            });
            taken.recv().expect("the place is taken");
            then();
        });
    }

    /// The only place is taken for as long as it likes, and the only worker of the runtime waits for it.
    #[test]
    fn who_waits_to_unpack_holds_up_nobody_else() {
        let (broker, runtime) = (broker(), runtime(512));
        let mut waits = None;
        while_the_place_is_taken(&broker, || {
            let (begins, begun) = mpsc::channel();
            let waiting = Arc::clone(&broker);
            waits = Some(runtime.spawn(async move {
                begins.send(()).expect("it is waited for");
                unpacked(&waiting, |bytes_max| bytes_max).ok()
            }));
            begun.recv().expect("the worker is busy");
            assert!(goes_on(&runtime), "others are held up");
        });
        let waits = waits.expect("it was begun");
        assert_eq!(runtime.block_on(waits).expect("no panic"), Some(7));
    }

    /// Symptom: with a budget of memory and a few hundred clients that sent to compacted topics at the same time, the
    /// broker stood still: it answered no heartbeat and no Fetch. Cause: each that waited for a place to unpack its
    /// batch had one of the threads that the runtime has for such waits, and none was left to go on with the rest. Fix:
    /// so many wait, and the others send their batch again.
    #[test]
    fn those_who_wait_to_unpack_leave_threads_for_everybody_else() {
        // With one more of them there would be none left.
        let (broker, runtime) = (broker(), runtime(limits::UNPACK_WAITS_MAX));
        let mut all = Vec::new();
        while_the_place_is_taken(&broker, || {
            let (refuses, refused) = mpsc::channel();
            for _ in 0..=limits::UNPACK_WAITS_MAX {
                let (waiting, refuses) = (Arc::clone(&broker), refuses.clone());
                all.push(runtime.spawn(async move {
                    let unpacked = unpacked(&waiting, |bytes_max| bytes_max);
                    if let Err(refused) = &unpacked {
                        // Who has waited for it in vain is not there any more.
                        let _ = refuses.send(refused.code);
                    }
                    unpacked.ok()
                }));
            }
            let code = refused.recv_timeout(PATIENCE).expect("one of them finds no place to wait");
            assert_eq!(code, ErrorCode::REQUEST_TIMED_OUT);
            assert!(goes_on(&runtime), "others are held up");
        });
        let done = all.into_iter().filter_map(|one| runtime.block_on(one).expect("no panic"));
        assert_eq!(done.filter(|bytes_max| *bytes_max == 7).count(), limits::UNPACK_WAITS_MAX);
    }
}
