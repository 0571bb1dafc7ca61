//! Reading a topic from somewhere to where it ends now.

use crate::cli::{Global, LetterAt, WhichForeign};
use crate::commands::{connect, tail};
use crate::exit::{Exit, Failure};
use crate::explain;
use courant_kafka::client::{Client, Consumer, Fetched, OffsetAt, TopicInfo};
use std::collections::{BTreeMap, BTreeSet};

use super::decisions::Decisions;
use super::letter::Letter;

/// Offsets by partition.
pub(super) type Offsets = BTreeMap<i32, i64>;

/// Where a topic begins and ends.
#[derive(Clone, Debug)]
pub(super) struct Bounds {
    pub(super) starts: Offsets,
    pub(super) ends: Offsets,
}

impl Bounds {
    pub(super) async fn of(client: &mut Client, topic: &TopicInfo) -> Result<Self, Failure> {
        // A client finds only the servers that it was told of itself.
        let topic = &client.topic(&topic.name, false).await.map_err(|error| explain::admin(&error))?;
        let partitions: Vec<i32> = topic.partitions.iter().map(|partition| partition.index).collect();
        let ends = client.list_offsets(topic, &partitions, OffsetAt::End).await;
        let ends = tail::offsets(ends.map_err(|error| explain::admin(&error))?);
        let starts = client.list_offsets(topic, &partitions, OffsetAt::Start).await;
        let starts = tail::offsets(starts.map_err(|error| explain::admin(&error))?);
        Ok(Self { starts, ends })
    }
}

/// A topic that is being read.
#[derive(Debug)]
pub(super) struct Scan {
    consumer: Consumer,
    ends: Offsets,
}

impl Scan {
    /// All of a topic.
    pub(super) async fn of(global: &Global, topic: &TopicInfo) -> Result<Self, Failure> {
        let mut client = connect(global).await?;
        let Bounds { starts, ends } = Bounds::of(&mut client, topic).await?;
        Ok(Self::between(client, topic.clone(), starts, ends))
    }

    /// What is between these offsets.
    pub(super) fn between(client: Client, topic: TopicInfo, from: Offsets, ends: Offsets) -> Self {
        let is_before = |partition: &i32, from: &i64| ends.get(partition).is_some_and(|end| from < end);
        let from = from.into_iter().filter(|(partition, from)| is_before(partition, from)).collect();
        Self { consumer: Consumer::new(client, topic, from), ends }
    }

    /// The next records, those of a partition in their order; possibly none. `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<Fetched>>, Failure> {
        if self.consumer.positions().is_empty() {
            return Ok(None);
        }
        let mut fetched = self.consumer.next().await.map_err(|error| explain::fetch(&error))?;
        fetched.retain(|one| self.ends.get(&one.partition).is_some_and(|end| one.record.offset < *end));
        let positions = self.consumer.positions().iter();
        let read: Vec<i32> = positions
            .filter(|&(partition, position)| self.ends.get(partition).is_none_or(|end| position >= end))
            .map(|(partition, _)| *partition)
            .collect();
        read.into_iter().for_each(|partition| self.consumer.leave(partition));
        Ok(Some(fetched))
    }
}

/// Which letters are meant.
#[derive(Debug)]
pub(super) struct Meant<'a> {
    letters: BTreeSet<LetterAt>,
    which: &'a WhichForeign,
    /// Those that somebody has decided about are meant, too.
    decided: bool,
}

impl<'a> Meant<'a> {
    pub(super) fn new(letters: &[LetterAt], which: &'a WhichForeign, decided: bool) -> Self {
        Self { letters: letters.iter().copied().collect(), which, decided }
    }

    /// As [`Meant::new`], but somebody must have said which: nothing happens to all of them by accident.
    pub(super) fn said(letters: &[LetterAt], all: bool, which: &'a WhichForeign) -> Result<Self, Failure> {
        if all || !letters.is_empty() || which.group.is_some() || which.original.is_some() {
            return Ok(Self::new(letters, which, false));
        }
        let sentence = "say which dead letters are meant: PARTITION@OFFSET of some, --group GROUP, \
                        --original TOPIC, or --all";
        Err(Failure::new(Exit::Usage, sentence))
    }

    pub(super) fn takes(&self, letter: &Letter, decisions: &Decisions) -> bool {
        let WhichForeign { group, original } = self.which;
        (self.letters.is_empty() || self.letters.contains(&letter.at))
            && group.as_ref().is_none_or(|group| *group == letter.group())
            && original.as_ref().is_none_or(|original| letter.origin.topic.as_ref() == Some(original))
            && (self.decided || decisions.of(letter.at).is_none())
    }

    /// Those that were named.
    pub(super) fn named(&self) -> &BTreeSet<LetterAt> {
        &self.letters
    }
}

/// The letters of a topic that are meant, as they are read.
#[derive(Debug)]
pub(super) struct Letters<'a> {
    scan: Scan,
    meant: &'a Meant<'a>,
    decisions: &'a Decisions,
}

impl<'a> Letters<'a> {
    pub(super) async fn of(
        global: &Global,
        topic: &TopicInfo,
        meant: &'a Meant<'a>,
        decisions: &'a Decisions,
    ) -> Result<Self, Failure> {
        Ok(Self { scan: Scan::of(global, topic).await?, meant, decisions })
    }

    /// The next ones; possibly none. `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<Letter>>, Failure> {
        let Some(fetched) = self.scan.next().await? else { return Ok(None) };
        let letters = fetched.into_iter().map(Letter::of);
        Ok(Some(letters.filter(|letter| self.meant.takes(letter, self.decisions)).collect()))
    }
}

/// Looks a topic up.
pub(super) async fn topic(global: &Global, name: &str) -> Result<TopicInfo, Failure> {
    let mut client = connect(global).await?;
    client.topic(name, false).await.map_err(|error| explain::admin(&error))
}
