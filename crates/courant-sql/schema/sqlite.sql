-- The framework's tables in SQLite, version 3. docs/formats/store.md and docs/formats/outbox.md say
-- what each column means. Instants are milliseconds since 1970, given by the program.

CREATE TABLE courant_schema (
    one          INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    version      INTEGER NOT NULL,
    lanes        INTEGER NOT NULL,
    installed_ms INTEGER NOT NULL
) STRICT;

-- Who may handle a partition's events.
CREATE TABLE courant_owner (
    consumer     TEXT    NOT NULL,
    generation   INTEGER NOT NULL,
    topic        TEXT    NOT NULL,
    partition_id INTEGER NOT NULL,
    epoch        INTEGER NOT NULL,
    owner        TEXT    NOT NULL,
    taken_ms     INTEGER NOT NULL,
    PRIMARY KEY (consumer, generation, topic, partition_id)
) STRICT, WITHOUT ROWID;

-- How far a consumer has come.
CREATE TABLE courant_progress (
    consumer     TEXT    NOT NULL,
    generation   INTEGER NOT NULL,
    topic        TEXT    NOT NULL,
    partition_id INTEGER NOT NULL,
    event_offset INTEGER NOT NULL,
    mark         TEXT    NOT NULL,
    gap_events   INTEGER NOT NULL,
    saved_ms     INTEGER NOT NULL,
    PRIMARY KEY (consumer, generation, topic, partition_id)
) STRICT, WITHOUT ROWID;

-- What was settled already, so that a second delivery has no second effect.
CREATE TABLE courant_inbox (
    consumer   TEXT    NOT NULL,
    generation INTEGER NOT NULL,
    event_id   TEXT    NOT NULL,
    outcome    TEXT    NOT NULL CHECK (outcome IN ('handled', 'dead', 'skipped', 'discarded')),
    settled_ms INTEGER NOT NULL,
    PRIMARY KEY (consumer, generation, event_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX courant_inbox_settled ON courant_inbox (consumer, generation, settled_ms)
    WHERE outcome <> 'dead';

-- Events that wait: after a failure, behind one, or for a person. Of each key at most the first event
-- has a due time.
CREATE TABLE courant_parked (
    consumer        TEXT    NOT NULL,
    generation      INTEGER NOT NULL,
    topic           TEXT    NOT NULL,
    partition_id    INTEGER NOT NULL,
    event_offset    INTEGER NOT NULL,
    event_id        TEXT    NOT NULL,
    event_key       BLOB,
    event_value     BLOB,
    headers         TEXT    NOT NULL,
    timestamp_ms    INTEGER NOT NULL,
    state           TEXT    NOT NULL CHECK (state IN ('waiting', 'queued', 'dead')),
    due_ms          INTEGER CHECK ((due_ms IS NOT NULL) = (state = 'waiting')),
    attempts        INTEGER NOT NULL,
    first_failed_ms INTEGER,
    error_kind      TEXT,
    error_place     TEXT,
    error_message   TEXT,
    redrive_id      TEXT,
    PRIMARY KEY (consumer, generation, topic, partition_id, event_offset)
) STRICT;

CREATE INDEX courant_parked_key
    ON courant_parked (consumer, generation, topic, partition_id, event_key, event_offset)
    WHERE event_key IS NOT NULL;

CREATE UNIQUE INDEX courant_parked_first
    ON courant_parked (consumer, generation, topic, partition_id, event_key)
    WHERE due_ms IS NOT NULL AND event_key IS NOT NULL;

CREATE INDEX courant_parked_due
    ON courant_parked (consumer, generation, topic, partition_id, due_ms)
    WHERE due_ms IS NOT NULL;

-- Events that could not be handled.
CREATE TABLE courant_dead (
    id              INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    consumer        TEXT    NOT NULL,
    generation      INTEGER NOT NULL,
    topic           TEXT    NOT NULL,
    partition_id    INTEGER NOT NULL,
    event_offset    INTEGER NOT NULL,
    event_id        TEXT    NOT NULL,
    event_key       BLOB,
    event_value     BLOB,
    headers         TEXT    NOT NULL,
    timestamp_ms    INTEGER NOT NULL,
    state           TEXT    NOT NULL
        CHECK (state IN ('dead', 'redriving', 'redriven', 'discarded', 'archived')),
    reason          TEXT    NOT NULL CHECK (reason IN ('exhausted', 'undecodable', 'refused')),
    blocks_key      INTEGER NOT NULL CHECK (blocks_key IN (0, 1)),
    attempts        INTEGER NOT NULL,
    first_failed_ms INTEGER NOT NULL,
    last_failed_ms  INTEGER NOT NULL,
    error_kind      TEXT    NOT NULL,
    error_place     TEXT    NOT NULL,
    error_message   TEXT    NOT NULL,
    code_version    TEXT    NOT NULL,
    closed_ms       INTEGER,
    UNIQUE (consumer, generation, topic, partition_id, event_offset)
) STRICT;

CREATE INDEX courant_dead_group ON courant_dead (consumer, error_kind, error_place) WHERE state = 'dead';

CREATE INDEX courant_dead_redriving
    ON courant_dead (consumer, generation, topic, partition_id, event_offset)
    WHERE state = 'redriving';

CREATE INDEX courant_dead_closed ON courant_dead (closed_ms) WHERE closed_ms IS NOT NULL;

-- What people have done with dead letters besides sending them back, and what an edited one was.
CREATE TABLE courant_dead_note (
    id          INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    dead_id     INTEGER NOT NULL,
    action      TEXT    NOT NULL CHECK (action IN ('edited', 'discarded', 'archived', 'restored')),
    done_by     TEXT    NOT NULL,
    reason      TEXT    NOT NULL,
    at_ms       INTEGER NOT NULL,
    event_id    TEXT,
    event_value BLOB,
    headers     TEXT,
    CHECK ((action = 'edited') = (event_id IS NOT NULL))
) STRICT;

CREATE INDEX courant_dead_note_dead ON courant_dead_note (dead_id, id);

-- Dead letters on their way back: the operation, and the result of each event.
CREATE TABLE courant_redrive (
    id           TEXT    NOT NULL PRIMARY KEY,
    requested_by TEXT    NOT NULL,
    requested_ms INTEGER NOT NULL,
    filter       TEXT    NOT NULL,
    rate         INTEGER CHECK (rate > 0),
    window_ms    INTEGER,
    window_taken INTEGER NOT NULL DEFAULT 0,
    state        TEXT    NOT NULL CHECK (state IN ('running', 'done', 'cancelled')),
    finished_ms  INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE courant_redrive_event (
    redrive_id TEXT    NOT NULL REFERENCES courant_redrive (id),
    dead_id    INTEGER NOT NULL,
    state      TEXT    NOT NULL
        CHECK (state IN ('pending', 'delivering', 'handled', 'failed', 'cancelled')),
    changed_ms INTEGER NOT NULL,
    PRIMARY KEY (redrive_id, dead_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX courant_redrive_event_dead ON courant_redrive_event (dead_id);

CREATE INDEX courant_redrive_event_open ON courant_redrive_event (redrive_id)
    WHERE state IN ('pending', 'delivering');

-- What was published and waits for the relay. Positions in a lane have no gaps.
CREATE TABLE courant_outbox_lane (
    lane      INTEGER NOT NULL PRIMARY KEY,
    position  INTEGER NOT NULL,
    published INTEGER NOT NULL,
    CHECK (published BETWEEN 0 AND position)
) STRICT;

CREATE TABLE courant_outbox (
    lane         INTEGER NOT NULL,
    position     INTEGER NOT NULL,
    event_id     TEXT    NOT NULL,
    topic        TEXT    NOT NULL,
    event_key    BLOB,
    event_value  BLOB,
    headers      TEXT    NOT NULL,
    timestamp_ms INTEGER NOT NULL,
    bytes        INTEGER NOT NULL,
    PRIMARY KEY (lane, position)
) STRICT;

-- Events that are to be published later. When one is due it goes into the outbox, and out of here.
CREATE TABLE courant_timer (
    event_id     TEXT    NOT NULL PRIMARY KEY,
    due_ms       INTEGER NOT NULL,
    scope        TEXT,
    name         TEXT,
    topic        TEXT    NOT NULL,
    event_key    BLOB,
    event_value  BLOB,
    headers      TEXT    NOT NULL,
    bytes        INTEGER NOT NULL,
    scheduled_ms INTEGER NOT NULL,
    UNIQUE (scope, name),
    CHECK ((scope IS NULL) = (name IS NULL))
) STRICT;

CREATE INDEX courant_timer_due ON courant_timer (due_ms, event_id);

-- What programs in other languages have submitted: plain INSERTs, in any transaction of theirs. The relay
-- moves committed rows into the lanes. `id` tells rows apart, and is no place to read on from.
CREATE TABLE courant_outbox_submit (
    id           INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    topic        TEXT    NOT NULL,
    event_key    TEXT,
    event_value  TEXT,
    event_type   TEXT,
    event_id     TEXT,
    event_source TEXT,
    headers      TEXT,
    timestamp_ms INTEGER,
    key_bytes    BLOB,
    value_bytes  BLOB,
    CHECK (event_key IS NULL OR key_bytes IS NULL),
    CHECK (event_value IS NULL OR value_bytes IS NULL)
) STRICT;

-- Submitted rows that can never be events, as they were.
CREATE TABLE courant_outbox_refused (
    id           INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    submit_id    INTEGER NOT NULL,
    topic        TEXT    NOT NULL,
    event_key    TEXT,
    event_value  TEXT,
    event_type   TEXT,
    event_id     TEXT,
    event_source TEXT,
    headers      TEXT,
    timestamp_ms INTEGER,
    key_bytes    BLOB,
    value_bytes  BLOB,
    reason       TEXT    NOT NULL,
    refused_ms   INTEGER NOT NULL
) STRICT;

-- Who may move the lanes on. A relay that is there moves `beat` on.
CREATE TABLE courant_relay (
    shard    TEXT    NOT NULL PRIMARY KEY,
    epoch    INTEGER NOT NULL,
    owner    TEXT    NOT NULL,
    taken_ms INTEGER NOT NULL,
    beat     INTEGER NOT NULL DEFAULT 0,
    resting  INTEGER NOT NULL DEFAULT 0 CHECK (resting IN (0, 1))
) STRICT, WITHOUT ROWID;

WITH RECURSIVE lanes (lane) AS (SELECT 0 UNION ALL SELECT lane + 1 FROM lanes WHERE lane < 255)
INSERT INTO courant_outbox_lane (lane, position, published) SELECT lane, 0, 0 FROM lanes;
