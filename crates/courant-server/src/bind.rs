//! Listens on an address, and on its loopback twin of the other family.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::net::{TcpListener, lookup_host};
use tracing::{debug, warn};

use crate::StartError;

/// Sockets that listen; the first is the one that was asked for.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) listeners: Vec<TcpListener>,
    /// Their real addresses, with the port that was picked for port 0.
    pub(crate) addresses: Vec<SocketAddr>,
}

/// Listens on `address`, which `flag` was set to.
///
/// `localhost` is 127.0.0.1 for some clients and ::1 for others, often both in turn, so a loopback
/// address is listened on in both families, on the same port.
pub(crate) async fn bind(flag: &'static str, address: &str, insecure: bool) -> Result<Bound, StartError> {
    let wanted = resolve(address).await.map_err(|source| StartError::Address {
        flag,
        address: address.to_owned(),
        source,
    })?;
    check_reach(flag, wanted, insecure)?;
    if !wanted.ip().is_loopback() {
        warn!("--insecure: whoever reaches {wanted} ({flag}) can read, write and delete everything");
    }
    let (listener, local) = listen(wanted).await.map_err(|source| {
        let address = wanted;
        if source.kind() == io::ErrorKind::AddrInUse {
            return StartError::InUse { flag, address };
        }
        StartError::Bind { flag, address, source }
    })?;
    let mut bound = Bound { listeners: vec![listener], addresses: vec![local] };
    if let Some(twin) = twin(local) {
        match listen(twin).await {
            Ok((listener, local)) => {
                bound.listeners.push(listener);
                bound.addresses.push(local);
            }
            // Clients that say `localhost` may reach the other program instead of this one.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                warn!("{flag}: another program listens on {twin}, and `localhost` may mean that");
            }
            // A machine without IPv6: the address that was asked for is there.
            Err(error) => debug!("{flag}: not listening on {twin} as well: {error}"),
        }
    }
    Ok(bound)
}

/// Fails for an address that other machines can reach, unless somebody has said that they may.
fn check_reach(flag: &'static str, address: SocketAddr, insecure: bool) -> Result<(), StartError> {
    if address.ip().is_loopback() || insecure {
        return Ok(());
    }
    Err(StartError::Exposed { flag, address })
}

/// What can be said of the addresses of a server before anybody listens. What a name stands for is not looked up: it may
/// be something else on the machine that is meant.
pub(crate) fn check_addresses(kafka: &str, http: &str, insecure: bool) -> Result<(), StartError> {
    let (kafka, http) = (kafka.parse::<SocketAddr>(), http.parse::<SocketAddr>());
    for (flag, address) in [("--kafka", &kafka), ("--http", &http)] {
        if let Ok(address) = address {
            check_reach(flag, *address, insecure)?;
        }
    }
    match (kafka, http) {
        // Each of several zeros becomes another port.
        (Ok(kafka), Ok(http)) if http.port() != 0 && overlap(kafka, http) => {
            Err(StartError::OneAddress { address: http })
        }
        _ => Ok(()),
    }
}

/// The first address a name stands for, IPv4 before IPv6.
async fn resolve(address: &str) -> io::Result<SocketAddr> {
    let mut found: Vec<SocketAddr> = lookup_host(address).await?.collect();
    found.sort_by_key(SocketAddr::is_ipv6);
    found
        .first()
        .copied()
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the name stands for no address"))
}

async fn listen(address: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address).await?;
    let local = listener.local_addr()?;
    Ok((listener, local))
}

/// Whether who listens on one of them is in the way of who wants the other.
pub(crate) fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    // `::` takes clients of both families.
    let covers = |all: IpAddr, one: IpAddr| all.is_unspecified() && (all.is_ipv6() || one.is_ipv4());
    let (here, there) = (one.ip(), other.ip());
    one.port() == other.port() && (here == there || covers(here, there) || covers(there, here))
}

fn twin(address: SocketAddr) -> Option<SocketAddr> {
    let ip: IpAddr = match address.ip() {
        IpAddr::V4(Ipv4Addr::LOCALHOST) => Ipv6Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::LOCALHOST) => Ipv4Addr::LOCALHOST.into(),
        _ => return None,
    };
    Some(SocketAddr::new(ip, address.port()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[tokio::test]
    async fn other_machines_are_let_in_only_on_request() {
        let refused = bind("--kafka", "0.0.0.0:0", false).await;
        let sentence = refused.expect_err("it must be refused").to_string();
        assert!(sentence.contains("--insecure"), "{sentence}");
        let bound = bind("--kafka", "0.0.0.0:0", true).await;
        assert_eq!(bound.expect("it is allowed").listeners.len(), 1);
    }

    #[tokio::test]
    async fn loopback_listens_in_both_families_on_one_port() {
        if let Err(error) = TcpListener::bind("[::1]:0").await {
            let test = "bind::tests::loopback_listens_in_both_families_on_one_port";
            // Not `eprintln!`: the test harness would swallow it.
            let _ = writeln!(io::stderr(), "SKIPPED: {test}: ::1 cannot be listened on: {error}");
            return;
        }
        // A port that is free in one family may be in use in the other; of several, one is not.
        let mut bound = bind("--http", "127.0.0.1:0", false).await.expect("loopback");
        for _ in 0..10 {
            if bound.addresses.len() == 2 {
                break;
            }
            bound = bind("--http", "127.0.0.1:0", false).await.expect("loopback");
        }
        let port = bound.addresses[0].port();
        assert_ne!(port, 0);
        let both =
            [SocketAddr::from((Ipv4Addr::LOCALHOST, port)), SocketAddr::from((Ipv6Addr::LOCALHOST, port))];
        assert_eq!(bound.addresses, both);
        assert_eq!(bound.listeners.len(), 2);
    }

    /// Nobody looks for another program that has the port.
    #[test]
    fn an_address_for_all_is_in_the_way_of_each() {
        let overlap = |one: &str, other: &str| {
            let (one, other) = (one.parse().expect("an address"), other.parse().expect("an address"));
            assert_eq!(overlap(one, other), overlap(other, one));
            overlap(one, other)
        };
        for other in ["127.0.0.1:9092", "0.0.0.0:9092", "[::]:9092"] {
            assert!(overlap("127.0.0.1:9092", other), "{other}");
        }
        assert!(overlap("[::]:9092", "0.0.0.0:9092") && overlap("[::]:9092", "[::1]:9092"));
        for other in ["127.0.0.2:9092", "127.0.0.1:9093", "0.0.0.0:9093", "[::1]:9092"] {
            assert!(!overlap("127.0.0.1:9092", other), "{other}");
        }
        assert!(!overlap("0.0.0.0:9092", "[::1]:9092"));
    }

    #[tokio::test]
    async fn a_used_port_is_named_with_its_flag() {
        let first = bind("--kafka", "127.0.0.1:0", false).await.expect("loopback");
        let address = first.addresses[0].to_string();
        let refused = bind("--kafka", &address, false).await;
        let sentence = refused.expect_err("the port is in use").to_string();
        assert!(sentence.contains(&address) && sentence.contains("--kafka"), "{sentence}");
    }

    #[tokio::test]
    async fn an_address_needs_a_port() {
        let refused = bind("--http", "localhost", false).await;
        let sentence = refused.expect_err("there is no port").to_string();
        assert!(sentence.contains("HOST:PORT"), "{sentence}");
    }
}
