//! Everything that is stored is read through, and every flipped bit of it is named.

use std::sync::Arc;

use bytes::Bytes;
use courant_log::batch::records::{self, NewRecord};
use courant_log::storage::{CrashMode, FaultyStorage, OpenMode, Storage};
use courant_log::{Batch, Codec, Damage, Log, OpenError, PartitionId, inspect, verify};
use courant_sim::random::Random;
use courant_sim::readable::readable;
use courant_sim::tiny::{append, batch, create, open, slot, stored, taken, tiny};

/// A stopped log of several segments, and its partition.
fn filled() -> (FaultyStorage, PartitionId) {
    let storage = FaultyStorage::new(1, 64 * 1024 * 1024);
    let log = open(&storage, 1);
    let partition = create(&log, "orders", 1, &[("segment.bytes", "300000")]).partitions[0];
    for tag in 1..40 {
        append(&log, partition, batch(tag, 3, 20_000, None)).expect("appends");
    }
    log.stop();
    (storage, partition)
}

fn shared(storage: &FaultyStorage) -> Arc<dyn Storage> {
    Arc::new(storage.clone())
}

fn files(storage: &FaultyStorage, dir: &str, extension: &str) -> Vec<(String, u64)> {
    let mut files = Vec::new();
    for name in storage.list(dir).expect("lists") {
        let path = format!("{dir}/{name}");
        match storage.open(&path, OpenMode::Existing) {
            Ok(file) if path.ends_with(extension) => files.push((path, file.len().expect("a length"))),
            Ok(_) => {}
            Err(_) => files.extend(self::files(storage, &path, extension)),
        }
    }
    files
}

fn damaged(storage: &FaultyStorage, path: &str, at: u64, bit: u8) -> FaultyStorage {
    let image = storage.crash_image(CrashMode::KeepAll, 1);
    let file = image.open(path, OpenMode::Existing).expect("it is there");
    let mut byte = [0];
    file.read_at(&mut byte, at).expect("reads");
    file.write_at(&[&[byte[0] ^ bit]], at).expect("writes");
    file.sync_data().expect("syncs");
    image
}

#[test]
fn every_flipped_bit_of_a_segment_is_named_with_the_events_around_it() {
    let (storage, partition) = filled();
    let sound = verify(&shared(&storage)).expect("reads");
    assert_eq!(sound.damage, []);
    assert_eq!((sound.topics, sound.partitions), (1, 1));
    assert!(sound.segments >= 3, "{sound:?}");
    let whole = stored(&open(&storage.crash_image(CrashMode::KeepAll, 1), 2), partition);
    let mut random = Random(7);
    for (path, len) in files(&storage, "segments", ".segment") {
        for begin in (0..len).step_by(1_009) {
            let at = (begin + random.below(1_009)).min(len - 1);
            let image = damaged(&storage, &path, at, 1 << random.below(8));
            let found = verify(&shared(&image)).expect("reads").damage;
            let [damage] = found.as_slice() else { panic!("byte {at} of {path}: {found:?}") };
            assert_eq!(damage.path, path);
            assert!(damage.bytes.as_ref().expect("bytes").contains(&at), "byte {at}: {damage:?}");
            let events = damage.events.as_ref().expect("events");
            assert_eq!((events.topic.as_str(), events.partition), ("orders", 0));
            // What the client cannot read any more is among what was named.
            let log = open(&image, 3);
            for (base, _, count) in &whole {
                let read = log.read(partition, *base, 1, true);
                let intact = read.is_ok_and(|read| courant_log::batch::verify_crc(&read.bytes).is_ok());
                let named = events.offsets.start <= *base && base + count <= events.offsets.end;
                assert!(intact || named, "batch at {base} is damaged by byte {at} of {path}: {damage:?}");
            }
        }
    }
}

#[test]
fn every_flipped_bit_of_a_sidecar_is_named_and_the_events_are_sound() {
    let (storage, _) = filled();
    for (path, len) in files(&storage, "segments", ".blocks") {
        for at in 0..len {
            let found = verify(&shared(&damaged(&storage, &path, at, 4))).expect("reads").damage;
            let [damage] = found.as_slice() else { panic!("byte {at} of {path}: {found:?}") };
            assert_eq!((damage.path.as_str(), &damage.events), (path.as_str(), &None));
        }
    }
}

#[test]
fn damaged_checkpoints_and_missing_files_are_named() {
    let (storage, _) = filled();
    let (newest, len) = files(&storage, "checkpoints", ".checkpoint").pop().expect("a checkpoint");
    for at in 0..len {
        let found = verify(&shared(&damaged(&storage, &newest, at, 16))).expect("reads").damage;
        assert!(found.iter().any(|damage| damage.path == newest), "byte {at}: {found:?}");
    }
    for (path, _) in files(&storage, "segments", "") {
        let image = storage.crash_image(CrashMode::KeepAll, 1);
        image.remove_file(&path).expect("removes");
        let found = verify(&shared(&image)).expect("reads").damage;
        assert!(
            found.iter().any(|damage| damage.path == path && damage.what.contains("missing")),
            "{found:?}"
        );
    }
}

/// Symptom: a look found nothing wrong where a start was refused. Cause: the start alone compared the checkpoint with
/// the newest one that the journal knows of. Fix: a look does so too.
#[test]
fn a_checkpoint_that_is_gone_is_named_as_a_start_names_it() {
    let storage = FaultyStorage::new(1, 64 * 1024 * 1024);
    let log = open(&storage, 1);
    let partition = create(&log, "orders", 1, &[]).partitions[0];
    log.checkpoint().expect("stores");
    for tag in 1..3 {
        append(&log, partition, batch(tag, 3, 3_000, None)).expect("appends");
        if tag == 1 {
            log.checkpoint().expect("stores");
        }
    }
    let image = storage.crash_image(CrashMode::KeepAll, 1);
    assert_eq!(found(&image), []);
    let (newest, _) = files(&image, "checkpoints", ".checkpoint").pop().expect("a checkpoint");
    image.remove_file(&newest).expect("removes");
    image.sync_all().expect("syncs");
    let found = found(&image);
    let [damage] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!((damage.path.as_str(), &damage.events), ("checkpoints", &None));
    assert!(damage.what.contains("is an older copy"), "{damage:?}");
    let refused = Log::open(Arc::new(image), tiny(2)).map(|_| ());
    assert!(matches!(&refused, Err(OpenError::Corrupt { what }) if *what == damage.what), "{refused:?}");
}

/// A log that was killed: since its last checkpoint compaction has replaced segments of `state`, one topic has
/// come and one has gone.
struct Changed {
    storage: FaultyStorage,
    state: PartitionId,
    gone: PartitionId,
}

impl Changed {
    fn new() -> Self {
        let storage = FaultyStorage::new(1, 64 * 1024 * 1024);
        let log = open(&storage, 1);
        let configs =
            [("cleanup.policy", "compact"), ("segment.bytes", "4000"), ("min.cleanable.dirty.ratio", "0")];
        let state = create(&log, "state", 1, &configs).partitions[0];
        let gone = create(&log, "gone", 1, &[]).partitions[0];
        append(&log, gone, batch(1, 3, 3_000, None)).expect("appends");
        // Three events a segment, one of which stays.
        for (value, stays) in ["c", "d", "e", "f", "g", "h", "i", "j"].into_iter().enumerate() {
            for key in ["a", stays, "b"] {
                put(&log, state, key, value);
            }
        }
        log.checkpoint().expect("stores");
        let checkpoints = log.metrics().checkpoints;
        assert!(log.compact().replaced > 1);
        let (deleted, done) = slot();
        log.delete_topic(log.catalog().by_name("gone").expect("exists").id, done);
        while log.commit() {}
        taken(&deleted).expect("deleted");
        let new = create(&log, "new", 2, &[]).partitions[1];
        append(&log, new, batch(2, 3, 3_000, None)).expect("appends");
        assert_eq!(log.metrics().checkpoints, checkpoints, "the journal alone knows of it");
        Self { storage: storage.crash_image(CrashMode::KeepAll, 1), state, gone }
    }

    /// The segments of a partition that compaction has made, or those that appends have.
    fn segments(&self, partition: PartitionId, compacted: bool) -> Vec<(String, u64)> {
        let mut files = files(&self.storage, &format!("segments/{:016x}", partition.0), ".segment");
        files.retain(|(path, _)| path.contains('-') == compacted);
        files.sort();
        assert!(!files.is_empty());
        files
    }

    fn image(&self) -> FaultyStorage {
        self.storage.crash_image(CrashMode::KeepAll, 1)
    }
}

fn put(log: &Log, partition: PartitionId, key: &'static str, value: usize) {
    let (key, value) = (Bytes::from(key), Bytes::from(format!("{value:>1000}")));
    let event = NewRecord { key: Some(key), value: Some(value), ..NewRecord::default() };
    let bytes = records::encode(&[event], Codec::None, None).expect("encodes");
    append(log, partition, Batch::validate(bytes).expect("valid")).expect("appends");
}

fn found(image: &FaultyStorage) -> Vec<Damage> {
    verify(&shared(image)).expect("reads").damage
}

#[test]
fn what_only_the_journal_names_is_looked_at_too() {
    let changed = Changed::new();
    let sound = verify(&shared(&changed.image())).expect("reads");
    assert_eq!((sound.topics, sound.partitions), (2, 3));
    assert_eq!(sound.damage, []);
    for (path, len) in changed.segments(changed.state, true) {
        let image = damaged(&changed.storage, &path, len / 2, 1);
        let found = found(&image);
        let [damage] = found.as_slice() else { panic!("{path}: {found:?}") };
        assert_eq!(damage.path, path);
        assert!(damage.bytes.as_ref().expect("bytes").contains(&(len / 2)), "{damage:?}");
        assert_eq!(damage.events.as_ref().expect("events").topic, "state");
        // It is what a start serves.
        let log = open(&image, 2);
        assert!(!readable(&log, changed.state).refused.is_empty(), "{path}");
        assert!(log.damage().iter().any(|damage| damage.path == path), "{:?}", log.damage());
    }
}

/// What a durable entry has replaced or deleted is still there, and no start serves it.
#[test]
fn what_the_journal_has_taken_away_is_not_looked_at() {
    let changed = Changed::new();
    let (first, len) = changed.segments(changed.state, false)[0].clone();
    for (path, len) in [(first, len), changed.segments(changed.gone, false)[0].clone()] {
        let image = damaged(&changed.storage, &path, len / 2, 1);
        assert_eq!(found(&image), [], "{path}");
        assert!(readable(&open(&image, 2), changed.state).refused.is_empty(), "{path}");
    }
}

/// A start goes on with the segments that it was made of, and they are looked at.
#[test]
fn a_compacted_segment_that_is_not_whole_is_named_and_costs_no_event() {
    let changed = Changed::new();
    let (product, len) = changed.segments(changed.state, true)[0].clone();
    let (first, first_len) = changed.segments(changed.state, false)[0].clone();
    for is_there in [true, false] {
        let image = changed.image();
        let changed_so = match is_there {
            true => image.open(&product, OpenMode::Existing).and_then(|file| file.set_len(len / 2)),
            false => image.remove_file(&product),
        };
        changed_so.expect("changes");
        image.sync_all().expect("syncs");
        // A restored backup has none, and nothing is wrong with it.
        let named: Vec<_> =
            found(&image).into_iter().map(|damage| (damage.path, damage.events.is_some())).collect();
        let expected: Vec<_> = is_there.then(|| (product.clone(), false)).into_iter().collect();
        assert_eq!(named, expected);
        // Nobody is told that what is served were deleted.
        let listed = inspect::inspect(&shared(&image)).expect("reads").files;
        let served = listed.iter().find(|file| file.path == first).expect("it is listed");
        assert!(matches!(served.content, inspect::Content::Segment(_)), "{served:?}");
        let both = damaged(&image, &first, first_len / 2, 1);
        assert!(found(&both).iter().any(|damage| damage.path == first && damage.events.is_some()));
        let log = open(&image, 2);
        assert!(readable(&log, changed.state).refused.is_empty());
        assert_eq!(log.damage(), []);
    }
}

/// Nobody will read what goes with its topic, or with its events, whole or not.
#[test]
fn a_compacted_segment_that_was_deleted_is_not_named() {
    for with_its_topic in [true, false] {
        compacted_and_deleted(with_its_topic);
    }
}

fn compacted_and_deleted(with_its_topic: bool) {
    let storage = FaultyStorage::new(1, 64 * 1024 * 1024);
    let log = open(&storage, 1);
    let configs =
        [("cleanup.policy", "compact"), ("segment.bytes", "4000"), ("min.cleanable.dirty.ratio", "0")];
    let state = create(&log, "state", 1, &configs).partitions[0];
    for value in 0..24 {
        put(&log, state, ["a", "b", "c"][value % 3], value);
    }
    log.checkpoint().expect("stores");
    assert!(log.compact().replaced > 1);
    let cut = |image: &FaultyStorage| {
        let mut products = files(image, &format!("segments/{:016x}", state.0), ".segment");
        products.retain(|(path, _)| path.contains('-'));
        for (path, len) in &products {
            image.open(path, OpenMode::Existing).and_then(|file| file.set_len(len / 2)).expect("cuts");
        }
        image.sync_all().expect("syncs");
        !products.is_empty()
    };
    let there = storage.crash_image(CrashMode::KeepAll, 1);
    assert!(cut(&there) && !found(&there).is_empty());
    if with_its_topic {
        let (deleted, done) = slot();
        log.delete_topic(log.catalog().by_name("state").expect("exists").id, done);
        while log.commit() {}
        taken(&deleted).expect("deleted");
    } else {
        let (deleted, done) = slot();
        log.delete_records(state, log.offsets(state).expect("exists").high_watermark, done);
        while log.commit() {}
        taken(&deleted).expect("deleted");
    }
    let gone = storage.crash_image(CrashMode::KeepAll, 1);
    assert!(cut(&gone));
    assert_eq!(found(&gone), [], "with its topic: {with_its_topic}");
}

/// Symptom: damage that had been given up was named as any other for as long as its segment was there. Cause: a look
/// read what was given up from checkpoint and journal, and made nothing of it. Fix: such damage stands apart.
#[test]
fn what_was_given_up_stands_apart_from_other_damage() {
    let (storage, partition) = filled();
    let segments = files(&storage, "segments", ".segment");
    let [(path, len), (other, other_len), ..] = segments.as_slice() else { panic!("{segments:?}") };
    let image = damaged(&storage, path, len / 2, 1);
    let named = found(&image);
    let [place] = named.as_slice() else { panic!("{named:?}") };
    assert_eq!(&place.path, path);
    let log = open(&image, 2);
    log.scrub().expect("scrubs");
    let events = log.damage()[0].events.clone().expect("events");
    let (accepted, done) = slot();
    log.accept_gap(partition, events.offsets, done);
    while log.commit() {}
    taken(&accepted).expect("accepted");
    // Once only the journal knows of it, once a checkpoint does.
    let killed = image.crash_image(CrashMode::KeepAll, 1);
    log.stop();
    for image in [killed, image] {
        let verified = verify(&shared(&image)).expect("reads");
        assert_eq!((&verified.damage, &verified.given_up), (&Vec::new(), &named));
        let verified = verify(&shared(&damaged(&image, other, other_len / 2, 1))).expect("reads");
        let [place] = verified.damage.as_slice() else { panic!("{:?}", verified.damage) };
        assert_eq!((&place.path, &verified.given_up), (other, &named));
        // More than was given up is damage, and none of it is passed over.
        image.remove_file(path).expect("removes");
        let verified = verify(&shared(&image)).expect("reads");
        let [place] = verified.damage.as_slice() else { panic!("{:?}", verified.damage) };
        assert_eq!((&place.path, &verified.given_up), (path, &Vec::new()));
    }
}

/// A segment without its index, of which a byte is bad, is lost as a whole: nothing says which of its bytes are sound.
#[test]
fn the_index_of_a_segment_that_was_given_up_is_no_damage() {
    let (storage, partition) = filled();
    let (path, len) = files(&storage, "segments", ".segment").swap_remove(0);
    let image = damaged(&storage, &path, len / 2, 1);
    let index = path.replace(".segment", ".blocks");
    image.remove_file(&index).expect("removes");
    let named = found(&image);
    assert_eq!(named.iter().map(|place| &place.path).collect::<Vec<_>>(), [&index, &path]);
    let log = open(&image, 2);
    log.scrub().expect("scrubs");
    let events = log.damage()[0].events.clone().expect("events");
    let (accepted, done) = slot();
    log.accept_gap(partition, events.offsets, done);
    while log.commit() {}
    taken(&accepted).expect("accepted");
    log.stop();
    let verified = verify(&shared(&image)).expect("reads");
    assert_eq!((verified.damage, verified.given_up), (Vec::new(), named));
}

#[test]
fn a_log_in_use_is_not_read() {
    let (storage, _) = filled();
    let log = open(&storage, 2);
    assert!(matches!(verify(&shared(&storage)), Err(OpenError::Locked)));
    log.stop();
    verify(&shared(&storage)).expect("reads");
}
