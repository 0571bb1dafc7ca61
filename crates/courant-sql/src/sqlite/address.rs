//! The address of a database: `sqlite:PATH`, with options behind a `?` as the driver reads them.

use std::str::FromStr as _;

use sqlx::sqlite::SqliteConnectOptions;

use crate::address::without_secrets;
use crate::error::ConnectError;

const SCHEME: &str = "sqlite:";

/// What stands in the place of a file's name for a new database in memory.
pub(super) const MEMORY: &str = ":memory:";

/// How a name begins that SQLite takes for a URI.
pub(super) const URI: &str = "file:";

const EXPECTED: &str = "a SQLite database: write sqlite:PATH, or sqlite::memory: for tests";
const OPTIONS: &str =
    "a SQLite database: its options are mode=rwc, rw or memory, cache=shared or private, and vfs";
const TO_WRITE: &str = "a SQLite database that can be written: leave mode=ro and immutable out";
const SHARED: &str = "a SQLite database in memory that connections share: leave cache=private out";
const IN_NAME: &str = "a SQLite database: options of a URI stand behind a ? that is written as it is";

/// An address, as far as it is one.
#[derive(Debug)]
pub(super) struct Address {
    pub(super) options: SqliteConnectOptions,
    /// It has no file.
    pub(super) in_memory: bool,
    /// A file that is not there is created.
    pub(super) creates: bool,
}

impl Address {
    pub(super) fn of(url: &str) -> Result<Self, ConnectError> {
        let refused = |expected| ConnectError::Url { url: url.to_owned(), expected };
        if !url.starts_with(SCHEME) {
            // One of a server has a login.
            return Err(ConnectError::Url { url: without_secrets(url), expected: EXPECTED });
        }
        // The driver takes these off as often as they are there.
        let place = url.trim_start_matches("sqlite://").trim_start_matches(SCHEME);
        let (name, said) = place.split_once('?').unwrap_or((place, ""));
        if place.is_empty() {
            return Err(refused(EXPECTED));
        }
        let expected = if said.is_empty() { EXPECTED } else { OPTIONS };
        let options = SqliteConnectOptions::from_str(url).map_err(|_| refused(expected))?;
        let mut address = Self { options, in_memory: name == MEMORY, creates: true };
        // The last word counts.
        let mut is_shared = true;
        for (option, value) in form_urlencoded::parse(said.as_bytes()) {
            match (&*option, &*value) {
                ("mode", "memory") => (address.in_memory, is_shared) = (true, true),
                ("mode", "ro") | ("immutable", "true" | "1") => return Err(refused(TO_WRITE)),
                ("mode", word) => address.creates = word != "rw",
                ("cache", word) => is_shared = word != "private",
                _ => {}
            }
        }
        if address.in_memory && !is_shared {
            return Err(refused(SHARED));
        }
        // SQLite would read these for itself, and take what they say for more than the driver has asked for.
        let name = address.options.get_filename().as_os_str().as_encoded_bytes();
        // What has no name is a database of its own for each connection, whatever is said of sharing.
        if address.in_memory && matches!(name, b"" | b"file:" | b"file://") {
            return Err(refused(EXPECTED));
        }
        if address.in_memory && name.starts_with(URI.as_bytes()) && name.contains(&b'?') {
            return Err(refused(IN_NAME));
        }
        Ok(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Symptom: a file whose path had `mode=memory` in it was opened without a write-ahead log, and never created;
    /// `mode=%6Demory` was one in memory that was taken for a file. Cause: the words were looked for in the whole
    /// address. Fix: options are read as the driver reads them.
    #[test]
    fn what_is_in_memory_stands_among_the_options() {
        for (url, in_memory) in [
            ("sqlite::memory:", true),
            ("sqlite://:memory:", true),
            ("sqlite::memory:?cache=shared", true),
            ("sqlite:file:name?mode=memory", true),
            ("sqlite:name?cache=shared&mode=%6Demory", true),
            ("sqlite:name?cache=private&mode=memory", true),
            ("sqlite:/var/mode=memory/service.db", false),
            ("sqlite:mode=memory.db?mode=rwc", false),
            ("sqlite:service.db%3Fmode=memory", false),
            ("sqlite:service.db?vfs=mode%3Dmemory", false),
            ("sqlite:service.db", false),
        ] {
            let address = Address::of(url).expect(url);
            assert_eq!((address.in_memory, address.creates), (in_memory, true), "{url}");
        }
        assert!(!Address::of("sqlite:service.db?mode=rw").expect("an address").creates);
        assert!(Address::of("sqlite:service.db?mode=rw&mode=rwc").expect("an address").creates);
    }

    #[test]
    fn what_cannot_be_had_is_said() {
        for (url, says) in [
            ("sqlite:", "write sqlite:PATH"),
            ("sqlite://", "write sqlite:PATH"),
            ("service.db", "write sqlite:PATH"),
            ("sqlite:service%FF.db", "write sqlite:PATH"),
            ("sqlite://?mode=memory", "write sqlite:PATH, or sqlite::memory:"),
            ("sqlite:file:?mode=memory", "write sqlite:PATH, or sqlite::memory:"),
            ("sqlite:service.db?mode=ro", "leave mode=ro and immutable out"),
            ("sqlite:service.db?immutable=1", "leave mode=ro and immutable out"),
            ("sqlite:name?mode=memory&cache=private", "leave cache=private out"),
            ("sqlite::memory:?cache=private", "leave cache=private out"),
            ("sqlite:service.db?mode=mem", "its options are mode="),
            ("sqlite:service.db?journal_mode=wal", "its options are mode="),
            ("sqlite:file:name%3Fcache=private?mode=memory", "behind a ? that is written as it is"),
        ] {
            let refused = Address::of(url).expect_err(url);
            assert!(matches!(&refused, ConnectError::Url { .. }), "{url}: {refused}");
            assert!(refused.to_string().contains(says), "{url}: {refused}");
        }
    }
}
