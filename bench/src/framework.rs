//! Effects per second through the framework, beside the same rows written by hand: SQLite and the embedded
//! log, every commit synced, 256 lanes.
//!
//! The two are measured in turns, on a directory of their own each time, so that what happens to the machine
//! happens to both. What counts is the median of the ratios.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use courant::prelude::*;
use courant::store_api::{Store as _, lane_of};
use courant::{BoxError, Service};
use sqlx::ConnectOptions as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use tokio::task::JoinSet;

use crate::probe::Probe;
use crate::say;
use crate::table::{Cell, Column, Report, Table};

const USAGE: &str = "\
cargo xtask bench framework [OPTIONS]

  --rounds N     rounds, each once through the framework and once by hand [5]
  --events N     events of a round [20000]
  --quick        a tenth of the events, to see that it works
  --json         JSON instead of a Markdown table
";

/// Fewer rounds have no median to speak of.
const ROUNDS_MIN: u32 = 5;
const EVENTS_MIN: u32 = 1_000;
const QUICK: u32 = 10;
/// Events that are handled at once. SQLite has one writer: more of them only wait for it.
const CONCURRENCY: usize = 16;
/// Tasks that publish what a round handles, before it is measured.
const PUBLISHERS: u32 = 64;
const KEYS: u32 = 1_000;
const BILLS: &str = "create table bills (order_id text not null, cents integer not null)";
/// As long as what the framework writes for such an event.
const HEADERS: &str = r#"[["ce_id","00000000-0000-0000-0000-000000000000"],["ce_source","bench"],["ce_specversion","1.0"],["ce_type","bench.order-billed"],["ce_time","2023-11-14T22:13:20Z"],["ce_subject","order-000"],["content-type","application/json"],["ce_correlationid","00000000-0000-0000-0000-000000000000"],["ce_causationid","00000000-0000-0000-0000-000000000000"]]"#;

#[derive(Event, Serialize, Deserialize)]
#[event(type = "bench.order-placed", topic = "bench.orders", key = order_id)]
struct OrderPlaced {
    order_id: String,
    cents: i64,
}

#[derive(Event, Serialize, Deserialize)]
#[event(type = "bench.order-billed", topic = "bench.bills", key = order_id)]
struct OrderBilled {
    order_id: String,
    cents: i64,
}

async fn bill(placed: OrderPlaced, mut tx: Tx<Sqlite>) -> Result<OrderBilled, HandlerError> {
    let OrderPlaced { order_id, cents } = placed;
    sqlx::query("insert into bills (order_id, cents) values (?, ?)")
        .bind(&order_id)
        .bind(cents)
        .execute(&mut *tx)
        .await?;
    Ok(OrderBilled { order_id, cents })
}

/// How much is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Options {
    rounds: u32,
    events: u32,
    json: bool,
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Option<Options>> {
    let mut options = Options { rounds: ROUNDS_MIN, events: 20_000, json: false };
    let mut part = 1;
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--rounds" => options.rounds = number(&arg, args.next(), ROUNDS_MIN)?,
            "--events" => options.events = number(&arg, args.next(), EVENTS_MIN)?,
            "--quick" => part = QUICK,
            "--json" => options.json = true,
            "-h" | "--help" => return Ok(None),
            other => bail!("there is no option `{other}`\n\n{USAGE}"),
        }
    }
    options.events = (options.events / part).max(EVENTS_MIN);
    Ok(Some(options))
}

fn number(option: &str, given: Option<String>, least: u32) -> Result<u32> {
    let given = given.with_context(|| format!("{option} needs a value"))?;
    match given.parse() {
        Ok(number) if number >= least => Ok(number),
        _ => bail!("{option} takes a whole number from {least} on, not `{given}`"),
    }
}

/// Measures, on the disk that `target` is on. Gives back the text to print.
pub(crate) fn run(
    args: impl Iterator<Item = String>,
    target: &Path,
    facts: Vec<(&'static str, String)>,
) -> Result<String> {
    let Some(options) = parse(args)? else { return Ok(USAGE.to_owned()) };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut report = Report::new(facts);
    report.add(runtime.block_on(measure(options, target))?);
    Ok(if options.json { report.json() } else { report.markdown() })
}

async fn measure(options: Options, target: &Path) -> Result<Table> {
    let mut rounds = Vec::new();
    let mut rows = Vec::new();
    for round in 1..=options.rounds {
        say(format_args!("bench: framework, round {round} of {}", options.rounds));
        let dir = tempfile::Builder::new().prefix("bench-framework-").tempdir_in(target)?;
        let probe = Probe::take(dir.path())?;
        let by_hand = rate(options.events, by_hand(&dir.path().join("by-hand.db"), options.events).await?);
        let through = through_framework(dir.path(), options.events).await;
        let through = rate(options.events, through.map_err(|error| anyhow::anyhow!(error))?);
        let probed = probe.p50.as_secs_f64() * 1e6;
        rows.push(row(Cell::text(round.to_string()), (through, by_hand, through / by_hand), Some(probed)));
        rounds.push((through, by_hand, through / by_hand));
    }
    let of = |figure: fn(&(f64, f64, f64)) -> f64| median(rounds.iter().map(figure).collect());
    let medians = (of(|round| round.0), of(|round| round.1), of(|round| round.2));
    rows.push(row(Cell::text("median"), medians, None));
    Ok(Table {
        key: "framework",
        title: format!("Effects through the framework, {} events a round", options.events),
        note: "An effect is one event handled in one transaction of SQLite: inbox, business row, outbox, each \
               commit synced. Through the framework it is also read from the embedded log and its event \
               published there. By hand: the same rows, one transaction each, nothing else. Wanted: a ratio \
               of 0.6 and 8,000 effects/s.",
        columns: vec![
            Column::text("round", "round"),
            Column::number("framework effects/s", "framework_effects_per_s"),
            Column::number("by hand effects/s", "by_hand_effects_per_s"),
            Column::number("ratio", "ratio"),
            Column::number("probe p50 µs", "probe_p50_us"),
        ],
        rows,
    })
}

fn row(name: Cell, (through, by_hand, ratio): (f64, f64, f64), probe_us: Option<f64>) -> Vec<Cell> {
    let probe = probe_us.map_or(Cell::Missing, Cell::rounded);
    vec![name, Cell::rounded(through), Cell::rounded(by_hand), Cell::Number(ratio, 2), probe]
}

fn rate(events: u32, took: Duration) -> f64 {
    f64::from(events) / took.as_secs_f64()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn key(number: u32) -> String {
    format!("order-{:03}", number % KEYS)
}

/// From the start of the service until everything is handled and everything that it published is in the
/// log.
async fn through_framework(dir: &Path, events: u32) -> Result<Duration, BoxError> {
    let service = App::new("bench")
        .engine(format!("embedded:{}", dir.join("events").display()))
        .store(Sqlite::open(&dir.join("framework.db")).await?)
        .subscribe(Subscription::named("billing").concurrency(CONCURRENCY).on(bill))
        .build()
        .await?;
    let mut tx = service.transaction().await?;
    sqlx::query(BILLS).execute(&mut *tx).await?;
    tx.commit().await?;
    publish(&service, events).await?;
    let begun = Instant::now();
    let mut service = service.start().await?;
    service.settle().await?;
    let took = begun.elapsed();
    let mut reader = service.store().read().await?;
    let (bills,): (i64,) = sqlx::query_as("select count(*) from bills").fetch_one(&mut *reader).await?;
    drop(reader);
    service.stop().await?;
    if bills != i64::from(events) {
        return Err(format!("{bills} of {events} events were handled").into());
    }
    Ok(took)
}

async fn publish(service: &Service<Sqlite>, events: u32) -> Result<(), BoxError> {
    let mut publishing = JoinSet::new();
    for first in 0..PUBLISHERS {
        let publisher = service.publisher();
        publishing.spawn(async move {
            for number in (first..events).step_by(PUBLISHERS as usize) {
                publisher.publish(&OrderPlaced { order_id: key(number), cents: i64::from(number) }).await?;
            }
            Ok::<(), BoxError>(())
        });
    }
    while let Some(published) = publishing.join_next().await {
        published??;
    }
    Ok(())
}

/// The same rows in the same tables, one transaction for each event, one after the other: what a service
/// would do that has only these.
async fn by_hand(file: &Path, events: u32) -> Result<Duration> {
    let store = Sqlite::open(file).await?;
    store.install(0).await?;
    drop(store);
    let mut connection = SqliteConnectOptions::new()
        .filename(file)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .connect()
        .await?;
    sqlx::query(BILLS).execute(&mut connection).await?;
    let begun = Instant::now();
    for number in 0..events {
        effect(&mut connection, number).await?;
    }
    let took = begun.elapsed();
    let (bills,): (i64,) = sqlx::query_as("select count(*) from bills").fetch_one(&mut connection).await?;
    ensure!(bills == i64::from(events), "{bills} of {events} rows were written");
    Ok(took)
}

async fn effect(connection: &mut sqlx::SqliteConnection, number: u32) -> Result<()> {
    let (order_id, id) = (key(number), format!("{number:036}"));
    let value = format!(r#"{{"order_id":"{order_id}","cents":{number}}}"#);
    let lane = i64::from(lane_of(OrderBilled::TOPIC, order_id.as_bytes()));
    sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await?;
    sqlx::query(
        "INSERT INTO courant_inbox (consumer, generation, event_id, outcome, settled_ms) \
         VALUES ('billing', 1, ?, 'handled', ?)",
    )
    .bind(&id)
    .bind(i64::from(number))
    .execute(&mut *connection)
    .await?;
    sqlx::query("insert into bills (order_id, cents) values (?, ?)")
        .bind(&order_id)
        .bind(i64::from(number))
        .execute(&mut *connection)
        .await?;
    let (position,): (i64,) = sqlx::query_as(
        "UPDATE courant_outbox_lane SET position = position + 1 WHERE lane = ? RETURNING position",
    )
    .bind(lane)
    .fetch_one(&mut *connection)
    .await?;
    sqlx::query(
        "INSERT INTO courant_outbox (lane, position, event_id, topic, event_key, event_value, headers, \
         timestamp_ms, bytes) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(lane)
    .bind(position)
    .bind(&id)
    .bind(OrderBilled::TOPIC)
    .bind(order_id.as_bytes())
    .bind(value.as_bytes())
    .bind(HEADERS)
    .bind(i64::from(number))
    .bind(i64::try_from(value.len() + HEADERS.len())?)
    .execute(&mut *connection)
    .await?;
    sqlx::query("COMMIT").execute(&mut *connection).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(line: &str) -> Result<Option<Options>> {
        parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn rounds_are_at_least_five() {
        assert!(options("--rounds 4").is_err());
        let quick = options("--rounds 7 --events 30000 --quick --json").expect("parses");
        assert_eq!(quick, Some(Options { rounds: 7, events: 3_000, json: true }));
        assert_eq!(options("--help").expect("parses"), None);
        assert!(options("--rows batch").is_err());
    }

    #[test]
    fn the_median_is_a_value_that_occurred() {
        assert_eq!(median(vec![3.0, 1.0, 2.0, 5.0, 4.0]).to_bits(), 3.0_f64.to_bits());
        assert!(median(Vec::new()).is_nan());
    }
}
