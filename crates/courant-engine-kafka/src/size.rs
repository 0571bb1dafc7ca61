//! How large a record is alone in a batch, in the format of Kafka's record batches, version 2.

use courant_engine::NewRecord;

/// Bytes of a batch before its records.
const BATCH_HEADER: usize = 61;

/// Bytes of the batch that holds only this record.
pub(crate) fn batch_bytes(record: &NewRecord) -> usize {
    let record = record_bytes(record);
    BATCH_HEADER + varint(record) + record
}

fn record_bytes(record: &NewRecord) -> usize {
    let headers: usize = record
        .headers
        .iter()
        .map(|header| varint(header.name.len()) + header.name.len() + field(header.value.as_deref()))
        .sum();
    // Attributes, and a timestamp and an offset that differ by 0 from those of the batch.
    1 + 1
        + 1
        + field(record.key.as_deref())
        + field(record.value.as_deref())
        + varint(record.headers.len())
        + headers
}

/// A length and as many bytes; null is the length -1.
fn field(bytes: Option<&[u8]>) -> usize {
    bytes.map_or(1, |bytes| varint(bytes.len()) + bytes.len())
}

/// Bytes of a number that is not negative: zigzag doubles it, and each byte holds 7 bits.
fn varint(number: usize) -> usize {
    let bits = usize::BITS - number.leading_zeros() + 1;
    bits.div_ceil(7) as usize
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use courant_engine::Header;
    use courant_log::Codec;
    use courant_log::batch::records;

    use super::*;

    /// The log's own encoder says the same.
    #[test]
    fn it_is_what_the_log_makes_of_it() {
        for bytes in [0, 1, 5, 50, 63, 64, 100, 2_000, 8_190, 8_192, 1_100_000] {
            for headers in [0, 1, 70] {
                let header = || Header::new("name", vec![1; bytes.min(70)]);
                let mut record = NewRecord::new("orders", "key", vec![7; bytes]);
                record.headers = (0..headers).map(|_| header()).chain([Header::null("null")]).collect();
                let encoded = records::NewRecord {
                    timestamp: 1_700_000_000_000,
                    key: record.key.clone(),
                    value: record.value.clone(),
                    headers: record.headers.iter().map(|h| (h.name.clone(), h.value.clone())).collect(),
                };
                let encoded: Bytes = records::encode(&[encoded], Codec::None, None).expect("encodes");
                assert_eq!(batch_bytes(&record), encoded.len(), "{bytes} bytes, {headers} headers");
            }
        }
    }

    #[test]
    fn nothing_is_a_length_of_its_own() {
        let record = NewRecord { key: None, value: None, ..NewRecord::new("orders", "", "") };
        assert_eq!(batch_bytes(&record), BATCH_HEADER + 1 + 6);
    }
}
