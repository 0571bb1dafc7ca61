//! Dead letters: pages of them, and one with its event.
//!
//! The service tells what and where a letter is. What the event says is read from the log, where it still
//! is, or where the copy of the letter is that the service has published.

use axum::extract::{Extension, RawQuery, State};
use courant_core::foreign::Cause;
use courant_core::operations::{Action, Outcome, ToldLetter, ToldNote, Which, failure_name};
use courant_log::batch::records::Record;
use courant_log::{Log, Topic};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::edit::number;
use super::line::{Line, not_understood};
use super::redrives::{known, letter_after};
use super::{LETTER_NOT_FOUND, Meant, actor};
use crate::api::asked::Path;
use crate::api::limits::{ID_CLOCKS_DIFFER_MS, ID_LOOK_BYTES_MAX, RECORD_PARTITIONS_MAX};
use crate::api::problem::{BAD_REQUEST, Problem};
use crate::api::records::begin::Begin;
use crate::api::records::read::{Taken, offset, read};
use crate::api::records::shown::{Room, shown};
use crate::api::records::{at, partition};
use crate::api::{ApiState, Asked, Caller, Json};

/// Where letters can stand.
pub(super) const STATES: [&str; 5] = ["dead", "redriving", "redriven", "discarded", "archived"];

/// Wherever they stand.
const ANY: &str = "any";

#[derive(Debug, Serialize)]
pub(super) struct Letters {
    service: String,
    letters: Vec<Letter>,
    next: Option<String>,
}

/// A letter, without what its event says.
#[derive(Debug, Serialize)]
struct Letter {
    letter: i64,
    consumer: String,
    generation: u32,
    topic: String,
    partition: u32,
    offset: u64,
    event_id: String,
    state: &'static str,
    reason: &'static str,
    blocks_key: bool,
    /// `None`: nobody has looked.
    edited: Option<bool>,
    attempts: u32,
    first_failed_ms: i64,
    last_failed_ms: i64,
    group: String,
    error: String,
    place: String,
    code_version: String,
}

impl From<&ToldLetter> for Letter {
    fn from(told: &ToldLetter) -> Self {
        let notes = told.notes.as_ref();
        Self {
            letter: told.letter,
            consumer: told.consumer.clone(),
            generation: told.generation,
            topic: told.topic.clone(),
            partition: told.partition,
            offset: told.offset,
            event_id: told.event_id.clone(),
            state: known(&told.state, &STATES),
            reason: known(&told.reason, &["exhausted", "undecodable", "refused"]),
            blocks_key: told.blocks_key,
            edited: notes.map(|notes| notes.iter().any(|note| note.action == "edited")),
            attempts: told.attempts,
            first_failed_ms: told.first_failed_ms,
            last_failed_ms: told.last_failed_ms,
            group: failure_name(&told.consumer, &told.error, &told.place),
            error: told.error.clone(),
            place: told.place.clone(),
            code_version: told.code_version.clone(),
        }
    }
}

pub(super) async fn list(
    State(state): State<ApiState>,
    Extension(caller): Extension<Caller>,
    Path(service): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Json<Letters>, Problem> {
    let action = looked_for(query.as_deref(), false)?;
    let line = Line::to(&state, &service).await?;
    let (told, next) = told(line.ask(&actor(&caller, None)?, action, &LETTER_NOT_FOUND).await?)?;
    let letters = told.iter().map(Letter::from).collect();
    Ok(Json(Letters { service, letters, next: next.map(|next| next.to_string()) }))
}

/// What a query asks a service for.
pub(super) fn looked_for(query: Option<&str>, notes: bool) -> Result<Action, Problem> {
    let known = ["group", "consumer", "topic", "key", "state", "limit", "after"];
    let asked = Asked::of(query, &known)?;
    let limit = u32::try_from(asked.limit()?).unwrap_or(u32::MAX);
    let after = asked.text("after").map(letter_after).transpose()?.unwrap_or(0);
    let standing = standing(asked.text("state"))?;
    let text = |name: &str| asked.text(name).map(str::to_owned);
    let meant = Meant {
        consumer: text("consumer"),
        group: text("group"),
        topic: text("topic"),
        key: text("key"),
        ..Meant::default()
    };
    let is_filtered = known[..4].iter().any(|name| asked.text(name).is_some());
    let which = Meant { all: !is_filtered, ..meant }.which()?;
    Ok(Action::Letters { which, state: standing, after, limit, notes })
}

/// Where the letters stand that a query means. `None`: anywhere.
fn standing(said: Option<&str>) -> Result<Option<String>, Problem> {
    match said {
        None => Ok(Some(STATES[0].to_owned())),
        Some(ANY) => Ok(None),
        Some(word) if STATES.contains(&word) => Ok(Some(word.to_owned())),
        Some(word) => {
            let sentence = format!("state is {word:?}; it can be {} or {ANY}", STATES.join(", "));
            Err(Problem::new(&BAD_REQUEST, sentence))
        }
    }
}

/// The letters of all parts of an answer, and where the next look begins.
pub(super) fn told(outcomes: Vec<Outcome>) -> Result<(Vec<ToldLetter>, Option<i64>), Problem> {
    let (mut all, mut last) = (Vec::new(), None);
    for outcome in outcomes {
        let Outcome::Letters { letters, next } = outcome else { return Err(not_understood()) };
        all.extend(letters);
        last = next;
    }
    Ok((all, last))
}

/// A letter with all that is known of it.
#[derive(Debug, Serialize)]
pub(super) struct Whole {
    service: String,
    letter: Letter,
    notes: Vec<Note>,
    record: Option<Box<RawValue>>,
    record_missing: Option<String>,
    message: Option<String>,
    copy: Option<Place>,
}

impl Whole {
    /// Bytes of its event and of its error, as they are shown.
    pub(super) fn bytes(&self) -> usize {
        let record = self.record.as_ref().map_or(0, |record| record.get().len());
        record.saturating_add(self.message.as_ref().map_or(0, String::len))
    }
}

#[derive(Debug, Serialize)]
struct Note {
    action: &'static str,
    by: String,
    reason: String,
    at_ms: i64,
}

impl From<ToldNote> for Note {
    fn from(note: ToldNote) -> Self {
        let action = known(&note.action, &["edited", "discarded", "archived", "restored"]);
        Self { action, by: note.by, reason: note.reason, at_ms: note.at_ms }
    }
}

/// Where a record is.
#[derive(Debug, Serialize)]
struct Place {
    topic: String,
    partition: u32,
    offset: u64,
}

pub(super) async fn show(
    State(state): State<ApiState>,
    Extension(caller): Extension<Caller>,
    Path((service, letter)): Path<(String, String)>,
    RawQuery(query): RawQuery,
) -> Result<Json<Whole>, Problem> {
    Asked::of(query.as_deref(), &[])?;
    let letter = number(&letter)?;
    let line = Line::to(&state, &service).await?;
    let which = Which { letters: vec![letter], ..Which::default() };
    // The filter alone names it, so that it is the first one, whatever its number.
    let action = Action::Letters { which, state: None, after: i64::MIN, limit: 1, notes: true };
    let outcomes = line.ask(&actor(&caller, None)?, action, &LETTER_NOT_FOUND).await?;
    let Some(told) = told(outcomes)?.0.into_iter().find(|told| told.letter == letter) else {
        let sentence = format!("{service} has no dead letter {letter}");
        return Err(Problem::new(&LETTER_NOT_FOUND, sentence));
    };
    state.blocking(move |state| whole(state.log()?, service, told)).await.map(Json)
}

/// Looks the event up, and the copy. May wait for the disk.
pub(super) fn whole(log: &Log, service: String, told: ToldLetter) -> Result<Whole, Problem> {
    let letter = Letter::from(&told);
    let (mut record, record_missing) = match original(log, &letter) {
        Ok(record) => (Some(record), None),
        Err(sentence) => (None, Some(sentence)),
    };
    let (mut message, mut place) = (None, None);
    if let Some(copy) = published(log, &letter)? {
        message = copy.message;
        place = Some(copy.place);
        record = record.or(Some(copy.record));
    }
    let notes = told.notes.unwrap_or_default().into_iter().map(Note::from).collect();
    Ok(Whole { service, letter, notes, record, record_missing, message, copy: place })
}

/// The event as it came, or why it is not there.
fn original(log: &Log, letter: &Letter) -> Result<Box<RawValue>, String> {
    /// As much of a record as tells which event it is.
    #[derive(Deserialize)]
    struct Identified {
        cloudevent: Option<Named>,
    }
    #[derive(Deserialize)]
    struct Named {
        id: Option<String>,
    }
    let Letter { topic, partition: number, offset, event_id, edited, .. } = letter;
    let catalog = log.catalog();
    let topic = catalog.by_name(topic).ok_or_else(|| format!("the topic {topic} is not on this server"))?;
    let id = partition(topic, *number).map_err(|problem| problem.detail)?;
    let record = at(log, topic, (*number, id), *offset).map_err(|problem| problem.detail)?;
    let identified: Option<Identified> = serde_json::from_str(record.get()).ok();
    let found = identified.and_then(|record| record.cloudevent?.id);
    // An edited letter has another id; a record that is no CloudEvent has none.
    match found {
        Some(found) if *edited != Some(true) && found != *event_id => {
            Err(format!("another event is at {}/{number}@{offset} now: {found}", topic.name))
        }
        _ => Ok(record),
    }
}

/// The copy of a letter in the log.
struct Published {
    place: Place,
    record: Box<RawValue>,
    message: Option<String>,
}

/// The newest copy that the service has published of the letter, if it is not far from where its time says.
fn published(log: &Log, letter: &Letter) -> Result<Option<Published>, Problem> {
    let name = format!("{}.{}.dlq", letter.topic, letter.consumer);
    let catalog = log.catalog();
    let Some(topic) = catalog.by_name(&name) else { return Ok(None) };
    let begin = Begin::Time(letter.last_failed_ms.saturating_sub(ID_CLOCKS_DIFFER_MS).max(0));
    let partitions = topic.partitions.len().clamp(1, RECORD_PARTITIONS_MAX);
    for (number, id) in (0_u32..).zip(&topic.partitions).take(RECORD_PARTITIONS_MAX) {
        let Some(ends) = log.offsets(*id) else { continue };
        let mut next = begin.resolve(log, *id, ends, 0)?;
        let mut bytes_left = ID_LOOK_BYTES_MAX / partitions;
        let mut found = None;
        while next < ends.high_watermark && bytes_left > 0 {
            let passed = read(log, *id, next..ends.high_watermark, |record| {
                if let Some(cause) = is_copy(letter, record) {
                    found = Some(shown_copy(topic, number, record, cause));
                }
                Taken::Yes
            })?;
            next = passed.next.max(next.saturating_add(1));
            bytes_left = bytes_left.saturating_sub(passed.bytes.max(1));
        }
        if let Some(found) = found {
            return found.map(Some).map_err(|error| Problem::defect(&error.to_string()));
        }
    }
    Ok(None)
}

fn is_copy(letter: &Letter, record: &Record) -> Option<Cause> {
    let cause = Cause::of(&record.headers);
    let origin = &cause.origin;
    let is_it = origin.topic.as_ref() == Some(&letter.topic)
        && origin.partition.and_then(|number| u32::try_from(number).ok()) == Some(letter.partition)
        && origin.offset.and_then(|offset| u64::try_from(offset).ok()) == Some(letter.offset)
        && cause.consumer.as_ref() == Some(&letter.consumer);
    is_it.then_some(cause)
}

fn shown_copy(
    topic: &Topic,
    number: u32,
    record: &Record,
    cause: Cause,
) -> Result<Published, serde_json::Error> {
    let place = Place { topic: topic.name.clone(), partition: number, offset: offset(record.offset) };
    let record = shown(&topic.name, number, record, Room::ALONE)?;
    Ok(Published { place, record, message: cause.why.message })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn letter() -> Letter {
        let told = ToldLetter {
            consumer: "billing".to_owned(),
            topic: "orders".to_owned(),
            partition: 2,
            offset: 9_007_199_254_740_993,
            state: "dead".to_owned(),
            ..ToldLetter::default()
        };
        Letter::from(&told)
    }

    fn record(offset: &'static str) -> Record {
        let header = |name: &'static str, value: &'static str| (Bytes::from(name), Some(Bytes::from(value)));
        Record {
            offset: 3,
            timestamp: 7,
            key: None,
            value: None,
            headers: vec![
                header("courant-dead-consumer", "billing"),
                header("courant-dead-topic", "orders"),
                header("courant-dead-partition", "2"),
                header("courant-dead-offset", offset),
                header("courant-dead-error", "declined"),
            ],
        }
    }

    #[test]
    fn a_copy_is_known_by_where_its_event_was() {
        let cause = is_copy(&letter(), &record("9007199254740993")).expect("it is the letter's");
        assert_eq!(cause.why.message.as_deref(), Some("declined"));
        assert!(is_copy(&letter(), &record("9007199254740992")).is_none());
        let other = Letter { consumer: "shipping".to_owned(), ..letter() };
        assert!(is_copy(&other, &record("9007199254740993")).is_none());
    }

    #[test]
    fn nobody_says_that_a_letter_is_not_edited_without_having_looked() {
        assert_eq!((letter().edited, letter().state, letter().reason), (None, "dead", "unknown"));
        let note = |action: &str| ToldNote {
            action: action.to_owned(),
            by: "grace".to_owned(),
            reason: "a typo".to_owned(),
            at_ms: 1,
        };
        let with = |notes| Letter::from(&ToldLetter { notes: Some(notes), ..ToldLetter::default() }).edited;
        assert_eq!((with(Vec::new()), with(vec![note("edited")])), (Some(false), Some(true)));
    }

    #[test]
    fn letters_stand_at_one_word_or_anywhere() {
        assert_eq!(standing(None).expect("the default").as_deref(), Some("dead"));
        assert_eq!(standing(Some("any")).expect("a word"), None);
        assert_eq!(standing(Some("archived")).expect("a word").as_deref(), Some("archived"));
        assert_eq!(standing(Some("gone")).expect_err("no word").kind.code, "bad_request");
    }
}
