//! Restoring a backup: everything into an empty directory, `FORMAT` last, so that half of a log is never
//! taken for one. Until then `FORMAT` says, before anything else is there, that this is no log and why:
//! whatever ends the restore, nobody takes the directory for an empty one.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use uuid::Uuid;

use super::download::{Download, bad, whole};
use super::error::RestoreError;
use super::format::{Manifest, Object};
use super::manifests;
use super::names::{Name, SegmentKey};
use super::target::Target;
use crate::checkpoint::{self, Checkpoint};
use crate::journal::{self, FileHeader, RingFile};
use crate::layout::FORMAT_FILE;
use crate::limits::{BLOCK_BYTES, CHECKPOINT_BYTES_MAX, JOURNAL_FILE_BYTES_MAX, SEGMENT_BLOCK_BYTES};
use crate::segment::{self, ENTRY_BYTES, FileKind, HEADER_BYTES, Recorded, partition_dir};
use crate::storage::{File, OpenMode, Storage, StorageError};
use crate::verify::{Verified, recorded, verify};

/// Bytes of the object `FORMAT`.
const FORMAT_BYTES_MAX: u64 = 256;
/// What a file system itself keeps at its root.
const OF_THE_FILE_SYSTEM: &str = "lost+found";
/// What `FORMAT` says until everything is there. A start that reads it says the same.
const UNFINISHED: &str = "a restore that was not finished; remove everything in here and restore again\n";
/// Under which name `FORMAT` is written.
const TEMPORARY: &str = "FORMAT.new";

/// A backup that was restored.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Restored {
    /// Its number.
    pub number: u64,
    /// The log's identity, the same as before.
    pub log_id: Uuid,
    /// Everything acknowledged before this moment is there, in milliseconds since 1970.
    pub begun_ms: i64,
    /// Objects that were read and compared.
    pub objects: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// What reading the restored log through has found. There is damage in it where there was damage in
    /// the log that was backed up.
    pub verified: Verified,
}

/// Restores a backup, the newest one unless a number is given, into an empty directory, and reads the
/// log through. It opens as after a crash at the moment of the backup.
///
/// # Errors
/// See [`RestoreError`]. Unless everything was restored, nothing that was written stays; what cannot be
/// removed does not open as a log, and says why. The same holds for what a crash leaves.
pub fn restore(
    target: &dyn Target,
    number: Option<u64>,
    into: &Arc<dyn Storage>,
) -> Result<Restored, RestoreError> {
    let manifest = manifests::choose(target, number)?;
    let guard = into.lock().map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => RestoreError::InUse,
        _ => StorageError::new("lock", "the directory", error).into(),
    })?;
    check_empty(&**into)?;
    let mut made = Made { storage: &**into, files: Vec::new(), dirs: Vec::new(), is_log: false };
    if let Err(error) = write(target, &manifest, &mut made) {
        made.undo();
        return Err(error);
    }
    drop(guard);
    let verified = verify(into).map_err(RestoreError::Verify)?;
    Ok(Restored {
        number: manifest.number,
        log_id: manifest.log_id,
        begun_ms: manifest.begun_ms,
        objects: manifest.objects.len() as u64,
        bytes: manifest.objects.iter().map(|object| object.bytes).sum(),
        verified,
    })
}

fn check_empty(into: &dyn Storage) -> Result<(), RestoreError> {
    let names = into.list("").map_err(|source| StorageError::new("list", "the directory", source))?;
    match names.into_iter().find(|name| name != OF_THE_FILE_SYSTEM) {
        Some(_) if is_unfinished(into) => {
            Err(RestoreError::NotEmpty { found: "a restore that was not finished".to_owned() })
        }
        Some(found) => Err(RestoreError::NotEmpty { found }),
        None => Ok(()),
    }
}

/// Whether an earlier restore into the directory did not come to its end.
fn is_unfinished(into: &dyn Storage) -> bool {
    let mut found = vec![0; UNFINISHED.len()];
    let read = into.open(FORMAT_FILE, OpenMode::Existing).and_then(|file| file.read_at(&mut found, 0));
    read.is_ok() && found == UNFINISHED.as_bytes()
}

/// What a restore has made, to be taken away when it fails.
struct Made<'a> {
    storage: &'a dyn Storage,
    files: Vec<String>,
    dirs: Vec<String>,
    /// `FORMAT` may name the log already.
    is_log: bool,
}

impl Made<'_> {
    /// What fails may be there all the same.
    fn dir(&mut self, dir: &str) -> Result<(), StorageError> {
        self.dirs.push(dir.to_owned());
        self.storage.create_dir(dir).map_err(|source| StorageError::new("create", dir, source))
    }

    fn file(&mut self, path: &str) -> Result<Arc<dyn File>, StorageError> {
        self.files.push(path.to_owned());
        let file = self.storage.open(path, OpenMode::CreateNew);
        file.map_err(|source| StorageError::new("create", path, source))
    }

    /// Makes the names of everything durable.
    fn sync_names(&self) -> Result<(), StorageError> {
        for dir in &self.dirs {
            self.storage.sync_dir(dir).map_err(|source| StorageError::new("sync", dir, source))?;
        }
        self.sync_root()
    }

    /// Has `FORMAT` say, durably, that this is no log.
    fn disclaim(&self) -> Result<(), StorageError> {
        remove_if_there(self.storage, TEMPORARY)?;
        let file = self.storage.open(TEMPORARY, OpenMode::CreateNew);
        let file = file.map_err(|source| StorageError::new("create", TEMPORARY, source))?;
        let written = file.write_at(&[UNFINISHED.as_bytes()], 0).and_then(|()| file.sync_data());
        written.map_err(|source| StorageError::new("write", TEMPORARY, source))?;
        self.put_format()
    }

    /// What was written under another name becomes `FORMAT`, whole and durable.
    fn put_format(&self) -> Result<(), StorageError> {
        let renamed = self.storage.rename(TEMPORARY, FORMAT_FILE).and_then(|()| self.storage.sync_dir(""));
        renamed.map_err(|source| StorageError::new("rename", TEMPORARY, source))
    }

    /// Takes everything away, the newest first. What a crash brings back is never taken for a log.
    fn undo(self) {
        if self.is_log && self.disclaim().or_else(|_| self.remove_format()).is_err() {
            tracing::warn!("what was restored stays, for {FORMAT_FILE} cannot be changed any more");
            return;
        }
        let mut stays = false;
        for path in self.files.iter().rev().map(String::as_str).chain([TEMPORARY]) {
            if let Err(error) = remove_if_there(self.storage, path) {
                tracing::warn!(%path, %error, "a part of a backup that was not restored stays");
                stays = true;
            }
        }
        for dir in self.dirs.iter().rev() {
            match self.storage.remove_dir(dir) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(%dir, %error, "a part of a backup that was not restored stays");
                    stays = true;
                }
                _ => {}
            }
        }
        // What says that this is no log goes when nothing else can come back.
        let synced = self.sync_root();
        if let Err(error) = synced.and_then(|()| if stays { Ok(()) } else { self.remove_format() }) {
            tracing::warn!(%error, "a part of a backup that was not restored stays");
        }
    }

    fn remove_format(&self) -> Result<(), StorageError> {
        remove_if_there(self.storage, FORMAT_FILE)?;
        self.sync_root()
    }

    fn sync_root(&self) -> Result<(), StorageError> {
        self.storage.sync_dir("").map_err(|source| StorageError::new("sync", "the directory", source))
    }
}

fn remove_if_there(storage: &dyn Storage, path: &str) -> Result<(), StorageError> {
    match storage.remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(StorageError::new("remove", path, error))
        }
        _ => Ok(()),
    }
}

/// A backup's objects, by what they are.
#[derive(Default)]
struct Contents<'a> {
    format: Option<&'a Object>,
    checkpoint: Option<&'a Object>,
    producers: Option<&'a Object>,
    /// By generation, each with the position where its groups begin.
    journal: BTreeMap<u64, (u64, &'a Object)>,
    segments: BTreeMap<SegmentKey, Pieces<'a>>,
}

/// Objects of one segment, by where they begin, each with where it ends.
#[derive(Default)]
struct Pieces<'a> {
    bytes: BTreeMap<u64, (u64, &'a Object)>,
    blocks: BTreeMap<u64, (u64, &'a Object)>,
}

impl<'a> Contents<'a> {
    fn of(manifest: &'a Manifest) -> Result<Self, RestoreError> {
        let mut contents = Self::default();
        for object in &manifest.objects {
            let is_own = |number: u64| number == manifest.number;
            match Name::parse(&object.name) {
                Some(Name::Format { number }) if is_own(number) => contents.format = Some(object),
                Some(Name::Checkpoint { number }) if is_own(number) => contents.checkpoint = Some(object),
                Some(Name::Producers { number }) if is_own(number) => contents.producers = Some(object),
                Some(Name::Journal { number, generation, from }) if is_own(number) => {
                    contents.journal.insert(generation, (from, object));
                }
                Some(Name::Bytes { segment, start, end }) => {
                    contents.segments.entry(segment).or_default().bytes.insert(start, (end, object));
                }
                Some(Name::Blocks { segment, first, end }) => {
                    contents.segments.entry(segment).or_default().blocks.insert(first, (end, object));
                }
                _ => return Err(bad(object, "this release does not know what it is")),
            }
        }
        Ok(contents)
    }
}

fn write(target: &dyn Target, manifest: &Manifest, made: &mut Made<'_>) -> Result<(), RestoreError> {
    let contents = Contents::of(manifest)?;
    let lacks = |what: &str| RestoreError::Object {
        name: manifests::name_of(manifest.number),
        what: format!("it names no {what}"),
    };
    let format = contents.format.ok_or_else(|| lacks("FORMAT"))?;
    let stored = contents.checkpoint.ok_or_else(|| lacks("checkpoint"))?;
    let bytes = whole(target, stored, CHECKPOINT_BYTES_MAX)?;
    let checkpoint = Checkpoint::decode(&bytes).ok().filter(|checkpoint| {
        checkpoint.log_id == manifest.log_id && checkpoint.sequence == manifest.checkpoint
    });
    let checkpoint = checkpoint.ok_or_else(|| bad(stored, "it is not the checkpoint of this backup"))?;

    made.disclaim()?;
    for dir in [checkpoint::DIR, journal::DIR, segment::DIR] {
        made.dir(dir)?;
    }
    let path = |extension: &str| format!("{}/{:016}.{extension}", checkpoint::DIR, checkpoint.sequence);
    write_checkpoint(made, &path("checkpoint"), &bytes)?;
    if let Some(producers) = contents.producers {
        write_object(target, producers, made, &path("producers"))?;
    }
    for (number, (generation, (from, object))) in (1..).zip(&contents.journal) {
        write_ring_file(target, made, number, (*generation, *from), object)?;
    }
    write_segments(target, made, &checkpoint, contents.segments)?;
    made.sync_names()?;
    write_format(target, format, made)
}

fn write_checkpoint(made: &mut Made<'_>, path: &str, bytes: &[u8]) -> Result<(), StorageError> {
    let file = made.file(path)?;
    let written = file.write_at(&[bytes], 0).and_then(|()| file.sync_data());
    written.map_err(|source| StorageError::new("write", path, source))
}

/// An object that is a file.
fn write_object(
    target: &dyn Target,
    object: &Object,
    made: &mut Made<'_>,
    path: &str,
) -> Result<(), RestoreError> {
    let file = made.file(path)?;
    Download::begin(target, object)?.rest(|position, bytes| write_at(&*file, path, bytes, position))?;
    Ok(sync(&*file, path)?)
}

fn write_at(file: &dyn File, path: &str, bytes: &[u8], position: u64) -> Result<(), RestoreError> {
    let written = file.write_at(&[bytes], position);
    Ok(written.map_err(|source| StorageError::new("write", path, source))?)
}

fn sync(file: &dyn File, path: &str) -> Result<(), StorageError> {
    file.sync_data().map_err(|source| StorageError::new("sync", path, source))
}

/// A journal file with the groups of one generation at their places, and zeros around them.
fn write_ring_file(
    target: &dyn Target,
    made: &mut Made<'_>,
    number: u64,
    (generation, from): (u64, u64),
    object: &Object,
) -> Result<(), RestoreError> {
    let mut download = Download::begin(target, object)?;
    let block = download.next(BLOCK_BYTES as u64)?;
    let header = FileHeader::decode(&block).ok().filter(|header| {
        let groups = object.bytes.saturating_sub(BLOCK_BYTES as u64);
        let end = header.start.saturating_add(header.capacity);
        header.seed.generation == generation
            && header.capacity < JOURNAL_FILE_BYTES_MAX
            && header.start <= from
            && from.saturating_add(groups) <= end
    });
    let header =
        header.ok_or_else(|| bad(object, "it does not begin with the header of its journal file"))?;
    // As `capacity_of` counts: one block for the header, and one for the name of the file that follows.
    let file_bytes = header.capacity + 2 * BLOCK_BYTES as u64;
    // Also what is there when it is made only in part.
    let path = journal::path_of(number);
    made.files.extend([format!("{path}.new"), path]);
    let RingFile { path, file, .. } = RingFile::create(made.storage, number, file_bytes)?;
    write_at(&*file, &path, &block, 0)?;
    let begin = BLOCK_BYTES as u64 + (from - header.start);
    download.rest(|position, bytes| write_at(&*file, &path, bytes, begin + position))?;
    Ok(sync(&*file, &path)?)
}

fn write_segments(
    target: &dyn Target,
    made: &mut Made<'_>,
    checkpoint: &Checkpoint,
    mut segments: BTreeMap<SegmentKey, Pieces<'_>>,
) -> Result<(), RestoreError> {
    for state in &checkpoint.partitions {
        let mut has_dir = false;
        for recorded in recorded(checkpoint.log_id, state).filter(|recorded| recorded.bytes > 0) {
            // Without a single piece it was damaged from end to end when it was backed up.
            let Some(pieces) = segments.remove(&SegmentKey::of(&recorded.header)) else { continue };
            if !has_dir {
                made.dir(&partition_dir(state.id))?;
                has_dir = true;
            }
            write_segment(target, made, &recorded, &pieces)?;
        }
    }
    let left = segments.into_values();
    let mut stray = left.flat_map(|Pieces { bytes, blocks }| bytes.into_values().chain(blocks.into_values()));
    match stray.next().map(|(_, object)| object) {
        Some(object) => Err(bad(object, "the checkpoint names no segment that it is a part of")),
        None => Ok(()),
    }
}

/// A segment and its sidecar. What is missing was damaged when it was backed up; zeros in its place are
/// noticed as the damage was.
fn write_segment(
    target: &dyn Target,
    made: &mut Made<'_>,
    recorded: &Recorded,
    pieces: &Pieces<'_>,
) -> Result<(), RestoreError> {
    let path = |kind| recorded.header.key().path(kind);
    if !pieces.bytes.is_empty() {
        let path = path(FileKind::Segment);
        let file = made.file(&path)?;
        for (start, (end, object)) in &pieces.bytes {
            check_place(object, *end <= recorded.bytes && object.bytes == end - start)?;
            write_piece(target, object, &*file, &path, *start)?;
        }
        // A gap at the end.
        let length = file.len().and_then(|length| match length < recorded.bytes {
            true => file.set_len(recorded.bytes),
            false => Ok(()),
        });
        length.map_err(|source| StorageError::new("extend", &path, source))?;
        sync(&*file, &path)?;
    }
    if !pieces.blocks.is_empty() {
        let path = path(FileKind::Sidecar);
        let file = made.file(&path)?;
        write_at(&*file, &path, &recorded.header.encode(FileKind::Sidecar), 0)?;
        for (first, (end, object)) in &pieces.blocks {
            let each = ENTRY_BYTES as u64;
            let fits = *end <= recorded.bytes / SEGMENT_BLOCK_BYTES && object.bytes == (end - first) * each;
            check_place(object, fits)?;
            write_piece(target, object, &*file, &path, HEADER_BYTES as u64 + first * each)?;
        }
        sync(&*file, &path)?;
    }
    Ok(())
}

fn check_place(object: &Object, fits: bool) -> Result<(), RestoreError> {
    if fits { Ok(()) } else { Err(bad(object, "it does not fit into the segment that it is a part of")) }
}

fn write_piece(
    target: &dyn Target,
    object: &Object,
    file: &dyn File,
    path: &str,
    begin: u64,
) -> Result<(), RestoreError> {
    Download::begin(target, object)?.rest(|position, bytes| write_at(file, path, bytes, begin + position))
}

/// Makes a log of what is there: from here on it is one.
fn write_format(target: &dyn Target, format: &Object, made: &mut Made<'_>) -> Result<(), RestoreError> {
    let bytes = whole(target, format, FORMAT_BYTES_MAX)?;
    let file = made.file(TEMPORARY)?;
    write_at(&*file, TEMPORARY, &bytes, 0)?;
    sync(&*file, TEMPORARY)?;
    made.is_log = true;
    Ok(made.put_format()?)
}
