//! Who may handle a partition, and how far its consumer has come.
//!
//! Every transaction of an owner holds the partition's lock shared, and looks at the epoch afterwards. A
//! takeover takes the lock alone: it waits for the transactions that are under way, and those that come
//! while it waits are turned away. So nobody reads parked keys before the last change of the owner so
//! far is there.

use std::borrow::Cow;
use std::time::Duration;

use sqlx::PgConnection;
use sqlx::postgres::PgDatabaseError;

use super::class::{FENCED, failed, not_begun};
use super::row::{Columns, on_partition, signed, text};
use super::session::Session;
use super::{BEGIN, Postgres, locks, prune};
use crate::consumer::{Assignment, Progress};
use crate::error::{BeginError, LeaseError, ResetError, StoreError};
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
               RETURNING epoch, EXISTS (SELECT 1 FROM courant_parked p WHERE p.consumer = $1 \
                   AND p.generation = $2 AND p.topic = $3 AND p.partition_id = $4)::int::bigint";
    let row = on_partition!(sql, assignment)
        .bind(&*text(owner))
        .bind(now_ms)
        .fetch_one(&mut *session)
        .await
        .map_err(failed(TAKE_OVER))?;
    let columns = Columns::new(&row, TAKE_OVER);
    let (epoch, is_parked) = (columns.number(0)?, columns.int(1)? != 0);
    session.commit().await.map_err(failed(TAKE_OVER))?;
    let lease = Lease::new(assignment.clone(), epoch);
    Ok(if is_parked { lease } else { lease.with_nothing_parked() })
}

/// What holds the partition until the transaction ends, and refuses a lease that somebody else has ended.
/// It stands behind BEGIN in one text, so that nobody waits for an answer in between; numbers are written
/// out, and names have no letter that means anything.
pub(super) fn hold(lease: &Lease) -> String {
    format!("{}SELECT courant_hold({})", ending(lease.idle_max), place(lease))
}

/// [`hold`] for a handler's transaction, which it gives its name: on a connection that was told
/// [`super::told::Once::Hold`].
pub(super) fn hold_for(lease: &Lease, transaction: u64) -> String {
    format!("EXECUTE courant_hold ({}, '{transaction}', {})", place(lease), ending_for(lease))
}

/// [`hold_for`], and the inbox row of an event with a plain id, in one statement: of a partition in which nothing is
/// parked.
pub(super) fn hold_and_admit(lease: &Lease, transaction: u64, id: &str, now_ms: i64) -> String {
    format!(
        "EXECUTE courant_begin ({}, '{transaction}', {}, {now_ms}, '{id}')",
        place(lease),
        ending_for(lease)
    )
}

/// How long a handler's transaction may stand still, as [`super::told::Once`] takes it.
fn ending_for(lease: &Lease) -> String {
    idle_ms(lease.idle_max).map_or_else(|| "NULL".to_owned(), |ms| format!("'{ms}'"))
}

/// The partition and the epoch, as `courant_hold` takes them.
fn place(lease: &Lease) -> String {
    let assignment = &lease.assignment;
    format!(
        "{}, {}, {}, {}, {}, {}",
        locks::partition(assignment),
        quoted(assignment.consumer.name.as_str()),
        assignment.consumer.generation,
        quoted(assignment.partition.topic.as_str()),
        assignment.partition.partition,
        lease.epoch,
    )
}

/// Has the server end the transaction of an owner that stands still for longer: a process that is stopped
/// keeps its connections, and so its locks.
fn ending(idle_max: Option<Duration>) -> String {
    let Some(ms) = idle_ms(idle_max) else { return String::new() };
    format!("SET LOCAL idle_in_transaction_session_timeout = {ms}; ")
}

/// In whole milliseconds; 0 would be for ever.
fn idle_ms(idle_max: Option<Duration>) -> Option<i32> {
    let idle_max = idle_max?;
    Some(i32::try_from(idle_max.as_millis()).unwrap_or(i32::MAX).max(1))
}

pub(super) fn quoted(name: &str) -> String {
    format!("'{}'", name.replace('\'', "''"))
}

/// Why a transaction that was to hold the partition has not begun.
pub(super) fn not_held(lease: &Lease, doing: &'static str, error: sqlx::Error) -> BeginError {
    let said = error.as_database_error().and_then(|error| error.try_downcast_ref::<PgDatabaseError>());
    match said {
        Some(said) if said.code() == FENCED => BeginError::Fenced {
            assignment: Box::new(lease.assignment.clone()),
            held: lease.epoch,
            current: said.detail().and_then(|detail| detail.parse().ok()).unwrap_or_default(),
        },
        _ => not_begun(doing)(error).into(),
    }
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
    saves: &[(&Lease, &Progress)],
    now_ms: i64,
) -> Result<(), LeaseError> {
    match save_together(store, saves, now_ms).await {
        // Of several the server does not say which one, and the others can be saved.
        Err(BeginError::Fenced { .. }) if saves.len() > 1 => {
            for save in saves {
                save_together(store, std::slice::from_ref(save), now_ms).await?;
            }
            Ok(())
        }
        saved => saved,
    }
}

/// Holds all partitions in one text, and saves all of them in one statement: or none of them.
async fn save_together(
    store: &Postgres,
    saves: &[(&Lease, &Progress)],
    now_ms: i64,
) -> Result<(), LeaseError> {
    let Some(&(first, _)) = saves.first() else { return Ok(()) };
    let rows = Rows::new(saves)?;
    let begin: Vec<String> =
        std::iter::once(BEGIN.to_owned()).chain(saves.iter().map(|&(lease, _)| hold(lease))).collect();
    let begun = Session::begin(&store.inner.pool, &begin.join("; ")).await;
    let mut session = begun.map_err(|error| not_held(first, SAVE, error))?;
    rows.write(&mut session, now_ms).await.map_err(failed(SAVE))?;
    session.commit().await.map_err(failed(SAVE))?;
    Ok(())
}

/// Progress as the columns that it is sent in.
struct Rows<'a> {
    consumers: Vec<&'a str>,
    generations: Vec<i64>,
    topics: Vec<&'a str>,
    partitions: Vec<i64>,
    offsets: Vec<i64>,
    marks: Vec<Cow<'a, str>>,
    gaps: Vec<i64>,
}

impl<'a> Rows<'a> {
    fn new(saves: &[(&'a Lease, &'a Progress)]) -> Result<Self, StoreError> {
        let mut rows = Self {
            consumers: Vec::new(),
            generations: Vec::new(),
            topics: Vec::new(),
            partitions: Vec::new(),
            offsets: Vec::new(),
            marks: Vec::new(),
            gaps: Vec::new(),
        };
        for &(lease, progress) in saves {
            let Assignment { consumer, partition } = &lease.assignment;
            rows.consumers.push(consumer.name.as_str());
            rows.generations.push(i64::from(consumer.generation));
            rows.topics.push(partition.topic.as_str());
            rows.partitions.push(i64::from(partition.partition));
            rows.offsets.push(signed(progress.offset, SAVE)?);
            rows.marks.push(text(&progress.mark));
            rows.gaps.push(signed(progress.gap_events, SAVE)?);
        }
        Ok(rows)
    }

    async fn write(&self, connection: &mut PgConnection, now_ms: i64) -> Result<(), sqlx::Error> {
        let sql = "INSERT INTO courant_progress \
                   (consumer, generation, topic, partition_id, event_offset, mark, gap_events, saved_ms) \
                   SELECT p.consumer, p.generation, p.topic, p.partition_id, p.event_offset, p.mark, \
                       p.gap_events, $8::bigint \
                   FROM unnest($1::text[], $2::bigint[], $3::text[], $4::bigint[], $5::bigint[], $6::text[], \
                       $7::bigint[]) \
                       AS p (consumer, generation, topic, partition_id, event_offset, mark, gap_events) \
                   ON CONFLICT (consumer, generation, topic, partition_id) DO UPDATE \
                   SET event_offset = excluded.event_offset, mark = excluded.mark, \
                   gap_events = excluded.gap_events, saved_ms = excluded.saved_ms \
                   WHERE excluded.event_offset >= courant_progress.event_offset";
        let marks: Vec<&str> = self.marks.iter().map(|mark| &**mark).collect();
        sqlx::query(sql)
            .bind(&self.consumers[..])
            .bind(&self.generations[..])
            .bind(&self.topics[..])
            .bind(&self.partitions[..])
            .bind(&self.offsets[..])
            .bind(&marks[..])
            .bind(&self.gaps[..])
            .bind(now_ms)
            .execute(&mut *connection)
            .await?;
        Ok(())
    }
}

pub(super) async fn reset_progress(
    store: &Postgres,
    lease: &Lease,
    progress: Option<&Progress>,
    now_ms: i64,
) -> Result<(), ResetError> {
    let mut session = store.owner(lease, SAVE).await?;
    // Whoever decides about dead letters holds it: what is closed now stays so.
    locks::take(&mut session, vec![locks::decisions()], SAVE).await?;
    let next = progress.map_or(0, Progress::next_offset);
    if let Err(error) = make_room(&mut session, &lease.assignment, next).await {
        // The refusal is what matters; the connection is closed if this fails.
        let _ = session.rollback().await;
        return Err(error);
    }
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

/// Refuses to read offsets again that events have which are not done with, and forgets dead letters there that
/// are closed.
async fn make_room(
    connection: &mut PgConnection,
    assignment: &Assignment,
    next: u64,
) -> Result<(), ResetError> {
    let parked = "SELECT COUNT(*) FROM courant_parked WHERE consumer = $1 AND generation = $2 AND topic = $3 \
                  AND partition_id = $4 AND event_offset >= $5 AND state <> 'dead'";
    let letters = "SELECT COUNT(*) FROM courant_dead WHERE consumer = $1 AND generation = $2 AND topic = $3 \
                   AND partition_id = $4 AND event_offset >= $5 AND state IN ('dead', 'redriving', 'archived')";
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
    connection: &mut PgConnection,
    sql: &'static str,
    assignment: &Assignment,
    next: u64,
) -> Result<u64, StoreError> {
    let counted = on_partition!(sql, assignment).bind(signed(next, SAVE)?);
    let row = counted.fetch_one(&mut *connection).await.map_err(failed(SAVE))?;
    Columns::new(&row, SAVE).number(0)
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
