//! `courant log`: the data directory itself, while no server uses it.

use crate::cli::{Global, Log, LogVerify};
use crate::exit::{Exit, Failure, note};
use crate::output::{Format, Row, list};
use crate::settings::Settings;
use courant_log::storage::{DiskStorage, Storage, probe};
use courant_log::{Damage, OpenError, Verified};
use serde::Serialize;
use std::io;
use std::path::Path;
use std::sync::Arc;

pub(super) fn run(global: &Global, command: Log) -> Result<Exit, Failure> {
    match command {
        Log::Verify(args) => verify(global, args),
        Log::Inspect(args) => super::log_inspect::run(global, args),
        Log::Repair(args) => super::log_repair::run(global, args),
    }
}

/// One line about damage.
#[derive(Debug, Serialize)]
struct Line {
    file: String,
    /// First byte and the one behind the last; none for the file as a whole.
    bytes: Option<[u64; 2]>,
    topic: Option<String>,
    partition: Option<u32>,
    /// First offset and the one behind the last.
    offsets: Option<[u64; 2]>,
    what: String,
    /// Somebody has given up the events: readers pass them.
    given_up: bool,
}

impl Line {
    fn of(damage: Damage, given_up: bool) -> Self {
        let events = damage.events;
        Self {
            file: damage.path,
            bytes: damage.bytes.map(|bytes| [bytes.start, bytes.end]),
            topic: events.as_ref().map(|events| events.topic.clone()),
            partition: events.as_ref().map(|events| events.partition),
            offsets: events.map(|events| [events.offsets.start, events.offsets.end]),
            what: damage.what,
            given_up,
        }
    }
}

impl Row for Line {
    const TITLES: &'static [&'static str] = &["file", "bytes", "events", "what"];

    fn cells(&self) -> Vec<String> {
        let range = |[start, end]: [u64; 2]| format!("{start} to {}", end.saturating_sub(1));
        let events = match (&self.topic, self.partition, self.offsets) {
            (Some(topic), Some(partition), Some(offsets)) => {
                format!("{topic}/{partition}: {}", range(offsets))
            }
            _ => "none".to_owned(),
        };
        let bytes = self.bytes.map_or_else(|| "all".to_owned(), range);
        let given_up = if self.given_up { "; given up" } else { "" };
        vec![self.file.clone(), bytes, events, format!("{}{given_up}", self.what)]
    }
}

/// Reads everything, and ends with 1 when something is not as it was stored and was not given up.
fn verify(global: &Global, args: LogVerify) -> Result<Exit, Failure> {
    let settings = Settings::read(global, &args.data.into())?;
    let data = settings.server_config().data;
    let verified =
        courant_log::verify(&storage_to_read(global, &data)?).map_err(|error| refused(&data, &error))?;
    let read = counts(&verified);
    let places = verified.damage.len() as u64;
    let given_up = verified.given_up.len() as u64;
    let advice = advice(&verified.damage);
    list_damage(global, verified.damage, verified.given_up)?;
    if places == 0 {
        if !global.quiet {
            note(format_args!("Read {read}: everything is as it was stored{}.", but_for(given_up)));
        }
        return Ok(Exit::Ok);
    }
    let sentence = format!(
        "{}: damage in {} ({read} read); nothing was changed. {advice}",
        data.display(),
        counted(places, "place")
    );
    Err(Failure::new(Exit::Failed, sentence))
}

/// What can be done about damage. Only events are lost for good; without an index, a start makes it anew.
fn advice(damage: &[Damage]) -> &'static str {
    if damage.iter().any(|place| place.events.is_some()) {
        "Events that are named can only come back from a copy of the file; `courant log repair` gives them up where \
         there is none, and they are named here afterwards as given up"
    } else {
        "No events that were read are among it, so that there is nothing to give up; a start says whether it can do \
         without the files that are named"
    }
}

/// Behind a sentence that all is well: where it is not, and nobody waits for it any more.
fn but_for(given_up: u64) -> String {
    match given_up {
        0 => String::new(),
        places => format!(", but for {} whose events were given up", counted(places, "place")),
    }
}

/// What was read, in words.
pub(super) fn counts(verified: &Verified) -> String {
    let Verified { topics, partitions, segments, bytes, journal_groups, .. } = *verified;
    let counts = [
        (topics, "topic"),
        (partitions, "partition"),
        (segments, "segment"),
        (bytes, "byte"),
        (journal_groups, "journal group"),
    ];
    counts.map(|(count, noun)| counted(count, noun)).join(", ")
}

pub(super) fn counted(count: u64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// Lists damage, and behind it what of it was given up: always for a program, for a person where there is some.
pub(super) fn list_damage(
    global: &Global,
    damage: Vec<Damage>,
    given_up: Vec<Damage>,
) -> Result<(), Failure> {
    let damage = damage.into_iter().map(|damage| Line::of(damage, false));
    let given_up = given_up.into_iter().map(|damage| Line::of(damage, true));
    let lines: Vec<Line> = damage.chain(given_up).collect();
    let format = Format::or_default(global.output);
    if format != Format::Table || !lines.is_empty() {
        list(&mut io::stdout().lock(), format, &lines).map_err(|error| Failure::output(&error))?;
    }
    Ok(())
}

/// The storage of a data directory that is there.
pub(super) fn storage(data: &Path) -> Result<Arc<dyn Storage>, Failure> {
    // A storage makes its directory, and these commands make nothing.
    if !data.is_dir() {
        return Err(missing(data));
    }
    let storage = DiskStorage::open(data)
        .map_err(|error| Failure::new(Exit::Failed, format!("{}: {error}", data.display())))?;
    Ok(Arc::new(storage))
}

/// As [`storage`], for a command that changes nothing: it works also where nothing can be written, and says so where no
/// lock is to be had there.
pub(super) fn storage_to_read(global: &Global, data: &Path) -> Result<Arc<dyn Storage>, Failure> {
    if !data.is_dir() || probe::writable(data).is_ok() {
        return storage(data);
    }
    let storage = DiskStorage::read_only(data)
        .map_err(|error| Failure::new(Exit::Failed, format!("{}: {error}", data.display())))?;
    // What is in the way of a lock that is there, the command itself comes to.
    if matches!(storage.lock_to_read(), Ok(None)) && !global.quiet {
        note(format_args!(
            "{}: nothing can be written here, and there is no LOCK or its file system has no locks, so that no server \
             is kept out; where one uses these files meanwhile, what is said of them may be wrong.",
            data.display()
        ));
    }
    Ok(Arc::new(storage))
}

/// There is no data directory of that name.
pub(super) fn missing(data: &Path) -> Failure {
    let sentence = match probe::dangling_link(data) {
        Some(link) => link.to_string(),
        None => "there is no such directory; name the server's with --data".to_owned(),
    };
    Failure::new(Exit::NotFound, format!("{}: {sentence}", data.display()))
}

/// Why a data directory cannot be used now.
pub(super) fn refused(data: &Path, error: &OpenError) -> Failure {
    let exit = match error {
        OpenError::Locked => Exit::Conflict,
        OpenError::NotALog { .. } => Exit::NotFound,
        _ => Exit::Failed,
    };
    let sentence = match error {
        OpenError::Locked => {
            "a server, or another `courant log`, is using this data directory; stop it first".to_owned()
        }
        OpenError::NotALog { what } => {
            format!("{what}: this is no data directory of Courant; name the server's with --data")
        }
        other => format!("{other}{}", remedy(other.kind())),
    };
    Failure::new(exit, format!("{}: {sentence}", data.display()))
}

/// What to do about a directory that the system does not let a command lock or read. Another one is no help.
fn remedy(kind: Option<io::ErrorKind>) -> &'static str {
    match kind {
        Some(io::ErrorKind::PermissionDenied) => "; run it as the user of the server",
        Some(io::ErrorKind::ReadOnlyFilesystem) => {
            "; let its file system be written, or look at a copy of it"
        }
        _ => "",
    }
}
