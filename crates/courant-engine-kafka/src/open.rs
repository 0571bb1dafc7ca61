//! How an engine is opened: whether somebody is there, which log it is, and what it can do.

use std::net::{TcpStream, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::Instant;

use courant_engine::{
    Access, Boxed, Capabilities, Durability, Engine, EngineConfig, EngineFactory, GroupScope, Lifetime,
    OpenError, OrderScope, PublishDedup, RemoteUrl, Replay, Scheme, TimeLookup,
};
use rdkafka::admin::{AdminClient, ResourceSpecifier};
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::metadata::{Metadata, MetadataBroker};
use tokio::task::spawn_blocking;
use uuid::Uuid;

use crate::address::{self, Address};
use crate::catalog::{Catalog, options};
use crate::engine::{KafkaEngine, Opened};
use crate::limits::{
    ADDRESSES_TRIED_MAX, FIRST_LOOK, LISTENS_MAX, OPEN_MAX, PARTITIONS_MAX, RECORD_BYTES_MAX,
};
use crate::looking::Looker;
use crate::servers::{Obstacle, Refusal, Servers};
use crate::settings::{self, Quiet, Silence};
use crate::texts;

/// Opens `courant://HOST:PORT[,HOST:PORT…]` and `kafka://HOST:PORT[,HOST:PORT…]`, with `NAME:PASSWORD@`
/// before the addresses where the server wants a login, and with options behind them, as
/// `?tls_ca=ca.pem&sasl=scram-sha-512`:
///
/// - `tls=true`: in TLS, with whom the system trusts; `tls_ca=FILE`: in TLS, with those whom the authorities in this
///   file of PEM vouch for, and nobody else. The address has to be a name in the server's certificate. With the feature
///   `tls` alone.
/// - `sasl=plain`, `scram-sha-256` or `scram-sha-512`: how the login is made, `plain` if nothing is said. `scram-…` with
///   the feature `tls` alone. `plain` without TLS shows the password to whoever is on the way.
/// - `password_env=VARIABLE`: the password is in this variable of the environment, and `NAME@` alone stands before the
///   addresses.
///
/// In a login and in an option, `%` and two digits stand for a byte.
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

/// Whether this build speaks TLS.
const HAS_OPENSSL: bool = cfg!(feature = "tls");

/// What a first look has found.
struct Seen {
    looker: Looker,
    admin: AdminClient<Quiet>,
    cluster: String,
    broker: Option<i32>,
}

/// Why a first look has found nothing. The texts are sentences.
#[derive(Debug)]
enum Unseen {
    /// No client can be made of the URL.
    NoClient(String),
    Refused(Refusal),
    Unanswered(String),
}

impl Unseen {
    fn told(self, url: String) -> OpenError {
        match self {
            Self::NoClient(reason) => OpenError::Url { url, reason },
            Self::Unanswered(reason) => OpenError::Unreachable { url, reason },
            Self::Refused(Refusal { obstacle: Obstacle::Tls, sentence: reason }) => {
                OpenError::Tls { url, reason }
            }
            Self::Refused(Refusal { obstacle: Obstacle::Login, sentence: reason }) => {
                OpenError::Login { url, reason }
            }
        }
    }
}

async fn open(url: &RemoteUrl, config: EngineConfig, silence: Silence) -> Result<Arc<dyn Engine>, OpenError> {
    let shown = url.to_string();
    let address = address::parse(url).map_err(|reason| OpenError::Url { url: shown.clone(), reason })?;
    check_built_in(&address, &shown, HAS_OPENSSL)?;
    let looking = address.clone();
    let seen = spawn_blocking(move || look(&looking)).await.map_err(|_| OpenError::Interrupted)?;
    let seen = seen.map_err(|unseen| unseen.told(shown))?;
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

/// Refuses what this build cannot do.
fn check_built_in(address: &Address, url: &str, has_openssl: bool) -> Result<(), OpenError> {
    match address.needs_openssl() {
        Some(part) if !has_openssl => {
            Err(OpenError::PartNotBuiltIn { url: url.to_owned(), part, feature: "tls" })
        }
        _ => Ok(()),
    }
}

/// Waits until somebody answers.
fn look(address: &Address) -> Result<Seen, Unseen> {
    let (looker, admin) = clients(address).map_err(|error| no_client(&error, address))?;
    let metadata = first_answer(&looker, &address.servers)?;
    let broker = metadata.brokers().first().map(MetadataBroker::id);
    drop(metadata);
    // Every answer has it since Kafka 0.10.1.
    let Some(cluster) = looker.client().client().fetch_cluster_id(OPEN_MAX) else {
        return Err(Unseen::Unanswered(format!("{} does not say which cluster it is", address.servers)));
    };
    Ok(Seen { looker, admin, cluster, broker })
}

/// Asks until there is an answer. To whoever waits the client says nothing of a certificate that it does not believe or
/// of a login that is not taken, and tries on: so it is asked for a short time first. Where there is one address alone,
/// such a refusal is the answer; of several, another one may take us.
fn first_answer(looker: &Looker, servers: &Servers) -> Result<Metadata, Unseen> {
    let deadline = Instant::now() + OPEN_MAX;
    let mut patience = FIRST_LOOK;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let error = match looker.client().fetch_metadata(None, patience.min(left)) {
            Ok(metadata) => return Ok(metadata),
            Err(error) => error,
        };
        looker.hear();
        let is_refused = servers.each().count() == 1 && servers.refusal().is_some();
        let is_absent = texts::code(&error).is_some_and(texts::is_absence);
        if is_refused || !is_absent || patience >= left {
            return Err(unanswered(&error, servers));
        }
        patience *= 2;
    }
}

/// Why there was no answer. The client says the same of a port where nobody listens and of one that hangs up on it, as
/// a server does that speaks TLS.
fn unanswered(error: &KafkaError, servers: &Servers) -> Unseen {
    let is_absent = texts::code(error).is_some_and(texts::is_absence);
    if is_absent && let Some(refusal) = servers.refusal() {
        return Unseen::Refused(refusal);
    }
    if is_absent && servers.each().take(ADDRESSES_TRIED_MAX).any(listens) {
        return Unseen::Unanswered(texts::not_understood(servers));
    }
    Unseen::Unanswered(texts::reason(error, servers))
}

/// Whether anybody takes connections at `host:port`.
fn listens(server: &str) -> bool {
    let Ok(found) = server.to_socket_addrs() else { return false };
    found.take(ADDRESSES_TRIED_MAX).any(|at| TcpStream::connect_timeout(&at, LISTENS_MAX).is_ok())
}

fn clients(address: &Address) -> KafkaResult<(Looker, AdminClient<Quiet>)> {
    let looker = Looker::new(settings::looking(address).create_with_context(Quiet::new(address))?);
    let admin = settings::admin(address).create_with_context(Quiet::new(address))?;
    Ok((looker, admin))
}

fn no_client(error: &KafkaError, address: &Address) -> Unseen {
    let said = error.to_string();
    let authorities = address.tls.as_ref().and_then(|tls| tls.authorities.as_deref());
    Unseen::NoClient(match authorities {
        Some(file) if said.contains("ssl.ca.location") => format!(
            "tls_ca names {file}, and no certificate can be read there: it is to be a file with certificates of \
             authorities, in PEM ({said})"
        ),
        _ => format!("no client can be made: {said}"),
    })
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

    use courant_engine::EngineUrl;
    use rdkafka::error::RDKafkaErrorCode;

    use super::*;

    fn said(error: &KafkaError, servers: &Servers) -> String {
        unanswered(error, servers).told("kafka://there".to_owned()).to_string()
    }

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
                for (has_tls, word) in [(false, "?tls_ca=FILE"), (true, "as the URL says")] {
                    let said = said(&error, &Servers::new(&servers, has_tls));
                    assert!(said.contains(&servers) && said.contains("TLS") && said.contains(word), "{said}");
                    assert!(!said.contains("nobody answers"), "{said}");
                }
            }
            let said = said(&error, &Servers::new(nobody, false));
            assert!(said.contains("nobody answers") && said.contains("is the server running"), "{said}");
        }
        // Who answers has said what is wrong.
        let error = KafkaError::MetadataFetch(RDKafkaErrorCode::ClusterAuthorizationFailed);
        let said = said(&error, &Servers::new(&listens, false));
        assert!(said.contains("says") && !said.contains("TLS"), "{said}");
    }

    /// Who is refused is told why, and not that nobody listens or that somebody does.
    #[test]
    fn a_refusal_is_what_no_answer_means() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let listens = listener.local_addr().expect("an address").to_string();
        let servers = Servers::new(&listens, false);
        servers.hear(&KafkaError::Global(RDKafkaErrorCode::Authentication), "wrong password");
        let error = KafkaError::MetadataFetch(RDKafkaErrorCode::BrokerTransportFailure);
        let told = unanswered(&error, &servers).told("kafka://there".to_owned());
        assert!(
            matches!(&told, OpenError::Login { reason, .. } if reason.contains("wrong password")),
            "{told}"
        );
    }

    #[test]
    fn what_needs_openssl_names_the_feature_where_it_is_not_built_in() {
        for (url, part) in [
            ("courant://host?tls=true", "TLS"),
            ("courant://host?tls_ca=ca.pem", "TLS"),
            ("kafka://ann:secret@host?sasl=scram-sha-256", "a login by SCRAM"),
        ] {
            let EngineUrl::Remote(remote) = url.parse::<EngineUrl>().expect("a URL") else {
                panic!("{url} is a server")
            };
            let address = address::parse(&remote).unwrap_or_else(|reason| panic!("{url}: {reason}"));
            let refused = check_built_in(&address, &remote.to_string(), false).expect_err("it is not there");
            let said = refused.to_string();
            assert!(said.contains(part) && said.contains("the feature \"tls\" of courant"), "{said}");
            assert!(!said.contains("secret"), "{said}");
            assert!(check_built_in(&address, &remote.to_string(), true).is_ok());
        }
        let EngineUrl::Remote(remote) = "kafka://ann:secret@host".parse::<EngineUrl>().expect("a URL") else {
            panic!("it is a server")
        };
        let address = address::parse(&remote).unwrap_or_else(|reason| panic!("{reason}"));
        assert!(check_built_in(&address, "kafka://host", false).is_ok());
    }
}
