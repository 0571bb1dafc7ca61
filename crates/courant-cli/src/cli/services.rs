//! The command about services.

use clap::Args;
use courant_kafka::client::Address;

/// List services with what they say of themselves: one line for each instance
///
/// Lag is what their consumers have not done with yet: events of all partitions together, and the age of the
/// oldest. With -o json: everything, with consumers, partitions and failures.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  courant services\n  \
                  courant services --engine courant://127.0.0.1:9092 -o json")]
pub(crate) struct Services {
    /// Engine that they run on, such as courant://host:port [default: what --server says]
    #[arg(long, value_delimiter = ',', value_name = "URL")]
    pub(crate) engine: Vec<Address>,
}
