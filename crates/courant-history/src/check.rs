//! The rules that a partition's history has to keep.

use crate::event::{Answers, EventId, Sighting};
use crate::finding::Finding;
use crate::findings::Findings;
use crate::partition::PartitionHistory;
use crate::stamp::Stamp;

/// One partition that is looked at.
pub(crate) struct Check<'a> {
    topic: &'a str,
    number: u32,
    history: &'a PartitionHistory,
    duplicates_allowed: bool,
    /// Where the last stretch of offsets begins that completed passes cover without a gap.
    whole_from: Option<u64>,
}

impl<'a> Check<'a> {
    pub(crate) fn new(
        topic: &'a str,
        number: u32,
        history: &'a PartitionHistory,
        duplicates_allowed: bool,
    ) -> Self {
        let whole_from = history.completed.whole_from();
        Check { topic, number, history, duplicates_allowed, whole_from }
    }

    /// Adds what is wrong.
    pub(crate) fn run(&self, findings: &mut Findings) {
        self.values(findings);
        self.passes_agree(findings);
        self.acknowledged_offsets(findings);
        let sightings = self.history.sightings();
        self.sightings(&sightings, findings);
        self.promises(&sightings, findings);
    }

    /// Every value is a whole stamp, and stands where it belongs.
    fn values(&self, findings: &mut Findings) {
        let partition = self.number;
        for (offset, why) in &self.history.torn {
            let topic = self.topic.to_owned();
            findings.add(Finding::Torn { topic, partition, offset: *offset, why: *why });
        }
        for (offset, stamp) in &self.history.misplaced {
            let (topic, stamp) = (self.topic.to_owned(), stamp.clone());
            findings.add(Finding::Misplaced { topic, partition, offset: *offset, stamp });
        }
    }

    /// All passes see the same event at an offset.
    fn passes_agree(&self, findings: &mut Findings) {
        for (offset, others) in &self.history.seen_too {
            let Some(first) = self.history.seen.get(*offset) else {
                continue;
            };
            for then in others {
                let (first, then) = (self.stamp(*first), self.stamp(*then));
                findings.add(Finding::InconsistentOffset { offset: *offset, first, then });
            }
        }
    }

    /// No offset is given to two events.
    fn acknowledged_offsets(&self, findings: &mut Findings) {
        let mut acknowledged = Vec::new();
        for (producer, events) in &self.history.producers {
            for (sequence, answers) in events.iter() {
                if let Some(offset) = answers.offset() {
                    acknowledged.push((offset, EventId { producer: *producer, sequence }));
                }
            }
        }
        acknowledged.sort_unstable();
        for pair in acknowledged.windows(2) {
            if let [(offset, first), (same, second)] = pair
                && offset == same
            {
                let (first, second) = (self.stamp(*first), self.stamp(*second));
                findings.add(Finding::TwoAckedAtOneOffset { offset: *offset, first, second });
            }
        }
    }

    /// What is there was sent, stands there once, and behind what its producer had sent before.
    fn sightings(&self, sightings: &[Sighting], findings: &mut Findings) {
        let mut before: Option<Sighting> = None;
        for places in sightings.chunk_by(|one, next| one.event == next.event) {
            let Some((first, others)) = places.split_first() else {
                continue;
            };
            let Sighting { event, offset } = *first;
            if !self.history.is_known(event) {
                findings.add(Finding::Phantom { stamp: self.stamp(event), offset });
                continue;
            }
            let repeated = if self.duplicates_allowed { &[] } else { others };
            for other in repeated {
                let stamp = self.stamp(event);
                findings.add(Finding::Duplicate { stamp, first: offset, again: other.offset });
            }
            if let Some(before) = before
                && before.event.producer == event.producer
                && before.offset > offset
            {
                let (earlier, earlier_offset) = (before.event.sequence, before.offset);
                let stamp = self.stamp(event);
                findings.add(Finding::Reordered { stamp, offset, earlier, earlier_offset });
            }
            before = Some(*first);
        }
    }

    /// What producers were told is true.
    fn promises(&self, sightings: &[Sighting], findings: &mut Findings) {
        let mut rest = sightings;
        for (producer, events) in &self.history.producers {
            // Where the producer's next event can stand: behind all that it sent before.
            let mut lowest = 0;
            for (sequence, answers) in events.iter() {
                let event = EventId { producer: *producer, sequence };
                let places = places_of(event, &mut rest);
                let first = places.first().map(|place| place.offset);
                self.answers_agree(event, answers, first, findings);
                if answers.acknowledged {
                    findings.extend(self.kept(event, answers, places, lowest));
                }
                if let Some(offset) = answers.offset().or(first) {
                    lowest = lowest.max(offset.saturating_add(1));
                }
            }
        }
    }

    /// An answer has a question, there is one answer, and a refusal means that nothing is there.
    fn answers_agree(&self, event: EventId, answers: &Answers, first: Option<u64>, findings: &mut Findings) {
        if !answers.sent {
            findings.add(Finding::Unsent { stamp: self.stamp(event) });
        }
        if answers.refused && answers.acknowledged {
            findings.add(Finding::AckedAndRefused { stamp: self.stamp(event) });
        }
        if let (true, Some(offset)) = (answers.is_refused(), first) {
            findings.add(Finding::RefusedButThere { stamp: self.stamp(event), offset });
        }
    }

    /// What became of the promise that an acknowledged event is there, if it was broken. `places` are
    /// those where it was seen; it cannot stand before `lowest`.
    fn kept(&self, event: EventId, answers: &Answers, places: &[Sighting], lowest: u64) -> Option<Finding> {
        let first = places.first().map(|place| place.offset);
        let Some(offset) = answers.offset().or(first) else {
            // It may have stood where nobody has looked, such as before the log's present beginning.
            let is_lost = self.whole_from.is_some_and(|from| from <= lowest);
            return is_lost.then(|| Finding::Lost { stamp: self.stamp(event), offset: None, reader: None });
        };
        let is_there = places.iter().any(|place| place.offset == offset);
        if let (false, Some(read)) = (is_there, first) {
            // Two acknowledged offsets are a finding already, and either may be the right one.
            let is_news = !answers.acknowledged_elsewhere;
            let stamp = self.stamp(event);
            return is_news.then_some(Finding::ReadAtAnotherOffset { stamp, acknowledged: offset, read });
        }
        // A hole is a pass that has not seen it. Where nobody has, every completed pass will do; but if
        // its offset is torn, then that is what became of it.
        let mut reader = self.history.holes.reader_of(offset);
        if !is_there && !self.history.torn.contains_key(&offset) {
            reader = reader.or_else(|| self.history.completed.reader_of(offset));
        }
        let reader = Some(reader?.to_owned());
        Some(Finding::Lost { stamp: self.stamp(event), offset: Some(offset), reader })
    }

    fn stamp(&self, event: EventId) -> Stamp {
        let EventId { producer, sequence } = event;
        Stamp { topic: self.topic.to_owned(), partition: self.number, producer, sequence }
    }
}

/// The sightings of one event. `rest` is sorted by event, and begins behind them afterwards: a walk over
/// events in their order takes each sighting up once.
fn places_of<'a>(event: EventId, rest: &mut &'a [Sighting]) -> &'a [Sighting] {
    let others = rest.iter().take_while(|place| place.event < event).count();
    let (_, here) = rest.split_at(others);
    let (places, behind) = here.split_at(here.iter().take_while(|place| place.event == event).count());
    *rest = behind;
    places
}
