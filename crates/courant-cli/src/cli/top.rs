//! The command that watches a server.

use super::Http;
use crate::time::parse_duration;
use clap::Args;
use std::time::Duration;

/// Watch a server: consumer groups with their lag, the latest first, and topics with what comes into them
///
/// It shows what the server's /metrics say, again and again, until Ctrl-C. What is unknown is called so; it
/// is never 0. With --once it looks once and ends: what happens in a second is not known then.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  courant top\n  courant top --interval 10s --http-url http://events:8080\n  \
                  courant top --once -o json"
)]
pub(crate) struct Top {
    #[command(flatten)]
    pub(crate) http: Http,
    /// From one look to the next
    #[arg(long, default_value = "2s", value_parser = parse_duration, value_name = "TIME")]
    pub(crate) interval: Duration,
    /// Look once, and end: for scripts
    #[arg(long)]
    pub(crate) once: bool,
}
