//! The outbox: positions are given directly before COMMIT, under the locks of their lanes' rows, so a
//! lane has no gaps and the order of its positions is the order of the commits.
//!
//! Whoever wants several lanes takes them in their order, so that nobody waits in a circle. At READ
//! COMMITTED the one who has waited goes on from the position that the other one has committed. The relay
//! waits for no lane.

use std::borrow::Cow;
use std::collections::BTreeMap;

use sqlx::PgConnection;
use sqlx::postgres::PgDatabaseError;

use super::Postgres;
use super::admit::is_plain;
use super::class::{NOT_NULL, failed, not_proved};
use super::owner::quoted;
use super::row::{Columns, signed, text};
use crate::error::{AdvanceError, CommitError, StoreError};
use crate::headers::{self, hex};
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

/// Takes published events out, if the lease is the last one and every position was given; otherwise it says what
/// is wrong and does nothing. One statement: rows are found by their index, because a plan of the whole table
/// would read what was in it since it was vacuumed.
///
/// Whoever publishes locks the row of its lane until its commit. This statement waits for none of them, and
/// keeps none of them waiting: it deletes rows that nobody else touches. `published` only says where to look for
/// the first row, so it follows every [`PUBLISHED_BEHIND`] positions, and only while nobody has the lane.
const TAKE_OUT: &str = "WITH lease AS MATERIALIZED ( \
        SELECT epoch FROM courant_relay WHERE shard = $1 FOR SHARE), \
    done AS MATERIALIZED ( \
        SELECT d.lane, d.until, l.published, l.position IS NULL OR d.until > l.position AS is_unknown \
        FROM unnest($3::bigint[], $4::bigint[]) AS d (lane, until) \
        LEFT JOIN courant_outbox_lane l ON l.lane = d.lane), \
    moving AS MATERIALIZED ( \
        SELECT d.lane, d.until, d.published FROM done d CROSS JOIN lease \
        WHERE lease.epoch = $2 AND NOT EXISTS (SELECT 1 FROM done WHERE is_unknown)), \
    gone AS ( \
        DELETE FROM courant_outbox WHERE ctid = ANY (ARRAY ( \
            SELECT o.ctid FROM moving m CROSS JOIN LATERAL ( \
                SELECT w.ctid FROM courant_outbox w \
                WHERE w.lane = m.lane AND w.position > m.published AND w.position <= m.until \
                ORDER BY w.position) o))), \
    free AS MATERIALIZED ( \
        SELECT l.lane FROM courant_outbox_lane l JOIN moving m ON m.lane = l.lane \
        WHERE m.until >= m.published + $5::bigint ORDER BY l.lane FOR UPDATE OF l SKIP LOCKED), \
    followed AS ( \
        UPDATE courant_outbox_lane l SET published = GREATEST(l.published, m.until) \
        FROM free f JOIN moving m ON m.lane = f.lane WHERE l.lane = f.lane) \
    SELECT COALESCE((SELECT epoch FROM lease), 0::bigint), \
        (SELECT lane FROM done WHERE is_unknown ORDER BY lane LIMIT 1), \
        (SELECT until FROM done WHERE is_unknown ORDER BY lane LIMIT 1)";

/// Rows that a look may have to pass in each lane because they are gone already.
const PUBLISHED_BEHIND: i64 = 16;

/// Most bytes of an event that stands in the text of a commit, where each may take two letters.
const TEXT_BYTES_MAX: usize = 8 * 1024;

/// What writes the one event that a transaction publishes, on a connection that was told
/// [`super::told::Once::Write`]: [`WRITE_ONE`], which is refused where that would write nothing. Nothing of
/// the event stands in it that could end a text. `None` where there is more than one, or a large one, or one whose id
/// is no plain text.
pub(super) fn row(transaction: u64, events: &[NewEvent]) -> Option<String> {
    let [event] = events else { return None };
    let (id, bytes) = (event.id.as_str(), event.bytes());
    if bytes > TEXT_BYTES_MAX || !id.bytes().all(is_plain) {
        return None;
    }
    let headers = headers::encode(&event.headers);
    Some(format!(
        "EXECUTE courant_write ({}, '{id}', {}, {}, {}, {}, {}, {bytes}, '{transaction}')",
        event.lane(),
        quoted(event.topic.as_str()),
        in_digits(event.key.as_deref()),
        in_digits(event.value.as_deref()),
        in_letters(&headers),
        event.timestamp_ms,
    ))
}

/// A text as it may stand in another one: as it is, if each of its letters means itself to the server, however that
/// is set.
fn in_letters(text: &str) -> String {
    let is_plain = |byte: u8| matches!(byte, b' '..=b'~') && byte != b'\'' && byte != b'\\';
    if text.bytes().all(is_plain) {
        return format!("'{text}'");
    }
    format!("convert_from({}, 'UTF8')", in_digits(Some(text.as_bytes())))
}

/// Bytes as they may stand in a text, where the server knows that they are bytes. `E` has it read the two strokes as
/// one, however it is set; a call of `decode` would have to be looked up and made each time.
pub(super) fn in_digits(bytes: Option<&[u8]>) -> String {
    bytes.map_or_else(|| "NULL".to_owned(), |bytes| format!(r"E'\\x{}'", hex(bytes)))
}

/// What it means that [`row`] was refused, if it was and says why.
pub(super) fn not_written(error: &sqlx::Error) -> Option<CommitError> {
    let said = error.as_database_error()?.try_downcast_ref::<PgDatabaseError>()?;
    if said.code() != NOT_NULL || said.table() != Some("courant_outbox") {
        return None;
    }
    match said.column()? {
        "lane" => Some(CommitError::Ended),
        "position" => Some(lanes_missing().into()),
        _ => None,
    }
}

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
    let mut furthest: BTreeMap<i64, i64> = BTreeMap::new();
    for at in published {
        let position = signed(at.position, ADVANCE)?;
        let last = furthest.entry(i64::from(at.lane)).or_default();
        *last = position.max(*last);
    }
    let (lanes, until): (Vec<i64>, Vec<i64>) = furthest.into_iter().unzip();
    let mut session = store.relaying(ADVANCE).await?;
    let row = sqlx::query(TAKE_OUT)
        .bind(&*text(&lease.shard))
        .bind(signed(lease.epoch, ADVANCE)?)
        .bind(&lanes[..])
        .bind(&until[..])
        .bind(PUBLISHED_BEHIND)
        .fetch_one(&mut *session)
        .await
        .map_err(failed(ADVANCE))?;
    let columns = Columns::new(&row, ADVANCE);
    let current: u64 = columns.number(0)?;
    if current != lease.epoch {
        return Err(AdvanceError::Fenced { shard: lease.shard.clone(), held: lease.epoch, current });
    }
    if let (Some(lane), Some(position)) = (columns.int_or_null(1)?, columns.int_or_null(2)?) {
        let lane = u16::try_from(lane).unwrap_or(u16::MAX);
        return Err(AdvanceError::NoSuchEvent { lane, position: position.unsigned_abs() });
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

pub(super) async fn backlog(store: &Postgres) -> Result<u64, StoreError> {
    let mut session = store.reader().await?;
    // A lane has no gaps, so from its first row to its last position everything waits. What is submitted has no
    // count: of more than a thousand rows it is enough to know that.
    let sql = "SELECT (SELECT COALESCE(SUM(l.position - head.position + 1), 0)::bigint \
                       FROM courant_outbox_lane l CROSS JOIN LATERAL ( \
                           SELECT w.position FROM courant_outbox w \
                           WHERE w.lane = l.lane AND w.position > l.published \
                           ORDER BY w.position LIMIT 1) AS head \
                       WHERE l.position > l.published) \
               + (SELECT COUNT(*) FROM (SELECT 1 FROM courant_outbox_submit LIMIT 1000) submitted)";
    let row = sqlx::query(sql).fetch_one(&mut *session).await.map_err(failed(READ))?;
    session.give_back();
    Columns::new(&row, READ).number(0)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use courant_core::event_id::EventId;
    use courant_core::topic::TopicName;

    use super::*;

    /// No letter of an event stands in the text of a commit that could end it.
    #[test]
    fn nothing_of_an_event_ends_a_text() {
        let event = NewEvent {
            id: EventId::new("e-1").expect("an id"),
            topic: TopicName::new("bills").expect("a name"),
            key: Some(Bytes::from_static(b"'; DROP")),
            value: None,
            headers: vec![("a'b".to_owned(), Bytes::from_static(b"\\"))],
            timestamp_ms: 7,
        };
        let text = |headers: &str, bytes: usize| {
            let lane = event.lane();
            Some(format!(
                "EXECUTE courant_write ({lane}, 'e-1', 'bills', E'\\\\x273b2044524f50', NULL, {headers}, 7, \
                 {bytes}, '5')"
            ))
        };
        let digits = hex(br#"[["a'b","\\"]]"#);
        let headers = format!(r"convert_from(E'\\x{digits}', 'UTF8')");
        assert_eq!(row(5, std::slice::from_ref(&event)), text(&headers, 11));
        for value in ["'", "\\", "\0", "\n", "é", "\u{7f}"] {
            let headers = vec![("a".to_owned(), Bytes::from(value))];
            let written = row(5, &[NewEvent { headers, ..event.clone() }]).expect("it is plain");
            assert!(written.contains(r", convert_from(E'\\x"), "{written}");
        }
        let plain = vec![("a".to_owned(), Bytes::from_static(b"b; $1 --"))];
        let plain = row(5, &[NewEvent { headers: plain, ..event.clone() }]);
        assert_eq!(plain, text(r#"'[["a","b; $1 --"]]'"#, 16));
        assert_eq!(row(5, &[event.clone(), event.clone()]), None);
        for id in ["e'", "e\\", "e ", "é"] {
            let id = EventId::new(id).expect("an id");
            assert_eq!(row(5, &[NewEvent { id, ..event.clone() }]), None);
        }
        let value = Some(vec![0; TEXT_BYTES_MAX].into());
        assert_eq!(row(5, &[NewEvent { value, ..event }]), None);
    }
}
