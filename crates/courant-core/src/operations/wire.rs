//! On disk: requests to a service in the topic `_courant.ops`, and their answers in `_courant.ops.answers`,
//! as JSON; the page is `docs/formats/services.md`.
//!
//! What is signed is the text of the request, byte for byte as it stands in the event: nobody has to agree
//! on an order of fields.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::key::OperationsKey;
use super::letters::ToldLetter;
use super::parked::ParkedChange;
use crate::headers;

/// The version of requests and answers that is written and read here.
pub const VERSION: u32 = 1;

/// The type of the events that requests are.
pub const REQUEST_TYPE: &str = "courant.request";

/// A request is refused that is valid for longer than this: a day is what requests are remembered for at
/// least.
pub const EXPIRY_MAX_MS: i64 = 3_600_000;

/// What somebody asks a service for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Of the format: 1.
    pub version: u32,
    /// Names the request; the id of its event as well. Under one id it takes effect once.
    pub id: String,
    /// The service that is asked.
    pub service: String,
    /// Who asks, for people.
    pub actor: String,
    /// When it is not followed any more, in milliseconds since 1970.
    pub expires_ms: i64,
    /// What is asked for.
    pub action: Action,
}

/// What can be asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Action {
    /// Give dead letters up.
    Discard(Change),
    /// Keep dead letters out of the way.
    Archive(Change),
    /// Take archived dead letters back, so that somebody has to decide about them again.
    Restore(Change),
    /// Give events up that are parked.
    DiscardParked(ParkedChange),
    /// Say what a redrive would send back.
    Plan {
        /// Which dead letters.
        which: Which,
    },
    /// Send dead letters back to the consumer where they failed.
    Redrive {
        /// Names the redrive: under one name it is done once.
        redrive: String,
        /// Which dead letters.
        which: Which,
        /// At most so many in a second.
        rate: Option<std::num::NonZeroU32>,
    },
    /// Say how far a redrive is.
    Status {
        /// Its name.
        redrive: String,
        /// And what has become of each letter.
        events: bool,
        /// Of these, so many behind how far the redrive is; `None`: all of them, and nothing else.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        page: Option<ResultPage>,
    },
    /// Cancel what a redrive has not begun.
    Cancel {
        /// Its name.
        redrive: String,
    },
    /// Give a dead letter other bytes.
    Edit {
        /// Its number.
        letter: i64,
        /// The id that the event gets.
        event_id: String,
        /// What it says from now on, in hexadecimal; `None`: what it said.
        value_hex: Option<String>,
        /// Headers in place of those of their names.
        headers: Vec<(String, String)>,
        /// Headers that go.
        deleted: Vec<String>,
        /// Also a value that is not what its content type says.
        force: bool,
        /// Why.
        reason: String,
    },
    /// Tell of dead letters: what and where they are, and nothing of what their events say.
    Letters {
        /// Which dead letters.
        which: Which,
        /// Where they stand, as one word; `None`: anywhere.
        state: Option<String>,
        /// Those with larger numbers than this.
        after: i64,
        /// At most so many, and at most 1,000.
        limit: u32,
        /// And what people have done with each.
        notes: bool,
    },
}

/// Which of a redrive's results are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResultPage {
    /// Those of letters with larger numbers than this.
    pub after: i64,
    /// At most so many.
    pub limit: u32,
}

/// Dead letters that somebody decides about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Which.
    pub which: Which,
    /// Why.
    pub reason: String,
    /// Say which are meant, and change nothing.
    pub dry_run: bool,
}

/// Which dead letters are meant. What is not said does not restrict; if nothing is, `all` must be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Which {
    /// Every one that nobody has decided about.
    #[serde(default)]
    pub all: bool,
    /// Numbers of letters.
    #[serde(default)]
    pub letters: Vec<i64>,
    /// Of this consumer.
    #[serde(default)]
    pub consumer: Option<String>,
    /// Of the failure with this short name.
    #[serde(default)]
    pub group: Option<String>,
    /// Of this topic.
    #[serde(default)]
    pub topic: Option<String>,
    /// With this key.
    #[serde(default)]
    pub key: Option<String>,
    /// That failed last at this time or later, in milliseconds since 1970.
    #[serde(default)]
    pub since_ms: Option<i64>,
    /// That failed last before this time.
    #[serde(default)]
    pub until_ms: Option<i64>,
}

impl Which {
    /// It restricts nothing, and does not say that everything is meant.
    #[must_use]
    pub fn says_nothing(&self) -> bool {
        !self.all
            && self.letters.is_empty()
            && self.consumer.is_none()
            && self.group.is_none()
            && self.topic.is_none()
            && self.key.is_none()
            && self.since_ms.is_none()
            && self.until_ms.is_none()
    }
}

/// A request as it is sent: its text and the signature of that. It stays the bytes that it was sent as until
/// somebody has to look: anybody may have sent it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Signed(Box<serde_json::value::RawValue>);

/// What stands in a [`Signed`].
#[derive(Debug, Serialize, Deserialize)]
pub struct Envelope {
    /// A [`Request`] as JSON.
    pub request: String,
    /// HMAC-SHA-256 of that text, in hexadecimal.
    pub signature: String,
}

impl Signed {
    /// Signs a request.
    #[must_use]
    pub fn new(request: &Request, key: &OperationsKey) -> Self {
        // A request has nothing in it that JSON cannot say.
        let request = serde_json::to_string(request).unwrap_or_default();
        let signature = key.sign(&request);
        Self(serde_json::value::to_raw_value(&Envelope { request, signature }).unwrap_or_default())
    }

    /// The headers that go with a request of this id; `source` says where it comes from.
    #[must_use]
    pub fn headers(id: &str, source: &str) -> Vec<(String, String)> {
        let all = [
            (headers::ID, id),
            (headers::SOURCE, source),
            (headers::SPECVERSION, headers::SPECVERSION_VALUE),
            (headers::TYPE, REQUEST_TYPE),
            (headers::CONTENT_TYPE, "application/json"),
            (headers::CORRELATION_ID, id),
        ];
        all.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    /// What stands in it, if it is one at all.
    #[must_use]
    pub fn envelope(&self) -> Option<Envelope> {
        serde_json::from_str(self.0.get()).ok()
    }
}

/// What a service answers. A long answer comes in parts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Of the format: 1.
    pub version: u32,
    /// The request; the key of the event as well.
    pub request: String,
    /// The service that answers.
    pub service: String,
    /// Counts the parts, from 0.
    pub part: u32,
    /// No other part follows.
    pub is_last: bool,
    /// What it answers.
    pub outcome: Outcome,
}

/// What has become of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Outcome {
    /// It was not followed.
    Refused {
        /// Why.
        why: Refusal,
        /// Why, for people.
        reason: String,
    },
    /// What it names is not there.
    NotFound {
        /// What, for people.
        reason: String,
    },
    /// It contradicts what is there.
    Conflict {
        /// How, for people.
        reason: String,
    },
    /// It could not be followed.
    Failed {
        /// Why, for people.
        reason: String,
    },
    /// Letters that were decided about, and why others were not.
    Decided {
        /// Those that were.
        letters: Vec<DecidedLetter>,
        /// Sentences about those that were named and were not, for people.
        others: Vec<String>,
        /// All of these others are unknown.
        only_unknown: bool,
    },
    /// Parked events that were given up, or would be.
    GivenUp {
        /// How many.
        events: u64,
        /// Dead letters that keep keys parked which are meant. They stay.
        letters: u64,
        /// There may be more events: the service took no time for them, or does not count further.
        has_more: bool,
    },
    /// What a redrive would send back.
    Planned {
        /// By consumer, topic, error and place.
        redrives: Vec<PlannedRedrive>,
    },
    /// How far a redrive is.
    Redrive {
        /// How far.
        progress: RedriveProgress,
        /// It was there before.
        was_known: bool,
    },
    /// What a redrive has made of each letter.
    Results {
        /// In the order of the letters.
        results: Vec<RedriveResult>,
    },
    /// A letter has other bytes.
    Edited {
        /// The id that its event has.
        event_id: String,
        /// The id that it had.
        original_event_id: String,
    },
    /// Dead letters.
    Letters {
        /// By number.
        letters: Vec<ToldLetter>,
        /// What the next look begins after, where there may be more.
        next: Option<i64>,
    },
}

/// Why a request was not followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Refusal {
    /// Its signature is not one of the service's key.
    BadSignature,
    /// Its time is over.
    Expired,
    /// Its time is longer than any may be.
    ValidForTooLong,
    /// It stands in an event of another id: somebody has sent it again.
    OtherId,
    /// It is of another version.
    OtherVersion,
    /// It asks for nothing that this service knows.
    NotUnderstood,
}

/// A letter that was decided about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecidedLetter {
    /// Its number.
    pub letter: i64,
    /// Where its event is.
    pub position: String,
}

/// What a redrive would send back: letters with one failure in one topic.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedRedrive {
    /// Whose.
    pub consumer: String,
    /// Of which topic.
    pub topic: String,
    /// The error's type.
    pub error: String,
    /// Where it came from.
    pub place: String,
    /// How many.
    pub letters: u64,
    /// How often their handlers were called.
    pub attempts: u64,
}

/// How far a redrive is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RedriveProgress {
    /// Its name.
    pub id: String,
    /// Who has asked.
    pub requested_by: String,
    /// When, in milliseconds since 1970.
    pub requested_ms: i64,
    /// What was asked for, as text.
    pub filter: String,
    /// `running`, `done` or `cancelled`.
    pub state: String,
    /// When it ended.
    pub finished_ms: Option<i64>,
    /// Letters that nobody has taken yet.
    pub pending: u64,
    /// Letters that are on their way.
    pub delivering: u64,
    /// Letters that were handled.
    pub handled: u64,
    /// Letters that are dead again.
    pub failed: u64,
    /// Letters that were cancelled before their turn.
    pub cancelled: u64,
}

/// What a redrive has made of one letter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RedriveResult {
    /// Its number.
    pub letter: i64,
    /// `pending`, `delivering`, `handled`, `failed` or `cancelled`.
    pub result: String,
    /// Since when, in milliseconds since 1970.
    pub since_ms: i64,
    /// Where the letter stands: `dead`, `redriving`, `redriven`, `discarded` or `archived`.
    pub state: String,
}

impl RedriveProgress {
    /// How many letters the redrive has.
    #[must_use]
    pub fn letters(&self) -> u64 {
        let counts = [self.pending, self.delivering, self.handled, self.failed, self.cancelled];
        counts.into_iter().fold(0, u64::saturating_add)
    }
}

impl Action {
    /// A word for the log.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Discard(_) => "discard",
            Self::Archive(_) => "archive",
            Self::Restore(_) => "restore",
            Self::DiscardParked(_) => "discard_parked",
            Self::Plan { .. } => "plan",
            Self::Redrive { .. } => "redrive",
            Self::Status { .. } => "status",
            Self::Cancel { .. } => "cancel",
            Self::Edit { .. } => "edit",
            Self::Letters { .. } => "letters",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BadSignature => "its signature is not one of the service's key",
            Self::Expired => "it has expired; compare the clocks if it is a new one",
            Self::ValidForTooLong => "it would be valid for more than an hour",
            Self::OtherId => "it was sent again under another id",
            Self::OtherVersion => "it is of another version than this service knows",
            Self::NotUnderstood => "it asks for nothing that this service knows",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Request {
        Request {
            version: VERSION,
            id: "r-1".to_owned(),
            service: "shop".to_owned(),
            actor: "grace".to_owned(),
            expires_ms: 5,
            action: Action::Discard(Change {
                which: Which { letters: vec![7], ..Which::default() },
                reason: "paid by hand".to_owned(),
                dry_run: false,
            }),
        }
    }

    #[test]
    fn nothing_is_meant_by_accident() {
        assert!(Which::default().says_nothing());
        assert!(!Which { all: true, ..Which::default() }.says_nothing());
        assert!(!Which { until_ms: Some(1), ..Which::default() }.says_nothing());
    }

    #[test]
    fn a_request_comes_back_with_its_signature() {
        let key = OperationsKey::new(&"k".repeat(32)).expect("long enough");
        let signed = Signed::new(&request(), &key);
        let sent = serde_json::to_vec(&signed).expect("JSON");
        let come: Signed = serde_json::from_slice(&sent).expect("JSON");
        let envelope = come.envelope().expect("an envelope");
        assert!(key.has_signed(&envelope.request, &envelope.signature));
        let read: Request = serde_json::from_str(&envelope.request).expect("a request");
        assert_eq!(read, request());
    }

    #[test]
    fn any_json_is_taken_and_is_no_envelope() {
        for json in ["1", "[]", "{}", "{\"request\":1,\"signature\":\"\"}"] {
            let signed: Signed = serde_json::from_str(json).expect("JSON");
            assert!(signed.envelope().is_none(), "{json}");
        }
    }

    #[test]
    fn the_text_of_a_request_is_the_one_of_the_page() {
        let json = serde_json::to_string(&request()).expect("JSON");
        assert!(json.starts_with(r#"{"version":1,"id":"r-1","service":"shop","actor":"grace","#), "{json}");
        assert!(json.contains(r#""action":{"kind":"discard","which":{"all":false,"letters":[7]"#), "{json}");
    }

    /// Who knows of no pages asks for all results.
    #[test]
    fn a_page_is_asked_for_by_whoever_wants_one() {
        let all = r#"{"kind":"status","redrive":"r","events":true}"#;
        let page = r#"{"kind":"status","redrive":"r","events":true,"page":{"after":7,"limit":2}}"#;
        for (json, page) in [(all, None), (page, Some(ResultPage { after: 7, limit: 2 }))] {
            let action = Action::Status { redrive: "r".to_owned(), events: true, page };
            assert_eq!(serde_json::from_str::<Action>(json).expect("an action"), action);
            assert_eq!(serde_json::to_string(&action).expect("JSON"), json);
        }
    }
}
