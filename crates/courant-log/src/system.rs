//! The real clock and the real source of randomness.

use courant_core::clock::Clock;
use courant_core::entropy::Entropy;
use uuid::Uuid;

#[cfg(target_os = "linux")]
fn elapsed_ms() -> u64 {
    use rustix::time::{ClockId, clock_gettime};
    let since_boot = clock_gettime(ClockId::Boottime);
    let millis = since_boot.tv_sec.saturating_mul(1000).saturating_add(since_boot.tv_nsec / 1_000_000);
    u64::try_from(millis).unwrap_or(0)
}

/// Since somebody first asked.
#[cfg(not(target_os = "linux"))]
fn elapsed_ms() -> u64 {
    static BEGINNING: std::sync::LazyLock<std::time::Instant> =
        std::sync::LazyLock::new(std::time::Instant::now);
    u64::try_from(BEGINNING.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// The machine's clocks: the one on the wall, and the one that never goes backwards.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_ms(&self) -> i64 {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since.map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    /// Also counts the time that the machine sleeps, where the system can say.
    fn elapsed_ms(&self) -> u64 {
        elapsed_ms()
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
