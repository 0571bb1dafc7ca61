//! `courant log verify`: what is damaged is named, and nothing else.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::{Value, json};
use tempfile::tempdir;

use crate::server::{Server, courant, unread};

pub(crate) const EVENTS: usize = 3_000;

fn verify(data: &Path) -> Output {
    courant(&["log", "verify", "-o", "json", "--data", data.to_str().expect("a path of text")], "")
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A data directory with events of 100 bytes in one partition, written by a server that has stopped.
pub(crate) fn filled(data: &Path) -> PathBuf {
    let server = Server::start(data);
    let lines: String = (0..EVENTS).map(|number| format!("{number:0100}\n")).collect();
    let server_argument = server.bootstrap();
    let published = courant(&["pub", "orders", "-l", "--server", &server_argument], &lines);
    assert!(published.status.success(), "{}", stderr(&published));
    let (status, said) = server.stop();
    assert!(status.success(), "{said}");
    let partition = fs::read_dir(data.join("segments")).unwrap().next().unwrap().unwrap().path();
    let segments = fs::read_dir(partition).unwrap().map(|entry| entry.unwrap().path());
    segments.into_iter().find(|path| path.extension().is_some_and(|is| is == "segment")).unwrap()
}

#[test]
fn a_sound_directory_is_sound_and_a_flipped_bit_is_found() {
    let data = tempdir().unwrap();
    let segment = filled(data.path());
    let sound = verify(data.path());
    assert!(sound.status.success(), "{}", stderr(&sound));
    assert_eq!(serde_json::from_slice::<Value>(&sound.stdout).unwrap(), json!([]));
    assert!(stderr(&sound).contains("1 topic, 1 partition, 1 segment, "), "{}", stderr(&sound));

    let file = OpenOptions::new().read(true).write(true).open(&segment).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 100_000).unwrap();
    file.write_all_at(&[byte[0] ^ 1], 100_000).unwrap();
    let damaged = verify(data.path());
    assert_eq!(damaged.status.code(), Some(1), "{}", stderr(&damaged));
    let found: Value = serde_json::from_slice(&damaged.stdout).unwrap();
    let [finding] = found.as_array().unwrap().as_slice() else { panic!("{found}") };
    let path = segment.strip_prefix(data.path()).unwrap().to_str().unwrap();
    assert_eq!(finding["file"], path);
    assert_eq!(finding["bytes"], json!([65_536, 131_072]));
    assert_eq!((&finding["topic"], &finding["partition"]), (&json!("orders"), &json!(0)));
    let offsets: Vec<u64> = serde_json::from_value(finding["offsets"].clone()).unwrap();
    assert!(offsets[0] < offsets[1] && offsets[1] <= EVENTS as u64, "{offsets:?}");
    assert!(stderr(&damaged).contains("nothing was changed"), "{}", stderr(&damaged));
    assert!(stderr(&damaged).contains("`courant log repair` gives them up"), "{}", stderr(&damaged));
}

#[test]
fn a_directory_in_use_or_without_a_log_is_refused() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    let used = verify(data.path());
    assert_eq!(used.status.code(), Some(4), "{}", stderr(&used));
    assert!(
        stderr(&used)
            .contains("a server, or another `courant log`, is using this data directory; stop it first")
    );
    server.assert_well("somebody who wanted to verify");
    let empty = tempdir().unwrap();
    let refused = verify(empty.path());
    assert_eq!(refused.status.code(), Some(3), "{}", stderr(&refused));
    assert!(stderr(&refused).contains("there is no FORMAT"), "{}", stderr(&refused));
    // Who reads a log through has no use for an empty directory.
    assert!(stderr(&refused).contains("name the server's with --data"), "{}", stderr(&refused));
    assert_eq!(
        fs::read_dir(empty.path())
            .unwrap()
            .filter(|entry| { entry.as_ref().unwrap().file_name() != "LOCK" })
            .count(),
        0
    );
    let nowhere = verify(&empty.path().join("nowhere"));
    assert_eq!(nowhere.status.code(), Some(3));
    assert!(!empty.path().join("nowhere").exists());
}

/// Symptom: `courant log verify | head -0` ended with 0 in a damaged directory, and `courant log repair --accept-gap`
/// with 0 and nothing given up. Cause: whoever could not write the list of damage ended as if all were done. Fix: that
/// nobody reads the list changes nothing else.
#[test]
fn damage_is_told_by_the_exit_code_also_when_nobody_reads_the_list() {
    let data = tempdir().unwrap();
    let segment = filled(data.path());
    let file = OpenOptions::new().read(true).write(true).open(&segment).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 100_000).unwrap();
    file.write_all_at(&[byte[0] ^ 1], 100_000).unwrap();
    let data = data.path().to_str().expect("a path of text");
    for (more, code, sentence) in [
        (&["verify"][..], 1, "nothing was changed"),
        (&["repair"][..], 1, "none was given up"),
        (&["repair", "--accept-gap"][..], 0, "Gave up the events of 1 place"),
    ] {
        let ended = unread(&[&["log"][..], more, &["--data", data]].concat());
        assert_eq!(ended.status.code(), Some(code), "{more:?}: {}", stderr(&ended));
        assert!(stderr(&ended).contains(sentence), "{more:?}: {}", stderr(&ended));
    }
}

/// Symptom: `courant log verify` ended with 1 for damage that `courant log repair --accept-gap` had given up, for as long
/// as the events around it were kept. Cause: it did not ask what was given up. Fix: that is named as such, and only what
/// else is damaged is a failure.
#[test]
fn damage_that_was_given_up_is_named_and_no_failure() {
    let data = tempdir().unwrap();
    let segment = filled(data.path());
    let flip = |at: u64| {
        let file = OpenOptions::new().read(true).write(true).open(&segment).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 1], at).unwrap();
    };
    flip(100_000);
    let damaged = verify(data.path());
    assert_eq!(damaged.status.code(), Some(1), "{}", stderr(&damaged));
    let mut named: Value = serde_json::from_slice(&damaged.stdout).unwrap();
    assert_eq!(named[0]["given_up"], false);
    let path = data.path().to_str().expect("a path of text");
    let repaired = courant(&["log", "repair", "--accept-gap", "--data", path], "");
    assert!(repaired.status.success(), "{}", stderr(&repaired));
    let accepted = verify(data.path());
    assert_eq!(accepted.status.code(), Some(0), "{}", stderr(&accepted));
    named[0]["given_up"] = true.into();
    assert_eq!(serde_json::from_slice::<Value>(&accepted.stdout).unwrap(), named);
    let said = stderr(&accepted);
    assert!(said.contains("as it was stored, but for 1 place whose events were given up."), "{said}");
    // Nor is it damage of a backup.
    let place = tempdir().unwrap();
    let to = place.path().to_str().expect("a path of text");
    let backup = courant(&["backup", "-o", "jsonl", "--data", path, "--to", to], "");
    assert_eq!(backup.status.code(), Some(0), "{}", stderr(&backup));
    let taken: Value = serde_json::from_slice(&backup.stdout).unwrap();
    assert_eq!((&taken["damaged_places"], &taken["given_up_places"]), (&json!(0), &json!(1)));
    // Nor does a repair say that all of it can be read.
    let again = courant(&["log", "repair", "--data", path], "");
    assert!(again.status.success(), "{}", stderr(&again));
    assert!(stderr(&again).contains("all events can be read, or were given up before"), "{}", stderr(&again));
    // What else is damaged is a failure as before.
    flip(250_000);
    let both = verify(data.path());
    assert_eq!(both.status.code(), Some(1), "{}", stderr(&both));
    assert!(stderr(&both).contains("damage in 1 place ("), "{}", stderr(&both));
    let found: Value = serde_json::from_slice(&both.stdout).unwrap();
    assert_eq!((&found[0]["given_up"], &found[1]), (&json!(false), &named[0]));
}

/// Symptom: of a damaged index, which each start makes anew, it was said that only a copy could bring it back, and that
/// `courant log repair` gives it up, which then found nothing to give up. Cause: one sentence for all damage. Fix: only of
/// events it is said.
#[test]
fn an_index_is_nothing_to_give_up() {
    let data = tempdir().unwrap();
    let index = filled(data.path()).with_extension("blocks");
    let file = OpenOptions::new().read(true).write(true).open(&index).unwrap();
    let last = file.metadata().unwrap().len() - 10;
    let mut byte = [0];
    file.read_exact_at(&mut byte, last).unwrap();
    file.write_all_at(&[byte[0] ^ 1], last).unwrap();
    let damaged = verify(data.path());
    assert_eq!(damaged.status.code(), Some(1), "{}", stderr(&damaged));
    assert!(stderr(&damaged).contains("there is nothing to give up"), "{}", stderr(&damaged));
    assert!(!stderr(&damaged).contains("repair"), "{}", stderr(&damaged));
    // A start makes it anew.
    let (status, said) = Server::start(data.path()).stop();
    assert!(status.success(), "{said}");
    assert!(verify(data.path()).status.success(), "it is still damaged");
}
