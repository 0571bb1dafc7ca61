//! A service that is told to end by signals, in a process of its own: the one of the tests has others in it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use courant::prelude::*;
use courant::{BoxError, Service, until_signal};
use tokio::sync::Notify;

/// Says that this process is the service, and how its end is written.
const CHILD: &str = "COURANT_SIGNALS_CHILD";
const CHILD_TEST: &str = "signals::in_a_process_of_its_own";

/// Long enough that only what never comes is not there by then.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Event, Serialize, Deserialize)]
#[event(type = "test.asked", topic = "test.asked", no_key)]
struct Asked {
    what: String,
}

/// Keeps the handler until a line comes on stdin.
#[derive(Clone)]
struct Gate(Arc<Notify>);

fn say(what: &str) {
    // Nobody may listen any more.
    let _ = writeln!(std::io::stdout(), "{what}");
}

async fn answer(_: Asked, State(gate): State<Gate>) {
    say("begun");
    gate.0.notified().await;
    say("done");
}

async fn service() -> Result<Service, BoxError> {
    let gate = Gate(Arc::new(Notify::new()));
    let opened = gate.0.clone();
    std::thread::spawn(move || {
        if std::io::stdin().lock().lines().map_while(Result::ok).next().is_some() {
            opened.notify_one();
        }
    });
    let answering =
        Subscription::named("answering").at_least_once().when_exhausted(Exhausted::Skip).on(answer);
    let app = App::new("signals").engine("memory:").partitions(1).state(gate);
    let service = app.subscribe(answering).build().await?;
    service.publisher().publish(&Asked { what: "tea".to_owned() }).await?;
    Ok(service)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_process_of_its_own() -> Result<(), BoxError> {
    let Ok(how) = std::env::var(CHILD) else { return Ok(()) };
    let service = service().await?;
    match how.as_str() {
        "told" => {
            let ended = until_signal(|told| {
                service.run_until(async {
                    told.await;
                    say("told");
                })
            });
            say(&format!("ended: {:?}", ended.await));
        }
        _ => say(&format!("ended: {:?}", service.run_until_signal().await)),
    }
    Ok(())
}

/// A process with a service whose handler has begun, and waits.
struct Told {
    child: Child,
    stdin: ChildStdin,
    said: Receiver<String>,
}

impl Told {
    fn start(how: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("this test has a path"))
            .args(["--exact", CHILD_TEST, "--nocapture"])
            .env(CHILD, how)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let stdin = child.stdin.take().expect("stdin is piped");
        let stdout = child.stdout.take().expect("stdout is piped");
        let (tell, said) = channel();
        std::thread::spawn(move || {
            // Nobody may listen any more.
            BufReader::new(stdout).lines().map_while(Result::ok).for_each(|line| drop(tell.send(line)));
        });
        let told = Self { child, stdin, said };
        told.says("begun");
        told
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id();
        let sent = Command::new("sh").args(["-c", &format!("kill -{name} {pid}")]).status().expect("sh runs");
        assert!(sent.success(), "the signal could not be sent");
    }

    /// The next line that is not of the harness, which may have begun it with a line of its own.
    fn next(&self) -> String {
        loop {
            let line = self.said.recv_timeout(PATIENCE).expect("it says something");
            let found = ["begun", "told", "done", "ended: "].iter().find_map(|word| line.find(*word));
            if let Some(at) = found {
                return line[at..].to_owned();
            }
        }
    }

    fn says(&self, what: &str) {
        assert_eq!(self.next(), what);
    }

    /// How the process ends.
    fn status(mut self) -> ExitStatus {
        // Its output ends with it.
        loop {
            match self.said.recv_timeout(PATIENCE) {
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("it does not end"),
            }
        }
        self.child.wait().expect("a child can be waited for")
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The end comes behind what is under way, and says what there is to say of it.
#[test]
fn the_first_signal_ends_a_service_in_order() {
    for name in ["TERM", "INT"] {
        let mut told = Told::start("told");
        told.signal(name);
        told.says("told");
        writeln!(told.stdin, "go on").expect("it reads");
        told.says("done");
        told.says("ended: Ok(Ok(()))");
        assert!(told.status().success(), "{name}");
    }
}

#[test]
fn the_second_signal_ends_it_at_once() {
    let told = Told::start("twice");
    // Two of one kind could become one.
    told.signal("TERM");
    told.signal("INT");
    told.says("ended: Err(Signal(Again))");
    assert!(told.status().success());
}
