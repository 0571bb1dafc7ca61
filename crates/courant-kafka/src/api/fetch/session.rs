//! One fetch session: what a client reads, and what it was told last (KIP-227). No I/O, no clock.
//!
//! The client sends its partitions once and from then on only what changes; it is answered only what
//! it does not know. Left out is a partition without records and without an error whose high watermark
//! and beginning are those that the client was told last, and no other.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use uuid::Uuid;

use crate::limits;
use crate::wire::ErrorCode;
use crate::wire::messages::{
    FetchPartition, FetchTopic, FetchableTopicResponse, ForgottenTopic, PartitionData,
};

/// What is remembered of one client.
#[derive(Debug, Default)]
pub(super) struct Session {
    /// In the order in which they are read.
    partitions: Vec<Partition>,
}

/// A topic as the client names it: by name or by id, and the other one is empty.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Topic {
    name: Arc<str>,
    id: Uuid,
}

#[derive(Debug)]
struct Partition {
    topic: Topic,
    index: i32,
    leader_epoch: i32,
    offset: i64,
    bytes_max: i32,
    /// `None`: nothing yet, or an error, after which everything is news.
    told: Option<Told>,
    /// Whether the last answer had records of it.
    delivered: bool,
}

/// What a client knows of a partition without having read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Told {
    high_watermark: i64,
    log_start: i64,
}

impl Session {
    /// A session that reads what a whole request names. A partition that it names twice is read once,
    /// as it was named last.
    pub(super) fn of(topics: Vec<FetchTopic>) -> Self {
        let mut session = Self::default();
        session.set(topics);
        session
    }

    pub(super) fn is_empty(&self) -> bool {
        self.partitions.is_empty()
    }

    /// Memory that the session may take, also while it is answered. A topic's name is there once for
    /// the session, once for what is read, and once for the answer.
    pub(super) fn bytes(&self) -> usize {
        let bytes =
            |partition: &Partition| limits::FETCH_SESSION_PARTITION_BYTES + 3 * partition.topic.name.len();
        self.partitions.iter().map(bytes).sum()
    }

    /// Applies what a request changes: partitions to read, or to read otherwise, and partitions to
    /// forget.
    pub(super) fn update(&mut self, topics: Vec<FetchTopic>, forgotten: &[ForgottenTopic]) {
        if !topics.is_empty() {
            self.set(topics);
        }
        if !forgotten.is_empty() {
            self.forget(forgotten);
        }
    }

    fn set(&mut self, topics: Vec<FetchTopic>) {
        let known = self.partitions.iter().enumerate();
        let mut places: HashMap<(Topic, i32), usize> =
            known.map(|(place, partition)| ((partition.topic.clone(), partition.index), place)).collect();
        for wanted in topics {
            let topic = Topic { name: wanted.topic.into(), id: wanted.topic_id };
            for partition in &wanted.partitions {
                match places.entry((topic.clone(), partition.partition)) {
                    Entry::Occupied(place) => self.partitions[*place.get()].set(partition),
                    Entry::Vacant(place) => {
                        place.insert(self.partitions.len());
                        self.partitions.push(Partition::new(topic.clone(), partition));
                    }
                }
            }
        }
    }

    fn forget(&mut self, forgotten: &[ForgottenTopic]) {
        let gone: HashSet<(&str, Uuid, i32)> = forgotten
            .iter()
            .flat_map(|topic| {
                topic.partitions.iter().map(move |index| (topic.topic.as_str(), topic.topic_id, *index))
            })
            .collect();
        self.partitions.retain(|partition| {
            !gone.contains(&(&*partition.topic.name, partition.topic.id, partition.index))
        });
        // Otherwise a session that was large once would take more than it is counted with.
        self.partitions.shrink_to(2 * self.partitions.len());
    }

    /// Everything that is read, in its order, as a whole request would name it.
    pub(super) fn topics(&self) -> Vec<FetchTopic> {
        let runs = self.partitions.chunk_by(|one, next| one.topic == next.topic);
        let topic = |run: &[Partition]| {
            let topic = &run.first()?.topic;
            Some(FetchTopic {
                topic: topic.name.to_string(),
                topic_id: topic.id,
                partitions: run.iter().map(Partition::wanted).collect(),
            })
        };
        runs.filter_map(topic).collect()
    }

    /// Leaves out of an answer what the client knows already. The answer has one partition for each of
    /// [`Session::topics`], in the same order.
    pub(super) fn tell_news(&mut self, answer: &mut Vec<FetchableTopicResponse>) {
        let mut partitions = self.partitions.iter_mut();
        for topic in answer.iter_mut() {
            topic.partitions.retain(|data| partitions.next().is_none_or(|partition| partition.tell(data)));
        }
        answer.retain(|topic| !topic.partitions.is_empty());
        self.rotate();
    }

    /// Remembers an answer that is given as it is.
    pub(super) fn tell_all(&mut self, answer: &[FetchableTopicResponse]) {
        let data = answer.iter().flat_map(|topic| &topic.partitions);
        for (partition, data) in self.partitions.iter_mut().zip(data) {
            partition.tell(data);
        }
        self.rotate();
    }

    /// What has delivered goes behind what has not: otherwise the first partitions, when they are busy,
    /// would take all the room of every answer.
    fn rotate(&mut self) {
        self.partitions.sort_by_key(|partition| partition.delivered);
    }
}

impl Partition {
    fn new(topic: Topic, wanted: &FetchPartition) -> Self {
        Self {
            topic,
            index: wanted.partition,
            leader_epoch: wanted.current_leader_epoch,
            offset: wanted.fetch_offset,
            bytes_max: wanted.partition_max_bytes,
            told: None,
            delivered: false,
        }
    }

    fn set(&mut self, wanted: &FetchPartition) {
        self.leader_epoch = wanted.current_leader_epoch;
        self.offset = wanted.fetch_offset;
        self.bytes_max = wanted.partition_max_bytes;
    }

    fn wanted(&self) -> FetchPartition {
        FetchPartition {
            partition: self.index,
            current_leader_epoch: self.leader_epoch,
            fetch_offset: self.offset,
            partition_max_bytes: self.bytes_max,
            ..FetchPartition::default()
        }
    }

    /// Remembers what the client is told, and returns whether that is news.
    fn tell(&mut self, data: &PartitionData) -> bool {
        self.delivered = data.records.as_ref().is_some_and(|records| !records.is_empty());
        let ends = Told { high_watermark: data.high_watermark, log_start: data.log_start_offset };
        let told = (data.error_code == ErrorCode::NONE.0).then_some(ends);
        let is_news = self.delivered || told.is_none() || told != self.told;
        self.told = told;
        is_news
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn topic(name: &str, partitions: &[(i32, i64)]) -> FetchTopic {
        let partition = |(index, offset): &(i32, i64)| FetchPartition {
            partition: *index,
            fetch_offset: *offset,
            partition_max_bytes: 100,
            ..FetchPartition::default()
        };
        FetchTopic {
            topic: name.to_owned(),
            partitions: partitions.iter().map(partition).collect(),
            ..FetchTopic::default()
        }
    }

    fn forgotten(name: &str, partitions: &[i32]) -> ForgottenTopic {
        ForgottenTopic {
            topic: name.to_owned(),
            partitions: partitions.to_vec(),
            ..ForgottenTopic::default()
        }
    }

    /// Topic, partition and offset of everything that is read, in its order.
    fn reads(session: &Session) -> Vec<(String, i32, i64)> {
        let topics = session.topics();
        let each = topics.iter().flat_map(|topic| topic.partitions.iter().map(move |one| (topic, one)));
        each.map(|(topic, one)| (topic.topic.clone(), one.partition, one.fetch_offset)).collect()
    }

    fn read(name: &str, partition: i32, offset: i64) -> (String, i32, i64) {
        (name.to_owned(), partition, offset)
    }

    /// An answer with the same data for every partition, changed where `change` says so.
    fn answer(session: &Session, change: impl Fn(i32, &mut PartitionData)) -> Vec<FetchableTopicResponse> {
        let data = |wanted: &FetchPartition| {
            let mut data = PartitionData {
                partition_index: wanted.partition,
                high_watermark: 5,
                log_start_offset: 0,
                ..PartitionData::default()
            };
            change(wanted.partition, &mut data);
            data
        };
        let topic = |topic: FetchTopic| FetchableTopicResponse {
            partitions: topic.partitions.iter().map(data).collect(),
            topic: topic.topic,
            topic_id: topic.topic_id,
        };
        session.topics().into_iter().map(topic).collect()
    }

    /// The partitions that an answer tells.
    fn told(session: &mut Session, change: impl Fn(i32, &mut PartitionData)) -> Vec<i32> {
        let mut answer = answer(session, change);
        session.tell_news(&mut answer);
        answer.iter().flat_map(|topic| &topic.partitions).map(|data| data.partition_index).collect()
    }

    #[test]
    fn partitions_come_change_and_go() {
        let mut session = Session::of(vec![topic("a", &[(0, 10), (1, 11)]), topic("b", &[(0, 12)])]);
        assert_eq!(reads(&session), [read("a", 0, 10), read("a", 1, 11), read("b", 0, 12)]);
        session.update(vec![topic("a", &[(1, 21)]), topic("c", &[(0, 22)])], &[]);
        assert_eq!(reads(&session), [read("a", 0, 10), read("a", 1, 21), read("b", 0, 12), read("c", 0, 22)]);
        session.update(Vec::new(), &[forgotten("a", &[0, 7]), forgotten("x", &[0])]);
        assert_eq!(reads(&session), [read("a", 1, 21), read("b", 0, 12), read("c", 0, 22)]);
        // What is named and forgotten at once is forgotten.
        session.update(vec![topic("d", &[(0, 1)])], &[forgotten("d", &[0]), forgotten("b", &[0])]);
        assert_eq!(reads(&session), [read("a", 1, 21), read("c", 0, 22)]);
        session.update(Vec::new(), &[forgotten("a", &[1]), forgotten("c", &[0])]);
        assert!(session.is_empty());
        assert_eq!(session.bytes(), 0);
    }

    #[test]
    fn a_partition_named_twice_is_read_once() {
        let session =
            Session::of(vec![topic("a", &[(0, 1), (0, 2)]), topic("b", &[]), topic("a", &[(0, 3)])]);
        assert_eq!(reads(&session), [read("a", 0, 3)]);
    }

    #[test]
    fn topics_are_told_apart_by_id_too() {
        let by_id = |id: u128| FetchTopic { topic_id: Uuid::from_u128(id), ..topic("", &[(0, 0)]) };
        let mut session = Session::of(vec![by_id(1), by_id(2), by_id(1)]);
        let forgotten = ForgottenTopic { topic_id: Uuid::from_u128(1), ..forgotten("", &[0]) };
        session.update(Vec::new(), &[forgotten]);
        let ids: Vec<_> = session.topics().iter().map(|topic| topic.topic_id).collect();
        assert_eq!(ids, [Uuid::from_u128(2)]);
    }

    #[test]
    fn what_is_known_is_left_out_and_nothing_else() {
        let mut session = Session::of(vec![topic("a", &[(0, 5), (1, 5)])]);
        let nothing = |_: i32, _: &mut PartitionData| {};
        assert_eq!(told(&mut session, nothing), [0, 1], "never told before");
        assert_eq!(told(&mut session, nothing), [0; 0]);
        // Partition 1 changes in one way at a time; each is told once, and its end once more.
        let changes: [fn(&mut PartitionData); 3] = [
            |data| data.high_watermark = 6,
            |data| data.log_start_offset = 3,
            |data| (data.high_watermark, data.log_start_offset) = (7, 4),
        ];
        for change in changes {
            let changed = |index: i32, data: &mut PartitionData| {
                if index == 1 {
                    change(data);
                }
            };
            assert_eq!(told(&mut session, changed), [1]);
            assert_eq!(told(&mut session, changed), [0; 0]);
            assert_eq!(told(&mut session, nothing), [1]);
        }
    }

    #[test]
    fn an_error_is_told_every_time_and_its_end_too() {
        let mut session = Session::of(vec![topic("a", &[(0, 5), (1, 5)])]);
        let nothing = |_: i32, _: &mut PartitionData| {};
        told(&mut session, nothing);
        let failing = |index: i32, data: &mut PartitionData| {
            if index == 0 {
                data.error_code = ErrorCode::OFFSET_OUT_OF_RANGE.0;
            }
        };
        assert_eq!(told(&mut session, failing), [0]);
        assert_eq!(told(&mut session, failing), [0]);
        assert_eq!(told(&mut session, nothing), [0], "it is well again");
        assert_eq!(told(&mut session, nothing), [0; 0]);
    }

    #[test]
    fn records_are_told_and_their_partition_goes_to_the_end() {
        let mut session = Session::of(vec![topic("a", &[(0, 0), (1, 0), (2, 0)]), topic("b", &[(3, 0)])]);
        let nothing = |_: i32, _: &mut PartitionData| {};
        told(&mut session, nothing);
        let delivering = |index: i32, data: &mut PartitionData| {
            if index == 0 || index == 2 {
                data.records = Some(Bytes::from_static(b"records"));
            }
        };
        assert_eq!(told(&mut session, delivering), [0, 2]);
        let order = |session: &Session| reads(session).iter().map(|(_, index, _)| *index).collect::<Vec<_>>();
        assert_eq!(order(&session), [1, 3, 0, 2]);
        assert_eq!(told(&mut session, delivering), [0, 2], "also when the ends are known");
        assert_eq!(told(&mut session, nothing), [0; 0]);
        assert_eq!(order(&session), [1, 3, 0, 2]);
    }

    #[test]
    fn a_whole_answer_is_remembered() {
        let mut session = Session::of(vec![topic("a", &[(0, 0), (1, 0)])]);
        let first = answer(&session, |index, data| {
            if index == 0 {
                data.records = Some(Bytes::from_static(b"records"));
            }
        });
        session.tell_all(&first);
        assert_eq!(reads(&session), [read("a", 1, 0), read("a", 0, 0)]);
        assert_eq!(told(&mut session, |_, _| {}), [0; 0]);
    }

    #[test]
    fn memory_is_counted_with_the_names() {
        let session = Session::of(vec![topic("abc", &[(0, 0), (1, 0)])]);
        assert_eq!(session.bytes(), 2 * (limits::FETCH_SESSION_PARTITION_BYTES + 9));
    }
}
