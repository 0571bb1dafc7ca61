//! MariaDB from the machine's packages: new data each time it is started, with every commit flushed.
//!
//! The packages are those without a service of the system. It does not run as root, so a root starts it as
//! another user, to whom the data belong.

use std::fs::{self, File};
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Error, Result, bail, ensure};

use crate::prepare::{self, Tool};
use crate::process;

pub(super) const NAME: &str = "mariadb";

/// Who may do anything, and comes from loopback without a password.
const USER: &str = "root";
const SERVER: &str = "mariadbd";
const CLIENT: &str = "mariadb";
const TOOLS: [Tool; 2] = [
    Tool { needs: SERVER, package: "mariadb-server-core" },
    Tool { needs: CLIENT, package: "mariadb-client-core" },
];
/// Makes the data; comes with the server.
const MAKER: &str = "mariadb-install-db";
/// Where Debian puts servers, which is not in everybody's `PATH`.
const SERVERS: &str = "/usr/sbin";
/// Users that a root starts it as: the first one that there is.
const USERS: [&str; 2] = ["mysql", "nobody"];

const POLL: Duration = Duration::from_millis(50);
/// How long it may take to end in order, and how often a port that was free is lost to somebody else.
const PATIENCE: Duration = Duration::from_secs(20);
const ATTEMPTS: u32 = 3;

/// The programs that are run.
struct Programs {
    server: PathBuf,
    maker: PathBuf,
    client: PathBuf,
}

/// Starts it on new data, unless it runs. Whether that was needed.
pub(super) fn up(root: &Path, deadline: Instant) -> Result<bool> {
    if address(root).is_some() {
        return Ok(false);
    }
    let programs = programs(deadline)?;
    let folder = super::folder(root, NAME);
    let user = if process::is_root() { Some(unprivileged()?) } else { None };
    prepare::empty(&folder)?;
    make_data(&folder, &programs, user, deadline)?;
    for attempt in 1..=ATTEMPTS {
        match start(&folder, &programs, user, deadline) {
            Ok(()) => return Ok(true),
            Err(error) if attempt == ATTEMPTS => return Err(error),
            Err(error) => println!("{NAME}: {error:#}; again, on another port"),
        }
    }
    Ok(false)
}

/// Ends it, if it runs. Whether that was needed.
pub(super) fn down(root: &Path) -> Result<bool> {
    let folder = super::folder(root, NAME);
    let Some(pid) = pid(&folder) else { return Ok(false) };
    // SIGTERM ends sessions and writes everything out; SIGKILL ends at once.
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

/// The address of a database where others may be created, while the server runs.
pub(super) fn address(root: &Path) -> Option<String> {
    let folder = super::folder(root, NAME);
    pid(&folder)?;
    let port: u16 = fs::read_to_string(folder.join("port")).ok()?.trim().parse().ok()?;
    Some(format!("mysql://{USER}@{}:{port}/mysql", Ipv4Addr::LOCALHOST))
}

/// Where its programs are, installed if need be.
fn programs(deadline: Instant) -> Result<Programs> {
    if let Some(programs) = installed() {
        return Ok(programs);
    }
    // Where the server is not in the `PATH` it counts as missing: that costs a look of the package manager.
    let missing = prepare::install_missing(&TOOLS, deadline).map_err(Error::msg);
    installed().map_or_else(
        || {
            missing?;
            bail!("no {SERVER}, {MAKER} or {CLIENT}, though the packages are there")
        },
        Ok,
    )
}

fn installed() -> Option<Programs> {
    let beside = Path::new(SERVERS).join(SERVER);
    let server = process::find_program(SERVER).or_else(|| beside.is_file().then_some(beside))?;
    Some(Programs { server, maker: process::find_program(MAKER)?, client: process::find_program(CLIENT)? })
}

fn unprivileged() -> Result<&'static str> {
    let user = USERS.into_iter().find(|user| process::answer("id", &["-u", user]).is_some());
    user.with_context(|| format!("MariaDB does not run as root, and there is no user {}", USERS.join(" or ")))
}

/// A program of MariaDB, as the user who may run it, without the settings of the machine.
fn command(program: &Path, user: Option<&str>) -> Command {
    let mut command = match user {
        None => Command::new(program),
        Some(user) => {
            let mut command = Command::new("runuser");
            command.args(["-u", user, "--"]).arg(program);
            command
        }
    };
    command.arg("--no-defaults").current_dir("/");
    command
}

fn make_data(folder: &Path, programs: &Programs, user: Option<&str>, deadline: Instant) -> Result<()> {
    let data = folder.join("data");
    make_folder(&data, user)?;
    let mut maker = command(&programs.maker, user);
    maker.env("TMPDIR", temporary(folder, user)?);
    maker.arg(names_data(&data)).args([
        "--auth-root-authentication-method=normal",
        "--skip-test-db",
        "--skip-name-resolve",
    ]);
    let mut said = Vec::new();
    let ended = process::stream(&mut maker, deadline, &mut |line| {
        said.push(line.to_owned());
        false
    })
    .with_context(|| format!("{MAKER} does not start"))?;
    ensure!(ended.is_success(), "{MAKER}: {}: {}", ended.describe(), said.join(" | "));
    Ok(())
}

fn make_folder(folder: &Path, user: Option<&str>) -> Result<()> {
    let mut make = Command::new("install");
    make.args(["-d", "-m", "0700"]);
    if let Some(user) = user {
        make.args(["-o", user]);
    }
    ensure!(make.arg(folder).status().context("install")?.success(), "{} cannot be made", folder.display());
    Ok(())
}

/// Where it keeps temporary tables: a server that starts clears that place, whoever uses it as well.
fn temporary(folder: &Path, user: Option<&str>) -> Result<PathBuf> {
    let temporary = folder.join("tmp");
    make_folder(&temporary, user)?;
    Ok(temporary)
}

fn names_data(data: &Path) -> String {
    format!("--datadir={}", data.display())
}

/// Starts the server on a port that is free now, and waits until it answers.
fn start(folder: &Path, programs: &Programs, user: Option<&str>, deadline: Instant) -> Result<()> {
    let port = free_port()?;
    let (data, log) = (folder.join("data"), folder.join("log"));
    let mut output = File::create(&log).with_context(|| log.display().to_string())?;
    writeln!(output, "port {port}").context("the log")?;
    let mut server = command(&programs.server, user);
    server.env("TMPDIR", temporary(folder, user)?);
    server.arg(names_data(&data)).arg(format!("--pid-file={}", data.join("pid").display()));
    server.arg(format!("--port={port}")).args([
        "--bind-address=127.0.0.1",
        "--socket=",
        "--skip-name-resolve",
        "--skip-ssl",
        "--innodb-flush-log-at-trx-commit=1",
        "--max-allowed-packet=64M",
        "--max-connections=300",
    ]);
    let errors = output.try_clone().context("the log")?;
    // It outlives this process, and what ends this process from a terminal is not meant for it.
    server.stdin(Stdio::null()).stdout(output).stderr(errors).process_group(0);
    let mut child = server.spawn().with_context(|| format!("{SERVER} does not start"))?;
    wait_until_ready(&mut child, &programs.client, port, deadline)
        .with_context(|| format!("see {}", log.display()))?;
    let file = folder.join("port");
    fs::write(&file, format!("{port}\n")).with_context(|| file.display().to_string())
}

fn wait_until_ready(child: &mut Child, client: &Path, port: u16, deadline: Instant) -> Result<()> {
    loop {
        let mut ready = Command::new(client);
        ready.args(["--no-defaults", "-h", "127.0.0.1", "-P", &port.to_string(), "-u", USER, "-e", "DO 1"]);
        ready.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // Somebody else's server may answer on a port that was lost: then the child has ended.
        let answers = ready.status().with_context(|| format!("{CLIENT} does not start"))?.success();
        if let Some(status) = child.try_wait().context(SERVER)? {
            bail!("{SERVER} has ended: {status}");
        }
        if answers {
            return Ok(());
        }
        if Instant::now() > deadline {
            child.kill().context(SERVER)?;
            bail!("{SERVER} does not answer in time");
        }
        thread::sleep(POLL);
    }
}

fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port on loopback")?;
    Ok(listener.local_addr().context("no port on loopback")?.port())
}

/// The server's process, while it runs: the one that its own file names, if that is it.
fn pid(folder: &Path) -> Option<u32> {
    let data = folder.join("data");
    let file = fs::read_to_string(data.join("pid")).ok()?;
    let pid: u32 = file.trim().parse().ok()?;
    let arguments = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    is_on(&arguments, &data).then_some(pid)
}

/// Whether a process was started with this folder: a number may have been given to another one since.
fn is_on(arguments: &[u8], data: &Path) -> bool {
    let names = names_data(data);
    arguments.split(|byte| *byte == 0).any(|argument| argument == names.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_server_on_our_data_is_ours() {
        let data = Path::new("/w/target/engines/mariadb/data");
        let ours: &[u8] = b"/usr/sbin/mariadbd\0--no-defaults\0--datadir=/w/target/engines/mariadb/data\0";
        assert!(is_on(ours, data));
        assert!(!is_on(b"/usr/sbin/mariadbd\0--datadir=/w/target/engines/mariadb/data2\0", data));
        assert!(!is_on(b"vi\0", data));
    }
}
