//! What a topic must be before it is created.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

use courant_core::topic::TopicName;
use courant_log::{NewTopic, topic_config};

use crate::api::refused::Refused;
use crate::config::KafkaConfig;
use crate::wire::ErrorCode;
use crate::wire::messages::CreatableTopic;

/// "The broker's default" for a number of partitions or replicas.
const BROKER_DEFAULT: i32 = -1;

/// The topic that was asked for, ready for the log.
pub(super) fn topic(topic: &CreatableTopic, config: &KafkaConfig) -> Result<NewTopic, Refused> {
    let name = TopicName::new(&topic.name)
        .map_err(|error| Refused::new(ErrorCode::INVALID_TOPIC_EXCEPTION, error.to_string()))?;
    let partitions = if topic.assignments.is_empty() {
        check_replication(topic.replication_factor)?;
        partitions(topic.num_partitions, config)?
    } else {
        assigned_partitions(topic, config)?
    };
    Ok(NewTopic { name, partitions, configs: configs(topic)? })
}

/// How many replicas a client wants. There is always one.
pub(super) fn replicas(topic: &CreatableTopic) -> usize {
    match topic.assignments.first() {
        Some(assignment) => assignment.broker_ids.len(),
        None => usize::try_from(topic.replication_factor).unwrap_or(1),
    }
}

fn partitions(wanted: i32, config: &KafkaConfig) -> Result<u32, Refused> {
    if wanted == BROKER_DEFAULT {
        return Ok(config.partitions);
    }
    let max = config.limits.partitions_per_topic_max;
    u32::try_from(wanted).ok().filter(|partitions| (1..=max).contains(partitions)).ok_or_else(|| {
        let message = format!(
            "{wanted} partitions; it can be 1 to {max}, or -1 for the default of {}",
            config.partitions
        );
        Refused::new(ErrorCode::INVALID_PARTITIONS, message)
    })
}

fn check_replication(wanted: i16) -> Result<(), Refused> {
    if wanted == 0 || i32::from(wanted) < BROKER_DEFAULT {
        let message = format!("replication factor {wanted}; it can be 1, or -1 for the default");
        return Err(Refused::new(ErrorCode::INVALID_REPLICATION_FACTOR, message));
    }
    Ok(())
}

/// The number of partitions of a manual assignment. Its broker ids are of no use here, but a
/// program that sends nonsense is told so, as Kafka would.
fn assigned_partitions(topic: &CreatableTopic, config: &KafkaConfig) -> Result<u32, Refused> {
    if topic.num_partitions != BROKER_DEFAULT || i32::from(topic.replication_factor) != BROKER_DEFAULT {
        return Err(Refused::invalid(
            "with assignments, partitions and replication factor have to be -1".to_owned(),
        ));
    }
    let refuse = |message: String| Refused::new(ErrorCode::INVALID_REPLICA_ASSIGNMENT, message);
    let replicas = replicas(topic);
    let mut seen = BTreeSet::new();
    for assignment in &topic.assignments {
        let index = assignment.partition_index;
        check_brokers(index, &assignment.broker_ids, replicas).map_err(refuse)?;
        if !seen.insert(index) {
            return Err(refuse(format!("partition {index} is assigned twice")));
        }
    }
    let count = i32::try_from(seen.len()).unwrap_or(i32::MAX);
    // Distinct, from 0 and below the count: then they are exactly 0..count.
    if seen.first() != Some(&0) || seen.last() != Some(&(count - 1)) {
        return Err(refuse("partitions must be numbered from 0 without gaps".to_owned()));
    }
    partitions(count, config)
}

/// Checks the brokers that one partition is assigned to: there are `replicas` of them, all different.
pub(in crate::api) fn check_brokers(
    index: impl Display,
    brokers: &[i32],
    replicas: usize,
) -> Result<(), String> {
    let distinct: BTreeSet<_> = brokers.iter().collect();
    if distinct.is_empty() {
        return Err(format!("partition {index} is assigned to no broker"));
    }
    if distinct.len() != brokers.len() {
        return Err(format!("partition {index} is assigned to one broker twice"));
    }
    if distinct.len() != replicas {
        return Err("partitions have different numbers of replicas".to_owned());
    }
    Ok(())
}

fn configs(topic: &CreatableTopic) -> Result<BTreeMap<String, String>, Refused> {
    let refuse = |message: String| Refused::new(ErrorCode::INVALID_CONFIG, message);
    let mut configs = BTreeMap::new();
    for config in &topic.configs {
        let name = &config.name;
        let value = config.value.as_ref().ok_or_else(|| refuse(format!("{name:?} has no value")))?;
        topic_config::validate(name, value).map_err(|error| refuse(error.to_string()))?;
        if configs.insert(name.clone(), value.clone()).is_some() {
            return Err(refuse(format!("{name:?} is set twice")));
        }
    }
    Ok(configs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::messages::{CreatableReplicaAssignment, CreatableTopicConfig};

    fn wanted(partitions: i32, replication_factor: i16) -> CreatableTopic {
        CreatableTopic {
            name: "audit".to_owned(),
            num_partitions: partitions,
            replication_factor,
            ..CreatableTopic::default()
        }
    }

    fn assigned(assignments: &[(i32, &[i32])]) -> CreatableTopic {
        let assignments = assignments.iter().map(|(index, brokers)| CreatableReplicaAssignment {
            partition_index: *index,
            broker_ids: brokers.to_vec(),
        });
        CreatableTopic { assignments: assignments.collect(), ..wanted(-1, -1) }
    }

    #[track_caller]
    fn check(wanted: &CreatableTopic, expected: Result<u32, ErrorCode>) {
        let result = topic(wanted, &KafkaConfig::default());
        assert_eq!(result.map(|new| new.partitions).map_err(|refused| refused.code), expected);
    }

    #[test]
    fn numbers() {
        check(&wanted(3, 1), Ok(3));
        check(&wanted(-1, -1), Ok(1));
        check(&wanted(3, 3), Ok(3));
        check(&wanted(0, 1), Err(ErrorCode::INVALID_PARTITIONS));
        check(&wanted(-2, 1), Err(ErrorCode::INVALID_PARTITIONS));
        check(&wanted(10_001, 1), Err(ErrorCode::INVALID_PARTITIONS));
        check(&wanted(1, 0), Err(ErrorCode::INVALID_REPLICATION_FACTOR));
        check(&wanted(1, -2), Err(ErrorCode::INVALID_REPLICATION_FACTOR));
    }

    #[test]
    fn assignments() {
        let refused = Err(ErrorCode::INVALID_REPLICA_ASSIGNMENT);
        check(&assigned(&[(1, &[0]), (0, &[0])]), Ok(2));
        check(&assigned(&[(0, &[1, 2, 3])]), Ok(1));
        check(&assigned(&[(0, &[])]), refused);
        check(&assigned(&[(1, &[0])]), refused);
        check(&assigned(&[(0, &[0]), (0, &[0])]), refused);
        check(&assigned(&[(0, &[0]), (2, &[0])]), refused);
        check(&assigned(&[(0, &[0, 0])]), refused);
        check(&assigned(&[(0, &[0, 1]), (1, &[0])]), refused);
        let both = CreatableTopic { num_partitions: 1, ..assigned(&[(0, &[0])]) };
        check(&both, Err(ErrorCode::INVALID_REQUEST));
    }

    #[test]
    fn names_and_configs() {
        let named = |name: &str| CreatableTopic { name: name.to_owned(), ..wanted(1, 1) };
        for name in ["", ".", "..", "../x", "a b", "x".repeat(250).as_str()] {
            check(&named(name), Err(ErrorCode::INVALID_TOPIC_EXCEPTION));
        }
        let configured = |name: &str, value: Option<&str>| CreatableTopic {
            configs: vec![CreatableTopicConfig { name: name.to_owned(), value: value.map(str::to_owned) }],
            ..wanted(1, 1)
        };
        check(&configured("retention.ms", Some("1000")), Ok(1));
        check(&configured("retention.ms", None), Err(ErrorCode::INVALID_CONFIG));
        check(&configured("no.such.config", Some("1")), Err(ErrorCode::INVALID_CONFIG));
    }

    /// A name is a client's text, and what is said about it goes to the log.
    #[test]
    fn a_config_cannot_forge_a_log_line() {
        let config = CreatableTopicConfig { name: "a\nb".to_owned(), value: None };
        let wanted = CreatableTopic { configs: vec![config], ..wanted(1, 1) };
        let refused = topic(&wanted, &KafkaConfig::default()).expect_err("it has no value");
        assert!(!refused.message.contains('\n'), "{}", refused.message);
    }
}
