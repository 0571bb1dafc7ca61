//! Redis from the machine's packages: new data each time it is started, with every command in a file.
//!
//! The package may also bring a service of the system, on the port that everybody knows; this is not it.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Error, Result};

use crate::prepare::{self, Tool};
use crate::process;

use super::Setting;
use super::server;

pub(super) const NAME: &str = "redis";
/// When commands are on disk: before they are answered, or within a second.
pub(super) const SETTING: Setting = Setting { option: "--appendfsync", values: &["always", "everysec"] };

const SERVER: &str = "redis-server";
const TOOL: Tool = Tool { needs: SERVER, package: "redis-server" };
/// How long one answer may take while the server starts.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// Starts it on new data, unless it runs. Whether that was needed.
pub(super) fn up(root: &Path, appendfsync: &str, deadline: Instant) -> Result<bool> {
    if address(root).is_some() {
        return Ok(false);
    }
    prepare::install_missing(&[TOOL], deadline).map_err(Error::msg)?;
    let program = process::find_program(SERVER).with_context(|| format!("no {SERVER} here"))?;
    let folder = super::folder(root, NAME);
    server::on_free_ports(NAME, &mut || start(&program, &folder, appendfsync, deadline))
}

/// Ends it, if it runs. Whether that was needed.
pub(super) fn down(root: &Path) -> Result<bool> {
    let folder = super::folder(root, NAME);
    server::end(&|| pid(&folder))
}

/// Its address as clients of Redis write it, while the server runs.
pub(super) fn address(root: &Path) -> Option<String> {
    let folder = super::folder(root, NAME);
    pid(&folder)?;
    let port = server::number(&folder, server::PORT)?;
    Some(format!("redis://{}:{port}", Ipv4Addr::LOCALHOST))
}

fn start(program: &Path, folder: &Path, appendfsync: &str, deadline: Instant) -> Result<()> {
    let [port] = server::free_ports()?;
    prepare::empty(folder)?;
    prepare::empty(&folder.join("data"))?;
    let file = settings_file(folder);
    fs::write(&file, settings(folder, port, appendfsync)).with_context(|| file.display().to_string())?;
    let mut command = Command::new(program);
    command.arg(&file);
    server::start(NAME, folder, port, &mut command, deadline, &mut || answers(port).is_ok())
}

fn settings_file(folder: &Path) -> PathBuf {
    folder.join("redis.conf")
}

fn settings(folder: &Path, port: u16, appendfsync: &str) -> String {
    let host = Ipv4Addr::LOCALHOST;
    let data = folder.join("data");
    let data = data.display();
    format!(
        "\
bind {host}
port {port}
dir \"{data}\"
appendonly yes
appendfsync {appendfsync}
# The file of commands is all that is kept.
save \"\"
# Another title would hide whose process it is.
set-proc-title no
"
    )
}

/// It is ready when it answers a ping: before that it says that it loads.
fn answers(port: u16) -> io::Result<()> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, ANSWER_MAX)?;
    stream.set_read_timeout(Some(ANSWER_MAX))?;
    stream.write_all(b"PING\r\n")?;
    let mut answer = [0; 7];
    stream.read_exact(&mut answer)?;
    if &answer == b"+PONG\r\n" { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
}

fn pid(folder: &Path) -> Option<u32> {
    server::pid(&folder.join(server::PID), settings_file(folder).as_os_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_listens_on_loopback_and_keeps_every_command() {
        let text = settings(Path::new("/w/engines/redis"), 7_001, SETTING.values[0]);
        let has = |line: &str| text.lines().any(|one| one == line);
        assert!(has("bind 127.0.0.1"), "{text}");
        assert!(has("port 7001"), "{text}");
        assert!(has("dir \"/w/engines/redis/data\""), "{text}");
        assert!(has("appendonly yes"), "{text}");
        assert!(has("appendfsync always"), "{text}");
    }
}
