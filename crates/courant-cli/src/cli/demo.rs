//! The command `demo`.

use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// Run a shop of five services on a server of its own, break it and repair it
///
/// Everything is in this process, on loopback addresses, with data that is deleted at the end. By itself it
/// breaks and heals one thing after the other; what there is to see is at /demo, and at /api/v1/demo.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  courant demo\n  courant demo --script off --speed 2\n  \
                  courant demo --kafka 127.0.0.1:0 --http 127.0.0.1:0")]
pub(crate) struct Demo {
    /// Keep the data, in this directory [default: a temporary one, which is deleted at the end]
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Where Kafka clients connect; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:9092", value_name = "ADDR")]
    pub(crate) kafka: String,
    /// Where the console and the HTTP API answer; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDR")]
    pub(crate) http: String,
    /// How much faster everything goes
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10), value_name = "N")]
    pub(crate) speed: u32,
    /// What the orders are made from: the same seed gives the same orders
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(crate) seed: u64,
    /// Whether it breaks and heals by itself
    #[arg(long, value_enum, default_value_t = Script::On, value_name = "WHETHER")]
    pub(crate) script: Script,
}

/// Whether a demo breaks and heals by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Script {
    On,
    Off,
}
