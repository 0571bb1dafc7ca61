//! Every bound of this engine, in one place.

use std::time::Duration;

/// Longest that an engine waits for an answer while it is opened.
pub const OPEN_MAX: Duration = Duration::from_secs(15);

/// How long the first look at a server takes. Each one after it takes twice as long, until `OPEN_MAX` is over.
pub(crate) const FIRST_LOOK: Duration = Duration::from_millis(250);

/// How long what stood in the way of a connection is believed to stand there. The client says it again every 30
/// seconds at the latest.
pub(crate) const REFUSAL_AGE_MAX: Duration = Duration::from_secs(40);

/// The pause between two lines in the log about it.
pub(crate) const REFUSAL_PAUSE: Duration = Duration::from_secs(30);

/// How long is looked whether anybody listens where nobody has answered, and at how many addresses.
pub(crate) const LISTENS_MAX: Duration = Duration::from_secs(1);
pub(crate) const ADDRESSES_TRIED_MAX: usize = 4;

/// Longest that one question about topics, offsets or single records takes.
pub const REQUEST_MAX: Duration = Duration::from_secs(20);

/// The pause between two questions whose answer was an error that passes.
pub(crate) const PASSING_PAUSE: Duration = Duration::from_millis(50);

/// How long an answer that passes is waited for where others wait behind it.
pub(crate) const PASSING_MAX: Duration = Duration::from_secs(5);

/// Longest that a published record waits for its answer. Then everything that waits is given up, so that
/// nothing overtakes it.
pub const PUBLISH_MAX: Duration = Duration::from_secs(120);

/// How long the answers to what was given up are waited for.
pub(crate) const GIVEN_UP_MAX: Duration = Duration::from_secs(5);

/// Longest that a commit takes.
pub const COMMIT_MAX: Duration = Duration::from_secs(10);

/// Longest that `close` waits for subscriptions to leave their groups.
pub const CLOSE_MAX: Duration = Duration::from_secs(20);

/// How long what is known of a topic is believed.
pub const TOPIC_AGE_MAX: Duration = Duration::from_secs(60);

/// Topics that are remembered.
pub(crate) const TOPICS_KNOWN_MAX: usize = 10_000;

/// Looks at a topic that was just created, before it is given up, and the pause between two.
pub(crate) const CREATED_LOOKS: u32 = 50;
pub(crate) const CREATED_PAUSE: Duration = Duration::from_millis(100);

/// Bytes in one batch. Topics that take less get their records one by one.
pub(crate) const BATCH_BYTES_MAX: usize = 900_000;

/// Records in one batch.
pub(crate) const BATCH_RECORDS_MAX: usize = 10_000;

/// Records, and KiB of them, that wait to be sent. More are refused as `Busy` when that does not pass.
pub(crate) const QUEUE_RECORDS_MAX: usize = 100_000;
pub(crate) const QUEUE_KIB_MAX: usize = 128 * 1024;

/// How long a publisher waits between two looks at a full queue in which it has nothing itself.
pub(crate) const QUEUE_PAUSE: Duration = Duration::from_millis(10);

/// Bytes and records of one partition that are read ahead for a subscription, besides what librdkafka
/// holds, which is as much again.
pub const AHEAD_BYTES_MAX: usize = 1024 * 1024;
pub(crate) const AHEAD_RECORDS_MAX: usize = 10_000;

/// How long a member of a group may be silent before its partitions go to others.
pub const SESSION_MAX: Duration = Duration::from_secs(15);

/// How long a member's thread may be away. It is not: handlers do not run on it. librdkafka's own limit.
pub const POLL_INTERVAL_MAX: Duration = Duration::from_secs(300);

/// How often a member asks whether its group changes.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(1);

/// Longest that a subscription's thread sleeps while nothing wakes it.
pub(crate) const IDLE: Duration = Duration::from_millis(500);

/// Bytes of a group's name, the same as in a log of the process.
pub(crate) const GROUP_NAME_BYTES_MAX: usize = courant_log::limits::GROUP_NAME_BYTES_MAX;

/// Bytes of the largest record, with what the format adds; Courant's own limit.
pub const RECORD_BYTES_MAX: usize = courant_log::limits::MESSAGE_BYTES_MAX;

/// Partitions of a topic on Courant.
pub(crate) const PARTITIONS_MAX: u32 = courant_log::limits::PARTITIONS_PER_TOPIC_MAX;

const _: () = assert!(BATCH_BYTES_MAX < RECORD_BYTES_MAX);
