//! Rewritten batches as another implementation reads them.

use bytes::Bytes;
use kafka_protocol::records::{
    Compression, Record as OracleRecord, RecordBatchDecoder, RecordSet, TimestampType,
};
use proptest::prelude::*;

use super::records::{NewRecord, Producer, encode};
use super::rewrite::{Kept, emptied, kept, recompressed, with_append_time};
use super::{Codec, set_base_offset};

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

fn any_value() -> impl Strategy<Value = Option<Bytes>> {
    prop_oneof![
        Just(None::<Bytes>),
        prop::collection::vec(any::<u8>(), 0..=40).prop_map(|bytes| Some(Bytes::from(bytes))),
        (any::<u8>(), 0usize..50_000).prop_map(|(byte, count)| Some(Bytes::from(vec![byte; count]))),
    ]
}

fn any_record() -> impl Strategy<Value = NewRecord> {
    // Names do not repeat: the oracle keeps headers in a map.
    let headers = prop::collection::btree_map("[a-z]{0,5}", any_value(), 0..3);
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

/// A batch as the log stores it.
fn stored(records: &[NewRecord], codec: Codec, base_offset: i64) -> Vec<u8> {
    let producer = Producer { id: 12, epoch: 3, base_sequence: 40 };
    let mut batch = encode(records, codec, Some(producer)).unwrap().to_vec();
    set_base_offset(&mut batch, base_offset);
    batch
}

fn read(batch: &[u8]) -> RecordSet {
    RecordBatchDecoder::decode(&mut Bytes::copy_from_slice(batch)).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_oracle_finds_the_records_that_were_kept(
        records in prop::collection::vec((any_record(), any::<bool>()), 1..8),
        codec in any_codec(),
        base_offset in 0i64..1 << 50,
    ) {
        let (records, stays): (Vec<NewRecord>, Vec<bool>) = records.into_iter().unzip();
        let batch = stored(&records, codec, base_offset);
        let left: Vec<OracleRecord> = read(&batch)
            .records
            .into_iter()
            .zip(&stays)
            .filter_map(|(record, stays)| stays.then_some(record))
            .collect();
        let mut answers = stays.iter();
        let outcome = kept(&batch, 8 * MIB, |_| *answers.next().unwrap()).unwrap();
        match outcome {
            Kept::All => prop_assert_eq!(left.len(), records.len()),
            Kept::None => prop_assert!(left.is_empty()),
            Kept::Some(thinner) => {
                let set = read(&thinner);
                prop_assert_eq!(set.compression, compression(codec));
                prop_assert_eq!(set.records, left);
            }
        }
    }

    #[test]
    fn the_oracle_reads_the_same_records_under_another_codec(
        records in prop::collection::vec(any_record(), 1..8),
        from in any_codec(),
        to in any_codec(),
        base_offset in 0i64..1 << 50,
    ) {
        let batch = stored(&records, from, base_offset);
        let set = read(&recompressed(&batch, to, 8 * MIB).unwrap());
        prop_assert_eq!(set.compression, compression(to));
        prop_assert_eq!(set.records, read(&batch).records);
    }

    #[test]
    fn the_oracle_sees_the_time_of_append(
        records in prop::collection::vec(any_record(), 1..8),
        codec in any_codec(),
        now_ms in 0i64..4_000_000_000_000,
    ) {
        let mut batch = stored(&records, codec, 0);
        let mut expected = read(&batch).records;
        with_append_time(&mut batch, now_ms);
        // The oracle names the kind of the timestamps and leaves their values to its caller.
        for record in &mut expected {
            record.timestamp_type = TimestampType::LogAppend;
        }
        prop_assert_eq!(read(&batch).records, expected);
    }

    #[test]
    fn the_oracle_reads_a_batch_without_records(
        records in prop::collection::vec(any_record(), 1..8),
        codec in any_codec(),
    ) {
        let set = read(&emptied(&stored(&records, codec, 5)).unwrap());
        prop_assert_eq!(set.compression, Compression::None);
        prop_assert!(set.records.is_empty());
    }
}
