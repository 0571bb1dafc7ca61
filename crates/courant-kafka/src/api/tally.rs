//! One log line for what one request is told no about, however many items it has.

use std::time::Instant;

use tracing::{debug, warn};

use crate::broker::Caller;
use crate::seldom::Seldom;

/// Counts items of one request and keeps the sentence about the first.
#[derive(Debug, Default)]
pub(super) struct Tally {
    count: usize,
    first: String,
}

impl Tally {
    /// Counts an item; `sentence` says what is wrong with it.
    pub(super) fn note(&mut self, sentence: impl FnOnce() -> String) {
        if self.count == 0 {
            self.first = sentence();
        }
        self.count += 1;
    }

    /// Writes the line, unless there is nothing to tell, or there were many of its kind. The sentence may hold a
    /// client's words, so it is a field, which is written with its control characters escaped.
    pub(super) fn warn(&self, caller: &Caller, kind: &Seldom, what: &str) {
        if self.count == 0 {
            return;
        }
        let (peer, count, first) = (caller.peer, self.count, self.first.as_str());
        match kind.say(Instant::now()) {
            Some(0) => warn!(%peer, count, first, "{what}"),
            Some(unsaid) => warn!(%peer, count, first, "{what}; {unsaid} more like it since the last line"),
            None => debug!(%peer, count, first, unsaid = true, "{what}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_sentence_stands_for_all() {
        let mut tally = Tally::default();
        for item in 0..3 {
            tally.note(|| format!("item {item}"));
        }
        assert_eq!((tally.count, tally.first.as_str()), (3, "item 0"));
    }
}
