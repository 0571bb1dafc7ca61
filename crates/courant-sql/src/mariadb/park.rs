//! Events that wait: after a failure, or behind one.

use std::collections::BTreeSet;

use courant_core::topic::TopicName;
use sqlx::{AssertSqlSafe, MySqlConnection};

use super::class::failed;
use super::resolve::{arrange, settled};
use super::row::{Columns, on_partition, signed};
use super::{Mariadb, lists, locks};
use crate::columns::parked_columns;
use crate::consumer::{Assignment, Consumer, Delivery, Outcome};
use crate::error::{LeaseError, StoreError};
use crate::event::{Event, Failure, cut};
use crate::headers;
use crate::limits::{FAILURE_TEXT_BYTES_MAX, LISTED_MAX};
use crate::parked::{Lease, Parked, ParkedCounts, ParkedEvent, ParkedKey, ParkedOf};
use crate::store::Committed;

const PARK: &str = "park an event";
const QUEUE: &str = "park events behind others";
const SKIP: &str = "settle an event that is passed";
const LIST: &str = "list parked events";

pub(super) async fn park(
    store: &Mariadb,
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
    // A failure that is kept already is that of the call before, whose commit had succeeded without an answer.
    // They are set one after the other: the number of attempts, which all others look at, comes last.
    let sql = "INSERT INTO courant_parked (consumer, generation, topic, partition_id, event_offset, event_id, \
               event_key, event_value, headers, timestamp_ms, state, due_ms, attempts, first_failed_ms, \
               error_kind, error_place, error_message) \
               VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) \
               ON DUPLICATE KEY UPDATE \
               state = IF(attempts < VALUES(attempts), VALUES(state), state), \
               due_ms = IF(attempts < VALUES(attempts), VALUES(due_ms), due_ms), \
               first_failed_ms = COALESCE(first_failed_ms, VALUES(first_failed_ms)), \
               error_kind = IF(attempts < VALUES(attempts), VALUES(error_kind), error_kind), \
               error_place = IF(attempts < VALUES(attempts), VALUES(error_place), error_place), \
               error_message = IF(attempts < VALUES(attempts), VALUES(error_message), error_message), \
               attempts = GREATEST(attempts, VALUES(attempts))";
    on_partition!(sql, &lease.assignment)
        .bind(signed(event.offset, PARK)?)
        .bind(event.id.as_str())
        .bind(event.key.as_deref())
        .bind(event.value.as_deref())
        .bind(headers::encode(&event.headers))
        .bind(event.timestamp_ms)
        .bind(state)
        .bind(due)
        .bind(i64::from(failures) + 1)
        .bind(now_ms)
        .bind(cut(&failure.kind, FAILURE_TEXT_BYTES_MAX))
        .bind(cut(&failure.place, FAILURE_TEXT_BYTES_MAX))
        .bind(cut(&failure.message, FAILURE_TEXT_BYTES_MAX))
        .execute(&mut *session)
        .await
        .map_err(failed(PARK))?;
    let attempts = attempts(&mut session, &lease.assignment, event.offset).await?;
    if let Some(key) = &event.key {
        arrange(&mut session, &lease.assignment, key, due_ms).await?;
    }
    session.commit().await.map_err(failed(PARK))?;
    Ok(Parked::Waiting { attempts })
}

async fn attempts(
    connection: &mut MySqlConnection,
    assignment: &Assignment,
    offset: u64,
) -> Result<u32, StoreError> {
    let sql = "SELECT attempts FROM courant_parked WHERE consumer = ? AND generation = ? AND topic = ? \
               AND partition_id = ? AND event_offset = ?";
    let row = on_partition!(sql, assignment)
        .bind(signed(offset, PARK)?)
        .fetch_one(&mut *connection)
        .await
        .map_err(failed(PARK))?;
    Columns::new(&row, PARK).number(0)
}

/// Holds a key's slot until the transaction ends.
pub(super) async fn lock_key(
    connection: &mut MySqlConnection,
    assignment: &Assignment,
    key: Option<&[u8]>,
    doing: &'static str,
) -> Result<(), StoreError> {
    let slots = key.map(|key| locks::key(assignment, key)).into_iter().collect();
    locks::take(connection, slots, doing).await
}

/// Whether the inbox has an event already. A dead letter that was sent back is in it as dead, and not
/// settled while it waits.
pub(super) async fn is_settled(
    connection: &mut MySqlConnection,
    assignment: &Assignment,
    event: &Event,
) -> Result<bool, StoreError> {
    let sql = "SELECT (SELECT outcome FROM courant_inbox \
                       WHERE consumer = ? AND generation = ? AND event_id = ?), \
                      EXISTS (SELECT 1 FROM courant_parked \
                       WHERE consumer = ? AND generation = ? AND topic = ? AND partition_id = ? \
                       AND event_offset = ? AND state <> 'dead')";
    let row = sqlx::query(sql)
        .bind(assignment.consumer.name.as_str())
        .bind(i64::from(assignment.consumer.generation))
        .bind(event.id.as_str())
        .bind(assignment.consumer.name.as_str())
        .bind(i64::from(assignment.consumer.generation))
        .bind(assignment.partition.topic.as_str())
        .bind(i64::from(assignment.partition.partition))
        .bind(signed(event.offset, PARK)?)
        .fetch_one(&mut *connection)
        .await
        .map_err(failed(PARK))?;
    let columns = Columns::new(&row, PARK);
    let Some(outcome) = columns.outcome(0)? else { return Ok(false) };
    let sent_back = outcome == Outcome::Dead && columns.int(1)? != 0;
    Ok(!sent_back)
}

pub(super) async fn queue(
    store: &Mariadb,
    lease: &Lease,
    events: &[Event],
    now_ms: i64,
) -> Result<(), LeaseError> {
    if events.is_empty() {
        return Ok(());
    }
    let keys: BTreeSet<&[u8]> = events.iter().filter_map(|event| event.key.as_deref()).collect();
    lease.parks();
    let mut session = store.owner(lease, QUEUE).await?;
    let slots = keys.iter().map(|key| locks::key(&lease.assignment, key)).collect();
    locks::take(&mut session, slots, QUEUE).await?;
    for piece in lists::pieces(events, size) {
        insert_behind(&mut session, &lease.assignment, piece, now_ms).await?;
    }
    for key in keys {
        arrange(&mut session, &lease.assignment, key, now_ms).await?;
    }
    session.commit().await.map_err(failed(QUEUE))?;
    Ok(())
}

fn size(event: &Event) -> usize {
    let headers: usize = event.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    event.key.as_ref().map_or(0, |key| key.len())
        + event.value.as_ref().map_or(0, |value| value.len())
        + headers
}

async fn insert_behind(
    connection: &mut MySqlConnection,
    assignment: &Assignment,
    events: &[Event],
    now_ms: i64,
) -> Result<(), StoreError> {
    let settled = are_settled(connection, &assignment.consumer, events).await?;
    let events: Vec<&Event> = events.iter().filter(|event| !settled.contains(event.id.as_str())).collect();
    if events.is_empty() {
        return Ok(());
    }
    // A row that is there stays as it is.
    let sql = format!(
        "INSERT INTO courant_parked (consumer, generation, topic, partition_id, event_offset, event_id, \
         event_key, event_value, headers, timestamp_ms, state, due_ms, attempts) VALUES {} \
         ON DUPLICATE KEY UPDATE attempts = attempts",
        lists::rows(events.len(), 13)
    );
    // The text is made of a number of parameters; every value is bound.
    let mut query = sqlx::query(AssertSqlSafe(sql)).persistent(lists::is_kept(events.len()));
    for event in events {
        let due = event.key.is_none().then_some(now_ms);
        query = query
            .bind(assignment.consumer.name.as_str())
            .bind(i64::from(assignment.consumer.generation))
            .bind(assignment.partition.topic.as_str())
            .bind(i64::from(assignment.partition.partition))
            .bind(signed(event.offset, QUEUE)?)
            .bind(event.id.as_str())
            .bind(event.key.as_deref())
            .bind(event.value.as_deref())
            .bind(headers::encode(&event.headers))
            .bind(event.timestamp_ms)
            .bind(if due.is_some() { "waiting" } else { "queued" })
            .bind(due)
            .bind(0_i64);
    }
    query.execute(&mut *connection).await.map_err(failed(QUEUE))?;
    Ok(())
}

/// Which of some events are settled.
async fn are_settled(
    connection: &mut MySqlConnection,
    consumer: &Consumer,
    events: &[Event],
) -> Result<BTreeSet<String>, StoreError> {
    let sql = concat!(
        "SELECT i.event_id FROM ",
        lists::texts!(),
        " JOIN courant_inbox i ON i.consumer = ? AND i.generation = ? AND i.event_id = w.id \
         WHERE i.outcome <> 'open'"
    );
    let rows = sqlx::query(sql)
        .bind(lists::json(events.iter().map(|event| event.id.as_str())))
        .bind(consumer.name.as_str())
        .bind(i64::from(consumer.generation))
        .fetch_all(&mut *connection)
        .await
        .map_err(failed(QUEUE))?;
    rows.iter().map(|row| Columns::new(row, QUEUE).text(0)).collect()
}

pub(super) async fn skip(
    store: &Mariadb,
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
    connection: &mut MySqlConnection,
    consumer: &Consumer,
    event_id: &str,
    outcome: Outcome,
    now_ms: i64,
) -> Result<(), StoreError> {
    // They are set one after the other: the outcome, which both look at, comes last.
    let sql = "INSERT INTO courant_inbox (consumer, generation, event_id, outcome, settled_ms) \
               VALUES (?, ?, ?, ?, ?) \
               ON DUPLICATE KEY UPDATE \
               settled_ms = IF(outcome = 'handled', settled_ms, VALUES(settled_ms)), \
               outcome = IF(outcome = 'handled', outcome, VALUES(outcome))";
    sqlx::query(sql)
        .bind(consumer.name.as_str())
        .bind(i64::from(consumer.generation))
        .bind(event_id)
        .bind(outcome.as_str())
        .bind(now_ms)
        .execute(&mut *connection)
        .await
        .map_err(failed(SKIP))?;
    Ok(())
}

pub(super) async fn due(
    store: &Mariadb,
    assignment: &Assignment,
    now_ms: i64,
    limit: u32,
) -> Result<Vec<ParkedEvent>, StoreError> {
    let sql = concat!(
        "SELECT ",
        parked_columns!(),
        " FROM courant_parked WHERE consumer = ? AND generation = ? AND topic = ? \
         AND partition_id = ? AND due_ms <= ? ORDER BY due_ms, event_offset LIMIT ?"
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
    store: &Mariadb,
    assignment: &Assignment,
    key: Option<&[u8]>,
    limit: u32,
) -> Result<Vec<ParkedEvent>, StoreError> {
    let sql = concat!(
        "SELECT ",
        parked_columns!(),
        " FROM courant_parked WHERE consumer = ? AND generation = ? AND topic = ? \
         AND partition_id = ? AND key_hash <=> UNHEX(?) ORDER BY event_offset LIMIT ?"
    );
    let mut session = store.reader().await?;
    let rows = on_partition!(sql, assignment)
        .bind(key.map(locks::hash))
        .bind(i64::from(limit.min(LISTED_MAX)))
        .fetch_all(&mut *session)
        .await
        .map_err(failed(LIST))?;
    session.give_back();
    rows.iter().map(|row| Columns::new(row, LIST).parked_event()).collect()
}

pub(super) async fn next_due(store: &Mariadb, assignment: &Assignment) -> Result<Option<i64>, StoreError> {
    let sql = "SELECT MIN(due_ms) FROM courant_parked WHERE consumer = ? AND generation = ? \
               AND topic = ? AND partition_id = ?";
    let mut session = store.reader().await?;
    let row = on_partition!(sql, assignment).fetch_one(&mut *session).await.map_err(failed(LIST))?;
    session.give_back();
    Columns::new(&row, LIST).int_or_null(0)
}

/// Keys are sorted by their first 64 KiB; MariaDB would take 1,024 bytes.
const KEYS: &str = "SET STATEMENT max_sort_length = 65536 FOR \
    SELECT p.event_key, k.events FROM ( \
        SELECT MIN(event_offset) AS first, COUNT(*) AS events FROM courant_parked \
        WHERE consumer = ? AND generation = ? AND topic = ? AND partition_id = ? \
        AND key_hash IS NOT NULL GROUP BY key_hash) k \
    JOIN courant_parked p ON p.consumer = ? AND p.generation = ? AND p.topic = ? \
        AND p.partition_id = ? AND p.event_offset = k.first \
    WHERE ? IS NULL OR p.event_key > ? ORDER BY p.event_key LIMIT ?";

pub(super) async fn parked_keys(
    store: &Mariadb,
    assignment: &Assignment,
    after: Option<&[u8]>,
    limit: u32,
) -> Result<Vec<ParkedKey>, StoreError> {
    let mut session = store.reader().await?;
    let rows = on_partition!(KEYS, assignment)
        .bind(assignment.consumer.name.as_str())
        .bind(i64::from(assignment.consumer.generation))
        .bind(assignment.partition.topic.as_str())
        .bind(i64::from(assignment.partition.partition))
        .bind(after)
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

pub(super) async fn parked_counts(store: &Mariadb, of: ParkedOf<'_>) -> Result<ParkedCounts, StoreError> {
    let sql = "SELECT COUNT(IF(state = 'waiting', 1, NULL)), COUNT(IF(state = 'queued', 1, NULL)), \
               COUNT(IF(state = 'dead', 1, NULL)), MIN(due_ms) \
               FROM courant_parked WHERE consumer = ? AND generation = ?";
    // A list is a table, so that the statement is the same for any number of topics.
    let of_some = concat!(
        "SELECT COUNT(IF(p.state = 'waiting', 1, NULL)), COUNT(IF(p.state = 'queued', 1, NULL)), \
         COUNT(IF(p.state = 'dead', 1, NULL)), MIN(p.due_ms) FROM ",
        lists::texts!(),
        " JOIN courant_parked p ON p.topic = w.id WHERE p.consumer = ? AND p.generation = ?"
    );
    let mut session = store.reader().await?;
    let asked = match of.topics {
        None => sqlx::query(sql),
        Some(topics) => sqlx::query(of_some).bind(lists::json(topics.iter().map(TopicName::as_str))),
    };
    let row = asked
        .bind(of.consumer.name.as_str())
        .bind(i64::from(of.consumer.generation))
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
