//! Dead letters: made by a partition's owner, read and closed by people.

use sqlx::PgConnection;

use super::class::failed;
use super::park::{is_settled, lock_key, write_outcome};
use super::resolve::{next_of_key, redriven, unpark};
use super::row::{Columns, on_partition, signed, text};
use super::{Postgres, locks, note, outbox};
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

/// A condition with the first seven parameters; [`filtered`] binds them.
macro_rules! dead_filter {
    () => {
        "($1::text IS NULL OR consumer = $1) AND ($2::text IS NULL OR topic = $2) \
         AND ($3::bytea IS NULL OR event_key = $3) AND ($4::text IS NULL OR error_kind = $4) \
         AND ($5::text IS NULL OR error_place = $5) AND ($6::text IS NULL OR state = $6) \
         AND ($7::bigint[] IS NULL OR id = ANY($7))"
    };
}

/// A query whose first seven parameters are a filter.
macro_rules! filtered {
    ($sql:expr, $filter:expr, $state:expr) => {{
        let filter: &crate::dead::DeadFilter = $filter;
        let state: Option<crate::dead::DeadState> = $state;
        let ids: Option<&[i64]> = (!filter.ids.is_empty()).then_some(&filter.ids[..]);
        let kind = filter.kind.as_deref().map(super::row::text);
        let place = filter.place.as_deref().map(super::row::text);
        sqlx::query($sql)
            .bind(filter.consumer.as_ref().map(|consumer| consumer.as_str()))
            .bind(filter.topic.as_ref().map(|topic| topic.as_str()))
            .bind(filter.key.as_deref())
            .bind(kind.as_deref())
            .bind(place.as_deref())
            .bind(state.map(|state| state.as_str()))
            .bind(ids)
    }};
}

pub(super) use dead_filter;
pub(super) use filtered;

pub(super) async fn bury(
    store: &Postgres,
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
        block_key(&mut session, assignment, id).await?;
    }
    let no_more = next_of_key(&mut session, assignment, key, now_ms).await?;
    let lanes = outbox::flush(&mut session, &burial.copies).await?;
    session.commit().await.map_err(failed(BURY))?;
    Ok(Buried { id: Some(id), lanes, drained: was_parked && key.is_some() && no_more })
}

/// Writes the dead letter with what the parked event remembers; the same one again if it came back.
async fn insert(
    connection: &mut PgConnection,
    assignment: &Assignment,
    burial: &Burial<'_>,
    now_ms: i64,
) -> Result<i64, StoreError> {
    let sql = "INSERT INTO courant_dead (consumer, generation, topic, partition_id, event_offset, event_id, \
               event_key, event_value, headers, timestamp_ms, state, reason, blocks_key, attempts, \
               first_failed_ms, last_failed_ms, error_kind, error_place, error_message, code_version) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 'dead', $11, $12, \
               1 + COALESCE((SELECT attempts FROM courant_parked WHERE consumer = $1 AND generation = $2 \
                   AND topic = $3 AND partition_id = $4 AND event_offset = $5), 0), \
               COALESCE((SELECT first_failed_ms FROM courant_parked WHERE consumer = $1 \
                   AND generation = $2 AND topic = $3 AND partition_id = $4 AND event_offset = $5), $13), \
               $13, $14, $15, $16, $17) \
               ON CONFLICT (consumer, generation, topic, partition_id, event_offset) DO UPDATE \
               SET state = 'dead', reason = excluded.reason, blocks_key = excluded.blocks_key, \
               attempts = courant_dead.attempts + excluded.attempts, \
               last_failed_ms = excluded.last_failed_ms, error_kind = excluded.error_kind, \
               error_place = excluded.error_place, error_message = excluded.error_message, \
               code_version = excluded.code_version, closed_ms = NULL \
               RETURNING id";
    let event = burial.event;
    let blocks = burial.keep_key_parked && event.key.is_some();
    let row = on_partition!(sql, assignment)
        .bind(signed(event.offset, BURY)?)
        .bind(&*text(event.id.as_str()))
        .bind(event.key.as_deref())
        .bind(event.value.as_deref())
        .bind(headers::encode(&event.headers))
        .bind(event.timestamp_ms)
        .bind(burial.reason.as_str())
        .bind(i64::from(blocks))
        .bind(now_ms)
        .bind(&*text(cut(&burial.failure.kind, FAILURE_TEXT_BYTES_MAX)))
        .bind(&*text(cut(&burial.failure.place, FAILURE_TEXT_BYTES_MAX)))
        .bind(&*text(cut(&burial.failure.message, FAILURE_TEXT_BYTES_MAX)))
        .bind(&*text(cut(burial.code_version, FAILURE_TEXT_BYTES_MAX)))
        .fetch_one(&mut *connection)
        .await
        .map_err(failed(BURY))?;
    Columns::new(&row, BURY).int(0)
}

/// Leaves a dead letter at the head of its key's parked events. Its bytes are in the dead letter only.
async fn block_key(
    connection: &mut PgConnection,
    assignment: &Assignment,
    dead_id: i64,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO courant_parked (consumer, generation, topic, partition_id, event_offset, event_id, \
               event_key, event_value, headers, timestamp_ms, state, due_ms, attempts, first_failed_ms, \
               error_kind, error_place, error_message) \
               SELECT $1, $2, $3, $4, event_offset, event_id, event_key, NULL, '[]', timestamp_ms, 'dead', \
               NULL, attempts, first_failed_ms, error_kind, error_place, error_message \
               FROM courant_dead WHERE id = $5";
    on_partition!(sql, assignment).bind(dead_id).execute(&mut *connection).await.map_err(failed(BURY))?;
    Ok(())
}

pub(super) async fn list(
    store: &Postgres,
    filter: &DeadFilter,
    after: i64,
    limit: u32,
) -> Result<Vec<DeadSummary>, StoreError> {
    let sql = concat!(
        "SELECT ",
        dead_columns!(),
        " FROM courant_dead WHERE id > $8 AND ",
        dead_filter!(),
        " ORDER BY id LIMIT $9"
    );
    let mut session = store.reader().await?;
    let rows = filtered!(sql, filter, filter.state)
        .bind(after)
        .bind(i64::from(limit.min(LISTED_MAX)))
        .fetch_all(&mut *session)
        .await
        .map_err(failed(LIST))?;
    session.give_back();
    rows.iter().map(|row| Columns::new(row, LIST).dead_summary()).collect()
}

pub(super) async fn count(store: &Postgres, filter: &DeadFilter) -> Result<u64, StoreError> {
    let sql = concat!("SELECT COUNT(*) FROM courant_dead WHERE ", dead_filter!());
    let mut session = store.reader().await?;
    let row = filtered!(sql, filter, filter.state).fetch_one(&mut *session).await.map_err(failed(LIST))?;
    session.give_back();
    Columns::new(&row, LIST).number(0)
}

pub(super) async fn groups(store: &Postgres, limit: u32) -> Result<Vec<DeadGroup>, StoreError> {
    let sql = "SELECT consumer, error_kind, error_place, COUNT(*), MIN(last_failed_ms), MAX(last_failed_ms) \
               FROM courant_dead WHERE state = 'dead' GROUP BY consumer, error_kind, error_place \
               ORDER BY COUNT(*) DESC, consumer, error_kind, error_place LIMIT $1";
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

pub(super) async fn get(store: &Postgres, id: i64) -> Result<Option<DeadLetter>, StoreError> {
    let sql = concat!(
        "SELECT ",
        dead_columns!(),
        ", event_offset, event_id, event_key, event_value, headers, timestamp_ms \
         FROM courant_dead WHERE id = $1"
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
    store: &Postgres,
    ids: &[i64],
    state: DeadState,
    decision: Option<&Decision<'_>>,
    now_ms: i64,
) -> Result<Vec<i64>, StoreError> {
    let ids = &ids[..ids.len().min(LISTED_MAX as usize)];
    let mut session = store.writer(CLOSE).await?;
    // Whoever decides about dead letters holds it: what is undecided now stays so.
    locks::take(&mut session, vec![locks::decisions()], CLOSE).await?;
    let undecided = "SELECT consumer, generation, topic, partition_id, event_key, id FROM courant_dead \
                     WHERE state = 'dead' AND id = ANY($1) ORDER BY id";
    let rows = sqlx::query(undecided).bind(ids).fetch_all(&mut *session).await.map_err(failed(CLOSE))?;
    let mut closed = Vec::with_capacity(rows.len());
    let mut keys = Vec::with_capacity(rows.len());
    for row in &rows {
        let columns = Columns::new(row, CLOSE);
        closed.push(columns.int(5)?);
        keys.push((columns.assignment(0)?, columns.bytes_or_null(4)?));
    }
    let numbers = keys.iter().filter_map(|(assignment, key)| Some(locks::key(assignment, key.as_deref()?)));
    locks::take(&mut session, numbers.collect(), CLOSE).await?;
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

async fn mark_closed(
    connection: &mut PgConnection,
    ids: &[i64],
    state: DeadState,
    now_ms: i64,
) -> Result<(), StoreError> {
    let inbox = "UPDATE courant_inbox i SET outcome = 'discarded', settled_ms = $2 FROM courant_dead d \
                 WHERE d.id = ANY($1) AND i.outcome = 'dead' AND i.consumer = d.consumer \
                 AND i.generation = d.generation AND i.event_id = d.event_id";
    sqlx::query(inbox).bind(ids).bind(now_ms).execute(&mut *connection).await.map_err(failed(CLOSE))?;
    let parked = "DELETE FROM courant_parked p USING courant_dead d \
                  WHERE d.id = ANY($1) AND p.state = 'dead' AND p.consumer = d.consumer \
                  AND p.generation = d.generation AND p.topic = d.topic \
                  AND p.partition_id = d.partition_id AND p.event_offset = d.event_offset";
    sqlx::query(parked).bind(ids).execute(&mut *connection).await.map_err(failed(CLOSE))?;
    // What is archived is kept: it has no day after which it may be forgotten.
    let dead = "UPDATE courant_dead SET state = $2, blocks_key = 0, \
                closed_ms = CASE WHEN $2 = 'archived' THEN NULL ELSE $3::bigint END WHERE id = ANY($1)";
    sqlx::query(dead)
        .bind(ids)
        .bind(state.as_str())
        .bind(now_ms)
        .execute(&mut *connection)
        .await
        .map_err(failed(CLOSE))?;
    Ok(())
}

/// Makes archived dead letters undecided again. Their events are dead again in the inbox, unless they were
/// handled meanwhile, and hold no key: what has waited behind them has gone on.
pub(super) async fn restore(
    store: &Postgres,
    ids: &[i64],
    decision: &Decision<'_>,
    now_ms: i64,
) -> Result<Vec<i64>, StoreError> {
    let ids = &ids[..ids.len().min(LISTED_MAX as usize)];
    let mut session = store.writer(RESTORE).await?;
    // Whoever decides about dead letters holds it: what is archived now stays so.
    locks::take(&mut session, vec![locks::decisions()], RESTORE).await?;
    let archived = "SELECT consumer, generation, topic, partition_id, event_id, id FROM courant_dead \
                    WHERE state = 'archived' AND id = ANY($1) ORDER BY id";
    let rows = sqlx::query(archived).bind(ids).fetch_all(&mut *session).await.map_err(failed(RESTORE))?;
    let letters = rows.iter().map(|row| Columns::new(row, RESTORE).int(5));
    let restored = letters.collect::<Result<Vec<i64>, StoreError>>()?;
    // The letters first, and what the inbox says after them: so does who makes one a dead letter again.
    let dead = "UPDATE courant_dead SET state = 'dead', closed_ms = NULL WHERE id = ANY($1)";
    sqlx::query(dead).bind(restored.as_slice()).execute(&mut *session).await.map_err(failed(RESTORE))?;
    for row in &rows {
        let columns = Columns::new(row, RESTORE);
        let (consumer, event_id) = (columns.assignment(0)?.consumer, columns.event_id(4)?);
        write_outcome(&mut session, &consumer, event_id.as_str(), Outcome::Dead, now_ms).await?;
    }
    note::decided(&mut session, &restored, decision, now_ms).await?;
    session.commit().await.map_err(failed(RESTORE))?;
    Ok(restored)
}
