//! The commands `backup` and `restore`.

use crate::settings::DataArgs;
use crate::time::parse_duration;
use clap::Args;
use std::path::PathBuf;
use std::time::Duration;

/// Copy the log to another place, while its server runs or without it
///
/// Reads the data directory and asks the server nothing. Everything acknowledged before the backup
/// begins is in it. Only what the place does not have yet is copied. With --every: until Ctrl-C. Ends
/// with 1 when something in the log is damaged; what is not damaged is backed up all the same.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  courant backup --to /mnt/backup/events\n  \
                  courant backup --to /mnt/backup/events --every 30s --keep 100\n  \
                  courant backup --to /mnt/backup/events --list")]
pub(crate) struct Backup {
    /// Directory for the backups of this log, on another disk
    #[arg(long, value_name = "DIR")]
    pub(crate) to: PathBuf,
    /// Begin another one so long after the beginning of the last, for example 30s
    #[arg(long, value_parser = parse_duration, conflicts_with = "list", value_name = "TIME")]
    pub(crate) every: Option<Duration>,
    /// Remove older backups and what only they need [default: all stay]
    #[arg(
        long,
        value_parser = clap::value_parser!(u32).range(1..),
        conflicts_with = "list",
        value_name = "N"
    )]
    pub(crate) keep: Option<u32>,
    /// List the backups that are there, and take none
    #[arg(long)]
    pub(crate) list: bool,
    #[command(flatten)]
    pub(crate) data: DataArgs,
}

/// Make a data directory from a backup
///
/// Only into a directory that is empty or not there. Every byte is compared with its checksum, and the
/// log is read through afterwards. A server that is started on it goes on from the moment of the backup.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  courant restore --from /mnt/backup/events --data ./restored")]
pub(crate) struct Restore {
    /// Directory with the backups
    #[arg(long, value_name = "DIR")]
    pub(crate) from: PathBuf,
    /// Number of the backup, as `courant backup --list` says [default: the newest]
    #[arg(long, value_name = "NUMBER")]
    pub(crate) backup: Option<u64>,
    #[command(flatten)]
    pub(crate) data: DataArgs,
}
