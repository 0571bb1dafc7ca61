//! The commands `backup` and `restore`.

use crate::settings::DataArgs;
use crate::time::parse_duration;
use clap::builder::{OsStringValueParser, TypedValueParser as _};
use clap::{Args, ValueHint};
#[cfg(feature = "s3")]
use courant_backup_s3::S3Url;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// The shortest time from the beginning of a backup to that of the next: a shorter one is no pause.
const EVERY_MIN: Duration = Duration::from_millis(10);

/// Copy the log to another place, while its server runs or without it
///
/// Reads the data directory and asks the server nothing. Everything acknowledged before the backup
/// begins is in it. Only what the place does not have yet is copied. With --every: until Ctrl-C or SIGTERM.
/// Ends with 1 when something in the log is damaged and was not given up; what is not damaged is backed up all
/// the same. An object store is reached as Amazon's own tools do it: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY,
/// AWS_REGION, and AWS_ENDPOINT_URL where it is not Amazon's.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  courant backup --to /mnt/backup/events\n  \
                  courant backup --to s3://backups/events --every 30s --keep 100\n  \
                  courant backup --to /mnt/backup/events --list")]
pub(crate) struct Backup {
    /// Place for the backups of this log: a directory on another disk, or s3://BUCKET/PREFIX
    #[arg(
        long,
        value_parser = OsStringValueParser::new().try_map(Place::parse),
        value_hint = ValueHint::DirPath,
        value_name = "PLACE"
    )]
    pub(crate) to: Place,
    /// Begin another one so long after the beginning of the last, for example 30s; 10ms at least
    #[arg(long, value_parser = parse_every, conflicts_with = "list", value_name = "TIME")]
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
    /// How long nobody else takes a lock in an object store that is not renewed
    #[arg(long, hide = true, value_parser = parse_duration, value_name = "TIME")]
    pub(crate) lease: Option<Duration>,
    #[command(flatten)]
    pub(crate) data: DataArgs,
}

/// Make a data directory from a backup
///
/// Only into a directory that is empty or not there. Every byte is compared with its checksum, and the
/// log is read through afterwards. A server that is started on it goes on from the moment of the backup.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  courant restore --from /mnt/backup/events --data ./restored\n  \
                  courant restore --from s3://backups/events --data ./restored")]
pub(crate) struct Restore {
    /// Place with the backups: a directory, or s3://BUCKET/PREFIX
    #[arg(
        long,
        value_parser = OsStringValueParser::new().try_map(Place::parse),
        value_hint = ValueHint::DirPath,
        value_name = "PLACE"
    )]
    pub(crate) from: Place,
    /// Number of the backup, as `courant backup --list` says [default: the newest]
    #[arg(long, value_name = "NUMBER")]
    pub(crate) backup: Option<u64>,
    #[command(flatten)]
    pub(crate) data: DataArgs,
}

fn parse_every(text: &str) -> Result<Duration, String> {
    let every = parse_duration(text)?;
    if every < EVERY_MIN {
        return Err(format!(
            "backups would follow each other without a pause; write {EVERY_MIN:?} at least, or take a single one \
             without --every"
        ));
    }
    Ok(every)
}

/// Where backups are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Directory(PathBuf),
    #[cfg(feature = "s3")]
    S3(S3Url),
}

impl Place {
    /// A path is a directory unless it begins with a scheme, as no path does by accident.
    fn parse(text: OsString) -> Result<Self, String> {
        match text.to_str().and_then(scheme) {
            None => Ok(Self::Directory(text.into())),
            Some(scheme) if scheme.eq_ignore_ascii_case("s3") => Self::parse_s3(&text.to_string_lossy()),
            Some(other) => Err(format!(
                "there are no backups in `{other}`; write a directory, or s3://BUCKET/PREFIX for an object \
                 store that speaks S3"
            )),
        }
    }

    #[cfg(feature = "s3")]
    fn parse_s3(text: &str) -> Result<Self, String> {
        S3Url::parse(text).map(Self::S3).map_err(|error| error.to_string())
    }

    #[cfg(not(feature = "s3"))]
    fn parse_s3(_: &str) -> Result<Self, String> {
        Err("this `courant` was built without S3; build it with the cargo feature `s3`, which is on by \
             default, or write a directory"
            .to_owned())
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(dir) => fmt::Display::fmt(&dir.display(), f),
            #[cfg(feature = "s3")]
            Self::S3(url) => fmt::Display::fmt(url, f),
        }
    }
}

/// The scheme of a URL (RFC 3986, section 3.1); none when it is no URL.
fn scheme(text: &str) -> Option<&str> {
    let (scheme, _) = text.split_once("://")?;
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    is_scheme.then_some(scheme)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser as _;

    fn place(text: &str) -> Result<Place, String> {
        Place::parse(text.into())
    }

    /// Symptom: `courant backup --every 0s` took one backup after the other without a pause, for as long as it ran.
    /// Cause: any time was taken. Fix: a time that is no pause is refused, and the shortest one is named.
    #[test]
    fn there_is_a_pause_between_backups() {
        let every = |time: &str| {
            let line = ["courant", "backup", "--to", "backups", "--every", time];
            match Cli::try_parse_from(line).map(|cli| cli.command) {
                Ok(Command::Backup(args)) => Ok(args.every),
                Ok(other) => panic!("{other:?}"),
                Err(error) => Err(error.to_string()),
            }
        };
        assert_eq!(every("10ms"), Ok(Some(EVERY_MIN)));
        for short in ["0s", "0", "9ms"] {
            let refused = every(short).expect_err(short);
            assert!(refused.contains("--every") && refused.contains("10ms at least"), "{refused}");
        }
    }

    #[test]
    fn whatever_has_no_scheme_is_a_directory() {
        for path in ["/mnt/backup", "backups", "./s3://a", "a:b", "s3:/a", "Größe://x", "://", "../x"] {
            assert_eq!(place(path), Ok(Place::Directory(path.into())));
            assert_eq!(place(path).map(|place| place.to_string()), Ok(path.to_owned()));
        }
    }

    #[test]
    fn other_stores_are_no_directories_by_mistake() {
        for text in ["gs://bucket/a", "https://s3.amazonaws.com/a", "file:///mnt/backup"] {
            let refused = place(text).expect_err(text);
            assert!(refused.contains("s3://BUCKET/PREFIX"), "{refused}");
        }
    }

    #[cfg(feature = "s3")]
    #[test]
    fn an_object_store_has_an_address() {
        for text in ["s3://backups/events/", "S3://backups/events"] {
            let found = place(text).map(|place| place.to_string());
            assert_eq!(found, Ok("s3://backups/events".to_owned()));
        }
        let refused = place("s3://host:9000/events").expect_err("a port");
        assert!(refused.contains("AWS_ENDPOINT_URL"), "{refused}");
    }

    #[cfg(not(feature = "s3"))]
    #[test]
    fn without_s3_its_places_are_refused() {
        let refused = place("s3://backups/events").expect_err("it is not built in");
        assert!(refused.contains("built without S3"), "{refused}");
    }
}
