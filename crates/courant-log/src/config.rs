//! How a log is opened.

use std::sync::Arc;

use courant_core::clock::Clock;
use courant_core::entropy::Entropy;

use crate::limits::{
    BLOCK_BYTES, DECOMPRESSED_BYTES_MAX, FILES_MIN, FILES_UNTOLD, JOURNAL_FILE_BYTES_MAX,
    JOURNAL_FILE_BYTES_MIN, JOURNAL_FILES_MAX, JOURNAL_FILES_MIN, QUEUED_BYTES_MAX, READ_BUFFERS,
};

/// Settings of one log.
#[derive(Clone)]
pub struct LogConfig {
    /// Files in the journal ring; at least [`JOURNAL_FILES_MIN`].
    pub journal_files: usize,
    /// Bytes of each journal file but the first; at least [`JOURNAL_FILE_BYTES_MIN`].
    pub journal_file_bytes: u64,
    /// Bytes of the first journal file, small so that a new log is ready at once.
    pub first_journal_file_bytes: u64,
    /// Bytes that stay free on the storage: appends that would take them are refused.
    pub reserve_bytes: u64,
    /// Bytes that compaction may keep keys in, at a time: 64 of them are enough for a key.
    pub compaction_key_bytes: usize,
    /// Bytes that compaction may read and write in a second; 0: as many as it can.
    pub compaction_bytes_per_second: u64,
    /// Milliseconds from one look for topics that are due for compaction to the next.
    pub compaction_interval_ms: u64,
    /// Files that the log may have open at one time, those of its readers among them; at least
    /// [`FILES_MIN`]. [`FILES_WANTED`](crate::limits::FILES_WANTED) are as many as it can make use of: with
    /// fewer, appends to many partitions wait for each other.
    pub open_files: usize,
    /// Buffers of a mebibyte that the log has for reads, which are used again.
    pub read_buffers: usize,
    /// Bytes that one batch may grow to when it is unpacked; in compaction at the least
    /// [`UNPACKED_BYTES_MIN`](crate::limits::UNPACKED_BYTES_MIN). A larger one stays whole in compaction, and
    /// answers as a whole where an event is looked for by its time.
    pub unpacked_bytes_max: usize,
    /// Batches that are unpacked at one time, by threads of the log and in [`crate::Log::unpack`]; at least one.
    pub unpacked_at_once: usize,
    /// Bytes of changes of consumer groups that may wait for the committer before
    /// [`crate::WriterError::Busy`]. One waits whatever its size.
    pub queued_group_bytes: usize,
    /// Whether threads commit and checkpoint by themselves. Without them the owner calls
    /// [`crate::Log::commit`] and [`crate::Log::checkpoint`], as the crash tests do.
    pub background: bool,
    /// The time written into the journal. Nothing is decided by it.
    pub clock: Arc<dyn Clock>,
    /// Where ids and salts come from.
    pub entropy: Arc<dyn Entropy>,
}

impl std::fmt::Debug for LogConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogConfig")
            .field("journal_files", &self.journal_files)
            .field("journal_file_bytes", &self.journal_file_bytes)
            .field("first_journal_file_bytes", &self.first_journal_file_bytes)
            .field("reserve_bytes", &self.reserve_bytes)
            .field("compaction_key_bytes", &self.compaction_key_bytes)
            .field("compaction_bytes_per_second", &self.compaction_bytes_per_second)
            .field("compaction_interval_ms", &self.compaction_interval_ms)
            .field("open_files", &self.open_files)
            .field("read_buffers", &self.read_buffers)
            .field("unpacked_bytes_max", &self.unpacked_bytes_max)
            .field("unpacked_at_once", &self.unpacked_at_once)
            .field("queued_group_bytes", &self.queued_group_bytes)
            .field("background", &self.background)
            .finish_non_exhaustive()
    }
}

impl LogConfig {
    /// What a server runs with: four files of 64 MiB, the first of 8 MiB, 64 MiB of the disk kept free.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Self {
        Self {
            journal_files: JOURNAL_FILES_MIN,
            journal_file_bytes: 64 * 1024 * 1024,
            first_journal_file_bytes: 8 * 1024 * 1024,
            reserve_bytes: 64 * 1024 * 1024,
            compaction_key_bytes: 128 * 1024 * 1024,
            compaction_bytes_per_second: 64 * 1024 * 1024,
            compaction_interval_ms: 15_000,
            open_files: FILES_UNTOLD,
            read_buffers: READ_BUFFERS,
            unpacked_bytes_max: DECOMPRESSED_BYTES_MAX,
            unpacked_at_once: usize::MAX,
            queued_group_bytes: QUEUED_BYTES_MAX,
            background: true,
            clock,
            entropy,
        }
    }

    pub(crate) fn bounded(mut self) -> Self {
        self.journal_files = self.journal_files.clamp(JOURNAL_FILES_MIN, JOURNAL_FILES_MAX / 4);
        let bounded = |bytes: u64| {
            let bytes = bytes.clamp(JOURNAL_FILE_BYTES_MIN, JOURNAL_FILE_BYTES_MAX);
            bytes.next_multiple_of(BLOCK_BYTES as u64)
        };
        self.open_files = self.open_files.max(FILES_MIN);
        self.journal_file_bytes = bounded(self.journal_file_bytes);
        self.first_journal_file_bytes = bounded(self.first_journal_file_bytes);
        self.compaction_interval_ms = self.compaction_interval_ms.max(1);
        self
    }
}
