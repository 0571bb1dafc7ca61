-- The framework's tables in MariaDB, version 3. docs/formats/store.md and docs/formats/outbox.md say
-- what each column means. Instants are milliseconds since 1970, given by the program.
--
-- Statements that create tables commit at once, so each can be repeated: an installation that was
-- interrupted goes on where it was, and the row of the last table says that it is complete. No index but
-- a primary key is unique: whoever writes into a unique index beside it locks gaps of it, and two who
-- write rows that have nothing to do with each other would wait in a circle. Texts are compared byte by
-- byte, without padding.

-- Rows that are locked, and never changed: slot 0 by whoever decides about dead letters, the others by
-- whoever changes what a key or a name has waiting.
CREATE TABLE IF NOT EXISTS courant_slot (
    slot BIGINT NOT NULL PRIMARY KEY
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;

-- Who may handle a partition's events.
CREATE TABLE IF NOT EXISTS courant_owner (
    consumer     VARCHAR(249) NOT NULL,
    generation   BIGINT       NOT NULL,
    topic        VARCHAR(249) NOT NULL,
    partition_id BIGINT       NOT NULL,
    epoch        BIGINT       NOT NULL,
    owner        LONGTEXT     NOT NULL,
    taken_ms     BIGINT       NOT NULL,
    PRIMARY KEY (consumer, generation, topic, partition_id)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;

-- How far a consumer has come.
CREATE TABLE IF NOT EXISTS courant_progress (
    consumer     VARCHAR(249) NOT NULL,
    generation   BIGINT       NOT NULL,
    topic        VARCHAR(249) NOT NULL,
    partition_id BIGINT       NOT NULL,
    event_offset BIGINT       NOT NULL,
    mark         LONGTEXT     NOT NULL,
    gap_events   BIGINT       NOT NULL,
    saved_ms     BIGINT       NOT NULL,
    PRIMARY KEY (consumer, generation, topic, partition_id)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;

-- What was settled already, so that a second delivery has no second effect. An open row is one whose
-- transaction has not come to its end: if it is seen, a statement inside has committed it.
CREATE TABLE IF NOT EXISTS courant_inbox (
    consumer   VARCHAR(249) NOT NULL,
    generation BIGINT       NOT NULL,
    event_id   VARCHAR(255) NOT NULL,
    outcome    VARCHAR(16)  NOT NULL
        CHECK (outcome IN ('open', 'handled', 'dead', 'skipped', 'discarded')),
    settled_ms BIGINT       NOT NULL,
    PRIMARY KEY (consumer, generation, event_id),
    KEY courant_inbox_settled (consumer, generation, settled_ms)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;

-- Events that wait: after a failure, behind one, or for a person. Of each key at most the first event
-- has a due time. Keys are found by their SHA-256: an entry of an index has its bound, a key has none.
CREATE TABLE IF NOT EXISTS courant_parked (
    consumer        VARCHAR(249) NOT NULL,
    generation      BIGINT       NOT NULL,
    topic           VARCHAR(249) NOT NULL,
    partition_id    BIGINT       NOT NULL,
    event_offset    BIGINT       NOT NULL,
    event_id        VARCHAR(255) NOT NULL,
    event_key       LONGBLOB,
    key_hash        BINARY(32)   AS (UNHEX(SHA2(event_key, 256))) STORED,
    event_value     LONGBLOB,
    headers         LONGTEXT     NOT NULL,
    timestamp_ms    BIGINT       NOT NULL,
    state           VARCHAR(16)  NOT NULL CHECK (state IN ('waiting', 'queued', 'dead')),
    due_ms          BIGINT,
    attempts        BIGINT       NOT NULL,
    first_failed_ms BIGINT,
    error_kind      TEXT,
    error_place     TEXT,
    error_message   TEXT,
    redrive_id      VARCHAR(512),
    PRIMARY KEY (consumer, generation, topic, partition_id, event_offset),
    KEY courant_parked_key (consumer, generation, topic, partition_id, key_hash, event_offset),
    KEY courant_parked_due (consumer, generation, topic, partition_id, due_ms),
    CHECK ((due_ms IS NOT NULL) = (state = 'waiting'))
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;

-- Events that could not be handled. Of a consumer's event there is one, so its place is the primary key.
CREATE TABLE IF NOT EXISTS courant_dead (
    id              BIGINT       NOT NULL AUTO_INCREMENT,
    consumer        VARCHAR(249) NOT NULL,
    generation      BIGINT       NOT NULL,
    topic           VARCHAR(249) NOT NULL,
    partition_id    BIGINT       NOT NULL,
    event_offset    BIGINT       NOT NULL,
    event_id        VARCHAR(255) NOT NULL,
    event_key       LONGBLOB,
    event_value     LONGBLOB,
    headers         LONGTEXT     NOT NULL,
    timestamp_ms    BIGINT       NOT NULL,
    state           VARCHAR(16)  NOT NULL
        CHECK (state IN ('dead', 'redriving', 'redriven', 'discarded', 'archived')),
    reason          VARCHAR(16)  NOT NULL CHECK (reason IN ('exhausted', 'undecodable', 'refused')),
    blocks_key      BIGINT       NOT NULL CHECK (blocks_key IN (0, 1)),
    attempts        BIGINT       NOT NULL,
    first_failed_ms BIGINT       NOT NULL,
    last_failed_ms  BIGINT       NOT NULL,
    error_kind      TEXT         NOT NULL,
    error_place     TEXT         NOT NULL,
    error_message   TEXT         NOT NULL,
    code_version    TEXT         NOT NULL,
    closed_ms       BIGINT,
    PRIMARY KEY (consumer, generation, topic, partition_id, event_offset),
    KEY courant_dead_id (id),
    KEY courant_dead_state (state, consumer, generation, topic, partition_id),
    KEY courant_dead_closed (closed_ms)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;

-- What people have done with dead letters besides sending them back, and what an edited one was.
CREATE TABLE IF NOT EXISTS courant_dead_note (
    id          BIGINT      NOT NULL AUTO_INCREMENT PRIMARY KEY,
    dead_id     BIGINT      NOT NULL,
    action      VARCHAR(16) NOT NULL CHECK (action IN ('edited', 'discarded', 'archived', 'restored')),
    done_by     TEXT        NOT NULL,
    reason      TEXT        NOT NULL,
    at_ms       BIGINT      NOT NULL,
    event_id    VARCHAR(255),
    event_value LONGBLOB,
    headers     LONGTEXT,
    KEY courant_dead_note_dead (dead_id, id),
    CHECK ((action = 'edited') = (event_id IS NOT NULL))
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;

-- Dead letters on their way back: the operation, and the result of each event.
CREATE TABLE IF NOT EXISTS courant_redrive (
    id           VARCHAR(512) NOT NULL PRIMARY KEY,
    requested_by LONGTEXT     NOT NULL,
    requested_ms BIGINT       NOT NULL,
    filter       LONGTEXT     NOT NULL,
    rate         BIGINT CHECK (rate > 0),
    window_ms    BIGINT,
    window_taken BIGINT       NOT NULL DEFAULT 0,
    state        VARCHAR(16)  NOT NULL CHECK (state IN ('running', 'done', 'cancelled')),
    finished_ms  BIGINT
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;

CREATE TABLE IF NOT EXISTS courant_redrive_event (
    redrive_id VARCHAR(512) NOT NULL,
    dead_id    BIGINT       NOT NULL,
    state      VARCHAR(16)  NOT NULL
        CHECK (state IN ('pending', 'delivering', 'handled', 'failed', 'cancelled')),
    changed_ms BIGINT       NOT NULL,
    PRIMARY KEY (redrive_id, dead_id),
    KEY courant_redrive_event_dead (dead_id),
    KEY courant_redrive_event_open (redrive_id, state)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;

-- What was published and waits for the relay. Positions in a lane have no gaps.
CREATE TABLE IF NOT EXISTS courant_outbox_lane (
    lane      BIGINT NOT NULL PRIMARY KEY,
    position  BIGINT NOT NULL,
    published BIGINT NOT NULL,
    CHECK (published BETWEEN 0 AND position)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;

CREATE TABLE IF NOT EXISTS courant_outbox (
    lane         BIGINT       NOT NULL,
    position     BIGINT       NOT NULL,
    event_id     VARCHAR(255) NOT NULL,
    topic        VARCHAR(249) NOT NULL,
    event_key    LONGBLOB,
    event_value  LONGBLOB,
    headers      LONGTEXT     NOT NULL,
    timestamp_ms BIGINT       NOT NULL,
    bytes        BIGINT       NOT NULL,
    PRIMARY KEY (lane, position)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;

-- Events that are to be published later. When one is due it goes into the outbox, and out of here. Whoever
-- writes under a name holds the name's slot: there is one timer of each name.
CREATE TABLE IF NOT EXISTS courant_timer (
    event_id     VARCHAR(255) NOT NULL PRIMARY KEY,
    due_ms       BIGINT       NOT NULL,
    scope        VARCHAR(255),
    name         VARCHAR(255),
    topic        VARCHAR(249) NOT NULL,
    event_key    LONGBLOB,
    event_value  LONGBLOB,
    headers      LONGTEXT     NOT NULL,
    bytes        BIGINT       NOT NULL,
    scheduled_ms BIGINT       NOT NULL,
    KEY courant_timer_name (scope, name),
    KEY courant_timer_due (due_ms, event_id),
    CHECK ((scope IS NULL) = (name IS NULL))
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;

-- What programs in other languages have submitted: plain INSERTs, in any transaction of theirs. The relay
-- moves committed rows into the lanes. `id` tells rows apart, and is no place to read on from.
CREATE TABLE IF NOT EXISTS courant_outbox_submit (
    id           BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    topic        LONGTEXT NOT NULL,
    event_key    LONGTEXT,
    event_value  LONGTEXT,
    event_type   LONGTEXT,
    event_id     LONGTEXT,
    event_source LONGTEXT,
    headers      LONGTEXT,
    timestamp_ms BIGINT,
    key_bytes    LONGBLOB,
    value_bytes  LONGBLOB,
    CHECK (event_key IS NULL OR key_bytes IS NULL),
    CHECK (event_value IS NULL OR value_bytes IS NULL)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;

-- Submitted rows that can never be events, as they were.
CREATE TABLE IF NOT EXISTS courant_outbox_refused (
    id           BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    submit_id    BIGINT NOT NULL,
    topic        LONGTEXT NOT NULL,
    event_key    LONGTEXT,
    event_value  LONGTEXT,
    event_type   LONGTEXT,
    event_id     LONGTEXT,
    event_source LONGTEXT,
    headers      LONGTEXT,
    timestamp_ms BIGINT,
    key_bytes    LONGBLOB,
    value_bytes  LONGBLOB,
    reason       LONGTEXT NOT NULL,
    refused_ms   BIGINT NOT NULL
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;

-- Who may move the lanes on. A relay that is there moves `beat` on.
CREATE TABLE IF NOT EXISTS courant_relay (
    shard    VARCHAR(255) NOT NULL PRIMARY KEY,
    epoch    BIGINT       NOT NULL,
    owner    LONGTEXT     NOT NULL,
    taken_ms BIGINT       NOT NULL,
    beat     BIGINT       NOT NULL DEFAULT 0,
    resting  BIGINT       NOT NULL DEFAULT 0 CHECK (resting IN (0, 1))
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;

INSERT IGNORE INTO courant_outbox_lane (lane, position, published) SELECT seq, 0, 0 FROM seq_0_to_255;

INSERT IGNORE INTO courant_slot (slot) SELECT seq FROM seq_0_to_1024;

CREATE TABLE IF NOT EXISTS courant_schema (
    one          BIGINT NOT NULL PRIMARY KEY CHECK (one = 1),
    version      BIGINT NOT NULL,
    lanes        BIGINT NOT NULL,
    installed_ms BIGINT NOT NULL
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;
