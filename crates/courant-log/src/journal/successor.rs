//! The last block of a ring file: it says, once that is so, that the journal goes on in another file.
//! Without it the loss of the newest file would look like a journal that ends in the one before. On
//! disk: the numbers are fixed.
//!
//! ```text
//! 0  magic "CNXT"     4  u32 checksum     8  u64 generation of the file that follows     16  zeros
//! ```

use super::Seed;
use crate::limits::BLOCK_BYTES;

const MAGIC: &[u8; 4] = b"CNXT";
/// No group stands there: the checksum of one never passes for this, nor the other way round.
const POSITION: u64 = u64::MAX;

/// The block that names the file behind the one with that seed.
pub(super) fn encode(seed: Seed, generation: u64) -> Vec<u8> {
    let mut block = vec![0; BLOCK_BYTES];
    let number = generation.to_le_bytes();
    block[..4].copy_from_slice(MAGIC);
    block[4..8].copy_from_slice(&seed.checksum(POSITION, &[&number]).to_le_bytes());
    block[8..16].copy_from_slice(&number);
    block
}

/// The generation that a block names, if it was written in this use of the file.
pub(crate) fn decode(seed: Seed, block: &[u8]) -> Option<u64> {
    let (magic, rest) = block.split_first_chunk::<4>()?;
    let (crc, rest) = rest.split_first_chunk::<4>()?;
    let number = rest.first_chunk::<8>()?;
    let intact = magic == MAGIC && seed.checksum(POSITION, &[number]).to_le_bytes() == *crc;
    intact.then(|| u64::from_le_bytes(*number))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: Seed = Seed { salt: 11, generation: 5 };

    #[test]
    fn it_passes_in_its_own_use_of_the_file_only_and_with_every_bit() {
        let block = encode(SEED, 6);
        assert_eq!(block.len(), BLOCK_BYTES);
        assert_eq!(decode(SEED, &block), Some(6));
        assert_eq!(decode(Seed { generation: 4, ..SEED }, &block), None);
        assert_eq!(decode(Seed { salt: 12, ..SEED }, &block), None);
        for bit in 0..16 * 8 {
            let mut damaged = block.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(SEED, &damaged), None, "bit {bit}");
        }
        assert_eq!(decode(SEED, &[]), None);
    }
}
