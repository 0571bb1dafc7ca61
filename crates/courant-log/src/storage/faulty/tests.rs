//! The faulty storage keeps what was synced, and each crash mode loses of the rest what it says.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

const CAP: u64 = 1 << 20;

fn create(storage: &FaultyStorage, path: &str) -> Arc<dyn File> {
    storage.open(path, OpenMode::CreateNew).unwrap()
}

fn read(file: &dyn File) -> Vec<u8> {
    let mut bytes = vec![0xEE; file.len().unwrap() as usize];
    assert_eq!(file.read_at(&mut bytes, 0).unwrap(), bytes.len());
    bytes
}

/// Creates a file whose name and bytes are durable.
fn durable(storage: &FaultyStorage, path: &str, bytes: &[u8]) -> Arc<dyn File> {
    let file = create(storage, path);
    file.write_at(&[bytes], 0).unwrap();
    file.sync_data().unwrap();
    storage.sync_dir(path::parent(path)).unwrap();
    file
}

type Files = BTreeMap<String, Vec<u8>>;

fn files(storage: &FaultyStorage) -> Files {
    fn visit(storage: &FaultyStorage, dir: &str, files: &mut Files) {
        for name in storage.list(dir).unwrap() {
            let path = if dir.is_empty() { name } else { format!("{dir}/{name}") };
            match storage.open(&path, OpenMode::Existing) {
                Ok(file) => {
                    files.insert(path, read(&*file));
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::IsADirectory);
                    visit(storage, &path, files);
                }
            }
        }
    }
    let mut all = Files::new();
    visit(storage, "", &mut all);
    all
}

fn after(storage: &FaultyStorage, mode: CrashMode, seed: u64) -> Files {
    files(&storage.crash_image(mode, seed))
}

fn of(entries: &[(&str, &[u8])]) -> Files {
    entries.iter().map(|(path, bytes)| ((*path).to_owned(), bytes.to_vec())).collect()
}

#[test]
fn data_without_its_name_is_gone() {
    let storage = FaultyStorage::new(1, CAP);
    let file = create(&storage, "a");
    file.write_at(&[b"ab", b"c"], 0).unwrap();
    file.sync_data().unwrap();
    assert_eq!(after(&storage, CrashMode::LoseAll, 0), of(&[]));
    assert_eq!(after(&storage, CrashMode::KeepAll, 0), of(&[("a", b"abc")]));
    storage.sync_dir("").unwrap();
    for mode in CrashMode::ALL {
        assert_eq!(after(&storage, mode, 7), of(&[("a", b"abc")]), "{mode:?}");
    }
}

#[test]
fn a_name_without_its_data_is_empty() {
    let storage = FaultyStorage::new(1, CAP);
    let file = create(&storage, "a");
    storage.sync_dir("").unwrap();
    file.write_at(&[&[7; 1000]], 0).unwrap();
    assert_eq!(after(&storage, CrashMode::LoseAll, 0), of(&[("a", b"")]));
    let zeros = after(&storage, CrashMode::Zeros, 0);
    assert_eq!(zeros, of(&[("a", &[0; 1000])]));
    let kept = after(&storage, CrashMode::KeepAll, 0);
    assert_eq!(kept, of(&[("a", &[7; 1000])]));
}

#[test]
fn a_rename_is_whole_or_absent_until_its_directory_is_synced() {
    let storage = FaultyStorage::new(1, CAP);
    durable(&storage, "a", b"old");
    durable(&storage, "b", b"new");
    storage.rename("b", "a").unwrap();
    let before = of(&[("a", b"old"), ("b", b"new")]);
    let renamed = of(&[("a", b"new")]);
    assert_eq!(after(&storage, CrashMode::LoseAll, 0), before);
    assert_eq!(after(&storage, CrashMode::KeepAll, 0), renamed);
    let seen: BTreeSet<Files> = (0..64).map(|seed| after(&storage, CrashMode::RandomSubset, seed)).collect();
    assert_eq!(seen, BTreeSet::from([before, renamed.clone()]));
    storage.sync_dir("").unwrap();
    assert_eq!(after(&storage, CrashMode::LoseAll, 0), renamed);
}

#[test]
fn what_a_truncation_cuts_off_does_not_come_back() {
    let storage = FaultyStorage::new(1, CAP);
    let file = durable(&storage, "a", b"0123456789");
    file.set_len(3).unwrap();
    file.set_len(6).unwrap();
    assert_eq!(read(&*file), b"012\0\0\0");
    let lost = after(&storage, CrashMode::LoseAll, 0);
    assert_eq!(lost, of(&[("a", b"0123456789")]));
    file.sync_data().unwrap();
    let synced = after(&storage, CrashMode::LoseAll, 0);
    assert_eq!(synced, of(&[("a", b"012\0\0\0")]));
    file.write_at(&[b"xyz"], 3).unwrap();
    file.sync_data().unwrap();
    let synced = after(&storage, CrashMode::LoseAll, 0);
    assert_eq!(synced, of(&[("a", b"012xyz")]));
}

#[test]
fn a_random_subset_is_made_of_sectors_and_repeats_with_its_seed() {
    let storage = FaultyStorage::new(1, CAP);
    let file = durable(&storage, "a", &[1; 4096]);
    file.write_at(&[&[2; 2048], &[2; 2048]], 0).unwrap();
    file.write_at(&[&[3; 1024]], 1024).unwrap();
    let mut seen = BTreeSet::new();
    for seed in 0..200 {
        let image = after(&storage, CrashMode::RandomSubset, seed);
        assert_eq!(image, after(&storage, CrashMode::RandomSubset, seed));
        for sector in image["a"].chunks(512) {
            assert!(sector.iter().all(|byte| *byte == sector[0]));
            assert!((1..=3).contains(&sector[0]));
        }
        seen.insert(image);
    }
    assert!(seen.len() > 50, "{}", seen.len());
}

#[test]
fn the_last_write_tears_between_sectors() {
    let storage = FaultyStorage::new(1, CAP);
    let file = durable(&storage, "a", b"");
    file.write_at(&[&[1; 700]], 0).unwrap();
    file.write_at(&[&[2; 2000]], 700).unwrap();
    let mut cuts = BTreeSet::new();
    for seed in 0..100 {
        let image = &after(&storage, CrashMode::TornLast, seed)["a"];
        assert!(image.starts_with(&[1; 700]));
        let torn = &image[700..];
        let kept = torn.iter().take_while(|byte| **byte == 2).count();
        assert!(torn[kept..].iter().all(|byte| *byte == 0));
        assert!(torn.len() == kept || torn.len() == 2000);
        cuts.insert(700 + kept);
    }
    assert_eq!(cuts, BTreeSet::from([700, 1024, 1536, 2048, 2560]));
}

#[test]
fn a_prefix_has_no_holes() {
    let storage = FaultyStorage::new(1, CAP);
    for call in 0..10_u8 {
        let file = create(&storage, &format!("{call}"));
        file.write_at(&[&[call]], 0).unwrap();
    }
    let mut seen = BTreeSet::new();
    for seed in 0..300 {
        let image = after(&storage, CrashMode::Prefix, seed);
        for (at, (path, bytes)) in image.iter().enumerate() {
            assert_eq!(*path, at.to_string());
            let last = at + 1 == image.len();
            assert!(*bytes == [at as u8] || (last && bytes.is_empty()));
        }
        seen.insert(image);
    }
    assert_eq!(seen.len(), 21);
}

#[test]
fn new_sectors_may_hold_old_bytes_only_in_the_garbage_mode() {
    let storage = FaultyStorage::new(1, CAP);
    drop(durable(&storage, "old", &[0xAA; 4096]));
    storage.remove_file("old").unwrap();
    storage.sync_dir("").unwrap();
    let file = durable(&storage, "new", b"");
    file.write_at(&[&[0xBB; 4096]], 0).unwrap();
    let (mut stale, mut noise) = (false, false);
    for seed in 0..200 {
        let garbage = after(&storage, CrashMode::StaleGarbage, seed);
        for sector in garbage["new"].chunks(512) {
            stale |= sector == [0xAA; 512];
            noise |= sector.iter().any(|byte| *byte != sector[0]);
        }
        let subset = after(&storage, CrashMode::RandomSubset, seed);
        let clean = |byte: &u8| matches!(byte, 0 | 0xBB);
        assert!(subset["new"].iter().all(clean));
    }
    assert!(stale && noise);
    let old = durable(&storage, "held", &[1; 4096]);
    old.write_at(&[&[2; 4096]], 0).unwrap();
    for seed in 0..50 {
        let garbage = after(&storage, CrashMode::StaleGarbage, seed);
        assert!(garbage["held"].iter().all(|byte| matches!(byte, 1 | 2)));
    }
}

#[test]
fn a_directory_whose_name_is_lost_takes_its_files_along() {
    let storage = FaultyStorage::new(1, CAP);
    storage.create_dir("d").unwrap();
    durable(&storage, "d/a", b"x");
    assert_eq!(after(&storage, CrashMode::LoseAll, 0), of(&[]));
    storage.sync_dir("").unwrap();
    let there = of(&[("d/a", b"x")]);
    assert_eq!(after(&storage, CrashMode::LoseAll, 0), there);
    storage.remove_file("d/a").unwrap();
    storage.remove_dir("d").unwrap();
    assert_eq!(after(&storage, CrashMode::LoseAll, 0), there);
    storage.create_dir("d").unwrap();
    storage.sync_dir("").unwrap();
    assert_eq!(after(&storage, CrashMode::LoseAll, 0), of(&[]));
    assert_eq!(storage.list("").unwrap(), ["d"]);
}

#[test]
fn a_rename_between_directories_never_loses_the_file() {
    let storage = FaultyStorage::new(1, CAP);
    storage.create_dir("d").unwrap();
    durable(&storage, "a", b"1");
    storage.rename("a", "d/a").unwrap();
    create(&storage, "a").write_at(&[b"2222"], 0).unwrap();
    for mode in CrashMode::ALL {
        for seed in 0..50 {
            let image = after(&storage, mode, seed);
            let found = image.values().filter(|bytes| *bytes == b"1").count();
            assert_eq!(found, 1, "{mode:?} {seed} {image:?}");
        }
    }
    storage.sync_dir("d").unwrap();
    let synced = after(&storage, CrashMode::LoseAll, 0);
    assert_eq!(synced, of(&[("d/a", b"1")]));
}

#[test]
fn sync_all_makes_everything_durable() {
    let storage = FaultyStorage::new(1, CAP);
    storage.create_dir("d").unwrap();
    create(&storage, "d/a").write_at(&[b"x"], 3).unwrap();
    storage.sync_all().unwrap();
    let image = storage.crash_image(CrashMode::LoseAll, 0);
    assert_eq!(files(&image), of(&[("d/a", b"\0\0\0x")]));
    assert_eq!(image.calls(), 0);
    assert_eq!(image.free_bytes().unwrap(), CAP - 4);
    let again = image.crash_image(CrashMode::LoseAll, 0);
    assert_eq!(files(&again), files(&image));
}

#[test]
fn an_image_and_its_origin_do_not_share() {
    let storage = FaultyStorage::new(1, CAP);
    let file = durable(&storage, "a", b"111");
    let image = storage.crash_image(CrashMode::KeepAll, 0);
    file.write_at(&[b"2"], 0).unwrap();
    file.sync_data().unwrap();
    let copy = image.open("a", OpenMode::Existing).unwrap();
    copy.write_at(&[b"3"], 1).unwrap();
    copy.sync_data().unwrap();
    assert_eq!(files(&storage), of(&[("a", b"211")]));
    assert_eq!(files(&image), of(&[("a", b"131")]));
}

#[test]
fn the_hook_sees_every_call_under_way() {
    let storage = FaultyStorage::new(1, CAP);
    let file = durable(&storage, "a", b"");
    let first = storage.calls() + 1;
    let count = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&count);
    storage.set_hook(Box::new(move |storage, call, what| {
        let done = counter.fetch_add(1, Ordering::Relaxed);
        assert_eq!(call, first + done);
        assert_eq!(what, ["write", "sync_data"][done as usize]);
        let kept = after(storage, CrashMode::KeepAll, 0);
        assert_eq!(kept, of(&[("a", b"x")]));
        let lost = after(storage, CrashMode::LoseAll, 0);
        assert_eq!(lost, of(&[("a", b"")]));
    }));
    file.write_at(&[b"x"], 0).unwrap();
    file.sync_data().unwrap();
    storage.clear_hook();
    file.sync_data().unwrap();
    assert_eq!(count.load(Ordering::Relaxed), 2);
    assert_eq!(storage.calls(), first + 2);
}

#[test]
fn a_stopped_storage_fails_the_call_under_way_and_all_others() {
    let storage = FaultyStorage::new(1, CAP);
    let file = durable(&storage, "a", b"old");
    storage.set_hook(Box::new(|storage, _, what| {
        if what == "sync_data" {
            storage.stop();
        }
    }));
    file.write_at(&[b"new"], 0).unwrap();
    file.sync_data().unwrap_err();
    file.write_at(&[b"new"], 0).unwrap_err();
    file.len().unwrap_err();
    storage.list("").unwrap_err();
    let lost = after(&storage, CrashMode::LoseAll, 0);
    assert_eq!(lost, of(&[("a", b"old")]));
}

#[test]
fn a_failed_fsync_drops_the_data_for_good() {
    let storage = FaultyStorage::new(1, CAP);
    let file = durable(&storage, "a", b"old");
    storage.fail_call(storage.calls() + 1, Failure::FsyncEio);
    file.write_at(&[b"newer"], 0).unwrap();
    file.sync_data().unwrap_err();
    file.sync_data().unwrap();
    assert_eq!(read(&*file), b"newer");
    // The new length is metadata and has been written.
    let held: Files = of(&[("a", b"old\0\0")]);
    assert_eq!(after(&storage, CrashMode::KeepAll, 0), held);
    file.write_at(&[b"!"], 4).unwrap();
    file.drop_cache().unwrap();
    assert_eq!(read(&*file), b"old\0!");
    file.sync_data().unwrap();
    let held = after(&storage, CrashMode::LoseAll, 0);
    assert_eq!(held, of(&[("a", b"old\0!")]));
}

#[test]
fn an_interruption_is_told_where_the_disk_does_not_repeat_the_call() {
    let storage = FaultyStorage::new(1, CAP);
    let file = durable(&storage, "a", b"old");
    storage.fail_call(storage.calls() + 1, Failure::Eintr);
    file.write_at(&[b"new"], 0).unwrap();
    file.set_len(2).unwrap();
    file.sync_data().unwrap();
    storage.sync_dir("").unwrap();
    assert_eq!(storage.rename("a", "b").unwrap_err().kind(), ErrorKind::Interrupted);
    assert_eq!(after(&storage, CrashMode::KeepAll, 0), of(&[("a", b"ne")]));
    storage.rename("a", "b").unwrap();
    storage.fail_call(storage.calls() + 1, Failure::Eintr);
    assert_eq!(storage.sync_all().unwrap_err().kind(), ErrorKind::Interrupted);
    assert_eq!(after(&storage, CrashMode::LoseAll, 0), of(&[("a", b"ne")]));
}

#[test]
fn the_nth_call_fails_once() {
    let storage = FaultyStorage::new(1, CAP);
    let file = durable(&storage, "a", b"");
    let next = storage.calls() + 1;
    storage.fail_call(next, Failure::Eio);
    storage.fail_call(next + 1, Failure::Enospc);
    storage.fail_call(next + 2, Failure::ShortWrite);
    file.write_at(&[&[1; 100]], 0).unwrap_err();
    assert_eq!(file.len().unwrap(), 0);
    let full = create_error(&storage, "b");
    assert_eq!(full, ErrorKind::StorageFull);
    storage.create_dir("d").unwrap();
    let short = file.write_at(&[&[1; 100]], 0).unwrap_err();
    assert_eq!(short.kind(), ErrorKind::WriteZero);
    assert!(file.len().unwrap() < 100);
    file.write_at(&[&[1; 100]], 0).unwrap();
    assert_eq!(read(&*file), [1; 100]);
}

fn create_error(storage: &FaultyStorage, path: &str) -> ErrorKind {
    let refused = storage.open(path, OpenMode::CreateNew);
    refused.unwrap_err().kind()
}

#[test]
fn space_runs_out_and_comes_back() {
    let storage = FaultyStorage::new(1, 100);
    let file = create(&storage, "a");
    file.write_at(&[&[1; 80]], 0).unwrap();
    let full = file.write_at(&[&[1; 30]], 80).unwrap_err();
    assert_eq!(full.kind(), ErrorKind::StorageFull);
    file.write_at(&[&[2; 80]], 0).unwrap();
    storage.set_free_bytes(5);
    assert_eq!(storage.free_bytes().unwrap(), 5);
    file.set_len(86).unwrap_err();
    storage.remove_file("a").unwrap();
    assert_eq!(storage.free_bytes().unwrap(), 85);
}

#[test]
fn an_open_file_outlives_its_name() {
    let storage = FaultyStorage::new(1, CAP);
    let file = durable(&storage, "a", b"x");
    storage.remove_file("a").unwrap();
    storage.sync_all().unwrap();
    assert_eq!(read(&*file), b"x");
    assert_eq!(create_error(&storage, "a/b"), ErrorKind::NotFound);
    drop(file);
    storage.sync_all().unwrap();
    assert_eq!(storage.state().inodes.len(), 0);
}

#[test]
fn equal_runs_have_equal_traces() {
    let run = |byte: u8| {
        let storage = FaultyStorage::new(1, CAP);
        durable(&storage, "a", &[byte]);
        storage.trace_hash()
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

#[test]
fn what_is_in_memory_follows_from_the_seed() {
    const BYTES: [u8; 100] = [7; 100];
    let answers = |seed| {
        let storage = FaultyStorage::new(seed, CAP);
        let file = durable(&storage, "a", &BYTES);
        let mut parts = 0;
        let mut ask = || {
            let (mut buf, reads) = ([0; 100], storage.reads());
            let is_there = file.read_cached_at(&mut buf, 0);
            assert_eq!(storage.reads() - reads, u64::from(is_there));
            assert!(!is_there || buf == BYTES);
            parts += usize::from(!is_there && buf != [0; 100]);
            is_there
        };
        let answers: Vec<bool> = (0..64).map(|_| ask()).collect();
        assert!(answers.contains(&true) && answers.contains(&false) && parts > 0, "{answers:?}, {parts}");
        storage.keep_nothing_in_memory();
        let mut buf = [0; 100];
        assert!((0..64).all(|_| !file.read_cached_at(&mut buf, 0)));
        answers
    };
    assert_eq!(answers(1), answers(1));
    assert_ne!(answers(1), answers(2));
}

#[test]
fn a_read_from_memory_may_be_wrong_and_tells_of_no_error() {
    const BYTES: [u8; 100] = [7; 100];
    let storage = FaultyStorage::new(1, CAP);
    let file = durable(&storage, "a", &BYTES);
    let mut buf = [0; 100];
    for told in [ReadFailure::Eio, ReadFailure::Short] {
        storage.fail_read(1, told);
        assert!((0..64).all(|_| !file.read_cached_at(&mut buf, 0)));
        assert!(!file.read_at(&mut buf, 0).is_ok_and(|count| count == BYTES.len()), "{told:?}");
    }
    storage.fail_read(1, ReadFailure::BitFlip);
    while !file.read_cached_at(&mut buf, 0) {}
    assert_ne!(buf, BYTES);
    assert_eq!(read(&*file), BYTES);
}

#[test]
fn one_holder_at_a_time() {
    let storage = FaultyStorage::new(1, CAP);
    let guard = storage.lock().unwrap();
    let held = storage.clone().lock().unwrap_err();
    assert_eq!(held.kind(), ErrorKind::WouldBlock);
    let image = storage.crash_image(CrashMode::LoseAll, 0);
    image.lock().unwrap();
    drop(guard);
    storage.lock().unwrap();
}
