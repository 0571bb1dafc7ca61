//! The operations channel from outside: what services say of themselves, and asking one of them.

use super::tls;
use crate::cli::Global;
use crate::exit::{Exit, Failure, note};
use crate::explain;
use crate::files::read_text;
use crate::time::now_ms;
use bytes::Bytes;
use courant::channel::{
    ANSWERS, Action, Answer, EXPIRY_MAX_MS, OperationsKey, Outcome, REQUESTS, Request, SERVICES,
    ServiceState, Signed,
};
use courant_core::entropy::Entropy as _;
use courant_kafka::client::{
    Address, AdminError, Client, ClientConfig, Consumer, Event, NewTopic, OffsetAt, Producer, ProducerConfig,
    TopicInfo,
};
use courant_log::SystemEntropy;
use courant_log::batch::Codec;
use std::collections::BTreeMap;
use std::path::Path;

/// The version of requests and answers that is spoken here.
const VERSION: u32 = 1;

/// Bytes of a file with a key, at most.
const KEY_FILE_BYTES_MAX: u64 = 4096;

/// Instances that are listed: more would take too much memory.
const INSTANCES_MAX: usize = 100_000;

/// A request is valid for this long at most: a minute less than a service takes, whose clock may be behind.
const VALID_MAX_MS: i64 = EXPIRY_MAX_MS - 60_000;

/// How long answers are kept, as services keep them.
const ANSWERS_KEPT_MS: &str = "86400000";

/// What every instance of every service says of itself, in the order in which they have spoken last: clocks
/// differ.
pub(super) async fn states(global: &Global, servers: &[Address]) -> Result<Vec<ServiceState>, Failure> {
    let mut client = connect(global, servers).await?;
    let topic = match client.topic(SERVICES, false).await {
        Ok(topic) => topic,
        // Nobody has ever said anything.
        Err(AdminError::UnknownTopic { .. }) => return Ok(Vec::new()),
        Err(error) => return Err(explain::admin(&error)),
    };
    let mut newest: BTreeMap<Bytes, (u64, Bytes)> = BTreeMap::new();
    everything(client, topic, &mut newest).await?;
    let mut values: Vec<(u64, Bytes)> = newest.into_values().collect();
    values.sort_unstable_by_key(|(place, _)| *place);
    let mut states = Vec::with_capacity(values.len());
    for (_, value) in values {
        match ServiceState::read(&value) {
            Ok(state) => states.push(state),
            Err(error) if !global.quiet => note(format_args!("One instance is left out: {error}.")),
            Err(_) => {}
        }
    }
    Ok(states)
}

/// The newest value of each key of a topic, up to where it ends now, and its place among all of
/// them. A key whose newest event has no value has ended.
async fn everything(
    mut client: Client,
    topic: TopicInfo,
    newest: &mut BTreeMap<Bytes, (u64, Bytes)>,
) -> Result<(), Failure> {
    let partitions: Vec<i32> = topic.partitions.iter().map(|partition| partition.index).collect();
    let ends = client.list_offsets(&topic, &partitions, OffsetAt::End).await;
    let ends = ends.map_err(|error| explain::admin(&error))?;
    let starts = client.list_offsets(&topic, &partitions, OffsetAt::Start).await;
    let starts = starts.map_err(|error| explain::admin(&error))?;
    let end_of = |partition: &i32| ends.get(partition).map_or(0, |end| end.offset);
    let positions: BTreeMap<i32, i64> = starts
        .iter()
        .map(|(partition, start)| (*partition, start.offset))
        .filter(|(partition, start)| *start < end_of(partition))
        .collect();
    let mut consumer = Consumer::new(client, topic, positions);
    let mut place = 0;
    while !consumer.positions().is_empty() {
        for event in consumer.next().await.map_err(|error| explain::fetch(&error))? {
            let is_before = event.record.offset < end_of(&event.partition);
            match (event.record.key.filter(|_| is_before), event.record.value) {
                // A copy: the value is a part of all that was fetched with it.
                (Some(key), Some(value)) => {
                    let value = Bytes::copy_from_slice(&value);
                    newest.insert(Bytes::copy_from_slice(&key), (place, value));
                    place += 1;
                }
                (Some(key), None) => drop(newest.remove(&key)),
                (None, _) => {}
            }
        }
        if newest.len() > INSTANCES_MAX {
            let sentence = format!(
                "{SERVICES} has more than {INSTANCES_MAX} instances; nobody can have started so many"
            );
            return Err(Failure::new(Exit::Failed, sentence));
        }
        let read: Vec<i32> = consumer
            .positions()
            .iter()
            .filter(|&(partition, position)| *position >= end_of(partition))
            .map(|(partition, _)| *partition)
            .collect();
        read.into_iter().for_each(|partition| consumer.leave(partition));
    }
    Ok(())
}

/// A service that is to be asked.
#[derive(Debug)]
pub(super) struct Line<'a> {
    pub(super) global: &'a Global,
    pub(super) servers: &'a [Address],
    pub(super) service: &'a str,
    pub(super) key_file: &'a Path,
}

impl Line<'_> {
    /// Sends a request, and waits for its answer. When none comes in time, the request has expired.
    pub(super) async fn ask(&self, by: &str, action: Action) -> Result<Vec<Outcome>, Failure> {
        let key = self.key()?;
        let (client, answers, end) = self.answers().await?;
        let id = SystemEntropy.uuid().to_string();
        let timeout_ms = i64::try_from(self.global.timeout.as_millis()).unwrap_or(i64::MAX);
        let request = Request {
            version: VERSION,
            id: id.clone(),
            service: self.service.to_owned(),
            actor: by.to_owned(),
            expires_ms: now_ms().saturating_add(timeout_ms.min(VALID_MAX_MS)),
            action,
        };
        self.send(&request, &key).await?;
        let consumer = Consumer::new(client, answers, BTreeMap::from([(0, end)]));
        match tokio::time::timeout(self.global.timeout, collect(consumer, self.service, &id)).await {
            Ok(collected) => collected,
            Err(_) => Err(self.unanswered()),
        }
    }

    fn key(&self) -> Result<OperationsKey, Failure> {
        let path = self.key_file;
        let said =
            |error: &dyn std::fmt::Display| Failure::new(Exit::Usage, format!("{}: {error}", path.display()));
        let text = read_text(path, KEY_FILE_BYTES_MAX).map_err(|error| said(&error))?;
        OperationsKey::new(&text).map_err(|error| said(&error))
    }

    /// Where answers are, and where they end now.
    async fn answers(&self) -> Result<(Client, TopicInfo, i64), Failure> {
        let mut client = connect(self.global, self.servers).await?;
        let topic = match client.topic(ANSWERS, false).await {
            // The first answer of all would come into a topic that is not there yet.
            Err(AdminError::UnknownTopic { .. }) => {
                let new = NewTopic {
                    name: ANSWERS.to_owned(),
                    partitions: Some(1),
                    replication_factor: None,
                    configs: vec![("retention.ms".to_owned(), ANSWERS_KEPT_MS.to_owned())],
                    validate_only: false,
                };
                match client.create_topic(&new).await {
                    Ok(_) | Err(AdminError::TopicExists { .. }) => client.topic(ANSWERS, false).await,
                    Err(error) => Err(error),
                }
            }
            found => found,
        };
        let topic = topic.map_err(|error| explain::admin(&error))?;
        let ends = client.list_offsets(&topic, &[0], OffsetAt::End).await;
        let end = ends.map_err(|error| explain::admin(&error))?.get(&0).map_or(0, |end| end.offset);
        Ok((client, topic, end))
    }

    async fn send(&self, request: &Request, key: &OperationsKey) -> Result<(), Failure> {
        let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        let value = serde_json::to_vec(&Signed::new(request, key))
            .map_err(|error| Failure::new(Exit::Failed, format!("the request has no bytes: {error}")))?;
        let headers = Signed::headers(&request.id, "courant");
        let event = Event {
            key: None,
            value: Some(Bytes::from(value)),
            headers: headers.iter().map(|(name, value)| (bytes(name), Some(bytes(value)))).collect(),
            timestamp_ms: now_ms(),
            partition: Some(0),
        };
        let client = connect(self.global, self.servers).await?;
        let config = ProducerConfig { codec: Codec::None, create_topic: false };
        let producer = Producer::open(client, REQUESTS, config).await;
        let mut producer = producer.map_err(|error| explain::publish(&error))?;
        let published = producer.publish(vec![event], &mut Vec::new()).await;
        published.map_err(|error| explain::publish(&error))
    }

    fn unanswered(&self) -> Failure {
        let sentence = format!(
            "the service {} has not answered within {:?}, and does not follow the request any more unless it \
             has begun: see `courant services` for when it was seen last, and ask again",
            self.service, self.global.timeout
        );
        Failure::new(Exit::Unreachable, sentence)
    }
}

/// The parts of an answer. A part may come twice: it is the same then. Whoever can write into the topic can
/// write under this id, so what is no answer of the service is passed.
async fn collect(mut consumer: Consumer, service: &str, id: &str) -> Result<Vec<Outcome>, Failure> {
    let mut parts: BTreeMap<u32, Outcome> = BTreeMap::new();
    let mut last = None;
    loop {
        for event in consumer.next().await.map_err(|error| explain::fetch(&error))? {
            let is_ours = event.record.key.as_deref() == Some(id.as_bytes());
            let Some(value) = event.record.value.filter(|_| is_ours) else { continue };
            let Some(answer) = answer_of(&value, service, id) else { continue };
            if answer.is_last {
                last = Some(answer.part);
            }
            parts.insert(answer.part, answer.outcome);
        }
        if last.is_some_and(|last| parts.len() as u64 > u64::from(last)) {
            return Ok(parts.into_values().collect());
        }
    }
}

/// A part of the answer of this service to this request, in a version that is known here.
fn answer_of(value: &[u8], service: &str, id: &str) -> Option<Answer> {
    let answer: Answer = serde_json::from_slice(value).ok()?;
    (answer.version == VERSION && answer.service == service && answer.request == id).then_some(answer)
}

async fn connect(global: &Global, servers: &[Address]) -> Result<Client, Failure> {
    let config = ClientConfig {
        servers: servers.to_vec(),
        client_id: "courant-cli".to_owned(),
        timeout: global.timeout,
        tls: tls::trusted(global)?,
    };
    Client::connect(config).await.map_err(|error| explain::call(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_service_itself_answers() {
        let answer = |version, request: &str, service: &str| {
            let answer = Answer {
                version,
                request: request.to_owned(),
                service: service.to_owned(),
                part: 0,
                is_last: true,
                outcome: Outcome::NotFound { reason: "r".to_owned() },
            };
            serde_json::to_vec(&answer).expect("JSON")
        };
        let is_taken = |value: &[u8]| answer_of(value, "shop", "r-1").is_some();
        assert!(is_taken(&answer(1, "r-1", "shop")));
        assert!(!is_taken(&answer(1, "r-1", "billing")), "of another service");
        assert!(!is_taken(&answer(1, "r-2", "shop")), "to another request");
        assert!(!is_taken(&answer(2, "r-1", "shop")), "of a later version");
        assert!(!is_taken(b"no JSON") && !is_taken(b"{}"));
    }
}
