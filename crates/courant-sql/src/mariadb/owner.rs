//! Who may handle a partition, and how far its consumer has come.
//!
//! Every transaction of an owner holds the partition's epoch in shared mode, and looks at it. A takeover
//! takes it alone: it waits for the transactions that are under way, and those that come while it waits
//! are turned away. So nobody reads parked keys before the last change of the owner so far is there.

use std::collections::BTreeSet;

use sqlx::{AssertSqlSafe, MySqlConnection};

use super::class::failed;
use super::lists;
use super::row::{Columns, on_partition, signed};
use super::session::{Said, Session};
use super::told::Once;
use super::{BEGIN_STATEMENTS, Mariadb, TO_WRITE, locks, prune};
use crate::consumer::{Assignment, Progress};
use crate::error::{BeginError, LeaseError, ResetError, StoreError};
use crate::limits::BUSY_TIMEOUT_MS;
use crate::parked::Lease;
use crate::places::For;

const TAKE_OVER: &str = "take a partition over";
const READ: &str = "read a consumer's progress";
const SAVE: &str = "save a consumer's progress";

const EPOCH: &str = "SELECT epoch FROM courant_owner \
                     WHERE consumer = ? AND generation = ? AND topic = ? AND partition_id = ?";

pub(super) async fn take_over(
    store: &Mariadb,
    assignment: &Assignment,
    owner: &str,
    now_ms: i64,
) -> Result<Lease, StoreError> {
    let mut session = store.writer(TAKE_OVER).await?;
    // An owner that hangs in the middle of a handler is waited for as long as a busy database.
    let held = format!("{EPOCH} FOR UPDATE WAIT {}", BUSY_TIMEOUT_MS / 1000);
    // The text is a constant and a number.
    on_partition!(AssertSqlSafe(held), assignment)
        .fetch_optional(&mut *session)
        .await
        .map_err(failed(TAKE_OVER))?;
    let sql = "INSERT INTO courant_owner (consumer, generation, topic, partition_id, epoch, owner, taken_ms) \
               VALUES (?, ?, ?, ?, 1, ?, ?) \
               ON DUPLICATE KEY UPDATE epoch = epoch + 1, owner = VALUES(owner), taken_ms = VALUES(taken_ms)";
    on_partition!(sql, assignment)
        .bind(owner)
        .bind(now_ms)
        .execute(&mut *session)
        .await
        .map_err(failed(TAKE_OVER))?;
    let row = on_partition!(EPOCH, assignment).fetch_one(&mut *session).await.map_err(failed(TAKE_OVER))?;
    let epoch = Columns::new(&row, TAKE_OVER).number(0)?;
    let sql = "SELECT EXISTS (SELECT 1 FROM courant_parked FORCE INDEX (PRIMARY) \
               WHERE consumer = ? AND generation = ? AND topic = ? AND partition_id = ?)";
    let row = on_partition!(sql, assignment).fetch_one(&mut *session).await.map_err(failed(TAKE_OVER))?;
    let is_parked = Columns::new(&row, TAKE_OVER).int(0)? != 0;
    session.commit().await.map_err(failed(TAKE_OVER))?;
    let lease = Lease::new(assignment.clone(), epoch);
    Ok(if is_parked { lease } else { lease.with_nothing_parked() })
}

/// What holds the partition until the transaction ends, and reads its epoch. While a takeover waits, it is refused.
pub(super) const HOLD: Once = Once {
    name: "courant_hold",
    sql: "SELECT epoch FROM courant_owner WHERE consumer = ? AND generation = ? AND topic = ? AND partition_id = ? \
          LOCK IN SHARE MODE NOWAIT",
};

/// [`HOLD`], on a connection of handlers.
pub(super) fn hold_for_handler(lease: &Lease) -> String {
    let [consumer, generation, topic, partition] = &of_partition(&lease.assignment);
    HOLD.with(&[consumer, generation, topic, partition])
}

/// [`HOLD`], on any connection.
pub(super) fn hold(lease: &Lease) -> String {
    let [consumer, generation, topic, partition] = &of_partition(&lease.assignment);
    HOLD.in_full(&[consumer, generation, topic, partition])
}

/// What names a partition of a consumer, in a text: consumer, generation, topic, and number. Names have letters that
/// mean nothing to the server.
pub(super) fn of_partition(assignment: &Assignment) -> [String; 4] {
    [
        quoted(assignment.consumer.name.as_str()),
        assignment.consumer.generation.to_string(),
        quoted(assignment.partition.topic.as_str()),
        assignment.partition.partition.to_string(),
    ]
}

/// A name in a text, or a text in one.
pub(super) fn quoted(name: &str) -> String {
    format!("'{}'", name.replace('\'', "''"))
}

/// The transaction that [`hold`] stands in, unless somebody else has ended the lease.
pub(super) async fn held(
    session: Session,
    said: &Said,
    lease: &Lease,
    doing: &'static str,
) -> Result<Session, BeginError> {
    let current = said.first().map_or(Ok(0), |row| Columns::new(row, doing).number(0))?;
    if current == lease.epoch {
        return Ok(session);
    }
    // The refusal is what matters; the connection is closed if this fails.
    let _ = session.rollback().await;
    Err(fenced(lease, current))
}

fn fenced(lease: &Lease, current: u64) -> BeginError {
    BeginError::Fenced { assignment: Box::new(lease.assignment.clone()), held: lease.epoch, current }
}

pub(super) async fn progress(
    store: &Mariadb,
    assignment: &Assignment,
) -> Result<Option<Progress>, StoreError> {
    let mut session = store.reader().await?;
    let sql = "SELECT event_offset, mark, gap_events FROM courant_progress \
               WHERE consumer = ? AND generation = ? AND topic = ? AND partition_id = ?";
    let row = on_partition!(sql, assignment).fetch_optional(&mut *session).await.map_err(failed(READ))?;
    session.give_back();
    let Some(row) = row else { return Ok(None) };
    let columns = Columns::new(&row, READ);
    Ok(Some(Progress { offset: columns.number(0)?, mark: columns.text(1)?, gap_events: columns.number(2)? }))
}

pub(super) async fn save_progress(
    store: &Mariadb,
    saves: &[(&Lease, &Progress)],
    now_ms: i64,
) -> Result<(), LeaseError> {
    match save_together(store, saves, now_ms).await {
        // The others can be saved.
        Err(BeginError::Fenced { .. }) if saves.len() > 1 => {
            for save in saves {
                save_together(store, std::slice::from_ref(save), now_ms).await?;
            }
            Ok(())
        }
        saved => saved,
    }
}

/// Holds all partitions in one text, and saves all of them in one transaction: or none of them.
async fn save_together(
    store: &Mariadb,
    saves: &[(&Lease, &Progress)],
    now_ms: i64,
) -> Result<(), LeaseError> {
    let Some(&(first, _)) = saves.first() else { return Ok(()) };
    let begin = super::begin(first.idle_max, TO_WRITE);
    let text: Vec<String> =
        std::iter::once(begin).chain(saves.iter().map(|&(lease, _)| hold(lease))).collect();
    let begun = Session::begin_for(For::Anybody, &store.inner.pool, &text.join("; ")).await;
    let (mut session, said) = begun.map_err(failed(SAVE))?;
    for (statement, &(lease, _)) in (BEGIN_STATEMENTS..).zip(saves) {
        let current = said.first_of(statement).map_or(Ok(0), |row| Columns::new(row, SAVE).number(0))?;
        if current != lease.epoch {
            // The refusal is what matters; the connection is closed if this fails.
            let _ = session.rollback().await;
            return Err(fenced(lease, current));
        }
    }
    for piece in lists::pieces(saves, |_| 0) {
        save_some(&mut session, piece, now_ms).await?;
    }
    session.commit().await.map_err(failed(SAVE))?;
    Ok(())
}

async fn save_some(
    connection: &mut MySqlConnection,
    saves: &[(&Lease, &Progress)],
    now_ms: i64,
) -> Result<(), StoreError> {
    // They are set one after the other: the offset, which all others look at, comes last.
    let sql = format!(
        "INSERT INTO courant_progress \
         (consumer, generation, topic, partition_id, event_offset, mark, gap_events, saved_ms) VALUES {} \
         ON DUPLICATE KEY UPDATE \
         mark = IF(VALUES(event_offset) >= event_offset, VALUES(mark), mark), \
         gap_events = IF(VALUES(event_offset) >= event_offset, VALUES(gap_events), gap_events), \
         saved_ms = IF(VALUES(event_offset) >= event_offset, VALUES(saved_ms), saved_ms), \
         event_offset = GREATEST(event_offset, VALUES(event_offset))",
        lists::rows(saves.len(), 8)
    );
    // The text is made of a number of parameters; every value is bound.
    let mut query = sqlx::query(AssertSqlSafe(sql)).persistent(lists::is_kept(saves.len()));
    for &(lease, progress) in saves {
        query = query
            .bind(lease.assignment.consumer.name.as_str())
            .bind(i64::from(lease.assignment.consumer.generation))
            .bind(lease.assignment.partition.topic.as_str())
            .bind(i64::from(lease.assignment.partition.partition))
            .bind(signed(progress.offset, SAVE)?)
            .bind(progress.mark.as_str())
            .bind(signed(progress.gap_events, SAVE)?)
            .bind(now_ms);
    }
    query.execute(&mut *connection).await.map_err(failed(SAVE))?;
    Ok(())
}

pub(super) async fn reset_progress(
    store: &Mariadb,
    lease: &Lease,
    progress: Option<&Progress>,
    now_ms: i64,
) -> Result<(), ResetError> {
    let mut session = store.owner(lease, SAVE).await?;
    // Whoever decides about dead letters holds it: what is closed now stays so.
    locks::take(&mut session, BTreeSet::from([locks::DECISIONS]), SAVE).await?;
    let next = progress.map_or(0, Progress::next_offset);
    if let Err(error) = make_room(&mut session, &lease.assignment, next).await {
        // The refusal is what matters; the connection is closed if this fails.
        let _ = session.rollback().await;
        return Err(error);
    }
    let sql = "DELETE FROM courant_progress \
               WHERE consumer = ? AND generation = ? AND topic = ? AND partition_id = ?";
    on_partition!(sql, &lease.assignment).execute(&mut *session).await.map_err(failed(SAVE))?;
    if let Some(progress) = progress {
        let sql = "INSERT INTO courant_progress \
                   (consumer, generation, topic, partition_id, event_offset, mark, gap_events, saved_ms) \
                   VALUES (?, ?, ?, ?, ?, ?, ?, ?)";
        write(&mut session, sql, lease, progress, now_ms).await?;
    }
    session.commit().await.map_err(failed(SAVE))?;
    Ok(())
}

/// Refuses to read offsets again that events have which are not done with, and forgets dead letters there that
/// are closed.
async fn make_room(
    connection: &mut MySqlConnection,
    assignment: &Assignment,
    next: u64,
) -> Result<(), ResetError> {
    let parked = "SELECT COUNT(*) FROM courant_parked WHERE consumer = ? AND generation = ? AND topic = ? \
                  AND partition_id = ? AND event_offset >= ? AND state <> 'dead'";
    let letters = "SELECT COUNT(*) FROM courant_dead WHERE consumer = ? AND generation = ? AND topic = ? \
                   AND partition_id = ? AND event_offset >= ? AND state IN ('dead', 'redriving', 'archived')";
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
    connection: &mut MySqlConnection,
    sql: &'static str,
    assignment: &Assignment,
    next: u64,
) -> Result<u64, StoreError> {
    let counted = on_partition!(sql, assignment).bind(signed(next, SAVE)?);
    let row = counted.fetch_one(&mut *connection).await.map_err(failed(SAVE))?;
    Columns::new(&row, SAVE).number(0)
}

async fn write(
    connection: &mut MySqlConnection,
    sql: &'static str,
    lease: &Lease,
    progress: &Progress,
    now_ms: i64,
) -> Result<(), StoreError> {
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
