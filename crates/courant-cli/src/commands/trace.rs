//! `courant trace`: what belongs together, as a tree, as a sequence or as a table.

mod mermaid;
mod sequence;
mod tree;

use super::api::{client, failed};
use super::or_dash;
use crate::cli::{Global, Trace, View};
use crate::exit::{Exit, Failure, note};
use crate::output::{Format, Row, list};
use crate::text::one_line;
use courant_server::{ApiClient, path_part};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::io::{self, BufWriter, IsTerminal as _, Write};

/// Characters of one text of an event that a drawing shows.
const TEXT_CHARS_MAX: usize = 120;

/// A trace, or a page of it.
#[derive(Debug, Deserialize, Serialize)]
struct Found {
    id: String,
    joined_by: String,
    asked_event: Option<u64>,
    events: u64,
    dead_letters: u64,
    first: Option<String>,
    last: Option<String>,
    begins_before: bool,
    left_out: u64,
    nodes: Vec<Node>,
    unknown_parents: Vec<UnknownParent>,
    next: Option<String>,
    index: Index,
}

/// A page of the list of traces.
#[derive(Debug, Deserialize)]
struct Listing {
    traces: Vec<Listed>,
    next: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Listed {
    /// `None`: the records that say it have gone, or it is longer than can be asked for.
    id: Option<String>,
    root: Option<Root>,
}

/// The first event of a trace.
#[derive(Debug, Deserialize)]
struct Root {
    topic: String,
    partition: u32,
    offset: u64,
}

/// A cause that is in no index.
#[derive(Debug, Deserialize, Serialize)]
struct UnknownParent {
    event_id: String,
    children: Vec<u64>,
}

/// What the server's index knows.
#[derive(Debug, Deserialize, Serialize)]
struct Index {
    state: String,
    events: u64,
    events_max: u64,
    seen: u64,
    without_correlation: u64,
    behind: u64,
    passed_over: u64,
    complete_since: Option<String>,
}

/// An event of a trace, behind its cause.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
struct Node {
    n: usize,
    parent: Option<usize>,
    parent_state: String,
    depth: usize,
    kind: String,
    event_id: Option<String>,
    r#type: Option<String>,
    source: Option<String>,
    topic: Option<String>,
    partition: Option<u32>,
    offset: u64,
    time: Option<String>,
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_encoding: Option<String>,
    correlation_id: Option<String>,
    causation_id: Option<String>,
    size: Option<u64>,
    duplicate: bool,
    dead_letter: Option<DeadLetter>,
    gone: Option<String>,
}

/// Why somebody has given an event up.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
struct DeadLetter {
    consumer: Option<String>,
    attempts: Option<u64>,
    error_type: Option<String>,
    error: Option<String>,
    topic: Option<String>,
    partition: Option<i64>,
    offset: Option<i64>,
}

impl Node {
    /// What it is, in a word or two.
    fn name(&self) -> String {
        match (&self.r#type, &self.gone) {
            (Some(event_type), _) => short(event_type),
            (None, Some(_)) => "(gone)".to_owned(),
            (None, None) => "(no type)".to_owned(),
        }
    }

    /// Where its record is.
    fn place(&self) -> String {
        let partition = or_dash(self.partition);
        format!("{}/{partition}@{}", short(self.topic.as_deref().unwrap_or("-")), self.offset)
    }

    /// Who has published it, or for a dead letter who has given it up.
    fn actor(&self) -> Option<String> {
        let consumer = self.dead_letter.as_ref().and_then(|dead| dead.consumer.as_ref());
        consumer.or(self.source.as_ref()).map(|name| short(name))
    }

    fn at(&self) -> Option<Timestamp> {
        self.time.as_ref()?.parse().ok()
    }
}

impl DeadLetter {
    /// The failure in one line.
    fn sentence(&self) -> String {
        let consumer = short(self.consumer.as_deref().unwrap_or("a consumer"));
        let error_type =
            self.error_type.as_deref().map_or_else(String::new, |text| format!(": {}", short(text)));
        let error = self.error.as_deref().map_or_else(String::new, |text| format!(": {}", short(text)));
        let attempts = match self.attempts {
            None => String::new(),
            Some(1) => " (1 attempt)".to_owned(),
            Some(attempts) => format!(" ({attempts} attempts)"),
        };
        format!("{consumer} gave up{error_type}{error}{attempts}")
    }
}

/// A text that cannot command the terminal.
fn short(text: &str) -> String {
    one_line(text, TEXT_CHARS_MAX)
}

/// Milliseconds between two times, as people say them.
fn apart(ms: i64) -> String {
    let sign = if ms < 0 { "-" } else { "" };
    let ms = ms.unsigned_abs();
    let text = match ms {
        0..1_000 => format!("{ms}ms"),
        1_000..60_000 => format!("{}.{:03}s", ms / 1_000, ms % 1_000),
        60_000..3_600_000 => format!("{}m {}s", ms / 60_000, ms / 1_000 % 60),
        3_600_000..86_400_000 => format!("{}h {}m", ms / 3_600_000, ms / 60_000 % 60),
        _ => format!("{}d {}h", ms / 86_400_000, ms / 3_600_000 % 24),
    };
    format!("{sign}{text}")
}

impl Row for Node {
    const TITLES: &'static [&'static str] = &["n", "cause", "kind", "type", "source", "place", "time", "key"];

    fn cells(&self) -> Vec<String> {
        let cause = match (self.parent, self.parent_state.as_str()) {
            (Some(parent), _) => parent.to_string(),
            (None, "unknown") => "?".to_owned(),
            (None, _) => "-".to_owned(),
        };
        vec![
            self.n.to_string(),
            cause,
            self.kind.clone(),
            self.name(),
            or_dash(self.actor()),
            self.place(),
            or_dash(self.time.as_ref()),
            or_dash(self.key.as_ref()),
        ]
    }
}

/// Asks and shows.
pub(super) async fn run(global: &Global, args: &Trace) -> Result<Exit, Failure> {
    let client = client(global, &args.http)?;
    if args.mermaid && args.view == Some(View::Table) {
        return Err(Failure::new(
            Exit::Usage,
            "a table is not drawn with --mermaid; choose tree or sequence",
        ));
    }
    let id = match &args.id {
        Some(id) => id.clone(),
        None => last_failed(global, &client).await?,
    };
    let found = whole(&client, &id, args.limit as usize).await?;
    let mut out = BufWriter::new(io::stdout().lock());
    let written = if args.mermaid {
        match args.view {
            Some(View::Sequence) => out.write_all(mermaid::sequence(&found.nodes).as_bytes()),
            _ => out.write_all(mermaid::tree(&found.nodes).as_bytes()),
        }
    } else {
        let is_for_people = args.view.is_some() || io::stdout().is_terminal();
        match (global.output, args.view) {
            (Some(Format::Json), _) => serde_json::to_writer_pretty(&mut out, &found)
                .map_err(io::Error::from)
                .and_then(|()| writeln!(out)),
            (Some(Format::Jsonl), _) => list(&mut out, Format::Jsonl, &found.nodes),
            (None, _) if !is_for_people => list(&mut out, Format::Jsonl, &found.nodes),
            (Some(Format::Table), None) | (_, Some(View::Table)) => {
                list(&mut out, Format::Table, &found.nodes)
            }
            (_, Some(View::Sequence)) => out.write_all(sequence::drawn(&found.nodes).as_bytes()),
            (_, Some(View::Tree) | None) => out.write_all(tree::drawn(&found.nodes).as_bytes()),
        }
    };
    written.and_then(|()| out.flush()).map_err(|error| Failure::output(&error))?;
    if !global.quiet {
        remark(&found);
    }
    Ok(Exit::Ok)
}

/// The trace with a dead letter that has changed last, of those that can be asked for. Says where it is not the last.
async fn last_failed(global: &Global, client: &ApiClient) -> Result<String, Failure> {
    let (mut after, mut passed) = (String::new(), Passed::default());
    loop {
        let path = format!("/traces?failed=true&limit=10{after}");
        let page: Listing = client.get(&path).await.map_err(|error| failed(&error))?;
        for Listed { id, root } in page.traces {
            let Some(id) = id else {
                passed.add(root);
                continue;
            };
            if passed.traces > 0 && !global.quiet {
                note(format_args!("This is not the last failure: {}.", passed.sentence()));
            }
            return Ok(id);
        }
        // A page may be empty although there are more.
        let Some(next) = page.next else {
            let none = "no trace that the server knows has a dead letter".to_owned();
            let sentence = if passed.traces > 0 { passed.sentence() } else { none };
            return Err(Failure::new(Exit::NotFound, sentence));
        };
        after = format!("&after={}", path_part(&next));
    }
}

/// Traces with dead letters that cannot be asked for.
#[derive(Debug, Default)]
struct Passed {
    traces: u64,
    /// The first event of the one that has changed last, of those that have one.
    root: Option<Root>,
}

impl Passed {
    fn add(&mut self, root: Option<Root>) {
        self.traces += 1;
        self.root = self.root.take().or(root);
    }

    /// Without a full stop.
    fn sentence(&self) -> String {
        let traces = if self.traces == 1 { "trace" } else { "traces" };
        let place = self.root.as_ref().map_or_else(String::new, |Root { topic, partition, offset }| {
            format!("; the last whose first event is there begins at {}/{partition}@{offset}", short(topic))
        });
        format!(
            "{} {traces} with dead letters cannot be asked for, because records are gone or an id is too long{place}",
            self.traces
        )
    }
}

/// As many pages as are asked for, put together.
async fn whole(client: &ApiClient, id: &str, limit: usize) -> Result<Found, Failure> {
    let path = format!("/traces/{}", path_part(id));
    let page =
        |after: &str, limit: usize| format!("{path}?limit={}&after={}", limit.min(1000), path_part(after));
    let mut found: Found = client.get(&page("0", limit)).await.map_err(|error| failed(&error))?;
    while let Some(after) = found.next.clone()
        && found.nodes.len() < limit
    {
        let left = limit - found.nodes.len();
        let more: Found = client.get(&page(&after, left)).await.map_err(|error| failed(&error))?;
        if more.nodes.is_empty() {
            break;
        }
        found.nodes.extend(more.nodes);
        found.next = more.next;
        for unknown in more.unknown_parents {
            match found.unknown_parents.iter_mut().find(|known| known.event_id == unknown.event_id) {
                Some(known) => known.children.extend(unknown.children),
                None => found.unknown_parents.push(unknown),
            }
        }
    }
    Ok(found)
}

/// Says what the picture does not show.
fn remark(found: &Found) {
    let Found { events, dead_letters, joined_by, index, .. } = found;
    let word = if joined_by == "event" { "event id" } else { joined_by.as_str() };
    note(format_args!("{events} events, {dead_letters} of them dead letters; {word} {}", short(&found.id)));
    let shown = found.nodes.len() as u64;
    if *events > shown {
        note(format_args!("{} more are not shown; ask for them with --limit.", events - shown));
    }
    let unknown = found.unknown_parents.len();
    if unknown > 0 {
        note(format_args!("{unknown} causes are not indexed."));
    }
    if found.begins_before {
        note(format_args!("It begins earlier: its oldest events are forgotten."));
    }
    if let Some(since) = &index.complete_since {
        note(format_args!("Events before {} are not indexed.", short(since)));
    }
    if index.state == "failed" {
        note(format_args!("The index stands still because of a defect; the log of the server says which."));
    }
    if index.state == "building" {
        note(format_args!("The index is being built; there may be more in a moment."));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A node of a trace in tests.
    pub(super) fn node(
        n: usize,
        parent: Option<usize>,
        depth: usize,
        event_type: &str,
        source: &str,
    ) -> Node {
        Node {
            n,
            parent,
            depth,
            parent_state: if parent.is_some() { "known" } else { "root" }.to_owned(),
            kind: "event".to_owned(),
            r#type: Some(event_type.to_owned()),
            source: Some(source.to_owned()),
            topic: Some("t".to_owned()),
            partition: Some(0),
            offset: n as u64,
            time: Some(format!("2026-01-31T08:00:0{}.000Z", n % 10)),
            ..Node::default()
        }
    }

    /// One whose record is a dead letter.
    pub(super) fn dead(n: usize, parent: usize, depth: usize) -> Node {
        let dead_letter = DeadLetter {
            consumer: Some("billing".to_owned()),
            attempts: Some(5),
            error_type: Some("Declined".to_owned()),
            error: Some("no\u{1b}[31m".to_owned()),
            ..DeadLetter::default()
        };
        Node {
            kind: "dead_letter".to_owned(),
            dead_letter: Some(dead_letter),
            ..node(n, Some(parent), depth, "order.placed", "shop")
        }
    }

    #[test]
    fn times_apart_are_short() {
        let expected = ["0ms", "999ms", "1.000s", "59.999s", "1m 0s", "1h 1m", "1d 1h", "-5ms"];
        let found = [0, 999, 1_000, 59_999, 60_000, 3_660_000, 90_000_000, -5].map(apart);
        assert_eq!(found, expected);
    }

    #[test]
    fn a_dead_letter_says_who_gave_up_and_why() {
        let node = dead(1, 0, 1);
        let sentence = node.dead_letter.as_ref().map(DeadLetter::sentence).expect("a dead letter");
        assert_eq!(sentence, "billing gave up: Declined: no\\u{1b}[31m (5 attempts)");
        assert_eq!(node.actor().as_deref(), Some("billing"));
        assert_eq!(node.cells().len(), Node::TITLES.len());
    }
}
