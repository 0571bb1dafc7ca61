//! Who may handle a partition, and how far its consumer has come.
//!
//! A takeover is a transaction that writes: SQLite lets it begin only when the transaction of the owner
//! so far has ended. Every transaction of an owner looks at the epoch after it has the write lock, so
//! between the look and its end nobody takes the partition over.

use sqlx::SqliteConnection;

use super::class::failed;
use super::row::{Columns, on_partition, signed};
use super::{Sqlite, prune};
use crate::consumer::{Assignment, Progress};
use crate::error::{BeginError, LeaseError, ResetError, StoreError};
use crate::parked::Lease;

const TAKE_OVER: &str = "take a partition over";
const READ: &str = "read a consumer's progress";
const SAVE: &str = "save a consumer's progress";

pub(super) async fn take_over(
    store: &Sqlite,
    assignment: &Assignment,
    owner: &str,
    now_ms: i64,
) -> Result<Lease, StoreError> {
    let mut session = store.writer(TAKE_OVER).await?;
    let sql = "INSERT INTO courant_owner (consumer, generation, topic, partition_id, epoch, owner, taken_ms) \
               VALUES (?1, ?2, ?3, ?4, 1, ?5, ?6) \
               ON CONFLICT (consumer, generation, topic, partition_id) DO UPDATE \
               SET epoch = courant_owner.epoch + 1, owner = excluded.owner, taken_ms = excluded.taken_ms \
               RETURNING epoch";
    let row = on_partition!(sql, assignment)
        .bind(owner)
        .bind(now_ms)
        .fetch_one(&mut *session)
        .await
        .map_err(failed(TAKE_OVER))?;
    let epoch = Columns::new(&row, TAKE_OVER).number(0)?;
    session.commit().await.map_err(failed(TAKE_OVER))?;
    Ok(Lease::new(assignment.clone(), epoch))
}

/// Refuses a lease that somebody else has ended.
pub(super) async fn held(
    connection: &mut SqliteConnection,
    lease: &Lease,
    doing: &'static str,
) -> Result<(), BeginError> {
    let sql = "SELECT epoch FROM courant_owner \
               WHERE consumer = ?1 AND generation = ?2 AND topic = ?3 AND partition_id = ?4";
    let row = on_partition!(sql, &lease.assignment)
        .fetch_optional(&mut *connection)
        .await
        .map_err(failed(doing))?;
    let current = row.map_or(Ok(0), |row| Columns::new(&row, doing).number(0))?;
    if current == lease.epoch {
        return Ok(());
    }
    Err(BeginError::Fenced { assignment: Box::new(lease.assignment.clone()), held: lease.epoch, current })
}

pub(super) async fn progress(
    store: &Sqlite,
    assignment: &Assignment,
) -> Result<Option<Progress>, StoreError> {
    let mut session = store.reader().await?;
    let sql = "SELECT event_offset, mark, gap_events FROM courant_progress \
               WHERE consumer = ?1 AND generation = ?2 AND topic = ?3 AND partition_id = ?4";
    let row = on_partition!(sql, assignment).fetch_optional(&mut *session).await.map_err(failed(READ))?;
    session.give_back();
    let Some(row) = row else { return Ok(None) };
    let columns = Columns::new(&row, READ);
    Ok(Some(Progress { offset: columns.number(0)?, mark: columns.text(1)?, gap_events: columns.number(2)? }))
}

pub(super) async fn save_progress(
    store: &Sqlite,
    saves: &[(&Lease, &Progress)],
    now_ms: i64,
) -> Result<(), LeaseError> {
    if saves.is_empty() {
        return Ok(());
    }
    let mut session = store.writer(SAVE).await?;
    for &(lease, progress) in saves {
        if let Err(error) = held(&mut session, lease, SAVE).await {
            // The refusal is what matters; the connection is closed if this fails.
            let _ = session.rollback().await;
            return Err(error);
        }
        save_one(&mut session, lease, progress, now_ms).await?;
    }
    session.commit().await.map_err(failed(SAVE))?;
    Ok(())
}

async fn save_one(
    connection: &mut SqliteConnection,
    lease: &Lease,
    progress: &Progress,
    now_ms: i64,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO courant_progress \
               (consumer, generation, topic, partition_id, event_offset, mark, gap_events, saved_ms) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) \
               ON CONFLICT (consumer, generation, topic, partition_id) DO UPDATE \
               SET event_offset = excluded.event_offset, mark = excluded.mark, \
               gap_events = excluded.gap_events, saved_ms = excluded.saved_ms \
               WHERE excluded.event_offset >= courant_progress.event_offset";
    on_partition!(sql, &lease.assignment)
        .bind(signed(progress.offset, SAVE)?)
        .bind(progress.mark.as_str())
        .bind(signed(progress.gap_events, SAVE)?)
        .bind(now_ms)
        .execute(&mut *connection)
        .await
        .map_err(failed(SAVE))?;
    Ok(())
}

pub(super) async fn reset_progress(
    store: &Sqlite,
    lease: &Lease,
    progress: Option<&Progress>,
    now_ms: i64,
) -> Result<(), ResetError> {
    let mut session = store.owner(lease, SAVE).await?;
    let next = progress.map_or(0, Progress::next_offset);
    if let Err(error) = make_room(&mut session, &lease.assignment, next).await {
        // The refusal is what matters; the connection is closed if this fails.
        let _ = session.rollback().await;
        return Err(error);
    }
    let sql = "DELETE FROM courant_progress \
               WHERE consumer = ?1 AND generation = ?2 AND topic = ?3 AND partition_id = ?4";
    on_partition!(sql, &lease.assignment).execute(&mut *session).await.map_err(failed(SAVE))?;
    if let Some(progress) = progress {
        let sql = "INSERT INTO courant_progress \
                   (consumer, generation, topic, partition_id, event_offset, mark, gap_events, saved_ms) \
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
        on_partition!(sql, &lease.assignment)
            .bind(signed(progress.offset, SAVE)?)
            .bind(progress.mark.as_str())
            .bind(signed(progress.gap_events, SAVE)?)
            .bind(now_ms)
            .execute(&mut *session)
            .await
            .map_err(failed(SAVE))?;
    }
    session.commit().await.map_err(failed(SAVE))?;
    Ok(())
}

/// Refuses to read offsets again that events have which are not done with, and forgets dead letters there that
/// are closed.
async fn make_room(
    connection: &mut SqliteConnection,
    assignment: &Assignment,
    next: u64,
) -> Result<(), ResetError> {
    let parked = "SELECT COUNT(*) FROM courant_parked WHERE consumer = ?1 AND generation = ?2 AND topic = ?3 \
                  AND partition_id = ?4 AND event_offset >= ?5 AND state <> 'dead'";
    let letters = "SELECT COUNT(*) FROM courant_dead WHERE consumer = ?1 AND generation = ?2 AND topic = ?3 \
                   AND partition_id = ?4 AND event_offset >= ?5 AND state IN ('dead', 'redriving', 'archived')";
    let parked = count(connection, parked, assignment, next).await?;
    let letters = count(connection, letters, assignment, next).await?;
    if parked > 0 || letters > 0 {
        let assignment = Box::new(assignment.clone());
        return Err(ResetError::InTheWay { assignment, next, parked, letters });
    }
    prune::closed_from(connection, assignment, next).await?;
    Ok(())
}

/// How many rows a partition has from an offset on.
async fn count(
    connection: &mut SqliteConnection,
    sql: &'static str,
    assignment: &Assignment,
    next: u64,
) -> Result<u64, StoreError> {
    let counted = on_partition!(sql, assignment).bind(signed(next, SAVE)?);
    let row = counted.fetch_one(&mut *connection).await.map_err(failed(SAVE))?;
    Columns::new(&row, SAVE).number(0)
}
