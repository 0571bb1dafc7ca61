//! Topics: what is known of them, and how they are made.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use courant_engine::{CreateTopicError, Durability, NewTopic, Topic};
use courant_log::topic_config::{self, TimestampLimits};
use rdkafka::admin::{
    AdminClient, AdminOptions, ConfigResource, NewTopic as Wanted, OwnedResourceSpecifier, ResourceSpecifier,
    TopicReplication,
};
use rdkafka::error::RDKafkaErrorCode;
use tokio::task::spawn_blocking;
use uuid::Uuid;

use crate::limits::{
    CREATED_LOOKS, CREATED_PAUSE, PARTITIONS_MAX, RECORD_BYTES_MAX, REQUEST_MAX, TOPIC_AGE_MAX,
    TOPICS_KNOWN_MAX,
};
use crate::looking::Looker;
use crate::servers::Servers;
use crate::settings::Quiet;
use crate::texts;

/// A topic, and what publishing has to know of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Described {
    pub(crate) topic: Topic,
    pub(crate) is_compacted: bool,
}

/// The topics of a server, as far as somebody has asked for them.
pub(crate) struct Catalog {
    admin: AdminClient<Quiet>,
    looker: Arc<Looker>,
    log_id: Uuid,
    servers: Servers,
    /// The server is a Courant: its rules are known before it is asked.
    is_courant: bool,
    known: Mutex<HashMap<String, Known>>,
}

struct Known {
    described: Arc<Described>,
    since: Instant,
}

/// What is known of each topic that was asked for; `None`: there is no such topic.
pub(crate) type Found = BTreeMap<String, Option<Arc<Described>>>;

impl Catalog {
    pub(crate) fn new(
        admin: AdminClient<Quiet>,
        looker: Arc<Looker>,
        log_id: Uuid,
        servers: Servers,
        is_courant: bool,
    ) -> Self {
        Self { admin, looker, log_id, servers, is_courant, known: Mutex::default() }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is believed of topics; those that are not known, or for too long, are asked for. The error is
    /// a sentence.
    pub(crate) async fn get(&self, names: &[String]) -> Result<Found, String> {
        let mut found = Found::new();
        let mut asked = Vec::new();
        {
            let known = self.known();
            for name in names {
                match known.get(name).filter(|known| known.since.elapsed() < TOPIC_AGE_MAX) {
                    Some(known) => {
                        found.insert(name.clone(), Some(known.described.clone()));
                    }
                    None => asked.push(name.clone()),
                }
            }
        }
        found.extend(self.look(asked).await?);
        Ok(found)
    }

    /// Asks for topics.
    pub(crate) async fn look(&self, mut names: Vec<String>) -> Result<Found, String> {
        names.sort_unstable();
        names.dedup();
        if names.is_empty() {
            return Ok(Found::new());
        }
        let counts = self.counts(names).await?;
        let there: Vec<&str> =
            counts.iter().filter(|(_, count)| count.is_some()).map(|(name, _)| name.as_str()).collect();
        let mut configs = self.configs(&there).await?;
        let mut found = Found::new();
        for (name, count) in counts {
            let described = count.zip(configs.remove(&name)).map(|(count, configs)| {
                let described = Arc::new(described(&name, count, &configs, &self.log_id, self.is_courant));
                let known = Known { described: described.clone(), since: Instant::now() };
                let mut all = self.known();
                if all.len() >= TOPICS_KNOWN_MAX {
                    all.clear();
                }
                all.insert(name.clone(), known);
                described
            });
            if described.is_none() {
                self.known().remove(&name);
            }
            found.insert(name, described);
        }
        Ok(found)
    }

    /// Does not believe any more what is known of a topic.
    pub(crate) fn doubt(&self, name: &str) {
        self.known().remove(name);
    }

    /// How many partitions topics have.
    async fn counts(&self, names: Vec<String>) -> Result<Vec<(String, Option<u32>)>, String> {
        let (looker, servers) = (self.looker.clone(), self.servers.clone());
        let counted = spawn_blocking(move || {
            let counted = names.into_iter().map(|name| {
                let count = looker.partitions(&name).map_err(|error| texts::reason(&error, &servers))?;
                Ok::<_, String>((name, count))
            });
            counted.collect::<Result<Vec<_>, String>>()
        });
        counted.await.map_err(|_| "the runtime ends".to_owned())?
    }

    /// The configs of topics. One that is gone meanwhile has none.
    async fn configs(&self, names: &[&str]) -> Result<HashMap<String, ConfigResource>, String> {
        if names.is_empty() {
            return Ok(HashMap::new());
        }
        let asked: Vec<ResourceSpecifier<'_>> =
            names.iter().map(|name| ResourceSpecifier::Topic(name)).collect();
        let answered = self.admin.describe_configs(&asked, &options()).await;
        let answered = answered.map_err(|error| texts::reason(&error, &self.servers))?;
        let mut configs = HashMap::with_capacity(answered.len());
        for resource in answered.into_iter().flatten() {
            if let OwnedResourceSpecifier::Topic(name) = &resource.specifier {
                configs.insert(name.clone(), resource);
            }
        }
        Ok(configs)
    }

    /// Creates topics, and looks at them until they are there.
    pub(crate) async fn create(&self, topics: Vec<NewTopic>) -> Vec<Result<Topic, CreateTopicError>> {
        // librdkafka answers a name that is asked for twice with nothing, and its wrapper reads that.
        let mut asked = HashSet::with_capacity(topics.len());
        let checked: Vec<_> = topics
            .iter()
            .map(|topic| match self.check(topic) {
                Ok(()) if !asked.insert(topic.name.as_str()) => {
                    Err(CreateTopicError::Exists { topic: topic.name.as_str().to_owned() })
                }
                checked => checked,
            })
            .collect();
        let sound = topics.iter().zip(&checked).filter(|(_, checked)| checked.is_ok());
        let wanted: Vec<Wanted<'_>> = sound.map(|(topic, _)| self.wanted(topic)).collect();
        let mut answers: HashMap<String, Result<(), CreateTopicError>> = HashMap::new();
        if !wanted.is_empty() {
            let options = options().operation_timeout(Some(REQUEST_MAX));
            match self.admin.create_topics(&wanted, &options).await {
                Ok(answered) => answers.extend(answered.into_iter().map(|answer| match answer {
                    Ok(name) => (name, Ok(())),
                    Err((name, code)) => (name.clone(), Err(self.refused(name, code))),
                })),
                Err(error) => {
                    let reason = texts::reason(&error, &self.servers);
                    for one in &wanted {
                        let topic = one.name.to_owned();
                        let failed = CreateTopicError::Failed { topic, reason: reason.clone() };
                        answers.insert(one.name.to_owned(), Err(failed));
                    }
                }
            }
        }
        let mut created = Vec::with_capacity(topics.len());
        for (topic, checked) in topics.iter().zip(checked) {
            let name = topic.name.as_str().to_owned();
            let gone = || Err(CreateTopicError::Vanished { topic: name.clone() });
            created.push(match checked.and_then(|()| answers.remove(&name).unwrap_or_else(gone)) {
                Ok(()) => self.until_there(name).await,
                Err(error) => Err(error),
            });
        }
        created
    }

    /// What Courant refuses, in its words: the client keeps only the number of an answer.
    fn check(&self, topic: &NewTopic) -> Result<(), CreateTopicError> {
        let name = topic.name.as_str();
        let refused = |reason: String| CreateTopicError::Refused { topic: name.to_owned(), reason };
        let max = if self.is_courant { PARTITIONS_MAX } else { i32::MAX.cast_unsigned() };
        if !(1..=max).contains(&topic.partitions) {
            let got = topic.partitions;
            return Err(refused(format!(
                "a topic of 1 to {max} partitions can be created here, not of {got}"
            )));
        }
        for (config, value) in &topic.configs {
            if self.is_courant {
                topic_config::validate(config, value).map_err(|error| refused(error.to_string()))?;
            }
            if config.contains('\0') || value.contains('\0') {
                return Err(refused(format!("the config {config:?} has a NUL in it")));
            }
        }
        Ok(())
    }

    fn wanted<'a>(&self, topic: &'a NewTopic) -> Wanted<'a> {
        // Kafka chooses by its default; Courant is one.
        let replication = TopicReplication::Fixed(if self.is_courant { 1 } else { -1 });
        // It was checked that there are not more.
        let partitions = i32::try_from(topic.partitions).unwrap_or(i32::MAX);
        let wanted = Wanted::new(topic.name.as_str(), partitions, replication);
        topic.configs.iter().fold(wanted, |wanted, (config, value)| wanted.set(config, value))
    }

    fn refused(&self, topic: String, code: RDKafkaErrorCode) -> CreateTopicError {
        match code {
            RDKafkaErrorCode::TopicAlreadyExists => CreateTopicError::Exists { topic },
            code if texts::is_absence(code) => {
                CreateTopicError::Failed { topic, reason: texts::absent(&self.servers) }
            }
            code => CreateTopicError::Refused { topic, reason: texts::reason_of(code, &self.servers) },
        }
    }

    /// Whether all partitions of a topic answer. Where nobody can be asked, whoever uses it will see.
    async fn is_served(&self, topic: &Topic) -> bool {
        let (looker, name, partitions) = (self.looker.clone(), topic.name.clone(), topic.partitions);
        let served = spawn_blocking(move || looker.is_served(&name, partitions));
        served.await.is_ok_and(|served| served.unwrap_or(true))
    }

    /// A broker may say that a topic is made before it knows it.
    async fn until_there(&self, name: String) -> Result<Topic, CreateTopicError> {
        for _ in 0..CREATED_LOOKS {
            match self.look(vec![name.clone()]).await {
                Ok(found) => {
                    if let Some(described) = found.get(&name).cloned().flatten()
                        && self.is_served(&described.topic).await
                    {
                        return Ok(described.topic.clone());
                    }
                }
                Err(reason) => return Err(CreateTopicError::Failed { topic: name, reason }),
            }
            tokio::time::sleep(CREATED_PAUSE).await;
        }
        Err(CreateTopicError::Vanished { topic: name })
    }
}

/// How the server is asked.
pub(crate) fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(REQUEST_MAX))
}

fn described(
    name: &str,
    partitions: u32,
    configs: &ConfigResource,
    log_id: &Uuid,
    is_courant: bool,
) -> Described {
    let value = |config: &str| configs.get(config).and_then(|entry| entry.value.as_deref());
    let number = |config: &str| value(config).and_then(|value| value.trim().parse::<u64>().ok());
    let policies = value("cleanup.policy").unwrap_or("delete");
    let has = |policy: &str| policies.split(',').any(|one| one.trim() == policy);
    let bytes_max = number("max.message.bytes").and_then(|bytes| usize::try_from(bytes).ok());
    let durability = match value("courant.durability").map(str::trim) {
        Some("interval" | "os") if is_courant => Durability::Written,
        _ if is_courant => Durability::Disk,
        // As of the whole cluster: what is acknowledged is in the memory of as many machines.
        _ if number("min.insync.replicas").is_some_and(|copies| copies > 1) => Durability::Replicated,
        _ => Durability::Written,
    };
    let set = TIME_CONFIGS.into_iter().filter_map(|name| Some((name.to_owned(), value(name)?.to_owned())));
    let set: BTreeMap<String, String> = set.collect();
    let topic = Topic {
        name: Arc::from(name),
        id: Uuid::new_v5(log_id, name.as_bytes()),
        partitions,
        // -1 is no number here: without an end.
        retention: number("retention.ms").filter(|_| has("delete")).map(Duration::from_millis),
        record_bytes_max: bytes_max.unwrap_or(RECORD_BYTES_MAX).min(RECORD_BYTES_MAX),
        timestamps: TimestampLimits::of(&set),
        durability,
    };
    Described { topic, is_compacted: has("compact") }
}

/// What [`TimestampLimits`] go by.
const TIME_CONFIGS: [&str; 3] =
    ["message.timestamp.type", "message.timestamp.before.max.ms", "message.timestamp.after.max.ms"];

#[cfg(test)]
mod tests {
    use rdkafka::admin::{ConfigEntry, ConfigSource};

    use super::*;

    fn resource(configs: &[(&str, &str)]) -> ConfigResource {
        let entry = |(name, value): &(&str, &str)| ConfigEntry {
            name: (*name).to_owned(),
            value: Some((*value).to_owned()),
            source: ConfigSource::Default,
            is_read_only: false,
            is_default: true,
            is_sensitive: false,
        };
        let specifier = OwnedResourceSpecifier::Topic("orders".to_owned());
        ConfigResource { specifier, entries: configs.iter().map(entry).collect() }
    }

    #[test]
    fn a_topic_is_what_its_configs_say() {
        let log_id = Uuid::from_u128(7);
        let configs =
            [("retention.ms", "60000"), ("max.message.bytes", "2000"), ("cleanup.policy", "delete")];
        let found = described("orders", 3, &resource(&configs), &log_id, true);
        assert_eq!(found.topic.retention, Some(Duration::from_secs(60)));
        assert_eq!((found.topic.partitions, found.topic.record_bytes_max), (3, 2000));
        assert!(!found.is_compacted);
        let other = described("payments", 3, &resource(&configs), &log_id, true);
        assert_ne!(found.topic.id, other.topic.id);
        for configs in [
            [("retention.ms", "-1"), ("cleanup.policy", "compact,delete")],
            [("retention.ms", "60000"), ("cleanup.policy", "compact")],
        ] {
            let found = described("state", 1, &resource(&configs), &log_id, true);
            assert_eq!((found.topic.retention, found.is_compacted), (None, true));
        }
    }

    #[test]
    fn a_topics_limits_of_timestamps_are_known_before_something_is_sent() {
        let times = |configs: &[(&str, &str)]| {
            described("orders", 1, &resource(configs), &Uuid::from_u128(7), true).topic.timestamps
        };
        let largest = i64::MAX.to_string();
        let none = [
            ("message.timestamp.before.max.ms", largest.as_str()),
            ("message.timestamp.after.max.ms", largest.as_str()),
        ];
        assert_eq!((times(&[]), times(&none)), (None, None));
        // As Apache Kafka has it from 4.0 on.
        let hour = [none[0], ("message.timestamp.after.max.ms", "3600000")];
        let limits = TimestampLimits { before_ms: i64::MAX, after_ms: 3_600_000 };
        assert_eq!(times(&hour), Some(limits));
        assert_eq!(times(&[hour[1], ("message.timestamp.type", "LogAppendTime")]), None);
    }

    /// A topic promises what its own configs say, each server in its words.
    #[test]
    fn what_an_acknowledged_record_survives_is_up_to_its_topic() {
        let found = |is_courant: bool, configs: &[(&str, &str)]| {
            let log_id = Uuid::from_u128(7);
            described("orders", 1, &resource(configs), &log_id, is_courant).topic.durability
        };
        for (class, survives) in
            [("sync", Durability::Disk), ("interval", Durability::Written), ("os", Durability::Written)]
        {
            let configs = [("courant.durability", class), ("min.insync.replicas", "2")];
            assert_eq!(found(true, &configs), survives, "{class}");
        }
        assert_eq!((found(true, &[]), found(false, &[])), (Durability::Disk, Durability::Written));
        assert_eq!(found(false, &[("min.insync.replicas", "1")]), Durability::Written);
        assert_eq!(found(false, &[("min.insync.replicas", "2")]), Durability::Replicated);
    }
}
