-- The framework's tables in Postgres, version 3. docs/formats/store.md and docs/formats/outbox.md say
-- what each column means. Instants are milliseconds since 1970, given by the program.

CREATE TABLE courant_schema (
    one          BIGINT NOT NULL PRIMARY KEY CHECK (one = 1),
    version      BIGINT NOT NULL,
    lanes        BIGINT NOT NULL,
    installed_ms BIGINT NOT NULL
);

-- Who may handle a partition's events.
CREATE TABLE courant_owner (
    consumer     TEXT   NOT NULL,
    generation   BIGINT NOT NULL,
    topic        TEXT   NOT NULL,
    partition_id BIGINT NOT NULL,
    epoch        BIGINT NOT NULL,
    owner        TEXT   NOT NULL,
    taken_ms     BIGINT NOT NULL,
    PRIMARY KEY (consumer, generation, topic, partition_id)
);

-- Holds a partition for one of its owner's transactions until that ends. Each statement in here sees what
-- was committed before it, so the epoch is read under the lock.
CREATE OR REPLACE FUNCTION courant_hold(lock_number BIGINT, of_consumer TEXT, of_generation BIGINT,
    of_topic TEXT, of_partition BIGINT, held BIGINT) RETURNS VOID LANGUAGE plpgsql AS $$
DECLARE
    found_epoch BIGINT;
BEGIN
    IF NOT pg_try_advisory_xact_lock_shared(lock_number) THEN
        RAISE EXCEPTION 'the partition is being taken over' USING ERRCODE = 'CO001';
    END IF;
    SELECT epoch INTO found_epoch FROM courant_owner
        WHERE consumer = of_consumer AND generation = of_generation AND topic = of_topic
        AND partition_id = of_partition;
    IF found_epoch IS DISTINCT FROM held THEN
        RAISE EXCEPTION 'another one has the partition'
            USING ERRCODE = 'CO002', DETAIL = COALESCE(found_epoch, 0)::text;
    END IF;
END
$$;

-- How far a consumer has come. Written often, a row at a time: pages keep room for it.
CREATE TABLE courant_progress (
    consumer     TEXT   NOT NULL,
    generation   BIGINT NOT NULL,
    topic        TEXT   NOT NULL,
    partition_id BIGINT NOT NULL,
    event_offset BIGINT NOT NULL,
    mark         TEXT   NOT NULL,
    gap_events   BIGINT NOT NULL,
    saved_ms     BIGINT NOT NULL,
    PRIMARY KEY (consumer, generation, topic, partition_id)
) WITH (fillfactor = 50);

-- What was settled already, so that a second delivery has no second effect.
CREATE TABLE courant_inbox (
    consumer   TEXT   NOT NULL,
    generation BIGINT NOT NULL,
    event_id   TEXT   NOT NULL,
    outcome    TEXT   NOT NULL CHECK (outcome IN ('handled', 'dead', 'skipped', 'discarded')),
    settled_ms BIGINT NOT NULL,
    PRIMARY KEY (consumer, generation, event_id)
);

-- A transaction in which an event is handled is committed by the framework, or not at all: a COMMIT inside
-- of a handler fails and undoes everything.
CREATE OR REPLACE FUNCTION courant_inbox_commit() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('courant.commit', true) IS DISTINCT FROM txid_current()::text THEN
        RAISE EXCEPTION 'an event is being handled: only the framework may commit this transaction'
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    RETURN NULL;
END
$$;

CREATE CONSTRAINT TRIGGER courant_inbox_commit AFTER INSERT OR UPDATE ON courant_inbox
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.outcome = 'handled')
    EXECUTE FUNCTION courant_inbox_commit();

CREATE INDEX courant_inbox_settled ON courant_inbox (consumer, generation, settled_ms)
    WHERE outcome <> 'dead';

-- Events that wait: after a failure, behind one, or for a person. Of each key at most the first event
-- has a due time. Keys are found by their SHA-256: an entry of an index has its bound, a key has none.
CREATE TABLE courant_parked (
    consumer        TEXT   NOT NULL,
    generation      BIGINT NOT NULL,
    topic           TEXT   NOT NULL,
    partition_id    BIGINT NOT NULL,
    event_offset    BIGINT NOT NULL,
    event_id        TEXT   NOT NULL,
    event_key       BYTEA,
    event_value     BYTEA,
    headers         TEXT   NOT NULL,
    timestamp_ms    BIGINT NOT NULL,
    state           TEXT   NOT NULL CHECK (state IN ('waiting', 'queued', 'dead')),
    due_ms          BIGINT CHECK ((due_ms IS NOT NULL) = (state = 'waiting')),
    attempts        BIGINT NOT NULL,
    first_failed_ms BIGINT,
    error_kind      TEXT,
    error_place     TEXT,
    error_message   TEXT,
    redrive_id      TEXT,
    PRIMARY KEY (consumer, generation, topic, partition_id, event_offset)
);

CREATE INDEX courant_parked_key
    ON courant_parked (consumer, generation, topic, partition_id, sha256(event_key), event_offset)
    WHERE event_key IS NOT NULL;

CREATE UNIQUE INDEX courant_parked_first
    ON courant_parked (consumer, generation, topic, partition_id, sha256(event_key))
    WHERE due_ms IS NOT NULL AND event_key IS NOT NULL;

CREATE INDEX courant_parked_due
    ON courant_parked (consumer, generation, topic, partition_id, due_ms)
    WHERE due_ms IS NOT NULL;

-- Events that could not be handled.
CREATE TABLE courant_dead (
    id              BIGINT  NOT NULL GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    consumer        TEXT    NOT NULL,
    generation      BIGINT  NOT NULL,
    topic           TEXT    NOT NULL,
    partition_id    BIGINT  NOT NULL,
    event_offset    BIGINT  NOT NULL,
    event_id        TEXT    NOT NULL,
    event_key       BYTEA,
    event_value     BYTEA,
    headers         TEXT    NOT NULL,
    timestamp_ms    BIGINT  NOT NULL,
    state           TEXT    NOT NULL
        CHECK (state IN ('dead', 'redriving', 'redriven', 'discarded', 'archived')),
    reason          TEXT    NOT NULL CHECK (reason IN ('exhausted', 'undecodable', 'refused')),
    blocks_key      BIGINT  NOT NULL CHECK (blocks_key IN (0, 1)),
    attempts        BIGINT  NOT NULL,
    first_failed_ms BIGINT  NOT NULL,
    last_failed_ms  BIGINT  NOT NULL,
    error_kind      TEXT    NOT NULL,
    error_place     TEXT    NOT NULL,
    error_message   TEXT    NOT NULL,
    code_version    TEXT    NOT NULL,
    closed_ms       BIGINT,
    UNIQUE (consumer, generation, topic, partition_id, event_offset)
);

CREATE INDEX courant_dead_open ON courant_dead (consumer) WHERE state = 'dead';

CREATE INDEX courant_dead_redriving
    ON courant_dead (consumer, generation, topic, partition_id, event_offset)
    WHERE state = 'redriving';

CREATE INDEX courant_dead_closed ON courant_dead (closed_ms) WHERE closed_ms IS NOT NULL;

-- What people have done with dead letters besides sending them back, and what an edited one was.
CREATE TABLE courant_dead_note (
    id          BIGINT NOT NULL GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    dead_id     BIGINT NOT NULL,
    action      TEXT   NOT NULL CHECK (action IN ('edited', 'discarded', 'archived', 'restored')),
    done_by     TEXT   NOT NULL,
    reason      TEXT   NOT NULL,
    at_ms       BIGINT NOT NULL,
    event_id    TEXT,
    event_value BYTEA,
    headers     TEXT,
    CHECK ((action = 'edited') = (event_id IS NOT NULL))
);

CREATE INDEX courant_dead_note_dead ON courant_dead_note (dead_id, id);

-- Dead letters on their way back: the operation, and the result of each event.
CREATE TABLE courant_redrive (
    id           TEXT   NOT NULL PRIMARY KEY,
    requested_by TEXT   NOT NULL,
    requested_ms BIGINT NOT NULL,
    filter       TEXT   NOT NULL,
    rate         BIGINT CHECK (rate > 0),
    window_ms    BIGINT,
    window_taken BIGINT NOT NULL DEFAULT 0,
    state        TEXT   NOT NULL CHECK (state IN ('running', 'done', 'cancelled')),
    finished_ms  BIGINT
);

CREATE TABLE courant_redrive_event (
    redrive_id TEXT   NOT NULL REFERENCES courant_redrive (id),
    dead_id    BIGINT NOT NULL,
    state      TEXT   NOT NULL
        CHECK (state IN ('pending', 'delivering', 'handled', 'failed', 'cancelled')),
    changed_ms BIGINT NOT NULL,
    PRIMARY KEY (redrive_id, dead_id)
);

CREATE INDEX courant_redrive_event_dead ON courant_redrive_event (dead_id);

CREATE INDEX courant_redrive_event_open ON courant_redrive_event (redrive_id)
    WHERE state IN ('pending', 'delivering');

-- What was published and waits for the relay. Positions in a lane have no gaps. Every transaction that
-- publishes writes rows of the first table: few stand on a page, so that it finds room on the same one.
CREATE TABLE courant_outbox_lane (
    lane      BIGINT NOT NULL PRIMARY KEY,
    position  BIGINT NOT NULL,
    published BIGINT NOT NULL,
    CHECK (published BETWEEN 0 AND position)
) WITH (fillfactor = 10);

CREATE TABLE courant_outbox (
    lane         BIGINT NOT NULL,
    position     BIGINT NOT NULL,
    event_id     TEXT   NOT NULL,
    topic        TEXT   NOT NULL,
    event_key    BYTEA,
    event_value  BYTEA,
    headers      TEXT   NOT NULL,
    timestamp_ms BIGINT NOT NULL,
    bytes        BIGINT NOT NULL,
    PRIMARY KEY (lane, position)
);

-- Events that are to be published later. When one is due it goes into the outbox, and out of here.
CREATE TABLE courant_timer (
    event_id     TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    due_ms       BIGINT NOT NULL,
    scope        TEXT,
    name         TEXT,
    topic        TEXT   NOT NULL,
    event_key    BYTEA,
    event_value  BYTEA,
    headers      TEXT   NOT NULL,
    bytes        BIGINT NOT NULL,
    scheduled_ms BIGINT NOT NULL,
    UNIQUE (scope, name),
    CHECK ((scope IS NULL) = (name IS NULL))
);

CREATE INDEX courant_timer_due ON courant_timer (due_ms, event_id);

-- What programs in other languages have submitted: plain INSERTs, in any transaction of theirs. The relay
-- moves committed rows into the lanes. `id` tells rows apart, and is no place to read on from.
CREATE TABLE courant_outbox_submit (
    id           BIGINT NOT NULL GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic        TEXT   NOT NULL,
    event_key    TEXT,
    event_value  TEXT,
    event_type   TEXT,
    event_id     TEXT,
    event_source TEXT,
    headers      TEXT,
    timestamp_ms BIGINT,
    key_bytes    BYTEA,
    value_bytes  BYTEA,
    CHECK (event_key IS NULL OR key_bytes IS NULL),
    CHECK (event_value IS NULL OR value_bytes IS NULL)
);

-- Submitted rows that can never be events, as they were.
CREATE TABLE courant_outbox_refused (
    id           BIGINT NOT NULL GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    submit_id    BIGINT NOT NULL,
    topic        TEXT   NOT NULL,
    event_key    TEXT,
    event_value  TEXT,
    event_type   TEXT,
    event_id     TEXT,
    event_source TEXT,
    headers      TEXT,
    timestamp_ms BIGINT,
    key_bytes    BYTEA,
    value_bytes  BYTEA,
    reason       TEXT   NOT NULL,
    refused_ms   BIGINT NOT NULL
);

-- Who may move the lanes on. A relay that is there moves `beat` on.
CREATE TABLE courant_relay (
    shard    TEXT   NOT NULL PRIMARY KEY,
    epoch    BIGINT NOT NULL,
    owner    TEXT   NOT NULL,
    taken_ms BIGINT NOT NULL,
    beat     BIGINT NOT NULL DEFAULT 0,
    resting  BIGINT NOT NULL DEFAULT 0 CHECK (resting IN (0, 1))
) WITH (fillfactor = 10);

-- Wakes a relay that rests. A relay at work is not told: commits that tell something go one after the other
-- through the whole server. Programs that submit need no right to see who relays, nor a path to it.
CREATE OR REPLACE FUNCTION courant_outbox_ring() RETURNS TRIGGER LANGUAGE plpgsql
    SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    IF EXISTS (SELECT 1 FROM courant_relay WHERE resting = 1) THEN
        PERFORM pg_notify('courant_outbox', '');
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER courant_outbox_ring AFTER INSERT ON courant_outbox_submit
    FOR EACH STATEMENT EXECUTE FUNCTION courant_outbox_ring();

-- The same for the framework itself, which has both: to change rights and path for a moment would be most of
-- what the trigger costs each transaction.
CREATE OR REPLACE FUNCTION courant_outbox_ring_own() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT 1 FROM courant_relay WHERE resting = 1) THEN
        PERFORM pg_notify('courant_outbox', '');
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER courant_outbox_ring AFTER INSERT ON courant_outbox
    FOR EACH STATEMENT EXECUTE FUNCTION courant_outbox_ring_own();

INSERT INTO courant_outbox_lane (lane, position, published) SELECT lane, 0, 0 FROM generate_series(0, 255) AS lane;
