//! Input nobody means well: it is refused, and costs no more than its size.

use super::field::{Field, Format, initial_capacity};
use super::messages::{
    self, ApiVersionsResponse, FetchResponse, FetchableTopicResponse, MetadataRequest, PartitionData,
    ProduceRequest,
};
use super::sampler::{Sample, Sampler, Shape, encoded, every_message, joined};
use super::{
    ApiKey, Message, Reader, RequestHeader, SHARE_FROM_BYTES, WireError, Writer, decode_body, encode_response,
};
use bytes::Bytes;
use proptest::prelude::*;

/// Calls a check for every message.
macro_rules! each {
    (($check:ident) $($name:ident)*) => {
        $($check::<messages::$name>(stringify!($name));)*
    };
}

fn decode<M: Message>(bytes: &[u8], version: i16) -> Result<M, WireError> {
    decode_body(&mut Reader::new(Bytes::copy_from_slice(bytes)), version)
}

fn format(flexible: bool, nullable: bool) -> Format {
    Format { version: 0, flexible, nullable }
}

fn decode_field<F: Field>(bytes: &'static [u8], format: Format) -> Result<F, WireError> {
    F::decode(&mut Reader::new(Bytes::from_static(bytes)), format)
}

#[test]
fn a_truncated_message_is_an_error_at_every_byte() {
    fn truncated<M: Message + Sample + Default>(name: &str) {
        for version in M::VERSIONS {
            for shape in [Shape::ONE, Shape::THREE] {
                let sample: M = Sampler::new(shape, 0).message(version);
                let bytes = encoded(&sample, version);
                for end in 0..bytes.len() {
                    let mut reader = Reader::new(bytes.slice(..end));
                    let read = decode_body::<M>(&mut reader, version);
                    assert!(read.is_err(), "{name} v{version} cut at {end}");
                }
            }
        }
    }
    every_message!(each(truncated));
}

#[test]
fn a_byte_too_many_is_an_error() {
    fn trailing<M: Message + Sample + Default>(name: &str) {
        for version in M::VERSIONS {
            let sample: M = Sampler::new(Shape::ONE, 0).message(version);
            let mut bytes = encoded(&sample, version).to_vec();
            bytes.push(0);
            assert_eq!(
                decode::<M>(&bytes, version).err(),
                Some(WireError::TrailingBytes { bytes: 1 }),
                "{name} v{version}"
            );
        }
    }
    every_message!(each(trailing));
}

#[test]
fn huge_and_negative_lengths_anywhere_do_no_harm() {
    const STAMPS: [&[u8]; 6] = [
        &[0x7f, 0xff, 0xff, 0xff],
        &[0x80, 0x00, 0x00, 0x00],
        &[0xff, 0xff, 0xff, 0xff],
        &[0xff, 0xff, 0xff, 0xff, 0x0f],
        &[0xff, 0xff, 0xff, 0xff, 0xff],
        &[0x00],
    ];
    fn stamped<M: Message + Sample + Default>(_name: &str) {
        for version in M::VERSIONS {
            let sample: M = Sampler::new(Shape::ONE, 0).message(version);
            let bytes = encoded(&sample, version);
            for at in 0..bytes.len() {
                for stamp in STAMPS {
                    let mut bytes = bytes.to_vec();
                    for (to, from) in bytes.iter_mut().skip(at).zip(stamp) {
                        *to = *from;
                    }
                    let _ = decode::<M>(&bytes, version);
                }
            }
        }
    }
    every_message!(each(stamped));
}

#[test]
fn elements_are_counted_over_all_arrays() {
    // Two topics with two partitions each: six elements.
    let topic = [&[0, 1, b'x'][..], &[0, 0, 0, 2], &[0; 2 * 16]].concat();
    let request = [&[0; 17][..], &[0, 0, 0, 2], &topic, &topic].concat();
    let fetch = |elements_max| {
        let mut reader = Reader::bounded(Bytes::from(request.clone()), elements_max);
        decode_body::<messages::FetchRequest>(&mut reader, 4).map(|_| reader.elements_left())
    };
    assert_eq!(fetch(10), Ok(4));
    assert_eq!(fetch(6), Ok(0));
    assert_eq!(fetch(5), Err(WireError::TooManyElements { count: 2, left: 1 }));
}

#[test]
fn a_count_the_input_cannot_hold_is_refused() {
    let classic = decode::<MetadataRequest>(&[0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0], 1);
    assert_eq!(classic, Err(WireError::CountTooLarge { count: 0x7fff_ffff, remaining: 4 }));
    let compact = decode::<MetadataRequest>(&[0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0, 0], 12);
    assert_eq!(compact, Err(WireError::CountTooLarge { count: 0xffff_fffe, remaining: 4 }));
    let negative = decode::<MetadataRequest>(&[0x80, 0x00, 0x00, 0x00], 1);
    assert_eq!(negative, Err(WireError::NegativeLength { length: i32::MIN }));
}

#[test]
fn room_is_never_reserved_by_the_claimed_count_alone() {
    // A count is refused unless its elements could be there, and even then
    // only the first 1024 are believed in advance.
    assert!(initial_capacity(2, 4, 7).is_err());
    assert_eq!(initial_capacity(2, 4, 8), Ok(2));
    assert_eq!(initial_capacity(3, 0, 3), Ok(3));
    assert!(initial_capacity(4, 0, 3).is_err());
    assert_eq!(initial_capacity(1 << 20, 1, 1 << 20), Ok(1024));
    let topics = decode_field::<Vec<String>>(&[0, 0, 0, 2, 0, 1, b'a', 0, 1, b'b'], format(false, false));
    assert!(topics.is_ok_and(|topics| topics.len() == 2 && topics.capacity() <= 1024));
    // What an element takes at least depends on the version: a partition to
    // read is 4 + 8 + 4 bytes in version 4, and 4 + 4 + 8 + 4 + 8 + 4 and the
    // count of its tags in version 12.
    let at = |version, flexible| Format { version, flexible, nullable: false };
    assert_eq!(messages::FetchPartition::min_bytes(at(4, false)), 16);
    assert_eq!(messages::FetchPartition::min_bytes(at(12, true)), 33);
}

#[test]
fn null_is_refused_where_the_version_has_none() {
    // Topics: null means all from version 1 on, and is invalid in version 0.
    let null = [0xff, 0xff, 0xff, 0xff];
    assert_eq!(decode::<MetadataRequest>(&null, 0), Err(WireError::UnexpectedNull));
    let all = decode::<MetadataRequest>(&null, 1);
    assert!(all.is_ok_and(|request| request.topics.is_none()));
    let mut writer = Writer::new();
    let request = MetadataRequest { topics: None, ..MetadataRequest::default() };
    assert_eq!(Message::encode(&request, &mut writer, 0), Err(WireError::UnexpectedNull));
    // The same holds for the topics of OffsetFetch from version 2 on, behind an empty group.
    let null = [0, 0, 0xff, 0xff, 0xff, 0xff];
    assert_eq!(decode::<messages::OffsetFetchRequest>(&null, 1), Err(WireError::UnexpectedNull));
    let all = decode::<messages::OffsetFetchRequest>(&null, 2);
    assert!(all.is_ok_and(|request| request.topics.is_none()));
    for (bytes, flexible) in [(&[0xff_u8, 0xff][..], false), (&[0x00][..], true)] {
        let name = String::decode(&mut Reader::new(Bytes::copy_from_slice(bytes)), format(flexible, true));
        assert_eq!(name, Err(WireError::UnexpectedNull));
    }
}

#[test]
fn strings_are_utf8_and_bounded() {
    assert_eq!(decode_field::<String>(&[0, 2, 0xc3, 0x28], format(false, false)), Err(WireError::NotUtf8));
    assert_eq!(
        decode_field::<String>(&[0xff, 0xfe], format(false, false)),
        Err(WireError::NegativeLength { length: -2 })
    );
    // 0x8001 is a compact length of 0x8000.
    assert_eq!(
        decode_field::<String>(&[0x81, 0x80, 0x02], format(true, false)),
        Err(WireError::TooLong { bytes: 0x8000, max: 0x7fff })
    );
    for flexible in [false, true] {
        let long = "x".repeat(0x8000);
        let refused = long.encode(&mut Writer::new(), format(flexible, false));
        assert!(matches!(refused, Err(WireError::TooLong { .. })));
    }
}

#[test]
fn varints_are_bounded() {
    let read = |bytes: &'static [u8]| Reader::new(Bytes::from_static(bytes)).uvarint();
    assert_eq!(read(&[0xff, 0xff, 0xff, 0xff, 0x0f]), Ok(u32::MAX));
    assert_eq!(read(&[0xff, 0xff, 0xff, 0xff, 0x1f]), Err(WireError::VarintTooLong));
    assert_eq!(read(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x00]), Err(WireError::VarintTooLong));
    assert!(matches!(read(&[0x80]), Err(WireError::Truncated { .. })));
    for value in [0, 1, 0x7f, 0x80, 0x3fff, 0x4000, 0x0fff_ffff, u32::MAX] {
        let mut writer = Writer::new();
        writer.put_uvarint(value);
        let bytes = joined(&writer.finish());
        assert_eq!(Reader::new(bytes).uvarint(), Ok(value));
    }
}

#[test]
fn tagged_fields_ascend_and_have_their_length() {
    // Error code, no keys, throttle time; then the tagged fields.
    let response = |tags: &[u8]| {
        let mut bytes = vec![0, 0, 1, 0, 0, 0, 0];
        bytes.extend_from_slice(tags);
        decode::<ApiVersionsResponse>(&bytes, 3)
    };
    let epoch = [1, 1, 8, 0, 0, 0, 0, 0, 0, 0, 5];
    assert!(response(&epoch).is_ok_and(|read| read.finalized_features_epoch == 5));
    let long_epoch = [1, 1, 9, 0, 0, 0, 0, 0, 0, 0, 5, 0];
    assert_eq!(response(&long_epoch), Err(WireError::TrailingBytes { bytes: 1 }));
    let descending = [2, 3, 1, 1, 0, 1, 1];
    assert_eq!(response(&descending), Err(WireError::TagOrder { tag: 0 }));
    let repeated = [2, 3, 1, 1, 3, 1, 1];
    assert_eq!(response(&repeated), Err(WireError::TagOrder { tag: 3 }));
    let endless = [0xff, 0xff, 0xff, 0xff, 0x0f];
    assert!(matches!(response(&endless), Err(WireError::Truncated { .. })));
}

#[test]
fn an_unknown_api_or_version_still_has_its_number() {
    // Key 999; then ApiVersions in a version nobody knows; then a client id
    // that is cut.
    let unknown: [&[u8]; 3] = [
        &[0x03, 0xe7, 0, 1, 0, 0, 0, 7, 0, 1, b'c', 9, 9],
        &[0, 18, 0, 99, 0, 0, 0, 7, 0, 1, b'c', 0xff, 0xff, 0xff],
        &[0x03, 0xe7, 0, 1, 0, 0, 0, 7, 0x7f, 0xff],
    ];
    for bytes in unknown {
        let header = RequestHeader::parse(&mut Reader::new(Bytes::from_static(bytes)))
            .expect("key, version and number are there");
        assert_eq!(header.correlation_id, 7);
    }
    let known = [0, 18, 0, 0, 0, 0, 0, 7, 0x7f, 0xff];
    assert!(RequestHeader::parse(&mut Reader::new(Bytes::copy_from_slice(&known))).is_err());
    assert_eq!(ApiKey(999).name(), "Unknown");
}

#[test]
fn a_version_that_is_not_served_is_refused() {
    for version in [-1, 0, 2, 14, i16::MAX] {
        assert_eq!(
            decode::<ProduceRequest>(&[], version),
            Err(WireError::UnsupportedVersion { version, min: 3, max: 13 })
        );
    }
}

#[test]
fn records_are_neither_copied_in_nor_out() {
    let records = Bytes::from(vec![7_u8; SHARE_FROM_BYTES]);
    let partition = PartitionData { records: Some(records.clone()), ..PartitionData::default() };
    let response = FetchResponse {
        responses: vec![FetchableTopicResponse {
            partitions: vec![partition],
            ..FetchableTopicResponse::default()
        }],
        ..FetchResponse::default()
    };
    let chunks = encode_response(&response, 13, 42).expect("encodes");
    assert!(chunks.iter().any(|chunk| chunk.as_ptr() == records.as_ptr()));
    let frame = joined(&chunks);
    let (length, frame) = frame.split_at(4);
    assert_eq!(length, u32::try_from(frame.len()).unwrap().to_be_bytes());

    let frame = Bytes::copy_from_slice(frame);
    let (header, read) = super::decode_response::<FetchResponse>(frame.clone(), 13).expect("decodes");
    assert_eq!(header.correlation_id, 42);
    assert_eq!(read, response);
    let slice = read.responses[0].partitions[0].records.clone().unwrap();
    assert!(frame.as_ptr_range().contains(&slice.as_ptr()));
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        macro_rules! decode_each {
            (($bytes:expr) $($name:ident)*) => {
                $(
                    for version in messages::$name::VERSIONS {
                        let _ = decode::<messages::$name>($bytes, version);
                    }
                )*
            };
        }
        every_message!(decode_each(&bytes));
        let _ = RequestHeader::parse(&mut Reader::new(Bytes::from(bytes)));
    }

    #[test]
    fn what_is_read_can_be_written(
        version in 0_i16..=13,
        bytes in prop::collection::vec(0_u8..4, 0..60),
    ) {
        // Small bytes make short lengths, so that a good part is a message.
        if let Ok(request) = decode::<MetadataRequest>(&bytes, version) {
            let again = encoded(&request, version);
            prop_assert_eq!(decode::<MetadataRequest>(&again, version), Ok(request));
        }
    }
}
