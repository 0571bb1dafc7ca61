//! The thread of a subscription: a member of the group that is always there for librdkafka, whatever the
//! subscription's owner is doing.
//!
//! Partitions are assigned at once and paused, so that the group goes on; they are read when they are
//! sought. What is revoked is given up when the subscription says so, and until then the group waits.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use courant_engine::{Ends, FetchError, Header, Partition, Position, Record};
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaRespErr;
use tracing::warn;

use crate::inbox::{Change, Inbox, Order};
use crate::limits::{IDLE, REQUEST_MAX};
use crate::looking::watermarks;
use crate::passing::passes;
use crate::servers::Servers;
use crate::settings;
use crate::texts;

/// A consumer in a group.
pub(crate) type Consumer = BaseConsumer<Member>;

/// What librdkafka calls, on the thread that asks it.
#[derive(Debug)]
pub(crate) struct Member {
    inbox: Arc<Inbox>,
    servers: Servers,
    /// Revoked, and not given up yet.
    revoking: Mutex<Vec<Partition>>,
    /// Nobody is there any more who could give anything up.
    is_closing: AtomicBool,
    /// The last look has served an event: there may be more.
    has_served: AtomicBool,
}

impl Member {
    pub(crate) fn new(inbox: Arc<Inbox>, servers: Servers) -> Self {
        Self {
            inbox,
            servers,
            revoking: Mutex::default(),
            is_closing: AtomicBool::new(false),
            has_served: AtomicBool::new(false),
        }
    }

    fn revoking(&self) -> MutexGuard<'_, Vec<Partition>> {
        self.revoking.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_revoking(&self) -> bool {
        !self.revoking().is_empty()
    }

    fn assign(&self, consumer: &BaseConsumer<Self>, list: &mut TopicPartitionList) -> KafkaResult<()> {
        // Nothing is read at this offset: seeking says where.
        list.set_all_offsets(Offset::Offset(0))?;
        consumer.incremental_assign(list)?;
        let assigned = named(list);
        if assigned.is_empty() {
            return Ok(());
        }
        consumer.pause(list)?;
        self.inbox.change(Change::Assigned(assigned));
        Ok(())
    }

    fn revoke(&self, consumer: &BaseConsumer<Self>, list: &TopicPartitionList) -> KafkaResult<()> {
        let revoked = named(list);
        if revoked.is_empty() || self.is_closing.load(Ordering::Acquire) {
            return consumer.incremental_unassign(list);
        }
        self.revoking().extend(revoked.iter().cloned());
        self.inbox.change(Change::Revoked(revoked));
        Ok(())
    }
}

impl ClientContext for Member {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.has_served.store(true, Ordering::Release);
        settings::log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.servers.hear(&error, reason);
    }
}

impl ConsumerContext for Member {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, event: RDKafkaRespErr, list: &mut TopicPartitionList) {
        self.has_served.store(true, Ordering::Release);
        let followed = match event {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => self.assign(consumer, list),
            _ => self.revoke(consumer, list),
        };
        if let Err(error) = followed {
            self.inbox.end(FetchError::Ended { reason: format!("the group cannot be followed: {error}") });
        }
    }

    fn commit_callback(&self, _result: KafkaResult<()>, _offsets: &TopicPartitionList) {
        self.has_served.store(true, Ordering::Release);
    }
}

/// The partitions of a list, in order.
fn named(list: &TopicPartitionList) -> Vec<Partition> {
    let elements = list.elements();
    let number = |number: i32| u32::try_from(number).ok();
    let named = elements.iter().filter_map(|one| Some(Partition::new(one.topic(), number(one.partition())?)));
    let mut named: Vec<_> = named.collect();
    named.sort_unstable();
    named
}

/// A partition's number as librdkafka has it. There are never so many that it does not fit.
pub(crate) fn number(partition: &Partition) -> i32 {
    i32::try_from(partition.number).unwrap_or(i32::MAX)
}

/// A list of partitions.
pub(crate) fn list<'a>(partitions: impl IntoIterator<Item = &'a Partition>) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for partition in partitions {
        list.add_partition(&partition.topic, number(partition));
    }
    list
}

/// A list of one partition and where it is to be read.
pub(crate) fn at(partition: &Partition, offset: u64) -> KafkaResult<TopicPartitionList> {
    let mut list = TopicPartitionList::new();
    let offset = Offset::Offset(i64::try_from(offset).unwrap_or(i64::MAX));
    list.add_partition_offset(&partition.topic, number(partition), offset)?;
    Ok(list)
}

/// Serves a subscription until it is told to end, and leaves the group.
pub(crate) fn run(consumer: Arc<Consumer>, inbox: Arc<Inbox>, servers: Servers) {
    let mut thread = Thread { consumer, inbox, servers, parts: BTreeMap::new() };
    while thread.turn() {}
    thread.leave();
}

struct Thread {
    consumer: Arc<Consumer>,
    inbox: Arc<Inbox>,
    servers: Servers,
    parts: BTreeMap<Partition, Part>,
}

/// A partition that is read.
struct Part {
    queue: Option<PartitionQueue<Member>>,
    seek: u64,
    /// The offset that comes next, or a later one.
    next: u64,
}

impl Thread {
    /// Follows what was ordered, and brings what has come. False: it is to end.
    fn turn(&mut self) -> bool {
        for order in self.inbox.wait(IDLE) {
            match order {
                Order::Close => return false,
                Order::GiveUp(partitions) => self.give_up(&partitions),
                Order::Seek { position, seek } => self.seek(&position, seek),
            }
        }
        self.serve();
        for (partition, part) in &mut self.parts {
            part.fill(partition, &self.consumer, &self.inbox, &self.servers);
        }
        true
    }

    /// Serves the group's events. Records come here only when a partition was begun behind our back; then
    /// it gets its queue again.
    fn serve(&mut self) {
        let consumer = self.consumer.clone();
        let mut strayed = BTreeSet::new();
        loop {
            consumer.context().has_served.store(false, Ordering::Release);
            match consumer.poll(Duration::ZERO) {
                Some(Ok(message)) => {
                    let partition = Partition::new(message.topic(), message.partition().cast_unsigned());
                    if let Some(part) = self.parts.get_mut(&partition) {
                        part.take(&partition, &message, &self.inbox);
                        strayed.insert(partition);
                    }
                }
                Some(Err(error)) => self.hear(&error),
                None if consumer.context().has_served.load(Ordering::Acquire) => {}
                None => break,
            }
        }
        for partition in strayed {
            if let Some(part) = self.parts.get_mut(&partition) {
                part.queue = None;
                part.split(&consumer, &self.inbox, &partition);
            }
        }
    }

    /// An error of the whole consumer. Those about connections pass.
    fn hear(&self, error: &KafkaError) {
        let fatal = match error {
            KafkaError::MessageConsumptionFatal(code) => Some(*code),
            KafkaError::MessageConsumption(
                code @ (RDKafkaErrorCode::InconsistentGroupProtocol
                | RDKafkaErrorCode::GroupAuthorizationFailed
                | RDKafkaErrorCode::InvalidGroupId),
            ) => Some(*code),
            _ => None,
        };
        if let Some(code) = fatal {
            let mut reason = texts::reason_of(code, &self.servers);
            if code == RDKafkaErrorCode::InconsistentGroupProtocol {
                reason
                    .push_str("; the group has members that do not know cooperative-sticky: end them first");
            }
            self.inbox.end(FetchError::Ended { reason });
        }
    }

    fn give_up(&mut self, partitions: &[Partition]) {
        self.parts.retain(|partition, _| !partitions.contains(partition));
        self.consumer.context().revoking().retain(|one| !partitions.contains(one));
        if let Err(error) = self.consumer.incremental_unassign(&list(partitions)) {
            // The group has taken them away meanwhile.
            warn!(%error, "partitions that were revoked are not assigned any more");
        }
    }

    fn seek(&mut self, position: &Position, seek: u64) {
        let Position { partition, offset } = position;
        let ends = match watermarks(&self.consumer, partition, REQUEST_MAX) {
            Ok(Some(ends)) => ends,
            Ok(None) => {
                let unknown = FetchError::UnknownPartition { partition: partition.clone() };
                return self.inbox.fail(partition, seek, unknown);
            }
            Err(error) => return self.fail(partition, seek, &error),
        };
        if !(ends.start..=ends.end).contains(offset) {
            return self.inbox.fail(partition, seek, out_of_range(position, ends));
        }
        self.inbox.ends(partition, seek, ends);
        let part = self.parts.entry(partition.clone()).or_insert(Part { queue: None, seek, next: *offset });
        (part.seek, part.next) = (seek, *offset);
        if let Err(error) = part.begin(&self.consumer, &self.inbox, position) {
            self.fail(partition, seek, &error);
        }
    }

    fn fail(&self, partition: &Partition, seek: u64, error: &KafkaError) {
        let reason = texts::reason(error, &self.servers);
        self.inbox.fail(partition, seek, FetchError::Failed { partition: partition.clone(), reason });
    }

    /// Gives up everything. The last owner of the consumer leaves the group when it lets it go.
    fn leave(self) {
        self.inbox.end(FetchError::Closed);
        self.consumer.context().is_closing.store(true, Ordering::Release);
        let revoking = std::mem::take(&mut *self.consumer.context().revoking());
        if !revoking.is_empty()
            && let Err(error) = self.consumer.incremental_unassign(&list(&revoking))
        {
            warn!(%error, "partitions that were revoked are not assigned any more");
        }
        // The queues hold the consumer.
        drop(self.parts);
        drop(self.consumer);
    }
}

impl Part {
    /// Has librdkafka read from a position on.
    fn begin(
        &mut self,
        consumer: &Arc<Consumer>,
        inbox: &Arc<Inbox>,
        position: &Position,
    ) -> KafkaResult<()> {
        let Position { partition, offset } = position;
        self.split(consumer, inbox, partition);
        // In this order: resuming would take up an older place.
        consumer.resume(&list([partition]))?;
        let sought = consumer.seek_partitions(at(partition, *offset)?, REQUEST_MAX)?;
        if sought.elements().iter().all(|one| one.error().is_ok()) {
            return Ok(());
        }
        // An error has ended the reading of the partition; only a new assignment begins it again. It must
        // not pass for the answer to a revocation.
        if consumer.context().is_revoking() {
            return Err(KafkaError::Seek("the group changes; it is tried again".to_owned()));
        }
        self.queue = None;
        consumer.incremental_unassign(&list([partition]))?;
        consumer.incremental_assign(&at(partition, *offset)?)?;
        self.split(consumer, inbox, partition);
        Ok(())
    }

    /// Gives the partition a queue of its own, from which no more is taken than there is room for.
    fn split(&mut self, consumer: &Arc<Consumer>, inbox: &Arc<Inbox>, partition: &Partition) {
        if self.queue.is_some() {
            return;
        }
        self.queue = consumer.split_partition_queue(&partition.topic, number(partition));
        if let Some(queue) = &mut self.queue {
            let inbox = inbox.clone();
            queue.set_nonempty_callback(move || inbox.raise());
        }
    }

    /// Takes what has come, while there is room.
    fn fill(&mut self, partition: &Partition, consumer: &Consumer, inbox: &Inbox, servers: &Servers) {
        let Some(queue) = self.queue.take() else { return };
        while inbox.has_room(partition) {
            match queue.poll(Duration::ZERO) {
                Some(Ok(message)) => self.take(partition, &message, inbox),
                Some(Err(error)) => {
                    let position = partition.at(self.next);
                    if let Some(error) = fetch_error(&error, &position, consumer, servers) {
                        inbox.fail(partition, self.seek, error);
                    }
                }
                None => break,
            }
        }
        self.queue = Some(queue);
    }

    fn take(&mut self, partition: &Partition, message: &BorrowedMessage<'_>, inbox: &Inbox) {
        let offset = u64::try_from(message.offset()).unwrap_or(0);
        if offset < self.next {
            return;
        }
        match record(partition, message) {
            Some(record) => {
                self.next = offset.saturating_add(1);
                inbox.push(self.seek, record);
            }
            None => inbox.fail(
                partition,
                self.seek,
                FetchError::Undecodable {
                    partition: partition.clone(),
                    offset,
                    next_offset: offset.saturating_add(1),
                    reason: "a header's name is not UTF-8, which the client cannot read".to_owned(),
                },
            ),
        }
    }
}

/// What an error of one partition means. `None`: it passes.
fn fetch_error(
    error: &KafkaError,
    position: &Position,
    consumer: &Consumer,
    servers: &Servers,
) -> Option<FetchError> {
    let partition = position.partition.clone();
    let code = texts::code(error)?;
    match code {
        RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange => {
            Some(match watermarks(consumer, &partition, REQUEST_MAX) {
                Ok(Some(ends)) => out_of_range(position, ends),
                Ok(None) => FetchError::UnknownPartition { partition },
                Err(error) => FetchError::Failed { partition, reason: texts::reason(&error, servers) },
            })
        }
        // Topics come back under the same name, and then they have other records.
        RDKafkaErrorCode::UnknownTopicOrPartition
        | RDKafkaErrorCode::UnknownTopic
        | RDKafkaErrorCode::UnknownPartition => Some(FetchError::UnknownPartition { partition }),
        RDKafkaErrorCode::InvalidMessage | RDKafkaErrorCode::BadMessage => Some(FetchError::Damaged {
            partition,
            offset: position.offset,
            next_offset: None,
            reason: texts::reason_of(code, servers),
        }),
        code if texts::is_absence(code) || passes(code) => None,
        code => Some(FetchError::Failed { partition, reason: texts::reason_of(code, servers) }),
    }
}

fn out_of_range(position: &Position, Ends { start, end }: Ends) -> FetchError {
    let Position { partition, offset } = position.clone();
    FetchError::OutOfRange { partition, offset, start, end }
}

/// A message as a record. `None`: the name of a header is not UTF-8.
pub(crate) fn record(partition: &Partition, message: &BorrowedMessage<'_>) -> Option<Record> {
    let bytes = |bytes: &[u8]| Bytes::copy_from_slice(bytes);
    let headers = match message.headers() {
        None => Vec::new(),
        // The client's own wrapper ends in a panic for such a name. Nothing is left half done by it.
        Some(headers) => catch_unwind(AssertUnwindSafe(|| {
            let header = |header: rdkafka::message::Header<'_, &[u8]>| Header {
                name: bytes(header.key.as_bytes()),
                value: header.value.map(bytes),
            };
            headers.iter().map(header).collect()
        }))
        .ok()?,
    };
    Some(Record {
        position: partition.at(u64::try_from(message.offset()).unwrap_or(0)),
        timestamp_ms: message.timestamp().to_millis().unwrap_or(-1),
        key: message.key().map(bytes),
        value: message.payload().map(bytes),
        headers,
    })
}
