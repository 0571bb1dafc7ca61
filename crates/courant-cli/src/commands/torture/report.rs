//! What a run has come to, for people and for programs.

use super::probe::Storage;
use crate::cli::{Global, Torture};
use crate::exit::{Exit, Failure, note};
use crate::files;
use crate::output::{Format, Heedless};
use crate::text::one_line;
use courant_history::Counts;
use serde::Serialize;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::Path;

/// Findings that stderr shows; the report has all of them.
const FINDINGS_SHOWN_MAX: usize = 20;
/// Characters of each.
const FINDING_CHARS_MAX: usize = 500;

/// What a run that kills can show.
pub(super) const KILLS_SHOW: &str = "SIGKILL tests the process, not the disk: what the process had handed \
    to the system is still there, synced or not. This run has tried the log, the kernel and the file system. \
    For the disk itself, pull the plug: `courant torture --dir DIR --until-power-cut`.";

/// What a power cut can show.
pub(super) const POWER_CUT_SHOWS: &str = "One power cut shows what this disk has kept that once. What a \
    disk has in its cache differs from cut to cut: do it several times. And it has to be the power that was \
    cut: after a kill or a restart by the system, this shows nothing of the disk.";

/// What was done and found.
#[derive(Debug, Default, Serialize)]
pub(super) struct Tally {
    /// How long it took; 0 when nobody knows.
    pub(super) minutes: f64,
    /// Data directories, one after the other.
    pub(super) laps: u64,
    pub(super) kills: u64,
    /// Those of them before everything was read.
    pub(super) kills_in_start: u64,
    pub(super) starts: u64,
    pub(super) events: Events,
    /// The longest time that opening the log took, in milliseconds.
    pub(super) longest_recovery_ms: u64,
    /// Sentences, the worst first.
    pub(super) findings: Vec<String>,
}

/// Events by what became of them.
#[derive(Debug, Default, Serialize)]
pub(super) struct Events {
    pub(super) sent: u64,
    pub(super) acknowledged: u64,
    pub(super) refused: u64,
    /// Without an answer when the process died.
    pub(super) unknown: u64,
    /// An event that several starts have read counts several times.
    pub(super) read: u64,
}

impl Events {
    pub(super) fn add(&mut self, counts: Counts) {
        self.sent += counts.sent;
        self.acknowledged += counts.acknowledged;
        self.refused += counts.refused;
        self.unknown += counts.unknown;
        self.read += counts.read;
    }
}

/// All of it.
#[derive(Debug, Serialize)]
pub(super) struct Report<'a> {
    /// Version of this program.
    pub(super) courant: &'static str,
    /// `kills`, or `power cut`.
    pub(super) run: &'static str,
    /// `None` where nothing depends on one.
    pub(super) seed: Option<u64>,
    #[serde(flatten)]
    pub(super) tally: &'a Tally,
    pub(super) storage: &'a Storage,
    /// What a run of this kind can show, and what it cannot.
    pub(super) shows: &'static str,
    /// Where the data is kept, when something was found.
    pub(super) kept: Option<String>,
}

impl Report<'_> {
    /// Writes it where it was asked for, and says how the run has ended.
    ///
    /// # Errors
    /// That something was found, or that the report cannot be written.
    pub(super) fn hand_over(&self, global: &Global, args: &Torture) -> Result<Exit, Failure> {
        let is_json = match &args.report {
            Some(path) => path.extension().is_some_and(|extension| extension == "json"),
            None => matches!(global.output, Some(Format::Json | Format::Jsonl)),
        };
        let text = if is_json { self.json()? } else { self.markdown() };
        match &args.report {
            Some(path) => self.write(path, &text)?,
            None => show(&text)?,
        }
        self.ended(global)
    }

    /// A run of hours is not lost because its report has no place: then it goes to stdout.
    fn write(&self, path: &Path, text: &str) -> Result<(), Failure> {
        let Err(error) = files::write_text(path, text) else {
            return Ok(());
        };
        show(text)?;
        let sentence = format!("{}: the report cannot be written there: {error}", path.display());
        Err(Failure::new(Exit::Failed, sentence))
    }

    fn ended(&self, global: &Global) -> Result<Exit, Failure> {
        let Tally { kills, events, findings, .. } = self.tally;
        let (acknowledged, read) = (events.acknowledged, events.read);
        let did = format!("{kills} kills, {acknowledged} events acknowledged, {read} read");
        if findings.is_empty() {
            if !global.quiet {
                note(format_args!("Nothing was lost, changed, invented or misplaced ({did})."));
            }
            return Ok(Exit::Ok);
        }
        for finding in findings.iter().take(FINDINGS_SHOWN_MAX) {
            note(format_args!("{}", one_line(finding, FINDING_CHARS_MAX)));
        }
        let kept = self.kept.as_deref().unwrap_or("nowhere");
        let sentence = format!("findings: {} ({did}); the data is kept in {kept}", findings.len());
        Err(Failure::new(Exit::Failed, sentence))
    }

    fn json(&self) -> Result<String, Failure> {
        let text = serde_json::to_string_pretty(self);
        let text = text.map_err(|error| Failure::new(Exit::Failed, format!("no report: {error}")))?;
        Ok(text + "\n")
    }

    fn markdown(&self) -> String {
        let Tally { events, findings, .. } = self.tally;
        let mut text = format!("# courant torture: {}\n\n", self.run);
        text.push_str(&match findings.len() {
            0 => "**Nothing was lost, changed, invented or misplaced.**\n\n".to_owned(),
            count => format!("**Findings: {count}.**\n\n"),
        });
        text.push_str(self.shows);
        text.push_str("\n\n| | |\n|---|---|\n");
        for (name, value) in self.rows() {
            // Writing to a string does not fail.
            let _ = writeln!(text, "| {name} | {value} |");
        }
        let Storage { sync, judgement, .. } = self.storage;
        let _ = writeln!(
            text,
            "\n## Storage\n\n4 KiB written and synced, {} times: half within {:.1} µs, 99 % within {:.1} µs, \
             the longest {:.1} µs.\n\n{}.",
            sync.count, sync.p50_us, sync.p99_us, sync.max_us, judgement
        );
        if !findings.is_empty() {
            text.push_str("\n## Findings\n\n");
            for finding in findings {
                let _ = writeln!(text, "- {}", one_line(finding, usize::MAX));
            }
        }
        if events.refused > 0 {
            text.push_str("\nEvents are refused while the disk is full, or while too much waits.\n");
        }
        text
    }

    fn rows(&self) -> Vec<(&'static str, String)> {
        let Tally { minutes, laps, kills, kills_in_start, starts, events, .. } = self.tally;
        let seed = self.seed.map(|seed| ("seed", seed.to_string()));
        let time = (*minutes > 0.0).then(|| ("minutes", format!("{minutes:.1}")));
        let mut rows = vec![("courant", self.courant.to_owned())];
        rows.extend(seed);
        rows.extend(time);
        rows.extend([
            ("laps, each in a new data directory", laps.to_string()),
            ("starts", starts.to_string()),
            ("kills", kills.to_string()),
            ("kills during a start", kills_in_start.to_string()),
            ("events sent", events.sent.to_string()),
            ("events acknowledged", events.acknowledged.to_string()),
            ("events refused", events.refused.to_string()),
            ("events without an answer", events.unknown.to_string()),
            ("events read, again with each start", events.read.to_string()),
            ("longest recovery", format!("{} ms", self.tally.longest_recovery_ms)),
            ("file system", self.storage.file_system.clone()),
            ("kernel", self.storage.kernel.clone()),
        ]);
        rows.extend(self.kept.clone().map(|kept| ("data", kept)));
        rows
    }
}

fn show(text: &str) -> Result<(), Failure> {
    let mut out = Heedless::new(io::stdout().lock());
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| Failure::output(&error))
}

#[cfg(test)]
mod tests {
    use super::super::probe::Times;
    use super::*;
    use serde_json::json;

    fn told(findings: &[&str], show: impl FnOnce(&Report<'_>) -> String) -> String {
        let findings = findings.iter().map(|finding| (*finding).to_owned()).collect();
        let tally = Tally { kills: 12, minutes: 0.5, findings, ..Tally::default() };
        let storage = Storage {
            file_system: "ext4".to_owned(),
            kernel: "6.1.0".to_owned(),
            sync: Times { count: 3, p50_us: 400.0, p99_us: 500.0, max_us: 600.0 },
            judgement: "it lasts".to_owned(),
        };
        let report = Report {
            courant: "1.2.3",
            run: "kills",
            seed: Some(7),
            tally: &tally,
            storage: &storage,
            shows: KILLS_SHOW,
            kept: None,
        };
        show(&report)
    }

    #[test]
    fn people_read_what_was_done_and_found() {
        let text = told(&[], |report| report.markdown());
        for part in ["| kills | 12 |", "| seed | 7 |", "| kernel | 6.1.0 |", "not the disk", "it lasts."] {
            assert!(text.contains(part), "no {part} in\n{text}");
        }
        assert!(!text.contains("## Findings"), "{text}");
        let text = told(&["lost: an event"], |report| report.markdown());
        assert!(text.contains("**Findings: 1.**") && text.contains("\n- lost: an event\n"), "{text}");
    }

    #[test]
    fn programs_read_the_same() {
        let text = told(&["lost: an event"], |report| report.json().expect("json"));
        let report: serde_json::Value = serde_json::from_str(&text).expect("json");
        assert_eq!((&report["kills"], &report["seed"]), (&json!(12), &json!(7)));
        assert_eq!(report["findings"][0], "lost: an event");
        assert_eq!(report["storage"]["sync"]["p50_us"], 400.0);
        assert_eq!(report["events"]["acknowledged"], 0);
    }
}
