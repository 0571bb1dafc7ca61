//! What an open console costs the server: its CPU time at a steady load, without a console and with one in a
//! browser, on the screens that ask the most.
//!
//! What is compared is measured in turns on one server, so that what happens to the machine happens to all.
//! What counts is the median of the differences within a round.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::client::{self, Writer};
use crate::framework::median;
use crate::goal;
use crate::probe::Probe;
use crate::say;
use crate::server::Server;
use crate::table::{Cell, Column, Report, Table};

const USAGE: &str = "\
cargo xtask bench console [OPTIONS]

  --rounds N     rounds, each once without a console and once with each screen [5]
  --seconds N    how long one measurement takes, up to 100 [20]
  --quick        a tenth of the time, to see that it works
  --json         JSON instead of Markdown tables

Takes what `cargo xtask build --release` makes, Node.js and Chromium, which CHROMIUM names where it is not
/usr/bin/chromium.
";

/// Fewer rounds have no median to speak of.
const ROUNDS_MIN: u32 = 5;
/// Above this the browser's script is over its own time.
const SECONDS_MAX: u32 = 100;
const QUICK: u32 = 10;

const EVENT_BYTES: usize = 100;
const EVENTS_PER_SECOND: u64 = 10_000;
/// Before a measurement: connections, the screen's first questions.
const WARM_UP: Duration = Duration::from_secs(1);
/// The group that one of the screens shows.
const GROUP: &str = "reader";
/// More than this part of a core is not wanted, in per cent.
const ASKED: &str = "< 5 %";

/// A screen, and the text by which it is known.
struct Screen {
    name: &'static str,
    path: &'static str,
    text: &'static str,
}

/// `None`: no console is open.
static CASES: [Option<Screen>; 4] = [
    None,
    Some(Screen { name: "the overview", path: "/", text: "Ready" }),
    Some(Screen { name: "the live tail of the topic", path: "/topics/bench/live", text: "Live" }),
    Some(Screen { name: "a group of the topic", path: "/groups/reader", text: "Lag in events" }),
];

const NOTE: &str = "\
One producer (linger 5 ms, acks=all, no compression) sends 10,000 events a second of 100 B to one partition; \
the server's CPU time is from /proc/PID/stat, in per cent of one core. The console is open in headless \
Chromium, which is not counted; the group has committed the beginning and reads nothing. More than without: \
the median of the differences within a round.";

/// How much is measured.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Options {
    rounds: u32,
    time: Duration,
    json: bool,
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Option<Options>> {
    let (mut rounds, mut seconds, mut quick, mut json) = (ROUNDS_MIN, 20, false, false);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--rounds" => rounds = number(&arg, args.next(), ROUNDS_MIN, u32::MAX)?,
            "--seconds" => seconds = number(&arg, args.next(), 1, SECONDS_MAX)?,
            "--quick" => quick = true,
            "--json" => json = true,
            "-h" | "--help" => return Ok(None),
            other => bail!("there is no option `{other}`\n\n{USAGE}"),
        }
    }
    let time = Duration::from_secs(seconds.into()) / if quick { QUICK } else { 1 };
    Ok(Some(Options { rounds, time, json }))
}

fn number(option: &str, given: Option<String>, least: u32, most: u32) -> Result<u32> {
    let given = given.with_context(|| format!("{option} needs a value"))?;
    match given.parse() {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        _ => bail!("{option} takes a whole number from {least} to {most}, not `{given}`"),
    }
}

/// Measures the binary, on the disk that `target` is on. Gives back the text to print.
pub(crate) fn run(
    args: impl Iterator<Item = String>,
    courant: &Path,
    target: &Path,
    facts: Vec<(&'static str, String)>,
) -> Result<String> {
    let Some(options) = parse(args)? else { return Ok(USAGE.to_owned()) };
    let script = script()?;
    let scratch = tempfile::Builder::new().prefix("bench-console-").tempdir_in(target)?;
    File::open(scratch.path())?.sync_all()?;
    let server = Server::start(courant, &scratch.path().join("data"))?;
    let samples = server.blame(measure(&server, &script, scratch.path(), &options))?;
    let mut report = Report::new(facts);
    report.add(medians(&samples, &options));
    report.add(rounds(&samples));
    Ok(if options.json { report.json() } else { report.markdown() })
}

/// The script that opens a console in a browser.
fn script() -> Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let made =
        [root.join("crates/courant-console/assets/dist/index.html"), root.join("console/node_modules")];
    if let Some(missing) = made.iter().find(|path| !path.exists()) {
        bail!(
            "{} is not there: run `cargo xtask build --release`, which makes the console",
            missing.display()
        );
    }
    Ok(root.join("console/e2e/watch.mjs"))
}

/// What one measurement has come to.
#[derive(Clone, Copy, Debug)]
struct Sample {
    round: u32,
    /// Which of [`CASES`].
    case: usize,
    /// Of one core, in per cent.
    cpu: f64,
    events_per_s: f64,
    syncs_per_s: f64,
    probe_us: f64,
    /// The machine was busy before the round.
    is_void: bool,
}

fn measure(server: &Server, script: &Path, scratch: &Path, options: &Options) -> Result<Vec<Sample>> {
    let bootstrap = server.bootstrap();
    let mut writer = Writer::new(&bootstrap, EVENT_BYTES, false)?;
    writer.send(1)?;
    client::commit_beginning(&bootstrap, GROUP)?;
    let mut samples = Vec::new();
    for round in 1..=options.rounds {
        say(format_args!("bench: console, round {round} of {}", options.rounds));
        let probe = Probe::take_when_idle(scratch)?;
        let (probe_us, is_void) = (probe.p50.as_secs_f64() * 1e6, probe.is_busy());
        let mut cases: Vec<_> = CASES.iter().enumerate().collect();
        // In every second round the order is turned round.
        if round % 2 == 0 {
            cases.reverse();
        }
        for (case, screen) in cases {
            let screen = screen.as_ref();
            let watcher = screen.map(|screen| Watcher::open(script, server.http(), screen)).transpose()?;
            writer.send_paced(events(WARM_UP), EVENTS_PER_SECOND)?;
            let (cpu, syncs, begun) = (server.cpu_seconds()?, server.counters()?.syncs, Instant::now());
            let sent = events(options.time);
            let ended = writer.send_paced(sent, EVENTS_PER_SECOND)?;
            let (cpu, syncs) = (server.cpu_seconds()? - cpu, server.counters()?.syncs.saturating_sub(syncs));
            ensure!(syncs > 0, "the server did not sync, and its figures mean nothing");
            watcher.map(Watcher::close).transpose()?;
            let seconds = ended.duration_since(begun).as_secs_f64();
            let (events_per_s, syncs_per_s) = (sent as f64 / seconds, syncs as f64 / seconds);
            samples.push(Sample {
                round,
                case,
                cpu: 100.0 * cpu / seconds,
                events_per_s,
                syncs_per_s,
                probe_us,
                is_void,
            });
        }
    }
    Ok(samples)
}

/// Events of that time.
fn events(time: Duration) -> u64 {
    (time.as_secs_f64() * EVENTS_PER_SECOND as f64).round() as u64
}

/// A console in a browser. It is killed when dropped.
struct Watcher {
    node: Child,
    /// Its end is the end of the browser.
    stdin: Option<ChildStdin>,
}

impl Watcher {
    /// Opens a screen and waits until it shows the server.
    fn open(script: &Path, http: SocketAddr, screen: &Screen) -> Result<Watcher> {
        let mut node = Command::new("node")
            .arg(script)
            .arg(http.to_string())
            .args([screen.path, screen.text])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("node does not start; install Node.js 20.19 or newer")?;
        let (stdin, stdout) = (node.stdin.take(), node.stdout.take());
        let mut watcher = Watcher { node, stdin };
        let mut line = String::new();
        BufReader::new(stdout.context("stdout is no pipe")?)
            .read_line(&mut line)
            .context("the browser's script cannot be read")?;
        if line.trim() != "watching" {
            let ended = watcher.node.wait().context("the browser's script cannot be waited for")?;
            bail!("{} does not open in the browser: {ended}", screen.name);
        }
        Ok(watcher)
    }

    /// Closes it; fails when the screen did not show the server any more.
    fn close(mut self) -> Result<()> {
        drop(self.stdin.take());
        let ended = self.node.wait().context("the browser's script cannot be waited for")?;
        ensure!(ended.success(), "the console did not last as long as the measurement: {ended}");
        Ok(())
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.node.kill();
        let _ = self.node.wait();
    }
}

fn name(case: usize) -> &'static str {
    CASES.get(case).and_then(Option::as_ref).map_or("no console", |screen| screen.name)
}

/// By how much a measurement was above the one without a console in its round; of a busy machine nothing.
fn more(samples: &[Sample], sample: &Sample) -> Option<f64> {
    if sample.is_void {
        return None;
    }
    let without = samples.iter().find(|other| other.round == sample.round && other.case == 0)?;
    (sample.case != 0).then_some(sample.cpu - without.cpu)
}

fn medians(samples: &[Sample], options: &Options) -> Table {
    let row = |case: usize| {
        let counts = |sample: &&Sample| sample.case == case && !sample.is_void;
        let of_case: Vec<&Sample> = samples.iter().filter(counts).collect();
        let of = |figure: fn(&Sample) -> f64| median(of_case.iter().map(|sample| figure(sample)).collect());
        let differences: Vec<f64> = of_case.iter().filter_map(|sample| more(samples, sample)).collect();
        let is_without = differences.is_empty();
        let more = median(differences.clone());
        let [asked, reached] = goal::cells(if case == 0 { "" } else { ASKED }, &[goal::below(more, 5.0)]);
        vec![
            Cell::text(name(case)),
            Cell::Number(of(|sample| sample.cpu), 2),
            if is_without { Cell::Missing } else { Cell::Number(more, 2) },
            asked,
            reached,
            Cell::rounded(of(|sample| sample.events_per_s)),
            Cell::rounded(of(|sample| sample.syncs_per_s)),
            Cell::rounded(of(|sample| sample.probe_us)),
        ]
    };
    Table {
        key: "console",
        title: format!(
            "An open console, {} s each, medians of {} rounds",
            options.time.as_secs_f64(),
            options.rounds
        ),
        note: NOTE,
        columns: vec![
            Column::text("open in a browser", "case"),
            Column::number("server CPU %", "server_cpu_percent"),
            Column::number("more than without", "more_percent"),
            goal::COLUMNS[0],
            goal::COLUMNS[1],
            Column::number("events/s", "events_per_s"),
            Column::number("syncs/s", "syncs_per_s"),
            Column::number("probe p50 µs", "probe_p50_us"),
        ],
        rows: (0..CASES.len()).map(row).collect(),
    }
}

fn rounds(samples: &[Sample]) -> Table {
    let row = |sample: &Sample| {
        vec![
            Cell::text(name(sample.case)),
            Cell::Count(sample.round.into()),
            Cell::Number(sample.cpu, 2),
            more(samples, sample).map_or(Cell::Missing, |more| Cell::Number(more, 2)),
            Cell::rounded(sample.events_per_s),
            Cell::rounded(sample.probe_us),
        ]
    };
    Table {
        key: "console_rounds",
        title: "The rounds".to_owned(),
        note: "The probe is a write of 4 KiB and its sync, on the disk of this program, before the round.",
        columns: vec![
            Column::text("open in a browser", "case"),
            Column::number("round", "round"),
            Column::number("server CPU %", "server_cpu_percent"),
            Column::number("more than without", "more_percent"),
            Column::number("events/s", "events_per_s"),
            Column::number("probe p50 µs", "probe_p50_us"),
        ],
        rows: samples.iter().map(row).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(line: &str) -> Result<Option<Options>> {
        parse(line.split_whitespace().map(str::to_owned))
    }

    fn sample(round: u32, case: usize, cpu: f64) -> Sample {
        Sample {
            round,
            case,
            cpu,
            events_per_s: 10_000.0,
            syncs_per_s: 200.0,
            probe_us: 100.0,
            is_void: false,
        }
    }

    #[test]
    fn a_measurement_is_shorter_than_the_patience_of_the_browser() {
        let quick = options("--rounds 7 --seconds 30 --quick --json").expect("parses");
        assert_eq!(quick, Some(Options { rounds: 7, time: Duration::from_secs(3), json: true }));
        assert_eq!(events(Duration::from_secs(3)), 30_000);
        assert_eq!(options("--help").expect("parses"), None);
        for line in ["--rounds 4", "--seconds 0", "--seconds 101", "--seconds", "--rows batch"] {
            assert!(options(line).is_err(), "{line}");
        }
    }

    /// The machine was slower in the second round: what counts is the difference within each.
    #[test]
    fn a_console_is_compared_with_its_own_round() {
        let samples = [sample(1, 0, 5.0), sample(1, 1, 6.0), sample(2, 1, 12.0), sample(2, 0, 11.0)];
        assert_eq!(samples.map(|one| more(&samples, &one)), [None, Some(1.0), Some(1.0), None]);
        let options = options("").expect("parses").expect("no help");
        let table = medians(&samples, &options);
        assert_eq!(table.rows[0][..3], [Cell::text("no console"), Cell::Number(11.0, 2), Cell::Missing]);
        assert_eq!(table.rows[1][2], Cell::Number(1.0, 2));
        assert_eq!(table.rows[1][3..5], ["< 5 %", "yes"].map(Cell::text));
        assert_eq!(rounds(&samples).rows.len(), 4);
        assert!(table.rows.iter().all(|row| row.len() == table.columns.len()));
    }
}
