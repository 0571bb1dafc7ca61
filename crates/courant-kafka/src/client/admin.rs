//! Creating and deleting topics, and asking for offsets.

use super::backoff::Backoff;
use super::{Address, AdminError, Ask, CallError, Client, Refusal, TopicInfo};
use crate::wire::messages::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest, CreateTopicsResponse, DeleteTopicState,
    DeleteTopicsRequest, DeleteTopicsResponse, ListOffsetsPartition, ListOffsetsRequest, ListOffsetsResponse,
    ListOffsetsTopic,
};
use crate::wire::{ErrorCode, Request};
use std::collections::BTreeMap;
use std::time::Duration;
use uuid::Uuid;

/// A topic to be created.
#[derive(Clone, Debug)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// How many partitions; `None` leaves it to the server.
    pub partitions: Option<i32>,
    /// How many copies of each; `None` leaves it to the server.
    pub replication_factor: Option<i16>,
    /// Settings that differ from the server's defaults.
    pub configs: Vec<(String, String)>,
    /// Only let the server check it.
    pub validate_only: bool,
}

/// What the server made of a [`NewTopic`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatedTopic {
    /// Its name.
    pub name: String,
    /// Its id; nil when nothing was created or the server knows no ids.
    pub id: Uuid,
    /// How many partitions; `None` when the server does not tell.
    pub partitions: Option<i32>,
    /// How many copies of each; `None` when the server does not tell.
    pub replication_factor: Option<i16>,
}

/// Which offset of a partition is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetAt {
    /// The oldest record that is kept.
    Start,
    /// One past the newest record.
    End,
    /// The first record with this timestamp or a later one, in milliseconds since 1970.
    Time(i64),
}

impl OffsetAt {
    /// ListOffsets' way to say it (KIP-79).
    fn timestamp(self) -> i64 {
        match self {
            Self::Start => -2,
            Self::End => -1,
            Self::Time(at_ms) => at_ms.max(0),
        }
    }
}

/// An offset and the timestamp of its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimedOffset {
    /// The offset.
    pub offset: i64,
    /// Milliseconds since 1970; -1 when it was not asked for by time.
    pub timestamp_ms: i64,
}

/// The name of the server's default, for partitions and copies alike (KIP-464, version 4).
const SERVER_DEFAULT: i16 = -1;
const DEFAULTS_FROM_VERSION: i16 = 4;

impl Client {
    /// Creates a topic.
    ///
    /// # Errors
    /// [`AdminError::TopicExists`], or the server's reason to refuse the name or a config.
    pub async fn create_topic(&mut self, new: &NewTopic) -> Result<CreatedTopic, AdminError> {
        let timeout_ms = timeout_ms(self.timeout());
        let make = |version: i16| {
            let default = if version >= DEFAULTS_FROM_VERSION { SERVER_DEFAULT } else { 1 };
            CreateTopicsRequest {
                topics: vec![CreatableTopic {
                    name: new.name.clone(),
                    num_partitions: new.partitions.unwrap_or(i32::from(default)),
                    replication_factor: new.replication_factor.unwrap_or(default),
                    configs: new.configs.iter().map(config).collect(),
                    ..CreatableTopic::default()
                }],
                timeout_ms,
                validate_only: new.validate_only,
            }
        };
        let result = self
            .ask_controller(&new.name, make, |response: CreateTopicsResponse| {
                let result = response.topics.into_iter().next()?;
                let refusal = Refusal::new(result.error_code, result.error_message.clone());
                Some((result, refusal))
            })
            .await?;
        Ok(CreatedTopic {
            name: result.name,
            id: result.topic_id,
            partitions: Some(result.num_partitions).filter(|n| *n >= 0),
            replication_factor: Some(result.replication_factor).filter(|n| *n >= 0),
        })
    }

    /// Deletes a topic and all of its records.
    ///
    /// # Errors
    /// [`AdminError::UnknownTopic`], or the server's reason to refuse.
    pub async fn delete_topic(&mut self, name: &str) -> Result<(), AdminError> {
        let timeout_ms = timeout_ms(self.timeout());
        let make = |version: i16| {
            let mut request = DeleteTopicsRequest { timeout_ms, ..DeleteTopicsRequest::default() };
            // Version 6 names topics by structs, because it can also name them by id (KIP-516).
            if version >= 6 {
                request.topics =
                    vec![DeleteTopicState { name: Some(name.to_owned()), ..DeleteTopicState::default() }];
            } else {
                request.topic_names = vec![name.to_owned()];
            }
            request
        };
        self.ask_controller(name, make, |response: DeleteTopicsResponse| {
            let result = response.responses.into_iter().next()?;
            Some(((), Refusal::new(result.error_code, result.error_message)))
        })
        .await
    }

    /// Offsets of some partitions of a topic. A partition without a record that new is left out of
    /// the answer to [`OffsetAt::Time`].
    ///
    /// # Errors
    /// A partition that does not exist or has no leader, no answer, or a refusal.
    pub async fn list_offsets(
        &mut self,
        topic: &TopicInfo,
        partitions: &[i32],
        at: OffsetAt,
    ) -> Result<BTreeMap<i32, TimedOffset>, AdminError> {
        let mut offsets = BTreeMap::new();
        for (leader, partitions) in self.by_leader(topic, partitions.iter().copied())? {
            let response = self.ask_offsets(&leader, &topic.name, &partitions, at).await?;
            let answered: Vec<_> = response.topics.into_iter().flat_map(|topic| topic.partitions).collect();
            for partition in partitions {
                let found =
                    answered.iter().find(|answer| answer.partition_index == partition).ok_or_else(|| {
                        AdminError::Incomplete {
                            api: "ListOffsets",
                            missing: format!("{}/{partition}", topic.name),
                        }
                    })?;
                if found.error_code != 0 {
                    return Err(AdminError::Refused(Refusal::new(found.error_code, None)));
                }
                if found.offset >= 0 {
                    let (offset, timestamp_ms) = (found.offset, found.timestamp);
                    let timed = TimedOffset { offset, timestamp_ms };
                    offsets.insert(partition, timed);
                }
            }
        }
        Ok(offsets)
    }

    async fn ask_offsets(
        &mut self,
        leader: &Address,
        topic: &str,
        partitions: &[i32],
        at: OffsetAt,
    ) -> Result<ListOffsetsResponse, CallError> {
        let timeout_ms = timeout_ms(self.timeout());
        let make = |version: i16| ListOffsetsRequest {
            replica_id: -1,
            topics: vec![ListOffsetsTopic {
                name: topic.to_owned(),
                partitions: partitions
                    .iter()
                    .map(|partition| ListOffsetsPartition {
                        partition_index: *partition,
                        timestamp: at.timestamp(),
                        ..ListOffsetsPartition::default()
                    })
                    .collect(),
            }],
            timeout_ms: if version >= 10 { timeout_ms } else { 0 },
            ..ListOffsetsRequest::default()
        };
        self.call(leader, i16::MAX, make).await
    }

    /// Asks the controller to change topics, and again when another node has become it.
    ///
    /// `read` takes the outcome for the one topic of the request from the answer.
    pub(super) async fn ask_controller<R: Request, T>(
        &mut self,
        topic: &str,
        make: impl Fn(i16) -> R,
        read: impl Fn(R::Response) -> Option<(T, Refusal)>,
    ) -> Result<T, AdminError> {
        let mut backoff = Backoff::within(self.timeout());
        loop {
            // In old clusters only the controller may change topics; in others any node forwards.
            self.metadata(Ask::Nodes, false).await?;
            let controller = self.nodes.get(&self.controller).cloned();
            let response = match controller {
                Some(address) => self.call(&address, i16::MAX, &make).await?,
                None => self.call_any(&make).await?,
            };
            let (outcome, refusal) = read(response).ok_or_else(|| AdminError::Incomplete {
                api: "the change of a topic",
                missing: topic.to_owned(),
            })?;
            if refusal.code == ErrorCode::NONE {
                return Ok(outcome);
            }
            if refusal.code != ErrorCode::NOT_CONTROLLER || !backoff.pause().await {
                return Err(refused(topic, refusal));
            }
        }
    }
}

/// The refusals that have a name of their own.
pub(super) fn refused(topic: &str, refusal: Refusal) -> AdminError {
    let topic = topic.to_owned();
    if refusal.code == ErrorCode::TOPIC_ALREADY_EXISTS {
        AdminError::TopicExists { topic }
    } else if refusal.code == ErrorCode::UNKNOWN_TOPIC_OR_PARTITION {
        AdminError::UnknownTopic { topic }
    } else {
        AdminError::Refused(refusal)
    }
}

fn config((name, value): &(String, String)) -> CreatableTopicConfig {
    CreatableTopicConfig { name: name.clone(), value: Some(value.clone()) }
}

/// A duration as the protocol counts it.
pub(super) fn timeout_ms(timeout: Duration) -> i32 {
    i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX)
}
