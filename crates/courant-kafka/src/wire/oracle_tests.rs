//! The codec against the published `kafka-protocol` crate, which is generated
//! from Kafka 4.1's message schemas.

use super::sampler::{Sample, Sampler, Shape, encoded, every_message, joined};
use super::{
    ApiKey, ErrorCode, Message, Reader, RequestHeader, ResponseHeader, Writer, decode_body, messages,
    supported_apis,
};
use bytes::{Bytes, BytesMut};
use kafka_protocol::ResponseError;
use kafka_protocol::messages as theirs;
use kafka_protocol::protocol::{Decodable, Encodable, Message as OracleMessage};
use std::collections::BTreeMap;
use std::fmt::Debug;

/// Messages whose versions differ from the oracle's, as (name, theirs), and
/// why. No version of ours is skipped anywhere.
const OTHER_VERSIONS: [(&str, i16, i16); 3] = [
    // Version 6 (KIP-939) is not stable in 4.1; the request has none in the
    // oracle either.
    ("InitProducerIdResponse", 0, 6),
    // Version 10 has topic ids (KIP-848); in 4.1 the requests of it are not stable.
    ("OffsetCommitResponse", 2, 10),
    ("OffsetFetchResponse", 1, 10),
];

/// Fields of the oracle that no version of ours carries, and why.
const NOT_CARRIED: [(&str, &str); 8] = [
    // InitProducerId 6 (KIP-939), not stable in 4.1.
    ("InitProducerIdRequest", "enable_2_pc"),
    ("InitProducerIdRequest", "keep_prepared_txn"),
    ("InitProducerIdResponse", "ongoing_txn_producer_id"),
    ("InitProducerIdResponse", "ongoing_txn_producer_epoch"),
    // Version 10 of both, as above.
    ("OffsetCommitRequestTopic", "topic_id"),
    ("OffsetCommitResponseTopic", "topic_id"),
    ("OffsetFetchRequestTopics", "topic_id"),
    ("OffsetFetchResponseTopics", "topic_id"),
];

/// Calls a check for every message of ours with the oracle's.
macro_rules! compare {
    (($check:ident) $($name:ident)*) => {
        $($check::<messages::$name, theirs::$name>(stringify!($name));)*
    };
}

fn to_oracle<T: Decodable>(bytes: &Bytes, version: i16, what: &str) -> T {
    let mut rest = bytes.clone();
    let message = T::decode(&mut rest, version)
        .unwrap_or_else(|error| panic!("{what}: the oracle cannot read it: {error}"));
    assert!(rest.is_empty(), "{what}: the oracle leaves {rest:?}");
    message
}

fn oracle_bytes<T: Encodable>(message: &T, version: i16, what: &str) -> Bytes {
    let mut bytes = BytesMut::new();
    message
        .encode(&mut bytes, version)
        .unwrap_or_else(|error| panic!("{what}: the oracle cannot write it: {error}"));
    bytes.freeze()
}

#[test]
fn every_message_has_the_oracles_bytes() {
    fn agree<O, T>(name: &str)
    where
        O: Message + Sample + Default + Debug + PartialEq,
        T: Encodable + Decodable,
    {
        for version in O::VERSIONS {
            for shape in Shape::ALL {
                let what = format!("{name} v{version}, {shape:?}");
                let sample: O = Sampler::new(shape, 0).message(version);
                let bytes = encoded(&sample, version);
                let theirs: T = to_oracle(&bytes, version, &what);
                let back = oracle_bytes(&theirs, version, &what);
                assert_eq!(bytes, back, "{what}: {sample:#?}");
                let read: O = decode_body(&mut Reader::new(back), version)
                    .unwrap_or_else(|error| panic!("{what}: {error}"));
                assert_eq!(sample, read, "{what}");
            }
        }
    }
    every_message!(compare(agree));
}

#[test]
fn versions_are_the_oracles() {
    fn same_versions<O: Message, T: OracleMessage>(name: &str) {
        let ours = (*O::VERSIONS.start(), *O::VERSIONS.end());
        let expected = OTHER_VERSIONS
            .iter()
            .find(|(other, ..)| *other == name)
            .map_or(ours, |(_, min, max)| (*min, *max));
        assert_eq!((T::VERSIONS.min, T::VERSIONS.max), expected, "{name}");
        assert!(expected.0 <= ours.0 && ours.1 <= expected.1, "{name}");
    }
    every_message!(compare(same_versions));
}

#[test]
fn defaults_are_the_oracles() {
    // A tagged field with its default is not written, so that a wrong default
    // shows as a different message for what is not there.
    fn same_default<O, T>(name: &str)
    where
        O: Message + Default,
        T: Encodable + Decodable + Default + PartialEq + Debug,
    {
        // Nullable strings are the one deliberate difference: these have one at
        // top level that is empty in the oracle and null in ours.
        if ["FindCoordinatorResponse", "InitProducerIdRequest", "JoinGroupResponse"].contains(&name) {
            return;
        }
        for version in O::VERSIONS {
            let what = format!("{name} v{version}");
            let theirs: T = to_oracle(&encoded(&O::default(), version), version, &what);
            let default = oracle_bytes(&theirs, version, &what);
            assert_eq!(encoded(&O::default(), version), default, "{what}");
            assert_eq!(theirs, T::default(), "{what}");
        }
    }
    every_message!(compare(same_default));
}

#[test]
fn defaults_of_nested_structs_are_the_oracles() {
    let fetch = messages::FetchRequest {
        topics: vec![messages::FetchTopic {
            partitions: vec![messages::FetchPartition::default()],
            ..Default::default()
        }],
        ..Default::default()
    };
    let read: theirs::FetchRequest = to_oracle(&encoded(&fetch, 18), 18, "Fetch");
    assert_eq!(read.topics[0].partitions[0], theirs::fetch_request::FetchPartition::default());

    let fetched = messages::FetchResponse {
        responses: vec![messages::FetchableTopicResponse {
            partitions: vec![messages::PartitionData::default()],
            ..Default::default()
        }],
        ..Default::default()
    };
    let read: theirs::FetchResponse = to_oracle(&encoded(&fetched, 18), 18, "Fetch");
    assert_eq!(read.responses[0].partitions[0], theirs::fetch_response::PartitionData::default());

    let produced = messages::ProduceResponse {
        responses: vec![messages::TopicProduceResponse {
            partition_responses: vec![messages::PartitionProduceResponse::default()],
            ..Default::default()
        }],
        ..Default::default()
    };
    let read: theirs::ProduceResponse = to_oracle(&encoded(&produced, 13), 13, "Produce");
    assert_eq!(
        read.responses[0].partition_responses[0],
        theirs::produce_response::PartitionProduceResponse::default()
    );
}

#[test]
fn no_field_of_the_oracle_is_ignored() {
    // Two samples differ in every field we carry. A field that is the same in
    // the oracle's view of both, in every version, is missing from a table.
    fn all_fields_differ<O, T>(name: &str)
    where
        O: Message + Sample + Default,
        T: Decodable + Debug,
    {
        let mut differs = BTreeMap::new();
        let other = Shape { default_bools: true, ..Shape::ONE };
        for version in O::VERSIONS {
            let text = |shape, first| {
                let sample: O = Sampler::new(shape, first).message(version);
                let theirs: T = to_oracle(&encoded(&sample, version), version, name);
                format!("{theirs:#?}")
            };
            compare_fields(&text(Shape::ONE, 0), &text(other, 499), &mut differs);
        }
        assert!(!differs.is_empty(), "{name}: no field found");
        for ((owner, field), differs) in differs {
            let excepted =
                field == "unknown_tagged_fields" || NOT_CARRIED.contains(&(owner.as_str(), field.as_str()));
            assert!(differs != excepted, "{name}: {owner}.{field}: carried is {differs}");
        }
    }
    every_message!(compare(all_fields_differ));
}

/// Walks two pretty debug texts of the same structure and notes for every
/// (struct, field) whether its value differs.
fn compare_fields(left: &str, right: &str, differs: &mut BTreeMap<(String, String), bool>) {
    assert_eq!(left.lines().count(), right.lines().count(), "{left}{right}");
    let mut structs: Vec<(usize, String)> = Vec::new();
    let mut fields: Vec<(usize, (String, String))> = Vec::new();
    for (line, other) in left.lines().zip(right.lines()) {
        let text = line.trim_start();
        let indent = line.len() - text.len();
        structs.retain(|(at, _)| *at < indent);
        fields.retain(|(at, _)| *at < indent);
        let field = text
            .split_once(": ")
            .map(|(field, _)| field)
            .filter(|field| field.chars().all(|c| c == '_' || c.is_ascii_alphanumeric()));
        if let (Some(field), Some((_, owner))) = (field, structs.last()) {
            let key = (owner.clone(), field.to_owned());
            differs.entry(key.clone()).or_insert(false);
            fields.push((indent, key));
        }
        if line != other {
            for (_, key) in &fields {
                differs.insert(key.clone(), true);
            }
        }
        if let Some(name) = text.strip_suffix(" {") {
            let name = name.rsplit(' ').next().unwrap_or(name);
            structs.push((indent, name.to_owned()));
        }
    }
}

/// Calls a check with a function that adds an unknown tagged field.
macro_rules! compare_tagged {
    (($check:ident) $($name:ident)*) => {
        $(compare_tagged!(@ $check $name);)*
    };
    // The two that have no flexible version.
    (@ $check:ident OffsetDeleteRequest) => {};
    (@ $check:ident OffsetDeleteResponse) => {};
    (@ $check:ident $name:ident) => {
        $check::<messages::$name, theirs::$name>(stringify!($name), |message| {
            message.unknown_tagged_fields.insert(1000, LATER);
        });
    };
}

/// The value of a tagged field of a later Kafka version.
const LATER: Bytes = Bytes::from_static(b"later");

#[test]
fn unknown_tagged_fields_are_skipped() {
    fn skipped<O, T>(name: &str, add: impl Fn(&mut T))
    where
        O: Message + Sample + Default + Debug + PartialEq,
        T: Encodable + Decodable,
    {
        for version in O::VERSIONS.filter(|version| *version >= O::FLEXIBLE_FROM) {
            let what = format!("{name} v{version}");
            let sample: O = Sampler::new(Shape::ONE, 0).message(version);
            let bytes = encoded(&sample, version);
            let mut theirs: T = to_oracle(&bytes, version, &what);
            add(&mut theirs);
            let more = oracle_bytes(&theirs, version, &what);
            assert!(more.len() > bytes.len(), "{what}");
            let read: O = decode_body(&mut Reader::new(more), version)
                .unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_eq!(sample, read, "{what}");
        }
    }
    every_message!(compare_tagged(skipped));
}

#[test]
fn unknown_tagged_fields_in_nested_structs_are_skipped() {
    let sample: messages::FetchRequest = Sampler::new(Shape::ONE, 0).message(18);
    let mut theirs: theirs::FetchRequest = to_oracle(&encoded(&sample, 18), 18, "Fetch");
    let topic = &mut theirs.topics[0];
    topic.unknown_tagged_fields.insert(9, LATER);
    let partition = &mut topic.partitions[0];
    partition.unknown_tagged_fields.insert(70_000, Bytes::new());
    theirs.replica_state.unknown_tagged_fields.insert(0, LATER);
    let bytes = oracle_bytes(&theirs, 18, "Fetch");
    let read: messages::FetchRequest =
        decode_body(&mut Reader::new(bytes), 18).expect("tagged fields are skipped");
    assert_eq!(sample, read);
}

#[test]
fn headers_are_the_oracles() {
    for api in supported_apis() {
        let theirs_key = theirs::ApiKey::try_from(api.key.0).expect("a key of the oracle");
        for version in api.min..=api.max {
            let what = format!("{} v{version}", api.key);
            for client_id in [None, Some("cli\u{e9}nt".to_owned())] {
                let header = RequestHeader {
                    api_key: api.key,
                    api_version: version,
                    correlation_id: 0x0102_0304,
                    client_id,
                };
                let mut writer = Writer::new();
                header.encode(&mut writer).expect("encodes");
                let bytes = joined(&writer.finish());
                let header_version = theirs_key.request_header_version(version);
                let theirs: theirs::RequestHeader = to_oracle(&bytes, header_version, &what);
                let back = oracle_bytes(&theirs, header_version, &what);
                assert_eq!(bytes, back, "{what}");
                let mut reader = Reader::new(back);
                assert_eq!(RequestHeader::parse(&mut reader).as_ref(), Ok(&header));
                assert_eq!(reader.finish(), Ok(()), "{what}");
            }
            let header = ResponseHeader { correlation_id: 77 };
            let mut writer = Writer::new();
            header.encode(&mut writer, api.key, version).expect("encodes");
            let bytes = joined(&writer.finish());
            let header_version = theirs_key.response_header_version(version);
            let theirs: theirs::ResponseHeader = to_oracle(&bytes, header_version, &what);
            assert_eq!(bytes, oracle_bytes(&theirs, header_version, &what));
            let mut reader = Reader::new(bytes);
            let read = ResponseHeader::parse(&mut reader, api.key, version);
            assert_eq!(read, Ok(header), "{what}");
            assert_eq!(reader.finish(), Ok(()), "{what}");
        }
    }
}

#[test]
fn names_are_the_oracles() {
    for key in 0..=i16::from(i8::MAX) {
        if let Ok(theirs) = theirs::ApiKey::try_from(key) {
            assert_eq!(ApiKey(key).name(), format!("{theirs:?}"));
        }
    }
    for code in ErrorCode::ALL {
        let Some(theirs) = ResponseError::try_from_code(code.0) else {
            assert_eq!(*code, ErrorCode::NONE);
            continue;
        };
        let ours = code.name().replace('_', "").to_lowercase();
        assert_eq!(ours, format!("{theirs:?}").to_lowercase());
        assert_eq!(code.is_retriable(), theirs.is_retriable(), "{code}");
    }
}
