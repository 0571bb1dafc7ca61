//! The commands about dead letters: which store, which letters, and what becomes of them.

use crate::time::StartFrom;
use clap::{Args, Subcommand, ValueEnum};
use courant_core::consumer::ConsumerName;
use courant_core::topic::TopicName;
use courant_kafka::client::Address;
use std::fmt;
use std::num::NonZeroU32;
use std::path::PathBuf;

use super::parse_pair;

#[derive(Debug, Subcommand)]
pub(crate) enum Dlq {
    #[command(visible_alias = "ls")]
    List(DlqList),
    Show(DlqShow),
    Edit(DlqEdit),
    Redrive(DlqRedrive),
    /// Give dead letters up; what waits behind them goes on
    ///
    /// Who has decided and why is kept with each letter. A running service forgets such letters after 30 days,
    /// if it is not told otherwise.
    Discard(DlqClose),
    /// Keep dead letters out of the way; what waits behind them goes on
    ///
    /// Who has decided and why is kept with each letter. They stay until somebody restores them.
    Archive(DlqClose),
    /// Take archived dead letters back, so that somebody has to decide about them again
    ///
    /// Who has decided and why is kept with each letter. A restored one holds its key no more.
    Restore(DlqClose),
    DiscardParked(DlqDiscardParked),
    Export(DlqExport),
}

/// Where the dead letters are: in a database, or with a service that runs.
#[derive(Debug, Args)]
#[command(next_help_heading = "Where they are")]
pub(crate) struct At {
    /// Database of the service, as the service names it: sqlite:PATH, or postgres://… and mariadb://… where
    /// this `courant` was built with them
    #[arg(
        long,
        env = "COURANT_STORE",
        hide_env_values = true,
        required_unless_present = "engine",
        value_parser = StoreUrl::parse,
        value_name = "URL"
    )]
    pub(crate) store: Option<StoreUrl>,
    /// Engine that the service runs on, such as courant://host:port: the service is asked, whatever --store
    /// says
    #[arg(long, value_delimiter = ',', requires = "service", value_name = "URL")]
    pub(crate) engine: Vec<Address>,
    /// With --engine: the service that is asked
    #[arg(long, requires = "engine", value_parser = consumer, value_name = "NAME")]
    pub(crate) service: Option<ConsumerName>,
    /// With --engine: file with the key of the service, which requests are signed with
    #[arg(long, requires = "engine", value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
}

/// Which dead letters are meant. What is not given does not restrict.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Which dead letters")]
pub(crate) struct Which {
    /// Of this consumer
    #[arg(long, value_parser = consumer, value_name = "NAME")]
    pub(crate) consumer: Option<ConsumerName>,
    /// Of this failure, as `courant dlq list` names it
    #[arg(long, value_name = "GROUP")]
    pub(crate) group: Option<String>,
    /// Of this topic
    #[arg(long, value_parser = topic, value_name = "NAME")]
    pub(crate) topic: Option<TopicName>,
    /// With this key
    #[arg(long, value_name = "KEY")]
    pub(crate) key: Option<String>,
    /// That failed last at this time or later, such as @2026-01-31T08:00:00Z or @-2h
    #[arg(long, value_parser = instant, value_name = "TIME")]
    pub(crate) since: Option<StartFrom>,
    /// That failed last before this time
    #[arg(long, value_parser = instant, value_name = "TIME")]
    pub(crate) until: Option<StartFrom>,
}

impl Which {
    /// Something restricts besides the consumer.
    pub(crate) fn is_not_a_consumer(&self) -> bool {
        !Self { consumer: None, ..self.clone() }.is_everything()
    }

    /// Nothing restricts.
    pub(crate) fn is_everything(&self) -> bool {
        self.consumer.is_none()
            && self.group.is_none()
            && self.topic.is_none()
            && self.key.is_none()
            && self.since.is_none()
            && self.until.is_none()
    }
}

/// Where a dead letter stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Standing {
    /// Nobody has decided
    #[default]
    Dead,
    /// A redrive has it
    Redriving,
    /// It was sent back and handled
    Redriven,
    /// It was given up
    Discarded,
    /// It is kept, and out of the way
    Archived,
    /// Wherever it stands
    Any,
}

/// List failures by their error and its place, or the letters of one of them
///
/// Letters with the same error from the same place are one failure. With anything that says which letters
/// are meant, or with --letters: the letters themselves.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  courant dlq list --store sqlite:billing.db\n  \
                  courant dlq list --store sqlite:billing.db --group 1f0a99c2\n  \
                  courant dlq list --store sqlite:billing.db --consumer billing --since @-1h")]
pub(crate) struct DlqList {
    #[command(flatten)]
    pub(crate) at: At,
    #[command(flatten)]
    pub(crate) which: Which,
    /// The letters, and not the failures
    #[arg(long)]
    pub(crate) letters: bool,
    /// Letters that stand there
    #[arg(long, value_enum, value_name = "STATE")]
    pub(crate) state: Option<Standing>,
    /// At most so many letters
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..), value_name = "N")]
    pub(crate) limit: u64,
}

/// Show one dead letter: where it was, why it failed, its bytes, and what people have done with it
///
/// Bytes that are no text are base64.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  courant dlq show 7 --store sqlite:billing.db -o json")]
pub(crate) struct DlqShow {
    /// Number of the letter
    pub(crate) letter: i64,
    #[command(flatten)]
    pub(crate) at: At,
}

/// Give a dead letter other bytes, under a new id of its event
///
/// VALUE is what it says from now on; stdin when it is missing. The original is kept beside it, with who has
/// edited it and why, and is the cause of the new event. Nothing is sent back by that: redrive it then. To
/// other systems that the handler calls, an event with a new id is a new one.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  courant dlq edit 7 --reason 'cents, not euros' --store sqlite:billing.db \
                  '{\"order\":\"A-7\",\"cents\":250}'\n  \
                  courant dlq edit 7 --reason 'a typo' --store sqlite:billing.db < order.json"
)]
pub(crate) struct DlqEdit {
    /// Number of the letter
    pub(crate) letter: i64,
    /// What it says from now on; stdin when it is missing
    #[arg(conflicts_with_all = ["keep_value"])]
    pub(crate) value: Option<String>,
    /// What it says stays as it is: only headers change
    #[arg(long)]
    pub(crate) keep_value: bool,
    /// Header, in place of those of that name; may be repeated
    #[arg(short = 'H', long = "header", value_parser = parse_pair, value_name = "KEY=VALUE")]
    pub(crate) headers: Vec<(String, String)>,
    /// Header that goes; may be repeated
    #[arg(long = "delete-header", value_name = "KEY")]
    pub(crate) deleted: Vec<String>,
    /// Take a value that is not what its content-type says, or that no handler of the service reads
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) because: Because,
    #[command(flatten)]
    pub(crate) at: At,
}

/// Who does it, and why.
#[derive(Debug, Args)]
pub(crate) struct Because {
    /// Why; it is kept with the letter
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,
    #[command(flatten)]
    pub(crate) by: By,
}

/// Who does it.
#[derive(Debug, Args)]
pub(crate) struct By {
    /// Who does it; it is kept with the letter
    #[arg(long, env = "USER", default_value = "somebody", value_name = "NAME")]
    pub(crate) by: String,
}

/// Send dead letters back to the consumer where they failed, each before the newer events of its key
///
/// The request stands in the store under an id. A running service takes it within a second, any other when
/// it starts; asked again under the same id, nothing is done twice. --dry-run says how many are meant, and
/// what may repeat.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  courant dlq redrive 7 9 --store sqlite:billing.db\n  \
                  courant dlq redrive --group 1f0a99c2 --rate 10 --id till-repaired --store sqlite:billing.db\n  \
                  courant dlq redrive --status till-repaired --events --store sqlite:billing.db")]
pub(crate) struct DlqRedrive {
    /// Numbers of letters
    #[arg(value_name = "LETTER")]
    pub(crate) letters: Vec<i64>,
    /// Every letter that nobody has decided about
    #[arg(long, conflicts_with = "letters")]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) which: Which,
    /// Id of the request [default: a new one]
    #[arg(long, value_name = "ID")]
    pub(crate) id: Option<String>,
    /// Send back at most so many in a second
    #[arg(long, value_name = "N")]
    pub(crate) rate: Option<NonZeroU32>,
    /// Say how many are meant and what may repeat, and send nothing back
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Say how far a redrive is
    #[arg(long, value_name = "ID", conflicts_with_all = ["letters", "all", "id", "rate", "dry_run", "cancel"])]
    pub(crate) status: Option<String>,
    /// With --status: what has become of each letter
    #[arg(long, requires = "status")]
    pub(crate) events: bool,
    /// Cancel what a redrive has not begun
    #[arg(long, value_name = "ID", conflicts_with_all = ["letters", "all", "id", "rate", "dry_run"])]
    pub(crate) cancel: Option<String>,
    #[command(flatten)]
    pub(crate) by: By,
    #[command(flatten)]
    pub(crate) at: At,
}

/// Decide about dead letters without sending them back. What becomes of them, each of the three commands says.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  courant dlq discard 7 --reason 'paid by hand' --store sqlite:billing.db\n  \
                  courant dlq archive --all --reason 'for the auditors' --store sqlite:billing.db\n  \
                  courant dlq restore --group 1f0a99c2 --reason 'it was repaired' --store sqlite:billing.db"
)]
pub(crate) struct DlqClose {
    /// Numbers of letters
    #[arg(value_name = "LETTER")]
    pub(crate) letters: Vec<i64>,
    /// Every letter that nobody has decided about; with restore, every archived one
    #[arg(long, conflicts_with = "letters")]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) which: Which,
    /// Say which are meant, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) because: Because,
    #[command(flatten)]
    pub(crate) at: At,
}

/// Give up events that wait for their next attempt, or behind another one of their key
///
/// For what can be handled no more, because its log is gone, or what nobody wants. Each becomes a dead letter
/// that is discarded, with who has decided and why. A dead letter that keeps its key parked stays: discard it as
/// well, and in that order, or what waits behind it is handled. A service that runs loses the partition, and takes
/// it back after ten seconds: stop it first, or have it do this by itself, with --engine. Then all keys together are
/// one row, and where the service had no time for the rest the command ends with 7.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  courant dlq discard-parked --consumer billing --topic shop.orders \
                  --partition 0 --key Ada --dry-run --reason 'no orders any more' --store sqlite:billing.db\n  \
                  courant dlq discard-parked --consumer billing --topic shop.orders --partition 0 --all --yes \
                  --reason 'the log is gone' --store sqlite:billing.db")]
pub(crate) struct DlqDiscardParked {
    /// Consumer that they wait for
    #[arg(long, value_parser = consumer, value_name = "NAME")]
    pub(crate) consumer: ConsumerName,
    /// Generation of the consumer
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..), value_name = "N")]
    pub(crate) generation: u32,
    /// Topic that they are from
    #[arg(long, value_parser = topic, value_name = "NAME")]
    pub(crate) topic: TopicName,
    /// Partition of the topic
    #[arg(long, value_name = "N")]
    pub(crate) partition: u32,
    /// Those with this key
    #[arg(long, required_unless_present = "all", value_name = "KEY")]
    pub(crate) key: Option<String>,
    /// Those of every key, and those without one
    #[arg(long, conflicts_with = "key")]
    pub(crate) all: bool,
    /// Say how many are meant, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Give them up
    #[arg(short, long)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) because: Because,
    #[command(flatten)]
    pub(crate) at: At,
}

/// Write dead letters to stdout with their bytes, one JSON object per line
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  courant dlq export --state any --store sqlite:billing.db > letters.jsonl"
)]
pub(crate) struct DlqExport {
    #[command(flatten)]
    pub(crate) which: Which,
    /// Letters that stand there [default: dead]
    #[arg(long, value_enum, value_name = "STATE")]
    pub(crate) state: Option<Standing>,
    #[command(flatten)]
    pub(crate) at: At,
}

impl Dlq {
    /// Where the dead letters are.
    pub(crate) fn at(&self) -> &At {
        match self {
            Self::List(args) => &args.at,
            Self::Show(args) => &args.at,
            Self::Edit(args) => &args.at,
            Self::Redrive(args) => &args.at,
            Self::Discard(args) | Self::Archive(args) | Self::Restore(args) => &args.at,
            Self::DiscardParked(args) => &args.at,
            Self::Export(args) => &args.at,
        }
    }
}

/// Where a store is. Some have a password in them, so none is shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum StoreUrl {
    /// A file.
    Sqlite(String),
    /// A database of a server.
    #[cfg(feature = "postgres")]
    Postgres(String),
    /// A database of a server.
    #[cfg(feature = "mariadb")]
    Mariadb(String),
}

impl StoreUrl {
    fn parse(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("sqlite", ":memory:")) => {
                Err("a database in memory is seen by its own process only; name the file of the service, \
                     as sqlite:PATH"
                    .to_owned())
            }
            Some(("sqlite", path)) if !path.is_empty() => Ok(Self::Sqlite(text.to_owned())),
            // What is wrong with the rest of such an address is said when it is used.
            #[cfg(feature = "postgres")]
            Some(("postgres" | "postgresql", _)) => Ok(Self::Postgres(text.to_owned())),
            #[cfg(not(feature = "postgres"))]
            Some(("postgres" | "postgresql", _)) => Err(super::relay::not_built_in("Postgres", "postgres")),
            #[cfg(feature = "mariadb")]
            Some(("mariadb" | "mysql", _)) => Ok(Self::Mariadb(text.to_owned())),
            #[cfg(not(feature = "mariadb"))]
            Some(("mariadb" | "mysql", _)) => Err(super::relay::not_built_in("MariaDB", "mariadb")),
            // What follows a scheme may have a password in it, so it is not repeated.
            Some((scheme, rest)) if rest.starts_with("//") => {
                Err(format!("dead letters are in no store of the kind `{scheme}`; write sqlite:PATH"))
            }
            _ => {
                Err("that is no address of a store; write sqlite:PATH, for example sqlite:billing.db"
                    .to_owned())
            }
        }
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sqlite(url) => url.as_str(),
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => "the Postgres database",
            #[cfg(feature = "mariadb")]
            Self::Mariadb(_) => "the MariaDB database",
        })
    }
}

fn consumer(text: &str) -> Result<ConsumerName, String> {
    ConsumerName::new(text).map_err(|error| error.to_string())
}

fn topic(text: &str) -> Result<TopicName, String> {
    TopicName::new(text).map_err(|error| error.to_string())
}

/// A time, and no other place.
fn instant(text: &str) -> Result<StartFrom, String> {
    match text.parse() {
        Ok(time @ (StartFrom::At(_) | StartFrom::Ago(_))) => Ok(time),
        Err(said) if text.starts_with('@') => Err(said),
        _ => Err(format!("`{text}` is no time; write for example @2026-01-31T08:00:00Z or @-2h")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_a_file_or_a_database_of_a_server() {
        for url in ["sqlite:billing.db", "sqlite:///var/lib/billing.db", "sqlite:a:b"] {
            assert_eq!(StoreUrl::parse(url), Ok(StoreUrl::Sqlite(url.to_owned())));
        }
    }

    /// Whether it is built in or not, with slashes or without: its password is not said, and what is to be
    /// built is.
    #[test]
    fn no_message_has_the_password_of_a_server() {
        let urls = [
            ("postgresql://me:secret@ret@host:5432/db", "Postgres", "--features postgres"),
            ("postgres:me:secret@host/db", "Postgres", "--features postgres"),
            ("mariadb://me@host/db?password=secret", "MariaDB", "--features mariadb"),
            ("mysql:me:secret@host/db", "MariaDB", "--features mariadb"),
        ];
        for (url, name, remedy) in urls {
            let said = match StoreUrl::parse(url) {
                Ok(url) => format!("{url:?}"),
                Err(said) => {
                    assert!(said.contains(remedy), "{said}");
                    said
                }
            };
            assert!(said.contains(name) && !said.contains("ret"), "{url}: {said}");
        }
    }

    #[test]
    fn other_stores_are_refused_by_their_name_and_without_their_password() {
        let refused = [
            ("redis://me:secret@host/db", "`redis`"),
            ("billing.db", "sqlite:PATH"),
            ("sqlite:", "sqlite:PATH"),
            ("sqlite::memory:", "in memory"),
        ];
        for (url, word) in refused {
            let said = StoreUrl::parse(url).expect_err(url);
            assert!(said.contains(word) && !said.contains("secret"), "{url}: {said}");
        }
    }

    #[test]
    fn a_time_is_no_other_place() {
        assert_eq!(instant("@1769846400000"), Ok(StartFrom::At(1_769_846_400_000)));
        assert!(instant("@-2h").is_ok());
        for bad in ["start", "7", "-10", "@soon", ""] {
            assert!(instant(bad).is_err(), "{bad}");
        }
    }
}
