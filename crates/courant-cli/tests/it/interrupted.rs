//! Commands that wait for somebody else, and a signal: one ends what can be ended in order, a second one everything.

use std::io::{Read as _, Write as _};

use tempfile::tempdir;

use crate::cli::{rows, run, run_with, said};
use crate::server::{Server, command, signal};
use crate::{PATIENCE, eventually};

const INTERRUPTED: i32 = 130;

#[test]
fn a_publisher_that_waits_for_its_input_ends_and_publishes_nothing() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    for name in ["INT", "TERM"] {
        let mut child = command(&["pub", "orders", "--server", &server.bootstrap()])
            .spawn()
            .expect("the binary under test starts");
        let mut stdin = child.stdin.take().expect("stdin is piped");
        // More than a pipe holds: when this is written, the command reads.
        stdin.write_all(&vec![b' '; 256 * 1024]).expect("the command reads");
        signal(child.id(), name);
        // Should it go on, it ends with its input, and that with this test.
        let status = eventually("the command ends after a signal", PATIENCE, || {
            child.try_wait().expect("a child can be waited for")
        });
        assert_eq!(status.code(), Some(INTERRUPTED), "{name}: {status}");
        drop(stdin);
    }
    assert!(rows(run(&server, &["topic", "list", "-o", "jsonl"])).is_empty());
}

/// Symptom: Ctrl-C, however often, did not end a `courant tail` whose output nobody took. Cause: the thread that hears
/// the signal was waiting for the reader. Fix: another thread hears the second signal, and ends the process.
#[test]
fn a_second_signal_ends_a_command_whose_output_nobody_takes() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    // Far more than a pipe holds.
    let lines: String = (0..5_000).map(|number| format!("{number:0100}\n")).collect();
    said(run_with(&server, &["pub", "orders", "-l"], &lines));
    for name in ["INT", "TERM"] {
        let mut child = command(&["tail", "orders", "-o", "jsonl", "--server", &server.bootstrap()])
            .spawn()
            .expect("the binary under test starts");
        let mut stdout = child.stdout.take().expect("stdout is piped");
        stdout.read_exact(&mut [0]).expect("it prints");
        // Should it go on, it ends with its reader, and that with this test.
        let status = eventually("the command ends after two signals", PATIENCE, || {
            signal(child.id(), name);
            child.try_wait().expect("a child can be waited for")
        });
        assert_eq!(status.code(), Some(INTERRUPTED), "{name}: {status}");
        drop(stdout);
    }
}
