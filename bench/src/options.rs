//! What a run measures.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};

pub(crate) const USAGE: &str = "\
cargo xtask bench [OPTIONS]

  --rows LIST        of floor,client,batch,compression,tls,relaxed,single,passing,partitions,connections,
                     read,embedded,memory,start,recover [default: all]
  --events N         events of a row with 100 bytes each; rows with 1 KiB have a quarter [2000000]
  --recover-mib N    size of the log that is recovered, and of the one that is read again [1024]
  --quick            a tenth of everything, to see that it works
  --json             JSON instead of Markdown tables

cargo xtask bench peers | framework | console | page, each with --help: more figures, and the page of all.
";

/// What `--quick` leaves of everything.
const QUICK: u64 = 10;

/// Fewer events than this say nothing, and `--quick` leaves a tenth.
const EVENTS_MIN: u64 = 100_000;

/// One kind of row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Floor,
    Client,
    Batch,
    Compression,
    Tls,
    Relaxed,
    Single,
    Passing,
    Partitions,
    Connections,
    Read,
    Embedded,
    Memory,
    Start,
    Recover,
}

impl Part {
    /// In the order in which they are measured.
    pub(crate) const ALL: [Part; 15] = [
        Part::Floor,
        Part::Client,
        Part::Batch,
        Part::Compression,
        Part::Tls,
        Part::Relaxed,
        Part::Single,
        Part::Passing,
        Part::Partitions,
        Part::Connections,
        Part::Read,
        Part::Embedded,
        Part::Memory,
        Part::Start,
        Part::Recover,
    ];

    /// As it is written on the command line and in JSON.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Part::Floor => "floor",
            Part::Client => "client",
            Part::Compression => "compression",
            Part::Tls => "tls",
            Part::Connections => "connections",
            Part::Batch => "batch",
            Part::Relaxed => "relaxed",
            Part::Single => "single",
            Part::Passing => "passing",
            Part::Partitions => "partitions",
            Part::Read => "read",
            Part::Embedded => "embedded",
            Part::Memory => "memory",
            Part::Start => "start",
            Part::Recover => "recover",
        }
    }
}

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Help,
    Run(Options),
}

/// How much of what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) parts: Vec<Part>,
    /// Events of a row with 100 bytes each.
    pub(crate) events: u64,
    /// Events of a row with 1 KiB each.
    pub(crate) large_events: u64,
    /// Events before the memory of the server is looked at.
    pub(crate) memory_events: u64,
    /// Connections that are open at the same time.
    pub(crate) connections: usize,
    /// How long single acknowledgements are waited for, one after the other.
    pub(crate) single_time: Duration,
    pub(crate) recover_mib: u64,
    pub(crate) json: bool,
}

/// Reads the command line.
pub(crate) fn parse(mut args: impl Iterator<Item = String>) -> Result<Asked> {
    let (mut quick, mut json) = (false, false);
    let (mut events, mut recover_mib) = (2_000_000, 1_024);
    let mut parts = Part::ALL.to_vec();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--quick" => quick = true,
            "--json" => json = true,
            "--rows" => parts = parts_of(&value(&arg, args.next())?)?,
            "--events" => events = number(&arg, args.next(), EVENTS_MIN)?,
            "--recover-mib" => recover_mib = number(&arg, args.next(), QUICK)?,
            "-h" | "--help" => return Ok(Asked::Help),
            other => bail!("there is no option `{other}`"),
        }
    }
    let part = if quick { QUICK } else { 1 };
    Ok(Asked::Run(Options {
        parts,
        events: events / part,
        large_events: events / 4 / part,
        memory_events: 1_000_000 / part,
        connections: if quick { 1_000 } else { 10_000 },
        single_time: Duration::from_millis(10_000 / part),
        recover_mib: recover_mib / part,
        json,
    }))
}

fn value(option: &str, value: Option<String>) -> Result<String> {
    value.with_context(|| format!("{option} needs a value"))
}

fn number(option: &str, given: Option<String>, least: u64) -> Result<u64> {
    let given = value(option, given)?;
    match given.parse() {
        Ok(number) if number >= least => Ok(number),
        _ => bail!("{option} takes a whole number from {least} on, not `{given}`"),
    }
}

fn parts_of(list: &str) -> Result<Vec<Part>> {
    let named: Vec<&str> = list.split(',').map(str::trim).collect();
    let is_known = |name: &&str| Part::ALL.iter().any(|part| part.name() == *name);
    if let Some(unknown) = named.iter().find(|name| !is_known(name)) {
        let known = Part::ALL.map(Part::name).join(",");
        bail!("there are no rows `{unknown}`; --rows takes some of {known}");
    }
    let wanted = |part: &Part| named.contains(&part.name());
    Ok(Part::ALL.into_iter().filter(wanted).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(line: &str) -> Result<Asked> {
        parse(line.split_whitespace().map(str::to_owned))
    }

    fn run(line: &str) -> Options {
        match options(line).unwrap() {
            Asked::Run(options) => options,
            Asked::Help => panic!("`{line}` asks for no help"),
        }
    }

    #[test]
    fn a_quick_run_is_a_tenth() {
        let (all, quick) = (run(""), run("--quick"));
        assert_eq!(all.events, 2_000_000);
        assert_eq!(all.large_events, 500_000);
        assert_eq!(quick.events * 10, all.events);
        assert_eq!(quick.large_events * 10, all.large_events);
        assert_eq!(quick.memory_events * 10, all.memory_events);
        assert_eq!(quick.connections * 10, all.connections);
        assert_eq!(quick.single_time * 10, all.single_time);
        assert_eq!(run("--quick --recover-mib 500").recover_mib, 50);
    }

    #[test]
    fn rows_are_measured_in_their_order() {
        let some = run("--rows recover,batch --json");
        assert_eq!(some.parts, [Part::Batch, Part::Recover]);
        assert!(some.json);
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for line in ["--rows batch,latency", "--rows", "--events 10", "--events many", "fast"] {
            assert!(options(line).is_err(), "{line}");
        }
        assert_eq!(options("--quick --help").unwrap(), Asked::Help);
    }
}
