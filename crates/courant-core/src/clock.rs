//! The time, as something a test can set.

/// Where the time comes from.
pub trait Clock: Send + Sync {
    /// Milliseconds since 1970-01-01T00:00:00Z. May go backwards, as clocks do.
    fn now_ms(&self) -> i64;

    /// Milliseconds since a moment that stays the same while the process runs. Never goes backwards:
    /// what waits for a time to pass asks this.
    fn elapsed_ms(&self) -> u64;
}
