//! Power cuts of a real ext4 under load. Its counterpart with syncing switched off must lose records:
//! without that, no loss would prove nothing.

use crate::disk::Disk;
use crate::ledger::Ledger;
use crate::load::{Load, Plan, reading};
use crate::server::{Launch, Refused, courant, fixed_port};
use crate::{Dice, PATIENCE, done, laps, rounds, seed, skip};

/// Cuts, unless COURANT_TEST_CUTS says how many.
const CUTS: u32 = 100;
const PRODUCERS: u32 = 3;
const PARTITIONS: i32 = 4;
const TOPIC: &str = "cut";

/// Cuts within which a server that does not sync must have lost something. One is nearly always
/// enough; a random sync may have saved all by chance.
const UNSYNCED_CUTS: u32 = 5;

fn plan(first_producer: u32, seed: u64) -> Plan {
    Plan { producers: PRODUCERS, first_producer, partitions: PARTITIONS, seed }
}

#[test]
fn cuts_lose_nothing() {
    let mut acked = 0;
    for (seed, cuts) in laps(seed(), rounds("COURANT_TEST_CUTS", CUTS)) {
        let Some(disk) = Disk::for_test("power_cut::cuts_lose_nothing") else {
            return;
        };
        acked += lap(&disk, seed, cuts);
    }
    done("ext4", &format!("{acked} acknowledged events"));
}

/// Cuts the power so many times, on a disk of its own; returns what was acknowledged.
fn lap(disk: &Disk, seed: u64, cuts: u32) -> usize {
    let mut dice = Dice::new(seed);
    let launch = Launch::on(&disk.data()).port(fixed_port());
    let mut server = launch.start();
    let bootstrap = server.bootstrap();
    server.create_topic(TOPIC, PARTITIONS);
    let ledger = Ledger::new(TOPIC);
    let load = Load::start(&bootstrap, &ledger, plan(0, seed));

    for cut in 1..=cuts {
        let more = usize::try_from(dice.between(50, 800)).unwrap();
        let target = ledger.acked_count() + more;
        assert!(
            ledger.reaches(target, PATIENCE),
            "seed {seed}: no progress before cut {cut}; given up: {:?}; the server said:\n{}",
            ledger.failures().first(),
            server.stderr()
        );
        disk.cut(dice.roll());
        server.kill();
        disk.remount();
        let acked = ledger.acked_now();
        server = launch.start();
        ledger
            .check(&acked, &reading(&bootstrap, TOPIC, PARTITIONS))
            .assert_clean(&format!("seed {seed}, after cut {cut}"));
    }

    load.finish();
    let given_up = ledger.failures();
    assert!(given_up.is_empty(), "seed {seed}: given up: {given_up:?}");
    ledger
        .check(&ledger.acked_now(), &reading(&bootstrap, TOPIC, PARTITIONS))
        .assert_clean(&format!("seed {seed}, at the end"));
    server.assert_well("power cuts");
    ledger.acked_count()
}

/// Whether a server refuses its log because part of it is damaged or gone.
fn tells_of_loss(refused: &Refused) -> bool {
    let said = &refused.stderr;
    said.contains("Nothing was changed; restore the named file from a copy")
        || (said.contains("cannot open") && said.contains("No such file or directory"))
}

#[test]
fn without_syncing_records_are_lost() {
    const NAME: &str = "power_cut::without_syncing_records_are_lost";
    if !cfg!(feature = "planted-defects") {
        skip(NAME, "the server was built without its planted defects");
        return;
    }
    let Some(disk) = Disk::for_test(NAME) else {
        return;
    };
    let seed = seed();
    let mut dice = Dice::new(seed);
    let port = fixed_port();
    let sound = Launch::on(&disk.data()).port(port);
    let unsound = Launch::on(&disk.data()).port(port).defect("no-sync");
    let ledger = Ledger::new(TOPIC);

    // A topic and records that are on disk, so that what is lost later is records and not a
    // directory that was never there.
    let server = sound.start();
    let bootstrap = server.bootstrap();
    server.create_topic(TOPIC, PARTITIONS);
    let load = Load::start(&bootstrap, &ledger, plan(0, seed));
    assert!(ledger.reaches(200, PATIENCE), "no progress with syncing");
    load.finish();
    let (status, said) = server.stop();
    assert!(status.success(), "an orderly stop: {status}\n{said}");

    for cut in 1..=UNSYNCED_CUTS {
        let server = unsound.start();
        // New producers each time: the server may have forgotten the old ones with their records.
        let load = Load::start(&bootstrap, &ledger, plan(cut * PRODUCERS, seed));
        let more = usize::try_from(dice.between(200, 1_000)).unwrap();
        let target = ledger.acked_count() + more;
        assert!(ledger.reaches(target, PATIENCE), "no progress");
        disk.cut(dice.roll());
        server.kill();
        load.abandon();
        disk.remount();
        let acked = ledger.acked_now();
        let looked = courant(&["log", "verify", "--data", disk.data().to_str().unwrap()], "");
        if looked.status.code() == Some(1) {
            // What was promised is missing, and is named: lost too.
            let said = String::from_utf8_lossy(&looked.stderr).into_owned();
            assert!(said.contains("nothing was changed"), "seed {seed}: {said}");
            return;
        }
        let server = match sound.try_start() {
            Ok(server) => server,
            Err(refused) => {
                // It sees that the disk lacks what it was told is there, and serves nothing: lost
                // too. Any other reason not to start proves nothing about syncing.
                refused.assert_orderly();
                assert!(tells_of_loss(&refused), "seed {seed}: not for missing records: {refused}");
                return;
            }
        };
        let verdict = ledger.check(&acked, &reading(&bootstrap, TOPIC, PARTITIONS));
        if verdict.is_lossy() {
            return;
        }
        let (status, said) = server.stop();
        assert!(status.success(), "an orderly stop: {status}\n{said}");
    }
    panic!("seed {seed}: {UNSYNCED_CUTS} power cuts without syncing lost nothing: the test is blind");
}
