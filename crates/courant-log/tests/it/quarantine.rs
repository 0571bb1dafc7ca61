//! Damage below the watermark: the events around it are refused, all others are served, nothing is
//! deleted, and readers go on behind it once somebody has given it up.

use std::sync::Arc;

use courant_log::storage::{CrashMode, FaultyStorage, OpenMode, Storage};
use courant_log::{AcceptGapError, Damage, DeleteRecordsError, Log, PartitionId, ReadError};
use courant_sim::random::Random;
use courant_sim::readable::{Readable, readable};
use courant_sim::tiny::{append, batch, create, open, slot, stored, taken};

/// A stopped log of several segments, its partition, and what can be read from it.
fn filled() -> (FaultyStorage, PartitionId, Vec<(u64, u32, u64)>) {
    let storage = FaultyStorage::new(1, 64 * 1024 * 1024);
    let log = open(&storage, 1);
    let partition = create(&log, "orders", 1, &[("segment.bytes", "300000")]).partitions[0];
    for tag in 1..60 {
        append(&log, partition, batch(tag, 3, 20_000, None)).expect("appends");
    }
    let whole = stored(&log, partition);
    log.stop();
    (storage, partition, whole)
}

fn image(storage: &FaultyStorage) -> FaultyStorage {
    storage.crash_image(CrashMode::KeepAll, 1)
}

fn segments(storage: &FaultyStorage) -> Vec<(String, u64)> {
    let dir = "segments/0000000000000001";
    let mut names = storage.list(dir).expect("lists");
    names.sort();
    let paths =
        names.into_iter().filter(|name| name.ends_with(".segment")).map(|name| format!("{dir}/{name}"));
    let len =
        |path: &String| storage.open(path, OpenMode::Existing).and_then(|file| file.len()).expect("a length");
    paths.map(|path| (path.clone(), len(&path))).collect()
}

fn flip(storage: &FaultyStorage, path: &str, at: u64) {
    let file = storage.open(path, OpenMode::Existing).expect("it is there");
    let mut byte = [0];
    file.read_at(&mut byte, at).expect("reads");
    file.write_at(&[&[byte[0] ^ 1]], at).expect("writes");
    file.sync_data().expect("syncs");
}

/// What a reader gets is what was stored, and only what is named is missing.
fn check(log: &Log, partition: PartitionId, whole: &[(u64, u32, u64)]) -> Readable {
    let found = readable(log, partition);
    let is_refused = |base: u64, count: u64| {
        found.refused.iter().any(|refused| refused.start <= base && base + count <= refused.end)
    };
    let expected: Vec<_> =
        whole.iter().copied().filter(|(base, _, count)| !is_refused(*base, *count)).collect();
    assert_eq!(found.batches, expected, "refused: {:?}", found.refused);
    found
}

fn accept(log: &Log, partition: PartitionId, offsets: std::ops::Range<u64>) -> Result<(), AcceptGapError> {
    let (slot, done) = slot();
    log.accept_gap(partition, offsets, done);
    while log.commit() {}
    taken(&slot)
}

fn delete(log: &Log, partition: PartitionId, before: u64) -> Result<u64, DeleteRecordsError> {
    let (slot, done) = slot();
    log.delete_records(partition, before, done);
    while log.commit() {}
    taken(&slot)
}

fn offsets(damage: &[Damage]) -> Vec<std::ops::Range<u64>> {
    damage.iter().filter_map(|damage| Some(damage.events.as_ref()?.offsets.clone())).collect()
}

#[test]
fn a_flipped_bit_costs_the_events_around_it_and_no_other() {
    let (storage, partition, whole) = filled();
    let mut random = Random(5);
    for (path, len) in segments(&storage) {
        for begin in (0..len).step_by(4_001) {
            let at = (begin + random.below(4_001)).min(len - 1);
            let image = image(&storage);
            flip(&image, &path, at);
            let log = open(&image, 2);
            let found = check(&log, partition, &whole);
            let damage = log.damage();
            assert_eq!(offsets(&damage), found.refused, "byte {at} of {path}");
            let [only] = damage.as_slice() else { panic!("byte {at} of {path}: {damage:?}") };
            assert_eq!(
                (only.path.as_str(), only.events.as_ref().expect("events").topic.as_str()),
                (&*path, "orders")
            );
            assert!(only.bytes.as_ref().expect("bytes").contains(&at));
            // Everything goes on, and nothing is written behind damage.
            let appended = append(&log, partition, batch(99, 3, 20_000, None)).expect("appends");
            assert_eq!(appended.base_offset, 177);
            let new = readable(&log, partition).batches.last().copied().expect("a batch");
            assert_eq!((new.0, new.2), (177, 3));
            log.stop();
            let again = open(&image, 3);
            again.scrub().expect("scrubs");
            assert_eq!(offsets(&again.damage()), found.refused, "the same damage is found again");
            assert!(readable(&again, partition).batches.contains(&new));
        }
    }
}

#[test]
fn missing_and_short_files_cost_what_was_in_them() {
    let (storage, partition, whole) = filled();
    let files = segments(&storage);
    for (number, (path, len)) in files.iter().enumerate() {
        for left in [None, Some(0), Some(1), Some(len / 3), Some(len / 2), Some(len - 1)] {
            let image = image(&storage);
            match left {
                Some(left) => {
                    image.open(path, OpenMode::Existing).and_then(|file| file.set_len(left)).expect("cuts")
                }
                None => image.remove_file(path).expect("removes"),
            }
            image.sync_all().expect("syncs");
            let log = open(&image, 2);
            assert!(!log.damage().is_empty(), "{path} with {left:?}: known from the start");
            let found = check(&log, partition, &whole);
            assert!(!found.refused.is_empty());
            append(&log, partition, batch(99, 3, 20_000, None)).expect("appends");
            let end = log.offsets(partition).expect("exists").high_watermark;
            drop(log);
            // Also after a crash, when the journal holds what was added behind the damage.
            for seed in [3, 4] {
                let log = open(&image, seed);
                assert_eq!(log.offsets(partition).expect("exists").high_watermark, end);
                assert_eq!(
                    readable(&log, partition).batches.last().expect("a batch").0,
                    177,
                    "segment {number}"
                );
            }
        }
    }
}

#[test]
fn a_lost_sidecar_is_made_anew() {
    let (storage, partition, whole) = filled();
    // A segment without a whole block has no sidecar.
    for (path, _) in segments(&storage).into_iter().filter(|(_, len)| *len >= 65_536) {
        let sidecar = path.replace(".segment", ".blocks");
        for way in 0..3 {
            let image = image(&storage);
            match way {
                0 => image.remove_file(&sidecar).expect("removes"),
                1 => flip(&image, &sidecar, 70),
                _ => {
                    image.open(&sidecar, OpenMode::Existing).and_then(|file| file.set_len(80)).expect("cuts")
                }
            }
            image.sync_all().expect("syncs");
            let log = open(&image, 2);
            assert_eq!(check(&log, partition, &whole).refused, []);
            log.scrub().expect("scrubs");
            assert_eq!(log.damage(), []);
            log.stop();
            let shared: Arc<dyn Storage> = Arc::new(image);
            assert_eq!(courant_log::verify(&shared).expect("reads").damage, [], "{sidecar}, way {way}");
        }
        // With the segment damaged too, nothing says where: all of it is refused, and nothing else.
        let image = image(&storage);
        image.remove_file(&sidecar).expect("removes");
        flip(&image, &path, 5_000);
        let log = open(&image, 2);
        let found = check(&log, partition, &whole);
        assert_eq!(found.refused.len(), 1);
        assert!(found.batches.len() >= whole.len() / 2, "{found:?}");
    }
}

#[test]
fn what_is_given_up_is_a_gap_that_readers_pass() {
    let (storage, partition, whole) = filled();
    let (path, len) = segments(&storage).swap_remove(1);
    flip(&storage, &path, len / 2);
    let log = open(&storage, 2);
    log.scrub().expect("scrubs");
    let damage = log.damage();
    let [refused] = offsets(&damage).try_into().expect("one place");
    for sound in [0..3, refused.start - 3..refused.end, refused.start..refused.start] {
        assert_eq!(accept(&log, partition, sound), Err(AcceptGapError::NotDamaged));
    }
    assert_eq!(accept(&log, PartitionId(9), refused.clone()), Err(AcceptGapError::UnknownPartition));
    let in_it = refused.start + 1;
    assert!(
        matches!(log.read(partition, in_it, 1, true), Err(ReadError::Quarantined { offsets }) if offsets == refused)
    );
    let later = 1_700_000_000_000 + i64::try_from(whole.len()).expect("few");
    assert!(log.offset_for_time(partition, 1_700_000_000_000).is_ok());
    accept(&log, partition, refused.clone()).expect("accepted");
    let after = |log: &Log| {
        assert_eq!(log.damage(), []);
        for offset in refused.clone() {
            let read = log.read(partition, offset, 1, true).expect("reads behind the gap");
            let header = courant_log::BatchHeader::parse(&read.bytes).expect("a batch");
            assert_eq!(u64::try_from(header.base_offset), Ok(refused.end));
        }
        let left: Vec<_> = whole.iter().copied().filter(|(base, ..)| !refused.contains(base)).collect();
        assert_eq!(readable(log, partition).batches, left);
        // Times of lost events are answered with the next one that is there.
        for (base, ..) in whole.iter().filter(|(base, ..)| refused.contains(base)) {
            let at = 1_700_000_000_000 + i64::try_from(base / 3 + 1).expect("few");
            let found = log.offset_for_time(partition, at).expect("finds").expect("an event");
            assert_eq!(found.offset, refused.end, "the time of offset {base}");
        }
        assert_eq!(log.offset_for_time(partition, later + 1).expect("finds"), None);
    };
    after(&log);
    // The gap is in the log's own record: it outlives kills, checkpoints and stops.
    let crashed = open(&storage.crash_image(CrashMode::LoseAll, 1), 3);
    after(&crashed);
    log.stop();
    let again = open(&storage, 4);
    after(&again);
    again.scrub().expect("scrubs");
    assert_eq!(again.damage(), [], "what was given up is no news");
    // Retention takes gap and damage away with everything else.
    assert_eq!(delete(&again, partition, refused.end), Ok(refused.end));
    again.stop();
    assert_eq!(readable(&open(&storage, 5), partition).batches[0].0, refused.end);
}

/// Two batches for each segment, of which none begins in its last block, and the second segment without its sidecar and
/// with damage: nothing says which of its events are sound. The offsets of those, and the log.
fn without_index() -> (FaultyStorage, PartitionId, std::ops::Range<u64>) {
    let storage = FaultyStorage::new(1, 64 * 1024 * 1024);
    let log = open(&storage, 1);
    let configs = [("segment.bytes", "100000"), ("retention.ms", "1000")];
    let partition = create(&log, "orders", 1, &configs).partitions[0];
    for tag in 1..9 {
        append(&log, partition, batch(tag, 3, 40_000, None)).expect("appends");
    }
    log.stop();
    let files = segments(&storage);
    assert_eq!(files.len(), 4);
    let (path, _) = &files[1];
    storage.remove_file(&path.replace(".segment", ".blocks")).expect("removes");
    flip(&storage, path, 5_000);
    (storage, partition, 6..12)
}

/// Symptom: a look for a time was answered with an event behind the right one, and that for the newest event with
/// another one. Cause: of a segment whose index was lost, the times were taken to be those of its last block. Fix: where
/// the answer may be among events that are lost, the look fails as a read does, until they are given up.
#[test]
fn a_time_that_may_be_in_a_segment_without_an_index_is_not_answered_with_another_one() {
    let (storage, partition, lost) = without_index();
    let log = open(&storage, 2);
    let first = |tag: i64| {
        let found = log.offset_for_time(partition, 1_700_000_000_000 + tag);
        found.map(|found| found.map(|found| found.offset))
    };
    assert_eq!((first(1).expect("finds"), first(2).expect("finds")), (Some(0), Some(3)));
    for tag in [3, 4, 5, 8, 9] {
        let found = first(tag);
        assert!(
            matches!(&found, Err(ReadError::Quarantined { offsets }) if *offsets == lost),
            "{tag}: {found:?}"
        );
    }
    let newest = log.max_timestamp(partition);
    assert!(matches!(&newest, Err(ReadError::Quarantined { offsets }) if *offsets == lost), "{newest:?}");
    accept(&log, partition, lost.clone()).expect("accepted");
    let found = [1, 2, 3, 4, 5, 8, 9].map(|tag| first(tag).expect("finds"));
    assert_eq!(found, [Some(0), Some(3), Some(12), Some(12), Some(12), Some(21), None]);
    let newest = log.max_timestamp(partition).expect("finds").map(|found| found.offset);
    assert_eq!(newest, Some(21));
    // Also where the partition begins in it.
    assert_eq!(delete(&log, partition, 8), Ok(8));
    assert_eq!(first(1).expect("finds"), Some(12));
}

/// Symptom: retention by age deleted nothing any more from a segment on whose index was lost. Cause: its events had no
/// time that was known. Fix: they go with those behind them.
#[test]
fn events_whose_times_are_lost_go_with_those_behind_them() {
    struct At(i64);
    impl courant_core::clock::Clock for At {
        fn now_ms(&self) -> i64 {
            self.0
        }

        fn elapsed_ms(&self) -> u64 {
            0
        }
    }
    let (storage, partition, lost) = without_index();
    let open_at = |at_ms: i64| {
        let mut config = courant_sim::tiny::tiny(2);
        config.clock = Arc::new(At(at_ms));
        Log::open(Arc::new(storage.clone()), config).expect("opens").0
    };
    // The newest event of the third segment has the time 6, of the first one 2.
    for (now, start) in [(5, lost.start), (6, lost.start), (7, 18)] {
        let log = open_at(1_700_000_000_000 + 1_000 + now);
        log.enforce_retention();
        while log.commit() {}
        assert_eq!(log.offsets(partition).expect("exists").start, start, "at {now}");
        log.stop();
    }
}

/// Symptom: damage of events that a client had deleted was named in `/readyz` again, after the next look at everything
/// and after a start, until its segment went. Cause: the gap or the damage was forgotten when the beginning of the
/// partition moved past it, and whoever met the bytes then noted them anew. Fix: what lies below the beginning is noted
/// by nobody.
#[test]
fn damage_of_deleted_events_is_never_named_again() {
    for is_given_up in [false, true] {
        let (storage, partition, _) = filled();
        let (path, len) = segments(&storage).swap_remove(1);
        flip(&storage, &path, len / 2);
        let log = open(&storage, 2);
        log.scrub().expect("scrubs");
        let [refused] = offsets(&log.damage()).try_into().expect("one place");
        if is_given_up {
            accept(&log, partition, refused.clone()).expect("accepted");
        } else {
            // Of damage in which the partition begins, the rest is named.
            assert_eq!(delete(&log, partition, refused.start + 1), Ok(refused.start + 1));
            assert_eq!(offsets(&log.damage()), std::slice::from_ref(&(refused.start + 1..refused.end)));
        }
        assert_eq!(delete(&log, partition, refused.end), Ok(refused.end));
        let is_sound = |log: &Log, when: &str| {
            log.scrub().expect("scrubs");
            assert_eq!(log.damage(), [], "{when}; given up: {is_given_up}");
            let first = readable(log, partition).batches.first().map(|batch| batch.0);
            assert_eq!(first, Some(refused.end), "{when}; given up: {is_given_up}");
        };
        is_sound(&log, "at once");
        is_sound(&open(&image(&storage), 3), "after a kill");
        log.stop();
        let again = open(&storage, 4);
        is_sound(&again, "after a stop");
        again.stop();
        assert!(
            segments(&storage).iter().any(|(kept, _)| *kept == path),
            "the damaged bytes are still there"
        );
        let stopped: Arc<dyn Storage> = Arc::new(image(&storage));
        let verified = courant_log::verify(&stopped).expect("reads");
        assert_eq!((verified.damage.len(), verified.given_up.len()), (0, 1), "given up: {is_given_up}");
    }
}
