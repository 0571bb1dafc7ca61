//! A process that may have few files open: appends to many partitions wait for a checkpoint, a start
//! replays more segments than it may open, and where no file is left nothing ends.

use std::any::Any;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use courant_log::batch::records::Producer;
use courant_log::storage::{CrashMode, FaultyStorage, File, OpenMode, Storage, Wants};
use courant_log::{AppendError, Health, Log, LogConfig, PartitionId, ReadError, WriterError};

use courant_sim::tiny::{append, batch, create, new_topic, slot, stored, taken, tiny};

/// What the system says when a process may have no more files open.
const EMFILE: i32 = 24;

/// Few, with a journal of four files.
const FEW: usize = 40;

/// Many more than that.
const PARTITIONS: u32 = 200;

/// More than any log of these tests opens.
const ENOUGH: usize = 10_000;

/// What a process may open and has open.
#[derive(Debug)]
struct Files {
    open: AtomicUsize,
    /// The most that were open at one time.
    most: AtomicUsize,
    max: AtomicUsize,
    /// How many more may be opened before others have taken all that are left.
    left: AtomicUsize,
}

/// One open file; closed when dropped.
#[derive(Debug)]
struct Slot(Arc<Files>);

impl Slot {
    fn take(files: &Arc<Files>) -> io::Result<Self> {
        let open = files.open.fetch_add(1, Ordering::SeqCst) + 1;
        let slot = Self(files.clone());
        let is_left = files.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if open > files.max.load(Ordering::SeqCst) || is_left.is_err() {
            return Err(io::Error::from_raw_os_error(EMFILE));
        }
        files.most.fetch_max(open, Ordering::SeqCst);
        Ok(slot)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A data directory as a process with a limit has it. Looking into a directory and syncing one take a
/// file for a moment, as they do on a disk.
#[derive(Clone, Debug)]
struct Limited {
    storage: FaultyStorage,
    files: Arc<Files>,
}

impl Limited {
    fn new(storage: FaultyStorage, max: usize) -> Self {
        let files = Files {
            open: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            max: AtomicUsize::new(max),
            left: AtomicUsize::new(usize::MAX),
        };
        Self { storage, files: Arc::new(files) }
    }

    fn empty(max: usize) -> Self {
        Self::new(FaultyStorage::new(1, 256 * 1024 * 1024), max)
    }

    fn most(&self) -> usize {
        self.files.most.load(Ordering::SeqCst)
    }

    /// From now on so many more can be opened.
    fn leave(&self, left: usize) {
        self.files.left.store(left, Ordering::SeqCst);
    }

    fn start(&self, open_files: usize) -> Log {
        Log::open(Arc::new(self.clone()), config(open_files)).expect("opens").0
    }
}

#[derive(Debug)]
struct LimitedFile {
    file: Arc<dyn File>,
    _slot: Slot,
}

impl File for LimitedFile {
    fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
        self.file.read_at(buf, position)
    }

    fn write_at(&self, bufs: &[&[u8]], position: u64) -> io::Result<()> {
        self.file.write_at(bufs, position)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
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

impl Storage for Limited {
    fn open(&self, path: &str, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let slot = Slot::take(&self.files)?;
        let file = self.storage.open(path, mode)?;
        Ok(Arc::new(LimitedFile { file, _slot: slot }))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let _slot = Slot::take(&self.files)?;
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
        let _slot = Slot::take(&self.files)?;
        self.storage.sync_dir(dir)
    }

    fn sync_all(&self) -> io::Result<()> {
        self.storage.sync_all()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.storage.free_bytes()
    }

    fn boot(&self) -> Option<uuid::Uuid> {
        self.storage.boot()
    }

    fn lock(&self) -> io::Result<Box<dyn Any + Send + Sync>> {
        self.storage.lock()
    }

    fn wants(&self) -> Wants {
        self.storage.wants()
    }
}

fn config(open_files: usize) -> LogConfig {
    let mut config = tiny(1);
    config.open_files = open_files;
    config
}

/// Appends an event to each partition, all of them before any is committed.
fn append_to_all(log: &Log, partitions: &[PartitionId], tag: u64) {
    let append = |partition: &PartitionId| {
        let (answer, done) = slot();
        log.append(*partition, batch(tag, 1, 100, None), done);
        answer
    };
    let answers: Vec<_> = partitions.iter().map(append).collect();
    while log.commit() {}
    for answer in answers {
        taken(&answer).expect("appended");
    }
}

fn assert_each_has(log: &Log, partitions: &[PartitionId], events: usize) {
    for partition in partitions {
        assert_eq!(stored(log, *partition).len(), events, "partition {partition}");
    }
}

#[test]
fn appends_to_more_partitions_than_may_be_open_wait_for_checkpoints() {
    let storage = Limited::empty(FEW);
    let log = storage.start(FEW);
    let partitions = create(&log, "orders", PARTITIONS, &[]).partitions.clone();
    append_to_all(&log, &partitions, 1);
    assert!(log.metrics().file_waits > 10, "{:?}", log.metrics());
    assert_each_has(&log, &partitions, 1);
    log.stop();
    drop(log);

    let log = storage.start(FEW);
    append_to_all(&log, &partitions, 2);
    assert_each_has(&log, &partitions, 2);
    assert_eq!((log.health(), log.damage()), (Health::Ready, Vec::new()));
    assert!(storage.most() <= FEW, "{} were open", storage.most());
}

#[test]
fn nobody_waits_who_may_open_enough() {
    let storage = Limited::empty(ENOUGH);
    let log = storage.start(ENOUGH);
    let partitions = create(&log, "orders", PARTITIONS, &[]).partitions.clone();
    append_to_all(&log, &partitions, 1);
    assert_eq!(log.metrics().file_waits, 0);
}

/// Each batch begins a segment, so one partition takes as many files as many of them.
#[test]
fn segments_that_roll_within_a_group_count_as_well() {
    let storage = Limited::empty(FEW);
    let log = storage.start(FEW);
    let partition = create(&log, "orders", 1, &[("segment.bytes", "1")]).partitions[0];
    append_to_all(&log, &[partition; 60], 1);
    assert_eq!(stored(&log, partition).len(), 60);
    assert!(log.metrics().file_waits > 0);
    assert!(storage.most() <= FEW, "{} were open", storage.most());
}

/// Symptom: an event was acknowledged that the next start did not have. Cause: where there are not files for all of a
/// group, the rest is committed behind the answers; one of these had stopped the log, and the rest was written to a
/// directory that was another one's by then. Fix: it is refused.
#[test]
fn what_waits_for_a_file_is_refused_when_an_answer_stops_the_log() {
    // Of the fewest files that a log may have, one is for a segment with unsynced bytes.
    let start = |storage: &FaultyStorage| Log::open(Arc::new(storage.clone()), config(0)).expect("opens").0;
    let storage = FaultyStorage::new(1, 256 * 1024 * 1024);
    let log = start(&storage);
    let partitions = create(&log, "orders", 2, &[]).partitions.clone();
    let (next, opened) = slot();
    let (again, stopping) = (storage.clone(), log.clone());
    log.append(partitions[0], batch(1, 1, 100, None), move |appended| {
        appended.expect("there is a file for it");
        stopping.stop();
        opened(start(&again));
    });
    let (answer, done) = slot();
    log.append(partitions[1], batch(2, 1, 100, None), done);
    while log.commit() {}
    let next = taken(&next);
    assert_eq!(taken(&answer), Err(AppendError::Writer(WriterError::Stopped)));
    assert_eq!(stored(&next, partitions[0]).len(), 1);
    assert_eq!(stored(&next, partitions[1]).len(), 0);
}

#[test]
fn with_threads_too_appends_wait_and_none_is_refused() {
    let storage = Limited::empty(FEW);
    let log = Log::open(Arc::new(storage.clone()), LogConfig { background: true, ..config(FEW) });
    let log = log.expect("opens").0;
    let (created, topic) = channel();
    log.create_topic(new_topic("orders", PARTITIONS, &[]), move |topic| {
        created.send(topic).expect("sends");
    });
    let partitions = topic.recv().expect("answered").expect("created").partitions.clone();
    for round in 1..=3 {
        let (answered, answers) = channel();
        for partition in &partitions {
            let answered = answered.clone();
            log.append(*partition, batch(round, 1, 100, None), move |appended| {
                answered.send(appended).expect("sends");
            });
        }
        drop(answered);
        assert_eq!(answers.iter().filter(Result::is_ok).count(), partitions.len());
    }
    assert!(log.metrics().file_waits > 0);
    log.stop();
    assert_each_has(&log, &partitions, 3);
    assert!(storage.most() <= FEW, "{} were open", storage.most());
}

/// The journal names more segments than may be open, and no checkpoint covers them. Whatever a power cut
/// leaves of such a start, the next one finds everything.
#[test]
fn a_start_replays_more_segments_than_may_be_open() {
    let before = Limited::empty(ENOUGH);
    let log = before.start(ENOUGH);
    let partitions = create(&log, "orders", PARTITIONS, &[]).partitions.clone();
    append_to_all(&log, &partitions, 1);
    append_to_all(&log, &partitions[..50], 2);
    assert_eq!(log.metrics().checkpoints, 1, "none but that of the start");
    let check = |log: &Log| {
        assert_each_has(log, &partitions[..50], 2);
        assert_each_has(log, &partitions[50..], 1);
    };

    let image = before.storage.crash_image(CrashMode::LoseAll, 3);
    let cuts = Arc::new(Mutex::new(Vec::new()));
    let seen = cuts.clone();
    image.set_hook(Box::new(move |storage, call, _| {
        if call % 41 == 0 {
            let modes = [CrashMode::LoseAll, CrashMode::KeepAll, CrashMode::RandomSubset];
            let mode = modes[(call / 41) as usize % modes.len()];
            seen.lock().expect("lock").push(storage.crash_image(mode, call));
        }
    }));
    let storage = Limited::new(image, FEW);
    let log = storage.start(FEW);
    storage.storage.clear_hook();
    check(&log);
    assert_eq!(log.damage(), Vec::new());
    assert!(storage.most() <= FEW, "{} were open", storage.most());

    let cuts = std::mem::take(&mut *cuts.lock().expect("lock"));
    assert!(cuts.len() > 10, "{} power cuts", cuts.len());
    for cut in cuts {
        check(&Limited::new(cut, FEW).start(FEW));
    }
}

#[test]
fn where_no_file_is_left_appends_are_refused_and_nothing_ends() {
    let storage = Limited::empty(ENOUGH);
    let log = storage.start(ENOUGH);
    let partitions = create(&log, "orders", 2, &[]).partitions.clone();
    append(&log, partitions[0], batch(1, 1, 100, None)).expect("appends");
    storage.leave(0);
    let refused = append(&log, partitions[1], batch(2, 1, 100, None));
    assert_eq!(refused, Err(AppendError::Writer(WriterError::OutOfFiles)));
    assert_eq!(log.checkpoint(), Err(WriterError::OutOfFiles));
    assert_eq!(log.health(), Health::Ready);
    append(&log, partitions[0], batch(3, 1, 100, None)).expect("its file is open");
    create(&log, "others", 1, &[]);

    storage.leave(usize::MAX);
    append(&log, partitions[1], batch(4, 1, 100, None)).expect("there are files again");
    log.checkpoint().expect("stores");
    let check = |log: &Log| {
        assert_each_has(log, &partitions[..1], 2);
        assert_each_has(log, &partitions[1..], 1);
        assert_eq!(log.catalog().len(), 2);
    };
    check(&log);
    log.stop();
    drop(log);
    check(&storage.start(ENOUGH));
}

/// A checkpoint that finds no file may have put its own in its place already. The next one must not stand
/// under the same number, beside a snapshot that is not its own: repetitions would not be recognised.
#[test]
fn a_checkpoint_that_lacks_a_file_at_any_point_is_stored_later() {
    let from = |base_sequence| Some(Producer { id: 5, epoch: 0, base_sequence });
    for left in 0.. {
        let storage = Limited::empty(ENOUGH);
        let log = storage.start(ENOUGH);
        let partition = create(&log, "orders", 1, &[]).partitions[0];
        append(&log, partition, batch(1, 1, 100, from(0))).expect("appends");
        storage.leave(left);
        let checkpoint = log.checkpoint();
        storage.leave(usize::MAX);
        assert_eq!(log.health(), Health::Ready, "{left} files were left");
        append(&log, partition, batch(2, 1, 100, from(1))).expect("appends");
        let check = |mode| {
            let log = Limited::new(storage.storage.crash_image(mode, left as u64), ENOUGH).start(ENOUGH);
            assert_eq!(stored(&log, partition).len(), 2, "{left} files were left, {mode:?}");
            for (sequence, tag) in [(0, 1), (1, 2)] {
                let again = append(&log, partition, batch(tag, 1, 100, from(sequence)));
                assert_eq!(again.expect("it is recognised").base_offset, tag - 1);
            }
            append(&log, partition, batch(3, 1, 100, from(2))).expect("the next one");
        };
        let modes = [CrashMode::LoseAll, CrashMode::KeepAll, CrashMode::RandomSubset];
        modes.into_iter().for_each(check);
        log.checkpoint().expect("stores");
        modes.into_iter().for_each(check);
        match checkpoint {
            Err(error) => assert_eq!(error, WriterError::OutOfFiles, "{left} files were left"),
            Ok(()) => {
                assert!(left > 3, "a checkpoint opens more than {left} files");
                break;
            }
        }
    }
}

/// A segment that cannot be opened now is not damaged: neither a read nor the look at its end before
/// something is added may say so.
#[test]
fn a_file_that_cannot_be_opened_is_no_damage() {
    let storage = Limited::empty(ENOUGH);
    let log = storage.start(ENOUGH);
    let partition = create(&log, "orders", 1, &[]).partitions[0];
    append(&log, partition, batch(1, 1, 100, None)).expect("appends");
    log.stop();
    drop(log);

    let log = storage.start(ENOUGH);
    storage.leave(0);
    let read = log.read(partition, 0, 1000, true);
    assert!(matches!(read, Err(ReadError::Io { .. })), "{read:?}");
    let refused = append(&log, partition, batch(2, 1, 100, None));
    assert_eq!(refused, Err(AppendError::Writer(WriterError::OutOfFiles)));
    assert_eq!(log.damage(), Vec::new());

    storage.leave(usize::MAX);
    append(&log, partition, batch(2, 1, 100, None)).expect("appends");
    assert_eq!(stored(&log, partition).len(), 2);
    let names = storage.list(&format!("segments/{:016x}", partition.0)).expect("lists");
    assert_eq!(names.len(), 1, "the same segment goes on: {names:?}");
}
