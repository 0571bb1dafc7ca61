//! Answers to come, as they wait for their turn.

use std::fmt;
use std::pin::Pin;

use tokio::sync::oneshot::{self, error::TryRecvError};

use super::produce::{self, Settled};
use super::{Call, Refusal, Reply, Work};
use crate::budget::Grant;
use crate::limits;
use crate::wire::ErrorCode;

/// An answer to come.
pub(crate) enum Pending {
    /// It is here.
    Ready(Reply),
    /// To be worked on before the next request is read; what it becomes waits for its turn.
    Now(Pin<Box<dyn Future<Output = Work> + Send>>),
    /// To be worked on when every earlier answer is known.
    Turn(Work),
    /// With the log.
    Produced(Produced),
}

impl Pending {
    /// What it weighs among the answers of its connection that are to come: see [`limits::REQUEST_WEIGHT`].
    pub(crate) fn weight(&self) -> usize {
        match self {
            Self::Produced(produced) if produced.is_small => 1,
            _ => limits::REQUEST_WEIGHT,
        }
    }

    /// Waits for the answer, working on it where that is left to do.
    pub(crate) async fn resolve(self) -> Result<Reply, Refusal> {
        match self {
            Self::Ready(reply) => Ok(reply),
            Self::Now(work) => work.await.await,
            Self::Turn(work) => work.await,
            Self::Produced(mut produced) => {
                let settled = (&mut produced.results).await.map_err(|_| Refusal::LogGone)?;
                produced.reply(settled)
            }
        }
    }

    /// The answer if it is there already.
    pub(crate) fn try_resolve(self) -> Result<Result<Reply, Refusal>, Self> {
        match self {
            Self::Ready(reply) => Ok(Ok(reply)),
            Self::Produced(mut produced) => match produced.results.try_recv() {
                Ok(settled) => Ok(produced.reply(settled)),
                Err(TryRecvError::Closed) => Ok(Err(Refusal::LogGone)),
                Err(TryRecvError::Empty) => Err(Self::Produced(produced)),
            },
            work => Err(work),
        }
    }
}

impl fmt::Debug for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ready(_) => "Ready",
            Self::Now(_) => "Now",
            Self::Turn(_) => "Turn",
            Self::Produced(_) => "Produced",
        })
    }
}

/// A Produce whose batches the log has.
#[derive(Debug)]
pub(crate) struct Produced {
    pub(super) results: oneshot::Receiver<Settled>,
    /// False with acks=0: then there is no answer, and an error closes the connection.
    pub(super) answered: bool,
    /// It was sent in few bytes, and all that it takes is counted until its answer is written.
    pub(super) is_small: bool,
    pub(super) call: Call,
}

impl Produced {
    fn reply(&self, settled: Settled) -> Result<Reply, Refusal> {
        if self.answered {
            return Ok(self.call.reply(&settled.response)?.covered(Grant::default(), settled.grant));
        }
        match produce::first_error(&settled.response) {
            None => Ok(Reply::default()),
            Some((code, message)) => Err(Refusal::Unanswered { code: ErrorCode(code), message }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::Arc;

    use bytes::Bytes;
    use courant_core::topic::TopicName;
    use courant_log::batch::records::{self, NewRecord};
    use courant_log::storage::MemoryStorage;
    use courant_log::{Codec, Log, LogConfig, NewTopic, SystemClock, SystemEntropy};

    use super::*;
    use crate::api::{Shares, dispatch};
    use crate::broker::{Broker, Caller};
    use crate::config::KafkaConfig;
    use crate::wire::encode_request;
    use crate::wire::messages::{PartitionProduceData, ProduceRequest, TopicProduceData};

    const PLAIN: &str = "plain";
    const UNPACKED: &str = "unpacked";
    const COMPACTED: &str = "compacted";

    /// A client of a broker with a few topics of one partition, on a log that commits when it is told to.
    fn caller() -> Arc<Caller> {
        let config = LogConfig {
            background: false,
            journal_file_bytes: 1024 * 1024,
            first_journal_file_bytes: 1024 * 1024,
            reserve_bytes: 0,
            ..LogConfig::new(Arc::new(SystemClock), Arc::new(SystemEntropy))
        };
        let (log, _) =
            Log::open(Arc::new(MemoryStorage::new(64 * 1024 * 1024)), config).expect("a new log opens");
        let longest = "n".repeat(249);
        let topics = [
            (PLAIN, None),
            (longest.as_str(), None),
            (UNPACKED, Some(("compression.type", "uncompressed"))),
            (COMPACTED, Some(("cleanup.policy", "compact"))),
        ];
        for (name, config) in topics {
            let name = TopicName::new(name).expect("a legal name");
            let configs = config.map(|(key, value)| (key.to_owned(), value.to_owned())).into_iter().collect();
            log.create_topic(NewTopic { name, partitions: 1, configs }, |created| {
                created.expect("it is created");
            });
        }
        assert!(log.commit());
        let here = SocketAddr::from(([127, 0, 0, 1], 9092));
        Arc::new(Caller::new(Arc::new(Broker::new(log, KafkaConfig::default())), here, here))
    }

    fn request(topic: &str, partition_data: Vec<PartitionProduceData>) -> Bytes {
        let topic =
            TopicProduceData { name: topic.to_owned(), partition_data, ..TopicProduceData::default() };
        let request = ProduceRequest { acks: -1, topic_data: vec![topic], ..ProduceRequest::default() };
        let frame = encode_request(&request, 9, 1, Some("raw")).expect("it can be written").concat();
        Bytes::from(frame).slice(size_of::<u32>()..)
    }

    /// A request with so many records in one batch, each of so many bytes.
    fn produce(topic: &str, codec: Codec, count: usize, value_bytes: usize) -> Bytes {
        let record = NewRecord { value: Some(Bytes::from(vec![b'x'; value_bytes])), ..NewRecord::default() };
        let records = records::encode(&vec![record; count], codec, None).expect("it can be encoded");
        request(topic, vec![PartitionProduceData { index: 0, records: Some(records) }])
    }

    /// What is begun with it, where there is memory for its bytes.
    fn begun(caller: &Arc<Caller>, frame: Bytes) -> Pending {
        let mut memory = Grant::default();
        assert!(caller.broker.request_budget.try_cover(&mut memory, frame.len()));
        let shares = Shares { memory, in_flight: Grant::default() };
        dispatch(caller, frame, shares, false).expect("it is a request")
    }

    /// What was sent counts, and what becomes of it: packed records may be a thousand times as many, and an answer may
    /// name each of them.
    #[test]
    fn a_produce_that_is_large_in_any_way_weighs_as_much_as_other_requests() {
        const MOST: usize = limits::SMALL_PRODUCE_BYTES_MAX;
        let caller = caller();
        let around = produce(PLAIN, Codec::None, 1, MOST - 200).len() - (MOST - 200);
        let exactly = produce(PLAIN, Codec::None, 1, MOST - around);
        let more = produce(PLAIN, Codec::None, 1, MOST - around + 1);
        assert_eq!((exactly.len(), more.len()), (MOST, MOST + 1));
        let cases = [
            ("as large as may be", exactly, 1),
            ("a byte more", more, limits::REQUEST_WEIGHT),
            ("unpacked a little larger", produce(UNPACKED, Codec::Gzip, 1, MOST / 2), 1),
            ("unpacked much larger", produce(UNPACKED, Codec::Gzip, 1, 2 * MOST), limits::REQUEST_WEIGHT),
            ("an answer that names two", produce(COMPACTED, Codec::None, 2, 1), 1),
            ("an answer that names many", produce(COMPACTED, Codec::None, 200, 1), limits::REQUEST_WEIGHT),
        ];
        for (what, frame, weight) in cases {
            assert!(frame.len() <= MOST + 1, "{what}: {} bytes", frame.len());
            assert_eq!(begun(&caller, frame).weight(), weight, "{what}");
        }
        // Nobody has waited for the answers. What the log has is given back when it is done with it.
        while caller.log().commit() {}
        assert_eq!(caller.broker.request_budget.granted(), 0);
    }

    /// Symptom: of an answer about partitions that a topic with a long name has not got, a part was not counted until it
    /// was written. Cause: each of them repeated the name in its sentence, and the name is counted once. Fix: what is said
    /// of a partition names no topic.
    #[tokio::test]
    async fn an_answer_about_partitions_that_are_not_there_is_covered_until_it_is_written() {
        let caller = caller();
        let absent = |index| PartitionProduceData { index, ..PartitionProduceData::default() };
        let frame = request(&"n".repeat(249), (1..=1_000).map(absent).collect());
        assert!(frame.len() <= limits::SMALL_PRODUCE_BYTES_MAX, "{} bytes", frame.len());
        let pending = begun(&caller, frame);
        let covered = caller.broker.request_budget.granted();
        let reply = pending.resolve().await.expect("an answer");
        let bytes: usize = reply.pieces.iter().map(Bytes::len).sum();
        assert!(bytes > 50_000 && covered >= bytes, "{covered} of {bytes}");
        assert!(caller.broker.request_budget.granted() >= bytes);
        drop(reply);
        assert_eq!(caller.broker.request_budget.granted(), 0);
    }
}
