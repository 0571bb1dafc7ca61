//! What the rounds have come to: which of them count, and how Courant stands beside each of the others in them.

use std::time::Duration;

use crate::framework::median;
use crate::probe::Probe;

use super::options::What;
use super::peer::Peer;
use super::subject::Used;

/// Whose figures they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    Courant,
    /// By producers, and a consumer, without a library, as most of the others have them.
    Lean,
    /// In a topic that asks for less: written at the acknowledgement, on disk a tenth of a second later.
    Relaxed,
    Peer(Peer),
}

impl Who {
    pub(super) fn name(self) -> &'static str {
        match self {
            Who::Courant => "Courant",
            Who::Lean => "Courant, clients without a library",
            Who::Relaxed => "Courant, relaxed class",
            Who::Peer(peer) => peer.name(),
        }
    }

    /// When an event is on disk.
    pub(super) fn durable(self) -> &'static str {
        match self {
            Who::Courant | Who::Lean => "before the answer",
            Who::Relaxed => "within 0.1 s",
            Who::Peer(peer) => peer.durable(),
        }
    }
}

/// What one measurement has come to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taken {
    pub(super) events: u64,
    /// Until the last acknowledgement.
    pub(super) time: Duration,
    /// Until a consumer had the last event, where there was one that is compared by that.
    pub(super) read: Option<Duration>,
    /// Half of the events, and all but one in a hundred, took no longer.
    pub(super) waits: Option<[Duration; 2]>,
    pub(super) used: Used,
}

/// One measurement, and the disk before it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    pub(super) taken: Taken,
    pub(super) probe: Probe,
}

impl Sample {
    pub(super) fn rate(&self) -> f64 {
        self.taken.events as f64 / self.taken.time.as_secs_f64()
    }

    pub(super) fn read_rate(&self) -> f64 {
        self.taken.read.map_or(f64::NAN, |read| self.taken.events as f64 / read.as_secs_f64())
    }

    pub(super) fn p50_us(&self) -> f64 {
        self.taken.waits.map_or(f64::NAN, |[p50, _]| p50.as_secs_f64() * 1e6)
    }

    pub(super) fn p99_us(&self) -> f64 {
        self.taken.waits.map_or(f64::NAN, |[_, p99]| p99.as_secs_f64() * 1e6)
    }

    pub(super) fn probe_us(&self) -> f64 {
        self.probe.p50.as_secs_f64() * 1e6
    }

    pub(super) fn server_cpu(&self) -> f64 {
        self.taken.used.server_cpu * 1e6 / self.taken.events as f64
    }

    pub(super) fn client_cpu(&self) -> f64 {
        self.taken.used.client_cpu * 1e6 / self.taken.events as f64
    }

    pub(super) fn pss_mib(&self) -> f64 {
        self.taken.used.pss_kib as f64 / 1024.0
    }

    pub(super) fn syncs_per_s(&self) -> f64 {
        self.taken.used.counted.map_or(f64::NAN, |c| c.syncs as f64 / self.taken.used.time.as_secs_f64())
    }

    /// Why it does not count, if it does not.
    pub(super) fn void(&self) -> Option<&'static str> {
        if self.taken.used.counted.is_some_and(|counted| counted.syncs == 0) {
            Some("void: the server did not sync")
        } else if self.probe.is_busy() {
            Some("void: busy machine")
        } else {
            None
        }
    }
}

/// One line of what was measured.
pub(super) struct Entry {
    pub(super) round: u64,
    /// Producers that wait, or bytes of an event.
    pub(super) load: usize,
    pub(super) who: Who,
    pub(super) sample: Sample,
}

/// What is compared within a round. Above 1 Courant is ahead in the first of each two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ratio {
    /// Its rate of acknowledgements to that of the other one.
    Rate,
    /// The wait for half of the events there to that here.
    P50,
    P99,
    /// Its CPU time for each event to that of the other one: below 1 it needs less.
    Cpu,
}

impl Ratio {
    pub(super) fn of(self, ours: &Sample, theirs: &Sample) -> f64 {
        match self {
            Ratio::Rate => ours.rate() / theirs.rate(),
            Ratio::P50 => theirs.p50_us() / ours.p50_us(),
            Ratio::P99 => theirs.p99_us() / ours.p99_us(),
            Ratio::Cpu => ours.server_cpu() / theirs.server_cpu(),
        }
    }
}

/// Everything that was measured of one kind of load.
pub(super) struct Rounds<'names> {
    pub(super) what: What,
    /// What servers call themselves, and how they are set.
    names: &'names [(Who, String)],
    pub(super) entries: Vec<Entry>,
}

impl<'names> Rounds<'names> {
    pub(super) fn new(what: What, names: &'names [(Who, String)]) -> Rounds<'names> {
        Rounds { what, names, entries: Vec::new() }
    }

    pub(super) fn add(&mut self, round: u64, load: usize, who: Who, sample: Sample) {
        self.entries.push(Entry { round, load, who, sample });
    }

    pub(super) fn name_of(&self, who: Who) -> String {
        let known = self.names.iter().find(|(one, _)| *one == who);
        known.map_or_else(|| who.name().to_owned(), |(_, name)| name.clone())
    }

    /// What counts of a server with this load.
    pub(super) fn counted(&self, who: Who, load: usize) -> Vec<&Entry> {
        let of_it = self.entries.iter().filter(|entry| entry.who == who && entry.load == load);
        of_it.filter(|entry| entry.sample.void().is_none()).collect()
    }

    /// How `ours` stood beside somebody else in the same round, where both count.
    pub(super) fn ratio(&self, ratio: Ratio, ours: Who, entry: &Entry) -> Option<f64> {
        if !matches!(entry.who, Who::Peer(_)) || entry.sample.void().is_some() {
            return None;
        }
        let ours = self.counted(ours, entry.load);
        let ours = ours.into_iter().find(|one| one.round == entry.round)?;
        Some(ratio.of(&ours.sample, &entry.sample))
    }

    /// The median of a ratio over all rounds, its least and its most.
    pub(super) fn ratios(&self, ratio: Ratio, ours: Who, theirs: Who, load: usize) -> Option<[f64; 3]> {
        let counted = self.counted(theirs, load);
        let ratios: Vec<f64> =
            counted.into_iter().filter_map(|entry| self.ratio(ratio, ours, entry)).collect();
        let least = ratios.iter().copied().reduce(f64::min)?;
        let most = ratios.iter().copied().reduce(f64::max)?;
        Some([median(ratios), least, most])
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::peers::subject::Counted;

    pub(in crate::peers) const PEER: Who = Who::Peer(Peer::RedisAlways);

    /// So many events in a second, of half a CPU second.
    pub(in crate::peers) fn sample(events: u64, probe_us: u64, syncs: Option<u64>) -> Sample {
        let time = Duration::from_secs(1);
        let counted = syncs.map(|syncs| Counted { syncs, checkpoints: 4, longest_wait_us: Some(1_500) });
        let used = Used { time, server_cpu: 0.5, client_cpu: 0.5, pss_kib: 20_480, counted };
        let waits = Some([400, 900].map(Duration::from_micros));
        let taken = Taken { events, time, read: Some(time), waits, used };
        let probe =
            Probe { p50: Duration::from_micros(probe_us), p99: Duration::from_micros(900), idle: 1.0 };
        Sample { taken, probe }
    }

    /// Rounds of Courant and of Redis, each with its rates.
    pub(in crate::peers) fn measured<'names>(
        what: What,
        names: &'names [(Who, String)],
        rates: &[(u64, u64)],
    ) -> Rounds<'names> {
        let mut rounds = Rounds::new(what, names);
        for (round, (ours, theirs)) in (1..).zip(rates) {
            rounds.add(round, 64, Who::Courant, sample(*ours, 100, Some(1_000)));
            rounds.add(round, 64, PEER, sample(*theirs, 100, None));
        }
        rounds
    }

    #[test]
    fn the_ratio_is_the_median_of_those_of_the_rounds_and_may_be_a_loss() {
        let rates = [(100, 200), (300, 200), (180, 200), (400, 200), (100, 100)];
        let rounds = measured(What::Single, &[], &rates);
        assert_eq!(rounds.ratios(Ratio::Rate, Who::Courant, PEER, 64), Some([1.0, 0.5, 2.0]));
        // Twice the events in the time and CPU of the other: half of its CPU for each.
        assert_eq!(rounds.ratios(Ratio::Cpu, Who::Courant, PEER, 64), Some([1.0, 0.5, 2.0]));
        assert_eq!(rounds.ratios(Ratio::P50, Who::Courant, PEER, 64), Some([1.0, 1.0, 1.0]));
        assert_eq!(rounds.ratios(Ratio::Rate, Who::Relaxed, PEER, 64), None);
        assert_eq!(rounds.ratios(Ratio::Rate, Who::Courant, PEER, 256), None);
    }

    #[test]
    fn a_round_of_a_busy_machine_does_not_count() {
        let mut rounds = measured(What::Single, &[], &[(300, 200)]);
        rounds.add(2, 64, Who::Courant, sample(900, 4_000, Some(1_000)));
        rounds.add(2, 64, PEER, sample(100, 100, None));
        assert_eq!(rounds.ratios(Ratio::Rate, Who::Courant, PEER, 64), Some([1.5, 1.5, 1.5]));
        assert_eq!(rounds.counted(Who::Courant, 64).len(), 1);
        assert_eq!(rounds.entries[2].sample.void(), Some("void: busy machine"));
    }

    #[test]
    fn figures_of_a_server_that_did_not_sync_are_void() {
        assert_eq!(sample(900, 100, Some(0)).void(), Some("void: the server did not sync"));
        assert_eq!(sample(900, 100, None).void(), None);
    }
}
