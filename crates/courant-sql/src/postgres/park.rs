//! Events that wait: after a failure, or behind one.

use std::borrow::Cow;

use courant_core::topic::TopicName;
use sqlx::PgConnection;

use super::class::failed;
use super::resolve::{arrange, settled};
use super::row::{Columns, on_partition, signed, text};
use super::{Postgres, locks};
use crate::columns::parked_columns;
use crate::consumer::{Assignment, Consumer, Delivery, Outcome};
use crate::error::{LeaseError, StoreError};
use crate::event::{Event, Failure, cut};
use crate::headers;
use crate::limits::{FAILURE_TEXT_BYTES_MAX, LISTED_MAX, ROWS_PER_STATEMENT};
use crate::parked::{Lease, Parked, ParkedCounts, ParkedEvent, ParkedKey, ParkedOf};
use crate::store::Committed;

const PARK: &str = "park an event";
const QUEUE: &str = "park events behind others";
const SKIP: &str = "settle an event that is passed";
const LIST: &str = "list parked events";

pub(super) async fn park(
    store: &Postgres,
    lease: &Lease,
    event: &Event,
    failure: &Failure,
    failures: u32,
    due_ms: i64,
    now_ms: i64,
) -> Result<Parked, LeaseError> {
    lease.parks();
    let mut session = store.owner(lease, PARK).await?;
    lock_key(&mut session, &lease.assignment, event.key.as_deref(), PARK).await?;
    if is_settled(&mut session, &lease.assignment, event).await? {
        session.commit().await.map_err(failed(PARK))?;
        return Ok(Parked::Settled);
    }
    // An event with a key gets its time by `arrange`: it may not be the first of its key.
    let (state, due) = if event.key.is_some() { ("queued", None) } else { ("waiting", Some(due_ms)) };
    let sql = "INSERT INTO courant_parked (consumer, generation, topic, partition_id, event_offset, event_id, \
               event_key, event_value, headers, timestamp_ms, state, due_ms, attempts, first_failed_ms, \
               error_kind, error_place, error_message) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $17, $13, $14, $15, $16) \
               ON CONFLICT (consumer, generation, topic, partition_id, event_offset) DO UPDATE \
               SET state = excluded.state, due_ms = excluded.due_ms, attempts = excluded.attempts, \
               first_failed_ms = COALESCE(courant_parked.first_failed_ms, excluded.first_failed_ms), \
               error_kind = excluded.error_kind, error_place = excluded.error_place, \
               error_message = excluded.error_message \
               WHERE courant_parked.attempts < excluded.attempts \
               RETURNING attempts";
    let row = on_partition!(sql, &lease.assignment)
        .bind(signed(event.offset, PARK)?)
        .bind(&*text(event.id.as_str()))
        .bind(event.key.as_deref())
        .bind(event.value.as_deref())
        .bind(headers::encode(&event.headers))
        .bind(event.timestamp_ms)
        .bind(state)
        .bind(due)
        .bind(now_ms)
        .bind(&*text(cut(&failure.kind, FAILURE_TEXT_BYTES_MAX)))
        .bind(&*text(cut(&failure.place, FAILURE_TEXT_BYTES_MAX)))
        .bind(&*text(cut(&failure.message, FAILURE_TEXT_BYTES_MAX)))
        .bind(i64::from(failures) + 1)
        .fetch_optional(&mut *session)
        .await
        .map_err(failed(PARK))?;
    let attempts = match row {
        Some(row) => Columns::new(&row, PARK).number(0)?,
        // This failure is in it: the commit of the call before had succeeded without an answer.
        None => attempts(&mut session, &lease.assignment, event.offset).await?,
    };
    if let Some(key) = &event.key {
        arrange(&mut session, &lease.assignment, key, due_ms).await?;
    }
    session.commit().await.map_err(failed(PARK))?;
    Ok(Parked::Waiting { attempts })
}

async fn attempts(
    connection: &mut PgConnection,
    assignment: &Assignment,
    offset: u64,
) -> Result<u32, StoreError> {
    let sql = "SELECT attempts FROM courant_parked WHERE consumer = $1 AND generation = $2 AND topic = $3 \
               AND partition_id = $4 AND event_offset = $5";
    let row = on_partition!(sql, assignment)
        .bind(signed(offset, PARK)?)
        .fetch_one(&mut *connection)
        .await
        .map_err(failed(PARK))?;
    Columns::new(&row, PARK).number(0)
}

/// Holds a key's lock until the transaction ends.
pub(super) async fn lock_key(
    connection: &mut PgConnection,
    assignment: &Assignment,
    key: Option<&[u8]>,
    doing: &'static str,
) -> Result<(), StoreError> {
    let number = key.map(|key| locks::key(assignment, key));
    locks::take(connection, number.into_iter().collect(), doing).await
}

/// Whether the inbox has an event already. A dead letter that was sent back is in it as dead, and not
/// settled while it waits.
pub(super) async fn is_settled(
    connection: &mut PgConnection,
    assignment: &Assignment,
    event: &Event,
) -> Result<bool, StoreError> {
    let sql = "SELECT (SELECT outcome FROM courant_inbox \
                       WHERE consumer = $1 AND generation = $2 AND event_id = $6), \
                      EXISTS (SELECT 1 FROM courant_parked \
                       WHERE consumer = $1 AND generation = $2 AND topic = $3 AND partition_id = $4 \
                       AND event_offset = $5 AND state <> 'dead')::int::bigint";
    let row = on_partition!(sql, assignment)
        .bind(signed(event.offset, PARK)?)
        .bind(&*text(event.id.as_str()))
        .fetch_one(&mut *connection)
        .await
        .map_err(failed(PARK))?;
    let columns = Columns::new(&row, PARK);
    if columns.text_or_null(0)?.is_none() {
        return Ok(false);
    }
    let sent_back = columns.known(0, Outcome::parse)? == Outcome::Dead && columns.int(1)? != 0;
    Ok(!sent_back)
}

pub(super) async fn queue(
    store: &Postgres,
    lease: &Lease,
    events: &[Event],
    now_ms: i64,
) -> Result<(), LeaseError> {
    if events.is_empty() {
        return Ok(());
    }
    let mut keys: Vec<_> = events.iter().filter_map(|event| event.key.as_ref()).collect();
    keys.sort_unstable();
    keys.dedup();
    lease.parks();
    let mut session = store.owner(lease, QUEUE).await?;
    let numbers = keys.iter().map(|key| locks::key(&lease.assignment, key)).collect();
    locks::take(&mut session, numbers, QUEUE).await?;
    for events in events.chunks(ROWS_PER_STATEMENT) {
        insert_behind(&mut session, &lease.assignment, events, now_ms).await?;
    }
    for key in keys {
        arrange(&mut session, &lease.assignment, key, now_ms).await?;
    }
    session.commit().await.map_err(failed(QUEUE))?;
    Ok(())
}

async fn insert_behind(
    connection: &mut PgConnection,
    assignment: &Assignment,
    events: &[Event],
    now_ms: i64,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO courant_parked (consumer, generation, topic, partition_id, event_offset, event_id, \
                   event_key, event_value, headers, timestamp_ms, state, due_ms, attempts) \
               SELECT $1, $2, $3, $4, d.event_offset, d.event_id, d.event_key, d.event_value, d.headers, \
                   d.timestamp_ms, CASE WHEN d.event_key IS NULL THEN 'waiting' ELSE 'queued' END, \
                   CASE WHEN d.event_key IS NULL THEN $5::bigint END, 0 \
               FROM unnest($6::bigint[], $7::text[], $8::bytea[], $9::bytea[], $10::text[], $11::bigint[]) \
                   AS d (event_offset, event_id, event_key, event_value, headers, timestamp_ms) \
               WHERE NOT EXISTS (SELECT 1 FROM courant_inbox i \
                   WHERE i.consumer = $1 AND i.generation = $2 AND i.event_id = d.event_id) \
               ON CONFLICT (consumer, generation, topic, partition_id, event_offset) DO NOTHING";
    let offsets = events.iter().map(|event| signed(event.offset, QUEUE)).collect::<Result<Vec<i64>, _>>()?;
    let ids: Vec<Cow<'_, str>> = events.iter().map(|event| text(event.id.as_str())).collect();
    let ids: Vec<&str> = ids.iter().map(|id| &**id).collect();
    let keys: Vec<Option<&[u8]>> = events.iter().map(|event| event.key.as_deref()).collect();
    let values: Vec<Option<&[u8]>> = events.iter().map(|event| event.value.as_deref()).collect();
    let headers: Vec<String> = events.iter().map(|event| headers::encode(&event.headers)).collect();
    let times: Vec<i64> = events.iter().map(|event| event.timestamp_ms).collect();
    on_partition!(sql, assignment)
        .bind(now_ms)
        .bind(&offsets[..])
        .bind(&ids[..])
        .bind(&keys[..])
        .bind(&values[..])
        .bind(&headers[..])
        .bind(&times[..])
        .execute(&mut *connection)
        .await
        .map_err(failed(QUEUE))?;
    Ok(())
}

pub(super) async fn skip(
    store: &Postgres,
    lease: &Lease,
    delivery: &Delivery<'_>,
    now_ms: i64,
) -> Result<Committed, LeaseError> {
    let mut session = store.owner(lease, SKIP).await?;
    lock_key(&mut session, &lease.assignment, delivery.key, SKIP).await?;
    write_outcome(&mut session, &lease.assignment.consumer, delivery.id.as_str(), Outcome::Skipped, now_ms)
        .await?;
    let drained = settled(&mut session, &lease.assignment, delivery.offset, delivery.key, now_ms).await?;
    session.commit().await.map_err(failed(SKIP))?;
    let key = delivery.key.filter(|_| drained).map(bytes::Bytes::copy_from_slice);
    Ok(Committed { drained: key.into_iter().collect(), ..Committed::default() })
}

/// Writes how an event was settled. What was handled stays handled.
pub(super) async fn write_outcome(
    connection: &mut PgConnection,
    consumer: &Consumer,
    event_id: &str,
    outcome: Outcome,
    now_ms: i64,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO courant_inbox (consumer, generation, event_id, outcome, settled_ms) \
               VALUES ($1, $2, $3, $4, $5) \
               ON CONFLICT (consumer, generation, event_id) DO UPDATE \
               SET outcome = excluded.outcome, settled_ms = excluded.settled_ms \
               WHERE courant_inbox.outcome <> 'handled'";
    sqlx::query(sql)
        .bind(consumer.name.as_str())
        .bind(i64::from(consumer.generation))
        .bind(&*text(event_id))
        .bind(outcome.as_str())
        .bind(now_ms)
        .execute(&mut *connection)
        .await
        .map_err(failed(SKIP))?;
    Ok(())
}

pub(super) async fn due(
    store: &Postgres,
    assignment: &Assignment,
    now_ms: i64,
    limit: u32,
) -> Result<Vec<ParkedEvent>, StoreError> {
    let sql = concat!(
        "SELECT ",
        parked_columns!(),
        " FROM courant_parked WHERE consumer = $1 AND generation = $2 AND topic = $3 \
         AND partition_id = $4 AND due_ms <= $5 ORDER BY due_ms, event_offset LIMIT $6"
    );
    let mut session = store.reader().await?;
    let rows = on_partition!(sql, assignment)
        .bind(now_ms)
        .bind(i64::from(limit.min(LISTED_MAX)))
        .fetch_all(&mut *session)
        .await
        .map_err(failed(LIST))?;
    session.give_back();
    rows.iter().map(|row| Columns::new(row, LIST).parked_event()).collect()
}

pub(super) async fn parked(
    store: &Postgres,
    assignment: &Assignment,
    key: Option<&[u8]>,
    limit: u32,
) -> Result<Vec<ParkedEvent>, StoreError> {
    let sql = concat!(
        "SELECT ",
        parked_columns!(),
        " FROM courant_parked WHERE consumer = $1 AND generation = $2 AND topic = $3 \
         AND partition_id = $4 AND (sha256(event_key) = sha256($5) AND event_key = $5 \
         OR $5::bytea IS NULL AND event_key IS NULL) ORDER BY event_offset LIMIT $6"
    );
    let mut session = store.reader().await?;
    let rows = on_partition!(sql, assignment)
        .bind(key)
        .bind(i64::from(limit.min(LISTED_MAX)))
        .fetch_all(&mut *session)
        .await
        .map_err(failed(LIST))?;
    session.give_back();
    rows.iter().map(|row| Columns::new(row, LIST).parked_event()).collect()
}

pub(super) async fn next_due(store: &Postgres, assignment: &Assignment) -> Result<Option<i64>, StoreError> {
    let sql = "SELECT MIN(due_ms) FROM courant_parked WHERE consumer = $1 AND generation = $2 \
               AND topic = $3 AND partition_id = $4 AND due_ms IS NOT NULL";
    let mut session = store.reader().await?;
    let row = on_partition!(sql, assignment).fetch_one(&mut *session).await.map_err(failed(LIST))?;
    session.give_back();
    Columns::new(&row, LIST).int_or_null(0)
}

pub(super) async fn parked_keys(
    store: &Postgres,
    assignment: &Assignment,
    after: Option<&[u8]>,
    limit: u32,
) -> Result<Vec<ParkedKey>, StoreError> {
    let sql = "SELECT event_key, COUNT(*) FROM courant_parked WHERE consumer = $1 AND generation = $2 \
               AND topic = $3 AND partition_id = $4 AND event_key IS NOT NULL \
               AND ($5::bytea IS NULL OR event_key > $5) GROUP BY event_key ORDER BY event_key LIMIT $6";
    let mut session = store.reader().await?;
    let rows = on_partition!(sql, assignment)
        .bind(after)
        .bind(i64::from(limit.min(LISTED_MAX)))
        .fetch_all(&mut *session)
        .await
        .map_err(failed(LIST))?;
    session.give_back();
    rows.iter()
        .map(|row| {
            let columns = Columns::new(row, LIST);
            Ok(ParkedKey { key: columns.bytes_or_null(0)?.unwrap_or_default(), events: columns.number(1)? })
        })
        .collect()
}

pub(super) async fn parked_counts(store: &Postgres, of: ParkedOf<'_>) -> Result<ParkedCounts, StoreError> {
    let sql = "SELECT COUNT(*) FILTER (WHERE state = 'waiting'), COUNT(*) FILTER (WHERE state = 'queued'), \
               COUNT(*) FILTER (WHERE state = 'dead'), MIN(due_ms) \
               FROM courant_parked WHERE consumer = $1 AND generation = $2 \
               AND ($3::text[] IS NULL OR topic = ANY($3))";
    let topics: Option<Vec<&str>> = of.topics.map(|topics| topics.iter().map(TopicName::as_str).collect());
    let mut session = store.reader().await?;
    let row = sqlx::query(sql)
        .bind(of.consumer.name.as_str())
        .bind(i64::from(of.consumer.generation))
        .bind(topics)
        .fetch_one(&mut *session)
        .await
        .map_err(failed(LIST))?;
    session.give_back();
    let columns = Columns::new(&row, LIST);
    Ok(ParkedCounts {
        waiting: columns.number(0)?,
        queued: columns.number(1)?,
        blocking: columns.number(2)?,
        next_due_ms: columns.int_or_null(3)?,
    })
}
