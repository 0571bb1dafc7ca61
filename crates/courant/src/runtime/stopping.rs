//! How long the orderly end of a service may take, and what each of its steps has of that.

use std::time::Duration;

/// The bounds of an orderly end. Invariant: the steps of a subscription, one after the other, come to less than all
/// of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StopTimes {
    /// All subscriptions of the service.
    pub(crate) total: Duration,
    /// How long the loop may stay with what it is at: a store or an engine that is away is waited for without end
    /// otherwise.
    pub(crate) turn: Duration,
    /// How long events that are under way may take.
    pub(crate) handlers: Duration,
    /// How long keeping progress may take.
    pub(crate) save: Duration,
}

impl StopTimes {
    pub(crate) fn within(total: Duration) -> Self {
        Self { total, turn: total / 6, handlers: total / 2, save: total / 6 }
    }
}

impl Default for StopTimes {
    fn default() -> Self {
        Self::within(Duration::from_secs(60))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_steps_come_to_less_than_all_of_it() {
        for total in [Duration::from_millis(1), Duration::from_secs(20), Duration::MAX] {
            let StopTimes { turn, handlers, save, .. } = StopTimes::within(total);
            assert!(turn + handlers + save < total, "{total:?}");
        }
        let StopTimes { turn, handlers, save, .. } = StopTimes::default();
        assert_eq!([turn, handlers, save].map(|step| step.as_secs()), [10, 30, 10]);
    }
}
