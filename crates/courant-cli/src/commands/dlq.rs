//! `courant dlq`: the dead letters of a service. In its store, beside a running service, which looks there
//! from time to time, or without one; or through a service that runs, which is asked by a signed request.

mod asked;
mod close;
mod edit;
pub(super) mod foreign;
mod letters;
mod list;
mod parked;
mod redrive;
mod rows;

use crate::cli::{Dlq, Global, StoreUrl};
use crate::exit::{Exit, Failure};
use courant_sql::sqlx::sqlite::SqliteConnectOptions;
use courant_sql::{
    Class, ConnectError, EditError, RedriveError, SchemaError, Sqlite, Store, StoreError, Verdict,
};
use std::str::FromStr as _;

/// Runs one of the commands about dead letters.
pub(super) async fn run(global: &Global, command: Dlq) -> Result<Exit, Failure> {
    let at = command.at();
    if !at.engine.is_empty() {
        return asked::run(global, &command).await;
    }
    match at.store.clone() {
        Some(StoreUrl::Sqlite(url)) => {
            let store = sqlite(global, &url).await?;
            on(global, command, &store).await
        }
        #[cfg(feature = "postgres")]
        Some(StoreUrl::Postgres(url)) => {
            let connecting = courant_sql::Postgres::connect_in_time(&url, global.timeout);
            let store = super::in_time(global, connecting, unconnected).await?;
            on(global, command, &store).await
        }
        #[cfg(feature = "mariadb")]
        Some(StoreUrl::Mariadb(url)) => {
            let connecting = courant_sql::Mariadb::connect_in_time(&url, global.timeout);
            let store = super::in_time(global, connecting, unconnected).await?;
            on(global, command, &store).await
        }
        None => {
            Err(Failure::new(Exit::Usage, "say where the dead letters are: --store URL, or --engine URL"))
        }
    }
}

fn unconnected(error: &ConnectError) -> Failure {
    match error {
        ConnectError::Store(error) => unstored(error),
        ConnectError::Url { .. } => Failure::new(Exit::Usage, error.to_string()),
        other => Failure::new(Exit::Failed, other.to_string()),
    }
}

async fn on<S: Store>(global: &Global, command: Dlq, store: &S) -> Result<Exit, Failure> {
    store.check().await.map_err(|error| unknown_tables(&error))?;
    match command {
        Dlq::List(args) => list::list(global, store, &args).await,
        Dlq::Show(args) => list::show(global, store, &args).await,
        Dlq::Edit(args) => edit::run(global, store, &args).await,
        Dlq::Redrive(args) => redrive::run(global, store, &args).await,
        Dlq::Discard(args) => close::run(global, store, &args, Verdict::Discard).await,
        Dlq::Archive(args) => close::run(global, store, &args, Verdict::Archive).await,
        Dlq::Restore(args) => close::run(global, store, &args, Verdict::Restore).await,
        Dlq::DiscardParked(args) => Box::pin(parked::discard(global, store, &args)).await,
        Dlq::Export(args) => list::export(global, store, &args).await,
    }
}

/// Opens a database that is there; a wrong name makes no new one.
async fn sqlite(global: &Global, url: &str) -> Result<Sqlite, Failure> {
    let options = SqliteConnectOptions::from_str(url)
        .map_err(|error| Failure::new(Exit::Usage, format!("{url}: {error}; write sqlite:PATH")))?;
    let path = options.get_filename();
    if !path.is_file() {
        let sentence =
            format!("{}: there is no such database; name the file that the service uses", path.display());
        return Err(Failure::new(Exit::NotFound, sentence));
    }
    // A service that is at work has the write lock most of the time.
    Sqlite::open_with(path, global.timeout).await.map_err(|error| unconnected(&error))
}

fn unknown_tables(error: &SchemaError) -> Failure {
    match error {
        SchemaError::Missing => {
            Failure::new(Exit::NotFound, "the database has no tables of Courant: no service has used it yet")
        }
        SchemaError::Store(error) => unstored(error),
        other => Failure::new(Exit::Conflict, other.to_string()),
    }
}

/// The store did not do what it was asked for.
fn unstored(error: &StoreError) -> Failure {
    let exit = match error.class() {
        Class::Busy | Class::ConnectionLost | Class::Standby => Exit::Unreachable,
        Class::CannotOpen => Exit::NotFound,
        Class::ReadOnly => Exit::NotAllowed,
        _ => Exit::Failed,
    };
    let sentence = match error.class() {
        // A handler has the rows, or the table is large: either may end by itself.
        Class::Busy => format!("{error}; wait longer with --timeout, for at most a minute on a server"),
        _ => error.to_string(),
    };
    Failure::new(exit, sentence)
}

fn no_redrive(error: &RedriveError) -> Failure {
    match error {
        RedriveError::Store(error) => unstored(error),
        other => Failure::new(Exit::NotFound, other.to_string()),
    }
}

fn unedited(error: &EditError) -> Failure {
    match error {
        EditError::Store(error) => unstored(error),
        EditError::Unknown { .. } => Failure::new(Exit::NotFound, error.to_string()),
        other => Failure::new(Exit::Conflict, other.to_string()),
    }
}
