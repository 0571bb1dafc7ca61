//! The process that is killed: it opens the log, tells everything that is there, and appends.

use super::append::{self, Load};
use super::known::Known;
use super::line::{Line, say};
use super::plan;
use super::reading::read_partition;
use crate::cli::Torture;
use crate::exit::{Exit, Failure};
use courant_log::Log;
use std::borrow::Cow;
use std::io::{self, BufWriter, Write};
use std::time::Instant;

/// Bytes that are written to stdout at a time while everything is read.
const OUTPUT_BYTES: usize = 64 * 1024;

/// Works until it is killed, or with `--reads-only` until everything is read.
///
/// # Errors
/// What the log does that it must not: it does not open, cannot be read, or refuses an event.
pub(super) fn run(args: &Torture) -> Result<Exit, Failure> {
    let begun = Instant::now();
    let log = plan::open(&args.dir)?;
    let ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    say([Line::Opened { ms }]).map_err(|error| Failure::output(&error))?;
    let known = tell_all(&log)?;
    if args.reads_only {
        log.stop();
        say([Line::Up]).map_err(|error| Failure::output(&error))?;
        return Ok(Exit::Ok);
    }
    plan::create_topics(&log)?;
    say([Line::Up]).map_err(|error| Failure::output(&error))?;
    let seed = args.seed.unwrap_or_default();
    let (lap, threads) = (args.lap, args.threads);
    let load = Load { log: &log, lap, seed, threads, events_max: u64::MAX, tells_all: true };
    append::run(&load, &known)?;
    Ok(Exit::Ok)
}

/// Reads every partition and tells stdout what is there.
fn tell_all(log: &Log) -> Result<Known, Failure> {
    let mut known = Known::default();
    let mut out = BufWriter::with_capacity(OUTPUT_BYTES, io::stdout().lock());
    for place in plan::places() {
        let (topic, partition) = (place.topic, place.partition);
        let mut tell = |line: Line<'_>| writeln!(out, "{line}").map_err(|error| Failure::output(&error));
        let Some(id) = place.id(log) else {
            // It has nothing, which is right before the topic was created for the first time.
            tell(Line::Complete { topic, partition, start: 0, end: 0 })?;
            continue;
        };
        let ends = read_partition(log, (place, id), |stored| {
            known.note(place, &stored);
            for event in stored.events {
                let offset = u64::try_from(event.offset).unwrap_or(u64::MAX);
                let value = Cow::Borrowed(event.value.as_deref().unwrap_or_default());
                tell(Line::Read { topic, partition, offset, value })?;
            }
            Ok(())
        })?;
        tell(Line::Complete { topic, partition, start: ends.start, end: ends.high_watermark })?;
    }
    out.flush().map_err(|error| Failure::output(&error))?;
    Ok(known)
}
