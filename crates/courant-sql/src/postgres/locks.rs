//! On disk: the numbers of the advisory locks, by which programs of different versions keep out of each
//! other's way. `docs/formats/store.md` describes them.

use sqlx::PgConnection;

use super::class::failed;
use crate::consumer::Assignment;
use crate::error::StoreError;
use crate::timer::TimerName;

/// Held by whoever creates the tables.
pub(super) fn installation() -> i64 {
    number(&[b"installation"])
}

/// Held by whoever decides about dead letters: requests, cancellations, closing and forgetting take
/// turns.
pub(super) fn decisions() -> i64 {
    number(&[b"decisions"])
}

/// Held shared by every transaction of a partition's owner, and alone by a takeover.
pub(super) fn partition(assignment: &Assignment) -> i64 {
    of(b"partition", assignment, &[])
}

/// Held by whoever changes which events of a key are parked, or whose turn it is.
pub(super) fn key(assignment: &Assignment, key: &[u8]) -> i64 {
    of(b"key", assignment, key)
}

/// Held by whoever schedules or cancels the timer of a name.
pub(super) fn timer(name: &TimerName) -> i64 {
    number(&[b"timer", name.scope().as_bytes(), name.name().as_bytes()])
}

fn of(kind: &[u8], assignment: &Assignment, key: &[u8]) -> i64 {
    number(&[
        kind,
        assignment.consumer.name.as_str().as_bytes(),
        &assignment.consumer.generation.to_be_bytes(),
        assignment.partition.topic.as_str().as_bytes(),
        &assignment.partition.partition.to_be_bytes(),
        key,
    ])
}

/// FNV-1a with 64 bits over `courant` and the parts, each behind its length in eight bytes.
fn number(parts: &[&[u8]]) -> i64 {
    let lengths = parts.iter().map(|part| (part.len() as u64).to_be_bytes());
    let bytes = lengths.zip(parts).flat_map(|(length, part)| length.into_iter().chain(part.iter().copied()));
    let hash = b"courant".iter().copied().chain(bytes).fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    i64::from_be_bytes(hash.to_be_bytes())
}

/// Waits for locks and holds them until the transaction ends. They are taken in the order of their
/// numbers, so that two who want the same ones do not wait for each other.
pub(super) async fn take(
    connection: &mut PgConnection,
    mut numbers: Vec<i64>,
    doing: &'static str,
) -> Result<(), StoreError> {
    numbers.sort_unstable();
    numbers.dedup();
    if numbers.is_empty() {
        return Ok(());
    }
    sqlx::query("SELECT pg_advisory_xact_lock(number) FROM unnest($1::bigint[]) AS wanted (number)")
        .bind(numbers)
        .execute(&mut *connection)
        .await
        .map_err(failed(doing))?;
    Ok(())
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

    /// The numbers are written down in `docs/formats/store.md`: they may never change.
    #[test]
    fn numbers_are_what_the_page_says() {
        assert_eq!(installation(), INSTALLATION);
        assert_eq!(decisions(), DECISIONS);
        assert_eq!(partition(&assignment("billing", "orders")), PARTITION);
        assert_eq!(key(&assignment("billing", "orders"), b"o-1"), KEY);
        assert_eq!(timer(&TimerName::new("payment-due", "o-1").expect("a name")), TIMER);
    }

    const INSTALLATION: i64 = -6_575_405_178_623_308_183;
    const DECISIONS: i64 = 1_925_005_072_648_734_417;
    const PARTITION: i64 = 2_516_789_428_274_669_881;
    const KEY: i64 = -988_846_845_516_302_820;
    const TIMER: i64 = 5_570_124_631_165_759_865;

    #[test]
    fn names_do_not_run_into_each_other() {
        assert_ne!(partition(&assignment("ab", "c")), partition(&assignment("a", "bc")));
        let one = assignment("a", "b");
        assert_ne!(partition(&one), key(&one, b""));
    }
}
