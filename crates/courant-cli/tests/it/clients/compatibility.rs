//! What each library has been seen to do, told to whoever writes docs/compatibility.md.

use std::fs::OpenOptions;
use std::io::Write as _;

pub(super) const CREATE: &str = "create a topic";
pub(super) const COME_AND_GO: &str = "two members of a group, a third comes, one leaves: each event once";
pub(super) const RESUME: &str = "commit, stop, resume";
pub(super) const RESTART: &str = "the server is killed and comes back: each event once";
pub(super) const CALM: &str = "the server is killed and comes back: no rebalance";
pub(super) const SEEK: &str = "pause, resume, seek";
pub(super) const TOO_LARGE: &str = "a value that is too large is refused as such";
pub(super) const REPLAY: &str = "replay from a timestamp";

pub(super) fn keyed_records_in(codec: &str) -> String {
    format!("10,000 keyed records with headers, {codec}")
}

pub(super) fn passed(client: &str, case: &str) {
    tell(client, case, "passed");
}

/// The library has no means for it.
pub(super) fn unsupported(client: &str, case: &str, reason: &str) {
    tell(client, case, &format!("unsupported: {reason}"));
}

/// Adds a line to the file that `COURANT_TEST_COMPAT_OUT` names, if there is one.
fn tell(client: &str, case: &str, result: &str) {
    let Some(path) = std::env::var_os("COURANT_TEST_COMPAT_OUT") else { return };
    let file = OpenOptions::new().create(true).append(true).open(&path);
    let line = format!("{client}\t{case}\t{result}\n");
    file.and_then(|mut file| file.write_all(line.as_bytes())).expect("the file takes a line");
}
