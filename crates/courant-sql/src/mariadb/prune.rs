//! Forgetting what nobody will ask for again, in bounded pieces.
//!
//! What may go is read first, without locks, and then deleted by primary keys: a deletion that looks for
//! its rows would wait for those of handlers that are under way.

use std::collections::BTreeSet;

use sqlx::MySqlConnection;

use super::class::failed;
use super::lists::{self, numbers, texts};
use super::row::{Columns, on_partition, signed};
use super::{Mariadb, locks};
use crate::consumer::{Assignment, Consumer};
use crate::error::StoreError;

const INBOX: &str = "prune the inbox";
const DEAD: &str = "prune dead letters";

/// Closed dead letters that one statement forgets where progress is set back, and redrives without an event.
const FORGOTTEN_AT_ONCE: i64 = 500;

/// Undecided dead letters keep their inbox rows: their events may still come from the log.
pub(super) async fn inbox(
    store: &Mariadb,
    consumer: &Consumer,
    before_ms: i64,
    limit: u32,
) -> Result<u64, StoreError> {
    let mut session = store.writer(INBOX).await?;
    let old = "SELECT event_id FROM courant_inbox WHERE consumer = ? AND generation = ? \
               AND outcome <> 'dead' AND settled_ms < ? ORDER BY settled_ms LIMIT ?";
    let rows = sqlx::query(old)
        .bind(consumer.name.as_str())
        .bind(i64::from(consumer.generation))
        .bind(before_ms)
        .bind(i64::from(limit))
        .fetch_all(&mut *session)
        .await
        .map_err(failed(INBOX))?;
    let ids = rows.iter().map(|row| Columns::new(row, INBOX).text(0)).collect::<Result<BTreeSet<_>, _>>()?;
    let gone = concat!(
        "DELETE i FROM ",
        texts!(),
        " STRAIGHT_JOIN courant_inbox i FORCE INDEX (PRIMARY) \
         ON i.consumer = ? AND i.generation = ? AND i.event_id = w.id \
         WHERE i.outcome <> 'dead' AND i.settled_ms < ?"
    );
    let pruned = sqlx::query(gone)
        .bind(lists::json(ids))
        .bind(consumer.name.as_str())
        .bind(i64::from(consumer.generation))
        .bind(before_ms)
        .execute(&mut *session)
        .await
        .map_err(failed(INBOX))?;
    session.commit().await.map_err(failed(INBOX))?;
    Ok(pruned.rows_affected())
}

pub(super) async fn dead_letters(store: &Mariadb, before_ms: i64, limit: u32) -> Result<u64, StoreError> {
    let mut session = store.writer(DEAD).await?;
    // Whoever decides about dead letters holds it: what is closed now stays so.
    locks::take(&mut session, BTreeSet::from([locks::DECISIONS]), DEAD).await?;
    let old = "SELECT id FROM courant_dead WHERE closed_ms < ? ORDER BY closed_ms, id LIMIT ?";
    let rows = sqlx::query(old)
        .bind(before_ms)
        .bind(i64::from(limit))
        .fetch_all(&mut *session)
        .await
        .map_err(failed(DEAD))?;
    let ids = rows.iter().map(|row| Columns::new(row, DEAD).int(0)).collect::<Result<BTreeSet<_>, _>>()?;
    let pruned = forget(&mut session, &lists::json(ids)).await?;
    redrives(&mut session, before_ms).await?;
    session.commit().await.map_err(failed(DEAD))?;
    Ok(pruned)
}

/// Closed dead letters of a partition from an offset on, some after the other. The lock of the decisions is held.
pub(super) async fn closed_from(
    connection: &mut MySqlConnection,
    assignment: &Assignment,
    offset: u64,
) -> Result<(), StoreError> {
    let closed = "SELECT id, event_offset FROM courant_dead WHERE consumer = ? AND generation = ? AND topic = ? \
                  AND partition_id = ? AND event_offset >= ? AND state IN ('redriven', 'discarded') \
                  ORDER BY event_offset LIMIT ?";
    // Each piece begins behind the one before: the server keeps what was deleted until the commit, and would look at
    // all of it again.
    let mut from = signed(offset, DEAD)?;
    loop {
        let rows = on_partition!(closed, assignment).bind(from).bind(FORGOTTEN_AT_ONCE);
        let rows = rows.fetch_all(&mut *connection).await.map_err(failed(DEAD))?;
        let Some(last) = rows.last() else { return Ok(()) };
        from = Columns::new(last, DEAD).int(1)?.saturating_add(1);
        let ids =
            rows.iter().map(|row| Columns::new(row, DEAD).int(0)).collect::<Result<BTreeSet<_>, _>>()?;
        forget(connection, &lists::json(ids)).await?;
    }
}

/// Dead letters, and what stands under their numbers elsewhere.
async fn forget(connection: &mut MySqlConnection, list: &str) -> Result<u64, StoreError> {
    let events = concat!(
        "DELETE e FROM ",
        numbers!(),
        " STRAIGHT_JOIN courant_redrive_event e FORCE INDEX (courant_redrive_event_dead) ON e.dead_id = w.id"
    );
    let notes = concat!(
        "DELETE n FROM ",
        numbers!(),
        " STRAIGHT_JOIN courant_dead_note n FORCE INDEX (courant_dead_note_dead) ON n.dead_id = w.id"
    );
    let dead = concat!(
        "DELETE d FROM ",
        numbers!(),
        " STRAIGHT_JOIN courant_dead d FORCE INDEX (courant_dead_id) ON d.id = w.id"
    );
    for sql in [events, notes] {
        sqlx::query(sql).bind(list).execute(&mut *connection).await.map_err(failed(DEAD))?;
    }
    let pruned = sqlx::query(dead).bind(list).execute(&mut *connection).await.map_err(failed(DEAD))?;
    Ok(pruned.rows_affected())
}

/// Redrives that have no event any more, some after the other. The lock of the decisions is held.
async fn redrives(connection: &mut MySqlConnection, before_ms: i64) -> Result<(), StoreError> {
    let empty = "SELECT r.id FROM courant_redrive r WHERE r.id >= ? AND r.finished_ms < ? AND NOT EXISTS ( \
                     SELECT 1 FROM courant_redrive_event e WHERE e.redrive_id = r.id) ORDER BY r.id LIMIT ?";
    let gone = concat!(
        "DELETE r FROM ",
        texts!(),
        " STRAIGHT_JOIN courant_redrive r FORCE INDEX (PRIMARY) ON r.id = w.id"
    );
    // As with letters, each piece begins behind the one before.
    let mut from = String::new();
    loop {
        let rows = sqlx::query(empty).bind(&from).bind(before_ms).bind(FORGOTTEN_AT_ONCE);
        let rows = rows.fetch_all(&mut *connection).await.map_err(failed(DEAD))?;
        let Some(last) = rows.last() else { return Ok(()) };
        // Ids are compared letter by letter, and a shorter one comes first: nothing stands between these two.
        from = format!("{}\0", Columns::new(last, DEAD).text(0)?);
        let ids =
            rows.iter().map(|row| Columns::new(row, DEAD).text(0)).collect::<Result<BTreeSet<_>, _>>()?;
        sqlx::query(gone).bind(lists::json(ids)).execute(&mut *connection).await.map_err(failed(DEAD))?;
    }
}
