//! The commands that ask the HTTP API: what belongs together, and where something is.

use crate::time::StartFrom;
use clap::builder::NonEmptyStringValueParser;
use clap::{ArgGroup, Args, ValueEnum};
use courant_server::ApiUrl;
use std::path::PathBuf;

/// Where the HTTP API is, and who asks.
#[derive(Debug, Args)]
pub(crate) struct Http {
    /// HTTP API of the server, as http://HOST:PORT, or https:// with --tls-ca
    #[arg(long, env = "COURANT_HTTP_URL", default_value = "http://127.0.0.1:8080", value_name = "URL")]
    pub(crate) http_url: ApiUrl,
    /// File with a token for it, where the server wants one: TOKEN, or NAME TOKEN
    #[arg(long, env = "COURANT_HTTP_TOKEN_FILE", value_name = "FILE")]
    pub(crate) http_token_file: Option<PathBuf>,
}

/// Show what belongs together and what caused what
///
/// ID is a correlation id, a trace id, or the id of any event. Without --view and away from a terminal: one
/// node on each line, as JSON. Causes stand before their effects.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  courant trace 01890a5d-ac96-774b-bcce-b302099a8057\n  \
                  courant trace --last-failed\n  \
                  courant trace order-7-placed --view sequence\n  \
                  courant trace order-7-placed --view sequence --mermaid > order-7.mmd")]
pub(crate) struct Trace {
    #[arg(required_unless_present = "last_failed", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) id: Option<String>,
    /// Show the trace with a dead letter that has changed last, of those that can be asked for
    #[arg(long, conflicts_with = "id")]
    pub(crate) last_failed: bool,
    /// How it is drawn [default: tree]
    #[arg(long, value_enum, value_name = "VIEW")]
    pub(crate) view: Option<View>,
    /// Write it in the language of Mermaid, to be drawn elsewhere
    #[arg(long)]
    pub(crate) mermaid: bool,
    /// Show at most so many events
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=10_000), value_name = "N")]
    pub(crate) limit: u32,
    #[command(flatten)]
    pub(crate) http: Http,
}

/// How a trace is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum View {
    /// Effects below their causes
    Tree,
    /// Who tells whom, in the order of time
    Sequence,
    /// A line for each event
    Table,
}

/// Find events in the topics of a server
///
/// The server looks through them, tells how far it is, and shows what it has found so far; Ctrl-C ends the
/// search. An event is found if all that is said of it is true. Ends with 7 where a part was not looked through.
#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("condition").required(true).multiple(true),
    after_help = "Examples:\n  courant find orders --key ORD-7\n  \
                  courant find orders payments --correlation 01890a5d-ac96-774b-bcce-b302099a8057\n  \
                  courant find orders --json /customer/country=\"XX\" --from @-1h\n  \
                  courant find orders --contains refund --type order.changed --limit 10"
)]
pub(crate) struct Find {
    /// Topics to look through
    #[arg(required = true, value_name = "TOPIC")]
    pub(crate) topics: Vec<String>,
    /// A text somewhere in the value
    #[arg(long, group = "condition", value_parser = NonEmptyStringValueParser::new(), value_name = "TEXT")]
    pub(crate) contains: Option<String>,
    /// The key, whole
    #[arg(short, long, group = "condition", value_name = "KEY")]
    pub(crate) key: Option<String>,
    /// The type of the event
    #[arg(long = "type", group = "condition", value_name = "TYPE")]
    pub(crate) event_type: Option<String>,
    /// A header with its value
    #[arg(
        short = 'H',
        long,
        group = "condition",
        conflicts_with_all = ["id", "correlation"],
        value_parser = super::parse_pair,
        value_name = "KEY=VALUE"
    )]
    pub(crate) header: Option<(String, String)>,
    /// The id of the event
    #[arg(long, group = "condition", conflicts_with = "correlation", value_name = "ID")]
    pub(crate) id: Option<String>,
    /// Its correlation id
    #[arg(long, group = "condition", value_name = "ID")]
    pub(crate) correlation: Option<String>,
    /// A place in a value that is JSON and what stands there, as /customer/id=17 or /country="XX"; what is no
    /// JSON is a text
    #[arg(long, group = "condition", value_parser = super::parse_pair, value_name = "POINTER=VALUE")]
    pub(crate) json: Option<(String, String)>,
    /// start, an offset, -N for the last N of each partition, or a time such as @2026-01-31T08:00:00Z or @-10m
    /// [default: start]
    #[arg(long, allow_negative_numbers = true, value_name = "PLACE")]
    pub(crate) from: Option<StartFrom>,
    /// Where it ends, in the same words [default: end]
    #[arg(long, allow_negative_numbers = true, value_name = "PLACE")]
    pub(crate) to: Option<StartFrom>,
    /// These partitions only; several with commas
    #[arg(long, value_delimiter = ',', value_name = "N")]
    pub(crate) partition: Vec<u32>,
    /// Stop after so many
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000), value_name = "N")]
    pub(crate) limit: u32,
    #[command(flatten)]
    pub(crate) http: Http,
}

#[cfg(test)]
mod tests {
    use crate::cli::{Cli, Command};
    use clap::Parser as _;

    fn refused(line: &[&str]) -> String {
        let line = [&["courant"][..], line].concat();
        Cli::try_parse_from(line).expect_err("a bad line").to_string()
    }

    #[test]
    fn a_search_says_what_it_looks_for() {
        assert!(refused(&["find", "orders"]).contains("--contains"));
        assert!(refused(&["find", "--key", "a"]).contains("TOPIC"));
        assert!(refused(&["find", "orders", "--id", "1", "--correlation", "2"]).contains("--correlation"));
        let line = ["courant", "find", "orders", "payments", "--key", "a", "--json", "/n=1", "--from", "-10"];
        let Ok(Command::Find(find)) = Cli::try_parse_from(line).map(|cli| cli.command) else {
            panic!("not find");
        };
        assert_eq!(
            (find.topics.len(), find.http.http_url.to_string().as_str()),
            (2, "http://127.0.0.1:8080")
        );
    }

    #[test]
    fn what_is_empty_is_asked_of_nobody() {
        assert!(refused(&["trace", ""]).contains("a value is required for '[ID]'"));
        assert!(
            refused(&["find", "orders", "--contains", ""]).contains("a value is required for '--contains")
        );
    }

    #[test]
    fn a_wrong_address_is_told_what_is_right() {
        assert!(refused(&["trace", "1", "--http-url", "localhost:8080"]).contains("http://HOST:PORT"));
        assert!(refused(&["trace", "1", "--http-url", "ftp://localhost"]).contains("https://HOST:PORT"));
    }
}
