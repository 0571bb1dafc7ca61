//! Explores scripts one after the other, or has every byte of what they leave go bad, for as long as it
//! is told, and goes on where it was stopped.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a task speaks to the person who started it")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use courant_log::storage::CrashMode;
use courant_sim::crash::{self, Plan, explore};
use courant_sim::damage;
use courant_sim::every_byte::EveryByte;
use courant_sim::workload::Workload;

const USAGE: &str = "\
courant-sim [--points N] [--minutes N] [--threads N] [--state FILE]
courant-sim --seed N
courant-sim damage [--minutes N] [--threads N] [--state FILE]
courant-sim damage --seed N

  --points N    stop when so many crash points have been explored, in all runs together (10000000)
  --minutes N   stop after that time, or with the points, whichever comes first
  --threads N   scripts, or bytes, at the same time (1 for each core)
  --state FILE  where the next seed and the counts are kept between runs
  --seed N      one script only, with everything that is wrong in it; of damage, one data directory

damage has every byte of a small data directory go bad, each in a copy of its own. Without --minutes it
ends with the directory that was begun.
";

/// Operations of each script.
const OPERATIONS: u64 = 120;
/// Bytes that a thread takes at a time.
const CHUNK_BYTES: u64 = 256;
/// Chunks between two lines about the progress.
const CHUNKS_TOLD: u64 = 64;

#[derive(Debug)]
struct Options {
    damage: bool,
    points: u64,
    time: Option<Duration>,
    threads: usize,
    state: Option<PathBuf>,
    seed: Option<u64>,
}

/// What all runs have come to.
#[derive(Clone, Debug, Default)]
struct Sum {
    next_seed: u64,
    scripts: u64,
    points: u64,
    nested: u64,
    failures: u64,
    /// Seeds that are being worked at.
    running: BTreeSet<u64>,
}

impl Sum {
    fn begin(&mut self) -> u64 {
        let seed = self.next_seed;
        self.next_seed += 1;
        self.running.insert(seed);
        seed
    }

    fn add(&mut self, seed: u64, outcome: &crash::Outcome) {
        self.running.remove(&seed);
        self.scripts += 1;
        self.points += outcome.points;
        self.nested += outcome.nested;
        self.failures += outcome.failures.len() as u64;
    }

    /// Where the next run begins: what was not finished is done again, better twice than never.
    fn first_unfinished(&self) -> u64 {
        self.running.first().copied().unwrap_or(self.next_seed)
    }
}

fn main() -> ExitCode {
    let options = match parse(env::args().skip(1)) {
        Ok(options) => options,
        Err(problem) => {
            eprintln!("courant-sim: {problem}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match (options.damage, options.seed) {
        (false, Some(seed)) => one(seed),
        (false, None) => many(&options),
        (true, _) => go_bad(&options),
    }
}

fn parse(args: impl Iterator<Item = String>) -> Result<Options, String> {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let mut options =
        Options { damage: false, points: 10_000_000, time: None, threads, state: None, seed: None };
    let mut args = args.peekable();
    options.damage = args.next_if(|word| word == "damage").is_some();
    while let Some(name) = args.next() {
        let value = args.next().ok_or_else(|| format!("{name} needs a value"))?;
        let number = || value.parse::<u64>().map_err(|_| format!("{name} takes a number, got `{value}`"));
        match name.as_str() {
            "--points" if !options.damage => options.points = number()?,
            "--minutes" => options.time = Some(Duration::from_secs(60 * number()?)),
            "--threads" => options.threads = usize::try_from(number()?).unwrap_or(1).clamp(1, 1024),
            "--state" => options.state = Some(PathBuf::from(&value)),
            "--seed" => options.seed = Some(number()?),
            _ => return Err(format!("no option `{name}`")),
        }
    }
    Ok(options)
}

/// The script that a seed stands for: the mixtures take turns.
fn plan(seed: u64) -> Plan {
    let workload = Workload::ALL[(seed % Workload::ALL.len() as u64) as usize];
    Plan { workload, operations: OPERATIONS, seed, modes: &CrashMode::ALL }
}

fn one(seed: u64) -> ExitCode {
    let plan = plan(seed);
    let outcome = explore(&plan);
    for failure in &outcome.failures {
        println!("{failure}");
    }
    println!(
        "seed {seed}, {}: {} crash points, {} crashes of a recovery, {} failures, trace {:016x}",
        plan.workload.name,
        outcome.points,
        outcome.nested,
        outcome.failures.len(),
        outcome.trace
    );
    ended(outcome.failures.len() as u64)
}

fn ended(failures: u64) -> ExitCode {
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn many(options: &Options) -> ExitCode {
    let mut sum = Sum::default();
    match load::<5>(options.state.as_deref()) {
        Ok(Some([next_seed, scripts, points, nested, failures])) => {
            sum = Sum { next_seed, scripts, points, nested, failures, running: BTreeSet::new() };
        }
        Ok(None) => {}
        Err(problem) => return unusable(&problem),
    }
    let began = Instant::now();
    let sum = Mutex::new(sum);
    thread::scope(|scope| {
        for _ in 0..options.threads {
            scope.spawn(|| work(options, began, &sum));
        }
    });
    let sum = sum.into_inner().unwrap_or_else(PoisonError::into_inner);
    println!(
        "{} crash points and {} crashes of a recovery in {} scripts: {} failures; {} s",
        sum.points,
        sum.nested,
        sum.scripts,
        sum.failures,
        began.elapsed().as_secs()
    );
    ended(sum.failures)
}

fn work(options: &Options, began: Instant, sum: &Mutex<Sum>) {
    while locked(sum).points < options.points && options.time.is_none_or(|time| began.elapsed() < time) {
        let seed = locked(sum).begin();
        let plan = plan(seed);
        let outcome = explore(&plan);
        let mut sum = locked(sum);
        sum.add(seed, &outcome);
        println!(
            "seed {seed}, {}: {} points, {} failures; {} points in all",
            plan.workload.name,
            outcome.points,
            outcome.failures.len(),
            sum.points
        );
        if let Some(failure) = outcome.failures.first() {
            println!("seed {seed}: {failure}");
        }
        let Sum { scripts, points, nested, failures, .. } = *sum;
        store(options.state.as_deref(), &[sum.first_unfinished(), scripts, points, nested, failures]);
    }
}

/// What all runs of `damage` have come to.
#[derive(Clone, Debug, Default)]
struct Spoilt {
    /// Of the data directory that is being worked at.
    seed: u64,
    /// Its first byte that no thread has taken.
    next: u64,
    /// Directories of which every byte went bad.
    directories: u64,
    outcome: damage::Outcome,
    failures: u64,
    /// First bytes of the chunks that are being worked at.
    running: BTreeSet<u64>,
}

impl Spoilt {
    fn of(numbers: [u64; 8]) -> Self {
        let [seed, next, directories, cases, refused, unharmed, named, failures] = numbers;
        let outcome = damage::Outcome { cases, refused, unharmed, named, failures: Vec::new() };
        Self { seed, next, directories, outcome, failures, running: BTreeSet::new() }
    }

    fn numbers(&self) -> [u64; 8] {
        let damage::Outcome { cases, refused, unharmed, named, .. } = self.outcome;
        // What was not finished is done again, as with scripts.
        let next = self.running.first().copied().unwrap_or(self.next);
        [self.seed, next, self.directories, cases, refused, unharmed, named, self.failures]
    }

    fn begin(&mut self, bytes: u64) -> Option<u64> {
        let first = self.next;
        if first >= bytes {
            return None;
        }
        self.next += CHUNK_BYTES;
        self.running.insert(first);
        Some(first)
    }

    fn add(&mut self, outcome: &damage::Outcome) {
        self.outcome.cases += outcome.cases;
        self.outcome.refused += outcome.refused;
        self.outcome.unharmed += outcome.unharmed;
        self.outcome.named += outcome.named;
        self.failures += outcome.failures.len() as u64;
    }
}

/// Has every byte of one data directory after the other go bad.
fn go_bad(options: &Options) -> ExitCode {
    // One directory by itself is no part of the runs that go on where they were.
    let state = options.state.as_deref().filter(|_| options.seed.is_none());
    let spoilt = match load::<8>(state) {
        Ok(Some(numbers)) => Spoilt::of(numbers),
        Ok(None) => Spoilt { seed: options.seed.unwrap_or_default(), ..Spoilt::default() },
        Err(problem) => return unusable(&problem),
    };
    let began = Instant::now();
    let is_over = || options.time.is_some_and(|time| began.elapsed() >= time);
    let spoilt = Mutex::new(spoilt);
    loop {
        let directory = EveryByte::of(locked(&spoilt).seed);
        thread::scope(|scope| {
            for _ in 0..options.threads {
                scope.spawn(|| spoil(state, &is_over, &directory, &spoilt));
            }
        });
        let mut spoilt = locked(&spoilt);
        if spoilt.next >= directory.bytes() {
            let (seed, files) = (spoilt.seed, directory.files().len());
            println!("seed {seed}: every one of {} bytes in {files} files", directory.bytes());
            spoilt.directories += 1;
            (spoilt.seed, spoilt.next) = (seed + 1, 0);
            store(state, &spoilt.numbers());
        }
        if options.seed.is_some() || options.time.is_none() || is_over() {
            break;
        }
    }
    let spoilt = spoilt.into_inner().unwrap_or_else(PoisonError::into_inner);
    let damage::Outcome { cases, refused, unharmed, named, .. } = spoilt.outcome;
    println!(
        "{cases} places in {} whole directories: {refused} starts refused, {unharmed} unharmed, {named} \
         with events refused and named, {} failures; {} s",
        spoilt.directories,
        spoilt.failures,
        began.elapsed().as_secs()
    );
    ended(spoilt.failures)
}

fn spoil(state: Option<&Path>, is_over: &impl Fn() -> bool, directory: &EveryByte, spoilt: &Mutex<Spoilt>) {
    let bytes = directory.bytes();
    while !is_over() {
        let Some(first) = locked(spoilt).begin(bytes) else { return };
        let chunk = first..bytes.min(first + CHUNK_BYTES);
        let outcomes: Vec<damage::Outcome> = chunk.map(|number| directory.harm(number)).collect();
        let mut spoilt = locked(spoilt);
        spoilt.running.remove(&first);
        for outcome in &outcomes {
            spoilt.add(outcome);
            for failure in &outcome.failures {
                println!("{failure}");
            }
        }
        if (first / CHUNK_BYTES).is_multiple_of(CHUNKS_TOLD) {
            println!("seed {}: byte {first} of {bytes}; {} failures in all", spoilt.seed, spoilt.failures);
        }
        store(state, &spoilt.numbers());
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn unusable(problem: &str) -> ExitCode {
    eprintln!("courant-sim: {problem}");
    ExitCode::from(2)
}

/// The numbers that a run has kept; none before the first one.
fn load<const N: usize>(path: Option<&Path>) -> Result<Option<[u64; N]>, String> {
    let Some(path) = path.filter(|path| path.exists()) else { return Ok(None) };
    let said = |problem: String| format!("{}: {problem}", path.display());
    let text = fs::read_to_string(path).map_err(|error| said(error.to_string()))?;
    let numbers: Result<Vec<u64>, _> = text.split_whitespace().map(str::parse).collect();
    let numbers = numbers.ok().and_then(|numbers| <[u64; N]>::try_from(numbers).ok());
    let strange = "is not the state of such a run; name another file, or remove it";
    numbers.map(Some).ok_or_else(|| said(strange.to_owned()))
}

/// Keeps numbers for the next run.
fn store(path: Option<&Path>, numbers: &[u64]) {
    let Some(path) = path else { return };
    let text: Vec<String> = numbers.iter().map(u64::to_string).collect();
    let next = path.with_extension("new");
    let stored = fs::write(&next, format!("{}\n", text.join(" "))).and_then(|()| fs::rename(&next, path));
    if let Err(error) = stored {
        eprintln!("courant-sim: {}: {error}", path.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_goes_on_with_the_first_script_that_was_not_finished() {
        let mut sum = Sum::default();
        let seeds: Vec<u64> = (0..3).map(|_| sum.begin()).collect();
        assert_eq!(seeds, [0, 1, 2]);
        let outcome = crash::Outcome { points: 7, nested: 9, ..crash::Outcome::default() };
        sum.add(1, &outcome);
        assert_eq!((sum.first_unfinished(), sum.scripts, sum.points, sum.nested), (0, 1, 7, 9));
        sum.add(0, &outcome);
        assert_eq!(sum.first_unfinished(), 2);
        sum.add(2, &outcome);
        assert_eq!((sum.first_unfinished(), sum.scripts, sum.points), (3, 3, 21));
    }

    #[test]
    fn what_a_run_has_kept_comes_back_and_anything_else_is_refused() {
        let path = env::temp_dir().join(format!("courant-sim-{}.state", std::process::id()));
        assert_eq!(load::<5>(Some(&path)), Ok(None), "before the first run");
        store(Some(&path), &[4, 3, 2, 1, 0]);
        store(Some(&path), &[5, 4, 3, 2, 1]);
        assert_eq!(load::<5>(Some(&path)), Ok(Some([5, 4, 3, 2, 1])));
        let refused = load::<8>(Some(&path));
        assert!(refused.as_ref().is_err_and(|said| said.contains("name another file")), "{refused:?}");
        fs::remove_file(&path).expect("it is there");
    }
}
