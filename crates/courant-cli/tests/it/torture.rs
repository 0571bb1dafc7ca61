//! `courant torture`: a disk that keeps its promises passes, and what a ledger has and the log has not
//! is named.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value;
use tempfile::tempdir;

use crate::server::{command, courant, run};
use crate::{PATIENCE, eventually, seed, skip};

/// Acknowledgements before the process is killed that the ledgers are from.
const ACKNOWLEDGED: usize = 300;

fn torture(dir: &Path, more: &[&str]) -> Output {
    let dir = dir.to_str().expect("a path of text");
    courant(&[&["torture", "--dir", dir], more].concat(), "")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn report(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", stderr(output)))
}

fn number(report: &Value, pointer: &str) -> u64 {
    report.pointer(pointer).and_then(Value::as_u64).unwrap_or_else(|| panic!("no {pointer} in {report}"))
}

fn findings(report: &Value) -> Vec<&str> {
    report["findings"].as_array().unwrap().iter().map(|finding| finding.as_str().unwrap()).collect()
}

#[test]
fn a_run_of_six_seconds_kills_and_finds_nothing() {
    let dir = tempdir().unwrap();
    let ran = torture(dir.path(), &["--minutes", "0.1", "--seed", &seed().to_string(), "-o", "json"]);
    assert!(ran.status.success(), "{}", stderr(&ran));
    let report = report(&ran);
    assert!(number(&report, "/kills") >= 3, "{report}");
    assert!(number(&report, "/starts") > number(&report, "/kills"), "{report}");
    assert_eq!(number(&report, "/seed"), seed());
    let acknowledged = number(&report, "/events/acknowledged");
    assert!(acknowledged > 0 && number(&report, "/events/sent") >= acknowledged, "{report}");
    assert!(number(&report, "/events/read") > 0, "{report}");
    assert!(findings(&report).is_empty(), "{report}");
    assert_eq!(report["courant"], env!("CARGO_PKG_VERSION"));
    assert!(number(&report, "/storage/sync/count") > 0, "{report}");
    assert!(report["shows"].as_str().unwrap().contains("not the disk"), "{report}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left");
}

#[test]
fn a_report_for_people_goes_to_its_file() {
    let dir = tempdir().unwrap();
    let file = dir.path().join("report.md");
    let file_argument = file.to_str().unwrap();
    let ran = torture(dir.path(), &["--minutes", "0.01", "--threads", "2", "--report", file_argument]);
    assert!(ran.status.success(), "{}", stderr(&ran));
    assert!(ran.stdout.is_empty());
    let text = fs::read_to_string(&file).unwrap();
    for part in ["# courant torture", "| kills |", "| kernel |", "| file system |", "## Storage"] {
        assert!(text.contains(part), "no {part} in\n{text}");
    }
}

#[test]
fn a_directory_that_exists_is_refused() {
    let dir = tempdir().unwrap();
    let data = dir.path().join("courant-torture");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("letter"), "dear").unwrap();
    for more in [&[][..], &["--again"]] {
        let refused = torture(dir.path(), more);
        assert_eq!(refused.status.code(), Some(4), "{}", stderr(&refused));
    }
    assert!(stderr(&torture(dir.path(), &[])).contains("exists already"));
    assert_eq!(fs::read_to_string(data.join("letter")).unwrap(), "dear");
    let nowhere = torture(&dir.path().join("nowhere"), &[]);
    assert_eq!(nowhere.status.code(), Some(3), "{}", stderr(&nowhere));
}

/// What a run until a power cut has written to stdout before it was killed.
fn ledger(dir: &Path) -> String {
    let mut command = command(&["torture", "--until-power-cut", "--dir", dir.to_str().unwrap()]);
    let mut child = command.stderr(std::process::Stdio::null()).spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let (mut text, mut acknowledged) = (String::new(), 0);
    while acknowledged < ACKNOWLEDGED {
        let begin = text.len();
        assert!(stdout.read_line(&mut text).unwrap() > 0, "it has ended:\n{text}");
        acknowledged += usize::from(text[begin..].starts_with("a "));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // What it has written and nobody has read yet was acknowledged as well.
    while stdout.read_line(&mut text).unwrap() > 0 {}
    text
}

fn compare(dir: &Path, ledger: &str) -> Output {
    let file: PathBuf = dir.join("acks.txt");
    fs::write(&file, ledger).unwrap();
    torture(dir, &["--after-power-cut", file.to_str().unwrap(), "-o", "json"])
}

/// The first acknowledgement of a partition and the first one that follows in the same partition, by
/// their places among the lines.
fn two_of_a_partition(lines: &[String]) -> (usize, usize) {
    let partition = |line: &str| line.split(' ').take(3).map(str::to_owned).collect::<Vec<_>>();
    let first = lines.iter().position(|line| line.starts_with("a ")).unwrap();
    let behind = lines.iter().skip(first + 1).position(|line| partition(line) == partition(&lines[first]));
    (first, first + 1 + behind.expect("two acknowledgements of one partition"))
}

/// How findings name the event of a line.
fn event(line: &str) -> String {
    let words: Vec<&str> = line.split(' ').collect();
    let [_, topic, partition, producer, sequence, _] = words[..] else { panic!("{line}") };
    format!("sequence {sequence} of producer {producer} in partition {partition} of topic `{topic}`")
}

#[test]
fn what_was_kept_agrees_and_what_was_not_is_named() {
    let dir = tempdir().unwrap();
    let ledger = ledger(dir.path());
    let held = torture(dir.path(), &["--again"]);
    assert_eq!(held.status.code(), Some(4), "nobody has compared: {}", stderr(&held));
    let sound = compare(dir.path(), &ledger);
    assert!(sound.status.success(), "{}", stderr(&sound));
    let found = report(&sound);
    assert!(number(&found, "/events/acknowledged") >= ACKNOWLEDGED as u64, "{found}");
    assert!(findings(&found).is_empty(), "{found}");

    let (whole, _) = ledger.rsplit_once('\n').unwrap();
    let lines: Vec<String> = whole.lines().map(str::to_owned).collect();
    let (one, other) = two_of_a_partition(&lines);

    // An acknowledgement more than the log holds.
    let words: Vec<&str> = lines[one].split(' ').collect();
    let more = format!("{} {} {} {} 1000000 1000000", words[0], words[1], words[2], words[3]);
    let lost = compare(dir.path(), &format!("{}\n{more}\n", lines.join("\n")));
    assert_eq!(lost.status.code(), Some(1), "{}", stderr(&lost));
    let found = report(&lost);
    let [finding] = findings(&found)[..] else { panic!("{found}") };
    assert!(finding.starts_with("lost: ") && finding.contains(&event(&more)), "{finding}");
    assert!(stderr(&lost).contains(&event(&more)), "{}", stderr(&lost));

    // Two acknowledgements of one partition with each other's offset.
    let exchanged = |of: &str, with: &str| {
        let (head, _) = of.rsplit_once(' ').unwrap();
        let (_, offset) = with.rsplit_once(' ').unwrap();
        format!("{head} {offset}")
    };
    let mut swapped = lines.clone();
    swapped[one] = exchanged(&lines[one], &lines[other]);
    swapped[other] = exchanged(&lines[other], &lines[one]);
    let wrong = compare(dir.path(), &format!("{}\n", swapped.join("\n")));
    assert_eq!(wrong.status.code(), Some(1), "{}", stderr(&wrong));
    let found = report(&wrong);
    for line in [&lines[one], &lines[other]] {
        let is_named = |finding: &&str| finding.contains(&event(line)) && finding.contains("another offset");
        assert!(findings(&found).iter().any(is_named), "{line}: {found}");
    }
    assert!(dir.path().join("courant-torture/lap-1").is_dir(), "the data is kept");
}

#[test]
fn a_ledger_that_proves_nothing_is_refused() {
    let dir = tempdir().unwrap();
    let nothing = compare(dir.path(), "lap 1\n");
    assert_eq!(nothing.status.code(), Some(3), "no run was here: {}", stderr(&nothing));
    let _ = ledger(dir.path());
    let useless =
        [("", "no line `lap N`"), ("lap 1\n", "no acknowledgement"), ("a\nlap 1\n", "line 1 is none")];
    for (text, said) in useless {
        let refused = compare(dir.path(), text);
        assert_eq!(refused.status.code(), Some(1), "{}", stderr(&refused));
        assert!(stderr(&refused).contains(said), "{}", stderr(&refused));
    }
    let nowhere = torture(dir.path(), &["--after-power-cut", "nowhere.txt"]);
    assert_eq!(nowhere.status.code(), Some(3), "{}", stderr(&nowhere));
}

/// The twin of the probe: a storage that does not sync answers sooner than any disk.
#[test]
fn a_storage_that_does_not_sync_is_named() {
    const NAME: &str = "torture::a_storage_that_does_not_sync_is_named";
    if !cfg!(feature = "planted-defects") {
        skip(NAME, "the binary was built without its planted defects");
        return;
    }
    let dir = tempdir().unwrap();
    let mut command =
        command(&["torture", "--minutes", "0.01", "-o", "json", "--dir", dir.path().to_str().unwrap()]);
    command.env("COURANT_PLANTED_DEFECT", "no-sync");
    let ran = run(command, "");
    assert!(ran.status.success(), "a kill cannot tell: {}", stderr(&ran));
    let report = report(&ran);
    let judgement = report["storage"]["judgement"].as_str().unwrap();
    assert!(judgement.contains("memory"), "{report}");
}

/// A run whose parent is gone does not go on.
#[test]
fn an_interrupted_run_ends_and_may_be_replaced() {
    let dir = tempdir().unwrap();
    let arguments = ["torture", "--minutes", "5", "--dir", dir.path().to_str().unwrap()];
    let mut child = command(&arguments).spawn().unwrap();
    let lap = dir.path().join("courant-torture/lap-1/FORMAT");
    eventually("the first worker has made its log", PATIENCE, || lap.exists().then_some(()));
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(torture(dir.path(), &["--minutes", "0.01"]).status.code(), Some(4));
    // The worker ends when nobody listens; until then it holds its data directory.
    let again = eventually("it may be replaced", PATIENCE, || {
        let again = torture(dir.path(), &["--minutes", "0.01", "--again", "--quiet"]);
        again.status.success().then_some(again)
    });
    assert!(stderr(&again).is_empty(), "{}", stderr(&again));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left");
}
