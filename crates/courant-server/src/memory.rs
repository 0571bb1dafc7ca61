//! What a server may take of memory, part by part.
//!
//! Each part has its bounds in the limits of its crate; here they are added up, for whoever has to know how
//! much a machine needs. Counted are the bytes that parts may have, not what an allocator makes of them, and
//! not what is stored: topics, partitions, producers and groups take memory as long as they are there.

use std::thread::available_parallelism;

use courant_kafka::{Limits, tls};
use courant_log::limits::{
    BUFFER_BYTES, DECOMPRESSED_BYTES_MAX, GROUP_BYTES_MAX, QUEUED_BYTES_MAX, READ_BUFFERS,
};

use crate::api::limits::{API_BYTES_MAX, CONNECTION_BYTES_MAX, TRACE_EVENT_BYTES};
use crate::files::HTTP_CONNECTIONS_MAX;
use crate::{ServerConfig, StartError};

/// The program, its threads, and what it has before the first client comes.
const PROGRAM_BYTES: usize = 32 * 1024 * 1024;

/// The buffer in which a group is made grows twofold.
const GROUP_BUFFER_BYTES: usize = 2 * GROUP_BYTES_MAX;

/// The least memory that a server can be told to keep to, in bytes.
pub const MEMORY_MIN: usize = 192 * 1024 * 1024;

/// Into so many parts that memory is divided, once the group has its buffer.
const PARTS: usize = 32;
const KAFKA_PARTS: usize = 26;
const READ_BUFFERS_PARTS: usize = 1;
const TRACE_INDEX_PARTS: usize = 3;
const COMPACTION_PARTS: usize = 2;

const _: () = {
    assert!(KAFKA_PARTS + READ_BUFFERS_PARTS + TRACE_INDEX_PARTS + COMPACTION_PARTS == PARTS);
    assert!((MEMORY_MIN - GROUP_BUFFER_BYTES) / PARTS * KAFKA_PARTS >= Limits::MEMORY_MIN);
    assert!((MEMORY_MIN - GROUP_BUFFER_BYTES) / PARTS * READ_BUFFERS_PARTS >= BUFFER_BYTES);
};

/// Who may have how much of the memory that a server keeps to; without such a figure, what the bounds and the
/// other settings say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MemoryShares {
    pub(crate) kafka: Limits,
    /// Buffers of the log for reads, by their number.
    pub(crate) read_buffers: usize,
    /// Bytes of keys that compaction keeps.
    pub(crate) compaction_keys: usize,
    /// Events of the index of traces.
    pub(crate) trace_events: usize,
}

impl MemoryShares {
    /// # Errors
    /// Where the figure is too small to be divided.
    pub(crate) fn of(config: &ServerConfig) -> Result<Self, StartError> {
        let kafka = |limits: Limits, bytes| match config.tls {
            Some(_) => limits.with_tls(bytes),
            None => limits,
        };
        let whole = Self {
            kafka: kafka(Limits::default(), None),
            read_buffers: READ_BUFFERS,
            compaction_keys: config.compaction.key_bytes,
            trace_events: config.api.traces.events,
        };
        let Some(memory) = config.memory else { return Ok(whole) };
        let too_small = StartError::Memory { got: memory, least: MEMORY_MIN };
        if memory < MEMORY_MIN {
            return Err(too_small);
        }
        let part = |parts: usize| (memory - GROUP_BUFFER_BYTES) / PARTS * parts;
        Ok(Self {
            kafka: kafka(Limits::within(part(KAFKA_PARTS)).ok_or(too_small)?, Some(part(KAFKA_PARTS))),
            read_buffers: (part(READ_BUFFERS_PARTS) / BUFFER_BYTES).min(whole.read_buffers),
            compaction_keys: part(COMPACTION_PARTS).min(whole.compaction_keys),
            trace_events: (part(TRACE_INDEX_PARTS) / TRACE_EVENT_BYTES).min(whole.trace_events),
        })
    }

    /// What those who share it come to at most.
    #[cfg(test)]
    fn total(&self) -> usize {
        self.kafka.memory_max()
            + GROUP_BUFFER_BYTES
            + self.read_buffers * BUFFER_BYTES
            + self.compaction_keys
            + self.trace_events * TRACE_EVENT_BYTES
    }
}

/// What a server may take of memory under full load, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryBound {
    /// Clients of the Kafka protocol: requests, answers, fetch sessions, connections, buffers.
    pub kafka: usize,
    /// Batches that are unpacked, in looks for a time, for topics with a codec of their own and for compacted
    /// ones, and by compaction itself.
    pub unpacking: usize,
    /// The log: what waits for it, the group that is being written, buffers for reads. What waits is what clients
    /// have sent, so a server that keeps to a budget counts it once, there.
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
    ///
    /// # Errors
    /// [`StartError::Memory`] for settings with which no server starts.
    pub fn of(config: &ServerConfig) -> Result<Self, StartError> {
        let threads = available_parallelism().map_or(1, usize::from);
        let shares = MemoryShares::of(config)?;
        let tls = if config.tls.is_some() { tls::CONNECTION_BYTES } else { 0 };
        let queued = if config.memory.is_none() { QUEUED_BYTES_MAX } else { 0 };
        Ok(Self {
            kafka: shares.kafka.memory_max(),
            unpacking: Limits::unpacking_max(threads)
                .saturating_add(GROUP_BYTES_MAX + 2 * DECOMPRESSED_BYTES_MAX),
            log: queued + GROUP_BUFFER_BYTES + shares.read_buffers * BUFFER_BYTES,
            compaction_keys: shares.compaction_keys,
            trace_index: shares.trace_events.saturating_mul(TRACE_EVENT_BYTES),
            http: API_BYTES_MAX + HTTP_CONNECTIONS_MAX * (CONNECTION_BYTES_MAX + tls),
            program: PROGRAM_BYTES,
        })
    }

    /// What a budget takes nothing from, and comes on top of it.
    #[must_use]
    pub fn beside_budget(&self) -> usize {
        [self.unpacking, self.http, self.program].into_iter().fold(0, usize::saturating_add)
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
        let before = MemoryBound::of(&config).expect("it starts");
        config.compaction.key_bytes += 1000;
        config.api.traces.events += 1000;
        let after = MemoryBound::of(&config).expect("it starts");
        assert_eq!(after.total() - before.total(), 1000 + 1000 * TRACE_EVENT_BYTES);
        config.api.traces.events = 0;
        assert_eq!(MemoryBound::of(&config).expect("it starts").trace_index, 0);
    }

    #[test]
    fn figures_that_are_too_large_to_add_up_are_no_small_ones() {
        let mut config = ServerConfig::local("data");
        config.compaction.key_bytes = usize::MAX;
        assert_eq!(MemoryBound::of(&config).expect("it starts").total(), usize::MAX);
    }

    #[test]
    fn those_who_share_a_budget_come_to_no_more_than_it() {
        for mebibytes in (192..8192_usize).step_by(11) {
            let memory = mebibytes * 1024 * 1024 + mebibytes;
            let config = ServerConfig { memory: Some(memory), ..ServerConfig::local("data") };
            let shares = MemoryShares::of(&config).expect("it is enough");
            assert!(shares.total() <= memory, "{mebibytes} MiB");
            assert!(shares.read_buffers > 0 && shares.compaction_keys >= 1024 * 1024);
            // What doctor says of it has the same parts.
            let bound = MemoryBound::of(&config).expect("it is enough");
            assert_eq!(bound.kafka + bound.log + bound.compaction_keys + bound.trace_index, shares.total());
            assert_eq!(bound.total(), shares.total() + bound.beside_budget());
        }
    }

    /// Whoever has a budget keeps to it, and has fewer connections; whoever has none is told the larger bound.
    #[test]
    fn tls_takes_from_a_budget_and_adds_to_what_has_none() {
        let certificate = include_bytes!("../../courant-kafka/tests/certificates/server.pem");
        let key = include_bytes!("../../courant-kafka/tests/certificates/server-key.pem");
        let tls = tls::ServerTls::new(certificate, key, jiff::Timestamp::now()).expect("a good certificate");
        let plain = ServerConfig::local("data");
        let secured = ServerConfig { tls: Some(tls), ..plain.clone() };
        let total = |config: &ServerConfig| MemoryBound::of(config).expect("it starts").total();
        let connections = Limits::default().connections_max + HTTP_CONNECTIONS_MAX;
        assert_eq!(total(&secured) - total(&plain), connections * tls::CONNECTION_BYTES);
        let memory = 256 * 1024 * 1024;
        let shares = |config: ServerConfig| {
            MemoryShares::of(&ServerConfig { memory: Some(memory), ..config }).expect("it is enough")
        };
        let (plain, secured) = (shares(plain), shares(secured));
        assert!(secured.total() <= memory);
        // As the guide says, about half as many.
        let half = plain.kafka.connections_max / 2;
        assert!((half..half + half / 10).contains(&secured.kafka.connections_max));
    }

    #[test]
    fn a_budget_takes_from_what_is_set_and_adds_nothing() {
        let mut config = ServerConfig { memory: Some(usize::MAX), ..ServerConfig::local("data") };
        config.api.traces.events = 0;
        config.compaction.key_bytes = 2_000_000;
        let shares = MemoryShares::of(&config).expect("it is enough");
        assert_eq!((shares.trace_events, shares.compaction_keys), (0, 2_000_000));
        assert_eq!((shares.kafka, shares.read_buffers), (Limits::default(), READ_BUFFERS));
    }

    #[test]
    fn too_small_a_budget_is_refused_with_the_least_one() {
        let config = ServerConfig { memory: Some(MEMORY_MIN - 1), ..ServerConfig::local("data") };
        let refused = MemoryShares::of(&config).expect_err("it is too small");
        assert!(refused.to_string().contains(&format!("at the least {MEMORY_MIN} bytes")), "{refused}");
        let least = ServerConfig { memory: Some(MEMORY_MIN), ..config };
        assert!(MemoryShares::of(&least).is_ok());
    }
}
