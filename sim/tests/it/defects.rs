//! Defects that stand between the log and its storage: the simulation must see each of them.

use std::any::Any;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use courant_log::storage::{CrashMode, FaultyStorage, File, OpenMode, Storage, Wants};
use courant_sim::CAP_BYTES;
use courant_sim::crash::{Outcome, Plan, explore_on};
use courant_sim::workload::Workload;

/// What is done wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Defect {
    /// Groups of the journal are never synced.
    DataUnsynced,
    /// Names are never synced.
    NamesUnsynced,
    /// A sync is answered before it is made.
    AnsweredEarly,
}

/// A storage with a defect.
#[derive(Clone, Debug)]
struct Defective {
    storage: FaultyStorage,
    defect: Defect,
    /// Syncs that were answered and are still to be made.
    late: Arc<Mutex<Vec<Arc<dyn File>>>>,
}

#[derive(Debug)]
struct DefectiveFile {
    of: Defective,
    file: Arc<dyn File>,
    journal: bool,
    /// The next sync still works: a new use of a file is made durable, the groups in it are not.
    begins: AtomicBool,
}

impl Defective {
    /// Makes what was put off.
    fn catch_up(&self) -> io::Result<()> {
        let late = std::mem::take(&mut *self.late.lock().expect("lock"));
        late.iter().try_for_each(|file| file.sync_data())
    }
}

impl Storage for Defective {
    fn open(&self, path: &str, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        self.catch_up()?;
        let file = self.storage.open(path, mode)?;
        let begins = AtomicBool::new(mode == OpenMode::CreateNew);
        let journal = path.contains(".journal");
        Ok(Arc::new(DefectiveFile { of: self.clone(), file, journal, begins }))
    }
    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.storage.list(dir)
    }
    fn create_dir(&self, dir: &str) -> io::Result<()> {
        self.storage.create_dir(dir)
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.storage.rename(from, to)
    }
    fn remove_file(&self, path: &str) -> io::Result<()> {
        self.storage.remove_file(path)
    }
    fn remove_dir(&self, dir: &str) -> io::Result<()> {
        self.storage.remove_dir(dir)
    }
    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        if self.defect == Defect::NamesUnsynced { Ok(()) } else { self.storage.sync_dir(dir) }
    }
    fn sync_all(&self) -> io::Result<()> {
        if self.defect == Defect::NamesUnsynced { Ok(()) } else { self.storage.sync_all() }
    }
    fn free_bytes(&self) -> io::Result<u64> {
        self.storage.free_bytes()
    }
    fn lock(&self) -> io::Result<Box<dyn Any + Send + Sync>> {
        self.storage.lock()
    }
    fn wants(&self) -> Wants {
        self.storage.wants()
    }
}

impl File for DefectiveFile {
    fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
        self.file.read_at(buf, position)
    }
    fn write_at(&self, bufs: &[&[u8]], position: u64) -> io::Result<()> {
        self.of.catch_up()?;
        self.begins.fetch_or(position == 0, Ordering::Relaxed);
        self.file.write_at(bufs, position)
    }
    fn sync_data(&self) -> io::Result<()> {
        match self.of.defect {
            Defect::DataUnsynced if self.journal && !self.begins.swap(false, Ordering::Relaxed) => Ok(()),
            Defect::AnsweredEarly if self.journal => {
                self.of.late.lock().expect("lock").push(self.file.clone());
                Ok(())
            }
            _ => self.file.sync_data(),
        }
    }
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.of.catch_up()?;
        self.file.set_len(len)
    }
    fn drop_cache(&self) -> io::Result<()> {
        self.file.drop_cache()
    }
}

/// Each defect must be seen within so many crash points.
const POINTS_MAX: u64 = 50_000;

fn explored(defect: Defect) -> Outcome {
    let storage = FaultyStorage::new(1, CAP_BYTES);
    let defective = Defective { storage: storage.clone(), defect, late: Arc::default() };
    let plan = Plan { workload: Workload::MIXED, operations: 120, seed: 1, modes: &[CrashMode::LoseAll] };
    let outcome = explore_on(Arc::new(defective), &storage, &plan);
    println!("{defect:?}: {} failures in {} crash points", outcome.failures.len(), outcome.points);
    assert!(outcome.points <= POINTS_MAX, "{}", outcome.points);
    outcome
}

#[test]
fn a_journal_that_is_not_synced_is_seen() {
    let outcome = explored(Defect::DataUnsynced);
    assert!(
        outcome.failures.iter().any(|failure| failure.contains("lost")),
        "{:?}",
        outcome.failures.first()
    );
    assert!(outcome.failures.len() > 100, "{}", outcome.failures.len());
}

#[test]
fn names_that_are_not_synced_are_seen() {
    assert!(!explored(Defect::NamesUnsynced).failures.is_empty());
}

#[test]
fn an_answer_before_the_sync_is_seen() {
    let outcome = explored(Defect::AnsweredEarly);
    assert!(
        outcome.failures.iter().any(|failure| failure.contains("lost")),
        "{:?}",
        outcome.failures.first()
    );
}
