//! NATS with JetStream, built from its published Go module: new data each time it is started.
//!
//! Distributions have versions that cannot sync before they acknowledge, so it is not taken from a package.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::prepare;

use super::Setting;
use super::server;

pub(super) const NAME: &str = "nats";
/// When events are on disk: before they are acknowledged, or within two minutes, which is its own default.
pub(super) const SETTING: Setting = Setting { option: "--sync-interval", values: &["always", "2m"] };

/// Names the module, its version and those of all that it needs.
const MODULE: &str = "xtask/engines/nats";
const PACKAGE: &str = "github.com/nats-io/nats-server/v2";
/// Where the program is kept; it is built again when the module changes.
const TOOL: &str = "nats-server";
const SERVER: &str = "nats-server";
/// How long one answer may take while the server starts, and how many bytes of it are read.
const ANSWER_MAX: Duration = Duration::from_secs(2);
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// Starts it on new data, unless it runs. Whether that was needed.
pub(super) fn up(root: &Path, sync_interval: &str, deadline: Instant) -> Result<bool> {
    if address(root).is_some() {
        return Ok(false);
    }
    let tool = prepare::folder(root, TOOL);
    prepare::build_go(root, MODULE, PACKAGE, &tool, deadline)?;
    let (program, folder) = (tool.join(SERVER), super::folder(root, NAME));
    server::on_free_ports(NAME, &mut || start(&program, &folder, sync_interval, deadline))
}

/// Ends it, if it runs. Whether that was needed.
pub(super) fn down(root: &Path) -> Result<bool> {
    let folder = super::folder(root, NAME);
    server::end(&|| pid(&folder))
}

/// Its address as clients of NATS write it, while the server runs.
pub(super) fn address(root: &Path) -> Option<String> {
    let folder = super::folder(root, NAME);
    pid(&folder)?;
    let port = server::number(&folder, server::PORT)?;
    Some(format!("nats://{}:{port}", Ipv4Addr::LOCALHOST))
}

fn start(program: &Path, folder: &Path, sync_interval: &str, deadline: Instant) -> Result<()> {
    let [port] = server::free_ports()?;
    prepare::empty(folder)?;
    prepare::empty(&folder.join("data"))?;
    let file = settings_file(folder);
    fs::write(&file, settings(folder, port, sync_interval)).with_context(|| file.display().to_string())?;
    let mut command = Command::new(program);
    command.arg("-c").arg(&file);
    server::start(NAME, folder, port, &mut command, deadline, &mut || answers(port).unwrap_or(false))
}

fn settings_file(folder: &Path) -> PathBuf {
    folder.join("nats.conf")
}

fn settings(folder: &Path, port: u16, sync_interval: &str) -> String {
    let host = Ipv4Addr::LOCALHOST;
    let data = folder.join("data");
    let data = data.display();
    format!(
        "\
listen: \"{host}:{port}\"
jetstream {{
  store_dir: \"{data}\"
  sync_interval: {sync_interval}
}}
"
    )
}

/// It is ready when it greets whoever connects, and says that it keeps streams.
fn answers(port: u16) -> io::Result<bool> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, ANSWER_MAX)?;
    stream.set_read_timeout(Some(ANSWER_MAX))?;
    stream.write_all(b"PING\r\n")?;
    let mut greeting = String::new();
    BufReader::new(stream.take(ANSWER_BYTES_MAX)).read_line(&mut greeting)?;
    Ok(keeps_streams(&greeting))
}

fn keeps_streams(greeting: &str) -> bool {
    let facts = greeting.strip_prefix("INFO ").and_then(|facts| serde_json::from_str(facts).ok());
    facts.is_some_and(|facts: serde_json::Value| facts["jetstream"] == true)
}

fn pid(folder: &Path) -> Option<u32> {
    server::pid(&folder.join(server::PID), settings_file(folder).as_os_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_listens_on_loopback_and_syncs_before_it_acknowledges() {
        let text = settings(Path::new("/w/engines/nats"), 7_001, SETTING.values[0]);
        let has = |line: &str| text.lines().any(|one| one.trim() == line);
        assert!(has("listen: \"127.0.0.1:7001\""), "{text}");
        assert!(has("store_dir: \"/w/engines/nats/data\""), "{text}");
        assert!(has("sync_interval: always"), "{text}");
    }

    #[test]
    fn a_server_without_streams_is_not_ready() {
        assert!(keeps_streams("INFO {\"version\":\"2.14.8\",\"jetstream\":true} \r\n"));
        assert!(!keeps_streams("INFO {\"version\":\"2.14.8\"} \r\n"));
        assert!(!keeps_streams("-ERR 'Unknown Protocol Operation'\r\n"));
    }
}
