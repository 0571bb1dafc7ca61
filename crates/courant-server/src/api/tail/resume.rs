//! Where a client was, as the id of an event says it: the stream, and for each of its subscriptions the
//! offset at which each partition goes on. The client hands it back as `Last-Event-ID`.

use std::fmt::Write as _;

use uuid::Uuid;

use crate::api::limits::{RESUME_BYTES_MAX, STREAM_PARTITIONS_MAX};

/// Where one partition goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The subscription's number.
    pub(super) subscription: u32,
    /// The topic's number among those of the subscription.
    pub(super) topic: u32,
    pub(super) partition: u32,
    pub(super) next: u64,
    /// The first digits of the topic's id: one that is made again under the same name has another one.
    pub(super) made: u32,
}

/// The first digits of the id of a topic.
pub(super) fn made(topic: Uuid) -> u32 {
    topic.as_fields().0
}

/// What an id says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Resume {
    pub(super) stream: String,
    pub(super) places: Vec<Place>,
}

/// The id of an event behind which these places come.
pub(super) fn written(stream: &str, places: impl Iterator<Item = Place>) -> String {
    let mut id = stream.to_owned();
    for Place { subscription, topic, partition, next, made } in places {
        // Writing into a text cannot fail.
        let _ = write!(id, ",{subscription}.{topic}.{partition}.{next}.{made:x}");
    }
    id
}

impl Resume {
    /// `None` for what no stream has ever said.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if text.len() > RESUME_BYTES_MAX {
            return None;
        }
        let mut words = text.split(',');
        let stream = words.next()?.to_owned();
        let mut places = Vec::new();
        for word in words {
            let mut numbers = word.split('.');
            let place = Place {
                subscription: numbers.next()?.parse().ok()?,
                topic: numbers.next()?.parse().ok()?,
                partition: numbers.next()?.parse().ok()?,
                next: numbers.next()?.parse().ok()?,
                made: u32::from_str_radix(numbers.next()?, 16).ok()?,
            };
            if numbers.next().is_some() || places.len() == STREAM_PARTITIONS_MAX {
                return None;
            }
            places.push(place);
        }
        Some(Self { stream, places })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_comes_back_as_it_was_written() {
        let place = |partition, next| Place { subscription: 2, topic: 1, partition, next, made: 0xae30_1954 };
        let places = vec![place(0, 9_007_199_254_740_993), place(9_999, 0)];
        let id = written("stream", places.iter().copied());
        assert_eq!(id, "stream,2.1.0.9007199254740993.ae301954,2.1.9999.0.ae301954");
        assert_eq!(Resume::parse(&id), Some(Resume { stream: "stream".to_owned(), places }));
        assert_eq!(Resume::parse("x").map(|resume| resume.places), Some(vec![]));
    }

    #[test]
    fn what_no_stream_has_said_is_no_place() {
        let many = format!("s{}", ",0.0.0.0.f".repeat(STREAM_PARTITIONS_MAX + 1));
        let numbers = ["s,", "s,1", "s,1.2.3.4", "s,1.2.3.4.5.6"];
        let others = ["s,a.0.0.0.0", "s,-1.0.0.0.0", "s,0.0.0.0.g", "s,0.0.0.0.100000000"];
        for bad in [&numbers[..], &others[..], &[many.as_str()][..]].concat() {
            assert_eq!(Resume::parse(bad), None, "{bad}");
        }
        assert_eq!(Resume::parse(&"s".repeat(RESUME_BYTES_MAX + 1)), None);
    }
}
