//! The real clock and the real source of randomness.

use std::sync::LazyLock;
use std::time::Instant;

use courant_core::clock::Clock;
use courant_core::entropy::Entropy;
use uuid::Uuid;

/// When somebody first asked how much time has passed.
static BEGINNING: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The machine's clocks: the one on the wall, and the one that never goes backwards.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_ms(&self) -> i64 {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since.map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(BEGINNING.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// The operating system's randomness.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn uuid(&self) -> Uuid {
        Uuid::new_v4()
    }
}
