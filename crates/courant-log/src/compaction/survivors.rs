//! Which events survive a round of compaction.
//!
//! An event goes when a newer one of its key was learned, or when it is a tombstone that may go. What
//! cannot be judged stays: events without a key, control batches, and batches whose records cannot be
//! taken out. Whether a transaction commits is not known here, so events of a transaction supersede
//! nothing, and tombstones of one stay until an event outside of transactions supersedes them.

use super::{Full, KeyMap};
use crate::batch::rewrite::{Kept, KeptRecord, RewriteError, each, emptied, kept};
use crate::batch::{BatchError, BatchHeader};
use crate::limits::UNPACKED_BYTES_MIN;

/// The memory of one round: it learns from the dirty segments, then judges all of them.
#[derive(Debug)]
pub struct Survivors {
    keys: KeyMap,
    decompressed_bytes_max: usize,
    /// Base offset of the first batch that was learned.
    learned_from: Option<i64>,
    /// Offset behind the last batch that was learned.
    learned_to: u64,
    unread_batches: u64,
    /// A batch came that another bound may not have let in.
    keeps_tombstones: bool,
}

/// Why learning ends. What was learned before is good: the segments that lie wholly below
/// `complete_below` can be compacted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LearnError {
    /// There is no room for another key.
    #[error(transparent)]
    Full(#[from] Full),
    /// The bytes are not those that were stored.
    #[error("a batch behind offset {complete_below} is damaged: {source}")]
    Damaged {
        /// Every event below this offset has been learned.
        complete_below: u64,
        /// What is wrong with the bytes.
        source: BatchError,
    },
}

impl LearnError {
    /// Every event below this offset has been learned. See [`Plan::within`](super::Plan::within).
    #[must_use]
    pub fn complete_below(&self) -> u64 {
        match self {
            Self::Full(full) => full.complete_below,
            Self::Damaged { complete_below, .. } => *complete_below,
        }
    }
}

impl Survivors {
    /// Begins a round.
    ///
    /// The records of a batch may take `decompressed_bytes_max` bytes; a batch with more stays whole.
    /// Rounds of one log may have different bounds, of at least [`UNPACKED_BYTES_MIN`] each: a round with a
    /// smaller one may not have read a batch with more than that, and has left older events of its keys, or
    /// older events in it. So neither its own tombstones go nor those behind it, and it does not become so small
    /// that later rounds would not know it any more.
    #[must_use]
    pub fn new(keys: KeyMap, decompressed_bytes_max: usize) -> Self {
        Self {
            keys,
            decompressed_bytes_max,
            learned_from: None,
            learned_to: 0,
            unread_batches: 0,
            keeps_tombstones: false,
        }
    }

    /// Learns what one whole batch of a dirty segment supersedes. Batches come in the order of offsets.
    /// A batch whose records cannot be taken out supersedes nothing.
    ///
    /// # Errors
    /// [`LearnError`]. No more batches are learned then.
    pub fn learn(&mut self, batch: &[u8]) -> Result<(), LearnError> {
        match self.learn_batch(batch) {
            Ok(learned) => learned.map_err(LearnError::Full),
            Err(RewriteError::Batch(source)) => {
                Err(LearnError::Damaged { complete_below: self.learned_to, source })
            }
            // The bytes are right, so the second look will find them as unreadable, and keep them.
            Err(_) => Ok(()),
        }
    }

    fn learn_batch(&mut self, batch: &[u8]) -> Result<Result<(), Full>, RewriteError> {
        let header = BatchHeader::parse(batch)?;
        self.learned_from = self.learned_from.or(Some(header.base_offset));
        let mut learned: Result<(), Full> = Ok(());
        // What a transaction wrote is read too, so that damage to it is seen now.
        each(batch, self.decompressed_bytes_max, |record| {
            if let (Some(key), Ok(()), false) = (record.key, learned, header.is_transactional()) {
                learned = self.keys.add(key, record.offset);
            }
        })?;
        if learned.is_ok() {
            let end = u64::try_from(header.last_offset()).map_or(0, |last| last.saturating_add(1));
            self.learned_to = self.learned_to.max(end);
        }
        Ok(learned)
    }

    /// Whether a record stays. `drop_tombstones`: whether a tombstone goes that is the newest of its key.
    #[must_use]
    pub fn survives(&self, record: &KeptRecord<'_>, drop_tombstones: bool) -> bool {
        let Some(key) = record.key else { return true };
        let is_superseded = self.keys.newest(key).is_some_and(|newest| newest > record.offset);
        !(is_superseded || (record.is_tombstone && drop_tombstones))
    }

    /// What is left of one whole batch. All batches of the round come, from the first on, in the order
    /// of offsets.
    ///
    /// `drop_tombstones` is that of the batch's [`Group`](super::Group). A batch whose records cannot be
    /// taken out stays whole, and no tombstone behind it goes in this round: it may hold an older event
    /// of the tombstone's key, which would come back. So it is behind one with more than
    /// [`UNPACKED_BYTES_MIN`], which an earlier round may not have read.
    ///
    /// `is_last_of_producer` says that no newer batch of the same idempotent producer is in the
    /// partition. Such a batch stays without its records when none survives, so that the producer's state
    /// can be rebuilt from the log.
    ///
    /// # Errors
    /// [`RewriteError`]. The segment must stay as it is and dirty if it was, and the round ends before
    /// it: what compaction believes of the segments behind it would not be true.
    pub fn rewrite(
        &mut self,
        batch: &[u8],
        drop_tombstones: bool,
        is_last_of_producer: bool,
    ) -> Result<Kept, RewriteError> {
        let header = BatchHeader::parse(batch)?;
        let drop_tombstones = drop_tombstones && !self.keeps_tombstones && !header.is_transactional();
        let was_learned = self.learned_from.is_some_and(|from| from <= header.base_offset);
        match self.left(batch, drop_tombstones, was_learned) {
            Ok(Kept::None) if is_last_of_producer && header.has_producer() => match header.record_count {
                0 => Ok(Kept::All),
                _ => emptied(batch).map(Kept::Some),
            },
            Err(RewriteError::Records(_)) => {
                self.unread_batches += 1;
                self.keeps_tombstones = true;
                Ok(Kept::All)
            }
            other => other,
        }
    }

    /// What survives of a batch. One that is larger than every round reads keeps its tombstones, and those behind
    /// it stay.
    ///
    /// Where it was not learned in this round, older events of its keys may be left, and older events in it of
    /// which only the tombstones are behind it. Then it stays that large, or goes as a whole: in a small batch
    /// later rounds would not see that tombstones are needed.
    fn left(&mut self, batch: &[u8], drop_tombstones: bool, was_learned: bool) -> Result<Kept, RewriteError> {
        let most = self.decompressed_bytes_max;
        let sure = most.min(UNPACKED_BYTES_MIN);
        let left = kept(batch, sure, |record| self.survives(record, drop_tombstones));
        if sure == most || !matches!(left, Err(RewriteError::Records(_))) {
            return left;
        }
        self.keeps_tombstones = true;
        match kept(batch, most, |record| self.survives(record, false)) {
            Ok(Kept::Some(rest)) if !was_learned && each(&rest, sure, |_| {}).is_ok() => Ok(Kept::All),
            left => left,
        }
    }

    /// How many batches stayed whole because their records could not be taken out.
    #[must_use]
    pub fn unread_batches(&self) -> u64 {
        self.unread_batches
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bytes::Bytes;

    use super::*;
    use crate::batch::records::{NewRecord, Producer, decode, encode};
    use crate::batch::{Codec, set_base_offset};
    use crate::crc::crc32c;

    const MAX: usize = 1024 * 1024;

    fn survivors() -> Survivors {
        Survivors::new(KeyMap::with_bytes_max(MAX, 11), MAX)
    }

    /// A batch of keys and values from an offset on; no value: a tombstone.
    fn batch(base_offset: i64, records: &[(&'static str, Option<&'static str>)]) -> Vec<u8> {
        let new = |(key, value): &(&'static str, Option<&'static str>)| NewRecord {
            key: Some(Bytes::from_static(key.as_bytes())),
            value: value.map(|value| Bytes::from_static(value.as_bytes())),
            ..NewRecord::default()
        };
        let records: Vec<NewRecord> = records.iter().map(new).collect();
        let producer = Producer { id: 5, epoch: 0, base_sequence: base_offset as i32 };
        let mut batch = encode(&records, Codec::Lz4, Some(producer)).unwrap().to_vec();
        set_base_offset(&mut batch, base_offset);
        batch
    }

    fn with_attributes(mut batch: Vec<u8>, bits: u8) -> Vec<u8> {
        batch[22] |= bits;
        let crc = crc32c(&batch[21..]);
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
        batch
    }

    fn offsets(kept: &Kept, original: &[u8]) -> Vec<i64> {
        let bytes = match kept {
            Kept::All => original,
            Kept::Some(batch) => batch,
            Kept::None => return Vec::new(),
        };
        decode(bytes, MAX).unwrap().iter().map(|record| record.offset).collect()
    }

    /// What is left of each batch when all are learned and then rewritten.
    fn left(batches: &[Vec<u8>], drop_tombstones: bool) -> Vec<Vec<i64>> {
        let mut survivors = survivors();
        for batch in batches {
            survivors.learn(batch).unwrap();
        }
        let rewritten = batches.iter().map(|batch| {
            let kept = survivors.rewrite(batch, drop_tombstones, false).unwrap();
            offsets(&kept, batch)
        });
        rewritten.collect()
    }

    #[test]
    fn the_newest_of_each_key_survives() {
        let batches = [
            batch(0, &[("a", Some("1")), ("b", Some("1")), ("a", Some("2"))]),
            batch(10, &[("a", Some("3")), ("c", None)]),
            batch(20, &[("b", None)]),
        ];
        assert_eq!(left(&batches, false), [vec![], vec![10, 11], vec![20]]);
        assert_eq!(left(&batches, true), [vec![], vec![10], vec![]]);
    }

    #[test]
    fn events_without_a_key_survive() {
        let records = [NewRecord::default(), NewRecord::default()];
        let batch = encode(&records, Codec::None, None).unwrap().to_vec();
        assert_eq!(left(&[batch], true), [[0, 1]]);
    }

    #[test]
    fn the_last_batch_of_a_producer_stays_without_its_events() {
        let (old, new) = (batch(0, &[("a", Some("1"))]), batch(1, &[("a", Some("2"))]));
        let mut survivors = survivors();
        survivors.learn(&new).unwrap();
        assert_eq!(survivors.rewrite(&old, false, false), Ok(Kept::None));
        let kept = survivors.rewrite(&old, false, true).unwrap();
        let Kept::Some(empty) = kept else { panic!("the header stays") };
        let header = BatchHeader::parse(&empty).unwrap();
        assert_eq!((header.record_count, header.producer_id, header.last_sequence()), (0, 5, 0));
        assert_eq!(survivors.rewrite(&empty, false, true), Ok(Kept::All));
        assert_eq!(survivors.rewrite(&empty, false, false), Ok(Kept::None));
        let nobodys = emptied(&encode(&[NewRecord::default()], Codec::None, None).unwrap()).unwrap();
        assert_eq!(survivors.rewrite(&nobodys, false, true), Ok(Kept::None));
    }

    #[test]
    fn transactions_supersede_nothing_and_keep_their_tombstones() {
        let old = batch(0, &[("a", Some("1")), ("b", Some("1"))]);
        let pending = with_attributes(batch(10, &[("a", None), ("b", None)]), 1 << 4);
        let later = batch(20, &[("b", Some("2"))]);
        assert_eq!(left(&[old, pending, later], true), [vec![0], vec![10], vec![20]]);
    }

    #[test]
    fn control_batches_supersede_nothing_and_stay() {
        let old = batch(0, &[("a", Some("1"))]);
        let control = with_attributes(batch(10, &[("a", None)]), 1 << 5);
        assert_eq!(left(&[old, control], true), [vec![0], vec![10]]);
    }

    #[test]
    fn behind_a_batch_that_cannot_be_read_no_tombstone_goes() {
        let first = batch(0, &[("x", None)]);
        // Its compressed records are no LZ4 frame, and its checksum is right.
        let mut opaque = batch(10, &[("a", Some("1"))]);
        opaque[61] ^= 1;
        let opaque = with_attributes(opaque, 0);
        let last = batch(20, &[("a", None)]);
        let mut survivors = survivors();
        for batch in [&first, &opaque, &last] {
            survivors.learn(batch).unwrap();
        }
        assert_eq!(survivors.rewrite(&first, true, false), Ok(Kept::None));
        assert_eq!(survivors.rewrite(&opaque, true, false), Ok(Kept::All));
        assert_eq!(survivors.unread_batches(), 1);
        assert_eq!(survivors.rewrite(&last, true, false), Ok(Kept::All));
    }

    /// A round with a small bound has left what the tombstones of a large batch, and those behind it, supersede.
    /// A later one with a greater bound takes none of them away: the keys would come back.
    #[test]
    fn tombstones_of_and_behind_what_another_bound_could_not_read_stay() {
        let large = NewRecord {
            key: Some(Bytes::from_static(b"a")),
            value: Some(vec![0; UNPACKED_BYTES_MIN].into()),
            ..NewRecord::default()
        };
        let deleted = NewRecord { key: Some(Bytes::from_static(b"b")), ..NewRecord::default() };
        let mut large = encode(&[large, deleted], Codec::Zstd, None).unwrap().to_vec();
        set_base_offset(&mut large, 10);
        let (old, last) = (batch(0, &[("b", Some("1"))]), batch(20, &[("a", None)]));
        let of = |bytes_max| Survivors::new(KeyMap::with_bytes_max(MAX, 11), bytes_max);

        let mut small = of(UNPACKED_BYTES_MIN);
        for batch in [&old, &large, &last] {
            small.learn(batch).unwrap();
        }
        for batch in [&old, &large, &last] {
            assert_eq!(small.rewrite(batch, true, false), Ok(Kept::All));
        }
        assert_eq!(small.unread_batches(), 1);

        // All of it is clean by then: nothing is learned.
        let mut great = of(2 * UNPACKED_BYTES_MIN);
        for batch in [&old, &large, &last] {
            assert_eq!(great.rewrite(batch, true, false), Ok(Kept::All));
        }
        assert_eq!(great.unread_batches(), 0, "it reads all of them");

        // Who learns all of it takes away what is superseded: the large batch is a small one then, and no tombstone
        // needs to stay.
        let mut learned = of(2 * UNPACKED_BYTES_MIN);
        for batch in [&old, &large, &last] {
            learned.learn(batch).unwrap();
        }
        assert_eq!(learned.rewrite(&old, true, false), Ok(Kept::None));
        let Ok(Kept::Some(rest)) = learned.rewrite(&large, true, false) else { panic!("one event is left") };
        assert_eq!(decode(&rest, MAX).unwrap().len(), 1, "the tombstone");
        assert_eq!(of(MAX).rewrite(&rest, true, false), Ok(Kept::None));
    }

    /// One round over all batches, of which those from `dirty` on are learned. Of the others tombstones may go.
    fn round(batches: &mut Vec<Vec<u8>>, dirty: usize, bytes_max: usize) {
        let mut survivors = Survivors::new(KeyMap::with_bytes_max(MAX, 11), bytes_max);
        for batch in &batches[dirty..] {
            survivors.learn(batch).unwrap();
        }
        let all = std::mem::take(batches);
        for (index, batch) in all.into_iter().enumerate() {
            match survivors.rewrite(&batch, index < dirty, false).unwrap() {
                Kept::All => batches.push(batch),
                Kept::Some(rest) => batches.push(rest),
                Kept::None => {}
            }
        }
    }

    /// The keys that have a value for whoever reads all of it.
    fn alive(batches: &[Vec<u8>]) -> Vec<Bytes> {
        let records = batches.iter().flat_map(|batch| decode(batch, 2 * UNPACKED_BYTES_MIN).unwrap());
        let newest: BTreeMap<Bytes, bool> =
            records.map(|record| (record.key.unwrap(), record.value.is_some())).collect();
        newest.into_iter().filter(|(_, is_alive)| *is_alive).map(|(key, _)| key).collect()
    }

    /// A round with a small bound has left an older "b" before the large batch and an older "c" in it. One with a
    /// greater bound supersedes what makes it large, and does not know of the others. The round after that one
    /// still has to keep their tombstones.
    #[test]
    fn what_another_bound_could_not_read_does_not_become_small() {
        let record = |key: &'static str, value: Option<Bytes>| NewRecord {
            key: Some(Bytes::from_static(key.as_bytes())),
            value,
            ..NewRecord::default()
        };
        let zeros = Bytes::from(vec![0; UNPACKED_BYTES_MIN]);
        let large =
            [record("a", Some(zeros)), record("b", None), record("c", Some(Bytes::from_static(b"1")))];
        let mut large = encode(&large, Codec::Zstd, None).unwrap().to_vec();
        set_base_offset(&mut large, 10);
        let mut batches = vec![batch(0, &[("b", Some("1"))]), large, batch(20, &[("c", None)])];
        round(&mut batches, 0, UNPACKED_BYTES_MIN);
        assert_eq!(alive(&batches), ["a"]);

        let great = 2 * UNPACKED_BYTES_MIN;
        batches.push(batch(30, &[("a", Some("2"))]));
        for dirty in [3, 4] {
            round(&mut batches, dirty, great);
            assert_eq!(alive(&batches), ["a"], "deleted keys do not come back");
        }
        assert_eq!(batches.len(), 4);

        // What is superseded as a whole goes, and nothing needs its tombstones then.
        batches.push(batch(40, &[("a", Some("3")), ("b", None), ("c", None)]));
        round(&mut batches, 4, great);
        assert_eq!(batches.len(), 1);
        round(&mut batches, 1, great);
        assert_eq!(decode(&batches[0], MAX).unwrap().len(), 1, "the newest \"a\"");
        assert_eq!(alive(&batches), ["a"]);
    }

    #[test]
    fn learning_ends_at_damage_and_says_how_far_it_came() {
        let (good, mut bad) = (batch(0, &[("a", Some("1")), ("b", None)]), batch(10, &[("a", None)]));
        bad[30] ^= 1;
        let mut survivors = survivors();
        let error = survivors.learn(&bad).unwrap_err();
        assert_eq!(error.complete_below(), 0);
        survivors.learn(&good).unwrap();
        let error = survivors.learn(&bad).unwrap_err();
        assert!(matches!(error, LearnError::Damaged { complete_below: 2, .. }), "{error}");
        let error = survivors.rewrite(&bad, true, false).unwrap_err();
        assert!(matches!(error, RewriteError::Batch(BatchError::CrcMismatch { .. })), "{error}");
        assert_eq!(survivors.unread_batches(), 0);
    }

    #[test]
    fn learning_ends_where_the_memory_does() {
        // Four slots, of which three are taken.
        let mut survivors = Survivors::new(KeyMap::with_bytes_max(4 * 24, 1), MAX);
        survivors.learn(&batch(0, &[("a", None), ("b", None)])).unwrap();
        let error = survivors.learn(&batch(5, &[("a", None), ("c", None), ("d", None)])).unwrap_err();
        assert_eq!(error, LearnError::Full(Full { complete_below: 7 }));
        assert_eq!(error.complete_below(), 7);
        // What was learned is true: there is an event of "a" at 5.
        let kept = survivors.rewrite(&batch(0, &[("a", None), ("b", None)]), false, false).unwrap();
        assert!(matches!(kept, Kept::Some(_)), "{kept:?}");
    }
}
