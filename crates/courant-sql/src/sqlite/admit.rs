//! The inbox: whether an event may be handled, and the row that says it was.
//!
//! One statement looks at all deliveries, one writes the rows of the new ones. An event of the log is
//! also held against the parked ones here, under the write lock: whatever the owner remembers of them,
//! no event overtakes another of its key.

use std::collections::HashSet;

use bytes::Bytes;
use sqlx::{AssertSqlSafe, SqliteConnection};

use super::class::failed;
use super::row::{Columns, on_partition, rows_of_text, signed};
use super::transaction::ParkedDelivery;
use crate::admission::{Known, decide};
use crate::consumer::{Admission, Assignment, Delivery, Outcome, Source};
use crate::error::{AdmitError, StoreError};
use crate::limits::ADMITTED_MAX;

const ADMIT: &str = "look into the inbox";

pub(super) async fn admit(
    connection: &mut SqliteConnection,
    assignment: &Assignment,
    deliveries: &[Delivery<'_>],
    parked: &mut Vec<ParkedDelivery>,
    now_ms: i64,
) -> Result<Vec<Admission>, AdmitError> {
    if deliveries.len() > ADMITTED_MAX {
        return Err(AdmitError::TooMany { events: deliveries.len() });
    }
    if deliveries.is_empty() {
        return Ok(Vec::new());
    }
    let known = look(connection, assignment, deliveries).await?;
    let mut admissions = Vec::with_capacity(deliveries.len());
    let mut new = Vec::new();
    let mut ids = HashSet::new();
    for (delivery, known) in deliveries.iter().zip(known) {
        let admission = if ids.contains(delivery.id) {
            Admission::Seen(Outcome::Handled)
        } else {
            decide(delivery.source, &known)
        };
        if admission == Admission::New {
            ids.insert(delivery.id);
            new.push(*delivery);
        }
        let leaves = matches!(admission, Admission::New | Admission::Seen(_)) && known.parked.is_some();
        if delivery.source == Source::Parked && leaves {
            let key = delivery.key.map(Bytes::copy_from_slice);
            parked.push(ParkedDelivery { offset: delivery.offset, key });
        }
        admissions.push(admission);
    }
    write(connection, assignment, &new, now_ms).await?;
    Ok(admissions)
}

async fn look(
    connection: &mut SqliteConnection,
    assignment: &Assignment,
    deliveries: &[Delivery<'_>],
) -> Result<Vec<Known>, StoreError> {
    let written = rows_of_text(deliveries.len());
    let rows = (0..written).map(|at| {
        let first = 5 + at * 3;
        format!("({at}, ?{first}, ?{}, ?{})", first + 1, first + 2)
    });
    let rows = rows.collect::<Vec<_>>().join(", ");
    let sql = format!(
        "WITH d (n, event_id, event_offset, event_key) AS (VALUES {rows}) \
         SELECT i.outcome, p.state, d.event_key IS NOT NULL AND EXISTS ( \
             SELECT 1 FROM courant_parked k WHERE k.consumer = ?1 AND k.generation = ?2 \
             AND k.topic = ?3 AND k.partition_id = ?4 AND k.event_key = d.event_key) \
         FROM d \
         LEFT JOIN courant_inbox i \
             ON i.consumer = ?1 AND i.generation = ?2 AND i.event_id = d.event_id \
         LEFT JOIN courant_parked p ON p.consumer = ?1 AND p.generation = ?2 AND p.topic = ?3 \
             AND p.partition_id = ?4 AND p.event_offset = d.event_offset \
         ORDER BY d.n"
    );
    // The text is made of numbers of parameters; every value is bound.
    let mut query = on_partition!(AssertSqlSafe(sql), assignment);
    for delivery in deliveries {
        query = query.bind(delivery.id.as_str()).bind(signed(delivery.offset, ADMIT)?).bind(delivery.key);
    }
    for _ in deliveries.len()..written {
        query = query.bind(None::<&str>).bind(None::<i64>).bind(None::<&[u8]>);
    }
    let rows = query.fetch_all(&mut *connection).await.map_err(failed(ADMIT))?;
    if rows.len() != written {
        return Err(StoreError::unreadable(ADMIT, "the inbox has not answered for every delivery"));
    }
    rows.iter().take(deliveries.len()).map(|row| known(Columns::new(row, ADMIT))).collect()
}

fn known(columns: Columns<'_>) -> Result<Known, StoreError> {
    let outcome = match columns.text_or_null(0)? {
        None => None,
        Some(_) => Some(columns.known(0, Outcome::parse)?),
    };
    let parked = columns.text_or_null(1)?.map(|state| state == "waiting");
    Ok(Known { outcome, parked, key_parked: columns.int(2)? != 0 })
}

async fn write(
    connection: &mut SqliteConnection,
    assignment: &Assignment,
    new: &[Delivery<'_>],
    now_ms: i64,
) -> Result<(), StoreError> {
    if new.is_empty() {
        return Ok(());
    }
    let written = rows_of_text(new.len());
    let rows = (0..written).map(|at| format!("(?{})", 4 + at));
    let rows = rows.collect::<Vec<_>>().join(", ");
    let sql = format!(
        "WITH d (event_id) AS (VALUES {rows}) \
         INSERT INTO courant_inbox (consumer, generation, event_id, outcome, settled_ms) \
         SELECT ?1, ?2, d.event_id, 'handled', ?3 FROM d WHERE d.event_id IS NOT NULL \
         ON CONFLICT (consumer, generation, event_id) DO UPDATE \
         SET outcome = excluded.outcome, settled_ms = excluded.settled_ms"
    );
    let mut query = sqlx::query(AssertSqlSafe(sql))
        .bind(assignment.consumer.name.as_str())
        .bind(i64::from(assignment.consumer.generation))
        .bind(now_ms);
    for delivery in new {
        query = query.bind(delivery.id.as_str());
    }
    for _ in new.len()..written {
        query = query.bind(None::<&str>);
    }
    query.execute(&mut *connection).await.map_err(failed(ADMIT))?;
    Ok(())
}
