//! The topics of the channel.

use courant_core::operations::{ANSWERS, KEPT_MS, REQUESTS, SERVICES};
use courant_core::topic::TopicName;
use courant_engine::NewTopic;

/// A topic that is to be created: those of the channel have one partition and configs of their own.
pub(crate) fn new_topic(name: TopicName, partitions: u32) -> NewTopic {
    match name.as_str() {
        SERVICES => NewTopic::new(name, 1).with("cleanup.policy", "compact"),
        REQUESTS | ANSWERS => NewTopic::new(name, 1).with("retention.ms", KEPT_MS),
        _ => NewTopic::new(name, partitions),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(name: &str) -> NewTopic {
        new_topic(TopicName::new(name).expect("legal"), 8)
    }

    #[test]
    fn topics_of_the_channel_have_one_partition() {
        assert_eq!(made(SERVICES).partitions, 1);
        assert_eq!(made(SERVICES).configs["cleanup.policy"], "compact");
        assert_eq!((made(REQUESTS).partitions, made(ANSWERS).partitions), (1, 1));
        assert_eq!(made("shop.orders"), NewTopic::new(TopicName::new("shop.orders").expect("legal"), 8));
    }
}
