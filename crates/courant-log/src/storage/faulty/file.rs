//! An open file of a faulty storage.

use std::fmt;
use std::io;
use std::sync::Arc;

use super::FaultyStorage;
use super::state::Kind;
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

impl File for FaultyFile {
    fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
        let mut state = self.storage.state();
        state.begin_read()?;
        Ok(state.inode(self.inode)?.current.read(buf, position))
    }

    fn write_at(&self, bufs: &[&[u8]], position: u64) -> io::Result<()> {
        self.storage.change("write", Kind::Write, |state, call| state.write(call, self.inode, bufs, position))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.storage.sync("sync_data", |state, lost| state.sync_file(self.inode, lost))
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
