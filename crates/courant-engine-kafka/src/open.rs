//! How an engine is opened: whether somebody is there, which log it is, and what it can do.

use std::net::{TcpStream, ToSocketAddrs as _};
use std::sync::Arc;

use courant_engine::{
    Access, Boxed, Capabilities, Durability, Engine, EngineConfig, EngineFactory, GroupScope, Lifetime,
    OpenError, OrderScope, PublishDedup, RemoteUrl, Replay, Scheme, TimeLookup,
};
use rdkafka::admin::{AdminClient, ResourceSpecifier};
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, KafkaResult};
use tokio::task::spawn_blocking;
use uuid::Uuid;

use crate::address::{self, Address};
use crate::catalog::{Catalog, options};
use crate::engine::{KafkaEngine, Opened};
use crate::limits::{ADDRESSES_TRIED_MAX, LISTENS_MAX, OPEN_MAX, PARTITIONS_MAX, RECORD_BYTES_MAX};
use crate::looking::Looker;
use crate::settings::{self, Quiet, Silence};
use crate::texts;

/// Opens `courant://HOST:PORT[,HOST:PORT…]` and `kafka://HOST:PORT[,HOST:PORT…]`, with `NAME:PASSWORD@`
/// before the addresses where the server wants a login.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kafka;

impl EngineFactory for Kafka {
    fn opens(&self, scheme: Scheme) -> bool {
        matches!(scheme, Scheme::Courant | Scheme::Kafka)
    }

    fn open<'a>(
        &'a self,
        url: &'a RemoteUrl,
        config: EngineConfig,
    ) -> Boxed<'a, Result<Arc<dyn Engine>, OpenError>> {
        Box::pin(open(url, config, Silence::default()))
    }
}

/// Opens the same as [`Kafka`], with members of groups that are given up sooner or later.
#[derive(Clone, Copy, Debug, Default)]
pub struct KafkaWith {
    /// How long a member may be silent.
    pub silence: Silence,
}

impl EngineFactory for KafkaWith {
    fn opens(&self, scheme: Scheme) -> bool {
        Kafka.opens(scheme)
    }

    fn open<'a>(
        &'a self,
        url: &'a RemoteUrl,
        config: EngineConfig,
    ) -> Boxed<'a, Result<Arc<dyn Engine>, OpenError>> {
        Box::pin(open(url, config, self.silence))
    }
}

/// Where log ids come from for clusters whose own id is no UUID.
const CLUSTERS: Uuid = Uuid::from_u128(0x6b1c_52b8_3f0e_4d6b_9d4e_55a1_70c3_2f0a);

/// What a first look has found.
struct Seen {
    looker: Looker,
    admin: AdminClient<Quiet>,
    cluster: String,
    broker: Option<i32>,
}

async fn open(url: &RemoteUrl, config: EngineConfig, silence: Silence) -> Result<Arc<dyn Engine>, OpenError> {
    let shown = url.to_string();
    let address = address::parse(url).map_err(|reason| OpenError::Url { url: shown.clone(), reason })?;
    let looking = address.clone();
    let seen = spawn_blocking(move || look(&looking)).await.map_err(|_| OpenError::Interrupted)?;
    let seen = seen.map_err(|reason| OpenError::Unreachable { url: shown, reason })?;
    // A UUID is what Courant shows of its log's id.
    let log_id =
        Uuid::parse_str(&seen.cluster).unwrap_or_else(|_| Uuid::new_v5(&CLUSTERS, seen.cluster.as_bytes()));
    let is_courant = url.scheme() == Scheme::Courant;
    let durability = if is_courant { Durability::Disk } else { kafka_durability(&seen).await };
    let access = if address.login.is_some() { Access::Login } else { Access::Anybody };
    let looker = Arc::new(seen.looker);
    let servers = address.servers.clone();
    let catalog = Catalog::new(seen.admin, looker.clone(), log_id, servers, is_courant);
    Ok(Arc::new(KafkaEngine::new(Opened {
        kind: url.scheme().name(),
        address,
        log_id,
        capabilities: capabilities(durability, access, is_courant),
        looker,
        catalog,
        config,
        silence,
    })))
}

/// Waits until somebody answers. The error is a sentence.
fn look(address: &Address) -> Result<Seen, String> {
    let seen = clients(address).map_err(|error| format!("no client can be made: {error}"))?;
    let (looker, admin) = seen;
    let metadata = looker.client().fetch_metadata(None, OPEN_MAX);
    let metadata = metadata.map_err(|error| unanswered(&error, &address.servers))?;
    let broker = metadata.brokers().first().map(rdkafka::metadata::MetadataBroker::id);
    drop(metadata);
    // Every answer has it since Kafka 0.10.1.
    let Some(cluster) = looker.client().client().fetch_cluster_id(OPEN_MAX) else {
        return Err(format!("{} does not say which cluster it is", address.servers));
    };
    Ok(Seen { looker, admin, cluster, broker })
}

/// Why there was no answer. The client says the same of a port where nobody listens and of one that hangs up on it, as
/// a server does that speaks TLS.
fn unanswered(error: &KafkaError, servers: &str) -> String {
    let is_absent = texts::code(error).is_some_and(texts::is_absence);
    if is_absent && servers.split(',').take(ADDRESSES_TRIED_MAX).any(listens) {
        return texts::not_understood(servers);
    }
    texts::reason(error, servers)
}

/// Whether anybody takes connections at `host:port`.
fn listens(server: &str) -> bool {
    let Ok(found) = server.to_socket_addrs() else { return false };
    found.take(ADDRESSES_TRIED_MAX).any(|at| TcpStream::connect_timeout(&at, LISTENS_MAX).is_ok())
}

fn clients(address: &Address) -> KafkaResult<(Looker, AdminClient<Quiet>)> {
    let looker = Looker::new(settings::looking(address).create_with_context(Quiet)?);
    let admin = settings::admin(address).create_with_context(Quiet)?;
    Ok((looker, admin))
}

/// Kafka does not sync before it acknowledges. What is acknowledged is in the memory of as many machines
/// as `min.insync.replicas` says, of which one alone may lose it.
async fn kafka_durability(seen: &Seen) -> Durability {
    let Some(broker) = seen.broker else { return Durability::Written };
    let asked = [ResourceSpecifier::Broker(broker)];
    let answered = seen.admin.describe_configs(&asked, &options()).await;
    let resource = answered.ok().and_then(|answered| answered.into_iter().flatten().next());
    let copies = resource.and_then(|resource| {
        let entry = resource.get("min.insync.replicas")?;
        entry.value.as_deref()?.trim().parse::<u32>().ok()
    });
    if copies.is_some_and(|copies| copies > 1) { Durability::Replicated } else { Durability::Written }
}

fn capabilities(durability: Durability, access: Access, is_courant: bool) -> Capabilities {
    Capabilities {
        order: OrderScope::Partition,
        replay: Replay::AnyOffset,
        durability,
        lifetime: Lifetime::Storage,
        publish_dedup: PublishDedup::Nothing,
        groups: GroupScope::Everywhere,
        time_lookup: TimeLookup::Timestamp,
        access,
        record_bytes_max: RECORD_BYTES_MAX,
        partitions_max: if is_courant { PARTITIONS_MAX } else { i32::MAX.cast_unsigned() },
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use rdkafka::error::RDKafkaErrorCode;

    use super::*;

    /// Whoever is told that nobody answers looks for a server that is running all the time.
    #[test]
    fn a_server_that_hangs_up_is_not_called_nobody() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let listens = listener.local_addr().expect("an address").to_string();
        // A port that nobody is given.
        let nobody = "127.0.0.1:1";
        for code in [RDKafkaErrorCode::BrokerTransportFailure, RDKafkaErrorCode::OperationTimedOut] {
            let error = KafkaError::MetadataFetch(code);
            for servers in [listens.clone(), format!("{nobody},{listens}")] {
                let said = unanswered(&error, &servers);
                assert!(said.contains(&servers) && said.contains("TLS"), "{said}");
                assert!(!said.contains("nobody answers"), "{said}");
            }
            let said = unanswered(&error, nobody);
            assert!(said.contains("nobody answers") && said.contains("is the server running"), "{said}");
        }
        // Who answers has said what is wrong.
        let said =
            unanswered(&KafkaError::MetadataFetch(RDKafkaErrorCode::ClusterAuthorizationFailed), &listens);
        assert!(said.contains("says") && !said.contains("TLS"), "{said}");
    }
}
