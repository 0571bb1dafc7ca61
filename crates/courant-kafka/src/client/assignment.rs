//! What the consumer protocol says of a member's partitions: i16 version, then topics, each with its
//! partitions, then bytes that are the clients' business.

use std::collections::BTreeMap;

use bytes::{Buf, Bytes};

/// The partitions by topic; `None` for bytes that are no assignment of the consumer protocol.
pub(super) fn decode(bytes: &Bytes) -> Option<BTreeMap<String, Vec<i32>>> {
    let mut from = bytes.clone();
    from.try_get_i16().ok()?;
    let mut assigned = BTreeMap::new();
    for _ in 0..from.try_get_i32().ok()? {
        let length = usize::try_from(from.try_get_i16().ok()?).ok()?;
        let topic = (length <= from.remaining()).then(|| from.split_to(length))?;
        let topic = String::from_utf8(topic.to_vec()).ok()?;
        let count = usize::try_from(from.try_get_i32().ok()?).ok()?;
        // Each takes four bytes: nothing is reserved for what is not there.
        let mut partitions: Vec<i32> = (count <= from.remaining() / 4)
            .then(|| (0..count).map(|_| from.try_get_i32()).collect::<Result<_, _>>())?
            .ok()?;
        partitions.sort_unstable();
        assigned.insert(topic, partitions);
    }
    Some(assigned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_found_and_nonsense_is_none() {
        let bytes = b"\0\x01\0\0\0\x01\0\x06orders\0\0\0\x02\0\0\0\x03\0\0\0\x01\xff\xff\xff\xff";
        let assigned = decode(&Bytes::from_static(bytes)).expect("an assignment");
        assert_eq!(assigned, BTreeMap::from([("orders".to_owned(), vec![1, 3])]));
        for end in 0..24 {
            assert_eq!(decode(&Bytes::from_static(&bytes[..end])), None, "{end} bytes");
        }
        let lying = b"\0\x01\0\0\0\x01\0\x01a\x7f\xff\xff\xff\0\0\0\0";
        assert_eq!(decode(&Bytes::from_static(lying)), None);
    }
}
