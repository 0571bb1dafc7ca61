//! The files of the ring: how one is made, and how they are found again.

use std::io;
use std::sync::Arc;

use uuid::Uuid;

use super::file_header::NotAHeader;
use super::scan::{ScanError, Scanned};
use super::{DIR, FileHeader};
use crate::limits::{BLOCK_BYTES, JOURNAL_FILE_BYTES_MAX, JOURNAL_FILES_MAX};
use crate::storage::{File, OpenMode, Storage, StorageError};

/// Bytes that one write of a new file has at most, however large its steps are.
const ZEROS_BYTES: u64 = 1024 * 1024;

/// What a file's name ends with until all of it is filled.
const UNFINISHED: &str = ".new";

/// How a file is filled beside others who wait for the same disk. All are above 0.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FillSteps {
    /// Bytes that are written at a time.
    pub(crate) write: u64,
    /// Bytes that may wait in the page cache: then they are synced.
    pub(crate) sync: u64,
    /// Bytes that may have gone past the page cache: then they are synced.
    pub(crate) past: u64,
}

/// One file of the ring.
#[derive(Clone, Debug)]
pub(crate) struct RingFile {
    pub(crate) path: String,
    pub(crate) file: Arc<dyn File>,
    pub(crate) file_bytes: u64,
}

impl RingFile {
    /// Creates a ring file: temporary name, zeros if the storage wants them, sync, rename, sync of
    /// the directory. `docs/formats/journal.md` says why: "Ring files".
    pub(crate) fn create(storage: &dyn Storage, number: u64, file_bytes: u64) -> Result<Self, StorageError> {
        let whole = FillSteps { write: file_bytes, sync: file_bytes, past: file_bytes };
        Self::create_in_steps(storage, number, file_bytes, whole, || Ok(()))
    }

    /// As [`Self::create`], beside others who wait for the same disk. `rest` is called whenever nothing of the file
    /// waits in the page cache, but at the end: after each write that has gone past it, and after each sync of those
    /// that have not. Where it fails, so does this: the file is not wanted any more, or there is no room for more
    /// of it.
    pub(crate) fn create_in_steps(
        storage: &dyn Storage,
        number: u64,
        file_bytes: u64,
        steps: FillSteps,
        rest: impl FnMut() -> io::Result<()>,
    ) -> Result<Self, StorageError> {
        let path = path_of(number);
        let temporary = format!("{path}{UNFINISHED}");
        let created = Self::fill(storage, &temporary, file_bytes, steps, rest);
        let file = created.inspect_err(|_| {
            // A part of a file takes room that something else may need. It is in nobody's way else.
            let _ = storage.remove_file(&temporary);
        })?;
        let at = |what| move |source| StorageError::new(what, DIR, source);
        storage.rename(&temporary, &path).map_err(at("rename a file in"))?;
        storage.sync_dir(DIR).map_err(at("sync"))?;
        Ok(Self { path, file, file_bytes })
    }

    fn fill(
        storage: &dyn Storage,
        path: &str,
        file_bytes: u64,
        steps: FillSteps,
        rest: impl FnMut() -> io::Result<()>,
    ) -> Result<Arc<dyn File>, StorageError> {
        let at = |what| move |source| StorageError::new(what, path, source);
        match storage.remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at("remove")(error)),
            _ => {}
        }
        let file = storage.open(path, OpenMode::CreateNew).map_err(at("create"))?;
        if storage.wants().prefill {
            write_zeros(&*file, path, file_bytes, steps, rest)?;
        } else {
            file.set_len(file_bytes).map_err(at("extend"))?;
        }
        file.sync_data().map_err(at("sync"))?;
        // Where they have gone through the page cache: the system keeps what was written in one piece in one piece,
        // and handles all of it for each group that is written over a block of it:
        // `docs/decisions/0014-zeros-leave-the-cache.md`. Where it does not let them go, that only takes time.
        let _ = file.drop_cache();
        Ok(file)
    }

    /// Bytes behind the header block that groups may fill: whole blocks, one of them kept back for the
    /// name of the file that follows, and not more than a start will read.
    pub(crate) fn capacity(&self) -> u64 {
        capacity_of(self.file_bytes)
    }

    /// The block at a byte of the file; shorter where the file ends.
    pub(super) fn read_block(&self, at: u64) -> Result<Vec<u8>, StorageError> {
        let mut block = vec![0; BLOCK_BYTES];
        let count = read_up_to(&*self.file, &mut block, at)
            .map_err(|source| StorageError::new("read", &self.path, source))?;
        block.truncate(count);
        Ok(block)
    }
}

/// Writes zeros, in memory that begins with a block, so that they may go past the page cache. What has gone past it
/// is synced seldom: it is with the disk, and a flush would only keep others waiting. But the disk may have a cache
/// that the next sync of anybody empties, and some file systems say that they take such writes and keep them.
fn write_zeros(
    file: &dyn File,
    path: &str,
    file_bytes: u64,
    steps: FillSteps,
    mut rest: impl FnMut() -> io::Result<()>,
) -> Result<(), StorageError> {
    let at = |what| move |source| StorageError::new(what, path, source);
    let write_bytes = steps.write.min(ZEROS_BYTES) as usize;
    let memory = vec![0u8; write_bytes + BLOCK_BYTES];
    let begin = memory.as_ptr().align_offset(BLOCK_BYTES).min(BLOCK_BYTES);
    let zeros = &memory[begin..begin + write_bytes];
    let (mut position, mut in_cache, mut past) = (0u64, 0u64, 0u64);
    while position < file_bytes {
        // Where they go through the page cache, up to the next sync and no further.
        let count = (file_bytes - position).min(zeros.len() as u64).min(steps.sync - in_cache);
        let is_past = file.write_to_sync(&zeros[..count as usize], position).map_err(at("fill"))?;
        position += count;
        *(if is_past { &mut past } else { &mut in_cache }) += count;
        if position == file_bytes || (!is_past && in_cache < steps.sync) {
            continue;
        }
        if in_cache > 0 || past >= steps.past {
            file.sync_data().map_err(at("sync"))?;
            (in_cache, past) = (0, 0);
        }
        rest().map_err(at("go on filling"))?;
    }
    Ok(())
}

/// Removes what a process that was killed has left of a file that it was filling. The next file would take its place,
/// but on a disk that is nearly full none is begun, and it would go on taking the room. Where that fails, it only does
/// so for longer.
pub(crate) fn remove_unfinished(storage: &dyn Storage) {
    let Ok(names) = storage.list(DIR) else { return };
    for name in names {
        if name.strip_suffix(UNFINISHED).and_then(number_of).is_some() {
            let _ = storage.remove_file(&format!("{DIR}/{name}"));
        }
    }
}

/// Bytes of groups that a ring file of that size takes.
pub(crate) fn capacity_of(file_bytes: u64) -> u64 {
    let whole = file_bytes.min(JOURNAL_FILE_BYTES_MAX) / BLOCK_BYTES as u64;
    whole.saturating_sub(2) * BLOCK_BYTES as u64
}

/// A ring file and what its header says.
pub(super) struct Found {
    pub(super) ring: RingFile,
    pub(super) header: FileHeader,
}

/// Opens every ring file; those of generation `from` and later in order, the others as free.
pub(super) fn find_files(
    storage: &Arc<dyn Storage>,
    log_id: Uuid,
    from: u64,
) -> Result<(Vec<Found>, Scanned), ScanError> {
    let mut scanned = Scanned { next_number: 1, ..Scanned::default() };
    let names = storage.list(DIR).map_err(|source| StorageError::new("list", DIR, source))?;
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| number_of(name)).collect();
    if numbers.len() > JOURNAL_FILES_MAX {
        return Err(ScanError::TooManyFiles { count: numbers.len() });
    }
    numbers.sort_unstable();
    let mut files = Vec::new();
    for number in numbers {
        scanned.next_number = number + 1;
        let path = path_of(number);
        let (ring, block) = open(&**storage, &path)?;
        match FileHeader::decode(&block) {
            Err(NotAHeader::Newer(version)) => return Err(ScanError::Newer { path, version }),
            Err(NotAHeader::Invalid) => scanned.free.push(ring),
            Ok(header) if header.log_id != log_id => {
                return Err(ScanError::Foreign { path, found: header.log_id });
            }
            Ok(header) => {
                scanned.generation = scanned.generation.max(header.seed.generation);
                if header.seed.generation >= from {
                    let expected = header.capacity + BLOCK_BYTES as u64;
                    if ring.file_bytes < expected {
                        return Err(ScanError::Short { path, found: ring.file_bytes, expected });
                    }
                    files.push(Found { ring, header });
                } else {
                    scanned.free.push(ring);
                }
            }
        }
    }
    files.sort_by_key(|found| found.header.seed.generation);
    Ok((files, scanned))
}

pub(crate) fn path_of(number: u64) -> String {
    format!("{DIR}/{number:08}.journal")
}

/// The number in a name that we gave; other files are nobody's business here.
fn number_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".journal")?;
    let number = digits.parse().ok()?;
    (path_of(number).len() == DIR.len() + 1 + name.len() && number < u64::MAX).then_some(number)
}

/// A ring file with its first block, as the disk holds them.
fn open(storage: &dyn Storage, path: &str) -> Result<(RingFile, Vec<u8>), StorageError> {
    let at = |what| move |source| StorageError::new(what, path, source);
    let file = storage.open(path, OpenMode::Existing).map_err(at("open"))?;
    file.drop_cache().map_err(at("drop the cache of"))?;
    let file_bytes = file.len().map_err(at("measure"))?;
    let mut block = vec![0; BLOCK_BYTES];
    let count = read_up_to(&*file, &mut block, 0).map_err(at("read"))?;
    block.truncate(count);
    Ok((RingFile { path: path.to_owned(), file, file_bytes }, block))
}

fn read_up_to(file: &dyn File, buf: &mut [u8], position: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buf.len() {
        match file.read_at(&mut buf[filled..], position + filled as u64)? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}

/// All bytes of a ring file. They do not stay in memory: groups will be written over them, and it is with them as
/// with the zeros of a new file.
pub(super) fn read_whole(ring: &RingFile) -> Result<Vec<u8>, StorageError> {
    // Nobody wrote more than that: what is longer was made longer by something else.
    let count = ring.file_bytes.min(JOURNAL_FILE_BYTES_MAX);
    let mut bytes = vec![0; count as usize];
    let count = read_up_to(&*ring.file, &mut bytes, 0)
        .map_err(|source| StorageError::new("read", &ring.path, source))?;
    bytes.truncate(count);
    let _ = ring.file.drop_cache();
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::storage::{CrashMode, FaultyStorage};

    const STEP: u64 = 16 * 1024;
    const STEPS: u64 = 5;
    const STEP_BY_STEP: FillSteps = FillSteps { write: STEP, sync: STEP, past: STEPS * STEP };

    fn storage() -> FaultyStorage {
        let storage = FaultyStorage::new(1, 1024 * 1024);
        storage.create_dir(DIR).expect("creates");
        storage.sync_dir("").expect("syncs");
        storage
    }

    /// Whoever else syncs a file meanwhile never has more than a step in front of it. This storage takes nothing past
    /// its cache.
    #[test]
    fn each_step_is_synced_before_the_next_is_written() {
        let storage = storage();
        let calls: Arc<Mutex<Vec<&'static str>>> = Arc::default();
        let seen = calls.clone();
        storage.set_hook(Box::new(move |_, _, what| seen.lock().expect("lock").push(what)));
        let (mut rests, reads) = (0, storage.reads());
        let made = RingFile::create_in_steps(&storage, 1, STEPS * STEP, STEP_BY_STEP, || {
            rests += 1;
            Ok(())
        });
        assert_eq!(storage.reads(), reads + 1, "the zeros are dropped from the cache");
        assert_eq!(made.expect("creates").file.len().expect("measures"), STEPS * STEP);
        storage.clear_hook();
        let mut expected = vec!["remove_file", "create"];
        (0..STEPS).for_each(|_| expected.extend(["write", "sync_data"]));
        expected.extend(["rename", "sync_dir"]);
        assert_eq!(*calls.lock().expect("lock"), expected);
        assert_eq!(rests, STEPS - 1);
    }

    /// Takes note of what is written to be synced, how much it is, and of the syncs. What is written before byte
    /// `past` goes past the cache.
    #[derive(Debug, Default)]
    struct Noted {
        past: u64,
        calls: Mutex<Vec<(&'static str, u64)>>,
    }

    impl Noted {
        fn note(&self, call: &'static str, bytes: u64) {
            self.calls.lock().expect("lock").push((call, bytes));
        }
    }

    impl File for Noted {
        fn read_at(&self, _: &mut [u8], _: u64) -> io::Result<usize> {
            Ok(0)
        }

        fn write_at(&self, _: &[&[u8]], _: u64) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }

        fn write_to_sync(&self, buf: &[u8], position: u64) -> io::Result<bool> {
            assert!(buf.as_ptr().addr().is_multiple_of(BLOCK_BYTES), "its memory begins with a block");
            self.note("write", buf.len() as u64);
            Ok(position < self.past)
        }

        fn sync_data(&self) -> io::Result<()> {
            self.note("sync", 0);
            Ok(())
        }

        fn len(&self) -> io::Result<u64> {
            Ok(0)
        }

        fn set_len(&self, _: u64) -> io::Result<()> {
            Ok(())
        }

        fn drop_cache(&self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Symptom: a new file of 8 MiB took a start 11 ms. Cause: its zeros were copied into the page cache, written from
    /// there, and dropped. Fix: they go past it, where memory, place and length are whole blocks.
    #[test]
    fn the_zeros_of_a_new_file_may_go_past_the_page_cache() {
        let noted = Noted::default();
        let file_bytes = 2 * ZEROS_BYTES + 3 * STEP;
        let whole = FillSteps { write: file_bytes, sync: file_bytes, past: file_bytes };
        write_zeros(&noted, "a", file_bytes, whole, || Ok(())).expect("writes");
        let expected = [("write", ZEROS_BYTES), ("write", ZEROS_BYTES), ("write", 3 * STEP)];
        assert_eq!(*noted.calls.lock().expect("lock"), expected);
    }

    /// Symptom: while a ring file was filled, one event in a hundred took twice as long. Cause: each step was synced,
    /// and syncs of one disk stand one behind the other, although nothing was left in the page cache to be written.
    /// Fix: what has gone past it is left to the one sync of the whole file; what has not is synced as before.
    #[test]
    fn what_has_gone_past_the_page_cache_is_not_synced_step_by_step() {
        let noted = Noted { past: 3 * STEP, ..Noted::default() };
        let steps = FillSteps { write: STEP, sync: 2 * STEP, past: 8 * STEP };
        write_zeros(&noted, "a", 8 * STEP, steps, || {
            noted.note("rest", 0);
            Ok(())
        })
        .expect("writes");
        let (write, sync, rest) = (("write", STEP), ("sync", 0), ("rest", 0));
        let past = [write, rest].repeat(3);
        let not_past = [write, write, sync, rest].repeat(2);
        assert_eq!(*noted.calls.lock().expect("lock"), [past, not_past, vec![write]].concat());
    }

    /// A disk with a cache of its own has no more of the file to write than that when somebody syncs another one.
    #[test]
    fn what_has_gone_past_the_page_cache_is_synced_now_and_then() {
        let noted = Noted { past: 8 * STEP, ..Noted::default() };
        let steps = FillSteps { write: STEP, sync: 2 * STEP, past: 3 * STEP };
        write_zeros(&noted, "a", 8 * STEP, steps, || {
            noted.note("rest", 0);
            Ok(())
        })
        .expect("writes");
        let (write, sync, rest) = (("write", STEP), ("sync", 0), ("rest", 0));
        let three = [write, rest, write, rest, write, sync, rest].repeat(2);
        assert_eq!(*noted.calls.lock().expect("lock"), [three, vec![write, rest, write]].concat());
    }

    /// Nobody has to wait for the rest of a file that is not needed, and nothing of it takes room.
    #[test]
    fn a_file_that_is_not_wanted_any_more_is_given_up_at_the_next_step() {
        let storage = storage();
        let (calls, mut rests) = (storage.calls(), 0);
        let made = RingFile::create_in_steps(&storage, 1, STEPS * STEP, STEP_BY_STEP, || {
            rests += 1;
            if rests < 2 { Ok(()) } else { Err(io::ErrorKind::Interrupted.into()) }
        });
        assert!(made.is_err());
        // It is looked for and created, has two steps, and is removed.
        assert_eq!((rests, storage.calls() - calls), (2, 2 + 2 * 2 + 1));
        assert!(storage.list(DIR).expect("lists").is_empty());
    }

    /// A start reads whole files. The system keeps them in large pieces, and would handle one for each group.
    #[test]
    fn what_was_read_of_a_file_leaves_the_cache() {
        let storage = storage();
        let ring = RingFile::create(&storage, 1, STEP).expect("creates");
        let reads = storage.reads();
        assert_eq!(read_whole(&ring).expect("reads").len() as u64, STEP);
        assert_eq!(storage.reads(), reads + 2, "one reads, and one drops the cache");
    }

    /// What a power cut leaves of a file that is being filled is not taken for one: it has another name.
    #[test]
    fn a_file_has_its_name_only_with_all_its_zeros() {
        let storage = storage();
        let images: Arc<Mutex<Vec<FaultyStorage>>> = Arc::default();
        let taken = images.clone();
        storage.set_hook(Box::new(move |storage, call, _| {
            let images = CrashMode::ALL.iter().map(|mode| storage.crash_image(*mode, call));
            taken.lock().expect("lock").extend(images);
        }));
        RingFile::create_in_steps(&storage, 1, STEPS * STEP, STEP_BY_STEP, || Ok(())).expect("creates");
        storage.clear_hook();
        images.lock().expect("lock").push(storage.crash_image(CrashMode::LoseAll, 1));
        let mut named = 0;
        for image in images.lock().expect("lock").iter() {
            if image.list(DIR).expect("lists").iter().all(|name| number_of(name).is_none()) {
                continue;
            }
            named += 1;
            let file = image.open(&path_of(1), OpenMode::Existing).expect("opens");
            let mut bytes = vec![1u8; (STEPS * STEP) as usize + 1];
            let count = read_up_to(&*file, &mut bytes, 0).expect("reads");
            assert_eq!(count as u64, STEPS * STEP);
            assert!(bytes[..count].iter().all(|byte| *byte == 0));
        }
        assert!(named > 0, "the last image has it");
    }
}
