//! Services that say that they are there, their dead letters, and what people do with these.
//!
//! What services say of themselves stands in a topic, and is followed there. Everything else is asked of the
//! service itself, which has its letters in its own database: by a signed request in one topic, and its
//! answer in another. What an event says is never in an answer; it is read from the log, where the event is.

mod actions;
mod announced;
mod edit;
mod export;
pub(crate) mod figures;
mod foreign;
mod groups;
mod keys;
mod letters;
mod line;
mod parked;
mod redrives;
mod routes;
mod schemas;
mod services;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::http::StatusCode;
use courant_core::operations::Which;
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use self::announced::{Announced, Known};
use self::line::AnswerRoom;
use super::ApiState;
use super::guard::Caller;
use super::limits::{ASKED_AT_ONCE_MAX, ASKED_OF_ONE_MAX, LETTERS_NAMED_MAX, WORDS_BYTES_MAX};
use super::problem::{INVALID, Problem, ProblemKind};
use super::shares::ApiLimits;

pub use self::keys::{InvalidServiceKeys, ServiceKeys};
pub(super) use self::routes::ROUTES;

static LETTER_NOT_FOUND: ProblemKind = ProblemKind {
    status: StatusCode::NOT_FOUND,
    code: "letter_not_found",
    title: "There is no such dead letter",
};

/// Who does something where nobody says so.
const SOMEBODY: &str = "somebody";

/// What is kept between requests.
#[derive(Debug)]
pub(crate) struct Operations {
    announced: Mutex<Announced>,
    places: Arc<Semaphore>,
    /// Those of each service that was asked. Only services are asked of which there is a key.
    places_of: Mutex<BTreeMap<String, Arc<Semaphore>>>,
    /// Of the answers that are being put together.
    answer_room: Arc<AnswerRoom>,
}

impl Operations {
    /// Within the bounds of memory.
    pub(super) fn within(limits: &ApiLimits) -> Self {
        Self {
            announced: Mutex::new(Announced::of(limits.instances_bytes)),
            places: Arc::new(Semaphore::new(ASKED_AT_ONCE_MAX)),
            places_of: Mutex::default(),
            answer_room: Arc::new(AnswerRoom::of(limits)),
        }
    }

    /// What services have said until now. May wait for the disk.
    fn known(&self, state: &ApiState) -> Result<Known, Problem> {
        self.announced.lock().unwrap_or_else(PoisonError::into_inner).follow(state.log()?)
    }

    fn answer_room(&self) -> Arc<AnswerRoom> {
        Arc::clone(&self.answer_room)
    }

    /// A place among the requests that wait for an answer of this service, and among all. Those to one that
    /// does not answer are in the way of each other, and not of those to others.
    async fn place(&self, service: &str) -> Option<[OwnedSemaphorePermit; 2]> {
        let of_service = self.place_of(service);
        // Nobody closes the semaphores.
        let of_service = of_service.acquire_owned().await.ok()?;
        Some([of_service, Arc::clone(&self.places).acquire_owned().await.ok()?])
    }

    fn place_of(&self, service: &str) -> Arc<Semaphore> {
        let mut places = self.places_of.lock().unwrap_or_else(PoisonError::into_inner);
        let places = places.entry(service.to_owned());
        Arc::clone(places.or_insert_with(|| Arc::new(Semaphore::new(ASKED_OF_ONE_MAX))))
    }
}

/// Which dead letters somebody means, in the words of the API.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Meant {
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    all: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    letters: Vec<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    consumer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    since_ms: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    until_ms: Option<i64>,
}

impl Meant {
    /// In the words of a request. Nothing happens to all letters by accident.
    fn which(&self) -> Result<Which, Problem> {
        let Self { all, letters, consumer, group, topic, key, since_ms, until_ms } = self.clone();
        if letters.len() > LETTERS_NAMED_MAX {
            let sentence = format!("at most {LETTERS_NAMED_MAX} letters are named at once; use a filter");
            return Err(Problem::new(&INVALID, sentence));
        }
        let texts = [&consumer, &group, &topic, &key];
        texts.into_iter().flatten().try_for_each(|text| short_enough("a filter", text))?;
        let which = Which { all, letters, consumer, group, topic, key, since_ms, until_ms };
        let is_more = |which: &Which| !Which { all: false, ..which.clone() }.says_nothing();
        if which.says_nothing() {
            let sentence = "say which dead letters are meant: letters, consumer, group, topic, key, since_ms, \
                            until_ms, or all";
            return Err(Problem::new(&INVALID, sentence));
        }
        if which.all && is_more(&which) {
            let sentence = "`all` means every letter; leave it out where something else restricts";
            return Err(Problem::new(&INVALID, sentence));
        }
        Ok(which)
    }
}

/// Refuses a text that nobody would write.
fn short_enough(what: &str, text: &str) -> Result<(), Problem> {
    if text.len() <= WORDS_BYTES_MAX {
        return Ok(());
    }
    let sentence = format!("{what} has {} bytes; it can have {WORDS_BYTES_MAX}", text.len());
    Err(Problem::new(&INVALID, sentence))
}

/// Who does it: whose credential came with the request, or who says so where none is needed.
fn actor(caller: &Caller, said: Option<&str>) -> Result<String, Problem> {
    let said = said.map(str::trim).filter(|said| !said.is_empty());
    let name = caller.name.as_deref().or(said).unwrap_or(SOMEBODY);
    short_enough("`by`", name)?;
    Ok(name.to_owned())
}

/// Why somebody does it, which has to be said.
fn reason(said: &str) -> Result<String, Problem> {
    let said = said.trim();
    if said.is_empty() {
        return Err(Problem::new(&INVALID, "say why: `reason` is kept with each letter"));
    }
    short_enough("`reason`", said)?;
    Ok(said.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    fn which(json: &str) -> Result<Which, Problem> {
        serde_json::from_str::<Meant>(json).expect("what can be asked").which()
    }

    #[test]
    fn nothing_happens_to_all_letters_by_accident() {
        assert_eq!(which("{}").expect_err("nothing is said").kind.code, "invalid");
        assert_eq!(which(r#"{"all":true,"key":"a"}"#).expect_err("both").kind.code, "invalid");
        assert!(which(r#"{"all":true}"#).expect("all").all);
        let some = which(r#"{"letters":[9007199254740993],"since_ms":7}"#).expect("some");
        assert_eq!((some.letters, some.since_ms, some.all), (vec![9_007_199_254_740_993], Some(7), false));
        assert!(serde_json::from_str::<Meant>(r#"{"grup":"1f0a99c2"}"#).is_err(), "misspelt");
    }

    #[tokio::test]
    async fn a_service_that_does_not_answer_is_in_nobody_elses_way() {
        let operations = Operations::within(&ApiLimits::default());
        let mut held = Vec::new();
        for _ in 0..ASKED_OF_ONE_MAX {
            held.push(operations.place("silent").await.expect("a place"));
        }
        assert!(operations.place("silent").now_or_never().is_none(), "it has no more");
        assert!(operations.place("other").now_or_never().flatten().is_some());
        held.pop();
        assert!(operations.place("silent").now_or_never().flatten().is_some());
    }

    #[test]
    fn whose_credential_it_is_counts_more_than_what_is_said() {
        let anybody = Caller::default();
        let anna = Caller { name: Some("anna".to_owned()), address: None };
        assert_eq!(actor(&anybody, Some(" grace ")).expect("short"), "grace");
        assert_eq!(actor(&anybody, Some(" ")).expect("short"), "somebody");
        assert_eq!(actor(&anna, Some("grace")).expect("short"), "anna");
        assert!(actor(&anybody, Some(&"x".repeat(WORDS_BYTES_MAX + 1))).is_err());
        assert!(reason(" ").is_err() && reason("paid by hand").is_ok());
    }
}
