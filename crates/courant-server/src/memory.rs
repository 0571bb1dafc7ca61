//! What a server may take of memory, part by part.
//!
//! Each part has its bounds in the limits of its crate; here they are added up, for whoever has to know how
//! much a machine needs. Counted are the bytes that parts may have, not what an allocator makes of them, and
//! not what is stored: topics, partitions, producers and groups take memory as long as they are there.

use std::thread::available_parallelism;

use courant_kafka::Limits;
use courant_log::limits::{
    BUFFER_BYTES, DECOMPRESSED_BYTES_MAX, GROUP_BYTES_MAX, QUEUED_BYTES_MAX, READ_BUFFERS,
};

use crate::ServerConfig;
use crate::api::limits::{API_BYTES_MAX, CONNECTION_BYTES_MAX, TRACE_EVENT_BYTES};
use crate::files::HTTP_CONNECTIONS_MAX;

/// The program, its threads, and what it has before the first client comes.
const PROGRAM_BYTES: usize = 32 * 1024 * 1024;

/// The buffer in which a group is made grows twofold.
const GROUP_BUFFER_BYTES: usize = 2 * GROUP_BYTES_MAX;

/// What a server may take of memory under full load, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryBound {
    /// Clients of the Kafka protocol: requests, answers, fetch sessions, connections, buffers.
    pub kafka: usize,
    /// Batches that are unpacked, in looks for a time, for topics with a codec of their own and for compacted
    /// ones, and by compaction itself.
    pub unpacking: usize,
    /// The log: what waits for it, the group that is being written, buffers for reads.
    pub log: usize,
    /// Keys that compaction keeps.
    pub compaction_keys: usize,
    /// The index of traces.
    pub trace_index: usize,
    /// The HTTP API and its connections.
    pub http: usize,
    /// The program itself.
    pub program: usize,
}

impl MemoryBound {
    /// The bound of a server with these settings on this machine.
    #[must_use]
    pub fn of(config: &ServerConfig) -> Self {
        let threads = available_parallelism().map_or(1, usize::from);
        Self {
            kafka: Limits::default().memory_max(),
            unpacking: Limits::unpacking_max(threads)
                .saturating_add(GROUP_BYTES_MAX + 2 * DECOMPRESSED_BYTES_MAX),
            log: QUEUED_BYTES_MAX + GROUP_BUFFER_BYTES + READ_BUFFERS * BUFFER_BYTES,
            compaction_keys: config.compaction.key_bytes,
            trace_index: config.api.traces.events.saturating_mul(TRACE_EVENT_BYTES),
            http: API_BYTES_MAX + HTTP_CONNECTIONS_MAX * CONNECTION_BYTES_MAX,
            program: PROGRAM_BYTES,
        }
    }

    /// All of it.
    #[must_use]
    pub fn total(&self) -> usize {
        let Self { kafka, unpacking, log, compaction_keys, trace_index, http, program } = *self;
        [kafka, unpacking, log, compaction_keys, trace_index, http, program]
            .into_iter()
            .fold(0, usize::saturating_add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_larger_makes_the_bound_larger() {
        let mut config = ServerConfig::local("data");
        let before = MemoryBound::of(&config);
        config.compaction.key_bytes += 1000;
        config.api.traces.events += 1000;
        let after = MemoryBound::of(&config);
        assert_eq!(after.total() - before.total(), 1000 + 1000 * TRACE_EVENT_BYTES);
        config.api.traces.events = 0;
        assert_eq!(MemoryBound::of(&config).trace_index, 0);
    }

    #[test]
    fn figures_that_are_too_large_to_add_up_are_no_small_ones() {
        let mut config = ServerConfig::local("data");
        config.compaction.key_bytes = usize::MAX;
        assert_eq!(MemoryBound::of(&config).total(), usize::MAX);
    }
}
