//! Saying something now and then that may happen all the time.

use std::sync::{Mutex, PoisonError};

/// What is said so often is said in this time.
const WHILE_MS: u64 = 60_000;

/// Counts what happens as often as somebody likes who may write into a topic, and says it seldom.
#[derive(Debug)]
pub(crate) struct Seldom {
    /// How often it may be said in a minute.
    most: u32,
    counted: Mutex<Counted>,
}

#[derive(Debug, Default)]
struct Counted {
    /// When this minute began, on a clock that never goes back.
    since_ms: Option<u64>,
    /// How often it was said in it.
    said: u32,
    /// How often it has happened since it was said last.
    happened: u64,
}

impl Seldom {
    /// It is said `most` times in a minute.
    pub(crate) fn new(most: u32) -> Self {
        Self { most, counted: Mutex::default() }
    }

    /// It has happened again. Gives back how often since it was said last, if it may be said now.
    pub(crate) fn again(&self, elapsed_ms: u64) -> Option<u64> {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        counted.happened = counted.happened.saturating_add(1);
        if counted.since_ms.is_none_or(|since_ms| elapsed_ms.saturating_sub(since_ms) >= WHILE_MS) {
            counted.since_ms = Some(elapsed_ms);
            counted.said = 0;
        }
        if counted.said >= self.most {
            return None;
        }
        counted.said += 1;
        Some(std::mem::take(&mut counted.happened))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happens_all_the_time_is_said_now_and_then_with_its_count() {
        let seldom = Seldom::new(2);
        assert_eq!((seldom.again(5), seldom.again(6)), (Some(1), Some(1)));
        assert_eq!((seldom.again(7), seldom.again(60_004)), (None, None));
        assert_eq!(seldom.again(60_005), Some(3), "with those that were not said");
        assert_eq!((seldom.again(60_006), seldom.again(60_007)), (Some(1), None));
    }
}
