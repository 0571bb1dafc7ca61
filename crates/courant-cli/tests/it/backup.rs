//! `courant backup` beside a running server, and `courant restore` after its disk is gone.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Output};

use serde_json::Value;
use tempfile::tempdir;

use crate::cli::{assert_fails, rows, run, run_with, said};
use crate::follow::Following;
use crate::ledger::Ledger;
use crate::load::{Load, Plan, reading};
use crate::server::{Launch, Server, courant, fixed_port, into_nothing, signal};
use crate::{Dice, PATIENCE, eventually, seed};

const TOPIC: &str = "backed-up";
const PARTITIONS: i32 = 4;
const ROUNDS: u64 = 6;

const FAILED: i32 = 1;
const NOT_FOUND: i32 = 3;
const CONFLICT: i32 = 4;
const INTERRUPTED: i32 = 130;

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of text")
}

fn backup(data: &Path, to: &Path) -> Output {
    courant(&["backup", "--data", text(data), "--to", text(to)], "")
}

fn restore(from: &Path, data: &Path, more: &[&str]) -> Output {
    courant(&[&["restore", "--from", text(from), "--data", text(data)], more].concat(), "")
}

fn listed(to: &Path) -> Vec<Value> {
    rows(courant(&["backup", "--list", "--to", text(to)], ""))
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The disk dies under load. Nothing that was acknowledged before the newest backup began is missing.
#[test]
fn a_server_comes_back_from_the_backup_of_another_moment() {
    let seed = seed();
    let mut dice = Dice::new(seed);
    let folder = tempdir().unwrap();
    let (data, to) = (folder.path().join("data"), folder.path().join("backups"));
    let launch = Launch::on(&data).port(fixed_port());
    let server = launch.start();
    let bootstrap = server.bootstrap();
    server.create_topic(TOPIC, PARTITIONS);
    let ledger = Ledger::new(TOPIC);
    let plan = Plan { producers: 3, first_producer: 0, partitions: PARTITIONS, seed };
    let load = Load::start(&bootstrap, &ledger, plan);
    let mut promised = Vec::new();
    for round in 1..=ROUNDS {
        let more = usize::try_from(dice.between(100, 1_500)).unwrap();
        let target = ledger.acked_count() + more;
        assert!(ledger.reaches(target, PATIENCE), "seed {seed}: no progress before backup {round}");
        promised.push(ledger.acked_now());
        let taken = rows(backup(&data, &to));
        assert_eq!((taken.len(), &taken[0]["number"]), (1, &round.into()), "seed {seed}: {taken:?}");
        assert_eq!(taken[0]["damaged_places"], 0, "seed {seed}: {taken:?}");
    }
    server.assert_well("some backups");
    server.kill();
    load.abandon();

    for (round, acked) in promised.iter().enumerate().map(|(index, acked)| (index + 1, acked)).rev() {
        fs::remove_dir_all(&data).unwrap();
        let number = round.to_string();
        let restored = restore(&to, &data, &["--backup", &number]);
        assert!(restored.status.success(), "seed {seed}, backup {round}: {}", stderr(&restored));
        assert!(stderr(&restored).contains(&format!("Restored backup {round} of ")), "{}", stderr(&restored));
        let server = launch.start();
        let when = format!("seed {seed}, from backup {round}");
        ledger.check(acked, &reading(&bootstrap, TOPIC, PARTITIONS)).assert_clean(&when);
        // It takes events as before.
        said(run(&server, &["pub", TOPIC, "--partition", "0", "after the restore"]));
        let (status, said) = server.stop();
        assert!(status.success(), "{said}");
    }
}

#[test]
fn backups_are_repeated_until_ctrl_c_and_only_the_newest_stay() {
    let data = tempdir().unwrap();
    let to = tempdir().unwrap();
    let server = Server::start(data.path());
    said(run_with(&server, &["pub", "orders", "-l"], "one\ntwo\n"));
    let arguments = ["backup", "--data", text(data.path()), "--to", text(to.path())];
    let more = ["--every", "10ms", "--keep", "3", "-o", "jsonl"];
    let following = Following::start(&server, &[&arguments[..], &more[..]].concat());
    for number in 1..=6_u64 {
        let line = following.next();
        assert_eq!((&line["number"], &line["damaged_places"]), (&number.into(), &0.into()));
        assert!(line["lag_seconds"].as_f64().is_some_and(|lag| lag < 60.0), "{line}");
        assert!(line["copied_bytes"].as_u64() <= line["bytes"].as_u64(), "{line}");
        said(run(&server, &["pub", "orders", "and another one"]));
    }
    let published = format!("{:.3}", jiff::Timestamp::now());
    // One that began after all that was acknowledged.
    while following.next()["begun"].as_str().expect("a time") <= published.as_str() {}
    let (_, status) = following.interrupt();
    assert_eq!(status.code(), Some(INTERRUPTED));
    // The last one may have been interrupted before it removed another.
    let backups = listed(to.path());
    assert!(backups.len() == 3 || backups.len() == 4, "{backups:?}");
    assert!(backups.iter().all(|backup| backup["problem"].is_null()), "{backups:?}");
    server.assert_well("backups in a row");

    let other = tempdir().unwrap();
    let restored = restore(to.path(), other.path(), &[]);
    assert!(restored.status.success(), "{}", stderr(&restored));
    let copy = Server::start(other.path());
    let events = rows(run(&copy, &["tail", "orders", "-o", "jsonl"]));
    assert_eq!(events.len(), 8, "{events:?}");
    assert_eq!((&events[0]["value"], &events[1]["value"]), (&"one".into(), &"two".into()));
}

/// A data directory with some blocks of events, written by a server that has stopped, and its segment.
fn filled(data: &Path) -> PathBuf {
    let server = Server::start(data);
    let lines: String = (0..3_000).map(|number| format!("{number:0100}\n")).collect();
    said(run_with(&server, &["pub", "orders", "-l"], &lines));
    let (status, said) = server.stop();
    assert!(status.success(), "{said}");
    let partition = fs::read_dir(data.join("segments")).unwrap().next().unwrap().unwrap().path();
    let mut files = fs::read_dir(partition).unwrap().map(|entry| entry.unwrap().path());
    files.find(|path| path.extension().is_some_and(|is| is == "segment")).unwrap()
}

/// A process that does not outlive its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Symptom: `courant backup --every 30s | tee log` took no more backups when tee had gone, and ended with 0, so that no
/// supervisor saw a failure. Cause: a line that nobody reads ended the command. Fix: lines are for nobody then, and
/// backups go on.
#[test]
fn backups_go_on_when_nobody_reads_of_them() {
    let folder = tempdir().unwrap();
    let (data, to) = (folder.path().join("data"), folder.path().join("backups"));
    filled(&data);
    let line = ["backup", "--data", text(&data), "--to", text(&to), "--every", "10ms", "--keep", "3"];
    let mut running = Running(into_nothing(&line).spawn().expect("the binary under test starts"));
    eventually("a third backup is there", PATIENCE, || {
        let ended = running.0.try_wait().expect("a child can be waited for");
        assert!(ended.is_none(), "no more backups are taken: {ended:?}");
        let found = courant(&["backup", "--list", "-o", "jsonl", "--to", text(&to)], "");
        let lines = String::from_utf8_lossy(&found.stdout).into_owned();
        let newest = lines.lines().last().and_then(|line| serde_json::from_str::<Value>(line).ok())?;
        newest["number"].as_u64().filter(|number| *number >= 3)
    });
    signal(running.0.id(), "TERM");
    let status = eventually("the command ends after SIGTERM", PATIENCE, || {
        running.0.try_wait().expect("a child can be waited for")
    });
    assert_eq!(status.code(), Some(INTERRUPTED), "{status}");
}

#[test]
fn damage_is_named_and_never_backed_up() {
    let folder = tempdir().unwrap();
    let (data, to) = (folder.path().join("data"), folder.path().join("backups"));
    let segment = filled(&data);
    let file = OpenOptions::new().read(true).write(true).open(&segment).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 100_000).unwrap();
    file.write_all_at(&[byte[0] ^ 1], 100_000).unwrap();
    let damaged = backup(&data, &to);
    assert_eq!(damaged.status.code(), Some(FAILED), "{}", stderr(&damaged));
    let line: Value = serde_json::from_slice(&damaged.stdout).unwrap();
    assert_eq!((&line["number"], &line["damaged_places"]), (&1.into(), &1.into()));
    let path = text(segment.strip_prefix(&data).unwrap());
    let named = format!("{path}, bytes 65536..131072");
    assert!(stderr(&damaged).contains(&named), "{}", stderr(&damaged));
    let copy = folder.path().join("copy");
    let restored = restore(&to, &copy, &["-o", "json"]);
    assert_eq!(restored.status.code(), Some(FAILED), "{}", stderr(&restored));
    let places: Value = serde_json::from_slice(&restored.stdout).unwrap();
    assert_eq!((&places[0]["file"], places.as_array().map(Vec::len)), (&path.into(), Some(1)));

    file.write_all_at(&byte, 100_000).unwrap();
    assert_eq!(rows(backup(&data, &to))[0]["damaged_places"], 0);
    let numbers: Vec<_> = listed(&to).iter().map(|backup| backup["damaged_places"].clone()).collect();
    assert_eq!(numbers, [Value::from(1), Value::from(0)]);
    let sound = folder.path().join("sound");
    let restored = restore(&to, &sound, &[]);
    assert!(restored.status.success(), "{}", stderr(&restored));
    let server = Server::start(&sound);
    assert_eq!(rows(run(&server, &["tail", "orders"])).len(), 3_000);
}

#[test]
fn what_cannot_be_done_is_said() {
    let folder = tempdir().unwrap();
    let (data, to) = (folder.path().join("data"), folder.path().join("backups"));
    let (empty, nowhere) = (folder.path().join("empty"), folder.path().join("nowhere"));
    fs::create_dir(&empty).unwrap();
    filled(&data);
    assert_fails(&backup(&nowhere, &to), NOT_FOUND, "no such directory");
    assert_fails(&backup(&empty, &to), NOT_FOUND, "no log to back up");
    assert_fails(&backup(&data, &data), CONFLICT, "this is a data directory");
    assert_fails(&restore(&nowhere, &empty, &[]), NOT_FOUND, "no such directory");
    assert_fails(&restore(&to, &empty, &[]), NOT_FOUND, "no backup");
    assert_eq!(rows(backup(&data, &to)).len(), 1);
    assert_fails(&restore(&to, &empty, &["--backup", "7"]), NOT_FOUND, "no backup 7");
    assert_fails(&restore(&to, &data, &[]), CONFLICT, "not empty");
    let server = Server::start(&data);
    assert_fails(&restore(&to, &data, &[]), CONFLICT, "another process");
    server.assert_well("somebody who wanted to restore over it");
}

/// Symptom: `courant backup --to DATA/backups` put the backups where the loss that they are for takes them along, and
/// `courant restore --from DATA` told somebody who looked for backups to choose another directory for them. Cause: a place
/// was refused only where it is a data directory itself, in the words for new backups. Fix: nor may one be within it, and
/// whoever reads is told what to name.
#[test]
fn a_place_that_can_be_none_is_refused_with_what_to_name() {
    let folder = tempdir().unwrap();
    let (data, to) = (folder.path().join("data"), folder.path().join("backups"));
    filled(&data);
    let within = data.join("backups");
    assert_fails(&backup(&data, &within), CONFLICT, "within the data directory");
    assert!(!within.exists(), "it was made all the same");

    let copy = folder.path().join("copy");
    let from_data = restore(&data, &copy, &[]);
    assert_fails(&from_data, CONFLICT, "no backups are in it; name the place that `courant backup --to`");

    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    assert_fails(&backup(&data, &file), FAILED, "a file is in its place");
    assert_eq!(rows(backup(&data, &to)).len(), 1);
    assert_fails(&restore(&to, &file, &[]), FAILED, "a file is in its place");
}

/// Symptom: where the disk for backups, or for data, was not mounted, and a link leads to it, it was said that a file is in
/// its place, or that there is no such directory. Cause: what the system says was taken at its word. Fix: the link is
/// named, and that the disk is to be mounted.
#[test]
fn a_link_to_a_disk_that_is_not_mounted_is_named() {
    let folder = tempdir().unwrap();
    let (data, to, link) =
        (folder.path().join("data"), folder.path().join("backups"), folder.path().join("link"));
    filled(&data);
    std::os::unix::fs::symlink(folder.path().join("disk/courant"), &link).unwrap();
    let why = "is a link to";
    assert_fails(&backup(&data, &link), FAILED, why);
    assert_fails(&backup(&link, &to), NOT_FOUND, why);
    assert_eq!(rows(backup(&data, &to)).len(), 1);
    assert_fails(&restore(&to, &link, &[]), FAILED, why);
    assert_fails(&restore(&link, &folder.path().join("copy"), &[]), NOT_FOUND, why);
    let verified = courant(&["log", "verify", "--data", text(&link)], "");
    assert_fails(&verified, NOT_FOUND, "mount the disk that it is on");
    let Err(refused) = Launch::on(&link).try_start() else { panic!("the server started") };
    refused.assert_orderly();
    assert!(refused.stderr.contains("mount the disk that it is on"), "{refused}");
}
