//! What was acknowledged goes bad: single bits, bytes and sectors, and whole files. A start may refuse
//! to go on, and changes nothing then; it may not lose anything in silence. Of the segments, all that is
//! not damaged must be served, and the rest be named and kept as it is.

use std::io;
use std::sync::{Arc, Mutex};

use courant_log::storage::{CrashMode, FaultyStorage, OpenMode, Storage};
use courant_log::{Log, OpenError};

use crate::ledger::Ledger;
use crate::random::Random;
use crate::reads::{Stored, compare_by_keys, read};
use crate::script::Script;
use crate::tiny::tiny;
use crate::workload::Workload;
use crate::{CAP_BYTES, caught};

/// Bytes that a disk reads and writes together.
pub const SECTOR_BYTES: u64 = 512;

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Places that went bad, or files that were broken, each in an image of its own.
    pub cases: u64,
    /// Starts that were refused, with a sentence that names the damage, and that have changed nothing.
    pub refused: u64,
    /// Starts that had not needed it.
    pub unharmed: u64,
    /// Starts that refuse some events of a segment and serve all others, and name the file.
    pub named: u64,
    /// What was lost in silence, and where.
    pub failures: Vec<String>,
}

impl Outcome {
    /// Counts what came of one case; of none where the harm would have changed nothing.
    pub fn add(&mut self, case: Result<Option<Fate>, String>) {
        self.cases += u64::from(!matches!(case, Ok(None)));
        match case {
            Ok(None) => {}
            Ok(Some(Fate::Refused)) => self.refused += 1,
            Ok(Some(Fate::Unharmed)) => self.unharmed += 1,
            Ok(Some(Fate::Named)) => self.named += 1,
            Err(failure) => self.failures.push(failure),
        }
    }
}

/// What a start makes of damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is refused.
    Refused,
    /// Everything is there; of a compacted topic, everything but what is superseded.
    Unharmed,
    /// Some events are refused and the file is named; everything else is there.
    Named,
}

/// What becomes of one place in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Harm {
    /// These bits of the byte are the others.
    Bits(u8),
    /// Every bit of the byte is 1.
    Ones,
    /// The sector that the byte is in reads as zeros.
    ZeroSector,
}

impl Harm {
    /// Does it. Where it begins, and what stands there now; `None` where that is what stood there before.
    fn apply(self, image: &FaultyStorage, path: &str, at: u64) -> Option<(u64, Vec<u8>)> {
        let (begin, len) = match self {
            Self::Bits(_) | Self::Ones => (at, 1),
            Self::ZeroSector => (at / SECTOR_BYTES * SECTOR_BYTES, SECTOR_BYTES),
        };
        let file = image.open(path, OpenMode::Existing).expect("it is there");
        let mut before = vec![0; len as usize];
        let count = file.read_at(&mut before, begin).expect("reads");
        before.truncate(count);
        let after: Vec<u8> = match self {
            Self::Bits(bits) => before.iter().map(|byte| byte ^ bits).collect(),
            Self::Ones => vec![0xff; count],
            Self::ZeroSector => vec![0; count],
        };
        if after == before {
            return None;
        }
        file.write_at(&[&after], begin).expect("writes");
        file.sync_data().expect("syncs");
        Some((begin, after))
    }
}

/// A data directory that a script has filled, and what must be served of it. Every case breaks an image
/// of its own.
#[derive(Debug)]
pub struct Victim {
    storage: FaultyStorage,
    ledger: Ledger,
    stored: Stored,
    seed: u64,
}

impl Victim {
    /// What a script leaves.
    ///
    /// # Panics
    /// When the script fails.
    #[must_use]
    pub fn fill(workload: Workload, operations: u64, seed: u64) -> Self {
        let storage = FaultyStorage::new(seed, CAP_BYTES);
        let ledger: Arc<Mutex<Ledger>> = Arc::default();
        let log = Log::open(Arc::new(storage.clone()), tiny(seed)).expect("opens").0;
        Script::new(workload, operations, seed, ledger.clone()).run(&log);
        Self::of(storage, &log, &ledger, seed)
    }

    fn of(storage: FaultyStorage, log: &Log, ledger: &Mutex<Ledger>, seed: u64) -> Self {
        // What follows vouches for the last group: until then, damage to it looks like a torn tail.
        log.seal();
        let sound = storage.crash_image(CrashMode::KeepAll, seed);
        let stored = read(&Log::open(Arc::new(sound), tiny(seed ^ 1)).expect("opens").0);
        let ledger = ledger.lock().expect("lock").clone();
        Self { storage, ledger, stored, seed }
    }

    /// Every file below a folder with its length, in order; `""` is the data directory.
    ///
    /// # Panics
    /// When there is no such folder.
    #[must_use]
    pub fn files(&self, dir: &str) -> Vec<(String, u64)> {
        let paths = files(&self.storage, dir).into_iter();
        paths.map(|path| (path.clone(), contents(&self.storage, &path).len() as u64)).collect()
    }

    /// Does harm to one place of an image, starts on that, and says what came of it; `None` where the
    /// harm changes nothing.
    ///
    /// # Errors
    /// What was lost in silence, and where.
    ///
    /// # Panics
    /// When there is no such file.
    pub fn harm(&self, path: &str, at: u64, harm: Harm) -> Result<Option<Fate>, String> {
        let image = self.image();
        let Some((begin, left)) = harm.apply(&image, path, at) else { return Ok(None) };
        let judged = self.judge(&image, path, is_about_damage).and_then(|(fate, started)| {
            if fate == Fate::Named && !self.is_left(&started, path, begin, &left) {
                return Err("what is damaged was written over".to_owned());
            }
            Ok(Some(fate))
        });
        judged.map_err(|reason| format!("{harm:?} at byte {at} of {path}, seed {}: {reason}", self.seed))
    }

    /// Whether a start has left these damaged bytes as they are. What stands behind the end that the checkpoint knows
    /// is the journal's: of a sector in which that end lies it may be written anew, or cut off.
    fn is_left(&self, started: &FaultyStorage, path: &str, begin: u64, left: &[u8]) -> bool {
        let (found, sound) = (contents(started, path), contents(&self.storage, path));
        let begin = usize::try_from(begin).expect("fits into memory");
        let of = |bytes: &[u8]| bytes.iter().copied().skip(begin).take(left.len()).collect::<Vec<u8>>();
        let (found, sound) = (of(&found), of(&sound));
        let kept = found.iter().zip(left).take_while(|(found, left)| found == left).count();
        sound.get(kept..found.len()) == Some(&found[kept..]) && left[..kept] != sound[..kept]
    }

    fn image(&self) -> FaultyStorage {
        self.storage.crash_image(CrashMode::KeepAll, self.seed)
    }

    /// Starts on a copy of a broken image and looks at everything; says what came of it, and what the
    /// start has left.
    fn judge(
        &self,
        image: &FaultyStorage,
        path: &str,
        is_reason: fn(&OpenError) -> bool,
    ) -> Result<(Fate, FaultyStorage), String> {
        let started = image.killed(self.seed);
        let mut fate = Fate::Refused;
        caught(|| match Log::open(Arc::new(started.clone()), tiny(self.seed ^ 1)) {
            Ok((log, _)) if compare_by_keys(&self.stored, &log, &self.ledger) => {
                self.ledger.check(&log);
                fate = Fate::Unharmed;
            }
            Ok((log, _)) => {
                assert!(log.damage().iter().any(|damage| damage.path == path), "{path} is not named");
                fate = Fate::Named;
            }
            Err(error) => {
                assert!(is_reason(&error), "refused without a reason: {error}");
                assert!(is_same(image, &started), "refused, and something was changed: {error}");
            }
        })?;
        if fate == Fate::Named && !is_named(image, path) {
            return Err("a look at everything does not name it".to_owned());
        }
        Ok((fate, started))
    }
}

/// Whether a start says that stored bytes are not what they were.
fn is_about_damage(error: &OpenError) -> bool {
    matches!(
        error,
        OpenError::Corrupt { .. }
            | OpenError::FoundLate { .. }
            | OpenError::Newer { .. }
            | OpenError::NotALog { .. }
    )
}

/// As [`is_about_damage`], also where a file is not there.
fn is_about_damage_or_loss(error: &OpenError) -> bool {
    is_about_damage(error)
        || matches!(error, OpenError::Storage(error) if error.kind() == io::ErrorKind::NotFound)
}

/// Runs a script, and then flips one bit in each `stride` bytes of the files below `dir`.
///
/// # Panics
/// When the script fails.
#[must_use]
pub fn flip(workload: Workload, operations: u64, seed: u64, dir: &str, stride: u64) -> Outcome {
    let victim = Victim::fill(workload, operations, seed);
    let mut random = Random(seed);
    let mut outcome = Outcome::default();
    for (path, len) in victim.files(dir) {
        for begin in (0..len).step_by(stride as usize) {
            let at = (begin + random.below(stride)).min(len - 1);
            outcome.add(victim.harm(&path, at, Harm::Bits(1 << random.below(8))));
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
    let victim = Victim::of(storage, &log, &ledger, seed);
    let mut outcome = Outcome::default();
    for (path, _) in victim.files("") {
        for way in WAYS {
            let image = victim.image();
            if !break_file(&image, &older, &path, way) {
                continue;
            }
            let judged = victim.judge(&image, &path, is_about_damage_or_loss);
            let fate = judged.and_then(|(fate, started)| {
                if fate == Fate::Refused && is_sound(&image) {
                    return Err("refused, and a look at everything finds nothing".to_owned());
                }
                let kept = fate == Fate::Refused || is_kept(&image, &started, &path, way, fate);
                if kept { Ok(Some(fate)) } else { Err("the start has deleted it".to_owned()) }
            });
            outcome.add(fate.map_err(|reason| format!("{path}, {way:?}: {reason}")));
        }
    }
    outcome
}

/// Whether a start has kept what it can make nothing of: a segment of which it refuses events, and what
/// stands beside the segments, wherever it was moved to.
fn is_kept(before: &FaultyStorage, after: &FaultyStorage, path: &str, way: Broken, fate: Fate) -> bool {
    if !path.ends_with(".segment") {
        return true;
    }
    let is_there = after.open(path, OpenMode::Existing).is_ok();
    if way == Broken::Doubled {
        let double = contents(before, &double_of(path));
        let is_double = |other: &String| other != path && contents(after, other) == double;
        // The folder of a partition whose deletion is durable goes with everything in it.
        return !is_there || files(after, "").iter().any(is_double);
    }
    fate != Fate::Named || way == Broken::Deleted || is_there
}

/// Whether a look at everything that is stored names the file.
fn is_named(image: &FaultyStorage, path: &str) -> bool {
    let storage: Arc<dyn Storage> = Arc::new(image.clone());
    courant_log::verify(&storage).is_ok_and(|found| found.damage.iter().any(|damage| damage.path == path))
}

/// Whether a look at everything that is stored finds nothing wrong.
fn is_sound(image: &FaultyStorage) -> bool {
    let storage: Arc<dyn Storage> = Arc::new(image.clone());
    courant_log::verify(&storage).is_ok_and(|found| found.damage.is_empty())
}

/// Whether two storages have the same files with the same bytes.
pub(crate) fn is_same(one: &FaultyStorage, other: &FaultyStorage) -> bool {
    let paths = files(one, "");
    paths == files(other, "") && paths.iter().all(|path| contents(one, path) == contents(other, path))
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

/// Where the second copy of a file stands.
fn double_of(path: &str) -> String {
    let (stem, extension) = path.rsplit_once('.').unwrap_or((path, "copy"));
    format!("{stem}9.{extension}")
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
        Broken::Doubled => write(image, &double_of(path), &bytes),
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
