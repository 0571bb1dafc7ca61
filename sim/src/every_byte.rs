//! Every byte of a small data directory goes bad, one after the other.

use crate::damage::{Harm, Outcome, SECTOR_BYTES, Victim};
use crate::random::Random;
use crate::workload::Workload;

/// Operations of the script that fills the directory.
const OPERATIONS: u64 = 40;
/// One byte in so many is also set to ones.
const ONES_EACH: u64 = 31;

/// The bytes of all files of a data directory, numbered through in the order of the files' names.
#[derive(Debug)]
pub struct EveryByte {
    victim: Victim,
    /// Each with its length.
    files: Vec<(String, u64)>,
    seed: u64,
}

impl EveryByte {
    /// The directory that a seed stands for: the mixtures take turns.
    ///
    /// # Panics
    /// When the script that fills it fails.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        let workload = Workload::ALL[(seed % Workload::ALL.len() as u64) as usize];
        let victim = Victim::fill(workload, OPERATIONS, seed);
        Self { files: victim.files(""), victim, seed }
    }

    /// How many bytes there are.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|(_, len)| len).sum()
    }

    /// Its files, each with its length.
    #[must_use]
    pub fn files(&self) -> &[(String, u64)] {
        &self.files
    }

    /// Has a byte go bad, by one bit; some bytes in other ways too, and with the first byte of a sector
    /// the whole sector.
    ///
    /// # Panics
    /// When there are fewer bytes.
    #[must_use]
    pub fn harm(&self, number: u64) -> Outcome {
        let (path, at) = self.place(number).expect("there are as many bytes");
        let bit = Random(self.seed.rotate_left(32) ^ number).below(8);
        let mut outcome = Outcome::default();
        outcome.add(self.victim.harm(path, at, Harm::Bits(1 << bit)));
        if number.is_multiple_of(ONES_EACH) {
            outcome.add(self.victim.harm(path, at, Harm::Ones));
        }
        if at.is_multiple_of(SECTOR_BYTES) {
            outcome.add(self.victim.harm(path, at, Harm::ZeroSector));
        }
        outcome
    }

    /// Which byte of which file.
    fn place(&self, number: u64) -> Option<(&str, u64)> {
        let mut before = 0;
        for (path, len) in &self.files {
            if number < before + len {
                return Some((path.as_str(), number - before));
            }
            before += len;
        }
        None
    }
}
