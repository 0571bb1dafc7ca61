//! What stands in a data directory is shown as it is, damaged or not.

use std::sync::Arc;

use courant_log::batch::records::Producer;
use courant_log::inspect::{
    Content, InspectError, InspectedBatch, InspectedChange, InspectedGroup, JournalRow, StoredKind, inspect,
    inspect_journal, inspect_segment,
};
use courant_log::storage::{CrashMode, FaultyStorage, OpenMode, Storage};
use courant_log::{CommittedOffset, OpenError, PartitionId};
use courant_sim::tiny::{append, batch, create, open, slot, taken};

const ALL: usize = 1_000;

/// A stopped log with 39 batches of 3 events, in several segments of one partition.
fn filled() -> FaultyStorage {
    let storage = FaultyStorage::new(1, 64 * 1024 * 1024);
    let log = open(&storage, 1);
    let partition = create(&log, "orders", 1, &[("segment.bytes", "300000")]).partitions[0];
    for tag in 1..40 {
        append(&log, partition, batch(tag, 3, 20_000, None)).expect("appends");
    }
    log.stop();
    storage
}

/// A log that was killed behind a topic, two appends and a commit; no checkpoint knows of them.
fn killed() -> (FaultyStorage, PartitionId) {
    let storage = FaultyStorage::new(1, 64 * 1024 * 1024);
    let log = open(&storage, 1);
    let partition = create(&log, "orders", 2, &[]).partitions[1];
    let producer = Producer { id: 7, epoch: 2, base_sequence: 0 };
    append(&log, partition, batch(1, 3, 500, Some(producer))).expect("appends");
    append(&log, partition, batch(2, 2, 500, None)).expect("appends");
    let (slot, done) = slot();
    let metadata = "private".to_owned();
    let at = CommittedOffset { offset: 4, leader_epoch: -1, metadata, committed_ms: 0 };
    log.commit_offsets("billing".to_owned(), vec![(partition, at)], done);
    while log.commit() {}
    taken(&slot).expect("commits");
    (storage.crash_image(CrashMode::KeepAll, 1), partition)
}

fn shared(storage: &FaultyStorage) -> Arc<dyn Storage> {
    Arc::new(storage.clone())
}

fn image(storage: &FaultyStorage) -> FaultyStorage {
    storage.crash_image(CrashMode::KeepAll, 1)
}

fn flip(storage: &FaultyStorage, path: &str, at: u64, bit: u8) {
    let file = storage.open(path, OpenMode::Existing).expect("it is there");
    let mut byte = [0];
    file.read_at(&mut byte, at).expect("reads");
    file.write_at(&[&[byte[0] ^ bit]], at).expect("writes");
    file.sync_data().expect("syncs");
}

fn paths(storage: &FaultyStorage, kind: StoredKind) -> Vec<String> {
    let files = inspect(&shared(storage)).expect("reads").files;
    files.into_iter().filter(|file| file.kind == kind).map(|file| file.path).collect()
}

fn batches(storage: &FaultyStorage, path: &str) -> Vec<InspectedBatch> {
    inspect_segment(&shared(storage), path, ALL).expect("reads").batches
}

#[test]
fn every_file_of_a_stopped_log_is_named_and_what_it_holds() {
    let storage = filled();
    let found = inspect(&shared(&storage)).expect("reads");
    assert_eq!(found.problem, None);
    assert_eq!(found.files[0].path, "FORMAT");
    let (mut batches, mut next, mut used, mut groups, mut blocks) = (0, 0, 0, 0, 0);
    for file in &found.files {
        match &file.content {
            Content::Format { .. } | Content::FreeJournal | Content::Reserve => {}
            Content::Journal(journal) => {
                groups += journal.groups;
                assert_eq!(journal.unverified, None, "{file:?}");
            }
            Content::Checkpoint(checkpoint) => {
                assert_eq!((checkpoint.topics, checkpoint.partitions), (1, 1), "{file:?}");
                used += u64::from(checkpoint.is_used);
            }
            Content::Producers { partitions, producers, .. } => assert_eq!((*partitions, *producers), (0, 0)),
            Content::Segment(segment) => {
                assert_eq!(segment.partition.to_string(), "orders/0");
                assert_eq!((segment.rest, segment.covered), (0, Some(file.bytes)), "{file:?}");
                let offsets = segment.offsets.clone().expect("it has events");
                assert_eq!(*offsets.start(), next);
                next = offsets.end() + 1;
                batches += segment.batches;
            }
            Content::Blocks { partition, entries, damaged } => {
                assert_eq!((partition.to_string().as_str(), *damaged), ("orders/0", 0));
                blocks += entries;
            }
            _ => panic!("{file:?}"),
        }
    }
    assert_eq!((batches, next, used, groups), (39, 117, 1, 0));
    assert!(blocks >= 10, "{blocks}");
}

#[test]
fn what_the_journal_names_is_known_before_a_checkpoint_covers_it() {
    let (storage, _) = killed();
    let found = inspect(&shared(&storage)).expect("reads");
    assert_eq!(found.problem, None);
    let segments: Vec<_> = found.files.iter().filter(|file| file.kind == StoredKind::Segment).collect();
    let [segment] = segments.as_slice() else { panic!("{segments:?}") };
    let Content::Segment(content) = &segment.content else { panic!("{segment:?}") };
    assert_eq!(content.partition.to_string(), "orders/1");
    assert_eq!((content.batches, content.offsets.clone(), content.covered), (2, Some(0..=4), Some(0)));
    let groups = found.files.iter().filter_map(|file| match &file.content {
        Content::Journal(journal) => Some(journal.groups),
        _ => None,
    });
    assert_eq!(groups.sum::<u64>(), 4);
}

#[test]
fn files_that_are_nobodys_are_told_from_the_logs_own() {
    let storage = image(&filled());
    storage.create_dir("segments/00000000000000ff").expect("creates");
    storage.create_dir("lost-and-found/deep").expect("creates");
    let strays = [
        ("segments/00000000000000ff/notes", StoredKind::Other, Content::Unnamed),
        ("segments/0000000000000001/00000000000000000500.segment", StoredKind::Segment, Content::Unnamed),
        ("segments/0000000000000001/00000000000000000500.blocks", StoredKind::Blocks, Content::Unnamed),
        ("journal/00000099.journal.new", StoredKind::Journal, Content::Unfinished),
        ("journal/notes.journal", StoredKind::Journal, Content::Unnamed),
        ("lost-and-found/deep/notes", StoredKind::LostAndFound, Content::LostAndFound),
        ("DOUBT", StoredKind::Doubt, Content::Doubt),
        ("notes", StoredKind::Other, Content::Unnamed),
    ];
    for (path, _, _) in &strays {
        storage.open(path, OpenMode::CreateNew).expect("creates");
    }
    let found = inspect(&shared(&storage)).expect("reads").files;
    for (path, kind, content) in &strays {
        let file = found.iter().find(|file| file.path == *path).expect("it is listed");
        assert_eq!((&file.kind, &file.content, file.bytes), (kind, content, 0), "{path}");
    }
    let nobodys = found.iter().filter(|file| file.content == Content::Unnamed);
    assert_eq!(nobodys.count(), 5);
}

#[test]
fn damaged_records_are_named_and_then_nothing_is_called_nobodys() {
    let storage = image(&filled());
    for path in paths(&storage, StoredKind::Checkpoint) {
        flip(&storage, &path, 40, 1);
    }
    let found = inspect(&shared(&storage)).expect("reads");
    assert!(found.problem.is_some_and(|problem| problem.contains("no checkpoint")));
    for file in &found.files {
        match &file.content {
            Content::Unreadable { .. } => assert_eq!(file.kind, StoredKind::Checkpoint),
            Content::Segment(segment) => {
                assert_eq!(segment.partition.to_string(), "partition id 1");
                assert!(segment.batches > 0 && segment.covered.is_none(), "{file:?}");
            }
            Content::Unnamed | Content::Deleted => panic!("{file:?}"),
            _ => {}
        }
    }
}

#[test]
fn a_flipped_byte_in_a_batch_damages_that_batch_alone() {
    let storage = filled();
    let path = paths(&storage, StoredKind::Segment).remove(0);
    let sound = inspect_segment(&shared(&storage), &path, ALL).expect("reads");
    assert!(sound.is_header_intact && !sound.more);
    assert_eq!((sound.partition.to_string().as_str(), sound.stopped_at), ("orders/0", None));
    assert!(sound.batches.iter().all(|batch| batch.is_intact));
    let ends: u64 = sound.batches.iter().map(|batch| batch.bytes).sum();
    assert_eq!(64 + ends, sound.bytes);
    let middle = sound.batches.len() / 2;
    let place = sound.batches[middle];
    let header = place.header.expect("a header");
    assert_eq!((header.record_count, header.has_producer()), (3, false));
    // In the events, and in the offset, which the batch's own checksum does not cover.
    for at in [place.position + 100, place.position + 7] {
        let image = image(&storage);
        flip(&image, &path, at, 1);
        let found = inspect_segment(&shared(&image), &path, ALL).expect("reads");
        assert_eq!((found.batches.len(), found.stopped_at), (sound.batches.len(), None));
        for (number, (found, sound)) in found.batches.iter().zip(&sound.batches).enumerate() {
            assert_eq!((found.position, found.bytes), (sound.position, sound.bytes));
            assert_eq!(found.is_intact, number != middle, "batch {number}, byte {at}");
        }
    }
}

#[test]
fn behind_a_length_that_is_damaged_reading_goes_on_where_the_index_says() {
    let storage = filled();
    let path = paths(&storage, StoredKind::Segment).remove(0);
    let sound = batches(&storage, &path);
    let middle = sound.len() / 2;
    // The length's first byte and its last: far too long, and a little too short or too long.
    for (byte, bit) in [(8, 0x40), (8, 0x80), (11, 1), (16, 0xff)] {
        let image = image(&storage);
        flip(&image, &path, sound[middle].position + byte, bit);
        let found = inspect_segment(&shared(&image), &path, ALL).expect("reads");
        assert_eq!(found.stopped_at, None);
        assert_eq!(found.batches[..middle], sound[..middle]);
        let (bad, rest) = found.batches[middle..].split_first().expect("a damaged one");
        assert!(!bad.is_intact && bad.bytes < 128 * 1024, "{bad:?}");
        assert_eq!(*rest, sound[sound.len() - rest.len()..]);
        assert_eq!(bad.position + bad.bytes, rest[0].position);
    }
}

#[test]
fn reading_says_where_it_stops_when_nothing_leads_on() {
    let storage = filled();
    let path = paths(&storage, StoredKind::Segment).pop().expect("a segment");
    let sound = batches(&storage, &path);
    let (last, before) = sound.split_last().expect("a batch");
    let image = image(&storage);
    flip(&image, &path, last.position + 8, 0x40);
    let found = inspect_segment(&shared(&image), &path, ALL).expect("reads");
    assert_eq!((found.stopped_at, found.more), (Some(last.position), false));
    let (bad, rest) = found.batches.split_last().expect("the damaged one");
    assert_eq!(rest, before);
    assert_eq!((bad.position + bad.bytes, bad.is_intact), (found.bytes, false));
}

#[test]
fn no_more_is_read_than_was_asked_for() {
    let storage = filled();
    let path = paths(&storage, StoredKind::Segment).remove(0);
    let found = inspect_segment(&shared(&storage), &path, 2).expect("reads");
    assert_eq!((found.batches.len(), found.more), (2, true));
    let (storage, _) = killed();
    let journal = used_journal(&storage);
    for limit in 0..8 {
        let found = inspect_journal(&shared(&storage), &journal, limit).expect("reads");
        assert_eq!((found.rows.len(), found.more), (limit, true));
    }
}

/// The journal file that has groups.
fn used_journal(storage: &FaultyStorage) -> String {
    let files = inspect(&shared(storage)).expect("reads").files;
    let used = files.into_iter().find(|file| match &file.content {
        Content::Journal(journal) => journal.groups > 0,
        _ => false,
    });
    used.expect("a file with groups").path
}

#[test]
fn the_journal_is_shown_group_by_group_without_what_clients_have_sent() {
    let (storage, partition) = killed();
    let path = used_journal(&storage);
    let found = inspect_journal(&shared(&storage), &path, ALL).expect("reads");
    let used = found.used.expect("it is in use");
    assert!(!used.is_free && !found.more);
    assert_eq!(used.next_generation, None);
    let groups: Vec<&InspectedGroup> = found.rows.iter().filter_map(group).collect();
    assert_eq!(groups.len(), 4);
    assert_eq!(groups[0].position, used.start);
    for (one, next) in groups.iter().zip(&groups[1..]) {
        assert_eq!(one.position + one.bytes, next.position);
    }
    assert!(groups.iter().all(|group| group.is_intact && !group.is_seal && group.synced <= group.position));
    let changes: Vec<&InspectedChange> = found.rows.iter().filter_map(change).collect();
    let [created, first, second, committed] = changes.as_slice() else { panic!("{changes:?}") };
    assert!(matches!(created, InspectedChange::TopicCreated { name, partitions: 2, .. } if name == "orders"));
    for (change, base) in [(first, 0), (second, 3)] {
        let InspectedChange::Append(batches) = change else { panic!("{change:?}") };
        assert_eq!((batches[0].partition.to_string().as_str(), batches[0].base_offset), ("orders/1", base));
    }
    let InspectedChange::OffsetsCommitted { group, offsets } = committed else { panic!("{committed:?}") };
    assert_eq!((group.as_str(), offsets[0].0.id, offsets[0].1), ("billing", partition, 4));
    assert!(!format!("{found:?}").contains("private"));
}

fn group(row: &JournalRow) -> Option<&InspectedGroup> {
    match row {
        JournalRow::Group(group) => Some(group),
        _ => None,
    }
}

fn change(row: &JournalRow) -> Option<&InspectedChange> {
    match row {
        JournalRow::Entry(entry) => Some(&entry.change),
        _ => None,
    }
}

#[test]
fn damage_in_the_journal_hides_nothing_behind_it() {
    let (storage, _) = killed();
    let path = used_journal(&storage);
    let sound = inspect_journal(&shared(&storage), &path, ALL).expect("reads");
    let start = sound.used.expect("it is in use").start;
    let second = sound.rows.iter().filter_map(group).nth(1).expect("a group");
    let at = 4096 + second.position - start;
    // In an entry: the header still says how long the group is.
    let entry = image(&storage);
    flip(&entry, &path, at + 200, 1);
    let rows = inspect_journal(&shared(&entry), &path, ALL).expect("reads").rows;
    let intact: Vec<bool> = rows.iter().filter_map(group).map(|group| group.is_intact).collect();
    assert_eq!(intact, [true, false, true, true]);
    assert_eq!(rows.len(), sound.rows.len() - 1);
    // In the header: the next group is looked for.
    let header = image(&storage);
    flip(&header, &path, at + 30, 1);
    let rows = inspect_journal(&shared(&header), &path, ALL).expect("reads").rows;
    assert_eq!(rows.len(), sound.rows.len() - 1);
    let unverified = JournalRow::Unverified { position: second.position, bytes: second.bytes };
    assert_eq!(rows[2], unverified);
    assert_eq!(rows[3..], sound.rows[4..]);
    let listed = inspect(&shared(&header)).expect("reads");
    assert!(listed.problem.is_some_and(|problem| problem.contains("damaged")));
    let is_told = |content: &Content| matches!(content, Content::Journal(journal) if journal.unverified == Some(second.position));
    assert!(listed.files.iter().any(|file| is_told(&file.content)));
}

#[test]
fn only_segments_and_journal_files_of_the_directory_are_opened() {
    let storage = filled();
    let storage = shared(&storage);
    for path in ["FORMAT", "../FORMAT", "segments/../FORMAT", "segments/0000000000000001", "/FORMAT", ""] {
        let refused = inspect_segment(&storage, path, ALL);
        assert!(matches!(refused, Err(InspectError::NotASegment { .. })), "{path}: {refused:?}");
        let refused = inspect_journal(&storage, path, ALL);
        assert!(matches!(refused, Err(InspectError::NotAJournalFile { .. })), "{path}: {refused:?}");
    }
    let missing = inspect_segment(&storage, "segments/00000000000000ff/00000000000000000000.segment", ALL);
    assert!(matches!(missing, Err(InspectError::Missing { .. })), "{missing:?}");
    let missing = inspect_journal(&storage, "journal/00000099.journal", ALL);
    assert!(matches!(missing, Err(InspectError::Missing { .. })), "{missing:?}");
}

#[test]
fn a_log_in_use_is_not_read_and_one_that_is_read_is_not_changed() {
    let storage = filled();
    let journal = paths(&storage, StoredKind::Journal).remove(0);
    let segment = paths(&storage, StoredKind::Segment).remove(0);
    let calls = storage.calls();
    inspect(&shared(&storage)).expect("reads");
    inspect_segment(&shared(&storage), &segment, ALL).expect("reads");
    inspect_journal(&shared(&storage), &journal, ALL).expect("reads");
    assert_eq!(storage.calls(), calls, "nothing was written, synced or renamed");
    let log = open(&storage, 2);
    assert!(matches!(inspect(&shared(&storage)), Err(OpenError::Locked)));
    let refused = inspect_segment(&shared(&storage), &segment, ALL);
    assert!(matches!(refused, Err(InspectError::Open(OpenError::Locked))), "{refused:?}");
    let refused = inspect_journal(&shared(&storage), &journal, ALL);
    assert!(matches!(refused, Err(InspectError::Open(OpenError::Locked))), "{refused:?}");
    log.stop();
}
