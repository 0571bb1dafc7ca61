//! Publishing: records to their partitions, and their answers back.
//!
//! The producer keeps the order of a partition by itself: what it has sent it sends again until it is
//! answered, and what is refused ends it, with everything behind it. So a call hands over its records in
//! their order and waits.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use courant_core::partitioner::partition_for_key;
use courant_engine::{NewRecord, Partition, Position, PublishError};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout_at};

use crate::catalog::{Described, Found};
use crate::engine::Shared;
use crate::limits::{BATCH_BYTES_MAX, GIVEN_UP_MAX, PUBLISH_MAX, QUEUE_PAUSE};
use crate::looking::is_unknown;
use crate::producer::{Answer, Producer, Sent, Slot, let_go};
use crate::size::batch_bytes;
use crate::texts;

/// What became of one record.
type Outcome = Result<Position, PublishError>;

/// A record that its topic can take.
struct Placed {
    index: usize,
    record: NewRecord,
    partition: Partition,
    described: Arc<Described>,
}

/// Publishes records; the answers are in their order.
pub(crate) async fn publish(shared: &Shared, records: Vec<NewRecord>) -> Vec<Outcome> {
    let all = |error: PublishError| records.iter().map(|_| Err(error.clone())).collect::<Vec<_>>();
    if shared.is_closed() {
        return all(PublishError::Closed);
    }
    let mut names: Vec<String> = records.iter().map(|record| record.topic.to_string()).collect();
    names.sort_unstable();
    names.dedup();
    let found = match shared.catalog.get(&names).await {
        Ok(found) => found,
        Err(reason) => return all(PublishError::Unreachable { reason }),
    };
    let mut results = all(PublishError::NotTried);
    let any = shared.keyless.fetch_add(1, Ordering::Relaxed);
    let now_ms = shared.now_ms();
    let (mut many, mut single) = (Vec::new(), Vec::new());
    for (index, record) in records.into_iter().enumerate() {
        match place(&found, index, record, any, now_ms) {
            Ok(placed) if placed.described.topic.record_bytes_max < BATCH_BYTES_MAX => single.push(placed),
            Ok(placed) => many.push(placed),
            Err(error) => results[index] = Err(error),
        }
    }
    let deadline = Instant::now() + PUBLISH_MAX;
    let (many, single) = (
        Call::of(shared, shared.producers.many(), many, deadline),
        Call::of(shared, shared.producers.single(), single, deadline),
    );
    let (many, single) = tokio::join!(many.run(), single.run());
    let mut refused_together = Vec::new();
    for Ran { outcomes, together } in [many, single] {
        for (index, outcome) in outcomes {
            results[index] = outcome;
        }
        refused_together.extend(together);
    }
    one_by_one(shared, refused_together, deadline, &mut results).await;
    results
}

/// Publishes what was refused together, in its order and each by itself: so it is known which of them the server does
/// not take, and the others are stored. Where it is not there any more, or the time is up, the rest is not tried.
async fn one_by_one(shared: &Shared, mut together: Vec<Placed>, deadline: Instant, results: &mut [Outcome]) {
    together.sort_unstable_by_key(|placed| placed.index);
    for placed in together {
        if Instant::now() >= deadline {
            return;
        }
        let ran = Call::of(shared, shared.producers.single(), vec![placed], deadline).run().await;
        for (index, outcome) in ran.outcomes {
            let is_known = matches!(&outcome, Ok(_) | Err(PublishError::Unencodable { .. }));
            results[index] = outcome;
            if !is_known {
                return;
            }
        }
    }
}

/// The partition of a record that its topic can take now. `any` chooses where there is no key.
///
/// What the server would refuse is refused here: it refuses whole batches, and that ends the producer.
fn place(
    found: &Found,
    index: usize,
    record: NewRecord,
    any: u32,
    now_ms: i64,
) -> Result<Placed, PublishError> {
    let topic = || record.topic.to_string();
    let Some(described) = found.get(&*record.topic).cloned().flatten() else {
        return Err(PublishError::UnknownTopic { topic: topic() });
    };
    let have = described.topic.partitions;
    let number = match (record.partition, &record.key) {
        (Some(number), _) => number,
        (None, Some(key)) => partition_for_key(key, have),
        (None, None) => any.checked_rem(have).unwrap_or(0),
    };
    let partition = Partition { topic: described.topic.name.clone(), number };
    if number >= have {
        return Err(PublishError::UnknownPartition { partition, have });
    }
    let (payload, max) = (record.payload_bytes(), described.topic.record_bytes_max);
    let bytes = if payload > max { payload } else { batch_bytes(&record) };
    if bytes > max {
        return Err(PublishError::TooLarge { topic: topic(), bytes, max });
    }
    if record.key.is_none() && described.is_compacted {
        return Err(PublishError::NoKey { topic: topic() });
    }
    if let Some(reason) = unsendable(&record) {
        return Err(PublishError::Unencodable { reason });
    }
    // By the clock here, which may be wrong; the server's nobody can ask for. Whoever keeps the record publishes it again.
    // Sent to be refused, it would take its batch with it each time, and nothing of its partition would ever be stored.
    if let (Some(times), Some(timestamp_ms)) = (described.topic.timestamps, record.timestamp_ms)
        && let Err(bad) = times.check(timestamp_ms, now_ms)
    {
        let reason = format!("{bad} in topic {}, by the clock of this process", topic());
        return Err(PublishError::Unencodable { reason });
    }
    Ok(Placed { index, record, partition, described })
}

/// Why the client cannot send a record as it is.
fn unsendable(record: &NewRecord) -> Option<String> {
    match record.timestamp_ms {
        Some(0) => Some("its timestamp is 0, which the client takes for none; 1 is the first".to_owned()),
        Some(timestamp_ms) if timestamp_ms < 0 => {
            Some(format!("its timestamp is {timestamp_ms}; timestamps begin with 1970, at 0"))
        }
        _ => {
            let is_text = |name: &[u8]| std::str::from_utf8(name).is_ok_and(|name| !name.contains('\0'));
            let is_wrong = record.headers.iter().any(|header| !is_text(&header.name));
            is_wrong.then(|| "the name of a header is not UTF-8, or has a NUL in it".to_owned())
        }
    }
}

/// The records of one call that go through one producer.
struct Call<'a> {
    shared: &'a Shared,
    slot: &'a Slot,
    placed: Vec<Placed>,
    outcomes: Vec<(usize, Outcome)>,
    /// Where those are which the server has refused, or others of their batch.
    together: Vec<usize>,
    deadline: Instant,
    /// Records that were handed over and have no answer yet.
    under_way: usize,
    answered: Vec<Answer>,
}

/// What has come of a call.
struct Ran {
    outcomes: Vec<(usize, Outcome)>,
    /// Those that are not stored because the server has refused one of them, or several.
    together: Vec<Placed>,
}

/// How handing over has ended.
enum Handed {
    All,
    /// With this record, which was not taken; those behind it are not tried.
    At(usize, PublishError),
}

impl<'a> Call<'a> {
    fn of(shared: &'a Shared, slot: &'a Slot, placed: Vec<Placed>, deadline: Instant) -> Self {
        let (outcomes, together, answered) = (Vec::new(), Vec::new(), Vec::new());
        Self { shared, slot, placed, outcomes, together, deadline, under_way: 0, answered }
    }

    async fn run(mut self) -> Ran {
        if self.placed.is_empty() {
            return self.ran();
        }
        let producer = match self.slot.get() {
            Ok(producer) => producer,
            Err(error) => {
                let error = PublishError::Failed { reason: error.to_string() };
                self.outcomes = self.placed.iter().map(|placed| (placed.index, Err(error.clone()))).collect();
                return self.ran();
            }
        };
        let (answers, mut inbox) = mpsc::unbounded_channel();
        let (mut producer, handed) = self.hand_over(producer, &answers, &mut inbox).await;
        drop(answers);
        self.wait(&mut producer, &mut inbox).await;
        self.settle(handed);
        // What the server refused has ended it, and what has no answer is in it still.
        if self.under_way > 0 || self.answered.iter().any(|(_, answer)| answer.is_err()) {
            self.slot.retire(&producer);
        }
        let_go(producer);
        self.ran()
    }

    fn ran(self) -> Ran {
        let mut is_one = vec![false; self.placed.len()];
        self.together.iter().for_each(|at| is_one[*at] = true);
        let together = self.placed.into_iter().zip(is_one).filter_map(|(placed, is)| is.then_some(placed));
        Ran { outcomes: self.outcomes, together: together.collect() }
    }

    /// Gives the records to the producer, in their order. One that has ended before it got the first is
    /// replaced.
    async fn hand_over(
        &mut self,
        mut producer: Arc<Producer>,
        answers: &mpsc::UnboundedSender<Answer>,
        inbox: &mut mpsc::UnboundedReceiver<Answer>,
    ) -> (Arc<Producer>, Handed) {
        let now_ms = self.shared.now_ms();
        let mut at = 0;
        let mut is_fresh = false;
        while let Some(placed) = self.placed.get(at) {
            // It was checked that there are not more partitions than that.
            let number = i32::try_from(placed.partition.number).unwrap_or(i32::MAX);
            match producer.send(number, &placed.record, now_ms, at, answers) {
                Sent::Yes => {
                    at += 1;
                    self.under_way += 1;
                }
                Sent::Full if self.shared.is_closed() => {
                    return (producer, Handed::At(at, PublishError::Closed));
                }
                Sent::Full if Instant::now() >= self.deadline => {
                    return (producer, Handed::At(at, PublishError::Busy));
                }
                Sent::Full if self.under_way > 0 => self.take_one(inbox).await,
                Sent::Full => sleep(QUEUE_PAUSE).await,
                Sent::Ended if at == 0 && !is_fresh => {
                    self.slot.retire(&producer);
                    match self.slot.get() {
                        Ok(other) => let_go(std::mem::replace(&mut producer, other)),
                        Err(error) => {
                            let reason = error.to_string();
                            return (producer, Handed::At(at, PublishError::Failed { reason }));
                        }
                    }
                    is_fresh = true;
                }
                Sent::Ended => return (producer, Handed::At(at, PublishError::NotTried)),
                Sent::Refused(error) => {
                    let error = self.meaning(&error, at);
                    return (producer, Handed::At(at, error));
                }
            }
        }
        (producer, Handed::All)
    }

    /// Waits for one answer, or for the deadline.
    async fn take_one(&mut self, inbox: &mut mpsc::UnboundedReceiver<Answer>) {
        if let Ok(Some(answer)) = timeout_at(self.deadline, inbox.recv()).await {
            self.under_way = self.under_way.saturating_sub(1);
            self.answered.push(answer);
        }
    }

    /// Waits for the answers; at the deadline everything is given up.
    async fn wait(&mut self, producer: &mut Arc<Producer>, inbox: &mut mpsc::UnboundedReceiver<Answer>) {
        let mut is_given_up = false;
        while self.under_way > 0 {
            let waited = tokio::select! {
                waited = timeout_at(self.deadline, inbox.recv()) => waited,
                () = self.shared.until_closed(), if !is_given_up => {
                    // What can be answered still is answered soon.
                    is_given_up = true;
                    self.deadline = Instant::now() + GIVEN_UP_MAX;
                    self.slot.retire(producer);
                    continue;
                }
            };
            match waited {
                Ok(Some(answer)) => {
                    self.under_way -= 1;
                    self.answered.push(answer);
                }
                Ok(None) => return,
                Err(_) if is_given_up => return,
                Err(_) => {
                    is_given_up = true;
                    self.deadline = Instant::now() + GIVEN_UP_MAX;
                    self.slot.retire(producer);
                }
            }
        }
    }

    /// Makes outcomes of the answers.
    fn settle(&mut self, handed: Handed) {
        let handed_over = match &handed {
            Handed::All => self.placed.len(),
            Handed::At(at, _) => *at,
        };
        let in_doubt = || {
            let reason = if self.shared.is_closed() {
                "the engine was closed".to_owned()
            } else {
                texts::absent(&self.shared.address.servers)
            };
            Err(PublishError::InDoubt { reason })
        };
        let mut outcomes: Vec<Outcome> = (0..self.placed.len())
            .map(|at| if at < handed_over { in_doubt() } else { Err(PublishError::NotTried) })
            .collect();
        if let Handed::At(at, error) = handed {
            outcomes[at] = Err(error);
        }
        for (at, answer) in &self.answered {
            outcomes[*at] = match answer {
                // The server gives no negative ones.
                Ok(offset) => Ok(self.placed[*at].partition.at(u64::try_from(*offset).unwrap_or(0))),
                Err(error) => {
                    if self.may_be_another(error, *at) {
                        self.together.push(*at);
                    }
                    Err(self.meaning(error, *at))
                }
            };
        }
        self.outcomes = self.placed.iter().map(|placed| placed.index).zip(outcomes).collect();
    }

    /// Whether the server may have refused another record of the batch: the client says the same of all of them, also
    /// where the server blames one of them alone, or it says of this one that it is not to blame.
    fn may_be_another(&self, error: &KafkaError, at: usize) -> bool {
        let is_alone = || {
            let partition = &self.placed[at].partition;
            self.placed.iter().filter(|other| other.partition == *partition).nth(1).is_none()
        };
        match texts::code(error) {
            Some(RDKafkaErrorCode::InvalidDifferentRecord) => true,
            Some(RDKafkaErrorCode::InvalidRecord | RDKafkaErrorCode::InvalidTimestamp) => !is_alone(),
            _ => false,
        }
    }

    /// What an error means for a record.
    fn meaning(&self, error: &KafkaError, at: usize) -> PublishError {
        let Placed { partition, record, described, .. } = &self.placed[at];
        let topic = partition.topic.to_string();
        let servers = &self.shared.address.servers;
        match texts::code(error) {
            // The second: the server has refused another record of its batch.
            Some(RDKafkaErrorCode::PurgeQueue | RDKafkaErrorCode::InvalidDifferentRecord) => {
                PublishError::NotTried
            }
            Some(code) if is_unknown(code) => {
                self.shared.catalog.doubt(&topic);
                PublishError::UnknownTopic { topic }
            }
            Some(RDKafkaErrorCode::MessageSizeTooLarge) => {
                // Somebody has lowered the limit since it was looked at.
                self.shared.catalog.doubt(&topic);
                let max = described.topic.record_bytes_max;
                PublishError::TooLarge { topic, bytes: batch_bytes(record), max }
            }
            Some(code @ (RDKafkaErrorCode::InvalidRecord | RDKafkaErrorCode::InvalidTimestamp)) => {
                // Somebody has changed what it takes since it was looked at, or the clocks differ.
                self.shared.catalog.doubt(&topic);
                if self.may_be_another(error, at) {
                    PublishError::NotTried
                } else {
                    PublishError::Unencodable { reason: texts::reason_of(code, servers) }
                }
            }
            Some(RDKafkaErrorCode::PurgeInflight | RDKafkaErrorCode::MessageTimedOut) => {
                PublishError::InDoubt { reason: texts::absent(servers) }
            }
            // Another record has ended the producer while this one was on its way.
            Some(code @ (RDKafkaErrorCode::Fatal | RDKafkaErrorCode::GaplessGuarantee)) => {
                PublishError::InDoubt { reason: texts::reason_of(code, servers) }
            }
            Some(code) if texts::is_absence(code) => PublishError::InDoubt { reason: texts::absent(servers) },
            Some(code) => PublishError::Failed { reason: texts::reason_of(code, servers) },
            None => PublishError::Failed { reason: error.to_string() },
        }
    }
}
