//! Engine URLs: what chooses the engine of a service.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::limits::{MEMORY_BYTES_DEFAULT, MEMORY_BYTES_MIN};

/// Which engine, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EngineUrl {
    /// `memory:` or `memory:?bytes=N`: a log in this process, gone with it.
    Memory(MemoryOptions),
    /// `embedded:PATH`: a log in a directory, used by this process alone. The same directory opens under
    /// `courant serve` when the service does not run.
    Embedded(PathBuf),
    /// A server.
    Remote(RemoteUrl),
}

/// How much `memory:` holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryOptions {
    /// Bytes, the journal's included. Publishing is refused when they are taken.
    pub bytes_max: u64,
}

/// The URL of a server. It is shown without its credentials.
#[derive(Clone, PartialEq, Eq)]
pub struct RemoteUrl {
    scheme: Scheme,
    /// What stands behind `://`.
    rest: String,
}

/// The kind of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Scheme {
    /// `courant://`: `courant serve`.
    Courant,
    /// `kafka://`: Apache Kafka and what speaks its protocol.
    Kafka,
    /// `nats://`: NATS JetStream.
    Nats,
    /// `amqp://`: RabbitMQ.
    Amqp,
    /// `redis://`: Redis streams.
    Redis,
    /// `postgres://`: a PostgreSQL database.
    Postgres,
    /// `mariadb://`: a MariaDB database.
    MariaDb,
}

/// Why a text is not an engine's URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidEngineUrl {
    /// It has no scheme, or one that nobody knows.
    #[error(
        "an engine's URL is memory:, embedded:PATH, courant://HOST:PORT or kafka://HOST:PORT; this one begins with \
         {begins:?}"
    )]
    UnknownScheme {
        /// Its beginning. The rest may be secret.
        begins: String,
    },
    /// `embedded:` without a directory, or with slashes where none belong.
    #[error("write embedded:PATH, for example embedded:./data or embedded:/var/lib/billing, without //")]
    EmbeddedPath,
    /// What stands behind `memory:`.
    #[error("write memory: or memory:?bytes=N, with N of at least {MEMORY_BYTES_MIN}")]
    MemoryOptions,
    /// A server without an address.
    #[error("{scheme}:// needs an address, for example {scheme}://127.0.0.1:{port}")]
    NoAddress {
        /// The scheme.
        scheme: &'static str,
        /// Its usual port.
        port: u16,
    },
}

/// Every scheme of a server: its spellings, the first of which it is shown with.
static SCHEMES: [(Scheme, &[&str]); 7] = [
    (Scheme::Courant, &["courant"]),
    (Scheme::Kafka, &["kafka"]),
    (Scheme::Nats, &["nats"]),
    (Scheme::Amqp, &["amqp", "amqps"]),
    (Scheme::Redis, &["redis", "rediss"]),
    (Scheme::Postgres, &["postgres", "postgresql"]),
    (Scheme::MariaDb, &["mariadb", "mysql"]),
];

/// Characters of a wrong scheme that are shown.
const SHOWN_CHARS_MAX: usize = 16;

impl Scheme {
    /// The cargo feature that brings this engine.
    #[must_use]
    pub fn feature(self) -> Option<&'static str> {
        match self {
            Self::Courant | Self::Kafka => Some("kafka"),
            Self::Nats | Self::Amqp | Self::Redis | Self::Postgres | Self::MariaDb => None,
        }
    }

    /// The scheme as it is written.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Courant => "courant",
            Self::Kafka => "kafka",
            Self::Nats => "nats",
            Self::Amqp => "amqp",
            Self::Redis => "redis",
            Self::Postgres => "postgres",
            Self::MariaDb => "mariadb",
        }
    }

    fn port(self) -> u16 {
        match self {
            Self::Courant | Self::Kafka => 9092,
            Self::Nats => 4222,
            Self::Amqp => 5672,
            Self::Redis => 6379,
            Self::Postgres => 5432,
            Self::MariaDb => 3306,
        }
    }
}

impl Default for MemoryOptions {
    fn default() -> Self {
        Self { bytes_max: MEMORY_BYTES_DEFAULT }
    }
}

impl RemoteUrl {
    /// The kind of server.
    #[must_use]
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// What stands behind `://`, credentials included: for the engine, not for messages.
    #[must_use]
    pub fn secret_rest(&self) -> &str {
        &self.rest
    }
}

impl EngineUrl {
    /// The URL with its credentials, as it can be parsed again: for whatever opens it, not for messages.
    #[must_use]
    pub fn secret_text(&self) -> String {
        match self {
            Self::Remote(remote) => format!("{}://{}", remote.scheme.name(), remote.rest),
            other => other.to_string(),
        }
    }
}

impl FromStr for EngineUrl {
    type Err = InvalidEngineUrl;

    fn from_str(text: &str) -> Result<Self, InvalidEngineUrl> {
        let unknown = |begins: &str| InvalidEngineUrl::UnknownScheme {
            begins: begins.chars().take(SHOWN_CHARS_MAX).collect(),
        };
        let (scheme, rest) = text.split_once(':').ok_or_else(|| unknown(text))?;
        match scheme {
            "memory" => memory(rest).map(Self::Memory).ok_or(InvalidEngineUrl::MemoryOptions),
            "embedded" if rest.is_empty() || rest.starts_with("//") || rest.contains('\0') => {
                Err(InvalidEngineUrl::EmbeddedPath)
            }
            "embedded" => Ok(Self::Embedded(PathBuf::from(rest))),
            _ => {
                let known = SCHEMES.iter().find(|(_, names)| names.contains(&scheme));
                let (known, _) = known.ok_or_else(|| unknown(scheme))?;
                let rest = rest.strip_prefix("//").filter(|rest| has_address(rest));
                let rest =
                    rest.ok_or(InvalidEngineUrl::NoAddress { scheme: known.name(), port: known.port() })?;
                Ok(Self::Remote(RemoteUrl { scheme: *known, rest: rest.to_owned() }))
            }
        }
    }
}

/// What stands behind `memory:`.
fn memory(rest: &str) -> Option<MemoryOptions> {
    if rest.is_empty() {
        return Some(MemoryOptions::default());
    }
    let bytes_max: u64 = rest.strip_prefix("?bytes=")?.parse().ok()?;
    (bytes_max >= MEMORY_BYTES_MIN).then_some(MemoryOptions { bytes_max })
}

/// Whether something stands where the address belongs: behind the credentials, before the path.
fn has_address(rest: &str) -> bool {
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let address = authority.rsplit_once('@').map_or(authority, |(_, address)| address);
    !address.is_empty()
}

impl fmt::Display for EngineUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory(options) if *options == MemoryOptions::default() => f.write_str("memory:"),
            Self::Memory(options) => write!(f, "memory:?bytes={}", options.bytes_max),
            Self::Embedded(dir) => write!(f, "embedded:{}", dir.display()),
            Self::Remote(remote) => remote.fmt(f),
        }
    }
}

impl fmt::Display for RemoteUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Credentials stand before the last '@', and may stand in the query. An '@' behind a '?' belongs to
        // either: then nothing is shown.
        let end = self.rest.find(['?', '#']).unwrap_or(self.rest.len());
        let (shown, query) = self.rest.split_at(end);
        let (hidden, address) = match shown.rsplit_once('@') {
            _ if query.contains('@') => ("***", ""),
            Some((_, address)) => ("***@", address),
            None => ("", shown),
        };
        write!(f, "{}://{hidden}{address}", self.scheme.name())
    }
}

impl fmt::Debug for RemoteUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RemoteUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> EngineUrl {
        text.parse().expect("a URL")
    }

    fn refused(text: &str) -> InvalidEngineUrl {
        text.parse::<EngineUrl>().expect_err("no URL")
    }

    #[test]
    fn the_engines_of_this_process() {
        assert_eq!(parsed("memory:"), EngineUrl::Memory(MemoryOptions { bytes_max: MEMORY_BYTES_DEFAULT }));
        assert_eq!(
            parsed("memory:?bytes=200000000"),
            EngineUrl::Memory(MemoryOptions { bytes_max: 200_000_000 })
        );
        assert_eq!(parsed("embedded:./data"), EngineUrl::Embedded("./data".into()));
        assert_eq!(parsed("embedded:/var/lib/a?b"), EngineUrl::Embedded("/var/lib/a?b".into()));
        for text in ["memory:", "memory:?bytes=200000000", "embedded:./data"] {
            assert_eq!(parsed(text).to_string(), text);
        }
    }

    #[test]
    fn servers_by_every_spelling() {
        for (scheme, names) in SCHEMES {
            for name in names {
                let EngineUrl::Remote(remote) = parsed(&format!("{name}://host:1,other:2/x")) else {
                    panic!("{name} is a server");
                };
                assert_eq!(remote.scheme(), scheme);
                assert_eq!(remote.secret_rest(), "host:1,other:2/x");
                assert_eq!(remote.to_string(), format!("{}://host:1,other:2/x", scheme.name()));
                assert_eq!(names[0], scheme.name());
            }
        }
    }

    #[test]
    fn credentials_are_not_shown() {
        for text in ["kafka://ann:pa@ss@host:9092/t?password=x", "kafka://ann:pass@host:9092/t#x"] {
            let url = parsed(text);
            assert_eq!(url.to_string(), "kafka://***@host:9092/t");
            assert!(!format!("{url:?}").contains("pass"), "{url:?}");
            assert_eq!(url.secret_text(), text);
        }
        assert_eq!(parsed("kafka://ann:pa?ss@host").to_string(), "kafka://***");
    }

    #[test]
    fn what_is_no_url_says_what_one_is() {
        assert_eq!(refused("./data"), InvalidEngineUrl::UnknownScheme { begins: "./data".into() });
        assert_eq!(refused("http://x"), InvalidEngineUrl::UnknownScheme { begins: "http".into() });
        assert_eq!(refused(""), InvalidEngineUrl::UnknownScheme { begins: String::new() });
        for text in ["embedded:", "embedded://data", "embedded:a\0b"] {
            assert_eq!(refused(text), InvalidEngineUrl::EmbeddedPath, "{text}");
        }
        for text in ["memory:x", "memory:?bytes=", "memory:?bytes=100000000", "memory:?cap=200000000"] {
            assert_eq!(refused(text), InvalidEngineUrl::MemoryOptions, "{text}");
        }
        for text in ["kafka:host", "kafka://", "kafka:///topic", "kafka://user@", "kafka://?x=y"] {
            assert_eq!(refused(text), InvalidEngineUrl::NoAddress { scheme: "kafka", port: 9092 }, "{text}");
        }
        let long = format!("{}secret", "x".repeat(16));
        assert!(!refused(&long).to_string().contains("secret"));
        // What nobody has written an engine for is not what to write instead.
        for (scheme, names) in SCHEMES.iter().filter(|(scheme, _)| scheme.feature().is_none()) {
            let said = refused("http://x").to_string();
            assert!(!names.iter().any(|name| said.contains(&format!("{name}:"))), "{scheme:?}: {said}");
        }
    }
}
