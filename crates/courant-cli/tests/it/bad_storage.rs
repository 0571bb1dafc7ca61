//! A data directory that another process holds, that cannot be written, or that is full.

use std::fs;
use std::path::Path;

use tempfile::tempdir;

use crate::disk::Disk;
use crate::raw::{Connection, batch};
use crate::server::{Launch, Refused, Server, courant};
use crate::{Dice, PATIENCE, eventually, is_root};

/// Kafka's codes for "try again": leader not available, not leader, request timed out, not enough
/// replicas (before and after the append), storage error, throttled.
const RETRIABLE: [i16; 7] = [5, 6, 7, 19, 20, 56, 89];

fn refused(launch: &Launch) -> Refused {
    match launch.try_start() {
        Ok(_) => panic!("the server started"),
        Err(refused) => refused,
    }
}

#[test]
fn a_second_process_is_refused() {
    let data = tempdir().unwrap();
    let first = Server::start(data.path());
    let refused = refused(&Launch::on(data.path()));
    refused.assert_orderly();
    let why = "another process is using this data directory; stop it, or choose another with --data";
    let sentence = format!("courant: {}: {why}", data.path().display());
    assert_eq!(refused.stderr.lines().last(), Some(sentence.as_str()), "{refused}");
    first.assert_well("a second process on its directory");
    drop(first);
    Server::start(data.path()).assert_well("the first process's end");
}

#[test]
fn a_read_only_directory_is_refused() {
    if is_root() {
        let Some(disk) = Disk::for_test("bad_storage::a_read_only_directory_is_refused") else {
            return;
        };
        let (status, said) = Server::start(&disk.data()).stop();
        assert!(status.success(), "an orderly stop: {status}\n{said}");
        disk.make_read_only();
        assert_read_only_is_refused(&disk.data());
    } else {
        use std::os::unix::fs::PermissionsExt as _;
        let data = tempdir().unwrap();
        fs::set_permissions(data.path(), fs::Permissions::from_mode(0o555)).unwrap();
        assert_read_only_is_refused(data.path());
        fs::set_permissions(data.path(), fs::Permissions::from_mode(0o755)).unwrap();
    }
}

fn assert_read_only_is_refused(data: &Path) {
    let refused = refused(&Launch::on(data));
    refused.assert_orderly();
    let said = refused.stderr.to_lowercase();
    assert!(
        said.contains("read-only") || said.contains("permission denied"),
        "no word of the reason: {refused}"
    );
    assert!(said.contains("name another directory"), "no word of what to do: {refused}");
}

/// Symptom: `courant log verify` and `courant log inspect` asked to let the file system be written where a log is mounted
/// read-only, such as a snapshot. Cause: they made the file of their lock. Fix: the one that is there is enough, and
/// where there is none, that is said.
#[test]
fn a_log_that_cannot_be_written_is_verified_and_what_would_write_says_what_to_do() {
    const NAME: &str =
        "bad_storage::a_log_that_cannot_be_written_is_verified_and_what_would_write_says_what_to_do";
    const NO_LOCK: &str = "there is no LOCK or its file system has no locks, so that no server is kept out";
    let Some(disk) = Disk::for_test(NAME) else {
        return;
    };
    let data = disk.data();
    let (status, said) = Server::start(&data).stop();
    assert!(status.success(), "an orderly stop: {status}\n{said}");
    let log = |command: &str| {
        let ended = courant(&["log", command, "--data", data.to_str().expect("a path of text")], "");
        (ended.status.code(), String::from_utf8_lossy(&ended.stderr).into_owned())
    };
    disk.make_read_only();
    let (code, said) = log("verify");
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("everything is as it was stored") && !said.contains(NO_LOCK), "{said}");
    assert_eq!(log("inspect").0, Some(0));
    // Whoever looks after the directory is told what to do: another directory is no help.
    let (code, said) = log("repair");
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("let its file system be written, or look at a copy of it"), "{said}");
    disk.remount();
    fs::remove_file(data.join("LOCK")).unwrap();
    disk.make_read_only();
    for command in ["verify", "inspect"] {
        let (code, said) = log(command);
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains(NO_LOCK), "{command}: {said}");
    }
}

#[test]
fn a_full_disk_stops_writers_for_a_while_and_readers_never() {
    const NAME: &str = "bad_storage::a_full_disk_stops_writers_for_a_while_and_readers_never";
    let Some(disk) = Disk::for_test(NAME) else {
        return;
    };
    let server = Server::start(&disk.data());
    server.create_topic("full", 1);
    let mut connection = Connection::open(server.kafka());
    let value = Dice::new(5).bytes(500_000);
    let mut written: i64 = 0;
    let first = connection.produce("full", 0, &batch(&[&value])).unwrap();
    assert_eq!(first, (0, 0));
    written += 1;

    let ballast = disk.fill();
    let error = eventually("a full disk is noticed", PATIENCE, || {
        let (error, base) = connection.produce("full", 0, &batch(&[&value])).unwrap();
        if error == 0 {
            assert_eq!(base, written);
            written += 1;
            return None;
        }
        Some(error)
    });
    assert!(
        RETRIABLE.contains(&error),
        "error {error} tells clients to give up; the server said:\n{}",
        server.stderr()
    );
    assert_readable(&server, written);

    for file in ballast {
        fs::remove_file(file).unwrap();
    }
    eventually("writing goes on", PATIENCE, || {
        let (error, base) = connection.produce("full", 0, &batch(&[&value])).unwrap();
        (error == 0).then(|| assert_eq!(base, written))
    });
    written += 1;
    assert_readable(&server, written);
    server.assert_well("a full disk");
}

/// Every acknowledged record is there and nothing else.
fn assert_readable(server: &Server, records: i64) {
    let batches = Connection::open(server.kafka()).batches("full", 0);
    let found: i32 = batches.iter().map(|batch| batch.records).sum();
    assert_eq!(i64::from(found), records, "records in a partition");
}
