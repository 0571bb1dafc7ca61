//! Everything that is stored is read through, and every flipped bit of it is named.

use std::sync::Arc;

use courant_log::storage::{CrashMode, FaultyStorage, OpenMode, Storage};
use courant_log::{OpenError, PartitionId, verify};
use courant_sim::random::Random;
use courant_sim::tiny::{append, batch, create, open, stored};

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

#[test]
fn a_log_in_use_is_not_read() {
    let (storage, _) = filled();
    let log = open(&storage, 2);
    assert!(matches!(verify(&shared(&storage)), Err(OpenError::Locked)));
    log.stop();
    verify(&shared(&storage)).expect("reads");
}
