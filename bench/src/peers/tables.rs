//! The rounds as tables: medians with their ratios, and every single figure.

use crate::framework::median;
use crate::goal;
use crate::table::{Cell, Column, Table};

use super::options::{Options, What};
use super::peer::Peer;
use super::rounds::{Entry, Ratio, Rounds, Sample, Who};

/// What a kind of load says of itself, and what holds for all.
macro_rules! note {
    ($what:literal) => {
        concat!(
            $what,
            " \
CPU is that of the server with all its processes, and that of the clients, in seconds per million events. \
PSS is that of the server with all its processes at the end, with what it has in its heap and not in the page \
cache. Ratios are those of the same round, the median and its least and most: of a rate, Courant ÷ the other one, so \
that below 1 the other one is faster; of CPU, Courant ÷ the other one, so that below 1 Courant needs less. \
Those of the durable class stand beside all; those who do not sync before they answer have the relaxed class \
beside them too. Every server starts with new data in each round, and does smaller loads first; apart from \
what the table names, all settings are the servers' own. The probe is a write of 4 KiB and its sync before \
each measurement; a round with a median above 250 µs is void for the two that it compares, and so is one in \
which Courant has not synced."
        )
    };
}

const NOTE_SINGLE: &str = note!(
    "\
One event of 100 B is on its way for each waiting producer, and its next one follows when it is acknowledged. \
Producers of Courant and Kafka share librdkafka (linger 0, acks=all, idempotence off), and send where it tells \
them of an acknowledgement; it hands each event from one thread to another, and puts what is ready into one \
request. Those of Redis (`XADD` to one stream), NATS (one stream in a file) and RabbitMQ (one queue, persistent \
messages, AMQP 0-9-1 and not the protocol that its streams have of their own) are one thread with one connection, \
over which what is ready goes out in one write, without a library; those of PostgreSQL (`insert` of one row) are \
one thread with a connection each. Courant has a row with clients without a library too, as those of Redis: each \
event is a request (Produce, acks=all) with a batch that is made for it, with its time and its checksum, where \
those of Redis and RabbitMQ send the same bytes again. The server takes up to 256 such requests of a connection at \
a time. Nothing is asked of that row, and ratios are those of the row with librdkafka. The rate is that of \
acknowledgements. A tenth of the time before does not count, and of Kafka, which compiles itself while it runs, as \
long a time as is measured."
);

const NOTE_PASSING: &str = note!(
    "\
5,000 events of 100 B a second, one by one, two seconds before those that count, each with the moment in which its producer handed it over; it is \
compared when a consumer has it. Producer and consumer of Courant and Kafka are librdkafka (linger 0, \
acks=all), whose threads hand each event on on both sides; those of the others speak their protocol without a \
library. Courant has a row with such clients too, one request for each event and one at a time to read, and the \
ratios of those others stand beside it as well: Redis `XADD` and `XREAD BLOCK`, NATS a \
push consumer, RabbitMQ `basic.consume`, PostgreSQL 16 connections that insert and one that asks each \
millisecond. Ratios are how many times as long the other one takes, so above 1 Courant is ahead."
);

const NOTE_BATCH: &str = note!(
    "\
One producer (librdkafka, linger 5 ms, batches of 500, acks=all, no compression, idempotence off) and one \
concurrent consumer (assign, no group), one partition; a quarter of the events before does not count. CPU is \
that of producing and consuming together. Kafka runs on one node with the memory, the collector and the \
threads of its own scripts."
);

/// Fewer checkpoints of Courant show nothing of what they cost.
const CHECKPOINTS_MIN: u64 = 3;

const ROUNDS_NOTE: &str = "The same, one line for each measurement, in the order in which they were made.";

/// What Courant is compared by.
fn compared(what: What) -> [Ratio; 2] {
    match what {
        What::Single | What::Batch => [Ratio::Rate, Ratio::Cpu],
        What::Passing => [Ratio::P50, Ratio::P99],
    }
}

/// The heads of those two, of the durable and of the relaxed class, and by clients without a library.
fn ratio_columns(what: What) -> [Column; 10] {
    let heads = match what {
        What::Single | What::Batch => ["Courant's rate ÷ its", "Courant's CPU ÷ its"],
        What::Passing => ["its p50 ÷ Courant's", "its p99 ÷ Courant's"],
    };
    let relaxed = match what {
        What::Single | What::Batch => ["relaxed: rate", "relaxed: CPU"],
        What::Passing => ["relaxed: p50", "relaxed: p99"],
    };
    [
        Column::number(heads[0], "first_ratio"),
        Column::number("least", "first_ratio_least"),
        Column::number("most", "first_ratio_most"),
        Column::number(heads[1], "second_ratio"),
        Column::number("least", "second_ratio_least"),
        Column::number("most", "second_ratio_most"),
        Column::number(relaxed[0], "relaxed_first_ratio"),
        Column::number(relaxed[1], "relaxed_second_ratio"),
        Column::number("without a library: p50", "lean_first_ratio"),
        Column::number("without a library: p99", "lean_second_ratio"),
    ]
}

impl Rounds<'_> {
    pub(super) fn tables(&self, all: &[Who], options: &Options) -> [Table; 2] {
        [self.medians(all, options), self.rounds()]
    }

    fn medians(&self, all: &[Who], options: &Options) -> Table {
        let loads = match self.what {
            What::Single => options.waiting.clone(),
            What::Passing => vec![0],
            What::Batch => vec![options.bytes],
        };
        let rows = loads.iter().flat_map(|load| all.iter().map(move |who| self.row(*who, *load)));
        let rounds = format!("medians of {} rounds", options.rounds);
        let seconds = options.time.as_secs();
        let (key, title, note) = match self.what {
            What::Single => ("peers", format!("Single events, {rounds} of {seconds} s"), NOTE_SINGLE),
            What::Passing => {
                ("peers_passing", format!("Producer to consumer, {rounds} of {seconds} s"), NOTE_PASSING)
            }
            What::Batch => {
                let (events, bytes) = (options.events, options.bytes);
                ("peers_batch", format!("Batches: {events} events of {bytes} B, {rounds}"), NOTE_BATCH)
            }
        };
        let mut columns = vec![
            Column::number(load_head(self.what), "load"),
            Column::text("server", "server"),
            Column::text("on disk", "on_disk"),
            Column::number("events/s", "events_per_s"),
            Column::number("read/s", "read_per_s"),
            Column::number("p50 µs", "p50_us"),
            Column::number("p99 µs", "p99_us"),
            Column::number("p50 × probe", "p50_per_probe"),
            Column::number("server CPU s/M", "server_cpu_s_per_million"),
            Column::number("client CPU s/M", "client_cpu_s_per_million"),
            Column::number("PSS MiB", "pss_mib"),
        ];
        columns.extend(ratio_columns(self.what));
        columns.extend([
            goal::COLUMNS[0],
            goal::COLUMNS[1],
            Column::number("syncs/s", "syncs_per_s"),
            Column::number("checkpoints", "checkpoints"),
            Column::number("longest ms", "longest_journal_wait_ms"),
            Column::number("rounds", "rounds"),
            Column::number("probe p50 µs", "probe_p50_us"),
        ]);
        // What a kind of load does not have is in none of its rows.
        let (columns, rows) = without_empty(columns, rows.collect());
        Table { key, title, note, columns, rows }
    }

    fn row(&self, who: Who, load: usize) -> Vec<Cell> {
        let counted = self.counted(who, load);
        let of = |figure: fn(&Sample) -> f64| median(counted.iter().map(|one| figure(&one.sample)).collect());
        let figure = |value: Cell| if counted.is_empty() { Cell::Void } else { value };
        let mut row = vec![
            self.load_cell(load),
            Cell::text(self.name_of(who)),
            Cell::text(who.durable()),
            figure(Cell::rounded(of(Sample::rate))),
            Cell::rounded(of(Sample::read_rate)),
            Cell::rounded(of(Sample::p50_us)),
            Cell::rounded(of(Sample::p99_us)),
            number(of(|sample| sample.p50_us() / sample.probe_us()), 1),
            figure(number(of(Sample::server_cpu), 2)),
            figure(number(of(Sample::client_cpu), 2)),
            figure(number(of(Sample::pss_mib), 1)),
        ];
        let compared = compared(self.what);
        for ratio in compared {
            let of_all = self.ratios(ratio, Who::Courant, who, load);
            row.extend((0..3).map(|at| of_all.map_or(Cell::Missing, |of_all| Cell::Number(of_all[at], 2))));
        }
        // One class is never set against the other in its favour.
        let is_relaxed = matches!(who, Who::Peer(peer) if !peer.is_durable());
        for ratio in compared {
            let of_all = self.ratios(ratio, Who::Relaxed, who, load).filter(|_| is_relaxed);
            row.push(of_all.map_or(Cell::Missing, |[middle, ..]| Cell::Number(middle, 2)));
        }
        // Of single events all ratios are those of librdkafka. Kafka's clients are librdkafka too.
        let is_lean = self.what == What::Passing && matches!(who, Who::Peer(peer) if peer.topic().is_none());
        for ratio in compared {
            let of_all = self.ratios(ratio, Who::Lean, who, load).filter(|_| is_lean);
            row.push(of_all.map_or(Cell::Missing, |[middle, ..]| Cell::Number(middle, 2)));
        }
        let [asked, reached] = self.goal(who, load);
        let counts = || counted.iter().filter_map(|one| one.sample.taken.used.counted);
        let longest = counts().filter_map(|counted| counted.longest_wait_us).max();
        row.extend([
            asked,
            reached,
            Cell::rounded(of(Sample::syncs_per_s)),
            counts().map(|counted| counted.checkpoints).min().map_or(Cell::Missing, Cell::Count),
            longest.map_or(Cell::Missing, |us| Cell::Number(us as f64 / 1e3, 1)),
            Cell::Count(counted.len() as u64),
            figure(Cell::rounded(of(Sample::probe_us))),
        ]);
        row
    }

    /// What is asked of Courant, alone or beside this one.
    fn goal(&self, who: Who, load: usize) -> [Cell; 2] {
        let counted = self.counted(who, load);
        let of = |figure: fn(&Sample) -> f64| median(counted.iter().map(|one| figure(&one.sample)).collect());
        let beside = |ratio: Ratio, ours: Who| {
            self.ratios(ratio, ours, who, load).map_or(f64::NAN, |[middle, ..]| middle)
        };
        let ahead = |ratio: Ratio| goal::above(beside(ratio, Who::Courant), 1.0);
        let least = |ratio: Ratio, bound: f64| goal::at_least(beside(ratio, Who::Courant), bound);
        let cpu = |ours: Who, bound: f64| goal::at_most(beside(Ratio::Cpu, ours), bound);
        let through = counted
            .iter()
            .filter_map(|one| one.sample.taken.used.counted)
            .all(|counted| counted.checkpoints >= CHECKPOINTS_MIN);
        let rate = |bound: f64| goal::at_least(of(Sample::rate), bound);
        let (asked, met) = match (self.what, who, load) {
            (What::Single, Who::Courant, 1) => ("≥ 5,000/s", vec![rate(5e3)]),
            (What::Single, Who::Courant, 64) => {
                ("≥ 180,000/s, p50 ≤ 350 µs", vec![rate(18e4), goal::at_most(of(Sample::p50_us), 350.0)])
            }
            (What::Single, Who::Courant, 256) => ("≥ 300,000/s", vec![rate(3e5)]),
            (What::Single, Who::Peer(Peer::RedisAlways), 64) => {
                ("rate ≥ 1.50", vec![least(Ratio::Rate, 1.5)])
            }
            (What::Passing, Who::Courant, _) => {
                let (p50, p99) = (of(Sample::p50_us), of(Sample::p99_us));
                let met = vec![goal::at_most(p50, 350.0), goal::at_most(p99, 1_200.0)];
                ("p50 ≤ 350 µs, p99 ≤ 1,200 µs", met)
            }
            (What::Passing, Who::Peer(peer), _) if peer.is_durable() => {
                ("both above 1", vec![ahead(Ratio::P50), ahead(Ratio::P99)])
            }
            (What::Batch, Who::Courant, 100) => {
                let met = [goal::at_most(of(Sample::server_cpu), 0.4)];
                return goal::durable_cells("CPU ≤ 0.40", &met, through);
            }
            (What::Batch, Who::Relaxed, 100) => {
                ("CPU ≤ 0.30", vec![goal::at_most(of(Sample::server_cpu), 0.3)])
            }
            (What::Batch, Who::Peer(Peer::KafkaFlush), _) => {
                ("rate ≥ 2.00, CPU ≤ 0.50", vec![least(Ratio::Rate, 2.0), cpu(Who::Courant, 0.5)])
            }
            (What::Batch, Who::Peer(Peer::Kafka), _) => {
                ("rate ≥ 1.00, relaxed: CPU ≤ 0.50", vec![least(Ratio::Rate, 1.0), cpu(Who::Relaxed, 0.5)])
            }
            _ => ("", Vec::new()),
        };
        goal::cells(asked, &met)
    }

    /// Where all have the same load it is none.
    fn load_cell(&self, load: usize) -> Cell {
        if self.what == What::Passing { Cell::Missing } else { Cell::Count(load as u64) }
    }

    fn rounds(&self) -> Table {
        let [first, second] = compared(self.what);
        let ratio = |ratio: Ratio, entry: &Entry| {
            self.ratio(ratio, Who::Courant, entry).map_or(Cell::Missing, |ratio| Cell::Number(ratio, 2))
        };
        let row = |entry: &Entry| {
            vec![
                Cell::Count(entry.round),
                self.load_cell(entry.load),
                Cell::text(self.name_of(entry.who)),
                Cell::rounded(entry.sample.rate()),
                Cell::rounded(entry.sample.p50_us()),
                Cell::rounded(entry.sample.p99_us()),
                Cell::Number(entry.sample.server_cpu(), 2),
                ratio(first, entry),
                ratio(second, entry),
                Cell::rounded(entry.sample.probe_us()),
                Cell::text(entry.sample.void().unwrap_or("")),
            ]
        };
        let heads = ratio_columns(self.what);
        let columns = vec![
            Column::number("round", "round"),
            Column::number(load_head(self.what), "load"),
            Column::text("server", "server"),
            Column::number("events/s", "events_per_s"),
            Column::number("p50 µs", "p50_us"),
            Column::number("p99 µs", "p99_us"),
            Column::number("server CPU s/M", "server_cpu_s_per_million"),
            Column::number(heads[0].head, "first_ratio"),
            Column::number(heads[3].head, "second_ratio"),
            Column::number("probe p50 µs", "probe_p50_us"),
            Column::text("remark", "remark"),
        ];
        let key = match self.what {
            What::Single => "peers_rounds",
            What::Passing => "peers_passing_rounds",
            What::Batch => "peers_batch_rounds",
        };
        let (columns, rows) = without_empty(columns, self.entries.iter().map(row).collect());
        Table { key, title: "The rounds".to_owned(), note: ROUNDS_NOTE, columns, rows }
    }
}

fn load_head(what: What) -> &'static str {
    match what {
        What::Single => "waiting",
        What::Passing => "load",
        What::Batch => "bytes",
    }
}

/// A number, where there is one.
fn number(value: f64, digits: usize) -> Cell {
    if value.is_finite() { Cell::Number(value, digits) } else { Cell::Missing }
}

/// Leaves out columns that have nothing in any row.
fn without_empty(columns: Vec<Column>, rows: Vec<Vec<Cell>>) -> (Vec<Column>, Vec<Vec<Cell>>) {
    let is_empty = |cell: &Cell| *cell == Cell::Missing || *cell == Cell::text("");
    let kept: Vec<usize> = (0..columns.len())
        .filter(|at| rows.iter().any(|row| row.get(*at).is_some_and(|cell| !is_empty(cell))))
        .collect();
    let rows = rows.iter().map(|row| kept.iter().filter_map(|at| row.get(*at).cloned()).collect()).collect();
    (kept.iter().filter_map(|at| columns.get(*at).copied()).collect(), rows)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::peers::rounds::tests::{PEER, measured, sample};

    fn options() -> Options {
        let peers = vec![Peer::RedisAlways];
        Options {
            what: What::ALL.to_vec(),
            rounds: 5,
            time: Duration::from_secs(1),
            events: 1_000,
            bytes: 64,
            waiting: vec![64],
            peers,
            json: false,
        }
    }

    fn at(table: &Table, key: &str) -> usize {
        table.columns.iter().position(|column| column.key == key).unwrap()
    }

    #[test]
    fn a_row_shows_the_ratio_and_what_is_wanted() {
        let names = [(PEER, "Redis 7.0.15, appendfsync always".to_owned())];
        let rounds = measured(What::Single, &names, &[(300, 200)]);
        let [table, each] = rounds.tables(&[Who::Courant, PEER], &options());
        let (ours, theirs) = (&table.rows[0], &table.rows[1]);
        assert_eq!(theirs[at(&table, "server")], Cell::text("Redis 7.0.15, appendfsync always"));
        assert_eq!(theirs[at(&table, "first_ratio")], Cell::Number(1.5, 2));
        assert_eq!(theirs[at(&table, "asked")], Cell::text("rate ≥ 1.50"));
        assert_eq!(theirs[at(&table, "reached")], Cell::text("yes"));
        // Three hundred events a second are far from what is asked, and half of them take too long.
        assert_eq!(ours[at(&table, "reached")], Cell::text("no"));
        assert_eq!(ours[at(&table, "first_ratio")], Cell::Missing);
        assert_eq!(ours[at(&table, "checkpoints")], Cell::Count(4));
        assert_eq!(theirs[at(&table, "pss_mib")], Cell::Number(20.0, 1));
        assert_eq!(ours[at(&table, "longest_journal_wait_ms")], Cell::Number(1.5, 1));
        // Nobody here is compared with the relaxed class.
        assert!(table.columns.iter().all(|column| column.key != "relaxed_first_ratio"));
        assert!(table.rows.iter().all(|row| row.len() == table.columns.len()));
        assert!(each.rows.iter().all(|row| row.len() == each.columns.len()));
    }

    #[test]
    fn every_kind_has_a_cell_for_each_column() {
        for what in What::ALL {
            let rounds = measured(what, &[], &[(300, 200), (200, 200)]);
            assert_eq!(rounds.row(PEER, 64).len(), 28, "{}", what.name());
            for table in rounds.tables(&[Who::Courant, PEER], &options()) {
                assert!(table.rows.iter().all(|row| row.len() == table.columns.len()), "{}", table.key);
            }
        }
    }

    #[test]
    fn the_relaxed_class_is_compared_only_with_those_who_promise_no_more() {
        let mut rounds = measured(What::Batch, &[], &[(300, 200)]);
        rounds.add(1, 64, Who::Relaxed, sample(400, 100, Some(10)));
        rounds.add(1, 64, Who::Peer(Peer::Kafka), sample(200, 100, None));
        assert_eq!(rounds.row(Who::Peer(Peer::Kafka), 64)[17], Cell::Number(2.0, 2));
        assert_eq!(rounds.row(PEER, 64)[17], Cell::Missing);
    }

    /// What a library takes is no part of the comparison with those that have none, and stays one of the others.
    #[test]
    fn clients_without_a_library_are_compared_with_each_other() {
        let mut rounds = measured(What::Passing, &[], &[(300, 200)]);
        let mut lean = sample(300, 100, Some(10));
        lean.taken.waits = Some([200, 225].map(Duration::from_micros));
        rounds.add(1, 64, Who::Lean, lean);
        rounds.add(1, 64, Who::Peer(Peer::Kafka), sample(200, 100, None));
        let row = rounds.row(PEER, 64);
        assert_eq!((&row[11], &row[14]), (&Cell::Number(1.0, 2), &Cell::Number(1.0, 2)));
        assert_eq!((&row[19], &row[20]), (&Cell::Number(2.0, 2), &Cell::Number(4.0, 2)));
        assert_eq!(rounds.row(Who::Peer(Peer::Kafka), 64)[19], Cell::Missing);
        assert_eq!(rounds.row(Who::Lean, 64)[11], Cell::Missing, "it is no peer");
    }

    /// The row without a library says what a client takes, and changes nothing in those beside it.
    #[test]
    fn what_is_asked_of_single_events_stays_with_the_library() {
        let mut rounds = measured(What::Single, &[], &[(300, 200)]);
        let before = rounds.row(PEER, 64);
        rounds.add(1, 64, Who::Lean, sample(900, 100, Some(10)));
        assert_eq!(rounds.row(PEER, 64), before);
        let [table, each] = rounds.tables(&[Who::Courant, Who::Lean, PEER], &options());
        let lean = &table.rows[1];
        assert_eq!(lean[at(&table, "server")], Cell::text("Courant, clients without a library"));
        assert_eq!(lean[at(&table, "events_per_s")], Cell::rounded(900.0));
        assert_eq!(lean[at(&table, "asked")], Cell::text(""));
        assert_eq!(lean[at(&table, "reached")], Cell::text(""));
        assert_eq!(lean[at(&table, "first_ratio")], Cell::Missing);
        assert_eq!(table.rows[0][at(&table, "asked")], Cell::text("≥ 180,000/s, p50 ≤ 350 µs"));
        assert!(table.columns.iter().all(|column| column.key != "lean_first_ratio"));
        assert_eq!(each.rows.len(), 3);
    }

    #[test]
    fn a_server_of_which_nothing_counts_has_a_void_row() {
        let mut rounds = measured(What::Single, &[], &[]);
        rounds.add(1, 64, Who::Courant, sample(900, 100, Some(0)));
        let row = rounds.row(Who::Courant, 64);
        assert_eq!((&row[3], &row[8], &row[26]), (&Cell::Void, &Cell::Void, &Cell::Count(0)));
        assert_eq!(row[22], Cell::text("void"));
    }
}
