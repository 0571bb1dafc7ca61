//! SipHash-2-4 with 128 bits of output (Aumasson and Bernstein, "SipHash: a fast short-input PRF",
//! Indocrypt 2012, and their reference implementation for the longer output).

/// The hash of `data` under a key of 128 bits, as two words of which each is as good as random to
/// whoever does not know the key.
pub(super) fn hash128(key: u128, data: &[u8]) -> [u64; 2] {
    let mut state = State::new(key as u64, (key >> 64) as u64);
    let (words, tail) = data.as_chunks::<8>();
    for word in words {
        state.absorb(u64::from_le_bytes(*word));
    }
    let mut last = [0; 8];
    last[..tail.len()].copy_from_slice(tail);
    // The last byte is the length modulo 256: the tail has at most seven.
    last[7] = data.len() as u8;
    state.absorb(u64::from_le_bytes(last));
    state.v2 ^= 0xee;
    let first = state.squeeze();
    state.v1 ^= 0xdd;
    [first, state.squeeze()]
}

struct State {
    v0: u64,
    v1: u64,
    v2: u64,
    v3: u64,
}

impl State {
    fn new(key_low: u64, key_high: u64) -> Self {
        // The ASCII of "somepseudorandomlygeneratedbytes"; 0xee tells the longer output from the shorter.
        Self {
            v0: key_low ^ 0x736f_6d65_7073_6575,
            v1: key_high ^ 0x646f_7261_6e64_6f6d ^ 0xee,
            v2: key_low ^ 0x6c79_6765_6e65_7261,
            v3: key_high ^ 0x7465_6462_7974_6573,
        }
    }

    fn absorb(&mut self, word: u64) {
        self.v3 ^= word;
        self.round();
        self.round();
        self.v0 ^= word;
    }

    fn squeeze(&mut self) -> u64 {
        for _ in 0..4 {
            self.round();
        }
        self.v0 ^ self.v1 ^ self.v2 ^ self.v3
    }

    fn round(&mut self) {
        self.v0 = self.v0.wrapping_add(self.v1);
        self.v2 = self.v2.wrapping_add(self.v3);
        self.v1 = self.v1.rotate_left(13) ^ self.v0;
        self.v3 = self.v3.rotate_left(16) ^ self.v2;
        self.v0 = self.v0.rotate_left(32);
        self.v2 = self.v2.wrapping_add(self.v1);
        self.v0 = self.v0.wrapping_add(self.v3);
        self.v1 = self.v1.rotate_left(17) ^ self.v2;
        self.v3 = self.v3.rotate_left(21) ^ self.v0;
        self.v2 = self.v2.rotate_left(32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of the reference implementation's vectors: key 00 to 0f, data 00, 01, 02 and so on.
    #[test]
    fn published_vectors() {
        let key = u128::from_le_bytes(std::array::from_fn(|at| at as u8));
        let cases: [(u8, [u8; 16]); 4] = [
            (0, 0xa381_7f04_ba25_a8e6_6df6_7214_c755_0293_u128.to_be_bytes()),
            (1, 0xda87_c1d8_6b99_af44_3476_5911_9b22_fc45_u128.to_be_bytes()),
            (8, 0x3b62_a9ba_6258_f561_0f83_e264_f314_97b4_u128.to_be_bytes()),
            (15, 0x5493_e999_33b0_a811_7e08_ec0f_97cf_c3d9_u128.to_be_bytes()),
        ];
        for (length, expected) in cases {
            let data: Vec<u8> = (0..length).collect();
            let [first, second] = hash128(key, &data);
            assert_eq!([first.to_le_bytes(), second.to_le_bytes()].concat(), expected, "{length}");
        }
    }

    #[test]
    fn key_and_length_count() {
        assert_ne!(hash128(1, b"a"), hash128(2, b"a"));
        assert_ne!(hash128(1 << 64, b"a"), hash128(1, b"a"));
        assert_ne!(hash128(1, b""), hash128(1, b"\0"));
    }
}
