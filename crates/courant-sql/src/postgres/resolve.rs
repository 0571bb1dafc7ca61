//! What follows when an event leaves the parked ones: its dead letter and its redrive end, and the next
//! event of its key has its turn.
//!
//! Of each key at most one event has a due time, and it is the first: [`arrange`] makes it so, after
//! every change of a key's events. Whoever changes them holds the key's lock ([`super::locks::key`])
//! from before the change on, so that two changes of one key see each other.

use sqlx::PgConnection;

use super::class::failed;
use super::row::{Columns, on_partition, signed, text};
use crate::consumer::Assignment;
use crate::error::StoreError;

const SETTLE: &str = "take an event out of the parked ones";
const ARRANGE: &str = "find the next event of a key";
const FINISH: &str = "see whether a redrive has ended";

/// An event of the partition was handled or skipped. Whether that has taken the last parked event of
/// its key away. The key's lock is held.
pub(super) async fn settled(
    connection: &mut PgConnection,
    assignment: &Assignment,
    offset: u64,
    key: Option<&[u8]>,
    now_ms: i64,
) -> Result<bool, StoreError> {
    if !unpark(connection, assignment, offset).await? {
        return Ok(false);
    }
    let sql = "UPDATE courant_dead SET state = 'redriven', closed_ms = $6, blocks_key = 0 \
               WHERE consumer = $1 AND generation = $2 AND topic = $3 AND partition_id = $4 \
               AND event_offset = $5 AND state = 'redriving' RETURNING id";
    let dead = on_partition!(sql, assignment)
        .bind(signed(offset, SETTLE)?)
        .bind(now_ms)
        .fetch_optional(&mut *connection)
        .await
        .map_err(failed(SETTLE))?;
    if let Some(row) = dead {
        let id = Columns::new(&row, SETTLE).int(0)?;
        redriven(connection, id, "handled", now_ms).await?;
    }
    next_of_key(connection, assignment, key, now_ms).await
}

/// Takes an event out of the parked ones. Whether it was there.
pub(super) async fn unpark(
    connection: &mut PgConnection,
    assignment: &Assignment,
    offset: u64,
) -> Result<bool, StoreError> {
    let sql = "DELETE FROM courant_parked WHERE consumer = $1 AND generation = $2 AND topic = $3 \
               AND partition_id = $4 AND event_offset = $5";
    let done = on_partition!(sql, assignment)
        .bind(signed(offset, SETTLE)?)
        .execute(&mut *connection)
        .await
        .map_err(failed(SETTLE))?;
    Ok(done.rows_affected() > 0)
}

/// Gives the turn to the next event of a key, at once. Whether there is none.
pub(super) async fn next_of_key(
    connection: &mut PgConnection,
    assignment: &Assignment,
    key: Option<&[u8]>,
    now_ms: i64,
) -> Result<bool, StoreError> {
    match key {
        Some(key) => arrange(connection, assignment, key, now_ms).await,
        None => Ok(true),
    }
}

/// The first event of a key is due at `due_ms` if it had no time yet, and no other event has a time.
/// Whether the key has no events.
pub(super) async fn arrange(
    connection: &mut PgConnection,
    assignment: &Assignment,
    key: &[u8],
    due_ms: i64,
) -> Result<bool, StoreError> {
    let first = "SELECT event_offset, state FROM courant_parked \
                 WHERE consumer = $1 AND generation = $2 AND topic = $3 AND partition_id = $4 \
                 AND sha256(event_key) = sha256($5) AND event_key = $5 ORDER BY event_offset LIMIT 1";
    let row = on_partition!(first, assignment)
        .bind(key)
        .fetch_optional(&mut *connection)
        .await
        .map_err(failed(ARRANGE))?;
    let Some(row) = row else { return Ok(true) };
    let offset = Columns::new(&row, ARRANGE).int(0)?;
    let state = Columns::new(&row, ARRANGE).text(1)?;
    if state == "waiting" {
        return Ok(false);
    }
    let others = "UPDATE courant_parked SET state = 'queued', due_ms = NULL \
                  WHERE consumer = $1 AND generation = $2 AND topic = $3 AND partition_id = $4 \
                  AND sha256(event_key) = sha256($5) AND event_key = $5 AND due_ms IS NOT NULL";
    on_partition!(others, assignment).bind(key).execute(&mut *connection).await.map_err(failed(ARRANGE))?;
    if state == "queued" {
        let turn = "UPDATE courant_parked SET state = 'waiting', due_ms = $6 \
                    WHERE consumer = $1 AND generation = $2 AND topic = $3 AND partition_id = $4 \
                    AND event_offset = $5";
        on_partition!(turn, assignment)
            .bind(offset)
            .bind(due_ms)
            .execute(&mut *connection)
            .await
            .map_err(failed(ARRANGE))?;
    }
    Ok(false)
}

/// A redrive has its result for a dead letter: `handled` or `failed`.
pub(super) async fn redriven(
    connection: &mut PgConnection,
    dead_id: i64,
    result: &'static str,
    now_ms: i64,
) -> Result<(), StoreError> {
    // Those that end its last two events side by side take turns: the second one sees the first one's
    // result, and that the redrive has ended.
    let operation = "SELECT id FROM courant_redrive WHERE id IN ( \
                         SELECT redrive_id FROM courant_redrive_event \
                         WHERE dead_id = $1 AND state = 'delivering') ORDER BY id FOR UPDATE";
    let rows =
        sqlx::query(operation).bind(dead_id).fetch_all(&mut *connection).await.map_err(failed(SETTLE))?;
    for row in &rows {
        let redrive = Columns::new(row, SETTLE).text(0)?;
        let sql = "UPDATE courant_redrive_event SET state = $3, changed_ms = $4 \
                   WHERE redrive_id = $1 AND dead_id = $2 AND state = 'delivering'";
        sqlx::query(sql)
            .bind(&*text(&redrive))
            .bind(dead_id)
            .bind(result)
            .bind(now_ms)
            .execute(&mut *connection)
            .await
            .map_err(failed(SETTLE))?;
        finish(connection, &redrive, now_ms).await?;
    }
    Ok(())
}

/// A redrive that has no open event has ended.
pub(super) async fn finish(
    connection: &mut PgConnection,
    redrive: &str,
    now_ms: i64,
) -> Result<(), StoreError> {
    let sql = "UPDATE courant_redrive SET state = 'done', finished_ms = $2 \
               WHERE id = $1 AND state = 'running' AND NOT EXISTS ( \
                   SELECT 1 FROM courant_redrive_event e \
                   WHERE e.redrive_id = $1 AND e.state IN ('pending', 'delivering'))";
    sqlx::query(sql)
        .bind(&*text(redrive))
        .bind(now_ms)
        .execute(&mut *connection)
        .await
        .map_err(failed(FINISH))?;
    Ok(())
}
