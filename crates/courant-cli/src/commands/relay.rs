//! `courant relay`: the outbox of a database, into an engine, until a signal ends it or nothing is left.

use crate::cli::{Global, OutboxUrl, Relay as Arguments};
use crate::exit::{Exit, Failure, note};
use crate::output::{Format, Row, one};
use crate::time::now_ms;
use courant::engine::OpenError;
use courant::trace::Tracer;
use courant::{Relay, RelayError, Relayed};
use courant_sql::{Class, ConnectError, SchemaError, Sqlite, Store, StoreError};
use serde::Serialize;
use std::io;
use std::path::Path;
use std::str::FromStr as _;
use tokio::sync::oneshot;

use super::serve::{Signals, log_to_stderr};
use super::telemetry::Telemetry;

/// Relays until SIGTERM or SIGINT, or until the outbox is empty. The first signal ends it in order, the second one at
/// once.
pub(super) fn run(global: &Global, args: &Arguments) -> Result<Exit, Failure> {
    log_to_stderr(global, None)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Failed, format!("no runtime: {error}")))?;
    let telemetry = Telemetry::start("courant-relay")?;
    let ended = runtime.block_on(opened(global, args, telemetry.tracer()));
    // After a second signal an engine may still be asking a server, and the process ends without it.
    runtime.shutdown_background();
    telemetry.end(&ended);
    ended
}

async fn opened(global: &Global, args: &Arguments, tracer: Tracer) -> Result<Exit, Failure> {
    match &args.outbox {
        OutboxUrl::Sqlite(url) => relay(global, args, tracer, sqlite(global, args, url)).await,
        #[cfg(feature = "postgres")]
        OutboxUrl::Postgres(url) => {
            let connecting =
                Box::pin(super::in_time(global, courant_sql::Postgres::connect(url), unconnected));
            relay(global, args, tracer, connecting).await
        }
        #[cfg(feature = "mariadb")]
        OutboxUrl::MariaDb(url) => {
            let connecting =
                Box::pin(super::in_time(global, courant_sql::Mariadb::connect(url), unconnected));
            relay(global, args, tracer, connecting).await
        }
    }
}

/// Opens a database that is there; a wrong name makes no new one, unless tables are to be made.
async fn sqlite(global: &Global, args: &Arguments, url: &str) -> Result<Sqlite, Failure> {
    let options = courant_sql::sqlx::sqlite::SqliteConnectOptions::from_str(url)
        .map_err(|error| Failure::new(Exit::Usage, format!("{url}: {error}; write sqlite:PATH")))?;
    let path: &Path = options.get_filename();
    if !args.install && !path.is_file() {
        let sentence =
            format!("{}: there is no such database; --install creates it with its tables", path.display());
        return Err(Failure::new(Exit::NotFound, sentence));
    }
    // Other programs write it as well, and one of them has the lock at any time.
    Sqlite::open_with(path, global.timeout).await.map_err(|error| unconnected(&error))
}

async fn relay<D: Store>(
    global: &Global,
    args: &Arguments,
    tracer: Tracer,
    connecting: impl Future<Output = Result<D, Failure>>,
) -> Result<Exit, Failure> {
    // Before anything is waited for: in a container this is often the first process, which no signal ends by itself.
    let mut signals = Signals::listen()?;
    let to = target(global, &args.to)?;
    let opening = async {
        let store = connecting.await?;
        if args.install {
            store.install(now_ms()).await.map_err(|error| unknown_tables(&error))?;
        }
        Relay::open(store, &to).await.map_err(|error| failure(&error))
    };
    let relay = tokio::select! {
        opened = opening => opened?,
        () = signals.next() => {
            note(format_args!("Stopped before it was ready."));
            return Ok(if args.once { Exit::Interrupted } else { Exit::Ok });
        }
    };
    let relay = relay
        .named(format!("courant relay {}", std::process::id()))
        .partitions(args.partitions)
        .tracer(tracer);
    if args.once {
        return tokio::select! {
            done = relay.run_once(global.timeout) => report(global, done.map_err(|error| failure(&error))?),
            () = signals.next() => Ok(Exit::Interrupted),
        };
    }
    if global.quiet {
        note(format_args!("ready"));
    } else {
        note(format_args!("The outbox of {} is published from now on.\nready", args.outbox.shown()));
    }
    until_told(global, relay, signals).await
}

/// Relays until the first signal. What was begun then may take minutes where the engine is away: a second signal does
/// not wait for it. It is in the outbox still, and the next relay publishes it under the same ids.
async fn until_told<D: Store>(
    global: &Global,
    relay: Relay<D>,
    mut signals: Signals,
) -> Result<Exit, Failure> {
    let (tell, told) = oneshot::channel();
    let told_again = async {
        signals.next().await;
        if !global.quiet {
            note(format_args!("Stopping when what was begun is done; a second signal stops at once."));
        }
        // The relay may have ended by itself.
        let _ = tell.send(());
        signals.next().await;
    };
    let shutdown = async {
        // Whoever tells is there for as long as it relays.
        let _ = told.await;
    };
    let relaying = Box::pin(relay.run_until(shutdown));
    tokio::select! {
        biased;
        ended = relaying => ended.map(|_| Exit::Ok).map_err(|error| failure(&error)),
        () = told_again => Ok(Exit::Interrupted),
    }
}

/// Where events go: in TLS with those of --tls-ca, if it is a server and its URL does not say itself whom to believe.
fn target(global: &Global, to: &str) -> Result<String, Failure> {
    let is_server = matches!(to.split_once("://"), Some(("courant" | "kafka", _)));
    let Some(file) = global.tls_ca.as_deref().filter(|_| is_server) else { return Ok(to.to_owned()) };
    let options = to.split_once('?').map_or("", |(_, options)| options);
    if options.split('&').any(|option| option.starts_with("tls=") || option.starts_with("tls_ca=")) {
        return Ok(to.to_owned());
    }
    // A file that cannot be read is told of in the same words as by every other command.
    super::tls::trusted(global)?;
    let joint = if to.contains('?') { '&' } else { '?' };
    Ok(format!("{to}{joint}tls_ca={}", written(file)))
}

/// A path as it stands in a URL.
fn written(path: &Path) -> String {
    let mut text = String::new();
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => {
                text.push(char::from(*byte))
            }
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

fn report(global: &Global, done: Relayed) -> Result<Exit, Failure> {
    let row = Report { published: done.published, refused: done.refused };
    let format = Format::or_default(global.output);
    one(&mut io::stdout().lock(), format, &row).map_err(|error| Failure::output(&error))?;
    Ok(if done.refused == 0 { Exit::Ok } else { Exit::Partly })
}

/// What `--once` has done.
#[derive(Debug, Serialize)]
struct Report {
    published: u64,
    refused: u64,
}

impl Row for Report {
    const TITLES: &'static [&'static str] = &["PUBLISHED", "REFUSED"];

    fn cells(&self) -> Vec<String> {
        vec![self.published.to_string(), self.refused.to_string()]
    }
}

fn failure(error: &RelayError) -> Failure {
    match error {
        RelayError::Engine(OpenError::NotBuiltIn { url, feature }) => {
            not_built_in(&format!("what {url} needs"), feature)
        }
        RelayError::Engine(OpenError::PartNotBuiltIn { url, part, feature }) => {
            not_built_in(&format!("{part}, which {url} asks for"), feature)
        }
        RelayError::Url(_)
        | RelayError::Fleeting { .. }
        | RelayError::Engine(OpenError::NoEngine { .. } | OpenError::Url { .. }) => {
            Failure::new(Exit::Usage, error.to_string())
        }
        RelayError::Engine(OpenError::Login { .. }) => Failure::new(Exit::NotAllowed, error.to_string()),
        RelayError::Engine(OpenError::Unreachable { .. } | OpenError::Tls { .. })
        | RelayError::Stuck { .. } => Failure::new(Exit::Unreachable, error.to_string()),
        RelayError::Engine(OpenError::InUse { .. }) | RelayError::Replaced => {
            Failure::new(Exit::Conflict, error.to_string())
        }
        RelayError::Schema(error) => unknown_tables(error),
        other => Failure::new(Exit::Failed, other.to_string()),
    }
}

/// A debug build would leave the program as it is that says this.
fn not_built_in(what: &str, feature: &str) -> Failure {
    let sentence = format!(
        "this `courant` was built without {what}; build it with \
         `cargo build --release -p courant-cli --features {feature}`"
    );
    Failure::new(Exit::Usage, sentence)
}

fn unknown_tables(error: &SchemaError) -> Failure {
    match error {
        SchemaError::Missing => Failure::new(
            Exit::NotFound,
            "the database has no tables of Courant yet; `courant relay --install` creates them",
        ),
        SchemaError::Store(error) => unstored(error),
        other => Failure::new(Exit::Conflict, other.to_string()),
    }
}

fn unconnected(error: &ConnectError) -> Failure {
    match error {
        ConnectError::Store(error) => unstored(error),
        other => Failure::new(Exit::Usage, other.to_string()),
    }
}

fn unstored(error: &StoreError) -> Failure {
    let exit = match error.class() {
        Class::Busy | Class::ConnectionLost | Class::Standby => Exit::Unreachable,
        Class::CannotOpen => Exit::NotFound,
        Class::ReadOnly => Exit::NotAllowed,
        _ => Exit::Failed,
    };
    Failure::new(exit, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use clap::Parser as _;

    fn target_of(to: &str, file: &Path) -> String {
        let mut cli = Cli::parse_from(["courant", "relay", "--outbox", "sqlite:shop.db", "--to", to]);
        cli.global.tls_ca = Some(file.to_owned());
        target(&cli.global, to).unwrap_or_else(|_| panic!("{to}"))
    }

    #[test]
    fn tls_ca_is_for_servers_whose_url_says_nothing_of_it() {
        let file =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../courant-kafka/tests/certificates/authority.pem");
        let option = format!("tls_ca={}", written(&file));
        for (to, expected) in [
            ("courant://host", format!("courant://host?{option}")),
            ("kafka://a@host?password_env=X", format!("kafka://a@host?password_env=X&{option}")),
            ("kafka://host?tls=false", "kafka://host?tls=false".to_owned()),
            ("kafka://host?tls_ca=other.pem", "kafka://host?tls_ca=other.pem".to_owned()),
            ("embedded:./events", "embedded:./events".to_owned()),
        ] {
            assert_eq!(target_of(to, &file), expected);
        }
        assert_eq!(written(Path::new("/etc/our ca&more=1.pem")), "/etc/our%20ca%26more%3D1.pem");
    }

    /// A debug build would leave the program as it is that has said this, and a program has no Cargo.toml.
    #[test]
    fn what_is_not_built_in_says_how_it_is_built() {
        let url = "courant://127.0.0.1:9092".to_owned();
        let said = failure(&RelayError::Engine(OpenError::NotBuiltIn { url, feature: "kafka" }));
        assert_eq!(said.exit, Exit::Usage);
        let build = "`cargo build --release -p courant-cli --features kafka`";
        assert!(said.sentence.ends_with(build) && !said.sentence.contains("Cargo.toml"), "{said:?}");
    }
}
