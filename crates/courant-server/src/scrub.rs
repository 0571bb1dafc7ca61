//! The scrubber: a thread that compares what is stored with its checksums, slowly and again and again, so
//! that rot is found before a reader comes to it.

mod pace;

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use courant_log::{Log, Scrub};
use tracing::{debug, error, info, warn};

use self::pace::{Next, Pace};

/// What the scrubber has come to, for `/metrics`.
#[derive(Debug, Default)]
pub(crate) struct Scrubbed {
    /// A pass is under way.
    pub(crate) running: AtomicBool,
    /// Bytes compared since the start.
    pub(crate) bytes: AtomicU64,
    /// Those of them that the newest pass has compared.
    pub(crate) pass_bytes: AtomicU64,
    /// Bytes that were stored when the newest pass began.
    pub(crate) pass_bytes_expected: AtomicU64,
    /// Passes that have come to their end and read every segment through.
    pub(crate) passes: AtomicU64,
    /// Segments that could not be read to their end, for a reason that is none of their bytes.
    pub(crate) failures: AtomicU64,
    /// When the last of these passes ended, in seconds since 1970; 0 before.
    pub(crate) ended_unix_seconds: AtomicU64,
}

/// A running scrubber. Dropped, it ends by itself, a little later.
pub(crate) struct Scrubber {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: Mutex<bool>,
    stopping: Condvar,
    scrubbed: Arc<Scrubbed>,
}

impl fmt::Debug for Scrubber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scrubber").field("scrubbed", &self.shared.scrubbed).finish_non_exhaustive()
    }
}

impl Scrubber {
    /// Starts one, unless the interval is zero. A server goes on without it where there is no thread for it.
    pub(crate) fn start(log: Log, interval: Duration, bytes_per_second: u64) -> Option<Self> {
        if interval.is_zero() {
            return None;
        }
        let shared = Arc::new(Shared::default());
        let (pace, known) = (Pace::new(interval, bytes_per_second), Arc::clone(&shared));
        let thread = thread::Builder::new().name("courant-scrub".into());
        match thread.spawn(move || run(&log, pace, &known)) {
            Ok(thread) => Some(Self { shared, thread: Some(thread) }),
            Err(error) => {
                warn!(%error, "no thread looks for damage: only readers will find it");
                None
            }
        }
    }

    /// What it has come to, also after its end.
    pub(crate) fn scrubbed(&self) -> Arc<Scrubbed> {
        Arc::clone(&self.shared.scrubbed)
    }

    /// Ends it, after the piece that it is comparing.
    pub(crate) fn stop(mut self) {
        self.shared.stop();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            error!("the scrubber panicked, which is a defect");
        }
    }
}

impl Drop for Scrubber {
    fn drop(&mut self) {
        self.shared.stop();
    }
}

impl Shared {
    fn locked(&self) -> MutexGuard<'_, bool> {
        self.stop.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stop(&self) {
        *self.locked() = true;
        self.stopping.notify_all();
    }

    /// Waits so long; false: it is to end.
    fn wait(&self, time: Duration) -> bool {
        let waited = self.stopping.wait_timeout_while(self.locked(), time, |stop| !*stop);
        let (stop, _) = waited.unwrap_or_else(PoisonError::into_inner);
        !*stop
    }
}

fn run(log: &Log, mut pace: Pace, shared: &Shared) {
    let started = Instant::now();
    let mut pass: Option<Pass<'_>> = None;
    let mut wait = Duration::ZERO;
    while shared.wait(wait) {
        wait = Duration::ZERO;
        let now = started.elapsed();
        match pace.next(now) {
            Next::Wait(left) => wait = left,
            Next::Begin => {
                pass = Some(Pass::begin(log, &shared.scrubbed, now));
                pace.begun(now);
            }
            Next::Compare { bytes_max } => match pass.as_mut().and_then(|pass| pass.step(bytes_max)) {
                Some(bytes) => pace.compared(bytes, now),
                None => {
                    if let Some(pass) = pass.take() {
                        pass.end(log, now);
                    }
                    pace.ended(now);
                }
            },
        }
    }
    shared.scrubbed.running.store(false, Relaxed);
}

/// The pass that is under way.
struct Pass<'a> {
    scrub: Scrub,
    scrubbed: &'a Scrubbed,
    began: Duration,
    /// Segments of it that could not be read to their end.
    failures: u64,
}

impl<'a> Pass<'a> {
    fn begin(log: &Log, scrubbed: &'a Scrubbed, now: Duration) -> Self {
        // Any number will do, if it is another one after each start.
        let scrub = log.begin_scrub(since_1970().subsec_nanos().into());
        debug!(bytes = scrub.bytes(), "looking for damage that no reader has met");
        scrubbed.pass_bytes.store(0, Relaxed);
        scrubbed.pass_bytes_expected.store(scrub.bytes(), Relaxed);
        scrubbed.running.store(true, Relaxed);
        Self { scrub, scrubbed, began: now, failures: 0 }
    }

    /// Compares a piece, and says what to count for it; nothing at the end.
    fn step(&mut self, bytes_max: u64) -> Option<u64> {
        match self.scrub.step(bytes_max) {
            Ok(bytes) => {
                let compared = bytes.unwrap_or(0);
                self.scrubbed.bytes.fetch_add(compared, Relaxed);
                self.scrubbed.pass_bytes.fetch_add(compared, Relaxed);
                bytes
            }
            Err(error) => {
                warn!(%error, "a segment could not be read through; the next pass tries it again");
                self.scrubbed.failures.fetch_add(1, Relaxed);
                self.failures += 1;
                Some(bytes_max)
            }
        }
    }

    fn end(&self, log: &Log, now: Duration) {
        let Scrubbed { passes, ended_unix_seconds, running, pass_bytes, .. } = self.scrubbed;
        running.store(false, Relaxed);
        let (bytes, seconds) = (pass_bytes.load(Relaxed), now.saturating_sub(self.began).as_secs());
        let damaged_places = log.damage().len();
        if self.failures > 0 {
            let segments = self.failures;
            warn!(
                bytes,
                seconds,
                damaged_places,
                segments,
                "not everything stored could be compared: segments could not be read through"
            );
            return;
        }
        ended_unix_seconds.store(since_1970().as_secs(), Relaxed);
        passes.fetch_add(1, Relaxed);
        info!(bytes, seconds, damaged_places, "everything stored was compared with its checksums");
    }
}

fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::mpsc;

    use super::*;
    use courant_core::topic::TopicName;
    use courant_log::batch::records::{NewRecord, encode};
    use courant_log::storage::{FaultyStorage, MemoryStorage};
    use courant_log::{Batch, Codec, LogConfig, NewTopic, SystemClock, SystemEntropy};

    fn config() -> LogConfig {
        let mut config = LogConfig::new(Arc::new(SystemClock), Arc::new(SystemEntropy));
        config.reserve_bytes = 0;
        config
    }

    fn log() -> Log {
        Log::open(Arc::new(MemoryStorage::new(64 * 1024 * 1024)), config()).expect("opens").0
    }

    #[test]
    fn passes_are_made_and_counted_and_the_end_comes_at_once() {
        let scrubber = Scrubber::start(log(), Duration::from_nanos(1), 1 << 30).expect("starts");
        let scrubbed = scrubber.scrubbed();
        let deadline = Instant::now() + Duration::from_secs(60);
        while scrubbed.passes.load(Relaxed) < 3 {
            assert!(Instant::now() < deadline, "{scrubbed:?}");
            thread::yield_now();
        }
        assert!(scrubbed.ended_unix_seconds.load(Relaxed) > 1_700_000_000);
        scrubber.stop();
        let passes = scrubbed.passes.load(Relaxed);
        assert!(!scrubbed.running.load(Relaxed));
        assert_eq!((scrubbed.failures.load(Relaxed), scrubbed.passes.load(Relaxed)), (0, passes));
    }

    /// Symptom: a pass that could not read a segment was said to have compared everything that is stored, and moved the
    /// time that says when that was last done. Cause: only its end was looked at. Fix: so is what it could not read.
    #[test]
    fn a_pass_that_could_not_read_a_segment_is_no_look_at_everything() {
        let storage = FaultyStorage::new(1, 64 * 1024 * 1024);
        let mut config = config();
        (config.background, config.first_journal_file_bytes) = (false, 1024 * 1024);
        let (log, _) = Log::open(Arc::new(storage.clone()), config).expect("opens");
        let name = TopicName::new("orders").expect("legal");
        let (created, topic) = mpsc::channel();
        log.create_topic(NewTopic { name, partitions: 1, configs: BTreeMap::new() }, move |topic| {
            created.send(topic).expect("sends");
        });
        while log.commit() {}
        let topic = topic.recv().expect("answered").expect("created");
        let batch = Batch::validate(encode(&[NewRecord::default()], Codec::None, None).expect("encodes"));
        log.append(topic.partitions[0], batch.expect("valid"), |appended| {
            appended.expect("appended");
        });
        while log.commit() {}
        let scrubbed = Scrubbed::default();
        let pass = || {
            let mut pass = Pass::begin(&log, &scrubbed, Duration::ZERO);
            while pass.step(1 << 20).is_some() {}
            pass.end(&log, Duration::ZERO);
            assert!(!scrubbed.running.load(Relaxed));
            [&scrubbed.passes, &scrubbed.failures].map(|figure| figure.load(Relaxed))
        };
        assert_eq!(pass(), [1, 0]);
        assert!(scrubbed.ended_unix_seconds.swap(7, Relaxed) > 1_700_000_000);
        // From now on nothing can be read, and nobody says that it were damaged.
        storage.stop();
        assert_eq!(pass(), [1, 1]);
        assert_eq!((scrubbed.ended_unix_seconds.load(Relaxed), log.damage().len()), (7, 0));
    }

    #[test]
    fn a_wait_of_a_week_ends_when_it_is_told_to() {
        let scrubber = Scrubber::start(log(), Duration::from_secs(604_800), 1).expect("starts");
        let began = Instant::now();
        scrubber.stop();
        assert!(began.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn without_an_interval_there_is_none() {
        assert!(Scrubber::start(log(), Duration::ZERO, 1).is_none());
    }
}
