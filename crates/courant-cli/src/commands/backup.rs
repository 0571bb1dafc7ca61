//! `courant backup` and `courant restore`: the log in another place, and back.

use super::interrupted;
use super::log::{counted, counts, list_damage, storage};
use crate::cli::{Backup, Global, Restore};
use crate::exit::{Exit, Failure, note};
use crate::output::{Format, Row, Stream, list};
use crate::settings::Settings;
use crate::text::one_line;
use crate::time::{now_ms, rfc3339};
use courant_log::backup::{
    self, BackedUp, BackupError, BackupOptions, DirectoryTarget, NotATarget, RestoreError, Restored,
};
use courant_log::storage::{DiskStorage, Storage};
use courant_log::{Damage, OpenError, SystemClock};
use serde::Serialize;
use std::fmt::Display;
use std::io::{self, Stdout};
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// The longest text about one damaged place, in characters.
const PLACE_CHARS_MAX: usize = 500;
/// The longest time from one backup to the next: a clock can be asked for no time that it does not know.
const EVERY_MAX: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// Takes one backup, or one after the other until an interruption.
pub(super) async fn backup(global: &Global, args: Backup) -> Result<Exit, Failure> {
    if args.list {
        return list_backups(global, &args.to);
    }
    let settings = Settings::read(global, &args.data.into())?;
    let data = settings.server_config().data;
    let work = Work {
        source: storage(&data)?,
        target: Arc::new(open_target(&args.to)?),
        keep: args.keep.and_then(NonZeroU32::new),
    };
    let failed = |error: &BackupError| explain(&data, &args.to, error);
    let mut stream = Stream::new(io::stdout(), Format::or_default(global.output));
    let mut begun = Instant::now();
    // A first backup that fails will most likely fail again; a later one has a successor.
    let mut taken = match work.take().await? {
        Ok(taken) => taken,
        Err(error) => return Err(failed(&error)),
    };
    loop {
        show(&mut stream, &taken)?;
        let Some(every) = args.every else {
            stream.finish().map_err(|error| Failure::output(&error))?;
            return ended(&data, &taken.damage);
        };
        taken = loop {
            begun = Instant::now().max(begun + every.min(EVERY_MAX));
            let next = async {
                sleep_until(begun).await;
                work.take().await
            };
            tokio::select! {
                next = next => match next? {
                    Ok(taken) => break taken,
                    Err(error) => failed(&error).report(),
                },
                () = interrupted() => {
                    stream.finish().map_err(|error| Failure::output(&error))?;
                    return Ok(Exit::Interrupted);
                }
            }
        };
    }
}

/// Where from, where to, and how many stay.
struct Work {
    source: Arc<dyn Storage>,
    target: Arc<DirectoryTarget>,
    keep: Option<NonZeroU32>,
}

impl Work {
    /// Takes a backup on a thread of its own. An interruption may leave it half done: then it does not
    /// exist.
    async fn take(&self) -> Result<Result<BackedUp, BackupError>, Failure> {
        let (source, target) = (Arc::clone(&self.source), Arc::clone(&self.target));
        let mut options = BackupOptions::new(Arc::new(SystemClock));
        options.keep = self.keep;
        let taken = tokio::task::spawn_blocking(move || backup::back_up(&source, &*target, &options));
        taken.await.map_err(|error| Failure::new(Exit::Failed, format!("the backup broke off: {error}")))
    }
}

/// One line about a backup that was taken.
#[derive(Debug, Serialize)]
struct Taken {
    number: u64,
    /// Everything acknowledged before is in it, RFC 3339.
    begun: Option<String>,
    copied_objects: u64,
    copied_bytes: u64,
    /// Of the whole backup, with what was there already.
    bytes: u64,
    /// Seconds between `begun` and now.
    lag_seconds: f64,
    damaged_places: usize,
}

impl Row for Taken {
    const TITLES: &'static [&'static str] = &["number", "begun", "copied", "bytes", "lag", "damaged"];
    const WIDTHS: &'static [usize] = &[8, 24, 14, 16, 8];

    fn cells(&self) -> Vec<String> {
        vec![
            self.number.to_string(),
            super::or_dash(self.begun.as_ref()),
            self.copied_bytes.to_string(),
            self.bytes.to_string(),
            format!("{:.1} s", self.lag_seconds),
            self.damaged_places.to_string(),
        ]
    }
}

fn show(stream: &mut Stream<Stdout>, taken: &BackedUp) -> Result<(), Failure> {
    let line = Taken {
        number: taken.number,
        begun: rfc3339(taken.begun_ms),
        copied_objects: taken.copied_objects,
        copied_bytes: taken.copied_bytes,
        bytes: taken.bytes,
        lag_seconds: now_ms().saturating_sub(taken.begun_ms) as f64 / 1000.0,
        damaged_places: taken.damage.len(),
    };
    stream.row(&line).and_then(|()| stream.flush()).map_err(|error| Failure::output(&error))?;
    for place in &taken.damage {
        note(format_args!("{}", one_line(&sentence(place), PLACE_CHARS_MAX)));
    }
    Ok(())
}

/// A damaged place on one line.
fn sentence(place: &Damage) -> String {
    let Damage { path, bytes, events, what } = place;
    let bytes = bytes.as_ref().map_or_else(String::new, |bytes| format!(", bytes {bytes:?}"));
    let events = events.as_ref().map_or_else(String::new, |events| {
        format!(" (offsets {:?} of partition {} of {})", events.offsets, events.partition, events.topic)
    });
    format!("{path}{bytes}: {what}{events}")
}

fn ended(data: &Path, damage: &[Damage]) -> Result<Exit, Failure> {
    if damage.is_empty() {
        return Ok(Exit::Ok);
    }
    let sentence = format!(
        "{}: damage in {}; everything else is in the backup, and what is damaged is there as far as an \
         earlier backup has it",
        data.display(),
        counted(damage.len() as u64, "place")
    );
    Err(Failure::new(Exit::Failed, sentence))
}

fn explain(data: &Path, to: &Path, error: &BackupError) -> Failure {
    let (place, exit) = match error {
        BackupError::Source(OpenError::NotALog { what }) => {
            let sentence =
                format!("{}: {what}: there is no log to back up; name it with --data", data.display());
            return Failure::new(Exit::NotFound, sentence);
        }
        BackupError::Busy | BackupError::OtherLog { .. } | BackupError::Diverged { .. } => {
            (to, Exit::Conflict)
        }
        BackupError::Target(_) | BackupError::Keep { .. } => (to, Exit::Failed),
        _ => (data, Exit::Failed),
    };
    Failure::new(exit, format!("{}: {error}", place.display()))
}

/// A directory for backups; it is made where it is not there.
fn open_target(dir: &Path) -> Result<DirectoryTarget, Failure> {
    let failed = |exit, error: &dyn Display| Failure::new(exit, format!("{}: {error}", dir.display()));
    let storage = DiskStorage::open(dir).map_err(|error| failed(Exit::Failed, &error))?;
    DirectoryTarget::new(Arc::new(storage)).map_err(|error| match error {
        NotATarget::DataDirectory => failed(Exit::Conflict, &error),
        _ => failed(Exit::Failed, &error),
    })
}

/// A directory with backups, which is there.
fn existing_target(dir: &Path) -> Result<DirectoryTarget, Failure> {
    if !dir.is_dir() {
        let sentence = format!("{}: there is no such directory, and no backups in it", dir.display());
        return Err(Failure::new(Exit::NotFound, sentence));
    }
    open_target(dir)
}

/// One line about a backup that is there.
#[derive(Debug, Serialize)]
struct Line {
    number: u64,
    /// Everything acknowledged before is in it, RFC 3339.
    begun: Option<String>,
    objects: Option<u64>,
    bytes: Option<u64>,
    /// Places that were damaged in the log when it was backed up.
    damaged_places: Option<u64>,
    /// Why it cannot be restored, as far as its manifest says.
    problem: Option<String>,
}

impl Row for Line {
    const TITLES: &'static [&'static str] = &["number", "begun", "objects", "bytes", "damaged", "problem"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.number.to_string(),
            super::or_dash(self.begun.as_ref()),
            super::or_dash(self.objects),
            super::or_dash(self.bytes),
            super::or_dash(self.damaged_places),
            super::or_dash(self.problem.as_ref()),
        ]
    }
}

fn list_backups(global: &Global, dir: &Path) -> Result<Exit, Failure> {
    let target = existing_target(dir)?;
    let backups = backup::list(&target)
        .map_err(|error| Failure::new(Exit::Failed, format!("{}: {error}", dir.display())))?;
    let lines: Vec<Line> = backups
        .into_iter()
        .map(|backup| {
            let (summary, problem) = match backup.summary {
                Ok(summary) => (Some(summary), None),
                Err(error) => (None, Some(format!("its manifest {error}"))),
            };
            let summary = summary.as_ref();
            Line {
                number: backup.number,
                begun: summary.and_then(|summary| rfc3339(summary.begun_ms)),
                objects: summary.map(|summary| summary.objects),
                bytes: summary.map(|summary| summary.bytes),
                damaged_places: summary.map(|summary| summary.damage),
                problem,
            }
        })
        .collect();
    let format = Format::or_default(global.output);
    list(&mut io::stdout().lock(), format, &lines).map_err(|error| Failure::output(&error))?;
    Ok(Exit::Ok)
}

/// Makes a data directory from a backup, and ends with 1 when something in it is damaged.
pub(super) fn restore(global: &Global, args: Restore) -> Result<Exit, Failure> {
    let settings = Settings::read(global, &args.data.into())?;
    let data = settings.server_config().data;
    let target = existing_target(&args.from)?;
    let into = DiskStorage::open(&data)
        .map_err(|error| Failure::new(Exit::Failed, format!("{}: {error}", data.display())))?;
    let into: Arc<dyn Storage> = Arc::new(into);
    let restored = backup::restore(&target, args.backup, &into)
        .map_err(|error| unrestored(&data, &args.from, &error))?;
    let Restored { number, begun_ms, verified, .. } = restored;
    let places = verified.damage.len() as u64;
    if !global.quiet {
        let moment = rfc3339(begun_ms).unwrap_or_else(|| format!("{begun_ms} ms since 1970"));
        note(format_args!(
            "Restored backup {number} of {moment} into {}: {}.",
            data.display(),
            counts(&verified)
        ));
    }
    list_damage(global, verified.damage)?;
    if places == 0 {
        return Ok(Exit::Ok);
    }
    let sentence = format!(
        "{}: damage in {}, as in the log that was backed up; an earlier backup may have what is named",
        data.display(),
        counted(places, "place")
    );
    Err(Failure::new(Exit::Failed, sentence))
}

fn unrestored(data: &Path, from: &Path, error: &RestoreError) -> Failure {
    let (place, exit) = match error {
        RestoreError::NoBackup | RestoreError::Unknown { .. } => (from, Exit::NotFound),
        RestoreError::NotEmpty { .. } | RestoreError::InUse => (data, Exit::Conflict),
        RestoreError::Manifest { .. } | RestoreError::Object { .. } | RestoreError::Target(_) => {
            (from, Exit::Failed)
        }
        _ => (data, Exit::Failed),
    };
    Failure::new(exit, format!("{}: {error}", place.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use courant_log::DamagedEvents;

    #[test]
    fn a_damaged_place_is_one_sentence() {
        let events = DamagedEvents { topic: "orders".to_owned(), partition: 3, offsets: 7..9 };
        let place = Damage {
            path: "segments/1/0.segment".to_owned(),
            bytes: Some(0..65_536),
            events: Some(events),
            what: "bad".to_owned(),
        };
        assert_eq!(
            sentence(&place),
            "segments/1/0.segment, bytes 0..65536: bad (offsets 7..9 of partition 3 of orders)"
        );
        let whole = Damage { bytes: None, events: None, ..place };
        assert_eq!(sentence(&whole), "segments/1/0.segment: bad");
    }

    #[test]
    fn exit_codes_follow_what_happened() {
        let (data, to) = (Path::new("data"), Path::new("to"));
        let busy = explain(data, to, &BackupError::Busy);
        assert_eq!(busy.exit, Exit::Conflict);
        assert!(busy.sentence.starts_with("to: another backup"), "{busy:?}");
        let what = "there is no FORMAT".to_owned();
        let nothing = explain(data, to, &BackupError::Source(OpenError::NotALog { what }));
        assert_eq!(nothing.exit, Exit::NotFound);
        assert!(nothing.sentence.starts_with("data: there is no FORMAT"), "{nothing:?}");
        assert_eq!(unrestored(data, to, &RestoreError::NoBackup).exit, Exit::NotFound);
        let taken = RestoreError::NotEmpty { found: "FORMAT".to_owned() };
        assert_eq!(unrestored(data, to, &taken).exit, Exit::Conflict);
    }
}
