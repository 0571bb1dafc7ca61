//! What `/metrics` says of topics and of consumer groups by their names, within bounds: whoever scrapes
//! keeps every series for weeks.
//!
//! A topic or a group is there whole or not at all, so that sums over its partitions are right. Where the
//! partitions have no room, there is still what they come to; what has no room at all is counted.

use std::sync::Arc;

use courant_kafka::Broker;
use courant_log::{Catalog, Log, Topic};

use super::ApiState;
pub(crate) use super::dead_letters::figures::{ConsumerSeries, ServiceSeries};
use super::dead_letters::figures::{Services, services};
use super::lag::{Aging, Group, Measured, Places, measure};
use super::limits::{
    SERIES_GROUP_PARTITIONS_MAX, SERIES_GROUP_TOPICS_MAX, SERIES_TOPIC_PARTITIONS_MAX, SERIES_TOPICS_MAX,
};

/// Everything that has a name in it.
#[derive(Debug, Default)]
pub(crate) struct Series {
    pub(crate) topics: Vec<TopicSeries>,
    pub(crate) groups: Vec<GroupSeries>,
    pub(crate) services: Vec<ServiceSeries>,
    /// Instances of services that say what is not understood; `None`: nothing is known of services now.
    pub(crate) unreadable: Option<u64>,
    pub(crate) left_out: LeftOut,
}

/// How much there is no room for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LeftOut {
    /// Topics of which nothing is said.
    pub(crate) topics: u64,
    /// Topics whose partitions have no series of their own.
    pub(crate) topic_partitions: u64,
    /// Groups of which nothing is said.
    pub(crate) groups: u64,
    /// Groups whose partitions have no series of their own.
    pub(crate) group_partitions: u64,
    /// Consumers of services of which nothing is said.
    pub(crate) service_consumers: u64,
}

/// A topic.
#[derive(Debug)]
pub(crate) struct TopicSeries {
    pub(crate) name: String,
    pub(crate) partitions: usize,
    pub(crate) bytes: u64,
    /// Offsets behind the newest events, added up: it grows by one with every event.
    pub(crate) end_sum: u64,
    /// Of each partition; empty where there is no room.
    pub(crate) ends: Vec<Ends>,
}

/// The ends of a partition.
#[derive(Debug)]
pub(crate) struct Ends {
    pub(crate) partition: u32,
    pub(crate) start: u64,
    pub(crate) end: u64,
}

/// A consumer group.
#[derive(Debug)]
pub(crate) struct GroupSeries {
    pub(crate) name: String,
    pub(crate) members: usize,
    pub(crate) topics: Vec<GroupTopic>,
}

/// A topic that a group reads. What is known is added up, and what is not is counted.
#[derive(Debug, Default)]
pub(crate) struct GroupTopic {
    pub(crate) topic: String,
    /// `None`: nothing was committed.
    pub(crate) committed_sum: Option<u64>,
    /// `None`: it is known of no partition.
    pub(crate) lag_sum: Option<u64>,
    /// `None`: it is known of no partition.
    pub(crate) lag_ms_max: Option<u64>,
    /// Partitions whose lag is not known in events.
    pub(crate) unknown_events: u64,
    /// Partitions whose lag is not known in seconds.
    pub(crate) unknown_seconds: u64,
    /// Each of them; empty where there is no room.
    pub(crate) places: Vec<GroupPlace>,
}

/// A partition that a group reads.
#[derive(Debug)]
pub(crate) struct GroupPlace {
    pub(crate) partition: u32,
    pub(crate) committed: Option<u64>,
    pub(crate) lag: Option<u64>,
    pub(crate) lag_ms: Option<u64>,
}

impl Series {
    /// What holds now; `None` while the log is being opened. May wait for the disk.
    pub(crate) fn measure(state: &ApiState) -> Option<Self> {
        let broker = state.status().broker()?;
        let catalog = broker.log().catalog();
        let mut series = Self::default();
        series.add_topics(broker.log(), &catalog);
        series.add_groups(state, broker, &catalog);
        if let Some(Services { services, unreadable, left_out }) = services(state) {
            (series.services, series.unreadable) = (services, Some(unreadable));
            series.left_out.service_consumers = left_out;
        }
        Some(series)
    }

    /// In the order of names: while nothing comes and goes, the same ones have room.
    fn add_topics(&mut self, log: &Log, catalog: &Catalog) {
        let mut room = SERIES_TOPIC_PARTITIONS_MAX;
        for topic in catalog.topics() {
            if self.topics.len() >= SERIES_TOPICS_MAX {
                self.left_out.topics += 1;
                continue;
            }
            let fits = topic.partitions.len() <= room;
            room -= if fits { topic.partitions.len() } else { 0 };
            self.left_out.topic_partitions += u64::from(!fits);
            self.topics.push(topic_series(log, topic, fits));
        }
    }

    fn add_groups(&mut self, state: &ApiState, broker: &Broker, catalog: &Catalog) {
        let places = Places::of(catalog);
        let mut aging = Aging::new(state, broker.log());
        let (mut room, mut rooms_for_topics) = (SERIES_GROUP_PARTITIONS_MAX, SERIES_GROUP_TOPICS_MAX);
        for name in broker.group_names() {
            // A group that reads nothing yet takes a place, too.
            if rooms_for_topics == 0 {
                self.left_out.groups += 1;
                continue;
            }
            let Some(group) = Group::find(broker, &name) else { continue };
            let measured = measure(broker.log(), &group, catalog, &places);
            let of_topics: Vec<_> =
                measured.chunk_by(|one, next| one.topic.name == next.topic.name).collect();
            let Some(left) = rooms_for_topics.checked_sub(of_topics.len().max(1)) else {
                self.left_out.groups += 1;
                continue;
            };
            rooms_for_topics = left;
            let fits = measured.len() <= room;
            room -= if fits { measured.len() } else { 0 };
            self.left_out.group_partitions += u64::from(!fits);
            let topics = of_topics.into_iter().map(|places| group_topic(places, fits, &mut aging)).collect();
            self.groups.push(GroupSeries { name, members: group.view.members.len(), topics });
        }
    }
}

fn topic_series(log: &Log, topic: &Arc<Topic>, with_partitions: bool) -> TopicSeries {
    let (mut bytes, mut end_sum, mut ends) = (0_u64, 0_u64, Vec::new());
    for (partition, id) in (0..).zip(&topic.partitions) {
        bytes = bytes.saturating_add(log.partition_bytes(*id).unwrap_or(0));
        let Some(offsets) = log.offsets(*id) else { continue };
        let (start, end) = (offsets.start, offsets.high_watermark);
        end_sum = end_sum.saturating_add(end);
        if with_partitions {
            ends.push(Ends { partition, start, end });
        }
    }
    TopicSeries { name: topic.name.clone(), partitions: topic.partitions.len(), bytes, end_sum, ends }
}

fn group_topic(measured: &[Measured], with_partitions: bool, aging: &mut Aging<'_>) -> GroupTopic {
    let name = measured.first().map(|place| place.topic.name.clone());
    let mut all = GroupTopic { topic: name.unwrap_or_default(), ..GroupTopic::default() };
    for place in measured {
        let lag_ms = aging.lag_ms(place);
        let (partition, committed, lag) = (place.number, place.committed, place.lag);
        let place = GroupPlace { partition, committed, lag, lag_ms };
        all.add(&place);
        if with_partitions {
            all.places.push(place);
        }
    }
    all
}

impl GroupTopic {
    /// Adds a partition to what is said of all.
    fn add(&mut self, place: &GroupPlace) {
        let sum = |sum: Option<u64>, one: Option<u64>| match (sum, one) {
            (Some(sum), Some(one)) => Some(sum.saturating_add(one)),
            (sum, one) => sum.or(one),
        };
        self.committed_sum = sum(self.committed_sum, place.committed);
        self.lag_sum = sum(self.lag_sum, place.lag);
        // Of two options the larger is the one that is there.
        self.lag_ms_max = self.lag_ms_max.max(place.lag_ms);
        self.unknown_events += u64::from(place.lag.is_none());
        self.unknown_seconds += u64::from(place.lag_ms.is_none());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_added_up_and_what_is_not_is_counted() {
        let place = |committed, lag, lag_ms| GroupPlace { partition: 0, committed, lag, lag_ms };
        let mut all = GroupTopic::default();
        all.add(&place(None, None, None));
        assert_eq!((all.committed_sum, all.lag_sum, all.lag_ms_max), (None, None, None), "unknown is not 0");
        all.add(&place(Some(7), Some(3), Some(500)));
        all.add(&place(Some(5), Some(2), Some(900)));
        all.add(&place(Some(1), Some(4), None));
        assert_eq!((all.committed_sum, all.lag_sum, all.lag_ms_max), (Some(13), Some(9), Some(900)));
        assert_eq!((all.unknown_events, all.unknown_seconds), (1, 2));
    }
}
