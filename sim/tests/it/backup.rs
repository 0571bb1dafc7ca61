//! Backups and restores of which every call fails once, or is the last one before the power goes: no
//! backup that is there is touched, the next one has everything, and half of a log is never taken for one.

use std::any::Any;
use std::collections::BTreeMap;
use std::io;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use courant_log::backup::{
    BackedUp, BackupError, BackupOptions, DirectoryTarget, NotATarget, RestoreError, Restored, back_up, list,
    restore,
};
use courant_log::storage::{CrashMode, Failure, FaultyStorage, File, OpenMode, Storage, Wants};
use courant_log::{Log, OpenError, PartitionId, SystemClock};
use courant_sim::CAP_BYTES;
use courant_sim::ledger::Ledger;
use courant_sim::readable::{Readable, readable};
use courant_sim::script::Script;
use courant_sim::tiny::{open, tiny};
use courant_sim::workload::Workload;

const EIO: i32 = 5;
/// What a start says of a directory whose restore was not finished: what it is and what to do.
const UNFINISHED: &str = "a restore that was not finished; remove everything in here and restore again";

/// What was acknowledged at some moment.
struct Moment {
    ledger: Ledger,
    stored: BTreeMap<PartitionId, Readable>,
}

impl Moment {
    fn now(source: &FaultyStorage, ledger: &Mutex<Ledger>) -> Self {
        let log = open(&source.killed(7), 7);
        let moment = Self { ledger: ledger.lock().expect("lock").clone(), stored: everything(&log) };
        moment.check(&log);
        moment
    }

    /// Fails unless a log has exactly that.
    fn check(&self, log: &Log) {
        self.ledger.check(log);
        assert!(everything(log) == self.stored, "other events than those of that moment");
    }
}

fn everything(log: &Log) -> BTreeMap<PartitionId, Readable> {
    let catalog = log.catalog();
    let partitions = catalog.topics().flat_map(|topic| &topic.partitions);
    partitions.map(|partition| (*partition, readable(log, *partition))).collect()
}

/// A log that has gone on after two backups of it, of which the next one removes the first.
struct Course {
    source: FaultyStorage,
    target: FaultyStorage,
    /// Of the newest backup.
    before: Moment,
    /// Of the log.
    now: Moment,
}

impl Course {
    fn new(seed: u64) -> Self {
        let (source, target) = (FaultyStorage::new(seed, CAP_BYTES), FaultyStorage::new(seed, CAP_BYTES));
        let ledger: Arc<Mutex<Ledger>> = Arc::default();
        let log = open(&source, seed);
        let mut script = Script::new(Workload::MIXED, 14, seed, ledger.clone());
        script.run(&log);
        log.checkpoint().expect("stores");
        assert_eq!(taken(&source, &target).number, 1);
        script.run(&log);
        assert_eq!(taken(&source, &target).number, 2);
        let before = Moment::now(&source, &ledger);
        script.run(&log);
        // Some of it in the segments, and some in the journal alone.
        log.checkpoint().expect("stores");
        script.run(&log);
        let now = Moment::now(&source, &ledger);
        assert!(now.stored != before.stored, "nothing has happened");
        Self { source, target, before, now }
    }

    /// Looks at a target in which the next backup may have failed: what it names is there, and the next
    /// backup has everything.
    fn check_target(&self, target: &FaultyStorage, attempt: Option<&BackedUp>) {
        let newest = list(&at(target)).expect("lists").last().map(|backup| backup.number).expect("backups");
        let (into, _) = restored(target, Some(2));
        self.before.check(&open(&into, 3));
        // A read that fails is damage, which is left out and named.
        let is_whole = attempt.is_none_or(|taken| taken.damage.is_empty());
        if newest > 2 {
            let (into, restored) = restored(target, Some(newest));
            if is_whole {
                assert_eq!(restored.verified.damage, []);
                self.now.check(&open(&into, 3));
            }
        }
        let next = taken(&self.source, target);
        assert_eq!((next.number, next.damage.len()), (newest + 1, 0));
        let (into, restored) = restored(target, None);
        assert_eq!((restored.number, restored.verified.damage.len()), (next.number, 0));
        self.now.check(&open(&into, 3));
    }
}

fn options() -> BackupOptions {
    let mut options = BackupOptions::new(Arc::new(SystemClock));
    options.keep = NonZeroU32::new(2);
    options
}

fn at(target: &FaultyStorage) -> DirectoryTarget {
    DirectoryTarget::new(Arc::new(target.clone())).expect("a directory for backups")
}

fn shared(storage: &(impl Storage + Clone)) -> Arc<dyn Storage> {
    Arc::new(storage.clone())
}

fn taken(source: &FaultyStorage, target: &FaultyStorage) -> BackedUp {
    back_up(&shared(source), &at(target), &options()).expect("backs up")
}

fn restored(target: &FaultyStorage, number: Option<u64>) -> (FaultyStorage, Restored) {
    let into = FaultyStorage::new(5, CAP_BYTES);
    let restored = restore(&at(target), number, &shared(&into)).expect("restores");
    (into, restored)
}

/// Says which case it was when the test fails.
struct Telling(String);

impl Drop for Telling {
    fn drop(&mut self) {
        if thread::panicking() {
            println!("{}", self.0);
        }
    }
}

/// What the call that fails does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Does {
    Nothing,
    /// All of it, and nobody is told.
    Everything,
}

/// A storage of which one call fails, whatever call that is.
#[derive(Clone, Debug)]
struct Failing {
    storage: FaultyStorage,
    calls: Arc<AtomicU64>,
    at: u64,
    does: Does,
}

impl Failing {
    fn new(storage: FaultyStorage, at: u64, does: Does) -> Self {
        Self { storage, calls: Arc::default(), at, does }
    }

    /// Whether the call was made.
    fn has_failed(&self) -> bool {
        self.calls.load(Ordering::Relaxed) >= self.at
    }

    fn call<T>(&self, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        if self.calls.fetch_add(1, Ordering::Relaxed) + 1 != self.at {
            return act();
        }
        if self.does == Does::Everything {
            let _ = act();
        }
        Err(io::Error::from_raw_os_error(EIO))
    }
}

impl Storage for Failing {
    fn open(&self, path: &str, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let file = self.call(|| self.storage.open(path, mode))?;
        Ok(Arc::new(FailingFile { of: self.clone(), file }))
    }
    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.call(|| self.storage.list(dir))
    }
    fn create_dir(&self, dir: &str) -> io::Result<()> {
        self.call(|| self.storage.create_dir(dir))
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.call(|| self.storage.rename(from, to))
    }
    fn remove_file(&self, path: &str) -> io::Result<()> {
        self.call(|| self.storage.remove_file(path))
    }
    fn remove_dir(&self, dir: &str) -> io::Result<()> {
        self.call(|| self.storage.remove_dir(dir))
    }
    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.call(|| self.storage.sync_dir(dir))
    }
    fn sync_all(&self) -> io::Result<()> {
        self.call(|| self.storage.sync_all())
    }
    fn free_bytes(&self) -> io::Result<u64> {
        self.call(|| self.storage.free_bytes())
    }
    fn lock(&self) -> io::Result<Box<dyn Any + Send + Sync>> {
        self.call(|| self.storage.lock())
    }
    fn wants(&self) -> Wants {
        self.storage.wants()
    }
}

#[derive(Debug)]
struct FailingFile {
    of: Failing,
    file: Arc<dyn File>,
}

impl File for FailingFile {
    fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
        self.of.call(|| self.file.read_at(buf, position))
    }
    fn write_at(&self, bufs: &[&[u8]], position: u64) -> io::Result<()> {
        self.of.call(|| self.file.write_at(bufs, position))
    }
    fn sync_data(&self) -> io::Result<()> {
        self.of.call(|| self.file.sync_data())
    }
    fn len(&self) -> io::Result<u64> {
        self.of.call(|| self.file.len())
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.of.call(|| self.file.set_len(len))
    }
    fn drop_cache(&self) -> io::Result<()> {
        self.of.call(|| self.file.drop_cache())
    }
}

/// A backup that is taken from a storage into another one. None where the target itself does not open.
fn attempt(source: &Arc<dyn Storage>, target: Arc<dyn Storage>) -> Option<Result<BackedUp, BackupError>> {
    match DirectoryTarget::new(target) {
        Ok(target) => Some(back_up(source, &target, &options())),
        Err(NotATarget::Storage(_)) => None,
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn no_call_of_the_log_that_fails_spoils_a_backup() {
    let course = Course::new(51);
    let (mut failed, mut damaged) = (0, 0);
    for number in 1.. {
        let _telling = Telling(format!("call {number}"));
        let target = course.target.killed(number);
        let source = Failing::new(course.source.killed(number), number, Does::Nothing);
        let result = attempt(&shared(&source), Arc::new(target.clone())).expect("the target is sound");
        failed += u64::from(result.is_err());
        damaged += u64::from(result.as_ref().is_ok_and(|taken| !taken.damage.is_empty()));
        course.check_target(&target, result.as_ref().ok());
        if !source.has_failed() {
            result.expect("nothing has failed");
            break;
        }
    }
    println!("{failed} backups failed, {damaged} left out what could not be read");
    assert!(failed > 10 && damaged > 0, "{failed} and {damaged}");
}

#[test]
fn no_call_of_the_target_that_fails_spoils_a_backup() {
    let course = Course::new(52);
    for does in [Does::Nothing, Does::Everything] {
        let mut failed = 0;
        for number in 1.. {
            let _telling = Telling(format!("{does:?} in call {number}"));
            let target = course.target.killed(number);
            let failing = Failing::new(target.clone(), number, does);
            let result = attempt(&shared(&course.source), Arc::new(failing.clone()));
            failed += u64::from(!matches!(result, Some(Ok(_))));
            course.check_target(&target, result.as_ref().and_then(|result| result.as_ref().ok()));
            if !failing.has_failed() {
                result.expect("the target opens").expect("nothing has failed");
                break;
            }
        }
        println!("{does:?}: {failed} backups failed");
        assert!(failed > 50, "{failed}");
    }
}

/// What was not finished vanishes, what a manifest names is there.
#[test]
fn no_power_cut_of_the_target_spoils_a_backup() {
    let course = Course::new(53);
    let target = course.target.killed(1);
    let images =
        images_of(&target, &[CrashMode::LoseAll, CrashMode::RandomSubset, CrashMode::TornLast], 0, || {
            assert_eq!(taken(&course.source, &target).number, 3);
        });
    let mut complete = 0;
    for Image { storage, what } in &images {
        let _telling = Telling(what.to_string());
        complete += u64::from(list(&at(storage)).expect("lists").iter().any(|backup| backup.number == 3));
        course.check_target(storage, None);
    }
    println!("{complete} of {} images have the backup", images.len());
    assert!(images.len() > 100 && complete > 5, "{complete} of {}", images.len());
}

#[test]
fn a_full_target_refuses_a_backup_and_takes_the_next() {
    let course = Course::new(54);
    let mut refused = 0;
    for free in (0..).step_by(20_000) {
        let target = course.target.killed(free);
        target.set_free_bytes(free);
        let result = back_up(&shared(&course.source), &at(&target), &options());
        target.set_free_bytes(CAP_BYTES);
        match &result {
            Ok(_) => {}
            Err(BackupError::Target(error)) => {
                assert_eq!(error.kind(), io::ErrorKind::StorageFull, "{error}");
                refused += 1;
            }
            Err(other) => panic!("{free} bytes: {other}"),
        }
        course.check_target(&target, result.as_ref().ok());
        if result.is_ok() {
            break;
        }
    }
    assert!(refused > 2, "{refused}");
}

/// What a restore has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    /// Nothing that anybody would take for anything.
    Nothing,
    /// What a start refuses, with a sentence that says what to do.
    Unfinished,
    /// The whole log.
    Everything,
}

fn left(into: &FaultyStorage, moment: &Moment) -> Left {
    let names = into.list("").expect("lists");
    if names.is_empty() || names == ["FORMAT.new"] {
        return Left::Nothing;
    }
    match Log::open(shared(into), tiny(3)) {
        Ok((log, _)) => {
            moment.check(&log);
            Left::Everything
        }
        Err(OpenError::NotALog { what }) => {
            assert!(what.contains(UNFINISHED), "{names:?}: {what}");
            Left::Unfinished
        }
        Err(other) => panic!("{names:?}: {other}"),
    }
}

#[test]
fn a_restore_of_which_a_call_fails_leaves_nothing() {
    let course = Course::new(55);
    let target = course.target.killed(1);
    taken(&course.source, &target);
    for does in [Does::Nothing, Does::Everything] {
        let mut failed = 0;
        for number in 1.. {
            let _telling = Telling(format!("{does:?} in call {number}"));
            let into = FaultyStorage::new(number, CAP_BYTES);
            let failing = Failing::new(into.clone(), number, does);
            match restore(&at(&target), None, &shared(&failing)) {
                // The log is there, and only the look at it has failed.
                Ok(_) | Err(RestoreError::Verify(_)) => {
                    assert_eq!(left(&into, &course.now), Left::Everything, "{does:?} in call {number}");
                }
                Err(RestoreError::Storage(error)) => {
                    failed += 1;
                    assert_eq!(left(&into, &course.now), Left::Nothing, "{does:?} in call {number}: {error}");
                    restore(&at(&target), None, &shared(&into)).expect("restores");
                    assert_eq!(left(&into, &course.now), Left::Everything, "{does:?} in call {number}");
                }
                Err(other) => panic!("{does:?} in call {number}: {other}"),
            }
            if !failing.has_failed() {
                break;
            }
        }
        println!("{does:?}: {failed} restores failed");
        assert!(failed > 50, "{failed}");
    }
}

#[test]
fn a_restore_from_a_target_of_which_a_call_fails_leaves_nothing() {
    let course = Course::new(56);
    let mut failed = 0;
    for number in 1.. {
        let into = FaultyStorage::new(number, CAP_BYTES);
        let failing = Failing::new(course.target.killed(number), number, Does::Nothing);
        let target = DirectoryTarget::new(shared(&failing));
        let result = target.ok().map(|target| restore(&target, None, &shared(&into)));
        let expected = match result {
            Some(Ok(_)) => Left::Everything,
            None | Some(Err(RestoreError::Target(_) | RestoreError::Object { .. })) => Left::Nothing,
            Some(Err(other)) => panic!("call {number}: {other}"),
        };
        failed += u64::from(expected == Left::Nothing);
        assert_eq!(left(&into, &course.before), expected, "call {number}");
        if !failing.has_failed() {
            break;
        }
    }
    assert!(failed > 20, "{failed}");
}

#[test]
fn a_restore_that_is_cut_off_is_refused_by_name_or_whole() {
    let course = Course::new(57);
    let into = FaultyStorage::new(57, CAP_BYTES);
    let images = images_of(&into, &CrashMode::ALL, 0, || {
        restore(&at(&course.target), None, &shared(&into)).expect("restores");
    });
    let mut found = [0; 3];
    for Image { storage, what } in &images {
        let _telling = Telling(what.to_string());
        let left = left(storage, &course.before);
        // Before the directory is said to be no log, it is as empty as it was.
        assert!(left != Left::Nothing || what.call <= 6, "{what}");
        found[left as usize] += 1;
        if left == Left::Unfinished {
            let again = restore(&at(&course.target), None, &shared(storage));
            let again = again.expect_err("it is not empty").to_string();
            assert!(again.contains("a restore that was not finished in it"), "{again}");
        }
    }
    println!("{found:?} of {} images", images.len());
    assert!(found[Left::Unfinished as usize] > 100 && found[Left::Everything as usize] > 0, "{found:?}");
}

/// Taking a half-restored log away must not show it as a log either.
#[test]
fn a_restore_that_fails_and_is_then_cut_off_is_refused_by_name_or_whole() {
    let course = Course::new(58);
    let calls = {
        let into = FaultyStorage::new(58, CAP_BYTES);
        restore(&at(&course.target), None, &shared(&into)).expect("restores");
        into.calls()
    };
    let mut found = [0; 3];
    // The last calls give the directory its name, and are the ones that matter most.
    let numbers = (1..calls).step_by(4).chain(calls.saturating_sub(8)..=calls);
    for (number, kind) in numbers.flat_map(|number| [(number, Failure::Eio), (number, Failure::FsyncEio)]) {
        let into = FaultyStorage::new(number, CAP_BYTES);
        into.fail_call(number, kind);
        let images = images_of(&into, &[CrashMode::LoseAll, CrashMode::RandomSubset], number, || {
            // A call behind the last sync fails nothing.
            let _ = restore(&at(&course.target), None, &shared(&into));
        });
        for Image { storage, what } in &images {
            let _telling = Telling(format!("{kind:?} in call {number}, then {what}"));
            found[left(storage, &course.before) as usize] += 1;
        }
    }
    println!("{found:?}");
    assert!(found[Left::Nothing as usize] > 0 && found[Left::Unfinished as usize] > 100, "{found:?}");
}

#[test]
fn a_full_directory_gets_no_half_of_a_log() {
    let course = Course::new(59);
    let mut refused = 0;
    for free in [0, 50].into_iter().chain((1_000..).step_by(40_000)) {
        let into = FaultyStorage::new(free, free);
        match restore(&at(&course.target), None, &shared(&into)) {
            Err(RestoreError::Storage(error)) => {
                assert_eq!(error.kind(), io::ErrorKind::StorageFull, "{error}");
                assert_eq!(left(&into, &course.before), Left::Nothing, "{free} bytes");
                refused += 1;
            }
            Ok(_) => break,
            Err(other) => panic!("{free} bytes: {other}"),
        }
    }
    assert!(refused > 5, "{refused}");
}

/// What a power cut leaves.
struct Image {
    storage: FaultyStorage,
    what: What,
}

/// Of which call.
#[derive(Clone, Copy, Debug)]
struct What {
    call: u64,
    name: &'static str,
    mode: CrashMode,
}

impl std::fmt::Display for What {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} in call {} ({})", self.mode, self.call, self.name)
    }
}

/// Takes images of a storage in every call behind `from` that changes something, while `act` is done.
fn images_of(
    storage: &FaultyStorage,
    modes: &'static [CrashMode],
    from: u64,
    act: impl FnOnce(),
) -> Vec<Image> {
    let images: Arc<Mutex<Vec<Image>>> = Arc::default();
    let kept = images.clone();
    let before = storage.calls();
    storage.set_hook(Box::new(move |storage, call, name| {
        let call = call - before;
        if call <= from {
            return;
        }
        let mut kept = kept.lock().expect("lock");
        for mode in modes {
            let storage = storage.crash_image(*mode, (call << 8) ^ *mode as u64);
            kept.push(Image { storage, what: What { call, name, mode: *mode } });
        }
    }));
    act();
    storage.clear_hook();
    std::mem::take(&mut *images.lock().expect("lock"))
}
