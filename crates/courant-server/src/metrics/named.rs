//! Figures with names in them: topics, partitions, consumer groups. Where kafka_exporter has a figure, it is
//! called as there, so that dashboards and alerts made for that one show this server, too.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue};
use prometheus_client::metrics::MetricType;

use super::gauge;
use crate::api::series::{GroupPlace, GroupSeries, GroupTopic, Series};

/// What was measured, as `/metrics` shows it.
#[derive(Debug)]
pub(super) struct Named(pub(super) Arc<Series>);

/// The name and the value of a label.
type Label<'a> = (&'static str, Cow<'a, str>);

fn label<'a>(name: &'static str, value: &'a str) -> Label<'a> {
    (name, Cow::Borrowed(value))
}

fn number<'a>(name: &'static str, value: u32) -> Label<'a> {
    (name, Cow::Owned(value.to_string()))
}

impl Collector for Named {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        gauge(&mut encoder, ("kafka_brokers", "Servers: one", 1))?;
        self.topics(&mut encoder)?;
        self.partitions(&mut encoder)?;
        self.groups(&mut encoder)?;
        self.group_partitions(&mut encoder)?;
        let left_out = self.0.left_out;
        family(
            &mut encoder,
            "courant_metrics_left_out",
            "Topics and consumer groups that have no series here, or none for their partitions",
            [
                ("topics", left_out.topics),
                ("topic_partitions", left_out.topic_partitions),
                ("groups", left_out.groups),
                ("group_partitions", left_out.group_partitions),
            ]
            .map(|(of, count)| ([label("of", of)], count)),
        )
    }
}

impl Named {
    fn topics(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let topics = || self.0.topics.iter().map(|topic| ([label("topic", &topic.name)], topic));
        let partitions = topics().map(|(labels, topic)| (labels, topic.partitions));
        family(encoder, "kafka_topic_partitions", "Partitions of a topic", partitions)?;
        let bytes = topics().map(|(labels, topic)| (labels, topic.bytes));
        family(encoder, "courant_topic_bytes", "Bytes of a topic's segments", bytes)?;
        let ends = topics().map(|(labels, topic)| (labels, topic.end_sum));
        let help = "Offsets behind the newest events of a topic's partitions, added up";
        family(encoder, "courant_topic_current_offset_sum", help, ends)
    }

    fn partitions(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let partitions = || {
            self.0.topics.iter().flat_map(|topic| {
                let labels = move |partition| [label("topic", &topic.name), number("partition", partition)];
                topic.ends.iter().map(move |ends| (labels(ends.partition), ends))
            })
        };
        let ends = partitions().map(|(labels, ends)| (labels, ends.end));
        let help = "Offset behind the newest event of a partition";
        family(encoder, "kafka_topic_partition_current_offset", help, ends)?;
        let starts = partitions().map(|(labels, ends)| (labels, ends.start));
        let help = "Offset of the oldest event of a partition";
        family(encoder, "kafka_topic_partition_oldest_offset", help, starts)
    }
}

impl Named {
    fn groups(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let members = self.0.groups.iter().map(|group| ([label(GROUP, &group.name)], group.members));
        family(encoder, "kafka_consumergroup_members", "Members of a consumer group", members)?;
        let sums = self.of_topics(|topic| topic.committed_sum);
        let help = "Committed offsets of a consumer group in a topic, added up";
        family(encoder, "kafka_consumergroup_current_offset_sum", help, sums)?;
        let sums = self.of_topics(|topic| topic.lag_sum);
        let help = "Events of a topic that a consumer group has not done with, where that is known";
        family(encoder, "kafka_consumergroup_lag_sum", help, sums)?;
        let longest = self.of_topics(|topic| topic.lag_ms_max.map(seconds));
        let help = "Age of the oldest event of a topic that a consumer group has not done with, in seconds";
        family(encoder, "kafka_consumergroup_lag_seconds_max", help, longest)?;
        let unknown = self.0.groups.iter().flat_map(|group| {
            group.topics.iter().flat_map(move |topic| {
                let counts = [("events", topic.unknown_events), ("seconds", topic.unknown_seconds)];
                counts.map(|(of, count)| {
                    ([label(GROUP, &group.name), label("topic", &topic.topic), label("of", of)], count)
                })
            })
        });
        let help = "Partitions whose lag nobody knows, in events or in seconds";
        family(encoder, "courant_consumergroup_unknown_partitions", help, unknown)
    }

    /// What is known of each topic that a group reads.
    fn of_topics<'a, V: 'a>(
        &'a self,
        value: impl Fn(&GroupTopic) -> Option<V> + Copy + 'a,
    ) -> impl Iterator<Item = ([Label<'a>; 2], V)> + 'a {
        self.0.groups.iter().flat_map(move |group| {
            let of_topic = move |topic: &'a GroupTopic| {
                Some(([label(GROUP, &group.name), label("topic", &topic.topic)], value(topic)?))
            };
            group.topics.iter().filter_map(of_topic)
        })
    }

    fn group_partitions(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let committed = self.of_places(|place| place.committed);
        let help = "Committed offset of a consumer group in a partition";
        family(encoder, "kafka_consumergroup_current_offset", help, committed)?;
        let lags = self.of_places(|place| place.lag);
        let help = "Events of a partition that a consumer group has not done with";
        family(encoder, "kafka_consumergroup_lag", help, lags)?;
        let ages = self.of_places(|place| place.lag_ms.map(seconds));
        let help =
            "Age of the oldest event of a partition that a consumer group has not done with, in seconds";
        family(encoder, "kafka_consumergroup_lag_seconds", help, ages)
    }

    /// What is known of each partition that a group reads.
    fn of_places<'a, V: 'a>(
        &'a self,
        value: impl Fn(&GroupPlace) -> Option<V> + Copy + 'a,
    ) -> impl Iterator<Item = ([Label<'a>; 3], V)> + 'a {
        let topics = |group: &'a GroupSeries| group.topics.iter().map(move |topic| (group, topic));
        self.0.groups.iter().flat_map(topics).flat_map(move |(group, topic)| {
            let of_place = move |place: &'a GroupPlace| {
                let labels = [
                    label(GROUP, &group.name),
                    label("topic", &topic.topic),
                    number("partition", place.partition),
                ];
                Some((labels, value(place)?))
            };
            topic.places.iter().filter_map(of_place)
        })
    }
}

/// As kafka_exporter calls it.
const GROUP: &str = "consumergroup";

fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}

/// A figure of several things, or of none.
fn family<'a, V: EncodeGaugeValue, const N: usize>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    samples: impl IntoIterator<Item = ([Label<'a>; N], V)>,
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (labels, value) in samples {
        metric.encode_family(&labels)?.encode_gauge(&value)?;
    }
    Ok(())
}
