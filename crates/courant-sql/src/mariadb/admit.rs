//! The inbox: whether an event may be handled, and the row that says it was.
//!
//! One statement looks at all deliveries, a second one writes the rows of the new ones, in the order of
//! their ids. Whoever writes a row that another transaction has written waits for its end; a third statement
//! then reads what that one has left. With `ON DUPLICATE KEY UPDATE` it asks for the row alone from the
//! beginning: a plain INSERT would get it shared first, and two of them would wait for each other. If the
//! one that they wait for is undone, InnoDB may still refuse all but one of them, to try again; but one
//! event is with one owner.
//!
//! One event of the log, which is what most transactions have, is looked at and written by one statement that stands
//! in the text of BEGIN. Where it writes no new row, the event is looked at as all others are.
//!
//! The rows are open until the transaction has proved, in the end, that it is still the one that was begun.

use std::collections::{BTreeSet, HashMap, HashSet};

use bytes::Bytes;
use courant_core::event_id::EventId;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, MySqlConnection};

use super::class::failed;
use super::lists::{self, texts};
use super::owner::quoted;
use super::row::{Columns, signed};
use super::told::Once;
use super::transaction::ParkedDelivery;
use super::{locks, owner};
use crate::admission::{Known, decide};
use crate::consumer::{Admission, Assignment, Consumer, Delivery, Outcome, Source};
use crate::error::{AdmitError, StoreError};
use crate::limits::ADMITTED_MAX;
use crate::parked::Lease;

const ADMIT: &str = "look into the inbox";

/// Deliveries by their numbers; `$[2]` is the hash of a key.
const LOOK: &str = "WITH d AS ( \
        SELECT j.n, j.event_id, j.event_offset, UNHEX(j.hash) AS key_hash FROM JSON_TABLE(?, '$[*]' COLUMNS ( \
            n FOR ORDINALITY, \
            event_id VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin PATH '$[0]', \
            event_offset BIGINT PATH '$[1]', \
            hash VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin PATH '$[2]')) j) \
    SELECT i.outcome, p.state, d.key_hash IS NOT NULL AND EXISTS ( \
        SELECT 1 FROM courant_parked k FORCE INDEX (courant_parked_key) WHERE k.consumer = ? AND k.generation = ? \
        AND k.topic = ? AND k.partition_id = ? AND k.key_hash = d.key_hash) \
    FROM d \
    LEFT JOIN courant_inbox i ON i.consumer = ? AND i.generation = ? AND i.event_id = d.event_id \
    LEFT JOIN courant_parked p ON p.consumer = ? AND p.generation = ? AND p.topic = ? \
        AND p.partition_id = ? AND p.event_offset = d.event_offset \
    ORDER BY d.n";

/// What [`admit`] leaves to the end of the transaction.
#[derive(Debug, Default)]
pub(super) struct Admitted {
    /// Events that are handled if the transaction is committed.
    pub(super) ids: BTreeSet<EventId>,
    /// Parked events that are settled then.
    pub(super) parked: Vec<ParkedDelivery>,
    /// The one of the log whose row was written with BEGIN, where there was none before.
    pub(super) fresh: Option<EventId>,
}

impl Admitted {
    /// [`row`] has written its row.
    pub(super) fn begin_with(&mut self, delivery: &Delivery<'_>) {
        self.ids.insert(delivery.id.clone());
        self.fresh = Some(delivery.id.clone());
    }

    /// The one event that there is, if its row was written with BEGIN.
    pub(super) fn only(&self) -> Option<&EventId> {
        self.fresh.as_ref().filter(|_| self.ids.len() == 1 && self.parked.is_empty())
    }
}

/// See [`row`]: where nothing is parked.
pub(super) const ROW: Once = Once {
    name: "courant_admit",
    sql: "INSERT INTO courant_inbox (consumer, generation, event_id, outcome, settled_ms) \
          SELECT o.consumer, o.generation, ?, 'open', ? FROM courant_owner o \
          WHERE o.consumer = ? AND o.generation = ? AND o.topic = ? AND o.partition_id = ? AND o.epoch = ? \
          ON DUPLICATE KEY UPDATE settled_ms = courant_inbox.settled_ms + 1",
};

/// See [`row`]: where something may be parked.
pub(super) const ROW_UNLESS_PARKED: Once = Once {
    name: "courant_admit_unless_parked",
    sql: "INSERT INTO courant_inbox (consumer, generation, event_id, outcome, settled_ms) \
          SELECT o.consumer, o.generation, ?, 'open', ? FROM courant_owner o \
          WHERE o.consumer = ? AND o.generation = ? AND o.topic = ? AND o.partition_id = ? AND o.epoch = ? \
              AND NOT EXISTS (SELECT 1 FROM courant_parked p FORCE INDEX (PRIMARY) \
                  WHERE p.consumer = ? AND p.generation = ? AND p.topic = ? AND p.partition_id = ? \
                  AND p.event_offset = ?) \
              AND NOT EXISTS (SELECT 1 FROM courant_parked p FORCE INDEX (courant_parked_key) \
                  WHERE p.consumer = ? AND p.generation = ? AND p.topic = ? AND p.partition_id = ? \
                  AND p.key_hash = ?) \
          ON DUPLICATE KEY UPDATE settled_ms = courant_inbox.settled_ms + 1",
};

/// See [`handled`].
pub(super) const HANDLED: Once = Once {
    name: "courant_handled",
    sql: "INSERT INTO courant_inbox (consumer, generation, event_id, outcome, settled_ms) \
          VALUES (?, ?, ?, 'handled', ?) ON DUPLICATE KEY UPDATE outcome = 'handled'",
};

/// What writes the open row of one event of the log, if it is new, nothing of its key is parked, and the lease is the
/// last one: then one row is written, and none or two rows otherwise. In a partition in which nothing is parked nothing
/// is looked for. `None` where there is more than one event, or another one, or one whose id is no plain text.
pub(super) fn row(lease: &Lease, deliveries: &[Delivery<'_>], now_ms: i64) -> Option<String> {
    let [delivery] = deliveries else { return None };
    let id = delivery.id.as_str();
    if delivery.source != Source::Log || !id.bytes().all(is_plain) {
        return None;
    }
    let (id, now, epoch) = (quoted(id), now_ms.to_string(), lease.epoch.to_string());
    let [consumer, generation, topic, partition] = &owner::of_partition(&lease.assignment);
    let mut values = vec![&*id, &now, consumer, generation, topic, partition, &epoch];
    if lease.has_nothing_parked() {
        return Some(ROW.with(&values));
    }
    let offset = i64::try_from(delivery.offset).ok()?.to_string();
    // An event without a key stands behind none: nothing equals NULL.
    let hash = delivery.key.map_or_else(|| "NULL".to_owned(), |key| format!("X'{}'", locks::hash(key)));
    values.extend_from_slice(&[consumer, generation, topic, partition, &offset]);
    values.extend_from_slice(&[consumer, generation, topic, partition, &hash]);
    Some(ROW_UNLESS_PARKED.with(&values))
}

/// What makes that row one of a handled event. Whatever a handler has done to it, it is there then.
pub(super) fn handled(consumer: &Consumer, id: &EventId, now_ms: i64) -> String {
    let (name, generation) = (quoted(consumer.name.as_str()), consumer.generation.to_string());
    HANDLED.with(&[&name, &generation, &quoted(id.as_str()), &now_ms.to_string()])
}

/// A letter that means nothing to the server in a text, however it is set.
pub(super) fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.:/".contains(&byte)
}

pub(super) async fn admit(
    connection: &mut MySqlConnection,
    assignment: &Assignment,
    deliveries: &[Delivery<'_>],
    admitted: &mut Admitted,
    now_ms: i64,
) -> Result<Vec<Admission>, AdmitError> {
    if deliveries.len() > ADMITTED_MAX {
        return Err(AdmitError::TooMany { events: deliveries.len() });
    }
    if deliveries.is_empty() {
        return Ok(Vec::new());
    }
    let mut all = look(connection, assignment, deliveries).await?;
    let fresh = deliveries
        .iter()
        .zip(&all)
        .filter(|(delivery, known)| decide(delivery.source, known) == Admission::New);
    let fresh: BTreeSet<&str> = fresh.map(|(delivery, _)| delivery.id.as_str()).collect();
    let meanwhile = open(connection, &assignment.consumer, &fresh, now_ms).await?;
    for (delivery, known) in deliveries.iter().zip(&mut all) {
        if let Some(outcome) = meanwhile.get(delivery.id.as_str()) {
            known.outcome = *outcome;
        }
    }
    let mut admissions = Vec::with_capacity(deliveries.len());
    let mut ids = HashSet::new();
    for (delivery, known) in deliveries.iter().zip(&all) {
        let admission = match decide(delivery.source, known) {
            _ if ids.contains(delivery.id) => Admission::Seen(Outcome::Handled),
            admission => admission,
        };
        if admission == Admission::New {
            ids.insert(delivery.id);
            admitted.ids.insert(delivery.id.clone());
        }
        let leaves = matches!(admission, Admission::New | Admission::Seen(_)) && known.parked.is_some();
        if delivery.source == Source::Parked && leaves {
            let key = delivery.key.map(Bytes::copy_from_slice);
            admitted.parked.push(ParkedDelivery { offset: delivery.offset, key });
        }
        admissions.push(admission);
    }
    Ok(admissions)
}

/// What the tables say of each delivery.
async fn look(
    connection: &mut MySqlConnection,
    assignment: &Assignment,
    deliveries: &[Delivery<'_>],
) -> Result<Vec<Known>, StoreError> {
    let mut list = Vec::with_capacity(deliveries.len());
    for delivery in deliveries {
        let offset = signed(delivery.offset, ADMIT)?;
        list.push(json!([delivery.id.as_str(), offset, delivery.key.map(locks::hash)]));
    }
    let consumer = assignment.consumer.name.as_str();
    let generation = i64::from(assignment.consumer.generation);
    let topic = assignment.partition.topic.as_str();
    let partition = i64::from(assignment.partition.partition);
    let rows = sqlx::query(LOOK)
        .bind(Value::Array(list).to_string())
        .bind(consumer)
        .bind(generation)
        .bind(topic)
        .bind(partition)
        .bind(consumer)
        .bind(generation)
        .bind(consumer)
        .bind(generation)
        .bind(topic)
        .bind(partition)
        .fetch_all(&mut *connection)
        .await
        .map_err(failed(ADMIT))?;
    if rows.len() != deliveries.len() {
        return Err(StoreError::unreadable(ADMIT, "the inbox has not answered for every delivery"));
    }
    let known = rows.iter().map(|row| {
        let columns = Columns::new(row, ADMIT);
        let parked = columns.text_or_null(1)?.map(|state| state == "waiting");
        Ok(Known { outcome: columns.outcome(0)?, parked, key_parked: columns.int(2)? != 0 })
    });
    known.collect()
}

/// Writes inbox rows, or takes those that are there. How events stand that others have written rows of.
async fn open(
    connection: &mut MySqlConnection,
    consumer: &Consumer,
    ids: &BTreeSet<&str>,
    now_ms: i64,
) -> Result<HashMap<String, Option<Outcome>>, StoreError> {
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    // A row that is there changes by a millisecond, and so is counted twice.
    let sql = format!(
        "INSERT INTO courant_inbox (consumer, generation, event_id, outcome, settled_ms) VALUES {} \
         ON DUPLICATE KEY UPDATE settled_ms = settled_ms + 1",
        vec!["(?, ?, ?, 'open', ?)"; ids.len()].join(", ")
    );
    // The text is made of a number of parameters; every value is bound.
    let mut query = sqlx::query(AssertSqlSafe(sql)).persistent(lists::is_kept(ids.len()));
    for id in ids {
        query =
            query.bind(consumer.name.as_str()).bind(i64::from(consumer.generation)).bind(*id).bind(now_ms);
    }
    let written = query.execute(&mut *connection).await.map_err(failed(ADMIT))?;
    if written.rows_affected() == ids.len() as u64 {
        return Ok(HashMap::new());
    }
    let sql = concat!(
        "SELECT i.event_id, i.outcome FROM ",
        texts!(),
        " JOIN courant_inbox i ON i.consumer = ? AND i.generation = ? AND i.event_id = w.id"
    );
    let rows = sqlx::query(sql)
        .bind(lists::json(ids.iter().copied()))
        .bind(consumer.name.as_str())
        .bind(i64::from(consumer.generation))
        .fetch_all(&mut *connection)
        .await
        .map_err(failed(ADMIT))?;
    let meanwhile = rows.iter().map(|row| {
        let columns = Columns::new(row, ADMIT);
        Ok((columns.text(0)?, columns.outcome(1)?))
    });
    meanwhile.collect()
}

/// The events of a transaction that is still the one that was begun are handled.
pub(super) async fn close(
    connection: &mut MySqlConnection,
    consumer: &Consumer,
    ids: &BTreeSet<EventId>,
    now_ms: i64,
) -> Result<(), StoreError> {
    if ids.is_empty() {
        return Ok(());
    }
    let sql = concat!(
        "UPDATE ",
        texts!(),
        " STRAIGHT_JOIN courant_inbox i FORCE INDEX (PRIMARY) \
         ON i.consumer = ? AND i.generation = ? AND i.event_id = w.id \
         SET i.outcome = 'handled', i.settled_ms = ?"
    );
    let closed = sqlx::query(sql)
        .bind(lists::json(ids.iter().map(EventId::as_str)))
        .bind(consumer.name.as_str())
        .bind(i64::from(consumer.generation))
        .bind(now_ms)
        .execute(&mut *connection)
        .await
        .map_err(failed(ADMIT))?;
    if closed.rows_affected() == ids.len() as u64 {
        return Ok(());
    }
    Err(StoreError::unreadable(ADMIT, "inbox rows of the transaction are missing"))
}

#[cfg(test)]
mod tests {
    use courant_core::consumer::ConsumerName;
    use courant_core::position::TopicPartition;
    use courant_core::topic::TopicName;

    use super::*;

    fn lease() -> Lease {
        let name = ConsumerName::new("billing").expect("a name");
        let topic = TopicName::new("orders").expect("a name");
        let consumer = Consumer { name, generation: 2 };
        Lease::new(Assignment { consumer, partition: TopicPartition { topic, partition: 3 } }, 4)
    }

    fn written(lease: &Lease, id: &str, key: Option<&[u8]>, source: Source) -> Option<String> {
        let id = EventId::new(id).expect("an id");
        row(lease, &[Delivery { id: &id, offset: 7, key, source }], 5)
    }

    /// No letter of an id or of a key stands in the text that could end it.
    #[test]
    fn only_plain_ids_stand_in_a_text() {
        let lease = lease();
        let plain = written(&lease, "0190-a:b_c/d.e", None, Source::Log).expect("it is plain");
        let partition = "'billing', 2, 'orders', 3";
        let values = format!("'0190-a:b_c/d.e', 5, {partition}, 4, {partition}, 7, {partition}, NULL");
        assert_eq!(plain, format!("EXECUTE courant_admit_unless_parked USING {values}"));
        for id in ["e'", "e\\", "e\0", "e ", "e;", "é", "e\n", "\u{2400}", "$$", "\"", "`"] {
            assert_eq!(written(&lease, id, None, Source::Log), None, "{id:?}");
        }
        let keyed = written(&lease, "e", Some(b"'; DROP TABLE bills"), Source::Log).expect("it is plain");
        assert!(keyed.contains(&format!("X'{}'", locks::hash(b"'; DROP TABLE bills"))), "{keyed}");
        assert!(!keyed.contains("DROP"), "{keyed}");
        assert_eq!(written(&lease, "e", None, Source::Parked), None);
    }

    /// Where nothing is parked nothing is looked for, until something is about to be parked under the lease or a copy
    /// of it.
    #[test]
    fn nothing_parked_is_not_looked_for() {
        let lease = lease().with_nothing_parked();
        let text = "EXECUTE courant_admit USING 'e-1', 5, 'billing', 2, 'orders', 3, 4";
        assert_eq!(written(&lease, "e-1", Some(b"k"), Source::Log).as_deref(), Some(text));
        assert_eq!(written(&lease, "e'", None, Source::Log), None);
        assert_eq!(written(&lease, "e-1", None, Source::Parked), None);
        lease.clone().parks();
        let looks = written(&lease, "e-1", None, Source::Log).expect("it is plain");
        assert!(looks.starts_with("EXECUTE courant_admit_unless_parked USING "), "{looks}");
    }
}
