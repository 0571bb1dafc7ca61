//! Forgetting what nobody will ask for again, in bounded pieces.

use super::class::failed;
use super::{Postgres, locks};
use crate::consumer::Consumer;
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
