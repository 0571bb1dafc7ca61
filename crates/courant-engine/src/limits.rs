//! Every bound of the engines in this crate, in one place.

/// Bytes that `memory:` holds when its URL does not say.
pub const MEMORY_BYTES_DEFAULT: u64 = 256 * 1024 * 1024;

/// Fewest bytes that `memory:` can be told to hold: the journal takes a third of them.
pub const MEMORY_BYTES_MIN: u64 = 96 * 1024 * 1024;

/// Part of the bytes of `memory:` that one partition keeps, unless its topic says otherwise: one of this
/// many. Old records go so that new ones are taken; it is looked at whenever as many bytes are published.
pub const MEMORY_RETENTION_PARTS: u64 = 16;

/// Bytes of each journal file of `memory:`, just enough for the largest batch.
pub(crate) const MEMORY_JOURNAL_FILE_BYTES: u64 = 8 * 1024 * 1024;

/// Bytes of `memory:` that are kept free for checkpoints.
pub(crate) const MEMORY_RESERVE_BYTES: u64 = 4 * 1024 * 1024;

/// Bytes of keys, values and headers that go into one batch, below the default `max.message.bytes`
/// (1,048,588) with room for what the format adds. A larger record goes alone.
pub(crate) const BATCH_BYTES_MAX: usize = 900_000;

/// Records in one batch.
pub(crate) const BATCH_RECORDS_MAX: usize = 10_000;

/// Bytes of a batch up to which the log may wait for those of other callers: writing so many is little beside the
/// sync. A larger one waits for nobody.
pub(crate) const AWAITED_BYTES_MAX: usize = 4096;

/// Bytes that the format adds to a record, at most, besides its headers.
pub(crate) const RECORD_OVERHEAD_BYTES: usize = 40;

/// Bytes that the format adds to a header, at most.
pub(crate) const HEADER_OVERHEAD_BYTES: usize = 10;

/// Bytes that one [`crate::Subscription::next`] reads over all partitions, when the subscription does
/// not say. One batch may exceed it.
pub const FETCH_BYTES_DEFAULT: usize = 1024 * 1024;

/// Bytes that are read of one partition before another one has its turn, while there are so many left.
pub(crate) const SHARE_BYTES_MIN: usize = 64 * 1024;

/// Most bytes that a subscription can ask for.
pub const FETCH_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Bytes of records, decompressed, after which one [`crate::Subscription::next`] stops taking batches.
pub(crate) const DECODED_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Bytes that one batch may decompress to.
pub(crate) const BATCH_DECODED_BYTES_MAX: usize = courant_log::limits::DECOMPRESSED_BYTES_MAX;

/// Longest a subscription waits in one call; an earlier answer without records is always legal.
pub const WAIT_MAX: std::time::Duration = std::time::Duration::from_secs(300);

const _: () = assert!(MEMORY_BYTES_MIN >= 8 * MEMORY_JOURNAL_FILE_BYTES + 2 * MEMORY_RESERVE_BYTES);
const _: () = assert!(BATCH_BYTES_MAX < courant_log::limits::MESSAGE_BYTES_MAX);
const _: () = assert!(FETCH_BYTES_DEFAULT <= FETCH_BYTES_MAX);
