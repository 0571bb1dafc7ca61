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
    fn another_seed_gives_another_checksum() {
        assert_ne!(seeded(b"a", b"data"), seeded(b"b", b"data"));
    }
}
