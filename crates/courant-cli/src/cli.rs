//! The command line as tables: what can be typed, where its defaults come from, and its help.
//!
//! A flag wins over its variable in the environment, which wins over `courant.toml`, which wins over
//! the default. The settings of a server have a table of their own, in `settings`.

mod backup;
#[cfg(feature = "sql")]
mod demo;
#[cfg(feature = "sql")]
mod dlq;
#[cfg(feature = "sql")]
mod dlq_foreign;
mod line;
mod operate;
#[cfg(feature = "sql")]
mod relay;
#[cfg(feature = "sql")]
mod services;
mod top;
mod torture;
mod traces;

pub(crate) use backup::{Backup, Place, Restore};
#[cfg(feature = "sql")]
pub(crate) use demo::{Demo, Script};
#[cfg(feature = "sql")]
pub(crate) use dlq::{
    At, Dlq, DlqClose, DlqDiscardParked, DlqEdit, DlqExport, DlqList, DlqRedrive, DlqShow, Standing,
    StoreUrl, Which,
};
#[cfg(feature = "sql")]
pub(crate) use dlq_foreign::{
    DlqCommand, DlqForeign, ForeignDiscard, ForeignExport, ForeignList, ForeignRedrive, ForeignShow,
    LetterAt, WhichForeign,
};
pub(crate) use line::read;
pub(crate) use operate::{
    Config, ConfigCheck, ConfigShow, Doctor, Log, LogInspect, LogRepair, LogVerify, Serve,
};
#[cfg(feature = "sql")]
pub(crate) use relay::{OutboxUrl, Relay};
#[cfg(feature = "sql")]
pub(crate) use services::Services;
pub(crate) use top::Top;
pub(crate) use torture::Torture;
pub(crate) use traces::{Find, Http, Trace, View};

use crate::output::Format;
use crate::settings::ServerNamed;
use crate::time::{ResetTo, StartFrom, parse_duration};
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use courant_kafka::client::Address;
use std::path::PathBuf;
use std::time::Duration;

/// Events in one binary: a durable log that speaks the Kafka protocol, and the tools for it
#[derive(Debug, Parser)]
#[command(
    name = "courant",
    version,
    propagate_version = true,
    arg_required_else_help = true,
    after_help = "Exit codes: 0 ok, 1 failed, 2 usage, 3 not found, 4 conflict, 5 not allowed, \
                  6 unreachable, 7 partly done, 130 interrupted."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command understands.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    #[command(flatten)]
    pub(crate) server_named: ServerNamed,
    /// Server to talk to: host:port, courant://host:port or kafka://host:port; several with commas
    #[arg(
        long,
        global = true,
        env = "COURANT_SERVER",
        default_value = "127.0.0.1:9092",
        value_delimiter = ',',
        value_name = "ADDR"
    )]
    pub(crate) server: Vec<Address>,
    /// File with the certificates of who may vouch for a server, in PEM: speak TLS to it
    #[arg(long, global = true, env = "COURANT_TLS_CA", value_name = "FILE")]
    pub(crate) tls_ca: Option<PathBuf>,
    /// File with settings, here before the command [default: courant.toml, if it is there]
    #[arg(long, env = "COURANT_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// How data is written to stdout [default: table on a terminal, else jsonl]
    #[arg(short, long, global = true, value_enum, value_name = "FORMAT")]
    pub(crate) output: Option<Format>,
    /// Say nothing on stderr but errors
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    /// Say more on stderr; twice for still more
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
    /// How long to wait for an answer, for example 500ms, 10s or 2m
    #[arg(
        long,
        global = true,
        default_value = "30s",
        value_parser = parse_duration,
        value_name = "TIME"
    )]
    pub(crate) timeout: Duration,
}

// What a variant says of itself takes the place of all that its struct says, every paragraph of it. So it says
// something only where no struct does, or where several variants have the same one.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Serve(Serve),
    #[cfg(feature = "sql")]
    Demo(Demo),
    Doctor(Doctor),
    Backup(Backup),
    Restore(Restore),
    Torture(Torture),
    /// Look after a data directory
    #[command(subcommand)]
    Log(Log),
    /// Show and check the settings
    #[command(subcommand)]
    Config(Config),
    /// List, show, create, alter and delete topics
    #[command(subcommand)]
    Topic(Topic),
    /// List, show, reset and delete consumer groups
    #[command(subcommand)]
    Group(Group),
    /// Look after events that a service could not handle: list, edit, send back, give up
    #[cfg(feature = "sql")]
    #[command(subcommand)]
    Dlq(Box<DlqCommand>),
    #[cfg(feature = "sql")]
    Services(Services),
    #[cfg(feature = "sql")]
    Relay(Relay),
    #[command(visible_alias = "publish")]
    Pub(Publish),
    Tail(Tail),
    Find(Box<Find>),
    Trace(Trace),
    Top(Top),
    Completion(Completion),
}

/// Write the completions for a shell to stdout
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  courant completion bash > ~/.local/share/bash-completion/completions/courant"
)]
pub(crate) struct Completion {
    pub(crate) shell: clap_complete::Shell,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Topic {
    /// List topics with their partitions and number of events
    #[command(visible_alias = "ls")]
    List,
    #[command(visible_alias = "partitions")]
    Show(TopicShow),
    Configs(TopicConfigs),
    Offsets(TopicOffsets),
    Create(TopicCreate),
    Alter(TopicAlter),
    #[command(visible_alias = "rm")]
    Delete(TopicDelete),
}

/// Show the partitions of a topic with their leaders and offsets
#[derive(Debug, Args)]
pub(crate) struct TopicShow {
    pub(crate) name: String,
}

/// Show the configs that are set on a topic, or all of them
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  courant topic configs orders --all")]
pub(crate) struct TopicConfigs {
    pub(crate) name: String,
    /// Those that have their default, too
    #[arg(long)]
    pub(crate) all: bool,
}

/// Show the offset that a place has in each partition
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  courant topic offsets orders --at @-1h")]
pub(crate) struct TopicOffsets {
    pub(crate) name: String,
    /// start, end, or a time such as @2026-01-31T08:00:00Z, @1769846400000 or @-10m
    #[arg(long, default_value = "end", value_name = "PLACE")]
    pub(crate) at: StartFrom,
}

/// Change the configs of a topic, or give it more partitions
///
/// More partitions move keys: events with one key keep their order within a partition only.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  courant topic alter orders --config retention.ms=604800000\n  \
                  courant topic alter orders --delete-config retention.ms --partitions 8")]
pub(crate) struct TopicAlter {
    pub(crate) name: String,
    /// A setting, such as retention.ms=604800000; may be repeated
    #[arg(long = "config", value_parser = parse_pair, value_name = "KEY=VALUE")]
    pub(crate) configs: Vec<(String, String)>,
    /// A setting that goes back to its default; may be repeated
    #[arg(long = "delete-config", value_name = "KEY")]
    pub(crate) deleted: Vec<String>,
    /// How many partitions it shall have; never fewer than now
    #[arg(long, value_parser = clap::value_parser!(i32).range(1..), value_name = "N")]
    pub(crate) partitions: Option<i32>,
    /// Let the server check it, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Group {
    /// List consumer groups
    #[command(visible_alias = "ls")]
    List,
    Show(GroupShow),
    Reset(GroupReset),
    #[command(visible_alias = "rm")]
    Delete(GroupDelete),
}

/// Show how far a group has come in each partition, and who reads it
///
/// Lag is what is between the committed offset and the end of the partition, in events and in seconds:
/// the age of the first event that was not consumed. With -o json: one document, with the members.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  courant group show billing")]
pub(crate) struct GroupShow {
    pub(crate) name: String,
}

/// Show where a group would go on, and with --execute commit it
///
/// Only a group without members can be reset: its consumers have to be stopped first.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  courant group reset billing --topic orders --to start\n  \
                  courant group reset billing --topic orders --to @-1h --execute\n  \
                  courant group reset billing --topic orders --partition 3 --to +1 --execute")]
pub(crate) struct GroupReset {
    pub(crate) name: String,
    /// The topic
    #[arg(long)]
    pub(crate) topic: String,
    /// This partition only
    #[arg(long, value_parser = clap::value_parser!(i32).range(0..), value_name = "N")]
    pub(crate) partition: Option<i32>,
    /// start, end, an offset, +N or -N from where the group is, a time such as
    /// @2026-01-31T08:00:00Z or @-1h, or group:OTHER
    #[arg(long, allow_hyphen_values = true, value_name = "PLACE")]
    pub(crate) to: ResetTo,
    /// Do it, instead of only saying what would be done
    #[arg(long)]
    pub(crate) execute: bool,
}

/// Delete a group and all that it has committed; only a group without members can be deleted
#[derive(Debug, Args)]
pub(crate) struct GroupDelete {
    pub(crate) name: String,
    /// Do not ask
    #[arg(short, long)]
    pub(crate) yes: bool,
    /// Say what would be deleted, and delete nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Create a topic
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  courant topic create orders --partitions 8 --config retention.ms=-1")]
pub(crate) struct TopicCreate {
    pub(crate) name: String,
    /// Number of partitions [default: what the server is set to]
    #[arg(long, value_parser = clap::value_parser!(i32).range(1..), value_name = "N")]
    pub(crate) partitions: Option<i32>,
    /// Copies of each partition [default: what the server is set to]
    #[arg(long, value_parser = clap::value_parser!(i16).range(1..), value_name = "N")]
    pub(crate) replication_factor: Option<i16>,
    /// A setting of the topic, such as max.message.bytes=2000000; may be repeated
    #[arg(long = "config", value_parser = parse_pair, value_name = "KEY=VALUE")]
    pub(crate) configs: Vec<(String, String)>,
    /// Let the server check it, and create nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Delete a topic and all of its events; there is no way back
#[derive(Debug, Args)]
pub(crate) struct TopicDelete {
    pub(crate) name: String,
    /// Do not ask
    #[arg(short, long)]
    pub(crate) yes: bool,
    /// Say what would be deleted, and delete nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Publish events to a topic
///
/// VALUE is one event. Without it, stdin is one event, or with -l one event per line. Where stdin is empty,
/// nothing is published, which ends with 1 unless it is -l. Returns when the server has acknowledged everything.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  courant pub orders --key ORD-7 -H source=shop '{\"total\":9.99}'\n  \
                  courant pub audit -l < /var/log/dpkg.log")]
pub(crate) struct Publish {
    pub(crate) topic: String,
    /// The event; stdin when it is missing
    #[arg(conflicts_with_all = ["lines", "null_value"])]
    pub(crate) value: Option<String>,
    /// Key: events with the same key keep their order
    #[arg(short, long)]
    pub(crate) key: Option<String>,
    /// Header; may be repeated
    #[arg(short = 'H', long = "header", value_parser = parse_pair, value_name = "KEY=VALUE")]
    pub(crate) headers: Vec<(String, String)>,
    /// One event per line of stdin
    #[arg(short, long, conflicts_with = "null_value")]
    pub(crate) lines: bool,
    /// No value at all: a tombstone, which deletes the key in a compacted topic
    #[arg(long)]
    pub(crate) null_value: bool,
    /// Partition [default: by the hash of the key, or any]
    #[arg(long, value_parser = clap::value_parser!(i32).range(0..), value_name = "N")]
    pub(crate) partition: Option<i32>,
    /// How batches are compressed
    #[arg(long, value_enum, default_value_t = Compression::None, value_name = "CODEC")]
    pub(crate) compression: Compression,
    /// Read the input and look the topic up, but send nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// The codecs of the Kafka protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Compression {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

/// Read the events of a topic
///
/// Ends at the events that were there when it began, or waits for more with --follow.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  courant tail orders --from -10\n  \
                  courant tail orders --from @-15m --follow\n  \
                  courant tail orders --from start -n 5 -o jsonl\n  \
                  courant tail orders --group billing --follow")]
pub(crate) struct Tail {
    pub(crate) topic: String,
    /// start, end, an offset, -N for the last N of each partition, or a time such as
    /// @2026-01-31T08:00:00Z, @1769846400000 or @-10m [default: start, or end with --follow]
    #[arg(long, allow_negative_numbers = true, value_name = "PLACE")]
    pub(crate) from: Option<StartFrom>,
    /// Stop after this many events
    #[arg(short = 'n', long = "count", value_name = "N")]
    pub(crate) count: Option<u64>,
    /// Wait for new events at the end
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Read this partition only
    #[arg(long, value_parser = clap::value_parser!(i32).range(0..), value_name = "N")]
    pub(crate) partition: Option<i32>,
    /// Read as a member of this consumer group: go on where it has committed, share the partitions with
    /// its other members, and commit what was printed. --from is for partitions without a commit
    #[arg(short, long, conflicts_with = "partition", value_name = "NAME")]
    pub(crate) group: Option<String>,
}

/// Parses `key=value`; the value may hold further `=` or be empty.
fn parse_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("`{text}` is not of the form key=value")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use std::collections::BTreeSet;
    use std::ffi::OsStr;
    use std::fs;
    use std::path::Path;

    #[test]
    fn the_tables_are_consistent() {
        Cli::command().debug_assert();
    }

    /// Commands had one line of help each: a comment at a variant had taken the place of what its struct says in
    /// several paragraphs. One of each enum.
    #[test]
    fn help_has_every_paragraph_about_a_command() {
        let mut said = vec![
            ("serve", "because there is no login"),
            ("log inspect", "No server may use the directory meanwhile"),
            ("config check", "Ends with 0 when there is nothing"),
            ("topic alter", "More partitions move keys"),
            ("group reset", "Only a group without members can be reset"),
            ("pub", "Without it, stdin is one event"),
            ("find", "Ctrl-C ends the search"),
            ("trace", "ID is a correlation id, a trace id, or the id of any event"),
        ];
        if cfg!(feature = "sql") {
            said.extend([
                ("dlq redrive", "The request stands in the store under an id"),
                ("dlq discard", "Who has decided and why is kept with each letter"),
                ("dlq foreign redrive", "Every consumer of that topic gets them"),
            ]);
        }
        for (path, words) in said {
            let mut command = Cli::command();
            command.build();
            let command = path
                .split(' ')
                .fold(&mut command, |command, name| command.find_subcommand_mut(name).expect(path));
            let help = command.render_long_help().to_string();
            assert!(help.contains(words), "{path}: {help}");
        }
    }

    /// What is said of the command line to people: the first page, and the guide.
    fn pages() -> String {
        fn read(folder: &Path, text: &mut String) {
            for entry in fs::read_dir(folder).expect("a folder") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    read(&path, text);
                } else {
                    *text += &fs::read_to_string(path).expect("a page");
                }
            }
        }
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let mut text = fs::read_to_string(root.join("README.md")).expect("a page");
        read(&root.join("docs/guide"), &mut text);
        text
    }

    fn unnamed(command: &clap::Command, path: &str, pages: &str, found: &mut BTreeSet<String>) {
        let variables =
            command.get_arguments().filter_map(|argument| argument.get_env().and_then(OsStr::to_str));
        found.extend(variables.filter(|variable| !pages.contains(variable)).map(str::to_owned));
        let mut is_last = true;
        for below in command.get_subcommands().filter(|below| below.get_name() != "help") {
            is_last = false;
            unnamed(below, &format!("{path} {}", below.get_name()), pages, found);
        }
        if is_last && !pages.contains(path) {
            found.insert(path.to_owned());
        }
    }

    #[test]
    fn the_pages_name_every_command_and_every_variable() {
        let mut command = Cli::command();
        command.build();
        let mut found = BTreeSet::new();
        unnamed(&command, "courant", &pages(), &mut found);
        assert!(found.is_empty(), "neither README.md nor docs/guide names {found:?}");
    }

    fn parse(line: &str) -> Result<Command, clap::Error> {
        Cli::try_parse_from(line.split(' ')).map(|cli| cli.command)
    }

    #[test]
    fn tail_understands_places() {
        let place = |line: &str| match parse(line).expect(line) {
            Command::Tail(tail) => tail.from,
            other => panic!("{other:?}"),
        };
        assert_eq!(place("courant tail t --from -10"), Some(StartFrom::Last(10)));
        assert_eq!(place("courant tail t --from start -n 5 -o jsonl"), Some(StartFrom::Start));
        assert_eq!(
            place("courant tail t --from @-10m --follow"),
            Some(StartFrom::Ago(Duration::from_secs(600)))
        );
        assert_eq!(place("courant tail t"), None);
    }

    #[test]
    fn pub_takes_a_value_or_lines_but_not_both() {
        assert!(parse("courant pub t -l").is_ok());
        assert!(parse("courant pub t --key k -H a=b -H c=d=e value").is_ok());
        assert!(parse("courant pub t -l value").is_err());
        assert!(parse("courant pub t --null-value value").is_err());
        assert!(parse("courant pub t -H novalue v").is_err());
    }

    #[test]
    fn server_takes_a_list_anywhere_on_the_line() {
        let cli = Cli::try_parse_from([
            "courant",
            "topic",
            "list",
            "--server",
            "courant://a:1,kafka://b:2,[::1]:3",
        ])
        .expect("a list of servers");
        let servers: Vec<String> = cli.global.server.iter().map(Address::to_string).collect();
        assert_eq!(servers, ["a:1", "b:2", "[::1]:3"]);
    }
}
