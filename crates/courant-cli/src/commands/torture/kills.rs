//! The run that kills: laps, each on a new data directory, of starts that end in a SIGKILL.
//!
//! A data directory is given up for a new one after so many events: that bounds the disk, the memory of
//! its history, and the time that each start reads. The last start of a lap is not killed.

use super::dice::Dice;
use super::directory::Directory;
use super::record::Record;
use super::report::Tally;
use super::start::{Start, end_of};
use crate::cli::{Global, Torture};
use crate::exit::{Exit, Failure, note};
use std::time::{Duration, Instant};

/// Events after which a lap ends: some 20 MB.
const LAP_EVENTS: u64 = 50_000;

/// A run ends after its time, and not before so many kills.
const KILLS_MIN: u64 = 3;

/// Time from one line about the progress to the next.
const PROGRESS_EVERY: Duration = Duration::from_secs(10);

/// Times from the end of a start to the kill, in milliseconds; short ones come more often.
const KILL_AFTER_MS: (u64, u64) = (20, 1_500);

/// Of a kill during a start: the longest time from its beginning, in milliseconds.
const KILL_IN_START_MS_MAX: u64 = 100;

/// One start of so many is killed before it is done.
const STARTS_PER_KILL_IN_START: u64 = 4;

/// When a worker is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    /// So long after it was started, ready or not.
    AfterSpawn(Duration),
    /// So long after it has read everything.
    AfterUp(Duration),
    /// Not at all: it reads everything and ends by itself.
    Never,
}

/// Kills until the time is over, or something is found. The tally has the findings; with findings, the
/// last lap's data directory is still there.
///
/// # Errors
/// That processes cannot be started, or that a data directory cannot be removed. What the log does is a
/// finding.
pub(super) fn run(
    global: &Global,
    args: &Torture,
    directory: &Directory,
    seed: u64,
) -> Result<Tally, Failure> {
    let program = std::env::current_exe()
        .map_err(|error| Failure::new(Exit::Failed, format!("this program cannot be found: {error}")))?;
    let mut run = Run {
        start: Start { program: &program, threads: args.threads },
        directory,
        dice: Dice::new(seed),
        begun: Instant::now(),
        time: args.minutes,
        told: Duration::ZERO,
        tells: !global.quiet,
        tally: Tally::default(),
    };
    loop {
        let lap = run.tally.laps + 1;
        run.lap(lap)?;
        if !run.tally.findings.is_empty() {
            break;
        }
        directory.remove_lap(lap)?;
        if run.is_over() {
            break;
        }
    }
    let mut tally = run.tally;
    tally.minutes = run.begun.elapsed().as_secs_f64() / 60.0;
    if tally.events.acknowledged == 0 && tally.findings.is_empty() {
        tally.findings.push("no event was acknowledged: the run has tried nothing".to_owned());
    }
    Ok(tally)
}

struct Run<'a> {
    start: Start<'a>,
    directory: &'a Directory,
    dice: Dice,
    begun: Instant,
    time: Duration,
    /// When progress was last told, since the beginning.
    told: Duration,
    tells: bool,
    tally: Tally,
}

impl Run<'_> {
    /// Time is over, and enough was killed.
    fn is_over(&self) -> bool {
        self.begun.elapsed() >= self.time && self.tally.kills >= KILLS_MIN
    }

    /// Kills in a new data directory until it is full, or the run is over; then reads it once more, and
    /// compares.
    fn lap(&mut self, lap: u64) -> Result<(), Failure> {
        self.tally.laps = lap;
        let mut record = Record::new();
        let mut trouble = None;
        while trouble.is_none() && !self.is_over() && record.counts().sent < LAP_EVENTS {
            let moment = moment(&mut self.dice);
            trouble = self.one(lap, &mut record, moment)?;
            self.tell(&record);
        }
        if trouble.is_none() {
            trouble = self.one(lap, &mut record, Moment::Never)?;
        }
        self.tally.findings.extend(trouble);
        self.tally.findings.extend(record.check().iter().map(ToString::to_string));
        self.tally.events.add(record.counts());
        self.tally.longest_recovery_ms = self.tally.longest_recovery_ms.max(record.longest_open_ms());
        Ok(())
    }

    /// One start and its end. Hands back what is wrong with it.
    fn one(&mut self, lap: u64, record: &mut Record, moment: Moment) -> Result<Option<String>, Failure> {
        self.tally.starts += 1;
        let number = self.tally.starts;
        record.reads(format!("start {number}"));
        let seed = self.dice.roll();
        let data = self.directory.lap(lap);
        let ended = self.start.run((&data, lap, seed), record, moment, LAP_EVENTS)?;
        if ended.is_killed {
            self.tally.kills += 1;
            self.tally.kills_in_start += u64::from(!ended.was_up);
        }
        Ok(end_of(&ended, moment).map(|wrong| format!("start {number}: {wrong}")))
    }

    fn tell(&mut self, record: &Record) {
        let passed = self.begun.elapsed();
        if !self.tells || passed < self.told + PROGRESS_EVERY {
            return;
        }
        self.told = passed;
        let acknowledged = self.tally.events.acknowledged + record.counts().acknowledged;
        note(format_args!(
            "{} of {} s: {} kills, {acknowledged} events acknowledged, lap {}",
            passed.as_secs(),
            self.time.as_secs(),
            self.tally.kills,
            self.tally.laps
        ));
    }
}

fn moment(dice: &mut Dice) -> Moment {
    if dice.below(STARTS_PER_KILL_IN_START) == 0 {
        return Moment::AfterSpawn(Duration::from_millis(1 + dice.below(KILL_IN_START_MS_MAX)));
    }
    let (least, most) = KILL_AFTER_MS;
    let drawn = dice.below(1001);
    Moment::AfterUp(Duration::from_millis(least + (most - least) * drawn * drawn / 1_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_in_their_bounds_and_some_are_within_a_start() {
        let mut dice = Dice::new(7);
        let (mut in_start, mut soon) = (0, 0);
        for _ in 0..1_000 {
            match moment(&mut dice) {
                Moment::AfterSpawn(after) => {
                    in_start += 1;
                    assert!(after.as_millis() <= 100);
                }
                Moment::AfterUp(after) => {
                    assert!((20..=1_500).contains(&after.as_millis()));
                    soon += u32::from(after.as_millis() < 400);
                }
                Moment::Never => panic!("a start that is not killed"),
            }
        }
        assert!((150..350).contains(&in_start), "{in_start}");
        assert!(soon > 300, "{soon}");
    }
}
