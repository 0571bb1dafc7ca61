//! Catching up from the page cache: what the server sends, beside a stream of bytes over the same loopback.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};

use super::{Bench, PROBE_COLUMNS, micros, progress};
use crate::framework::median;
use crate::goal;
use crate::probe::{self, Probe};
use crate::server::Server;
use crate::table::{Cell, Column, Table};
use crate::wire::{self, Connection, Produce};

/// Fewer rounds have no median to speak of.
const ROUNDS: u64 = 5;
/// Bytes of one fetch, and of one write of the stream beside it.
const FETCH_BYTES: u32 = 1 << 20;
const BATCH: usize = 500;
const EVENT_BYTES: usize = 100;
const TOPIC: &str = "read";
const ASKED: &str = "≥ 0.80";

/// One round: the same bytes both ways.
#[derive(Clone, Copy, Debug)]
struct Sample {
    bytes: u64,
    fetches: u64,
    fetched: Duration,
    streamed: Duration,
    server_cpu: f64,
    probe: Probe,
}

impl Sample {
    fn rate(&self) -> f64 {
        self.bytes as f64 / self.fetched.as_secs_f64() / 1e6
    }

    fn stream_rate(&self) -> f64 {
        self.bytes as f64 / self.streamed.as_secs_f64() / 1e6
    }

    fn ratio(&self) -> f64 {
        self.rate() / self.stream_rate()
    }

    fn cpu_per_gib(&self) -> f64 {
        self.server_cpu * (1_u64 << 30) as f64 / self.bytes as f64
    }
}

pub(super) fn run(bench: &Bench) -> Result<Table> {
    let mib = bench.options.recover_mib;
    progress(&format!("a log of {mib} MiB, to be read again"));
    probe::warm_memory(bench.scratch.path(), mib << 20)?;
    let data = bench.fresh_dir()?;
    let server = bench.start(&data)?;
    let mut samples = Vec::new();
    server.blame(fill(&server, mib))?;
    for round in 1..=ROUNDS {
        progress(&format!("round {round} of {ROUNDS}, fetches of 1 MiB"));
        let probe = bench.probe()?;
        samples.push(server.blame(sample(&server, round, probe))?);
    }
    Ok(table(&samples, mib))
}

fn fill(server: &Server, mib: u64) -> Result<()> {
    let mut connection = Connection::open(&server.bootstrap())?;
    connection.create_topic(TOPIC, 1, &[])?;
    let batch = wire::batch(BATCH, EVENT_BYTES)?;
    let mut request = Produce::new(TOPIC, &batch)?;
    connection.produce(&mut request, 1, ((mib << 20) / batch.len() as u64).max(1))
}

/// In every second round the stream comes first. It has as many bytes as the log.
fn sample(server: &Server, round: u64, probe: Probe) -> Result<Sample> {
    let mut streamed = None;
    let mut connection = Connection::open(&server.bootstrap())?;
    // How much there is, and a first touch of all of it.
    let (bytes, _, _) = read_all(&mut connection)?;
    if round.is_multiple_of(2) {
        streamed = Some(stream(bytes)?);
    }
    let server_cpu = server.cpu_seconds()?;
    let (again, fetches, fetched) = read_all(&mut connection)?;
    let server_cpu = server.cpu_seconds()? - server_cpu;
    ensure!(again == bytes, "{bytes} bytes were read first, and {again} then");
    let streamed = match streamed {
        Some(streamed) => streamed,
        None => stream(bytes)?,
    };
    Ok(Sample { bytes, fetches, fetched, streamed, server_cpu, probe })
}

/// Reads the topic from its beginning to its end: bytes, fetches, and how long that took.
fn read_all(connection: &mut Connection) -> Result<(u64, u64, Duration)> {
    let begun = Instant::now();
    let (mut bytes, mut fetches, mut offset) = (0, 0, 0);
    let mut took = Duration::ZERO;
    loop {
        let (read, next) = connection.fetch(TOPIC, offset, FETCH_BYTES)?;
        if next == offset {
            // The last one waited for more, which did not come.
            ensure!(bytes > 0, "there is nothing to read");
            return Ok((bytes, fetches, took));
        }
        bytes += read;
        fetches += 1;
        offset = next;
        took = begun.elapsed();
    }
}

/// How long so many bytes take from one thread of this program to another.
fn stream(bytes: u64) -> Result<Duration> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port on loopback")?;
    let address = listener.local_addr()?;
    let sender = thread::spawn(move || -> Result<()> {
        let mut stream = TcpStream::connect(address)?;
        let chunk = vec![1_u8; FETCH_BYTES as usize];
        let mut left = usize::try_from(bytes)?;
        while left > 0 {
            let now = left.min(chunk.len());
            stream.write_all(&chunk[..now])?;
            left -= now;
        }
        Ok(())
    });
    let (mut stream, _) = listener.accept().context("the stream does not come")?;
    let mut buffer = vec![0_u8; FETCH_BYTES as usize];
    let begun = Instant::now();
    let mut received = 0;
    loop {
        match stream.read(&mut buffer).context("the stream cannot be read")? {
            0 => break,
            read => received += read as u64,
        }
    }
    let took = begun.elapsed();
    sender.join().map_err(|_| anyhow!("the stream's sender panicked"))??;
    ensure!(received == bytes, "{bytes} bytes were sent, and {received} came");
    Ok(took)
}

fn table(samples: &[Sample], mib: u64) -> Table {
    let columns = [
        Column::text("catching up", "case"),
        Column::number("MB/s", "mb_per_s"),
        Column::number("stream MB/s", "stream_mb_per_s"),
        Column::number("ratio", "ratio"),
        Column::number("least", "ratio_least"),
        Column::number("most", "ratio_most"),
        goal::COLUMNS[0],
        goal::COLUMNS[1],
        Column::number("fetches", "fetches"),
        Column::number("server CPU s/GiB", "server_cpu_s_per_gib"),
        Column::number("rounds", "rounds"),
    ];
    let counted: Vec<&Sample> = samples.iter().filter(|sample| !sample.probe.is_busy()).collect();
    let of = |figure: fn(&Sample) -> f64| median(counted.iter().map(|sample| figure(sample)).collect());
    let figure = |cell: Cell| if counted.is_empty() { Cell::Void } else { cell };
    let ratios = || counted.iter().map(|sample| sample.ratio());
    let probe = |figure: fn(&Probe) -> Duration| {
        Cell::rounded(median(samples.iter().map(|sample| micros(figure(&sample.probe))).collect()))
    };
    let void = samples.len() - counted.len();
    let [asked, reached] = goal::cells(ASKED, &[goal::at_least(of(Sample::ratio), 0.8)]);
    let row = vec![
        Cell::text("fetches of 1 MiB, one after the other"),
        figure(Cell::rounded(of(Sample::rate))),
        figure(Cell::rounded(of(Sample::stream_rate))),
        figure(Cell::Number(of(Sample::ratio), 2)),
        figure(Cell::Number(ratios().fold(f64::INFINITY, f64::min), 2)),
        figure(Cell::Number(ratios().fold(0.0, f64::max), 2)),
        asked,
        reached,
        figure(Cell::rounded(of(|sample| sample.fetches as f64))),
        figure(Cell::Number(of(Sample::cpu_per_gib), 2)),
        Cell::Count(counted.len() as u64),
        probe(|probe| probe.p50),
        probe(|probe| probe.p99),
        Cell::text(if void == 0 { String::new() } else { format!("void rounds: {void}") }),
    ];
    Table {
        key: "read",
        title: format!("Catching up: {mib} MiB from the page cache, medians of {ROUNDS} rounds"),
        note: "Batches of 500 events of 100 B, read from the beginning to the end over one connection; what \
               comes is received and not looked at, but for the offset of the next fetch. The stream is the \
               same number of bytes between two threads, in writes and reads of 1 MiB, in the same round.",
        columns: columns.into_iter().chain(PROBE_COLUMNS).collect(),
        rows: vec![row],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_arrives_whole() {
        assert!(stream(3 * u64::from(FETCH_BYTES) + 7).unwrap() > Duration::ZERO);
    }

    #[test]
    fn the_ratio_is_that_of_a_round_and_a_busy_machine_has_none() {
        let sample = |streamed: u64, probe: u64| Sample {
            bytes: 1 << 30,
            fetches: 1_040,
            fetched: Duration::from_millis(500),
            streamed: Duration::from_millis(streamed),
            server_cpu: 0.25,
            probe: Probe { p50: Duration::from_micros(probe), p99: Duration::from_micros(400), idle: 1.0 },
        };
        let table = table(&[sample(400, 100), sample(450, 100), sample(100, 300)], 1_024);
        let row = &table.rows[0];
        assert_eq!(row.len(), table.columns.len());
        let Cell::Number(ratio, _) = row[3] else { panic!("{row:?}") };
        assert!((0.899..0.901).contains(&ratio), "{ratio}");
        assert_eq!((&row[7], &row[10]), (&Cell::text("yes"), &Cell::Count(2)));
        assert_eq!(row[9], Cell::Number(0.25, 2));
        assert_eq!(row[13], Cell::text("void rounds: 1"));
    }
}
