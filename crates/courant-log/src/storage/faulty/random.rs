//! The randomness of a simulation: the same seed gives the same run.

/// SplitMix64 (Steele, Lea and Flood, OOPSLA '14).
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        word ^ (word >> 31)
    }

    /// A number below `bound`, or 0 when there is none.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        match bound {
            0 => 0,
            _ => (self.draw() % bound as u64) as usize,
        }
    }

    /// True in `weight` of 256 cases.
    pub(super) fn chance(&mut self, weight: u64) -> bool {
        (self.draw() & 0xFF) < weight
    }
}

/// A hash of everything that was done, to show that two runs did the same. Not for data.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trace(u64);

impl Trace {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed ^ 0xCBF2_9CE4_8422_2325)
    }

    pub(super) fn number(&mut self, number: u64) {
        self.0 = (self.0.rotate_left(5) ^ number).wrapping_mul(0x517C_C1B7_2722_0A95);
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.number(u64::from_le_bytes(*word));
        }
        if !rest.is_empty() {
            let mut word = [0; 8];
            word[..rest.len()].copy_from_slice(rest);
            self.number(u64::from_le_bytes(word));
        }
    }

    pub(super) fn hash(self) -> u64 {
        self.0
    }
}
