//! Who may handle a partition, and how far its consumer has come.
//!
//! Every transaction of an owner holds the partition's lock shared, and looks at the epoch afterwards. A
//! takeover takes the lock alone: it waits for the transactions that are under way, and those that come
//! while it waits are turned away. So nobody reads parked keys before the last change of the owner so
//! far is there.

use sqlx::PgConnection;

use super::class::failed;
use super::row::{Columns, on_partition, signed, text};
use super::{Postgres, locks};
use crate::consumer::{Assignment, Progress};
use crate::error::{BeginError, Class, LeaseError, StoreError};
use crate::limits::BUSY_TIMEOUT_MS;
use crate::parked::Lease;

const TAKE_OVER: &str = "take a partition over";
const READ: &str = "read a consumer's progress";
const SAVE: &str = "save a consumer's progress";

pub(super) async fn take_over(
    store: &Postgres,
    assignment: &Assignment,
    owner: &str,
    now_ms: i64,
) -> Result<Lease, StoreError> {
    let mut session = store.writer(TAKE_OVER).await?;
    // An owner that hangs in the middle of a handler is waited for as long as a busy database.
    sqlx::query("SELECT set_config('lock_timeout', $1, true)")
        .bind(BUSY_TIMEOUT_MS.to_string())
        .execute(&mut *session)
        .await
        .map_err(failed(TAKE_OVER))?;
    locks::take(&mut session, vec![locks::partition(assignment)], TAKE_OVER).await?;
    let sql = "INSERT INTO courant_owner (consumer, generation, topic, partition_id, epoch, owner, taken_ms) \
               VALUES ($1, $2, $3, $4, 1, $5, $6) \
               ON CONFLICT (consumer, generation, topic, partition_id) DO UPDATE \
               SET epoch = courant_owner.epoch + 1, owner = excluded.owner, taken_ms = excluded.taken_ms \
               RETURNING epoch";
    let row = on_partition!(sql, assignment)
        .bind(&*text(owner))
        .bind(now_ms)
        .fetch_one(&mut *session)
        .await
        .map_err(failed(TAKE_OVER))?;
    let epoch = Columns::new(&row, TAKE_OVER).number(0)?;
    session.commit().await.map_err(failed(TAKE_OVER))?;
    Ok(Lease { assignment: assignment.clone(), epoch })
}

/// Holds the partition until the transaction ends, and refuses a lease that somebody else has ended.
/// The number of the transaction, for [`super::outbox::flush`].
pub(super) async fn hold(
    connection: &mut PgConnection,
    lease: &Lease,
    doing: &'static str,
) -> Result<i64, BeginError> {
    let sql = "SELECT pg_try_advisory_xact_lock_shared($1)::int::bigint, txid_current()";
    let row = sqlx::query(sql)
        .bind(locks::partition(&lease.assignment))
        .fetch_one(&mut *connection)
        .await
        .map_err(failed(doing))?;
    let columns = Columns::new(&row, doing);
    let (is_held, transaction) = (columns.int(0)? != 0, columns.int(1)?);
    if !is_held {
        let why = sqlx::Error::Protocol("the partition is being taken over".to_owned());
        return Err(StoreError::new(doing, Class::Busy, why).into());
    }
    // A statement of its own: it sees what was committed before the lock was given.
    let sql = "SELECT epoch FROM courant_owner \
               WHERE consumer = $1 AND generation = $2 AND topic = $3 AND partition_id = $4";
    let row = on_partition!(sql, &lease.assignment)
        .fetch_optional(&mut *connection)
        .await
        .map_err(failed(doing))?;
    let current = row.map_or(Ok(0), |row| Columns::new(&row, doing).number(0))?;
    if current == lease.epoch {
        return Ok(transaction);
    }
    Err(BeginError::Fenced { assignment: Box::new(lease.assignment.clone()), held: lease.epoch, current })
}

pub(super) async fn progress(
    store: &Postgres,
    assignment: &Assignment,
) -> Result<Option<Progress>, StoreError> {
    let mut session = store.reader().await?;
    let sql = "SELECT event_offset, mark, gap_events FROM courant_progress \
               WHERE consumer = $1 AND generation = $2 AND topic = $3 AND partition_id = $4";
    let row = on_partition!(sql, assignment).fetch_optional(&mut *session).await.map_err(failed(READ))?;
    session.give_back();
    let Some(row) = row else { return Ok(None) };
    let columns = Columns::new(&row, READ);
    Ok(Some(Progress { offset: columns.number(0)?, mark: columns.text(1)?, gap_events: columns.number(2)? }))
}

pub(super) async fn save_progress(
    store: &Postgres,
    lease: &Lease,
    progress: &Progress,
    now_ms: i64,
) -> Result<(), LeaseError> {
    let mut session = store.owner(lease, SAVE).await?;
    let sql = "INSERT INTO courant_progress \
               (consumer, generation, topic, partition_id, event_offset, mark, gap_events, saved_ms) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8) \
               ON CONFLICT (consumer, generation, topic, partition_id) DO UPDATE \
               SET event_offset = excluded.event_offset, mark = excluded.mark, \
               gap_events = excluded.gap_events, saved_ms = excluded.saved_ms \
               WHERE excluded.event_offset >= courant_progress.event_offset";
    write(&mut session, sql, lease, progress, now_ms).await?;
    session.commit().await.map_err(failed(SAVE))?;
    Ok(())
}

pub(super) async fn reset_progress(
    store: &Postgres,
    lease: &Lease,
    progress: Option<&Progress>,
    now_ms: i64,
) -> Result<(), LeaseError> {
    let mut session = store.owner(lease, SAVE).await?;
    let sql = "DELETE FROM courant_progress \
               WHERE consumer = $1 AND generation = $2 AND topic = $3 AND partition_id = $4";
    on_partition!(sql, &lease.assignment).execute(&mut *session).await.map_err(failed(SAVE))?;
    if let Some(progress) = progress {
        let sql = "INSERT INTO courant_progress \
                   (consumer, generation, topic, partition_id, event_offset, mark, gap_events, saved_ms) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
        write(&mut session, sql, lease, progress, now_ms).await?;
    }
    session.commit().await.map_err(failed(SAVE))?;
    Ok(())
}

async fn write(
    connection: &mut PgConnection,
    sql: &'static str,
    lease: &Lease,
    progress: &Progress,
    now_ms: i64,
) -> Result<(), StoreError> {
    on_partition!(sql, &lease.assignment)
        .bind(signed(progress.offset, SAVE)?)
        .bind(&*text(&progress.mark))
        .bind(signed(progress.gap_events, SAVE)?)
        .bind(now_ms)
        .execute(&mut *connection)
        .await
        .map_err(failed(SAVE))?;
    Ok(())
}
