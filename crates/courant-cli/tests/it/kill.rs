//! SIGKILL under load, thirty times or more: what was acknowledged is there, once, in order.

use tempfile::tempdir;

use crate::ledger::Ledger;
use crate::load::{Load, Plan, reading};
use crate::server::{Launch, fixed_port};
use crate::{Dice, PATIENCE, done, laps, rounds, seed};

/// Kills, unless COURANT_TEST_KILLS says how many.
const KILLS: u32 = 30;
const PRODUCERS: u32 = 3;
const PARTITIONS: i32 = 4;
const TOPIC: &str = "killed";

#[test]
fn kills_lose_nothing() {
    let laps = laps(seed(), rounds("COURANT_TEST_KILLS", KILLS));
    let acked: usize = laps.map(|(seed, kills)| lap(seed, kills)).sum();
    done("the machine's", &format!("{acked} acknowledged events"));
}

/// Kills a server so many times, on a data directory of its own; returns what was acknowledged.
fn lap(seed: u64, kills: u32) -> usize {
    let mut dice = Dice::new(seed);
    let data = tempdir().unwrap();
    let launch = Launch::on(data.path()).port(fixed_port());
    let mut server = launch.start();
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
        server = launch.start();
        if dice.roll().is_multiple_of(3) {
            // And once more while the producers are only coming back.
            server.kill();
            server = launch.start();
        }
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
    acked.len()
}
