//! Opening the place where backups are: a directory, or a bucket of an object store.

use crate::cli::Place;
use crate::exit::{Exit, Failure};
use courant_log::backup::{DirectoryTarget, NotATarget, Target};
use courant_log::storage::{DiskStorage, probe};
use std::fmt::Display;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// To somebody who looks for backups, and not for a place for them.
const DATA_AND_NO_BACKUPS: &str =
    "this is a data directory, and no backups are in it; name the place that `courant backup --to` has named";

/// What opening a bucket needs besides its address.
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(not(feature = "s3"), allow(dead_code, reason = "a directory needs nothing more"))]
pub(super) struct How {
    /// The lease of its lock.
    pub(super) lease: Option<Duration>,
    /// Whether nothing is said but errors.
    pub(super) is_quiet: bool,
}

/// A place that is open.
#[derive(Clone, Debug)]
pub(super) enum Opened {
    Directory(Arc<DirectoryTarget>),
    #[cfg(feature = "s3")]
    S3(Arc<courant_backup_s3::S3Target>),
}

#[cfg_attr(not(feature = "s3"), allow(unused_variables, reason = "a directory needs nothing more"))]
impl Opened {
    /// A place for new backups; a directory is made where there is none.
    pub(super) fn for_writing(place: &Place, how: How) -> Result<Self, Failure> {
        match place {
            Place::Directory(dir) => {
                let storage = DiskStorage::open(dir).map_err(|error| match error.kind() {
                    io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => {
                        let what = format!("{error}; a file is in its place: name another directory");
                        failed(dir, Exit::Failed, &what)
                    }
                    _ => failed(dir, Exit::Failed, &error),
                })?;
                directory(dir, storage, &NotATarget::DataDirectory)
            }
            #[cfg(feature = "s3")]
            Place::S3(url) => s3::open(url, how),
        }
    }

    /// A place with backups, which is there.
    pub(super) fn for_reading(place: &Place, how: How) -> Result<Self, Failure> {
        match place {
            Place::Directory(dir) => match DiskStorage::read_only(dir) {
                Ok(storage) => directory(dir, storage, &DATA_AND_NO_BACKUPS),
                Err(error) if is_missing(&error) => {
                    let what = match probe::dangling_link(dir) {
                        Some(link) => link.to_string(),
                        None => "there is no such directory, and no backups in it".to_owned(),
                    };
                    Err(failed(dir, Exit::NotFound, &what))
                }
                Err(error) => Err(failed(dir, Exit::Failed, &error)),
            },
            #[cfg(feature = "s3")]
            Place::S3(url) => s3::open(url, how),
        }
    }

    pub(super) fn target(&self) -> &dyn Target {
        match self {
            Self::Directory(target) => &**target,
            #[cfg(feature = "s3")]
            Self::S3(target) => &**target,
        }
    }

    /// Lets nothing more be written, and others have their turn. The lock of a directory ends with its
    /// process; that of a bucket has to be given back.
    pub(super) fn close(&self) {
        match self {
            Self::Directory(_) => {}
            #[cfg(feature = "s3")]
            Self::S3(target) => target.close(),
        }
    }
}

/// Whether there is no directory of that name.
pub(super) fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// A directory with backups. `is_data` is what is said of the data directory of a log.
fn directory(dir: &Path, storage: DiskStorage, is_data: &dyn Display) -> Result<Opened, Failure> {
    let target = DirectoryTarget::new(Arc::new(storage)).map_err(|error| match error {
        NotATarget::DataDirectory => failed(dir, Exit::Conflict, is_data),
        _ => failed(dir, Exit::Failed, &error),
    })?;
    Ok(Opened::Directory(Arc::new(target)))
}

fn failed(dir: &Path, exit: Exit, error: &dyn Display) -> Failure {
    Failure::new(exit, format!("{}: {error}", dir.display()))
}

/// Buckets of object stores.
#[cfg(feature = "s3")]
mod s3 {
    use super::{How, Opened};
    use crate::exit::{Exit, Failure, note};
    use crate::files::read_text;
    use crate::text::one_line;
    use courant_backup_s3::{LEASE, S3Error, S3Options, S3Target, S3Url};
    use courant_log::SystemClock;
    use std::path::Path;
    use std::sync::Arc;

    /// Where Linux says what the machine is called.
    const HOST_NAME: &str = "/proc/sys/kernel/hostname";
    /// Bytes of the name; Linux has 64.
    const HOST_NAME_BYTES_MAX: u64 = 256;
    /// What names of variables begin with that are read.
    const VARIABLES: &str = "AWS_";
    /// Characters of one sentence about a lock.
    const SENTENCE_CHARS_MAX: usize = 1000;

    pub(super) fn open(url: &S3Url, how: How) -> Result<Opened, Failure> {
        let is_quiet = how.is_quiet;
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, _)| name.starts_with(VARIABLES));
        let options = S3Options {
            variables: variables.collect(),
            holder: holder(),
            lease: how.lease.unwrap_or(LEASE),
            clock: Arc::new(SystemClock),
            say: Arc::new(move |sentence| {
                if !is_quiet {
                    // Another process has written a part of it.
                    note(format_args!("{}", one_line(sentence, SENTENCE_CHARS_MAX)));
                }
            }),
        };
        match S3Target::open(url, &options) {
            Ok(target) => Ok(Opened::S3(Arc::new(target))),
            Err(error) => Err(Failure::new(exit(&error), error.to_string())),
        }
    }

    fn exit(error: &S3Error) -> Exit {
        match error {
            S3Error::NoBucket { .. } => Exit::NotFound,
            S3Error::NoCredentials { .. } | S3Error::Credentials { .. } | S3Error::Denied { .. } => {
                Exit::NotAllowed
            }
            S3Error::Unreachable { .. } => Exit::Unreachable,
            S3Error::Settings { .. } => Exit::Usage,
            _ => Exit::Failed,
        }
    }

    /// This process, for those who find its lock.
    fn holder() -> String {
        let host = read_text(Path::new(HOST_NAME), HOST_NAME_BYTES_MAX).unwrap_or_default();
        let host = match host.trim() {
            "" => "a machine without a name",
            name => name,
        };
        format!("{host}, process {}", std::process::id())
    }
}
