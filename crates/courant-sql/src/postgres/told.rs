//! What each connection is told once: the server keeps the plans of what begins a handler's transaction, and of
//! what ends it.

/// Under names of this crate:
///
/// - `courant_hold` holds the partition, names the transaction, and says how long it may stand still, if that is
///   given. What is set ends with the transaction.
/// - `courant_admit` writes the inbox row of one event of the log, if it is new and nothing of its key is parked.
///   What is parked of the key is found by the key's SHA-256 alone: a key that has the same one by accident is
///   looked at once more.
/// - `courant_write` moves one lane of the outbox on by one event, and writes that, with the word that the trigger of
///   the inbox waits for. It writes its row or is refused, so that COMMIT may stand behind it in the same text: in
///   any other transaction than the one that it names `lane` is missing, and without the lane's row `position`.
pub(super) const PREPARE: &str = "PREPARE courant_hold (bigint, text, bigint, text, bigint, bigint, text, text) AS \
    SELECT courant_hold($1, $2, $3, $4, $5, $6), set_config('courant.transaction', $7, true), \
        set_config('idle_in_transaction_session_timeout', \
            COALESCE($8, current_setting('idle_in_transaction_session_timeout')), true); \
    PREPARE courant_admit (text, bigint, text, bigint, bigint, text, bigint, bytea) AS \
    INSERT INTO courant_inbox (consumer, generation, event_id, outcome, settled_ms) \
    SELECT $1, $2, $6, 'handled', $5 \
    WHERE NOT EXISTS (SELECT 1 FROM courant_parked p WHERE p.consumer = $1 AND p.generation = $2 \
        AND p.topic = $3 AND p.partition_id = $4 AND p.event_offset = $7) \
    AND NOT EXISTS (SELECT 1 FROM courant_parked k WHERE k.consumer = $1 AND k.generation = $2 \
        AND k.topic = $3 AND k.partition_id = $4 AND sha256(k.event_key) = $8) \
    ON CONFLICT (consumer, generation, event_id) DO NOTHING; \
    PREPARE courant_write (bigint, text, text, bytea, bytea, text, bigint, bigint, text) AS \
    WITH moved AS ( \
        UPDATE courant_outbox_lane SET position = position + 1 \
        WHERE lane = $1 AND current_setting('courant.transaction', true) = $9 RETURNING position) \
    INSERT INTO courant_outbox (lane, position, event_id, topic, event_key, event_value, headers, \
        timestamp_ms, bytes) \
    SELECT CASE WHEN current_setting('courant.transaction', true) = $9 THEN $1 END, \
        (SELECT position FROM moved), $2, $3, $4, $5, $6, $7, $8 \
    WHERE set_config('courant.commit', txid_current()::text, true) IS NOT NULL";
