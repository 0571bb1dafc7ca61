//! A Postgres server of one test, from the programs of the machine, that the test may kill.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::bank::skip;
use crate::server::fixed_port;

/// The folder of `postgres` and `initdb`, where they are not at their usual place.
const PROGRAMS: &str = "COURANT_TEST_POSTGRES_PROGRAMS";
/// Where Debian keeps a folder for each version.
const VERSIONS: &str = "/usr/lib/postgresql";
/// The superuser; whoever may connect to loopback may be it.
const USER: &str = "courant";
/// Users that a root starts it as, because it refuses to run as root: the first one that there is.
const USERS: [&str; 2] = ["postgres", "nobody"];
/// Long enough that only what never comes is not there by then.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);

/// A server on a cluster of its own. It is killed when dropped.
pub(crate) struct PrivatePostgres {
    folder: TempDir,
    programs: PathBuf,
    user: Option<&'static str>,
    port: u16,
    child: Option<Child>,
}

impl PrivatePostgres {
    /// `None` where Postgres is not installed: the test is skipped, and has said so.
    pub(crate) fn start() -> Option<Self> {
        let Some(programs) = programs() else {
            skip("Postgres is not installed");
            return None;
        };
        let user = if id(&["-u"]).as_deref() == Some("0") {
            let user = USERS.into_iter().find(|user| id(&["-u", user]).is_some());
            if user.is_none() {
                skip("Postgres does not run as root, and there is nobody else");
                return None;
            }
            user
        } else {
            None
        };
        let folder = tempfile::tempdir().expect("a directory");
        // Whoever the server runs as finds its data in it.
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).expect("is permitted");
        let mut server = Self { folder, programs, user, port: fixed_port(), child: None };
        server.make_cluster();
        server.begin();
        Some(server)
    }

    pub(crate) fn url(&self) -> String {
        format!("postgres://{USER}@127.0.0.1:{}/postgres", self.port)
    }

    /// Kills the server and everything that it has started, as a power cut would, and starts it again.
    pub(crate) fn kill_and_restart(&mut self) {
        self.end();
        self.begin();
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// A program of Postgres, as the user who may run it.
    fn command(&self, program: &str) -> Command {
        let program = self.programs.join(program);
        let mut command = match self.user {
            None => Command::new(program),
            Some(user) => {
                let mut command = Command::new("runuser");
                command.args(["-u", user, "--"]).arg(program);
                command
            }
        };
        command.current_dir("/").stdin(Stdio::null());
        command
    }

    fn make_cluster(&self) {
        let mut make = Command::new("install");
        make.args(["-d", "-m", "0700"]);
        if let Some(user) = self.user {
            make.args(["-o", user]);
        }
        assert!(make.arg(self.data()).status().expect("install").success());
        let mut initdb = self.command("initdb");
        initdb.arg("-D").arg(self.data()).arg("--no-sync");
        initdb.args(["-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C"]);
        let output = initdb.output().expect("initdb starts");
        assert!(output.status.success(), "initdb: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Starts the server and waits until it answers. What is left of the one before may be in its way for
    /// a moment.
    fn begin(&mut self) {
        let until = Instant::now() + PATIENCE;
        let log = self.folder.path().join("log");
        loop {
            let output = File::options().create(true).append(true).open(&log).expect("a log");
            let errors = output.try_clone().expect("the same log");
            let mut server = self.command("postgres");
            server.arg("-D").arg(self.data());
            for setting in [
                "listen_addresses=127.0.0.1".to_owned(),
                format!("port={}", self.port),
                "unix_socket_directories=".to_owned(),
                // Who is killed loses nothing that the system has. Waiting for the disk would show nothing.
                "fsync=off".to_owned(),
                "max_connections=100".to_owned(),
            ] {
                server.args(["-c", &setting]);
            }
            let mut child = server.stdout(output).stderr(errors).spawn().expect("postgres starts");
            let answers = loop {
                if child.try_wait().expect("postgres").is_some() {
                    break false;
                }
                if self.answers() {
                    break true;
                }
                let said = || fs::read_to_string(&log).unwrap_or_default();
                assert!(Instant::now() < until, "postgres does not answer: {}", said());
                std::thread::sleep(POLL);
            };
            self.child = Some(child);
            if answers {
                return;
            }
            let said = || fs::read_to_string(&log).unwrap_or_default();
            assert!(Instant::now() < until, "postgres does not start: {}", said());
            std::thread::sleep(POLL);
        }
    }

    fn answers(&self) -> bool {
        let mut ready = Command::new(self.programs.join("pg_isready"));
        ready.args(["-q", "-h", "127.0.0.1", "-p", &self.port.to_string(), "-d", "postgres"]);
        ready.status().expect("pg_isready starts").success()
    }

    fn end(&mut self) {
        if let Some(server) = server_of(&self.data()) {
            // The first one that goes can start no other one.
            let mut all = vec![server];
            all.extend(children_of(server));
            let pids = all.iter().map(u32::to_string);
            // Some may have ended by themselves.
            let _ = Command::new("kill").arg("-KILL").args(pids).stderr(Stdio::null()).status();
        }
        if let Some(mut child) = self.child.take() {
            let _ = child.wait();
        }
    }
}

impl Drop for PrivatePostgres {
    fn drop(&mut self) {
        self.end();
    }
}

fn programs() -> Option<PathBuf> {
    if let Some(folder) = std::env::var_os(PROGRAMS) {
        return Some(PathBuf::from(folder));
    }
    let versions = fs::read_dir(VERSIONS).into_iter().flatten().flatten();
    let folders = versions.map(|version| version.path().join("bin"));
    folders.filter(|folder| folder.join("initdb").is_file()).max()
}

fn id(arguments: &[&str]) -> Option<String> {
    let output = Command::new("id").args(arguments).output().ok()?;
    let said = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| said.trim().to_owned())
}

/// The server's process, as its own file names it.
fn server_of(data: &Path) -> Option<u32> {
    let file = fs::read_to_string(data.join("postmaster.pid")).ok()?;
    file.lines().next()?.trim().parse().ok()
}

/// The processes that a process has started.
fn children_of(parent: u32) -> Vec<u32> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    numbers.filter(|pid| parent_of(*pid) == Some(parent)).collect()
}

/// The second field behind the name in parentheses, which may have anything in it.
fn parent_of(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, behind) = stat.rsplit_once(')')?;
    behind.split_whitespace().nth(1)?.parse().ok()
}
