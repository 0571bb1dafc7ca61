//! The committer and the maintenance thread at work, and the power goes while they are.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{channel, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use courant_log::storage::{CrashMode, FaultyStorage, MemoryStorage, OpenMode, Storage as _};
use courant_log::{Health, Log, PartitionId};

use courant_sim::random::Random;
use courant_sim::tiny::{append, batch, create, new_topic, open, stored, tiny};

const IMAGES: usize = 400;

/// Long enough that only what never comes is not there by then, also where others have both processors.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long a thread of the log may be busy before an append is made that asks it once more. Hardly any test waits for
/// that.
const ASKED_AGAIN: Duration = Duration::from_secs(5);

/// What was sent to each partition and how much of it was acknowledged.
#[derive(Clone, Default)]
pub(crate) struct Progress {
    pub(crate) sent: Vec<Vec<u32>>,
    pub(crate) acknowledged: Vec<usize>,
}

pub(crate) fn check(
    image: &FaultyStorage,
    partitions: &[PartitionId],
    acknowledged: &[usize],
    sent: &[Vec<u32>],
) {
    let log = open(image, 9);
    for (index, partition) in partitions.iter().enumerate() {
        let found: Vec<_> = stored(&log, *partition).into_iter().map(|(_, crc, _)| crc).collect();
        assert!(found.len() >= acknowledged[index], "lost: {} of {}", found.len(), acknowledged[index]);
        assert!(found.len() <= sent[index].len(), "phantom");
        assert_eq!(found, sent[index][..found.len()], "reordered");
    }
}

/// Images are taken in whichever thread makes the call, while the other one goes on: what a single
/// thread never meets, such as a checkpoint captured between a new journal file and its first group.
#[test]
fn nothing_is_lost_while_both_threads_work() {
    let storage = FaultyStorage::new(3, 256 * 1024 * 1024);
    let mut config = tiny(3);
    config.background = true;
    let log = Log::open(Arc::new(storage.clone()), config).expect("opens").0;
    let (created, topic) = channel();
    log.create_topic(new_topic("orders", 3, &[("segment.bytes", "90000")]), move |topic| {
        created.send(topic).expect("sends");
    });
    let partitions = topic.recv().expect("answered").expect("created").partitions.clone();
    let progress = Arc::new(Mutex::new(Progress { sent: vec![Vec::new(); 3], acknowledged: vec![0; 3] }));
    let failures: Arc<Mutex<Vec<String>>> = Arc::default();
    let images = Arc::new(Mutex::new(0));
    let (seen, counted, failed, known) =
        (progress.clone(), images.clone(), failures.clone(), partitions.clone());
    let mut random = Random(3);
    storage.set_hook(Box::new(move |storage, call, what| {
        if !random.draw().is_multiple_of(3) {
            return;
        }
        // What was acknowledged before the image must be in it; what is in it was sent by its end.
        let acknowledged = seen.lock().expect("lock").acknowledged.clone();
        let mode = [CrashMode::LoseAll, CrashMode::RandomSubset, CrashMode::StaleGarbage][call as usize % 3];
        let image = storage.crash_image(mode, call);
        let sent = seen.lock().expect("lock").sent.clone();
        *counted.lock().expect("lock") += 1;
        if catch_unwind(AssertUnwindSafe(|| check(&image, &known, &acknowledged, &sent))).is_err() {
            failed.lock().expect("lock").push(format!("{mode:?} at call {call} ({what})"));
        }
    }));
    let (free, slots) = sync_channel(16);
    for _ in 0..16 {
        free.send(()).expect("sends");
    }
    let mut random = Random(4);
    let mut tag = 0;
    while *images.lock().expect("lock") < IMAGES {
        slots.recv().expect("an answer");
        tag += 1;
        let index = random.below(3) as usize;
        let batch = batch(tag, 1, 500 + random.below(40_000) as usize, None);
        progress.lock().expect("lock").sent[index].push(batch.header().crc);
        let (progress, free) = (progress.clone(), free.clone());
        log.append(partitions[index], batch, move |appended| {
            appended.expect("appended");
            progress.lock().expect("lock").acknowledged[index] += 1;
            free.send(()).expect("sends");
        });
    }
    storage.clear_hook();
    log.stop();
    let failures = failures.lock().expect("lock");
    assert!(failures.is_empty(), "{} of {IMAGES}: {:?}", failures.len(), failures.first());
    assert!(log.metrics().checkpoints > 10);
}

/// The files that the ring grows by are filled in steps, with a rest after each. Appends need room long before
/// the first of them is whole: whoever waits for it is not kept waiting by the rests, and loses nothing.
#[test]
fn a_ring_that_grows_in_steps_takes_what_waits_for_it() {
    const FILE_BYTES: u64 = 3 * 1024 * 1024;
    const APPENDS: u64 = 60;
    let storage = FaultyStorage::new(5, 64 * 1024 * 1024);
    let mut config = tiny(5);
    config.background = true;
    config.journal_file_bytes = FILE_BYTES;
    let log = Log::open(Arc::new(storage.clone()), config).expect("opens").0;
    let (created, topic) = channel();
    log.create_topic(new_topic("orders", 1, &[]), move |topic| created.send(topic).expect("sends"));
    let partition = topic.recv().expect("answered").expect("created").partitions[0];
    let (answered, answers) = channel();
    for tag in 1..=APPENDS {
        let answered = answered.clone();
        log.append(partition, batch(tag, 1, 40_000, None), move |appended| {
            answered.send(appended).expect("sends");
        });
    }
    for _ in 0..APPENDS {
        answers.recv().expect("answered").expect("appended");
    }
    let image = storage.crash_image(CrashMode::LoseAll, 1);
    assert_eq!(stored(&open(&image, 9), partition).len() as u64, APPENDS);
    log.stop();
    let bytes = |name: &String| {
        let file = storage.open(&format!("journal/{name}"), OpenMode::Existing).expect("opens");
        file.len().expect("measures")
    };
    let files = storage.list("journal").expect("lists");
    assert!(files.iter().any(|name| bytes(name) == FILE_BYTES), "{files:?}");
}

/// A log begins with small files. Once an append has waited for a ring that had all of its files, large ones come
/// in their place, one after the other. The power may go at each change of a name meanwhile.
#[test]
fn a_ring_that_has_run_dry_gets_large_files_for_its_small_ones() {
    const FILE_BYTES: u64 = 256 * 1024;
    /// The two small files take one of them each, and a large one six.
    const APPENDS: u64 = 60;
    let storage = FaultyStorage::new(6, 64 * 1024 * 1024);
    let mut config = tiny(6);
    config.journal_file_bytes = FILE_BYTES;
    let log = Log::open(Arc::new(storage.clone()), config).expect("opens").0;
    let partition = create(&log, "orders", 1, &[]).partitions[0];
    let sizes = |storage: &FaultyStorage| {
        let files = storage.list("journal").expect("lists");
        let bytes = |name: &String| {
            let file = storage.open(&format!("journal/{name}"), OpenMode::Existing).expect("opens");
            file.len().expect("measures")
        };
        let mut sizes: Vec<u64> = files.iter().map(bytes).collect();
        sizes.sort_unstable();
        sizes
    };
    let (acknowledged, images) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (known, taken) = (acknowledged.clone(), images.clone());
    storage.set_hook(Box::new(move |storage, call, what| {
        if !matches!(what, "remove_file" | "rename" | "sync_dir") {
            return;
        }
        for mode in [CrashMode::LoseAll, CrashMode::RandomSubset] {
            let found = stored(&open(&storage.crash_image(mode, call), 9), partition).len() as u64;
            let known = known.load(Ordering::SeqCst);
            assert!((known..=known + 1).contains(&found), "{mode:?} at call {call}: {found} of {known}");
        }
        taken.fetch_add(1, Ordering::SeqCst);
    }));
    for tag in 1..=APPENDS {
        append(&log, partition, batch(tag, 1, 40_000, None)).expect("appends");
        acknowledged.store(tag, Ordering::SeqCst);
    }
    storage.clear_hook();
    assert!(images.load(Ordering::SeqCst) > 10);
    assert_eq!(sizes(&storage), [FILE_BYTES; 4]);
}

/// Symptom: on a disk that is nearly full each start took a small file out of its ring and made it anew, and while it
/// had not, appends waited for a ring of three. Cause: whether there is room for a large one was known only when the
/// ring was to grow. Fix: it is looked at before one is taken out.
#[test]
fn a_ring_that_has_run_dry_keeps_its_small_files_where_no_large_one_has_room() {
    const FILE_BYTES: u64 = 16 * 1024 * 1024;
    /// Each takes a small file.
    const APPENDS: u64 = 20;
    let storage = FaultyStorage::new(6, FILE_BYTES);
    let start = |seed| {
        let mut config = tiny(seed);
        config.journal_file_bytes = FILE_BYTES;
        Log::open(Arc::new(storage.clone()), config).expect("opens").0
    };
    let fill = |log: &Log, partition, from: u64| {
        for tag in from..from + APPENDS {
            append(log, partition, batch(tag, 1, 40_000, None)).expect("appends");
        }
    };
    let files = || storage.list("journal").expect("lists");
    let log = start(6);
    let partition = create(&log, "orders", 1, &[]).partitions[0];
    fill(&log, partition, 1);
    log.stop();
    drop(log);
    let log = start(7);
    let before = files();
    assert_eq!(before.len(), 4);
    fill(&log, partition, 1 + APPENDS);
    assert!(log.metrics().journal_waits > 0, "it has run dry");
    assert_eq!(files(), before);
    assert_eq!(stored(&log, partition).len() as u64, 2 * APPENDS);
}

#[test]
fn a_callback_that_panics_hurts_nobody_else() {
    let mut config = tiny(1);
    config.background = true;
    let log = Log::open(Arc::new(MemoryStorage::new(16 * 1024 * 1024)), config).expect("opens").0;
    let (created, topic) = channel();
    log.create_topic(new_topic("orders", 1, &[]), move |topic| created.send(topic).expect("sends"));
    let partition = topic.recv().expect("answered").expect("created").partitions[0];
    let (answered, answers) = channel();
    for tag in 1..20 {
        let answered = answered.clone();
        log.append(partition, batch(tag, 1, 100, None), move |appended| {
            assert!(tag != 3, "a defect of whoever waits");
            answered.send(appended).expect("sends");
        });
    }
    for _ in 1..19 {
        answers.recv().expect("answered").expect("appended");
    }
    assert_eq!(log.health(), Health::Ready);
    log.stop();
    assert_eq!(stored(&log, partition).len(), 19);
}

fn background_log(seed: u64) -> (Log, PartitionId) {
    let mut config = tiny(seed);
    config.background = true;
    let log = Log::open(Arc::new(MemoryStorage::new(64 * 1024 * 1024)), config).expect("opens").0;
    let (created, topic) = channel();
    log.create_topic(new_topic("orders", 1, &[]), move |topic| created.send(topic).expect("sends"));
    let partition = topic.recv().expect("answered").expect("created").partitions[0];
    (log, partition)
}

/// Appends one batch after the other, each when the one before is answered, and says how many of them this
/// thread has committed itself.
fn append_in_turn(log: &Log, partition: PartitionId, tags: std::ops::Range<u64>) -> u64 {
    let mut here = 0;
    let mut last = None;
    for tag in tags {
        let (answered, answer) = channel();
        log.append_here(partition, batch(tag, 1, 100, None), move |appended| {
            answered.send((appended, std::thread::current().id())).expect("sends");
        });
        let (appended, by) = answer.recv().expect("answered");
        let offset = appended.expect("appended").base_offset;
        assert!(last.is_none_or(|last| last < offset), "{last:?} {offset}");
        last = Some(offset);
        here += u64::from(by == std::thread::current().id());
    }
    here
}

/// Waits, within reason, until something is so.
pub(crate) fn becomes(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        std::thread::yield_now();
    }
}

/// Files of the ring that have their names.
fn journal_files(storage: &MemoryStorage) -> usize {
    let names = storage.list("journal").expect("lists");
    names.iter().filter(|name| name.ends_with(".journal")).count()
}

/// Appends until the ring has a third file, a few times at most, and says what comes next. An append that finds the
/// thread of the log busy asks for no file, so before the next one it has some time: by the clock, because who looks
/// again and again may have a processor while that thread has none.
fn append_until_a_third_file(
    log: &Log,
    partition: PartitionId,
    storage: &MemoryStorage,
    mut tags: std::ops::Range<u64>,
) -> u64 {
    let mut next = Instant::now();
    becomes("a third file", || {
        if Instant::now() >= next
            && let Some(tag) = tags.next()
        {
            append_in_turn(log, partition, tag..tag + 1);
            next = Instant::now() + ASKED_AGAIN;
        }
        journal_files(storage) >= 3
    });
    tags.start
}

/// The next file is begun while there is still one free and half of the current one.
#[test]
fn the_ring_grows_before_its_last_free_file_is_needed() {
    let storage = MemoryStorage::new(64 * 1024 * 1024);
    let mut config = tiny(1);
    config.background = true;
    let log = Log::open(Arc::new(storage.clone()), config).expect("opens").0;
    let (created, topic) = channel();
    log.create_topic(new_topic("orders", 1, &[]), move |topic| created.send(topic).expect("sends"));
    let partition = topic.recv().expect("answered").expect("created").partitions[0];
    becomes("a second file", || journal_files(&storage) >= 2);
    // A block of the journal each, and the first file takes 14 of them.
    append_in_turn(&log, partition, 0..8);
    append_until_a_third_file(&log, partition, &storage, 8..12);
    assert_eq!(log.metrics().journal_waits, 0);
    log.stop();
}

/// Symptom: a start on an empty directory took 35 ms. Cause: it filled a second file of the journal, and held room for
/// a checkpoint, which nothing needs yet. Fix: a thread of the log does both. On a disk that is nearly full the start
/// makes the file, because later there may be no room for it.
#[test]
fn a_start_waits_for_one_file_of_the_journal() {
    let start = |reserve_bytes| {
        let storage = FaultyStorage::new(1, 64 * 1024 * 1024);
        let aside = Arc::new(AtomicU64::new(0));
        let counted = aside.clone();
        storage.set_hook(Box::new(move |_, _, what| {
            if std::thread::current().name() == Some("courant-maintain")
                && matches!(what, "create" | "rename")
            {
                counted.fetch_add(1, Ordering::SeqCst);
            }
        }));
        let mut config = tiny(1);
        (config.background, config.reserve_bytes) = (true, reserve_bytes);
        let log = Log::open(Arc::new(storage.clone()), config).expect("opens").0;
        (log, storage, aside)
    };
    let names = |storage: &FaultyStorage, dir: &str| storage.list(dir).expect("lists");
    let (log, storage, aside) = start(1024 * 1024);
    // The file of the ring is created and renamed, and that of the room created.
    becomes("what a thread of the log makes", || aside.load(Ordering::SeqCst) == 3);
    becomes("a second file", || names(&storage, "journal") == ["00000001.journal", "00000002.journal"]);
    assert!(names(&storage, "").contains(&"RESERVE".to_owned()));
    log.stop();
    let (log, storage, aside) = start(64 * 1024 * 1024);
    assert_eq!(names(&storage, "journal").len(), 2);
    log.stop();
    assert_eq!(aside.load(Ordering::SeqCst), 0);
}

/// The first checkpoint of a log frees no file of a ring that still grows, so it can wait until there is as
/// much to free as in a complete one.
#[test]
fn no_checkpoint_comes_before_the_ring_has_grown() {
    let storage = MemoryStorage::new(64 * 1024 * 1024);
    let mut config = tiny(1);
    config.background = true;
    config.journal_file_bytes = 1024 * 1024;
    let log = Log::open(Arc::new(storage.clone()), config).expect("opens").0;
    let (created, topic) = channel();
    log.create_topic(new_topic("orders", 1, &[]), move |topic| created.send(topic).expect("sends"));
    let partition = topic.recv().expect("answered").expect("created").partitions[0];
    let checkpoints = log.metrics().checkpoints;
    becomes("a second file", || journal_files(&storage) >= 2);
    // A block of the journal each: more than half of the two files that a log begins with.
    append_in_turn(&log, partition, 0..16);
    let sent = append_until_a_third_file(&log, partition, &storage, 16..24);
    assert_eq!(log.metrics().checkpoints, checkpoints);
    // A third of two small files and two large ones. An append that finds the thread busy asks for nothing, so
    // the last one of them may not have asked.
    append_in_turn(&log, partition, sent..220);
    let mut sent = 220;
    becomes("a checkpoint", || {
        append_in_turn(&log, partition, sent..sent + 1);
        sent += 1;
        log.metrics().checkpoints > checkpoints
    });
    log.stop();
    assert_eq!(stored(&log, partition).len() as u64, sent);
}

/// One append at a time needs no other thread, once that is seen; the journal is sealed behind it as behind
/// any other, each time.
#[test]
fn a_lone_append_is_committed_where_it_comes_from_and_sealed() {
    let (log, partition) = background_log(1);
    assert!(!log.is_alone());
    let (mut sent, mut here) = (0, 0);
    becomes("appends that commit themselves", || {
        here += append_in_turn(&log, partition, sent..sent + 1);
        sent += 1;
        here == 50
    });
    assert!(sent > 50, "the first ones were the committer's");
    for _ in 0..3 {
        // One for the append, and at least one for the seal behind it.
        let syncs = log.metrics().syncs;
        append_in_turn(&log, partition, sent..sent + 1);
        sent += 1;
        becomes("a seal", || log.metrics().syncs >= syncs + 2);
    }
    log.stop();
    assert_eq!(stored(&log, partition).len() as u64, sent);
}

/// Whoever commits, the order of each thread is kept and nothing is twice or missing.
#[test]
fn appends_that_commit_themselves_and_appends_that_do_not_get_along() {
    const THREADS: u64 = 4;
    const EACH: u64 = 300;
    let (log, partition) = background_log(2);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let log = &log;
            scope.spawn(move || {
                let first = thread * EACH;
                append_in_turn(log, partition, first..first + EACH)
            });
        }
    });
    assert_eq!(log.health(), Health::Ready);
    log.stop();
    assert_eq!(stored(&log, partition).len() as u64, THREADS * EACH);
}

#[test]
fn what_came_quietly_is_committed_together_by_the_thread_that_asks_for_it() {
    let (log, partition) = background_log(5);
    let mut sent = 0;
    // The committer looks by itself now and then, and may be there first.
    becomes("three appends that are committed here, together", || {
        let (answered, answers) = channel();
        let groups = log.metrics().groups;
        for _ in 0..3 {
            let answered = answered.clone();
            log.append_quietly(partition, batch(sent, 1, 100, None), move |appended| {
                appended.expect("appended");
                answered.send(std::thread::current().id()).expect("sends");
            });
            sent += 1;
        }
        log.commit_here();
        let by: Vec<_> = (0..3).map(|_| answers.recv().expect("answered")).collect();
        let is_here = |by: &std::thread::ThreadId| *by == std::thread::current().id();
        by.iter().all(is_here) && log.metrics().groups == groups + 1
    });
    log.stop();
    assert_eq!(stored(&log, partition).len() as u64, sent);
}

/// Symptom: events of the class `interval` were not synced, and the journal not sealed, while a client sent again and
/// again what is refused before it comes to the log. Cause: the thread that had asked for a commit counted as one
/// that has committed, and behind a commit the log is not idle. Fix: where nothing waits, nothing is counted.
#[test]
fn whoever_has_nothing_to_commit_does_not_keep_the_log_from_being_sealed() {
    let (log, partition) = background_log(6);
    // Twice: the first seal may be the one behind the topic.
    for sent in 0..2 {
        // One for the append, and at least one for the seal behind it.
        let syncs = log.metrics().syncs;
        append_in_turn(&log, partition, sent..sent + 1);
        becomes("a seal", || {
            log.commit_here();
            log.metrics().syncs >= syncs + 2
        });
    }
    log.stop();
    assert_eq!(stored(&log, partition).len(), 2);
}

/// It used to wait for ever: the callback's thread for the committer, and the committer for its turn, which
/// that thread has as long as it is in the callback.
#[test]
fn a_callback_of_an_append_that_commits_itself_may_stop_the_log() {
    let (log, partition) = background_log(3);
    let mut sent = 0;
    becomes("an append that commits itself", || {
        let (answered, answer) = channel();
        let (log_of_callback, caller) = (log.clone(), std::thread::current().id());
        log.append_here(partition, batch(sent, 1, 100, None), move |appended| {
            appended.expect("appended");
            let is_here = std::thread::current().id() == caller;
            if is_here {
                // The committer wakes for this one. It is stored, whoever does it.
                log_of_callback.append(partition, batch(1000, 1, 100, None), |appended| {
                    appended.expect("appended");
                });
                log_of_callback.stop();
            }
            answered.send(is_here).expect("sends");
        });
        sent += 1;
        answer.recv().expect("answered")
    });
    assert_eq!(log.health(), Health::Stopping);
    assert_eq!(stored(&log, partition).len() as u64, sent + 1);
}
