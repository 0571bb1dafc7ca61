//! Events, and what their handlers are to do and have seen: the same on every database.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use courant::BoxError;
use courant::prelude::*;
use courant::store_api::DeadFilter;

/// An event with a key.
#[derive(Event, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[event(type = "test.counted", topic = "test.counted", key = key)]
pub(crate) struct Counted {
    pub(crate) key: String,
    pub(crate) n: u32,
}

/// An event that nothing orders.
#[derive(Event, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[event(type = "test.loose", topic = "test.loose", no_key)]
pub(crate) struct Loose {
    pub(crate) n: u32,
}

pub(crate) fn counted(key: &str, n: u32) -> Counted {
    Counted { key: key.to_owned(), n }
}

/// The effects of one key.
pub(crate) fn of_key(effects: &[String], key: &str) -> Vec<String> {
    let begins = format!("{key}:");
    effects.iter().filter(|what| what.starts_with(&begins)).cloned().collect()
}

/// `key:first` to `key:last`.
pub(crate) fn numbered(key: &str, numbers: std::ops::RangeInclusive<u32>) -> Vec<String> {
    numbers.map(|n| format!("{key}:{n}")).collect()
}

/// Every dead letter.
pub(crate) fn all() -> DeadFilter {
    DeadFilter::default()
}

pub(crate) const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A number that the environment may set.
pub(crate) fn from_environment(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// What the handlers of a test are to do, and what they have seen.
#[derive(Clone, Default)]
pub(crate) struct Script(Arc<Mutex<Acts>>);

#[derive(Default)]
struct Acts {
    failing: BTreeSet<String>,
    /// How often an event fails before it succeeds.
    failures: BTreeMap<String, u32>,
    called: Vec<String>,
}

impl Script {
    fn acts(&self) -> std::sync::MutexGuard<'_, Acts> {
        self.0.lock().expect("no handler panics with it")
    }

    /// Events of this key fail from now on.
    pub(crate) fn fail(&self, key: &str) {
        self.acts().failing.insert(key.to_owned());
    }

    /// Events of this key do not fail any more.
    pub(crate) fn repair(&self, key: &str) {
        self.acts().failing.remove(key);
    }

    /// An event fails so often.
    pub(crate) fn fail_times(&self, what: &str, times: u32) {
        self.acts().failures.insert(what.to_owned(), times);
    }

    /// Every call so far.
    pub(crate) fn called(&self) -> Vec<String> {
        self.acts().called.clone()
    }

    /// A call: fails if it is to fail.
    pub(crate) fn call(&self, key: &str, what: &str) -> Result<(), BoxError> {
        let mut acts = self.acts();
        acts.called.push(what.to_owned());
        if acts.failing.contains(key) {
            return Err(format!("{key} is to fail").into());
        }
        match acts.failures.get_mut(what) {
            Some(left) if *left > 0 => {
                *left -= 1;
                Err(format!("{what} is to fail").into())
            }
            _ => Ok(()),
        }
    }
}
