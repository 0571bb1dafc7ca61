//! Forgetting what nobody will ask for again, in bounded pieces.

use sqlx::SqliteConnection;

use super::Sqlite;
use super::class::failed;
use super::row::{on_partition, signed};
use crate::consumer::{Assignment, Consumer};
use crate::error::StoreError;

const INBOX: &str = "prune the inbox";
const DEAD: &str = "prune dead letters";

/// Undecided dead letters keep their inbox rows: their events may still come from the log.
pub(super) async fn inbox(
    store: &Sqlite,
    consumer: &Consumer,
    before_ms: i64,
    limit: u32,
) -> Result<u64, StoreError> {
    let sql = "DELETE FROM courant_inbox WHERE consumer = ?1 AND generation = ?2 AND event_id IN ( \
                   SELECT event_id FROM courant_inbox WHERE consumer = ?1 AND generation = ?2 \
                   AND outcome <> 'dead' AND settled_ms < ?3 ORDER BY settled_ms LIMIT ?4)";
    let mut session = store.writer(INBOX).await?;
    let pruned = sqlx::query(sql)
        .bind(consumer.name.as_str())
        .bind(i64::from(consumer.generation))
        .bind(before_ms)
        .bind(i64::from(limit))
        .execute(&mut *session)
        .await
        .map_err(failed(INBOX))?;
    session.commit().await.map_err(failed(INBOX))?;
    Ok(pruned.rows_affected())
}

pub(super) async fn dead_letters(store: &Sqlite, before_ms: i64, limit: u32) -> Result<u64, StoreError> {
    let events = "DELETE FROM courant_redrive_event WHERE dead_id IN ( \
                      SELECT id FROM courant_dead WHERE closed_ms < ?1 ORDER BY closed_ms, id LIMIT ?2)";
    let notes = "DELETE FROM courant_dead_note WHERE dead_id IN ( \
                     SELECT id FROM courant_dead WHERE closed_ms < ?1 ORDER BY closed_ms, id LIMIT ?2)";
    let dead = "DELETE FROM courant_dead WHERE id IN ( \
                    SELECT id FROM courant_dead WHERE closed_ms < ?1 ORDER BY closed_ms, id LIMIT ?2)";
    let redrives = "DELETE FROM courant_redrive WHERE finished_ms < ?1 AND NOT EXISTS ( \
                        SELECT 1 FROM courant_redrive_event e WHERE e.redrive_id = courant_redrive.id)";
    let mut session = store.writer(DEAD).await?;
    for sql in [events, notes] {
        sqlx::query(sql)
            .bind(before_ms)
            .bind(i64::from(limit))
            .execute(&mut *session)
            .await
            .map_err(failed(DEAD))?;
    }
    let pruned = sqlx::query(dead)
        .bind(before_ms)
        .bind(i64::from(limit))
        .execute(&mut *session)
        .await
        .map_err(failed(DEAD))?;
    sqlx::query(redrives).bind(before_ms).execute(&mut *session).await.map_err(failed(DEAD))?;
    session.commit().await.map_err(failed(DEAD))?;
    Ok(pruned.rows_affected())
}

/// Closed dead letters of a partition from an offset on, and what stands under their numbers elsewhere.
pub(super) async fn closed_from(
    connection: &mut SqliteConnection,
    assignment: &Assignment,
    offset: u64,
) -> Result<(), StoreError> {
    let events = "DELETE FROM courant_redrive_event WHERE dead_id IN ( \
                      SELECT id FROM courant_dead WHERE consumer = ?1 AND generation = ?2 AND topic = ?3 \
                      AND partition_id = ?4 AND event_offset >= ?5 AND state IN ('redriven', 'discarded'))";
    let notes = "DELETE FROM courant_dead_note WHERE dead_id IN ( \
                     SELECT id FROM courant_dead WHERE consumer = ?1 AND generation = ?2 AND topic = ?3 \
                     AND partition_id = ?4 AND event_offset >= ?5 AND state IN ('redriven', 'discarded'))";
    let dead = "DELETE FROM courant_dead WHERE consumer = ?1 AND generation = ?2 AND topic = ?3 \
                AND partition_id = ?4 AND event_offset >= ?5 AND state IN ('redriven', 'discarded')";
    let offset = signed(offset, DEAD)?;
    for sql in [events, notes, dead] {
        let gone = on_partition!(sql, assignment).bind(offset);
        gone.execute(&mut *connection).await.map_err(failed(DEAD))?;
    }
    Ok(())
}
