//! Forgetting what nobody will ask for again, in bounded pieces.

use sqlx::PgConnection;

use super::class::failed;
use super::row::{on_partition, signed};
use super::{Postgres, locks};
use crate::consumer::{Assignment, Consumer};
use crate::error::StoreError;

const INBOX: &str = "prune the inbox";
const DEAD: &str = "prune dead letters";

/// Undecided dead letters keep their inbox rows: their events may still come from the log.
pub(super) async fn inbox(
    store: &Postgres,
    consumer: &Consumer,
    before_ms: i64,
    limit: u32,
) -> Result<u64, StoreError> {
    let sql = "DELETE FROM courant_inbox WHERE consumer = $1 AND generation = $2 AND event_id IN ( \
                   SELECT event_id FROM courant_inbox WHERE consumer = $1 AND generation = $2 \
                   AND outcome <> 'dead' AND settled_ms < $3 ORDER BY settled_ms LIMIT $4) \
               AND outcome <> 'dead' AND settled_ms < $3";
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

pub(super) async fn dead_letters(store: &Postgres, before_ms: i64, limit: u32) -> Result<u64, StoreError> {
    let dead = "WITH old AS ( \
                    SELECT id FROM courant_dead WHERE closed_ms < $1 ORDER BY closed_ms, id LIMIT $2 \
                    FOR UPDATE), \
                events AS (DELETE FROM courant_redrive_event e USING old WHERE e.dead_id = old.id), \
                notes AS (DELETE FROM courant_dead_note n USING old WHERE n.dead_id = old.id) \
                DELETE FROM courant_dead d USING old WHERE d.id = old.id";
    let redrives = "DELETE FROM courant_redrive WHERE finished_ms < $1 AND NOT EXISTS ( \
                        SELECT 1 FROM courant_redrive_event e WHERE e.redrive_id = courant_redrive.id)";
    let mut session = store.writer(DEAD).await?;
    locks::take(&mut session, vec![locks::decisions()], DEAD).await?;
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

/// Closed dead letters of a partition from an offset on, and what stands under their numbers elsewhere. The lock of
/// the decisions is held.
pub(super) async fn closed_from(
    connection: &mut PgConnection,
    assignment: &Assignment,
    offset: u64,
) -> Result<(), StoreError> {
    let dead = "WITH gone AS ( \
                    SELECT id FROM courant_dead WHERE consumer = $1 AND generation = $2 AND topic = $3 \
                    AND partition_id = $4 AND event_offset >= $5 AND state IN ('redriven', 'discarded')), \
                events AS (DELETE FROM courant_redrive_event e USING gone WHERE e.dead_id = gone.id), \
                notes AS (DELETE FROM courant_dead_note n USING gone WHERE n.dead_id = gone.id) \
                DELETE FROM courant_dead d USING gone WHERE d.id = gone.id";
    let gone = on_partition!(dead, assignment).bind(signed(offset, DEAD)?);
    gone.execute(&mut *connection).await.map_err(failed(DEAD))?;
    Ok(())
}
