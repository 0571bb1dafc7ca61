//! An open file of a faulty storage.

use std::fmt;
use std::io;
use std::sync::Arc;

use rustix::io::Errno;

use super::content::Content;
use super::state::{Kind, State};
use super::{FaultyStorage, ReadFailure};
use crate::storage::File;

/// An open file.
pub(super) struct FaultyFile {
    pub(super) storage: FaultyStorage,
    pub(super) inode: u64,
    /// Keeps the file alive without a name.
    pub(super) _open: Arc<()>,
}

impl fmt::Debug for FaultyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyFile").field("inode", &self.inode).finish_non_exhaustive()
    }
}

impl ReadFailure {
    fn read(self, content: &Content, buf: &mut [u8], position: u64, random: u64) -> io::Result<usize> {
        const SECTOR_BYTES: usize = 512;
        const AWAY_BYTES: u64 = 4096;
        let count = content.read(buf, position);
        let any = |below: usize| (random >> 16) as usize % below.max(1);
        match self {
            Self::Eio => return Err(Errno::IO.into()),
            Self::Short => return Ok(count / 2),
            Self::BitFlip if count > 0 => buf[any(count)] ^= 1 << (random % 8),
            Self::ZeroSector => {
                let begin = any(count) / SECTOR_BYTES * SECTOR_BYTES;
                buf[begin..count.min(begin + SECTOR_BYTES)].fill(0);
            }
            Self::Misdirected => {
                let away = match position.checked_add(AWAY_BYTES).filter(|at| *at < content.len()) {
                    Some(behind) => behind,
                    None => position.saturating_sub(AWAY_BYTES),
                };
                content.read(&mut buf[..count], away);
            }
            Self::BitFlip => {}
        }
        Ok(count)
    }
}

impl FaultyFile {
    fn read(&self, state: &mut State, buf: &mut [u8], position: u64) -> io::Result<usize> {
        state.begin_read()?;
        let failure = state.read_failure();
        let random = state.reads.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let content = &state.inode(self.inode)?.current;
        let Some(failure) = failure else {
            return Ok(content.read(buf, position));
        };
        failure.read(content, buf, position, random)
    }
}

impl File for FaultyFile {
    fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
        self.read(&mut self.storage.state(), buf, position)
    }

    /// The answer follows from the seed. Only a yes is counted as a read, and goes wrong as any other.
    fn read_cached_at(&self, buf: &mut [u8], position: u64) -> bool {
        let mut state = self.storage.state();
        let there = state.in_memory(buf.len());
        // What only a disk can tell is left for who waits for it.
        let is_told = matches!(state.next_read_failure(), Some(ReadFailure::Eio | ReadFailure::Short));
        if there < buf.len() || is_told {
            if let Ok(inode) = state.inode(self.inode) {
                inode.current.read(&mut buf[..there], position);
            }
            return false;
        }
        self.read(&mut state, buf, position).is_ok_and(|count| count == buf.len())
    }

    fn write_at(&self, bufs: &[&[u8]], position: u64) -> io::Result<()> {
        self.storage.change("write", Kind::Write, |state, call| state.write(call, self.inode, bufs, position))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.storage.sync("sync_data", Kind::Sync, |state, lost| state.sync_file(self.inode, lost))
    }

    fn len(&self) -> io::Result<u64> {
        let mut state = self.storage.state();
        state.begin_read()?;
        Ok(state.inode(self.inode)?.current.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.storage.change("set_len", Kind::Other, |state, call| state.set_len(call, self.inode, len))
    }

    fn drop_cache(&self) -> io::Result<()> {
        let mut state = self.storage.state();
        state.begin_read()?;
        state.inode(self.inode)?.drop_cache();
        Ok(())
    }
}
