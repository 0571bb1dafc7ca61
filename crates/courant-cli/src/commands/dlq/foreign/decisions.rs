//! What was decided about letters, in a topic beside theirs: `TOPIC.courant-decisions`, with one partition,
//! compacted.
//!
//! A record's key is a letter, `PARTITION@OFFSET`, or `redrive ID`; its value is JSON. The last record of a
//! key counts. What stands there of a topic that has been deleted and made again is of no letter.

use crate::cli::{Global, LetterAt};
use crate::commands::connect;
use crate::exit::{Exit, Failure};
use crate::explain;
use crate::time::now_ms;
use bytes::Bytes;
pub(super) use courant_core::decisions::{Decision, Target};
use courant_core::decisions::{ENDING, REDRIVE_KEY};
use courant_kafka::client::{AdminError, Client, Event, NewTopic, Producer, ProducerConfig, TopicInfo};
use courant_log::batch::Codec;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use super::scan::{Offsets, Scan};

/// Decisions that are read: more would take too much memory.
const DECISIONS_MAX: usize = 1_000_000;

/// A letter of this topic was given up now.
pub(super) fn discarded(letters: &TopicInfo, by: &str, reason: &str) -> Decision {
    Decision::discarded(letters.id.to_string(), by, reason, now_ms())
}

/// A letter of this topic was published again now.
pub(super) fn redriven(letters: &TopicInfo, by: &str, redrive: &str, target: Target) -> Decision {
    Decision::redriven(letters.id.to_string(), by, redrive, target, now_ms())
}

/// A redrive, written down before it publishes anything, and when it has come to its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Redrive {
    pub(super) topic_id: String,
    pub(super) is_ended: bool,
    pub(super) by: String,
    pub(super) at_ms: i64,
    /// Where its targets ended when it began: whatever it has published is behind that.
    pub(super) from: BTreeMap<String, Offsets>,
}

impl Redrive {
    pub(super) fn begun(letters: &TopicInfo, by: &str, from: BTreeMap<String, Offsets>) -> Self {
        let (topic_id, by) = (letters.id.to_string(), by.to_owned());
        Self { topic_id, is_ended: false, by, at_ms: now_ms(), from }
    }
}

/// Everything that was decided about the letters of a topic.
#[derive(Debug, Default)]
pub(super) struct Decisions {
    letters: BTreeMap<LetterAt, Decision>,
    redrives: BTreeMap<String, Redrive>,
}

impl Decisions {
    pub(super) async fn read(global: &Global, letters: &TopicInfo) -> Result<Self, Failure> {
        let mut client = connect(global).await?;
        let topic = match client.topic(&name(letters), false).await {
            Ok(topic) => topic,
            Err(AdminError::UnknownTopic { .. }) => return Ok(Self::default()),
            Err(error) => return Err(explain::admin(&error)),
        };
        let mut decisions = Self::default();
        let mut scan = Scan::of(global, &topic).await?;
        while let Some(fetched) = scan.next().await? {
            for one in fetched {
                decisions.take(letters, one.record.key.as_ref(), one.record.value.as_ref());
            }
            if decisions.letters.len() + decisions.redrives.len() > DECISIONS_MAX {
                let sentence = format!("{} has more than {DECISIONS_MAX} decisions", topic.name);
                return Err(Failure::new(Exit::Failed, sentence));
            }
        }
        Ok(decisions)
    }

    /// Takes a record in. What is not ours, or of another topic of that name, is none.
    fn take(&mut self, letters: &TopicInfo, key: Option<&Bytes>, value: Option<&Bytes>) {
        let (Some(key), Some(value)) = (key.and_then(|key| std::str::from_utf8(key).ok()), value) else {
            return;
        };
        let topic_id = letters.id.to_string();
        if let Some(id) = key.strip_prefix(REDRIVE_KEY) {
            match serde_json::from_slice::<Redrive>(value) {
                Ok(redrive) if redrive.topic_id == topic_id => {
                    self.redrives.insert(id.to_owned(), redrive);
                }
                _ => {}
            }
        } else if let Ok(at) = key.parse::<LetterAt>() {
            match serde_json::from_slice::<Decision>(value) {
                Ok(decision) if decision.topic_id == topic_id => {
                    self.letters.insert(at, decision);
                }
                _ => {}
            }
        }
    }

    pub(super) fn of(&self, at: LetterAt) -> Option<&Decision> {
        self.letters.get(&at)
    }

    pub(super) fn redrive(&self, id: &str) -> Option<&Redrive> {
        self.redrives.get(id)
    }

    /// Fails while a redrive of these letters has not come to its end, `own` excepted: nobody knows what it has
    /// published, and what it will publish.
    pub(super) fn check_nobody_redrives(
        &self,
        letters: &TopicInfo,
        own: Option<&str>,
    ) -> Result<(), Failure> {
        let mut redrives = self.redrives.iter();
        let Some((other, _)) = redrives.find(|(id, redrive)| !redrive.is_ended && own != Some(id.as_str()))
        else {
            return Ok(());
        };
        let sentence = format!(
            "the redrive {other} of these letters runs, or was killed: wait for its end, or end it with its command \
             and --id {other}, or with `courant dlq foreign redrive {} --id {other} --cancel`",
            letters.name
        );
        Err(Failure::new(Exit::Conflict, sentence))
    }

    /// A redrive that has begun, or ended, since something was read.
    pub(super) fn redriven_since(&self, before: &Self) -> Option<&str> {
        let mut redrives = self.redrives.iter();
        redrives.find(|(id, redrive)| before.redrive(id) != Some(*redrive)).map(|(id, _)| id.as_str())
    }

    /// What a redrive is known to have published.
    pub(super) fn published_by<'a>(&'a self, id: &'a str) -> impl Iterator<Item = &'a Target> {
        let of_id = self.letters.values().filter(move |one| one.redrive.as_deref() == Some(id));
        of_id.filter_map(|decision| decision.target.as_ref())
    }

    /// Knows from now on what was written down.
    pub(super) fn add(&mut self, decided: impl IntoIterator<Item = (LetterAt, Decision)>) {
        self.letters.extend(decided);
    }
}

/// The topic of the decisions about the letters of a topic.
fn name(letters: &TopicInfo) -> String {
    format!("{}{ENDING}", letters.name)
}

/// Writes decisions down.
#[derive(Debug)]
pub(super) struct Book {
    producer: Producer,
}

impl Book {
    /// Opens the topic of the decisions, and makes it if there is none.
    pub(super) async fn open(global: &Global, letters: &TopicInfo) -> Result<Self, Failure> {
        let mut client = connect(global).await?;
        make(&mut client, &name(letters)).await.map_err(|error| explain::admin(&error))?;
        // It is there; a cluster may need a moment until each of its servers knows that.
        let config = ProducerConfig { codec: Codec::None, create_topic: true };
        let producer = Producer::open(client, &name(letters), config).await;
        Ok(Self { producer: producer.map_err(|error| explain::publish(&error))? })
    }

    /// Writes down what was decided about letters.
    pub(super) async fn decide(&mut self, decided: &[(LetterAt, Decision)]) -> Result<(), Failure> {
        let mut events = Vec::with_capacity(decided.len());
        for (at, decision) in decided {
            events.push(event(at.to_string(), decision)?);
        }
        self.publish(events).await
    }

    /// Writes down where a redrive is.
    pub(super) async fn redrive(&mut self, id: &str, redrive: &Redrive) -> Result<(), Failure> {
        let event = event(format!("{REDRIVE_KEY}{id}"), redrive)?;
        self.publish(vec![event]).await
    }

    async fn publish(&mut self, events: Vec<Event>) -> Result<(), Failure> {
        let published = self.producer.publish(events, &mut Vec::new()).await;
        published.map_err(|error| explain::publish(&error))
    }
}

fn event(key: String, value: &impl Serialize) -> Result<Event, Failure> {
    let value = serde_json::to_vec(value)
        .map_err(|error| Failure::new(Exit::Failed, format!("a decision cannot be written: {error}")))?;
    Ok(Event {
        key: Some(Bytes::from(key)),
        value: Some(Bytes::from(value)),
        headers: Vec::new(),
        timestamp_ms: now_ms(),
        partition: Some(0),
    })
}

async fn make(client: &mut Client, name: &str) -> Result<(), AdminError> {
    match client.topic(name, false).await {
        Err(AdminError::UnknownTopic { .. }) => {}
        other => return other.map(drop),
    }
    let new = NewTopic {
        name: name.to_owned(),
        partitions: Some(1),
        replication_factor: None,
        configs: vec![("cleanup.policy".to_owned(), "compact".to_owned())],
        validate_only: false,
    };
    match client.create_topic(&new).await {
        // Somebody else was faster.
        Ok(_) | Err(AdminError::TopicExists { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use courant_core::decisions::State;

    fn topic(number: u8) -> TopicInfo {
        let id = format!("00000000-0000-0000-0000-0000000000{number:02}").parse().expect("an id");
        TopicInfo { name: "dlt".to_owned(), id, is_internal: false, partitions: vec![] }
    }

    fn decision(topic: &TopicInfo, state: State) -> Bytes {
        let decision = Decision {
            topic_id: topic.id.to_string(),
            state,
            by: "me".to_owned(),
            at_ms: 7,
            reason: None,
            redrive: Some("r".to_owned()),
            target: Some(Target { topic: "orders".to_owned(), partition: 1, offset: Some(3) }),
        };
        Bytes::from(serde_json::to_vec(&decision).expect("json"))
    }

    #[test]
    fn the_last_decision_counts_and_only_those_about_this_topic() {
        let (this, before) = (topic(1), topic(2));
        let mut decisions = Decisions::default();
        let key = Bytes::from_static(b"0@7");
        decisions.take(&this, Some(&key), Some(&decision(&this, State::Discarded)));
        decisions.take(&this, Some(&key), Some(&decision(&this, State::Redriven)));
        let at = LetterAt { partition: 0, offset: 7 };
        assert_eq!(decisions.of(at).map(|one| one.state), Some(State::Redriven));
        assert_eq!(decisions.published_by("r").count(), 1);
        assert_eq!(decisions.published_by("s").count(), 0);
        let other = Bytes::from_static(b"0@8");
        decisions.take(&this, Some(&other), Some(&decision(&before, State::Redriven)));
        decisions.take(&this, Some(&other), Some(&Bytes::from_static(b"{}")));
        decisions.take(&this, Some(&other), None);
        decisions.take(&this, None, Some(&decision(&this, State::Redriven)));
        assert_eq!(decisions.letters.len(), 1);
    }

    #[test]
    fn a_redrive_is_unfinished_until_it_says_that_it_has_ended() {
        let topic = topic(1);
        let before = Decisions::default();
        let mut decisions = Decisions::default();
        let from = BTreeMap::from([("orders".to_owned(), Offsets::from([(0, 12)]))]);
        let mut redrive =
            Redrive { topic_id: topic.id.to_string(), is_ended: false, by: "me".to_owned(), at_ms: 7, from };
        let key = Bytes::from_static(b"redrive priced");
        let written = |redrive: &Redrive| Bytes::from(serde_json::to_vec(redrive).expect("json"));
        decisions.take(&topic, Some(&key), Some(&written(&redrive)));
        let refused = decisions.check_nobody_redrives(&topic, None).expect_err("it runs");
        assert!(refused.sentence.contains("redrive priced"), "{}", refused.sentence);
        assert!(decisions.check_nobody_redrives(&topic, Some("another")).is_err());
        assert!(decisions.check_nobody_redrives(&topic, Some("priced")).is_ok(), "it is its own");
        assert_eq!(decisions.redrive("priced"), Some(&redrive));
        redrive.is_ended = true;
        decisions.take(&topic, Some(&key), Some(&written(&redrive)));
        assert!(decisions.check_nobody_redrives(&topic, None).is_ok());
        // Whoever has looked before it began is told of it, also when it has ended by then.
        assert_eq!(decisions.redriven_since(&before), Some("priced"));
        assert_eq!(before.redriven_since(&before), None);
    }
}
