//! The console, as the tests drive it: built, checked, and with the packages of its end-to-end tests.

use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::build;
use crate::process;
use crate::stage::Tally;

/// Builds it, before anything is compiled that has it inside.
pub(super) fn make(root: &Path, deadline: Instant) -> Tally {
    let name = "prepare::console";
    if process::find_program("npm").is_none() {
        return Tally::skip(name, "no npm here");
    }
    // What is wrong with the console is no reason to leave it out.
    let made = build::console(root, deadline).and_then(|()| build::console_tests(root, deadline));
    match made {
        Ok(()) => Tally::pass(),
        Err(error) => Tally::fail(format!("{name}: {error:#}")),
    }
}

/// The folder with the end-to-end tests, when the console and their packages are there.
pub(super) fn tests(root: &Path) -> Option<PathBuf> {
    let folder = root.join("console");
    (root.join(build::PAGE).is_file() && folder.join("node_modules/playwright-core").is_dir())
        .then(|| folder.join("e2e"))
}
