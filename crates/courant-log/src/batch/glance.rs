//! Records seen in passing, by who wants few of many and nothing of the others but where they stand.

use std::borrow::Cow;
use std::ops::ControlFlow;

use bytes::Bytes;

use super::records::{Record, RecordError};
use super::walk::{Walk, open};

/// One record of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Glance {
    /// One without headers, of which nothing else was taken out.
    Bare {
        /// Offset in the partition.
        offset: i64,
        /// Milliseconds since 1970; -1 for none.
        timestamp: i64,
        /// What it takes behind its offset: mostly its key and its value.
        bytes: usize,
    },
    /// One with headers.
    Whole(Record),
}

/// As [`records::each`](super::records::each), but records without headers are not taken out of the batch, and
/// those of a batch that is not compressed are parts of it and no copies.
///
/// # Errors
/// As [`records::each`](super::records::each).
pub fn glance<B>(
    batch: &Bytes,
    first: i64,
    max_decompressed_bytes: usize,
    headers_max: usize,
    mut look: impl FnMut(Glance) -> ControlFlow<B>,
) -> Result<Option<B>, RecordError> {
    let (header, payload) = open(batch, max_decompressed_bytes)?;
    let payload = match payload {
        Cow::Borrowed(bytes) => batch.slice_ref(bytes),
        Cow::Owned(bytes) => Bytes::from(bytes),
    };
    for outline in Walk::new(&header, &payload)? {
        let outline = outline?;
        if outline.offset < first {
            continue;
        }
        let seen = if outline.is_bare() {
            Glance::Bare { offset: outline.offset, timestamp: outline.timestamp, bytes: outline.bytes() }
        } else {
            Glance::Whole(outline.record(&payload, headers_max)?)
        };
        if let ControlFlow::Break(end) = look(seen) {
            return Ok(Some(end));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::records::{NewRecord, each, encode};
    use crate::batch::{BatchHeader, Codec, HEADER_BYTES};

    const MAX: usize = 1024 * 1024;

    fn bytes(text: &'static str) -> Option<Bytes> {
        Some(Bytes::from_static(text.as_bytes()))
    }

    fn records() -> Vec<NewRecord> {
        let with = |key, value, headers| NewRecord { timestamp: 7, key, value, headers };
        vec![
            with(None, None, vec![]),
            with(bytes("key"), bytes("value"), vec![]),
            with(None, bytes("value"), vec![(Bytes::from_static(b"name"), None)]),
            with(bytes(""), bytes(""), vec![]),
            with(bytes("key"), None, vec![(Bytes::new(), bytes("a")), (Bytes::new(), bytes("b"))]),
        ]
    }

    /// All that a look at whole records shows, and what it ends with.
    fn whole(batch: &[u8]) -> (Vec<Record>, Result<Option<()>, RecordError>) {
        let mut shown = Vec::new();
        let ended = each(batch, 0, MAX, 9, |record| {
            shown.push(record);
            ControlFlow::Continue(())
        });
        (shown, ended)
    }

    fn glanced(batch: &Bytes) -> (Vec<Glance>, Result<Option<()>, RecordError>) {
        let mut shown = Vec::new();
        let ended = glance(batch, 0, MAX, 9, |seen| {
            shown.push(seen);
            ControlFlow::Continue(())
        });
        (shown, ended)
    }

    #[track_caller]
    fn assert_same(batch: &Bytes) {
        let ((whole, expected), (glanced, ended)) = (whole(batch), glanced(batch));
        assert_eq!(ended, expected);
        assert_eq!(glanced.len(), whole.len());
        for (seen, record) in glanced.into_iter().zip(whole) {
            match seen {
                Glance::Whole(seen) => assert_eq!(seen, record),
                Glance::Bare { offset, timestamp, bytes } => {
                    assert!(record.headers.is_empty());
                    assert_eq!((offset, timestamp), (record.offset, record.timestamp));
                    let of = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
                    assert!(bytes >= of(&record.key) + of(&record.value));
                }
            }
        }
    }

    #[test]
    fn only_records_with_headers_are_taken_out() {
        for codec in Codec::ALL {
            let batch = encode(&records(), codec, None).expect("a batch");
            let is_bare: Vec<_> =
                glanced(&batch).0.iter().map(|one| matches!(one, Glance::Bare { .. })).collect();
            assert_eq!(is_bare, [true, true, false, true, false]);
            assert_same(&batch);
        }
    }

    #[test]
    fn a_look_begins_and_ends_where_it_is_told() {
        let batch = encode(&records(), Codec::None, None).expect("a batch");
        let mut seen = 0;
        let ended = glance(&batch, 1, MAX, 9, |_| {
            seen += 1;
            if seen == 3 { ControlFlow::Break("here") } else { ControlFlow::Continue(()) }
        });
        assert_eq!((ended, seen), (Ok(Some("here")), 3));
        let refused = glance(&batch, 0, MAX, 1, |_| ControlFlow::<()>::Continue(()));
        assert!(matches!(refused, Err(RecordError::Malformed { index: 4, .. })), "two headers are too many");
    }

    /// Whatever a byte is changed to, what is shown and how it ends is what a look at whole records says.
    #[test]
    fn damage_is_what_it_is_to_others() {
        let batch = encode(&records(), Codec::None, None).expect("a batch");
        for at in HEADER_BYTES..batch.len() {
            for byte in 0..=u8::MAX {
                let mut changed = batch.to_vec();
                changed[at] = byte;
                assert_same(&changed.into());
            }
        }
        let mut cut = BatchHeader::parse(&batch).expect("a header");
        cut.record_count += 1;
        let cut = [&cut.to_bytes()[..], &batch[HEADER_BYTES..]].concat();
        assert!(glanced(&cut.into()).1.is_err(), "a record is missing");
    }
}
