//! One open file of a file system.

use std::fs;
use std::io::{self, IoSlice, IoSliceMut};
use std::num::NonZeroU64;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{Advice, OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::{Errno, ReadWriteFlags, preadv2};

use crate::limits::BLOCK_BYTES;
use crate::storage::File;

/// Most buffers in one `pwritev` call (`IOV_MAX` on Linux).
const MAX_SLICES: usize = 1024;

#[derive(Debug)]
pub(super) struct DiskFile {
    file: fs::File,
    syncs: bool,
    /// Whether writes past the page cache are tried. Not every file system knows them.
    may_be_direct: AtomicBool,
    /// How it is open but for such writes, once one was tried. Nobody else changes that, so it is asked once.
    flags: OnceLock<OFlags>,
}

impl DiskFile {
    pub(super) fn new(file: fs::File, syncs: bool) -> Self {
        // A defect that syncs nothing leaves everything in the page cache, which a power cut takes.
        Self { file, syncs, may_be_direct: AtomicBool::new(syncs), flags: OnceLock::new() }
    }

    /// Whether a write may go past the page cache: its memory, its length and its place are whole blocks.
    fn is_direct(&self, buf: &[u8], position: u64) -> bool {
        !buf.is_empty()
            && buf.len().is_multiple_of(BLOCK_BYTES)
            && position.is_multiple_of(BLOCK_BYTES as u64)
            && buf.as_ptr().addr().is_multiple_of(BLOCK_BYTES)
            && self.may_be_direct.load(Ordering::Relaxed)
    }

    /// How the file is open but for writes past the page cache.
    fn flags(&self) -> io::Result<OFlags> {
        if let Some(flags) = self.flags.get() {
            return Ok(*flags);
        }
        let flags = fcntl_getfl(&self.file)?.difference(OFlags::DIRECT);
        Ok(*self.flags.get_or_init(|| flags))
    }

    /// Writes past the page cache, which forgets what it had there.
    fn write_direct(&self, buf: &[u8], position: u64) -> io::Result<()> {
        let flags = self.flags()?;
        fcntl_setfl(&self.file, flags | OFlags::DIRECT)?;
        let written = self.file.write_all_at(buf, position);
        fcntl_setfl(&self.file, flags)?;
        written
    }
}

/// Whether an error says that the file system takes nothing past the page cache, or not from such memory or to
/// such a place: most have one word for both, and some another for files that they compress. What else goes
/// wrong would go wrong in the page cache too, and be told less clearly.
fn says_not_here(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::INVAL | Errno::OPNOTSUPP))
}

impl File for DiskFile {
    fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < buf.len() {
            match self.file.read_at(&mut buf[done..], position + done as u64) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn read_cached_at(&self, buf: &mut [u8], position: u64) -> bool {
        let mut done = 0;
        while done < buf.len() {
            let mut slices = [IoSliceMut::new(&mut buf[done..])];
            match preadv2(&self.file, &mut slices, position + done as u64, ReadWriteFlags::NOWAIT) {
                Ok(count) if count > 0 => done += count,
                Err(Errno::INTR) => {}
                // It would have to wait, the file ends before, or the file system or the kernel knows no such read.
                // Linux 5.9 and 5.10 may say 0 also where the file goes on, so that it tells nothing of the file.
                Ok(_) | Err(_) => return false,
            }
        }
        true
    }

    fn write_at(&self, bufs: &[&[u8]], position: u64) -> io::Result<()> {
        if let [buf] = bufs {
            return self.file.write_all_at(buf, position);
        }
        let mut slices: Vec<IoSlice<'_>> =
            bufs.iter().filter(|buf| !buf.is_empty()).map(|buf| IoSlice::new(buf)).collect();
        let mut rest = slices.as_mut_slice();
        let mut at = position;
        while !rest.is_empty() {
            let now = rest.len().min(MAX_SLICES);
            match rustix::io::pwritev(&self.file, &rest[..now], at) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    IoSlice::advance_slices(&mut rest, count);
                    at += count as u64;
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn write_to_sync(&self, buf: &[u8], position: u64) -> io::Result<bool> {
        if self.is_direct(buf, position) {
            match self.write_direct(buf, position) {
                // Not here. All of it is written again: what has been written of it is the same.
                Err(error) if says_not_here(&error) => {
                    self.may_be_direct.store(false, Ordering::Relaxed);
                }
                written => return written.map(|()| true),
            }
        }
        self.write_at(&[buf], position)?;
        Ok(false)
    }

    fn begin_sync(&self, range: Range<u64>) {
        // A defect that syncs nothing begins nothing: a power cut has to take it.
        let length = range.end.checked_sub(range.start).filter(|_| self.syncs);
        if let Some(length) = length.and_then(NonZeroU64::new) {
            // The system begins to write what is not on disk, and lets go of what is. It says nothing of errors,
            // which the next sync is told of all the same, and where it does not do this, that sync has more to do.
            let _ = rustix::fs::fadvise(&self.file, range.start, Some(length), Advice::DontNeed);
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        if self.syncs {
            self.file.sync_data()?;
        }
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn drop_cache(&self) -> io::Result<()> {
        rustix::fs::fadvise(&self.file, 0, None, Advice::DontNeed)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> (tempfile::TempDir, DiskFile) {
        let dir = tempfile::tempdir().unwrap();
        let file = fs::File::create_new(dir.path().join("a")).unwrap();
        (dir, DiskFile::new(file, true))
    }

    #[test]
    fn a_write_may_have_more_buffers_than_one_call_takes() {
        let (_dir, file) = file();
        let bytes: Vec<u8> = (0..3000_u32).flat_map(u32::to_le_bytes).collect();
        let bufs: Vec<&[u8]> = bytes.chunks(3).collect();
        assert!(bufs.len() > MAX_SLICES);
        file.write_at(&bufs, 0).unwrap();
        let mut read = vec![0; bytes.len()];
        assert_eq!(file.read_at(&mut read, 0).unwrap(), bytes.len());
        assert!(read == bytes);
    }

    #[test]
    fn what_is_in_memory_is_read_without_waiting() {
        let (_dir, file) = file();
        let bytes: Vec<u8> = (0..300_000_u32).map(|at| (at % 251) as u8).collect();
        file.write_at(&[&bytes], 0).unwrap();
        let mut read = vec![0; bytes.len() - 7];
        // Not every file system knows such reads.
        let mut slices = [IoSliceMut::new(&mut read)];
        let is_known = preadv2(&file.file, &mut slices, 7, ReadWriteFlags::NOWAIT).is_ok();
        read.fill(0);
        assert_eq!(file.read_cached_at(&mut read, 7), is_known);
        assert!(!is_known || read == bytes[7..]);
        assert!(file.read_cached_at(&mut [], 7), "of nothing, all is there");
        assert!(!file.read_cached_at(&mut read, 8), "the file ends before");
    }

    #[test]
    fn what_is_begun_to_be_synced_stays_what_it_is() {
        let (_dir, file) = file();
        let bytes: Vec<u8> = (0..64 * BLOCK_BYTES).map(|at| (at % 251) as u8).collect();
        file.write_at(&[&bytes], 0).unwrap();
        let end = bytes.len() as u64;
        for range in [0..end, 0..0, 5000..9000, end..end + 10, Range { start: end, end: 0 }] {
            file.begin_sync(range);
        }
        file.write_at(&[b"more"], end).unwrap();
        file.sync_data().unwrap();
        let mut read = vec![0; bytes.len() + 8];
        assert_eq!(file.read_at(&mut read, 0).unwrap(), bytes.len() + 4);
        assert!(read[..bytes.len()] == bytes && read[bytes.len()..].starts_with(b"more"));
    }

    /// An error of the disk ends the log. A file system that only has no such way must not.
    #[test]
    fn what_a_file_system_does_not_know_is_told_from_what_goes_wrong() {
        for unknown in [Errno::INVAL, Errno::OPNOTSUPP, Errno::NOTSUP] {
            assert!(says_not_here(&unknown.into()), "{unknown}");
        }
        for wrong in [Errno::IO, Errno::NOSPC, Errno::DQUOT, Errno::ROFS, Errno::NOMEM] {
            assert!(!says_not_here(&wrong.into()), "{wrong}");
        }
        assert!(!says_not_here(&io::ErrorKind::WriteZero.into()));
    }

    /// Where memory, length or place are not whole blocks, and where the file system knows no other way, bytes
    /// go through the page cache. What is read is the same: also of what the page cache had before.
    #[test]
    fn what_is_written_past_the_page_cache_is_read() {
        const BYTES: usize = 512 * 1024;
        let (_dir, file) = file();
        file.write_at(&[&[1; 2 * BYTES]], 0).unwrap();
        let memory: Vec<u8> = (0..BYTES + BLOCK_BYTES).map(|at| (at % 251) as u8).collect();
        let begin = memory.as_ptr().align_offset(BLOCK_BYTES);
        let aligned = &memory[begin..begin + BYTES];
        let block = &aligned[..BLOCK_BYTES];
        assert!(file.is_direct(aligned, 0) && file.is_direct(block, 0) && !file.is_direct(&[], 0));
        assert!(!file.is_direct(&memory[begin + 1..=begin + BYTES], 0));
        assert!(!file.is_direct(&aligned[..BYTES - 1], 0) && !file.is_direct(aligned, 512));
        let mut read = vec![0; 2 * BYTES];
        let one = &aligned[BLOCK_BYTES..2 * BLOCK_BYTES];
        for (bytes, position) in
            [(aligned, BLOCK_BYTES), (&memory[begin + 1..], 0), (aligned, 0), (one, 0), (block, BLOCK_BYTES)]
        {
            let is_past = file.write_to_sync(bytes, position as u64).unwrap();
            // It has said so of itself, where the file system takes nothing past its cache.
            assert_eq!(is_past, file.is_direct(bytes, position as u64), "{} at {position}", bytes.len());
            file.sync_data().unwrap();
            assert_eq!(file.read_at(&mut read, 0).unwrap(), 2 * BYTES);
            assert!(read[position..][..bytes.len()] == *bytes, "at {position}");
        }
        assert!(read[BYTES + 2 * BLOCK_BYTES..].iter().all(|byte| *byte == 1), "the rest is as it was");
        // It was for these writes alone, and how the file is open otherwise was asked once.
        assert_eq!(file.flags.get().copied(), Some(fcntl_getfl(&file.file).unwrap()));
        assert!(!file.write_to_sync(b"few", 5).unwrap(), "a sync has it to write");
        file.read_at(&mut read[..8], 0).unwrap();
        assert_eq!(&read[5..8], b"few");
        // A storage that syncs nothing has nothing on disk.
        let unsynced = DiskFile::new(file.file.try_clone().unwrap(), false);
        assert!(!unsynced.is_direct(aligned, 0));
    }
}
