//! Where a demo has its data: a directory that goes with it, unless somebody wants to keep it.

use crate::exit::{Exit, Failure};
use crate::files;
use courant_core::entropy::Entropy as _;
use courant_log::storage::probe;
use courant_log::{OpenError, SystemEntropy};
use std::path::{Path, PathBuf};

/// The data of a demo. One that is temporary is deleted when this is dropped.
#[derive(Debug)]
pub(super) struct House {
    path: PathBuf,
    is_temporary: bool,
}

impl House {
    /// Makes the directories.
    pub(super) fn open(kept: Option<&Path>) -> Result<Self, Failure> {
        let house = match kept {
            Some(path) => Self { path: path.to_owned(), is_temporary: false },
            None => {
                let name = format!("courant-demo-{}", SystemEntropy.uuid());
                Self { path: std::env::temp_dir().join(name), is_temporary: true }
            }
        };
        // It keeps its log in a directory below: what is left of it in a server's own would stay there.
        if matches!(probe::log(&house.path), Ok(Some(_)) | Err(OpenError::Newer { .. })) {
            let what = "this is the data directory of a server; name another directory with --data";
            return Err(Failure::new(Exit::Conflict, format!("{}: {what}", house.path.display())));
        }
        let made = files::make_private_directory(&house.path)
            .and_then(|()| files::make_private_directory(&house.databases()));
        made.map_err(|error| house.failure(&error))?;
        Ok(house)
    }

    /// Where the server's log is.
    pub(super) fn log(&self) -> PathBuf {
        self.path.join("log")
    }

    /// Where the services have their databases.
    pub(super) fn databases(&self) -> PathBuf {
        self.path.join("services")
    }

    /// The database in which dead letters are.
    pub(super) fn shipping(&self) -> PathBuf {
        self.databases().join("shipping.db")
    }

    /// A key for requests about dead letters, another one each time.
    pub(super) fn new_key() -> String {
        format!("{}{}", SystemEntropy.uuid(), SystemEntropy.uuid())
    }

    /// Writes the key to the file in which people find it. It is for whoever has the log open: another demo that
    /// runs here has a key of its own.
    pub(super) fn keep_key(&self, key: &str) -> Result<(), Failure> {
        files::write_private_text(&self.path.join("shipping.key"), key).map_err(|error| self.failure(&error))
    }

    /// For people.
    pub(super) fn said(&self) -> String {
        let fate = if self.is_temporary { " (deleted at the end; --data DIR keeps it)" } else { "" };
        format!("{}{fate}", self.path.display())
    }

    fn failure(&self, error: &dyn std::fmt::Display) -> Failure {
        Failure::new(Exit::Failed, format!("{}: {error}", self.path.display()))
    }
}

impl Drop for House {
    fn drop(&mut self) {
        if self.is_temporary {
            // What cannot be deleted now is the system's to clean up.
            let _ = files::remove_directory(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_temporary_goes_and_what_is_named_stays() {
        let temporary = House::open(None).expect("opens");
        let path = temporary.path.clone();
        temporary.keep_key(&House::new_key()).expect("a key");
        assert!(path.join("shipping.key").is_file() && temporary.databases().is_dir());
        assert!(temporary.said().contains("deleted"));
        drop(temporary);
        assert!(!path.exists());

        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("kept");
        drop(House::open(Some(&path)).expect("opens"));
        let again = House::open(Some(&path)).expect("opens what is there");
        assert!(!again.said().contains("deleted"));
        drop(again);
        assert!(path.is_dir());
    }

    /// Symptom: `courant demo --data DIR` left a log, databases and a key in the data directory of a server, also while
    /// that ran. Cause: its own log is a directory below, which nobody had locked. Fix: it looks at what DIR is.
    #[test]
    fn the_data_directory_of_a_server_is_no_house() {
        let directory = tempfile::tempdir().expect("a directory");
        for version in [1, 4000] {
            let line = format!("courant-log {version} 631b55a3-759d-4879-8bf6-9d5ed8d4325d\n");
            std::fs::write(directory.path().join("FORMAT"), line).expect("a file");
            let refused = House::open(Some(directory.path())).expect_err("a server's");
            assert_eq!(refused.exit, Exit::Conflict);
            assert!(refused.sentence.contains("data directory of a server"), "{refused:?}");
            assert!(!directory.path().join("services").exists());
        }
    }

    #[test]
    fn keys_differ_and_nobody_else_reads_them() {
        use std::os::unix::fs::PermissionsExt as _;
        let house = House::open(None).expect("opens");
        let file = house.path.join("shipping.key");
        let read = || files::read_text(&file, 4096).expect("a key");
        let (first, second) = (House::new_key(), House::new_key());
        assert_ne!(first, second);
        house.keep_key(&first).expect("a key");
        assert_eq!(read(), first);
        let readable = std::fs::Permissions::from_mode(0o644);
        std::fs::set_permissions(&file, readable).expect("it is ours");
        house.keep_key(&second).expect("another one, in its place");
        assert_eq!(read(), second);
        let mode = |path: &Path| std::fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!((mode(&file), mode(&house.path)), (0o600, 0o700));
    }
}
