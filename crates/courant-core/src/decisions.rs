//! What was decided about dead letters of others: the values of the topic `TOPIC.courant-decisions` beside
//! theirs, with one partition, compacted. The key of a record is a letter, `PARTITION@OFFSET`, or `redrive ID`.

use serde::{Deserialize, Serialize};

/// What the name of the topic ends with, behind that of the topic of the letters.
pub const ENDING: &str = ".courant-decisions";

/// Begins the key of a redrive, in front of its id.
pub const REDRIVE_KEY: &str = "redrive ";

/// What has become of a letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It was published again.
    Redriven,
    /// It was given up.
    Discarded,
}

impl State {
    /// The word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Redriven => "redriven",
            Self::Discarded => "discarded",
        }
    }
}

/// What somebody has decided about a letter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// Id of the topic that the letter is in.
    pub topic_id: String,
    /// What has become of it.
    pub state: State,
    /// Who has decided.
    pub by: String,
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
    /// Why it was given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The redrive that has published it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redrive: Option<String>,
    /// Where it is now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
}

impl Decision {
    /// A letter was given up.
    #[must_use]
    pub fn discarded(topic_id: String, by: &str, reason: &str, at_ms: i64) -> Self {
        let reason = Some(reason.to_owned());
        Self { reason, ..Self::new(topic_id, by, State::Discarded, at_ms) }
    }

    /// A letter was published again.
    #[must_use]
    pub fn redriven(topic_id: String, by: &str, redrive: &str, target: Target, at_ms: i64) -> Self {
        let (redrive, target) = (Some(redrive.to_owned()), Some(target));
        Self { redrive, target, ..Self::new(topic_id, by, State::Redriven, at_ms) }
    }

    fn new(topic_id: String, by: &str, state: State, at_ms: i64) -> Self {
        Self { topic_id, state, by: by.to_owned(), at_ms, reason: None, redrive: None, target: None }
    }
}

/// Where a letter was published again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// `None`: the server had it already, and did not say where.
    pub offset: Option<i64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_is_not_written() {
        let decision = Decision::discarded("t".to_owned(), "grace", "a test order", 7);
        let written = serde_json::to_string(&decision).expect("JSON");
        let expected =
            r#"{"topic_id":"t","state":"discarded","by":"grace","at_ms":7,"reason":"a test order"}"#;
        assert_eq!(written, expected);
        assert_eq!(serde_json::from_str::<Decision>(expected).expect("a decision"), decision);
        assert_eq!((State::Discarded.name(), State::Redriven.name()), ("discarded", "redriven"));
    }
}
