//! A real application with Spring Kafka, `clients/spring`, puts what it cannot handle where Spring puts it:
//! on our server. We list it with its cause, send it back, and the application, healed, takes it.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::Value;
use tempfile::tempdir;

use crate::cli::{assert_fails, rows, run, said};
use crate::clients::program::java;
use crate::server::Server;
use crate::{PATIENCE, eventually, skip};

const USAGE: i32 = 2;
const NOT_FOUND: i32 = 3;

/// The application. It is killed when dropped.
struct Application {
    child: Child,
    printed: Arc<Mutex<Vec<String>>>,
}

impl Application {
    fn start(jars: &Path, server: &Server, healed: &Path, log: &Path) -> Application {
        let words = java(jars, "courant.spring.Orders");
        let mut child = Command::new(&words[0])
            .args(&words[1..])
            .arg(server.bootstrap())
            .arg(healed)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(fs::File::create(log).unwrap())
            .spawn()
            .expect("java starts");
        let printed = Arc::new(Mutex::new(Vec::new()));
        let (lines, stdout) = (Arc::clone(&printed), child.stdout.take().expect("stdout is piped"));
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                lines.lock().unwrap().push(line);
            }
        });
        Application { child, printed }
    }

    /// Waits until it has taken this order; where that was, and its headers.
    fn took(&self, order: &str) -> String {
        eventually(&format!("it takes {order}"), PATIENCE, || {
            let printed = self.printed.lock().unwrap();
            printed.iter().find(|line| line.split(' ').nth(3) == Some(order)).cloned()
        })
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn only(rows: Vec<Value>) -> Value {
    assert_eq!(rows.len(), 1, "{rows:?}");
    rows.into_iter().next().expect("there is one")
}

#[test]
fn what_spring_has_given_up_is_listed_sent_back_and_taken() {
    let Some(jars) = std::env::var_os("COURANT_TEST_JAVA_SPRING").map(PathBuf::from) else {
        skip("dlq_spring", "no program with Spring Kafka has been prepared");
        return;
    };
    let directory = tempdir().unwrap();
    let (data, healed) = (directory.path().join("data"), directory.path().join("healed"));
    fs::create_dir(&data).unwrap();
    let server = Server::start(&data);
    server.create_topic("orders", 2);
    server.create_topic("orders-dlt", 2);
    let application = Application::start(&jars, &server, &healed, &directory.path().join("application.log"));
    for (key, order) in [("a", "good-1"), ("a", "poison-1"), ("a", "good-2"), ("b", "good-3")] {
        said(run(&server, &["pub", "orders", "--key", key, "-H", "source=shop", order]));
    }
    application.took("good-2");
    application.took("good-3");

    let group = eventually("the letter is there", PATIENCE, || {
        rows(run(&server, &["dlq", "foreign", "list", "orders-dlt"])).into_iter().next()
    });
    assert_eq!(group["framework"], "spring-kafka");
    assert_eq!(group["original"], "orders");
    assert_eq!(group["consumer"], "desk");
    assert_eq!(group["error"], "java.lang.IllegalStateException");
    assert_eq!(group["letters"], 1);
    let name = group["group"].as_str().unwrap();
    let letter = only(rows(run(&server, &["dlq", "foreign", "list", "orders-dlt", "--group", name])));
    let at = letter["letter"].as_str().unwrap();
    let shown = only(rows(run(&server, &["dlq", "foreign", "show", "orders-dlt", at])));
    assert_eq!(shown["value"], "poison-1");
    assert_eq!(shown["original_offset"], 1, "it was the second of its key");
    let message = shown["message"].as_str().unwrap();
    assert!(message.contains("the order cannot be priced"), "{message}");
    let causes: Vec<_> =
        shown["causes"].as_array().unwrap().iter().map(|cause| cause.as_str().unwrap()).collect();
    let expected = [
        "java.lang.IllegalStateException: the order cannot be priced",
        "java.lang.IllegalArgumentException: no price for poison-1",
    ];
    assert_eq!(causes, expected);

    let redrive = ["dlq", "foreign", "redrive", "orders-dlt", "--all", "--id", "priced"];
    assert_fails(&run(&server, &redrive), USAGE, "every consumer");
    eventually("who reads there is known", PATIENCE, || {
        let planned = only(rows(run(&server, &[&redrive[..], &["--dry-run"]].concat())));
        (planned["readers"] == serde_json::json!(["desk"])).then_some(())
    });
    fs::write(&healed, "").unwrap();
    let done = only(rows(run(&server, &[&redrive[..], &["--yes"]].concat())));
    assert_eq!(done["state"], "done");
    assert_eq!(done["published"], 1);
    let taken = application.took("poison-1");
    // The partition that it comes from, and the headers of the event alone.
    let partition = shown["original_partition"].to_string();
    assert_eq!(taken.split(' ').nth(1), Some(partition.as_str()));
    let headers: Vec<_> = taken.split(' ').skip(4).collect();
    assert_eq!(headers, ["source", "courant-redrive", "courant-redrive-of"]);

    assert_eq!(rows(run(&server, &["dlq", "foreign", "list", "orders-dlt"])).len(), 0);
    assert_fails(&run(&server, &[&redrive[..], &["--yes"]].concat()), NOT_FOUND, "nobody has decided");
    let poison = application.printed.lock().unwrap().iter().filter(|line| line.contains("poison-1")).count();
    assert_eq!(poison, 1, "it was taken once");
}
