//! Topics as engines describe and create them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use courant_core::topic::TopicName;
use courant_log::topic_config::TimestampLimits;
use uuid::Uuid;

use crate::{Durability, Partition};

/// A topic to be created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTopic {
    /// Its name.
    pub name: TopicName,
    /// How many partitions it gets; at least 1.
    pub partitions: u32,
    /// Configs by Kafka's names that differ from the engine's defaults: `retention.ms` and so on.
    pub configs: BTreeMap<String, String>,
}

impl NewTopic {
    /// A topic with the engine's defaults.
    #[must_use]
    pub fn new(name: TopicName, partitions: u32) -> Self {
        Self { name, partitions, configs: BTreeMap::new() }
    }

    /// The topic with one config set.
    #[must_use]
    pub fn with(mut self, config: impl Into<String>, value: impl Into<String>) -> Self {
        self.configs.insert(config.into(), value.into());
        self
    }
}

/// A topic as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Its name.
    pub name: Arc<str>,
    /// Its id. A topic that is created again under the same name has another one on `memory:` and `embedded:`; on a server
    /// it is made of the name.
    pub id: Uuid,
    /// How many partitions it has.
    pub partitions: u32,
    /// How long its records are kept; `None`: not limited by their age.
    pub retention: Option<Duration>,
    /// Bytes of the largest record that it takes, with what the format adds.
    pub record_bytes_max: usize,
    /// How far the timestamps that records bring may be from the clock when they are published; `None`: any is taken.
    pub timestamps: Option<TimestampLimits>,
    /// What a record survives that was acknowledged in it. Without configs of its own it is what the engine says of
    /// itself: [`Capabilities::durability`](crate::Capabilities::durability).
    pub durability: Durability,
}

impl Topic {
    /// Its partitions, in order.
    pub fn all_partitions(&self) -> impl Iterator<Item = Partition> + '_ {
        (0..self.partitions).map(|number| Partition { topic: self.name.clone(), number })
    }
}
