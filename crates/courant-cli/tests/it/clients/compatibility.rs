//! What each library has been seen to do, told to whoever writes docs/compatibility.md.

use std::fs::OpenOptions;
use std::io::Write as _;

/// Adds a line to the file that `COURANT_TEST_COMPAT_OUT` names, if there is one.
pub(super) fn passed(client: &str, case: &str) {
    let Some(path) = std::env::var_os("COURANT_TEST_COMPAT_OUT") else { return };
    let file = OpenOptions::new().create(true).append(true).open(&path);
    let line = format!("{client}\t{case}\tpassed\n");
    file.and_then(|mut file| file.write_all(line.as_bytes())).expect("the file takes a line");
}
