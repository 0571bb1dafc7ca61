//! The ports, and the way of clients: whether who asks at an address is sent to a server that is
//! there.

use super::Finding;
use courant_kafka::client::{Address, AdminError, CallError, Client, ClientConfig, Cluster};
use courant_kafka::tls::{ClientSocket, ClientTls};
use courant_server::ServerConfig;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

/// Nodes of a cluster that are visited.
const NODES_MAX: usize = 16;

/// Bytes of an HTTP answer that are read.
const HTTP_BYTES_MAX: u64 = 16 * 1024;

/// How servers are asked.
#[derive(Clone, Debug)]
pub(super) struct How {
    /// How long each answer may take.
    pub(super) limit: Duration,
    /// Whom to believe; `None`: without TLS.
    pub(super) tls: Option<ClientTls>,
}

/// A server that answered, and what it says of its cluster.
struct Answered {
    at: String,
    cluster: Cluster,
}

/// Looks at the ports of the settings; then asks the servers that somebody named, else whichever
/// answers at the Kafka port, where it sends its clients. That one is asked as `how` says.
pub(super) async fn checks(
    config: &ServerConfig,
    named: Option<(Vec<Address>, How)>,
    holder: Option<u32>,
    how: &How,
) -> Vec<Finding> {
    let (kafka, here) = kafka_port(config, holder, how).await;
    let mut findings = vec![kafka, http_port(config, how).await];
    let localhost = localhost(config, here.as_ref(), how).await;
    match named {
        None => findings.extend(advertised(config, here, how).await),
        Some((servers, how)) => {
            let (server, there) = server(servers, &how).await;
            findings.push(server);
            if there.is_some() {
                findings.extend(advertised(config, there, &how).await);
            }
        }
    }
    findings.extend(localhost);
    findings
}

async fn kafka_port(config: &ServerConfig, holder: Option<u32>, how: &How) -> (Finding, Option<Answered>) {
    const CHECK: &str = "kafka port";
    let address = match listening(CHECK, "--kafka", &config.kafka, config.insecure).await {
        Ok(address) => address,
        Err(finding) => return (finding, None),
    };
    let client = Address { host: reached_at(address).ip().to_string(), port: address.port() };
    let at = client.to_string();
    match ask(vec![client], how).await {
        Ok(cluster) if holder.is_some() => {
            (Finding::ok(CHECK, format!("a server answers at {at}")), Some(Answered { at, cluster }))
        }
        Ok(cluster) => {
            let found = format!(
                "a Kafka server answers at {at}, and none that can be seen uses {}",
                config.data.display()
            );
            let change = "if it is another server, choose another port with --kafka; if it is yours, name \
                          its data directory with --data";
            (Finding::warning(CHECK, found, change), Some(Answered { at, cluster }))
        }
        Err(AdminError::Call(CallError::Unreachable { .. })) => (free(CHECK, "--kafka", address), None),
        Err(error) => {
            let change = "look at the log of what listens there, or choose another port with --kafka";
            (Finding::failure(CHECK, error.to_string(), change), None)
        }
    }
}

async fn http_port(config: &ServerConfig, how: &How) -> Finding {
    const CHECK: &str = "http port";
    let address = match listening(CHECK, "--http", &config.http, config.insecure).await {
        Ok(address) => address,
        Err(finding) => return finding,
    };
    let at = reached_at(address);
    let Ok(Ok(stream)) = timeout(how.limit, TcpStream::connect(at)).await else {
        return free(CHECK, "--http", address);
    };
    let scheme = if how.tls.is_some() { "https" } else { "http" };
    match timeout(how.limit, readyz(stream, at, how)).await {
        Ok(Ok(answer)) => readiness(CHECK, scheme, at, &answer),
        Ok(Err(error)) => foreign(CHECK, at, &error.to_string()),
        Err(_) => foreign(CHECK, at, "no answer in time"),
    }
}

/// What `/readyz` answers, head and body.
async fn readyz(stream: TcpStream, at: SocketAddr, how: &How) -> io::Result<String> {
    let mut stream = ClientSocket::over(stream, &at.ip().to_string(), how.tls.as_ref()).await?;
    let request = format!("GET /readyz HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    let mut answer = Vec::new();
    stream.take(HTTP_BYTES_MAX).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn readiness(check: &'static str, scheme: &str, at: SocketAddr, answer: &str) -> Finding {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
    match (head.split(' ').nth(1), body.trim()) {
        (Some("200"), "ready") => Finding::ok(check, format!("a server is ready at {scheme}://{at}")),
        (Some("503"), reason) => Finding::warning(
            check,
            format!("a server at {scheme}://{at} is not ready: {reason}"),
            "wait a moment when it starts or stops; otherwise look at its log",
        ),
        (None, _) if answer.is_empty() && scheme == "http" => Finding::failure(
            check,
            format!("what listens at {at} hung up without an answer, as servers with TLS do"),
            "if it is such a server, name its files with --tls-cert and --tls-key; otherwise stop that program, or \
             choose another port with --http",
        ),
        _ => foreign(check, at, "another answer than a server's"),
    }
}

fn foreign(check: &'static str, at: SocketAddr, why: &str) -> Finding {
    Finding::failure(
        check,
        format!("another program listens at {at}: {why}"),
        "stop that program, or choose another port with --http",
    )
}

/// The address to listen on, or what is wrong with it, or that there is nothing to check.
async fn listening(
    check: &'static str,
    flag: &'static str,
    text: &str,
    insecure: bool,
) -> Result<SocketAddr, Finding> {
    let found = lookup(text).await.map_err(|error| {
        let change = format!("write HOST:PORT with {flag}, for example 127.0.0.1:9092");
        Finding::failure(check, format!("{text}: {error}"), change)
    })?;
    // As the server does: IPv4 before IPv6.
    let address = found.iter().find(|address| address.is_ipv4()).or(found.first()).copied();
    let Some(address) = address else {
        let change = format!("name an address of this machine with {flag}");
        return Err(Finding::failure(check, format!("{text} stands for no address"), change));
    };
    if !address.ip().is_loopback() && !insecure {
        return Err(Finding::failure(
            check,
            format!("{address} can be reached from other machines, and nobody is asked to log in"),
            format!("use 127.0.0.1 with {flag}, or add --insecure if the network around it is yours"),
        ));
    }
    if address.port() == 0 {
        return Err(Finding::ok(check, "the system chooses a free one"));
    }
    Ok(address)
}

/// Whether the port can be listened on now. It is let go at once.
fn free(check: &'static str, flag: &'static str, address: SocketAddr) -> Finding {
    let Err(error) = TcpListener::bind(address) else {
        return Finding::ok(check, format!("{address} is free"));
    };
    let (found, change) = match error.kind() {
        io::ErrorKind::AddrInUse => (
            format!("{address} is in use by a program that does not answer"),
            format!("stop that program, or choose another port with {flag}"),
        ),
        io::ErrorKind::PermissionDenied => (
            format!("this user may not listen on {address}"),
            format!("choose a port from 1024 on with {flag}"),
        ),
        io::ErrorKind::AddrNotAvailable => (
            format!("{address} is no address of this machine"),
            format!("choose one that is, for example 127.0.0.1, with {flag}"),
        ),
        _ => (
            format!("{address} cannot be listened on: {error}"),
            format!("choose another address with {flag}"),
        ),
    };
    Finding::failure(check, found, change)
}

async fn server(servers: Vec<Address>, how: &How) -> (Finding, Option<Answered>) {
    const CHECK: &str = "server";
    let at = servers.iter().map(Address::to_string).collect::<Vec<_>>().join(",");
    match ask(servers, how).await {
        Ok(cluster) => {
            let id = cluster.id.as_deref().unwrap_or("without an id");
            (Finding::ok(CHECK, format!("{at} answers for cluster {id}")), Some(Answered { at, cluster }))
        }
        Err(error) => {
            let change = "start a server there, or name another with --server";
            (Finding::failure(CHECK, error.to_string(), change), None)
        }
    }
}

/// Follows the addresses that clients are told to use.
async fn advertised(config: &ServerConfig, answered: Option<Answered>, how: &How) -> Vec<Finding> {
    let Some(answered) = answered else {
        return vec![unserved(config.advertise.as_deref()).await];
    };
    let mut findings = Vec::new();
    for (node, address) in answered.cluster.nodes.iter().take(NODES_MAX) {
        findings.push(leads_back(&answered, *node, address, how).await);
    }
    findings
}

/// The check of [`advertised`] and its parts.
const ADVERTISED: &str = "advertised address";

async fn leads_back(answered: &Answered, node: i32, address: &Address, how: &How) -> Finding {
    let at = &answered.at;
    let told = format!("{at} sends clients of node {node} to {address}");
    let change = "start that server with --advertise HOST:PORT, an address that its clients reach";
    if let Err(error) = lookup(&address.to_string()).await {
        return Finding::failure(
            ADVERTISED,
            format!("{told}, a name that is not known here: {error}"),
            change,
        );
    }
    match ask(vec![address.clone()], how).await {
        Ok(cluster) if is_same(&cluster, &answered.cluster) => {
            Finding::ok(ADVERTISED, format!("{told}, which leads to it"))
        }
        Ok(_) => Finding::failure(ADVERTISED, format!("{told}, where another server answers"), change),
        Err(error) => Finding::failure(ADVERTISED, format!("{told}: {error}"), change),
    }
}

/// As far as it can be told without a server.
async fn unserved(advertise: Option<&str>) -> Finding {
    let Some(advertise) = advertise else {
        return Finding::ok(ADVERTISED, "clients are told the address that they connect to");
    };
    let Ok(address) = advertise.parse::<Address>() else {
        return Finding::failure(
            ADVERTISED,
            format!("{advertise} is none"),
            "write HOST:PORT with --advertise",
        );
    };
    match lookup(&address.to_string()).await {
        Ok(found) => {
            let ip = found.first().map(|found| found.ip().to_string()).unwrap_or_default();
            let found = format!("{address} is {ip}; whether it leads to the server is seen when one runs");
            Finding::ok(ADVERTISED, found)
        }
        Err(error) => Finding::failure(
            ADVERTISED,
            format!("{address} is not known here: {error}"),
            "name a host with --advertise that clients can look up",
        ),
    }
}

/// `None` where clients have no reason to say `localhost`.
async fn localhost(config: &ServerConfig, here: Option<&Answered>, how: &How) -> Option<Finding> {
    const CHECK: &str = "localhost";
    let found = lookup(&config.kafka).await.ok()?;
    let kafka = found.iter().find(|address| address.is_ipv4()).or(found.first()).copied()?;
    if kafka.port() == 0 || !(kafka.ip().is_loopback() || kafka.ip().is_unspecified()) {
        return None;
    }
    let first = match lookup(&format!("localhost:{}", kafka.port())).await {
        Ok(found) => *found.first()?,
        Err(error) => {
            let change = "add the line `127.0.0.1 localhost` to /etc/hosts";
            return Some(Finding::warning(CHECK, format!("the name is not known here: {error}"), change));
        }
    };
    let is = format!("it is {} first", first.ip());
    if first.is_ipv4() == kafka.is_ipv4() {
        return Some(Finding::ok(CHECK, is));
    }
    let change = format!(
        "let clients say {} instead of localhost, or make it the first localhost of /etc/hosts",
        reached_at(kafka).ip()
    );
    let address = Address { host: first.ip().to_string(), port: first.port() };
    Some(match (here, ask(vec![address], how).await) {
        (Some(here), Ok(cluster)) if is_same(&cluster, &here.cluster) => {
            Finding::ok(CHECK, format!("{is}, and the server answers there too"))
        }
        (None, Err(AdminError::Call(CallError::Unreachable { .. }))) if serves_both(kafka, first) => {
            Finding::ok(CHECK, format!("{is}, and a server listens there too"))
        }
        (_, Err(AdminError::Call(CallError::Unreachable { .. }))) => {
            Finding::warning(CHECK, format!("{is}, and a server listens on {kafka} only"), change)
        }
        _ => Finding::warning(CHECK, format!("{is}, where another program answers"), change),
    })
}

/// Whether a server that is told to listen on `kafka` will listen on `other` as well: it does so for
/// the loopback address of the other family, where that is free.
fn serves_both(kafka: SocketAddr, other: SocketAddr) -> bool {
    let is_loopback =
        [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)].contains(&kafka.ip());
    is_loopback && TcpListener::bind(other).is_ok()
}

async fn ask(servers: Vec<Address>, how: &How) -> Result<Cluster, AdminError> {
    let How { limit, tls } = how.clone();
    let config = ClientConfig { servers, client_id: "courant-doctor".to_owned(), timeout: limit, tls };
    let mut client = Client::connect(config).await?;
    client.cluster().await
}

/// Whether two answers are of one cluster. Very old servers have no id, and are told by their nodes.
fn is_same(one: &Cluster, other: &Cluster) -> bool {
    match (&one.id, &other.id) {
        (Some(one), Some(other)) => one == other,
        _ => one.nodes == other.nodes,
    }
}

/// The addresses that a name stands for, the preferred one first.
async fn lookup(address: &str) -> io::Result<Vec<SocketAddr>> {
    Ok(lookup_host(address).await?.collect())
}

/// Where to connect to something that listens everywhere.
fn reached_at(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;
    use std::collections::BTreeMap;

    fn at() -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, 8080))
    }

    #[test]
    fn readiness_is_read_from_the_answer() {
        let verdict = |answer: &str| readiness("http port", "http", at(), answer).verdict;
        assert_eq!(verdict("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nready\n"), Verdict::Ok);
        assert_eq!(verdict("HTTP/1.1 503 Service Unavailable\r\n\r\nstopping\n"), Verdict::Warning);
        assert_eq!(verdict("HTTP/1.1 200 OK\r\n\r\n<html>"), Verdict::Failure);
        assert_eq!(verdict("SSH-2.0-OpenSSH_9.2\r\n"), Verdict::Failure);
        assert_eq!(verdict(""), Verdict::Failure);
        let change = |scheme| readiness("http port", scheme, at(), "").change.expect("something to do");
        assert!(change("http").contains("--tls-cert"));
        assert!(!change("https").contains("--tls-cert"), "it is told already");
    }

    #[test]
    fn clusters_are_told_apart_by_their_id() {
        let node = |port| BTreeMap::from([(0, Address { host: "a".to_owned(), port })]);
        let cluster = |id: Option<&str>, port| Cluster { id: id.map(str::to_owned), nodes: node(port) };
        assert!(is_same(&cluster(Some("x"), 1), &cluster(Some("x"), 2)));
        assert!(!is_same(&cluster(Some("x"), 1), &cluster(Some("y"), 1)));
        assert!(is_same(&cluster(None, 1), &cluster(None, 1)));
        assert!(!is_same(&cluster(None, 1), &cluster(Some("x"), 2)));
    }

    #[test]
    fn a_port_in_use_is_told_with_its_flag() {
        let taken = TcpListener::bind(("127.0.0.1", 0)).expect("loopback");
        let address = taken.local_addr().expect("an address");
        let finding = free("kafka port", "--kafka", address);
        assert_eq!(finding.verdict, Verdict::Failure);
        assert!(finding.change.is_some_and(|change| change.contains("--kafka")));
        drop(taken);
        assert_eq!(free("kafka port", "--kafka", address).verdict, Verdict::Ok);
    }

    #[tokio::test]
    async fn addresses_for_everybody_take_a_word_for_it() {
        let refused = listening("kafka port", "--kafka", "0.0.0.0:9092", false).await.expect_err("exposed");
        assert_eq!(refused.verdict, Verdict::Failure);
        assert!(refused.change.is_some_and(|change| change.contains("--insecure")));
        assert!(listening("kafka port", "--kafka", "0.0.0.0:9092", true).await.is_ok());
        let chosen = listening("kafka port", "--kafka", "127.0.0.1:0", false).await.expect_err("port 0");
        assert_eq!(chosen.verdict, Verdict::Ok);
    }

    #[test]
    fn only_a_loopback_address_has_a_twin() {
        let other = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        assert!(serves_both(SocketAddr::from((Ipv6Addr::LOCALHOST, 9092)), other));
        assert!(!serves_both(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 9092)), other));
    }
}
