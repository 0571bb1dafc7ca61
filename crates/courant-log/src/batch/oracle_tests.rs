//! The batch codec against another implementation of it, and against bytes that mean nothing.

use bytes::{Bytes, BytesMut};
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records::{
    Compression, Record as OracleRecord, RecordBatchDecoder, RecordBatchEncoder, RecordEncodeOptions,
    TimestampType,
};
use proptest::prelude::*;

use super::records::{
    NewRecord, Producer, Record, RecordError, decode, encode, first_at_or_after, max_timestamp_record,
};
use super::{Batch, BatchHeader, Codec, verify_crc};

const MIB: usize = 1024 * 1024;

fn compression(codec: Codec) -> Compression {
    match codec {
        Codec::None => Compression::None,
        Codec::Gzip => Compression::Gzip,
        Codec::Snappy => Compression::Snappy,
        Codec::Lz4 => Compression::Lz4,
        Codec::Zstd => Compression::Zstd,
    }
}

fn any_bytes(most: usize) -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 0..=most).prop_map(Bytes::from)
}

fn any_value() -> impl Strategy<Value = Option<Bytes>> {
    prop_oneof![
        Just(None::<Bytes>),
        Just(Some(Bytes::new())),
        any_bytes(40).prop_map(Some),
        (any::<u8>(), 0usize..100_000).prop_map(|(byte, count)| Some(Bytes::from(vec![byte; count]))),
    ]
}

fn any_record() -> impl Strategy<Value = NewRecord> {
    // Names do not repeat: the oracle keeps headers in a map.
    let headers = prop::collection::btree_map("[a-zé]{0,5}", any_value(), 0..4);
    (0i64..4_000_000_000_000, any_value(), any_value(), headers).prop_map(
        |(timestamp, key, value, headers)| NewRecord {
            timestamp,
            key,
            value,
            headers: headers.into_iter().map(|(name, value)| (Bytes::from(name), value)).collect(),
        },
    )
}

fn any_codec() -> impl Strategy<Value = Codec> {
    prop::sample::select(Codec::ALL.to_vec())
}

fn to_oracle(record: &NewRecord, offset: i64, producer: Producer) -> OracleRecord {
    OracleRecord {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: -1,
        producer_id: producer.id,
        producer_epoch: producer.epoch,
        timestamp_type: TimestampType::Creation,
        offset,
        sequence: producer.base_sequence.wrapping_add(offset as i32),
        timestamp: record.timestamp,
        key: record.key.clone(),
        value: record.value.clone(),
        headers: record
            .headers
            .iter()
            .map(|(name, value)| (StrBytes::from_utf8(name.clone()).unwrap(), value.clone()))
            .collect(),
    }
}

fn expected(records: &[NewRecord]) -> Vec<Record> {
    (0i64..)
        .zip(records)
        .map(|(offset, record)| Record {
            offset,
            timestamp: record.timestamp,
            key: record.key.clone(),
            value: record.value.clone(),
            headers: record.headers.clone(),
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_oracle_reads_what_we_write(
        records in prop::collection::vec(any_record(), 1..8),
        codec in any_codec(),
        base_sequence in 0i32..1_000_000,
    ) {
        let producer = Producer { id: 12, epoch: 3, base_sequence };
        let batch = encode(&records, codec, Some(producer)).unwrap();
        let set = RecordBatchDecoder::decode(&mut batch.clone()).unwrap();
        prop_assert_eq!(set.compression, compression(codec));
        let theirs: Vec<OracleRecord> = (0i64..)
            .zip(&records)
            .map(|(offset, record)| to_oracle(record, offset, producer))
            .collect();
        prop_assert_eq!(set.records, theirs);
    }

    #[test]
    fn we_read_what_the_oracle_writes(
        records in prop::collection::vec(any_record(), 1..8),
        codec in any_codec(),
        base_sequence in 0i32..1_000_000,
    ) {
        let producer = Producer { id: 12, epoch: 3, base_sequence };
        let theirs: Vec<OracleRecord> = (0i64..)
            .zip(&records)
            .map(|(offset, record)| to_oracle(record, offset, producer))
            .collect();
        let mut bytes = BytesMut::new();
        let options = RecordEncodeOptions { version: 2, compression: compression(codec) };
        RecordBatchEncoder::encode(&mut bytes, &theirs, &options).unwrap();
        let batch = Batch::validate(bytes.freeze()).unwrap();
        let header = batch.header();
        prop_assert_eq!(header.codec(), Ok(codec));
        prop_assert_eq!(header.producer_id, 12);
        prop_assert_eq!(header.producer_epoch, 3);
        prop_assert_eq!(header.base_sequence, base_sequence);
        prop_assert_eq!(header.record_count as usize, records.len());
        let newest = records.iter().map(|record| record.timestamp).max();
        prop_assert_eq!(Some(header.max_timestamp), newest);
        prop_assert_eq!(decode(batch.bytes(), 8 * MIB).unwrap(), expected(&records));
    }

    #[test]
    fn a_batch_is_valid_and_time_lookup_agrees_with_a_scan(
        records in prop::collection::vec(any_record(), 1..8),
        codec in any_codec(),
        at in 0i64..4_000_000_000_000,
    ) {
        let batch = Batch::validate(encode(&records, codec, None).unwrap()).unwrap();
        let bytes = batch.bytes();
        let all = decode(bytes, 8 * MIB).unwrap();
        prop_assert_eq!(&all, &expected(&records));
        let first = all.iter().find(|record| record.timestamp >= at);
        prop_assert_eq!(
            first_at_or_after(bytes, at, 0, 8 * MIB).unwrap(),
            first.map(|record| (record.offset, record.timestamp))
        );
        let newest = max_timestamp_record(bytes, 0, 8 * MIB).unwrap().unwrap();
        prop_assert_eq!(newest.1, batch.header().max_timestamp);
        prop_assert_eq!(all[newest.0 as usize].timestamp, newest.1);
        prop_assert!(all[..newest.0 as usize].iter().all(|record| record.timestamp < newest.1));
    }
}

/// Calls everything that reads bytes. What it says does not matter, only that it returns.
fn read_every_way(bytes: &[u8]) {
    let _ = BatchHeader::parse(bytes);
    let _ = verify_crc(bytes);
    let _ = Batch::validate(Bytes::copy_from_slice(bytes));
    let _ = decode(bytes, MIB);
    let _ = first_at_or_after(bytes, 0, 0, MIB);
    let _ = max_timestamp_record(bytes, 0, MIB);
}

/// A batch of hand-made records: framing that is right, all else as given.
fn framed(codec: u8, flags: i16, count: i32, payload: &[u8]) -> Vec<u8> {
    let filler = NewRecord::default();
    let mut header = BatchHeader::parse(&encode(&[filler], Codec::None, None).unwrap()).unwrap();
    header.batch_length = 49 + payload.len() as i32;
    header.attributes = i16::from(codec) | flags;
    header.record_count = count;
    header.last_offset_delta = count.wrapping_sub(1);
    let mut bytes = [&header.to_bytes()[..], payload].concat();
    let crc = crate::crc::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        read_every_way(&bytes);
    }

    #[test]
    fn no_payload_makes_it_panic(
        codec in 0u8..8,
        flags in any::<i16>(),
        count in prop_oneof![any::<i32>(), 0i32..5],
        payload in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        read_every_way(&framed(codec, flags, count, &payload));
        read_every_way(&framed(codec, 0, count, &payload));
    }

    #[test]
    fn no_damage_makes_it_panic(
        codec in any_codec(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        more in any::<prop::sample::Index>(),
    ) {
        let record = NewRecord {
            key: Some(Bytes::from_static(b"key")),
            value: Some(Bytes::from(b"a value that repeats ".repeat(50))),
            headers: vec![(Bytes::from_static(b"name"), None)],
            ..NewRecord::default()
        };
        let mut bytes = encode(&[record.clone(), record], codec, None).unwrap().to_vec();
        for index in [at, more] {
            let position = index.index(bytes.len());
            bytes[position] ^= byte;
        }
        read_every_way(&bytes);
    }
}

#[test]
fn cut_off_at_every_byte_is_an_error() {
    let record = NewRecord { value: Some(Bytes::from(b"0123456789".repeat(20))), ..NewRecord::default() };
    for codec in Codec::ALL {
        let batch = encode(&[record.clone(), record.clone()], codec, None).unwrap();
        for end in 0..batch.len() {
            assert!(Batch::validate(batch.slice(..end)).is_err());
            assert!(decode(&batch[..end], MIB).is_err());
            read_every_way(&batch[..end]);
        }
        // The records cut off within a batch whose framing is right.
        for end in 61..batch.len() {
            let bytes = framed(codec.id(), 0, 2, &batch[61..end]);
            assert!(decode(&bytes, MIB).is_err(), "{codec} cut at {end}");
        }
    }
}

#[test]
fn bombs_are_too_large_and_not_allocated() {
    let zeros = NewRecord { value: Some(Bytes::from(vec![0; 24 * MIB])), ..NewRecord::default() };
    let records = [zeros];
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let batch = encode(&records, codec, None).unwrap();
        let too_large = Err(RecordError::TooLarge { max: MIB });
        assert_eq!(decode(&batch, MIB), too_large, "{codec}");
        assert_eq!(first_at_or_after(&batch, 0, 0, MIB), Err(RecordError::TooLarge { max: MIB }), "{codec}");
    }
}
