//! The keys of services, which requests to them are signed with.

use std::collections::BTreeMap;
use std::fmt;

use courant_core::operations::{InvalidKey, OperationsKey};

use crate::api::limits::SERVICE_KEYS_MAX;

/// The keys of a key file, by the name of the service.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ServiceKeys(BTreeMap<String, OperationsKey>);

/// Why a file of keys is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidServiceKeys {
    /// Nobody could be asked anything.
    #[error("there is no key in it; write one on a line, as SERVICE KEY")]
    Empty,
    /// A line that is no name and no key. It is not shown: it may hold a secret.
    #[error("line {line}: write SERVICE KEY, with a space between them")]
    Line {
        /// Which line, counted from 1.
        line: usize,
    },
    /// A key that can be guessed, or that is none.
    #[error("line {line}: {reason}")]
    Key {
        /// Which line, counted from 1.
        line: usize,
        /// What is wrong with it.
        reason: InvalidKey,
    },
    /// A service that was named before.
    #[error("line {line}: the service {service} stands twice")]
    Twice {
        /// Which line, counted from 1.
        line: usize,
        /// The service.
        service: String,
    },
    /// More than the server keeps.
    #[error("there are more than {max} keys in it")]
    TooMany {
        /// How many there may be.
        max: usize,
    },
}

impl ServiceKeys {
    /// Reads a file of keys: `SERVICE KEY` on each line; `#` begins a comment, and empty lines are left out.
    ///
    /// # Errors
    /// Says which line is in the way, and never what stands in it.
    pub fn parse(text: &str) -> Result<Self, InvalidServiceKeys> {
        let mut keys = BTreeMap::new();
        for (line, content) in (1..).zip(text.lines()) {
            let content = content.trim();
            if content.is_empty() || content.starts_with('#') {
                continue;
            }
            let Some((service, key)) = content.split_once(char::is_whitespace) else {
                return Err(InvalidServiceKeys::Line { line });
            };
            let key = OperationsKey::new(key).map_err(|reason| InvalidServiceKeys::Key { line, reason })?;
            if keys.len() == SERVICE_KEYS_MAX {
                return Err(InvalidServiceKeys::TooMany { max: SERVICE_KEYS_MAX });
            }
            if keys.insert(service.to_owned(), key).is_some() {
                return Err(InvalidServiceKeys::Twice { line, service: service.to_owned() });
            }
        }
        if keys.is_empty() { Err(InvalidServiceKeys::Empty) } else { Ok(Self(keys)) }
    }

    /// The key of a service.
    pub(super) fn of(&self, service: &str) -> Option<&OperationsKey> {
        self.0.get(service)
    }
}

impl fmt::Debug for ServiceKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn a_line_is_a_service_and_its_key() {
        let text =
            format!("# who is asked\n\nbilling {KEY}\nshipping \t a key of words, long enough for it \n");
        let keys = ServiceKeys::parse(&text).expect("a good file");
        assert_eq!(keys.of("billing"), OperationsKey::new(KEY).ok().as_ref());
        assert_eq!(
            keys.of("shipping"),
            OperationsKey::new("a key of words, long enough for it").ok().as_ref()
        );
        assert_eq!(keys.of("other"), None);
        assert_eq!(format!("{keys:?}"), "[\"billing\", \"shipping\"]");
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line_and_without_its_secret() {
        assert_eq!(ServiceKeys::parse("# none\n"), Err(InvalidServiceKeys::Empty));
        assert_eq!(ServiceKeys::parse("\nbilling"), Err(InvalidServiceKeys::Line { line: 2 }));
        let short = ServiceKeys::parse("billing hunter2").expect_err("it can be guessed");
        assert!(short.to_string().starts_with("line 1") && !short.to_string().contains("hunter2"), "{short}");
        let twice = ServiceKeys::parse(&format!("a {KEY}\na {KEY}"));
        assert_eq!(twice, Err(InvalidServiceKeys::Twice { line: 2, service: "a".to_owned() }));
        let many: String = (0..=SERVICE_KEYS_MAX).map(|number| format!("s{number} {KEY}\n")).collect();
        assert_eq!(ServiceKeys::parse(&many), Err(InvalidServiceKeys::TooMany { max: SERVICE_KEYS_MAX }));
    }
}
