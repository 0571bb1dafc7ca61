//! Figures with names in them: topics, partitions, consumer groups. Where kafka_exporter has a figure, it is
//! called as there, so that dashboards and alerts made for that one show this server, too.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue};
use prometheus_client::metrics::MetricType;

use super::gauge;
use crate::api::series::{ConsumerSeries, GroupPlace, GroupSeries, GroupTopic, Series};

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
        self.services(&mut encoder)?;
        let left_out = self.0.left_out;
        family(
            &mut encoder,
            "courant_metrics_left_out",
            "Topics, consumer groups and consumers of services that have no series here, or none for their \
             partitions",
            [
                ("topics", left_out.topics),
                ("topic_partitions", left_out.topic_partitions),
                ("groups", left_out.groups),
                ("group_partitions", left_out.group_partitions),
                ("service_consumers", left_out.service_consumers),
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

impl Named {
    /// What services say of themselves.
    fn services(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let Some(unreadable) = self.0.unreadable else { return Ok(()) };
        let help = "Instances of services that say what this version does not understand";
        gauge(encoder, ("courant_service_unreadable_instances", help, unreadable))?;
        let instances = self.0.services.iter().flat_map(|service| {
            let counts = [("running", service.running), ("silent", service.silent)];
            counts.map(|(state, count)| ([label("service", &service.name), label("state", state)], count))
        });
        let help = "Instances of a service: heard of lately, or not and not ended in order either";
        family(encoder, "courant_service_instances", help, instances)?;
        let outboxes = self
            .0
            .services
            .iter()
            .filter_map(|service| Some(([label("service", &service.name)], service.outbox?)));
        let help = "Events that wait in the outbox of a service";
        family(encoder, "courant_service_outbox_events", help, outboxes)?;
        let stalls = self.0.services.iter().flat_map(|service| {
            service.stalls.iter().map(move |stall| {
                let labels = [
                    label("service", &service.name),
                    label("consumer", &stall.consumer),
                    label("reason", stall.reason),
                ];
                (labels, seconds(stall.for_ms))
            })
        });
        let help = "How long a consumer, or the outbox where there is none, has not gone on for a reason, in seconds";
        family(encoder, "courant_service_stalled_seconds", help, stalls)?;
        let help = "Dead letters that nobody has decided about";
        let letters = self.of_consumers(|consumer| consumer.dead_letters);
        family(encoder, "courant_service_dead_letters", help, letters)?;
        let help = "Events that wait for their next attempt, or behind another of their key";
        let parked = self.of_consumers(|consumer| consumer.parked_events);
        family(encoder, "courant_service_parked_events", help, parked)?;
        let help =
            "Events that may be parked: those that wait and the keys held together; no more are read then";
        let most = self.of_consumers(|consumer| consumer.parked_max);
        family(encoder, "courant_service_parked_events_max", help, most)?;
        let help = "Keys that wait for somebody to decide about a dead letter";
        family(encoder, "courant_service_held_keys", help, self.of_consumers(|consumer| consumer.held_keys))
    }

    /// What is known of each consumer of a service.
    fn of_consumers<'a>(
        &'a self,
        value: impl Fn(&ConsumerSeries) -> Option<u64> + Copy + 'a,
    ) -> impl Iterator<Item = ([Label<'a>; 2], u64)> + 'a {
        self.0.services.iter().flat_map(move |service| {
            let of_consumer = move |consumer: &'a ConsumerSeries| {
                let labels = [label("service", &service.name), label("consumer", &consumer.name)];
                Some((labels, value(consumer)?))
            };
            service.consumers.iter().filter_map(of_consumer)
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
