//! One log line for what one request is told no about, however many items it has.

use tracing::warn;

use crate::broker::Caller;

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

    /// Writes the line, unless there is nothing to tell. The sentence may hold a client's words, so
    /// it is a field, which is written with its control characters escaped.
    pub(super) fn warn(&self, caller: &Caller, what: &str) {
        if self.count > 0 {
            warn!(peer = %caller.peer, count = self.count, first = self.first.as_str(), "{what}");
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
