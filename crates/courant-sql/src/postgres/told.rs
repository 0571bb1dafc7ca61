//! What each connection is told once: the server keeps the plans of what begins a handler's transaction, and of
//! what ends it.

/// A statement under a name of this crate, which the server keeps for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Once {
    /// `courant_hold` holds the partition, names the transaction, and says how long it may stand still, if that is
    /// given. What is set ends with the transaction.
    Hold,
    /// `courant_admit` writes the inbox row of one event of the log, if it is new and nothing of its key is parked.
    /// What is parked of the key is found by the key's SHA-256 alone: a key that has the same one by accident is
    /// looked at once more.
    Admit,
    /// `courant_begin` is both, of a partition in which nothing is parked. The partition is held before the row is
    /// written; `OFFSET 0` keeps the server from doing anything else with the functions than to call them once.
    Begin,
    /// `courant_write` moves one lane of the outbox on by one event, and writes that, with the word that the trigger of
    /// the inbox waits for. It writes its row or is refused, so that COMMIT may stand behind it in the same text: in
    /// any other transaction than the one that it names `lane` is missing, and without the lane's row `position`.
    Write,
}

/// What a connection was told.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Told(u8);

impl Once {
    /// What tells it.
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Hold => HOLD,
            Self::Admit => ADMIT,
            Self::Begin => BEGIN,
            Self::Write => WRITE,
        }
    }

    fn bit(self) -> u8 {
        match self {
            Self::Hold => 1,
            Self::Admit => 2,
            Self::Begin => 4,
            Self::Write => 8,
        }
    }
}

impl Told {
    pub(super) fn has(self, once: Once) -> bool {
        self.0 & once.bit() != 0
    }

    pub(super) fn has_all(self, all: &[Once]) -> bool {
        all.iter().all(|once| self.has(*once))
    }

    pub(super) fn add(&mut self, all: &[Once]) {
        self.0 = all.iter().fold(self.0, |told, once| told | once.bit());
    }
}

const HOLD: &str = "PREPARE courant_hold (bigint, text, bigint, text, bigint, bigint, text, text) AS \
    SELECT courant_hold($1, $2, $3, $4, $5, $6), set_config('courant.transaction', $7, true), \
        set_config('idle_in_transaction_session_timeout', \
            COALESCE($8, current_setting('idle_in_transaction_session_timeout')), true)";

const ADMIT: &str = "PREPARE courant_admit (text, bigint, text, bigint, bigint, text, bigint, bytea) AS \
    INSERT INTO courant_inbox (consumer, generation, event_id, outcome, settled_ms) \
    SELECT $1, $2, $6, 'handled', $5 \
    WHERE NOT EXISTS (SELECT 1 FROM courant_parked p WHERE p.consumer = $1 AND p.generation = $2 \
        AND p.topic = $3 AND p.partition_id = $4 AND p.event_offset = $7) \
    AND NOT EXISTS (SELECT 1 FROM courant_parked k WHERE k.consumer = $1 AND k.generation = $2 \
        AND k.topic = $3 AND k.partition_id = $4 AND sha256(k.event_key) = $8) \
    ON CONFLICT (consumer, generation, event_id) DO NOTHING";

const BEGIN: &str = "PREPARE courant_begin \
        (bigint, text, bigint, text, bigint, bigint, text, text, bigint, text) AS \
    INSERT INTO courant_inbox (consumer, generation, event_id, outcome, settled_ms) \
    SELECT $2, $3, $10, 'handled', $9 FROM ( \
        SELECT courant_hold($1, $2, $3, $4, $5, $6), set_config('courant.transaction', $7, true), \
            set_config('idle_in_transaction_session_timeout', \
                COALESCE($8, current_setting('idle_in_transaction_session_timeout')), true) OFFSET 0) AS held \
    ON CONFLICT (consumer, generation, event_id) DO NOTHING";

const WRITE: &str = "PREPARE courant_write (bigint, text, text, bytea, bytea, text, bigint, bigint, text) AS \
    WITH moved AS ( \
        UPDATE courant_outbox_lane SET position = position + 1 \
        WHERE lane = $1 AND current_setting('courant.transaction', true) = $9 RETURNING position) \
    INSERT INTO courant_outbox (lane, position, event_id, topic, event_key, event_value, headers, \
        timestamp_ms, bytes) \
    SELECT CASE WHEN current_setting('courant.transaction', true) = $9 THEN $1 END, \
        (SELECT position FROM moved), $2, $3, $4, $5, $6, $7, $8 \
    WHERE set_config('courant.commit', txid_current()::text, true) IS NOT NULL";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_was_told_what_it_was_told() {
        let mut told = Told::default();
        assert!(told.has_all(&[]) && !told.has(Once::Hold));
        told.add(&[Once::Hold, Once::Write]);
        told.add(&[Once::Write]);
        assert!(told.has_all(&[Once::Write, Once::Hold]));
        assert!(!told.has(Once::Begin) && !told.has_all(&[Once::Hold, Once::Admit]));
    }
}
