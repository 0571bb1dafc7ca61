//! Apache Kafka from its published jars: one node that is broker and controller (KRaft), with new data each
//! time it is started.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::prepare;
use crate::process;

use super::{Setting, server};

pub(super) const NAME: &str = "kafka";
/// What it is there for: tests, or figures.
pub(super) const SETTING: Setting = Setting { option: "--for", values: &["tests", FIGURES] };
/// Who measures it gets it as its own scripts start it.
const FIGURES: &str = "figures";

/// Names the jars and their version.
const POM: &str = "xtask/engines/kafka.xml";
/// Where they are kept; they are fetched again when the pom changes.
const JARS: &str = "kafka-server";
/// Any 22 characters of base64 in its URL form.
const CLUSTER: &str = "courant-tests-of-kafka";
const STORAGE_TOOL: &str = "kafka.tools.StorageTool";
const SERVER: &str = "kafka.Kafka";
const QUIET: &str = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn";
/// A short life is not worth the second compiler, nor threads that collect garbage.
const SMALL: [&str; 2] = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"];
/// The memory of a server of tests.
const SMALL_HEAP: &str = "-Xmx384m";
/// As `kafka-server-start.sh` and `kafka-run-class.sh` start it.
const FULL: [&str; 8] = [
    "-Xmx1G",
    "-Xms1G",
    "-server",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
    "-Djava.awt.headless=true",
];

/// What tells tests where a server of tests speaks TLS and wants a login.
pub(super) const LOGIN_VARIABLE: &str = "COURANT_TEST_KAFKA_LOGIN";
/// The file that names that port.
const LOGIN_PORT: &str = "login-port";
/// Where the certificates of the tests are.
const CERTIFICATES: &str = "crates/courant-kafka/tests/certificates";
/// The certificate of the server and its key, in the server's folder.
const IDENTITY: &str = "identity.pem";
/// Who may log in by SCRAM, as the storage tool takes it.
const SCRAM: [&str; 2] =
    ["SCRAM-SHA-256=[name=ann,password=secret]", "SCRAM-SHA-512=[name=ann,password=secret]"];

/// How long one answer may take while the server starts.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// Bytes of an answer that is read while the server starts.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// Starts it on new data, unless it runs. Whether that was needed.
pub(super) fn up(root: &Path, purpose: &str, deadline: Instant) -> Result<bool> {
    if address(root).is_some() {
        return Ok(false);
    }
    ensure!(process::find_program("java").is_some(), "no java here");
    let jars = prepare::folder(root, JARS);
    prepare::copy_jars(&root.join(POM), &jars, deadline)?;
    let folder = super::folder(root, NAME);
    server::on_free_ports(NAME, &mut || start(root, &folder, &jars, purpose, deadline))
}

/// Ends it, if it runs. Whether that was needed.
pub(super) fn down(root: &Path) -> Result<bool> {
    let folder = super::folder(root, NAME);
    server::end(&|| pid(&folder))
}

/// What clients call `bootstrap.servers`, while the server runs.
pub(super) fn address(root: &Path) -> Option<String> {
    let folder = super::folder(root, NAME);
    pid(&folder)?;
    let port = server::number(&folder, server::PORT)?;
    Some(format!("{}:{port}", Ipv4Addr::LOCALHOST))
}

/// Where clients speak TLS and log in, while a server of tests runs.
pub(super) fn login_address(root: &Path) -> Option<String> {
    let folder = super::folder(root, NAME);
    pid(&folder)?;
    let port = server::number(&folder, LOGIN_PORT)?;
    Some(format!("{}:{port}", Ipv4Addr::LOCALHOST))
}

/// Formats the data, starts the server on ports that are free now, and waits until it answers.
fn start(root: &Path, folder: &Path, jars: &Path, purpose: &str, deadline: Instant) -> Result<()> {
    let [port, controller_port, login_port] = server::free_ports()?;
    prepare::empty(folder)?;
    let file = settings_file(folder);
    let is_small = purpose != FIGURES;
    let mut text = settings(folder, port, controller_port, is_small.then_some(login_port));
    if is_small {
        text.push_str(SMALL_SETTINGS);
        write_identity(root, folder)?;
    }
    fs::write(&file, text).with_context(|| file.display().to_string())?;
    let mut format = java(jars, &[SMALL.as_slice(), &["-Xmx128m"]].concat(), STORAGE_TOOL);
    format.args(["format", "-t", CLUSTER, "-c"]).arg(&file).current_dir(folder);
    if is_small {
        format.args(SCRAM.iter().flat_map(|user| ["--add-scram", *user]));
    }
    let mut said = Vec::new();
    let ended = process::stream(&mut format, deadline, &mut |line| {
        said.push(line.to_owned());
        false
    })
    .context("java does not start")?;
    ensure!(ended.is_success(), "the storage tool: {}: {}", ended.describe(), said.join(" | "));

    let options = if purpose == FIGURES { FULL.to_vec() } else { [SMALL.as_slice(), &[SMALL_HEAP]].concat() };
    let mut command = java(jars, &options, SERVER);
    command.arg(&file);
    let mut answers = || brokers(port).is_ok_and(|brokers| brokers > 0);
    server::start(NAME, folder, port, &mut command, deadline, &mut answers)?;
    if is_small { server::write_number(folder, LOGIN_PORT, login_port.into()) } else { Ok(()) }
}

/// The key and the certificate in one file, as Kafka takes them in PEM.
fn write_identity(root: &Path, folder: &Path) -> Result<()> {
    let read = |name: &str| {
        let file = root.join(CERTIFICATES).join(name);
        fs::read_to_string(&file).with_context(|| file.display().to_string())
    };
    let file = folder.join(IDENTITY);
    let text = read("server-key.pem")? + &read("server.pem")?;
    fs::write(&file, text).with_context(|| file.display().to_string())
}

fn java(jars: &Path, options: &[&str], class: &str) -> Command {
    let mut command = Command::new("java");
    command.args(options).arg(QUIET).arg("-cp").arg(jars.join("*")).arg(class);
    command
}

fn settings_file(folder: &Path) -> PathBuf {
    folder.join("server.properties")
}

/// What it is told, with a port for logins or without.
fn settings(folder: &Path, port: u16, controller_port: u16, login_port: Option<u16>) -> String {
    let host = Ipv4Addr::LOCALHOST;
    let data = folder.join("data");
    let data = data.display();
    let (listener, protocol, logins) = match login_port {
        None => (String::new(), "", String::new()),
        Some(port) => {
            let identity = folder.join(IDENTITY);
            let keystore = format!("listener.name.login.ssl.keystore.location={}\n", identity.display());
            (format!(",LOGIN://{host}:{port}"), ",LOGIN:SASL_SSL", LOGIN_SETTINGS.to_owned() + &keystore)
        }
    };
    format!(
        "\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{host}:{controller_port}
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller_port}{listener}
advertised.listeners=PLAINTEXT://{host}:{port}{listener}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT{protocol}
inter.broker.listener.name=PLAINTEXT
log.dirs={data}
# One node has one copy of everything.
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
# Soon there: fifty of each would be made while the first client waits.
offsets.topic.num.partitions=4
transaction.state.log.num.partitions=4
# Tests and figures write records whose times are years ago.
log.retention.ms=-1
{logins}"
    )
}

/// Logins of Ann, each way that services know.
const LOGIN_SETTINGS: &str = "\
listener.name.login.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512
listener.name.login.plain.sasl.jaas.config=\\
  org.apache.kafka.common.security.plain.PlainLoginModule required user_ann=\"secret\";
listener.name.login.scram-sha-256.sasl.jaas.config=\\
  org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.login.scram-sha-512.sasl.jaas.config=\\
  org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.login.ssl.keystore.type=PEM
";

/// What a server of tests has besides.
const SMALL_SETTINGS: &str = "\
# Small, and soon there.
num.network.threads=2
num.io.threads=2
log.cleaner.dedupe.buffer.size=4194304
broker.heartbeat.interval.ms=100
group.initial.rebalance.delay.ms=0
# Members may be given up sooner than outside of tests.
group.min.session.timeout.ms=500
";

/// Asks for the cluster without its topics: Metadata, version 1, with an empty list.
const QUESTION: [u8; 18] = [
    0, 0, 0, 14, // Bytes of what follows.
    0, 3, 0, 1, // Metadata, version 1.
    0, 0, 0, 1, // The number of the question.
    0xff, 0xff, // No client id.
    0, 0, 0, 0, // No topics.
];

/// How many brokers the server knows that can be used. When there is one it is ready.
fn brokers(port: u16) -> io::Result<i32> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, ANSWER_MAX)?;
    stream.set_read_timeout(Some(ANSWER_MAX))?;
    stream.write_all(&QUESTION)?;
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = usize::try_from(i32::from_be_bytes(length)).unwrap_or(usize::MAX);
    // The number of the question, and how many brokers follow.
    if !(8..=ANSWER_BYTES_MAX).contains(&length) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut answer = [0; 8];
    stream.read_exact(&mut answer)?;
    let [_, _, _, _, count @ ..] = answer;
    Ok(i32::from_be_bytes(count))
}

fn pid(folder: &Path) -> Option<u32> {
    server::pid(&folder.join(server::PID), settings_file(folder).as_os_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A figure of a server that was made small for tests would be a figure of the tests.
    #[test]
    fn what_is_measured_is_set_as_it_comes() {
        let settings = settings(Path::new("/w/target/engines/kafka"), 7_001, 7_002, None);
        assert!(!settings.contains("LOGIN"), "{settings}");
        for small in SMALL_SETTINGS.lines().filter_map(|line| line.split_once('=')) {
            assert!(!settings.contains(small.0), "{}", small.0);
        }
        assert!(FULL.iter().all(|option| !SMALL.contains(option) && *option != SMALL_HEAP));
    }

    #[test]
    fn the_question_is_as_long_as_it_says() {
        assert_eq!(usize::from(QUESTION[3]), QUESTION.len() - 4);
    }
}
