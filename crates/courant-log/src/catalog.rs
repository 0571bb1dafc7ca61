//! Topics: what exists, under which name and id.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use courant_core::topic::TopicName;
use uuid::Uuid;

use crate::PartitionId;

/// A topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Never given twice: a topic that is created again under the same name has another one (KIP-516).
    pub id: Uuid,
    /// Its name, unique among the topics that exist.
    pub name: String,
    /// Its partitions; the index is the partition number that clients use.
    pub partitions: Vec<PartitionId>,
    /// The configs that were set; others have their defaults.
    pub configs: BTreeMap<String, String>,
}

/// A topic to be created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTopic {
    /// Its name.
    pub name: TopicName,
    /// How many partitions it gets; at least 1.
    pub partitions: u32,
    /// Configs that differ from the defaults; the caller has validated them.
    pub configs: BTreeMap<String, String>,
}

/// All topics at one moment.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    by_name: BTreeMap<String, Arc<Topic>>,
    by_id: HashMap<Uuid, Arc<Topic>>,
}

impl Catalog {
    /// The topic of that name.
    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<&Arc<Topic>> {
        self.by_name.get(name)
    }

    /// The topic with that id.
    #[must_use]
    pub fn by_id(&self, id: &Uuid) -> Option<&Arc<Topic>> {
        self.by_id.get(id)
    }

    /// Every topic, in the order of names.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.by_name.values()
    }

    /// How many topics there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether there is no topic.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    pub(crate) fn insert(&mut self, topic: Arc<Topic>) {
        self.by_name.insert(topic.name.clone(), topic.clone());
        self.by_id.insert(topic.id, topic);
    }

    pub(crate) fn remove(&mut self, id: &Uuid) -> Option<Arc<Topic>> {
        let topic = self.by_id.remove(id)?;
        self.by_name.remove(&topic.name);
        Some(topic)
    }
}
