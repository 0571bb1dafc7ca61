//! Reading: long polls to every leader, one whole batch at a time.

use super::backoff::Backoff;
use super::{Address, AdminError, CallError, Client, Connection, FetchError, Refusal, TopicInfo};
use crate::wire::ErrorCode;
use crate::wire::messages::{FetchPartition, FetchRequest, FetchResponse, FetchTopic, PartitionData};
use bytes::Bytes;
use courant_log::batch::records::{self, Record};
use courant_log::batch::{BatchError, BatchHeader, verify_crc};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use tokio::task::JoinSet;

/// Bytes asked for in one answer.
const ANSWER_BYTES: i32 = 16 * 1024 * 1024;

/// Bytes asked for of one partition, at first.
const PARTITION_BYTES: i32 = 1024 * 1024;

/// Bytes asked for of one partition at most: a larger batch cannot be read.
const PARTITION_BYTES_MAX: i32 = 48 * 1024 * 1024;

/// Bytes that the records of one batch may have when they are decompressed.
const DECOMPRESSED_BYTES_MAX: usize = 128 * 1024 * 1024;

/// Longest time that a server holds an answer back for want of records.
const LONG_POLL: Duration = Duration::from_millis(500);

/// The last Fetch version that names topics; the next one wants their ids (KIP-516).
const FETCH_NAMES_MAX: i16 = 12;

/// A record and where it came from.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// The partition's number.
    pub partition: i32,
    /// The record with its offset.
    pub record: Record,
}

/// Reads some partitions of one topic.
///
/// Records of transactions that were aborted are not left out.
#[derive(Debug)]
pub struct Consumer {
    client: Client,
    topic: TopicInfo,
    /// The next offset to read, by partition.
    positions: BTreeMap<i32, i64>,
    /// Whole batches that were fetched and not decoded yet.
    batches: VecDeque<(i32, Bytes)>,
    partition_bytes: i32,
    /// Something went wrong since the leaders were asked for.
    is_stale: bool,
}

impl Consumer {
    /// Reads `topic` from these offsets, by partition.
    #[must_use]
    pub fn new(client: Client, topic: TopicInfo, positions: BTreeMap<i32, i64>) -> Self {
        Self {
            client,
            topic,
            positions,
            batches: VecDeque::new(),
            partition_bytes: PARTITION_BYTES,
            is_stale: false,
        }
    }

    /// The next offset to read of each partition that is still read.
    #[must_use]
    pub fn positions(&self) -> &BTreeMap<i32, i64> {
        &self.positions
    }

    /// Reads this partition no further.
    pub fn leave(&mut self, partition: i32) {
        self.positions.remove(&partition);
    }

    /// The records of the next batch, or none if nothing new came for about half a second.
    ///
    /// Waits for servers that are away, within the client's timeout.
    ///
    /// # Errors
    /// An offset that is not there any more, a deleted topic, a damaged batch, a refusal, or no
    /// answer.
    pub async fn next(&mut self) -> Result<Vec<Fetched>, FetchError> {
        if self.batches.is_empty() && !self.positions.is_empty() {
            self.fetch().await?;
        }
        while let Some((partition, batch)) = self.batches.pop_front() {
            let Some(position) = self.positions.get_mut(&partition) else {
                continue;
            };
            let records = decode(partition, &batch, position)?;
            if !records.is_empty() {
                return Ok(records);
            }
        }
        Ok(Vec::new())
    }

    /// One long poll to every leader, repeated while the servers ask for patience.
    async fn fetch(&mut self) -> Result<(), FetchError> {
        let mut backoff = Backoff::within(self.client.timeout());
        loop {
            if self.is_stale {
                self.find_leaders().await?;
            }
            let Some(trouble) = self.poll().await? else {
                return Ok(());
            };
            self.is_stale = true;
            // What did come is worth more than another attempt.
            if !self.batches.is_empty() {
                return Ok(());
            }
            if !backoff.pause().await {
                return Err(trouble);
            }
        }
    }

    /// Asks again who leads. That nobody answers at the moment is no reason to give up here: the
    /// next poll finds out.
    async fn find_leaders(&mut self) -> Result<(), FetchError> {
        match self.client.topic(&self.topic.name, false).await {
            // The positions are those of a topic that is gone.
            Ok(topic) if self.topic.is_replaced_by(&topic) => {
                return Err(FetchError::Admin(AdminError::UnknownTopic { topic: topic.name }));
            }
            Ok(topic) => {
                self.topic = topic;
                self.is_stale = false;
            }
            Err(AdminError::Call(error)) if error.is_retriable() => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Asks all leaders at the same time. Returns something that may pass, if there was such.
    async fn poll(&mut self) -> Result<Option<FetchError>, FetchError> {
        let partitions: Vec<i32> = self.positions.keys().copied().collect();
        let leaders = match self.client.by_leader(&self.topic, partitions) {
            Ok(leaders) => leaders,
            Err(error @ AdminError::NoLeader { .. }) => return Ok(Some(error.into())),
            Err(error) => return Err(error.into()),
        };
        let mut polls = JoinSet::new();
        let mut trouble = None;
        for (leader, partitions) in leaders {
            // A connection serves one request at a time, so it can leave the client for this one.
            let connection = match self.client.take(&leader).await {
                Ok(connection) => connection,
                // One server that is away does not silence the others.
                Err(error) => {
                    trouble = Some(passing(error)?);
                    continue;
                }
            };
            let version_max = if self.topic.id.is_nil() { FETCH_NAMES_MAX } else { i16::MAX };
            let version = connection.version_of::<FetchRequest>(version_max)?;
            let request = self.request(&partitions, version);
            polls.spawn(poll_one(leader, connection, request, version));
        }
        while let Some(joined) = polls.join_next().await {
            // A task that was cancelled or panicked has no answer; its connection is gone with it.
            let Ok((leader, connection, outcome)) = joined else {
                continue;
            };
            self.client.give_back(leader, connection);
            match outcome {
                Ok(response) => {
                    let refusal = self.accept(response)?;
                    trouble = refusal.map(FetchError::Refused).or(trouble);
                }
                Err(error) => trouble = Some(passing(error)?),
            }
        }
        Ok(trouble)
    }

    fn request(&self, partitions: &[i32], version: i16) -> FetchRequest {
        let mut topic = FetchTopic {
            partitions: partitions
                .iter()
                .filter_map(|partition| {
                    Some(FetchPartition {
                        partition: *partition,
                        fetch_offset: *self.positions.get(partition)?,
                        partition_max_bytes: self.partition_bytes,
                        ..FetchPartition::default()
                    })
                })
                .collect(),
            ..FetchTopic::default()
        };
        if version > FETCH_NAMES_MAX {
            topic.topic_id = self.topic.id;
        } else {
            topic.topic.clone_from(&self.topic.name);
        }
        let wait = LONG_POLL.min(self.client.timeout() / 2);
        FetchRequest {
            max_wait_ms: super::admin::timeout_ms(wait),
            min_bytes: 1,
            max_bytes: ANSWER_BYTES.max(self.partition_bytes),
            topics: vec![topic],
            ..FetchRequest::default()
        }
    }

    /// Takes the whole batches out of an answer. Returns a refusal that may pass, if there was one.
    fn accept(&mut self, response: FetchResponse) -> Result<Option<Refusal>, FetchError> {
        if response.error_code != 0 {
            return self.refusal(-1, response.error_code);
        }
        let mut passing = None;
        let partitions = response.responses.into_iter().flat_map(|t| t.partitions);
        for data in partitions {
            if data.error_code != 0 {
                passing = self.refusal(data.partition_index, data.error_code)?.or(passing);
                continue;
            }
            self.accept_records(&data)?;
        }
        Ok(passing)
    }

    fn refusal(&self, partition: i32, error_code: i16) -> Result<Option<Refusal>, FetchError> {
        let refusal = Refusal::new(error_code, None);
        if refusal.code == ErrorCode::OFFSET_OUT_OF_RANGE {
            return Err(FetchError::OutOfRange {
                topic: self.topic.name.clone(),
                partition,
                offset: self.positions.get(&partition).copied().unwrap_or(-1),
            });
        }
        if refusal.code.is_retriable() {
            return Ok(Some(refusal));
        }
        Err(FetchError::Refused(refusal))
    }

    /// Splits the records of one partition into batches. The last one may be cut off (KIP-74).
    fn accept_records(&mut self, data: &PartitionData) -> Result<(), FetchError> {
        let partition = data.partition_index;
        let Some(position) = self.positions.get(&partition).copied() else {
            return Ok(());
        };
        let mut rest = data.records.clone().unwrap_or_default();
        let mut whole = 0_usize;
        while !rest.is_empty() {
            let header = match BatchHeader::parse(&rest) {
                Ok(header) => header,
                Err(BatchError::Truncated { .. }) => break,
                Err(source) => {
                    return Err(FetchError::Batch { partition, offset: position, source });
                }
            };
            if header.total_bytes() > rest.len() {
                break;
            }
            self.batches.push_back((partition, rest.split_to(header.total_bytes())));
            whole += 1;
        }
        if whole > 0 || rest.is_empty() {
            return Ok(());
        }
        // Only a part of the first batch came: ask for more next time.
        if self.partition_bytes >= PARTITION_BYTES_MAX {
            return Err(FetchError::BatchTooLarge {
                partition,
                offset: position,
                max: usize::try_from(PARTITION_BYTES_MAX).unwrap_or(0),
            });
        }
        self.partition_bytes = (self.partition_bytes * 4).min(PARTITION_BYTES_MAX);
        Ok(())
    }
}

/// One request on a connection of its own.
async fn poll_one(
    leader: Address,
    mut connection: Connection,
    request: FetchRequest,
    version: i16,
) -> (Address, Connection, Result<FetchResponse, CallError>) {
    let outcome = connection.call(&request, version).await;
    (leader, connection, outcome)
}

/// An error that may pass; as `Err` one that does not.
fn passing(error: CallError) -> Result<FetchError, FetchError> {
    if error.is_retriable() { Ok(error.into()) } else { Err(error.into()) }
}

/// The records of a batch from `position` on; moves `position` behind the batch.
fn decode(partition: i32, batch: &[u8], position: &mut i64) -> Result<Vec<Fetched>, FetchError> {
    let damaged = |source| FetchError::Batch { partition, offset: *position, source };
    // Disk, network or server: whoever changed the bytes, they are not what was published.
    verify_crc(batch).map_err(damaged)?;
    let header = BatchHeader::parse(batch).map_err(damaged)?;
    let wanted = *position;
    *position = wanted.max(header.last_offset().saturating_add(1));
    // Marks of the server (ends of transactions) have offsets but are nobody's events.
    if header.is_control() {
        return Ok(Vec::new());
    }
    let records = records::decode(batch, DECOMPRESSED_BYTES_MAX).map_err(|source| FetchError::Records {
        partition,
        offset: header.base_offset,
        source,
    })?;
    // A batch is sent whole, also when reading begins in its middle.
    Ok(records
        .into_iter()
        .filter(|record| record.offset >= wanted)
        .map(|record| Fetched { partition, record })
        .collect())
}

impl Client {
    /// Takes the connection to `address` out of the client, opened if there is none.
    async fn take(&mut self, address: &Address) -> Result<Connection, CallError> {
        self.connection(address).await?;
        self.connections.remove(address).ok_or_else(|| CallError::Unreachable {
            address: address.to_string(),
            source: std::io::ErrorKind::NotConnected.into(),
        })
    }

    fn give_back(&mut self, address: Address, connection: Connection) {
        if connection.is_usable() {
            self.connections.insert(address, connection);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use courant_log::batch::Codec;
    use courant_log::batch::records::{NewRecord, encode};

    fn batch(base_offset: i64, values: &[&'static str]) -> Vec<u8> {
        let records: Vec<NewRecord> = values
            .iter()
            .map(|value| NewRecord {
                timestamp: 1_700_000_000_000,
                key: None,
                value: Some(Bytes::from_static(value.as_bytes())),
                headers: Vec::new(),
            })
            .collect();
        let mut bytes = encode(&records, Codec::None, None).expect("a batch").to_vec();
        courant_log::batch::set_base_offset(&mut bytes, base_offset);
        bytes
    }

    #[test]
    fn a_batch_entered_in_its_middle_gives_only_what_was_asked_for() {
        let bytes = batch(10, &["a", "b", "c"]);
        let mut position = 11;
        let records = decode(3, &bytes, &mut position).expect("records");
        let offsets: Vec<i64> = records.iter().map(|f| f.record.offset).collect();
        assert_eq!(offsets, [11, 12]);
        assert!(records.iter().all(|f| f.partition == 3));
        assert_eq!(position, 13);
    }

    #[test]
    fn a_changed_batch_is_not_shown() {
        let mut bytes = batch(0, &["a"]);
        if let Some(last) = bytes.last_mut() {
            *last ^= 1;
        }
        let mut position = 0;
        assert!(matches!(
            decode(0, &bytes, &mut position),
            Err(FetchError::Batch { source: BatchError::CrcMismatch { .. }, .. })
        ));
        assert_eq!(position, 0, "it can be asked for again");
    }

    fn consumer(id: u128) -> Consumer {
        let topic = TopicInfo {
            name: "orders".to_owned(),
            id: uuid::Uuid::from_u128(id),
            is_internal: false,
            partitions: vec![super::super::PartitionInfo { index: 0, leader: -1 }],
        };
        Consumer::new(Client::unconnected(), topic, BTreeMap::from([(0, 5)]))
    }

    #[tokio::test]
    async fn a_partition_without_a_leader_may_get_one() {
        let trouble = consumer(1).poll().await.expect("an election may pass");
        assert!(matches!(trouble, Some(FetchError::Admin(AdminError::NoLeader { partition: 0, .. }))));
    }

    #[test]
    fn a_topic_of_the_same_name_is_another_one() {
        let old = consumer(1).topic;
        assert!(old.is_replaced_by(&consumer(2).topic));
        assert!(!old.is_replaced_by(&old));
        assert!(!old.is_replaced_by(&consumer(0).topic), "a server without ids");
    }
}
