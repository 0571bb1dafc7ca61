//! CRC-32C (Castagnoli, RFC 3720 appendix B.4): the checksum of Kafka's batches and of the log's own files.

use crc_fast::{CrcAlgorithm, Digest};

/// CRC-32C of `data`.
pub fn crc32c(data: &[u8]) -> u32 {
    narrow(crc_fast::checksum(CrcAlgorithm::Crc32Iscsi, data))
}

/// CRC-32C of `seed` followed by `data`. The seed is what the bytes do not say themselves, such as
/// where they belong, so that bytes in the wrong place fail the check.
pub fn seeded(seed: &[u8], data: &[u8]) -> u32 {
    let mut crc = Crc32c::new();
    crc.update(seed);
    crc.update(data);
    crc.finish()
}

/// CRC-32C of two pieces of data that follow each other, from those of both and the length of the second one. It
/// costs as much as the checksum of a few kibibytes, however long they are.
pub(crate) fn combined(first: u32, second: u32, second_bytes: usize) -> u32 {
    // A checksum is a polynomial modulo the generator, and each byte that follows multiplies it by x to the 8th.
    // What all of them start and end with falls out.
    let (mut shifted, mut left) = (first, second_bytes);
    for power in &POWERS[3..] {
        if left == 0 {
            break;
        }
        if left & 1 == 1 {
            shifted = product(shifted, *power);
        }
        left >>= 1;
    }
    shifted ^ second
}

/// The generator without its highest power; bit 31 is x to the power of 0, as in all that follows.
const GENERATOR: u32 = 0x82f6_3b78;

/// x to the power of 1, 2, 4, 8 and so on modulo the generator: as many as a length has bits, and three for a byte.
const POWERS: [u32; 3 + usize::BITS as usize] = {
    let mut powers = [1 << 30; 3 + usize::BITS as usize];
    let mut at = 1;
    while at < powers.len() {
        powers[at] = product(powers[at - 1], powers[at - 1]);
        at += 1;
    }
    powers
};

/// The product of two polynomials modulo the generator.
const fn product(one: u32, other: u32) -> u32 {
    let (mut sum, mut shifted, mut bit) = (0, other, 1 << 31);
    while bit != 0 {
        if one & bit != 0 {
            sum ^= shifted;
        }
        shifted = if shifted & 1 == 1 { (shifted >> 1) ^ GENERATOR } else { shifted >> 1 };
        bit >>= 1;
    }
    sum
}

/// CRC-32C of data that comes in pieces.
#[derive(Clone, Copy, Debug)]
pub struct Crc32c(Digest);

impl Crc32c {
    /// The checksum of nothing yet.
    pub fn new() -> Self {
        Self(Digest::new(CrcAlgorithm::Crc32Iscsi))
    }

    /// Adds the next bytes.
    pub fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    /// The checksum of all bytes so far.
    pub fn finish(self) -> u32 {
        narrow(self.0.finalize())
    }
}

impl Default for Crc32c {
    fn default() -> Self {
        Self::new()
    }
}

/// The crate returns every width in 64 bits; the upper half of a 32-bit checksum is zero.
fn narrow(checksum: u64) -> u32 {
    (checksum & u64::from(u32::MAX)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 3720 B.4 and the check value of the CRC catalogue.
    #[test]
    fn published_vectors() {
        assert_eq!(crc32c(b""), 0);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        let ascending: Vec<u8> = (0..32).collect();
        assert_eq!(crc32c(&ascending), 0x46dd_794e);
    }

    #[test]
    fn pieces_give_what_the_whole_gives() {
        let data: Vec<u8> = (0..=255).cycle().take(4099).collect();
        for cut in [0, 1, 15, 16, 17, 255, 4096, 4099] {
            let (head, tail) = data.split_at(cut);
            assert_eq!(seeded(head, tail), crc32c(&data), "cut at {cut}");
        }
        assert_eq!(Crc32c::default().finish(), crc32c(b""));
    }

    #[test]
    fn two_checksums_give_that_of_the_whole() {
        let data: Vec<u8> = (0..=250).cycle().take(300_000).collect();
        for (first, second) in
            [(0, 0), (0, 1), (1, 0), (1, 1), (24, 7), (85, 4096), (60, 65_535), (17, 299_983)]
        {
            let (head, tail) = data[..first + second].split_at(first);
            let whole = crc32c(&data[..first + second]);
            assert_eq!(combined(crc32c(head), crc32c(tail), second), whole, "{first} and {second}");
        }
    }

    #[test]
    fn another_seed_gives_another_checksum() {
        assert_ne!(seeded(b"a", b"data"), seeded(b"b", b"data"));
    }
}
