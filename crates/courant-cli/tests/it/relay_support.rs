//! A database that programs of others write, `courant relay` beside it, and what both are judged by.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use courant_sql::sqlx::{self, AssertSqlSafe};
use courant_sql::{Sqlite, Store as _, Transaction as _};
use serde_json::Value;
use tempfile::{TempDir, tempdir};

use crate::cli::{rows, run};
use crate::server::{Server, command, signal};
use crate::{PATIENCE, eventually, python_script, skip};

/// Where all of it happens.
pub(crate) enum Database {
    Sqlite(TempDir),
    #[cfg(feature = "postgres")]
    Postgres {
        server: String,
        name: String,
    },
    #[cfg(feature = "mariadb")]
    Mariadb {
        server: String,
        name: String,
    },
}

impl Database {
    /// A file with the framework's tables.
    pub(crate) fn sqlite() -> Database {
        let database = Database::Sqlite(tempdir().unwrap());
        database.run(async |database| {
            let store = Sqlite::open(&database.file()).await.expect("opens");
            store.install(1).await.expect("the tables");
        });
        database
    }

    /// A database of the server that the environment names; none where there is no server.
    #[cfg(feature = "postgres")]
    pub(crate) fn postgres(test: &str) -> Option<Database> {
        let Ok(server) = std::env::var("COURANT_TEST_POSTGRES") else {
            skip(&format!("relay::{test}"), "no Postgres here");
            return None;
        };
        let name = format!("relay_{test}_{}", std::process::id());
        let create = format!("CREATE DATABASE {name}");
        let database = Database::Postgres { server, name };
        database.administer(create);
        database.run(async |database| {
            let store = courant_sql::Postgres::connect(&database.url()).await.expect("connects");
            store.install(1).await.expect("the tables");
        });
        Some(database)
    }

    /// A database of the server that the environment names; none where there is no server.
    #[cfg(feature = "mariadb")]
    pub(crate) fn mariadb(test: &str) -> Option<Database> {
        let Ok(server) = std::env::var("COURANT_TEST_MARIADB") else {
            skip(&format!("relay::{test}"), "no MariaDB here");
            return None;
        };
        let name = format!("relay_{test}_{}", std::process::id());
        let create = format!("CREATE DATABASE {name}");
        let database = Database::Mariadb { server, name };
        database.administer(create);
        database.run(async |database| {
            let store = courant_sql::Mariadb::connect(&database.url()).await.expect("connects");
            store.install(1).await.expect("the tables");
        });
        Some(database)
    }

    fn file(&self) -> PathBuf {
        match self {
            Database::Sqlite(directory) => directory.path().join("shop.db"),
            #[cfg(feature = "postgres")]
            Database::Postgres { .. } => unreachable!("it is no file"),
            #[cfg(feature = "mariadb")]
            Database::Mariadb { .. } => unreachable!("it is no file"),
        }
    }

    /// As `courant relay` and the Python program name it.
    pub(crate) fn url(&self) -> String {
        match self {
            Database::Sqlite(_) => format!("sqlite:{}", self.file().display()),
            #[cfg(feature = "postgres")]
            Database::Postgres { server, name } => Self::on(server, name),
            #[cfg(feature = "mariadb")]
            Database::Mariadb { server, name } => Self::on(server, name),
        }
    }

    /// The address of a server with this database in it.
    #[cfg(any(feature = "mariadb", feature = "postgres"))]
    fn on(server: &str, name: &str) -> String {
        let (place, _) = server.rsplit_once('/').expect("an address ends with a database");
        format!("{place}/{name}")
    }

    /// As JDBC names it, and its user, who has no name in SQLite.
    pub(crate) fn jdbc(&self) -> (String, String) {
        let url = self.url();
        let Some((scheme, rest)) = url.split_once("://") else {
            // Unless somebody says more, the driver waits for three seconds for a lock that others hold.
            return (format!("jdbc:{url}?busy_timeout=60000"), String::new());
        };
        let (user, place) = rest.split_once('@').expect("a user");
        let user = user.split(':').next().unwrap_or(user);
        let driver = if scheme.starts_with("postgres") { "postgresql" } else { "mariadb" };
        (format!("jdbc:{driver}://{place}"), user.to_owned())
    }

    fn run<T>(&self, work: impl AsyncFnOnce(&Database) -> T) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(work(self))
    }

    /// Has the server of the database do something.
    #[cfg(any(feature = "mariadb", feature = "postgres"))]
    fn administer(&self, statement: String) {
        use courant_sql::sqlx::Connection as _;
        let statement = AssertSqlSafe(statement);
        self.run(async |database| match database {
            Database::Sqlite(_) => {}
            #[cfg(feature = "postgres")]
            Database::Postgres { server, .. } => {
                let mut connection = sqlx::postgres::PgConnection::connect(server).await.expect("connects");
                sqlx::raw_sql(statement).execute(&mut connection).await.expect("it is done");
                connection.close().await.expect("it ends");
            }
            #[cfg(feature = "mariadb")]
            Database::Mariadb { server, .. } => {
                let mut connection = sqlx::mysql::MySqlConnection::connect(server).await.expect("connects");
                sqlx::raw_sql(statement).execute(&mut connection).await.expect("it is done");
                connection.close().await.expect("it ends");
            }
        });
    }

    /// Pairs of numbers that a query gives; none before its tables are there.
    pub(crate) fn pairs(&self, sql: &'static str) -> Vec<(i64, i64)> {
        self.run(async |database| match database {
            Database::Sqlite(_) => {
                let store = Sqlite::open(&database.file()).await.expect("opens");
                let mut reader = store.read().await.expect("reads");
                sqlx::query_as(sql).fetch_all(&mut *reader).await.unwrap_or_default()
            }
            #[cfg(feature = "postgres")]
            Database::Postgres { .. } => {
                let store = courant_sql::Postgres::connect(&database.url()).await.expect("connects");
                let mut reader = store.read().await.expect("reads");
                sqlx::query_as(sql).fetch_all(&mut *reader).await.unwrap_or_default()
            }
            #[cfg(feature = "mariadb")]
            Database::Mariadb { .. } => {
                let store = courant_sql::Mariadb::connect(&database.url()).await.expect("connects");
                let mut reader = store.read().await.expect("reads");
                sqlx::query_as(sql).fetch_all(&mut *reader).await.unwrap_or_default()
            }
        })
    }

    /// What the business has: account and number of every change that was committed.
    pub(crate) fn changes(&self) -> BTreeSet<(i64, i64)> {
        self.pairs("SELECT account, number FROM changes").into_iter().collect()
    }

    /// What is to be published still, in both tables.
    pub(crate) fn left(&self) -> i64 {
        self.waiting().iter().map(|(submitted, waiting)| submitted + waiting).sum()
    }

    /// The rows that were submitted, and the events that a relay has made of others, in one pair.
    pub(crate) fn waiting(&self) -> Vec<(i64, i64)> {
        self.pairs(
            "SELECT (SELECT COUNT(*) FROM courant_outbox_submit), (SELECT COUNT(*) FROM courant_outbox)",
        )
    }

    /// Runs statements in one transaction. Only on SQLite.
    pub(crate) fn submit(&self, statements: &[String]) {
        self.run(async |database| {
            let store = Sqlite::open(&database.file()).await.expect("opens");
            let mut tx = store.begin(None).await.expect("begins");
            for statement in statements {
                sqlx::query(AssertSqlSafe(statement.clone())).execute(&mut *tx).await.expect("it is done");
            }
            tx.commit(1).await.expect("commits");
        });
    }
}

#[cfg(any(feature = "mariadb", feature = "postgres"))]
impl Drop for Database {
    fn drop(&mut self) {
        // A test that has failed leaves its database behind, to be looked at.
        if thread::panicking() {
            return;
        }
        match self {
            Database::Sqlite(_) => {}
            #[cfg(feature = "postgres")]
            Database::Postgres { name, .. } => {
                let statement = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
                self.administer(statement);
            }
            #[cfg(feature = "mariadb")]
            Database::Mariadb { name, .. } => {
                let statement = format!("DROP DATABASE IF EXISTS {name}");
                self.administer(statement);
            }
        }
    }
}

/// One `courant relay`. It is killed when dropped.
pub(crate) struct Relay {
    child: Child,
    said: Arc<Mutex<String>>,
}

impl Relay {
    /// Starts one, and waits until it relays.
    pub(crate) fn start(database: &Database, server: &Server) -> Relay {
        let relay = Relay::spawn(database, &server.bootstrap());
        relay.says("ready");
        relay
    }

    /// Starts one that publishes to this address.
    pub(crate) fn spawn(database: &Database, address: &str) -> Relay {
        Relay::spawn_from(&database.url(), address)
    }

    /// Starts one for the outbox of this URL.
    pub(crate) fn spawn_from(outbox: &str, address: &str) -> Relay {
        let to = format!("courant://{address}");
        let mut command = command(&["relay", "--outbox", outbox, "--to", &to, "--partitions", "3"]);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("it starts");
        let stderr = child.stderr.take().expect("stderr is piped");
        let said = Arc::new(Mutex::new(String::new()));
        let lines = Arc::clone(&said);
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let mut said = lines.lock().unwrap();
                said.push_str(&line);
                said.push('\n');
            }
        });
        Relay { child, said }
    }

    /// Waits until it has said this.
    pub(crate) fn says(&self, words: &str) {
        eventually(words, PATIENCE, || self.said.lock().unwrap().contains(words).then_some(()));
    }

    pub(crate) fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    /// SIGKILL.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("a child can be waited for");
    }

    /// SIGTERM, and the orderly end that follows.
    pub(crate) fn stop(self) -> ExitStatus {
        self.signal("TERM");
        self.ends()
    }

    /// The end of a relay that was told to.
    pub(crate) fn ends(mut self) -> ExitStatus {
        eventually("the relay ends", PATIENCE, || self.child.try_wait().expect("a child can be waited for"))
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A program of others, with its writers.
pub(crate) struct Writers(Child);

impl Writers {
    /// Starts these words, and waits until the program writes.
    pub(crate) fn start(words: &[String]) -> Writers {
        let mut command = Command::new(&words[0]);
        let mut child = command
            .args(&words[1..])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("stdout is piped");
        BufReader::new(stdout).read_line(&mut line).expect("it says something");
        assert_eq!(line, "ready\n");
        Writers(child)
    }

    /// SIGKILL, in the middle of its transactions.
    pub(crate) fn kill(mut self) {
        self.0.kill().expect("it runs");
        self.0.wait().expect("a child can be waited for");
    }

    /// Waits until every writer has tried all of its transactions.
    pub(crate) fn finish(mut self) {
        let status =
            eventually("the writers end", PATIENCE, || self.0.try_wait().expect("it can be waited for"));
        assert!(status.success(), "{status}");
    }
}

/// The Django program with its arguments; none where Django is not prepared.
pub(crate) fn django(test: &str, database: &Database, transactions: u32) -> Option<Vec<String>> {
    let Some(python) = std::env::var_os("COURANT_TEST_PYTHON").map(PathBuf::from) else {
        skip(&format!("relay::{test}"), "no Python has been prepared");
        return None;
    };
    let words = [text(&python), text(&python_script("outbox_writer.py")), database.url()];
    Some(words.into_iter().chain(numbers(transactions)).collect())
}

/// The JDBC program with its arguments; none where Java is not prepared.
pub(crate) fn jdbc(test: &str, database: &Database, transactions: u32) -> Option<Vec<String>> {
    let Some(folder) = std::env::var_os("COURANT_TEST_JAVA_4").map(PathBuf::from) else {
        skip(&format!("relay::{test}"), "no Java has been prepared");
        return None;
    };
    let words = crate::clients::program::java(&folder, "courant.outbox.Writer");
    let words = words.into_iter().map(|word| text(Path::new(&word)));
    let (url, user) = database.jdbc();
    Some(words.chain([url, user]).chain(numbers(transactions)).collect())
}

fn text(path: &Path) -> String {
    path.to_str().expect("the paths of tests are text").to_owned()
}

/// Twelve writers, so many transactions each, and a seed.
fn numbers(transactions: u32) -> [String; 3] {
    ["12".to_owned(), transactions.to_string(), crate::seed().to_string()]
}

/// What was published, in the order of each partition: account and number, and under which id.
pub(crate) fn published(server: &Server) -> Vec<((i64, i64), String)> {
    let events = rows(run(server, &["tail", "shop.changes", "--from", "start", "-o", "jsonl"]));
    let events = events.iter().map(|event| {
        let value: Value = serde_json::from_str(event["value"].as_str().expect("a value")).expect("JSON");
        let account = value["account"].as_i64().expect("a number");
        assert_eq!(event["key"], format!("account-{account}"), "{event}");
        assert_eq!(header(event, "ce_type"), "shop.account-changed", "{event}");
        ((account, value["number"].as_i64().expect("a number")), header(event, "ce_id"))
    });
    events.collect()
}

fn header(event: &Value, name: &str) -> String {
    let headers = event["headers"].as_array().expect("headers");
    let found = headers.iter().find(|header| header["key"] == name).expect(name);
    found["value"].as_str().expect("a text").to_owned()
}

/// Each change that was committed was published and no other, each under one id that nothing else has, and
/// of each account in the order of the numbers. What was sent twice counts where it came first.
pub(crate) fn judge(
    committed: &BTreeSet<(i64, i64)>,
    published: &[((i64, i64), String)],
) -> Result<(), String> {
    let mut first: BTreeMap<&str, (i64, i64)> = BTreeMap::new();
    let mut order: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    for (change, id) in published {
        match first.insert(id, *change) {
            None => order.entry(change.0).or_default().push(change.1),
            Some(before) if before == *change => {}
            Some(before) => return Err(format!("{id} is {before:?} and {change:?}")),
        }
    }
    if let Some((account, numbers)) = order.iter().find(|(_, numbers)| !numbers.is_sorted_by(|a, b| a < b)) {
        return Err(format!("account {account} has the order {numbers:?}"));
    }
    let seen: BTreeSet<(i64, i64)> = order
        .iter()
        .flat_map(|(account, numbers)| numbers.iter().map(|number| (*account, *number)))
        .collect();
    let lost: Vec<_> = committed.difference(&seen).collect();
    let invented: Vec<_> = seen.difference(committed).collect();
    if lost.is_empty() && invented.is_empty() {
        return Ok(());
    }
    Err(format!("of {} changes lost: {lost:?}; never committed: {invented:?}", committed.len()))
}
