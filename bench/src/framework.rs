//! Effects per second through the framework, beside the same rows written by hand: SQLite, Postgres and MariaDB
//! with the embedded log, every commit synced, 256 lanes.
//!
//! What is compared is measured in turns, on a new database each time, so that what happens to the machine
//! happens to all. What counts is the median of the ratios.

mod mariadb;
mod postgres;
mod server;
mod sqlite;
mod through;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::goal;
use crate::probe::Probe;
use crate::say;
use crate::table::{Cell, Column, Report, Table};

const USAGE: &str = "\
cargo xtask bench framework [OPTIONS]

  --rounds N     rounds, each once through the framework and once by hand [5]
  --events N     events of one measurement [10000]
  --only LIST    of sqlite,postgres,mariadb [default: all]
  --postgres URL a server on which databases may be created [COURANT_TEST_POSTGRES]
  --mariadb URL  the same [COURANT_TEST_MARIADB]
  --quick        one round of a tenth of the events, to see that it works
  --json         JSON instead of Markdown tables

Postgres and MariaDB are measured where there is the address of a server (`cargo xtask engines up postgres`).
";

/// Fewer rounds have no median to speak of.
const ROUNDS_MIN: u32 = 5;
const EVENTS_MIN: u32 = 1_000;
const QUICK: u32 = 10;
const DATABASES: [&str; 3] = ["sqlite", "postgres", "mariadb"];
/// The addresses of servers where databases may be created.
const POSTGRES: &str = "COURANT_TEST_POSTGRES";
const MARIADB: &str = "COURANT_TEST_MARIADB";
/// Events of one transaction where they are handled in batches.
const BATCH: usize = 50;
/// Writers of Postgres and of MariaDB, and the least ratio that is asked of the framework with them on Postgres.
const WRITERS: [(u32, f64); 3] = [(1, 0.85), (16, 0.85), (64, 0.75)];
/// The same of SQLite, and the least rate of its batches.
const SQLITE: f64 = 0.6;
const SQLITE_BATCHES: f64 = 8_000.0;
/// Of the keys that do not fail, where one does.
const HEALTHY: f64 = 0.95;
/// The writers with which one key fails, on Postgres.
const FAILING_WRITERS: u32 = 16;

const MEDIANS_NOTE: &str = "\
An effect is one event handled once: inbox row, business row, outbox row, committed and synced. Through the \
framework its event is also read from the embedded log and published there again, by a relay that works \
beside it; time runs from the start of the service until the last handler has returned, and `until published` \
until the outbox is empty. By hand: the same rows in as many connections, one transaction for each event, \
and nothing else. All connections of Postgres and MariaDB are open before time runs. In batches: \
`.batchable(50)`, which the framework does not do on MariaDB: a handler there could commit what those before it \
have done. One key failing: the first of 100 keys fails for ever, and the other 99 are compared with themselves \
in the runs before and after, in which nothing fails.";

/// How much is measured.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Options {
    rounds: u32,
    events: u32,
    only: Vec<String>,
    postgres: Option<String>,
    mariadb: Option<String>,
    json: bool,
}

impl Options {
    fn wants(&self, database: &str) -> bool {
        self.only.iter().any(|only| only == database)
    }
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Option<Options>> {
    let (postgres, mariadb) = (std::env::var(POSTGRES).ok(), std::env::var(MARIADB).ok());
    let only = DATABASES.map(str::to_owned).to_vec();
    let mut options = Options { rounds: ROUNDS_MIN, events: 10_000, only, postgres, mariadb, json: false };
    let mut quick = false;
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--rounds" => options.rounds = number(&arg, args.next(), ROUNDS_MIN)?,
            "--events" => options.events = number(&arg, args.next(), EVENTS_MIN)?,
            "--only" => options.only = databases(&args.next().context("--only needs a value")?)?,
            "--postgres" => options.postgres = Some(args.next().context("--postgres needs a value")?),
            "--mariadb" => options.mariadb = Some(args.next().context("--mariadb needs a value")?),
            "--quick" => quick = true,
            "--json" => options.json = true,
            "-h" | "--help" => return Ok(None),
            other => bail!("there is no option `{other}`\n\n{USAGE}"),
        }
    }
    if quick {
        options.rounds = 1;
        options.events = (options.events / QUICK).max(EVENTS_MIN);
    }
    Ok(Some(options))
}

fn number(option: &str, given: Option<String>, least: u32) -> Result<u32> {
    let given = given.with_context(|| format!("{option} needs a value"))?;
    match given.parse() {
        Ok(number) if number >= least => Ok(number),
        _ => bail!("{option} takes a whole number from {least} on, not `{given}`"),
    }
}

fn databases(list: &str) -> Result<Vec<String>> {
    let named: Vec<&str> = list.split(',').map(str::trim).collect();
    if let Some(unknown) = named.iter().find(|name| !DATABASES.contains(name)) {
        bail!("there is no database `{unknown}`; --only takes some of {}", DATABASES.join(","));
    }
    Ok(named.into_iter().map(str::to_owned).collect())
}

/// Where effects take place.
enum Database {
    Sqlite,
    /// On the server at this address.
    Postgres(String),
    /// The same.
    Mariadb(String),
}

/// How events are handled in one measurement.
#[derive(Clone, Copy, Debug)]
struct Run {
    writers: u32,
    batch: usize,
    events: u32,
    /// One key fails for ever.
    fails: bool,
}

/// What one measurement through the framework has come to.
#[derive(Clone, Copy, Debug)]
struct Took {
    /// Until the last handler that does not fail has returned.
    handled: Duration,
    /// Until everything was published.
    published: Duration,
    /// Events whose handlers do not fail.
    events: u32,
}

impl Took {
    fn rate(self) -> f64 {
        f64::from(self.events) / self.handled.as_secs_f64()
    }

    fn published_rate(self) -> f64 {
        f64::from(self.events) / self.published.as_secs_f64()
    }
}

impl Database {
    /// How many events a transaction may have, one after the other.
    fn batches(&self) -> &'static [usize] {
        match self {
            Self::Sqlite | Self::Postgres(_) => &[1, BATCH],
            Self::Mariadb(_) => &[1],
        }
    }

    /// Numbers of writers on a server, what is asked with them, and whether one key fails then.
    fn writers(&self) -> [(u32, Asked, bool); 3] {
        match self {
            Self::Mariadb(_) => WRITERS.map(|(writers, _)| (writers, Asked::default(), false)),
            Self::Sqlite | Self::Postgres(_) => {
                WRITERS.map(|(writers, ratio)| (writers, Asked::ratio(ratio), writers == FAILING_WRITERS))
            }
        }
    }

    async fn by_hand(&self, dir: &Path, run: Run) -> Result<f64> {
        let took = match self {
            Self::Sqlite => sqlite::by_hand(dir, run.events).await?,
            Self::Postgres(server) => postgres::by_hand(server, run).await?,
            Self::Mariadb(server) => mariadb::by_hand(server, run).await?,
        };
        Ok(f64::from(run.events) / took.as_secs_f64())
    }

    async fn through(&self, dir: &Path, run: Run) -> Result<Took> {
        match self {
            Self::Sqlite => sqlite::through(dir, run).await,
            Self::Postgres(server) => postgres::through(server, dir, run).await,
            Self::Mariadb(server) => mariadb::through(server, dir, run).await,
        }
    }
}

/// What is asked of a row, if anything is: the least ratio, and the least of the effects per second.
#[derive(Clone, Copy, Debug, Default)]
struct Asked {
    ratio: Option<f64>,
    rate: Option<f64>,
}

impl Asked {
    fn ratio(ratio: f64) -> Self {
        Self { ratio: Some(ratio), rate: None }
    }

    /// Of these samples.
    fn cells(self, counted: &[&Sample]) -> [Cell; 2] {
        let of = |figure: fn(&Sample) -> f64| median(counted.iter().map(|sample| figure(sample)).collect());
        let (mut asked, mut met) = (Vec::new(), Vec::new());
        if let Some(ratio) = self.ratio {
            asked.push(format!("≥ {ratio:.2}"));
            met.push(goal::at_least(of(|sample| sample.ratio), ratio));
        }
        if let Some(rate) = self.rate {
            asked.push(format!("≥ {rate:.0}/s"));
            met.push(goal::at_least(of(|sample| sample.rate), rate));
        }
        goal::cells(&asked.join(", "), &met)
    }
}

/// One row of the result.
struct Case {
    name: String,
    asked: Asked,
    samples: Vec<Sample>,
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    rate: f64,
    published: Option<f64>,
    against: f64,
    ratio: f64,
    probe_us: f64,
    /// The machine was busy before the round.
    is_void: bool,
}

/// Measures, on the disk that `target` is on. Gives back the text to print.
pub(crate) fn run(
    args: impl Iterator<Item = String>,
    target: &Path,
    mut facts: Vec<(&'static str, String)>,
) -> Result<String> {
    let Some(options) = parse(args)? else { return Ok(USAGE.to_owned()) };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let (servers, about) = runtime.block_on(servers(&options))?;
    facts.push(("databases", about.join("; ")));
    let mut report = Report::new(facts);
    for table in runtime.block_on(measure(&options, &servers, target))? {
        report.add(table);
    }
    Ok(if options.json { report.json() } else { report.markdown() })
}

/// The servers that are measured, with what each is called.
type Servers = Vec<(&'static str, Database)>;

/// Those that somebody has named, and the versions and settings of all databases that are measured.
async fn servers(options: &Options) -> Result<(Servers, Vec<String>)> {
    let (mut servers, mut about) = (Vec::new(), Vec::new());
    if options.wants("sqlite") {
        about.push(sqlite::about().await?);
    }
    if let Some(server) = options.postgres.as_ref().filter(|_| options.wants("postgres")) {
        about.push(postgres::check(server).await?);
        servers.push(("Postgres", Database::Postgres(server.clone())));
    } else if options.wants("postgres") {
        say(format_args!("SKIPPED: Postgres: neither --postgres nor {POSTGRES} names a server"));
    }
    if let Some(server) = options.mariadb.as_ref().filter(|_| options.wants("mariadb")) {
        about.push(mariadb::check(server).await?);
        servers.push(("MariaDB", Database::Mariadb(server.clone())));
    } else if options.wants("mariadb") {
        say(format_args!("SKIPPED: MariaDB: neither --mariadb nor {MARIADB} names a server"));
    }
    Ok((servers, about))
}

async fn measure(
    options: &Options,
    servers: &[(&'static str, Database)],
    target: &Path,
) -> Result<Vec<Table>> {
    let mut bench = Measured { events: options.events, target, cases: Vec::new() };
    for round in 1..=options.rounds {
        say(format_args!("bench: framework, round {round} of {}", options.rounds));
        if options.wants("sqlite") {
            // More than one event at a time only wait for the one writer: they are ready when it is.
            let alone = Asked::ratio(SQLITE);
            let asked = [alone, Asked { rate: Some(SQLITE_BATCHES), ..alone }];
            bench.group(round, &Database::Sqlite, "SQLite", 4, asked, true).await?;
        }
        for (title, database) in servers {
            for (writers, asked, fails) in database.writers() {
                let name = format!("{title}, {writers} writers");
                bench.group(round, database, &name, writers, [asked, asked], fails).await?;
            }
        }
    }
    Ok(vec![bench.medians(options), bench.rounds()])
}

/// What was measured so far.
struct Measured<'a> {
    events: u32,
    target: &'a Path,
    cases: Vec<Case>,
}

impl Measured<'_> {
    /// One round of what is compared with each other. In every second round the order is turned round.
    async fn group(
        &mut self,
        round: u32,
        database: &Database,
        name: &str,
        writers: u32,
        asked: [Asked; 2],
        fails: bool,
    ) -> Result<()> {
        let dir = tempfile::Builder::new().prefix("bench-framework-").tempdir_in(self.target)?;
        let probe = Probe::take_when_idle(dir.path())?;
        let (probe_us, is_void) = (probe.p50.as_secs_f64() * 1e6, probe.is_busy());
        let events = self.events;
        let run = |batch: usize| Run { writers, batch, events, fails: false };
        let runs: Vec<Run> = database.batches().iter().copied().map(run).collect();
        let hand_first = round % 2 == 1;
        let mut hand = None;
        if hand_first {
            hand = Some(database.by_hand(dir.path(), run(1)).await?);
        }
        let mut healthy = Vec::new();
        for run in &runs {
            healthy.push(database.through(dir.path(), *run).await?);
        }
        let hand = match hand {
            Some(hand) => hand,
            None => database.by_hand(dir.path(), run(1)).await?,
        };
        for ((run, took), asked) in runs.iter().zip(&healthy).zip(asked) {
            let (rate, published) = (took.rate(), Some(took.published_rate()));
            let sample = Sample { rate, published, against: hand, ratio: rate / hand, probe_us, is_void };
            self.add(case_name(name, *run, "by hand"), asked, sample);
        }
        if !fails {
            return Ok(());
        }
        for (run, before) in runs.iter().zip(&healthy) {
            let failing = Run { fails: true, ..*run };
            let took = database.through(dir.path(), failing).await?;
            let after = database.through(dir.path(), *run).await?;
            // The same events all three times: those of the other keys.
            let ratio = ratio_between(before.handled, took.handled, after.handled);
            let (rate, against) = (took.rate(), took.rate() / ratio);
            let sample = Sample { rate, published: None, against, ratio, probe_us, is_void };
            self.add(case_name(name, failing, "none failing"), Asked::ratio(HEALTHY), sample);
        }
        Ok(())
    }

    fn add(&mut self, name: String, asked: Asked, sample: Sample) {
        match self.cases.iter_mut().find(|case| case.name == name) {
            Some(case) => case.samples.push(sample),
            None => self.cases.push(Case { name, asked, samples: vec![sample] }),
        }
    }

    fn medians(&self, options: &Options) -> Table {
        let row = |case: &Case| {
            let counted: Vec<&Sample> = case.samples.iter().filter(|sample| !sample.is_void).collect();
            let of =
                |figure: fn(&Sample) -> f64| median(counted.iter().map(|sample| figure(sample)).collect());
            let figure = |cell: Cell| if counted.is_empty() { Cell::Void } else { cell };
            let probes = case.samples.iter().map(|sample| sample.probe_us).collect();
            let [asked, reached] = case.asked.cells(&counted);
            let published: Vec<f64> = counted.iter().filter_map(|sample| sample.published).collect();
            let published =
                if published.is_empty() { Cell::Missing } else { Cell::rounded(median(published)) };
            vec![
                Cell::text(case.name.clone()),
                figure(Cell::rounded(of(|sample| sample.rate))),
                published,
                figure(Cell::rounded(of(|sample| sample.against))),
                figure(Cell::Number(of(|sample| sample.ratio), 2)),
                asked,
                reached,
                Cell::Count(counted.len() as u64),
                Cell::rounded(median(probes)),
            ]
        };
        Table {
            key: "framework",
            title: format!(
                "Effects through the framework, {} events, medians of {} rounds",
                options.events, options.rounds
            ),
            note: MEDIANS_NOTE,
            columns: vec![
                Column::text("what, against what", "case"),
                Column::number("effects/s", "effects_per_s"),
                Column::number("until published", "published_per_s"),
                Column::number("against", "against_per_s"),
                Column::number("ratio", "ratio"),
                goal::COLUMNS[0],
                goal::COLUMNS[1],
                Column::number("rounds", "rounds"),
                Column::number("probe p50 µs", "probe_p50_us"),
            ],
            rows: self.cases.iter().map(row).collect(),
        }
    }

    fn rounds(&self) -> Table {
        let rows = self.cases.iter().flat_map(|case| {
            case.samples.iter().zip(1_u64..).map(|(sample, round)| {
                vec![
                    Cell::text(case.name.clone()),
                    Cell::Count(round),
                    Cell::rounded(sample.rate),
                    Cell::rounded(sample.against),
                    Cell::Number(sample.ratio, 2),
                    Cell::rounded(sample.probe_us),
                ]
            })
        });
        Table {
            key: "framework_rounds",
            title: "The rounds".to_owned(),
            note: "The probe is a write of 4 KiB and its sync, on the disk of this program, before the round; above \
                   250 µs, or on a busy machine, the round does not count.",
            columns: vec![
                Column::text("what, against what", "case"),
                Column::number("round", "round"),
                Column::number("effects/s", "effects_per_s"),
                Column::number("against", "against_per_s"),
                Column::number("ratio", "ratio"),
                Column::number("probe p50 µs", "probe_p50_us"),
            ],
            rows: rows.collect(),
        }
    }
}

fn case_name(name: &str, run: Run, against: &str) -> String {
    let how = if run.batch > 1 { "in batches" } else { "one by one" };
    let failing = if run.fails { ", one key failing" } else { "" };
    format!("{name}, {how}{failing}; {against}")
}

/// How much faster it was between two runs of another kind, of which each is half of what it is held against: a
/// machine that becomes slower while it measures is no finding.
fn ratio_between(before: Duration, took: Duration, after: Duration) -> f64 {
    (before + after).as_secs_f64() / 2.0 / took.as_secs_f64()
}

/// The value in the middle, and no number of nothing.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(line: &str) -> Result<Option<Options>> {
        parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn rounds_are_at_least_five() {
        assert!(options("--rounds 4").is_err());
        let line = "--rounds 7 --events 30000 --json --only sqlite,mariadb --postgres postgres://there/x \
                    --mariadb mysql://here/y";
        let some = options(line).expect("parses").expect("no help");
        let only = vec!["sqlite".to_owned(), "mariadb".to_owned()];
        let (postgres, mariadb) = (Some("postgres://there/x".to_owned()), Some("mysql://here/y".to_owned()));
        assert!(some.wants("mariadb") && !some.wants("postgres"));
        assert_eq!(some, Options { rounds: 7, events: 30_000, only, postgres, mariadb, json: true });
        let quick = options("--events 30000 --quick").expect("parses").expect("no help");
        assert_eq!((quick.rounds, quick.events), (1, 3_000));
        assert_eq!(quick.only, DATABASES);
        assert_eq!(options("--help").expect("parses"), None);
        assert!(options("--only oracle").is_err());
        assert!(options("--rows batch").is_err());
    }

    #[test]
    fn the_median_is_a_value_that_occurred() {
        assert_eq!(median(vec![3.0, 1.0, 2.0, 5.0, 4.0]).to_bits(), 3.0_f64.to_bits());
        assert!(median(Vec::new()).is_nan());
    }

    /// A machine that becomes slower at a steady pace says nothing of what was measured in the middle.
    #[test]
    fn what_is_between_two_runs_is_held_against_both() {
        let seconds = Duration::from_secs;
        assert!((ratio_between(seconds(8), seconds(10), seconds(12)) - 1.0).abs() < 1e-9);
        assert!((ratio_between(seconds(8), seconds(10), seconds(8)) - 0.8).abs() < 1e-9);
    }

    #[test]
    fn a_row_is_found_again_in_the_next_round() {
        let mut measured = Measured { events: 1, target: Path::new("."), cases: Vec::new() };
        let sample =
            Sample { rate: 1.0, published: None, against: 2.0, ratio: 0.5, probe_us: 1.0, is_void: false };
        let run = Run { writers: 1, batch: BATCH, events: 1, fails: true };
        for _ in 0..2 {
            measured.add(case_name("SQLite", run, "none failing"), Asked::ratio(HEALTHY), sample);
        }
        assert_eq!(measured.cases.len(), 1);
        assert_eq!(measured.cases[0].name, "SQLite, in batches, one key failing; none failing");
        assert_eq!(measured.rounds().rows.len(), 2);
        let options = options("").expect("parses").expect("no help");
        let row = |measured: &Measured<'_>| measured.medians(&options).rows[0].clone();
        let good = row(&measured);
        assert_eq!(
            good[4..8],
            [Cell::Number(0.5, 2), Cell::text("≥ 0.95"), Cell::text("no"), Cell::Count(2)]
        );
        // Of a busy machine nothing counts.
        for sample in &mut measured.cases[0].samples {
            sample.is_void = true;
        }
        let void = row(&measured);
        assert_eq!(void[4..8], [Cell::Void, Cell::text("≥ 0.95"), Cell::text("void"), Cell::Count(0)]);
    }
}
