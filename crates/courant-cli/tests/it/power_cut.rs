//! Power cuts of a real ext4 under load. Its counterpart with syncing switched off must lose records:
//! without that, no loss would prove nothing.
//!
//! Most of the time between two cuts the machine has nothing to do: clients wait before they knock
//! again. So several disks are cut at the same time, each with a server, a load and a ledger of its own.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::disk::Disk;
use crate::ledger::Ledger;
use crate::load::{Load, Plan, reading};
use crate::server::{Launch, Refused, courant, fixed_port};
use crate::{Dice, PATIENCE, done, rounds, seed, skip};

/// Cuts, unless COURANT_TEST_CUTS says how many.
const CUTS: u32 = 100;
/// Disks at the same time, unless COURANT_TEST_LANES says how many.
const LANES: u32 = 3;
/// Cuts of one disk. After each of them everything is read again, so that many short laps are worth more
/// than a few long ones. Every tenth lap is a long one.
const LAP: u32 = 25;
const LONG_LAP: u32 = 100;
const PRODUCERS: u32 = 3;
const PARTITIONS: i32 = 4;
const TOPIC: &str = "cut";

/// Cuts within which a server that does not sync must have lost something. One is nearly always
/// enough; a random sync may have saved all by chance.
const UNSYNCED_CUTS: u32 = 5;

fn plan(first_producer: u32, seed: u64) -> Plan {
    Plan { producers: PRODUCERS, first_producer, partitions: PARTITIONS, seed }
}

/// Seeds and cuts of all laps.
fn laps(seed: u64, cuts: u32) -> impl Iterator<Item = (u64, u32)> {
    let mut left = cuts;
    (seed..).map_while(move |seed| {
        let lap = left.min(if seed.is_multiple_of(10) { LONG_LAP } else { LAP });
        left -= lap;
        (lap > 0).then_some((seed, lap))
    })
}

#[test]
fn cuts_lose_nothing() {
    const NAME: &str = "power_cut::cuts_lose_nothing";
    // Whether it can be done here is found out, and said, once.
    if Disk::for_test(NAME).is_none() {
        return;
    }
    let lanes = rounds("COURANT_TEST_LANES", LANES).max(1);
    let laps = Mutex::new(laps(seed(), rounds("COURANT_TEST_CUTS", CUTS)));
    let (acked, alarm) = (AtomicUsize::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        for _ in 0..lanes {
            scope.spawn(|| {
                let _alarm = Alarm(&alarm);
                let port = fixed_port();
                // Of the lock, no more than the next lap.
                let next = || laps.lock().unwrap().next();
                while let Some((seed, cuts)) = next() {
                    let disk = Disk::for_test(NAME).expect("another disk beside the first");
                    let Some((count, spent)) = lap(&disk, port, seed, cuts, &alarm) else { return };
                    println!("seed {seed}: {cuts} cuts, {count} acknowledged events, {spent:?}");
                    acked.fetch_add(count, Ordering::Relaxed);
                }
            });
        }
    });
    let acked = acked.load(Ordering::Relaxed);
    done("ext4", &format!("{acked} acknowledged events, {lanes} disks at the same time"));
}

/// Lets the other lanes end when one has failed.
struct Alarm<'a>(&'a AtomicBool);

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}

/// What the time of a lap was spent on.
#[derive(Debug, Default)]
struct Spent {
    load: Duration,
    cut: Duration,
    start: Duration,
    check: Duration,
}

/// Does something and adds the time that it took.
fn timed<T>(spent: &mut Duration, act: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let done = act();
    *spent += began.elapsed();
    done
}

/// Cuts the power so many times, on a disk of its own; returns how many events were acknowledged, or
/// nothing when another lane has failed.
fn lap(disk: &Disk, port: u16, seed: u64, cuts: u32, alarm: &AtomicBool) -> Option<(usize, Spent)> {
    let mut dice = Dice::new(seed);
    let launch = Launch::on(&disk.data()).port(port);
    let mut server = launch.start();
    let bootstrap = server.bootstrap();
    server.create_topic(TOPIC, PARTITIONS);
    let ledger = Ledger::new(TOPIC);
    let load = Load::start(&bootstrap, &ledger, plan(0, seed));
    let mut spent = Spent::default();

    for cut in 1..=cuts {
        if alarm.load(Ordering::Relaxed) {
            return None;
        }
        let more = usize::try_from(dice.between(50, 800)).unwrap();
        let target = ledger.acked_count() + more;
        assert!(
            timed(&mut spent.load, || ledger.reaches(target, PATIENCE)),
            "seed {seed}: no progress before cut {cut}; given up: {:?}; the server said:\n{}",
            ledger.failures().first(),
            server.stderr()
        );
        timed(&mut spent.cut, || {
            disk.cut(dice.roll());
            server.kill();
            disk.remount();
        });
        let acked = ledger.acked_now();
        server = timed(&mut spent.start, || launch.start());
        timed(&mut spent.check, || {
            ledger
                .check(&acked, &reading(&bootstrap, TOPIC, PARTITIONS))
                .assert_clean(&format!("seed {seed}, after cut {cut}"));
        });
    }

    load.finish();
    let given_up = ledger.failures();
    assert!(given_up.is_empty(), "seed {seed}: given up: {given_up:?}");
    ledger
        .check(&ledger.acked_now(), &reading(&bootstrap, TOPIC, PARTITIONS))
        .assert_clean(&format!("seed {seed}, at the end"));
    server.assert_well("power cuts");
    Some((ledger.acked_count(), spent))
}

#[test]
fn laps_have_all_cuts_and_few_are_long() {
    let all: Vec<(u64, u32)> = laps(1, 1_000).collect();
    assert_eq!(all.iter().map(|(_, cuts)| cuts).sum::<u32>(), 1_000);
    assert!(all.iter().zip(1..).all(|((seed, _), expected)| *seed == expected), "{all:?}");
    let long = all.iter().filter(|(_, cuts)| *cuts == LONG_LAP).count();
    assert!(long > 0 && long * 10 <= all.len(), "{all:?}");
    assert_eq!(laps(7, 30).collect::<Vec<_>>(), [(7, 25), (8, 5)]);
    assert_eq!(laps(7, 0).next(), None);
}

/// Whether a server refuses its log because part of it is damaged or gone.
fn tells_of_loss(refused: &Refused) -> bool {
    let said = &refused.stderr;
    said.contains("restore the named file from a copy")
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
