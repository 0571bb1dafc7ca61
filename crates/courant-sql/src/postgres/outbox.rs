//! The outbox: positions are given directly before COMMIT, under the locks of their lanes' rows, so a
//! lane has no gaps and the order of its positions is the order of the commits.
//!
//! Whoever wants several lanes takes them in their order, so that nobody waits in a circle. At READ
//! COMMITTED the one who has waited goes on from the position that the other one has committed.

use std::borrow::Cow;
use std::collections::BTreeMap;

use sqlx::PgConnection;

use super::Postgres;
use super::class::{failed, not_proved};
use super::row::{Columns, signed, text};
use crate::error::{AdvanceError, CommitError, StoreError};
use crate::headers;
use crate::limits::{LANES, LISTED_MAX};
use crate::outbox::{LaneBatch, LanePosition, NewEvent, Pending, RelayLease};
use crate::publishing::by_lane;

const FLUSH: &str = "write the outbox";
const READ: &str = "read the outbox";
const ADVANCE: &str = "move the outbox on";

/// One statement: locks the lanes in order, moves them on, and writes the events with the positions
/// that this gives. In any other transaction than the one that was begun it does nothing. With the rows goes the
/// word that the trigger of the inbox waits for: nothing of a handler comes behind this statement.
const WRITE: &str = "WITH wanted AS ( \
        SELECT lane, COUNT(*) AS events FROM unnest($1::bigint[]) AS e (lane) \
        WHERE current_setting('courant.transaction', true) = $10 GROUP BY lane), \
    held AS MATERIALIZED ( \
        SELECT l.lane FROM courant_outbox_lane l JOIN wanted w ON w.lane = l.lane \
        ORDER BY l.lane FOR UPDATE OF l), \
    moved AS ( \
        UPDATE courant_outbox_lane l SET position = l.position + w.events \
        FROM held h JOIN wanted w ON w.lane = h.lane WHERE l.lane = h.lane \
        RETURNING l.lane, l.position - w.events AS before) \
    INSERT INTO courant_outbox (lane, position, event_id, topic, event_key, event_value, headers, \
        timestamp_ms, bytes) \
    SELECT e.lane, m.before + e.nth, e.event_id, e.topic, e.event_key, e.event_value, e.headers, \
        e.timestamp_ms, e.bytes \
    FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::bytea[], $6::bytea[], \
        $7::text[], $8::bigint[], $9::bigint[]) \
        AS e (lane, nth, event_id, topic, event_key, event_value, headers, timestamp_ms, bytes) \
    JOIN moved m ON m.lane = e.lane \
    WHERE set_config('courant.commit', txid_current()::text, m.lane IS NOT NULL) IS NOT NULL";

/// [`WRITE`] for one event, which is what most transactions publish: its lane is found by the index, where
/// [`WRITE`] reads all lanes twice, with every row that was in them since the table was vacuumed.
const WRITE_ONE: &str = "WITH moved AS ( \
        UPDATE courant_outbox_lane SET position = position + 1 \
        WHERE lane = $1 AND current_setting('courant.transaction', true) = $9 RETURNING position) \
    INSERT INTO courant_outbox (lane, position, event_id, topic, event_key, event_value, headers, \
        timestamp_ms, bytes) \
    SELECT $1, moved.position, $2::text, $3::text, $4::bytea, $5::bytea, $6::text, $7::bigint, $8::bigint \
    FROM moved WHERE set_config('courant.commit', txid_current()::text, true) IS NOT NULL";

/// Gives positions to what a transaction publishes, and writes it. The lanes, in order.
pub(super) async fn flush_in(
    connection: &mut PgConnection,
    transaction: &str,
    events: &[NewEvent],
) -> Result<Vec<u16>, CommitError> {
    let rows = Rows::new(events)?;
    let written = rows.write(connection, transaction).await.map_err(|error| not_proved(FLUSH, error))?;
    if written == events.len() as u64 {
        return Ok(rows.lanes());
    }
    // Some lanes would be too few; none is another transaction, or none at all.
    if written == 0 { Err(CommitError::Ended) } else { Err(lanes_missing().into()) }
}

/// [`flush_in`] for a transaction of the store's own, which nobody else can end.
pub(super) async fn flush(
    connection: &mut PgConnection,
    events: &[NewEvent],
) -> Result<Vec<u16>, StoreError> {
    if events.is_empty() {
        return Ok(Vec::new());
    }
    let own = "store";
    sqlx::query("SELECT set_config('courant.transaction', $1, true)")
        .bind(own)
        .execute(&mut *connection)
        .await
        .map_err(failed(FLUSH))?;
    let rows = Rows::new(events)?;
    let written = rows.write(connection, own).await.map_err(failed(FLUSH))?;
    if written == events.len() as u64 { Ok(rows.lanes()) } else { Err(lanes_missing()) }
}

fn lanes_missing() -> StoreError {
    StoreError::unreadable(FLUSH, "lanes of the outbox are missing")
}

/// Events as the columns that they are sent in.
struct Rows<'a> {
    lanes: Vec<i64>,
    /// The event's number among those of its lane, from 1.
    nth: Vec<i64>,
    ids: Vec<Cow<'a, str>>,
    headers: Vec<String>,
    bytes: Vec<i64>,
    events: &'a [NewEvent],
}

impl<'a> Rows<'a> {
    fn new(events: &'a [NewEvent]) -> Result<Self, StoreError> {
        let mut counts: BTreeMap<i64, i64> = BTreeMap::new();
        let mut nth = Vec::with_capacity(events.len());
        let lanes: Vec<i64> = events.iter().map(|event| i64::from(event.lane())).collect();
        for lane in &lanes {
            let count = counts.entry(*lane).or_default();
            *count += 1;
            nth.push(*count);
        }
        let bytes = events.iter().map(|event| signed(event.bytes() as u64, FLUSH));
        Ok(Self {
            lanes,
            nth,
            ids: events.iter().map(|event| text(event.id.as_str())).collect(),
            headers: events.iter().map(|event| headers::encode(&event.headers)).collect(),
            bytes: bytes.collect::<Result<_, _>>()?,
            events,
        })
    }

    /// Writes all of them, or none. How many were written.
    async fn write(&self, connection: &mut PgConnection, transaction: &str) -> Result<u64, sqlx::Error> {
        if let ([event], [lane], [id], [headers], [bytes]) =
            (self.events, &self.lanes[..], &self.ids[..], &self.headers[..], &self.bytes[..])
        {
            let written = sqlx::query(WRITE_ONE)
                .bind(*lane)
                .bind(&**id)
                .bind(event.topic.as_str())
                .bind(event.key.as_deref())
                .bind(event.value.as_deref())
                .bind(headers.as_str())
                .bind(event.timestamp_ms)
                .bind(*bytes)
                .bind(transaction)
                .execute(&mut *connection)
                .await?;
            return Ok(written.rows_affected());
        }
        let ids: Vec<&str> = self.ids.iter().map(|id| &**id).collect();
        let topics: Vec<&str> = self.events.iter().map(|event| event.topic.as_str()).collect();
        let keys: Vec<Option<&[u8]>> = self.events.iter().map(|event| event.key.as_deref()).collect();
        let values: Vec<Option<&[u8]>> = self.events.iter().map(|event| event.value.as_deref()).collect();
        let times: Vec<i64> = self.events.iter().map(|event| event.timestamp_ms).collect();
        let written = sqlx::query(WRITE)
            .bind(&self.lanes[..])
            .bind(&self.nth[..])
            .bind(&ids[..])
            .bind(&topics[..])
            .bind(&keys[..])
            .bind(&values[..])
            .bind(&self.headers[..])
            .bind(&times[..])
            .bind(&self.bytes[..])
            .bind(transaction)
            .execute(&mut *connection)
            .await?;
        Ok(written.rows_affected())
    }

    fn lanes(&self) -> Vec<u16> {
        let mut lanes: Vec<u16> = self.events.iter().map(NewEvent::lane).collect();
        lanes.sort_unstable();
        lanes.dedup();
        lanes
    }
}

pub(super) async fn take_over_relay(
    store: &Postgres,
    shard: &str,
    owner: &str,
    now_ms: i64,
) -> Result<RelayLease, StoreError> {
    let mut session = store.relaying(ADVANCE).await?;
    let sql = "INSERT INTO courant_relay (shard, epoch, owner, taken_ms) VALUES ($1, 1, $2, $3) \
               ON CONFLICT (shard) DO UPDATE \
               SET epoch = courant_relay.epoch + 1, owner = excluded.owner, taken_ms = excluded.taken_ms, \
                   beat = 0, resting = 0 \
               RETURNING epoch";
    let row = sqlx::query(sql)
        .bind(&*text(shard))
        .bind(&*text(owner))
        .bind(now_ms)
        .fetch_one(&mut *session)
        .await
        .map_err(failed(ADVANCE))?;
    let epoch = Columns::new(&row, ADVANCE).number(0)?;
    session.commit().await.map_err(failed(ADVANCE))?;
    Ok(RelayLease { shard: shard.to_owned(), epoch })
}

pub(super) async fn pending(
    store: &Postgres,
    first_lane: u16,
    events_per_lane: u32,
    bytes_max: u64,
) -> Result<Vec<LaneBatch>, StoreError> {
    // `& 255` turns the lanes round to the first one that was asked for.
    let sql = "SELECT lane, position, event_id, topic, event_key, event_value, headers, timestamp_ms \
               FROM (SELECT o.*, SUM(o.bytes) OVER (ORDER BY (o.lane - $1) & 255, o.position) - o.bytes \
                         AS ahead \
                     FROM courant_outbox_lane l CROSS JOIN LATERAL ( \
                         SELECT * FROM courant_outbox w WHERE w.lane = l.lane AND w.position > l.published \
                         ORDER BY w.position LIMIT $2) o \
                     WHERE l.position > l.published) waiting \
               WHERE ahead < $3 ORDER BY (lane - $1) & 255, position";
    let mut session = store.reader().await?;
    let rows = sqlx::query(sql)
        .bind(i64::from(first_lane % LANES))
        .bind(i64::from(events_per_lane.clamp(1, LISTED_MAX)))
        .bind(i64::try_from(bytes_max.max(1)).unwrap_or(i64::MAX))
        .fetch_all(&mut *session)
        .await
        .map_err(failed(READ))?;
    session.give_back();
    by_lane(rows.iter().map(|row| waiting(Columns::new(row, READ))))
}

fn waiting(columns: Columns<'_>) -> Result<Pending, StoreError> {
    Ok(Pending {
        at: LanePosition { lane: columns.number(0)?, position: columns.number(1)? },
        event: NewEvent {
            id: columns.event_id(2)?,
            topic: columns.topic(3)?,
            key: columns.bytes_or_null(4)?,
            value: columns.bytes_or_null(5)?,
            headers: columns.headers(6)?,
            timestamp_ms: columns.int(7)?,
        },
    })
}

pub(super) async fn advance(
    store: &Postgres,
    lease: &RelayLease,
    published: &[LanePosition],
) -> Result<(), AdvanceError> {
    let mut session = store.writer(ADVANCE).await?;
    held(&mut session, lease).await?;
    let mut furthest: BTreeMap<i64, i64> = BTreeMap::new();
    for at in published {
        let position = signed(at.position, ADVANCE)?;
        let last = furthest.entry(i64::from(at.lane)).or_default();
        *last = position.max(*last);
    }
    let (lanes, until): (Vec<i64>, Vec<i64>) = furthest.into_iter().unzip();
    lock_lanes(&mut session, &lanes, &until).await?;
    let moved = "UPDATE courant_outbox_lane l SET published = GREATEST(l.published, done.until) \
                 FROM unnest($1::bigint[], $2::bigint[]) AS done (lane, until) WHERE l.lane = done.lane";
    let rows = "DELETE FROM courant_outbox o USING unnest($1::bigint[], $2::bigint[]) AS done (lane, until) \
                WHERE o.lane = done.lane AND o.position <= done.until";
    for sql in [moved, rows] {
        sqlx::query(sql)
            .bind(&lanes[..])
            .bind(&until[..])
            .execute(&mut *session)
            .await
            .map_err(failed(ADVANCE))?;
    }
    session.commit().await.map_err(failed(ADVANCE))?;
    Ok(())
}

/// Keeps other relays from taking over until the transaction ends. The server ends it for a relay that
/// stands still: its locks would keep everybody waiting.
pub(super) async fn held(connection: &mut PgConnection, lease: &RelayLease) -> Result<(), AdvanceError> {
    let sql = "SELECT epoch, set_config('idle_in_transaction_session_timeout', '5000', true) \
               FROM courant_relay WHERE shard = $1 FOR SHARE";
    let row = sqlx::query(sql)
        .bind(&*text(&lease.shard))
        .fetch_optional(&mut *connection)
        .await
        .map_err(failed(ADVANCE))?;
    let current = row.map_or(Ok(0), |row| Columns::new(&row, ADVANCE).number(0))?;
    if current == lease.epoch {
        return Ok(());
    }
    Err(AdvanceError::Fenced { shard: lease.shard.clone(), held: lease.epoch, current })
}

/// Locks lanes in their order, and refuses positions that were never given.
async fn lock_lanes(connection: &mut PgConnection, lanes: &[i64], until: &[i64]) -> Result<(), AdvanceError> {
    let sql = "SELECT lane, position FROM courant_outbox_lane WHERE lane = ANY($1::bigint[]) \
               ORDER BY lane FOR UPDATE";
    let rows = sqlx::query(sql).bind(lanes).fetch_all(&mut *connection).await.map_err(failed(ADVANCE))?;
    let mut given: BTreeMap<i64, i64> = BTreeMap::new();
    for row in &rows {
        let columns = Columns::new(row, ADVANCE);
        given.insert(columns.int(0)?, columns.int(1)?);
    }
    for (lane, until) in lanes.iter().zip(until) {
        if given.get(lane).is_none_or(|position| until > position) {
            let lane = u16::try_from(*lane).unwrap_or(u16::MAX);
            return Err(AdvanceError::NoSuchEvent { lane, position: until.unsigned_abs() });
        }
    }
    Ok(())
}

pub(super) async fn backlog(store: &Postgres) -> Result<u64, StoreError> {
    let mut session = store.reader().await?;
    // What is submitted has no count: of more than a thousand rows it is enough to know that.
    let sql = "SELECT (SELECT COALESCE(SUM(position - published), 0)::bigint FROM courant_outbox_lane) \
               + (SELECT COUNT(*) FROM (SELECT 1 FROM courant_outbox_submit LIMIT 1000) submitted)";
    let row = sqlx::query(sql).fetch_one(&mut *session).await.map_err(failed(READ))?;
    session.give_back();
    Columns::new(&row, READ).number(0)
}
