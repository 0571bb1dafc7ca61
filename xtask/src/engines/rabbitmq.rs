//! RabbitMQ from the machine's packages: one node with new data each time it is started.
//!
//! A node of Erlang tells its port to a second server, `epmd`, and finds others through it. By default that
//! one listens everywhere and stays for ever, so the node gets one of its own, which is started before and
//! ended after it. Whatever Erlang starts here listens on loopback.
//!
//! The package may also bring a service of the system, on the ports that everybody knows; this is not it.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Error, Result};

use crate::prepare::{self, Tool};
use crate::process;

use super::server;

pub(super) const NAME: &str = "rabbitmq";

/// The server itself. What stands in the `PATH` under this name writes into the system's folders.
const SERVER: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";
const NAMES: &str = "epmd";
/// The second one comes with the first.
const TOOLS: [Tool; 2] =
    [Tool { needs: SERVER, package: "rabbitmq-server" }, Tool { needs: NAMES, package: "erlang-base" }];
/// The files with the number and the port of the process that knows ports.
const NAMES_PID: &str = "epmd.pid";
const NAMES_PORT: &str = "epmd.port";
/// Where the server itself writes its number, as long as it runs.
const OWN_PID: &str = "node.pid";
/// How long one answer may take while the server starts.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// Where it listens, for clients, for other nodes, and for who looks for nodes.
#[derive(Clone, Copy)]
struct Ports {
    clients: u16,
    nodes: u16,
    names: u16,
}

/// Starts it on new data, unless it runs. Whether that was needed.
pub(super) fn up(root: &Path, deadline: Instant) -> Result<bool> {
    if address(root).is_some() {
        return Ok(false);
    }
    prepare::install_missing(&TOOLS, deadline).map_err(Error::msg)?;
    let epmd = process::find_program(NAMES).with_context(|| format!("no {NAMES} here"))?;
    let folder = super::folder(root, NAME);
    // One that a start has left behind.
    end_names(&folder)?;
    server::on_free_ports(NAME, &mut || {
        prepare::empty(&folder)?;
        let started = start(&folder, &epmd, deadline);
        if started.is_err() {
            end_names(&folder)?;
        }
        started
    })
}

/// Ends it, if it runs. Whether that was needed.
pub(super) fn down(root: &Path) -> Result<bool> {
    let folder = super::folder(root, NAME);
    let ended = server::end(&|| pid(&folder))?;
    Ok(end_names(&folder)? || ended)
}

/// Its address as clients of AMQP write it, while the server runs.
pub(super) fn address(root: &Path) -> Option<String> {
    let folder = super::folder(root, NAME);
    pid(&folder)?;
    let port = server::number(&folder, server::PORT)?;
    Some(format!("amqp://guest:guest@{}:{port}", Ipv4Addr::LOCALHOST))
}

fn start(folder: &Path, epmd: &Path, deadline: Instant) -> Result<()> {
    let [clients, nodes, names] = server::free_ports()?;
    let ports = Ports { clients, nodes, names };
    for (name, text) in files(ports) {
        let file = folder.join(name);
        fs::write(&file, text).with_context(|| file.display().to_string())?;
    }
    let mut command = Command::new(epmd);
    command.args(["-address", &Ipv4Addr::LOCALHOST.to_string(), "-port", &names.to_string()]);
    let known = server::spawn(command.current_dir(folder), &folder.join("epmd.log"))?;
    server::write_number(folder, NAMES_PORT, names.into())?;
    server::write_number(folder, NAMES_PID, known.id())?;

    let log = folder.join("log");
    let mut command = Command::new(SERVER);
    for (name, value) in environment(folder, ports) {
        command.env(name, value);
    }
    let mut child = server::spawn(command.current_dir(folder), &log)?;
    let ready = wait_until_ready(&mut child, folder, clients, deadline);
    if ready.is_err() {
        server::give_up(&mut child);
    }
    ready.with_context(|| format!("see {}", log.display()))?;
    server::write_number(folder, server::PORT, clients.into())
}

/// The child is a script that waits for the server; the server names itself.
fn wait_until_ready(child: &mut Child, folder: &Path, port: u16, deadline: Instant) -> Result<()> {
    server::wait_until_ready(child, NAME, deadline, &mut || answers(port).is_ok())?;
    let pid = server::number(folder, OWN_PID).with_context(|| format!("{NAME} has not named itself"))?;
    server::write_number(folder, server::PID, pid)
}

/// Its files, and what stands in them: those of the machine are not read.
fn files(ports: Ports) -> [(&'static str, String); 4] {
    let settings = format!(
        "\
listeners.tcp.default = {}:{}
log.file = false
log.console = true
log.console.level = warning
",
        Ipv4Addr::LOCALHOST,
        ports.clients
    );
    [
        ("rabbitmq.conf", settings),
        ("rabbitmq-env.conf", String::new()),
        ("advanced.config", "[].\n".to_owned()),
        ("enabled_plugins", "[].\n".to_owned()),
    ]
}

fn environment(folder: &Path, ports: Ports) -> Vec<(&'static str, String)> {
    let below = |name: &str| folder.join(name).display().to_string();
    vec![
        // Also the place of the secret that nodes share, and what its process is known by.
        ("HOME", folder.display().to_string()),
        ("ERL_EPMD_ADDRESS", Ipv4Addr::LOCALHOST.to_string()),
        ("ERL_EPMD_PORT", ports.names.to_string()),
        // For every program of Erlang that it starts: other nodes are expected from everywhere by default.
        ("ERL_FLAGS", "-kernel inet_dist_use_interface {127,0,0,1}".to_owned()),
        ("RABBITMQ_NODENAME", "courant@localhost".to_owned()),
        ("RABBITMQ_DIST_PORT", ports.nodes.to_string()),
        ("RABBITMQ_CONF_ENV_FILE", below("rabbitmq-env.conf")),
        ("RABBITMQ_CONFIG_FILE", below("rabbitmq.conf")),
        ("RABBITMQ_ADVANCED_CONFIG_FILE", below("advanced.config")),
        ("RABBITMQ_ENABLED_PLUGINS_FILE", below("enabled_plugins")),
        ("RABBITMQ_PLUGINS_EXPAND_DIR", below("plugins")),
        ("RABBITMQ_MNESIA_BASE", below("data")),
        ("RABBITMQ_LOG_BASE", below("logs")),
        ("RABBITMQ_LOGS", "-".to_owned()),
        ("RABBITMQ_PID_FILE", below(OWN_PID)),
    ]
}

/// How a client of AMQP 0-9-1 begins.
const HELLO: [u8; 8] = *b"AMQP\0\0\x09\x01";
/// What stands at the beginning of the answer: a frame with a method on channel 0.
const START: [u8; 3] = [1, 0, 0];

/// It is ready when it answers the first words of a client.
fn answers(port: u16) -> io::Result<()> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, ANSWER_MAX)?;
    stream.set_read_timeout(Some(ANSWER_MAX))?;
    stream.write_all(&HELLO)?;
    let mut answer = [0; START.len()];
    stream.read_exact(&mut answer)?;
    if answer == START { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
}

/// The node's process. Erlang repeats its home among its arguments.
fn pid(folder: &Path) -> Option<u32> {
    server::pid(&folder.join(server::PID), folder.as_os_str())
}

/// The process that knows ports: the one with our port.
fn names_pid(folder: &Path) -> Option<u32> {
    let port = server::number(folder, NAMES_PORT)?.to_string();
    server::pid(&folder.join(NAMES_PID), OsStr::new(&port))
}

fn end_names(folder: &Path) -> Result<bool> {
    server::end(&|| names_pid(folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORTS: Ports = Ports { clients: 7_001, nodes: 7_002, names: 7_003 };

    #[test]
    fn everything_of_erlang_stays_on_loopback() {
        let environment = environment(Path::new("/w/engines/rabbitmq"), PORTS);
        let value = |name: &str| {
            let found = environment.iter().find(|(one, _)| *one == name);
            found.map(|(_, value)| value.as_str())
        };
        assert_eq!(value("ERL_EPMD_ADDRESS"), Some("127.0.0.1"));
        assert_eq!(value("ERL_EPMD_PORT"), Some("7003"));
        assert_eq!(value("ERL_FLAGS"), Some("-kernel inet_dist_use_interface {127,0,0,1}"));
        assert_eq!(value("RABBITMQ_DIST_PORT"), Some("7002"));
        let files = files(PORTS);
        assert!(files[0].1.starts_with("listeners.tcp.default = 127.0.0.1:7001\n"));
    }

    #[test]
    fn every_file_that_the_server_reads_is_ours() {
        let folder = Path::new("/w/engines/rabbitmq");
        let environment = environment(folder, PORTS);
        for (name, _) in files(PORTS) {
            let path = folder.join(name).display().to_string();
            assert!(environment.iter().any(|(_, value)| *value == path), "{name}");
        }
    }
}
