//! A MariaDB server of one test, from the programs of the machine, that the test may kill.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::support::administer;
use crate::bank::skip;
use crate::server::fixed_port;

/// Where the server is, when it is not in the `PATH`.
const PLACES: [&str; 3] = ["/usr/sbin/mariadbd", "/usr/libexec/mariadbd", "/usr/bin/mariadbd"];
/// Long enough that only what never comes is not there by then.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);

/// A server on data of its own. It is killed when dropped.
pub(crate) struct PrivateMariadb {
    folder: TempDir,
    program: PathBuf,
    is_root: bool,
    port: u16,
    child: Option<Child>,
}

impl PrivateMariadb {
    /// `None` where MariaDB is not installed: the test is skipped, and has said so.
    pub(crate) fn start() -> Option<Self> {
        let Some(program) = PLACES.iter().map(PathBuf::from).find(|place| place.is_file()) else {
            skip("MariaDB is not installed");
            return None;
        };
        let folder = tempfile::tempdir().expect("a directory");
        let id = Command::new("id").arg("-u").output().expect("id");
        let is_root = id.stdout.trim_ascii() == b"0";
        let mut server = Self { folder, program, is_root, port: fixed_port(), child: None };
        server.make_data();
        server.begin();
        Some(server)
    }

    pub(crate) fn url(&self, database: &str) -> String {
        format!("mysql://root@127.0.0.1:{}/{database}", self.port)
    }

    /// Kills the server as a power cut would, and starts it again.
    pub(crate) fn kill_and_restart(&mut self) {
        self.end();
        self.begin();
    }

    /// What the server and the one who makes its data have in common.
    fn settings(&self, command: &mut Command) {
        let data = self.folder.path().join("data");
        command.arg("--no-defaults").arg(format!("--datadir={}", data.display()));
        if self.is_root {
            // It is the user who says that it may.
            command.arg("--user=root");
        }
        // A server that starts clears its folder for temporary tables, whoever uses it as well.
        let temporary = self.folder.path().join("tmp");
        fs::create_dir_all(&temporary).expect("a folder");
        command.env("TMPDIR", temporary);
        command.stdin(Stdio::null());
    }

    fn make_data(&self) {
        let mut make = Command::new("mariadb-install-db");
        self.settings(&mut make);
        make.args(["--auth-root-authentication-method=normal", "--skip-test-db"]);
        let output = make.output().expect("mariadb-install-db starts");
        assert!(output.status.success(), "mariadb-install-db: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Starts the server and waits until it answers.
    fn begin(&mut self) {
        let until = Instant::now() + PATIENCE;
        let log = self.folder.path().join("log");
        let said = || fs::read_to_string(&log).unwrap_or_default();
        let output = File::options().create(true).append(true).open(&log).expect("a log");
        let errors = output.try_clone().expect("the same log");
        let mut server = Command::new(&self.program);
        self.settings(&mut server);
        let socket = self.folder.path().join("socket");
        server.args([format!("--port={}", self.port), format!("--socket={}", socket.display())]);
        server.args(["--bind-address=127.0.0.1", "--innodb-buffer-pool-size=32M"]);
        let mut child = server.stdout(output).stderr(errors).spawn().expect("mariadbd starts");
        while !self.answers() {
            assert!(child.try_wait().expect("mariadbd").is_none(), "mariadbd has ended: {}", said());
            assert!(Instant::now() < until, "mariadbd does not answer: {}", said());
            std::thread::sleep(POLL);
        }
        self.child = Some(child);
    }

    fn answers(&self) -> bool {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(administer(&self.url("mysql"), "SELECT 1")).is_ok()
    }

    fn end(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for PrivateMariadb {
    fn drop(&mut self) {
        self.end();
    }
}
