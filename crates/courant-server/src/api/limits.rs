//! Every bound of the HTTP API, in one place, with the relations that must hold between them.
//!
//! Whoever can reach the port can ask for anything, so an answer grows with what was asked for until it
//! comes to one of these figures.

use std::time::Duration;

/// Bytes of a body that says what to change: names, numbers and configs.
pub(crate) const SMALL_BODY_BYTES_MAX: usize = 64 * 1024;

/// Bytes of a query string.
pub(crate) const QUERY_BYTES_MAX: usize = 8 * 1024;

/// Rows of a page when nobody says how many.
pub(crate) const PAGE_ROWS: usize = 100;

/// Rows of a page at most.
pub(crate) const PAGE_ROWS_MAX: usize = 1000;

/// Partitions that one page of topics or groups looks at. A page whose rows have more of them ends
/// earlier, and the next one goes on.
pub(crate) const PAGE_PARTITIONS_MAX: usize = 20_000;

/// Bytes of the text that names are filtered by.
pub(crate) const FILTER_BYTES_MAX: usize = 249;

/// Groups that are named as readers of one topic.
pub(crate) const READERS_NAMED_MAX: usize = 50;

/// How old what is known of the readers of topics may be, at least. Finding them out looks at every
/// group, so it may be older where that takes long.
pub(crate) const READERS_AGE: Duration = Duration::from_secs(1);

/// How many times longer than it took to find out is what was found out used.
pub(crate) const READERS_AGE_PER_COST: u32 = 20;

/// Members of a group that are shown.
pub(crate) const MEMBERS_SHOWN_MAX: usize = 1000;

/// Topics of a group whose lag is shown, those furthest behind.
pub(crate) const GROUP_TOPICS_SHOWN_MAX: usize = 1000;

/// Oldest unread events that one answer looks up. Each is a read, and may decompress a batch.
pub(crate) const AGES_PER_LOOK_MAX: usize = 1000;

/// Bytes that a batch may grow to when the timestamp of one of its events is looked up. An event in a
/// larger one has an unknown age.
pub(crate) const AGE_DECOMPRESSED_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Batches in which such an event is looked for: compaction may have left it in none of the first ones.
pub(crate) const AGE_BATCHES_MAX: usize = 8;

/// Oldest unread events whose timestamps are remembered: a group that stands still costs one read.
pub(crate) const AGES_REMEMBERED_MAX: usize = 20_000;

/// From one point of the history of lag to the next.
pub(crate) const HISTORY_INTERVAL: Duration = Duration::from_secs(60);

/// Points of one series: a day.
pub(crate) const HISTORY_POINTS_MAX: usize = 24 * 60;

/// Series, one for each topic of each group. A full one takes 34 KiB, all of them 34 MiB.
pub(crate) const HISTORY_SERIES_MAX: usize = 1000;

/// Points that a trend is made of.
pub(crate) const TREND_POINTS: usize = 10;

/// Topics that `/metrics` names, and partitions of them that it names one by one.
pub(crate) const SERIES_TOPICS_MAX: usize = 10_000;
pub(crate) const SERIES_TOPIC_PARTITIONS_MAX: usize = 10_000;

/// Topics of consumer groups that it names, and partitions of them that it names one by one.
pub(crate) const SERIES_GROUP_TOPICS_MAX: usize = 10_000;
pub(crate) const SERIES_GROUP_PARTITIONS_MAX: usize = 10_000;

/// Consumers of services that it names.
pub(crate) const SERIES_CONSUMERS_MAX: usize = 10_000;

/// How long what was measured for one scrape is good enough for another one, at least.
pub(crate) const SERIES_AGE: Duration = Duration::from_secs(1);

/// How many times longer than it took to measure it is what was measured used.
pub(crate) const SERIES_AGE_PER_COST: u32 = 4;

/// How long a scrape waits for a place among those who look at the log, where they share their memory. Then it gets
/// what was measured before.
pub(crate) const SERIES_LOOK_WAIT_MAX: Duration = Duration::from_secs(2);

/// Looks at the log at one time, over all requests; the others wait.
pub(crate) const LOOKS_MAX: usize = 4;

/// Audit events that wait until the log takes events again. With so many no change is made.
pub(crate) const AUDIT_WAITING_MAX: usize = 1000;

/// Bytes of one audit event's account of what was asked for.
pub(crate) const AUDIT_DETAIL_BYTES_MAX: usize = 16 * 1024;

/// Bytes of what it says of a failure: a service's words may be in it, and an event that is too large for its
/// topic would be in the way of all that come after it.
pub(crate) const AUDIT_ERROR_BYTES_MAX: usize = 2 * 1024;

/// Credentials in a token file.
pub(crate) const TOKENS_MAX: usize = 100;

/// Characters of a credential: fewer can be guessed.
pub(crate) const TOKEN_CHARS_MIN: usize = 16;

/// Characters of a credential at most.
pub(crate) const TOKEN_CHARS_MAX: usize = 512;

/// Names in the setting of hosts.
pub(crate) const HOSTS_MAX: usize = 100;

/// Places of damage that the health names.
pub(crate) const DAMAGE_NAMED_MAX: usize = 20;

const _: () = {
    assert!(PAGE_ROWS <= PAGE_ROWS_MAX);
    assert!(TREND_POINTS <= HISTORY_POINTS_MAX);
    assert!(AUDIT_DETAIL_BYTES_MAX <= SMALL_BODY_BYTES_MAX);
};

// Records: pages, searches and tails.

/// Partitions that one page of records, or one look for an event's id, goes through.
pub(crate) const RECORD_PARTITIONS_MAX: usize = 64;

/// Bytes that one look at a partition reads, as they are stored. One batch may exceed it, and is read twice
/// then; those of most clients are at most as large.
pub(crate) const RECORD_READ_BYTES: usize = courant_log::limits::BUFFER_BYTES;

/// Bytes that one batch may grow to when it is decompressed. The records of a larger one are named, and
/// not shown.
pub(crate) const RECORD_DECOMPRESSED_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Bytes that the batches of one look at a partition may grow to together. The one that comes to it is gone
/// through to its end.
pub(crate) const RECORD_UNPACKED_BYTES: usize = 64 * 1024 * 1024;

/// Headers of one record that are taken out of its batch. One with more is named, and not shown, and so is
/// what stands behind it in the batch.
pub(crate) const RECORD_HEADERS_MAX: usize = 100_000;

/// Bytes of a key, a value or a header that lists, searches and tails show.
pub(crate) const LISTED_BYTES_EACH: usize = 16 * 1024;

/// Bytes of one record that they show.
pub(crate) const LISTED_BYTES_ALL: usize = 48 * 1024;

/// Bytes of a record that is asked for alone.
pub(crate) const RECORD_BYTES_SHOWN: usize = 8 * 1024 * 1024;

/// Such records in memory at one time: each can take six times as many bytes in JSON.
pub(crate) const WHOLE_RECORDS_MAX: usize = 8;

/// How long a request for one waits for its place.
pub(crate) const WHOLE_RECORD_WAIT_MAX: Duration = Duration::from_secs(5);

/// Bytes up to which such an answer needs no place while it is sent, and bytes of a piece of a larger one.
pub(crate) const WHOLE_RECORD_BYTES_SMALL: usize = 256 * 1024;
pub(crate) const WHOLE_RECORD_PIECE_BYTES: usize = 128 * 1024;

/// Headers of a record that are shown.
pub(crate) const HEADERS_SHOWN_MAX: usize = 200;

/// Members of an event in the JSON format that are looked at.
pub(crate) const EVENT_MEMBERS_MAX: usize = 256;

/// CloudEvents attributes of a record that are shown, and bytes of each.
pub(crate) const ATTRIBUTES_SHOWN_MAX: usize = 64;
pub(crate) const ATTRIBUTE_BYTES_SHOWN: usize = 2 * 1024;

/// Bytes of JSON on one page of records. One record may exceed it.
pub(crate) const RECORD_PAGE_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Reads of the log for one page of records. With so many it ends, and the next one goes on.
pub(crate) const RECORD_PAGE_READS_MAX: usize = 256;

/// Places that one page, or one search, names because their records are not there.
pub(crate) const GAPS_NAMED_MAX: usize = 100;

/// Bytes that a look for an event's id reads, over all partitions.
pub(crate) const ID_LOOK_BYTES_MAX: usize = 32 * 1024 * 1024;

/// How much earlier than its id says an event may have been stored: clocks differ.
pub(crate) const ID_CLOCKS_DIFFER_MS: i64 = 60_000;

/// Newest records of each partition that are looked at for an id that does not say when it was made.
pub(crate) const ID_NEWEST_RECORDS: u64 = 10_000;

/// Topics that one search or one subscription names.
pub(crate) const TOPICS_NAMED_MAX: usize = 64;

/// Partitions that one search goes through.
pub(crate) const SEARCH_PARTITIONS_MAX: usize = 10_000;

/// Searches that are remembered, the running ones included.
pub(crate) const SEARCHES_MAX: usize = 16;

/// Searches that read at one time; the others wait for their turn.
pub(crate) const SEARCHES_RUNNING_MAX: usize = 2;

/// Records that a search keeps when nobody says how many, and at most.
pub(crate) const SEARCH_RESULTS: usize = 100;
pub(crate) const SEARCH_RESULTS_MAX: usize = 10_000;

/// Bytes of JSON that one search keeps.
pub(crate) const SEARCH_RESULT_BYTES_MAX: usize = 8 * 1024 * 1024;

/// How long the results of a search that has ended are kept.
pub(crate) const SEARCH_KEPT: Duration = Duration::from_secs(600);

/// From one word about a search's progress to the next.
pub(crate) const PROGRESS_INTERVAL: Duration = Duration::from_millis(250);

/// Bytes of a text, a key, a name or a JSON pointer that records are compared with.
pub(crate) const CONDITION_BYTES_MAX: usize = 4 * 1024;

// Publishing.

/// Bytes of a body of events.
pub(crate) const PUBLISH_BODY_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Bytes of bodies of events that are being read and stored, over all requests; the others wait.
pub(crate) const PUBLISH_BYTES_AT_ONCE: usize = 64 * 1024 * 1024;

/// How long a body waits for its share of them.
pub(crate) const PUBLISH_WAIT_MAX: Duration = Duration::from_secs(10);

/// While memory for bodies is scarce, one that comes with fewer bytes a second is cut off, after a while.
pub(crate) const PUBLISH_RATE_MIN: usize = 256 * 1024;
pub(crate) const PUBLISH_SLOW_AFTER: Duration = Duration::from_secs(2);

/// How long nothing may come of a body until somebody looks whether it is slow.
pub(crate) const PUBLISH_SLOW_LOOK: Duration = Duration::from_millis(250);

/// Events of one batch.
pub(crate) const EVENTS_PER_BATCH_MAX: usize = 10_000;

/// Events of one batch whose mistakes are named.
pub(crate) const EVENT_MISTAKES_NAMED_MAX: usize = 100;

/// Attributes of one event, bytes of an attribute's name and of its value.
pub(crate) const ATTRIBUTES_MAX: usize = 64;
pub(crate) const ATTRIBUTE_NAME_BYTES_MAX: usize = 64;
pub(crate) const ATTRIBUTE_BYTES_MAX: usize = 16 * 1024;

/// Bytes of events that go into one batch of the log: below the default `max.message.bytes`, with room for
/// what the format adds. A larger event goes alone.
pub(crate) const STORED_BATCH_BYTES: usize = 900_000;

// Tails.

/// Which part of the HTTP connections may be streams: a probe always gets one.
pub(crate) const STREAMS_PART: usize = 2;

/// Which part of the streams may watch searches.
pub(crate) const WATCHERS_PART: usize = 4;

/// How long a stream that broke can be taken up again with its subscriptions.
pub(crate) const STREAM_KEPT: Duration = Duration::from_secs(60);

/// Subscriptions of one stream, and partitions of all of them.
pub(crate) const SUBSCRIPTIONS_MAX: usize = 16;
pub(crate) const STREAM_PARTITIONS_MAX: usize = 256;

/// Bytes of a subscription's name.
pub(crate) const SUBSCRIPTION_NAME_BYTES_MAX: usize = 64;

/// Partitions up to which every record of a stream says where to go on; with more, the last one of each
/// piece does.
pub(crate) const EACH_RESUMES_PARTITIONS_MAX: usize = 16;

/// Bytes of JSON after which a piece of a stream is sent. One record may exceed it.
pub(crate) const STREAM_PIECE_BYTES: usize = 256 * 1024;

/// How many records a stream that had come to the end may fall behind in a partition. Further behind it
/// goes on at the newest ones, and says what it passed over.
pub(crate) const STREAM_BEHIND_MAX: u64 = 10_000;

/// Records a second that a subscription can ask for.
pub(crate) const STREAM_RATE_MIN: u64 = 10;
pub(crate) const STREAM_RATE_MAX: u64 = 100_000;

/// The time in which a subscription with a rate has its share of it.
pub(crate) const STREAM_RATE_SLOT: Duration = Duration::from_millis(250);

/// Which part of what a stream may fall behind it has before it when it passes over the others.
pub(crate) const STREAM_KEPT_PART: u64 = 4;

/// Longest silence of a stream. Well below the silence after which a connection ends.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(10);

/// From one small piece of a stream to the next: what comes meanwhile is read together.
pub(crate) const STREAM_PAUSE: Duration = Duration::from_millis(20);

/// How often a stream that waits looks whether the server stops and whether topics have grown.
pub(crate) const STREAM_LOOK: Duration = Duration::from_secs(1);

/// Bytes of what a client says about where it was.
pub(crate) const RESUME_BYTES_MAX: usize = 16 * 1024;

// Services and dead letters.

/// Keys in a file of services' keys.
pub(crate) const SERVICE_KEYS_MAX: usize = 1000;

/// Instances whose state is remembered, bytes of one state, and of all of them: those that were seen last.
pub(crate) const INSTANCES_KEPT_MAX: usize = 2000;
pub(crate) const INSTANCE_BYTES_MAX: usize = 1024 * 1024;
pub(crate) const INSTANCES_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Bytes of what services say that one look reads, as they are stored.
pub(crate) const SERVICES_READ_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Instances of one service that are shown.
pub(crate) const INSTANCES_SHOWN_MAX: usize = 100;

/// Requests to services that wait for their answers at one time; the others wait for their turn.
pub(crate) const ASKED_AT_ONCE_MAX: usize = 32;

/// Those of them that wait for one service.
pub(crate) const ASKED_OF_ONE_MAX: usize = 8;

/// How long a request to a service is valid, and how long its answer is waited for.
pub(crate) const ANSWER_WAIT: Duration = Duration::from_secs(10);

/// Bytes of one answer, over all of its parts.
pub(crate) const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Bytes of all answers that are being put together at one time.
pub(crate) const ANSWERS_BYTES_MAX: usize = 2 * ANSWER_BYTES_MAX;

/// Letters that one request names, and that an answer about letters names.
pub(crate) const LETTERS_NAMED_MAX: usize = 1000;

/// Bytes of a name, a filter or a reason.
pub(crate) const WORDS_BYTES_MAX: usize = 2 * 1024;

/// Headers that one edit changes.
pub(crate) const HEADERS_EDITED_MAX: usize = 100;

/// Bytes of a body that edits a letter. In the request its value stands in hexadecimal, and the request is
/// one record.
pub(crate) const EDIT_BODY_BYTES_MAX: usize = 448 * 1024;

/// Letters of others that one look goes through, bytes of them as they are stored, and failures that it
/// tells apart.
pub(crate) const FOREIGN_LETTERS_MAX: u64 = 10_000;
pub(crate) const FOREIGN_BYTES_MAX: usize = 32 * 1024 * 1024;
pub(crate) const FOREIGN_GROUPS_MAX: usize = 1000;

/// How long one page of an export of dead letters may look for their events.
pub(crate) const EXPORT_TIME_MAX: Duration = Duration::from_secs(2);

/// Decisions about them that are written down in one batch, which any topic takes.
pub(crate) const FOREIGN_AT_A_TIME: usize = 100;

/// Bytes of the newest ones. They are read from the oldest of them on, and with their stack traces each may
/// have ten kilobytes: with fewer bytes the newest of all would not be seen.
pub(crate) const FOREIGN_NEWEST_BYTES_MAX: usize = 128 * 1024 * 1024;

/// Topics with the name of one for dead letters that are looked at. Those of services have such names, too.
pub(crate) const FOREIGN_TOPICS_MAX: usize = 2000;

/// Decisions about letters of others that are read.
pub(crate) const DECISIONS_READ_MAX: usize = 1_000_000;

/// Bytes of them, as they are stored.
pub(crate) const DECISIONS_BYTES_MAX: usize = 256 * 1024 * 1024;

const _: () = {
    assert!(LISTED_BYTES_EACH <= LISTED_BYTES_ALL && LISTED_BYTES_ALL <= RECORD_BYTES_SHOWN);
    assert!(PUBLISH_BODY_BYTES_MAX <= PUBLISH_BYTES_AT_ONCE);
    assert!(PUBLISH_SLOW_AFTER.as_millis() + PUBLISH_SLOW_LOOK.as_millis() < PUBLISH_WAIT_MAX.as_millis());
    assert!(ATTRIBUTES_MAX < EVENT_MEMBERS_MAX);
    assert!(STORED_BATCH_BYTES < courant_log::limits::MESSAGE_BYTES_MAX);
    assert!(SEARCH_RESULTS <= SEARCH_RESULTS_MAX);
    assert!(SEARCHES_RUNNING_MAX <= SEARCHES_MAX);
    assert!(EACH_RESUMES_PARTITIONS_MAX <= STREAM_PARTITIONS_MAX);
    assert!(STREAM_PAUSE.as_millis() < STREAM_LOOK.as_millis());
    assert!(STREAM_LOOK.as_millis() < HEARTBEAT.as_millis());
    assert!(INSTANCE_BYTES_MAX <= INSTANCES_BYTES_MAX);
    assert!(2 * EDIT_BODY_BYTES_MAX < STORED_BATCH_BYTES + 64 * 1024);
};

// Traces.

/// What the index of traces takes for each event that it may have, those that belong to nothing included.
pub(crate) const TRACE_EVENT_BYTES: usize = 256;

/// Records that the index of traces has when nobody says how many. A full one takes at most 48 MiB.
pub(crate) const TRACE_EVENTS: usize = 225_000;

/// Records that belong to nothing are remembered too, as many as this part of those in the index: one of them
/// may turn out to be the cause of others. They take at most 6 MiB more.
pub(crate) const TRACE_PLAIN_PART: usize = 4;

/// Records that are gone through when the server starts: the newest of each partition, and all of the small
/// ones.
pub(crate) const TRACE_REBUILD_RECORDS_MAX: u64 = 2_000_000;

/// How many records of a partition may have come while nobody looked. Beyond them the look goes on at the
/// newest ones, and says what it passed over.
pub(crate) const TRACE_BEHIND_MAX: u64 = 1_000_000;

/// Which part of them it has before it then.
pub(crate) const TRACE_KEPT_PART: u64 = 4;

/// Entries that one read of a partition makes. A batch that has more of them is read again.
pub(crate) const TRACE_ENTRIES_PER_READ_MAX: usize = 65_536;

/// How long one look for new records takes, about.
pub(crate) const TRACE_LOOK: Duration = Duration::from_millis(20);

/// From one look to the next when nothing is left to do.
pub(crate) const TRACE_PAUSE: Duration = Duration::from_millis(100);

/// How long a look at all partitions may be put off when the log says that nothing was appended.
pub(crate) const TRACE_PAUSE_MAX: Duration = Duration::from_secs(1);

/// How many times as long as a look does the rest behind it take: a tenth of one core is used, however much
/// is published. What was there at the start is looked at faster.
pub(crate) const TRACE_REST: u32 = 9;

/// The same behind a look that has found nothing but records that belong to nothing, while no record has named
/// one of those: a fiftieth of one core.
pub(crate) const TRACE_REST_PLAIN: u32 = 49;

/// How much later than the server's time a record may say that it is, and still say how far back the index
/// goes.
pub(crate) const TRACE_AHEAD_MS: i64 = 3_600_000;

/// Events of one trace that are shown.
pub(crate) const TRACE_NODES_MAX: usize = 50_000;

/// Nodes of a page when nobody says how many.
pub(crate) const TRACE_PAGE_NODES: usize = 500;

/// Entries that one page of traces is looked for among.
pub(crate) const TRACE_LIST_STEPS_MAX: usize = 100_000;

/// Records of a trace that are compared for its beginning and its end in a list. Partitions are read side by
/// side, so an effect may be known before its cause.
pub(crate) const TRACE_LIST_MEMBERS_MAX: usize = 100;

/// Bytes of batches that one page is read from, as they are stored, one after the other: a page of the usual
/// size fits, also where each of its events is in a large batch of its own.
pub(crate) const TRACE_READ_BYTES_MAX: usize = 512 * 1024 * 1024;

/// How long reading them may take. What is left then is named, and not shown.
pub(crate) const TRACE_READ_TIME_MAX: Duration = Duration::from_secs(5);

/// Bytes of an id, a type, a source or a key, and of an error, that nodes show.
pub(crate) const TRACE_TEXT_BYTES: usize = 1024;
pub(crate) const TRACE_ERROR_BYTES: usize = 2 * 1024;

const _: () = {
    assert!(TRACE_PAGE_NODES <= PAGE_ROWS_MAX && PAGE_ROWS_MAX <= TRACE_NODES_MAX);
    assert!(TRACE_BEHIND_MAX <= TRACE_REBUILD_RECORDS_MAX);
    assert!(TRACE_PAUSE.as_millis() < TRACE_PAUSE_MAX.as_millis());
};
