//! How long a consumer has to remember what it has handled: as long as an event can come again. And how long a
//! service keeps dead letters that are closed.
//!
//! It can come again from its topic; from the topic of copies of dead letters, from where somebody may have
//! published it anew under its id; and from the store, where it may wait for its next attempt.

use std::collections::BTreeMap;
use std::time::Duration;

use courant_core::consumer::ConsumerName;
use courant_core::topic::TopicName;
use courant_engine::Topic;
use tracing::warn;

use super::checks::{Sketch, topics};
use super::{Problem, ProblemCode as Code};
use crate::runtime::dead_letter_topic;

/// How much longer than that a consumer remembers, unless somebody says otherwise.
const REMEMBERED_MORE: Duration = Duration::from_secs(30 * 24 * 3600);

/// How long closed dead letters are kept, unless somebody says otherwise.
pub(super) const LETTERS_KEPT: Duration = Duration::from_secs(30 * 24 * 3600);

/// Whoever has sent letters back can see for so long what has become of them.
const LETTERS_KEPT_MIN: Duration = Duration::from_secs(24 * 3600);

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

/// A topic that keeps copies of dead letters longer than the topic of their events keeps those: it was there before
/// the first letter, or somebody has changed one of the two. For so long a consumer has to remember.
struct KeptLonger {
    copies: TopicName,
    events: Duration,
}

fn kept_longer(sketch: &Sketch<'_>, found: &BTreeMap<String, Topic>) -> Vec<KeptLonger> {
    let of_topic = |topic: &str| {
        let events = found.get(topic)?.retention?;
        let copies = dead_letters(sketch, topic)?;
        let kept = found.get(copies.as_str())?.retention;
        kept.is_none_or(|kept| kept > events).then_some(KeptLonger { copies, events })
    };
    topics(sketch).into_iter().filter_map(of_topic).collect()
}

impl KeptLonger {
    /// What to change.
    fn fix(&self) -> String {
        format!("set retention.ms of the topic {} to {}", self.copies, self.events.as_millis())
    }
}

/// Says which topics make a consumer remember for longer than its events are kept. They stay as they are: what
/// a shorter time would delete may be there on purpose.
pub(super) fn say_what_is_kept_longer(sketch: &Sketch<'_>, found: &BTreeMap<String, Topic>) {
    if sketch.settings.inbox_kept.is_some() {
        return;
    }
    let consumer = sketch.settings.consumer.as_str();
    for longer in kept_longer(sketch, found) {
        let change = longer.fix();
        warn!(
            consumer,
            change = change.as_str(),
            "copies of dead letters are kept longer than their events, and the store remembers what was handled as long"
        );
    }
}

/// What is simplest to change, because nobody needs copies for longer than the events: all topics that keep them so
/// long. `None` where it would still be too short with that.
fn shorter_copies(sketch: &Sketch<'_>, found: &BTreeMap<String, Topic>, kept: Duration) -> Option<String> {
    let longer = kept_longer(sketch, found);
    let mut shorter = found.clone();
    for KeptLonger { copies, events } in &longer {
        if let Some(topic) = shorter.get_mut(copies.as_str()) {
            topic.retention = Some(*events);
        }
    }
    let is_enough = Again::of(sketch, &shorter).total().is_some_and(|total| kept >= total);
    is_enough.then(|| longer.iter().map(KeptLonger::fix).collect::<Vec<_>>().join(" and "))
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
    let enough = "remember at least as long, or leave .remember_for(…) away: an event that comes again later would be \
                  handled again";
    let fixes = shorter_copies(sketch, found, kept).map(|fixes| fixes + ", or ").unwrap_or_default();
    let said = |time: Option<Duration>| time.map_or("for ever".to_owned(), |time| format!("for {time:?}"));
    Some(Problem::new(
        Code::RememberedTooShort,
        format!(
            "subscription {:?} remembers for {kept:?} what it has handled, and an event can come again {}: its \
             topics keep events {}, their dead letters {}, and a retry waits for up to {:?}",
            sketch.settings.consumer,
            said(total),
            said(again.topics),
            said(again.dead_letters),
            again.waiting,
        ),
        fixes + enough,
    ))
}

/// How long a subscription remembers, in milliseconds; `None`: for ever.
pub(super) fn remembered_ms(sketch: &Sketch<'_>, found: &BTreeMap<String, Topic>) -> Option<i64> {
    let enough = || Again::of(sketch, found).total().map(|total| total.saturating_add(REMEMBERED_MORE));
    let kept = sketch.settings.inbox_kept.or_else(enough)?;
    i64::try_from(kept.as_millis()).ok()
}

/// What is wrong with how long closed dead letters are kept.
pub(super) fn keeps_letters(kept: Duration) -> Option<Problem> {
    (kept < LETTERS_KEPT_MIN).then(|| {
        Problem::new(
            Code::LettersKeptTooShort,
            format!("dead letters are forgotten {kept:?} after they were closed"),
            format!(
                "keep them for {LETTERS_KEPT_MIN:?} or longer: who has sent letters back has to see what becomes \
                 of them"
            ),
        )
    })
}

/// How long closed dead letters are kept, in milliseconds; `None`: for ever.
pub(super) fn letters_kept_ms(kept: Duration) -> Option<i64> {
    i64::try_from(kept.as_millis()).ok()
}
