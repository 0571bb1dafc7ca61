//! On disk: which rows of `courant_slot` are locked for what, by which programs of different versions keep
//! out of each other's way. `docs/formats/store.md` describes them.
//!
//! The lock of a transaction is a row, and a key that nothing waits for has none. So there are rows that
//! stand for any: whoever wants several locks takes all of them in one statement, in order. Two keys may
//! share a slot; they then wait for each other, never in a circle.

use std::collections::BTreeSet;

use sha2::{Digest as _, Sha256};
use sqlx::{AssertSqlSafe, MySqlConnection};

use super::class::failed;
use crate::consumer::Assignment;
use crate::error::StoreError;
use crate::headers::hex;
use crate::timer::TimerName;

/// Held by whoever decides about dead letters: requests, cancellations, closing and forgetting take
/// turns. It comes before those of keys.
pub(super) const DECISIONS: u64 = 0;

/// How many slots keys and names share, from 1 on. Fixed when the tables are installed.
const SHARED: u64 = 1024;

/// Held by whoever changes which events of a key are parked, or whose turn it is.
pub(super) fn key(assignment: &Assignment, key: &[u8]) -> u64 {
    slot(&[
        b"key",
        assignment.consumer.name.as_str().as_bytes(),
        &assignment.consumer.generation.to_be_bytes(),
        assignment.partition.topic.as_str().as_bytes(),
        &assignment.partition.partition.to_be_bytes(),
        key,
    ])
}

/// Held by whoever schedules or cancels a timer under a name.
pub(super) fn timer(name: &TimerName) -> u64 {
    slot(&[b"timer", name.scope().as_bytes(), name.name().as_bytes()])
}

/// FNV-1a with 64 bits over `courant` and the parts, each behind its length in eight bytes; its upper half
/// folded onto its lower one, the lowest ten bits, and one.
fn slot(parts: &[&[u8]]) -> u64 {
    let lengths = parts.iter().map(|part| (part.len() as u64).to_be_bytes());
    let bytes = lengths.zip(parts).flat_map(|(length, part)| length.into_iter().chain(part.iter().copied()));
    let hash = b"courant".iter().copied().chain(bytes).fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    ((hash ^ (hash >> 32)) & (SHARED - 1)) + 1
}

/// Waits for slots and holds them until the transaction ends.
pub(super) async fn take(
    connection: &mut MySqlConnection,
    slots: BTreeSet<u64>,
    doing: &'static str,
) -> Result<(), StoreError> {
    if slots.is_empty() {
        return Ok(());
    }
    let list = slots.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
    let sql = format!(
        "SELECT slot FROM courant_slot FORCE INDEX (PRIMARY) WHERE slot IN ({list}) ORDER BY slot FOR UPDATE"
    );
    // The text is made of numbers and nothing else.
    let held = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(&mut *connection).await.map_err(failed(doing))?;
    if held.len() == slots.len() { Ok(()) } else { Err(StoreError::unreadable(doing, "slots are missing")) }
}

/// What a key is found by: the hexadecimal digits of its SHA-256, which the column `key_hash` has as bytes.
pub(super) fn hash(key: &[u8]) -> String {
    hex(&Sha256::digest(key))
}

#[cfg(test)]
mod tests {
    use courant_core::consumer::ConsumerName;
    use courant_core::position::TopicPartition;
    use courant_core::topic::TopicName;

    use super::*;
    use crate::consumer::Consumer;

    fn assignment(consumer: &str, topic: &str) -> Assignment {
        let name = ConsumerName::new(consumer).expect("a name");
        let topic = TopicName::new(topic).expect("a name");
        Assignment {
            consumer: Consumer { name, generation: 1 },
            partition: TopicPartition { topic, partition: 3 },
        }
    }

    /// The slots are written down in `docs/formats/store.md`: they may never change.
    #[test]
    fn slots_are_what_the_page_says() {
        assert_eq!(key(&assignment("billing", "orders"), b"o-1"), KEY);
        assert_eq!(timer(&TimerName::new("payment-due", "o-1").expect("a name")), TIMER);
    }

    const KEY: u64 = 789;
    const TIMER: u64 = 943;

    #[test]
    fn names_do_not_run_into_each_other_and_every_slot_is_used() {
        assert_ne!(key(&assignment("ab", "c"), b""), key(&assignment("a", "bc"), b""));
        let one = assignment("a", "b");
        let slots: BTreeSet<u64> = (0_u32..20_000).map(|n| key(&one, &n.to_be_bytes())).collect();
        assert_eq!((slots.first(), slots.last(), slots.len()), (Some(&1), Some(&SHARED), 1024));
    }

    #[test]
    fn a_hash_is_what_mariadb_makes_of_the_key() {
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hash(b"abc"), abc);
    }
}
