//! A small Kafka client: enough for the command line, and for any server that speaks the protocol.
//!
//! One [`Client`] holds one connection per server address and sends one request at a time on each.
//! It follows the addresses that servers announce, takes the highest version both sides know, and
//! bounds every answer. Transactions and logins are not here.

mod address;
mod admin;
pub(crate) mod assignment;
mod backoff;
mod batching;
mod cluster;
mod configs;
mod connection;
mod consumer;
mod error;
mod groups;
mod membership;
mod partitioner;
mod producer;
mod verdict;

pub use address::{Address, DEFAULT_PORT, InvalidAddress};
pub use admin::{CreatedTopic, NewTopic, OffsetAt, TimedOffset};
pub use batching::Event;
pub use cluster::Cluster;
pub use configs::ConfigEntry;
pub use connection::{Connection, RESPONSE_BYTES_MAX};
pub use consumer::{Consumer, Fetched};
pub use error::{AdminError, CallError, FetchError, PublishError, Refusal};
pub use groups::{CommittedOffsets, GroupDescription, GroupListing, GroupMember};
pub use membership::{HEARTBEAT_EVERY, Membership, Standing};
pub use partitioner::{murmur2, partition_for_key};
pub use producer::{Acknowledged, Producer, ProducerConfig};

pub use crate::wire::ErrorCode;

use crate::tls::ClientTls;
use crate::wire::Request;
use crate::wire::messages::{MetadataRequest, MetadataRequestTopic, MetadataResponse, MetadataResponseTopic};
use backoff::Backoff;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;
use uuid::Uuid;

/// How a client behaves.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// Where to look for a first server, in this order.
    pub servers: Vec<Address>,
    /// The name that the server's logs and metrics show.
    pub client_id: String,
    /// Longest wait for a connection, for one answer, and for an error to pass.
    pub timeout: Duration,
    /// Whom to believe to be a server. `None`: nothing is encrypted, and whoever answers is believed.
    pub tls: Option<ClientTls>,
}

/// A topic as the servers describe it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicInfo {
    /// Its name.
    pub name: String,
    /// Its id; nil from servers before Kafka 2.8.
    pub id: Uuid,
    /// Whether the server keeps its own data in it.
    pub is_internal: bool,
    /// Its partitions, by number.
    pub partitions: Vec<PartitionInfo>,
}

/// A partition and who serves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionInfo {
    /// Its number.
    pub index: i32,
    /// Node id of the leader; -1 when there is none at the moment.
    pub leader: i32,
}

/// Which topics a question for metadata names.
#[derive(Clone, Copy, Debug)]
enum Ask<'a> {
    /// None: the nodes alone.
    Nodes,
    /// This one.
    Topic(&'a str),
    /// All of them.
    All,
}

/// Connections to the servers of one cluster and what they said about themselves.
#[derive(Debug)]
pub struct Client {
    config: ClientConfig,
    connections: HashMap<Address, Connection>,
    /// Node id to address, as of the last metadata.
    nodes: BTreeMap<i32, Address>,
    controller: i32,
}

impl Client {
    /// Connects to the first of the servers that answers.
    ///
    /// # Errors
    /// What the first of the servers answered, when none can be used.
    pub async fn connect(config: ClientConfig) -> Result<Self, CallError> {
        let mut client = Self { config, connections: HashMap::new(), nodes: BTreeMap::new(), controller: -1 };
        client.any().await?;
        Ok(client)
    }

    /// Longest wait for one answer.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.config.timeout
    }

    /// All topics, by name.
    ///
    /// # Errors
    /// No answer, or a refusal of the whole request.
    pub async fn topics(&mut self) -> Result<Vec<TopicInfo>, AdminError> {
        let response = self.metadata(Ask::All, false).await?;
        let mut topics: Vec<TopicInfo> = response
            .topics
            .iter()
            .filter(|topic| topic.error_code == 0)
            .filter_map(|topic| Some(TopicInfo::from_response(topic.name.as_deref()?, topic)))
            .collect();
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(topics)
    }

    /// One topic. With `create`, the server may create it if it does so on its own.
    ///
    /// Waits for leaders that are being elected, within the client's timeout.
    ///
    /// # Errors
    /// [`AdminError::UnknownTopic`] when there is no such topic and none was created.
    pub async fn topic(&mut self, name: &str, create: bool) -> Result<TopicInfo, AdminError> {
        let mut backoff = Backoff::within(self.config.timeout);
        // A cluster that creates topics on its own first says that it knows none (Kafka), so a few
        // more questions are due; a server that does not create them would be asked in vain.
        let mut unknown_left = if create { 5 } else { 0 };
        loop {
            let response = self.metadata(Ask::Topic(name), create).await?;
            let found = response
                .topics
                .into_iter()
                .find(|topic| topic.name.as_deref() == Some(name))
                .ok_or_else(|| AdminError::Incomplete { api: "Metadata", missing: name.to_owned() })?;
            let code = ErrorCode(found.error_code);
            if code == ErrorCode::NONE {
                let info = TopicInfo::from_response(name, &found);
                let complete = info.partitions.iter().all(|p| p.leader >= 0);
                // When the time is up: the partitions with a leader can be used, and whoever needs
                // another one is told.
                if complete || !backoff.pause().await {
                    return Ok(info);
                }
                continue;
            }
            if code == ErrorCode::UNKNOWN_TOPIC_OR_PARTITION {
                if unknown_left == 0 {
                    return Err(AdminError::UnknownTopic { topic: name.to_owned() });
                }
                unknown_left -= 1;
            } else if code != ErrorCode::LEADER_NOT_AVAILABLE {
                return Err(AdminError::Refused(Refusal::new(code.0, None)));
            }
            if !backoff.pause().await {
                return Err(AdminError::Refused(Refusal::new(code.0, None)));
            }
        }
    }

    /// Asks any server; keeps the nodes' addresses.
    async fn metadata(&mut self, ask: Ask<'_>, create: bool) -> Result<MetadataResponse, AdminError> {
        let make = |version: i16| MetadataRequest {
            topics: match ask {
                Ask::Nodes => Some(Vec::new()),
                Ask::Topic(name) => Some(vec![MetadataRequestTopic {
                    name: Some(name.to_owned()),
                    ..MetadataRequestTopic::default()
                }]),
                // Version 0 has no null; there, an empty list means all topics.
                Ask::All if version == 0 => Some(Vec::new()),
                Ask::All => None,
            },
            allow_auto_topic_creation: create,
            ..MetadataRequest::default()
        };
        let response = match self.call_any(&make).await {
            // The server may have been restarted since the last request: its old connections are
            // gone, and asking again is harmless.
            Err(CallError::Lost { .. }) => self.call_any(&make).await?,
            other => other?,
        };
        if response.error_code != 0 {
            return Err(AdminError::Refused(Refusal::new(response.error_code, None)));
        }
        self.controller = response.controller_id;
        self.nodes = response
            .brokers
            .iter()
            .filter_map(|broker| {
                let port = u16::try_from(broker.port).ok()?;
                let host = broker.host.clone();
                Some((broker.node_id, Address { host, port }))
            })
            .collect();
        Ok(response)
    }

    /// The partitions of a topic by the address of their leader.
    fn by_leader(
        &self,
        topic: &TopicInfo,
        partitions: impl IntoIterator<Item = i32>,
    ) -> Result<BTreeMap<Address, Vec<i32>>, AdminError> {
        let mut groups: BTreeMap<Address, Vec<i32>> = BTreeMap::new();
        for partition in partitions {
            let info = topic
                .partition(partition)
                .ok_or_else(|| AdminError::UnknownPartition { topic: topic.name.clone(), partition })?;
            let leader = self
                .nodes
                .get(&info.leader)
                .ok_or_else(|| AdminError::NoLeader { topic: topic.name.clone(), partition })?;
            groups.entry(leader.clone()).or_default().push(partition);
        }
        Ok(groups)
    }

    /// Asks the server at `address`; `make` is told the version to write.
    async fn call<R: Request>(
        &mut self,
        address: &Address,
        version_max: i16,
        make: impl Fn(i16) -> R,
    ) -> Result<R::Response, CallError> {
        let connection = self.connection(address).await?;
        let version = connection.version_of::<R>(version_max)?;
        connection.call(&make(version), version).await
    }

    /// Asks whichever server there is a connection to.
    async fn call_any<R: Request>(&mut self, make: impl Fn(i16) -> R) -> Result<R::Response, CallError> {
        let address = self.any().await?;
        self.call(&address, i16::MAX, make).await
    }

    /// An address with a usable connection: an open one, else the first that can be opened.
    async fn any(&mut self) -> Result<Address, CallError> {
        self.connections.retain(|_, open| open.is_usable());
        if let Some(address) = self.connections.keys().next() {
            return Ok(address.clone());
        }
        let mut first_error = None;
        let announced = self.nodes.values();
        let candidates: Vec<Address> = self.config.servers.iter().chain(announced).cloned().collect();
        for address in candidates {
            match self.connection(&address).await {
                Ok(_) => return Ok(address),
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        Err(first_error.unwrap_or_else(|| CallError::Unreachable {
            address: "(no server is named)".to_owned(),
            source: std::io::ErrorKind::InvalidInput.into(),
        }))
    }

    /// The connection to `address`, opened if there is none that works.
    async fn connection(&mut self, address: &Address) -> Result<&mut Connection, CallError> {
        if self.connections.get(address).is_some_and(|c| !c.is_usable()) {
            self.connections.remove(address);
        }
        let via = self.announcer_of(address);
        match self.connections.entry(address.clone()) {
            Entry::Occupied(open) => Ok(open.into_mut()),
            Entry::Vacant(place) => {
                let ClientConfig { client_id, timeout, tls, .. } = &self.config;
                let opened = Connection::open(address, client_id, *timeout, tls.as_ref()).await;
                match (opened, via) {
                    (Ok(connection), _) => Ok(place.insert(connection)),
                    (Err(CallError::Unreachable { address, source }), Some(via)) => {
                        Err(CallError::AdvertisedUnreachable { via, address, source })
                    }
                    (Err(error), _) => Err(error),
                }
            }
        }
    }

    /// Who told us about `address`, unless the user did.
    fn announcer_of(&self, address: &Address) -> Option<String> {
        let named = self.config.servers.contains(address);
        let announced = self.nodes.values().any(|node| node == address);
        if named || !announced {
            return None;
        }
        self.config.servers.first().map(Address::to_string)
    }
}

impl TopicInfo {
    /// A partition by its number.
    #[must_use]
    pub fn partition(&self, index: i32) -> Option<&PartitionInfo> {
        self.partitions
            .binary_search_by_key(&index, |partition| partition.index)
            .ok()
            .map(|at| &self.partitions[at])
    }

    /// Whether `other` is another topic of the same name: this one was deleted since. Servers
    /// without ids cannot tell.
    fn is_replaced_by(&self, other: &Self) -> bool {
        !self.id.is_nil() && !other.id.is_nil() && self.id != other.id
    }

    fn from_response(name: &str, response: &MetadataResponseTopic) -> Self {
        let mut partitions: Vec<PartitionInfo> = response
            .partitions
            .iter()
            .map(|partition| PartitionInfo { index: partition.partition_index, leader: partition.leader_id })
            .collect();
        partitions.sort_by_key(|partition| partition.index);
        Self { name: name.to_owned(), id: response.topic_id, is_internal: response.is_internal, partitions }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::messages::MetadataResponsePartition;

    impl Client {
        /// A client that has spoken to nobody.
        pub(super) fn unconnected() -> Self {
            Self {
                config: ClientConfig {
                    servers: vec![],
                    client_id: "test".to_owned(),
                    timeout: Duration::from_secs(1),
                    tls: None,
                },
                connections: HashMap::new(),
                nodes: BTreeMap::new(),
                controller: -1,
            }
        }
    }

    fn partition(partition_index: i32, leader_id: i32) -> MetadataResponsePartition {
        MetadataResponsePartition { partition_index, leader_id, ..MetadataResponsePartition::default() }
    }

    fn topic() -> TopicInfo {
        let response = MetadataResponseTopic {
            partitions: vec![partition(2, 0), partition(0, 1), partition(1, -1)],
            ..MetadataResponseTopic::default()
        };
        TopicInfo::from_response("orders", &response)
    }

    #[test]
    fn partitions_are_found_by_number_in_whatever_order_they_came() {
        let topic = topic();
        assert_eq!(topic.partition(2).map(|p| p.leader), Some(0));
        assert_eq!(topic.partition(0).map(|p| p.leader), Some(1));
        assert_eq!(topic.partition(3), None);
        assert_eq!(topic.partition(-1), None);
    }

    #[test]
    fn partitions_are_grouped_by_leader_and_missing_leaders_are_named() {
        let node = |port| Address { host: "h".to_owned(), port };
        let mut client = Client::unconnected();
        client.nodes = BTreeMap::from([(0, node(1)), (1, node(2))]);
        let groups = client.by_leader(&topic(), [0, 2]).expect("both have leaders");
        assert_eq!(groups, BTreeMap::from([(node(1), vec![2]), (node(2), vec![0])]));
        assert!(matches!(client.by_leader(&topic(), [1]), Err(AdminError::NoLeader { partition: 1, .. })));
        assert!(matches!(
            client.by_leader(&topic(), [7]),
            Err(AdminError::UnknownPartition { partition: 7, .. })
        ));
    }
}
