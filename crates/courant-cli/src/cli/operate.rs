//! The commands of whoever runs a server: `serve`, `config`, `doctor` and `log`.

use crate::settings::{DataArgs, ServerArgs};
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// Run the server: an event log on disk, reached by the Kafka protocol
///
/// Listens on the loopback addresses only, because there is no login. `--insecure` allows others.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  courant serve --data ./courant-data --kafka 127.0.0.1:9092")]
pub(crate) struct Serve {
    #[command(flatten)]
    pub(crate) settings: ServerArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Config {
    Show(ConfigShow),
    Check(ConfigCheck),
    /// Write a courant.toml with every setting in it, as comments
    Docs,
}

/// Show the settings that hold here, for a server and for the tools
///
/// A flag wins over its variable in the environment, which wins over courant.toml in the working
/// directory (or the file that --config names), which wins over the default.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  courant config show --origin")]
pub(crate) struct ConfigShow {
    /// Say where each of them comes from
    #[arg(long)]
    pub(crate) origin: bool,
    #[command(flatten)]
    pub(crate) settings: ServerArgs,
}

/// Check the settings file, and what the command line and the environment set
///
/// Every mistake in the file is a line on stderr with its place and what is allowed there; where there is none, so is
/// everything else for which `courant serve` would refuse its settings, and the files of tokens, keys and certificates
/// that they name. Ends with 0 when there is nothing, else with 2. Of ports and disks, `courant doctor` tells.
#[derive(Debug, Args)]
pub(crate) struct ConfigCheck {
    #[command(flatten)]
    pub(crate) settings: ServerArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Log {
    Verify(LogVerify),
    Inspect(LogInspect),
    Repair(LogRepair),
}

/// Read a data directory through, and say what is not as it was stored
///
/// Compares every byte of the events with its checksum, which a start does not take the time for.
/// No server may use the directory meanwhile. Changes nothing, and works where nothing can be written. Ends
/// with 1 when something is damaged, and names files, bytes, topics and offsets. Events that were given up by `courant log repair`, or were
/// deleted, are named as such, and are no reason to end with 1.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  courant log verify --data /var/lib/courant")]
pub(crate) struct LogVerify {
    #[command(flatten)]
    pub(crate) data: DataArgs,
}

/// Show what stands in a data directory: its files, the batches of a segment, the groups of the journal
///
/// No server may use the directory meanwhile. Changes nothing, works where nothing can be written, and shows
/// no keys and values of events.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  courant log inspect --data /var/lib/courant\n  \
                  courant log inspect --data /var/lib/courant --journal journal/00000001.journal")]
pub(crate) struct LogInspect {
    /// Show the batches of this segment
    #[arg(long, conflicts_with = "journal", value_name = "PATH")]
    pub(crate) segment: Option<PathBuf>,
    /// Show the groups of this journal file and their entries
    #[arg(long, value_name = "PATH")]
    pub(crate) journal: Option<PathBuf>,
    /// Show at most so many rows
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..), value_name = "N")]
    pub(crate) limit: u32,
    #[command(flatten)]
    pub(crate) data: DataArgs,
}

/// Say which damaged events are lost, and with --accept-gap give them up
///
/// A consumer that comes to damaged events gets an error and waits; all others go on. The events can
/// come back from a copy of the file, put in its place while no server runs. Where there is none,
/// --accept-gap lets consumers go on behind them, for good. Nothing that can be read is given up, and no
/// file is deleted. Ends with 1 while something is damaged.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  courant log repair --data /var/lib/courant --accept-gap")]
pub(crate) struct LogRepair {
    /// Give up the events that are damaged
    #[arg(long)]
    pub(crate) accept_gap: bool,
    #[command(flatten)]
    pub(crate) data: DataArgs,
}

/// Look for what is in the way of a server on this machine, and of the clients that look for it
///
/// Takes the settings of `serve`, works beside a running server as well as without one, and changes
/// nothing. Ends with 1 when something fails, and says what to change.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  courant doctor\n  courant doctor --data /var/lib/courant -o json\n  \
                  courant doctor --server events.example:9092")]
pub(crate) struct Doctor {
    #[command(flatten)]
    pub(crate) settings: ServerArgs,
}
