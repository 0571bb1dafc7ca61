//! The run that ends when the plug is pulled, and the comparison afterwards.
//!
//! The only proof that an event was acknowledged is on another machine, in the lines that this one has
//! written to stdout. So an event that is there and has no such line may be right: its line was on the
//! way. What can be compared is that nothing acknowledged is missing or at another offset, that nothing
//! is there twice or out of order, and that every value is whole and belongs where it is.

use super::append::{self, Load};
use super::directory::{Directory, State};
use super::known::Known;
use super::line::{Line, say};
use super::plan::{self, Place};
use super::probe;
use super::reading::read_partition;
use super::record::Record;
use super::report::{POWER_CUT_SHOWS, Report, Tally};
use crate::cli::{Global, Torture};
use crate::exit::{Exit, Failure, note};
use crate::files;
use courant_history::Stamp;
use courant_log::Log;
use std::borrow::Cow;
use std::fmt::Display;
use std::io::{self, BufRead, Read as _};
use std::path::Path;
use std::time::Instant;

/// Events after which a lap ends: some 200 MB. Two laps are on the disk at a time.
const LAP_EVENTS: u64 = 500_000;

/// Bytes of the longest line of a ledger.
const LINE_BYTES_MAX: u64 = 1024;

/// Appends and writes each acknowledgement to stdout, until the machine is off.
///
/// # Errors
/// That it ends earlier: what the log does that it must not, or that stdout is gone.
pub(super) fn until(global: &Global, args: &Torture, seed: u64) -> Result<Exit, Failure> {
    let directory = Directory::make(&args.dir, args.again, State::UntilPowerCut)?;
    let storage = probe::look(&directory)?;
    if !global.quiet {
        note(format_args!("{}: {}.", storage.file_system, storage.judgement));
        note(format_args!(
            "Appending. Keep this output on another machine, and pull the plug; then: \
             courant torture --dir {} --after-power-cut FILE",
            args.dir.display()
        ));
    }
    let mut lap = 0;
    loop {
        lap += 1;
        let log = plan::open(&directory.lap(lap))?;
        plan::create_topics(&log)?;
        // The line comes before all that is acknowledged in it, and after the directory is durable.
        say([Line::Lap(lap)]).map_err(|error| Failure::output(&error))?;
        let threads = args.threads;
        let load = Load { log: &log, lap, seed, threads, events_max: LAP_EVENTS, tells_all: false };
        append::run(&load, &Known::default())?;
        log.stop();
        // The line about this lap may still be on its way when the next one begins: a lap goes when
        // the one behind it is over.
        if lap > 1 {
            directory.remove_lap(lap - 1)?;
        }
    }
}

/// Compares what is there with the lines that somebody has kept.
///
/// # Errors
/// That the ledger or the directory is not there or not of such a run, or that something was found.
pub(super) fn after(global: &Global, args: &Torture, ledger: &Path) -> Result<Exit, Failure> {
    let mut directory = Directory::find(&args.dir)?;
    let (lap, mut record) = read_ledger(ledger)?;
    let storage = probe::look(&directory)?;
    let data = directory.lap(lap);
    let mut tally = Tally { laps: 1, starts: 1, ..Tally::default() };
    if data.is_dir() {
        let wrong = read_log(&data, lap, &mut record).err().map(|failure| failure.sentence);
        tally.findings.extend(wrong);
    } else {
        let gone = format!("{}: the directory is gone with all that was acknowledged in it", data.display());
        tally.findings.push(gone);
    }
    tally.findings.extend(record.check().iter().map(ToString::to_string));
    tally.events.add(record.counts());
    tally.longest_recovery_ms = record.longest_open_ms();
    directory.set(State::Finished)?;
    let report = Report {
        courant: env!("CARGO_PKG_VERSION"),
        run: "power cut",
        seed: None,
        tally: &tally,
        storage: &storage,
        shows: POWER_CUT_SHOWS,
        kept: Some(data.display().to_string()),
    };
    report.hand_over(global, args)
}

/// The last lap of a ledger, and what was acknowledged in it.
fn read_ledger(ledger: &Path) -> Result<(u64, Record), Failure> {
    let unreadable =
        |error: &dyn Display| Failure::new(Exit::Failed, format!("{}: {error}", ledger.display()));
    let file = files::open(ledger).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Failure::new(Exit::NotFound, unreadable(&error).sentence),
        _ => unreadable(&error),
    })?;
    ledger_of(file).map_err(|error| unreadable(&error))
}

/// The same from any source of lines; the sentence says which line is wrong.
fn ledger_of(mut lines: impl BufRead) -> Result<(u64, Record), String> {
    let mut lap = None;
    let mut record = Record::new();
    let mut wrong: Option<String> = None;
    let mut bytes = Vec::new();
    for number in 1_u64.. {
        bytes.clear();
        let read = lines.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut bytes);
        read.map_err(|error| error.to_string())?;
        let is_foreign = || format!("line {number} is none that `courant torture` writes");
        let Some(line) = bytes.strip_suffix(b"\n") else {
            if bytes.len() as u64 == LINE_BYTES_MAX {
                return Err(is_foreign());
            }
            // What the power cut has cut off is no line, and there is nothing behind it.
            break;
        };
        if wrong.is_some() {
            break;
        }
        // A terminal in between ends lines in two characters.
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        match std::str::from_utf8(line).ok().and_then(Line::parse) {
            Some(Line::Lap(next)) => {
                lap = Some(next);
                record = Record::new();
            }
            Some(line @ Line::Acknowledged(..)) => {
                if let Line::Acknowledged(stamp, _) = &line {
                    record.note(&Line::Sent(stamp.clone()));
                }
                record.note(&line);
            }
            _ => wrong = Some(is_foreign()),
        }
    }
    // A wrong last line is taken for one that was cut off, with an end that the receiver has added.
    let is_last = bytes.is_empty();
    match (lap, wrong) {
        (_, Some(wrong)) if !is_last => Err(wrong),
        (Some(lap), _) if record.counts().acknowledged > 0 => Ok((lap, record)),
        (Some(_), _) => Err("it has no acknowledgement, and shows nothing; begin again".to_owned()),
        (None, _) => Err("it has no line `lap N`: keep all that --until-power-cut writes".to_owned()),
    }
}

/// Opens the log and notes all that is in it.
fn read_log(data: &Path, lap: u64, record: &mut Record) -> Result<(), Failure> {
    let begun = Instant::now();
    let log = plan::open(data)?;
    let ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    record.note(&Line::Opened { ms });
    record.reads("after the power cut".to_owned());
    for place in plan::places() {
        read_place(&log, place, lap, record)?;
    }
    log.stop();
    Ok(())
}

fn read_place(log: &Log, place: Place, lap: u64, record: &mut Record) -> Result<(), Failure> {
    let Place { topic, partition } = place;
    let Some(id) = place.id(log) else {
        record.note(&Line::Complete { topic, partition, start: 0, end: 0 });
        return Ok(());
    };
    let ends = read_partition(log, (place, id), |stored| {
        for event in stored.events {
            let value = event.value.as_deref().unwrap_or_default();
            // Without a line of its own it may have been sent all the same, if it is of this lap.
            if let Ok(stamp) = Stamp::of_value(value)
                && plan::is_of_lap(stamp.producer, lap)
                && (stamp.topic.as_str(), stamp.partition) == (topic, partition)
            {
                record.note(&Line::Sent(stamp));
            }
            let offset = u64::try_from(event.offset).unwrap_or(u64::MAX);
            record.note(&Line::Read { topic, partition, offset, value: Cow::Borrowed(value) });
        }
        Ok(())
    })?;
    record.note(&Line::Complete { topic, partition, start: ends.start, end: ends.high_watermark });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acknowledged(ledger: &str) -> Result<(u64, u64), String> {
        ledger_of(ledger.as_bytes()).map(|(lap, record)| (lap, record.counts().acknowledged))
    }

    #[test]
    fn the_last_lap_counts() {
        let ledger = "lap 1\na orders 0 64 0 0\na orders 0 64 1 1\nlap 2\na orders 0 128 0 0\n";
        assert_eq!(acknowledged(ledger), Ok((2, 1)));
        assert_eq!(acknowledged(&ledger.replace('\n', "\r\n")), Ok((2, 1)), "through a terminal");
    }

    #[test]
    fn the_last_line_may_be_cut_off_and_no_other() {
        let ledger = "lap 1\na orders 0 64 0 0\na orders 0 64 1 1";
        assert_eq!(acknowledged(ledger), Ok((1, 1)));
        assert_eq!(acknowledged("lap 1\na orders 0 64 0 0\na orders 0 6\n"), Ok((1, 1)));
        let endless = format!("lap 1\na orders 0 64 0 0\n{}", "a".repeat(5_000));
        assert!(acknowledged(&endless).is_err(), "no line of ours is that long");
        let damaged = acknowledged("lap 1\na orders 0 6\na orders 0 64 0 0\n").expect_err("damaged");
        assert!(damaged.starts_with("line 2 is none"), "{damaged}");
    }

    #[test]
    fn a_ledger_that_shows_nothing_is_refused() {
        assert!(acknowledged("").expect_err("empty").contains("lap N"));
        assert!(acknowledged("lap 1\n").expect_err("no acknowledgement").contains("shows nothing"));
    }
}
