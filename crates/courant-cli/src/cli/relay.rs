//! The command that publishes the outbox of a database: which database, and where to.

use clap::Args;

/// Publish the outbox of a database: what services and other programs have committed there
///
/// Programs in any language insert rows into the table courant_outbox_submit, in the transaction of the
/// change that they tell of; docs/guide/framework/outbox.md shows it in Django and JDBC. Each row that is
/// committed is published, under one id however often it is sent, and each one that is rolled back is not.
///
/// Of several relays of a database one is at work, the one that began last; the others stand by, and one
/// of them takes over within ten seconds when it is gone. A service relays its own outbox already.
///
/// Rows that can never be events are moved to courant_outbox_refused with the reason, and stop nobody.
///
/// With --once the exit code is 7 when rows were refused, 6 when the engine did not take what waits within
/// --timeout, and 4 when another relay has taken over.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  courant relay --outbox sqlite:shop.db --to embedded:./events --install\n  \
                  courant relay --outbox postgres://shop@db/shop --to courant://events:9092\n  \
                  courant relay --outbox sqlite:shop.db --to kafka://broker:9092 --once\n  \
                  courant relay --outbox sqlite:shop.db --to \\\n    \
                  'kafka://shop@broker:9092?tls=true&sasl=scram-sha-512&password_env=BROKER_PASSWORD'"
)]
pub(crate) struct Relay {
    /// Database whose outbox is published: sqlite:PATH, postgres://… or mariadb://…
    #[arg(long, env = "COURANT_OUTBOX", hide_env_values = true, value_parser = OutboxUrl::parse, value_name = "URL")]
    pub(crate) outbox: OutboxUrl,
    /// Where events go: courant://HOST:PORT, kafka://HOST:PORT or embedded:PATH; in TLS with --tls-ca, or with
    /// ?tls=true or ?tls_ca=FILE behind the port
    #[arg(long, env = "COURANT_TO", hide_env_values = true, value_name = "URL")]
    pub(crate) to: String,
    /// Publish what waits, and end
    #[arg(long)]
    pub(crate) once: bool,
    /// Create the tables of the framework first, if there are none
    #[arg(long)]
    pub(crate) install: bool,
    /// Partitions of topics that do not exist yet
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..), value_name = "N")]
    pub(crate) partitions: u32,
}

/// Where an outbox is. Some have a password in them, so none is shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum OutboxUrl {
    /// A file.
    Sqlite(String),
    /// A database of a server.
    #[cfg(feature = "postgres")]
    Postgres(String),
    /// A database of a server.
    #[cfg(feature = "mariadb")]
    MariaDb(String),
}

impl OutboxUrl {
    fn parse(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("sqlite", ":memory:")) => {
                Err("a database in memory is seen by its own process only; name a file, as sqlite:PATH"
                    .to_owned())
            }
            Some(("sqlite", path)) if !path.is_empty() => Ok(Self::Sqlite(text.to_owned())),
            #[cfg(feature = "postgres")]
            Some(("postgres" | "postgresql", _)) => Ok(Self::Postgres(text.to_owned())),
            #[cfg(not(feature = "postgres"))]
            Some(("postgres" | "postgresql", _)) => Err(not_built_in("Postgres", "postgres")),
            #[cfg(feature = "mariadb")]
            Some(("mariadb" | "mysql", _)) => Ok(Self::MariaDb(text.to_owned())),
            #[cfg(not(feature = "mariadb"))]
            Some(("mariadb" | "mysql", _)) => Err(not_built_in("MariaDB", "mariadb")),
            Some((scheme, rest)) if rest.starts_with("//") => {
                Err(format!("there is no outbox in a database of the kind `{scheme}`; write sqlite:PATH"))
            }
            _ => {
                Err("that is no address of a database; write sqlite:PATH, for example sqlite:shop.db"
                    .to_owned())
            }
        }
    }

    /// As it may stand in a message.
    pub(crate) fn shown(&self) -> &str {
        match self {
            Self::Sqlite(url) => url,
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => "the Postgres database",
            #[cfg(feature = "mariadb")]
            Self::MariaDb(_) => "the MariaDB database",
        }
    }
}

impl std::fmt::Debug for OutboxUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.shown())
    }
}

/// What is said of a database that this program does not know.
#[cfg(not(all(feature = "postgres", feature = "mariadb")))]
pub(super) fn not_built_in(name: &str, feature: &str) -> String {
    format!(
        "this `courant` was built without {name}; build it with \
         `cargo build --release -p courant-cli --features {feature}`"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outbox_is_in_a_file_of_sqlite() {
        for url in ["sqlite:shop.db", "sqlite:///var/lib/shop.db"] {
            assert_eq!(OutboxUrl::parse(url), Ok(OutboxUrl::Sqlite(url.to_owned())));
        }
    }

    #[test]
    fn no_message_has_a_password() {
        for url in ["postgres://me:secret@host/db", "mariadb://me:secret@host/db"] {
            let said = match OutboxUrl::parse(url) {
                Ok(url) => format!("{url:?} {}", url.shown()),
                Err(said) => said,
            };
            assert!(!said.contains("secret"), "{said}");
        }
        for (url, word) in [
            ("oracle://me:secret@host/db", "`oracle`"),
            ("shop.db", "sqlite:PATH"),
            ("sqlite:", "sqlite:PATH"),
            ("sqlite::memory:", "in memory"),
        ] {
            let said = OutboxUrl::parse(url).expect_err(url);
            assert!(said.contains(word) && !said.contains("secret"), "{url}: {said}");
        }
    }
}
