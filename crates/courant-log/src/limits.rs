//! Every bound of the log, in one place, with the relations that must hold between them.

/// Journal and group alignment in bytes. A group begins on such a boundary, so that a
/// torn write never touches acknowledged bytes.
pub const BLOCK_BYTES: usize = 4096;

/// Bytes of one checksummed and indexed block of a segment.
pub const SEGMENT_BLOCK_BYTES: u64 = 64 * 1024;

/// Least size of a journal file, header block included.
pub const JOURNAL_FILE_BYTES_MIN: u64 = 64 * 1024;

/// Greatest size of a journal file.
pub const JOURNAL_FILE_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// Least number of files in the journal ring: one is written while a checkpoint frees the others.
pub const JOURNAL_FILES_MIN: usize = 4;

/// Bytes above the reserve with which the storage is not asked before each group, and how long its answer holds.
pub(crate) const ROOM_AMPLE_BYTES: u64 = 1024 * 1024 * 1024;
pub(crate) const ROOM_HOLDS_MS: u64 = 10;

/// Files of the ring that a log begins with, small ones, so that it is ready soon.
pub(crate) const RING_FILES_FIRST: usize = 2;

/// Greatest number of journal files that recovery looks at.
pub const JOURNAL_FILES_MAX: usize = 1024;

/// Bytes that one group may carry when more is waiting than that.
pub const GROUP_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Entries that one group may carry.
pub const GROUP_ENTRIES_MAX: usize = 65_536;

/// Bytes of batches that may wait for the committer before [`crate::AppendError::Busy`].
pub const QUEUED_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Commands that may wait for the committer.
pub const QUEUED_COMMANDS_MAX: usize = 262_144;

/// Microseconds for which the committer waits at most for callers that it has answered to append again.
pub const RETURN_MAX_MICROS: u64 = 1000;

/// Microseconds that a group has to take before the committer waits for whom it has answered: a wait of less would
/// end later than it should by as much, because a thread is not woken more exactly than that.
pub const RETURN_MIN_MICROS: u64 = 50;

/// Partitions that one topic may have.
pub const PARTITIONS_PER_TOPIC_MAX: u32 = 10_000;

/// Partitions that one log may have: each costs about a kibibyte of memory.
pub const PARTITIONS_MAX: u32 = 100_000;

/// Bytes of the largest batch: it fits into a group, and a group into the smallest journal file of a
/// server.
pub const MESSAGE_BYTES_MAX: usize = 8 * 1024 * 1024 - 16 * 1024;

/// Bytes of one config name or value of a topic.
pub const CONFIG_BYTES_MAX: usize = 4096;

/// Configs set on one topic.
pub const CONFIGS_PER_TOPIC_MAX: usize = 64;

/// Bytes of all config names and values of one topic.
pub const TOPIC_CONFIGS_BYTES_MAX: usize = 16 * 1024;

/// Bytes of a consumer group's name.
pub const GROUP_NAME_BYTES_MAX: usize = 1024;

/// Bytes of the text that a client keeps with a committed offset (Kafka's
/// `offset.metadata.max.bytes`).
pub const COMMIT_METADATA_BYTES_MAX: usize = 4096;

/// Producers whose sequences one partition remembers; the least recently active is forgotten.
pub const PRODUCERS_PER_PARTITION_MAX: usize = 10_000;

/// Batches whose sequences are remembered for each producer and partition. Clients keep at most
/// five requests in flight (KIP-98).
pub const BATCHES_PER_PRODUCER: usize = 5;

/// Producer ids taken from the journal at a time.
pub const PRODUCER_ID_BLOCK: u64 = 1000;

/// Newest batches of a partition whose exact positions are kept for readers at the tail.
pub const RECENT_BATCHES: usize = 64;

/// Segment files that are kept open for reading and appending.
pub const OPEN_FILES_MAX: usize = 1024;

/// Segment files with unsynced bytes, all of them open, above which appends wait for a checkpoint. While
/// it syncs them, as many others may become so.
pub const DIRTY_FILES_MAX: usize = 4096;

/// Segment files that readers have open beside those.
pub const READ_FILES_MAX: usize = 256;

/// Files of a log besides its segments and its journal: the directory, its lock, and what checkpoints,
/// compaction and deletions open for a moment.
pub const OTHER_FILES_MAX: usize = 16;

/// Open files of which a log with the smallest ring can make use.
pub const FILES_WANTED: usize =
    JOURNAL_FILES_MIN + OTHER_FILES_MAX + OPEN_FILES_MAX + READ_FILES_MAX + 2 * DIRTY_FILES_MAX;

/// Fewest open files that such a log goes on with.
pub const FILES_MIN: usize = JOURNAL_FILES_MIN + OTHER_FILES_MAX + 4;

/// Open files of a log that nobody has told how many it may have: half of what a process may that has not
/// raised its limit.
pub const FILES_UNTOLD: usize = 512;

/// Dirty files above which a checkpoint syncs the whole filesystem instead of each file.
pub const DIRTY_FILES_SYNCED_EACH: usize = 64;

/// Unsynced bytes of one segment that are synced ahead of the next checkpoint, unless the ring is small.
pub const WRITE_BACK_BYTES: u64 = 8 * 1024 * 1024;

/// Unsynced bytes of one segment that are synced so when none has been for a while: a sync of the journal that comes
/// meanwhile stands behind all that is synced at one time.
pub const WRITE_BACK_EARLY_BYTES: u64 = 256 * 1024;

/// Milliseconds that make such a while, or [`WRITE_BACK_REST_TIMES`] times as long as the last of these syncs took,
/// whichever is longer.
pub const WRITE_BACK_EARLY_AFTER_MS: u64 = 100;

/// So that they have at most a tenth of the time of a slow disk.
pub const WRITE_BACK_REST_TIMES: u64 = 9;

/// Bytes of the journal that were written for nobody who waits, and of which the disk is then told, so that the
/// next sync finds less left to write.
pub const JOURNAL_BEGUN_BYTES: u64 = 4 * 1024 * 1024;

/// Bytes of a new journal file that are written at a time, while the log is in use. A sync of the journal may stand
/// behind so many of them, and no more, where they go past the page cache.
pub const FILL_WRITE_BYTES: u64 = 256 * 1024;

/// Bytes of a new journal file that are written before they are synced, while the log is in use, where they wait in
/// the page cache. A sync of the journal may stand behind so many of them, and no more.
pub const FILL_STEP_BYTES: u64 = 512 * 1024;

/// Bytes of a new journal file that have gone past the page cache before they are synced, while the log is in use. A
/// disk with a volatile cache of its own may have so many of them to write when the journal is synced.
pub const FILL_PAST_BYTES: u64 = 8 * 1024 * 1024;

/// Bytes of a buffer that is used again: what clients read, and send, at a time.
pub const BUFFER_BYTES: usize = 1024 * 1024;

/// What has fewer bytes takes memory of its own, which the allocator has at hand.
pub const BUFFERED_BYTES_MIN: usize = 64 * 1024;

/// Buffers that a log has for reads when nobody says how many.
pub const READ_BUFFERS: usize = 8;

/// Bytes of a partition's end that are read without leaving the caller's thread, because they are
/// almost surely in the page cache.
pub const HOT_BYTES: u64 = 32 * 1024 * 1024;

/// Bytes that one batch may grow to when time lookup decompresses it.
pub const DECOMPRESSED_BYTES_MAX: usize = 128 * 1024 * 1024;

/// Bytes that one batch may grow to in compaction, whatever a log is told: in every round of every log, batches of
/// this size have been read.
pub const UNPACKED_BYTES_MIN: usize = 32 * 1024 * 1024;

/// Bytes of one checkpoint file.
pub const CHECKPOINT_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// Milliseconds without work after which the journal is sealed: from then on damage to its last
/// group is told from a torn write.
pub const SEAL_AFTER_IDLE_MS: u64 = 50;

/// Groups in a row of which nothing was written, because all of them was refused or known, behind which the journal
/// is sealed too: whoever sends such all the time keeps the log from being idle.
pub const SEAL_AFTER_EMPTY_GROUPS: u32 = 16;

const _: () = assert!(JOURNAL_FILE_BYTES_MIN as usize >= 4 * BLOCK_BYTES);
const _: () = assert!((SEGMENT_BLOCK_BYTES as usize).is_multiple_of(BLOCK_BYTES));
const _: () = assert!(MESSAGE_BYTES_MAX + 3 * BLOCK_BYTES <= GROUP_BYTES_MAX);
const _: () = assert!(JOURNAL_FILES_MIN < JOURNAL_FILES_MAX);
const _: () = assert!(BUFFERED_BYTES_MIN < BUFFER_BYTES);
const _: () = assert!(RETURN_MIN_MICROS < RETURN_MAX_MICROS);
const _: () = assert!(UNPACKED_BYTES_MIN <= DECOMPRESSED_BYTES_MAX);
const _: () = assert!(UNPACKED_BYTES_MIN >= 4 * MESSAGE_BYTES_MAX);
const _: () = assert!(FILES_MIN <= FILES_UNTOLD && FILES_UNTOLD <= FILES_WANTED);
