//! `courant log repair`: damaged events are given up where no copy of them is left.

use super::log::{counted, list_damage, refused, storage};
use crate::cli::{Global, LogRepair};
use crate::exit::{Exit, Failure, note};
use crate::settings::Settings;
use courant_log::{Damage, DamagedEvents, Log, LogConfig, OpenError, SystemClock, SystemEntropy};
use std::path::Path;
use std::sync::{Arc, mpsc};

pub(super) fn run(global: &Global, args: LogRepair) -> Result<Exit, Failure> {
    let settings = Settings::read(global, &args.data.into())?;
    let data = settings.server_config().data;
    let log = open(&data)?;
    let failed =
        |error: &dyn std::fmt::Display| Failure::new(Exit::Failed, format!("{}: {error}", data.display()));
    log.scrub().map_err(|error| failed(&error))?;
    let damage = log.damage();
    let places = damage.len() as u64;
    list_damage(global, damage.clone(), Vec::new())?;
    if places == 0 {
        if !global.quiet {
            note(format_args!(
                "There is nothing to give up: all events can be read, or were given up before, which \
                 `courant log verify` names."
            ));
        }
        return Ok(Exit::Ok);
    }
    if !args.accept_gap {
        let sentence = format!(
            "the events of {} are damaged; none was given up. Put back a copy of the file if there is one; \
             else --accept-gap lets consumers go on behind them, for good",
            counted(places, "place")
        );
        return Err(failed(&sentence));
    }
    for events in damage.iter().filter_map(|damage: &Damage| damage.events.as_ref()) {
        accept(&log, events).map_err(|error| failed(&error))?;
    }
    log.stop();
    if !global.quiet {
        note(format_args!(
            "Gave up the events of {}: consumers go on behind them.",
            counted(places, "place")
        ));
    }
    Ok(Exit::Ok)
}

/// The log, without threads of its own: nobody else uses it.
fn open(data: &Path) -> Result<Log, Failure> {
    let storage = storage(data)?;
    // Opening would make a log where there is none.
    if !data.join("FORMAT").is_file() {
        let what = "there is no FORMAT".to_owned();
        return Err(refused(data, &OpenError::NotALog { what }));
    }
    let mut config = LogConfig::new(Arc::new(SystemClock), Arc::new(SystemEntropy));
    config.background = false;
    let (log, _) = Log::open(storage, config).map_err(|error| refused(data, &error))?;
    Ok(log)
}

fn accept(log: &Log, events: &DamagedEvents) -> Result<(), String> {
    let DamagedEvents { topic, partition, offsets } = events;
    let catalog = log.catalog();
    let id = catalog.by_name(topic).and_then(|topic| topic.partitions.get(*partition as usize));
    let id = id.ok_or_else(|| format!("{topic}/{partition} does not exist any more"))?;
    let (answer, answered) = mpsc::channel();
    log.accept_gap(*id, offsets.clone(), move |accepted| {
        // Who has gone away needs no answer.
        let _ = answer.send(accepted);
    });
    while log.commit() {}
    let accepted = answered.recv().map_err(|_| "the log gave no answer".to_owned())?;
    accepted.map_err(|error| format!("{topic}/{partition}, offsets {offsets:?}: {error}"))
}
