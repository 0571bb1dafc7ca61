//! The power goes at every storage call of the script, and once more while recovering from that.

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use courant_log::storage::{CrashMode, FaultyStorage, File, OpenMode, Storage, Wants};
use courant_log::{Log, PartitionId};

use crate::ledger::Ledger;
use crate::script::Script;
use crate::support::{Random, batch, create, open, stored, tiny};

const MODES: [CrashMode; 3] = [CrashMode::LoseAll, CrashMode::RandomSubset, CrashMode::StaleGarbage];
const CAP_BYTES: u64 = 256 * 1024 * 1024;

#[derive(Clone, Default)]
struct Tally {
    points: Arc<AtomicU64>,
    nested: Arc<AtomicU64>,
    failures: Arc<Mutex<Vec<String>>>,
}

/// What must be there after a crash: what was acknowledged, and what a reader could see.
struct Promised {
    ledger: Ledger,
    watermarks: Vec<(PartitionId, u64)>,
}

impl Promised {
    fn at(ledger: &Mutex<Ledger>, live: &OnceLock<Log>) -> Self {
        let mut watermarks = Vec::new();
        for topic in live.get().iter().flat_map(|log| log.catalog().topics().cloned().collect::<Vec<_>>()) {
            for partition in &topic.partitions {
                let ends = live.get().and_then(|log| log.offsets(*partition));
                watermarks.extend(ends.map(|ends| (*partition, ends.high_watermark)));
            }
        }
        Self { ledger: ledger.lock().expect("lock").clone(), watermarks }
    }

    fn check(&self, log: &Log) {
        self.ledger.check(log);
        for (partition, watermark) in &self.watermarks {
            // A partition that is gone was being deleted; the ledger knows whether it may be.
            if let Some(ends) = log.offsets(*partition) {
                let end = ends.high_watermark;
                assert!(end >= *watermark, "seen and lost: readers saw {watermark} events, {end} are left");
            }
        }
        self.ledger.check_repetitions(log);
    }
}

/// Recovers a crash image and checks it; crashes the recovery once as well.
fn recover_and_check(image: &FaultyStorage, promised: &Promised, mode: CrashMode, seed: u64, tally: &Tally) {
    let nested: Arc<Mutex<Option<FaultyStorage>>> = Arc::default();
    let mut random = Random(seed);
    // A recovery makes 20 storage calls or more.
    let at = 1 + random.below(20);
    let nested_seed = random.next();
    let taken = nested.clone();
    image.set_hook(Box::new(move |storage, call, _| {
        if call == at {
            *taken.lock().expect("lock") = Some(storage.crash_image(mode, nested_seed));
        }
    }));
    let log = open(image, seed);
    image.clear_hook();
    promised.check(&log);
    tally.points.fetch_add(1, Ordering::Relaxed);
    if let Some(again) = nested.lock().expect("lock").take() {
        let log = open(&again, seed ^ 1);
        promised.check(&log);
        tally.nested.fetch_add(1, Ordering::Relaxed);
    }
}

/// Runs the script once on `storage`, crashing `faulty` before every call.
fn crash_everywhere(
    storage: Arc<dyn Storage>,
    faulty: &FaultyStorage,
    modes: &'static [CrashMode],
    seed: u64,
) -> Tally {
    let ledger: Arc<Mutex<Ledger>> = Arc::default();
    let tally = Tally::default();
    let live: Arc<OnceLock<Log>> = Arc::default();
    let (seen, counted, reading) = (ledger.clone(), tally.clone(), live.clone());
    faulty.set_hook(Box::new(move |storage, call, what| {
        let promised = Promised::at(&seen, &reading);
        // Once the power goes; once only the process is killed, and the power goes in the next start,
        // which has seen names and bytes that are not on disk.
        let cuts = modes.iter().map(|mode| (mode, false));
        for (mode, killed) in cuts.chain([(&CrashMode::LoseAll, true), (&CrashMode::RandomSubset, true)]) {
            let seed = seed ^ (call << 8);
            let image = if killed { storage.killed(seed) } else { storage.crash_image(*mode, seed) };
            let checked = catch_unwind(AssertUnwindSafe(|| {
                recover_and_check(&image, &promised, *mode, seed, &counted)
            }));
            if let Err(panic) = checked {
                let mut failures = counted.failures.lock().expect("lock");
                failures.push(format!(
                    "{mode:?} (killed: {killed}) at call {call} ({what}): {}",
                    message(&*panic)
                ));
            }
        }
    }));
    let log = Log::open(storage, tiny(seed)).expect("opens").0;
    live.set(log.clone()).expect("set once");
    Script::new(seed, ledger.clone()).run(&log);
    let bytes = log.metrics().appended_bytes;
    assert!(bytes >= 20 * 4 * 64 * 1024, "the ring wraps at least 20 times: {bytes} bytes");
    faulty.clear_hook();
    ledger.lock().expect("lock").check(&log);
    tally
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}

#[test]
fn nothing_acknowledged_is_lost_at_any_storage_call() {
    let faulty = FaultyStorage::new(1, CAP_BYTES);
    let tally = crash_everywhere(Arc::new(faulty.clone()), &faulty, &MODES, 1);
    let failures = tally.failures.lock().expect("lock");
    let points = tally.points.load(Ordering::Relaxed);
    let nested = tally.nested.load(Ordering::Relaxed);
    println!("{points} crash points, {nested} crashes of the recovery");
    assert!(failures.is_empty(), "{} failures, the first: {}", failures.len(), failures[0]);
    assert!(points >= 5_000, "{points}");
    assert!(nested >= points * 9 / 10, "{nested} of {points}");
}

/// A storage that never syncs the journal: the planted defect that shows that the test above sees.
#[derive(Clone, Debug)]
struct NoSync(FaultyStorage);

#[derive(Debug)]
struct NoSyncFile {
    file: Arc<dyn File>,
    /// The next sync still works: a new use of a file is made durable, the groups in it are not.
    begins: AtomicBool,
}

impl Storage for NoSync {
    fn open(&self, path: &str, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let file = self.0.open(path, mode)?;
        let begins = AtomicBool::new(mode == OpenMode::CreateNew);
        Ok(if path.contains(".journal") { Arc::new(NoSyncFile { file, begins }) } else { file })
    }
    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.0.list(dir)
    }
    fn create_dir(&self, dir: &str) -> io::Result<()> {
        self.0.create_dir(dir)
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.0.rename(from, to)
    }
    fn remove_file(&self, path: &str) -> io::Result<()> {
        self.0.remove_file(path)
    }
    fn remove_dir(&self, dir: &str) -> io::Result<()> {
        self.0.remove_dir(dir)
    }
    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.0.sync_dir(dir)
    }
    fn sync_all(&self) -> io::Result<()> {
        self.0.sync_all()
    }
    fn free_bytes(&self) -> io::Result<u64> {
        self.0.free_bytes()
    }
    fn lock(&self) -> io::Result<Box<dyn Any + Send + Sync>> {
        self.0.lock()
    }
    fn wants(&self) -> Wants {
        self.0.wants()
    }
}

impl File for NoSyncFile {
    fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
        self.file.read_at(buf, position)
    }
    fn write_at(&self, bufs: &[&[u8]], position: u64) -> io::Result<()> {
        self.begins.fetch_or(position == 0, Ordering::Relaxed);
        self.file.write_at(bufs, position)
    }
    fn sync_data(&self) -> io::Result<()> {
        if self.begins.swap(false, Ordering::Relaxed) { self.file.sync_data() } else { Ok(()) }
    }
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }
    fn drop_cache(&self) -> io::Result<()> {
        self.file.drop_cache()
    }
}

#[test]
fn without_syncing_the_same_test_sees_losses() {
    let faulty = FaultyStorage::new(1, CAP_BYTES);
    let tally = crash_everywhere(Arc::new(NoSync(faulty.clone())), &faulty, &[CrashMode::LoseAll], 1);
    let failures = tally.failures.lock().expect("lock");
    println!("{} failures seen", failures.len());
    assert!(failures.iter().any(|failure| failure.contains("lost:")), "{:?}", failures.first());
    assert!(failures.len() > 100, "{}", failures.len());
}

/// More dirty segments than a checkpoint syncs one by one: it syncs the whole storage instead, and is
/// crashed at every call of that.
#[test]
fn nothing_is_lost_when_a_checkpoint_syncs_the_whole_storage() {
    const PARTITIONS: u32 = 100;
    let faulty = FaultyStorage::new(5, CAP_BYTES);
    let log = open(&faulty, 5);
    let partitions = create(&log, "orders", PARTITIONS, &[]).partitions.clone();
    let acknowledged = Arc::new(AtomicU64::new(0));
    for (tag, partition) in (1..).zip(&partitions) {
        let acknowledged = acknowledged.clone();
        log.append(*partition, batch(tag, 1, 200, None), move |appended| {
            appended.expect("appended");
            acknowledged.fetch_add(1, Ordering::Relaxed);
        });
    }
    while log.commit() {}
    assert_eq!(acknowledged.load(Ordering::Relaxed), u64::from(PARTITIONS));
    let failures: Arc<Mutex<Vec<String>>> = Arc::default();
    let (failed, whole) = (failures.clone(), Arc::new(AtomicBool::new(false)));
    let seen = whole.clone();
    faulty.set_hook(Box::new(move |storage, call, what| {
        seen.fetch_or(what == "sync_all", Ordering::Relaxed);
        for mode in MODES {
            let image = storage.crash_image(mode, call);
            let lost = catch_unwind(AssertUnwindSafe(|| {
                let log = open(&image, 6);
                partitions.iter().filter(|partition| stored(&log, **partition).len() != 1).count()
            }));
            if !matches!(lost, Ok(0)) {
                failed.lock().expect("lock").push(format!("{mode:?} at call {call} ({what}): {lost:?}"));
            }
        }
    }));
    log.checkpoint().expect("stores");
    // The second one frees the journal that the first one made superfluous.
    create(&log, "payments", 1, &[]);
    log.checkpoint().expect("stores");
    faulty.clear_hook();
    let failures = failures.lock().expect("lock");
    assert!(failures.is_empty(), "{} failures, the first: {}", failures.len(), failures[0]);
    assert!(whole.load(Ordering::Relaxed), "the whole storage was synced");
}
