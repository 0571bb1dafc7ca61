//! Dead letters of others, in topics of this server: those that Spring Kafka and Kafka Connect write. They
//! are looked at here, and given up; `courant dlq foreign` sends them back.

pub(super) mod discard;

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use axum::extract::{RawQuery, State};
use courant_core::decisions::{ENDING, REDRIVE_KEY};
use courant_core::foreign::{Cause, Framework};
use courant_log::batch::records::Record;
use courant_log::{Log, Topic};
use serde::{Deserialize, Serialize};

use super::line::words;
use crate::api::asked::Path;
use crate::api::limits::{
    DECISIONS_BYTES_MAX, FOREIGN_BYTES_MAX, FOREIGN_GROUPS_MAX, FOREIGN_LETTERS_MAX,
    FOREIGN_NEWEST_BYTES_MAX, FOREIGN_TOPICS_MAX, RECORD_PAGE_BYTES_MAX, RECORD_PARTITIONS_MAX,
};
use crate::api::problem::{BAD_REQUEST, INVALID, Problem};
use crate::api::records::read::{Taken, offset, read};
use crate::api::{ApiState, Asked, Json};

/// How topics of dead letters end, in small letters.
const ENDINGS: [&str; 7] = ["-dlt", ".dlt", "-dlq", ".dlq", "-dead-letter", "-dead-letters", ".dead-letters"];

/// Newest records of a partition that tell whose letters they are.
const NEWEST: u64 = 10;

#[derive(Debug, Serialize)]
pub(super) struct Topics {
    topics: Vec<Listed>,
}

#[derive(Debug, Serialize)]
struct Listed {
    topic: String,
    records: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct Groups {
    topic: String,
    groups: Vec<Group>,
    records: u64,
    scanned: u64,
    is_complete: bool,
}

/// Letters with one error of one consumer from one topic.
#[derive(Debug, Serialize)]
struct Group {
    group: String,
    framework: &'static str,
    original: Option<String>,
    consumer: Option<String>,
    error: Option<String>,
    letters: u64,
    oldest_ms: i64,
    newest_ms: i64,
    newest: Place,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct Place {
    partition: u32,
    offset: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct Letters {
    topic: String,
    letters: Vec<Letter>,
    next: Option<String>,
}

#[derive(Debug, Serialize)]
struct Letter {
    letter: String,
    partition: u32,
    offset: u64,
    framework: &'static str,
    original: Option<String>,
    original_partition: Option<i32>,
    original_offset: Option<i64>,
    original_timestamp_ms: Option<i64>,
    consumer: Option<String>,
    timestamp_ms: i64,
    group: String,
    error: Option<String>,
    wrapped_in: Option<String>,
    message: Option<String>,
    state: &'static str,
}

pub(super) async fn topics(
    State(state): State<ApiState>,
    RawQuery(query): RawQuery,
) -> Result<Json<Topics>, Problem> {
    Asked::of(query.as_deref(), &[])?;
    state.blocking(move |state| named(state.log()?)).await.map(Json)
}

/// Topics with the usual names whose newest record is of somebody else. May wait for the disk.
fn named(log: &Log) -> Result<Topics, Problem> {
    let catalog = log.catalog();
    let is_named = |topic: &&Arc<Topic>| {
        let name = topic.name.to_lowercase();
        ENDINGS.iter().any(|ending| name.ends_with(ending))
    };
    let mut topics = Vec::new();
    for topic in catalog.topics().filter(is_named).take(FOREIGN_TOPICS_MAX) {
        let mut framework = Framework::Unknown;
        for id in topic.partitions.iter().take(RECORD_PARTITIONS_MAX) {
            let Some(ends) = log.offsets(*id) else { continue };
            let newest = ends.high_watermark.saturating_sub(NEWEST).max(ends.start);
            read(log, *id, newest..ends.high_watermark, |record| {
                let found = Cause::of(&record.headers).framework;
                if found != Framework::Unknown {
                    framework = found;
                }
                Taken::Yes
            })?;
            if framework != Framework::Unknown {
                break;
            }
        }
        if matches!(framework, Framework::SpringKafka | Framework::KafkaConnect) {
            topics.push(Listed { topic: topic.name.clone(), records: records(log, topic) });
        }
    }
    topics.sort_by(|a, b| a.topic.cmp(&b.topic));
    Ok(Topics { topics })
}

/// Offsets that are kept.
fn records(log: &Log, topic: &Topic) -> u64 {
    let kept = topic.partitions.iter().filter_map(|id| log.offsets(*id));
    kept.fold(0, |sum, ends| sum.saturating_add(ends.high_watermark.saturating_sub(ends.start)))
}

/// What was decided about the letters of a topic.
#[derive(Debug, Default)]
struct Decided {
    /// Letters that somebody has decided about, by partition and offset.
    letters: HashSet<(u32, u64)>,
    redrives: Redrives,
}

impl Decided {
    fn count(&self) -> usize {
        self.letters.len() + self.redrives.len()
    }
}

/// Redrives by their ids, and whether each has come to its end.
type Redrives = BTreeMap<String, bool>;

/// Reads what was decided, as `courant dlq foreign` writes it down. Where that is more than can be gone
/// through, nothing is said: a letter that was sent back would be shown as one that waits.
fn decided(log: &Log, letters: &Topic, decisions_max: usize) -> Result<Decided, Problem> {
    /// As much of a decision as tells which topic it is about, and where a redrive is.
    #[derive(Deserialize)]
    struct About {
        topic_id: String,
        #[serde(default)]
        is_ended: bool,
    }
    let mut decided = Decided::default();
    let catalog = log.catalog();
    let Some(topic) = catalog.by_name(&format!("{}{ENDING}", letters.name)) else { return Ok(decided) };
    let topic_id = letters.id.to_string();
    let mut bytes_left = DECISIONS_BYTES_MAX;
    for id in &topic.partitions {
        let Some(ends) = log.offsets(*id) else { continue };
        let mut next = ends.start;
        while next < ends.high_watermark {
            if bytes_left == 0 || decided.count() > decisions_max {
                let sentence = format!(
                    "{} has more decisions than are gone through here; look with `courant dlq foreign`",
                    topic.name
                );
                return Err(Problem::new(&INVALID, sentence));
            }
            let passed = read(log, *id, next..ends.high_watermark, |record| {
                if decided.count() > decisions_max {
                    return Taken::No;
                }
                let about = record.value.as_ref().and_then(|value| serde_json::from_slice(value).ok());
                let ours = about.filter(|about: &About| about.topic_id == topic_id);
                if let (Some(about), Some(key)) = (ours, record.key.as_deref()) {
                    decided.letters.extend(letter_at(key));
                    decided.redrives.extend(redrive_of(key).map(|id| (id, about.is_ended)));
                }
                Taken::Yes
            })?;
            next = passed.next.max(next.saturating_add(1));
            bytes_left = bytes_left.saturating_sub(passed.bytes.max(1));
        }
    }
    Ok(decided)
}

/// `PARTITION@OFFSET`.
fn letter_at(text: &[u8]) -> Option<(u32, u64)> {
    let (partition, offset) = std::str::from_utf8(text).ok()?.split_once('@')?;
    Some((partition.parse().ok()?, offset.parse().ok()?))
}

/// The id of a redrive that a record is about.
fn redrive_of(key: &[u8]) -> Option<String> {
    std::str::from_utf8(key).ok()?.strip_prefix(REDRIVE_KEY).map(str::to_owned)
}

/// How much a look goes through.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    /// Bytes of letters, as they are stored, about.
    bytes: usize,
    /// Decisions about them. With more of them nothing is shown.
    decisions: usize,
}

/// A look at the letters of a topic.
#[derive(Debug)]
struct Look {
    /// From here on each partition is read; at its beginning otherwise.
    from: BTreeMap<u32, u64>,
    /// Up to here; to its end otherwise.
    until: BTreeMap<u32, u64>,
    bytes_left: usize,
    scanned: u64,
    is_cut: bool,
    /// Decisions that are read.
    decisions_max: usize,
    /// The last record that was gone through, whether it was shown or not: the next look begins behind it.
    reached: Option<(u32, u64)>,
    /// Redrives of these letters that were known when it began.
    redrives: Redrives,
}

impl Look {
    fn of(bounds: Bounds) -> Self {
        Self {
            from: BTreeMap::new(),
            until: BTreeMap::new(),
            bytes_left: bounds.bytes,
            scanned: 0,
            is_cut: false,
            decisions_max: bounds.decisions,
            reached: None,
            redrives: Redrives::new(),
        }
    }

    /// Shows the letters that nobody has decided about, partition by partition, until `look` wants no more.
    /// May wait for the disk.
    fn through(
        &mut self,
        log: &Log,
        topic: &Topic,
        mut look: impl FnMut(u32, &Record, Cause) -> Taken,
    ) -> Result<(), Problem> {
        let Decided { letters: decided, redrives } = decided(log, topic, self.decisions_max)?;
        self.redrives = redrives;
        let mut is_over = false;
        for (number, id) in (0_u32..).zip(&topic.partitions) {
            let Some(ends) = log.offsets(*id) else { continue };
            let begin = self.from.get(&number).copied().unwrap_or(ends.start).max(ends.start);
            let end =
                self.until.get(&number).map_or(ends.high_watermark, |end| ends.high_watermark.min(*end));
            let mut next = begin;
            while next < end && !is_over {
                let passed = read(log, *id, next..end, |record| {
                    if decided.contains(&(number, offset(record.offset))) {
                        return Taken::Yes;
                    }
                    let taken = look(number, record, Cause::of(&record.headers));
                    is_over |= taken == Taken::No;
                    self.scanned += u64::from(taken == Taken::Yes);
                    taken
                })?;
                next = if is_over { passed.next } else { passed.next.max(next.saturating_add(1)) };
                self.bytes_left = self.bytes_left.saturating_sub(passed.bytes.max(1));
                is_over |= self.bytes_left == 0;
            }
            if next > begin {
                self.reached = Some((number, next - 1));
            }
            if next < end {
                self.is_cut = true;
            }
        }
        Ok(())
    }

    /// Only the newest letters of each partition, as many as one look goes through.
    fn newest(log: &Log, topic: &Topic, bounds: Bounds) -> Self {
        let each = FOREIGN_LETTERS_MAX / (topic.partitions.len() as u64).max(1);
        let mut look = Self::of(bounds);
        for (number, id) in (0_u32..).zip(&topic.partitions) {
            let Some(ends) = log.offsets(*id) else { continue };
            let from = ends.high_watermark.saturating_sub(each.max(1)).max(ends.start);
            look.is_cut |= from > ends.start;
            look.from.insert(number, from);
        }
        look
    }
}

pub(super) async fn groups(
    State(state): State<ApiState>,
    Path(topic): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Json<Groups>, Problem> {
    Asked::of(query.as_deref(), &[])?;
    let topic = state.topic(&topic)?;
    let bounds = Bounds { bytes: FOREIGN_NEWEST_BYTES_MAX, decisions: state.limits().decisions };
    state.blocking(move |state| grouped(state.log()?, &topic, bounds)).await.map(Json)
}

fn grouped(log: &Log, topic: &Topic, bounds: Bounds) -> Result<Groups, Problem> {
    let mut groups: BTreeMap<String, Group> = BTreeMap::new();
    let mut look = Look::newest(log, topic, bounds);
    look.through(log, topic, |number, record, cause| {
        let (name, at_ms) = (cause.group(), record.timestamp);
        let newest = Place { partition: number, offset: offset(record.offset) };
        if let Some(group) = groups.get_mut(&name) {
            group.add(at_ms, newest);
            return Taken::Yes;
        }
        if groups.len() == FOREIGN_GROUPS_MAX {
            return Taken::No;
        }
        groups.insert(name.clone(), Group::of(name, at_ms, newest, cause));
        Taken::Yes
    })?;
    let mut groups: Vec<Group> = groups.into_values().collect();
    groups.sort_by_cached_key(|group| (Reverse(group.letters), group.group.clone()));
    Ok(Groups {
        topic: topic.name.clone(),
        groups,
        records: records(log, topic),
        scanned: look.scanned,
        is_complete: !look.is_cut,
    })
}

impl Group {
    fn of(group: String, at_ms: i64, newest: Place, cause: Cause) -> Self {
        Self {
            group,
            framework: cause.framework.name(),
            original: listed(cause.origin.topic),
            consumer: listed(cause.consumer),
            error: listed(cause.why.error),
            letters: 1,
            oldest_ms: at_ms,
            newest_ms: at_ms,
            newest,
        }
    }

    fn add(&mut self, at_ms: i64, place: Place) {
        self.letters += 1;
        self.oldest_ms = self.oldest_ms.min(at_ms);
        if at_ms >= self.newest_ms {
            (self.newest_ms, self.newest) = (at_ms, place);
        }
    }
}

pub(super) async fn letters(
    State(state): State<ApiState>,
    Path(topic): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Json<Letters>, Problem> {
    let asked = Asked::of(query.as_deref(), &["group", "limit", "after"])?;
    let limit = asked.limit()?;
    let after = asked.text("after").map(place_after).transpose()?;
    let group = asked.text("group").map(str::to_owned);
    let topic = state.topic(&topic)?;
    let bounds = Bounds { bytes: FOREIGN_BYTES_MAX, decisions: state.limits().decisions };
    let page =
        state.blocking(move |state| page(state.log()?, &topic, group.as_deref(), limit, after, bounds));
    page.await.map(Json)
}

/// The letter that a page ended with.
fn place_after(text: &str) -> Result<(u32, u64), Problem> {
    let problem = || Problem::new(&BAD_REQUEST, format!("after is {text:?}; give back what `next` was"));
    letter_at(text.as_bytes()).ok_or_else(problem)
}

fn page(
    log: &Log,
    topic: &Topic,
    group: Option<&str>,
    limit: usize,
    after: Option<(u32, u64)>,
    bounds: Bounds,
) -> Result<Letters, Problem> {
    let mut look = Look::of(bounds);
    if let Some((partition, offset)) = after {
        // What comes before it was on the pages before.
        let before = partition.min(u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX));
        look.from.extend((0..before).map(|number| (number, u64::MAX)));
        look.from.insert(partition, offset.saturating_add(1));
    }
    let (mut letters, mut bytes): (Vec<Letter>, usize) = (Vec::new(), 0);
    look.through(log, topic, |number, record, cause| {
        if letters.len() == limit || bytes >= RECORD_PAGE_BYTES_MAX {
            return Taken::No;
        }
        let name = cause.group();
        if group.is_none_or(|group| group == name) {
            let letter = letter(number, record, name, cause);
            // As long as its JSON: what it says may be written with six times as many bytes.
            bytes += serde_json::to_vec(&letter).map_or(0, |json| json.len());
            letters.push(letter);
        }
        Taken::Yes
    })?;
    // A page of letters that all were decided about has none, and the next one goes on behind them.
    let last = look.reached.or(after).filter(|_| look.is_cut);
    let next = last.map(|(partition, offset)| format!("{partition}@{offset}"));
    Ok(Letters { topic: topic.name.clone(), letters, next })
}

fn letter(partition: u32, record: &Record, group: String, cause: Cause) -> Letter {
    let Cause { framework, origin, consumer, why } = cause;
    let offset = offset(record.offset);
    Letter {
        letter: format!("{partition}@{offset}"),
        partition,
        offset,
        framework: framework.name(),
        original: listed(origin.topic),
        original_partition: origin.partition,
        original_offset: origin.offset,
        original_timestamp_ms: origin.timestamp_ms,
        consumer: listed(consumer),
        timestamp_ms: record.timestamp,
        group,
        error: listed(why.error),
        wrapped_in: listed(why.wrapped_in),
        message: listed(why.message),
        state: "dead",
    }
}

/// What a header of a letter says, as long as a sentence is: whoever writes into the topic says as much as a record
/// holds, and a thousand letters are on one page.
fn listed(said: Option<String>) -> Option<String> {
    said.map(|said| words(&said))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    use crate::api::limits::WORDS_BYTES_MAX;
    use bytes::Bytes;
    use courant_core::topic::TopicName;
    use courant_log::batch::records::{NewRecord, encode};
    use courant_log::storage::MemoryStorage;
    use courant_log::{Batch, Codec, LogConfig, NewTopic, SystemClock, SystemEntropy};

    pub(super) fn log() -> Log {
        let mut config = LogConfig::new(Arc::new(SystemClock), Arc::new(SystemEntropy));
        config.reserve_bytes = 0;
        Log::open(Arc::new(MemoryStorage::new(64 * 1024 * 1024)), config).expect("opens").0
    }

    pub(super) fn create(log: &Log, name: &str, partitions: u32) -> Arc<Topic> {
        let (done, created) = mpsc::channel();
        let name = TopicName::new(name).expect("legal");
        log.create_topic(NewTopic { name, partitions, configs: BTreeMap::new() }, move |result| {
            done.send(result).expect("the test waits");
        });
        created.recv().expect("an answer").expect("created")
    }

    /// Each record in a batch of its own.
    pub(super) fn append(log: &Log, topic: &Topic, partition: usize, record: NewRecord) {
        let batch = encode(&[record], Codec::None, None).expect("a batch");
        let (done, appended) = mpsc::channel();
        let id = topic.partitions[partition];
        log.append(id, Batch::validate(batch).expect("a good one"), move |result| {
            done.send(result).expect("the test waits");
        });
        appended.recv().expect("an answer").expect("appended");
    }

    /// One that is nearly as large as what is read at once.
    pub(super) fn dead() -> NewRecord {
        let header = |name: &'static str, value: &'static str| (Bytes::from(name), Some(Bytes::from(value)));
        let headers =
            vec![header("kafka_dlt-original-topic", "orders"), header("kafka_dlt-exception-fqcn", "NoPrice")];
        NewRecord { timestamp: 5, key: None, value: Some(vec![0; 400 * 1024].into()), headers }
    }

    pub(super) fn decide(log: &Log, decisions: &Topic, about: &Topic, letter: &str) {
        let value = format!(r#"{{"topic_id":"{}","state":"discarded"}}"#, about.id);
        let key = Some(Bytes::from(letter.to_owned()));
        append(log, decisions, 0, NewRecord { key, value: Some(value.into()), ..NewRecord::default() });
    }

    /// What was decided about can be more than one look goes through. No letter behind it is lost, and each
    /// page goes on where the last one ended.
    #[test]
    fn letters_behind_many_that_were_decided_about_are_found() {
        let log = log();
        let topic = create(&log, "orders-dlt", 2);
        let decisions = create(&log, "orders-dlt.courant-decisions", 1);
        for letter in ["0@0", "0@1", "0@2"] {
            append(&log, &topic, 0, dead());
            decide(&log, &decisions, &topic, letter);
        }
        append(&log, &topic, 0, dead());
        append(&log, &topic, 1, dead());
        let (mut seen, mut after, mut pages) = (Vec::new(), None, 0);
        loop {
            let page =
                page(&log, &topic, None, 10, after, Bounds { bytes: 1, decisions: 3 }).expect("a page");
            seen.extend(page.letters.into_iter().map(|letter| letter.letter));
            pages += 1;
            let Some(next) = page.next else { break };
            let next = place_after(&next).expect("a place");
            assert!(after < Some(next), "{next:?} behind {after:?}");
            after = Some(next);
        }
        assert_eq!(seen, ["0@3", "1@0"]);
        assert!(pages > 2, "one look has gone through all of them: {pages}");
        let whole =
            |decisions| page(&log, &topic, None, 10, None, Bounds { bytes: FOREIGN_BYTES_MAX, decisions });
        let all = whole(3).expect("a page");
        assert_eq!((all.letters.len(), all.next), (2, None));
        append(&log, &topic, 0, dead());
        decide(&log, &decisions, &topic, "0@4");
        // Where the first of them are more than are read, a look that has not come to its end says nothing.
        let refused = whole(1).expect_err("more than one, and more follow");
        assert!(refused.detail.contains("more decisions than are gone through"), "{}", refused.detail);
    }

    /// A letter whose headers say so many bytes each.
    fn wordy(bytes: usize) -> NewRecord {
        let header = |name: &'static str| (Bytes::from(name), Some(Bytes::from(vec![b'x'; bytes])));
        let names = [
            "kafka_dlt-original-topic",
            "kafka_dlt-original-consumer-group",
            "kafka_dlt-exception-fqcn",
            "kafka_dlt-exception-message",
        ];
        NewRecord { headers: names.map(header).into(), ..NewRecord::default() }
    }

    /// Symptom: a page of letters had all that their headers say, up to gigabytes where those are compressed, and was
    /// in memory beyond every bound. Cause: letters were counted, and not what they say. Fix: what is said is cut off
    /// behind the length of a sentence, and a page ends at its bytes as pages of records do.
    #[test]
    fn letters_that_say_much_are_cut_off_and_their_pages_end_earlier() {
        let log = log();
        let topic = create(&log, "orders-dlt", 1);
        append(&log, &topic, 0, wordy(500_000));
        let bounds = Bounds { bytes: FOREIGN_BYTES_MAX, decisions: 3 };
        let first = page(&log, &topic, None, 1_000, None, bounds).expect("a page");
        let json = serde_json::to_vec(&first).expect("JSON");
        assert!(json.len() < 10 * WORDS_BYTES_MAX, "{} bytes", json.len());
        let groups = grouped(&log, &topic, bounds).expect("one");
        let json = serde_json::to_vec(&groups).expect("JSON");
        assert!(json.len() < 10 * WORDS_BYTES_MAX, "{} bytes", json.len());

        let all = RECORD_PAGE_BYTES_MAX / (4 * WORDS_BYTES_MAX) + 20;
        for _ in 1..all {
            append(&log, &topic, 0, wordy(WORDS_BYTES_MAX));
        }
        let first = page(&log, &topic, None, 1_000, None, bounds).expect("a page");
        assert!(first.letters.len() < all, "{} of {all}", first.letters.len());
        let after = place_after(&first.next.expect("there are more")).expect("a place");
        let second = page(&log, &topic, None, 1_000, Some(after), bounds).expect("a page");
        assert_eq!((first.letters.len() + second.letters.len(), second.next), (all, None));
    }

    #[test]
    fn a_letter_is_a_partition_and_an_offset() {
        assert_eq!(letter_at(b"2@9007199254740993"), Some((2, 9_007_199_254_740_993)));
        for bad in ["", "2", "@", "2@", "redrive 7", "-1@2"] {
            assert_eq!(letter_at(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn a_failure_knows_its_oldest_and_its_newest_letter() {
        let place = |offset| Place { partition: 0, offset };
        let mut group = Group::of("g".to_owned(), 5, place(1), Cause::default());
        group.add(3, place(2));
        group.add(9, place(3));
        assert_eq!((group.letters, group.oldest_ms, group.newest_ms, group.newest.offset), (3, 3, 9, 3));
    }
}
