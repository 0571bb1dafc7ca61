//! The outbox: positions are given directly before COMMIT, under the locks of their lanes' rows, so a
//! lane has no gaps and the order of its positions is the order of the commits.
//!
//! Whoever wants several lanes takes them in their order, so that nobody waits in a circle. An UPDATE goes
//! on from the position that the one it has waited for has committed, and the positions are read back
//! under its locks.

use std::collections::BTreeMap;

use sqlx::{AssertSqlSafe, MySqlConnection};

use super::admit::is_plain;
use super::class::failed;
use super::lists;
use super::owner::quoted;
use super::row::{Columns, signed};
use super::told::Once;
use crate::error::StoreError;
use crate::headers::{self, hex};
use crate::outbox::NewEvent;

const FLUSH: &str = "write the outbox";

/// Most bytes of an event that stands in the text of a commit, where each takes two letters.
const TEXT_BYTES_MAX: usize = 8 * 1024;

/// Gives the next position of a lane.
pub(super) const LANE: Once = Once {
    name: "courant_lane",
    sql: "UPDATE courant_outbox_lane FORCE INDEX (PRIMARY) SET position = position + 1 WHERE lane = ?",
};

/// Writes an event at it.
pub(super) const EVENT: Once = Once {
    name: "courant_publish",
    sql: "INSERT INTO courant_outbox (lane, position, event_id, topic, event_key, event_value, headers, \
              timestamp_ms, bytes) \
          VALUES (?, (SELECT l.position FROM courant_outbox_lane l WHERE l.lane = ?), ?, ?, ?, ?, ?, ?, ?)",
};

/// What writes the one event that a transaction publishes: two statements. The second one takes the position that
/// the first one has given, and is refused where its lane has no row. Nothing of the event stands in them that could
/// end a text. `None` where there is more than one, or a large one, or one whose id is no plain text.
pub(super) fn row(events: &[NewEvent]) -> Option<String> {
    let [event] = events else { return None };
    let (id, bytes, lane) = (event.id.as_str(), event.bytes(), event.lane());
    if bytes > TEXT_BYTES_MAX || !id.bytes().all(is_plain) {
        return None;
    }
    let digits =
        |bytes: Option<&[u8]>| bytes.map_or_else(|| "NULL".to_owned(), |bytes| format!("X'{}'", hex(bytes)));
    let lane = lane.to_string();
    let row = EVENT.with(&[
        &lane,
        &lane,
        &quoted(id),
        &quoted(event.topic.as_str()),
        &digits(event.key.as_deref()),
        &digits(event.value.as_deref()),
        &format!("_utf8mb4 X'{}'", hex(headers::encode(&event.headers).as_bytes())),
        &event.timestamp_ms.to_string(),
        &bytes.to_string(),
    ]);
    Some(format!("{}; {row}", LANE.with(&[&lane])))
}

/// Gives positions to what a transaction publishes, and writes it. The lanes, in order. What the handler
/// has done with the transaction was looked at before: outside of one, each statement would be committed.
pub(super) async fn flush(
    connection: &mut MySqlConnection,
    events: &[NewEvent],
) -> Result<Vec<u16>, StoreError> {
    if events.is_empty() {
        return Ok(Vec::new());
    }
    let mut counts: BTreeMap<u16, i64> = BTreeMap::new();
    for event in events {
        *counts.entry(event.lane()).or_default() += 1;
    }
    let mut last = move_on(connection, &counts).await?;
    let mut placed = Vec::with_capacity(events.len());
    for event in events {
        let lane = event.lane();
        let position = last.entry(lane).or_default();
        *position += 1;
        placed.push(Placed { lane, position: *position, event });
    }
    for piece in lists::pieces(&placed, |placed| placed.event.bytes()) {
        insert(connection, piece).await?;
    }
    Ok(counts.into_keys().collect())
}

/// An event and its place.
struct Placed<'a> {
    lane: u16,
    position: i64,
    event: &'a NewEvent,
}

/// Locks lanes, moves them on by as many positions as are wanted, and says where they were.
async fn move_on(
    connection: &mut MySqlConnection,
    counts: &BTreeMap<u16, i64>,
) -> Result<BTreeMap<u16, i64>, StoreError> {
    let cases: Vec<String> =
        counts.iter().map(|(lane, events)| format!("WHEN {lane} THEN {events}")).collect();
    let lanes: Vec<String> = counts.keys().map(u16::to_string).collect();
    let (cases, lanes) = (cases.join(" "), lanes.join(", "));
    let sql = format!(
        "UPDATE courant_outbox_lane FORCE INDEX (PRIMARY) \
         SET position = position + CASE lane {cases} ELSE 0 END WHERE lane IN ({lanes}) ORDER BY lane; \
         SELECT lane, position FROM courant_outbox_lane WHERE lane IN ({lanes})"
    );
    // The text is made of numbers and nothing else.
    let rows = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(&mut *connection).await.map_err(failed(FLUSH))?;
    let mut before = BTreeMap::new();
    for row in &rows {
        let columns = Columns::new(row, FLUSH);
        let (lane, position): (u16, i64) = (columns.number(0)?, columns.int(1)?);
        before.insert(lane, position - counts.get(&lane).copied().unwrap_or_default());
    }
    if before.len() == counts.len() {
        return Ok(before);
    }
    Err(StoreError::unreadable(FLUSH, "lanes of the outbox are missing"))
}

async fn insert(connection: &mut MySqlConnection, placed: &[Placed<'_>]) -> Result<(), StoreError> {
    let sql = format!(
        "INSERT INTO courant_outbox (lane, position, event_id, topic, event_key, event_value, headers, \
         timestamp_ms, bytes) VALUES {}",
        lists::rows(placed.len(), 9)
    );
    // The text is made of a number of parameters; every value is bound.
    let mut query = sqlx::query(AssertSqlSafe(sql)).persistent(lists::is_kept(placed.len()));
    for Placed { lane, position, event } in placed {
        query = query
            .bind(i64::from(*lane))
            .bind(*position)
            .bind(event.id.as_str())
            .bind(event.topic.as_str())
            .bind(event.key.as_deref())
            .bind(event.value.as_deref())
            .bind(headers::encode(&event.headers))
            .bind(event.timestamp_ms)
            .bind(signed(event.bytes() as u64, FLUSH)?);
    }
    query.execute(&mut *connection).await.map_err(failed(FLUSH))?;
    Ok(())
}
