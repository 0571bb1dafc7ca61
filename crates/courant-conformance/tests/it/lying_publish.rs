//! Lies about what is published.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use courant_core::topic::TopicName;
use courant_engine::{NewRecord, NewTopic, Partition, Position, PublishError, ensure_topics};

use crate::liar::Liar;
use crate::lies::Lie;

type Answers = Vec<Result<Position, PublishError>>;

impl Liar {
    pub(crate) async fn publish_lying(&self, mut records: Vec<NewRecord>) -> Answers {
        for record in &mut records {
            self.change(record).await;
        }
        match self.lie {
            Lie::SwapsWithinKey | Lie::SwapsAcrossKeys => self.swapping(records).await,
            Lie::SwapsHalvesOfLargeCalls => self.swapping_halves(records).await,
            Lie::HoldsBackOverCalls => self.holding_back(records).await,
            Lie::DropsOneInThousand | Lie::DropsKeyless => self.dropping(records).await,
            Lie::StoresSomeTwice => self.repeating(records).await,
            Lie::DropsRepetitions | Lie::RemembersOneId | Lie::TruthAboutIds => self.comparing(records).await,
            Lie::AcknowledgesEarly => self.acknowledging_early(records).await,
            Lie::AnswersFirstOffset => {
                let mut first: BTreeMap<Partition, u64> = BTreeMap::new();
                let mut answers = self.inner.publish(records).await;
                for position in answers.iter_mut().flatten() {
                    position.offset = *first.entry(position.partition.clone()).or_insert(position.offset);
                }
                answers
            }
            Lie::ReversesAnswers => {
                let mut answers = self.inner.publish(records).await;
                answers.reverse();
                answers
            }
            Lie::MakesTopicsByPublishing => {
                let topics = records.iter().map(|record| NewTopic::new(topic_of(record), 1)).collect();
                ensure_topics(&*self.inner, topics).await.expect("ensured");
                self.inner.publish(records).await
            }
            Lie::RefusesTheRestOfTheCall => self.one_by_one(records).await,
            Lie::LeaksBetweenTopics => self.leaking(records).await,
            _ => self.inner.publish(records).await,
        }
    }

    /// Lies about a single record.
    async fn change(&self, record: &mut NewRecord) {
        match self.lie {
            Lie::LosesHeaders => record.headers.clear(),
            Lie::MergesHeaders => {
                let mut seen = Vec::new();
                record.headers.retain(|header| {
                    let is_new = !seen.contains(&header.name);
                    seen.push(header.name.clone());
                    is_new
                });
            }
            Lie::NullIsEmpty => {
                record.value.get_or_insert_default();
                record.headers.iter_mut().for_each(|header| {
                    header.value.get_or_insert_default();
                });
            }
            Lie::LossyText => {
                let lossy = |bytes: &Bytes| Bytes::from(String::from_utf8_lossy(bytes).into_owned());
                record.value = record.value.as_ref().map(lossy);
            }
            Lie::TruncatesTimestamps => {
                record.timestamp_ms = record.timestamp_ms.map(|ms| ms / 1_000 * 1_000);
            }
            Lie::TimeZeroForNone => record.timestamp_ms = record.timestamp_ms.or(Some(0)),
            Lie::TakesAnyTime => record.timestamp_ms = record.timestamp_ms.map(|ms| ms.max(0)),
            Lie::CutsLargeValues => {
                record.value.iter_mut().for_each(|value| value.truncate(65_536));
            }
            Lie::IgnoresPartition => record.partition = None,
            Lie::KeyWanders => {
                let partitions = u64::from(self.partitions_of(record).await);
                record.partition = u32::try_from(self.counted() % partitions).ok();
            }
            Lie::OtherPartitioner => {
                let sum: u32 = record.key.iter().flatten().map(|byte| u32::from(*byte)).sum();
                record.partition = Some(sum % self.partitions_of(record).await);
            }
            _ => {}
        }
    }

    async fn partitions_of(&self, record: &NewRecord) -> u32 {
        let found = self.inner.topics(vec![topic_of(record)]).await.expect("told");
        found.into_iter().flatten().next().map_or(1, |topic| topic.partitions)
    }

    async fn swapping(&self, mut records: Vec<NewRecord>) -> Answers {
        if let [one, other, ..] = &mut records[..] {
            let is_one_key = one.key == other.key;
            if is_one_key == (self.lie == Lie::SwapsWithinKey) {
                std::mem::swap(one, other);
            }
        }
        self.inner.publish(records).await
    }

    async fn swapping_halves(&self, mut records: Vec<NewRecord>) -> Answers {
        let bytes: usize = records.iter().map(NewRecord::payload_bytes).sum();
        let by = if bytes > 1_000_000 { records.len() / 2 } else { 0 };
        records.rotate_left(by);
        let mut answers = self.inner.publish(records).await;
        answers.rotate_right(by);
        answers
    }

    /// The last record of every third call is answered, and stored behind those of the next call.
    async fn holding_back(&self, mut records: Vec<NewRecord>) -> Answers {
        let before = std::mem::take(&mut *self.held.lock().expect("nobody panics with it"));
        let held = if self.counted().is_multiple_of(3) { records.pop() } else { None };
        let answer = held.as_ref().map(|record| Ok(Partition::new(record.topic.clone(), 0).at(0)));
        self.held.lock().expect("nobody panics with it").extend(held);
        let mut answers = self.inner.publish(records).await;
        self.inner.publish(before).await;
        answers.extend(answer);
        answers
    }

    async fn dropping(&self, records: Vec<NewRecord>) -> Answers {
        let mut kept = Vec::new();
        let mut dropped = Vec::new();
        for record in records {
            let is_dropped = match self.lie {
                Lie::DropsKeyless => record.key.is_none() && record.partition.is_none(),
                _ => self.counted() % 1_000 == 999,
            };
            dropped.push(is_dropped.then(|| Partition::new(record.topic.clone(), 0).at(0)));
            if !is_dropped {
                kept.push(record);
            }
        }
        let mut answers = self.inner.publish(kept).await.into_iter();
        let told = dropped.into_iter().map(|dropped| match dropped {
            Some(position) => Ok(position),
            None => answers.next().expect("one for each"),
        });
        told.collect()
    }

    async fn repeating(&self, records: Vec<NewRecord>) -> Answers {
        let again = records.iter().filter(|_| self.counted() % 100 == 99).cloned().collect();
        let answers = self.inner.publish(records).await;
        self.inner.publish(again).await;
        answers
    }

    /// What is like a record that is remembered is not stored.
    async fn comparing(&self, records: Vec<NewRecord>) -> Answers {
        let mut answers = Vec::new();
        for record in records {
            if let Some(position) = self.remembered(&record) {
                answers.push(Ok(position));
                continue;
            }
            let answer = self.inner.publish(vec![record.clone()]).await.remove(0);
            if let Ok(position) = &answer {
                let stored = (record, position.clone());
                self.stored.lock().expect("nobody panics with it").push(stored);
            }
            answers.push(answer);
        }
        answers
    }

    /// Where a record is, of those that are remembered: all of them, or the last one.
    fn remembered(&self, record: &NewRecord) -> Option<Position> {
        let stored = self.stored.lock().expect("nobody panics with it");
        let first = if self.lie == Lie::TruthAboutIds { 0 } else { stored.len().saturating_sub(1) };
        stored[first..].iter().find(|(known, _)| known == record).map(|(_, position)| position.clone())
    }

    /// For topics with one partition: the offsets are right, and the records come later.
    async fn acknowledging_early(&self, records: Vec<NewRecord>) -> Answers {
        let Some(first) = records.first() else { return Vec::new() };
        let partition = Partition::new(first.topic.clone(), 0);
        let ends = self.inner.ends(vec![partition.clone()]).await.remove(0).expect("there");
        let answers = (ends.end..).take(records.len()).map(|offset| Ok(partition.at(offset))).collect();
        let inner = self.inner.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(50)).await;
            inner.publish(records).await;
        });
        answers
    }

    /// After a record that is refused nothing more is tried.
    async fn one_by_one(&self, records: Vec<NewRecord>) -> Answers {
        let mut answers: Answers = Vec::new();
        for record in records {
            if answers.iter().any(Result::is_err) {
                answers.push(Err(PublishError::NotTried));
            } else {
                answers.extend(self.inner.publish(vec![record]).await);
            }
        }
        answers
    }

    async fn leaking(&self, records: Vec<NewRecord>) -> Answers {
        let known = self.known.lock().expect("nobody panics with it").clone();
        let mut copies = Vec::new();
        for record in &records {
            let others = known.iter().filter(|topic| **topic != record.topic);
            copies.extend(others.map(|topic| NewRecord { topic: topic.clone(), ..record.clone() }));
        }
        let answers = self.inner.publish(records).await;
        self.inner.publish(copies).await;
        answers
    }
}

fn topic_of(record: &NewRecord) -> TopicName {
    TopicName::new(&record.topic).expect("legal")
}
