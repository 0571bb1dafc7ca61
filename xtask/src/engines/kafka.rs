//! Apache Kafka from its published jars: one node that is broker and controller (KRaft), with new data each
//! time it is started.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::prepare;
use crate::process;

pub(super) const NAME: &str = "kafka";

/// Names the jars and their version.
const POM: &str = "xtask/engines/kafka.xml";
/// Where they are kept; they are fetched again when the pom changes.
const JARS: &str = "kafka-server";
/// Any 22 characters of base64 in its URL form.
const CLUSTER: &str = "courant-tests-of-kafka";
const STORAGE_TOOL: &str = "kafka.tools.StorageTool";
const SERVER: &str = "kafka.Kafka";
/// A short life is not worth the second compiler, nor threads that collect garbage.
const JAVA: [&str; 3] =
    ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"];

const POLL: Duration = Duration::from_millis(50);
/// How long one answer may take while the server starts.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// Bytes of an answer that is read while the server starts.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;
/// How long it may take to end, and how often a port that was free is lost to somebody else.
const PATIENCE: Duration = Duration::from_secs(20);
const ATTEMPTS: u32 = 3;

/// Starts it on new data, unless it runs. Whether that was needed.
pub(super) fn up(root: &Path, deadline: Instant) -> Result<bool> {
    if address(root).is_some() {
        return Ok(false);
    }
    ensure!(process::find_program("java").is_some(), "no java here");
    let jars = prepare::folder(root, JARS);
    prepare::copy_jars(&root.join(POM), &jars, deadline)?;
    let folder = super::folder(root, NAME);
    for attempt in 1..=ATTEMPTS {
        prepare::empty(&folder)?;
        match start(&folder, &jars, deadline) {
            Ok(()) => return Ok(true),
            Err(error) if attempt == ATTEMPTS => return Err(error),
            Err(error) => println!("{NAME}: {error:#}; again, on other ports"),
        }
    }
    Ok(false)
}

/// Ends it, if it runs. Whether that was needed.
pub(super) fn down(root: &Path) -> Result<bool> {
    let folder = super::folder(root, NAME);
    let Some(pid) = pid(&folder) else { return Ok(false) };
    for signal in ["-TERM", "-KILL"] {
        let sent = Command::new("kill").args([signal, &pid.to_string()]).status().context("kill")?;
        ensure!(sent.success() || self::pid(&folder).is_none(), "no right to end process {pid}");
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if self::pid(&folder).is_none() {
                return Ok(true);
            }
            thread::sleep(POLL);
        }
    }
    bail!("process {pid} has not ended")
}

/// What clients call `bootstrap.servers`, while the server runs.
pub(super) fn address(root: &Path) -> Option<String> {
    let folder = super::folder(root, NAME);
    pid(&folder)?;
    let port: u16 = fs::read_to_string(folder.join("port")).ok()?.trim().parse().ok()?;
    Some(format!("{}:{port}", Ipv4Addr::LOCALHOST))
}

/// Formats the data, starts the server on ports that are free now, and waits until it answers.
fn start(folder: &Path, jars: &Path, deadline: Instant) -> Result<()> {
    let (port, controller_port) = free_ports()?;
    let file = settings_file(folder);
    fs::write(&file, settings(folder, port, controller_port)).with_context(|| file.display().to_string())?;
    let mut format = java(jars, "128m", STORAGE_TOOL);
    format.args(["format", "-t", CLUSTER, "-c"]).arg(&file).current_dir(folder);
    let mut said = Vec::new();
    let ended = process::stream(&mut format, deadline, &mut |line| {
        said.push(line.to_owned());
        false
    })
    .context("java does not start")?;
    ensure!(ended.is_success(), "the storage tool: {}: {}", ended.describe(), said.join(" | "));

    let log = folder.join("log");
    let output = File::create(&log).with_context(|| log.display().to_string())?;
    let errors = output.try_clone().context("the log")?;
    let mut server = java(jars, "384m", SERVER);
    // It outlives this process, and what ends this process from a terminal is not meant for it.
    server.arg(&file).current_dir(folder).stdin(Stdio::null()).stdout(output).stderr(errors).process_group(0);
    let mut child = server.spawn().context("java does not start")?;
    write_number(folder, "pid", child.id())?;
    wait_until_ready(&mut child, port, deadline).with_context(|| format!("see {}", log.display()))?;
    write_number(folder, "port", port.into())
}

fn write_number(folder: &Path, name: &str, number: u32) -> Result<()> {
    let file = folder.join(name);
    fs::write(&file, format!("{number}\n")).with_context(|| file.display().to_string())
}

fn java(jars: &Path, heap: &str, class: &str) -> Command {
    let mut command = Command::new("java");
    command.arg(format!("-Xmx{heap}")).args(JAVA).arg("-cp").arg(jars.join("*")).arg(class);
    command
}

fn settings_file(folder: &Path) -> PathBuf {
    folder.join("server.properties")
}

fn settings(folder: &Path, port: u16, controller_port: u16) -> String {
    let host = Ipv4Addr::LOCALHOST;
    let data = folder.join("data");
    let data = data.display();
    format!(
        "\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{host}:{controller_port}
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller_port}
advertised.listeners=PLAINTEXT://{host}:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
log.dirs={data}
# One node has one copy of everything.
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
# Small, and soon there.
offsets.topic.num.partitions=4
transaction.state.log.num.partitions=4
num.network.threads=2
num.io.threads=2
log.cleaner.dedupe.buffer.size=4194304
broker.heartbeat.interval.ms=100
group.initial.rebalance.delay.ms=0
# Members may be given up sooner than outside of tests.
group.min.session.timeout.ms=500
# Tests write records whose times are years ago.
log.retention.ms=-1
"
    )
}

/// It is ready when it answers a question for the cluster with a broker that others may use.
fn wait_until_ready(child: &mut Child, port: u16, deadline: Instant) -> Result<()> {
    loop {
        let brokers = brokers(port).unwrap_or(0);
        // Somebody else's server may answer on a port that was lost: then the child has ended.
        if let Some(status) = child.try_wait().context("the server")? {
            bail!("the server has ended: {status}");
        }
        if brokers > 0 {
            return Ok(());
        }
        if Instant::now() > deadline {
            child.kill().context("the server")?;
            bail!("the server does not answer in time");
        }
        thread::sleep(POLL);
    }
}

/// Asks for the cluster without its topics: Metadata, version 1, with an empty list.
const QUESTION: [u8; 18] = [
    0, 0, 0, 14, // Bytes of what follows.
    0, 3, 0, 1, // Metadata, version 1.
    0, 0, 0, 1, // The number of the question.
    0xff, 0xff, // No client id.
    0, 0, 0, 0, // No topics.
];

/// How many brokers the server knows that can be used.
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

/// Two of them, held at the same time so that they differ.
fn free_ports() -> Result<(u16, u16)> {
    let listen = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port on loopback");
    let (one, other) = (listen()?, listen()?);
    let port = |listener: &TcpListener| listener.local_addr().context("no port on loopback");
    Ok((port(&one)?.port(), port(&other)?.port()))
}

/// The server's process, while it runs: the one that our file names, if that is it.
fn pid(folder: &Path) -> Option<u32> {
    let pid: u32 = fs::read_to_string(folder.join("pid")).ok()?.trim().parse().ok()?;
    let arguments = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    names(&arguments, &settings_file(folder)).then_some(pid)
}

/// Whether a process was started with these settings: a number may have been given to another one since.
fn names(arguments: &[u8], settings: &Path) -> bool {
    arguments.split(|byte| *byte == 0).any(|argument| argument == settings.as_os_str().as_encoded_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_server_with_our_settings_is_ours() {
        let settings = Path::new("/w/target/engines/kafka/server.properties");
        assert!(names(b"java\0kafka.Kafka\0/w/target/engines/kafka/server.properties\0", settings));
        assert!(!names(b"java\0kafka.Kafka\0/w/target/engines/kafka/server.properties2\0", settings));
        assert!(!names(b"vi\0", settings));
    }

    #[test]
    fn two_ports_differ() {
        let (one, other) = free_ports().unwrap();
        assert_ne!(one, other);
    }

    #[test]
    fn the_question_is_as_long_as_it_says() {
        assert_eq!(usize::from(QUESTION[3]), QUESTION.len() - 4);
    }
}
