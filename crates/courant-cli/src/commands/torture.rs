//! `courant torture`: whether a machine keeps what the log acknowledges, tried by killing and by power
//! cuts.

mod append;
mod dice;
mod directory;
mod kills;
mod known;
mod line;
mod plan;
mod probe;
mod pulled_plug;
mod reading;
mod record;
mod report;
mod slot;
mod start;
mod worker;

use self::directory::{Directory, State};
use self::report::{KILLS_SHOW, Report};
use crate::cli::{Global, Torture};
use crate::exit::{Exit, Failure, note};
use crate::time::now_ms;

pub(super) fn run(global: &Global, args: &Torture) -> Result<Exit, Failure> {
    if args.worker {
        return worker::run(args);
    }
    if let Some(ledger) = &args.after_power_cut {
        return pulled_plug::after(global, args, ledger);
    }
    let seed = args.seed.unwrap_or_else(|| u64::try_from(now_ms()).unwrap_or_default());
    if args.until_power_cut {
        return pulled_plug::until(global, args, seed);
    }
    kill(global, args, seed)
}

/// Tries the storage by killing, reports, and removes the data if nothing was found.
fn kill(global: &Global, args: &Torture, seed: u64) -> Result<Exit, Failure> {
    let mut directory = Directory::make(&args.dir, args.again, State::Kills)?;
    let storage = probe::look(&directory)?;
    if !global.quiet {
        let minutes = args.minutes.as_secs_f64() / 60.0;
        let (file_system, judgement) = (&storage.file_system, &storage.judgement);
        note(format_args!("{file_system}: {judgement}.\nKilling for {minutes:.1} minutes, seed {seed}."));
    }
    let tally = kills::run(global, args, &directory, seed)?;
    directory.set(State::Finished)?;
    let is_clean = tally.findings.is_empty();
    let kept = (!is_clean).then(|| directory.path().display().to_string());
    let report = Report {
        courant: env!("CARGO_PKG_VERSION"),
        run: "kills",
        seed: Some(seed),
        tally: &tally,
        storage: &storage,
        shows: KILLS_SHOW,
        kept,
    };
    let ended = report.hand_over(global, args);
    if is_clean {
        directory.remove()?;
    }
    ended
}
