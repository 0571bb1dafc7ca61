//! Acceptance tests: the built binary, driven from outside by clients that know nothing of it.
//!
//! Nothing here waits by sleeping: the tests wait for a line, an acknowledgement or an answer, with a
//! deadline. `COURANT_TEST_SEED` repeats a run with the dice of another one.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where, by panicking")]

mod append_time;
mod backup;
mod backup_s3;
mod bad_input;
mod bad_storage;
#[cfg(feature = "sql")]
mod channel;
mod cli;
mod cli_groups;
mod clients;
mod clocks;
mod compaction;
mod config;
mod console;
mod demo;
mod disk;
#[cfg(feature = "sql")]
mod dlq;
#[cfg(all(feature = "sql", feature = "kafka"))]
mod dlq_databases;
#[cfg(feature = "sql")]
mod dlq_foreign;
#[cfg(feature = "sql")]
mod dlq_spring;
mod doctor;
mod few_files;
mod follow;
mod full_disk;
#[cfg(feature = "sql")]
mod full_store;
mod http_api;
#[cfg(feature = "sql")]
mod http_dead_letters;
mod http_publish;
mod http_records;
mod http_tail;
mod interrupted;
mod kill;
mod ledger;
mod load;
mod log_inspect;
mod log_repair;
mod log_verify;
mod long_poll;
mod many_partitions;
mod memory_budget;
mod memory_limit;
mod metrics;
mod otlp;
mod planted;
mod power_cut;
mod raw;
mod recompression;
#[cfg(all(feature = "sql", feature = "kafka"))]
mod relay;
#[cfg(all(feature = "sql", feature = "kafka"))]
mod relay_support;
mod scrub;
mod server;
mod settings;
mod stop;
mod storms;
mod tls;
mod top;
mod torture;
#[cfg(feature = "sql")]
mod traces;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How long a step may take that usually takes milliseconds. Generous, because a busy machine is
/// not a failure.
const PATIENCE: Duration = Duration::from_secs(60);

/// Calls `probe` until it finds something.
///
/// # Panics
/// When it has found nothing within `within`.
fn eventually<T>(what: &str, within: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + within;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {within:?}: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Says that a test could not run here, in the form that the task runner counts.
fn skip(test: &str, reason: &str) {
    // Not `eprintln!`: the test harness would swallow it.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {test}: {reason}");
}

/// A program on the `PATH` that runs, or nothing.
fn program(name: &str, version_flag: &str) -> Option<PathBuf> {
    let ran = Command::new(name)
        .arg(version_flag)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    ran.is_ok_and(|status| status.success()).then(|| PathBuf::from(name))
}

/// A Python that has at least the standard library: the tests' own, else the system's.
fn any_python() -> Option<PathBuf> {
    std::env::var_os("COURANT_TEST_PYTHON").map(PathBuf::from).or_else(|| program("python3", "--version"))
}

/// A script of `clients/python`.
fn python_script(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../clients/python").join(name)
}

/// A program of `clients/rust`, which is built with the tests.
fn example(name: &str) -> PathBuf {
    let binaries = Path::new(env!("CARGO_BIN_EXE_courant")).parent().expect("it is in a folder");
    binaries.join("examples").join(name)
}

/// Whether the tests run as root. `/proc/self` belongs to whom the process runs as.
fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").is_ok_and(|about| about.uid() == 0)
}

/// The seed of this run.
fn seed() -> u64 {
    std::env::var("COURANT_TEST_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(20_261_101)
}

/// How often something is done: what the variable says, for long runs.
fn rounds(variable: &str, otherwise: u32) -> u32 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// Seeds and rounds of so many rounds in all: a data directory is read again and again, and must not
/// grow without end.
fn laps(seed: u64, rounds: u32) -> impl Iterator<Item = (u64, u32)> {
    const ROUNDS_MAX: u32 = 100;
    let laps = u64::from(rounds.div_ceil(ROUNDS_MAX));
    (0..laps).map(move |lap| {
        let before = u32::try_from(lap).unwrap_or(u32::MAX) * ROUNDS_MAX;
        (seed + lap, (rounds - before).min(ROUNDS_MAX))
    })
}

/// Tells a long run on which file system it was and what it has come to.
fn done(filesystem: &str, detail: &str) {
    if let Some(path) = std::env::var_os("COURANT_TEST_DONE") {
        std::fs::write(path, format!("{filesystem}\t{detail}\n")).expect("the file can be written");
    }
}

/// Random numbers that a seed repeats (SplitMix64).
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number in `low..high`.
    fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.roll() % (high - low)
    }

    /// Bytes that no codec makes smaller.
    fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(count + 8);
        while bytes.len() < count {
            bytes.extend_from_slice(&self.roll().to_be_bytes());
        }
        bytes.truncate(count);
        bytes
    }
}
