//! Letters of others, as they are written to stdout.

use crate::commands::or_dash;
use crate::output::Row;
use crate::text::Text;
use crate::time::rfc3339;
use bytes::Bytes;
use serde::Serialize;

use super::decisions::Decision;
use super::letter::Letter;

/// A failure in `dlq foreign list`.
#[derive(Debug, Serialize)]
pub(super) struct GroupRow {
    pub(super) group: String,
    /// Who has written the letters.
    framework: &'static str,
    /// The topic that they come from.
    original: Option<String>,
    consumer: Option<String>,
    pub(super) letters: u64,
    /// When the oldest and the newest of them were written, RFC 3339.
    first: Option<String>,
    last: Option<String>,
    error: Option<String>,
    #[serde(skip)]
    times: (i64, i64),
}

impl GroupRow {
    /// A failure with its first letter.
    pub(super) fn of(letter: &Letter) -> Self {
        let at_ms = letter.timestamp_ms;
        Self {
            group: letter.group(),
            framework: letter.framework.name(),
            original: letter.origin.topic.clone(),
            consumer: letter.consumer.clone(),
            letters: 1,
            first: rfc3339(at_ms),
            last: rfc3339(at_ms),
            error: letter.why.error.clone(),
            times: (at_ms, at_ms),
        }
    }

    /// One more.
    pub(super) fn add(&mut self, letter: &Letter) {
        self.letters += 1;
        let (first, last) = self.times;
        self.times = (first.min(letter.timestamp_ms), last.max(letter.timestamp_ms));
        (self.first, self.last) = (rfc3339(self.times.0), rfc3339(self.times.1));
    }
}

impl Row for GroupRow {
    const TITLES: &'static [&'static str] =
        &["group", "framework", "from", "consumer", "letters", "first", "last", "error"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.group.clone(),
            self.framework.to_owned(),
            or_dash(self.original.as_ref()),
            or_dash(self.consumer.as_ref()),
            self.letters.to_string(),
            or_dash(self.first.as_ref()),
            or_dash(self.last.as_ref()),
            or_dash(self.error.as_ref()),
        ]
    }
}

/// A letter without its bytes.
#[derive(Debug, Serialize)]
pub(super) struct LetterRow {
    letter: String,
    framework: &'static str,
    /// Where it comes from.
    original: Option<String>,
    original_partition: Option<i32>,
    original_offset: Option<i64>,
    original_timestamp: Option<String>,
    consumer: Option<String>,
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_encoding: Option<&'static str>,
    /// `dead` until somebody decides.
    state: &'static str,
    /// When it was written, RFC 3339.
    timestamp: Option<String>,
    group: String,
    error: Option<String>,
    message: Option<String>,
}

impl LetterRow {
    pub(super) fn of(letter: &Letter, decision: Option<&Decision>) -> Self {
        let (key, key_encoding) = printed(letter.key.as_ref());
        Self {
            letter: letter.at.to_string(),
            framework: letter.framework.name(),
            original: letter.origin.topic.clone(),
            original_partition: letter.origin.partition,
            original_offset: letter.origin.offset,
            original_timestamp: letter.origin.timestamp_ms.and_then(rfc3339),
            consumer: letter.consumer.clone(),
            key,
            key_encoding,
            state: decision.map_or("dead", |decision| decision.state.name()),
            timestamp: rfc3339(letter.timestamp_ms),
            group: letter.group(),
            error: letter.why.error.clone(),
            message: letter.why.message.clone(),
        }
    }

    fn position(&self) -> String {
        let number = |number: Option<String>| number.unwrap_or_else(|| "?".to_owned());
        match &self.original {
            None => "-".to_owned(),
            Some(topic) => format!(
                "{topic}/{}@{}",
                number(self.original_partition.map(|number| number.to_string())),
                number(self.original_offset.map(|number| number.to_string()))
            ),
        }
    }
}

impl Row for LetterRow {
    const TITLES: &'static [&'static str] =
        &["letter", "from", "consumer", "key", "state", "time", "error", "message"];
    const WIDTHS: &'static [usize] = &[8, 20, 12, 12, 9, 24, 32];

    fn cells(&self) -> Vec<String> {
        vec![
            self.letter.clone(),
            self.position(),
            or_dash(self.consumer.as_ref()),
            or_dash(self.key.as_ref()),
            self.state.to_owned(),
            or_dash(self.timestamp.as_ref()),
            or_dash(self.error.as_ref()),
            or_dash(self.message.as_ref()),
        ]
    }
}

/// A letter with everything that is known of it.
#[derive(Debug, Serialize)]
pub(super) struct WholeLetter {
    #[serde(flatten)]
    row: LetterRow,
    /// What the error was wrapped in.
    wrapped_in: Option<String>,
    /// What has caused the error, from the outside in.
    causes: Vec<String>,
    /// What else the framework says, by its name.
    more: Vec<(&'static str, String)>,
    stack_trace: Option<String>,
    decision: Option<Decision>,
    /// The headers of the event, without those of the letter.
    headers: Vec<HeaderRow>,
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_encoding: Option<&'static str>,
}

#[derive(Debug, Serialize)]
struct HeaderRow {
    key: String,
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_encoding: Option<&'static str>,
}

impl WholeLetter {
    pub(super) fn of(letter: &Letter, decision: Option<&Decision>) -> Self {
        let (value, value_encoding) = printed(letter.value.as_ref());
        let headers = letter.event_headers().map(|(name, value)| {
            let (value, value_encoding) = printed(value.as_ref());
            HeaderRow { key: String::from_utf8_lossy(name).into_owned(), value, value_encoding }
        });
        Self {
            row: LetterRow::of(letter, decision),
            wrapped_in: letter.why.wrapped_in.clone(),
            causes: letter.causes(),
            more: letter.why.more.clone(),
            stack_trace: letter.why.stack_trace.clone(),
            decision: decision.cloned(),
            headers: headers.collect(),
            value,
            value_encoding,
        }
    }

    /// The same, for people: what is missing is left out.
    pub(super) fn lines(&self) -> Vec<Line> {
        let row = &self.row;
        let mut lines = Lines(Vec::new());
        lines.add("letter", Some(&row.letter));
        lines.add("state", Some(row.state));
        if let Some(decision) = &self.decision {
            lines.add("decided by", Some(&decision.by));
            lines.add("decided at", rfc3339(decision.at_ms).as_deref());
            lines.add("reason", decision.reason.as_deref());
            lines.add("redrive", decision.redrive.as_deref());
        }
        lines.add("framework", Some(row.framework));
        lines.add("from", Some(&row.position()));
        lines.add("consumer", row.consumer.as_deref());
        lines.add("key", row.key.as_deref());
        lines.add("written", row.timestamp.as_deref());
        lines.add("first published", row.original_timestamp.as_deref());
        lines.add("group", Some(&row.group));
        lines.add("error", row.error.as_deref());
        lines.add("wrapped in", self.wrapped_in.as_deref());
        lines.add("message", row.message.as_deref());
        for cause in &self.causes {
            lines.add("caused by", Some(cause));
        }
        for (name, value) in &self.more {
            lines.add(name, Some(value));
        }
        for header in &self.headers {
            lines.add(&format!("header {}", header.key), header.value.as_deref());
        }
        lines.add("value", self.value.as_deref());
        lines.0
    }
}

impl Row for WholeLetter {
    const TITLES: &'static [&'static str] = LetterRow::TITLES;
    const WIDTHS: &'static [usize] = LetterRow::WIDTHS;

    fn cells(&self) -> Vec<String> {
        self.row.cells()
    }
}

/// A line of a letter.
#[derive(Debug, Serialize)]
pub(super) struct Line {
    name: String,
    value: String,
}

impl Row for Line {
    const TITLES: &'static [&'static str] = &["name", "value"];

    fn cells(&self) -> Vec<String> {
        vec![self.name.clone(), self.value.clone()]
    }
}

struct Lines(Vec<Line>);

impl Lines {
    fn add(&mut self, name: &str, value: Option<&str>) {
        self.0.extend(value.map(|value| Line { name: name.to_owned(), value: value.to_owned() }));
    }
}

/// The text of some bytes and, when it is not the bytes themselves, its encoding.
fn printed(bytes: Option<&Bytes>) -> (Option<String>, Option<&'static str>) {
    match bytes.map(|bytes| Text::of(bytes)) {
        Some(text) => (Some(text.text), text.encoding),
        None => (None, None),
    }
}
