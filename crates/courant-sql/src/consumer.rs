//! Who handles what, how far it has come, and whether an event was handled before.

use std::fmt;

use courant_core::consumer::ConsumerName;
use courant_core::event_id::EventId;
use courant_core::position::TopicPartition;

/// A consumer in one of its generations. Handling everything anew is a new generation: it shares
/// nothing with the one before.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Consumer {
    /// The written name.
    pub name: ConsumerName,
    /// Which time it reads its topics from the beginning; 1 for most of them.
    pub generation: u32,
}

/// One partition that a consumer has been given.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Assignment {
    /// Whose.
    pub consumer: Consumer,
    /// Of which topic, and which of its partitions.
    pub partition: TopicPartition,
}

impl fmt::Display for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (generation {})", self.name, self.generation)
    }
}

impl fmt::Display for Assignment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.partition, self.consumer)
    }
}

/// How far a consumer has come in a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Offset of the last event of the low-water mark: it and all before it are handled, parked,
    /// dead or skipped.
    pub offset: u64,
    /// What the event there looked like, its id or a checksum. It is compared with the log when the
    /// partition is assigned again: another log at the same address is noticed. Empty: nothing was handled
    /// yet, no event before is known, and `offset` is where the consumer begins.
    pub mark: String,
    /// How many offsets were passed because retention had taken them away, ever.
    pub gap_events: u64,
}

impl Progress {
    /// A consumer that begins at `offset` and knows of no event before it.
    #[must_use]
    pub fn beginning_at(offset: u64, gap_events: u64) -> Self {
        Self { offset, mark: String::new(), gap_events }
    }

    /// Where the consumer begins that has handled nothing yet and knows of no event before that.
    #[must_use]
    pub fn beginning(&self) -> Option<u64> {
        self.mark.is_empty().then_some(self.offset)
    }

    /// Where the consumer goes on.
    #[must_use]
    pub fn next_offset(&self) -> u64 {
        self.beginning().unwrap_or_else(|| self.offset.saturating_add(1))
    }
}

/// One event that wants to be handled.
#[derive(Clone, Copy, Debug)]
pub struct Delivery<'a> {
    /// Its id: what makes a second delivery a second one.
    pub id: &'a EventId,
    /// Its offset in the lease's partition.
    pub offset: u64,
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Where it comes from.
    pub source: Source,
}

/// Where a delivery comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// From the log.
    Log,
    /// From the store: the first of its key's parked events.
    Parked,
}

/// Whether an event may be handled now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Yes. Its inbox row is written and commits with what the handler does.
    New,
    /// No: it was settled before. For a parked event the transaction is to be committed all the same,
    /// it takes the event out of the parked ones.
    Seen(Outcome),
    /// No: it is parked, or events before it are. [`crate::Store::queue`] puts it behind them.
    Behind,
    /// No: it was parked and is not waiting any more. Somebody has discarded it, or put an earlier
    /// event of its key before it.
    Gone,
}

/// How an event was settled for a consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// Its handler's transaction was committed.
    Handled,
    /// It is a dead letter.
    Dead,
    /// Its handler asked to pass it.
    Skipped,
    /// It was a dead letter, and somebody has discarded or archived it.
    Discarded,
}

impl Outcome {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Handled => "handled",
            Self::Dead => "dead",
            Self::Skipped => "skipped",
            Self::Discarded => "discarded",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        [Self::Handled, Self::Dead, Self::Skipped, Self::Discarded].into_iter().find(|o| o.as_str() == text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_consumer_goes_on_behind_its_last_event_or_where_it_begins() {
        let behind = Progress { offset: 7, mark: "e-7".to_owned(), gap_events: 0 };
        assert_eq!((behind.beginning(), behind.next_offset()), (None, 8));
        let begins = Progress::beginning_at(0, 0);
        assert_eq!((begins.beginning(), begins.next_offset()), (Some(0), 0));
    }

    #[test]
    fn outcomes_come_back_from_their_text() {
        for outcome in [Outcome::Handled, Outcome::Dead, Outcome::Skipped, Outcome::Discarded] {
            assert_eq!(Outcome::parse(outcome.as_str()), Some(outcome));
        }
        assert_eq!(Outcome::parse("HANDLED"), None);
    }
}
