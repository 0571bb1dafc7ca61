//! Dead letters: made by a partition's owner, read and closed by people.

use std::collections::BTreeSet;

use sqlx::MySqlConnection;

use super::class::failed;
use super::lists::{self, numbers};
use super::park::{is_settled, lock_key, write_outcome};
use super::resolve::{next_of_key, redriven, unpark};
use super::row::{Columns, on_partition, signed};
use super::{Mariadb, locks, note, outbox};
use crate::columns::dead_columns;
use crate::consumer::{Assignment, Outcome};
use crate::dead::{Burial, Buried, DeadFilter, DeadGroup, DeadLetter, DeadState, DeadSummary};
use crate::error::{LeaseError, StoreError};
use crate::event::cut;
use crate::headers;
use crate::limits::{FAILURE_TEXT_BYTES_MAX, LISTED_MAX};
use crate::note::Decision;
use crate::parked::Lease;

const BURY: &str = "make an event a dead letter";
const LIST: &str = "list dead letters";
const CLOSE: &str = "close dead letters";
const RESTORE: &str = "restore dead letters";

/// A condition with fourteen parameters; [`filtered`] binds them.
macro_rules! dead_filter {
    () => {
        "(? IS NULL OR consumer = ?) AND (? IS NULL OR topic = ?) AND (? IS NULL OR event_key = ?) \
         AND (? IS NULL OR error_kind = ?) AND (? IS NULL OR error_place = ?) AND (? IS NULL OR state = ?) \
         AND (? IS NULL OR id IN (SELECT w.id FROM JSON_TABLE(?, '$[*]' COLUMNS (id BIGINT PATH '$')) w))"
    };
}

/// Binds a filter to the next fourteen parameters of a query.
macro_rules! filtered {
    ($query:expr, $filter:expr, $state:expr) => {{
        let filter: &crate::dead::DeadFilter = $filter;
        let state: Option<crate::dead::DeadState> = $state;
        let consumer = filter.consumer.as_ref().map(|consumer| consumer.as_str());
        let topic = filter.topic.as_ref().map(|topic| topic.as_str());
        let state = state.map(|state| state.as_str());
        let ids = (!filter.ids.is_empty()).then(|| super::lists::json(filter.ids.iter().copied()));
        $query
            .bind(consumer)
            .bind(consumer)
            .bind(topic)
            .bind(topic)
            .bind(filter.key.as_deref())
            .bind(filter.key.as_deref())
            .bind(filter.kind.as_deref())
            .bind(filter.kind.as_deref())
            .bind(filter.place.as_deref())
            .bind(filter.place.as_deref())
            .bind(state)
            .bind(state)
            .bind(ids.as_deref())
            .bind(ids.as_deref())
    }};
}

pub(super) use dead_filter;
pub(super) use filtered;

pub(super) async fn bury(
    store: &Mariadb,
    lease: &Lease,
    burial: Burial<'_>,
    now_ms: i64,
) -> Result<Buried, LeaseError> {
    if burial.keep_key_parked && burial.event.key.is_some() {
        lease.parks();
    }
    let mut session = store.owner(lease, BURY).await?;
    let (assignment, event) = (&lease.assignment, burial.event);
    let key = event.key.as_deref();
    lock_key(&mut session, assignment, key, BURY).await?;
    if is_settled(&mut session, assignment, event).await? {
        session.commit().await.map_err(failed(BURY))?;
        return Ok(Buried::default());
    }
    let id = insert(&mut session, assignment, &burial, now_ms).await?;
    write_outcome(&mut session, &assignment.consumer, event.id.as_str(), Outcome::Dead, now_ms).await?;
    redriven(&mut session, id, "failed", now_ms).await?;
    let was_parked = unpark(&mut session, assignment, event.offset).await?;
    if burial.keep_key_parked && key.is_some() {
        block_key(&mut session, assignment, event.offset).await?;
    }
    let no_more = next_of_key(&mut session, assignment, key, now_ms).await?;
    let lanes = outbox::flush(&mut session, &burial.copies).await?;
    session.commit().await.map_err(failed(BURY))?;
    Ok(Buried { id: Some(id), lanes, drained: was_parked && key.is_some() && no_more })
}

/// Writes the dead letter with what the parked event remembers; the same one again if it came back.
async fn insert(
    connection: &mut MySqlConnection,
    assignment: &Assignment,
    burial: &Burial<'_>,
    now_ms: i64,
) -> Result<i64, StoreError> {
    let event = burial.event;
    let offset = signed(event.offset, BURY)?;
    let (attempts, first_failed_ms) = so_far(connection, assignment, offset).await?;
    let sql = "INSERT INTO courant_dead (consumer, generation, topic, partition_id, event_offset, event_id, \
               event_key, event_value, headers, timestamp_ms, state, reason, blocks_key, attempts, \
               first_failed_ms, last_failed_ms, error_kind, error_place, error_message, code_version) \
               VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'dead', ?, ?, ?, ?, ?, ?, ?, ?, ?) \
               ON DUPLICATE KEY UPDATE state = 'dead', reason = VALUES(reason), \
               blocks_key = VALUES(blocks_key), attempts = attempts + VALUES(attempts), \
               last_failed_ms = VALUES(last_failed_ms), error_kind = VALUES(error_kind), \
               error_place = VALUES(error_place), error_message = VALUES(error_message), \
               code_version = VALUES(code_version), closed_ms = NULL";
    let blocks = burial.keep_key_parked && event.key.is_some();
    on_partition!(sql, assignment)
        .bind(offset)
        .bind(event.id.as_str())
        .bind(event.key.as_deref())
        .bind(event.value.as_deref())
        .bind(headers::encode(&event.headers))
        .bind(event.timestamp_ms)
        .bind(burial.reason.as_str())
        .bind(i64::from(blocks))
        .bind(1 + attempts)
        .bind(first_failed_ms.unwrap_or(now_ms))
        .bind(now_ms)
        .bind(cut(&burial.failure.kind, FAILURE_TEXT_BYTES_MAX))
        .bind(cut(&burial.failure.place, FAILURE_TEXT_BYTES_MAX))
        .bind(cut(&burial.failure.message, FAILURE_TEXT_BYTES_MAX))
        .bind(cut(burial.code_version, FAILURE_TEXT_BYTES_MAX))
        .execute(&mut *connection)
        .await
        .map_err(failed(BURY))?;
    let sql = "SELECT id FROM courant_dead WHERE consumer = ? AND generation = ? AND topic = ? \
               AND partition_id = ? AND event_offset = ?";
    let row = on_partition!(sql, assignment)
        .bind(offset)
        .fetch_one(&mut *connection)
        .await
        .map_err(failed(BURY))?;
    Columns::new(&row, BURY).int(0)
}

/// Failures of a parked event, and the first of them.
async fn so_far(
    connection: &mut MySqlConnection,
    assignment: &Assignment,
    offset: i64,
) -> Result<(i64, Option<i64>), StoreError> {
    let sql = "SELECT attempts, first_failed_ms FROM courant_parked WHERE consumer = ? AND generation = ? \
               AND topic = ? AND partition_id = ? AND event_offset = ?";
    let row = on_partition!(sql, assignment)
        .bind(offset)
        .fetch_optional(&mut *connection)
        .await
        .map_err(failed(BURY))?;
    let Some(row) = row else { return Ok((0, None)) };
    let columns = Columns::new(&row, BURY);
    Ok((columns.int(0)?, columns.int_or_null(1)?))
}

/// Leaves a dead letter at the head of its key's parked events. Its bytes are in the dead letter only.
async fn block_key(
    connection: &mut MySqlConnection,
    assignment: &Assignment,
    offset: u64,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO courant_parked (consumer, generation, topic, partition_id, event_offset, event_id, \
               event_key, event_value, headers, timestamp_ms, state, due_ms, attempts, first_failed_ms, \
               error_kind, error_place, error_message) \
               SELECT consumer, generation, topic, partition_id, event_offset, event_id, event_key, NULL, \
               '[]', timestamp_ms, 'dead', NULL, attempts, first_failed_ms, error_kind, error_place, \
               error_message FROM courant_dead \
               WHERE consumer = ? AND generation = ? AND topic = ? AND partition_id = ? AND event_offset = ?";
    on_partition!(sql, assignment)
        .bind(signed(offset, BURY)?)
        .execute(&mut *connection)
        .await
        .map_err(failed(BURY))?;
    Ok(())
}

pub(super) async fn list(
    store: &Mariadb,
    filter: &DeadFilter,
    after: i64,
    limit: u32,
) -> Result<Vec<DeadSummary>, StoreError> {
    let sql = concat!(
        "SELECT ",
        dead_columns!(),
        " FROM courant_dead WHERE id > ? AND ",
        dead_filter!(),
        " ORDER BY id LIMIT ?"
    );
    let mut session = store.reader().await?;
    let rows = filtered!(sqlx::query(sql).bind(after), filter, filter.state)
        .bind(i64::from(limit.min(LISTED_MAX)))
        .fetch_all(&mut *session)
        .await
        .map_err(failed(LIST))?;
    session.give_back();
    rows.iter().map(|row| Columns::new(row, LIST).dead_summary()).collect()
}

pub(super) async fn count(store: &Mariadb, filter: &DeadFilter) -> Result<u64, StoreError> {
    let sql = concat!("SELECT COUNT(*) FROM courant_dead WHERE ", dead_filter!());
    let mut session = store.reader().await?;
    let row = filtered!(sqlx::query(sql), filter, filter.state)
        .fetch_one(&mut *session)
        .await
        .map_err(failed(LIST))?;
    session.give_back();
    Columns::new(&row, LIST).number(0)
}

pub(super) async fn groups(store: &Mariadb, limit: u32) -> Result<Vec<DeadGroup>, StoreError> {
    let sql = "SELECT consumer, error_kind, error_place, COUNT(*), MIN(last_failed_ms), MAX(last_failed_ms) \
               FROM courant_dead WHERE state = 'dead' GROUP BY consumer, error_kind, error_place \
               ORDER BY COUNT(*) DESC, consumer, error_kind, error_place LIMIT ?";
    let mut session = store.reader().await?;
    let rows = sqlx::query(sql)
        .bind(i64::from(limit.min(LISTED_MAX)))
        .fetch_all(&mut *session)
        .await
        .map_err(failed(LIST))?;
    session.give_back();
    rows.iter()
        .map(|row| {
            let columns = Columns::new(row, LIST);
            Ok(DeadGroup {
                consumer: columns.consumer_name(0)?,
                kind: columns.text(1)?,
                place: columns.text(2)?,
                events: columns.number(3)?,
                oldest_ms: columns.int(4)?,
                newest_ms: columns.int(5)?,
            })
        })
        .collect()
}

pub(super) async fn get(store: &Mariadb, id: i64) -> Result<Option<DeadLetter>, StoreError> {
    let sql = concat!(
        "SELECT ",
        dead_columns!(),
        ", event_offset, event_id, event_key, event_value, headers, timestamp_ms \
         FROM courant_dead WHERE id = ?"
    );
    let mut session = store.reader().await?;
    let row = sqlx::query(sql).bind(id).fetch_optional(&mut *session).await.map_err(failed(LIST))?;
    session.give_back();
    let Some(row) = row else { return Ok(None) };
    let columns = Columns::new(&row, LIST);
    Ok(Some(DeadLetter { summary: columns.dead_summary()?, event: columns.event(18)? }))
}

/// Closes undecided dead letters as discarded or archived, and gives the turn to what waits behind them.
pub(super) async fn close(
    store: &Mariadb,
    ids: &[i64],
    state: DeadState,
    decision: Option<&Decision<'_>>,
    now_ms: i64,
) -> Result<Vec<i64>, StoreError> {
    let ids: BTreeSet<i64> = ids.iter().copied().take(LISTED_MAX as usize).collect();
    let mut session = store.writer(CLOSE).await?;
    // Whoever decides about dead letters holds it: what is undecided now stays so.
    locks::take(&mut session, BTreeSet::from([locks::DECISIONS]), CLOSE).await?;
    let undecided = concat!(
        "SELECT d.consumer, d.generation, d.topic, d.partition_id, d.event_key, d.id FROM ",
        numbers!(),
        " JOIN courant_dead d ON d.id = w.id WHERE d.state = 'dead' ORDER BY d.id"
    );
    let rows = sqlx::query(undecided)
        .bind(lists::json(ids))
        .fetch_all(&mut *session)
        .await
        .map_err(failed(CLOSE))?;
    let mut closed = Vec::with_capacity(rows.len());
    let mut keys = Vec::with_capacity(rows.len());
    for row in &rows {
        let columns = Columns::new(row, CLOSE);
        closed.push(columns.int(5)?);
        keys.push((columns.assignment(0)?, columns.bytes_or_null(4)?));
    }
    let slots = keys.iter().filter_map(|(assignment, key)| Some(locks::key(assignment, key.as_deref()?)));
    locks::take(&mut session, slots.collect(), CLOSE).await?;
    mark_closed(&mut session, &closed, state, now_ms).await?;
    if let Some(decision) = decision {
        note::decided(&mut session, &closed, decision, now_ms).await?;
    }
    for (assignment, key) in &keys {
        next_of_key(&mut session, assignment, key.as_deref(), now_ms).await?;
    }
    session.commit().await.map_err(failed(CLOSE))?;
    Ok(closed)
}

/// The dead letters first: the other two statements read rows that are held by then.
async fn mark_closed(
    connection: &mut MySqlConnection,
    ids: &[i64],
    state: DeadState,
    now_ms: i64,
) -> Result<(), StoreError> {
    let list = lists::json(ids.iter().copied());
    // What is archived is kept: it has no day after which it may be forgotten.
    let closed_ms = (state != DeadState::Archived).then_some(now_ms);
    let dead = concat!(
        "UPDATE ",
        numbers!(),
        " STRAIGHT_JOIN courant_dead d FORCE INDEX (courant_dead_id) ON d.id = w.id \
         SET d.state = ?, d.blocks_key = 0, d.closed_ms = ?"
    );
    sqlx::query(dead)
        .bind(list.as_str())
        .bind(state.as_str())
        .bind(closed_ms)
        .execute(&mut *connection)
        .await
        .map_err(failed(CLOSE))?;
    let inbox = concat!(
        "UPDATE ",
        numbers!(),
        " STRAIGHT_JOIN courant_dead d FORCE INDEX (courant_dead_id) ON d.id = w.id \
         STRAIGHT_JOIN courant_inbox i FORCE INDEX (PRIMARY) \
         ON i.consumer = d.consumer AND i.generation = d.generation AND i.event_id = d.event_id \
         SET i.outcome = 'discarded', i.settled_ms = ? WHERE i.outcome = 'dead'"
    );
    sqlx::query(inbox)
        .bind(list.as_str())
        .bind(now_ms)
        .execute(&mut *connection)
        .await
        .map_err(failed(CLOSE))?;
    let parked = concat!(
        "DELETE p FROM ",
        numbers!(),
        " STRAIGHT_JOIN courant_dead d FORCE INDEX (courant_dead_id) ON d.id = w.id \
         STRAIGHT_JOIN courant_parked p FORCE INDEX (PRIMARY) \
         ON p.consumer = d.consumer AND p.generation = d.generation AND p.topic = d.topic \
         AND p.partition_id = d.partition_id AND p.event_offset = d.event_offset WHERE p.state = 'dead'"
    );
    sqlx::query(parked).bind(list.as_str()).execute(&mut *connection).await.map_err(failed(CLOSE))?;
    Ok(())
}

/// Makes archived dead letters undecided again. Their events are dead again in the inbox, unless they were
/// handled meanwhile, and hold no key: what has waited behind them has gone on.
pub(super) async fn restore(
    store: &Mariadb,
    ids: &[i64],
    decision: &Decision<'_>,
    now_ms: i64,
) -> Result<Vec<i64>, StoreError> {
    let ids: BTreeSet<i64> = ids.iter().copied().take(LISTED_MAX as usize).collect();
    let mut session = store.writer(RESTORE).await?;
    // Whoever decides about dead letters holds it: what is archived now stays so.
    locks::take(&mut session, BTreeSet::from([locks::DECISIONS]), RESTORE).await?;
    let archived = concat!(
        "SELECT d.consumer, d.generation, d.topic, d.partition_id, d.event_id, d.id FROM ",
        numbers!(),
        " JOIN courant_dead d ON d.id = w.id WHERE d.state = 'archived' ORDER BY d.id"
    );
    let rows = sqlx::query(archived)
        .bind(lists::json(ids))
        .fetch_all(&mut *session)
        .await
        .map_err(failed(RESTORE))?;
    let letters = rows.iter().map(|row| Columns::new(row, RESTORE).int(5));
    let restored = letters.collect::<Result<Vec<i64>, StoreError>>()?;
    // The letters first, and what the inbox says after them: so does who makes one a dead letter again.
    let dead = concat!(
        "UPDATE ",
        numbers!(),
        " STRAIGHT_JOIN courant_dead d FORCE INDEX (courant_dead_id) ON d.id = w.id \
         SET d.state = 'dead', d.closed_ms = NULL"
    );
    sqlx::query(dead)
        .bind(lists::json(restored.iter().copied()))
        .execute(&mut *session)
        .await
        .map_err(failed(RESTORE))?;
    for row in &rows {
        let columns = Columns::new(row, RESTORE);
        let (consumer, event_id) = (columns.assignment(0)?.consumer, columns.event_id(4)?);
        write_outcome(&mut session, &consumer, event_id.as_str(), Outcome::Dead, now_ms).await?;
    }
    note::decided(&mut session, &restored, decision, now_ms).await?;
    session.commit().await.map_err(failed(RESTORE))?;
    Ok(restored)
}
