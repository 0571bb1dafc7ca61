//! Dead letters, and what becomes of them, as they are written to stdout.

use super::letters::{group_name, name_of};
use crate::commands::or_dash;
use crate::output::Row;
use crate::text::Text;
use crate::time::rfc3339;
use bytes::Bytes;
use courant::channel::{FailureState, RedriveProgress, RedriveResult};
use courant_sql::{
    DeadAction, DeadGroup, DeadLetter, DeadNote, DeadReason, DeadState, DeadSummary, Event, Redrive,
    RedriveEvent, RedriveEventState, RedriveState,
};
use serde::Serialize;

/// A failure in `dlq list`.
#[derive(Debug, Serialize)]
pub(super) struct GroupRow {
    group: String,
    consumer: String,
    /// The error's type.
    error: String,
    place: String,
    letters: u64,
    /// The last failure of the letter that has waited longest, RFC 3339.
    first: Option<String>,
    last: Option<String>,
}

impl GroupRow {
    /// What a service says of a failure.
    pub(super) fn told(consumer: &str, failure: &FailureState) -> Self {
        Self {
            group: failure.group.clone(),
            consumer: consumer.to_owned(),
            error: failure.error.clone(),
            place: failure.place.clone(),
            letters: failure.letters,
            first: rfc3339(failure.oldest_ms),
            last: rfc3339(failure.newest_ms),
        }
    }
}

impl From<&DeadGroup> for GroupRow {
    fn from(group: &DeadGroup) -> Self {
        Self {
            group: group_name(group),
            consumer: group.consumer.to_string(),
            error: group.kind.clone(),
            place: group.place.clone(),
            letters: group.events,
            first: rfc3339(group.oldest_ms),
            last: rfc3339(group.newest_ms),
        }
    }
}

impl Row for GroupRow {
    const TITLES: &'static [&'static str] =
        &["group", "consumer", "letters", "first", "last", "error", "place"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.group.clone(),
            self.consumer.clone(),
            self.letters.to_string(),
            or_dash(self.first.as_ref()),
            or_dash(self.last.as_ref()),
            self.error.clone(),
            self.place.clone(),
        ]
    }
}

/// A letter without its bytes.
#[derive(Debug, Serialize)]
pub(super) struct LetterRow {
    id: i64,
    consumer: String,
    generation: u32,
    topic: String,
    partition: u32,
    offset: u64,
    event_id: String,
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_encoding: Option<&'static str>,
    state: &'static str,
    reason: &'static str,
    /// Later events of its key wait for it.
    blocks_key: bool,
    attempts: u32,
    first_failed: Option<String>,
    last_failed: Option<String>,
    group: String,
    error: String,
    place: String,
    /// The error and what caused it, from the outside in.
    message: String,
    /// The version of the service that gave up.
    code_version: String,
}

impl From<&DeadSummary> for LetterRow {
    fn from(letter: &DeadSummary) -> Self {
        let (key, key_encoding) = printed(letter.key.as_ref());
        let DeadSummary { failure, position, consumer, .. } = letter;
        Self {
            id: letter.id,
            consumer: consumer.name.to_string(),
            generation: consumer.generation,
            topic: position.topic.to_string(),
            partition: position.partition,
            offset: position.offset,
            event_id: letter.event_id.to_string(),
            key,
            key_encoding,
            state: state_name(letter.state),
            reason: match letter.reason {
                DeadReason::Exhausted => "exhausted",
                DeadReason::Undecodable => "undecodable",
                DeadReason::Refused => "refused",
            },
            blocks_key: letter.blocks_key,
            attempts: letter.attempts,
            first_failed: rfc3339(letter.first_failed_ms),
            last_failed: rfc3339(letter.last_failed_ms),
            group: name_of(consumer.name.as_str(), &failure.kind, &failure.place),
            error: failure.kind.clone(),
            place: failure.place.clone(),
            message: failure.message.clone(),
            code_version: letter.code_version.clone(),
        }
    }
}

impl LetterRow {
    fn position(&self) -> String {
        format!("{}/{}@{}", self.topic, self.partition, self.offset)
    }
}

impl Row for LetterRow {
    const TITLES: &'static [&'static str] =
        &["id", "consumer", "position", "key", "state", "attempts", "last failed", "message"];
    const WIDTHS: &'static [usize] = &[6, 16, 24, 16, 9, 8, 24];

    fn cells(&self) -> Vec<String> {
        vec![
            self.id.to_string(),
            self.consumer.clone(),
            self.position(),
            or_dash(self.key.as_ref()),
            self.state.to_owned(),
            self.attempts.to_string(),
            or_dash(self.last_failed.as_ref()),
            self.message.clone(),
        ]
    }
}

/// A letter with all that is known of it.
#[derive(Debug, Serialize)]
pub(super) struct WholeLetter {
    #[serde(flatten)]
    letter: LetterRow,
    /// Of the event, RFC 3339.
    timestamp: Option<String>,
    #[serde(flatten)]
    bytes: Content,
    /// What people have done with it.
    notes: Vec<Note>,
}

/// What an event says.
#[derive(Debug, Serialize)]
struct Content {
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_encoding: Option<&'static str>,
    headers: Vec<Header>,
}

/// A header: a list, because names may repeat and their order counts.
#[derive(Debug, Serialize)]
struct Header {
    key: String,
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_encoding: Option<&'static str>,
}

/// What somebody has done with a letter.
#[derive(Debug, Serialize)]
struct Note {
    action: &'static str,
    by: String,
    reason: String,
    at: Option<String>,
    /// What the event was before it was edited.
    #[serde(skip_serializing_if = "Option::is_none")]
    original: Option<Original>,
}

#[derive(Debug, Serialize)]
struct Original {
    event_id: String,
    #[serde(flatten)]
    bytes: Content,
}

impl Content {
    fn of(value: Option<&Bytes>, headers: &[(String, Bytes)]) -> Self {
        let (value, value_encoding) = printed(value);
        let headers = headers.iter().map(|(name, value)| {
            let (value, value_encoding) = printed(Some(value));
            Header { key: name.clone(), value, value_encoding }
        });
        Self { value, value_encoding, headers: headers.collect() }
    }
}

impl Note {
    fn of(note: &DeadNote) -> Self {
        let original = note.original.as_ref().map(|original| Original {
            event_id: original.event_id.to_string(),
            bytes: Content::of(original.value.as_ref(), &original.headers),
        });
        let action = match note.action {
            DeadAction::Edited => "edited",
            DeadAction::Discarded => "discarded",
            DeadAction::Archived => "archived",
            DeadAction::Restored => "restored",
        };
        Self { action, by: note.by.clone(), reason: note.reason.clone(), at: rfc3339(note.at_ms), original }
    }
}

impl WholeLetter {
    pub(super) fn of(letter: &DeadLetter, notes: &[DeadNote]) -> Self {
        let DeadLetter { summary, event } = letter;
        let Event { value, headers, timestamp_ms, .. } = event;
        Self {
            letter: LetterRow::from(summary),
            timestamp: rfc3339(*timestamp_ms),
            bytes: Content::of(value.as_ref(), headers),
            notes: notes.iter().map(Note::of).collect(),
        }
    }

    /// For people: one line for each thing that is known.
    pub(super) fn lines(&self) -> Vec<Line> {
        let LetterRow { id, consumer, generation, event_id, state, reason, attempts, .. } = &self.letter;
        let letter = &self.letter;
        let mut lines = vec![
            line("letter", id),
            line("state", format!("{state} ({reason})")),
            line("consumer", format!("{consumer}, generation {generation}")),
            line("position", letter.position()),
            line("event", event_id),
            line("key", or_dash(letter.key.as_ref())),
            line("later events of its key", if letter.blocks_key { "wait for it" } else { "go on" }),
            line("attempts", attempts),
            line("first failed", or_dash(letter.first_failed.as_ref())),
            line("last failed", or_dash(letter.last_failed.as_ref())),
            line("group", &letter.group),
            line("error", &letter.error),
            line("place", &letter.place),
            line("message", &letter.message),
            line("code version", &letter.code_version),
            line("timestamp", or_dash(self.timestamp.as_ref())),
        ];
        for header in &self.bytes.headers {
            lines.push(line(&format!("header {}", header.key), or_dash(header.value.as_ref())));
        }
        lines.push(line(
            self.bytes.value_encoding.map_or("value", |_| "value (base64)"),
            or_dash(self.bytes.value.as_ref()),
        ));
        for Note { action, by, reason, at, original } in &self.notes {
            lines.push(line(action, format!("{} by {by}: {reason}", or_dash(at.as_ref()))));
            if let Some(original) = original {
                lines.push(line("original event", &original.event_id));
                lines.push(line("original value", or_dash(original.bytes.value.as_ref())));
            }
        }
        lines
    }
}

impl Row for WholeLetter {
    const TITLES: &'static [&'static str] = LetterRow::TITLES;

    fn cells(&self) -> Vec<String> {
        self.letter.cells()
    }
}

/// One thing that is known of a letter.
#[derive(Debug, Serialize)]
pub(super) struct Line {
    name: String,
    value: String,
}

fn line(name: &str, value: impl ToString) -> Line {
    Line { name: name.to_owned(), value: value.to_string() }
}

impl Row for Line {
    const TITLES: &'static [&'static str] = &["name", "value"];

    fn cells(&self) -> Vec<String> {
        vec![self.name.clone(), self.value.clone()]
    }
}

/// A redrive and how far it is.
#[derive(Debug, Serialize)]
pub(super) struct RedriveRow {
    id: String,
    state: &'static str,
    letters: u64,
    pending: u64,
    delivering: u64,
    handled: u64,
    failed: u64,
    cancelled: u64,
    requested_by: String,
    requested: Option<String>,
    finished: Option<String>,
    /// What was asked for, as JSON text.
    filter: String,
}

impl From<&Redrive> for RedriveRow {
    fn from(redrive: &Redrive) -> Self {
        Self {
            id: redrive.id.clone(),
            state: match redrive.state {
                RedriveState::Running => "running",
                RedriveState::Done => "done",
                RedriveState::Cancelled => "cancelled",
            },
            letters: total(redrive),
            pending: redrive.pending,
            delivering: redrive.delivering,
            handled: redrive.handled,
            failed: redrive.failed,
            cancelled: redrive.cancelled,
            requested_by: redrive.requested_by.clone(),
            requested: rfc3339(redrive.requested_ms),
            finished: redrive.finished_ms.and_then(rfc3339),
            filter: redrive.filter.clone(),
        }
    }
}

impl From<&RedriveProgress> for RedriveRow {
    fn from(progress: &RedriveProgress) -> Self {
        let RedriveProgress { pending, delivering, handled, failed, cancelled, .. } = *progress;
        Self {
            id: progress.id.clone(),
            state: match progress.state.as_str() {
                "running" => "running",
                "done" => "done",
                "cancelled" => "cancelled",
                _ => "unknown",
            },
            letters: pending + delivering + handled + failed + cancelled,
            pending,
            delivering,
            handled,
            failed,
            cancelled,
            requested_by: progress.requested_by.clone(),
            requested: rfc3339(progress.requested_ms),
            finished: progress.finished_ms.and_then(rfc3339),
            filter: progress.filter.clone(),
        }
    }
}

impl RedriveRow {
    /// How many letters it has.
    pub(super) fn letters(&self) -> u64 {
        self.letters
    }
}

/// How many letters a redrive has.
pub(super) fn total(redrive: &Redrive) -> u64 {
    redrive.pending + redrive.delivering + redrive.handled + redrive.failed + redrive.cancelled
}

impl Row for RedriveRow {
    const TITLES: &'static [&'static str] =
        &["id", "state", "letters", "pending", "delivering", "handled", "failed", "cancelled", "by"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.id.clone(),
            self.state.to_owned(),
            self.letters.to_string(),
            self.pending.to_string(),
            self.delivering.to_string(),
            self.handled.to_string(),
            self.failed.to_string(),
            self.cancelled.to_string(),
            self.requested_by.clone(),
        ]
    }
}

/// What a redrive has made of one letter.
#[derive(Debug, Serialize)]
pub(super) struct ResultRow {
    letter: i64,
    result: &'static str,
    since: Option<String>,
    /// Where the letter stands today.
    state: &'static str,
}

impl From<&RedriveResult> for ResultRow {
    fn from(result: &RedriveResult) -> Self {
        let known = |word: &str, words: &[&'static str]| {
            words.iter().find(|known| **known == word).copied().unwrap_or("unknown")
        };
        Self {
            letter: result.letter,
            result: known(&result.result, &["pending", "delivering", "handled", "failed", "cancelled"]),
            since: rfc3339(result.since_ms),
            state: known(&result.state, &["dead", "redriving", "redriven", "discarded", "archived"]),
        }
    }
}

impl From<&RedriveEvent> for ResultRow {
    fn from(event: &RedriveEvent) -> Self {
        Self {
            letter: event.dead_id,
            result: match event.state {
                RedriveEventState::Pending => "pending",
                RedriveEventState::Delivering => "delivering",
                RedriveEventState::Handled => "handled",
                RedriveEventState::Failed => "failed",
                RedriveEventState::Cancelled => "cancelled",
            },
            since: rfc3339(event.changed_ms),
            state: state_name(event.dead_state),
        }
    }
}

impl Row for ResultRow {
    const TITLES: &'static [&'static str] = &["letter", "result", "since", "state"];
    const WIDTHS: &'static [usize] = &[8, 10, 24];

    fn cells(&self) -> Vec<String> {
        vec![
            self.letter.to_string(),
            self.result.to_owned(),
            or_dash(self.since.as_ref()),
            self.state.to_owned(),
        ]
    }
}

/// The word for where a letter stands.
pub(super) fn state_name(state: DeadState) -> &'static str {
    match state {
        DeadState::Dead => "dead",
        DeadState::Redriving => "redriving",
        DeadState::Redriven => "redriven",
        DeadState::Discarded => "discarded",
        DeadState::Archived => "archived",
    }
}

fn printed(bytes: Option<&Bytes>) -> (Option<String>, Option<&'static str>) {
    match bytes.map(|bytes| Text::of(bytes)) {
        Some(Text { text, encoding }) => (Some(text), encoding),
        None => (None, None),
    }
}
