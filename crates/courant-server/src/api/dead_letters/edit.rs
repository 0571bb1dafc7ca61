//! Giving a dead letter other bytes. The service keeps the original beside it.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Extension, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use courant_core::base64;
use courant_core::operations::{Action, Outcome, hex};
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use super::line::{Line, not_understood};
use super::{LETTER_NOT_FOUND, actor, reason};
use crate::api::asked::{self, Path};
use crate::api::limits::HEADERS_EDITED_MAX;
use crate::api::problem::{BAD_REQUEST, INVALID, Problem};
use crate::api::{ApiState, Asked, Caller, Change, Json};

/// What is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Edit {
    /// Missing: it stays.
    value: Option<String>,
    value_encoding: Option<Encoding>,
    #[serde(default)]
    headers: Vec<Header>,
    #[serde(default)]
    deleted_headers: Vec<String>,
    #[serde(default)]
    force: bool,
    reason: String,
    by: Option<String>,
    #[serde(default)]
    execute: bool,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Encoding {
    Base64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    key: String,
    value: String,
}

#[derive(Debug, Serialize)]
struct Edited {
    service: String,
    dry_run: bool,
    letter: i64,
    event_id: Option<String>,
    original_event_id: Option<String>,
}

pub(super) async fn edit(
    State(state): State<ApiState>,
    Extension(caller): Extension<Caller>,
    Path((service, letter)): Path<(String, String)>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    Asked::of(query.as_deref(), &[])?;
    let letter = number(&letter)?;
    let asked: Edit = asked::json(&headers, body)?;
    let (by, reason) = (actor(&caller, asked.by.as_deref())?, reason(&asked.reason)?);
    let value = value(&asked)?;
    if value.is_none() && asked.headers.is_empty() && asked.deleted_headers.is_empty() {
        return Err(Problem::new(&INVALID, "say what is edited: value, headers or deleted_headers"));
    }
    if asked.headers.len() + asked.deleted_headers.len() > HEADERS_EDITED_MAX {
        let sentence = format!("at most {HEADERS_EDITED_MAX} headers are edited at once");
        return Err(Problem::new(&INVALID, sentence));
    }
    let line = Line::to(&state, &service).await?;
    if !asked.execute {
        let edited = Edited { service, dry_run: true, letter, event_id: None, original_event_id: None };
        return Ok(Json(edited).into_response());
    }
    let names: Vec<&str> = asked.headers.iter().map(|header| header.key.as_str()).collect();
    // What the event says is not for the audit.
    let detail = json!({
        "letter": letter,
        "value_bytes": value.as_ref().map(Vec::len),
        "headers": names,
        "deleted_headers": asked.deleted_headers,
        "force": asked.force,
        "reason": reason,
        "by": by,
    });
    let change = Change { caller, action: "dead_letters.edit", target: service.clone(), detail };
    let action = Action::Edit {
        letter,
        event_id: Uuid::now_v7().to_string(),
        value_hex: value.as_deref().map(hex),
        headers: asked.headers.into_iter().map(|header| (header.key, header.value)).collect(),
        deleted: asked.deleted_headers,
        force: asked.force,
        reason,
    };
    let made = state.change(change, async move {
        match line.ask(&by, action, &LETTER_NOT_FOUND).await?.into_iter().next() {
            Some(Outcome::Edited { event_id, original_event_id }) => Ok(Edited {
                service,
                dry_run: false,
                letter,
                event_id: Some(event_id),
                original_event_id: Some(original_event_id),
            }),
            _ => Err(not_understood()),
        }
    });
    Ok(made.await?.answer(StatusCode::OK))
}

/// The number of a letter in a path.
pub(super) fn number(text: &str) -> Result<i64, Problem> {
    let problem = |_| Problem::new(&BAD_REQUEST, format!("the letter is {text:?}; write its number"));
    text.parse().map_err(problem)
}

/// The bytes that the event gets. `None`: those that it has.
fn value(asked: &Edit) -> Result<Option<Vec<u8>>, Problem> {
    match (&asked.value, asked.value_encoding) {
        (None, None) => Ok(None),
        (None, Some(_)) => {
            Err(Problem::new(&INVALID, "value_encoding says how `value` is written; send that too"))
        }
        (Some(text), None) => Ok(Some(text.clone().into_bytes())),
        (Some(text), Some(Encoding::Base64)) => {
            let bytes = base64::decode(text);
            bytes.map(Some).ok_or_else(|| Problem::new(&INVALID, "the value is no base64"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(json: &str) -> Edit {
        serde_json::from_str(json).expect("what can be asked")
    }

    #[test]
    fn a_value_is_text_or_base64_and_missing_it_stays() {
        let of = |json: &str| value(&asked(json));
        assert_eq!(of(r#"{"reason":"r"}"#).expect("it stays"), None);
        assert_eq!(of(r#"{"reason":"r","value":"é"}"#).expect("text"), Some("é".as_bytes().to_vec()));
        let bytes = of(r#"{"reason":"r","value":"/wA=","value_encoding":"base64"}"#);
        assert_eq!(bytes.expect("bytes"), Some(vec![0xff, 0]));
        assert!(of(r#"{"reason":"r","value":"?","value_encoding":"base64"}"#).is_err());
        assert!(of(r#"{"reason":"r","value_encoding":"base64"}"#).is_err());
        assert!(serde_json::from_str::<Edit>(r#"{"value":"v"}"#).is_err(), "nobody says why");
    }
}
