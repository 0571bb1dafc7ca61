//! Publishing: batches per partition, in order, retried until they are acknowledged.
//!
//! One batch per partition is in flight at a time, so nothing overtakes. With a producer id the
//! server recognises a batch that is sent again after a lost answer (KIP-98) and stores it once;
//! without one (a server that gives none) such a retry may store it twice.

use super::admin::timeout_ms;
use super::backoff::Backoff;
use super::batching::{Event, Filling, Queues, split_first};
use super::partitioner::{Sticky, partition_for_key};
use super::verdict::{Verdict, answers, is_after_append, may_have_arrived, verdict};
use super::{Address, AdminError, CallError, Client, PublishError, Refusal, TopicInfo};
use crate::wire::ErrorCode;
use crate::wire::messages::{
    InitProducerIdRequest, PartitionProduceData, PartitionProduceResponse, ProduceRequest, TopicProduceData,
};
use courant_log::batch::Codec;
use courant_log::batch::records;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use uuid::Uuid;

/// The last Produce version that names topics; the next one wants their ids (KIP-516).
const PRODUCE_NAMES_MAX: i16 = 12;

/// How a producer behaves.
#[derive(Clone, Copy, Debug)]
pub struct ProducerConfig {
    /// How batches are compressed.
    pub codec: Codec,
    /// Whether the server may create the topic when there is none.
    pub create_topic: bool,
}

/// A run of events that are on disk at the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    /// The partition's number.
    pub partition: i32,
    /// Offset of the first of them; -1 when the server had them already and did not say where.
    pub base_offset: i64,
    /// How many.
    pub events: u32,
}

/// Publishes to one topic.
#[derive(Debug)]
pub struct Producer {
    client: Client,
    topic: TopicInfo,
    config: ProducerConfig,
    /// Producer id and epoch; `None` when the server gives none.
    identity: Option<(i64, i16)>,
    /// The sequence of the next record, by partition.
    sequences: BTreeMap<i32, i32>,
    /// Partitions whose first batch was sent and may be stored, though nobody said so.
    in_doubt: BTreeSet<i32>,
    sticky: Sticky,
}

impl Producer {
    /// Looks the topic up and asks for a producer id.
    ///
    /// # Errors
    /// [`AdminError::UnknownTopic`], no answer, or a refusal.
    pub async fn open(mut client: Client, topic: &str, config: ProducerConfig) -> Result<Self, PublishError> {
        let topic = client.topic(topic, config.create_topic).await?;
        let identity = client.producer_id().await?;
        // Any number does; this one differs between processes.
        let seed = Uuid::new_v4().as_u128() as u32;
        Ok(Self {
            client,
            topic,
            config,
            identity,
            sequences: BTreeMap::new(),
            in_doubt: BTreeSet::new(),
            sticky: Sticky::beginning_at(seed),
        })
    }

    /// Publishes events and returns when all are acknowledged. Those of one partition keep their
    /// order. What was acknowledged is added to `acknowledged`, also when an error ends it.
    ///
    /// # Errors
    /// An event that is too large, a refusal, or no acknowledgement within the client's timeout.
    /// After an error the producer must not be used again: whether the last batches were stored is
    /// not known.
    pub async fn publish(
        &mut self,
        events: Vec<Event>,
        acknowledged: &mut Vec<Acknowledged>,
    ) -> Result<(), PublishError> {
        let mut queues = self.queues(events)?;
        let mut backoff = Backoff::within(self.client.timeout());
        while !queues.is_empty() {
            let before = acknowledged.len();
            let trouble = self.round(&mut queues, acknowledged).await?;
            queues.retain(|_, batches| !batches.is_empty());
            if acknowledged.len() > before {
                backoff = Backoff::within(self.client.timeout());
            }
            if let Some(trouble) = trouble {
                if !backoff.pause().await {
                    return Err(trouble.into_error(backoff.total()));
                }
                self.find_leaders().await?;
            }
        }
        Ok(())
    }

    /// Whether events were sent whose fate is not known: they may be stored although no
    /// acknowledgement came, and another producer that sends them again may store them twice.
    #[must_use]
    pub fn is_in_doubt(&self) -> bool {
        !self.in_doubt.is_empty()
    }

    /// Splits events into batches by partition.
    fn queues(&mut self, events: Vec<Event>) -> Result<Queues, PublishError> {
        let partitions = u32::try_from(self.topic.partitions.len()).unwrap_or(u32::MAX);
        let any = self.sticky.next(partitions);
        let mut filling = Filling::default();
        for event in events {
            let partition = match (event.partition, &event.key) {
                (Some(partition), _) => partition,
                (None, Some(key)) => self.nth(partition_for_key(key, partitions)),
                (None, None) => self.nth(any),
            };
            if self.topic.partition(partition).is_none() {
                return Err(PublishError::Admin(AdminError::UnknownPartition {
                    topic: self.topic.name.clone(),
                    partition,
                }));
            }
            filling.add(partition, event);
        }
        Ok(filling.queues)
    }

    /// The number of the partition at this place; they are the same unless a server skips numbers.
    fn nth(&self, place: u32) -> i32 {
        let place = usize::try_from(place).unwrap_or(0);
        self.topic.partitions.get(place).map_or(0, |p| p.index)
    }

    /// Sends the first batch of each partition. Returns what must be waited out, if anything.
    async fn round(
        &mut self,
        queues: &mut Queues,
        acknowledged: &mut Vec<Acknowledged>,
    ) -> Result<Option<Trouble>, PublishError> {
        let partitions: Vec<i32> = queues.keys().copied().collect();
        let leaders = match self.client.by_leader(&self.topic, partitions) {
            Ok(leaders) => leaders,
            Err(AdminError::NoLeader { .. }) => {
                let code = ErrorCode::LEADER_NOT_AVAILABLE;
                return Ok(Some(Trouble::Server(Refusal::new(code.0, None))));
            }
            Err(error) => return Err(error.into()),
        };
        let mut trouble = None;
        for (leader, partitions) in leaders {
            let outcome = self.produce(&leader, &partitions, queues).await;
            if outcome.as_ref().is_err_and(may_have_arrived) {
                self.in_doubt.extend(&partitions);
            }
            match outcome {
                Ok(answers) => {
                    // One refused partition does not take back what the others were promised.
                    let mut settled = Ok(());
                    for answer in answers {
                        let next = self.settle(&answer, queues, acknowledged, &mut trouble);
                        settled = settled.and(next);
                    }
                    settled?;
                }
                Err(PublishError::Admin(AdminError::Call(error))) if error.is_retriable() => {
                    trouble = Some(Trouble::Call(error));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(trouble)
    }

    /// One Produce request with the first batch of each of these partitions.
    async fn produce(
        &mut self,
        leader: &Address,
        partitions: &[i32],
        queues: &Queues,
    ) -> Result<Vec<PartitionProduceResponse>, PublishError> {
        let mut partition_data = Vec::with_capacity(partitions.len());
        for partition in partitions {
            let Some(batch) = queues.get(partition).and_then(VecDeque::front) else {
                continue;
            };
            let producer = self.identity.map(|(id, epoch)| records::Producer {
                id,
                epoch,
                base_sequence: self.sequences.get(partition).copied().unwrap_or(0),
            });
            partition_data.push(PartitionProduceData {
                index: *partition,
                records: Some(records::encode(batch, self.config.codec, producer)?),
            });
        }
        let version_max = if self.topic.id.is_nil() { PRODUCE_NAMES_MAX } else { i16::MAX };
        let timeout_ms = timeout_ms(self.client.timeout());
        let topic = &self.topic;
        let make = |version: i16| {
            let mut data =
                TopicProduceData { partition_data: partition_data.clone(), ..TopicProduceData::default() };
            if version > PRODUCE_NAMES_MAX {
                data.topic_id = topic.id;
            } else {
                data.name.clone_from(&topic.name);
            }
            ProduceRequest { acks: -1, timeout_ms, topic_data: vec![data], ..ProduceRequest::default() }
        };
        let response = self.client.call(leader, version_max, make).await?;
        let asked = partition_data.iter().map(|data| data.index);
        answers(asked, response).ok_or_else(|| {
            PublishError::Admin(AdminError::Incomplete { api: "Produce", missing: self.topic.name.clone() })
        })
    }

    /// Applies the answer for one partition to its queue.
    fn settle(
        &mut self,
        answer: &PartitionProduceResponse,
        queues: &mut Queues,
        acknowledged: &mut Vec<Acknowledged>,
        trouble: &mut Option<Trouble>,
    ) -> Result<(), PublishError> {
        let partition = answer.index;
        let Some(batches) = queues.get_mut(&partition) else {
            return Ok(());
        };
        match verdict(answer) {
            Verdict::Stored { base_offset } => {
                let Some(batch) = batches.pop_front() else {
                    return Ok(());
                };
                let events = u32::try_from(batch.len()).unwrap_or(u32::MAX);
                let sequence = self.sequences.entry(partition).or_insert(0);
                *sequence = sequence_after(*sequence, events);
                self.in_doubt.remove(&partition);
                acknowledged.push(Acknowledged { partition, base_offset, events });
            }
            Verdict::TooLarge(refusal) => split_first(batches, &self.topic.name, refusal)?,
            Verdict::Retry(refusal) => {
                if is_after_append(refusal.code) {
                    self.in_doubt.insert(partition);
                }
                *trouble = Some(Trouble::Server(refusal));
            }
            Verdict::Refused(refusal) => return Err(PublishError::Refused(refusal)),
        }
        Ok(())
    }

    /// Asks again who leads. That nobody answers at the moment is no reason to give up here: the
    /// next round finds out.
    async fn find_leaders(&mut self) -> Result<(), PublishError> {
        match self.client.topic(&self.topic.name, false).await {
            Ok(topic) => self.topic = topic,
            Err(AdminError::Call(error)) if error.is_retriable() => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

impl Client {
    /// A producer id and its epoch. `None` when the server has no such thing or does not allow it.
    async fn producer_id(&mut self) -> Result<Option<(i64, i16)>, PublishError> {
        let mut backoff = Backoff::within(self.timeout());
        loop {
            let make = |_version: i16| InitProducerIdRequest {
                transaction_timeout_ms: 60_000,
                ..InitProducerIdRequest::default()
            };
            let response = match self.call_any(make).await {
                Err(CallError::Unsupported { .. }) => return Ok(None),
                other => other?,
            };
            let code = ErrorCode(response.error_code);
            if code == ErrorCode::NONE {
                return Ok(Some((response.producer_id, response.producer_epoch)));
            }
            if code == ErrorCode::CLUSTER_AUTHORIZATION_FAILED {
                return Ok(None);
            }
            let refusal = Refusal::new(code.0, None);
            if !code.is_retriable() {
                return Err(PublishError::Refused(refusal));
            }
            if !backoff.pause().await {
                return Err(Trouble::Server(refusal).into_error(backoff.total()));
            }
        }
    }
}

/// Something that may pass.
enum Trouble {
    Call(CallError),
    Server(Refusal),
}

impl Trouble {
    fn into_error(self, after: std::time::Duration) -> PublishError {
        match self {
            Self::Call(error) => error.into(),
            Self::Server(last) => PublishError::GaveUp { after, last },
        }
    }
}

/// Sequences are 31 bits wide and wrap to 0 (KIP-98).
fn sequence_after(sequence: i32, events: u32) -> i32 {
    let next = (i64::from(sequence) + i64::from(events)) & i64::from(i32::MAX);
    i32::try_from(next).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_wrap_at_31_bits() {
        assert_eq!(sequence_after(0, 5), 5);
        assert_eq!(sequence_after(i32::MAX, 1), 0);
        assert_eq!(sequence_after(i32::MAX - 1, 4), 2);
    }

    fn producer() -> Producer {
        Producer {
            client: Client::unconnected(),
            topic: TopicInfo {
                name: "orders".to_owned(),
                id: Uuid::nil(),
                is_internal: false,
                partitions: Vec::new(),
            },
            config: ProducerConfig { codec: Codec::None, create_topic: false },
            identity: None,
            sequences: BTreeMap::new(),
            in_doubt: BTreeSet::new(),
            sticky: Sticky::beginning_at(0),
        }
    }

    #[test]
    fn a_batch_is_in_doubt_until_it_is_acknowledged() {
        let mut producer = producer();
        let mut queues = Queues::from([(0, VecDeque::from([Vec::new()]))]);
        let mut acknowledged = Vec::new();
        let mut settle = |code: ErrorCode| {
            let answer =
                PartitionProduceResponse { error_code: code.0, ..PartitionProduceResponse::default() };
            let mut trouble = None;
            producer.settle(&answer, &mut queues, &mut acknowledged, &mut trouble).expect("it may pass");
            producer.is_in_doubt()
        };
        assert!(!settle(ErrorCode::NOT_LEADER_OR_FOLLOWER));
        assert!(settle(ErrorCode::REQUEST_TIMED_OUT));
        assert!(settle(ErrorCode::NOT_LEADER_OR_FOLLOWER));
        assert!(!settle(ErrorCode::NONE));
    }
}
