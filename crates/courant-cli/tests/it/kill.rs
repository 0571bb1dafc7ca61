//! SIGKILL under load, thirty times or more, and in the middle of starts: what was acknowledged is there,
//! once, in order.

use std::time::{Duration, Instant};

use tempfile::tempdir;

use crate::ledger::Ledger;
use crate::load::{Load, Plan, reading};
use crate::server::{Launch, Server, fixed_port};
use crate::{Dice, PATIENCE, done, laps, rounds, seed};

/// Kills, unless COURANT_TEST_KILLS says how many.
const KILLS: u32 = 30;
const PRODUCERS: u32 = 3;
const PARTITIONS: i32 = 4;
const TOPIC: &str = "killed";

#[test]
fn kills_lose_nothing() {
    let kills = rounds("COURANT_TEST_KILLS", KILLS);
    let (mut acked, mut starting) = (0, 0);
    for (seed, kills) in laps(seed(), kills) {
        let (events, killed_starting) = lap(seed, kills);
        (acked, starting) = (acked + events, starting + killed_starting);
    }
    assert!(starting > 0 || kills < KILLS, "no start was killed before its server was ready");
    done("the machine's", &format!("{acked} acknowledged events, {starting} more kills of a start"));
}

/// Starts a server, and says how long that took.
fn start(launch: &Launch) -> (Server, Duration) {
    let began = Instant::now();
    (launch.start(), began.elapsed())
}

/// Kills a server so many times, on a data directory of its own; returns what was acknowledged, and how
/// many starts were killed before the server was ready.
fn lap(seed: u64, kills: u32) -> (usize, u32) {
    let mut dice = Dice::new(seed);
    let data = tempdir().unwrap();
    let launch = Launch::on(data.path()).port(fixed_port());
    let (mut server, mut took) = start(&launch);
    let mut killed_starting = 0;
    let bootstrap = server.bootstrap();
    server.create_topic(TOPIC, PARTITIONS);
    let ledger = Ledger::new(TOPIC);
    let plan = Plan { producers: PRODUCERS, first_producer: 0, partitions: PARTITIONS, seed };
    let load = Load::start(&bootstrap, &ledger, plan);

    for kill in 1..=kills {
        // The moment is a number of acknowledgements and not a time: the server is always at work.
        let more = usize::try_from(dice.between(50, 800)).unwrap();
        let target = ledger.acked_count() + more;
        assert!(
            ledger.reaches(target, PATIENCE),
            "seed {seed}: no progress before kill {kill}; given up: {:?}; the server said:\n{}",
            ledger.failures().first(),
            server.stderr()
        );
        server.kill();
        let acked = ledger.acked_now();
        if dice.roll().is_multiple_of(3) {
            // And once more in the middle of the start, which is about as long as the one before.
            let whole = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
            let was_ready = launch.kill_while_starting(Duration::from_micros(dice.between(0, whole)));
            killed_starting += u32::from(!was_ready);
        }
        (server, took) = start(&launch);
        if kill % 10 == 0 {
            ledger
                .check(&acked, &reading(&bootstrap, TOPIC, PARTITIONS))
                .assert_clean(&format!("seed {seed}, after kill {kill}"));
        }
    }

    load.finish();
    let given_up = ledger.failures();
    assert!(given_up.is_empty(), "seed {seed}: given up: {given_up:?}");
    let acked = ledger.acked_now();
    ledger
        .check(&acked, &reading(&bootstrap, TOPIC, PARTITIONS))
        .assert_clean(&format!("seed {seed}, at the end"));

    let (status, said) = server.stop();
    assert!(status.success(), "an orderly stop: {status}\n{said}");
    let server = launch.start();
    ledger
        .check(&acked, &reading(&bootstrap, TOPIC, PARTITIONS))
        .assert_clean(&format!("seed {seed}, after an orderly stop"));
    server.assert_well("an orderly stop");
    (acked.len(), killed_starting)
}
