//! What a server may take of memory, part by part.
//!
//! Each part has its bounds in the limits of its crate; here they are added up, for whoever has to know how
//! much a machine needs. Counted are the bytes that parts may have, not what an allocator makes of them, and
//! not what is stored: topics, partitions, producers and groups take memory as long as they are there.

use std::thread::available_parallelism;

use courant_kafka::Limits;
use courant_log::limits::{
    BUFFER_BYTES, DECOMPRESSED_BYTES_MAX, GROUP_BYTES_MAX, QUEUED_BYTES_MAX, READ_BUFFERS, UNPACKED_BYTES_MIN,
};

use crate::api::limits::TRACE_EVENT_BYTES;
use crate::api::shares::ApiLimits;
use crate::{ServerConfig, StartError};

/// The program, its threads, and what it has before the first client comes.
const PROGRAM_BYTES: usize = 32 * 1024 * 1024;

/// The buffer in which a group is made grows twofold.
const GROUP_BUFFER_BYTES: usize = 2 * GROUP_BYTES_MAX;

/// The least memory that a server can be told to keep to, in bytes.
pub const MEMORY_MIN: usize = 576 * 1024 * 1024;

// What each part cannot do without.

/// One batch that is unpacked and packed again; one in a look for a time, and one in compaction.
const UNPACKING_MIN: usize = 2 * UNPACKED_BYTES_MIN + 2 * GROUP_BYTES_MAX;

/// Beside what is being written: one consumer group, with all that it may have.
const GROUP_CHANGES_MIN: usize = 5 * 1024 * 1024;
/// Members of consumer groups, as they are known and as they are stored: a few thousand of the usual ones.
const MEMBERS_MIN: usize = 2 * 2 * 1024 * 1024;
const COMPACTION_MIN: usize = 4 * 1024 * 1024;
const TRACE_INDEX_MIN: usize = 2 * 1024 * 1024;

/// All of that.
const LEAST: usize = Limits::MEMORY_MIN
    + ApiLimits::MEMORY_MIN
    + GROUP_BUFFER_BYTES
    + UNPACKING_MIN
    + GROUP_BYTES_MAX
    + GROUP_CHANGES_MIN
    + MEMBERS_MIN
    + BUFFER_BYTES
    + COMPACTION_MIN
    + TRACE_INDEX_MIN;

/// Into so many parts the rest is divided.
const PARTS: usize = 32;
const KAFKA_PARTS: usize = 13;
const MEMBERS_PARTS: usize = 1;
const API_PARTS: usize = 9;
const UNPACKING_PARTS: usize = 4;
const GROUP_CHANGES_PARTS: usize = 1;
const READ_BUFFERS_PARTS: usize = 1;
const TRACE_INDEX_PARTS: usize = 2;
const COMPACTION_PARTS: usize = 1;

const _: () = {
    assert!(LEAST <= MEMORY_MIN);
    let of_log = UNPACKING_PARTS + GROUP_CHANGES_PARTS + READ_BUFFERS_PARTS + COMPACTION_PARTS;
    assert!(KAFKA_PARTS + MEMBERS_PARTS + API_PARTS + TRACE_INDEX_PARTS + of_log == PARTS);
};

/// Who may have how much of the memory that a server keeps to; without such a figure, what the bounds and the
/// other settings say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MemoryShares {
    pub(crate) kafka: Limits,
    pub(crate) api: ApiLimits,
    pub(crate) unpacking: Unpacking,
    /// Bytes of changes of consumer groups that wait for the log.
    pub(crate) group_changes: usize,
    /// Buffers of the log for reads, by their number.
    pub(crate) read_buffers: usize,
    /// Bytes of keys that compaction keeps.
    pub(crate) compaction_keys: usize,
    /// Events of the index of traces.
    pub(crate) trace_events: usize,
}

/// How batches are unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unpacking {
    /// Bytes that one may grow to.
    pub(crate) bytes_max: usize,
    /// How many at one time.
    pub(crate) at_once: usize,
    /// Looks for a time, each of which has read a batch to unpack.
    pub(crate) time_looks: usize,
}

impl Unpacking {
    /// As no budget bounds it.
    fn unbounded() -> Self {
        let time_looks = Limits::default().time_looks_max;
        Self { bytes_max: DECOMPRESSED_BYTES_MAX, at_once: usize::MAX, time_looks }
    }

    /// One that takes so many bytes at most, and at least [`UNPACKING_MIN`], on a machine with so many threads:
    /// first a batch may become larger, then there may be more of them.
    fn within(bytes: usize, threads: usize) -> Self {
        const EACH: usize = 2 * DECOMPRESSED_BYTES_MAX + GROUP_BYTES_MAX;
        let most = Self::unbounded();
        let of_one = bytes.max(UNPACKING_MIN) - 2 * GROUP_BYTES_MAX;
        let bytes_max = (of_one / 2).min(most.bytes_max);
        let more = of_one.saturating_sub(2 * DECOMPRESSED_BYTES_MAX) / EACH;
        // Each thread in a Produce, each look for a time, and compaction.
        let all = threads.saturating_add(most.time_looks + 1);
        Self {
            bytes_max,
            at_once: more.saturating_add(1).min(all),
            time_looks: more.saturating_add(1).min(most.time_looks),
        }
    }

    /// What it takes at most. Batches of a Produce are counted with the requests.
    fn memory_max(&self) -> usize {
        let of_all = self.at_once.saturating_mul(2 * self.bytes_max);
        of_all.saturating_add((self.time_looks + 1) * GROUP_BYTES_MAX)
    }
}

fn threads() -> usize {
    available_parallelism().map_or(1, usize::from)
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
            api: ApiLimits::default(),
            unpacking: Unpacking::unbounded(),
            group_changes: QUEUED_BYTES_MAX,
            read_buffers: READ_BUFFERS,
            compaction_keys: config.compaction.key_bytes,
            trace_events: config.api.traces.events,
        };
        let Some(memory) = config.memory else { return Ok(whole) };
        let too_small = StartError::Memory { got: memory, least: MEMORY_MIN };
        if memory < MEMORY_MIN {
            return Err(too_small);
        }
        let part = |least: usize, parts: usize| least.saturating_add((memory - LEAST) / PARTS * parts);
        let of_kafka = part(Limits::MEMORY_MIN, KAFKA_PARTS);
        let unpacking = Unpacking::within(part(UNPACKING_MIN, UNPACKING_PARTS), threads());
        let limits = Limits::within(of_kafka).ok_or(too_small)?;
        let members = part(MEMBERS_MIN, MEMBERS_PARTS) / 2;
        let read_buffers = part(BUFFER_BYTES, READ_BUFFERS_PARTS) / BUFFER_BYTES;
        let trace_events = part(TRACE_INDEX_MIN, TRACE_INDEX_PARTS) / TRACE_EVENT_BYTES;
        Ok(Self {
            kafka: Limits {
                time_looks_max: unpacking.time_looks,
                members_bytes_max: members.min(whole.kafka.members_bytes_max),
                ..kafka(limits, Some(of_kafka))
            },
            api: ApiLimits::within(part(ApiLimits::MEMORY_MIN, API_PARTS), config.tls.is_some()),
            unpacking,
            group_changes: part(GROUP_CHANGES_MIN, GROUP_CHANGES_PARTS).min(whole.group_changes),
            read_buffers: read_buffers.min(whole.read_buffers),
            compaction_keys: part(COMPACTION_MIN, COMPACTION_PARTS).min(whole.compaction_keys),
            trace_events: trace_events.min(whole.trace_events),
        })
    }
}

/// What a server may take of memory under full load, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryBound {
    /// What the server is told to keep to: all parts but the program come to no more.
    pub budget: Option<usize>,
    /// Clients of the Kafka protocol: requests, answers, fetch sessions, connections, buffers.
    pub kafka: usize,
    /// Members of consumer groups, as they are known and as they are stored.
    pub members: usize,
    /// Batches that are unpacked, in looks for a time, for topics with a codec of their own and for compacted
    /// ones, and by compaction itself.
    pub unpacking: usize,
    /// The log: what waits for it, the group that is being written, buffers for reads. What clients have sent and
    /// waits is counted once with a budget, with their requests.
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
        let shares = MemoryShares::of(config)?;
        let (unpacking, queued) = if config.memory.is_some() {
            // What is written and what waits behind it.
            (shares.unpacking.memory_max(), GROUP_BYTES_MAX.saturating_add(shares.group_changes))
        } else {
            let of_compaction = GROUP_BYTES_MAX + 2 * DECOMPRESSED_BYTES_MAX;
            (Limits::unpacking_max(threads()).saturating_add(of_compaction), QUEUED_BYTES_MAX)
        };
        Ok(Self {
            budget: config.memory,
            kafka: shares.kafka.memory_max(),
            members: shares.kafka.members_bytes_max.saturating_mul(2),
            unpacking,
            log: queued + GROUP_BUFFER_BYTES + shares.read_buffers * BUFFER_BYTES,
            compaction_keys: shares.compaction_keys,
            trace_index: shares.trace_events.saturating_mul(TRACE_EVENT_BYTES),
            http: shares.api.memory_max(config.tls.is_some()),
            program: PROGRAM_BYTES,
        })
    }

    /// All of it but the program: what a budget bounds.
    #[must_use]
    pub fn shared(&self) -> usize {
        let Self {
            budget: _,
            kafka,
            members,
            unpacking,
            log,
            compaction_keys,
            trace_index,
            http,
            program: _,
        } = *self;
        [kafka, members, unpacking, log, compaction_keys, trace_index, http]
            .into_iter()
            .fold(0, usize::saturating_add)
    }

    /// All of it: with a budget, that and the program.
    #[must_use]
    pub fn total(&self) -> usize {
        self.budget.unwrap_or_else(|| self.shared()).saturating_add(self.program)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use courant_kafka::tls;

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
        for mebibytes in (576..8192_usize).step_by(11) {
            let memory = mebibytes * 1024 * 1024 + mebibytes;
            let config = ServerConfig { memory: Some(memory), ..ServerConfig::local("data") };
            let shares = MemoryShares::of(&config).expect("it is enough");
            let bound = MemoryBound::of(&config).expect("it is enough");
            assert!(bound.shared() <= memory, "{mebibytes} MiB: {bound:?}");
            // One simple sum says what the process takes.
            assert_eq!(bound.total(), memory + PROGRAM_BYTES);
            assert!(shares.read_buffers > 0 && shares.compaction_keys >= COMPACTION_MIN);
            assert!(shares.unpacking.bytes_max >= UNPACKED_BYTES_MIN);
            assert_eq!(shares.kafka.time_looks_max, shares.unpacking.time_looks);
            assert!(shares.group_changes >= GROUP_CHANGES_MIN);
            assert!(shares.kafka.members_bytes_max >= MEMBERS_MIN / 2);
        }
    }

    #[test]
    fn more_memory_never_unpacks_less() {
        let mut before = Unpacking::within(0, 8);
        assert_eq!(before, Unpacking { bytes_max: UNPACKED_BYTES_MIN, at_once: 1, time_looks: 1 });
        for bytes in (UNPACKING_MIN..6 << 30).step_by(3_333_333) {
            let now = Unpacking::within(bytes, 8);
            assert!(now.memory_max() <= bytes, "{bytes}: {now:?}");
            assert!(now.bytes_max >= before.bytes_max && now.at_once >= before.at_once, "{now:?}");
            assert!(now.time_looks >= before.time_looks, "{now:?}");
            before = now;
        }
        assert_eq!(before, Unpacking { at_once: 8 + 4 + 1, ..Unpacking::unbounded() }, "all that can unpack");
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
        let connections = Limits::default().connections_max + ApiLimits::default().connections;
        assert_eq!(total(&secured) - total(&plain), connections * tls::CONNECTION_BYTES);
        let memory = Some(MEMORY_MIN);
        let (plain, secured) = (ServerConfig { memory, ..plain }, ServerConfig { memory, ..secured });
        assert!(MemoryBound::of(&secured).expect("it starts").shared() <= MEMORY_MIN);
        let connections = |config: &ServerConfig| {
            let shares = MemoryShares::of(config).expect("it is enough");
            (shares.kafka.connections_max, shares.api.connections)
        };
        let (plain, secured) = (connections(&plain), connections(&secured));
        assert!((plain.0 / 2..plain.0).contains(&secured.0), "{secured:?} of {plain:?}");
        assert!((1..=plain.1).contains(&secured.1), "{secured:?} of {plain:?}");
    }

    #[test]
    fn a_budget_takes_from_what_is_set_and_adds_nothing() {
        let mut config = ServerConfig { memory: Some(usize::MAX), ..ServerConfig::local("data") };
        config.api.traces.events = 0;
        config.compaction.key_bytes = 2_000_000;
        let shares = MemoryShares::of(&config).expect("it is enough");
        assert_eq!((shares.trace_events, shares.compaction_keys), (0, 2_000_000));
        assert_eq!((shares.kafka, shares.read_buffers), (Limits::default(), READ_BUFFERS));
        assert_eq!((shares.api, shares.group_changes), (ApiLimits::default(), QUEUED_BYTES_MAX));
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
