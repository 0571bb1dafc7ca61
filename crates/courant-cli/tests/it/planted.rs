//! The tests of the HTTP API, of the index of traces and of spans see what they are there for: each defect is
//! planted in the servers of a process of its own, in which one of those tests has to fail.

use std::process::{Child, Command, Stdio};

use courant_server::planted::Defect;

use crate::skip;

/// Names the defect to the process whose servers are to have it.
const DEFECT: &str = "COURANT_TEST_DEFECT";

/// Processes at the same time: beside other tests, more of them would wait for each other longer than their own
/// bounds allow.
const AT_ONCE: usize = 3;

const ASSERTION: &str = "assertion `left == right` failed";

/// Defects; the test that has to see each; and what it says then.
const SEEN: [(Defect, &str, &str); Defect::ALL.len()] = [
    (
        Defect::AnyToken,
        "http_api::with_a_token_file_nobody_else_is_let_in_and_the_audit_knows_who_came",
        ASSERTION,
    ),
    (Defect::AnyOrigin, "http_api::pages_of_other_sites_and_other_names_are_shut_out", ASSERTION),
    (Defect::UnconfirmedDeletes, "http_api::a_topic_is_created_shown_altered_and_deleted", ASSERTION),
    (
        Defect::Unaudited,
        "http_api::every_change_is_an_event_before_it_is_answered_and_nothing_else_is",
        ASSERTION,
    ),
    (Defect::ForgottenInSilence, "traces::a_small_index_says_what_it_has_forgotten", ASSERTION),
    (Defect::NoCauses, "traces::events_of_a_kafka_client_make_a_tree", ASSERTION),
    (
        Defect::SpansWithoutParents,
        "otlp::an_event_that_is_published_by_http_is_made_in_the_span_of_its_request",
        ASSERTION,
    ),
    (
        Defect::OutsideOfSpans,
        "otlp::an_event_that_is_published_by_http_is_made_in_the_span_of_its_request",
        "no 00-4bf92f3577b34da6a3ce929d0e0e4736-",
    ),
];

/// Has a server break what this process was started for, if it was.
pub(crate) fn as_asked(server: &mut Command) {
    if let Ok(name) = std::env::var(DEFECT) {
        server.env("COURANT_PLANTED_DEFECT", name);
    }
}

/// Runs one test on servers with a defect.
fn start((defect, test, _): &(Defect, &str, &str)) -> Child {
    Command::new(std::env::current_exe().expect("this test has a path"))
        .args(["--exact", *test, "--nocapture"])
        .env(DEFECT, defect.name())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts")
}

#[test]
fn each_defect_is_seen_by_its_test() {
    if !cfg!(all(feature = "planted-defects", feature = "sql")) {
        skip("planted::each_defect_is_seen_by_its_test", "the server was built without its planted defects");
        return;
    }
    let listed = SEEN.map(|(defect, ..)| defect);
    assert_eq!(listed, Defect::ALL, "each has a test that has to see it");
    let mut unseen = Vec::new();
    for some in SEEN.chunks(AT_ONCE) {
        let runs: Vec<Child> = some.iter().map(start).collect();
        for ((defect, test, expected), run) in some.iter().zip(runs) {
            // Its tests have bounds of their own for whatever they wait for.
            let output = run.wait_with_output().expect("a child can be waited for");
            let said = [output.stdout, output.stderr]
                .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
                .concat();
            if !said.contains("0 passed; 1 failed") || !said.contains(*expected) {
                unseen.push(format!("{defect:?} is not seen by {test}, which has said:\n{said}"));
            }
        }
    }
    assert!(unseen.is_empty(), "{}", unseen.join("\n"));
}
