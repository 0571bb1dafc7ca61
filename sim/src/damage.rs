//! What was acknowledged goes bad: single bits, and whole files. A start may refuse to go on; it may not
//! lose anything in silence. Of the segments, all that is not damaged must be served, and the rest be
//! named.

use std::sync::{Arc, Mutex};

use courant_log::storage::{CrashMode, FaultyStorage, OpenMode, Storage};
use courant_log::{Log, OpenError};

use crate::ledger::Ledger;
use crate::random::Random;
use crate::reads::{compare, read};
use crate::script::Script;
use crate::tiny::tiny;
use crate::workload::Workload;
use crate::{CAP_BYTES, caught};

/// What came of it.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Bits that were flipped, or files that were broken, each in an image of its own.
    pub cases: u64,
    /// Starts that were refused, with a sentence that names the damage.
    pub refused: u64,
    /// Starts that had not needed it.
    pub unharmed: u64,
    /// Starts that refuse some events of a segment and serve all others, and name the file.
    pub named: u64,
    /// What was lost in silence, and where.
    pub failures: Vec<String>,
}

/// Runs a script, and then flips one bit in each `stride` bytes of the files in `dir`.
///
/// # Panics
/// When the script fails.
#[must_use]
pub fn flip(workload: Workload, operations: u64, seed: u64, dir: &str, stride: u64) -> Outcome {
    let storage = FaultyStorage::new(seed, CAP_BYTES);
    let ledger: Arc<Mutex<Ledger>> = Arc::default();
    let log = Log::open(Arc::new(storage.clone()), tiny(seed)).expect("opens").0;
    Script::new(workload, operations, seed, ledger.clone()).run(&log);
    // What follows vouches for the last group: until then, damage to it looks like a torn tail.
    log.seal();
    let ledger = ledger.lock().expect("lock");
    let mut random = Random(seed);
    let mut outcome = Outcome::default();
    for name in storage.list(dir).expect("lists") {
        let path = format!("{dir}/{name}");
        let len = storage.open(&path, OpenMode::Existing).and_then(|file| file.len()).expect("a file");
        for begin in (0..len).step_by(stride as usize) {
            let at = (begin + random.below(stride)).min(len - 1);
            let bit = 1 << random.below(8);
            let image = storage.crash_image(CrashMode::KeepAll, seed);
            flip_bit(&image, &path, at, bit);
            outcome.cases += 1;
            let checked = caught(|| match Log::open(Arc::new(image), tiny(seed ^ 1)) {
                Ok((log, _)) => {
                    ledger.check(&log);
                    outcome.unharmed += 1;
                }
                Err(OpenError::Corrupt { .. } | OpenError::Newer { .. } | OpenError::NotALog { .. }) => {
                    outcome.refused += 1;
                }
                Err(other) => panic!("refused without a reason: {other}"),
            });
            if let Err(reason) = checked {
                outcome.failures.push(format!("bit {bit:08b} of byte {at} in {path}: {reason}"));
            }
        }
    }
    outcome
}

/// What becomes of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The second half is missing.
    Halved,
    /// All of it reads as zeros.
    Zeroed,
    /// It is gone.
    Deleted,
    /// It is as it was halfway through the script.
    Older,
    /// It stands there a second time, under another name.
    Doubled,
}

/// Every way to break a file.
pub const WAYS: [Broken; 5] =
    [Broken::Halved, Broken::Zeroed, Broken::Deleted, Broken::Older, Broken::Doubled];

/// Runs a script, and then breaks each file in each way.
///
/// # Panics
/// When the script fails.
#[must_use]
pub fn break_files(workload: Workload, operations: u64, seed: u64) -> Outcome {
    let storage = FaultyStorage::new(seed, CAP_BYTES);
    let ledger: Arc<Mutex<Ledger>> = Arc::default();
    let log = Log::open(Arc::new(storage.clone()), tiny(seed)).expect("opens").0;
    let mut script = Script::new(workload, operations / 2, seed, ledger.clone());
    script.run(&log);
    let older = storage.crash_image(CrashMode::KeepAll, seed);
    script.go_on(&log, operations - operations / 2);
    log.seal();
    let ledger = ledger.lock().expect("lock");
    let sound = storage.crash_image(CrashMode::KeepAll, seed);
    let stored = read(&Log::open(Arc::new(sound), tiny(seed ^ 1)).expect("opens").0);
    let mut outcome = Outcome::default();
    for path in files(&storage, "") {
        for way in WAYS {
            let image = storage.crash_image(CrashMode::KeepAll, seed);
            if !break_file(&image, &older, &path, way) {
                continue;
            }
            outcome.cases += 1;
            let checked = caught(|| match Log::open(Arc::new(image.killed(seed)), tiny(seed ^ 1)) {
                Ok((log, _)) if compare(&stored, &read(&log)) => {
                    ledger.check(&log);
                    outcome.unharmed += 1;
                }
                Ok((log, _)) => {
                    assert!(log.damage().iter().any(|damage| damage.path == path), "{path} is not named");
                    assert!(is_named(&image, &path), "a look at everything does not name it");
                    outcome.named += 1;
                }
                Err(OpenError::Storage(error)) if error.kind() != std::io::ErrorKind::NotFound => {
                    panic!("refused without a reason: {error}")
                }
                Err(_) => outcome.refused += 1,
            });
            if let Err(reason) = checked {
                outcome.failures.push(format!("{path}, {way:?}: {reason}"));
            }
        }
    }
    outcome
}

/// Whether a look at everything that is stored names the file.
fn is_named(image: &FaultyStorage, path: &str) -> bool {
    let storage: Arc<dyn Storage> = Arc::new(image.clone());
    courant_log::verify(&storage).is_ok_and(|found| found.damage.iter().any(|damage| damage.path == path))
}

fn files(storage: &FaultyStorage, dir: &str) -> Vec<String> {
    let mut files = Vec::new();
    for name in storage.list(dir).expect("lists") {
        let path = if dir.is_empty() { name } else { format!("{dir}/{name}") };
        match storage.open(&path, OpenMode::Existing) {
            Ok(_) => files.push(path),
            Err(_) => files.extend(self::files(storage, &path)),
        }
    }
    files
}

/// Breaks a file. False where that way changes nothing.
fn break_file(image: &FaultyStorage, older: &FaultyStorage, path: &str, way: Broken) -> bool {
    let bytes = contents(image, path);
    match way {
        Broken::Halved => write(image, path, &bytes[..bytes.len() / 2]),
        Broken::Zeroed => write(image, path, &vec![0; bytes.len()]),
        Broken::Deleted => image.remove_file(path).expect("removes"),
        Broken::Older => {
            if older.open(path, OpenMode::Existing).is_err() {
                return false;
            }
            let before = contents(older, path);
            if before == bytes {
                return false;
            }
            write(image, path, &before);
        }
        Broken::Doubled => {
            let (stem, extension) = path.rsplit_once('.').unwrap_or((path, "copy"));
            write(image, &format!("{stem}9.{extension}"), &bytes);
        }
    }
    true
}

fn contents(storage: &FaultyStorage, path: &str) -> Vec<u8> {
    let file = storage.open(path, OpenMode::Existing).expect("it is there");
    let mut bytes = vec![0; file.len().expect("a length") as usize];
    assert_eq!(file.read_at(&mut bytes, 0).expect("reads"), bytes.len());
    bytes
}

fn write(storage: &FaultyStorage, path: &str, bytes: &[u8]) {
    let file = storage
        .open(path, OpenMode::Existing)
        .or_else(|_| storage.open(path, OpenMode::CreateNew))
        .expect("opens");
    file.set_len(0).expect("empties");
    file.write_at(&[bytes], 0).expect("writes");
    storage.sync_all().expect("syncs");
}

fn flip_bit(image: &FaultyStorage, path: &str, at: u64, bit: u8) {
    let file = image.open(path, OpenMode::Existing).expect("it is there");
    let mut byte = [0];
    assert_eq!(file.read_at(&mut byte, at).expect("reads"), 1);
    byte[0] ^= bit;
    file.write_at(&[&byte], at).expect("writes");
    file.sync_data().expect("syncs");
}
