//! What a redrive would publish, where to, and who would get it.

use crate::cli::{Global, LetterAt};
use crate::commands::connect;
use crate::exit::{Exit, Failure};
use crate::explain;
use crate::output::Row;
use courant_kafka::client::{Client, TopicInfo};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

use super::decisions::Decisions;
use super::letter::{Framework, Letter};
use super::scan::{Letters, Meant};

/// Topics that one redrive publishes to, and groups that are asked whether they read them.
const TARGETS_MAX: usize = 100;
const GROUPS_ASKED_MAX: usize = 200;

/// Letters of one failure, and where they would go.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Planned {
    group: String,
    /// Where they would be published.
    to: String,
    /// The consumer that has failed.
    consumer: Option<String>,
    error: Option<String>,
    letters: u64,
    /// Groups that have read this topic, and would get them, too.
    readers: Vec<String>,
}

impl Row for Planned {
    const TITLES: &'static [&'static str] = &["group", "to", "consumer", "letters", "readers", "error"];

    fn cells(&self) -> Vec<String> {
        let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        vec![
            self.group.clone(),
            self.to.clone(),
            or_dash(&self.consumer),
            self.letters.to_string(),
            self.readers.join(" "),
            or_dash(&self.error),
        ]
    }
}

/// What a redrive would publish.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) rows: Vec<Planned>,
    pub(super) targets: BTreeMap<String, TopicInfo>,
    pub(super) letters: u64,
    /// Letters that were named and are not among those.
    pub(super) missing: BTreeSet<LetterAt>,
}

impl Plan {
    /// Reads all letters, and asks who reads where they come from.
    pub(super) async fn make(
        global: &Global,
        letters: &TopicInfo,
        meant: &Meant<'_>,
        decisions: &Decisions,
        to: Option<&str>,
    ) -> Result<Self, Failure> {
        let mut rows: BTreeMap<(String, String), Planned> = BTreeMap::new();
        let mut missing = meant.named().clone();
        let mut reading = Letters::of(global, letters, meant, decisions).await?;
        while let Some(page) = reading.next().await? {
            for letter in page {
                let to = target(&letter, &letters.name, to)?.to_owned();
                missing.remove(&letter.at);
                let row = rows.entry((to.clone(), letter.group())).or_insert_with(|| Planned {
                    group: letter.group(),
                    to,
                    consumer: letter.consumer.clone(),
                    error: letter.why.error.clone(),
                    ..Planned::default()
                });
                row.letters += 1;
            }
        }
        let names: BTreeSet<String> = rows.values().map(|row| row.to.clone()).collect();
        let mut client = connect(global).await?;
        let targets = look_up(&mut client, &names).await?;
        let readers = readers(&mut client, &names).await?;
        let mut rows: Vec<Planned> = rows.into_values().collect();
        for row in &mut rows {
            row.readers = readers.get(&row.to).cloned().unwrap_or_default();
        }
        let letters = rows.iter().map(|row| row.letters).sum();
        Ok(Self { rows, targets, letters, missing })
    }
}

/// Where a letter is to be published.
pub(super) fn target<'a>(letter: &'a Letter, topic: &str, to: Option<&'a str>) -> Result<&'a str, Failure> {
    let at = letter.at;
    if letter.framework == Framework::Courant {
        let consumer = letter.consumer.as_deref().unwrap_or("a service");
        let sentence = format!(
            "letter {at} is a copy: {consumer} has the letter itself in its store, and `courant dlq redrive \
             --store URL` sends it to that consumer alone"
        );
        return Err(Failure::new(Exit::Conflict, sentence));
    }
    let Some(target) = to.or(letter.origin.topic.as_deref()) else {
        let sentence = format!("letter {at} does not say where it comes from; name the topic with --to");
        return Err(Failure::new(Exit::Usage, sentence));
    };
    if target == topic {
        let sentence =
            format!("letter {at} would be published among the dead letters again; name a topic with --to");
        return Err(Failure::new(Exit::Usage, sentence));
    }
    Ok(target)
}

async fn look_up(
    client: &mut Client,
    names: &BTreeSet<String>,
) -> Result<BTreeMap<String, TopicInfo>, Failure> {
    if names.len() > TARGETS_MAX {
        let sentence = format!(
            "these letters come from {} topics; one redrive takes {TARGETS_MAX}: use --original",
            names.len()
        );
        return Err(Failure::new(Exit::Usage, sentence));
    }
    let mut targets = BTreeMap::new();
    for name in names {
        let topic = client.topic(name, false).await.map_err(|error| explain::admin(&error))?;
        targets.insert(name.clone(), topic);
    }
    Ok(targets)
}

/// The groups that have committed something of these topics, by topic.
async fn readers(
    client: &mut Client,
    topics: &BTreeSet<String>,
) -> Result<BTreeMap<String, Vec<String>>, Failure> {
    let mut readers: BTreeMap<String, Vec<String>> = BTreeMap::new();
    if topics.is_empty() {
        return Ok(readers);
    }
    let groups = client.groups().await.map_err(|error| explain::admin(&error))?;
    for group in groups.into_iter().take(GROUPS_ASKED_MAX) {
        let committed = client.committed(&group.name).await.map_err(|error| explain::admin(&error))?;
        for topic in topics.iter().filter(|topic| committed.contains_key(*topic)) {
            readers.entry(topic.clone()).or_default().push(group.name.clone());
        }
    }
    Ok(readers)
}
