//! Finding what a redrive that was killed has published, and not written down any more.
//!
//! A redrive publishes some letters, waits until they are acknowledged, and writes that down before it
//! publishes the next ones. So what nobody knows is behind the last record that was written down, in each
//! partition, and says by its headers which letter it was.

use crate::cli::{Global, LetterAt};
use crate::commands::connect;
use crate::exit::{Exit, Failure, note};
use crate::explain;
use courant_kafka::client::{Client, Fetched, TopicInfo};
use std::collections::BTreeMap;

use super::decisions::{Decisions, Redrive, Target};
use super::letter::{REDRIVE, REDRIVE_OF};
use super::scan::{Bounds, Offsets, Scan};

/// A redrive that was killed.
#[derive(Debug)]
pub(super) struct Killed<'a> {
    pub(super) letters: &'a TopicInfo,
    pub(super) id: &'a str,
    pub(super) redrive: &'a Redrive,
    pub(super) decisions: &'a Decisions,
    /// Go on where it cannot be told any more.
    pub(super) gives_up: bool,
}

impl Killed<'_> {
    /// The letters that it has published and not written down, and where they are now.
    pub(super) async fn found(&self, global: &Global) -> Result<Vec<(LetterAt, Target)>, Failure> {
        let mut found = Vec::new();
        for (topic, from) in &self.redrive.from {
            if let Err(failure) = self.look(global, topic, from, &mut found).await {
                if !self.gives_up {
                    return Err(failure);
                }
                note(format_args!("Passed: {}.", failure.sentence));
            }
        }
        Ok(found)
    }

    async fn look(
        &self,
        global: &Global,
        name: &str,
        from: &Offsets,
        found: &mut Vec<(LetterAt, Target)>,
    ) -> Result<(), Failure> {
        let mut client = connect(global).await?;
        let topic = client.topic(name, false).await.map_err(|error| explain::admin(&error))?;
        let from = self.behind_the_last(name, from);
        let bounds = Bounds::of(&mut client, &topic).await?;
        self.check(name, &from, &bounds)?;
        let mut missing = BTreeMap::new();
        if is_compacted(&mut client, name).await? {
            missing = lengths(&from, &bounds.ends);
        }
        let mut scan = Scan::between(client, topic, from.clone(), bounds.ends);
        while let Some(fetched) = scan.next().await? {
            for one in fetched {
                if let Some(left) = missing.get_mut(&one.partition) {
                    *left -= 1;
                }
                if let Some(at) = letter_of(&one, &self.letters.name, self.id) {
                    let (topic, offset) = (name.to_owned(), Some(one.record.offset));
                    found.push((at, Target { topic, partition: one.partition, offset }));
                }
            }
        }
        match missing.into_iter().find(|(_, left)| *left > 0) {
            Some((partition, _)) => Err(self.untold(name, partition, &from)),
            None => Ok(()),
        }
    }

    /// Behind what was written down, or else where the targets ended when the redrive began.
    fn behind_the_last(&self, topic: &str, from: &Offsets) -> Offsets {
        let mut from = from.clone();
        for target in self.decisions.published_by(self.id).filter(|target| target.topic == topic) {
            if let Some(offset) = target.offset {
                let behind = from.entry(target.partition).or_insert(0);
                *behind = (*behind).max(offset.saturating_add(1));
            }
        }
        from
    }

    /// Fails where records are gone, by retention or with the whole topic.
    fn check(&self, topic: &str, from: &Offsets, bounds: &Bounds) -> Result<(), Failure> {
        let is_gone = |partition: &i32, from: i64| {
            let (start, end) = (bounds.starts.get(partition), bounds.ends.get(partition));
            start.is_none_or(|start| *start > from) || end.is_none_or(|end| *end < from)
        };
        match from.iter().find(|&(partition, from)| is_gone(partition, *from)) {
            Some((partition, _)) => Err(self.untold(topic, *partition, from)),
            None => Ok(()),
        }
    }

    fn untold(&self, topic: &str, partition: i32, from: &Offsets) -> Failure {
        let (id, offset) = (self.id, from.get(&partition).copied().unwrap_or(0));
        let sentence = format!(
            "what the redrive {id} has published last cannot be told any more: records of {topic}/{partition} \
             from offset {offset} on are gone; `courant dlq foreign redrive {} --id {id} --cancel --yes` gives \
             it up without looking, and a letter that is sent back then may come twice",
            self.letters.name
        );
        Failure::new(Exit::Conflict, sentence)
    }
}

/// How many records there are at most, by partition.
fn lengths(from: &Offsets, ends: &Offsets) -> BTreeMap<i32, i64> {
    let length = |(partition, from): (&i32, &i64)| {
        let end = ends.get(partition).copied().unwrap_or(*from);
        (*partition, end.saturating_sub(*from))
    };
    from.iter().map(length).collect()
}

/// A record that compaction has taken is one of which nobody knows what it was.
async fn is_compacted(client: &mut Client, topic: &str) -> Result<bool, Failure> {
    let configs = client.topic_configs(topic).await.map_err(|error| explain::admin(&error))?;
    let policy = configs.iter().find(|config| config.name == "cleanup.policy");
    Ok(policy.and_then(|policy| policy.value.as_deref()).is_some_and(|value| value.contains("compact")))
}

/// The letter of this topic that a record of this redrive was.
fn letter_of(fetched: &Fetched, letters: &str, id: &str) -> Option<LetterAt> {
    let headers = &fetched.record.headers;
    let last = |name: &str| {
        let found = headers.iter().rev().find(|(known, _)| known.as_ref() == name.as_bytes());
        found.and_then(|(_, value)| std::str::from_utf8(value.as_deref()?).ok())
    };
    if last(REDRIVE)? != id {
        return None;
    }
    let (topic, at) = last(REDRIVE_OF)?.rsplit_once('/')?;
    if topic == letters { at.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use courant_log::batch::records::Record;

    fn fetched(headers: &[(&'static str, &'static str)]) -> Fetched {
        let header = |(name, value): &(&'static str, &'static str)| {
            (Bytes::from_static(name.as_bytes()), Some(Bytes::from_static(value.as_bytes())))
        };
        let headers = headers.iter().map(header).collect();
        Fetched { partition: 0, record: Record { offset: 1, timestamp: 0, key: None, value: None, headers } }
    }

    #[test]
    fn only_records_of_this_redrive_and_this_topic_are_letters_that_it_has_published() {
        let at = LetterAt { partition: 0, offset: 3 };
        let this = fetched(&[("courant-redrive", "r"), ("courant-redrive-of", "dlt/0@3")]);
        assert_eq!(letter_of(&this, "dlt", "r"), Some(at));
        assert_eq!(letter_of(&this, "dlt", "s"), None);
        assert_eq!(letter_of(&this, "other", "r"), None);
        assert_eq!(letter_of(&fetched(&[("courant-redrive", "r")]), "dlt", "r"), None);
        assert_eq!(letter_of(&fetched(&[]), "dlt", "r"), None);
        let odd = fetched(&[("courant-redrive", "r"), ("courant-redrive-of", "dlt/0@x")]);
        assert_eq!(letter_of(&odd, "dlt", "r"), None);
    }

    #[test]
    fn a_window_is_as_long_as_what_came_since() {
        let (from, ends) = (Offsets::from([(0, 3), (1, 5), (2, 1)]), Offsets::from([(0, 7), (1, 5)]));
        assert_eq!(lengths(&from, &ends), BTreeMap::from([(0, 4), (1, 0), (2, 0)]));
    }
}
