//! How far a group is behind, in events and in seconds.

use super::Member;
use crate::cli::Global;
use crate::exit::Failure;
use crate::explain;
use crate::time::now_ms;
use courant_kafka::client::{AdminError, Client, CommittedOffsets, Consumer, OffsetAt, TopicInfo};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// What is between the committed offset and the end.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Lag {
    /// `None`: unknown for some partition.
    pub(super) events: Option<i64>,
    /// Age of the oldest event that was not consumed; `None`: unknown for some partition.
    pub(super) seconds: Option<f64>,
}

impl Default for Lag {
    fn default() -> Self {
        Self { events: Some(0), seconds: Some(0.0) }
    }
}

impl Lag {
    /// Adds a partition. One that is unknown makes the sum unknown.
    pub(super) fn add(&mut self, events: Option<i64>, seconds: Option<f64>) {
        self.events = self.events.zip(events).map(|(a, b)| a.saturating_add(b));
        self.seconds = self.seconds.zip(seconds).map(|(a, b)| a.max(b));
    }
}

/// One partition, measured.
#[derive(Debug)]
pub(super) struct Measured {
    pub(super) topic: String,
    pub(super) partition: i32,
    pub(super) committed: Option<i64>,
    pub(super) end: i64,
    pub(super) lag: Option<i64>,
    pub(super) lag_seconds: Option<f64>,
}

/// Every partition that the group has committed something for, or that a member reads.
pub(super) async fn lags(
    global: &Global,
    mut client: Client,
    committed: &CommittedOffsets,
    members: &[Member],
) -> Result<Vec<Measured>, Failure> {
    let mut wanted: BTreeMap<&str, BTreeSet<i32>> = BTreeMap::new();
    for (topic, partitions) in committed {
        wanted.entry(topic).or_default().extend(partitions.keys());
    }
    for (topic, partitions) in members.iter().flat_map(|member| &member.assigned) {
        wanted.entry(topic).or_default().extend(partitions);
    }
    let mut measured = Vec::new();
    for (name, partitions) in wanted {
        let topic = match client.topic(name, false).await {
            Ok(topic) => topic,
            // It was deleted since; nothing is left to be behind of.
            Err(AdminError::UnknownTopic { .. }) => continue,
            Err(error) => return Err(explain::admin(&error)),
        };
        let partitions: Vec<i32> =
            partitions.into_iter().filter(|index| topic.partition(*index).is_some()).collect();
        let of_topic = measure(&mut client, &topic, &partitions, committed.get(name)).await;
        let mut of_topic = of_topic.map_err(|e| explain::admin(&e))?;
        let ages = ages(super::connect(global).await?, topic, &of_topic).await;
        for place in &mut of_topic {
            place.lag_seconds = match place.lag {
                Some(0) => Some(0.0),
                Some(_) => ages.get(&place.partition).copied(),
                None => None,
            };
        }
        measured.extend(of_topic);
    }
    Ok(measured)
}

async fn measure(
    client: &mut Client,
    topic: &TopicInfo,
    partitions: &[i32],
    committed: Option<&BTreeMap<i32, i64>>,
) -> Result<Vec<Measured>, AdminError> {
    let starts = client.list_offsets(topic, partitions, OffsetAt::Start).await?;
    let ends = client.list_offsets(topic, partitions, OffsetAt::End).await?;
    let offset = |of: &BTreeMap<i32, courant_kafka::client::TimedOffset>, partition: &i32| {
        of.get(partition).map_or(0, |at| at.offset)
    };
    let place = |partition: &i32| {
        let committed = committed.and_then(|committed| committed.get(partition)).copied();
        let (start, end) = (offset(&starts, partition), offset(&ends, partition));
        Measured {
            topic: topic.name.clone(),
            partition: *partition,
            committed,
            end,
            // Where nothing was committed, the consumer's own settings decide where it begins.
            lag: committed.map(|at| end.saturating_sub(at.max(start)).max(0)),
            lag_seconds: None,
        }
    };
    Ok(partitions.iter().map(place).collect())
}

/// Age in seconds of the first event behind each committed offset. What cannot be read is left out.
async fn ages(client: Client, topic: TopicInfo, places: &[Measured]) -> BTreeMap<i32, f64> {
    let behind = places.iter().filter(|place| place.lag.is_some_and(|lag| lag > 0));
    let positions: BTreeMap<i32, i64> =
        behind.filter_map(|place| Some((place.partition, place.committed?))).collect();
    let mut ages = BTreeMap::new();
    let patience = client.timeout();
    let mut consumer = Consumer::new(client, topic, positions.clone());
    let read = async {
        while !consumer.positions().is_empty() {
            let Ok(events) = consumer.next().await else { return };
            for event in events {
                let at = positions.get(&event.partition).copied().unwrap_or(0);
                if event.record.offset >= at && !ages.contains_key(&event.partition) {
                    let age_ms = now_ms().saturating_sub(event.record.timestamp).max(0);
                    ages.insert(event.partition, age_ms as f64 / 1000.0);
                    consumer.leave(event.partition);
                }
            }
        }
    };
    // Whatever is not known by then stays unknown.
    let _ = tokio::time::timeout(patience, read).await;
    ages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lag_adds_up_and_what_is_unknown_stays_so() {
        let mut lag = Lag::default();
        lag.add(Some(3), Some(2.5));
        lag.add(Some(4), Some(1.0));
        assert_eq!(lag, Lag { events: Some(7), seconds: Some(2.5) });
        lag.add(Some(1), None);
        assert_eq!(lag, Lag { events: Some(8), seconds: None });
        lag.add(None, Some(0.0));
        assert_eq!(lag, Lag { events: None, seconds: None });
    }
}
