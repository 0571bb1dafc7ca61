//! On disk: what is asked of a service about events that are parked, in the topic `_courant.ops`, as JSON; the
//! page is `docs/formats/services.md`.

use serde::{Deserialize, Serialize};

/// Parked events that somebody gives up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParkedChange {
    /// Which.
    pub which: WhichParked,
    /// Why.
    pub reason: String,
    /// Say how many are meant, and change nothing.
    pub dry_run: bool,
    /// Give none up where more than so many wait, or where that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_most: Option<u64>,
}

/// Which parked events are meant: those of one key in one partition, or all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhichParked {
    /// The consumer that they wait for.
    pub consumer: String,
    /// Which generation of that.
    pub generation: u32,
    /// The topic that they are from.
    pub topic: String,
    /// Its partition.
    pub partition: u32,
    /// Those with this key.
    #[serde(default)]
    pub key: Option<String>,
    /// Those of every key, and those without one.
    #[serde(default)]
    pub all: bool,
}

impl WhichParked {
    /// It names a key or says that all are meant, and not both.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.key.is_some() != self.all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operations::Action;

    /// Nothing is meant by accident, and a key of no bytes is one.
    #[test]
    fn one_key_is_meant_or_all() {
        let which = |key: Option<&str>, all| WhichParked {
            key: key.map(str::to_owned),
            all,
            ..WhichParked::default()
        };
        assert!(which(Some("ada"), false).is_plain() && which(Some(""), false).is_plain());
        assert!(which(None, true).is_plain());
        assert!(!which(None, false).is_plain() && !which(Some("ada"), true).is_plain());
    }

    #[test]
    fn the_text_of_a_request_is_the_one_of_the_page() {
        let json = r#"{"kind":"discard_parked","which":{"consumer":"billing","generation":1,"topic":"orders","partition":2,"key":"ada","all":false},"reason":"r","dry_run":true}"#;
        let which = WhichParked {
            consumer: "billing".to_owned(),
            generation: 1,
            topic: "orders".to_owned(),
            partition: 2,
            key: Some("ada".to_owned()),
            all: false,
        };
        let change = ParkedChange { which, reason: "r".to_owned(), dry_run: true, at_most: None };
        let action = Action::DiscardParked(change.clone());
        assert_eq!(serde_json::to_string(&action).expect("JSON"), json);
        assert_eq!(serde_json::from_str::<Action>(json).expect("an action"), action);
        let bounded = serde_json::to_string(&ParkedChange { at_most: Some(2), ..change }).expect("JSON");
        assert!(bounded.ends_with(r#","dry_run":true,"at_most":2}"#), "{bounded}");
        assert_eq!(action.name(), "discard_parked");
    }
}
