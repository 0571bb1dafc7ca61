//! The parts of the page: what each of them measures, and how long it may take.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::options::{self, Asked};
use crate::rows::Bench;
use crate::table::Report;
use crate::{built, console, framework, machine, peers};

/// The headings of the page, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Section {
    Rows,
    Single,
    Passing,
    Kafka,
    Framework,
    Console,
}

impl Section {
    pub(super) const ALL: [Section; 6] = [
        Section::Rows,
        Section::Single,
        Section::Passing,
        Section::Kafka,
        Section::Framework,
        Section::Console,
    ];

    /// As it is written on the command line: all parts below the heading.
    pub(super) fn name(self) -> &'static str {
        match self {
            Section::Rows => "rows",
            Section::Single => "single",
            Section::Passing => "passing",
            Section::Kafka => "kafka",
            Section::Framework => "framework",
            Section::Console => "console",
        }
    }

    pub(super) fn title(self) -> &'static str {
        match self {
            Section::Rows => "The server and the log",
            Section::Single => "Single events, beside others",
            Section::Passing => "From a producer to a consumer, beside others",
            Section::Kafka => "Batches, beside Apache Kafka",
            Section::Framework => "Through the framework",
            Section::Console => "An open console",
        }
    }
}

/// Who measures a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Rows,
    Peers,
    /// On SQLite, or on a server that is started for it.
    Framework(&'static str),
    Console,
}

/// What is measured by a process of its own and kept by itself.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) name: &'static str,
    pub(super) section: Section,
    by: By,
    full: &'static [&'static str],
    /// As many rounds, and each of them short.
    short: &'static [&'static str],
    /// Minutes that it may take: more than twice of what it takes on 2 cores.
    minutes: u64,
}

/// More than the usual number, so that durable rows go through their checkpoints.
const ROWS: &[&str] = &["--events", "4000000"];
const ROWS_SHORT: &[&str] = &["--events", "4000000", "--quick"];
const FRAMEWORK_SHORT: &[&str] = &["--events", "1000"];

const fn rows(name: &'static str, minutes: u64) -> Part {
    Part { name, section: Section::Rows, by: By::Rows, full: ROWS, short: ROWS_SHORT, minutes }
}

const fn framework_on(name: &'static str, database: &'static str, minutes: u64) -> Part {
    let by = By::Framework(database);
    Part { name, section: Section::Framework, by, full: &[], short: FRAMEWORK_SHORT, minutes }
}

/// Peers that sync before they answer; and those that are measured in a short run.
const SYNCING: &str = "redis-always,nats,postgres,kafka-flush,rabbitmq-quorum";
const SOON_THERE: &str = "redis-always,nats,postgres,kafka-flush";

/// Single events, and those on their way to a consumer, are measured beside others and by nobody else.
pub(super) static PARTS: [Part; 20] = [
    rows("floor", 8),
    rows("client", 3),
    rows("batch", 10),
    rows("compression", 10),
    rows("tls", 8),
    rows("relaxed", 6),
    rows("partitions", 10),
    rows("connections", 5),
    rows("read", 5),
    rows("embedded", 8),
    rows("memory", 4),
    rows("start", 2),
    rows("recover", 4),
    Part {
        name: "single",
        section: Section::Single,
        by: By::Peers,
        full: &["--what", "single", "--waiting", "1,64,256", "--seconds", "2"],
        short: &["--what", "single", "--waiting", "1,64,256", "--seconds", "1", "--only", SOON_THERE],
        minutes: 40,
    },
    Part {
        name: "passing",
        section: Section::Passing,
        by: By::Peers,
        full: &[
            "--what",
            "passing",
            "--seconds",
            "3",
            "--only",
            "redis-always,nats,postgres,kafka-flush,rabbitmq-quorum,redis-everysec,kafka",
        ],
        short: &["--what", "passing", "--seconds", "1", "--only", SYNCING],
        minutes: 25,
    },
    Part {
        name: "kafka",
        section: Section::Kafka,
        by: By::Peers,
        full: &["--what", "batch", "--events", "3000000"],
        short: &["--what", "batch", "--events", "400000"],
        minutes: 15,
    },
    framework_on("framework-sqlite", "sqlite", 8),
    framework_on("framework-postgres", "postgres", 12),
    framework_on("framework-mariadb", "mariadb", 10),
    Part {
        name: "console",
        section: Section::Console,
        by: By::Console,
        full: &["--seconds", "7"],
        short: &["--seconds", "1"],
        minutes: 10,
    },
];

/// Of what a part may take, a short run may take this one.
const SHORT: u32 = 2;

impl Part {
    /// How long it may take until it is ended.
    pub(super) fn limit(&self, short: bool) -> Duration {
        let limit = Duration::from_secs(self.minutes * 60);
        if short { limit / SHORT } else { limit }
    }

    fn args(&self, short: bool) -> Vec<String> {
        let args = if short { self.short } else { self.full };
        let which = match self.by {
            By::Rows => vec!["--rows", self.name],
            By::Framework(database) => vec!["--only", database],
            By::Peers | By::Console => Vec::new(),
        };
        args.iter().copied().chain(which).map(str::to_owned).collect()
    }

    /// Measures it: its tables, and what went wrong, if anything did.
    pub(super) fn measure(&self, target: &Path, short: bool) -> (String, Option<String>) {
        let args = self.args(short);
        let measured = match self.by {
            By::Rows => return taken_rows(target, args),
            By::Peers => peers::run(args.into_iter(), target),
            By::Framework(database) => effects(target, args, database),
            By::Console => built(target).and_then(|courant| {
                console::run(args.into_iter(), &courant, target, machine::facts(&courant)?)
            }),
        };
        match measured {
            Ok(tables) => (tables, None),
            Err(error) => (String::new(), Some(format!("{error:#}"))),
        }
    }
}

/// Rows of the server. What was taken before an error stands there all the same.
fn taken_rows(target: &Path, args: Vec<String>) -> (String, Option<String>) {
    let begun = built(target).and_then(|courant| match options::parse(args.into_iter())? {
        Asked::Run(options) => {
            Ok((Report::new(machine::facts(&courant)?), Bench::new(courant, target, options)?))
        }
        Asked::Help => bail!("no figures were asked for"),
    });
    match begun {
        Ok((mut report, bench)) => {
            let measured = bench.run(&mut report);
            let text = if report.is_empty() { String::new() } else { report.markdown() };
            (text, measured.err().map(|error| format!("{error:#}")))
        }
        Err(error) => (String::new(), Some(format!("{error:#}"))),
    }
}

/// Figures of the framework on one database, whose server is started for them.
fn effects(target: &Path, mut args: Vec<String>, database: &'static str) -> Result<String> {
    let facts = machine::facts(&built(target)?)?;
    if database == "sqlite" {
        return framework::run(args.into_iter(), target, facts);
    }
    peers::with_database(database, |address| {
        args.extend([format!("--{database}"), address.to_owned()]);
        framework::run(args.into_iter(), target, facts)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_part_has_a_name_of_its_own_and_stands_with_its_heading() {
        let names: BTreeSet<&str> = PARTS.iter().map(|part| part.name).collect();
        assert_eq!(names.len(), PARTS.len());
        let order: Vec<usize> = PARTS
            .iter()
            .map(|part| Section::ALL.iter().position(|section| *section == part.section).unwrap())
            .collect();
        assert!(order.is_sorted(), "{order:?}");
        assert!(Section::ALL.iter().all(|section| PARTS.iter().any(|part| part.section == *section)));
    }

    /// Arguments that nobody takes would be found out after an hour, or not at all.
    #[test]
    fn what_rows_are_asked_for_is_understood_and_five_rounds_stay_five() {
        for part in PARTS.iter().filter(|part| part.by == By::Rows) {
            for short in [false, true] {
                let Asked::Run(options) = options::parse(part.args(short).into_iter()).unwrap() else {
                    panic!("{} asks for help", part.name);
                };
                assert_eq!(options.parts.len(), 1, "{}", part.name);
                assert_eq!(options.parts[0].name(), part.name);
            }
        }
        // Elsewhere `--quick` is one round.
        for part in PARTS.iter().filter(|part| part.by != By::Rows) {
            assert!(!part.short.contains(&"--quick"), "{}", part.name);
        }
    }

    #[test]
    fn a_short_run_has_less_time() {
        assert!(PARTS.iter().all(|part| part.limit(true) < part.limit(false)));
    }
}
