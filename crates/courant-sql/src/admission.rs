//! Whether an event may be handled, from what the tables say of it: the same for every database.

use crate::consumer::{Admission, Outcome, Source};

/// What the tables say of one delivery.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    pub(crate) outcome: Option<Outcome>,
    /// Whether it is parked, and waiting for its time.
    pub(crate) parked: Option<bool>,
    /// Whether something of its key is parked.
    pub(crate) key_parked: bool,
}

pub(crate) fn decide(source: Source, known: &Known) -> Admission {
    match (source, known.outcome) {
        (Source::Log, Some(outcome)) => Admission::Seen(outcome),
        (Source::Log, None) if known.parked.is_some() || known.key_parked => Admission::Behind,
        (Source::Log, None) => Admission::New,
        // A dead letter that a redrive has sent back is in the inbox as dead.
        (Source::Parked, None | Some(Outcome::Dead)) if known.parked == Some(true) => Admission::New,
        (Source::Parked, None | Some(Outcome::Dead)) => Admission::Gone,
        (Source::Parked, Some(outcome)) => Admission::Seen(outcome),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(source: Source, outcome: Option<Outcome>, parked: Option<bool>, key_parked: bool) -> Admission {
        decide(source, &Known { outcome, parked, key_parked })
    }

    #[test]
    fn an_event_of_the_log_is_new_only_if_nothing_of_its_key_waits() {
        assert_eq!(of(Source::Log, None, None, false), Admission::New);
        assert_eq!(of(Source::Log, None, None, true), Admission::Behind);
        assert_eq!(of(Source::Log, None, Some(false), false), Admission::Behind);
        assert_eq!(of(Source::Log, Some(Outcome::Dead), Some(false), true), Admission::Seen(Outcome::Dead));
    }

    #[test]
    fn a_parked_event_is_new_only_at_its_turn() {
        assert_eq!(of(Source::Parked, None, Some(true), true), Admission::New);
        assert_eq!(of(Source::Parked, Some(Outcome::Dead), Some(true), true), Admission::New);
        assert_eq!(of(Source::Parked, None, Some(false), true), Admission::Gone);
        assert_eq!(of(Source::Parked, None, None, false), Admission::Gone);
        let handled = Some(Outcome::Handled);
        assert_eq!(of(Source::Parked, handled, Some(true), true), Admission::Seen(Outcome::Handled));
    }
}
