//! Everything that a service usually names.

#[cfg(feature = "mariadb")]
pub use courant_sql::Mariadb;
#[cfg(feature = "postgres")]
pub use courant_sql::Postgres;
pub use courant_sql::{Sqlite, sqlx};
pub use serde::{Deserialize, Serialize};

pub use crate::{
    App, Command, Envelope, Event, Exhausted, HandlerError, Meta, Publisher, Retry, State, Subscription, Tx,
};
