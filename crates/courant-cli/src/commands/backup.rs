//! `courant backup` and `courant restore`: the log in another place, and back.

mod target;

use self::target::{How, Opened, is_missing};
use super::interrupted;
use super::log::{counted, counts, list_damage, missing};
use crate::cli::{Backup, Global, Place, Restore};
use crate::exit::{Exit, Failure, note};
use crate::files;
use crate::output::{Format, Heedless, Row, Stream, list};
use crate::settings::Settings;
use crate::text::one_line;
use crate::time::{now_ms, rfc3339};
use courant_log::backup::{self, BackedUp, BackupError, BackupOptions, RestoreError, Restored, TargetError};
use courant_log::storage::{DiskStorage, Storage};
use courant_log::{Damage, OpenError, SystemClock};
use courant_server::StartError;
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
    let how = How { lease: args.lease, is_quiet: global.quiet };
    if args.list {
        return list_backups(global, args.to, how).await;
    }
    let settings = Settings::read(global, &args.data.into())?;
    let data = settings.server_config().data;
    let source = source(&data)?;
    check_apart(&data, &args.to)?;
    let place = args.to.clone();
    let target = apart(move || Opened::for_writing(&place, how)).await??;
    let work = Work { source, target, keep: args.keep.and_then(NonZeroU32::new) };
    let failed = |error: &BackupError| explain(&data, &args.to, error);
    // Backups go on when nobody reads of them any more.
    let mut stream = Stream::new(Heedless::new(io::stdout()), Format::or_default(global.output));
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

/// Where from, where to, and how many stay. However the command ends, others have their turn then.
struct Work {
    source: Arc<dyn Storage>,
    target: Opened,
    keep: Option<NonZeroU32>,
}

impl Work {
    /// Takes a backup. An interruption may leave it half done: then it does not exist.
    async fn take(&self) -> Result<Result<BackedUp, BackupError>, Failure> {
        let (source, target) = (Arc::clone(&self.source), self.target.clone());
        let mut options = BackupOptions::new(Arc::new(SystemClock));
        options.keep = self.keep;
        apart(move || backup::back_up(&source, target.target(), &options)).await
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.target.close();
    }
}

/// Does something that takes its time on a thread of its own, so that Ctrl-C is heard meanwhile.
async fn apart<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Failure::new(Exit::Failed, format!("the backup broke off: {error}")))
}

/// The data directory, of which everything is only read.
fn source(data: &Path) -> Result<Arc<dyn Storage>, Failure> {
    match DiskStorage::read_only(data) {
        Ok(storage) => Ok(Arc::new(storage)),
        Err(error) if is_missing(&error) => Err(missing(data)),
        Err(error) => Err(Failure::new(Exit::Failed, format!("{}: {error}", data.display()))),
    }
}

/// Backups in the data directory itself would be gone with it.
fn check_apart(data: &Path, to: &Place) -> Result<(), Failure> {
    match to {
        Place::Directory(dir) if files::is_within(dir, data) => {
            let sentence = format!(
                "{}: this is within the data directory {}, and its backups would be gone with it; choose another \
                 directory for them, on another disk",
                dir.display(),
                data.display()
            );
            Err(Failure::new(Exit::Conflict, sentence))
        }
        _ => Ok(()),
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
    /// Without those whose events were given up.
    damaged_places: usize,
    given_up_places: usize,
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

fn show(stream: &mut Stream<Heedless<Stdout>>, taken: &BackedUp) -> Result<(), Failure> {
    let line = Taken {
        number: taken.number,
        begun: rfc3339(taken.begun_ms),
        copied_objects: taken.copied_objects,
        copied_bytes: taken.copied_bytes,
        bytes: taken.bytes,
        lag_seconds: now_ms().saturating_sub(taken.begun_ms) as f64 / 1000.0,
        damaged_places: taken.damage.len(),
        given_up_places: taken.given_up.len(),
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

fn explain(data: &Path, to: &Place, error: &BackupError) -> Failure {
    let shown = data.display();
    let (place, exit): (&dyn Display, Exit) = match error {
        BackupError::Source(OpenError::NotALog { what }) => {
            let sentence = format!("{shown}: {what}: there is no log to back up; name it with --data");
            return Failure::new(Exit::NotFound, sentence);
        }
        BackupError::Busy | BackupError::OtherLog { .. } | BackupError::Diverged { .. } => {
            (to, Exit::Conflict)
        }
        BackupError::Target(source) | BackupError::Keep { source, .. } => (to, exit_of(to, source)),
        _ => (&shown, Exit::Failed),
    };
    Failure::new(exit, format!("{place}: {error}"))
}

/// How a command ends whose target has failed: a store is a server.
fn exit_of(place: &Place, error: &TargetError) -> Exit {
    match (place, error.kind()) {
        (Place::Directory(_), _) => Exit::Failed,
        #[cfg(feature = "s3")]
        (_, io::ErrorKind::PermissionDenied) => Exit::NotAllowed,
        #[cfg(feature = "s3")]
        (_, io::ErrorKind::NotConnected) => Exit::Unreachable,
        #[cfg(feature = "s3")]
        _ => Exit::Failed,
    }
}

/// One line about a backup that is there.
#[derive(Debug, Serialize)]
struct Line {
    number: u64,
    /// Everything acknowledged before is in it, RFC 3339.
    begun: Option<String>,
    objects: Option<u64>,
    bytes: Option<u64>,
    /// Places that were damaged in the log when it was backed up, and that nobody had given up.
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

async fn list_backups(global: &Global, place: Place, how: How) -> Result<Exit, Failure> {
    let listing = move || {
        let opened = Opened::for_reading(&place, how)?;
        let failed = |error: TargetError| Failure::new(exit_of(&place, &error), format!("{place}: {error}"));
        backup::list(opened.target()).map_err(failed)
    };
    let backups = apart(listing).await??;
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

/// Makes a data directory from a backup, and ends with 1 when something in it is damaged and was not given up.
pub(super) fn restore(global: &Global, args: Restore) -> Result<Exit, Failure> {
    let settings = Settings::read(global, &args.data.into())?;
    let data = settings.server_config().data;
    let from = Opened::for_reading(&args.from, How { lease: None, is_quiet: global.quiet })?;
    let into = DiskStorage::open(&data).map_err(|source| {
        // As a server says it that is started there.
        let refused = StartError::Data { data: data.clone(), source };
        Failure::new(Exit::Failed, refused.to_string())
    })?;
    let into: Arc<dyn Storage> = Arc::new(into);
    let restored = backup::restore(from.target(), args.backup, &into)
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
    list_damage(global, verified.damage, verified.given_up)?;
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

fn unrestored(data: &Path, from: &Place, error: &RestoreError) -> Failure {
    let shown = data.display();
    let (place, exit): (&dyn Display, Exit) = match error {
        RestoreError::NoBackup | RestoreError::Unknown { .. } => (from, Exit::NotFound),
        RestoreError::NotEmpty { .. } | RestoreError::InUse => (&shown, Exit::Conflict),
        RestoreError::Manifest { .. } | RestoreError::Object { .. } => (from, Exit::Failed),
        RestoreError::Target(source) => (from, exit_of(from, source)),
        _ => (&shown, Exit::Failed),
    };
    Failure::new(exit, format!("{place}: {error}"))
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
        let (data, to) = (Path::new("data"), &Place::Directory("to".into()));
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
