//! An answer as it is sent, with the memory that covers it until it is.

use bytes::Bytes;
use tokio::time::timeout;

use super::Refusal;
use crate::broker::Caller;
use crate::budget::Grant;
use crate::limits;

/// An encoded answer. Empty for a Produce with acks=0.
#[derive(Debug, Default)]
pub(crate) struct Reply {
    /// The frame, with its length.
    pub(crate) pieces: Vec<Bytes>,
    /// Its share of the memory for answers, and of its request's, to be kept until it is written: a client that
    /// does not read would else have answers that nobody counts.
    pub(crate) grants: [Grant; 2],
}

impl Reply {
    /// An answer that nothing covers yet.
    pub(super) fn of(pieces: Vec<Bytes>) -> Self {
        Self { pieces, ..Self::default() }
    }

    /// Keeps of its own share as much as there is of it, and of its request's what that does not cover.
    pub(super) fn covered(self, mut own: Grant, mut request: Grant) -> Self {
        let bytes: usize = self.pieces.iter().map(Bytes::len).sum();
        own.shrink_to(bytes);
        request.shrink_to(bytes.saturating_sub(own.bytes()));
        Self { grants: [own, request], ..self }
    }
}

/// Memory for an answer of about `bytes`, its fields and its encoding together.
pub(super) async fn memory_for(caller: &Caller, bytes: usize) -> Result<Grant, Refusal> {
    let mut grant = Grant::default();
    if bytes > limits::SMALL_ANSWER_BYTES {
        let cover = caller.broker.response_budget.cover(&mut grant, bytes);
        timeout(limits::BUDGET_WAIT_MAX, cover).await.map_err(|_| Refusal::Overload)?;
    }
    Ok(grant)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};
    use std::sync::Arc;

    use courant_log::storage::MemoryStorage;
    use courant_log::{Log, LogConfig, SystemClock, SystemEntropy};

    use super::*;
    use crate::api::{Shares, dispatch};
    use crate::broker::Broker;
    use crate::budget::Budget;
    use crate::config::KafkaConfig;
    use crate::wire::encode_request;
    use crate::wire::messages::{
        FetchPartition, FetchRequest, FetchTopic, PartitionProduceData, ProduceRequest, TopicProduceData,
    };

    #[test]
    fn a_reply_keeps_what_covers_it_and_gives_back_the_rest() {
        const KIB: usize = 1024;
        let (answers, requests) = (Budget::new(1024 * KIB), Budget::new(1024 * KIB));
        let (mut own, mut request) = (Grant::default(), Grant::default());
        assert!(answers.try_cover(&mut own, 30 * KIB) && requests.try_cover(&mut request, 200 * KIB));
        let pieces = vec![Bytes::from(vec![0; 40 * KIB]), Bytes::from(vec![0; 60 * KIB])];
        let reply = Reply::of(pieces).covered(own, request);
        assert_eq!((answers.granted(), requests.granted()), (30 * KIB, 70 * KIB));
        drop(reply);
        assert_eq!((answers.granted(), requests.granted()), (0, 0));

        let (mut own, mut request) = (Grant::default(), Grant::default());
        assert!(answers.try_cover(&mut own, 30 * KIB) && requests.try_cover(&mut request, KIB));
        let reply = Reply::of(vec![Bytes::from(vec![0; 10 * KIB])]).covered(own, request);
        assert_eq!((answers.granted(), requests.granted()), (10 * KIB, 0), "its own share is enough");
        drop(reply);
    }

    fn caller() -> Arc<Caller> {
        let config = LogConfig {
            background: false,
            journal_file_bytes: 64 * 1024,
            first_journal_file_bytes: 64 * 1024,
            reserve_bytes: 0,
            ..LogConfig::new(Arc::new(SystemClock), Arc::new(SystemEntropy))
        };
        let (log, _) =
            Log::open(Arc::new(MemoryStorage::new(64 * 1024 * 1024)), config).expect("a new log opens");
        let here = SocketAddr::from((Ipv4Addr::LOCALHOST, 9092));
        let broker = Arc::new(Broker::new(log, KafkaConfig::default()));
        Arc::new(Caller::new(broker, here, here))
    }

    /// Symptom: with a few hundred clients that read nothing, a server went far beyond its budget. Cause: an answer
    /// about many partitions is covered by its request, and what that had was given back before it was written.
    #[tokio::test]
    async fn an_answer_about_many_partitions_is_covered_until_it_is_written() {
        let caller = caller();
        let partitions = vec![FetchPartition { fetch_offset: 1, ..FetchPartition::default() }; 20_000];
        let topic = FetchTopic { topic: "absent".to_owned(), partitions, ..FetchTopic::default() };
        let request = FetchRequest { topics: vec![topic], ..FetchRequest::default() };
        let frame = encode_request(&request, 12, 1, Some("raw")).expect("it can be written").concat();
        let frame = Bytes::from(frame).slice(size_of::<u32>()..);
        let mut memory = Grant::default();
        assert!(caller.broker.request_budget.try_cover(&mut memory, frame.len()));
        let shares = Shares { memory, in_flight: Grant::default() };
        let pending = dispatch(&caller, frame, shares, false).expect("it is a request");
        let reply = pending.resolve().await.expect("an answer");
        let bytes: usize = reply.pieces.iter().map(Bytes::len).sum();
        assert!(bytes > 10 * limits::SMALL_ANSWER_BYTES, "{bytes}");
        let covered = caller.broker.request_budget.granted() + caller.broker.response_budget.granted();
        assert!(covered >= bytes, "{covered} of {bytes}");
        assert!(covered <= bytes + 1024, "what the request took besides is given back: {covered} of {bytes}");
        drop(reply);
        assert_eq!(caller.broker.request_budget.granted() + caller.broker.response_budget.granted(), 0);
    }

    /// Symptom: of answers to Produces to topics with long names, which nobody has, a kibibyte was counted. Cause: what
    /// stays counted until a Produce is answered was by its partitions, and the answer repeats the names. Fix: with them.
    #[tokio::test]
    async fn an_answer_that_repeats_a_long_name_is_covered_until_it_is_written() {
        let caller = caller();
        let partition_data = vec![PartitionProduceData::default()];
        let topic =
            TopicProduceData { name: "x".repeat(30_000), partition_data, ..TopicProduceData::default() };
        let request = ProduceRequest { acks: -1, topic_data: vec![topic], ..ProduceRequest::default() };
        let frame = encode_request(&request, 9, 1, Some("raw")).expect("it can be written").concat();
        let frame = Bytes::from(frame).slice(size_of::<u32>()..);
        let mut memory = Grant::default();
        let requests = &caller.broker.request_budget;
        assert!(requests.try_cover(&mut memory, frame.len()));
        let shares = Shares { memory, in_flight: Grant::default() };
        // It is refused at once, and waits for its turn.
        let pending = dispatch(&caller, frame, shares, false).expect("it is a request");
        assert!(requests.granted() >= 30_000, "{}", requests.granted());
        let reply = pending.resolve().await.expect("an answer");
        let bytes: usize = reply.pieces.iter().map(Bytes::len).sum();
        assert!(bytes > 30_000 && requests.granted() >= bytes, "{} of {bytes}", requests.granted());
        drop(reply);
        assert_eq!(requests.granted(), 0);
    }

    /// Symptom: connections with requests of a few kibibytes behind a Fetch that waits took far more than was counted.
    /// Cause: of requests with up to 64 elements nobody counted what those become, and 32 of them may wait.
    #[tokio::test]
    async fn what_small_requests_become_is_counted_while_they_wait() {
        let caller = caller();
        let partitions = vec![FetchPartition::default(); 60];
        let topic = FetchTopic { topic: "absent".to_owned(), partitions, ..FetchTopic::default() };
        let request = FetchRequest { topics: vec![topic], ..FetchRequest::default() };
        let frame = encode_request(&request, 12, 1, Some("raw")).expect("it can be written").concat();
        let frame = Bytes::from(frame).slice(size_of::<u32>()..);
        let waits = || {
            let shares = Shares { memory: Grant::default(), in_flight: Grant::default() };
            dispatch(&caller, frame.clone(), shares, false)
        };
        let requests = &caller.broker.request_budget;
        let waiting: Vec<_> =
            (0..limits::REQUESTS_IN_FLIGHT_MAX).map(|_| waits().expect("a request")).collect();
        let elements = limits::REQUESTS_IN_FLIGHT_MAX * 60 * limits::ELEMENT_BYTES;
        assert!(requests.granted() >= elements, "{} of {elements}", requests.granted());
        drop(waiting);
        assert_eq!(requests.granted(), 0);

        // Others have all of it: one goes on, and the next one when that is answered.
        let mut all = Grant::default();
        assert!(requests.try_cover(&mut all, usize::MAX));
        let first = waits().expect("it goes on");
        assert!(matches!(waits(), Err(Refusal::Overload)));
        first.resolve().await.expect("an answer");
        waits().expect("it goes on");
    }
}
