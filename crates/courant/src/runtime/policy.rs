//! What becomes of an event whose handler has failed. No clock and no I/O.

use std::time::Duration;

use courant_core::trace::{Outcome, TraceContext};
use courant_sql::{DeadReason, Failure};

use crate::retry::DELAY_MAX;
use crate::{Exhausted, HandlerError, Retry, Verdict};

/// A failure, as it is kept and judged.
#[derive(Clone, Debug)]
pub(crate) struct Failed {
    pub(crate) failure: Failure,
    pub(crate) verdict: Verdict,
    /// The bytes are not what the type says: no attempt will change that.
    pub(crate) is_undecodable: bool,
    /// The handler was stopped in the middle of its work.
    pub(crate) was_cancelled: bool,
    /// The handler wants another attempt because a database has no room.
    pub(crate) lacks_room: bool,
    /// The span of the call that has failed.
    pub(crate) span: Option<Box<TraceContext>>,
}

/// What becomes of the event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is tried again after this time.
    Again(Duration),
    /// It becomes a dead letter.
    Dead {
        reason: DeadReason,
        /// Later events of its key wait until somebody decides.
        keeps_key: bool,
    },
    /// It counts as handled.
    Skipped,
}

impl Fate {
    /// As spans say it.
    pub(crate) fn outcome(self) -> Outcome {
        match self {
            Self::Again(_) => Outcome::Parked,
            Self::Dead { .. } => Outcome::DeadLetter,
            Self::Skipped => Outcome::Skipped,
        }
    }
}

impl Failed {
    /// What a handler at `place` says.
    pub(crate) fn from_handler(error: &HandlerError, place: &str) -> Self {
        let failure = Failure {
            kind: error.error_type().to_owned(),
            place: place.to_owned(),
            message: error.chain().join(": "),
        };
        let verdict = error.verdict();
        let lacks_room = matches!(verdict, Verdict::Retry | Verdict::RetryAfter(_)) && error.lacks_room();
        Self { failure, verdict, is_undecodable: false, was_cancelled: false, lacks_room, span: None }
    }

    /// What a layer says that has stopped a handler at `place`.
    pub(crate) fn stopped(error: &HandlerError, place: &str) -> Self {
        Self { was_cancelled: true, ..Self::from_handler(error, place) }
    }

    /// A failure that no handler has named.
    fn of_kind(kind: &str, place: &str, message: String) -> Self {
        let failure = Failure { kind: kind.to_owned(), place: place.to_owned(), message };
        Self {
            failure,
            verdict: Verdict::Retry,
            is_undecodable: false,
            was_cancelled: false,
            lacks_room: false,
            span: None,
        }
    }

    /// The handler took too long, and was stopped.
    pub(crate) fn timeout(place: &str, message: String) -> Self {
        Self { was_cancelled: true, ..Self::of_kind("timeout", place, message) }
    }

    /// What the handler returned could not be published.
    pub(crate) fn publishing(place: &str, message: String) -> Self {
        Self::of_kind("publishing", place, message)
    }

    /// Bytes that are not what their type says.
    pub(crate) fn undecodable(place: &str, message: String) -> Self {
        Self { is_undecodable: true, ..Self::of_kind("undecodable", place, message) }
    }
}

/// Shortest time between two attempts of an event that blocks its partition.
const BLOCKED_DELAY_MIN: Duration = Duration::from_millis(100);

/// Decides after attempt `attempt`, counted from 1.
pub(crate) fn fate(failed: &Failed, attempt: u32, retry: &Retry, exhausted: Exhausted, random: u64) -> Fate {
    if failed.is_undecodable {
        return Fate::Dead { reason: DeadReason::Undecodable, keeps_key: false };
    }
    let delay = match failed.verdict {
        Verdict::Skip => return Fate::Skipped,
        Verdict::Park => return Fate::Dead { reason: DeadReason::Refused, keeps_key: true },
        Verdict::DeadLetter => return Fate::Dead { reason: DeadReason::Refused, keeps_key: false },
        Verdict::Retry => retry.delay_after(attempt, random),
        Verdict::RetryAfter(delay) => (attempt < retry.attempts_max()).then_some(delay.min(DELAY_MAX)),
    };
    match (delay, exhausted) {
        (Some(delay), _) => Fate::Again(delay),
        (None, Exhausted::ParkKey) => Fate::Dead { reason: DeadReason::Exhausted, keeps_key: true },
        (None, Exhausted::DeadLetter) => Fate::Dead { reason: DeadReason::Exhausted, keeps_key: false },
        (None, Exhausted::Block) => Fate::Again(retry.longest().max(BLOCKED_DELAY_MIN)),
        (None, Exhausted::Skip) => Fate::Skipped,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn failed(error: &HandlerError) -> Failed {
        Failed::from_handler(error, "here")
    }

    fn dead(reason: DeadReason, keeps_key: bool) -> Fate {
        Fate::Dead { reason, keeps_key }
    }

    #[test]
    fn an_error_is_tried_again_until_its_attempts_are_over() {
        let retry = Retry::every(SECOND).attempts(3);
        let failed = failed(&HandlerError::retry("no"));
        let cases = [
            (Exhausted::ParkKey, dead(DeadReason::Exhausted, true)),
            (Exhausted::DeadLetter, dead(DeadReason::Exhausted, false)),
            (Exhausted::Block, Fate::Again(SECOND)),
            (Exhausted::Skip, Fate::Skipped),
        ];
        for (exhausted, last) in cases {
            for attempt in 1..3 {
                assert_eq!(fate(&failed, attempt, &retry, exhausted, 0), Fate::Again(SECOND));
            }
            for attempt in [3, 4, u32::MAX] {
                assert_eq!(fate(&failed, attempt, &retry, exhausted, 0), last);
            }
        }
    }

    #[test]
    fn a_handler_that_knows_better_is_believed() {
        let retry = Retry::every(SECOND).attempts(3);
        let later = Duration::from_secs(77);
        let cases = [
            (HandlerError::skip("a"), Fate::Skipped),
            (HandlerError::park("a"), dead(DeadReason::Refused, true)),
            (HandlerError::dead_letter("a"), dead(DeadReason::Refused, false)),
            (HandlerError::retry_after("a", later), Fate::Again(later)),
        ];
        for (error, expected) in cases {
            assert_eq!(fate(&failed(&error), 1, &retry, Exhausted::ParkKey, 0), expected, "{error}");
        }
        // An event that waits for ever keeps its key waiting, and nobody is told.
        for (delay, expected) in [(DELAY_MAX, DELAY_MAX), (Duration::MAX, DELAY_MAX)] {
            let again = failed(&HandlerError::retry_after("a", delay));
            assert_eq!(fate(&again, 1, &retry, Exhausted::ParkKey, 0), Fate::Again(expected), "{delay:?}");
        }
        let again = failed(&HandlerError::retry_after("a", later));
        assert_eq!(fate(&again, 3, &retry, Exhausted::DeadLetter, 0), dead(DeadReason::Exhausted, false));
    }

    #[test]
    fn what_cannot_be_decoded_is_not_tried_again() {
        let failed = Failed::undecodable("here", "no JSON".to_owned());
        for exhausted in [Exhausted::ParkKey, Exhausted::DeadLetter, Exhausted::Block, Exhausted::Skip] {
            let fate = fate(&failed, 1, &Retry::default(), exhausted, 0);
            assert_eq!(fate, dead(DeadReason::Undecodable, false));
        }
    }
}
