//! Records: what is published and what is read.

use std::sync::Arc;

use bytes::Bytes;

use crate::Position;

/// One header of a record. Names may repeat, and keep their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// UTF-8 by convention; a record of a foreign program may have anything.
    pub name: Bytes,
    /// The value, or null.
    pub value: Option<Bytes>,
}

impl Header {
    /// A header with a value.
    #[must_use]
    pub fn new(name: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        Self { name: name.into(), value: Some(value.into()) }
    }

    /// A header without a value.
    #[must_use]
    pub fn null(name: impl Into<Bytes>) -> Self {
        Self { name: name.into(), value: None }
    }
}

/// A record to be published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRecord {
    /// The topic, which must exist.
    pub topic: Arc<str>,
    /// A partition of it. `None`: the one that the key belongs to, as Kafka's Java client chooses it;
    /// records without a key go to any, all of one batch to the same.
    pub partition: Option<u32>,
    /// Records with one key go to one partition and keep their order.
    pub key: Option<Bytes>,
    /// The value; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// The headers, in order.
    pub headers: Vec<Header>,
    /// Milliseconds since 1970, 0 or more. `None`: the engine's clock.
    pub timestamp_ms: Option<i64>,
}

impl NewRecord {
    /// A record with a key and a value, without headers, of this moment.
    #[must_use]
    pub fn new(topic: impl Into<Arc<str>>, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        Self {
            topic: topic.into(),
            partition: None,
            key: Some(key.into()),
            value: Some(value.into()),
            headers: Vec::new(),
            timestamp_ms: None,
        }
    }

    /// Bytes of key, value and headers.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        payload_bytes(self.key.as_ref(), self.value.as_ref(), &self.headers)
    }
}

/// A record as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Where it is.
    pub position: Position,
    /// Milliseconds since 1970; -1 for none.
    pub timestamp_ms: i64,
    /// The key, or null.
    pub key: Option<Bytes>,
    /// The value, or null (a tombstone).
    pub value: Option<Bytes>,
    /// The headers, in order.
    pub headers: Vec<Header>,
}

impl Record {
    /// The last header of that name, which is the one that counts where names repeat.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&Header> {
        self.headers.iter().rev().find(|header| header.name == name.as_bytes())
    }

    /// Bytes of key, value and headers.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        payload_bytes(self.key.as_ref(), self.value.as_ref(), &self.headers)
    }
}

/// What is at a position that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReadBack {
    /// This record.
    Found(Record),
    /// It lies before the oldest record: retention has taken it.
    Before {
        /// Offset of the oldest record that is kept.
        start: u64,
    },
    /// It lies at or behind the end: the log has never given out this offset, or has been replaced by
    /// one that is shorter.
    Behind {
        /// Offset behind the newest readable record.
        end: u64,
    },
    /// It lies between the ends and no record has it: compaction or accepted damage has taken it.
    Gap,
}

fn payload_bytes(key: Option<&Bytes>, value: Option<&Bytes>, headers: &[Header]) -> usize {
    let length = |bytes: Option<&Bytes>| bytes.map_or(0, Bytes::len);
    let headers: usize = headers.iter().map(|header| header.name.len() + length(header.value.as_ref())).sum();
    length(key) + length(value) + headers
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Partition;

    #[test]
    fn the_last_header_of_a_name_counts() {
        let record = Record {
            position: Partition::new("orders", 0).at(0),
            timestamp_ms: 0,
            key: None,
            value: None,
            headers: vec![Header::new("a", "1"), Header::new("b", "x"), Header::null("a")],
        };
        assert_eq!(record.header("a"), Some(&Header::null("a")));
        assert_eq!(record.header("b"), Some(&Header::new("b", "x")));
        assert_eq!(record.header("c"), None);
        assert_eq!(record.payload_bytes(), 5);
    }
}
