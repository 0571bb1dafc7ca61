//! Reading for those who must not wait for the disk.

use std::io;

use crate::Log;
use crate::metrics::add;
use crate::partition::{PartitionId, Read, ReadError, Reader};
use crate::segment::Reach;

impl Log {
    /// As [`Log::read`], for a caller that must not wait for the disk. `None`: some of what is to be read is not in
    /// memory, or nobody knows whether it is, or `max_bytes` are less than the batch; then [`Log::read`] has the answer.
    /// Everything is compared as it does.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn read_cached(
        &self,
        partition: PartitionId,
        offset: u64,
        max_bytes: usize,
    ) -> Result<Option<Read>, ReadError> {
        let buffers = &self.inner.buffers;
        let read = self.reading(partition, |reader| {
            Reader { reach: Reach::Memory, ..reader }.read(buffers, offset, max_bytes, false)
        });
        match read {
            Ok(read) if read.bytes.is_empty() => Ok(None),
            Ok(read) => {
                self.count_read(&read);
                Ok(Some(read))
            }
            Err(ReadError::Io { source, .. }) if source.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn count_read(&self, read: &Read) {
        add(&self.inner.counters.reads, 1);
        add(&self.inner.counters.read_bytes, read.bytes.len() as u64);
    }
}
