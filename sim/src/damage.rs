//! Single bits of what was acknowledged go bad. A start may refuse to go on; it may not lose anything
//! in silence.

use std::sync::{Arc, Mutex};

use courant_log::storage::{CrashMode, FaultyStorage, OpenMode, Storage};
use courant_log::{Log, OpenError};

use crate::ledger::Ledger;
use crate::random::Random;
use crate::script::Script;
use crate::tiny::tiny;
use crate::workload::Workload;
use crate::{CAP_BYTES, caught};

/// What came of flipping bits.
#[derive(Debug, Default)]
pub struct Flipped {
    /// Bits that were flipped, each in an image of its own.
    pub bits: u64,
    /// Starts that were refused, with a sentence that names the damage.
    pub refused: u64,
    /// Starts that had not needed the byte.
    pub unharmed: u64,
    /// What was lost in silence, and where.
    pub failures: Vec<String>,
}

/// Runs a script, and then flips one bit in each `stride` bytes of the files in `dir`.
///
/// # Panics
/// When the script fails.
#[must_use]
pub fn flip(workload: Workload, operations: u64, seed: u64, dir: &str, stride: u64) -> Flipped {
    let storage = FaultyStorage::new(seed, CAP_BYTES);
    let ledger: Arc<Mutex<Ledger>> = Arc::default();
    let log = Log::open(Arc::new(storage.clone()), tiny(seed)).expect("opens").0;
    Script::new(workload, operations, seed, ledger.clone()).run(&log);
    // What follows vouches for the last group: until then, damage to it looks like a torn tail.
    log.seal();
    let ledger = ledger.lock().expect("lock");
    let mut random = Random(seed);
    let mut flipped = Flipped::default();
    for name in storage.list(dir).expect("lists") {
        let path = format!("{dir}/{name}");
        let len = storage.open(&path, OpenMode::Existing).and_then(|file| file.len()).expect("a file");
        for begin in (0..len).step_by(stride as usize) {
            let at = (begin + random.below(stride)).min(len - 1);
            let bit = 1 << random.below(8);
            let image = storage.crash_image(CrashMode::KeepAll, seed);
            flip_bit(&image, &path, at, bit);
            flipped.bits += 1;
            let checked = caught(|| match Log::open(Arc::new(image), tiny(seed ^ 1)) {
                Ok((log, _)) => {
                    ledger.check(&log);
                    flipped.unharmed += 1;
                }
                Err(OpenError::Corrupt { .. } | OpenError::Newer { .. } | OpenError::NotALog { .. }) => {
                    flipped.refused += 1;
                }
                Err(other) => panic!("refused without a reason: {other}"),
            });
            if let Err(reason) = checked {
                flipped.failures.push(format!("bit {bit:08b} of byte {at} in {path}: {reason}"));
            }
        }
    }
    flipped
}

fn flip_bit(image: &FaultyStorage, path: &str, at: u64, bit: u8) {
    let file = image.open(path, OpenMode::Existing).expect("it is there");
    let mut byte = [0];
    assert_eq!(file.read_at(&mut byte, at).expect("reads"), 1);
    byte[0] ^= bit;
    file.write_at(&[&byte], at).expect("writes");
    file.sync_data().expect("syncs");
}
