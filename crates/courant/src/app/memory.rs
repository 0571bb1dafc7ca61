//! How long a consumer has to remember what it has handled: as long as an event can come again.
//!
//! It can come again from its topic; from the topic of copies of dead letters, from where somebody may have
//! published it anew under its id; and from the store, where it may wait for its next attempt.

use std::collections::BTreeMap;
use std::time::Duration;

use courant_core::consumer::ConsumerName;
use courant_core::topic::TopicName;
use courant_engine::Topic;

use super::Problem;
use super::checks::{Sketch, topics};
use crate::runtime::dead_letter_topic;

/// How much longer than that a consumer remembers, unless somebody says otherwise.
const REMEMBERED_MORE: Duration = Duration::from_secs(30 * 24 * 3600);

/// How long an event of a subscription can come again from each place; `None`: for ever.
struct Again {
    topics: Option<Duration>,
    dead_letters: Option<Duration>,
    waiting: Duration,
}

/// The topics of copies of dead letters.
pub(super) fn dead_letter_topics(sketches: &[Sketch<'_>]) -> Vec<TopicName> {
    let of_one = |sketch: &Sketch<'_>| -> Vec<TopicName> {
        topics(sketch).into_iter().filter_map(|topic| dead_letters(sketch, topic)).collect()
    };
    sketches.iter().flat_map(of_one).collect()
}

fn dead_letters(sketch: &Sketch<'_>, topic: &str) -> Option<TopicName> {
    let consumer = ConsumerName::new(&sketch.settings.consumer).ok()?;
    dead_letter_topic(topic, &consumer).ok()
}

impl Again {
    fn of(sketch: &Sketch<'_>, found: &BTreeMap<String, Topic>) -> Self {
        let mut again = Self {
            topics: Some(Duration::ZERO),
            dead_letters: Some(Duration::ZERO),
            waiting: sketch.settings.retry.longest(),
        };
        for topic in topics(sketch) {
            let kept = found.get(topic).and_then(|topic| topic.retention);
            // One that does not exist yet will keep its copies as long as the topic its events: whoever publishes
            // the first copy creates it so.
            let there = dead_letters(sketch, topic).and_then(|topic| found.get(topic.as_str()));
            let copies = there.map_or(kept, |topic| topic.retention);
            again.topics = longer(again.topics, kept);
            again.dead_letters = longer(again.dead_letters, copies);
        }
        again
    }

    /// From all places together.
    fn total(&self) -> Option<Duration> {
        Some(self.topics?.saturating_add(self.dead_letters?).saturating_add(self.waiting))
    }
}

fn longer(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    Some(one?.max(other?))
}

/// What is wrong with what a subscription says of how long it remembers.
pub(super) fn remembers_enough(sketch: &Sketch<'_>, found: &BTreeMap<String, Topic>) -> Option<Problem> {
    let kept = sketch.settings.inbox_kept.filter(|_| !found.is_empty())?;
    let again = Again::of(sketch, found);
    let total = again.total();
    if total.is_some_and(|total| kept >= total) {
        return None;
    }
    let said = |time: Option<Duration>| time.map_or("for ever".to_owned(), |time| format!("for {time:?}"));
    Some(Problem::new(
        format!(
            "subscription {:?} remembers for {kept:?} what it has handled, and an event can come again {}: its \
             topics keep events {}, their dead letters {}, and a retry waits for up to {:?}",
            sketch.settings.consumer,
            said(total),
            said(again.topics),
            said(again.dead_letters),
            again.waiting,
        ),
        "remember at least as long, or leave .remember_for(…) away: an event that comes again later would be \
         handled again",
    ))
}

/// How long a subscription remembers, in milliseconds; `None`: for ever.
pub(super) fn remembered_ms(sketch: &Sketch<'_>, found: &BTreeMap<String, Topic>) -> Option<i64> {
    let enough = || Again::of(sketch, found).total().map(|total| total.saturating_add(REMEMBERED_MORE));
    let kept = sketch.settings.inbox_kept.or_else(enough)?;
    i64::try_from(kept.as_millis()).ok()
}
