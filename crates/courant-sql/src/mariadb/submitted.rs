//! The second door: committed rows of `courant_outbox_submit` become events of the outbox.
//!
//! A statement at READ COMMITTED sees what was committed before it began, so of two transactions the
//! later one is never seen without the earlier one; the numbers give the order, and the deletion keeps
//! what is done apart from what is not. A row that is committed later is seen later, whatever its number
//! is. Rows that somebody is writing are neither waited for nor locked.

use sqlx::MySqlConnection;

use super::class::failed;
use super::lists::{self, numbers};
use super::relay::held;
use super::row::Columns;
use super::{Mariadb, outbox};
use crate::error::{AdvanceError, Class, StoreError};
use crate::limits::LISTED_MAX;
use crate::outbox::RelayLease;
use crate::submitted::{RefusedEvent, Row, Sequenced, Sequencing, sort};

const SEQUENCE: &str = "take in what other programs submitted";
const READ: &str = "read what was refused";

/// Texts are read as the bytes that they are, and rows that are too large not at all.
const ROWS: &str = "WITH near AS ( \
        SELECT id, OCTET_LENGTH(topic) + COALESCE(OCTET_LENGTH(event_key), 0) \
            + COALESCE(OCTET_LENGTH(event_value), 0) + COALESCE(OCTET_LENGTH(event_type), 0) \
            + COALESCE(OCTET_LENGTH(event_id), 0) + COALESCE(OCTET_LENGTH(event_source), 0) \
            + COALESCE(OCTET_LENGTH(headers), 0) + COALESCE(OCTET_LENGTH(key_bytes), 0) \
            + COALESCE(OCTET_LENGTH(value_bytes), 0) AS size \
        FROM courant_outbox_submit ORDER BY id LIMIT ?), \
    sized AS ( \
        SELECT id, size, size <= ? AS fits, SUM(LEAST(size, ?)) OVER (ORDER BY id) - LEAST(size, ?) AS ahead \
        FROM near) \
    SELECT s.id, z.size, CASE WHEN z.fits THEN CAST(s.topic AS BINARY) END, \
        CASE WHEN z.fits THEN COALESCE(s.key_bytes, CAST(s.event_key AS BINARY)) END, \
        CASE WHEN z.fits THEN COALESCE(s.value_bytes, CAST(s.event_value AS BINARY)) END, \
        s.event_value IS NOT NULL, CASE WHEN z.fits THEN CAST(s.event_type AS BINARY) END, \
        CASE WHEN z.fits THEN CAST(s.event_id AS BINARY) END, \
        CASE WHEN z.fits THEN CAST(s.event_source AS BINARY) END, \
        CASE WHEN z.fits THEN CAST(s.headers AS BINARY) END, s.timestamp_ms \
    FROM sized z STRAIGHT_JOIN courant_outbox_submit s FORCE INDEX (PRIMARY) ON s.id = z.id \
    WHERE z.ahead < ? ORDER BY z.id";

pub(super) async fn sequence(
    store: &Mariadb,
    lease: &RelayLease,
    sequencing: &Sequencing<'_>,
    now_ms: i64,
) -> Result<Sequenced, AdvanceError> {
    if !anything(store).await? {
        return Ok(Sequenced::default());
    }
    let mut session = store.relaying(SEQUENCE).await?;
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

/// Looks without a transaction that writes: mostly there is nothing.
async fn anything(store: &Mariadb) -> Result<bool, StoreError> {
    let mut session = store.reader().await?;
    let row = sqlx::query("SELECT EXISTS (SELECT 1 FROM courant_outbox_submit)")
        .fetch_one(&mut *session)
        .await
        .map_err(failed(SEQUENCE))?;
    session.give_back();
    Ok(Columns::new(&row, SEQUENCE).int(0)? == 1)
}

async fn read(connection: &mut MySqlConnection, sequencing: &Sequencing<'_>) -> Result<Vec<Row>, StoreError> {
    let row_bytes = sequencing.row_bytes();
    let rows = sqlx::query(ROWS)
        .bind(sequencing.rows())
        .bind(row_bytes)
        .bind(row_bytes)
        .bind(row_bytes)
        .bind(sequencing.bytes())
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
    connection: &mut MySqlConnection,
    refused: &[(i64, String)],
    now_ms: i64,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO courant_outbox_refused (submit_id, topic, event_key, event_value, event_type, \
                   event_id, event_source, headers, timestamp_ms, key_bytes, value_bytes, reason, refused_ms) \
               SELECT s.id, s.topic, s.event_key, s.event_value, s.event_type, s.event_id, s.event_source, \
                   s.headers, s.timestamp_ms, s.key_bytes, s.value_bytes, r.reason, ? \
               FROM JSON_TABLE(?, '$[*]' COLUMNS ( \
                   id BIGINT PATH '$[0]', \
                   reason LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin PATH '$[1]')) r \
               JOIN courant_outbox_submit s ON s.id = r.id ORDER BY s.id";
    sqlx::query(sql)
        .bind(now_ms)
        .bind(serde_json::json!(refused).to_string())
        .execute(&mut *connection)
        .await
        .map_err(failed(SEQUENCE))?;
    Ok(())
}

/// Deletes exactly the rows that were read, by their numbers: a row that was committed in the meantime
/// stays, whatever its number is.
async fn take_out(connection: &mut MySqlConnection, ids: &[i64]) -> Result<(), StoreError> {
    if ids.is_empty() {
        return Ok(());
    }
    let sql = concat!(
        "DELETE s FROM ",
        numbers!(),
        " STRAIGHT_JOIN courant_outbox_submit s FORCE INDEX (PRIMARY) ON s.id = w.id"
    );
    let gone = sqlx::query(sql)
        .bind(lists::json(ids.iter().copied()))
        .execute(&mut *connection)
        .await
        .map_err(failed(SEQUENCE))?;
    if gone.rows_affected() == ids.len() as u64 {
        return Ok(());
    }
    let said = sqlx::Error::Protocol("somebody else has deleted submitted rows".to_owned());
    Err(StoreError::new(SEQUENCE, Class::Busy, said))
}

pub(super) async fn refused(
    store: &Mariadb,
    after: i64,
    limit: u32,
) -> Result<Vec<RefusedEvent>, StoreError> {
    let mut session = store.reader().await?;
    let sql = "SELECT id, submit_id, SUBSTRING(CAST(topic AS BINARY), 1, 249), reason, refused_ms \
               FROM courant_outbox_refused WHERE id > ? ORDER BY id LIMIT ?";
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
