//! Where backups go: objects with names, written whole and never changed.

use std::any::Any;
use std::fmt::Debug;
use std::io::{self, Read};

/// A place for objects. Names are relative paths of letters, digits, `-` and `.`, with `/` between
/// their parts.
///
/// What this asks for, an object store can give as well as a directory.
pub trait Target: Debug + Send + Sync {
    /// Keeps other backups out until the guard is dropped. Reading needs no guard.
    ///
    /// # Errors
    /// `WouldBlock` when another backup is under way.
    fn lock(&self) -> io::Result<Box<dyn Any + Send + Sync>>;

    /// Begins an object. It is there under its name, whole and durable, once [`Put::finish`] has
    /// returned, in the place of one that had the name before; until then nothing is.
    ///
    /// # Errors
    /// What the place says.
    fn put(&self, name: &str) -> io::Result<Box<dyn Put + '_>>;

    /// Reads an object from its beginning.
    ///
    /// # Errors
    /// `NotFound`, or what the place says.
    fn get(&self, name: &str) -> io::Result<Box<dyn Read + '_>>;

    /// The finished objects whose names begin with `prefix`, in the order of their names.
    ///
    /// # Errors
    /// What the place says.
    fn list(&self, prefix: &str) -> io::Result<Vec<Listed>>;

    /// Removes an object. It stays away once this has returned.
    ///
    /// # Errors
    /// `NotFound`, or what the place says.
    fn remove(&self, name: &str) -> io::Result<()>;
}

/// An object on its way. Dropped before it is finished, it leaves nothing.
pub trait Put {
    /// Adds bytes at the end.
    ///
    /// # Errors
    /// What the place says; the object cannot be finished then.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Makes the object durable and gives it its name.
    ///
    /// # Errors
    /// What the place says. Whether the object is there is not known then.
    fn finish(self: Box<Self>) -> io::Result<()>;
}

/// An object that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// Its length in bytes.
    pub bytes: u64,
}

/// An operation on the target failed; says which, on which object, and why.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} {name} of the backups: {source}")]
pub struct TargetError {
    what: &'static str,
    name: String,
    source: io::Error,
}

impl TargetError {
    pub(super) fn new(what: &'static str, name: &str, source: io::Error) -> Self {
        Self { what, name: name.to_owned(), source }
    }

    /// The kind of the underlying error.
    #[must_use]
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }
}
