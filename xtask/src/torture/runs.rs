//! What long runs have come to: one line each, kept beside the build.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

const RUNS: &str = "target/torture/runs.tsv";

/// One run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) kind: String,
    /// Crash points, places that went bad, kills or power cuts.
    pub(super) rounds: u64,
    pub(super) detail: String,
    pub(super) seeds: String,
    pub(super) failures: u64,
    pub(super) seconds: u64,
    pub(super) commit: String,
    pub(super) kernel: String,
    pub(super) filesystem: String,
}

/// The counts of all simulation runs so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Simulated {
    pub(super) next_seed: u64,
    pub(super) scripts: u64,
    pub(super) points: u64,
    pub(super) nested: u64,
    pub(super) failures: u64,
}

/// The counts of all runs of damage so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Spoilt {
    /// Of the data directory that is being worked at, and its first byte that is still to go bad.
    pub(super) seed: u64,
    pub(super) next: u64,
    pub(super) directories: u64,
    pub(super) cases: u64,
    pub(super) refused: u64,
    pub(super) unharmed: u64,
    pub(super) named: u64,
    pub(super) failures: u64,
}

/// The counts that the simulation keeps; zeros before its first run.
pub(super) fn simulated(state: &Path) -> Result<Simulated> {
    let [next_seed, scripts, points, nested, failures] = numbers::<5>(state)?;
    Ok(Simulated { next_seed, scripts, points, nested, failures })
}

/// As [`simulated`], of damage.
pub(super) fn spoilt(state: &Path) -> Result<Spoilt> {
    let [seed, next, directories, cases, refused, unharmed, named, failures] = numbers::<8>(state)?;
    Ok(Spoilt { seed, next, directories, cases, refused, unharmed, named, failures })
}

fn numbers<const N: usize>(state: &Path) -> Result<[u64; N]> {
    let Ok(text) = fs::read_to_string(state) else {
        return Ok([0; N]);
    };
    let numbers: Vec<u64> = text.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    <[u64; N]>::try_from(numbers).ok().with_context(|| format!("{} has not {N} numbers", state.display()))
}

impl Run {
    /// A run that begins now: of this commit, on this kernel.
    pub(super) fn here(root: &Path) -> Result<Self> {
        let said = |program: &str, args: &[&str]| {
            let output = Command::new(program).args(args).current_dir(root).output();
            let output = output.with_context(|| format!("{program} does not start"))?;
            anyhow::Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
        };
        Ok(Self {
            commit: said("git", &["rev-parse", "--short=7", "HEAD"])?,
            kernel: said("uname", &["-sr"])?,
            ..Self::default()
        })
    }

    /// Adds the run to those before it.
    pub(super) fn record(&self, root: &Path) -> Result<()> {
        let path = root.join(RUNS);
        let mut file = fs::OpenOptions::new().create(true).append(true).open(&path).context(RUNS)?;
        writeln!(file, "{}", self.line()).context(RUNS)
    }

    fn line(&self) -> String {
        let Self { kind, rounds, detail, seeds, failures, seconds, commit, kernel, filesystem } = self;
        format!(
            "{kind}\t{rounds}\t{detail}\t{seeds}\t{failures}\t{seconds}\t{commit}\t{kernel}\t{filesystem}"
        )
    }

    fn parse(line: &str) -> Option<Self> {
        let fields: Vec<&str> = line.split('\t').collect();
        let [kind, rounds, detail, seeds, failures, seconds, commit, kernel, filesystem] = fields[..] else {
            return None;
        };
        Some(Self {
            kind: kind.to_owned(),
            rounds: rounds.parse().ok()?,
            detail: detail.to_owned(),
            seeds: seeds.to_owned(),
            failures: failures.parse().ok()?,
            seconds: seconds.parse().ok()?,
            commit: commit.to_owned(),
            kernel: kernel.to_owned(),
            filesystem: filesystem.to_owned(),
        })
    }
}

/// Every run that was recorded, in order.
pub(super) fn recorded(root: &Path) -> Result<Vec<Run>> {
    let text = fs::read_to_string(root.join(RUNS)).context("no run was recorded yet; start one")?;
    let parse = |line| Run::parse(line).with_context(|| format!("{RUNS} has a strange line: {line}"));
    text.lines().map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn before_the_first_run_everything_is_zero() {
        let state = Path::new("no such state");
        assert_eq!(simulated(state).expect("zeros"), Simulated::default());
        assert_eq!(spoilt(state).expect("zeros"), Spoilt::default());
    }

    #[test]
    fn a_line_comes_back_as_the_run_that_it_was() {
        let run = Run {
            kind: "kills".to_owned(),
            rounds: 30,
            detail: "12000 events".to_owned(),
            seeds: "1".to_owned(),
            failures: 0,
            seconds: 9,
            commit: "abc".to_owned(),
            kernel: "Linux 6".to_owned(),
            filesystem: "ext4".to_owned(),
        };
        assert_eq!(Run::parse(&run.line()), Some(run));
        assert_eq!(Run::parse("kills\t30"), None);
    }
}
