//! What the rounds have come to: medians of the ratios, and every single figure.

use crate::framework::median;
use crate::probe::Probe;
use crate::table::{Cell, Column, Table};

use super::{Options, Peer, Taken};

const NOTE: &str = "\
One event of 100 B is on its way for each waiting producer, and its next one follows when it is acknowledged. \
`Courant ÷ it` is the ratio of acknowledgements per second in the same round, the median and its least and \
most; below 1 the other one is faster. CPU is that of the server with all its processes, and that of the \
producers, in seconds per million events. Every measurement has a server of its own with new data; apart from \
what the table names, all settings are the servers' own. Producers of Courant share librdkafka (linger 0, \
acks=all, idempotence off); those of Redis (`XADD` to one stream) and NATS (one stream in a file) share one \
connection, over which what is ready goes out in one write, without a library; those of PostgreSQL (`insert` \
of one row) have a connection each. The probe is a write of 4 KiB and its sync before each measurement; a \
round with a median above 250 µs is void for the two that it compares, and so is one in which Courant has \
not synced.";

const ROUNDS_NOTE: &str = "The same, one line for each measurement, in the order in which they were made.";

/// Whose figures they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    Courant,
    Peer(Peer),
}

/// One measurement, and the disk before it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    pub(super) taken: Taken,
    pub(super) probe: Probe,
}

impl Sample {
    fn rate(&self) -> f64 {
        self.taken.acks as f64 / self.taken.time.as_secs_f64()
    }

    fn p50_us(&self) -> f64 {
        self.taken.p50.as_secs_f64() * 1e6
    }

    fn p99_us(&self) -> f64 {
        self.taken.p99.as_secs_f64() * 1e6
    }

    fn probe_us(&self) -> f64 {
        self.probe.p50.as_secs_f64() * 1e6
    }

    fn server_cpu(&self) -> f64 {
        self.taken.server_cpu * 1e6 / self.taken.acks as f64
    }

    fn client_cpu(&self) -> f64 {
        self.taken.client_cpu * 1e6 / self.taken.acks as f64
    }

    /// Why it does not count, if it does not.
    fn void(&self) -> Option<&'static str> {
        if self.taken.syncs == Some(0) {
            Some("void: the server did not sync")
        } else if self.probe.is_busy() {
            Some("void: busy machine")
        } else {
            None
        }
    }
}

struct Entry {
    round: u64,
    waiting: usize,
    who: Who,
    sample: Sample,
}

/// Everything that was measured.
#[derive(Default)]
pub(super) struct Rounds {
    names: Vec<(Who, String)>,
    without: Vec<String>,
    entries: Vec<Entry>,
}

impl Rounds {
    /// What a server calls itself, and how it is set.
    pub(super) fn name(&mut self, who: Who, name: String) {
        self.names.push((who, name));
    }

    /// Something that could not be measured, and why.
    pub(super) fn without(&mut self, what: String) {
        self.without.push(what);
    }

    /// All of them in one sentence, if there are any.
    pub(super) fn missing(&self) -> Option<String> {
        (!self.without.is_empty()).then(|| self.without.join("; "))
    }

    pub(super) fn add(&mut self, round: u64, waiting: usize, who: Who, sample: Sample) {
        self.entries.push(Entry { round, waiting, who, sample });
    }

    pub(super) fn tables(&self, options: &Options) -> [Table; 2] {
        [self.medians(options), self.rounds()]
    }

    fn name_of(&self, who: Who) -> String {
        let known = self.names.iter().find(|(one, _)| *one == who);
        known.map_or_else(|| "Courant".to_owned(), |(_, name)| name.clone())
    }

    /// What counts of a server with so many waiting.
    fn counted(&self, who: Who, waiting: usize) -> Vec<&Entry> {
        let of_it = self.entries.iter().filter(|entry| entry.who == who && entry.waiting == waiting);
        of_it.filter(|entry| entry.sample.void().is_none()).collect()
    }

    /// How many times as fast Courant was in the same round, where both count.
    fn ratio(&self, entry: &Entry) -> Option<f64> {
        if entry.who == Who::Courant || entry.sample.void().is_some() {
            return None;
        }
        let ours = self.counted(Who::Courant, entry.waiting);
        let ours = ours.into_iter().find(|one| one.round == entry.round)?;
        Some(ours.sample.rate() / entry.sample.rate())
    }

    fn medians(&self, options: &Options) -> Table {
        let mut rows = Vec::new();
        for waiting in options.waiting.iter().copied() {
            rows.push(self.row(Who::Courant, waiting));
            rows.extend(options.peers.iter().map(|peer| self.row(Who::Peer(*peer), waiting)));
        }
        Table {
            key: "peers",
            title: format!(
                "Durable single events beside others, medians of {} rounds of {} s",
                options.rounds,
                options.time.as_secs()
            ),
            note: NOTE,
            columns: vec![
                Column::number("waiting", "waiting"),
                Column::text("server", "server"),
                Column::text("on disk", "on_disk"),
                Column::number("acks/s", "acks_per_s"),
                Column::number("p50 µs", "p50_us"),
                Column::number("p99 µs", "p99_us"),
                Column::number("p50 × probe", "p50_per_probe"),
                Column::number("server CPU s/M", "server_cpu_s_per_million"),
                Column::number("client CPU s/M", "client_cpu_s_per_million"),
                Column::number("Courant ÷ it", "courant_per_peer"),
                Column::number("least", "courant_per_peer_least"),
                Column::number("most", "courant_per_peer_most"),
                Column::text("wanted", "wanted"),
                Column::number("rounds", "rounds"),
                Column::number("probe p50 µs", "probe_p50_us"),
            ],
            rows,
        }
    }

    fn row(&self, who: Who, waiting: usize) -> Vec<Cell> {
        let counted = self.counted(who, waiting);
        let of = |figure: fn(&Sample) -> f64| median(counted.iter().map(|one| figure(&one.sample)).collect());
        let figure = |value: Cell| if counted.is_empty() { Cell::Void } else { value };
        let ratios: Vec<f64> = counted.iter().filter_map(|entry| self.ratio(entry)).collect();
        let ratio = |value: f64| if ratios.is_empty() { Cell::Missing } else { Cell::Number(value, 2) };
        let durable = match who {
            Who::Courant => "before the answer",
            Who::Peer(peer) => peer.durable(),
        };
        vec![
            Cell::Count(waiting as u64),
            Cell::text(self.name_of(who)),
            Cell::text(durable),
            figure(Cell::rounded(of(Sample::rate))),
            figure(Cell::rounded(of(Sample::p50_us))),
            figure(Cell::rounded(of(Sample::p99_us))),
            figure(Cell::Number(of(|sample| sample.p50_us() / sample.probe_us()), 1)),
            figure(Cell::Number(of(Sample::server_cpu), 2)),
            figure(Cell::Number(of(Sample::client_cpu), 2)),
            ratio(median(ratios.clone())),
            ratio(ratios.iter().copied().fold(f64::INFINITY, f64::min)),
            ratio(ratios.iter().copied().fold(0.0, f64::max)),
            Cell::text(wanted(who, waiting)),
            Cell::Count(counted.len() as u64),
            figure(Cell::rounded(of(Sample::probe_us))),
        ]
    }

    fn rounds(&self) -> Table {
        let row = |entry: &Entry| {
            vec![
                Cell::Count(entry.round),
                Cell::Count(entry.waiting as u64),
                Cell::text(self.name_of(entry.who)),
                Cell::rounded(entry.sample.rate()),
                Cell::rounded(entry.sample.p50_us()),
                Cell::rounded(entry.sample.p99_us()),
                Cell::Number(entry.sample.server_cpu(), 2),
                self.ratio(entry).map_or(Cell::Missing, |ratio| Cell::Number(ratio, 2)),
                Cell::rounded(entry.sample.probe_us()),
                Cell::text(entry.sample.void().unwrap_or("")),
            ]
        };
        Table {
            key: "peers_rounds",
            title: "The rounds".to_owned(),
            note: ROUNDS_NOTE,
            columns: vec![
                Column::number("round", "round"),
                Column::number("waiting", "waiting"),
                Column::text("server", "server"),
                Column::number("acks/s", "acks_per_s"),
                Column::number("p50 µs", "p50_us"),
                Column::number("p99 µs", "p99_us"),
                Column::number("server CPU s/M", "server_cpu_s_per_million"),
                Column::number("Courant ÷ it", "courant_per_peer"),
                Column::number("probe p50 µs", "probe_p50_us"),
                Column::text("remark", "remark"),
            ],
            rows: self.entries.iter().map(row).collect(),
        }
    }
}

/// What is wanted of Courant, alone or beside this one.
fn wanted(who: Who, waiting: usize) -> &'static str {
    match (who, waiting) {
        (Who::Courant, 1) => "5,000/s",
        (Who::Courant, 64) => "180,000/s, p50 350 µs",
        (Who::Courant, 256) => "300,000/s",
        (Who::Peer(Peer::RedisAlways), 64) => "1.50",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn sample(acks: u64, probe_us: u64, syncs: Option<u64>) -> Sample {
        let (p50, p99) = (Duration::from_micros(400), Duration::from_micros(900));
        let time = Duration::from_secs(1);
        let taken = Taken { acks, time, p50, p99, server_cpu: 0.5, client_cpu: 0.5, syncs };
        let probe = Probe { p50: Duration::from_micros(probe_us), p99: Duration::from_micros(900) };
        Sample { taken, probe }
    }

    fn options() -> Options {
        let peers = vec![Peer::RedisAlways];
        Options { rounds: 5, time: Duration::from_secs(1), waiting: vec![64], peers, json: false }
    }

    fn measured(rounds: &[(u64, u64)]) -> Rounds {
        let mut measured = Rounds::default();
        let peer = Who::Peer(Peer::RedisAlways);
        measured.name(peer, "Redis 7.0.15, appendfsync always".to_owned());
        for (round, (ours, theirs)) in (1..).zip(rounds) {
            measured.add(round, 64, Who::Courant, sample(*ours, 100, Some(1_000)));
            measured.add(round, 64, peer, sample(*theirs, 100, None));
        }
        measured
    }

    #[test]
    fn the_ratio_is_the_median_of_those_of_the_rounds_and_may_be_a_loss() {
        let rounds = [(100, 200), (300, 200), (180, 200), (400, 200), (100, 100)];
        let table = measured(&rounds).medians(&options());
        let columns: Vec<&str> = table.columns.iter().map(|column| column.key).collect();
        let at = |key: &str| columns.iter().position(|one| *one == key).unwrap();
        let peer = &table.rows[1];
        assert_eq!(peer[at("server")], Cell::text("Redis 7.0.15, appendfsync always"));
        assert_eq!(peer[at("courant_per_peer")], Cell::Number(1.0, 2));
        assert_eq!(peer[at("courant_per_peer_least")], Cell::Number(0.5, 2));
        assert_eq!(peer[at("courant_per_peer_most")], Cell::Number(2.0, 2));
        assert_eq!(peer[at("p50_per_probe")], Cell::Number(4.0, 1));
        assert_eq!(peer[at("wanted")], Cell::text("1.50"));
        assert_eq!(peer[at("rounds")], Cell::Count(5));
        assert_eq!(table.rows[0][at("courant_per_peer")], Cell::Missing);
        assert!(table.rows.iter().all(|row| row.len() == columns.len()));
    }

    #[test]
    fn a_round_of_a_busy_machine_does_not_count() {
        let mut measured = measured(&[(300, 200)]);
        measured.add(2, 64, Who::Courant, sample(900, 4_000, Some(1_000)));
        measured.add(2, 64, Who::Peer(Peer::RedisAlways), sample(100, 100, None));
        let rounds = measured.rounds();
        assert_eq!(rounds.rows[1][7], Cell::Number(1.5, 2));
        assert_eq!(rounds.rows[2][9], Cell::text("void: busy machine"));
        assert_eq!(rounds.rows[3][7], Cell::Missing);
        assert_eq!(measured.row(Who::Courant, 64)[3], Cell::Count(300));
    }

    #[test]
    fn figures_of_a_server_that_did_not_sync_are_void() {
        let mut measured = Rounds::default();
        measured.add(1, 64, Who::Courant, sample(900, 100, Some(0)));
        let row = measured.row(Who::Courant, 64);
        assert!(row[3..9].iter().all(|cell| *cell == Cell::Void), "{row:?}");
        assert_eq!(row[13], Cell::Count(0));
    }

    #[test]
    fn what_could_not_be_measured_is_said() {
        let mut measured = Rounds::default();
        assert_eq!(measured.missing(), None);
        measured.without("nats: no go here".to_owned());
        assert_eq!(measured.missing(), Some("nats: no go here".to_owned()));
    }
}
