//! Where records are that nothing joins to anything.
//!
//! An event may name such a record as its cause, by the id of its place. That id is a hash (RFC 9562, version 5),
//! and in a log that only plain clients use nobody ever asks for it. So until a record names another one, only
//! the places are kept: ids for all of them took some 7 % of the server's processor time for single events.

use std::collections::VecDeque;
use std::mem;

use courant_log::PartitionId;

/// Where a record is, and its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) partition: PartitionId,
    pub(super) offset: u64,
    pub(super) time_ms: i64,
}

/// The newest places, until somebody asks what is there.
#[derive(Debug)]
pub(super) struct Places {
    kept: VecDeque<Place>,
    max: usize,
    are_asked: bool,
}

impl Places {
    /// At most so many.
    pub(super) fn new(max: usize) -> Self {
        Self { kept: VecDeque::new(), max, are_asked: false }
    }

    /// Whether somebody has asked: then ids are made at once, and nothing is kept here.
    pub(super) fn are_asked(&self) -> bool {
        self.are_asked
    }

    /// Keeps the newest of them.
    pub(super) fn keep(&mut self, places: &[Place]) {
        let new = &places[places.len().saturating_sub(self.max)..];
        let surplus = (self.kept.len() + new.len()).saturating_sub(self.max);
        self.kept.drain(..surplus);
        self.kept.extend(new);
    }

    /// Those that are kept, the oldest first.
    pub(super) fn ask(&mut self) -> VecDeque<Place> {
        self.are_asked = true;
        mem::take(&mut self.kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_kept_until_somebody_asks() {
        let place = |offset| Place { partition: PartitionId(1), offset, time_ms: 0 };
        let offsets = |places: VecDeque<Place>| places.iter().map(|place| place.offset).collect::<Vec<_>>();
        let mut places = Places::new(3);
        places.keep(&[place(0), place(1)]);
        places.keep(&[place(2), place(3)]);
        assert!(!places.are_asked());
        assert_eq!(offsets(places.ask()), [1, 2, 3]);
        assert!(places.are_asked() && places.ask().is_empty());
        let mut few = Places::new(2);
        few.keep(&[place(0), place(1), place(2)]);
        assert_eq!(offsets(few.ask()), [1, 2]);
        let mut none = Places::new(0);
        none.keep(&[place(0)]);
        assert!(none.ask().is_empty());
    }
}
