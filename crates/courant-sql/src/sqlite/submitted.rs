//! The second door: committed rows of `courant_outbox_submit` become events of the outbox, under the
//! write lock. SQLite has one writer, so the order of the numbers is the order of the commits.

use sqlx::SqliteConnection;

use super::Sqlite;
use super::class::failed;
use super::outbox::{self, held};
use super::row::{Columns, json_numbers, signed};
use crate::error::{AdvanceError, Class, StoreError};
use crate::limits::LISTED_MAX;
use crate::outbox::{RelayLease, RelayState};
use crate::submitted::{RefusedEvent, Row, Sequenced, Sequencing, sort};

const SEQUENCE: &str = "take in what other programs submitted";
const READ: &str = "read what was refused";
const KEEP: &str = "show that a relay is there";

/// Texts are read as the bytes that they are, and rows that are too large not at all.
const ROWS: &str = "WITH near AS ( \
        SELECT id, octet_length(topic) + COALESCE(octet_length(event_key), 0) \
            + COALESCE(octet_length(event_value), 0) + COALESCE(octet_length(event_type), 0) \
            + COALESCE(octet_length(event_id), 0) + COALESCE(octet_length(event_source), 0) \
            + COALESCE(octet_length(headers), 0) + COALESCE(octet_length(key_bytes), 0) \
            + COALESCE(octet_length(value_bytes), 0) AS size \
        FROM courant_outbox_submit ORDER BY id LIMIT ?1), \
    sized AS ( \
        SELECT id, size, size <= ?3 AS fits, SUM(MIN(size, ?3)) OVER (ORDER BY id) - MIN(size, ?3) AS ahead \
        FROM near) \
    SELECT s.id, z.size, CASE WHEN z.fits THEN CAST(s.topic AS BLOB) END, \
        CASE WHEN z.fits THEN COALESCE(s.key_bytes, CAST(s.event_key AS BLOB)) END, \
        CASE WHEN z.fits THEN COALESCE(s.value_bytes, CAST(s.event_value AS BLOB)) END, \
        s.event_value IS NOT NULL, CASE WHEN z.fits THEN CAST(s.event_type AS BLOB) END, \
        CASE WHEN z.fits THEN CAST(s.event_id AS BLOB) END, \
        CASE WHEN z.fits THEN CAST(s.event_source AS BLOB) END, \
        CASE WHEN z.fits THEN CAST(s.headers AS BLOB) END, s.timestamp_ms \
    FROM sized z CROSS JOIN courant_outbox_submit s ON s.id = z.id \
    WHERE z.ahead < ?2 ORDER BY z.id";

pub(super) async fn sequence(
    store: &Sqlite,
    lease: &RelayLease,
    sequencing: &Sequencing<'_>,
    now_ms: i64,
) -> Result<Sequenced, AdvanceError> {
    if !anything(store).await? {
        return Ok(Sequenced::default());
    }
    let mut session = store.writer(SEQUENCE).await?;
    held(&mut session, lease).await?;
    let rows = read(&mut session, sequencing).await?;
    let sorted = sort(rows, sequencing, now_ms);
    if !sorted.refused.is_empty() {
        refuse(&mut session, &sorted.refused, now_ms).await?;
    }
    take_out(&mut session, &sorted.ids).await?;
    let lanes = outbox::flush(&mut session, &sorted.events).await?;
    session.commit().await.map_err(failed(SEQUENCE))?;
    Ok(Sequenced { events: sorted.events.len() as u64, lanes, refused: sorted.refused })
}

/// Looks without the write lock: mostly there is nothing.
async fn anything(store: &Sqlite) -> Result<bool, StoreError> {
    let mut session = store.reader().await?;
    let row = sqlx::query("SELECT EXISTS (SELECT 1 FROM courant_outbox_submit)")
        .fetch_one(&mut *session)
        .await
        .map_err(failed(SEQUENCE))?;
    session.give_back();
    Ok(Columns::new(&row, SEQUENCE).int(0)? == 1)
}

async fn read(
    connection: &mut SqliteConnection,
    sequencing: &Sequencing<'_>,
) -> Result<Vec<Row>, StoreError> {
    let rows = sqlx::query(ROWS)
        .bind(sequencing.rows())
        .bind(sequencing.bytes())
        .bind(sequencing.row_bytes())
        .fetch_all(&mut *connection)
        .await
        .map_err(failed(SEQUENCE))?;
    rows.iter().map(|row| submitted(Columns::new(row, SEQUENCE))).collect()
}

fn submitted(columns: Columns<'_>) -> Result<Row, StoreError> {
    Ok(Row {
        id: columns.int(0)?,
        bytes: columns.int(1)?,
        topic: columns.bytes_or_null(2)?,
        key: columns.bytes_or_null(3)?,
        value: columns.bytes_or_null(4)?,
        is_text: columns.int(5)? == 1,
        event_type: columns.bytes_or_null(6)?,
        event_id: columns.bytes_or_null(7)?,
        event_source: columns.bytes_or_null(8)?,
        headers: columns.bytes_or_null(9)?,
        timestamp_ms: columns.int_or_null(10)?,
    })
}

async fn refuse(
    connection: &mut SqliteConnection,
    refused: &[(i64, String)],
    now_ms: i64,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO courant_outbox_refused (submit_id, topic, event_key, event_value, event_type, \
                   event_id, event_source, headers, timestamp_ms, key_bytes, value_bytes, reason, refused_ms) \
               SELECT s.id, s.topic, s.event_key, s.event_value, s.event_type, s.event_id, s.event_source, \
                   s.headers, s.timestamp_ms, s.key_bytes, s.value_bytes, json_extract(r.value, '$[1]'), ?2 \
               FROM json_each(?1) r JOIN courant_outbox_submit s ON s.id = json_extract(r.value, '$[0]') \
               ORDER BY s.id";
    sqlx::query(sql)
        .bind(serde_json::json!(refused).to_string())
        .bind(now_ms)
        .execute(&mut *connection)
        .await
        .map_err(failed(SEQUENCE))?;
    Ok(())
}

/// Deletes exactly the rows that were read, by their numbers: a row that was committed in the meantime
/// stays, whatever its number is.
async fn take_out(connection: &mut SqliteConnection, ids: &[i64]) -> Result<(), StoreError> {
    let sql = "DELETE FROM courant_outbox_submit WHERE id IN (SELECT value FROM json_each(?1))";
    let gone =
        sqlx::query(sql).bind(json_numbers(ids)).execute(&mut *connection).await.map_err(failed(SEQUENCE))?;
    if gone.rows_affected() == ids.len() as u64 {
        return Ok(());
    }
    let said = sqlx::Error::Protocol("somebody else has deleted submitted rows".to_owned());
    Err(StoreError::new(SEQUENCE, Class::Busy, said))
}

pub(super) async fn refused(store: &Sqlite, after: i64, limit: u32) -> Result<Vec<RefusedEvent>, StoreError> {
    let mut session = store.reader().await?;
    let sql = "SELECT id, submit_id, CAST(substr(CAST(topic AS BLOB), 1, 249) AS BLOB), reason, refused_ms \
               FROM courant_outbox_refused WHERE id > ?1 ORDER BY id LIMIT ?2";
    let rows = sqlx::query(sql)
        .bind(after)
        .bind(i64::from(limit.min(LISTED_MAX)))
        .fetch_all(&mut *session)
        .await
        .map_err(failed(READ))?;
    session.give_back();
    let refused = rows.iter().map(|row| {
        let columns = Columns::new(row, READ);
        Ok(RefusedEvent {
            id: columns.int(0)?,
            submit_id: columns.int(1)?,
            topic: String::from_utf8_lossy(&columns.bytes_or_null(2)?.unwrap_or_default()).into_owned(),
            reason: columns.text(3)?,
            refused_ms: columns.int(4)?,
        })
    });
    refused.collect()
}

pub(super) async fn relay(store: &Sqlite, shard: &str) -> Result<Option<RelayState>, StoreError> {
    let mut session = store.reader().await?;
    let row = sqlx::query("SELECT epoch, owner, taken_ms, beat FROM courant_relay WHERE shard = ?1")
        .bind(shard)
        .fetch_optional(&mut *session)
        .await
        .map_err(failed(KEEP))?;
    session.give_back();
    let Some(row) = row else { return Ok(None) };
    let columns = Columns::new(&row, KEEP);
    Ok(Some(RelayState {
        epoch: columns.number(0)?,
        owner: columns.text(1)?,
        taken_ms: columns.int(2)?,
        beat: columns.number(3)?,
    }))
}

pub(super) async fn keep_relay(
    store: &Sqlite,
    lease: &RelayLease,
    is_resting: bool,
) -> Result<(), AdvanceError> {
    let mut session = store.writer(KEEP).await?;
    let sql = "UPDATE courant_relay SET beat = beat + 1, resting = ?2 WHERE shard = ?1 AND epoch = ?3";
    let kept = sqlx::query(sql)
        .bind(lease.shard.as_str())
        .bind(i64::from(is_resting))
        .bind(signed(lease.epoch, KEEP)?)
        .execute(&mut *session)
        .await
        .map_err(failed(KEEP))?;
    if kept.rows_affected() == 0 {
        // Says whose it is.
        held(&mut session, lease).await?;
    }
    session.commit().await.map_err(failed(KEEP))?;
    Ok(())
}
