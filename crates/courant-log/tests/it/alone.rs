//! Appends that commit themselves, in turns with the committer, and the power goes while they do.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use courant_log::storage::{CrashMode, FaultyStorage};
use courant_log::{Log, PartitionId};

use courant_sim::random::Random;
use courant_sim::tiny::{batch, new_topic, tiny};

use crate::threads::{Progress, check};

/// Each has a partition for itself.
const THREADS: usize = 3;
const ROUNDS: u64 = 12;
/// So many appends have to commit themselves. On a busy machine the committer comes between more of them, and it
/// takes more rounds.
const HERE: u64 = 50;
const ROUNDS_MAX: u64 = 4 * ROUNDS;
/// Appends of a round: first of one thread alone, then of each.
const ALONE: u64 = 20;
const TOGETHER: u64 = 5;

/// What came of the rounds.
#[derive(Default)]
struct Crashed {
    images: usize,
    failures: Vec<String>,
}

/// A log, and what is known about it.
struct Run {
    storage: FaultyStorage,
    log: Log,
    partitions: Vec<PartitionId>,
    progress: Arc<Mutex<Progress>>,
    crashed: Arc<Mutex<Crashed>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Run {
    fn begin(seed: u64) -> Self {
        let storage = FaultyStorage::new(seed, 256 * 1024 * 1024);
        let mut config = tiny(seed);
        config.background = true;
        let log = Log::open(Arc::new(storage.clone()), config).expect("opens").0;
        let (created, topic) = channel();
        log.create_topic(new_topic("orders", THREADS as u32, &[("segment.bytes", "90000")]), move |topic| {
            created.send(topic).expect("sends");
        });
        let partitions = topic.recv().expect("answered").expect("created").partitions.clone();
        let progress = Progress { sent: vec![Vec::new(); THREADS], acknowledged: vec![0; THREADS] };
        Self { storage, log, partitions, progress: Arc::new(Mutex::new(progress)), crashed: Arc::default() }
    }

    /// From here on the power goes in a third of all calls, in whichever thread makes them.
    fn crash(&self) {
        let (seen, crashed, known) = (self.progress.clone(), self.crashed.clone(), self.partitions.clone());
        let mut random = Random(6);
        self.storage.set_hook(Box::new(move |storage, call, what| {
            if !random.draw().is_multiple_of(3) {
                return;
            }
            // What was acknowledged before the image must be in it; what is in it was sent by its end.
            let acknowledged = locked(&seen).acknowledged.clone();
            let mode = [CrashMode::LoseAll, CrashMode::RandomSubset][call as usize % 2];
            let image = storage.crash_image(mode, call);
            let sent = locked(&seen).sent.clone();
            let checked = catch_unwind(AssertUnwindSafe(|| check(&image, &known, &acknowledged, &sent)));
            let mut crashed = locked(&crashed);
            crashed.images += 1;
            if checked.is_err() {
                crashed.failures.push(format!("{mode:?} at call {call} ({what})"));
            }
        }));
    }

    /// One batch after the other, each when the one before is answered; how many this thread has committed.
    fn append(&self, index: usize, tags: std::ops::Range<u64>) -> u64 {
        let caller = thread::current().id();
        let mut here = 0;
        for tag in tags {
            let batch = batch(tag, 1, 500 + (tag * 7919 % 20_000) as usize, None);
            locked(&self.progress).sent[index].push(batch.header().crc);
            let (progress, (answered, answer)) = (self.progress.clone(), channel());
            self.log.append_here(self.partitions[index], batch, move |appended| {
                appended.expect("appended");
                locked(&progress).acknowledged[index] += 1;
                answered.send(thread::current().id()).expect("sends");
            });
            here += u64::from(answer.recv().expect("answered") == caller);
        }
        here
    }
}

/// `begin` is called in each thread before it appends, and what it returns is kept until the thread is done.
fn rounds<T>(begin: impl Fn() -> T + Sync) -> (Crashed, u64) {
    let run = Run::begin(5);
    run.crash();
    let mut here = 0;
    for round in 0..ROUNDS_MAX {
        if round >= ROUNDS && here > HERE {
            break;
        }
        let first = 1 + round * 1000;
        let _begun = begin();
        here += run.append(0, first..first + ALONE);
        thread::scope(|scope| {
            for index in 0..THREADS {
                let (run, begin) = (&run, &begin);
                scope.spawn(move || {
                    let _begun = begin();
                    let first = first + ALONE + 100 * index as u64;
                    run.append(index, first..first + TOGETHER)
                });
            }
        });
    }
    run.storage.clear_hook();
    run.log.stop();
    let crashed = std::mem::take(&mut *locked(&run.crashed));
    (crashed, here)
}

#[test]
fn nothing_is_lost_while_appends_commit_themselves() {
    let (crashed, here) = rounds(|| ());
    assert!(
        crashed.failures.is_empty(),
        "{} of {}: {}",
        crashed.failures.len(),
        crashed.images,
        crashed.failures[0]
    );
    assert!(crashed.images > 200, "{} images", crashed.images);
    assert!(here > HERE, "{here} appends have committed themselves");
}

/// The defect is in the threads that append and not in the committer: only what they commit themselves is
/// answered too early.
#[cfg(feature = "planted-defects")]
#[test]
fn an_append_that_is_answered_by_its_own_thread_before_the_sync_is_seen() {
    use courant_log::planted::{Defect, plant};

    let (crashed, here) = rounds(|| plant(Defect::AnswerBeforeSync));
    assert!(here > HERE, "{here} appends have committed themselves");
    assert!(!crashed.failures.is_empty(), "not seen in {} images", crashed.images);
}
