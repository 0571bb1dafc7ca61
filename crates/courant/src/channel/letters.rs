//! Which dead letters a request means, and what an edit makes of one.

use std::collections::BTreeMap;

use bytes::Bytes;
use courant_core::consumer::ConsumerName;
use courant_core::event_id::EventId;
use courant_core::headers::{CAUSATION_ID, CONTENT_TYPE, CORRELATION_ID, ID};
use courant_core::operations::{Which, failure_name};
use courant_core::topic::TopicName;
use courant_sql::limits::{LISTED_MAX, REDRIVE_EVENTS_MAX};
use courant_sql::{DeadFilter, DeadGroup, DeadState, DeadSummary, Event, Store};
use serde::de::IgnoredAny;

use super::acting::ActError;

/// What a request means.
#[derive(Debug)]
pub(super) struct Meant {
    pub(super) filter: DeadFilter,
    /// Of this failure, where the store does not know which letters those are.
    group: Option<String>,
    since_ms: Option<i64>,
    until_ms: Option<i64>,
}

/// The letters that a request is about, as they stood when it was looked at.
#[derive(Debug, Default)]
pub(super) struct Fixed {
    /// Where their events are, by number.
    pub(super) letters: BTreeMap<i64, String>,
    /// More are meant than one request is about.
    pub(super) has_more: bool,
}

/// Turns what was said into a filter of the store.
pub(super) async fn meant<S: Store>(store: &S, which: &Which) -> Result<Meant, ActError> {
    let Meant { mut filter, since_ms, until_ms, .. } = Meant::standing(which, Some(DeadState::Dead))?;
    if let Some(name) = &which.group {
        let group = group(store, name).await?;
        if filter.consumer.as_ref().is_some_and(|consumer| *consumer != group.consumer) {
            let reason = format!("the failure {name} is one of the consumer {}", group.consumer);
            return Err(ActError::NotFound(reason));
        }
        filter.consumer = Some(group.consumer);
        filter.kind = Some(group.kind);
        filter.place = Some(group.place);
    }
    Ok(Meant { filter, group: None, since_ms, until_ms })
}

async fn group<S: Store>(store: &S, name: &str) -> Result<DeadGroup, ActError> {
    let groups = store.dead_letter_groups(LISTED_MAX).await?;
    let is_named =
        |group: &DeadGroup| failure_name(group.consumer.as_str(), &group.kind, &group.place) == name;
    let mut named = groups.into_iter().filter(is_named);
    match (named.next(), named.next()) {
        (Some(group), None) => Ok(group),
        (None, _) => Err(ActError::NotFound(format!(
            "nobody has to decide about a failure {name}; `courant services` names them"
        ))),
        (Some(_), Some(_)) => Err(ActError::Conflict(format!(
            "two failures have the name {name}; use --consumer, or numbers of letters"
        ))),
    }
}

impl Meant {
    /// Letters that stand there, or anywhere, whatever failure they are of.
    pub(super) fn standing(which: &Which, state: Option<DeadState>) -> Result<Self, ActError> {
        if which.says_nothing() {
            return Err(ActError::Nonsense("it says of no dead letters that they are meant".to_owned()));
        }
        let nonsense = |error: courant_core::topic::InvalidTopicName| ActError::Nonsense(error.to_string());
        let filter = DeadFilter {
            consumer: which.consumer.as_deref().map(ConsumerName::new).transpose().map_err(nonsense)?,
            topic: which.topic.as_deref().map(TopicName::new).transpose().map_err(nonsense)?,
            key: which.key.as_ref().map(|key| Bytes::copy_from_slice(key.as_bytes())),
            state,
            ids: which.letters.clone(),
            ..DeadFilter::default()
        };
        Ok(Self { filter, group: None, since_ms: which.since_ms, until_ms: which.until_ms })
    }

    /// Letters that were archived. The store names the failures of undecided ones alone.
    pub(super) fn archived(which: &Which) -> Result<Self, ActError> {
        let meant = Self::standing(which, Some(DeadState::Archived))?;
        Ok(Self { group: which.group.clone(), ..meant })
    }

    /// The letters that are meant now, as many as one redrive takes.
    pub(super) async fn letters<S: Store>(&self, store: &S) -> Result<Fixed, ActError> {
        let most = usize::try_from(REDRIVE_EVENTS_MAX).unwrap_or(usize::MAX);
        let mut fixed = Fixed::default();
        let mut pages = Pages::new();
        while let Some(page) = pages.next(store, self).await? {
            for letter in page {
                if fixed.letters.len() == most {
                    return Ok(Fixed { has_more: true, ..fixed });
                }
                fixed.letters.insert(letter.id, letter.position.to_string());
            }
        }
        Ok(fixed)
    }

    /// Whether what the store does not know means it: the times, and the name of a failure.
    pub(super) fn takes(&self, letter: &DeadSummary) -> bool {
        let failure = &letter.failure;
        let is_of = |name: &String| {
            failure_name(letter.consumer.name.as_str(), &failure.kind, &failure.place) == *name
        };
        self.group.as_ref().is_none_or(is_of)
            && self.since_ms.is_none_or(|since_ms| letter.last_failed_ms >= since_ms)
            && self.until_ms.is_none_or(|until_ms| letter.last_failed_ms < until_ms)
    }

    /// A filter of the store that means the same; `None` when it takes no letter. The store knows no times,
    /// so with them the letters are named one by one.
    pub(super) async fn fixed<S: Store>(mut self, store: &S) -> Result<Option<DeadFilter>, ActError> {
        if self.since_ms.is_none() && self.until_ms.is_none() {
            let count = store.count_dead_letters(&self.filter).await?;
            return Ok((count > 0).then_some(self.filter));
        }
        let most = usize::try_from(REDRIVE_EVENTS_MAX).unwrap_or(usize::MAX);
        let mut ids = Vec::new();
        let mut pages = Pages::new();
        while let Some(page) = pages.next(store, &self).await? {
            ids.extend(page.into_iter().map(|letter| letter.id));
            if ids.len() >= most {
                ids.truncate(most);
                break;
            }
        }
        // A filter without numbers would mean everything.
        let some = !ids.is_empty();
        self.filter.ids = ids;
        Ok(some.then_some(self.filter))
    }
}

/// All letters that are meant, by their numbers.
#[derive(Debug)]
pub(super) struct Pages {
    after: i64,
}

impl Pages {
    pub(super) fn new() -> Self {
        Self { after: 0 }
    }

    /// The next ones; a page may be empty. `None` after the last one.
    pub(super) async fn next<S: Store>(
        &mut self,
        store: &S,
        meant: &Meant,
    ) -> Result<Option<Vec<DeadSummary>>, ActError> {
        let mut page = store.dead_letters(&meant.filter, self.after, LISTED_MAX).await?;
        let Some(last) = page.last() else { return Ok(None) };
        self.after = last.id;
        page.retain(|letter| meant.takes(letter));
        Ok(Some(page))
    }
}

/// The headers of an edited event: those of the original, but for what was asked for, its id and its cause.
#[must_use]
pub fn edited_headers(
    original: &Event,
    event_id: &EventId,
    set: &[(String, String)],
    deleted: &[String],
) -> Vec<(String, Bytes)> {
    let goes = |name: &str| {
        [ID, CAUSATION_ID].contains(&name)
            || deleted.iter().any(|deleted| deleted == name)
            || set.iter().any(|(new, _)| new == name)
    };
    let text = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    let mut headers: Vec<(String, Bytes)> =
        original.headers.iter().filter(|(name, _)| !goes(name)).cloned().collect();
    headers.extend(set.iter().map(|(name, value)| (name.clone(), text(value))));
    headers.push((ID.to_owned(), text(event_id.as_str())));
    headers.push((CAUSATION_ID.to_owned(), text(original.id.as_str())));
    // An event without one has begun its conversation: the new one stays in that.
    if !headers.iter().any(|(name, _)| name == CORRELATION_ID) {
        headers.push((CORRELATION_ID.to_owned(), text(original.id.as_str())));
    }
    headers
}

/// Why a value is not the JSON that its headers say it is: it would be a dead letter again.
#[must_use]
pub fn unlike_its_type(value: Option<&Bytes>, headers: &[(String, Bytes)]) -> Option<String> {
    let content_type = headers.iter().rev().find(|(name, _)| name == CONTENT_TYPE).map(|(_, value)| value);
    let is_json = content_type.is_some_and(|value| String::from_utf8_lossy(value).contains("json"));
    let value = value.filter(|_| is_json)?;
    let error = serde_json::from_slice::<IgnoredAny>(value).err()?;
    Some(format!("the value is no JSON, as its content-type says: {error}; --force takes it"))
}
