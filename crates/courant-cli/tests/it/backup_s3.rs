//! `courant backup` to an object store and `courant restore` from it. The store is moto's server, which
//! speaks S3 and minds conditions.

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use serde_json::Value;
use tempfile::{TempDir, tempdir};

use crate::cli::{assert_fails, rows, run, run_with, said, values};
use crate::ledger::Ledger;
use crate::load::{Load, Plan, reading};
use crate::server::{self, Launch, Server, fixed_port, signal};
use crate::{Dice, PATIENCE, eventually, seed, skip};

const BUCKET: &str = "backups";
const PLACE: &str = "s3://backups/events";
/// moto looks at the form of it alone, until it is told to look at more.
const AUTHORIZATION: &str = "AWS4-HMAC-SHA256 Credential=tester/20260101/us-east-1/s3/aws4_request, \
                             SignedHeaders=host, Signature=0";
/// What a backup sends last.
const MANIFEST: &[u8] = b"PUT /backups/events/manifests/";

const TOPIC: &str = "backed-up";
const PARTITIONS: i32 = 4;
const ROUNDS: u64 = 4;

const FAILED: i32 = 1;
const USAGE: i32 = 2;
const NOT_FOUND: i32 = 3;
const CONFLICT: i32 = 4;
const NOT_ALLOWED: i32 = 5;
const UNREACHABLE: i32 = 6;
const INTERRUPTED: i32 = 130;

/// A store with an empty bucket. It is killed when dropped.
struct Store {
    child: Child,
    port: u16,
}

impl Store {
    fn start_or_skip(test: &str) -> Option<Store> {
        let Some(python) = std::env::var_os("COURANT_TEST_PYTHON") else {
            skip(&format!("backup_s3::{test}"), "no Python with moto has been prepared");
            return None;
        };
        let port = fixed_port();
        let child = Command::new(python)
            .args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port.to_string()])
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the Python of the tests starts");
        let store = Store { child, port };
        eventually("moto answers", PATIENCE, || store.try_ask("GET", "/moto-api/", b""));
        store.ask("PUT", &format!("/{BUCKET}"), b"");
        Some(store)
    }

    fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The body of an answer.
    fn ask(&self, method: &str, path: &str, body: &[u8]) -> String {
        let (status, answer) = self.try_ask(method, path, body).expect("moto answers");
        assert_eq!(status, 200, "{method} {path}: {answer}");
        answer
    }

    fn try_ask(&self, method: &str, path: &str, body: &[u8]) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nAuthorization: {AUTHORIZATION}\r\n\
             Content-Type: application/octet-stream\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            self.port,
            body.len()
        );
        stream.write_all(head.as_bytes()).ok()?;
        stream.write_all(body).ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok()?;
        let answer = String::from_utf8_lossy(&answer);
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A way to the store that holds up the first request of a kind, and everything behind it.
struct Gate {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    is_reached: bool,
    way: Way,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Way {
    #[default]
    Held,
    Open,
    Shut,
}

impl Gate {
    /// Holds up what contains `request`.
    fn before(store: &Store, request: &'static [u8]) -> Gate {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared::default());
        let (to, gate) = (store.port, Arc::clone(&shared));
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(store) = TcpStream::connect(("127.0.0.1", to)) else { continue };
                let (from_client, to_store) = (client.try_clone().unwrap(), store.try_clone().unwrap());
                let gate = Arc::clone(&gate);
                thread::spawn(move || gate.carry(from_client, to_store, request));
                thread::spawn(move || carry_back(store, client));
            }
        });
        Gate { port, shared }
    }

    fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn is_reached(&self) -> bool {
        self.shared.state.lock().unwrap().is_reached
    }

    fn wait_until_reached(&self) {
        let state = self.shared.state.lock().unwrap();
        let waited = self.shared.changed.wait_timeout_while(state, PATIENCE, |state| !state.is_reached);
        assert!(waited.unwrap().0.is_reached, "the request does not come");
    }

    fn set(&self, way: Way) {
        self.shared.state.lock().unwrap().way = way;
        self.shared.changed.notify_all();
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        // Whoever waits there waits no longer.
        if let Ok(mut state) = self.shared.state.lock() {
            state.way = Way::Shut;
        }
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn carry(&self, mut from: TcpStream, mut to: TcpStream, request: &[u8]) {
        let mut bytes = vec![0; 64 * 1024];
        // The last bytes of what came before: a request may come in two pieces.
        let mut seen = Vec::new();
        while let Ok(count) = from.read(&mut bytes)
            && count > 0
        {
            seen.extend_from_slice(&bytes[..count]);
            let is_it = seen.windows(request.len()).any(|window| window == request);
            seen.drain(..seen.len().saturating_sub(request.len() - 1));
            if (is_it && !self.lets_pass()) || to.write_all(&bytes[..count]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
        let _ = from.shutdown(Shutdown::Both);
    }

    fn lets_pass(&self) -> bool {
        let mut state = self.state.lock().unwrap();
        state.is_reached = true;
        self.changed.notify_all();
        let state = self.changed.wait_while(state, |state| state.way == Way::Held).unwrap();
        state.way == Way::Open
    }
}

fn carry_back(mut from: TcpStream, mut to: TcpStream) {
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Both);
}

/// A command that is running. It is killed when dropped.
struct Running(Child);

impl Running {
    fn start(mut command: Command) -> Running {
        Running(command.stdin(Stdio::null()).spawn().expect("the binary under test starts"))
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }

    /// How it ends, and what it has said.
    fn end(mut self) -> (ExitStatus, String) {
        let status = eventually("the command ends", PATIENCE, || self.0.try_wait().unwrap());
        let mut text = String::new();
        self.0.stderr.take().expect("stderr is piped").read_to_string(&mut text).unwrap();
        (status, text)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of text")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// `courant` with a store, and with nothing that this machine's user has set for others.
fn with_store(endpoint: &str, arguments: &[&str]) -> Command {
    let mut command = server::command(arguments);
    for (name, _) in std::env::vars_os() {
        let upper = name.to_string_lossy().to_uppercase();
        if upper.starts_with("AWS_") || upper.ends_with("_PROXY") {
            command.env_remove(&name);
        }
    }
    command.env("AWS_ENDPOINT_URL", endpoint).env("AWS_REGION", "us-east-1");
    command.env("AWS_ACCESS_KEY_ID", "tester").env("AWS_SECRET_ACCESS_KEY", "secret");
    command
}

fn courant(endpoint: &str, arguments: &[&str]) -> Output {
    server::run(with_store(endpoint, arguments), "")
}

fn backup(store: &Store, data: &Path) -> Output {
    courant(&store.endpoint(), &["backup", "--data", text(data), "--to", PLACE])
}

fn restore(store: &Store, data: &Path, more: &[&str]) -> Output {
    courant(&store.endpoint(), &[&["restore", "--from", PLACE, "--data", text(data)], more].concat())
}

fn listed(store: &Store) -> Vec<Value> {
    rows(courant(&store.endpoint(), &["backup", "--list", "--to", PLACE]))
}

/// A data directory with a few events, of a server that has stopped.
fn filled() -> TempDir {
    let data = tempdir().unwrap();
    publish(data.path(), "one\ntwo\nthree\n");
    data
}

fn publish(data: &Path, lines: &str) {
    let server = Server::start(data);
    said(run_with(&server, &["pub", "orders", "-l"], lines));
    let (status, said) = server.stop();
    assert!(status.success(), "{said}");
}

/// The disk dies under load. Nothing that was acknowledged before a backup began is missing after it was
/// restored, and each backup but the first adds to the one before.
#[test]
fn a_server_comes_back_from_an_object_store() {
    let Some(store) = Store::start_or_skip("a_server_comes_back_from_an_object_store") else { return };
    let seed = seed();
    let mut dice = Dice::new(seed);
    let folder = tempdir().unwrap();
    let data = folder.path().join("data");
    let launch = Launch::on(&data).port(fixed_port());
    let server = launch.start();
    let bootstrap = server.bootstrap();
    server.create_topic(TOPIC, PARTITIONS);
    let ledger = Ledger::new(TOPIC);
    let plan = Plan { producers: 3, first_producer: 0, partitions: PARTITIONS, seed };
    let load = Load::start(&bootstrap, &ledger, plan);
    let mut promised = Vec::new();
    for round in 1..=ROUNDS {
        let more = usize::try_from(dice.between(100, 1_500)).unwrap();
        let target = ledger.acked_count() + more;
        assert!(ledger.reaches(target, PATIENCE), "seed {seed}: no progress before backup {round}");
        promised.push(ledger.acked_now());
        let taken = rows(backup(&store, &data));
        assert_eq!((taken.len(), &taken[0]["number"]), (1, &round.into()), "seed {seed}: {taken:?}");
        assert_eq!(taken[0]["damaged_places"], 0, "seed {seed}: {taken:?}");
    }
    server.assert_well("some backups");
    server.kill();
    load.abandon();
    assert_eq!(listed(&store).len() as u64, ROUNDS);

    for (round, acked) in promised.iter().enumerate().map(|(index, acked)| (index + 1, acked)).rev() {
        fs::remove_dir_all(&data).unwrap();
        let number = round.to_string();
        let restored = restore(&store, &data, &["--backup", &number]);
        assert!(restored.status.success(), "seed {seed}, backup {round}: {}", stderr(&restored));
        let server = launch.start();
        let when = format!("seed {seed}, from backup {round}");
        ledger.check(acked, &reading(&bootstrap, TOPIC, PARTITIONS)).assert_clean(&when);
        let (status, said) = server.stop();
        assert!(status.success(), "{said}");
    }
}

#[test]
fn a_second_backup_is_refused_and_told_who_is_first() {
    let Some(store) = Store::start_or_skip("a_second_backup_is_refused_and_told_who_is_first") else {
        return;
    };
    let data = filled();
    let gate = Gate::before(&store, MANIFEST);
    let arguments = ["backup", "--data", text(data.path()), "--to", PLACE];
    let first = Running::start(with_store(&gate.endpoint(), &arguments));
    gate.wait_until_reached();
    let second = backup(&store, data.path());
    assert_fails(&second, CONFLICT, "another backup is being taken there");
    let holder = format!("process {}, for ", first.pid());
    let told = stderr(&second);
    assert!(told.contains(&format!("The lock {PLACE}/LOCK is held by ")) && told.contains(&holder), "{told}");
    assert!(listed(&store).is_empty(), "a manifest before it was written");
    gate.set(Way::Open);
    let (status, said) = first.end();
    assert!(status.success(), "{said}");
    // The lock is free at once.
    assert_eq!(rows(backup(&store, data.path()))[0]["number"], 2);
}

/// A process that was killed gives nothing back. Its lock is respected until its lease is over, and taken
/// over then.
#[test]
fn the_lock_of_a_killed_backup_is_taken_over() {
    let Some(store) = Store::start_or_skip("the_lock_of_a_killed_backup_is_taken_over") else { return };
    let data = filled();
    let gate = Gate::before(&store, MANIFEST);
    let arguments = ["backup", "--data", text(data.path()), "--to", PLACE, "--lease", "4s"];
    let killed = eventually("a backup comes to the gate", PATIENCE, || {
        let mut running = Running::start(with_store(&gate.endpoint(), &arguments));
        // One that has no turn for half of so short a lease gives up before it comes there.
        let is_held = eventually("it comes there, or ends", PATIENCE, || {
            let has_ended = running.0.try_wait().unwrap().is_some();
            if gate.is_reached() { Some(true) } else { has_ended.then_some(false) }
        });
        is_held.then_some(running)
    });
    drop(killed);
    gate.set(Way::Shut);
    let taken = eventually("the lock is taken over", PATIENCE, || {
        let output = backup(&store, data.path());
        if output.status.success() {
            return Some(output);
        }
        assert_fails(&output, CONFLICT, "another backup is being taken there");
        None
    });
    let told = stderr(&taken);
    assert!(told.contains("was not renewed in time by "), "{told}");
    // The killed one does not exist.
    assert_eq!(rows(taken)[0]["number"], 1);
    assert_eq!(listed(&store).len(), 1);
}

/// Ctrl-C in the middle of a backup must not keep the next one out for the time of a lease.
#[test]
fn an_interrupted_backup_gives_its_lock_back() {
    let Some(store) = Store::start_or_skip("an_interrupted_backup_gives_its_lock_back") else { return };
    let data = filled();
    let gate = Gate::before(&store, MANIFEST);
    let arguments = ["backup", "--data", text(data.path()), "--to", PLACE];
    let interrupted = Running::start(with_store(&gate.endpoint(), &arguments));
    gate.wait_until_reached();
    signal(interrupted.pid(), "INT");
    let (status, said) = interrupted.end();
    assert_eq!(status.code(), Some(INTERRUPTED), "{said}");
    gate.set(Way::Shut);
    let next = backup(&store, data.path());
    assert!(!stderr(&next).contains("LOCK"), "{}", stderr(&next));
    assert_eq!(rows(next)[0]["number"], 1);
}

/// More than two parts up, in pieces down. A block that turns out to be damaged in the third part leaves no
/// parts behind.
#[test]
fn a_large_segment_goes_in_parts() {
    const EVENTS: usize = 200;
    const DAMAGED_AT: u64 = 18_000_000;
    let Some(store) = Store::start_or_skip("a_large_segment_goes_in_parts") else { return };
    let folder = tempdir().unwrap();
    let data = folder.path().join("data");
    let mut dice = Dice::new(seed());
    // Lines that nothing makes much smaller.
    let mut line = || dice.bytes(50_000).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let lines: Vec<String> = (0..EVENTS).map(|_| line()).collect();
    publish(&data, &lines.join("\n"));
    let segment = segment_of(&data);
    let file = OpenOptions::new().read(true).write(true).open(&segment).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, DAMAGED_AT).unwrap();
    file.write_all_at(&[byte[0] ^ 1], DAMAGED_AT).unwrap();
    let damaged = backup(&store, &data);
    assert_eq!(damaged.status.code(), Some(FAILED), "{}", stderr(&damaged));
    let unfinished = store.ask("GET", &format!("/{BUCKET}?uploads"), b"");
    assert!(!unfinished.contains("<Upload>"), "{unfinished}");
    // The ETag of an object of parts ends with their number.
    let objects = store.ask("GET", &format!("/{BUCKET}?list-type=2&prefix=events/segments/"), b"");
    assert!(objects.contains("-3\"<") || objects.contains("-3&quot;<"), "{objects}");

    file.write_all_at(&byte, DAMAGED_AT).unwrap();
    assert_eq!(rows(backup(&store, &data))[0]["damaged_places"], 0);
    let copy = folder.path().join("copy");
    let restored = restore(&store, &copy, &[]);
    assert!(restored.status.success(), "{}", stderr(&restored));
    let server = Server::start(&copy);
    let events = rows(run(&server, &["tail", "orders", "-o", "jsonl"]));
    assert!(values(&events) == lines, "the events are not those that were published");
}

/// The one segment of a data directory.
fn segment_of(data: &Path) -> PathBuf {
    let partition = fs::read_dir(data.join("segments")).unwrap().next().unwrap().unwrap().path();
    let mut files = fs::read_dir(partition).unwrap().map(|entry| entry.unwrap().path());
    files.find(|path| path.extension().is_some_and(|is| is == "segment")).unwrap()
}

/// A store answers with a thousand names at a time. The manifests are behind the first thousand.
#[test]
fn listings_have_more_than_one_page() {
    let Some(store) = Store::start_or_skip("listings_have_more_than_one_page") else { return };
    let data = filled();
    for number in 0..1_001 {
        store.ask("PUT", &format!("/{BUCKET}/events/manifests/!{number:04}"), b"not ours");
    }
    for number in 1..=2_u64 {
        assert_eq!(rows(backup(&store, data.path()))[0]["number"], number);
    }
    let numbers: Vec<_> = listed(&store).iter().map(|backup| backup["number"].clone()).collect();
    assert_eq!(numbers, [Value::from(1), Value::from(2)]);
}

#[test]
fn what_a_store_refuses_is_said_with_what_to_change() {
    let Some(store) = Store::start_or_skip("what_a_store_refuses_is_said_with_what_to_change") else {
        return;
    };
    let data = filled();
    let endpoint = store.endpoint();
    let to = |endpoint: &str, place: &str| {
        with_store(endpoint, &["backup", "--data", text(data.path()), "--to", place])
    };
    let fails = |command: Command, code: i32, word: &str| assert_fails(&server::run(command, ""), code, word);

    fails(
        to(&endpoint, "s3://absent/events"),
        NOT_FOUND,
        "there is no bucket `absent` for s3://absent/events",
    );
    let empty = tempdir().unwrap();
    assert_fails(&restore(&store, empty.path(), &[]), NOT_FOUND, "there is no backup");
    fails(to(&endpoint, "s3://host:9000/events"), USAGE, "AWS_ENDPOINT_URL");
    fails(to(&endpoint, "gs://backups/events"), USAGE, "s3://BUCKET/PREFIX");
    fails(to("nowhere", PLACE), USAGE, "AWS_ENDPOINT_URL says `nowhere`");
    let nobody = format!("http://127.0.0.1:{}", fixed_port());
    fails(to(&nobody, PLACE), UNREACHABLE, "does not answer");

    let mut anonymous = to(&endpoint, PLACE);
    anonymous.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
    // Where a machine of Amazon's cloud would be asked who it is.
    anonymous.env("AWS_METADATA_ENDPOINT", &nobody);
    fails(anonymous, NOT_ALLOWED, "there are no credentials for s3://backups/events: set AWS_ACCESS_KEY_ID");

    // From here on moto knows nobody.
    store.ask("POST", "/moto-api/reset-auth", b"0");
    fails(to(&endpoint, PLACE), NOT_ALLOWED, "(InvalidAccessKeyId): check AWS_ACCESS_KEY_ID");
}
