//! The tests of timers, layers, envelope mappings and the operations channel see what they are there for: each
//! defect is planted in a process of its own, in which one of those tests has to fail.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use courant::planted::Defect;

/// Names the defect to the process in which it is planted.
const DEFECT: &str = "COURANT_TEST_DEFECT";

/// Long enough that only a test that hangs is not over by then.
const PATIENCE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(10);
/// Processes at the same time: beside other tests, more of them would wait for each other longer than their own
/// bounds allow.
const AT_ONCE: usize = 3;

const ASSERTION: &str = "assertion `left == right` failed";

/// Defects; the test that has to see each; and what it says then.
const SEEN: [(Defect, &str, &str); 9] = [
    (
        Defect::EarlyTimers,
        "sqlite::timers::a_timer_that_was_due_meanwhile_comes_at_the_start",
        "not before it is due",
    ),
    (Defect::NamelessTimers, "sqlite::timers::a_named_timer_is_replaced_and_cancelled", ASSERTION),
    (Defect::LayersOnce, "layers::every_attempt_goes_through_the_layers_once", ASSERTION),
    (Defect::AnyHandledWillDo, "layers::a_layer_cannot_answer_for_another_call", ASSERTION),
    (Defect::MappedWithoutIds, "mapping::the_plain_json_event_is_handled_once", ASSERTION),
    (Defect::ReadOnce, "mapping::what_cannot_be_read_is_kept_and_read_again", ASSERTION),
    (Defect::AnySignature, "channel::a_request_that_nobody_may_have_signed_is_refused", "Decided"),
    (Defect::NoExpiry, "channel::a_request_is_refused_when_its_time_is_over", ASSERTION),
    (
        Defect::DecisionsForgotten,
        "channel::a_discard_of_a_whole_failure_is_followed_once_whatever_is_killed",
        "NotFound",
    ),
];

/// Plants what this process was started for, if it was. Called where tests make what their services live in.
pub(crate) fn as_asked() {
    let Ok(name) = std::env::var(DEFECT) else { return };
    let asked = SEEN.iter().find(|(defect, ..)| format!("{defect:?}") == name);
    plant(asked.expect("one of the list").0);
}

#[cfg(feature = "planted-defects")]
fn plant(defect: Defect) {
    courant::planted::plant(defect);
}

#[cfg(not(feature = "planted-defects"))]
fn plant(defect: Defect) {
    unreachable!("{defect:?} needs the feature planted-defects");
}

/// A process that runs one test with a defect.
struct Run {
    child: Child,
    output: PathBuf,
}

impl Run {
    fn start(directory: &Path, defect: Defect, test: &str) -> Self {
        let output = directory.join(format!("{defect:?}"));
        let file = File::create(&output).expect("a file");
        let child = Command::new(std::env::current_exe().expect("this test has a path"))
            .args(["--exact", test, "--nocapture"])
            .env(DEFECT, format!("{defect:?}"))
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("the same file"))
            .stderr(file)
            .spawn()
            .expect("it starts");
        Self { child, output }
    }

    /// What it has said, when it is over.
    fn said(mut self) -> String {
        let until = Instant::now() + PATIENCE;
        while self.child.try_wait().expect("a child can be waited for").is_none() {
            if Instant::now() > until {
                self.child.kill().expect("it runs");
                self.child.wait().expect("a child can be waited for");
                break;
            }
            std::thread::sleep(POLL);
        }
        fs::read_to_string(&self.output).expect("text")
    }
}

#[test]
fn each_defect_is_seen_by_its_test() {
    if !cfg!(feature = "planted-defects") {
        crate::bank::skip("the framework was built without its planted defects");
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let mut unseen = Vec::new();
    for some in SEEN.chunks(AT_ONCE) {
        let start = |(defect, test, _): &(Defect, &str, &str)| Run::start(directory.path(), *defect, test);
        let runs: Vec<Run> = some.iter().map(start).collect();
        for ((defect, test, expected), run) in some.iter().zip(runs) {
            let said = run.said();
            if !said.contains("0 passed; 1 failed") || !said.contains(*expected) {
                unseen.push(format!("{defect:?} is not seen by {test}, which has said:\n{said}"));
            }
        }
    }
    assert!(unseen.is_empty(), "{}", unseen.join("\n"));
}
