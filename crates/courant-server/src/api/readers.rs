//! Which groups read a topic. To know it every group is looked at, so the outcome is used for a while.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use courant_kafka::Broker;
use uuid::Uuid;

use super::lag::{Group, Places};
use super::limits::{READERS_AGE, READERS_AGE_PER_COST, READERS_NAMED_MAX};

/// The groups that read one topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ReadBy {
    /// The first of them by name.
    pub(super) named: Vec<String>,
    /// How many there are.
    pub(super) count: usize,
}

/// By the topic's id.
pub(super) type ByTopic = Arc<HashMap<Uuid, ReadBy>>;

/// What was found out, and until when it is used.
#[derive(Debug, Default)]
pub(crate) struct Readers(Option<(ByTopic, Instant)>);

impl Readers {
    /// The readers of all topics, as of a moment ago at the most.
    pub(super) fn by_topic(&mut self, broker: &Broker) -> ByTopic {
        let began = Instant::now();
        if let Some((known, until)) = &self.0
            && began < *until
        {
            return Arc::clone(known);
        }
        let found = Arc::new(find(broker));
        let cost = began.elapsed();
        let until = Instant::now() + READERS_AGE.max(cost * READERS_AGE_PER_COST);
        self.0 = Some((Arc::clone(&found), until));
        found
    }
}

fn find(broker: &Broker) -> HashMap<Uuid, ReadBy> {
    let catalog = broker.log().catalog();
    let places = Places::of(&catalog);
    let mut found: HashMap<Uuid, ReadBy> = HashMap::new();
    // In the order of names.
    for name in broker.group_names() {
        let Some(group) = Group::find(broker, &name) else { continue };
        let partitions = group.partitions(&catalog, &places);
        let topics: HashSet<Uuid> = partitions.iter().map(|(topic, _)| topic.id).collect();
        for topic in topics {
            let read_by = found.entry(topic).or_default();
            read_by.count += 1;
            if read_by.named.len() < READERS_NAMED_MAX {
                read_by.named.push(name.clone());
            }
        }
    }
    found
}
