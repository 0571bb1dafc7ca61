//! A server whose wall clock is wrong, or is set while it runs: retention deletes nothing too early, and
//! everything else goes on.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::producer::{BaseRecord, Producer as _, ThreadedProducer};
use tempfile::tempdir;

use crate::clients::rdkafka_client;
use crate::server::{Launch, Server, courant};
use crate::{PATIENCE, eventually, program, skip};

/// Keeps its events for a week.
const WEEK: &str = "week";
/// Keeps its events for a second, so that retention looks at all topics every second.
const SECOND: &str = "second";

const YEAR_MS: i64 = 365 * 24 * 60 * 60 * 1000;

/// The library that gives a program another wall clock, as the loader is to be told of it.
fn library() -> Option<String> {
    program("faketime", "--version")?;
    let asked =
        Command::new("faketime").args(["-f", "+0", "printenv", "LD_PRELOAD"]).stdin(Stdio::null()).output();
    let library = String::from_utf8(asked.ok()?.stdout).ok()?;
    Some(library.trim().to_owned()).filter(|library| !library.is_empty())
}

/// The wall clock of a server, as far from the right one as its file says. The other clocks are right:
/// nobody sets those.
struct Clock {
    library: String,
    file: PathBuf,
}

impl Clock {
    fn new(library: String, folder: &Path) -> Clock {
        let clock = Clock { library, file: folder.join("clock") };
        clock.set("+0");
        clock
    }

    /// Sets it, for instance to `+10y`. In one step, so that nobody reads half of it.
    fn set(&self, offset: &str) {
        let new = self.file.with_extension("new");
        fs::write(&new, format!("{offset}\n")).unwrap();
        fs::rename(&new, &self.file).unwrap();
    }

    fn launch(&self, data: &Path) -> Launch {
        Launch::on(data)
            .variable("LD_PRELOAD", &self.library)
            .variable("FAKETIME_TIMESTAMP_FILE", &self.file.to_string_lossy())
            .variable("FAKETIME_NO_CACHE", "1")
            .variable("FAKETIME_DONT_FAKE_MONOTONIC", "1")
    }
}

fn now_ms() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// Adds an event that happened then.
fn produce(server: &Server, topic: &str, at_ms: i64) {
    let producer: ThreadedProducer<_> =
        ClientConfig::new().set("bootstrap.servers", server.bootstrap()).create().expect("a producer");
    let value = format!("happened at {at_ms}");
    let record = BaseRecord::<str, str>::to(topic).partition(0).payload(&value).timestamp(at_ms);
    producer.send(record).map_err(|(error, _)| error).expect("queued");
    producer.flush(PATIENCE).expect("it is acknowledged");
}

/// Begin and end of a topic's only partition.
fn ends(server: &Server, topic: &str) -> (i64, i64) {
    let consumer: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", server.bootstrap()).create().expect("a consumer");
    consumer.fetch_watermarks(topic, 0, PATIENCE).expect("the ends")
}

/// Waits until retention has looked at the topics, by an event that has been too old for twenty years,
/// whichever clock is believed.
fn look_at_retention(server: &Server) {
    produce(server, SECOND, now_ms() - 20 * YEAR_MS);
    eventually("retention deletes what is too old", PATIENCE, || {
        let (begin, end) = ends(server, SECOND);
        (begin == end).then_some(())
    });
}

/// Adds one more event of now, lets retention look, and fails unless all there ever were are there.
fn assert_none_is_deleted(server: &Server, events: &mut i64, when: &str) {
    produce(server, WEEK, now_ms());
    *events += 1;
    look_at_retention(server);
    assert_eq!(ends(server, WEEK), (0, *events), "{when}; the server said:\n{}", server.stderr());
    let read = rdkafka_client::read(&server.bootstrap(), WEEK, 1, rdkafka_client::Start::Beginning);
    assert_eq!(read.len(), usize::try_from(*events).unwrap(), "{when}");
    server.assert_well(when);
}

fn create(server: &Server, topic: &str, retention_ms: i64) {
    let config = format!("retention.ms={retention_ms}");
    let bootstrap = server.bootstrap();
    let created = courant(&["topic", "create", topic, "--config", &config, "--server", &bootstrap], "");
    assert!(created.status.success(), "{}", String::from_utf8_lossy(&created.stderr));
}

fn wait_for_doubt(server: &Server) {
    eventually("the server says that it does not believe the clock", PATIENCE, || {
        server.log().contains("the clock has jumped ahead").then_some(())
    });
}

#[test]
fn a_clock_that_is_wrong_by_years_deletes_nothing() {
    let Some(library) = library() else {
        skip("clocks::a_clock_that_is_wrong_by_years_deletes_nothing", "no faketime here");
        return;
    };
    let folder = tempdir().unwrap();
    let data = folder.path().join("data");
    let clock = Clock::new(library, folder.path());
    let server = clock.launch(&data).start();
    create(&server, WEEK, 7 * 24 * 60 * 60 * 1000);
    create(&server, SECOND, 1000);
    let mut events = 0;
    assert_none_is_deleted(&server, &mut events, "the clock is right");

    clock.set("+10y");
    assert_none_is_deleted(&server, &mut events, "the clock has jumped ten years ahead");
    wait_for_doubt(&server);
    // It goes on by the time that has passed since: what has become too old meanwhile still goes.
    produce(&server, SECOND, now_ms());
    eventually("retention goes on", PATIENCE, || {
        let (begin, end) = ends(&server, SECOND);
        (begin == end).then_some(())
    });

    clock.set("-10y");
    assert_none_is_deleted(&server, &mut events, "the clock has jumped back");
    clock.set("+0");
    assert_none_is_deleted(&server, &mut events, "the clock is right again");
    let (status, said) = server.stop();
    assert!(status.success(), "an orderly stop: {status}\n{said}");

    // A machine that has forgotten the time, and is told it a little later.
    clock.set("-10y");
    let server = clock.launch(&data).start();
    assert_none_is_deleted(&server, &mut events, "a start ten years ago");
    clock.set("+0");
    assert_none_is_deleted(&server, &mut events, "the clock was set right after the start");
    wait_for_doubt(&server);
    server.kill();

    let server = clock.launch(&data).start();
    assert_none_is_deleted(&server, &mut events, "a start with the right clock");
    let doubts = server.log().matches("the clock has jumped ahead").count();
    assert_eq!(doubts, 0, "a right clock is believed:\n{}", server.log());
    server.kill();

    clock.set("+10y");
    let server = clock.launch(&data).start();
    assert_none_is_deleted(&server, &mut events, "a start ten years ahead");
    wait_for_doubt(&server);
}
