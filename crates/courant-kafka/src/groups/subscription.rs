//! The topics that a consumer subscribes to, as far as its metadata says.
//!
//! Metadata is the business of clients; the consumer protocol is what nearly all of them speak (i16
//! version, then an array of topic names). It is read only where an administrator wants to delete
//! offsets that are in use, and where a static member comes back.

use std::collections::BTreeSet;

use bytes::{Buf, Bytes};

/// Adds the topics of a subscription. What is no subscription adds nothing.
pub(super) fn topics(metadata: Bytes, into: &mut BTreeSet<String>) {
    let _ = read(metadata, into);
}

/// Whether two members subscribe to the same topics, whatever else they say. What is no subscription is
/// compared as it is.
pub(super) fn is_to_the_same_topics(one: &Bytes, other: &Bytes) -> bool {
    let topics_of = |metadata: &Bytes| {
        let mut found = BTreeSet::new();
        read(metadata.clone(), &mut found).map(|()| found)
    };
    match (topics_of(one), topics_of(other)) {
        (Some(one), Some(other)) => one == other,
        _ => one == other,
    }
}

fn read(mut metadata: Bytes, into: &mut BTreeSet<String>) -> Option<()> {
    metadata.try_get_i16().ok()?;
    for _ in 0..metadata.try_get_i32().ok()? {
        let length = usize::try_from(metadata.try_get_i16().ok()?).ok()?;
        let name = (length <= metadata.remaining()).then(|| metadata.split_to(length))?;
        into.insert(String::from_utf8(name.to_vec()).ok()?);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topics_of(metadata: &'static [u8]) -> Vec<String> {
        let mut found = BTreeSet::new();
        topics(Bytes::from_static(metadata), &mut found);
        found.into_iter().collect()
    }

    #[test]
    fn topics_are_found_and_nonsense_is_none() {
        assert_eq!(topics_of(b"\0\x01\0\0\0\x02\0\x01a\0\x02bc\xff\xff\xff\xff"), ["a", "bc"]);
        assert_eq!(topics_of(b"\0\x01\0\0\0\x02\0\x01a\0\x09bc"), ["a"]);
        assert_eq!(topics_of(b"\0\x01\x7f\xff\xff\xff"), Vec::<String>::new());
        assert_eq!(topics_of(b""), Vec::<String>::new());
    }

    #[test]
    fn only_topics_are_compared() {
        let same = |one: &'static [u8], other: &'static [u8]| {
            is_to_the_same_topics(&Bytes::from_static(one), &Bytes::from_static(other))
        };
        let plain = b"\0\x01\0\0\0\x02\0\x01a\0\x02bc\xff\xff\xff\xff";
        assert!(same(plain, b"\0\x03\0\0\0\x02\0\x02bc\0\x01a\0\0\0\x01x\0\0\0\0\0\0\0\x07\xff\xff"));
        assert!(!same(plain, b"\0\x01\0\0\0\x01\0\x01a\xff\xff\xff\xff"));
        assert!(!same(plain, b"\0\x01\0\0\0\x03\0\x01a\0\x02bc"), "it ends before its last topic");
        assert!(same(b"orders", b"orders") && !same(b"orders", b"events"), "they are no subscriptions");
    }
}
