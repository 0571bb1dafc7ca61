//! `DIR/courant-torture`: what a run makes there, and what of it may be removed.
//!
//! A file says what the directory is for. Nothing is removed but from a directory that says so, that
//! nobody holds, and in which there is nothing else.

use crate::exit::{Exit, Failure};
use courant_log::storage::{DiskStorage, File, OpenMode, Storage};
use std::any::Any;
use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What the directory is called.
pub(super) const NAME: &str = "courant-torture";

/// The file that says what the directory is for.
const STATE_FILE: &str = "STATE";
const NEW_STATE_FILE: &str = "STATE.new";
/// Bytes of it that are read.
const STATE_BYTES_MAX: usize = 64;
/// What the storage holds it by.
const LOCK_FILE: &str = "LOCK";
/// What is written to time the disk.
const PROBE_FILE: &str = "probe";
/// How the data directories of a run begin.
const LAP: &str = "lap-";
/// A data directory has fewer levels than this.
const DEPTH_MAX: usize = 8;

/// How far the run in a directory has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It kills, or was itself interrupted.
    Kills,
    /// It appends until the plug is pulled, or that has happened and nobody has compared yet.
    UntilPowerCut,
    /// It has come to its end.
    Finished,
}

impl State {
    const ALL: [Self; 3] = [Self::Kills, Self::UntilPowerCut, Self::Finished];

    fn line(self) -> &'static str {
        match self {
            Self::Kills => "courant torture: kills\n",
            Self::UntilPowerCut => "courant torture: until a power cut\n",
            Self::Finished => "courant torture: finished\n",
        }
    }
}

/// The directory, held by this process.
#[derive(Debug)]
pub(super) struct Directory {
    parent: PathBuf,
    path: PathBuf,
    storage: DiskStorage,
    state: State,
    _held: Box<dyn Any + Send + Sync>,
}

impl Directory {
    /// Makes it. With `again`, removes before what an earlier run has left.
    ///
    /// # Errors
    /// That there is no `parent`, that the directory is there and may not be removed, or what the system
    /// says.
    pub(super) fn make(parent: &Path, again: bool, state: State) -> Result<Self, Failure> {
        if !parent.is_dir() {
            let sentence = format!("{}: there is no such directory", parent.display());
            return Err(Failure::new(Exit::NotFound, sentence));
        }
        let path = parent.join(NAME);
        let is_there = path.try_exists().map_err(|error| failed(&path, &error))?;
        if is_there && !again {
            let sentence = "it exists already; name another directory with --dir, or say --again to remove \
                            what an earlier run has left there";
            return Err(conflict(&path, &sentence));
        }
        if is_there {
            let earlier = Self::take(parent, path.clone())?;
            if earlier.state == State::UntilPowerCut {
                let sentence = "it holds what was written until a power cut, and nobody has compared it; \
                                do that with --after-power-cut, or remove it yourself";
                return Err(conflict(&path, &sentence));
            }
            earlier.clear()?;
        }
        let storage = DiskStorage::open(&path).map_err(|error| failed(&path, &error))?;
        let held = hold(&storage, &path)?;
        let mut made = Self { parent: parent.to_owned(), path, storage, state, _held: held };
        made.set(state)?;
        Ok(made)
    }

    /// Finds the one that a run until a power cut has left.
    ///
    /// # Errors
    /// That there is none, that it is of another run or in use, or what the system says.
    pub(super) fn find(parent: &Path) -> Result<Self, Failure> {
        let path = parent.join(NAME);
        if !path.is_dir() {
            let sentence = format!(
                "{}: there is no such directory; mount the disk that was written to, and name the same \
                 --dir as then",
                path.display()
            );
            return Err(Failure::new(Exit::NotFound, sentence));
        }
        let found = Self::take(parent, path.clone())?;
        if found.state == State::Kills {
            return Err(conflict(&path, &"it is of a run that kills, and not of one until a power cut"));
        }
        Ok(found)
    }

    /// Holds a directory that is there, if it is ours.
    fn take(parent: &Path, path: PathBuf) -> Result<Self, Failure> {
        let storage = DiskStorage::open(&path).map_err(|error| failed(&path, &error))?;
        let state = state(&storage).map_err(|error| failed(&path, &error))?;
        let Some(state) = state else {
            return Err(conflict(&path, &"no run of `courant torture` has made it; nothing was changed"));
        };
        let held = hold(&storage, &path)?;
        Ok(Self { parent: parent.to_owned(), path, storage, state, _held: held })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The data directory of a lap.
    pub(super) fn lap(&self, lap: u64) -> PathBuf {
        self.path.join(lap_name(lap))
    }

    /// Removes the data directory of a lap.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn remove_lap(&self, lap: u64) -> Result<(), Failure> {
        remove_tree(&self.storage, &lap_name(lap), DEPTH_MAX).map_err(|error| failed(&self.path, &error))
    }

    /// A new file for timing the disk.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn probe_file(&self) -> io::Result<Arc<dyn File>> {
        self.remove_probe_file()?;
        let file = self.storage.open(PROBE_FILE, OpenMode::CreateNew)?;
        self.storage.sync_dir("")?;
        Ok(file)
    }

    /// Removes it; not an error when it is not there.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn remove_probe_file(&self) -> io::Result<()> {
        not_there_is_fine(self.storage.remove_file(PROBE_FILE))
    }

    /// Says durably how far the run has come.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn set(&mut self, state: State) -> Result<(), Failure> {
        self.write(state).map_err(|error| failed(&self.path, &error))?;
        self.state = state;
        Ok(())
    }

    fn write(&self, state: State) -> io::Result<()> {
        not_there_is_fine(self.storage.remove_file(NEW_STATE_FILE))?;
        let file = self.storage.open(NEW_STATE_FILE, OpenMode::CreateNew)?;
        file.write_at(&[state.line().as_bytes()], 0)?;
        file.sync_data()?;
        self.storage.rename(NEW_STATE_FILE, STATE_FILE)?;
        self.storage.sync_dir("")
    }

    /// Removes the directory with all that is in it.
    ///
    /// # Errors
    /// That something is in it that no run has made, or what the system says.
    pub(super) fn remove(self) -> Result<(), Failure> {
        self.clear()?;
        let remove = || {
            self.storage.remove_file(STATE_FILE)?;
            self.storage.remove_file(LOCK_FILE)?;
            DiskStorage::open(&self.parent)?.remove_dir(NAME)
        };
        remove().map_err(|error| failed(&self.path, &error))
    }

    /// Removes everything but what says what the directory is for.
    fn clear(&self) -> Result<(), Failure> {
        let names = self.storage.list("").map_err(|error| failed(&self.path, &error))?;
        let is_ours = |name: &str| {
            name.starts_with(LAP) || [STATE_FILE, NEW_STATE_FILE, PROBE_FILE, LOCK_FILE].contains(&name)
        };
        if let Some(foreign) = names.iter().find(|name| !is_ours(name)) {
            let sentence = format!("{foreign} is no part of a run; nothing was removed");
            return Err(conflict(&self.path, &sentence));
        }
        for name in names.iter().filter(|name| ![STATE_FILE, LOCK_FILE].contains(&name.as_str())) {
            let path = self.path.join(name);
            // The worker of a run that was interrupted may not have noticed yet.
            let _held = if path.is_dir() { Some(hold_lap(&path)?) } else { None };
            remove_tree(&self.storage, name, DEPTH_MAX).map_err(|error| failed(&self.path, &error))?;
        }
        Ok(())
    }
}

fn lap_name(lap: u64) -> String {
    format!("{LAP}{lap}")
}

fn hold(storage: &DiskStorage, path: &Path) -> Result<Box<dyn Any + Send + Sync>, Failure> {
    storage.lock().map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => conflict(path, &"a run is using it; wait for its end, or stop it"),
        _ => failed(path, &error),
    })
}

/// Takes a data directory, so that no process works in it while it is removed.
fn hold_lap(path: &Path) -> Result<Box<dyn Any + Send + Sync>, Failure> {
    let storage = DiskStorage::open(path).map_err(|error| failed(path, &error))?;
    hold(&storage, path)
}

/// What the directory says that it is for; `None` when it says nothing that we would write.
fn state(storage: &dyn Storage) -> io::Result<Option<State>> {
    let file = match storage.open(STATE_FILE, OpenMode::Existing) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = [0; STATE_BYTES_MAX];
    let count = file.read_at(&mut bytes, 0)?;
    let line = bytes.get(..count).unwrap_or_default();
    Ok(State::ALL.into_iter().find(|state| state.line().as_bytes() == line))
}

/// Removes a file, or a directory with all that is in it.
fn remove_tree(storage: &dyn Storage, path: &str, depth_max: usize) -> io::Result<()> {
    let names = match storage.list(path) {
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => return storage.remove_file(path),
        names => names?,
    };
    let Some(depth_max) = depth_max.checked_sub(1) else {
        return Err(io::Error::other(format!("{path} is deeper than anything that a run has made")));
    };
    for name in names {
        remove_tree(storage, &format!("{path}/{name}"), depth_max)?;
    }
    storage.remove_dir(path)
}

fn not_there_is_fine(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn failed(path: &Path, error: &dyn Display) -> Failure {
    Failure::new(Exit::Failed, format!("{}: {error}", path.display()))
}

fn conflict(path: &Path, why: &dyn Display) -> Failure {
    Failure::new(Exit::Conflict, format!("{}: {why}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn exit_of(made: Result<Directory, Failure>) -> Exit {
        made.expect_err("refused").exit
    }

    #[test]
    fn a_run_is_replaced_only_when_that_is_asked_for() {
        let dir = tempfile::tempdir().expect("a directory");
        let made = Directory::make(dir.path(), false, State::Kills).expect("made");
        fs::create_dir_all(made.lap(1).join("a/b")).expect("a lap");
        assert_eq!(exit_of(Directory::make(dir.path(), true, State::Kills)), Exit::Conflict, "held");
        drop(made);
        assert_eq!(exit_of(Directory::make(dir.path(), false, State::Kills)), Exit::Conflict);
        let again = Directory::make(dir.path(), true, State::UntilPowerCut).expect("made again");
        assert!(!again.lap(1).exists());
        drop(again);
        assert_eq!(exit_of(Directory::make(dir.path(), true, State::Kills)), Exit::Conflict, "not compared");
        let mut found = Directory::find(dir.path()).expect("found");
        found.set(State::Finished).expect("set");
        drop(found);
        Directory::make(dir.path(), true, State::Kills).expect("compared").remove().expect("removed");
        assert!(!dir.path().join(NAME).exists());
    }

    #[test]
    fn what_is_not_ours_is_not_removed() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join(NAME);
        fs::create_dir(&path).expect("somebody's directory");
        fs::write(path.join("letter"), "dear").expect("somebody's file");
        assert_eq!(exit_of(Directory::make(dir.path(), true, State::Kills)), Exit::Conflict);
        fs::write(path.join(STATE_FILE), State::Finished.line()).expect("a state");
        assert_eq!(exit_of(Directory::make(dir.path(), true, State::Kills)), Exit::Conflict);
        assert!(path.join("letter").exists());
        let nowhere = dir.path().join("nowhere");
        assert_eq!(exit_of(Directory::make(&nowhere, false, State::Kills)), Exit::NotFound);
    }
}
