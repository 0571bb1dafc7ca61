//! What no client should send: a protocol error or a closed connection, and a server that goes on.

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::tempdir;

use crate::raw::{self, Answer, Body, Connection, batch};
use crate::server::{Launch, Server};
use crate::{Dice, PATIENCE, any_python, eventually, python_script, seed, skip};

const CORRUPT_MESSAGE: i16 = 2;
const INVALID_TOPIC: i16 = 17;
const UNSUPPORTED_VERSION: i16 = 35;

const BAD_REQUESTS: &str = "courant_kafka_bad_requests_total";

/// A server that says also what it keeps back of its warnings because there were many like it.
fn outspoken(data: &Path) -> Server {
    Launch::on(data).variable("COURANT_LOG", "courant_kafka=debug,info").start()
}

/// Fails unless a case left exactly one line of warning, or none when the client was `answered`.
///
/// The server, which is an [`outspoken`] one, counts and warns before it closes, so that the count is final when a
/// client has seen the end; only the line itself is still on its way here. A line too many, also a late one, is seen
/// by the next case or by [`assert_all_told`].
fn assert_told_once(server: &Server, what: &str, before: u64, answered: bool) {
    let counted = server.counter(BAD_REQUESTS);
    let told = counted - before;
    // Garbage may begin with a request that has an answer, and then go on or not.
    assert!(told == 1 || (answered && told == 0), "{what}: {told} bad requests were counted");
    eventually(&format!("one warning for {what}"), PATIENCE, || {
        let warnings = warnings(&server.log());
        assert!(warnings <= counted, "{what}: {warnings} warnings of {counted}:\n{}", server.log());
        (warnings == counted).then_some(())
    });
}

fn warnings(log: &str) -> u64 {
    log.lines().filter(|line| line.contains(" WARN ") || line.contains(" unsaid=true")).count() as u64
}

/// Fails unless all that the server wrote, up to its end, has one warning for each bad request.
fn assert_all_told(server: Server) {
    let counted = server.counter(BAD_REQUESTS);
    let (status, said) = server.stop();
    assert!(status.success(), "{status}\n{said}");
    let log = said.split_once("\nready\n").map_or("", |(_, log)| log);
    assert_eq!(warnings(log), counted, "warnings and bad requests:\n{said}");
}

/// Sends bytes, then nothing more, and fails unless the server ends the connection in time and says
/// so once.
fn send_and_see_the_end(server: &Server, what: &str, bytes: &[u8]) {
    let before = server.counter(BAD_REQUESTS);
    let mut stream = TcpStream::connect(server.kafka()).expect("the Kafka port accepts");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // The server may have seen enough before it has read everything.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    if let Err(error) = stream.read_to_end(&mut answer) {
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{what}");
    }
    assert_told_once(server, what, before, !answer.is_empty());
}

/// Sends a request and fails unless it is answered in time, or the connection is closed and the
/// server says so once.
fn send_and_see_anything(server: &Server, what: &str, api: i16, version: i16, body: &Body) {
    let before = server.counter(BAD_REQUESTS);
    let mut connection = Connection::open(server.kafka());
    connection.send(api, version, body).expect("the server reads");
    // One byte of an answer, or none because the connection was closed, is all that is asked.
    let mut answer = Vec::new();
    let seen = connection.stream().take(1).read_to_end(&mut answer);
    if let Err(error) = seen {
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{what}");
    }
    assert_told_once(server, what, before, !answer.is_empty());
}

#[test]
fn other_protocols_are_named_in_the_log() {
    let data = tempdir().unwrap();
    let server = outspoken(data.path());
    let mut hello = vec![0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
    hello.extend(Dice::new(1).bytes(506));
    let cases: [(&str, &[u8]); 3] = [
        ("HTTP", b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"),
        ("HTTP", b"POST /topics/orders HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n{}"),
        ("TLS", &hello),
    ];
    for (protocol, bytes) in cases {
        // The banner has URLs too, and so have the lines of the cases before.
        let before = server.log().matches(protocol).count();
        send_and_see_the_end(&server, protocol, bytes);
        eventually("a line that names the protocol", PATIENCE, || {
            (server.log().matches(protocol).count() > before).then_some(())
        });
        server.assert_well(protocol);
    }
    assert_all_told(server);
}

/// Symptom: a client that was refused, and came again and again, wrote a line into the log each time. Cause: only what
/// is said of handshakes was said seldom. Fix: so is all that clients can cause, kind by kind.
#[test]
fn a_client_that_is_refused_again_and_again_does_not_fill_the_log() {
    const TIMES: u64 = 30;
    const OF_REQUESTS_MAX: usize = 10;
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    server.create_topic("batches", 1);
    let mut connection = Connection::open(server.kafka());
    let mut corrupt = batch(&[b"a"]);
    *corrupt.last_mut().expect("bytes") ^= 0x10;
    let strangers: [&[u8]; 4] = [
        &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3],
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        // A length that no request has, and an API that nobody serves.
        &[0, 0, 0, 7],
        &[0, 0, 0, 10, 3, 0xe7, 0, 0, 0, 0, 0, 1, 0xff, 0xff],
    ];
    for _ in 0..TIMES {
        for bytes in strangers {
            let mut stream = TcpStream::connect(server.kafka()).expect("the Kafka port accepts");
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            // Either may find the connection closed.
            let _ = stream.write_all(bytes);
            let _ = stream.shutdown(Shutdown::Write);
            let ended = stream.read_to_end(&mut Vec::new());
            assert!(!ended.is_err_and(|error| error.kind() == ErrorKind::WouldBlock), "it stays open");
        }
        assert_eq!(connection.produce("batches", 0, &corrupt).expect("an answer").0, CORRUPT_MESSAGE);
        assert_eq!(connection.create_topic("a b", 1).expect("an answer"), INVALID_TOPIC);
    }
    assert_eq!(server.counter(BAD_REQUESTS), TIMES * strangers.len() as u64);
    let (status, said) = server.stop();
    assert!(status.success(), "{status}\n{said}");
    for (what, most) in [
        ("this server speaks no TLS", 1),
        ("HTTP is at", 1),
        ("7 bytes", OF_REQUESTS_MAX),
        ("which is not served", OF_REQUESTS_MAX),
        ("Produce refused", OF_REQUESTS_MAX),
        ("CreateTopics refused", OF_REQUESTS_MAX),
    ] {
        let lines = said.lines().filter(|line| line.contains(" WARN ") && line.contains(what)).count();
        assert!((1..=most).contains(&lines), "{lines} lines with {what:?}:\n{said}");
    }
}

#[test]
fn garbage_is_survived() {
    let data = tempdir().unwrap();
    let server = outspoken(data.path());
    let seed = seed();
    let mut dice = Dice::new(seed);
    for number in 0..300 {
        let size = usize::try_from(dice.between(1, 4_096)).unwrap();
        let mut bytes = dice.bytes(size);
        if number % 2 == 0 && size > 12 {
            // An honest length and a known API, so that the garbage gets further in.
            let length = i32::try_from(size - 4).unwrap();
            bytes[..4].copy_from_slice(&length.to_be_bytes());
            let api = i16::try_from(dice.between(0, 25)).unwrap();
            bytes[4..6].copy_from_slice(&api.to_be_bytes());
            // The one API that answers to every version is asked in one that it has.
            let versions = if api == raw::API_VERSIONS { 5 } else { 14 };
            let version = i16::try_from(dice.between(0, versions)).unwrap();
            bytes[6..8].copy_from_slice(&version.to_be_bytes());
        }
        send_and_see_the_end(&server, &format!("seed {seed}, garbage {number}"), &bytes);
    }
    server.assert_well("garbage");
    assert_all_told(server);
}

#[test]
fn lying_frame_lengths_are_survived() {
    let data = tempdir().unwrap();
    let server = outspoken(data.path());
    let honest = Body::default().i16(raw::API_VERSIONS).i16(0).i32(1).string("raw");
    for claimed in [0, 1, 7, 8, 9, 1_000, 100 << 20, i32::MAX, -1, i32::MIN] {
        let frame = Body::default().i32(claimed).raw(&honest.0);
        send_and_see_the_end(&server, &format!("a frame of {claimed} bytes"), &frame.0);
    }
    server.assert_well("lying frame lengths");
    assert_all_told(server);
}

#[test]
fn lying_arrays_and_strings_are_survived() {
    let data = tempdir().unwrap();
    let server = outspoken(data.path());
    let many = i32::MAX;
    // Flexible versions: an empty tag section ends the header, lengths are varints plus one.
    let flexible = || Body::default().i8(0);
    let huge_varint: &[u8] = &[0xff, 0xff, 0xff, 0xff, 0x0f];
    let endless_varint: &[u8] = &[0xff; 16];
    let produce = || Body::default().i16(-1).i16(-1).i32(1_000);
    let fetch = || Body::default().i32(-1).i32(0).i32(1).i32(1 << 20).i8(0);
    let cases = [
        ("an array", raw::METADATA, 1, Body::default().i32(many)),
        ("a negative array", raw::METADATA, 1, Body::default().i32(-7)),
        ("an array's element", raw::METADATA, 1, Body::default().i32(1)),
        ("a string", raw::METADATA, 1, Body::default().i32(1).i16(i16::MAX).raw(b"abc")),
        ("a negative string", raw::METADATA, 1, Body::default().i32(1).i16(-9)),
        ("a compact array", raw::METADATA, 9, flexible().raw(huge_varint)),
        ("an endless varint", raw::METADATA, 9, flexible().raw(endless_varint)),
        ("a compact string", raw::API_VERSIONS, 3, flexible().raw(huge_varint)),
        ("tags", raw::API_VERSIONS, 3, flexible().raw(&[2, b'a', 2, b'b']).raw(huge_varint)),
        ("the header's tags", raw::API_VERSIONS, 3, Body::default().raw(huge_varint)),
        ("topics to write", raw::PRODUCE, 3, produce().i32(many)),
        ("partitions to write", raw::PRODUCE, 3, produce().i32(1).string("t").i32(many)),
        ("records", raw::PRODUCE, 3, produce().i32(1).string("t").i32(1).i32(0).i32(many)),
        ("no records", raw::PRODUCE, 3, produce().i32(1).string("t").i32(1).i32(0).i32(-1)),
        ("topics to read", raw::FETCH, 4, fetch().i32(many)),
        ("topics to create", raw::CREATE_TOPICS, 2, Body::default().i32(many)),
    ];
    for (what, api, version, body) in &cases {
        send_and_see_anything(&server, what, *api, *version, body);
    }
    server.assert_well("lying arrays and strings");
    assert_all_told(server);
}

#[test]
fn unknown_apis_and_versions_are_answered_or_closed() {
    let data = tempdir().unwrap();
    let server = outspoken(data.path());
    let nothing = Body::default();
    for api in [999, -1, i16::MIN, 68] {
        send_and_see_anything(&server, &format!("API {api}"), api, 0, &nothing);
    }
    for version in [99, -1, i16::MAX] {
        let what = format!("Metadata version {version}");
        send_and_see_anything(&server, &what, raw::METADATA, version, &nothing);
    }
    // The one request whose version a client cannot know: it is told, in the oldest form.
    let mut answer =
        Connection::open(server.kafka()).call(raw::API_VERSIONS, 127, &nothing).expect("an answer");
    assert_eq!(answer.i16().unwrap(), UNSUPPORTED_VERSION);
    server.assert_well("unknown APIs and versions");
    assert_all_told(server);
}

#[test]
fn bad_batches_are_refused_and_leave_nothing_behind() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    server.create_topic("batches", 1);
    let mut connection = Connection::open(server.kafka());
    let good = batch(&[b"a", b"b"]);
    let produced = connection.produce("batches", 0, &good);
    assert_eq!(produced.unwrap(), (0, 0));

    let mut corrupt = good.clone();
    *corrupt.last_mut().expect("bytes") ^= 0x10;
    let produced = connection.produce("batches", 0, &corrupt);
    assert_eq!(produced.unwrap().0, CORRUPT_MESSAGE);

    let changed = |at: usize, bytes: &[u8]| {
        let mut batch = good.clone();
        batch[at..at + bytes.len()].copy_from_slice(bytes);
        let crc = raw::crc32c(&batch[21..]);
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
        batch
    };
    let length = i32::try_from(good.len() - 12).unwrap();
    let cases: [(&str, Vec<u8>); 16] = [
        ("magic 0", changed(16, &[0])),
        ("magic 1", changed(16, &[1])),
        ("magic 3", changed(16, &[3])),
        ("a length above the batch's", changed(8, &(length + 1).to_be_bytes())),
        ("a length below the batch's", changed(8, &(length - 1).to_be_bytes())),
        ("a length of 2 GiB", changed(8, &i32::MAX.to_be_bytes())),
        ("a negative length", changed(8, &(-1_i32).to_be_bytes())),
        ("a length of 0", changed(8, &0_i32.to_be_bytes())),
        ("a codec that nobody knows", changed(21, &7_i16.to_be_bytes())),
        ("a control batch", changed(21, &32_i16.to_be_bytes())),
        ("too many records claimed", changed(57, &i32::MAX.to_be_bytes())),
        ("no records claimed", changed(57, &0_i32.to_be_bytes())),
        ("a negative last offset", changed(23, &(-5_i32).to_be_bytes())),
        ("half a header", good[..30].to_vec()),
        ("nothing", Vec::new()),
        ("two batches", [good.clone(), good.clone()].concat()),
    ];
    for (what, records) in &cases {
        let mut connection = Connection::open(server.kafka());
        // Closing the connection is an answer too.
        if let Ok((error, _)) = connection.produce("batches", 0, records) {
            assert_ne!(error, 0, "{what}");
        }
    }
    let stored = connection.batches("batches", 0);
    assert_eq!(stored.len(), 1, "only the good batch is there: {stored:?}");
    server.assert_well("bad batches");
}

#[test]
fn bad_topic_names_are_refused_and_touch_no_file() {
    let outside = tempdir().unwrap();
    let server = Server::start(&outside.path().join("data"));
    let long = "x".repeat(250);
    let bad = ["../x", "..", ".", "", "/etc/x", "a/b", "a\\b", "a b", "nul\0", "ä", &long];
    for name in bad {
        let mut connection = Connection::open(server.kafka());
        let created = connection.create_topic(name, 1).expect("an answer");
        assert_eq!(created, INVALID_TOPIC, "creating {name:?}");
        let looked_up = metadata_error(&mut connection, name);
        assert_eq!(looked_up, INVALID_TOPIC, "looking up {name:?}");
        let (written, _) = connection.produce(name, 0, &batch(&[b"value"])).expect("an answer");
        assert_ne!(written, 0, "writing to {name:?}");
    }
    let longest = &long[..249];
    server.create_topic(longest, 1);
    let beside: Vec<_> =
        std::fs::read_dir(outside.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(beside, ["data"], "files beside the data directory");
    server.assert_well("bad topic names");
}

/// The error code that Metadata, version 1, has for a topic; asking creates it if it can be.
fn metadata_error(connection: &mut Connection, topic: &str) -> i16 {
    let body = Body::default().i32(1).string(topic);
    let mut answer = connection.call(raw::METADATA, 1, &body).expect("an answer");
    let read = |answer: &mut Answer| -> std::io::Result<i16> {
        for _ in 0..answer.count()? {
            answer.i32()?; // node
            answer.string()?;
            answer.i32()?; // port
            answer.string()?; // rack
        }
        answer.i32()?; // controller
        assert_eq!(answer.count()?, 1, "topics in the answer");
        answer.i16()
    };
    read(&mut answer).expect("a whole answer")
}

#[test]
fn claims_take_no_memory() {
    const CONNECTIONS: u64 = 1_000;
    const CLAIMED_BYTES: u64 = 100 << 20;
    const ALLOWED_KIB: u64 = 64 << 10;
    let Some(python) = any_python() else {
        skip("bad_input::claims_take_no_memory", "no Python");
        return;
    };
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    // A first client, so that what a server needs anyway is counted before.
    server.assert_well("its start");
    let before = server.memory_kib("VmRSS");
    let mut attack = Command::new(python)
        .arg(python_script("claims.py"))
        .arg(server.kafka().ip().to_string())
        .arg(server.kafka().port().to_string())
        .arg(CONNECTIONS.to_string())
        .arg(CLAIMED_BYTES.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("Python starts");
    let mut opened = String::new();
    let mut stdout = BufReader::new(attack.stdout.take().expect("stdout is piped"));
    stdout.read_line(&mut opened).expect("a line of text");
    assert_eq!(opened.trim_end(), format!("open {CONNECTIONS}"));

    // Whoever is answered now was accepted after all of them.
    for _ in 0..20 {
        server.assert_well("a thousand claims");
    }
    // The peak, not the present: memory that was taken and given back counts.
    let peak = server.memory_kib("VmHWM");
    assert!(
        peak <= before + ALLOWED_KIB,
        "{CONNECTIONS} claims took the server from {before} KiB to {peak} KiB"
    );
    drop(attack.stdin.take());
    let ended = attack.wait().expect("a child can be waited for");
    assert!(ended.success(), "claims.py: {ended}");
    server.assert_well("their end");
}
