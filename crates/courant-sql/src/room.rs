//! Whether a database without room is behind an error of somebody else.

use std::error::Error;
use std::iter;

use sqlx::error::DatabaseError;

use crate::error::Class;

/// Causes of an error that are looked at.
const CAUSES_MAX: usize = 16;

/// Whether an error says, or one of its causes, that the database, its disk or its quota is full. Whoever has
/// met that has done nothing wrong, and the same again will do when somebody has made room.
#[must_use]
pub fn lacks_room(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    let causes = iter::from_fn(|| {
        let error = next?;
        next = error.source();
        Some(error)
    });
    causes.take(CAUSES_MAX).filter_map(answer).any(|answer| class_of(answer) == Some(Class::Full))
}

/// What a database has answered with. An error that is transparent for the driver's has only the answer among
/// its causes, in its box.
fn answer<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn DatabaseError + 'static)> {
    if let Some(boxed) = error.downcast_ref::<Box<dyn DatabaseError>>() {
        return Some(&**boxed);
    }
    error.downcast_ref::<sqlx::Error>()?.as_database_error()
}

/// `None`: it is a database that this was built without.
fn class_of(answer: &(dyn DatabaseError + 'static)) -> Option<Class> {
    let class = None;
    #[cfg(feature = "sqlite")]
    let class = class.or_else(|| crate::sqlite::class_of_answer(answer));
    #[cfg(feature = "postgres")]
    let class = class.or_else(|| crate::postgres::class_of_answer(answer));
    #[cfg(feature = "mariadb")]
    let class = class.or_else(|| crate::mariadb::class_of_answer(answer));
    class
}

#[cfg(all(test, feature = "sqlite"))]
mod tests {
    use super::*;
    use crate::error::StoreError;
    use sqlx::Connection as _;

    #[derive(Debug, thiserror::Error)]
    enum Failed {
        #[error("the bill could not be written")]
        Named(#[source] sqlx::Error),
        #[error(transparent)]
        Transparent(sqlx::Error),
    }

    /// What SQLite says to this statement when its file may not grow.
    async fn said(statement: &'static str) -> sqlx::Error {
        let mut connection = sqlx::SqliteConnection::connect("sqlite::memory:").await.expect("opens");
        let prepared = "create table bills (text); pragma max_page_count = 2";
        sqlx::raw_sql(prepared).execute(&mut connection).await.expect("there is room for a table");
        sqlx::raw_sql(statement).execute(&mut connection).await.expect_err("it is refused")
    }

    async fn full() -> sqlx::Error {
        said("insert into bills values (hex(zeroblob(100000)))").await
    }

    #[tokio::test]
    async fn a_full_database_is_found_behind_any_error() {
        assert!(lacks_room(&full().await));
        assert!(lacks_room(&Failed::Named(full().await)));
        assert!(lacks_room(&Failed::Transparent(full().await)));
        assert!(lacks_room(&StoreError::new("keep a bill", Class::Full, full().await)));
    }

    #[tokio::test]
    async fn what_somebody_has_done_wrong_is_no_lack_of_room() {
        assert!(!lacks_room(&said("insert into nothing values (1)").await));
        assert!(!lacks_room(&Failed::Transparent(sqlx::Error::RowNotFound)));
        assert!(!lacks_room(&std::io::Error::other("database or disk is full")), "texts do not decide");
    }
}
