//! `courant dlq edit`: other bytes for a dead letter. The original stays, and is the cause of the new event.

use super::{letters, unedited};
use crate::cli::{DlqEdit, Global};
use crate::commands::from_stdin;
use crate::exit::{Exit, Failure, note};
use crate::output::{Format, Row, one};
use crate::time::now_ms;
use bytes::Bytes;
use courant_core::entropy::Entropy as _;
use courant_core::event_id::EventId;
use courant_core::headers::{CAUSATION_ID, ID};
use courant_log::SystemEntropy;
use courant_sql::limits::EVENT_BYTES_MAX;
use courant_sql::{DeadEdit, Event, Store};
use serde::Serialize;
use std::io::{self, IsTerminal, Read as _};

/// The outcome of an edit.
#[derive(Debug, Serialize)]
struct Edited {
    letter: i64,
    /// The id of the new event.
    event_id: String,
    /// The id of the original, which is its cause.
    original_event_id: String,
    by: String,
    reason: String,
}

impl Row for Edited {
    const TITLES: &'static [&'static str] = &["letter", "event", "original event", "by", "reason"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.letter.to_string(),
            self.event_id.clone(),
            self.original_event_id.clone(),
            self.by.clone(),
            self.reason.clone(),
        ]
    }
}

/// Edits one letter.
pub(super) async fn run<S: Store>(global: &Global, store: &S, args: &DlqEdit) -> Result<Exit, Failure> {
    check_names(args)?;
    let original = letters::one(store, args.letter).await?.event;
    let value = new_value(global, args).await?.map_or_else(|| original.value.clone(), Some);
    let event_id = EventId::from(SystemEntropy.uuid());
    let headers = headers(&original, &event_id, args);
    if !args.force {
        check_value(value.as_ref(), &headers)?;
    }
    let edit = DeadEdit {
        replaces: original.id,
        event_id,
        value,
        headers,
        by: args.because.by.by.clone(),
        reason: args.because.reason.clone(),
    };
    store.edit_dead_letter(args.letter, &edit, now_ms()).await.map_err(|error| unedited(&error))?;
    shown(global, args, edit.event_id.to_string(), edit.replaces.to_string())
}

/// What the letter says from now on; `None`: what it said.
pub(super) async fn new_value(global: &Global, args: &DlqEdit) -> Result<Option<Bytes>, Failure> {
    match &args.value {
        _ if args.keep_value => Ok(None),
        Some(value) => Ok(Some(Bytes::copy_from_slice(value.as_bytes()))),
        None => {
            let quiet = global.quiet;
            from_stdin(move || whole_input(quiet)).await.map(Some)
        }
    }
}

/// Says what has become of the letter.
pub(super) fn shown(
    global: &Global,
    args: &DlqEdit,
    event_id: String,
    original_event_id: String,
) -> Result<Exit, Failure> {
    let row = Edited {
        letter: args.letter,
        event_id,
        original_event_id,
        by: args.because.by.by.clone(),
        reason: args.because.reason.clone(),
    };
    one(&mut io::stdout().lock(), Format::or_default(global.output), &row)
        .map_err(|error| Failure::output(&error))?;
    if !global.quiet {
        note(format_args!("Nothing is sent back yet: `courant dlq redrive {}` does that.", args.letter));
    }
    Ok(Exit::Ok)
}

/// Which event it is and what has caused it is not for anybody to say.
pub(super) fn check_names(args: &DlqEdit) -> Result<(), Failure> {
    let mut names = args.headers.iter().map(|(name, _)| name).chain(&args.deleted);
    match names.find(|name| [ID, CAUSATION_ID].contains(&name.as_str())) {
        None => Ok(()),
        Some(name) => {
            let sentence = format!("the header {name} is given by the edit itself: leave it out");
            Err(Failure::new(Exit::Usage, sentence))
        }
    }
}

/// The headers of the new event: those of the original, but for what was asked for, its id and its cause.
fn headers(original: &Event, event_id: &EventId, args: &DlqEdit) -> Vec<(String, Bytes)> {
    courant::channel::edited_headers(original, event_id, &args.headers, &args.deleted)
}

/// Fails when a value is not the JSON that its headers say it is: it would be a dead letter again.
fn check_value(value: Option<&Bytes>, headers: &[(String, Bytes)]) -> Result<(), Failure> {
    match courant::channel::unlike_its_type(value, headers) {
        None => Ok(()),
        Some(sentence) => Err(Failure::new(Exit::Usage, sentence)),
    }
}

/// All of stdin.
fn whole_input(quiet: bool) -> Result<Bytes, Failure> {
    if io::stdin().is_terminal() && !quiet {
        note(format_args!("Reading the value from the terminal; Ctrl-D ends it."));
    }
    let mut value = Vec::new();
    let read = io::stdin().lock().take(EVENT_BYTES_MAX as u64 + 1).read_to_end(&mut value);
    read.map_err(|error| Failure::new(Exit::Failed, format!("stdin cannot be read: {error}")))?;
    if value.len() > EVENT_BYTES_MAX {
        let sentence = format!("an event has at most {EVENT_BYTES_MAX} bytes");
        return Err(Failure::new(Exit::Usage, sentence));
    }
    Ok(Bytes::from(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command, Dlq, DlqCommand};
    use clap::Parser as _;
    use courant_core::headers::CONTENT_TYPE;

    fn args(more: &[&str]) -> DlqEdit {
        let line = ["courant", "dlq", "edit", "7", "--reason", "r", "--store", "sqlite:a.db"];
        let cli = Cli::try_parse_from(line.iter().chain(more)).expect("a command line");
        match cli.command {
            Command::Dlq(command) => match *command {
                DlqCommand::Own(Dlq::Edit(args)) => args,
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }

    fn original(headers: &[(&str, &str)]) -> Event {
        let headers = headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), Bytes::copy_from_slice(value.as_bytes())));
        Event {
            offset: 0,
            id: EventId::new("old").expect("legal"),
            key: None,
            value: None,
            headers: headers.collect(),
            timestamp_ms: 0,
        }
    }

    fn shown(headers: &[(String, Bytes)]) -> Vec<String> {
        headers.iter().map(|(name, value)| format!("{name}={}", String::from_utf8_lossy(value))).collect()
    }

    #[test]
    fn the_new_event_is_caused_by_the_original_and_stays_in_its_conversation() {
        let id = EventId::new("new").expect("legal");
        let original = original(&[("ce_id", "old"), ("ce_type", "t"), ("x", "1"), ("y", "1"), ("x", "2")]);
        let edited = headers(&original, &id, &args(&["-H", "x=3", "--delete-header", "y", "v"]));
        let expected = ["ce_type=t", "x=3", "ce_id=new", "ce_causationid=old", "ce_correlationid=old"];
        assert_eq!(shown(&edited), expected);
    }

    #[test]
    fn a_conversation_that_has_begun_elsewhere_stays_the_same() {
        let id = EventId::new("new").expect("legal");
        let original = original(&[("ce_correlationid", "c"), ("ce_causationid", "before")]);
        let edited = headers(&original, &id, &args(&["v"]));
        assert_eq!(shown(&edited), ["ce_correlationid=c", "ce_id=new", "ce_causationid=old"]);
    }

    #[test]
    fn what_the_edit_says_itself_is_not_to_be_said() {
        assert!(check_names(&args(&["-H", "x=1", "v"])).is_ok());
        for more in [["-H", "ce_id=mine"], ["--delete-header", "ce_causationid"]] {
            assert_eq!(check_names(&args(&more)).expect_err("refused").exit, Exit::Usage);
        }
    }

    #[test]
    fn a_value_is_the_json_that_it_is_said_to_be() {
        let json = [(CONTENT_TYPE.to_owned(), Bytes::from_static(b"application/json"))];
        let value = Bytes::from_static(b"{\"a\":1}");
        let wrong = Bytes::from_static(b"{\"a\":");
        assert_eq!(check_value(Some(&value), &json), Ok(()));
        assert_eq!(check_value(Some(&wrong), &json).expect_err("no JSON").exit, Exit::Usage);
        assert_eq!(check_value(Some(&wrong), &[]), Ok(()));
        assert_eq!(check_value(None, &json), Ok(()));
    }
}
