//! `courant find`: a search of the server, watched to its end.

use super::api::{client, failed};
use super::{interrupted, or_dash, shows_progress};
use crate::cli::{Find, Global};
use crate::exit::{Exit, Failure, note};
use crate::output::{Format, Row, Stream};
use crate::time::{StartFrom, ago_ms, rfc3339};
use courant_server::{ApiClient, path_part};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::io::{self, BufWriter, StdoutLock, Write};
use std::time::Duration;
use tokio::time::sleep;

/// From one look at the search to the next.
const LOOK: Duration = Duration::from_millis(200);

/// How far the search is.
#[derive(Debug, Deserialize)]
struct Progress {
    id: String,
    status: String,
    reason: Option<String>,
    scanned: u64,
    of: Option<u64>,
    found: u64,
    gaps: Vec<Gap>,
    gaps_left_out: u64,
}

/// Events that could not be looked at.
#[derive(Debug, Deserialize)]
struct Gap {
    topic: String,
    partition: u32,
    first_offset: u64,
    last_offset: Option<u64>,
    code: String,
    reason: String,
}

/// Some of what was found.
#[derive(Debug, Deserialize)]
struct Results {
    records: Vec<FoundEvent>,
    next: Option<String>,
}

/// An event that was found, with all that the server says of it.
#[derive(Debug, Deserialize, Serialize)]
struct FoundEvent {
    topic: String,
    partition: u32,
    offset: u64,
    timestamp: Option<String>,
    key: Option<String>,
    value: Option<String>,
    #[serde(flatten)]
    more: Map<String, Value>,
}

impl Row for FoundEvent {
    const TITLES: &'static [&'static str] = &["topic", "part", "offset", "time", "key", "value"];
    const WIDTHS: &'static [usize] = &[16, 4, 8, 24, 12];

    fn cells(&self) -> Vec<String> {
        vec![
            self.topic.clone(),
            self.partition.to_string(),
            self.offset.to_string(),
            or_dash(self.timestamp.as_ref()),
            or_dash(self.key.as_ref()),
            or_dash(self.value.as_ref()),
        ]
    }
}

/// Searches and prints.
pub(super) async fn run(global: &Global, args: &Find) -> Result<Exit, Failure> {
    let client = client(global, &args.http)?;
    let begun: Progress = client.post("/searches", &wanted(args)?).await.map_err(|error| failed(&error))?;
    let path = format!("/searches/{}", path_part(&begun.id));
    let mut stream = Stream::new(BufWriter::new(io::stdout().lock()), Format::or_default(global.output));
    let watched = tokio::select! {
        watched = watch(global, &client, &path, &mut stream) => watched.map(Some),
        () = interrupted() => Ok(None),
    };
    if shows_progress(global) {
        erase();
    }
    // However it ends, what was printed is one document.
    let finished = stream.finish().map_err(|error| Failure::output(&error));
    let limit = u64::from(args.limit);
    let ended = match watched {
        Ok(Some(ended)) => ended,
        Ok(None) => {
            let cancelled: Progress = client.delete(&path).await.map_err(|error| failed(&error))?;
            report(global, &cancelled, limit);
            return Ok(Exit::Interrupted);
        }
        Err(failure) => {
            // Nobody reads what it would find.
            let _ = client.delete::<Progress>(&path).await;
            return Err(failure);
        }
    };
    finished?;
    report(global, &ended, limit);
    judged(ended, limit)
}

/// How the command ends with a search that has ended by itself, or by somebody else. One that has found as many as
/// were asked for is whole.
fn judged(ended: Progress, limit: u64) -> Result<Exit, Failure> {
    let is_cut = is_cut(&ended, limit);
    let Progress { status, reason, gaps, .. } = ended;
    match status.as_str() {
        "done" if is_cut => {
            let why = reason.unwrap_or(status);
            let sentence = format!(
                "the search has not come to its end: {why}; ask again for less, by --partition, --from and --to"
            );
            Err(Failure::new(Exit::Partly, sentence))
        }
        "done" if gaps.is_empty() => Ok(Exit::Ok),
        "done" => Ok(Exit::Partly),
        "failed" => Err(Failure::new(Exit::Failed, reason.unwrap_or(status))),
        _ => {
            let why = reason.unwrap_or(status);
            let sentence =
                format!("the search has not come to its end: {why}; ask again for what may be missing");
            Err(Failure::new(Exit::Partly, sentence))
        }
    }
}

/// Whether no more was kept of what it found, although more was asked for. Of a search that came to the end of the
/// topics there is no reason.
fn is_cut(ended: &Progress, limit: u64) -> bool {
    ended.status == "done" && ended.reason.is_some() && ended.found < limit
}

/// Prints what is found until the search has ended.
async fn watch(
    global: &Global,
    client: &ApiClient,
    path: &str,
    stream: &mut Stream<BufWriter<StdoutLock<'_>>>,
) -> Result<Progress, Failure> {
    let mut after = "0".to_owned();
    loop {
        let page = format!("{path}/results?limit=1000&after={}", path_part(&after));
        let results: Results = client.get(&page).await.map_err(|error| failed(&error))?;
        if shows_progress(global) && !results.records.is_empty() {
            erase();
        }
        for event in &results.records {
            stream.row(event).map_err(|error| Failure::output(&error))?;
        }
        stream.flush().map_err(|error| Failure::output(&error))?;
        let progress: Progress = client.get(path).await.map_err(|error| failed(&error))?;
        let Some(next) = results.next else { return Ok(progress) };
        after = next;
        if shows_progress(global) {
            show(&progress);
        }
        if results.records.is_empty() {
            sleep(LOOK).await;
        }
    }
}

/// One line about how far it is, over the last one.
fn show(progress: &Progress) {
    let Progress { status, scanned, of, found, .. } = progress;
    let percent = of.filter(|of| *of > 0).map(|of| u128::from(*scanned) * 100 / u128::from(of));
    let percent = percent.map_or_else(String::new, |percent| format!(" ({percent} %)"));
    let of = or_dash(of.as_ref());
    let mut stderr = io::stderr().lock();
    let _ = write!(stderr, "\r\u{1b}[K{status}: {scanned} of {of} looked at{percent}, {found} found");
    let _ = stderr.flush();
}

/// Takes that line away.
fn erase() {
    let mut stderr = io::stderr().lock();
    let _ = write!(stderr, "\r\u{1b}[K");
    let _ = stderr.flush();
}

/// What is left to say at the end, but for what the command fails with.
fn report(global: &Global, ended: &Progress, limit: u64) {
    for gap in &ended.gaps {
        let Gap { topic, partition, first_offset, last_offset, code, reason } = gap;
        let last = last_offset.map_or_else(|| "the end".to_owned(), |last| last.to_string());
        let place = format!("{topic}/{partition} offsets {first_offset} to {last}");
        note(format_args!("{}", crate::text::one_line(&format!("{place}: {code}: {reason}"), 2000)));
    }
    if ended.gaps_left_out > 0 {
        note(format_args!("{} more places could not be looked at.", ended.gaps_left_out));
    }
    if global.quiet {
        return;
    }
    let Progress { status, scanned, found, .. } = ended;
    note(format_args!("{status}: {found} found in {scanned} looked at."));
    if let Some(reason) = ended.reason.as_ref().filter(|_| status == "done" && !is_cut(ended, limit)) {
        note(format_args!("It ended because {}.", crate::text::one_line(reason, 2000)));
    }
}

/// What the server is asked for.
fn wanted(args: &Find) -> Result<Value, Failure> {
    let mut condition = Map::new();
    let texts = [("contains", &args.contains), ("key", &args.key), ("type", &args.event_type)];
    for (name, text) in texts {
        if let Some(text) = text {
            condition.insert(name.to_owned(), text.as_str().into());
        }
    }
    let named = |name: &str, value: &String| (name.to_owned(), value.clone());
    let id = args.id.as_ref().map(|id| named(courant_core::headers::ID, id));
    let correlation = args.correlation.as_ref().map(|id| named(courant_core::headers::CORRELATION_ID, id));
    if let Some((name, value)) = args.header.clone().or(id).or(correlation) {
        condition.insert("header".to_owned(), json!({ "name": name, "value": value }));
    }
    if let Some((pointer, text)) = &args.json {
        let equals = scalar(text)?;
        condition.insert("json".to_owned(), json!({ "pointer": pointer, "equals": equals }));
    }
    if let (Some(from), Some(to)) = (args.from, args.to)
        && is_behind(from, to)
    {
        let sentence = "--from is behind --to, so that there is nothing to look through; say the earlier place with \
                        --from";
        return Err(Failure::new(Exit::Usage, sentence));
    }
    let mut range = Map::new();
    for (name, place) in [("from", args.from), ("to", args.to)] {
        if let Some(place) = place {
            range.insert(name.to_owned(), words(place).into());
        }
    }
    let mut wanted =
        json!({ "topics": args.topics, "range": range, "where": condition, "limit": args.limit });
    if !args.partition.is_empty() {
        wanted["partitions"] = json!(args.partition);
    }
    Ok(wanted)
}

/// What stands in a value: JSON, or else a text.
fn scalar(text: &str) -> Result<Value, Failure> {
    match serde_json::from_str(text) {
        Ok(Value::Array(_) | Value::Object(_)) => {
            let sentence = "--json compares with a text, a number, true, false or null";
            Err(Failure::new(Exit::Usage, sentence))
        }
        // A number with more digits than its type has would be compared as another one.
        Ok(Value::Number(number)) if number.to_string() != text => {
            let sentence =
                format!("--json cannot compare with {text}; write it as {number}, or use --contains");
            Err(Failure::new(Exit::Usage, sentence))
        }
        Ok(value) => Ok(value),
        Err(_) => Ok(Value::String(text.to_owned())),
    }
}

/// Whether a place is behind another one in every partition. Of an offset and a time only the server could say.
fn is_behind(from: StartFrom, to: StartFrom) -> bool {
    let time = |place| match place {
        StartFrom::At(at_ms) => Some(at_ms),
        StartFrom::Ago(ago) => Some(ago_ms(ago)),
        _ => None,
    };
    match (from, to) {
        (StartFrom::Offset(from), StartFrom::Offset(to)) => from > to,
        (StartFrom::Last(from), StartFrom::Last(to)) => from < to,
        _ => matches!((time(from), time(to)), (Some(from), Some(to)) if from > to),
    }
}

/// A place in the words of the server.
fn words(place: StartFrom) -> String {
    match place {
        StartFrom::Start => "start".to_owned(),
        StartFrom::End => "end".to_owned(),
        // As a date: a number of the first years after 1970 would be taken for seconds. Before 1970 there is nothing.
        StartFrom::At(at_ms) => {
            rfc3339(at_ms.max(0)).map_or_else(|| format!("@{at_ms}"), |time| format!("@{time}"))
        }
        StartFrom::Ago(ago) => format!("@-{}ms", ago.as_millis()),
        StartFrom::Offset(offset) => offset.to_string(),
        StartFrom::Last(count) => format!("-{count}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser as _;

    fn asked(words: &[&str]) -> Value {
        let line = [&["courant", "find"][..], words].concat();
        let Ok(Command::Find(args)) = Cli::try_parse_from(line).map(|cli| cli.command) else {
            panic!("not find");
        };
        wanted(&args).expect("a good search")
    }

    #[test]
    fn a_search_is_asked_for_in_the_words_of_the_server() {
        let line = ["orders", "--id", "7", "--json", "/n=9007199254740993", "--from", "@-1h", "--limit", "5"];
        let expected = json!({
            "topics": ["orders"],
            "range": { "from": "@-3600000ms" },
            "where": {
                "header": { "name": "ce_id", "value": "7" },
                "json": { "pointer": "/n", "equals": 9_007_199_254_740_993_u64 },
            },
            "limit": 5,
        });
        assert_eq!(asked(&line), expected);
        let more = asked(&["a", "b", "-H", "x=y", "--partition", "0,2", "--to", "-10", "--contains", "z"]);
        assert_eq!((&more["partitions"], &more["range"]["to"]), (&json!([0, 2]), &json!("-10")));
        assert_eq!(more["where"], json!({ "contains": "z", "header": { "name": "x", "value": "y" } }));
        let times = asked(&["a", "--id", "7", "--from", "@1970-01-02T00:00:00Z", "--to", "@1769846400120"]);
        assert_eq!(
            times["range"]["from"], "@1970-01-02T00:00:00.000Z",
            "which the server does not take for seconds"
        );
        assert_eq!(times["range"]["to"], "@2026-01-31T08:00:00.120Z");
    }

    #[test]
    fn a_range_that_ends_before_it_begins_is_seen() {
        let is_behind = |from: &str, to: &str| {
            let place = |text: &str| text.parse::<StartFrom>().expect("a place");
            is_behind(place(from), place(to))
        };
        let pairs = [("2", "5"), ("-5", "-2"), ("@-2h", "@-1h"), ("@1769846400000", "@-1h")];
        for (early, late) in pairs {
            assert!(is_behind(late, early), "{late} to {early}");
            assert!(!is_behind(early, late) && !is_behind(early, early), "{early} to {late}");
        }
        // What partitions may differ in is asked of the server.
        for (from, to) in [("5", "-2"), ("5", "@-1h"), ("start", "0"), ("-1", "start")] {
            assert!(!is_behind(from, to), "{from} to {to}");
        }
    }

    #[test]
    fn what_is_no_json_is_a_text_and_no_digit_is_lost() {
        assert_eq!(scalar("XX").expect("a text"), json!("XX"));
        assert_eq!(scalar("\"17\"").expect("a text"), json!("17"));
        assert_eq!(scalar("null").expect("null"), Value::Null);
        assert!(scalar("[1]").is_err());
        assert!(scalar("123456789012345678901234567890").is_err());
    }

    /// A search that has found seven.
    fn search(status: &str, reason: Option<&str>, gaps: Value) -> Progress {
        let text = json!({
            "id": "1", "status": status, "reason": reason, "scanned": 10, "of": 20, "found": 7, "gaps": gaps,
            "gaps_left_out": 0,
        });
        serde_json::from_value(text).expect("a search")
    }

    /// Symptom: `courant find` ended with 0 when the server kept no more of what it found, as if there were no more to
    /// find. Cause: a search that was done was whole. Fix: it is whole at the end of the topics, and where it has found
    /// as many as were asked for.
    #[test]
    fn a_search_of_which_no_more_is_kept_is_not_whole() {
        let full = || search("done", Some("it kept 8388608 bytes of records; more may fit"), json!([]));
        let cut = judged(full(), 8).expect_err("it kept no more");
        assert_eq!(cut.exit, Exit::Partly);
        assert!(cut.sentence.contains("8388608 bytes"), "{cut:?}");
        assert_eq!(judged(full(), 7), Ok(Exit::Ok));
    }

    /// Symptom: `courant find` ended with 0 when its server stopped in the middle of a search, as if there were no more
    /// to find. Cause: only a search that had failed was no success. Fix: only one that is done is one.
    #[test]
    fn a_search_that_others_have_ended_is_no_success() {
        let ended = |status: &str, gaps: Value| {
            let reason = (status != "done").then_some("the server is stopping");
            judged(search(status, reason, gaps), 100)
        };
        let gap = json!([{
            "topic": "t", "partition": 0, "first_offset": 1, "last_offset": null, "code": "damaged", "reason": "r",
        }]);
        assert_eq!(ended("done", json!([])), Ok(Exit::Ok));
        assert_eq!(ended("done", gap), Ok(Exit::Partly));
        assert_eq!(ended("failed", json!([])).expect_err("failed").exit, Exit::Failed);
        let cancelled = ended("cancelled", json!([])).expect_err("half of it");
        assert_eq!(cancelled.exit, Exit::Partly);
        assert!(cancelled.sentence.contains("the server is stopping"), "{cancelled:?}");
    }

    #[test]
    fn what_the_server_says_of_an_event_is_all_printed() {
        let text = r#"{"topic":"t","partition":0,"offset":9007199254740993,"timestamp":null,"key":null,
            "value":"v","headers":[],"size":1,"cloudevent":null}"#;
        let event: FoundEvent = serde_json::from_str(text).expect("an event");
        let expected: Value = serde_json::from_str(text).expect("JSON");
        assert_eq!(serde_json::to_value(&event).expect("JSON"), expected);
        assert_eq!(event.cells().len(), FoundEvent::TITLES.len());
    }
}
