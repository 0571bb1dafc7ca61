//! Publishing letters again: some of them, until they are acknowledged; then it is written down.

use crate::cli::{Global, LetterAt};
use crate::commands::connect;
use crate::exit::{Exit, Failure};
use crate::explain;
use crate::time::now_ms;
use bytes::Bytes;
use courant_kafka::client::{Acknowledged, Event, Producer, ProducerConfig, TopicInfo, partition_for_key};
use courant_log::batch::Codec;
use std::collections::{BTreeMap, VecDeque};

use super::decisions::{Book, Decision, Target, redriven};
use super::letter::{Letter, REDRIVE, REDRIVE_OF};
use super::plan::target;

/// Publishes the letters of one redrive.
#[derive(Debug)]
pub(super) struct Sender<'a> {
    pub(super) global: &'a Global,
    pub(super) letters: &'a TopicInfo,
    pub(super) targets: &'a BTreeMap<String, TopicInfo>,
    pub(super) id: &'a str,
    pub(super) by: &'a str,
    /// Where they go, instead of where they come from.
    pub(super) to: Option<&'a str>,
    pub(super) producers: BTreeMap<String, Producer>,
    /// Letters that are published, and written down.
    pub(super) published: u64,
}

impl Sender<'_> {
    /// Publishes letters, those of one target in their order, and writes down which.
    pub(super) async fn send(&mut self, book: &mut Book, letters: &[Letter]) -> Result<(), Failure> {
        let mut by_target: BTreeMap<&str, Vec<&Letter>> = BTreeMap::new();
        for letter in letters {
            by_target.entry(target(letter, &self.letters.name, self.to)?).or_default().push(letter);
        }
        for (topic, letters) in by_target {
            self.send_to(book, topic, &letters).await?;
        }
        Ok(())
    }

    async fn send_to(&mut self, book: &mut Book, topic: &str, letters: &[&Letter]) -> Result<(), Failure> {
        // A topic that came up since the plan was made waits for the next redrive.
        let Some(info) = self.targets.get(topic) else { return Ok(()) };
        let mut waiting: BTreeMap<i32, VecDeque<LetterAt>> = BTreeMap::new();
        let mut events = Vec::with_capacity(letters.len());
        for letter in letters {
            let partition = partition_of(letter, info, self.to.is_some());
            waiting.entry(partition).or_default().push_back(letter.at);
            events.push(self.event(letter, partition));
        }
        let mut acknowledged = Vec::new();
        let producer = self.producer(topic).await?;
        let outcome = producer.publish(events, &mut acknowledged).await;
        let stored = stored(topic, waiting, &acknowledged);
        let decided: Vec<(LetterAt, Decision)> = stored
            .into_iter()
            .map(|(at, target)| (at, redriven(self.letters, self.by, self.id, target)))
            .collect();
        // What was acknowledged is written down also when something else was refused.
        book.decide(&decided).await?;
        self.published += decided.len() as u64;
        outcome.map_err(|error| {
            let mut failure = explain::publish(&error);
            failure.sentence.push_str("; then the same command with --id ");
            failure.sentence.push_str(self.id);
            failure.sentence.push_str(" goes on, and publishes nothing twice");
            failure
        })
    }

    async fn producer(&mut self, topic: &str) -> Result<&mut Producer, Failure> {
        if !self.producers.contains_key(topic) {
            let client = connect(self.global).await?;
            let config = ProducerConfig { codec: Codec::None, create_topic: false };
            let producer = Producer::open(client, topic, config).await;
            let producer = producer.map_err(|error| explain::publish(&error))?;
            self.producers.insert(topic.to_owned(), producer);
        }
        let missing = || Failure::new(Exit::Failed, "a producer has gone");
        self.producers.get_mut(topic).ok_or_else(missing)
    }

    /// The event that the letter was, with the two headers by which it is found again.
    fn event(&self, letter: &Letter, partition: i32) -> Event {
        let of = format!("{}/{}", self.letters.name, letter.at);
        let own = [(REDRIVE, self.id.to_owned()), (REDRIVE_OF, of)];
        let own = own.map(|(name, value)| (Bytes::from_static(name.as_bytes()), Some(Bytes::from(value))));
        Event {
            key: letter.key.clone(),
            value: letter.value.clone(),
            headers: letter.event_headers().cloned().chain(own).collect(),
            timestamp_ms: now_ms(),
            partition: Some(partition),
        }
    }
}

/// The partition that a letter comes from, while there is such a one; otherwise that of its key.
fn partition_of(letter: &Letter, topic: &TopicInfo, is_elsewhere: bool) -> i32 {
    let origin = letter.origin.partition.filter(|number| !is_elsewhere && topic.partition(*number).is_some());
    if let Some(number) = origin {
        return number;
    }
    let count = u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX).max(1);
    let place = match &letter.key {
        Some(key) => partition_for_key(key, count),
        // Any will do; this one is the same when it is asked again.
        None => u32::try_from(letter.at.offset % i64::from(count)).unwrap_or(0),
    };
    let place = usize::try_from(place).unwrap_or(0);
    topic.partitions.get(place).map_or(0, |partition| partition.index)
}

/// Which letters the acknowledgements are about: those of a partition come in their order.
fn stored(
    topic: &str,
    mut waiting: BTreeMap<i32, VecDeque<LetterAt>>,
    acknowledged: &[Acknowledged],
) -> Vec<(LetterAt, Target)> {
    let mut stored = Vec::new();
    for Acknowledged { partition, base_offset, events } in acknowledged {
        let Some(letters) = waiting.get_mut(partition) else { continue };
        for n in 0..i64::from(*events) {
            let Some(at) = letters.pop_front() else { break };
            let offset = (*base_offset >= 0).then(|| base_offset.saturating_add(n));
            stored.push((at, Target { topic: topic.to_owned(), partition: *partition, offset }));
        }
    }
    stored
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(offset: i64) -> LetterAt {
        LetterAt { partition: 0, offset }
    }

    #[test]
    fn an_acknowledgement_is_about_the_first_letters_of_its_partition() {
        let waiting =
            BTreeMap::from([(0, VecDeque::from([at(1), at(4)])), (1, VecDeque::from([at(2), at(3)]))]);
        let acknowledged = [
            Acknowledged { partition: 1, base_offset: 10, events: 1 },
            Acknowledged { partition: 0, base_offset: -1, events: 2 },
        ];
        let stored = stored("orders", waiting, &acknowledged);
        let places: Vec<_> =
            stored.iter().map(|(at, target)| (at.offset, target.partition, target.offset)).collect();
        assert_eq!(places, [(2, 1, Some(10)), (1, 0, None), (4, 0, None)], "3 has no acknowledgement");
    }
}
