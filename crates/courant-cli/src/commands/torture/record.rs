//! What the lines of appending processes say, as a history that can be checked.

use super::line::Line;
use courant_history::{Counts, Finding, History};
use std::collections::BTreeMap;

/// What happened in one data directory.
#[derive(Debug)]
pub(super) struct Record {
    history: History,
    /// The offset behind the highest that was acknowledged, by topic and partition.
    acknowledged: BTreeMap<String, BTreeMap<u32, u64>>,
    /// Who reads now.
    reader: String,
    longest_open_ms: u64,
}

impl Record {
    pub(super) fn new() -> Self {
        Self {
            history: History::new(),
            acknowledged: BTreeMap::new(),
            reader: String::new(),
            longest_open_ms: 0,
        }
    }

    /// What is read from now on is read by somebody else.
    pub(super) fn reads(&mut self, reader: String) {
        self.reader = reader;
    }

    /// Notes what a line says. What acknowledged events a reader may miss is known when it reads: the
    /// lines come in the order in which that happened.
    pub(super) fn note(&mut self, line: &Line<'_>) {
        match line {
            Line::Opened { ms } => self.longest_open_ms = self.longest_open_ms.max(*ms),
            Line::Read { topic, partition, offset, value } => {
                self.history.read(&self.reader, topic, *partition, *offset, value);
            }
            // Nothing is ever deleted here, so that every log begins at 0; and a log that ends before
            // what it has acknowledged has lost its end.
            Line::Complete { topic, partition, end, .. } => {
                let acknowledged = self.acknowledged.get(*topic).and_then(|ends| ends.get(partition));
                let end = acknowledged.copied().unwrap_or(0).max(*end);
                self.history.complete(&self.reader, topic, *partition, 0, end);
            }
            Line::Sent(stamp) => self.history.sent(stamp),
            Line::Refused(stamp) => self.history.refused(stamp),
            Line::Acknowledged(stamp, offset) => {
                self.history.acknowledged(stamp, Some(*offset));
                let ends = self.acknowledged.entry(stamp.topic.clone()).or_default();
                let end = ends.entry(stamp.partition).or_default();
                *end = offset.saturating_add(1).max(*end);
            }
            Line::Up | Line::Lap(_) => {}
        }
    }

    pub(super) fn counts(&self) -> Counts {
        self.history.counts()
    }

    /// The longest time that opening the log took, in milliseconds.
    pub(super) fn longest_open_ms(&self) -> u64 {
        self.longest_open_ms
    }

    /// What does not agree.
    pub(super) fn check(&self) -> Vec<Finding> {
        self.history.check()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use courant_history::Stamp;
    use std::borrow::Cow;

    fn stamp(sequence: u64) -> Stamp {
        Stamp { topic: "orders".to_owned(), partition: 0, producer: 64, sequence }
    }

    /// Two events were acknowledged; a start finds the first of them only.
    fn cut_short(then: &[Line<'_>]) -> Vec<String> {
        let mut record = Record::new();
        for sequence in 0..2 {
            record.note(&Line::Sent(stamp(sequence)));
            record.note(&Line::Acknowledged(stamp(sequence), sequence));
        }
        record.reads("start 2".to_owned());
        let value = stamp(0).to_value(60);
        record.note(&Line::Read { topic: "orders", partition: 0, offset: 0, value: Cow::Owned(value) });
        record.note(&Line::Complete { topic: "orders", partition: 0, start: 0, end: 1 });
        then.iter().for_each(|line| record.note(line));
        record.check().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_log_that_ends_too_early_has_lost_its_end() {
        let found = cut_short(&[]);
        let [lost] = found.as_slice() else { panic!("{found:?}") };
        let event = "sequence 1 of producer 64 in partition 0 of topic `orders`";
        assert!(lost.contains(event) && lost.contains("start 2"), "{lost}");
    }

    #[test]
    fn an_offset_that_is_given_again_hides_no_loss() {
        let again = [Line::Sent(stamp(2)), Line::Acknowledged(stamp(2), 1)];
        assert!(cut_short(&again).iter().any(|found| found.contains("sequence 1 of")));
    }

    #[test]
    fn what_is_acknowledged_after_a_reading_is_not_missed_by_it() {
        let mut record = Record::new();
        record.reads("start 1".to_owned());
        record.note(&Line::Complete { topic: "orders", partition: 0, start: 0, end: 0 });
        record.note(&Line::Sent(stamp(0)));
        record.note(&Line::Acknowledged(stamp(0), 0));
        assert!(record.check().is_empty());
        assert_eq!((record.counts().sent, record.counts().acknowledged), (1, 1));
    }
}
