//! The consumer protocol between the members of a group: what each subscribes to, and what its leader
//! assigns. Servers do not read either.
//!
//! Subscription: i16 version, then topics. Assignment: i16 version, then topics, each with its
//! partitions. Both end with bytes that are the clients' business.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Partitions by topic.
pub(crate) type Assignment = BTreeMap<String, Vec<i32>>;

/// The partitions by topic; `None` for bytes that are no assignment of the consumer protocol.
pub(crate) fn decode(bytes: &Bytes) -> Option<Assignment> {
    let mut from = bytes.clone();
    from.try_get_i16().ok()?;
    let mut assigned = BTreeMap::new();
    for _ in 0..from.try_get_i32().ok()? {
        let topic = string(&mut from)?;
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

pub(super) fn encode(assignment: &Assignment) -> Bytes {
    let mut out = BytesMut::new();
    out.put_i16(0);
    out.put_i32(count(assignment.len()));
    for (topic, partitions) in assignment {
        put_string(&mut out, topic);
        out.put_i32(count(partitions.len()));
        partitions.iter().for_each(|partition| out.put_i32(*partition));
    }
    out.put_i32(-1);
    out.freeze()
}

/// The topics of a subscription; what is none has no topics.
pub(super) fn subscribed(bytes: &Bytes) -> BTreeSet<String> {
    let mut from = bytes.clone();
    let mut topics = BTreeSet::new();
    if from.try_get_i16().is_err() {
        return topics;
    }
    for _ in 0..from.try_get_i32().unwrap_or(0) {
        match string(&mut from) {
            Some(topic) => topics.insert(topic),
            None => break,
        };
    }
    topics
}

pub(super) fn subscription(topic: &str) -> Bytes {
    let mut out = BytesMut::new();
    out.put_i16(0);
    out.put_i32(1);
    put_string(&mut out, topic);
    out.put_i32(-1);
    out.freeze()
}

/// What each member gets, as Kafka's range assignor has it: of each topic one piece after the other, in
/// the order of member ids, the first ones longer by one where it does not come out even.
pub(super) fn range(
    members: &BTreeMap<String, BTreeSet<String>>,
    partitions: &BTreeMap<String, usize>,
) -> BTreeMap<String, Assignment> {
    let mut assigned: BTreeMap<String, Assignment> =
        members.keys().map(|member| (member.clone(), Assignment::new())).collect();
    for (topic, partitions) in partitions {
        let readers: Vec<_> = members.iter().filter(|(_, topics)| topics.contains(topic)).collect();
        let mut next = 0;
        for (index, (member, _)) in readers.iter().enumerate() {
            let share = partitions / readers.len() + usize::from(index < partitions % readers.len());
            let piece: Vec<i32> =
                (next..next + share).filter_map(|index| i32::try_from(index).ok()).collect();
            next += share;
            if let Some(assignment) = assigned.get_mut(*member).filter(|_| !piece.is_empty()) {
                assignment.insert(topic.clone(), piece);
            }
        }
    }
    assigned
}

fn string(from: &mut Bytes) -> Option<String> {
    let length = usize::try_from(from.try_get_i16().ok()?).ok()?;
    let text = (length <= from.remaining()).then(|| from.split_to(length))?;
    String::from_utf8(text.to_vec()).ok()
}

/// Topic names have at most 249 bytes.
fn put_string(out: &mut BytesMut, text: &str) {
    out.put_i16(i16::try_from(text.len()).unwrap_or(i16::MAX));
    out.put_slice(text.as_bytes());
}

fn count(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
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

    #[test]
    fn what_is_written_is_read() {
        let assignment = Assignment::from([("orders".to_owned(), vec![0, 2]), ("audit".to_owned(), vec![])]);
        assert_eq!(decode(&encode(&assignment)), Some(assignment));
        assert_eq!(subscribed(&subscription("orders")), BTreeSet::from(["orders".to_owned()]));
        assert_eq!(subscribed(&Bytes::from_static(b"\0\0\0\0\0\x05\0\x09x")), BTreeSet::new());
    }

    #[test]
    fn every_partition_is_assigned_once_to_somebody_who_reads_its_topic() {
        let topics = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        let members = BTreeMap::from([
            ("a".to_owned(), topics(&["orders"])),
            ("b".to_owned(), topics(&["orders", "audit"])),
            ("c".to_owned(), topics(&["orders"])),
        ]);
        let partitions = BTreeMap::from([("orders".to_owned(), 7), ("audit".to_owned(), 2)]);
        let assigned = range(&members, &partitions);
        assert_eq!(assigned["a"]["orders"], [0, 1, 2]);
        assert_eq!(assigned["b"]["orders"], [3, 4]);
        assert_eq!(assigned["c"]["orders"], [5, 6]);
        assert_eq!(assigned["b"]["audit"], [0, 1]);
        assert_eq!(assigned["a"].len(), 1);
    }
}
