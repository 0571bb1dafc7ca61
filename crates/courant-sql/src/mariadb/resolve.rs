//! What follows when an event leaves the parked ones: its dead letter and its redrive end, and the next
//! event of its key has its turn.
//!
//! Of each key at most one event has a due time, and it is the first: [`arrange`] makes it so, after
//! every change of a key's events. Whoever changes them holds the key's slot ([`super::locks::key`])
//! from before the change on, so that two changes of one key see each other.

use sqlx::MySqlConnection;

use super::class::failed;
use super::lists::{self, texts};
use super::locks;
use super::row::{Columns, on_partition, signed};
use crate::consumer::Assignment;
use crate::error::StoreError;

const SETTLE: &str = "take an event out of the parked ones";
const ARRANGE: &str = "find the next event of a key";
const FINISH: &str = "see whether a redrive has ended";

/// An event of the partition was handled or skipped. Whether that has taken the last parked event of
/// its key away. The key's slot is held.
pub(super) async fn settled(
    connection: &mut MySqlConnection,
    assignment: &Assignment,
    offset: u64,
    key: Option<&[u8]>,
    now_ms: i64,
) -> Result<bool, StoreError> {
    if !unpark(connection, assignment, offset).await? {
        return Ok(false);
    }
    let sql = "SELECT id FROM courant_dead WHERE consumer = ? AND generation = ? AND topic = ? \
               AND partition_id = ? AND event_offset = ? AND state = 'redriving' FOR UPDATE";
    let dead = on_partition!(sql, assignment)
        .bind(signed(offset, SETTLE)?)
        .fetch_optional(&mut *connection)
        .await
        .map_err(failed(SETTLE))?;
    if let Some(row) = dead {
        let id = Columns::new(&row, SETTLE).int(0)?;
        let sql = "UPDATE courant_dead SET state = 'redriven', closed_ms = ?, blocks_key = 0 \
                   WHERE consumer = ? AND generation = ? AND topic = ? AND partition_id = ? \
                   AND event_offset = ?";
        sqlx::query(sql)
            .bind(now_ms)
            .bind(assignment.consumer.name.as_str())
            .bind(i64::from(assignment.consumer.generation))
            .bind(assignment.partition.topic.as_str())
            .bind(i64::from(assignment.partition.partition))
            .bind(signed(offset, SETTLE)?)
            .execute(&mut *connection)
            .await
            .map_err(failed(SETTLE))?;
        redriven(connection, id, "handled", now_ms).await?;
    }
    next_of_key(connection, assignment, key, now_ms).await
}

/// Takes an event out of the parked ones. Whether it was there.
pub(super) async fn unpark(
    connection: &mut MySqlConnection,
    assignment: &Assignment,
    offset: u64,
) -> Result<bool, StoreError> {
    let sql = "DELETE FROM courant_parked WHERE consumer = ? AND generation = ? AND topic = ? \
               AND partition_id = ? AND event_offset = ?";
    let done = on_partition!(sql, assignment)
        .bind(signed(offset, SETTLE)?)
        .execute(&mut *connection)
        .await
        .map_err(failed(SETTLE))?;
    Ok(done.rows_affected() > 0)
}

/// Gives the turn to the next event of a key, at once. Whether there is none.
pub(super) async fn next_of_key(
    connection: &mut MySqlConnection,
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
    connection: &mut MySqlConnection,
    assignment: &Assignment,
    key: &[u8],
    due_ms: i64,
) -> Result<bool, StoreError> {
    let hash = locks::hash(key);
    // The first one, and whoever has a time: what is changed is then named by its offset.
    let sql = "(SELECT event_offset, state FROM courant_parked FORCE INDEX (courant_parked_key) \
                   WHERE consumer = ? AND generation = ? AND topic = ? AND partition_id = ? \
                   AND key_hash = UNHEX(?) ORDER BY event_offset LIMIT 1) \
               UNION ALL \
               (SELECT event_offset, 'timed' FROM courant_parked FORCE INDEX (courant_parked_key) \
                   WHERE consumer = ? AND generation = ? AND topic = ? AND partition_id = ? \
                   AND key_hash = UNHEX(?) AND due_ms IS NOT NULL)";
    let rows = on_partition!(sql, assignment)
        .bind(hash.as_str())
        .bind(assignment.consumer.name.as_str())
        .bind(i64::from(assignment.consumer.generation))
        .bind(assignment.partition.topic.as_str())
        .bind(i64::from(assignment.partition.partition))
        .bind(hash.as_str())
        .fetch_all(&mut *connection)
        .await
        .map_err(failed(ARRANGE))?;
    let mut first = None;
    let mut timed = Vec::new();
    for row in &rows {
        let columns = Columns::new(row, ARRANGE);
        let (offset, state) = (columns.int(0)?, columns.text(1)?);
        if state == "timed" { timed.push(offset) } else { first = Some((offset, state)) }
    }
    let Some((offset, state)) = first else { return Ok(true) };
    if state == "waiting" {
        return Ok(false);
    }
    for other in timed {
        turn(connection, assignment, other, "queued", None).await?;
    }
    if state == "queued" {
        turn(connection, assignment, offset, "waiting", Some(due_ms)).await?;
    }
    Ok(false)
}

async fn turn(
    connection: &mut MySqlConnection,
    assignment: &Assignment,
    offset: i64,
    state: &'static str,
    due_ms: Option<i64>,
) -> Result<(), StoreError> {
    let sql = "UPDATE courant_parked SET state = ?, due_ms = ? \
               WHERE consumer = ? AND generation = ? AND topic = ? AND partition_id = ? AND event_offset = ?";
    sqlx::query(sql)
        .bind(state)
        .bind(due_ms)
        .bind(assignment.consumer.name.as_str())
        .bind(i64::from(assignment.consumer.generation))
        .bind(assignment.partition.topic.as_str())
        .bind(i64::from(assignment.partition.partition))
        .bind(offset)
        .execute(&mut *connection)
        .await
        .map_err(failed(ARRANGE))?;
    Ok(())
}

/// A redrive has its result for a dead letter: `handled` or `failed`.
pub(super) async fn redriven(
    connection: &mut MySqlConnection,
    dead_id: i64,
    result: &'static str,
    now_ms: i64,
) -> Result<(), StoreError> {
    let sql = "SELECT redrive_id FROM courant_redrive_event WHERE dead_id = ? AND state = 'delivering'";
    let rows = sqlx::query(sql).bind(dead_id).fetch_all(&mut *connection).await.map_err(failed(SETTLE))?;
    let mut redrives = Vec::with_capacity(rows.len());
    for row in &rows {
        redrives.push(Columns::new(row, SETTLE).text(0)?);
    }
    if redrives.is_empty() {
        return Ok(());
    }
    redrives.sort_unstable();
    // Those that end its last two events side by side take turns: the second one sees the first one's
    // result, and that the redrive has ended.
    let sql = concat!(
        "SELECT r.id FROM ",
        texts!(),
        " STRAIGHT_JOIN courant_redrive r FORCE INDEX (PRIMARY) ON r.id = w.id FOR UPDATE"
    );
    sqlx::query(sql)
        .bind(lists::json(redrives.iter().map(String::as_str)))
        .fetch_all(&mut *connection)
        .await
        .map_err(failed(SETTLE))?;
    for redrive in &redrives {
        let sql = "UPDATE courant_redrive_event SET state = ?, changed_ms = ? \
                   WHERE redrive_id = ? AND dead_id = ? AND state = 'delivering'";
        sqlx::query(sql)
            .bind(result)
            .bind(now_ms)
            .bind(redrive.as_str())
            .bind(dead_id)
            .execute(&mut *connection)
            .await
            .map_err(failed(SETTLE))?;
        finish(connection, redrive, now_ms).await?;
    }
    Ok(())
}

/// A redrive that has no open event has ended. Its row is held.
pub(super) async fn finish(
    connection: &mut MySqlConnection,
    redrive: &str,
    now_ms: i64,
) -> Result<(), StoreError> {
    let sql = "UPDATE courant_redrive SET state = 'done', finished_ms = ? \
               WHERE id = ? AND state = 'running' AND NOT EXISTS ( \
                   SELECT 1 FROM courant_redrive_event e \
                   WHERE e.redrive_id = ? AND e.state IN ('pending', 'delivering'))";
    sqlx::query(sql)
        .bind(now_ms)
        .bind(redrive)
        .bind(redrive)
        .execute(&mut *connection)
        .await
        .map_err(failed(FINISH))?;
    Ok(())
}
