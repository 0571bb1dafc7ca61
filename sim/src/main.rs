//! Explores scripts one after the other, for as long as it is told, and goes on where it was stopped.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a task speaks to the person who started it")]

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use courant_log::storage::CrashMode;
use courant_sim::crash::{Outcome, Plan, explore};
use courant_sim::workload::Workload;

const USAGE: &str = "\
courant-sim [--points N] [--minutes N] [--threads N] [--state FILE]
courant-sim --seed N

  --points N    stop when so many crash points have been explored, in all runs together (10000000)
  --minutes N   stop after that time, or with the points, whichever comes first
  --threads N   scripts at the same time (1 for each core)
  --state FILE  where the next seed and the counts are kept between runs
  --seed N      one script only, with everything that is wrong in it
";

/// Operations of each script.
const OPERATIONS: u64 = 120;

#[derive(Debug)]
struct Options {
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

    fn add(&mut self, seed: u64, outcome: &Outcome) {
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
    match options.seed {
        Some(seed) => one(seed),
        None => many(&options),
    }
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let mut options = Options { points: 10_000_000, time: None, threads, state: None, seed: None };
    while let Some(name) = args.next() {
        let value = args.next().ok_or_else(|| format!("{name} needs a value"))?;
        let number = || value.parse::<u64>().map_err(|_| format!("{name} takes a number, got `{value}`"));
        match name.as_str() {
            "--points" => options.points = number()?,
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
    if outcome.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn many(options: &Options) -> ExitCode {
    let sum = match &options.state {
        Some(path) => match load(path) {
            Ok(sum) => sum,
            Err(problem) => {
                eprintln!("courant-sim: {}: {problem}", path.display());
                return ExitCode::from(2);
            }
        },
        None => Sum::default(),
    };
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
    if sum.failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn work(options: &Options, began: Instant, sum: &Mutex<Sum>) {
    let locked = || sum.lock().unwrap_or_else(PoisonError::into_inner);
    while locked().points < options.points && options.time.is_none_or(|time| began.elapsed() < time) {
        let seed = locked().begin();
        let plan = plan(seed);
        let outcome = explore(&plan);
        let mut sum = locked();
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
        if let Some(path) = &options.state
            && let Err(error) = store(path, &sum)
        {
            eprintln!("courant-sim: {}: {error}", path.display());
        }
    }
}

fn load(path: &PathBuf) -> Result<Sum, String> {
    if !path.exists() {
        return Ok(Sum::default());
    }
    let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
    let numbers: Result<Vec<u64>, _> = text.split_whitespace().map(str::parse).collect();
    match numbers.as_deref() {
        Ok([next_seed, scripts, points, nested, failures]) => Ok(Sum {
            next_seed: *next_seed,
            scripts: *scripts,
            points: *points,
            nested: *nested,
            failures: *failures,
            running: BTreeSet::new(),
        }),
        _ => Err("is not the state of a run; name another file, or remove it".to_owned()),
    }
}

fn store(path: &PathBuf, sum: &Sum) -> std::io::Result<()> {
    let Sum { scripts, points, nested, failures, .. } = sum;
    let next = path.with_extension("new");
    fs::write(&next, format!("{} {scripts} {points} {nested} {failures}\n", sum.first_unfinished()))?;
    fs::rename(next, path)
}
