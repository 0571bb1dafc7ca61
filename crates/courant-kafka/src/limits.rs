//! Every bound of the Kafka front-end, in one place.
//!
//! Whoever can reach the port can send anything, so nothing below grows with what a client
//! *claims*; it grows with what was received, and stops at one of these figures.

use std::time::Duration;

use courant_log::limits::{BUFFERED_BYTES_MIN, DECOMPRESSED_BYTES_MAX, GROUP_BYTES_MAX as BATCHES_BYTES_MAX};

/// The smallest frame that can be a request: API key, version and correlation id.
pub(crate) const FRAME_BYTES_MIN: usize = 8;

/// The largest request frame (Kafka's `socket.request.max.bytes`).
pub(crate) const FRAME_BYTES_MAX: usize = 100 * 1024 * 1024;

/// The largest request frame of any API but Produce: names and numbers, no records.
pub(crate) const SMALL_FRAME_BYTES_MAX: usize = 1024 * 1024;

/// Elements of all arrays of one request, nested ones included. In memory an element takes up to
/// 160 times the bytes that it takes in the frame.
pub(crate) const ELEMENTS_MAX: usize = 100_000;

/// Memory of one element of a request, together with what it becomes in the answer.
pub(crate) const ELEMENT_BYTES: usize = 256;

/// What a connection reads at first, in a room that its thread has, when its requests are small: some 64 events of
/// 100 bytes, each in a request of its own. An idle one holds no buffer at all.
pub(crate) const FIRST_READ_BYTES: usize = 16 * 1024;

/// How far a receive buffer may run ahead of the bytes that have arrived.
pub(crate) const READ_AHEAD_BYTES_MAX: usize = 64 * 1024;

/// Buffers of [`courant_log::limits::BUFFER_BYTES`] for large batches, over all connections: as many as one of them may have with
/// the log, and those that are being received meanwhile. What finds none has memory of its own.
pub(crate) const REQUEST_BUFFERS: usize = 16;

/// How often is looked which of them nobody has needed since the look before. Those go back to the system.
pub(crate) const REQUEST_BUFFERS_LOOK: Duration = Duration::from_secs(5);

/// How many small Produce requests in a row a client has to send, or how many Fetches, each within this time
/// behind the one before, until its connection keeps a thread.
pub(crate) const ALONE_REQUESTS_MIN: u32 = 32;
pub(crate) const ALONE_GAP_MAX: Duration = Duration::from_millis(1);

/// The largest of these requests: 256 events of 100 bytes. Who sends larger ones is better served by threads that
/// receive while others commit.
pub(crate) const ALONE_REQUEST_BYTES_MAX: usize = 32 * 1024;

/// How long a connection that keeps its thread waits for its client, and how long it keeps it at most before
/// it looks at what else there is.
pub(crate) const ALONE_SILENCE_MAX: Duration = Duration::from_millis(2);
pub(crate) const ALONE_TIME_MAX: Duration = Duration::from_secs(1);

/// How long a connection that keeps its thread waits for events that a Fetch asks for. Then the Fetch waits where those
/// of others do.
pub(crate) const FOLLOWER_WAIT_MAX: Duration = Duration::from_millis(5);

/// Requests of one connection that wait for their answer behind the one whose turn it is; the next one stays in the
/// socket.
pub(crate) const REQUESTS_IN_FLIGHT_MAX: usize = 32;

/// The same where all of them are small Produces: a client that packs nothing sends each event in one, and a sync has
/// no more of its events than may be under way. As many of 256 bytes, which is an event of 100 bytes and what stands
/// around it, are one read of [`READ_AHEAD_BYTES_MAX`].
pub(crate) const SMALL_PRODUCES_IN_FLIGHT_MAX: usize = 256;

/// The largest of them: together they have no more bytes than as many others as may be, of up to
/// [`UNCOUNTED_FRAME_BYTES_MAX`].
pub(crate) const SMALL_PRODUCE_BYTES_MAX: usize = 8 * 1024;

/// What any other request weighs where a small Produce weighs 1: its answer may be large, however small it is. The
/// next one is taken while those that wait weigh less than [`SMALL_PRODUCES_IN_FLIGHT_MAX`]. So there are never more
/// than [`REQUESTS_IN_FLIGHT_MAX`] of the others.
pub(crate) const REQUEST_WEIGHT: usize = SMALL_PRODUCES_IN_FLIGHT_MAX / REQUESTS_IN_FLIGHT_MAX;

/// Bytes of batches that one connection may have with the log; what follows stays in the socket. The disk is
/// as fast with this much at a time as with more, and the processor faster: its caches hold it, and memory is
/// used again before it has gone back to the system. A request that is larger goes alone.
pub(crate) const BYTES_IN_FLIGHT_MAX: usize = 4 * 1024 * 1024;

/// Frames up to this size are not counted for it: [`REQUESTS_IN_FLIGHT_MAX`] of them are not much, and
/// [`SMALL_PRODUCES_IN_FLIGHT_MAX`] small Produces are no more.
pub(crate) const UNCOUNTED_FRAME_BYTES_MAX: usize = 64 * 1024;

/// Answers that are ready are written together up to this size.
pub(crate) const COALESCED_BYTES_MAX: usize = 256 * 1024;

/// Pieces per vectored write. Linux takes up to 1024; few answers have more than a handful.
pub(crate) const WRITE_PIECES_MAX: usize = 64;

/// Answers up to this size need no share of [`RESPONSE_BYTES_BUDGET`]: a connection builds one at a
/// time, and it has to go on when others have left no memory for records.
pub(crate) const SMALL_ANSWER_BYTES: usize = 16 * 1024;

/// Elements of a request that take no more than this are not counted: those of all requests of a connection that
/// wait for their answer come to [`SMALL_ANSWER_BYTES`]. Of a small Produce that weighs less than others all are.
pub(crate) const UNCOUNTED_ELEMENTS_BYTES: usize = SMALL_ANSWER_BYTES / REQUESTS_IN_FLIGHT_MAX;

/// What one connection takes beside its shares of the budgets: what it reads ahead, the small answer that it
/// builds, the elements of its requests that are not counted, as many of those that go on although there is no
/// memory for them, and itself.
pub(crate) const CONNECTION_BYTES: usize = READ_AHEAD_BYTES_MAX + 3 * SMALL_ANSWER_BYTES + 16 * 1024;

/// What TLS takes of one connection beside that: a record as it came and what was in it (RFC 8446, 5.2), the messages of a
/// handshake, and what waits to be sent.
pub(crate) const TLS_CONNECTION_BYTES: usize = 2 * 18 * 1024 + 64 * 1024 + 12 * 1024;

/// How much more than its bytes a request may take: what is received goes into memory that grows twofold.
pub(crate) const REQUEST_GROWTH: usize = 2;

/// Connections open at the same time.
pub(crate) const CONNECTIONS_MAX: usize = 10_000;

/// Bytes of requests, received or waiting for the disk, over all connections.
pub(crate) const REQUEST_BYTES_BUDGET: usize = 512 * 1024 * 1024;

/// Bytes of records read for answers and not yet written to a socket, over all connections.
pub(crate) const RESPONSE_BYTES_BUDGET: usize = 512 * 1024 * 1024;

/// Records in one answer to Fetch, whatever the client allows. One batch may exceed it.
pub(crate) const FETCH_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Records that one answer to Produce names, over all of its batches: a batch of a hundred bytes may have as many
/// that are to blame.
pub(crate) const RECORD_ERRORS_MAX: usize = 1_000;

/// Memory of one of them, in the answer and as it is sent.
pub(crate) const RECORD_ERROR_BYTES: usize = 64;

/// Longest a Fetch waits for data; an earlier, empty answer is always legal.
pub(crate) const FETCH_WAIT_MAX: Duration = Duration::from_secs(300);

/// Inline reads of one Fetch before it lets other tasks of its thread run.
pub(crate) const FETCH_YIELD_BYTES: usize = 1024 * 1024;

/// What one of these reads counts as at least: to find and to compare a few bytes, a block of a segment is read.
pub(crate) const FETCH_READ_BYTES_MIN: usize = 64 * 1024;

/// Fetch sessions that are remembered (Kafka's `max.incremental.fetch.session.cache.slots`).
pub(crate) const FETCH_SESSIONS_MAX: usize = 1_000;

/// Memory of all fetch sessions, together with what they become while they are answered: each is in
/// use by one Fetch at most.
pub(crate) const FETCH_SESSIONS_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The part of it that one partition takes, besides its topic's name.
pub(crate) const FETCH_SESSION_PARTITION_BYTES: usize = 512;

/// A fetch session that was not used for this long makes room for another one; one that is older than
/// this does so for a larger one.
pub(crate) const FETCH_SESSION_IDLE: Duration = Duration::from_secs(120);

/// Reads and looks at the log that may wait for the disk, over all connections; the others wait for their
/// turn. The runtime has 512 threads for such work, unless whoever starts it says otherwise, and those of
/// clients that keep their threads come out of the same number: they must not stand behind a slow disk.
pub(crate) const COLD_READS_MAX: usize = 128;

/// Looks for a time that are made at one time, beside [`COLD_READS_MAX`]: each may unpack a batch, which takes
/// [`UNPACKED_BYTES_MAX`].
pub(crate) const TIME_LOOKS_MAX: usize = 4;

/// Threads of the runtime that may wait with a Produce until its batch can be unpacked: they come out of the same
/// number as those of [`COLD_READS_MAX`]. Who finds as many before it is told to send its batch again.
pub(crate) const UNPACK_WAITS_MAX: usize = 64;

/// What a batch takes while it is unpacked, itself included.
pub(crate) const UNPACKED_BYTES_MAX: usize = BATCHES_BYTES_MAX + DECOMPRESSED_BYTES_MAX;

/// Partitions on one page of DescribeTopicPartitions (Kafka's `max.request.partition.size.limit`).
pub(crate) const PAGE_PARTITIONS_MAX: usize = 2_000;

/// Partitions of one topic.
pub(crate) const PARTITIONS_PER_TOPIC_MAX: u32 = 10_000;

/// Topics that one request may create or delete.
pub(crate) const TOPICS_PER_CHANGE_MAX: usize = 1_000;

/// How often a change of configs is decided, when somebody else's is taken first each time.
pub(crate) const ALTER_TRIES_MAX: usize = 100;

/// A peer that neither sends nor asks for anything for this long is let go (Kafka's
/// `connections.max.idle.ms`).
pub(crate) const IDLE_MAX: Duration = Duration::from_secs(600);

/// The same before the first request, which clients send as soon as they are connected.
pub(crate) const FIRST_REQUEST_MAX: Duration = Duration::from_secs(30);

/// Slowest transfer of a frame or an answer, in bytes per second. Clients give up on a request
/// after 30 s, in which this makes 7.5 MiB.
const RATE_MIN: usize = 256 * 1024;

/// Longest silence in the middle of a frame.
pub(crate) const FRAME_SILENCE_MAX: Duration = Duration::from_secs(30);

/// Longest time a peer may leave an answer unread.
pub(crate) const WRITE_SILENCE_MAX: Duration = Duration::from_secs(30);

/// Longest wait for a share of a budget.
pub(crate) const BUDGET_WAIT_MAX: Duration = Duration::from_secs(10);

/// How long answers that are due are still written after the last request was read.
pub(crate) const DRAIN_MAX: Duration = Duration::from_secs(10);

/// How long, with how much silence, and how many bytes are still read and thrown away after the last answer. A socket that
/// is closed with input unread is reset, and the client may lose answers that were on their way.
pub(crate) const LINGER_MAX: Duration = Duration::from_secs(1);
pub(crate) const LINGER_SILENCE_MAX: Duration = Duration::from_millis(200);
pub(crate) const LINGER_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Silence after which the kernel asks whether the peer is still there, and how often until it believes that
/// it is not: a peer that has vanished while nothing was on its way to it is let go after 90 s. With an answer
/// on its way the kernel repeats that instead, and [`IDLE_MAX`] ends the connection. Fewer repetitions would
/// also end those of consumers that leave an answer in their socket while they work on the one before it.
pub(crate) const KEEPALIVE: Duration = Duration::from_secs(60);
pub(crate) const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
pub(crate) const KEEPALIVE_RETRIES: u32 = 3;

/// How long a client may take for a TLS handshake, from its connection on. Kafka's own clients give up after as long
/// (`socket.connection.setup.timeout.ms`).
pub(crate) const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

/// TLS handshakes at one time, on one port or more. A client that has not said yet what it wants is none of them.
pub(crate) const HANDSHAKES_MAX: usize = 256;

/// How long a handshake is one of them. What the server has to do takes milliseconds; behind that only the client is
/// waited for, and others are not to wait with it.
pub(crate) const HANDSHAKE_TURN_MAX: Duration = Duration::from_secs(1);

/// Pause after an error of `accept`, which is usually a lack of file handles.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long `bytes` may take on their way, beyond what even an empty message may take.
pub(crate) fn transfer_time(bytes: usize) -> Duration {
    Duration::from_millis((bytes / (RATE_MIN / 1000)) as u64)
}

const _: () = {
    assert!(FIRST_READ_BYTES <= READ_AHEAD_BYTES_MAX);
    assert!(SMALL_FRAME_BYTES_MAX <= FRAME_BYTES_MAX);
    assert!(READ_AHEAD_BYTES_MAX <= SMALL_FRAME_BYTES_MAX);
    assert!(BUFFERED_BYTES_MIN <= READ_AHEAD_BYTES_MAX);
    assert!(ALONE_REQUESTS_MIN > 0);
    assert!(
        ALONE_REQUEST_BYTES_MAX < READ_AHEAD_BYTES_MAX && ALONE_REQUEST_BYTES_MAX < UNCOUNTED_FRAME_BYTES_MAX
    );
    assert!(FRAME_BYTES_MAX <= REQUEST_BYTES_BUDGET);
    assert!(UNCOUNTED_FRAME_BYTES_MAX * REQUESTS_IN_FLIGHT_MAX <= BYTES_IN_FLIGHT_MAX);
    assert!(
        SMALL_PRODUCE_BYTES_MAX * SMALL_PRODUCES_IN_FLIGHT_MAX
            <= UNCOUNTED_FRAME_BYTES_MAX * REQUESTS_IN_FLIGHT_MAX
    );
    assert!(REQUEST_WEIGHT > 1 && REQUEST_WEIGHT * REQUESTS_IN_FLIGHT_MAX == SMALL_PRODUCES_IN_FLIGHT_MAX);
    assert!(FETCH_BYTES_MAX <= RESPONSE_BYTES_BUDGET);
    // The length prefix is a signed 32-bit number.
    assert!(FRAME_BYTES_MAX <= i32::MAX as usize);
};

/// Shortest and longest time for which a member of a group may be silent. Tests of clients want
/// sessions of well under a second; Kafka's default bounds are 6 s and 30 min.
pub(crate) const SESSION_MIN: Duration = Duration::from_millis(10);
pub(crate) const SESSION_MAX: Duration = Duration::from_secs(30 * 60);

/// Members of one group, ids that were given and not used yet included.
pub(crate) const MEMBERS_PER_GROUP_MAX: usize = 5_000;

/// Ways to assign that one member may offer.
pub(crate) const PROTOCOLS_PER_MEMBER_MAX: usize = 32;

/// What all members of one group take in what is stored of it, which has to fit into one entry of the
/// journal: names and metadata, and the assignments on top of them.
pub(crate) const GROUP_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The same for the members of all groups. They take it twice: as they are known, and as they are stored.
pub(crate) const MEMBERS_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Groups, also those that only commit.
pub(crate) const GROUPS_MAX: usize = 100_000;

/// Bytes of a group's name, a member's id, a static member's name, the name of a way to assign.
pub(crate) const GROUP_TEXT_BYTES_MAX: usize = 1024;

/// Characters that are kept of what a client calls itself.
pub(crate) const CLIENT_ID_CHARS_KEPT: usize = 128;

const _: () = assert!(GROUP_TEXT_BYTES_MAX <= courant_log::limits::GROUP_NAME_BYTES_MAX);
