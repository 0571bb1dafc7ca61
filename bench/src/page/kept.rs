//! What parts have come to, each in a file of its own until it is measured again, and the page that is put
//! together from them.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context as _, Result};

use super::asked;
use super::part::{PARTS, Part, Section};

/// What stands before the servers and rounds that are missing in a part, and before the reason why its end is.
const MISSING: &str = "; not measured: ";
const TO_ITS_END: &str = "Not measured to its end: ";

/// What stands between the machine that was measured on and what it had to do before.
const LOAD: &str = "; load before: ";

/// A folder with a file for each part.
pub(super) struct Kept {
    folder: PathBuf,
    /// What was measured before the server was built is about another one.
    built: SystemTime,
}

/// What there is of a part.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Measured {
        text: String,
        short: bool,
    },
    /// With the reason.
    Absent(String),
}

impl Kept {
    pub(super) fn new(folder: PathBuf, built: SystemTime) -> Kept {
        Kept { folder, built }
    }

    /// Keeps what was measured of a part, and why that is not all of it, if it is not. A part of which nothing was
    /// measured takes nothing away.
    pub(super) fn keep(&self, part: &Part, short: bool, text: &str, failed: Option<&str>) -> Result<()> {
        fs::create_dir_all(&self.folder).with_context(|| self.folder.display().to_string())?;
        let failure = self.failure(part);
        if text.is_empty() {
            return write(&failure, failed.unwrap_or("it has said nothing"));
        }
        // A reason that stays would be that of an earlier run.
        let _ = fs::remove_file(&failure);
        let failed = failed.map(|failed| format!("{TO_ITS_END}{}\n\n", one_line(failed)));
        write(&self.file(part, short), &format!("{}{text}", failed.unwrap_or_default()))
    }

    fn file(&self, part: &Part, short: bool) -> PathBuf {
        let kind = if short { "short.md" } else { "md" };
        self.folder.join(format!("{}.{kind}", part.name))
    }

    fn failure(&self, part: &Part) -> PathBuf {
        self.folder.join(format!("{}.failed", part.name))
    }

    /// The whole run of a part, or else the short one.
    fn find(&self, part: &Part) -> Result<Found> {
        let mut is_old = false;
        for short in [false, true] {
            let path = self.file(part, short);
            let Ok(measured) = fs::metadata(&path).and_then(|file| file.modified()) else { continue };
            if measured >= self.built {
                let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
                return Ok(Found::Measured { text, short });
            }
            is_old = true;
        }
        let failed = fs::read_to_string(self.failure(part)).ok().map(|failed| one_line(&failed));
        let old = is_old.then(|| "the server was built anew since".to_owned());
        Ok(Found::Absent(failed.or(old).unwrap_or_else(|| "not yet".to_owned())))
    }

    /// The page without its head, and the names of the parts that are not in it.
    pub(super) fn put_together(&self) -> Result<(String, Vec<&'static str>)> {
        let (mut body, mut asked, mut absent) = (String::new(), Vec::new(), Vec::new());
        let mut notes = Vec::new();
        let mut said = BTreeSet::new();
        for section in Section::ALL {
            // Writing to a string does not fail.
            let _ = write!(body, "\n## {}\n", section.title());
            for part in PARTS.iter().filter(|part| part.section == section) {
                match self.find(part)? {
                    Found::Measured { text, short } => {
                        asked.append(&mut asked::rows(&text));
                        notes.extend(missing_in(&text).map(|missing| (part.name, missing)));
                        body.push_str(&shown(&text, short, &mut said));
                    }
                    Found::Absent(why) => {
                        let _ = write!(body, "\nNot measured: `{}`: {why}\n", part.name);
                        absent.push(part.name);
                        notes.push((part.name, why));
                    }
                }
            }
        }
        Ok((format!("{}{}{body}", asked::table(&asked), list(&notes)), absent))
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("{} cannot be written", path.display()))
}

fn one_line(text: &str) -> String {
    text.trim().replace('\n', " ")
}

/// What a part itself says that it has not measured.
fn missing_in(text: &str) -> Option<String> {
    let said = text.lines().find_map(|line| {
        let missing = line.split_once(MISSING).map(|(_, missing)| missing);
        missing.or_else(|| line.strip_prefix(TO_ITS_END))
    });
    said.map(|said| format!("in part: {said}"))
}

/// What is not on the page, before all that is.
fn list(absent: &[(&str, String)]) -> String {
    if absent.is_empty() {
        return String::new();
    }
    let mut text = "\nNot on this page:\n\n".to_owned();
    for (name, why) in absent {
        let _ = writeln!(text, "- `{name}`: {why}");
    }
    text
}

/// A part: its tables one level below its heading. The machine is named once, as long as it is the same.
fn shown(text: &str, short: bool, said: &mut BTreeSet<String>) -> String {
    let mut shown = String::from("\n");
    if short {
        shown.push_str(
            "*A short run: as many rounds, each of them a part of a whole one, and beside fewer peers.*\n\n",
        );
    }
    for line in text.lines() {
        if line.starts_with("## ") {
            shown.push('#');
        }
        let news = match line.split_once(LOAD) {
            Some((machine, load)) if !said.insert(machine.to_owned()) => format!("load before: {load}"),
            _ => line.to_owned(),
        };
        let _ = writeln!(shown, "{news}");
    }
    shown
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const TABLE: &str = "server: courant 0.1.0; cpus: 2; load before: 0.1 0.2\n\n## Floor\n\n\
                         | floor | asked | reached |\n|---|---|---|\n| a | ≤ 1 | yes |\n";

    fn kept(folder: &Path, built: SystemTime) -> Kept {
        Kept::new(folder.to_path_buf(), built)
    }

    #[test]
    fn the_page_is_made_of_what_is_there_and_says_what_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let kept = kept(folder.path(), SystemTime::UNIX_EPOCH);
        kept.keep(&PARTS[0], false, TABLE, None).unwrap();
        kept.keep(&PARTS[1], true, TABLE, Some("the disk\nis full")).unwrap();
        kept.keep(&PARTS[2], false, "", Some("ended after 600 s")).unwrap();
        let (page, absent) = kept.put_together().unwrap();
        assert_eq!(absent.len(), PARTS.len() - 2);
        assert!(!absent.contains(&PARTS[0].name) && absent.contains(&PARTS[2].name));
        assert!(page.contains("- `batch`: ended after 600 s\n"), "{page}");
        assert!(page.contains("- `console`: not yet\n"), "{page}");
        assert!(page.contains("- `client`: in part: the disk is full\n"), "{page}");
        assert!(page.contains("Not measured to its end: the disk is full\n"), "{page}");
        assert_eq!(page.matches("*A short run").count(), 1, "{page}");
        assert!(page.contains("\n### Floor\n"), "{page}");
        // The machine is the same, and what it had to do is not.
        assert_eq!((page.matches("cpus: 2").count(), page.matches("load before").count()), (1, 2), "{page}");
    }

    #[test]
    fn a_part_that_fails_later_keeps_what_it_had() {
        let folder = tempfile::tempdir().unwrap();
        let kept = kept(folder.path(), SystemTime::UNIX_EPOCH);
        kept.keep(&PARTS[0], true, "short", None).unwrap();
        kept.keep(&PARTS[0], false, "whole", None).unwrap();
        kept.keep(&PARTS[0], false, "", Some("no port")).unwrap();
        let whole = Found::Measured { text: "whole".to_owned(), short: false };
        assert_eq!(kept.find(&PARTS[0]).unwrap(), whole);
    }

    #[test]
    fn a_peer_that_is_missing_is_named_at_the_beginning() {
        let text = "server: courant 0.1.0; load before: 0.1; not measured: nats: no go here\n\n## Single\n";
        assert_eq!(missing_in(text).as_deref(), Some("in part: nats: no go here"));
        assert_eq!(missing_in(TABLE), None);
    }

    #[test]
    fn what_was_measured_of_an_older_server_is_not_shown() {
        let folder = tempfile::tempdir().unwrap();
        let later = SystemTime::now() + Duration::from_secs(60);
        let kept = kept(folder.path(), later);
        kept.keep(&PARTS[0], false, TABLE, None).unwrap();
        let why = "the server was built anew since".to_owned();
        assert_eq!(kept.find(&PARTS[0]).unwrap(), Found::Absent(why));
    }
}
