//! Makes what the tests need, through the machine's package managers, once.
//!
//! Nothing here is wanted for building and running Courant itself. What cannot be had is a skip
//! with its reason; the tests that would use it say so again when their turn comes.

mod console;
mod crates;
mod go;
mod java;
mod made;
mod node;
mod python;
mod retry;
mod tools;

use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

pub(crate) use go::build as build_go;
pub(crate) use java::copy_jars;
pub(crate) use made::{empty, once};
pub(crate) use retry::retry;
pub(crate) use tools::{Tool, install_missing};

use crate::stage::Tally;

/// Prepares everything.
pub(crate) fn run(root: &Path, deadline: Instant) -> Tally {
    let mut tally = crates::fetch(root, deadline);
    tally.merge(tools::install(deadline));
    // Each of them waits for downloads half of its time. Only one of two may install packages.
    let (these, those) = thread::scope(|scope| {
        let these = scope.spawn(|| {
            let mut tally = console::make(root, deadline);
            tally.merge(go::make(root, deadline));
            tally.merge(node::make(root, deadline));
            tally
        });
        let mut those = python::make(root, deadline);
        those.merge(java::make(root, deadline));
        those.merge(crate::engines::start(root, deadline));
        (these.join(), those)
    });
    tally.merge(
        these.unwrap_or_else(|_| Tally::fail("console, Go and Node.js were not prepared to their end")),
    );
    tally.merge(those);
    tally
}

/// The variables that tell the tests where things are; none for what could not be made.
pub(crate) fn environment(root: &Path) -> Vec<(&'static str, PathBuf)> {
    let places = [
        ("COURANT_TEST_PYTHON", python::program(root)),
        ("COURANT_TEST_JAVA_39", java::clients(root, &java::KAFKA_3_9)),
        ("COURANT_TEST_JAVA_4", java::clients(root, &java::KAFKA_4)),
        ("COURANT_TEST_JAVA_SPRING", java::clients(root, &java::SPRING_KAFKA)),
        ("COURANT_TEST_GO", go::clients(root)),
        ("COURANT_TEST_NODE_CLIENTS", node::clients(root)),
        ("COURANT_TEST_CONSOLE", console::tests(root)),
    ];
    let places = places.into_iter().filter_map(|(name, place)| Some((name, place?)));
    places.chain(crate::engines::environment(root)).collect()
}

/// Where the thing called `name` is made.
pub(crate) fn folder(root: &Path, name: &str) -> PathBuf {
    root.join("target/tools").join(name)
}
