//! What the routes about events keep between requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use tokio::sync::Semaphore;

use super::filter::Searches;
use super::limits::WATCHERS_PART;
use super::shares::ApiLimits;
use super::tail::Streams;

/// Bytes of a unit of memory for bodies.
pub(super) const BODY_UNIT_BYTES: usize = 1024;

/// Searches, streams, and what publishing shares.
#[derive(Debug)]
pub(crate) struct Events {
    pub(super) searches: Searches,
    pub(super) streams: Streams,
    /// Memory for bodies of events, in units.
    pub(super) bodies: Arc<Semaphore>,
    /// Requests that wait for their share of it.
    pub(super) bodies_awaited: AtomicUsize,
    /// Places of records that are asked for alone, from the look on until they have gone to the client.
    pub(super) whole: Arc<Semaphore>,
    /// Where the next events without a key go.
    keyless: AtomicU32,
}

impl Events {
    /// So many connections may be streams at one time, those that watch searches among them.
    pub(super) fn new(streams_max: usize, limits: &ApiLimits) -> Self {
        let watchers_max = (streams_max / WATCHERS_PART).max(1);
        Self {
            searches: Searches::new(watchers_max, limits.searches),
            streams: Streams::new(streams_max.saturating_sub(watchers_max).max(1)),
            bodies: Arc::new(Semaphore::new(limits.bodies_bytes / BODY_UNIT_BYTES)),
            bodies_awaited: AtomicUsize::new(0),
            whole: Arc::new(Semaphore::new(limits.whole_records)),
            keyless: AtomicU32::new(0),
        }
    }

    /// A number that chooses a partition for events without a key; those of one request share it.
    pub(super) fn next_keyless(&self) -> u32 {
        self.keyless.fetch_add(1, Ordering::Relaxed)
    }
}
