//! What the HTTP API may take of memory, and how a budget is divided among its parts.
//!
//! Without a budget each part has the bound that stands in the limits. With one, each has what it cannot do
//! without, and a part of the rest; none has more than without a budget.

use courant_kafka::tls;

use super::limits::{
    ANSWER_BYTES_MAX, ANSWERS_BYTES_MAX, DECISIONS_READ_MAX, HISTORY_SERIES_MAX, INSTANCES_BYTES_MAX,
    LOOKS_MAX, PUBLISH_BODY_BYTES_MAX, PUBLISH_BYTES_AT_ONCE, RECORD_BYTES_SHOWN,
    RECORD_DECOMPRESSED_BYTES_MAX, RECORD_PAGE_BYTES_MAX, RECORD_UNPACKED_BYTES, SEARCH_RESULT_BYTES_MAX,
    SEARCHES_MAX, SEARCHES_RUNNING_MAX, WHOLE_RECORDS_MAX,
};
use crate::files::HTTP_CONNECTIONS_MAX;

/// What a look at the log takes: a batch that is read twice, and what it grows to.
const LOOK_BYTES_MAX: usize =
    2 * courant_log::limits::GROUP_BYTES_MAX + RECORD_UNPACKED_BYTES + RECORD_DECOMPRESSED_BYTES_MAX;

/// What a look remembers of one decision about dead letters of others.
const DECISION_BYTES: usize = 96;

/// How many times a body of events is in memory until it is stored: as it came, as fields, packed, and in the
/// log's queue.
const BODY_COPIES: usize = 4;

/// How many times as long as a record is its JSON, with the record.
const WHOLE_RECORD_COPIES: usize = 7;

/// What one record that is shown whole takes.
const WHOLE_RECORD_BYTES: usize = WHOLE_RECORD_COPIES * RECORD_BYTES_SHOWN;

/// Bytes of one series of the history of lag.
const HISTORY_SERIES_BYTES: usize = 34 * 1024;

/// What one connection takes: a page as rows and as JSON.
const CONNECTION_BYTES_MAX: usize = 2 * RECORD_PAGE_BYTES_MAX;

/// Everything that looks at the log without a budget: requests, searches, and the index of traces.
const LOOKERS_MAX: usize = LOOKS_MAX + SEARCHES_RUNNING_MAX + 1;

/// Into so many parts the memory is divided that is left when each part has its least.
const PARTS: usize = 32;
const LOOKS_PARTS: usize = 14;
const DECISIONS_PARTS: usize = 2;
const SEARCHES_PARTS: usize = 2;
const WHOLE_RECORDS_PARTS: usize = 4;
const BODIES_PARTS: usize = 4;
const ANSWERS_PARTS: usize = 1;
const INSTANCES_PARTS: usize = 1;
const HISTORY_PARTS: usize = 1;
const CONNECTIONS_PARTS: usize = 3;

/// With less of it the part would be of no use.
const LEAST: ApiLimits = ApiLimits {
    looks: 1,
    looks_are_shared: true,
    decisions: 50_000,
    searches: 2,
    whole_records: 1,
    bodies_bytes: PUBLISH_BODY_BYTES_MAX,
    answer_bytes: 4 * 1024 * 1024,
    answers_bytes: 4 * 1024 * 1024,
    instances_bytes: 4 * 1024 * 1024,
    history_series: 64,
    // A browser keeps six of them open, and a probe must not stand behind two of those.
    connections: 16,
};

/// Bounds of the HTTP API that a budget of memory makes smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ApiLimits {
    /// Looks at the log at one time, over all requests.
    pub(crate) looks: usize,
    /// Whether searches and the index of traces look in the same places, and not beside them.
    pub(crate) looks_are_shared: bool,
    /// Decisions about dead letters of others that one look reads.
    pub(crate) decisions: usize,
    /// Searches that are remembered, the running ones included.
    pub(crate) searches: usize,
    /// Records in memory that were asked for alone.
    pub(crate) whole_records: usize,
    /// Bytes of bodies of events that are being read and stored.
    pub(crate) bodies_bytes: usize,
    /// Bytes of one answer of a service, and of all answers that are being put together.
    pub(crate) answer_bytes: usize,
    pub(crate) answers_bytes: usize,
    /// Bytes of what services have said of themselves.
    pub(crate) instances_bytes: usize,
    /// Series of the history of lag.
    pub(crate) history_series: usize,
    /// Connections at one time.
    pub(crate) connections: usize,
}

impl Default for ApiLimits {
    fn default() -> Self {
        Self {
            looks: LOOKS_MAX,
            looks_are_shared: false,
            decisions: DECISIONS_READ_MAX,
            searches: SEARCHES_MAX,
            whole_records: WHOLE_RECORDS_MAX,
            bodies_bytes: PUBLISH_BYTES_AT_ONCE,
            answer_bytes: ANSWER_BYTES_MAX,
            answers_bytes: ANSWERS_BYTES_MAX,
            instances_bytes: INSTANCES_BYTES_MAX,
            history_series: HISTORY_SERIES_MAX,
            connections: HTTP_CONNECTIONS_MAX,
        }
    }
}

impl ApiLimits {
    /// The least memory that [`ApiLimits::within`] divides.
    pub(crate) const MEMORY_MIN: usize = LEAST.fixed() + LEAST.connections * connection_bytes(true);

    /// Bounds with which the API takes so many bytes at most, its connections included. With fewer than
    /// [`ApiLimits::MEMORY_MIN`] it takes that many.
    pub(crate) fn within(bytes: usize, has_tls: bool) -> Self {
        let most = Self::default();
        let left = bytes.saturating_sub(Self::MEMORY_MIN);
        let part = |parts: usize| left / PARTS * parts;
        let decisions = LEAST.decisions.saturating_add(part(DECISIONS_PARTS) / DECISION_BYTES);
        let decisions = decisions.min(most.decisions);
        let look = LOOK_BYTES_MAX + decisions * DECISION_BYTES;
        let looks = LEAST.looks.saturating_add(part(LOOKS_PARTS) / look);
        let answers_bytes = LEAST.answers_bytes.saturating_add(part(ANSWERS_PARTS)).min(most.answers_bytes);
        let more = |least: usize, parts: usize, each: usize, most: usize| {
            least.saturating_add(part(parts) / each).min(most)
        };
        Self {
            looks: looks.min(most.looks),
            looks_are_shared: looks < LOOKERS_MAX,
            decisions,
            searches: more(LEAST.searches, SEARCHES_PARTS, SEARCH_RESULT_BYTES_MAX, most.searches),
            whole_records: more(
                LEAST.whole_records,
                WHOLE_RECORDS_PARTS,
                WHOLE_RECORD_BYTES,
                most.whole_records,
            ),
            bodies_bytes: more(LEAST.bodies_bytes, BODIES_PARTS, BODY_COPIES, most.bodies_bytes),
            answer_bytes: answers_bytes.min(most.answer_bytes),
            answers_bytes,
            instances_bytes: more(LEAST.instances_bytes, INSTANCES_PARTS, 1, most.instances_bytes),
            history_series: more(
                LEAST.history_series,
                HISTORY_PARTS,
                HISTORY_SERIES_BYTES,
                most.history_series,
            ),
            connections: more(
                LEAST.connections,
                CONNECTIONS_PARTS,
                connection_bytes(has_tls),
                most.connections,
            ),
        }
    }

    /// What the API takes in all, its connections included: bodies, looks, searches, whole records, what services
    /// say and answer, and the history of lag.
    pub(crate) fn memory_max(&self, has_tls: bool) -> usize {
        self.fixed() + self.connections * connection_bytes(has_tls)
    }

    /// The same without connections.
    const fn fixed(&self) -> usize {
        // Decisions are read for requests alone. The index of traces looks, too.
        let beside = if self.looks_are_shared { 0 } else { SEARCHES_RUNNING_MAX + 1 };
        (self.looks + beside) * LOOK_BYTES_MAX
            + self.looks * self.decisions * DECISION_BYTES
            + self.searches * SEARCH_RESULT_BYTES_MAX
            + self.whole_records * WHOLE_RECORD_BYTES
            + self.bodies_bytes * BODY_COPIES
            + self.answers_bytes
            + self.instances_bytes
            + self.history_series * HISTORY_SERIES_BYTES
    }
}

/// What one connection takes.
const fn connection_bytes(has_tls: bool) -> usize {
    CONNECTION_BYTES_MAX + if has_tls { tls::CONNECTION_BYTES } else { 0 }
}

const _: () = {
    let parts = LOOKS_PARTS + DECISIONS_PARTS + SEARCHES_PARTS + WHOLE_RECORDS_PARTS + BODIES_PARTS;
    assert!(parts + ANSWERS_PARTS + INSTANCES_PARTS + HISTORY_PARTS + CONNECTIONS_PARTS == PARTS);
    // The largest body can come.
    assert!(LEAST.bodies_bytes >= PUBLISH_BODY_BYTES_MAX);
    assert!(LEAST.instances_bytes >= super::limits::INSTANCE_BYTES_MAX);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_come_to_no_more_than_the_whole_and_grow_with_it() {
        let most = ApiLimits::default();
        let mut before = ApiLimits::within(ApiLimits::MEMORY_MIN, true);
        assert_eq!(before, LEAST);
        for bytes in (ApiLimits::MEMORY_MIN..8 << 30).step_by(7_777_777) {
            let limits = ApiLimits::within(bytes, true);
            assert!(limits.memory_max(true) <= bytes, "{bytes}");
            assert!(ApiLimits::within(bytes, false).memory_max(false) <= bytes, "{bytes}");
            let figures = |limits: &ApiLimits| {
                let of_looks = [limits.looks, limits.decisions, limits.searches, limits.whole_records];
                let of_bytes = [limits.bodies_bytes, limits.answer_bytes, limits.answers_bytes];
                let others = [limits.instances_bytes, limits.history_series, limits.connections];
                [&of_looks[..], &of_bytes, &others].concat()
            };
            let (less, now, all) = (figures(&before), figures(&limits), figures(&most));
            assert!(less.iter().zip(&now).all(|(less, now)| less <= now), "{before:?} {limits:?}");
            assert!(now.iter().zip(&all).all(|(now, all)| now <= all), "{limits:?}");
            before = limits;
        }
        assert_eq!(ApiLimits::within(usize::MAX, true), most, "with enough of it nothing is less than usual");
    }

    /// A part that is left out makes the whole one smaller.
    #[test]
    fn every_part_is_in_the_whole() {
        let limits = ApiLimits::default();
        let whole = limits.memory_max(false);
        for more in [
            ApiLimits { looks: limits.looks + 1, ..limits },
            ApiLimits { decisions: limits.decisions + 1, ..limits },
            ApiLimits { searches: limits.searches + 1, ..limits },
            ApiLimits { whole_records: limits.whole_records + 1, ..limits },
            ApiLimits { bodies_bytes: limits.bodies_bytes + 1, ..limits },
            ApiLimits { answers_bytes: limits.answers_bytes + 1, ..limits },
            ApiLimits { instances_bytes: limits.instances_bytes + 1, ..limits },
            ApiLimits { history_series: limits.history_series + 1, ..limits },
            ApiLimits { connections: limits.connections + 1, ..limits },
        ] {
            assert!(more.memory_max(false) > whole, "{more:?}");
        }
        let shared = ApiLimits { looks_are_shared: true, ..limits };
        assert_eq!(whole - shared.memory_max(false), 3 * LOOK_BYTES_MAX);
        assert!(limits.memory_max(true) > whole);
    }
}
