//! `courant doctor`: what is in the way of a server on this machine, and of the clients that look
//! for it.
//!
//! A running server is asked like by any client, and its files are only looked at. What is written
//! to time the disk has no name and is gone with the process.

mod data;
mod machine;
mod network;

use crate::cli::{Doctor, Global};
use crate::exit::{Exit, Failure};
use crate::output::{Format, Row, list};
use crate::settings::Settings;
use crate::text::one_line;
use courant_log::storage::probe;
use courant_server::MemoryBound;
use serde::Serialize;
use std::io::{self, Write};
use std::time::Duration;

/// Longest wait for one answer. Whoever is looked for is near, or not reachable.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// Characters of a line about what to change.
const CHANGE_CHARS_MAX: usize = 400;

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Ok,
    /// It works, and may not do what is expected.
    Warning,
    /// It does not work.
    Failure,
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failure => "failure",
        }
    }
}

/// What one check found.
#[derive(Debug, Serialize)]
struct Finding {
    check: &'static str,
    verdict: Verdict,
    found: String,
    /// What to change; `None` when all is well.
    change: Option<String>,
}

impl Finding {
    fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Ok, found: found.into(), change: None }
    }

    fn warning(check: &'static str, found: impl Into<String>, change: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Warning, found: found.into(), change: Some(change.into()) }
    }

    fn failure(check: &'static str, found: impl Into<String>, change: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Failure, found: found.into(), change: Some(change.into()) }
    }
}

impl Row for Finding {
    const TITLES: &'static [&'static str] = &["check", "verdict", "found"];

    fn cells(&self) -> Vec<String> {
        vec![self.check.to_owned(), self.verdict.word().to_owned(), self.found.clone()]
    }
}

/// Runs every check and shows what was found.
pub(super) async fn run(global: &Global, args: Doctor) -> Result<Exit, Failure> {
    let settings = Settings::read(global, &args.settings)?;
    let config = settings.server_config();
    let named = settings.servers().filter(|(_, named)| *named).map(|(servers, _)| servers.to_vec());
    let limit = global.timeout.min(ANSWER_MAX);
    let directory = config.data.clone();
    let holder = probe::holder(&directory);
    let memory = MemoryBound::of(&config).map_err(|error| Failure::new(Exit::Usage, error.to_string()))?;
    let mut findings = network::checks(&config, named, holder, limit).await;
    // Disks may be slow, and Ctrl-C has to work meanwhile.
    let local = tokio::task::spawn_blocking(move || {
        let mut findings = data::checks(&directory, holder);
        findings.extend(machine::checks(&directory, holder, memory));
        findings
    });
    let local = local.await;
    findings.extend(
        local.map_err(|error| Failure::new(Exit::Failed, format!("the checks ended early: {error}")))?,
    );
    let format = Format::or_default(global.output);
    report(&mut io::stdout().lock(), format, &findings).map_err(|e| Failure::output(&e))?;
    Ok(exit_of(&findings))
}

fn exit_of(findings: &[Finding]) -> Exit {
    let failed = findings.iter().any(|finding| finding.verdict == Verdict::Failure);
    if failed { Exit::Failed } else { Exit::Ok }
}

/// The findings; below a table, what to change.
fn report(out: &mut impl Write, format: Format, findings: &[Finding]) -> io::Result<()> {
    list(out, format, findings)?;
    if format != Format::Table {
        return Ok(());
    }
    let mut changes =
        findings.iter().filter_map(|finding| Some((finding, finding.change.as_ref()?))).peekable();
    if changes.peek().is_some() {
        writeln!(out, "\nWhat to change:")?;
    }
    for (finding, change) in changes {
        writeln!(out, "  {}: {}", finding.check, one_line(change, CHANGE_CHARS_MAX))?;
    }
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings() -> Vec<Finding> {
        vec![
            Finding::ok("kafka port", "127.0.0.1:9092 is free"),
            Finding::warning("file system", "tmpfs", "name a directory on a disk with --data"),
        ]
    }

    fn shown(format: Format, findings: &[Finding]) -> String {
        let mut out = Vec::new();
        report(&mut out, format, findings).expect("memory");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn only_failures_fail() {
        let mut findings = findings();
        assert_eq!(exit_of(&findings), Exit::Ok);
        findings.push(Finding::failure("http port", "in use", "choose another port with --http"));
        assert_eq!(exit_of(&findings), Exit::Failed);
    }

    #[test]
    fn a_table_ends_with_what_to_change() {
        let text = shown(Format::Table, &findings());
        let end = "\n\nWhat to change:\n  file system: name a directory on a disk with --data\n";
        assert!(text.ends_with(end), "{text}");
        assert!(!shown(Format::Table, &findings()[..1]).contains("change"), "all is well");
    }

    #[test]
    fn json_lines_hold_all_of_it() {
        assert_eq!(
            shown(Format::Jsonl, &findings()[..1]),
            "{\"check\":\"kafka port\",\"verdict\":\"ok\",\"found\":\"127.0.0.1:9092 is free\",\"change\":null}\n"
        );
    }
}
