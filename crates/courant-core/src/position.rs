//! Where an event is.

use std::fmt;

use crate::topic::TopicName;

/// One partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The topic.
    pub topic: TopicName,
    /// The partition's number, from 0.
    pub partition: u32,
}

/// One place in a partition.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The topic.
    pub topic: TopicName,
    /// The partition's number, from 0.
    pub partition: u32,
    /// The event's offset in it.
    pub offset: u64,
}

impl TopicPartition {
    /// The place `offset` in it.
    #[must_use]
    pub fn at(&self, offset: u64) -> Position {
        Position { topic: self.topic.clone(), partition: self.partition, offset }
    }
}

impl Position {
    /// The partition that it is in.
    #[must_use]
    pub fn topic_partition(&self) -> TopicPartition {
        TopicPartition { topic: self.topic.clone(), partition: self.partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}@{}", self.topic, self.partition, self.offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_names_its_partition() {
        let partition = TopicPartition { topic: TopicName::new("orders").expect("legal"), partition: 3 };
        let place = partition.at(17);
        assert_eq!(place.to_string(), "orders/3@17");
        assert_eq!(place.topic_partition(), partition);
        assert_eq!(partition.to_string(), "orders/3");
    }
}
