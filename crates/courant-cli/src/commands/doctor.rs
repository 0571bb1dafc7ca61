//! `courant doctor`: what is in the way of a server on this machine, and of the clients that look
//! for it.
//!
//! A running server is asked like by any client, and its files are only looked at. What is written
//! to time the disk has no name and is gone with the process.

mod data;
mod machine;
mod network;

use self::network::How;
use super::tls::{self, Identity};
use crate::cli::{Doctor, Global};
use crate::exit::{Exit, Failure};
use crate::output::{Format, Heedless, Row, list};
use crate::settings::Settings;
use crate::text::one_line;
use courant_kafka::tls::ClientTls;
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
    let mut config = settings.server_config();
    let named = settings.servers().filter(|(_, named)| *named).map(|(servers, _)| servers.to_vec());
    let (secured, own) = tls_files(&settings);
    config.tls = own.as_ref().map(Identity::tls);
    let limit = global.timeout.min(ANSWER_MAX);
    // Here it is known which certificate has to be shown, whatever its name and whoever vouches for it.
    let shown = own.as_ref().and_then(|own| ClientTls::of_the_server(own.certificate()).ok());
    let trusted = tls::trusted(global)?;
    let here = How { limit, tls: shown.clone().or_else(|| trusted.clone()) };
    let there = How { limit, tls: trusted.or(shown) };
    let named = named.map(|servers| (servers, there));
    let directory = config.data.clone();
    let holder = probe::holder(&directory);
    let memory = MemoryBound::of(&config).map_err(|error| Failure::new(Exit::Usage, error.to_string()))?;
    let mut findings = network::checks(&config, named, holder, &here).await;
    findings.push(secured);
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

/// Whether TLS is spoken, and with what.
fn tls_files(settings: &Settings) -> (Finding, Option<Identity>) {
    const CHECK: &str = "tls";
    let identity = match tls::identity(settings) {
        Ok(Some(identity)) => identity,
        Ok(None) => {
            let found = "off: what clients and the server send each other can be read on its way";
            return (Finding::ok(CHECK, found), None);
        }
        Err(failure) => {
            let change = "name a certificate and its key, both in PEM, with --tls-cert and --tls-key";
            return (Finding::failure(CHECK, failure.sentence, change), None);
        }
    };
    let until = identity.tls().validity().until;
    let found = format!("on; the certificate is good until {until}");
    let finding = if tls::ends_soon(until) {
        Finding::warning(CHECK, found, "have it renewed; a running server takes what its files then say")
    } else {
        Finding::ok(CHECK, found)
    };
    (finding, Some(identity))
}

fn exit_of(findings: &[Finding]) -> Exit {
    let failed = findings.iter().any(|finding| finding.verdict == Verdict::Failure);
    if failed { Exit::Failed } else { Exit::Ok }
}

/// The findings; below a table, what to change.
fn report(out: &mut impl Write, format: Format, findings: &[Finding]) -> io::Result<()> {
    let out = &mut Heedless::new(out);
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
