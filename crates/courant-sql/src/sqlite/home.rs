//! Whether the file of a database still is the one that was opened.
//!
//! A connection keeps the file that it has opened, also when that was deleted, or another one was put in its place, as
//! by who restores a backup beside the running service. What is committed then is in no file that anybody finds again,
//! and SQLite says nothing. The next connection would make a new database under the name, or write the log of one into
//! the other. So both is refused until the file is there again, or the program is started anew.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::OPEN;
use crate::error::{Class, StoreError};

/// The file of a database.
#[derive(Debug)]
pub(super) struct Home {
    path: PathBuf,
    /// Its device and its number there, which it has whatever its name.
    file: (u64, u64),
}

impl Home {
    /// Of the file that was opened by this name. `None` where there is none, as of a database that SQLite keeps for
    /// itself.
    pub(super) fn of(name: &Path) -> Option<Self> {
        // The directory of the process may be another one later, and a link may lead elsewhere: SQLite has the file.
        let path = fs::canonicalize(name).ok()?;
        let file = identity(&fs::metadata(&path).ok()?);
        Some(Self { path, file })
    }

    /// Its name without links, and whatever the directory of the process. `None` of one that SQLite does not take.
    pub(super) fn name(&self) -> Option<&str> {
        self.path.to_str()
    }

    /// Refuses to go on with another file than the one that was opened, or without one. What cannot be looked at is not
    /// another one.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        let is_there = match fs::metadata(&self.path) {
            Ok(found) => identity(&found) == self.file,
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        };
        if is_there {
            return Ok(());
        }
        let what = format!("{} was deleted or replaced while it was open", self.path.display());
        let error = io::Error::new(io::ErrorKind::NotFound, what);
        Err(StoreError::new(OPEN, Class::CannotOpen, sqlx::Error::Io(error)))
    }
}

fn identity(file: &Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}
