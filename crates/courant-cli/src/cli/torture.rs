//! The command that tries a disk and its file system out: `torture`.

use clap::Args;
use std::path::PathBuf;
use std::time::Duration;

/// The longest run: a week.
const MINUTES_MAX: f64 = 10_080.0;

/// Try out whether this machine keeps what the log acknowledges
///
/// Lets a process of its own append events, kills it again and again, and compares what is there after
/// each start with what was acknowledged. Everything happens in DIR/courant-torture, which is removed
/// at the end. Ends with 1 when something was lost, changed, invented or misplaced, names the event, and
/// keeps the data.
///
/// SIGKILL tests the process, not the disk. For the disk itself, pull the plug: --until-power-cut
/// appends until then, and its output has to be kept on another machine; --after-power-cut compares.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  courant torture --dir /var/lib --minutes 10 --report torture.md\n  \
                  ssh HOST courant torture --dir /data --until-power-cut > acks.txt\n  \
                  courant torture --dir /data --after-power-cut acks.txt")]
pub(crate) struct Torture {
    /// A directory on the disk to be tried; everything happens in DIR/courant-torture
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// How long to kill, in minutes, such as 0.5; it takes at least three kills
    #[arg(long, default_value = "5", value_parser = parse_minutes, value_name = "N")]
    pub(crate) minutes: Duration,
    /// Draws the loads and the times of the kills as another run did [default: another one each time]
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// Where to write the report: JSON when the name ends in .json, else Markdown [default: stdout]
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    /// How many threads append
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=64), value_name = "N")]
    pub(crate) threads: u64,
    /// Remove what an earlier run has left in DIR/courant-torture, and begin anew
    #[arg(long, conflicts_with = "after_power_cut")]
    pub(crate) again: bool,
    /// Append and write each acknowledgement to stdout until the plug is pulled
    #[arg(long, conflicts_with_all = ["after_power_cut", "report"])]
    pub(crate) until_power_cut: bool,
    /// Compare what is there with the acknowledgements that --until-power-cut has written
    #[arg(long, value_name = "FILE")]
    pub(crate) after_power_cut: Option<PathBuf>,
    /// Be the process that appends and is killed; DIR is its data directory
    #[arg(long, hide = true, conflicts_with_all = ["until_power_cut", "after_power_cut"])]
    pub(crate) worker: bool,
    /// Of the worker: which data directory of the run this is
    #[arg(long, hide = true, requires = "worker", default_value_t = 1)]
    pub(crate) lap: u64,
    /// Of the worker: read everything and end
    #[arg(long, hide = true, requires = "worker")]
    pub(crate) reads_only: bool,
}

/// Minutes as people type them, fractions included.
fn parse_minutes(text: &str) -> Result<Duration, String> {
    let bad = || format!("`{text}` is not a number of minutes above 0 and up to {MINUTES_MAX}");
    let minutes: f64 = text.parse().map_err(|_| bad())?;
    // Not a number is in no range.
    let is_legal = minutes > 0.0 && minutes <= MINUTES_MAX;
    if is_legal { Ok(Duration::from_secs_f64(minutes * 60.0)) } else { Err(bad()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minutes_may_have_fractions_and_have_bounds() {
        assert_eq!(parse_minutes("0.1"), Ok(Duration::from_secs(6)));
        assert_eq!(parse_minutes("10080"), Ok(Duration::from_secs(604_800)));
        for bad in ["", "0", "-1", "NaN", "inf", "10081", "1m"] {
            assert!(parse_minutes(bad).is_err(), "{bad}");
        }
    }
}
