//! Where a server is: `host:port`, with or without `courant://` or `kafka://` in front.

use std::fmt;
use std::str::FromStr;

/// The port of a Kafka address that names none.
pub const DEFAULT_PORT: u16 = 9092;

/// A host name or IP address and a port. IPv6 addresses are kept without brackets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// A host name, an IPv4 address or an IPv6 address without brackets.
    pub host: String,
    /// A TCP port.
    pub port: u16,
}

/// Why a text is not an address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidAddress {
    /// There is no host before the port.
    #[error("`{0}` names no host; write it as host:port, for example 127.0.0.1:9092")]
    NoHost(String),
    /// What stands after the last colon is not a port.
    #[error("`{0}` does not end in a port from 1 to 65535")]
    Port(String),
    /// The scheme is not one that speaks the Kafka protocol.
    #[error("`{0}` has an unknown scheme; use courant://host:port, kafka://host:port, host:port")]
    Scheme(String),
    /// It is an engine of a process.
    #[error(
        "`{0}` is inside the process of its service; name where that listens (its feature `listen`), or a server on \
         the directory (`courant serve --data DIR`)"
    )]
    InProcess(String),
    /// Options of a service's URL stand behind it.
    #[error("options behind `?` are for services; write host:port, and for TLS say --tls-ca FILE")]
    Options,
    /// There is a login in it. Nothing of it is repeated.
    #[error(
        "a name or a password stands in it, and this client cannot log in; write host:port of a listener that asks \
         for no login"
    )]
    Login,
}

impl FromStr for Address {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // Whatever else is wrong with it, a password would be told with it.
        if text.contains('@') {
            return Err(InvalidAddress::Login);
        }
        if text.contains('?') {
            return Err(InvalidAddress::Options);
        }
        // Behind a host of that name stands a port.
        let is_engine = |kind: &str| text.strip_prefix(kind).is_some_and(|rest| port_of(rest).is_none());
        if is_engine("embedded:") || is_engine("memory:") {
            return Err(InvalidAddress::InProcess(text.to_owned()));
        }
        let rest = match text.split_once("://") {
            None => text,
            Some(("courant" | "kafka", rest)) => rest.trim_end_matches('/'),
            Some(_) => return Err(InvalidAddress::Scheme(text.to_owned())),
        };
        let (host, port) = split_port(rest).ok_or_else(|| InvalidAddress::Port(text.to_owned()))?;
        if host.is_empty() {
            return Err(InvalidAddress::NoHost(text.to_owned()));
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

/// Splits `host`, `host:port`, `[v6]`, `[v6]:port` and a bare IPv6 address. `None`: a bad port.
fn split_port(text: &str) -> Option<(&str, u16)> {
    if let Some(inner) = text.strip_prefix('[') {
        let (host, after) = inner.split_once(']')?;
        return match after.strip_prefix(':') {
            Some(port) => Some((host, port_of(port)?)),
            None if after.is_empty() => Some((host, DEFAULT_PORT)),
            None => None,
        };
    }
    match text.matches(':').count() {
        0 => Some((text, DEFAULT_PORT)),
        1 => {
            let (host, port) = text.split_once(':')?;
            Some((host, port_of(port)?))
        }
        _ => Some((text, DEFAULT_PORT)),
    }
}

fn port_of(text: &str) -> Option<u16> {
    text.parse().ok().filter(|port| *port != 0)
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let address: Address = text.parse().expect(text);
        assert_eq!(address.to_string(), expected, "{text}");
    }

    #[test]
    fn accepts_what_people_write() {
        check("127.0.0.1:9092", "127.0.0.1:9092");
        check("localhost", "localhost:9092");
        check("courant://broker:19092", "broker:19092");
        check("kafka://broker:9092/", "broker:9092");
        check("[::1]:9093", "[::1]:9093");
        check("[::1]", "[::1]:9092");
        check("::1", "[::1]:9092");
        check("memory:9092", "memory:9092");
    }

    #[test]
    fn refuses_the_rest_with_a_reason() {
        let refuse = |text: &str| text.parse::<Address>().expect_err(text);
        assert!(matches!(refuse(""), InvalidAddress::NoHost(_)));
        assert!(matches!(refuse(":9092"), InvalidAddress::NoHost(_)));
        assert!(matches!(refuse("host:0"), InvalidAddress::Port(_)));
        assert!(matches!(refuse("host:65536"), InvalidAddress::Port(_)));
        assert!(matches!(refuse("[::1]x"), InvalidAddress::Port(_)));
        assert!(matches!(refuse("http://h:1"), InvalidAddress::Scheme(_)));
        for engine in ["embedded:./events", "memory:"] {
            assert!(matches!(refuse(engine), InvalidAddress::InProcess(_)), "{engine}");
        }
        assert_eq!(refuse("courant://h:9092?tls_ca=ca.pem"), InvalidAddress::Options);
        for login in ["kafka://me:secret@host:9092", "me@host", "me:sec:ret@host:1", "http://secret@host"] {
            let refused = refuse(login);
            assert!(refused == InvalidAddress::Login && !refused.to_string().contains("sec"), "{refused}");
        }
    }
}
