//! What a service says that it needs of its engine, and whether it gets that.

use std::collections::BTreeMap;

use courant_engine::{Capabilities, Durability, Engine, GroupScope, Lifetime, PublishDedup, Topic};

use super::problem::{Problem, ProblemCode as Code};

/// What a service needs of its engine beside what its subscriptions do, in one of the words of [`Capabilities`]. An
/// engine that says a weaker one of itself is refused when the service is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Need {
    /// What an event survives that the engine has acknowledged.
    Durability(Durability),
    /// What events, topics and offsets outlive.
    Lifetime(Lifetime),
    /// Among whom the partitions are spread.
    Groups(GroupScope),
    /// Whether an event that is published twice is stored once.
    PublishDedup(PublishDedup),
}

impl From<Durability> for Need {
    fn from(needed: Durability) -> Self {
        Self::Durability(needed)
    }
}

impl From<Lifetime> for Need {
    fn from(needed: Lifetime) -> Self {
        Self::Lifetime(needed)
    }
}

impl From<GroupScope> for Need {
    fn from(needed: GroupScope) -> Self {
        Self::Groups(needed)
    }
}

impl From<PublishDedup> for Need {
    fn from(needed: PublishDedup) -> Self {
        Self::PublishDedup(needed)
    }
}

/// What a service needs of its engine and does not get.
pub(super) fn unmet(engine: &dyn Engine, needs: &[Need]) -> Vec<Problem> {
    let (can, kind) = (engine.capabilities(), engine.kind());
    needs.iter().filter_map(|need| need.unmet(&can, kind)).collect()
}

/// Topics of a service whose configs promise less than it needs, on an engine that could do it.
pub(super) fn weak_topics(topics: &BTreeMap<String, Topic>, needs: &[Need]) -> Vec<Problem> {
    let mut problems = Vec::new();
    for need in needs {
        let Need::Durability(needed) = need else { continue };
        let weak = topics.values().filter(|topic| !topic.durability.covers(*needed));
        problems.extend(weak.map(|topic| {
            Problem::new(
                Code::TopicDurability,
                format!(
                    "what the engine has acknowledged has to survive {needed}, and in the topic {} it survives {}",
                    topic.name, topic.durability
                ),
                "change the topic: courant.durability to sync, on Kafka min.insync.replicas to more than 1; or \
                 require less",
            )
        }));
    }
    problems
}

impl Need {
    fn unmet(self, can: &Capabilities, kind: &str) -> Option<Problem> {
        match self {
            Self::Durability(needed) if !can.durability.covers(needed) => Some(Problem::new(
                Code::EngineDurability,
                format!(
                    "what the engine has acknowledged has to survive {needed}, and on {kind} it survives {}",
                    can.durability
                ),
                more_durable(needed),
            )),
            Self::Lifetime(needed) if !can.lifetime.covers(needed) => Some(Problem::new(
                Code::EngineLifetime,
                format!(
                    "events and offsets have to outlive the service, and those of the engine {kind} do not"
                ),
                "use an engine that keeps them, as embedded:DIR, courant:// and kafka:// do, or leave \
                 .requires(Lifetime::Storage) away",
            )),
            Self::Groups(needed) if !can.groups.covers(needed) => Some(Problem::new(
                Code::EngineGroups,
                format!(
                    "several processes have to share the partitions, and the engine {kind} is for one alone"
                ),
                "use a server, as courant:// and kafka:// are, or run one process and leave \
                 .requires(GroupScope::Everywhere) away",
            )),
            Self::PublishDedup(needed) if !can.publish_dedup.covers(needed) => Some(Problem::new(
                Code::EnginePublishDedup,
                format!(
                    "what is published twice has to be stored once ({needed:?}), and of the engine {kind} that \
                     is said: {:?}",
                    can.publish_dedup
                ),
                "let whoever reads the events compare their ids, as every service with a store does, and leave \
                 .requires(PublishDedup::…) away",
            )),
            Self::Durability(_) | Self::Lifetime(_) | Self::Groups(_) | Self::PublishDedup(_) => None,
        }
    }
}

/// Where to go with events that need more than they get.
fn more_durable(needed: Durability) -> &'static str {
    match needed {
        Durability::Disk => {
            "use an engine that has it on disk by then, as embedded:DIR and courant:// have, or require less"
        }
        Durability::Replicated => {
            "use a cluster of Kafka whose min.insync.replicas is more than 1, or require less"
        }
        _ => "use an engine that keeps events, as embedded:DIR, courant:// and kafka:// do, or require less",
    }
}
