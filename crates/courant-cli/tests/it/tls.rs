//! TLS from outside: the files, the tools, and clients that speak it where nobody does, or do not where everybody does.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value;
use tempfile::{TempDir, tempdir};

use crate::cli::{assert_fails, rows, said, values};
use crate::server::{Launch, Server, courant, fixed_port};
use crate::{PATIENCE, eventually};

const USAGE: i32 = 2;
const FAILED: i32 = 1;
const UNREACHABLE: i32 = 6;

/// A certificate and its key, in a folder of their own.
pub(crate) struct Files(TempDir);

impl Files {
    /// Those of this name in `tests/certificates` of the crate `courant-kafka`.
    pub(crate) fn of(name: &str) -> Files {
        let files = Files(tempdir().unwrap());
        fs::copy(stored("authority.pem"), files.path("authority.pem")).unwrap();
        files.certificate(name);
        files.key(name);
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().expect("a path of text").to_owned()
    }

    /// Puts this certificate in the place of the one that is there, whole, as tools that renew certificates do.
    fn certificate(&self, name: &str) {
        fs::copy(stored(&format!("{name}.pem")), self.path("new")).unwrap();
        fs::rename(self.path("new"), self.path("cert.pem")).unwrap();
    }

    /// Puts this key in the place of the one that is there.
    fn key(&self, name: &str) {
        fs::copy(stored(&format!("{name}-key.pem")), self.path("new")).unwrap();
        fs::set_permissions(self.path("new"), fs::Permissions::from_mode(0o600)).unwrap();
        fs::rename(self.path("new"), self.path("key.pem")).unwrap();
    }

    /// The file of who vouches for the certificate.
    pub(crate) fn authority(&self) -> String {
        self.text("authority.pem")
    }

    fn flags(&self) -> [String; 4] {
        ["--tls-cert".to_owned(), self.text("cert.pem"), "--tls-key".to_owned(), self.text("key.pem")]
    }
}

fn stored(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../courant-kafka/tests/certificates").join(name)
}

/// A server with these files.
pub(crate) fn launch(data: &Path, files: &Files) -> Launch {
    Launch::on(data).arguments(&files.flags().each_ref().map(String::as_str))
}

/// A tool that speaks TLS to this server.
fn tool(server: &Server, files: &Files, arguments: &[&str], input: &str) -> Output {
    let (bootstrap, authority) = (server.bootstrap(), files.authority());
    let flags = ["--server", bootstrap.as_str(), "--tls-ca", authority.as_str()];
    courant(&[arguments, &flags[..]].concat(), input)
}

impl Server {
    /// Creates a topic over TLS.
    pub(crate) fn create_topic_with(&self, files: &Files, name: &str, partitions: i32) {
        let partitions = partitions.to_string();
        said(tool(self, files, &["topic", "create", name, "--partitions", &partitions], ""));
    }
}

#[test]
fn the_tools_speak_it_and_say_what_is_missing_where_they_are_not_told_to() {
    let (data, files) = (tempdir().unwrap(), Files::of("server"));
    let server = launch(data.path(), &files).start();
    let banner = server.stderr();
    assert!(banner.contains("  tls      on; the certificate is good until 2126-01-01T00:00:00Z"), "{banner}");
    assert!(banner.contains("  http     https://127.0.0.1:"), "{banner}");

    server.create_topic_with(&files, "orders", 1);
    said(tool(&server, &files, &["pub", "orders", "-l"], "one\ntwo\nthree\n"));
    let read =
        rows(tool(&server, &files, &["tail", "orders", "--from", "start", "-n", "3", "-o", "jsonl"], ""));
    assert_eq!(values(&read), ["one", "two", "three"]);

    let (bootstrap, https) = (server.bootstrap(), format!("https://{}", server.http()));
    let plain = courant(&["topic", "list", "--server", &bootstrap], "");
    assert_fails(&plain, FAILED, "--tls-ca");
    // Vouched for by nobody whom this file names.
    let (stranger, authority) = (files.text("cert.pem"), files.authority());
    let wrong = courant(&["topic", "list", "--server", &bootstrap, "--tls-ca", &stranger], "");
    assert_fails(&wrong, UNREACHABLE, "there is no TLS with");

    let top = ["top", "--once", "--http-url", &https];
    said(courant(&[&top[..], &["--tls-ca", &authority]].concat(), ""));
    assert_fails(&courant(&top, ""), USAGE, "--tls-ca");
    // The URL is what says that TLS is spoken, and not the file.
    let http = format!("http://{}", server.http());
    let plain = courant(&["top", "--once", "--http-url", &http, "--tls-ca", &authority], "");
    assert_fails(&plain, FAILED, "as https://HOST:PORT");
    let wrong = courant(&[&top[..], &["--tls-ca", &stranger]].concat(), "");
    assert_fails(&wrong, UNREACHABLE, "there is no TLS with");
    let (status, said) = server.stop();
    assert!(status.success(), "{said}");
}

/// `courant relay` took the flag and spoke without TLS: nobody answered, and nothing said why.
#[cfg(feature = "tls")]
#[test]
fn a_relay_speaks_it() {
    let (data, files) = (tempdir().unwrap(), Files::of("server"));
    let server = launch(data.path(), &files).start();
    let database = crate::relay_support::Database::sqlite();
    let row = "INSERT INTO courant_outbox_submit (topic, event_key, event_value) VALUES ('orders', 'k', '1')";
    database.submit(&[row.to_owned()]);
    let (outbox, to) = (database.url(), format!("courant://{}", server.bootstrap()));
    let relay = |flags: &[&str]| {
        let line = ["relay", "--outbox", outbox.as_str(), "--to", to.as_str(), "--once", "-o", "jsonl"];
        courant(&[&line[..], flags].concat(), "")
    };
    assert_fails(&relay(&["--tls-ca", &files.text("none.pem")]), USAGE, "--tls-ca");
    // Vouched for by nobody whom this file names.
    assert_fails(&relay(&["--tls-ca", &files.text("cert.pem")]), UNREACHABLE, "is not believed");
    let done = rows(relay(&["--tls-ca", &files.authority()]));
    assert_eq!(done[0]["published"].as_u64(), Some(1));
    let read =
        rows(tool(&server, &files, &["tail", "orders", "--from", "start", "-n", "1", "-o", "jsonl"], ""));
    assert_eq!(values(&read), ["1"]);
}

#[test]
fn each_wrong_file_has_a_sentence_of_its_own() {
    let (data, files) = (tempdir().unwrap(), Files::of("server"));
    let refused = |flags: &[&str], words: &[&str]| {
        let Err(refused) = Launch::on(data.path()).arguments(flags).try_start() else {
            panic!("it starts with {flags:?}");
        };
        refused.assert_orderly();
        assert_eq!(refused.status.code(), Some(USAGE), "{refused}");
        for word in words {
            assert!(refused.stderr.contains(word), "no {word:?}: {refused}");
        }
        assert!(!refused.stderr.contains("PRIVATE KEY-----\nM"), "a key was shown");
    };
    let (cert, key, authority) = (files.text("cert.pem"), files.text("key.pem"), files.authority());
    refused(&["--tls-cert", &cert], &["--tls-cert needs --tls-key"]);
    refused(&["--tls-key", &key], &["--tls-key needs --tls-cert"]);
    refused(&["--tls-cert", &key, "--tls-key", &key], &["--tls-cert", "there is no certificate in it"]);
    refused(&["--tls-cert", &files.text("none"), "--tls-key", &key], &["--tls-cert", "No such file"]);

    let other = files.text("other.pem");
    let private = |text: &[u8], mode: u32| {
        fs::write(&other, text).unwrap();
        fs::set_permissions(&other, fs::Permissions::from_mode(mode)).unwrap();
    };
    private(&fs::read(&cert).unwrap(), 0o600);
    refused(&["--tls-cert", &cert, "--tls-key", &other], &["--tls-key", "there is no private key in it"]);
    private(&fs::read(stored("next-key.pem")).unwrap(), 0o600);
    refused(
        &["--tls-cert", &cert, "--tls-key", &other],
        &["--tls-key", "does not belong to the certificate"],
    );
    private(&fs::read(&key).unwrap(), 0o644);
    refused(&["--tls-cert", &cert, "--tls-key", &other], &["--tls-key", "its mode is 644", "chmod o="]);
    private(b"-----BEGIN PRIVATE KEY-----\nAA\n", 0o600);
    refused(&["--tls-cert", &cert, "--tls-key", &other], &["--tls-key", "no END line"]);
    refused(&["--tls-cert", &authority, "--tls-key", &key], &["does not belong to the certificate"]);

    files.certificate("over");
    refused(
        &["--tls-cert", &cert, "--tls-key", &key],
        &["--tls-cert", "was good until 2021-01-01T00:00:00Z"],
    );
}

/// The certificate comes first and the key later, as from a tool that is killed in between: until both are there, the
/// old ones serve.
#[test]
fn another_certificate_is_taken_without_a_restart() {
    let (data, files) = (tempdir().unwrap(), Files::of("server"));
    let (kafka, http) = (fixed_port(), "127.0.0.1:0");
    let server = launch(data.path(), &files).port(kafka).start();
    // Whoever looks with a file sees only a server that shows exactly that certificate.
    let shows = |name: &str| {
        let (data, kafka) = (data.path().to_str().expect("text"), format!("127.0.0.1:{kafka}"));
        let files = Files::of(name);
        let flags = files.flags();
        let mut line =
            vec!["doctor", "-o", "json", "--data", data, "--kafka", kafka.as_str(), "--http", http];
        line.extend(flags.iter().map(String::as_str));
        let looked = courant(&line, "");
        let findings: Vec<Value> = serde_json::from_slice(&looked.stdout).expect("findings");
        let port = findings.iter().find(|finding| finding["check"] == "kafka port").expect("a check of it");
        port["verdict"] == "ok"
            && port["found"].as_str().is_some_and(|found| found.contains("a server answers"))
    };
    assert!(shows("server") && !shows("next"));

    files.certificate("next");
    eventually("a line on files that do not fit", PATIENCE, || {
        server.log().contains("does not belong to the certificate").then_some(())
    });
    assert!(shows("server"), "the one before serves on");

    files.key("next");
    eventually("a line on the other certificate", PATIENCE, || {
        server.log().contains("another certificate is in use").then_some(())
    });
    assert!(shows("next") && !shows("server"));
}

#[test]
fn doctor_says_whether_it_is_on_and_finds_the_server_behind_it() {
    let (data, files) = (tempdir().unwrap(), Files::of("server"));
    let server = launch(data.path(), &files).port(fixed_port()).start();
    let (kafka, http) = (server.bootstrap(), server.http().to_string());
    let looked = |flags: &[String]| {
        let data = data.path().to_str().expect("a path of text");
        let mut line =
            vec!["doctor", "-o", "json", "--data", data, "--kafka", kafka.as_str(), "--http", http.as_str()];
        line.extend(flags.iter().map(String::as_str));
        serde_json::from_slice::<Vec<Value>>(&courant(&line, "").stdout).expect("findings")
    };
    let is = |findings: &[Value], check: &str, verdict: &str, word: &str| {
        let finding = findings.iter().find(|finding| finding["check"] == check).expect("a check");
        assert!(finding["verdict"] == verdict && finding.to_string().contains(word), "{finding}");
    };
    let with = looked(&files.flags());
    is(&with, "tls", "ok", "good until 2126-01-01T00:00:00Z");
    is(&with, "kafka port", "ok", "a server answers");
    is(&with, "http port", "ok", "https://");
    is(&with, "advertised address", "ok", "which leads to it");
    let without = looked(&[]);
    is(&without, "tls", "ok", "off");
    is(&without, "kafka port", "failure", "as servers with TLS do");
    is(&without, "http port", "failure", "as servers with TLS do");
    let wrong = looked(&files.flags()[..2]);
    is(&wrong, "tls", "failure", "--tls-cert needs --tls-key");
}

/// Sends bytes and reads to the end.
fn speak(to: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(to).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // Either may find the connection closed.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let ended = stream.read_to_end(&mut answer);
    assert!(!ended.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock), "it stays open");
    answer
}

/// The beginning of what every TLS client says first.
const HELLO: [u8; 11] = [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];

#[test]
fn whoever_speaks_without_it_is_let_go_and_named_once() {
    let (data, files) = (tempdir().unwrap(), Files::of("server"));
    let server = launch(data.path(), &files).start();
    for _ in 0..5 {
        // ApiVersions, and a page.
        assert!(speak(server.kafka(), &[0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 0xff, 0xff]).is_empty());
        assert!(speak(server.http(), b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").is_empty());
    }
    for port in ["Kafka port, TLS:", "HTTP port, TLS:"] {
        let lines = eventually("a line on it", PATIENCE, || {
            let said = server.log();
            let lines = said.lines().filter(|line| line.contains(" WARN ") && line.contains(port)).count();
            (lines > 0).then_some(lines)
        });
        assert!(lines <= 1, "{lines} lines on the {port}:\n{}", server.log());
    }
    assert!(server.log().contains("security.protocol=SSL"), "{}", server.log());
    server.create_topic_with(&files, "after", 1);
}

#[test]
fn whoever_speaks_it_to_a_server_without_is_told_of_in_the_log() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    assert!(server.stderr().contains("  tls      off"), "{}", server.stderr());
    for port in [server.kafka(), server.http()] {
        // What the HTTP side answers is HTTP, which no TLS client takes for anything.
        speak(port, &HELLO);
    }
    for (line, advice) in
        [("spoke to the Kafka port", "--tls-cert"), ("spoke to the HTTP port", "--tls-cert")]
    {
        eventually("a line on it", PATIENCE, || {
            let said = server.log();
            said.lines().any(|said| said.contains(line) && said.contains(advice)).then_some(())
        });
    }
}
