//! Postgres from the machine's packages: a new cluster each time it is started, with `fsync` on.
//!
//! It refuses to run as root, so a root starts it as another user, to whom the data belong.

use std::ffi::OsStr;
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

pub(super) const NAME: &str = "postgres";

/// The superuser of the cluster; whoever may connect to loopback may be it.
const USER: &str = "courant";
/// Comes with the server, and is in the `PATH`, which the server itself is not.
const TOOL: Tool = Tool { needs: "pg_ctlcluster", package: "postgresql" };
/// Where Debian keeps a folder for each version.
const VERSIONS: &str = "/usr/lib/postgresql";
/// Users that a root starts it as: the first one that there is.
const USERS: [&str; 2] = ["postgres", "nobody"];

const POLL: Duration = Duration::from_millis(50);
/// How long it may take to end in order, and how often a port that was free is lost to somebody else.
const PATIENCE: Duration = Duration::from_secs(20);
const ATTEMPTS: u32 = 3;

/// Starts it on a new cluster, unless it runs. Whether that was needed.
pub(super) fn up(root: &Path, deadline: Instant) -> Result<bool> {
    if address(root).is_some() {
        return Ok(false);
    }
    let programs = programs(deadline)?;
    let folder = super::folder(root, NAME);
    let user = if process::is_root() { Some(unprivileged()?) } else { None };
    prepare::empty(&folder)?;
    make_cluster(&folder, &programs, user, deadline)?;
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
    // SIGINT ends sessions and writes everything out; SIGQUIT ends at once.
    for signal in ["-INT", "-QUIT"] {
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
    Some(format!("postgres://{USER}@{}:{port}/postgres", Ipv4Addr::LOCALHOST))
}

/// The folder with `postgres` and `initdb`, installed if need be.
fn programs(deadline: Instant) -> Result<PathBuf> {
    if let Some(folder) = installed() {
        return Ok(folder);
    }
    prepare::install_missing(&[TOOL], deadline).map_err(Error::msg)?;
    installed().with_context(|| format!("no server below {VERSIONS}, though {} is there", TOOL.package))
}

fn installed() -> Option<PathBuf> {
    let versions = fs::read_dir(VERSIONS).into_iter().flatten().flatten();
    let newest = versions.map(|version| version.path().join("bin")).filter(|folder| is_server(folder));
    newest.max_by_key(|folder| version(folder)).or_else(|| {
        let server = fs::canonicalize(process::find_program("postgres")?).ok()?;
        Some(server.parent()?.to_path_buf()).filter(|folder| is_server(folder))
    })
}

fn is_server(folder: &Path) -> bool {
    ["postgres", "initdb", "pg_isready"].iter().all(|program| folder.join(program).is_file())
}

/// The version in `/usr/lib/postgresql/15/bin`.
fn version(folder: &Path) -> u32 {
    let name = folder.parent().and_then(Path::file_name).and_then(OsStr::to_str);
    name.and_then(|name| name.parse().ok()).unwrap_or(0)
}

fn unprivileged() -> Result<&'static str> {
    let user = USERS.into_iter().find(|user| process::answer("id", &["-u", user]).is_some());
    user.with_context(|| {
        format!("Postgres does not run as root, and there is no user {}", USERS.join(" or "))
    })
}

/// A program of Postgres, as the user who may run it.
fn command(program: &Path, user: Option<&str>) -> Command {
    match user {
        None => Command::new(program),
        Some(user) => {
            let mut command = Command::new("runuser");
            command.args(["-u", user, "--"]).arg(program);
            command
        }
    }
}

fn make_cluster(folder: &Path, programs: &Path, user: Option<&str>, deadline: Instant) -> Result<()> {
    let data = folder.join("data");
    let mut make = Command::new("install");
    make.args(["-d", "-m", "0700"]);
    if let Some(user) = user {
        make.args(["-o", user]);
    }
    ensure!(make.arg(&data).status().context("install")?.success(), "{} cannot be made", data.display());
    let mut initdb = command(&programs.join("initdb"), user);
    initdb.arg("-D").arg(&data).args(["-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C"]);
    initdb.current_dir("/");
    let mut said = Vec::new();
    let ended = process::stream(&mut initdb, deadline, &mut |line| {
        said.push(line.to_owned());
        false
    })
    .context("initdb does not start")?;
    ensure!(ended.is_success(), "initdb: {}: {}", ended.describe(), said.join(" | "));
    Ok(())
}

/// Starts the server on a port that is free now, and waits until it answers.
fn start(folder: &Path, programs: &Path, user: Option<&str>, deadline: Instant) -> Result<()> {
    let port = free_port()?;
    let log = folder.join("log");
    let mut output = File::create(&log).with_context(|| log.display().to_string())?;
    writeln!(output, "port {port}").context("the log")?;
    let mut server = command(&programs.join("postgres"), user);
    server.arg("-D").arg(folder.join("data"));
    for setting in [
        "listen_addresses=127.0.0.1".to_owned(),
        format!("port={port}"),
        "unix_socket_directories=".to_owned(),
        "fsync=on".to_owned(),
        "max_connections=300".to_owned(),
    ] {
        server.args(["-c", &setting]);
    }
    let errors = output.try_clone().context("the log")?;
    // It outlives this process, and what ends this process from a terminal is not meant for it.
    server.current_dir("/").stdin(Stdio::null()).stdout(output).stderr(errors).process_group(0);
    let mut child = server.spawn().context("postgres does not start")?;
    wait_until_ready(&mut child, &programs.join("pg_isready"), port, deadline)
        .with_context(|| format!("see {}", log.display()))?;
    let file = folder.join("port");
    fs::write(&file, format!("{port}\n")).with_context(|| file.display().to_string())
}

fn wait_until_ready(child: &mut Child, pg_isready: &Path, port: u16, deadline: Instant) -> Result<()> {
    loop {
        let mut ready = Command::new(pg_isready);
        ready.args(["-q", "-h", "127.0.0.1", "-p", &port.to_string(), "-d", "postgres"]);
        // Somebody else's server may answer on a port that was lost: then the child has ended.
        let answers = ready.status().context("pg_isready does not start")?.success();
        if let Some(status) = child.try_wait().context("postgres")? {
            bail!("postgres has ended: {status}");
        }
        if answers {
            return Ok(());
        }
        if Instant::now() > deadline {
            child.kill().context("postgres")?;
            bail!("postgres does not answer in time");
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
    let file = fs::read_to_string(data.join("postmaster.pid")).ok()?;
    let pid: u32 = file.lines().next()?.trim().parse().ok()?;
    let arguments = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    names(&arguments, &data).then_some(pid)
}

/// Whether a process was started with this folder: a number may have been given to another one since.
fn names(arguments: &[u8], data: &Path) -> bool {
    arguments.split(|byte| *byte == 0).any(|argument| argument == data.as_os_str().as_encoded_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_server_on_our_data_is_ours() {
        let data = Path::new("/w/target/engines/postgres/data");
        assert!(names(b"/usr/bin/postgres\0-D\0/w/target/engines/postgres/data\0-c\0port=1\0", data));
        assert!(!names(b"/usr/bin/postgres\0-D\0/w/target/engines/postgres/data2\0", data));
        assert!(!names(b"vi\0", data));
    }

    #[test]
    fn the_newest_version_is_the_largest_number() {
        let folders = ["9", "17", "15"].map(|version| PathBuf::from(format!("{VERSIONS}/{version}/bin")));
        let newest = folders.iter().max_by_key(|folder| version(folder)).unwrap();
        assert!(newest.ends_with("17/bin"));
        assert_eq!(version(Path::new("/usr/local/bin")), 0);
    }
}
