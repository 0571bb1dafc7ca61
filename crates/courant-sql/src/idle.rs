//! Open connections that nobody uses, the last used one first, apart by who has used them.
//!
//! The server knows statements and plans for a connection alone. A relay that has another one for each of its looks
//! has each statement read and planned anew, and takes the ones away that were told what handlers need. So whoever
//! wants a connection gets the last one of its own kind. Where there is none it gets one of the other kind, the one
//! that was used longest ago: nothing is opened while anything is there.

use std::collections::VecDeque;

use crate::places::For;

/// The last used one of each kind is at the end.
pub(crate) struct Idle<C> {
    of_handlers: VecDeque<C>,
    of_others: VecDeque<C>,
}

impl<C> Idle<C> {
    /// Nothing is there.
    pub(crate) fn new() -> Self {
        Self { of_handlers: VecDeque::new(), of_others: VecDeque::new() }
    }

    /// Somebody needs it no more.
    pub(crate) fn give_back(&mut self, by: For, connection: C) {
        match by {
            For::Handler => self.of_handlers.push_back(connection),
            For::Anybody => self.of_others.push_back(connection),
        }
    }

    /// One for somebody, if there is any.
    pub(crate) fn take(&mut self, wanted: For) -> Option<C> {
        let (own, other) = match wanted {
            For::Handler => (&mut self.of_handlers, &mut self.of_others),
            For::Anybody => (&mut self.of_others, &mut self.of_handlers),
        };
        own.pop_back().or_else(|| other.pop_front())
    }

    /// All of them are of no use.
    pub(crate) fn clear(&mut self) {
        self.of_handlers.clear();
        self.of_others.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A relay that looks now and then among handlers that come and go has the same connection each time.
    #[test]
    fn whoever_comes_again_gets_what_was_told_before() {
        let mut idle = Idle::new();
        for connection in 1..=4 {
            idle.give_back(For::Anybody, connection);
        }
        assert_eq!(idle.take(For::Anybody), Some(4), "a relay");
        idle.give_back(For::Anybody, 4);
        assert_eq!(idle.take(For::Handler), Some(1), "and not the one that the relay has used");
        assert_eq!(idle.take(For::Handler), Some(2));
        idle.give_back(For::Handler, 1);
        assert_eq!(idle.take(For::Anybody), Some(4), "and not the last one of a handler");
        idle.give_back(For::Anybody, 4);
        idle.give_back(For::Handler, 2);
        assert_eq!(idle.take(For::Handler), Some(2));
    }

    /// Nobody opens a connection while there is one.
    #[test]
    fn one_of_the_other_kind_is_better_than_none() {
        let mut idle = Idle::new();
        idle.give_back(For::Handler, 1);
        idle.give_back(For::Handler, 2);
        assert_eq!(idle.take(For::Anybody), Some(1), "the one that was used longest ago");
        assert_eq!(idle.take(For::Handler), Some(2));
        assert_eq!(idle.take(For::Handler), None);
        idle.give_back(For::Anybody, 3);
        idle.give_back(For::Handler, 4);
        idle.clear();
        assert_eq!(idle.take(For::Anybody), None);
        assert_eq!(idle.take(For::Handler), None);
    }
}
