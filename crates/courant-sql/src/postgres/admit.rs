//! The inbox: whether an event may be handled, and the row that says it was.
//!
//! One statement looks at all deliveries and writes the rows of the new ones, in the order of their ids.
//! Whoever writes a row that another transaction has written waits for its end, and is then told that the
//! event is settled. No row of others is touched.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use courant_core::event_id::EventId;
use sha2::{Digest as _, Sha256};
use sqlx::PgConnection;

use super::class::failed;
use super::outbox;
use super::owner::{self, quoted};
use super::row::{Columns, on_partition, signed, text};
use super::told::Once;
use super::transaction::ParkedDelivery;
use crate::admission::{Known, decide};
use crate::consumer::{Admission, Assignment, Delivery, Outcome, Source};
use crate::error::{AdmitError, Class, StoreError};
use crate::limits::ADMITTED_MAX;
use crate::parked::Lease;

const ADMIT: &str = "look into the inbox";

/// The conditions are those of [`decide`]: what it calls new is written.
const LOOK: &str = "WITH d AS ( \
        SELECT * FROM unnest($6::bigint[], $7::text[], $8::bigint[], $9::bytea[], $10::boolean[]) \
            AS d (n, event_id, event_offset, event_key, from_log)), \
    known AS MATERIALIZED ( \
        SELECT d.*, i.outcome, p.state, d.event_key IS NOT NULL AND EXISTS ( \
            SELECT 1 FROM courant_parked k WHERE k.consumer = $1 AND k.generation = $2 \
            AND k.topic = $3 AND k.partition_id = $4 \
            AND sha256(k.event_key) = sha256(d.event_key) AND k.event_key = d.event_key) AS key_parked \
        FROM d \
        LEFT JOIN courant_inbox i ON i.consumer = $1 AND i.generation = $2 AND i.event_id = d.event_id \
        LEFT JOIN courant_parked p ON p.consumer = $1 AND p.generation = $2 AND p.topic = $3 \
            AND p.partition_id = $4 AND p.event_offset = d.event_offset), \
    fresh AS ( \
        INSERT INTO courant_inbox (consumer, generation, event_id, outcome, settled_ms) \
        SELECT $1, $2, event_id, 'handled', $5 FROM known WHERE outcome IS NULL \
            AND CASE WHEN from_log THEN state IS NULL AND NOT key_parked ELSE state = 'waiting' END \
        ORDER BY event_id \
        ON CONFLICT (consumer, generation, event_id) DO NOTHING RETURNING event_id), \
    again AS ( \
        UPDATE courant_inbox i SET outcome = 'handled', settled_ms = $5 FROM known k \
        WHERE i.consumer = $1 AND i.generation = $2 AND i.event_id = k.event_id AND i.outcome = 'dead' \
            AND k.outcome = 'dead' AND NOT k.from_log AND k.state = 'waiting' \
        RETURNING i.event_id) \
    SELECT k.outcome, k.state, k.key_parked::int::bigint, \
        (EXISTS (SELECT 1 FROM fresh f WHERE f.event_id = k.event_id) \
            OR EXISTS (SELECT 1 FROM again a WHERE a.event_id = k.event_id))::int::bigint \
    FROM known k ORDER BY k.n";

/// For one event of the log, which is what most transactions have: its row, if [`LOOK`] would write one.
/// Why there is none it does not say.
const ONE: &str = "INSERT INTO courant_inbox (consumer, generation, event_id, outcome, settled_ms) \
    SELECT $1, $2, $6, 'handled', $5 \
    WHERE NOT EXISTS (SELECT 1 FROM courant_parked p WHERE p.consumer = $1 AND p.generation = $2 \
        AND p.topic = $3 AND p.partition_id = $4 AND p.event_offset = $7) \
    AND NOT EXISTS (SELECT 1 FROM courant_parked k WHERE k.consumer = $1 AND k.generation = $2 \
        AND k.topic = $3 AND k.partition_id = $4 \
        AND sha256(k.event_key) = sha256($8) AND k.event_key = $8) \
    ON CONFLICT (consumer, generation, event_id) DO NOTHING";

/// What stands behind BEGIN where one event of the log is to be handled: what holds the partition, and writes the
/// event's inbox row as its last statement.
pub(super) struct First {
    /// What the connection has to be told for it, and for what ends it.
    pub(super) once: &'static [Once],
    pub(super) text: String,
}

/// [`First`] of one event. `None` where there is more than one, or another one, or one whose id is no plain text.
pub(super) fn first(
    lease: &Lease,
    transaction: u64,
    deliveries: &[Delivery<'_>],
    now_ms: i64,
) -> Option<First> {
    let [delivery] = deliveries else { return None };
    let id = delivery.id.as_str();
    if delivery.source != Source::Log || !id.bytes().all(is_plain) {
        return None;
    }
    if lease.has_nothing_parked() {
        let text = owner::hold_and_admit(lease, transaction, id, now_ms);
        return Some(First { once: &[Once::Begin, Once::Write], text });
    }
    let row = row(&lease.assignment, delivery, now_ms)?;
    let text = format!("{}; {row}", owner::hold_for(lease, transaction));
    Some(First { once: &[Once::Hold, Once::Admit, Once::Write], text })
}

/// What writes the inbox row of an event with a plain id, if that may be, on a connection that was told
/// [`Once::Admit`].
fn row(assignment: &Assignment, delivery: &Delivery<'_>, now_ms: i64) -> Option<String> {
    let offset = i64::try_from(delivery.offset).ok()?;
    let key = delivery.key.map(Sha256::digest);
    let key = outbox::in_digits(key.as_deref());
    Some(format!(
        "EXECUTE courant_admit ({}, {}, {}, {}, {now_ms}, '{}', {offset}, {key})",
        quoted(assignment.consumer.name.as_str()),
        assignment.consumer.generation,
        quoted(assignment.partition.topic.as_str()),
        assignment.partition.partition,
        delivery.id.as_str(),
    ))
}

/// A letter that means nothing to the server in a text, however it is set.
pub(super) fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.:/".contains(&byte)
}

pub(super) async fn admit(
    connection: &mut PgConnection,
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
    if let [delivery] = deliveries
        && delivery.source == Source::Log
        && is_written(connection, assignment, delivery, now_ms).await?
    {
        return Ok(vec![Admission::New]);
    }
    let looked = look(connection, assignment, deliveries, now_ms).await?;
    let overtaken = deliveries.iter().zip(&looked).filter(|(delivery, looked)| {
        decide(delivery.source, &looked.known) == Admission::New && !looked.is_written
    });
    let overtaken: Vec<&EventId> = overtaken.map(|(delivery, _)| delivery.id).collect();
    let settled = settled(connection, assignment, &overtaken).await?;
    let mut admissions = Vec::with_capacity(deliveries.len());
    let mut ids = HashSet::new();
    for (delivery, looked) in deliveries.iter().zip(&looked) {
        let admission = match decide(delivery.source, &looked.known) {
            _ if ids.contains(delivery.id) => Admission::Seen(Outcome::Handled),
            Admission::New if !looked.is_written => {
                Admission::Seen(settled.get(delivery.id).copied().ok_or_else(undecided)?)
            }
            admission => admission,
        };
        if admission == Admission::New {
            ids.insert(delivery.id);
        }
        let leaves =
            matches!(admission, Admission::New | Admission::Seen(_)) && looked.known.parked.is_some();
        if delivery.source == Source::Parked && leaves {
            let key = delivery.key.map(Bytes::copy_from_slice);
            parked.push(ParkedDelivery { offset: delivery.offset, key });
        }
        admissions.push(admission);
    }
    Ok(admissions)
}

async fn is_written(
    connection: &mut PgConnection,
    assignment: &Assignment,
    delivery: &Delivery<'_>,
    now_ms: i64,
) -> Result<bool, StoreError> {
    let written = on_partition!(ONE, assignment)
        .bind(now_ms)
        .bind(&*text(delivery.id.as_str()))
        .bind(signed(delivery.offset, ADMIT)?)
        .bind(delivery.key)
        .execute(&mut *connection)
        .await
        .map_err(failed(ADMIT))?;
    Ok(written.rows_affected() == 1)
}

/// An inbox row was in the way and is gone again: forgotten at this very moment. The next attempt will
/// know.
fn undecided() -> StoreError {
    let why = sqlx::Error::Protocol("an inbox row was forgotten meanwhile".to_owned());
    StoreError::new(ADMIT, Class::Busy, why)
}

/// What the tables say of one delivery.
struct Looked {
    known: Known,
    /// Whether its inbox row was written.
    is_written: bool,
}

async fn look(
    connection: &mut PgConnection,
    assignment: &Assignment,
    deliveries: &[Delivery<'_>],
    now_ms: i64,
) -> Result<Vec<Looked>, StoreError> {
    let numbers: Vec<i64> = (0_i64..).take(deliveries.len()).collect();
    let ids: Vec<Cow<'_, str>> = deliveries.iter().map(|delivery| text(delivery.id.as_str())).collect();
    let ids: Vec<&str> = ids.iter().map(|id| &**id).collect();
    let offsets =
        deliveries.iter().map(|delivery| signed(delivery.offset, ADMIT)).collect::<Result<Vec<i64>, _>>()?;
    let keys: Vec<Option<&[u8]>> = deliveries.iter().map(|delivery| delivery.key).collect();
    let from_log: Vec<bool> = deliveries.iter().map(|delivery| delivery.source == Source::Log).collect();
    let rows = on_partition!(LOOK, assignment)
        .bind(now_ms)
        .bind(&numbers[..])
        .bind(&ids[..])
        .bind(&offsets[..])
        .bind(&keys[..])
        .bind(&from_log[..])
        .fetch_all(&mut *connection)
        .await
        .map_err(failed(ADMIT))?;
    if rows.len() != deliveries.len() {
        return Err(StoreError::unreadable(ADMIT, "the inbox has not answered for every delivery"));
    }
    rows.iter().map(|row| looked(Columns::new(row, ADMIT))).collect()
}

fn looked(columns: Columns<'_>) -> Result<Looked, StoreError> {
    let outcome = match columns.text_or_null(0)? {
        None => None,
        Some(_) => Some(columns.known(0, Outcome::parse)?),
    };
    let parked = columns.text_or_null(1)?.map(|state| state == "waiting");
    let known = Known { outcome, parked, key_parked: columns.int(2)? != 0 };
    Ok(Looked { known, is_written: columns.int(3)? != 0 })
}

/// How events were settled that another transaction has settled while this one waited for it. A
/// statement of its own sees it.
async fn settled<'a>(
    connection: &mut PgConnection,
    assignment: &Assignment,
    overtaken: &[&'a EventId],
) -> Result<HashMap<&'a EventId, Outcome>, StoreError> {
    if overtaken.is_empty() {
        return Ok(HashMap::new());
    }
    let ids: Vec<Cow<'_, str>> = overtaken.iter().map(|id| text(id.as_str())).collect();
    let ids: Vec<&str> = ids.iter().map(|id| &**id).collect();
    let sql = "SELECT w.n, i.outcome FROM unnest($3::text[]) WITH ORDINALITY AS w (event_id, n) \
               JOIN courant_inbox i ON i.consumer = $1 AND i.generation = $2 AND i.event_id = w.event_id";
    let rows = sqlx::query(sql)
        .bind(assignment.consumer.name.as_str())
        .bind(i64::from(assignment.consumer.generation))
        .bind(&ids[..])
        .fetch_all(&mut *connection)
        .await
        .map_err(failed(ADMIT))?;
    let mut settled = HashMap::new();
    for row in &rows {
        let columns = Columns::new(row, ADMIT);
        let number: usize = columns.number(0)?;
        if let Some(id) = number.checked_sub(1).and_then(|at| overtaken.get(at)) {
            settled.insert(*id, columns.known(1, Outcome::parse)?);
        }
    }
    Ok(settled)
}

#[cfg(test)]
mod tests {
    use courant_core::consumer::ConsumerName;
    use courant_core::position::TopicPartition;
    use courant_core::topic::TopicName;

    use super::super::locks;
    use super::*;
    use crate::consumer::Consumer;

    fn lease() -> Lease {
        let name = ConsumerName::new("billing").expect("a name");
        let topic = TopicName::new("orders").expect("a name");
        let consumer = Consumer { name, generation: 2 };
        Lease::new(Assignment { consumer, partition: TopicPartition { topic, partition: 3 } }, 4)
    }

    fn begun(lease: &Lease, id: &str, key: Option<&[u8]>, source: Source) -> Option<String> {
        let id = EventId::new(id).expect("an id");
        first(lease, 9, &[Delivery { id: &id, offset: 7, key, source }], 5).map(|first| first.text)
    }

    /// The statement that writes the inbox row.
    fn written(id: &str, key: Option<&[u8]>, source: Source) -> Option<String> {
        let text = begun(&lease(), id, key, source)?;
        text.split_once("; ").map(|(_, row)| row.to_owned())
    }

    /// No letter of an id or of a key stands in the text that could end it.
    #[test]
    fn only_plain_ids_stand_in_a_text() {
        let plain = written("0190-a:b_c/d.e", None, Source::Log).expect("it is plain");
        assert_eq!(plain, "EXECUTE courant_admit ('billing', 2, 'orders', 3, 5, '0190-a:b_c/d.e', 7, NULL)");
        for id in ["e'", "e\\", "e\0", "e ", "e;", "é", "e\n", "\u{2400}", "$$", "\""] {
            assert_eq!(written(id, None, Source::Log), None, "{id:?}");
        }
        let keyed = written("e", Some(b"'; DROP TABLE bills"), Source::Log).expect("it is plain");
        let digits = keyed.split_once(r"E'\\x").and_then(|(_, rest)| rest.split_once("')"));
        let (digits, rest) = digits.expect("the key's SHA-256");
        assert!(digits.len() == 64 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()), "{keyed}");
        assert_eq!(rest, "");
        assert_eq!(written("e", None, Source::Parked), None);
    }

    /// Where nothing is parked nothing is looked for, until something is about to be parked under the lease or a copy
    /// of it.
    #[test]
    fn nothing_parked_is_not_looked_for() {
        let lease = lease().with_nothing_parked();
        let number = locks::partition(&lease.assignment);
        let text =
            format!("EXECUTE courant_begin ({number}, 'billing', 2, 'orders', 3, 4, '9', NULL, 5, 'e-1')");
        assert_eq!(begun(&lease, "e-1", Some(b"k"), Source::Log), Some(text));
        assert_eq!(begun(&lease, "e'", None, Source::Log), None);
        assert_eq!(begun(&lease, "e-1", None, Source::Parked), None);
        lease.clone().parks();
        let looks = begun(&lease, "e-1", None, Source::Log).expect("it is plain");
        assert!(looks.starts_with("EXECUTE courant_hold (") && looks.contains("; EXECUTE courant_admit ("));
    }
}
