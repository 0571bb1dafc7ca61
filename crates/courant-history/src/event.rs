//! What is known of one event from its producer's side.

/// Which event of a partition: no two are written with the same numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct EventId {
    pub(crate) producer: u64,
    pub(crate) sequence: u64,
}

/// An event that stands at an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Sighting {
    pub(crate) event: EventId,
    pub(crate) offset: u64,
}

/// What the producer did and was told. A run has millions of these: the offset stands without an
/// `Option`, which would take another 8 bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Answers {
    pub(crate) sent: bool,
    pub(crate) acknowledged: bool,
    /// Told that it was not taken, and not sent again since.
    pub(crate) refused: bool,
    /// Acknowledged at two offsets or more.
    pub(crate) acknowledged_elsewhere: bool,
    has_offset: bool,
    offset: u64,
}

impl Answers {
    /// It is on its way, for the first time or once more.
    pub(crate) fn send(&mut self) {
        self.sent = true;
        self.refused = false;
    }

    /// Hands back the offset of the first acknowledgement, when this is the first one that names
    /// another.
    pub(crate) fn acknowledge(&mut self, offset: Option<u64>) -> Option<u64> {
        self.acknowledged = true;
        let offset = offset?;
        match self.offset() {
            None => {
                self.has_offset = true;
                self.offset = offset;
                None
            }
            Some(first) if first != offset && !self.acknowledged_elsewhere => {
                self.acknowledged_elsewhere = true;
                Some(first)
            }
            Some(_) => None,
        }
    }

    /// The offset that it was first acknowledged at.
    pub(crate) fn offset(&self) -> Option<u64> {
        self.has_offset.then_some(self.offset)
    }

    /// Refused for good.
    pub(crate) fn is_refused(&self) -> bool {
        self.refused && !self.acknowledged
    }

    /// Sent, and nobody knows what became of it.
    pub(crate) fn is_unknown(&self) -> bool {
        self.sent && !self.acknowledged && !self.refused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_other_offset_is_told() {
        let mut answers = Answers::default();
        let told: Vec<_> = [None, Some(5), None, Some(5), Some(6), Some(7), Some(5)]
            .into_iter()
            .map(|offset| answers.acknowledge(offset))
            .collect();
        assert_eq!(told, [None, None, None, None, Some(5), None, None]);
        assert_eq!(answers.offset(), Some(5));
    }

    #[test]
    fn an_event_that_is_sent_again_is_open_again() {
        let mut answers = Answers::default();
        answers.send();
        answers.refused = true;
        assert!(answers.is_refused() && !answers.is_unknown());
        answers.send();
        assert!(!answers.is_refused() && answers.is_unknown());
        assert_eq!(answers.acknowledge(None), None);
        assert!(!answers.is_refused() && !answers.is_unknown());
    }

    #[test]
    fn what_is_known_of_an_event_takes_16_bytes() {
        assert_eq!(size_of::<Answers>(), 16);
    }
}
