//! When a scheduled event is due.

use std::time::Duration;

use crate::planted::{Defect, is_planted};

/// When an event is published that is scheduled: after a time, or at an instant. Made from a
/// [`Duration`] or a [`jiff::Timestamp`]. What is due in the past is due at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due(When);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    After(Duration),
    AtMs(i64),
}

impl Due {
    /// At an instant, in milliseconds since 1970.
    pub fn at_ms(at_ms: i64) -> Self {
        Self(When::AtMs(at_ms))
    }

    /// The instant, in milliseconds since 1970.
    pub(crate) fn ms(self, now_ms: i64) -> i64 {
        match self.0 {
            When::After(delay) if is_planted(Defect::EarlyTimers) => crate::runtime::after(now_ms, delay / 2),
            When::After(delay) => crate::runtime::after(now_ms, delay),
            When::AtMs(at_ms) => at_ms,
        }
    }
}

impl From<Duration> for Due {
    fn from(delay: Duration) -> Self {
        Self(When::After(delay))
    }
}

impl From<jiff::Timestamp> for Due {
    fn from(at: jiff::Timestamp) -> Self {
        Self::at_ms(at.as_millisecond())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_from_now_or_an_instant() {
        assert_eq!(Due::from(Duration::from_secs(2)).ms(1_000), 3_000);
        assert_eq!(Due::from(Duration::MAX).ms(1_000), i64::MAX);
        assert_eq!(Due::at_ms(7).ms(1_000), 7);
        let at: jiff::Timestamp = "1970-01-01T00:00:02.5Z".parse().expect("an instant");
        assert_eq!(Due::from(at).ms(1_000), 2_500);
    }
}
