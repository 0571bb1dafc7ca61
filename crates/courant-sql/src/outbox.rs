//! On disk: which lane of the outbox an event takes. The rule may not change: two versions of a
//! service that disagree would publish events of one key in two lanes.
//!
//! What is published waits here, in the database, until a relay has moved it to the engine.

use std::fmt;

use bytes::Bytes;
use courant_core::event_id::EventId;
use courant_core::topic::TopicName;

use crate::error::StoreError;
use crate::limits::LANES;

/// An event to be published with the transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEvent {
    /// Its id. It stays the same however often the relay sends it.
    pub id: EventId,
    /// Where it goes.
    pub topic: TopicName,
    /// What it is about. Events of one topic and key are published in the order of their commits.
    pub key: Option<Bytes>,
    /// What it says.
    pub value: Option<Bytes>,
    /// Its headers, in their order.
    pub headers: Vec<(String, Bytes)>,
    /// Its timestamp, in milliseconds since 1970.
    pub timestamp_ms: i64,
}

impl NewEvent {
    /// What it takes: key, value and headers.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        self.key.as_ref().map_or(0, Bytes::len) + self.value.as_ref().map_or(0, Bytes::len) + headers
    }

    /// The lane it takes.
    #[must_use]
    pub fn lane(&self) -> u16 {
        match &self.key {
            Some(key) => lane_of(self.topic.as_str(), key),
            None => lane_of(self.topic.as_str(), self.id.as_str().as_bytes()),
        }
    }
}

/// The lane of a topic's key: FNV-1a with 64 bits over the topic, a zero byte and the key, its upper
/// half folded onto its lower one, the lowest eight bits. An event without a key takes its id instead:
/// nothing orders it.
#[must_use]
pub fn lane_of(topic: &str, key: &[u8]) -> u16 {
    let bytes = topic.bytes().chain([0]).chain(key.iter().copied());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let folded = hash ^ (hash >> 32);
    // The mask leaves eight bits.
    u16::try_from(folded & u64::from(LANES - 1)).unwrap_or_default()
}

/// A place in the outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LanePosition {
    /// The lane.
    pub lane: u16,
    /// The event's number in it, from 1, without gaps.
    pub position: u64,
}

/// An event of the outbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// Where it stands.
    pub at: LanePosition,
    /// The event.
    pub event: NewEvent,
}

/// The next events of one lane, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneBatch {
    /// The lane.
    pub lane: u16,
    /// Its next events, at least one.
    pub events: Vec<Pending>,
}

/// The right to move lanes on, until another relay takes it over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayLease {
    /// The name of what it relays; one relay for everything is called `all`.
    pub shard: String,
    /// Counts the relays it has had.
    pub epoch: u64,
}

/// Who moves lanes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayState {
    /// Counts the relays it has had.
    pub epoch: u64,
    /// Who it is, for people.
    pub owner: String,
    /// When it has taken over, in milliseconds since 1970.
    pub taken_ms: i64,
    /// Moves on while the relay is there. One that stands still for long is gone: no clock is asked.
    pub beat: u64,
}

/// Rings when something may have come into the outbox, also from another process. A ring may be lost, so
/// whoever waits looks now and then.
#[derive(Default)]
pub struct OutboxBell {
    #[cfg(feature = "postgres")]
    postgres: Option<crate::postgres::Listening>,
}

impl OutboxBell {
    /// One that never rings: for a database that tells nobody.
    #[must_use]
    pub fn silent() -> Self {
        Self::default()
    }

    #[cfg(feature = "postgres")]
    pub(crate) fn of_postgres(listening: crate::postgres::Listening) -> Self {
        Self { postgres: Some(listening) }
    }

    /// It never rings.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        #[cfg(feature = "postgres")]
        if self.postgres.is_some() {
            return false;
        }
        true
    }

    /// Waits for the next ring. Those that have come by then are one with it. Dropped while it waits, it loses none.
    ///
    /// # Errors
    /// Says what the database said. The bell is of no more use then.
    pub async fn rung(&mut self) -> Result<(), StoreError> {
        #[cfg(feature = "postgres")]
        if let Some(listening) = &mut self.postgres {
            return listening.rung().await;
        }
        std::future::pending().await
    }

    /// Asks whether it can still ring. A connection on which nothing has come for long may have ended unheard, at a
    /// host that is gone or at a router that has forgotten it. It takes two seconds at most.
    ///
    /// # Errors
    /// Says what the database said, or that it said nothing. The bell is of no more use then.
    pub async fn check(&mut self) -> Result<(), StoreError> {
        #[cfg(feature = "postgres")]
        if let Some(listening) = &mut self.postgres {
            return listening.check().await;
        }
        Ok(())
    }
}

impl fmt::Debug for OutboxBell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutboxBell").field("is_silent", &self.is_silent()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rule is written down in `docs/formats/outbox.md`: these numbers may never change.
    #[test]
    fn lanes_are_what_the_page_says() {
        for (topic, key, lane) in
            [("orders", "o-1", 85), ("orders", "o-2", 152), ("payments", "", 247), ("orders.placed", "é", 32)]
        {
            assert_eq!(lane_of(topic, key.as_bytes()), lane, "{topic} {key}");
        }
    }

    #[test]
    fn keys_spread_over_every_lane() {
        let mut events = [0_u32; LANES as usize];
        for key in 0..10_000 {
            events[usize::from(lane_of("orders", key.to_string().as_bytes()))] += 1;
        }
        // On average 39.
        assert!(events.iter().all(|&events| (20..80).contains(&events)), "{events:?}");
    }

    #[test]
    fn topic_and_key_do_not_run_into_each_other() {
        assert_ne!(lane_of("ab", b"c"), lane_of("a", b"bc"));
    }
}
