//! The LZ4 frame format, read within a bound.
//!
//! The frame is taken apart here rather than by a streaming decoder because such a decoder reserves
//! what the frame's header declares, up to 12 MiB for a frame of a few bytes. The checksums inside
//! the frame are not looked at: the batch's CRC-32C covers the same bytes, and early Kafka clients
//! computed the header's checksum wrongly (KAFKA-3160).

use super::Codec;
use super::codec::broken;
use super::records::RecordError;

const MAGIC: u32 = 0x184d_2204;

const FLAG_INDEPENDENT_BLOCKS: u8 = 1 << 5;
const FLAG_BLOCK_CHECKSUM: u8 = 1 << 4;
const FLAG_CONTENT_SIZE: u8 = 1 << 3;
const FLAG_CONTENT_CHECKSUM: u8 = 1 << 2;
const FLAG_DICTIONARY: u8 = 1;

/// Top bit of a block's length: the block is stored as it is.
const BLOCK_IS_STORED: u32 = 1 << 31;

/// How far back a linked block may refer.
const WINDOW_BYTES: usize = 64 * 1024;

/// One byte of input gives at most 255 bytes of output (a byte that extends a match's length).
const RATIO_MAX: usize = 255;

/// Room for what the first token of a block gives beyond [`RATIO_MAX`].
const FIRST_TOKEN_BYTES: usize = 64;

/// Decompresses frames that fill `data` to at most `max` bytes.
///
/// # Errors
/// [`RecordError::TooLarge`] or [`RecordError::Compressed`].
pub(super) fn decompress(data: &[u8], max: usize) -> Result<Vec<u8>, RecordError> {
    let mut input = Input(data);
    let mut out = Vec::new();
    while !input.0.is_empty() {
        frame(&mut input, &mut out, max)?;
    }
    Ok(out)
}

/// What a frame's header says.
#[derive(Clone, Copy)]
struct Descriptor {
    flags: u8,
    block_bytes_max: usize,
    content_bytes: Option<u64>,
}

impl Descriptor {
    fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

fn descriptor(input: &mut Input<'_>) -> Result<Descriptor, RecordError> {
    if input.u32()? != MAGIC {
        return Err(corrupt("this is not an LZ4 frame"));
    }
    let [flags, block] = input.array::<2>()?;
    if flags >> 6 != 1 {
        return Err(corrupt("unknown version of the frame format"));
    }
    if flags & FLAG_DICTIONARY != 0 {
        return Err(corrupt("the frame needs a dictionary"));
    }
    let block_bytes_max = match (block >> 4) & 7 {
        4 => 64 * 1024,
        5 => 256 * 1024,
        6 => 1024 * 1024,
        7 => 4 * 1024 * 1024,
        _ => return Err(corrupt("unknown block size")),
    };
    let content_bytes =
        if flags & FLAG_CONTENT_SIZE != 0 { Some(u64::from_le_bytes(input.array()?)) } else { None };
    let _header_checksum = input.array::<1>()?;
    Ok(Descriptor { flags, block_bytes_max, content_bytes })
}

/// Appends one frame's content to `out`, which may hold `max` bytes.
fn frame(input: &mut Input<'_>, out: &mut Vec<u8>, max: usize) -> Result<(), RecordError> {
    let descriptor = descriptor(input)?;
    let frame_start = out.len();
    let room = max.saturating_sub(frame_start);
    if descriptor.content_bytes.is_some_and(|bytes| bytes > room as u64) {
        return Err(RecordError::TooLarge { max });
    }
    loop {
        let length = input.u32()?;
        if length == 0 {
            break;
        }
        let is_stored = length & BLOCK_IS_STORED != 0;
        let block = input.take((length & !BLOCK_IS_STORED) as usize)?;
        if descriptor.has(FLAG_BLOCK_CHECKSUM) {
            input.u32()?;
        }
        if is_stored {
            if block.len() > descriptor.block_bytes_max {
                return Err(corrupt("a block is larger than the frame allows"));
            }
            if block.len() > max.saturating_sub(out.len()) {
                return Err(RecordError::TooLarge { max });
            }
            out.extend_from_slice(block);
        } else {
            compressed_block(descriptor, block, frame_start, out, max)?;
        }
    }
    if descriptor.has(FLAG_CONTENT_CHECKSUM) {
        input.u32()?;
    }
    match descriptor.content_bytes {
        Some(bytes) if bytes != (out.len() - frame_start) as u64 => {
            Err(corrupt("the content has another size than the frame says"))
        }
        _ => Ok(()),
    }
}

fn compressed_block(
    descriptor: Descriptor,
    block: &[u8],
    frame_start: usize,
    out: &mut Vec<u8>,
    max: usize,
) -> Result<(), RecordError> {
    let start = out.len();
    let room = max.saturating_sub(start);
    let possible = block
        .len()
        .saturating_mul(RATIO_MAX)
        .saturating_add(FIRST_TOKEN_BYTES)
        .min(descriptor.block_bytes_max);
    out.resize(start + possible.min(room), 0);
    let (before, target) = out.split_at_mut(start);
    let result = if descriptor.has(FLAG_INDEPENDENT_BLOCKS) {
        lz4_flex::block::decompress_into(block, target)
    } else {
        let window = frame_start.max(start.saturating_sub(WINDOW_BYTES));
        lz4_flex::block::decompress_into_with_dict(block, target, &before[window..])
    };
    match result {
        Ok(written) => {
            out.truncate(start + written);
            Ok(())
        }
        Err(lz4_flex::block::DecompressError::OutputTooSmall { .. }) if room < possible => {
            Err(RecordError::TooLarge { max })
        }
        Err(error) => Err(broken(Codec::Lz4, error)),
    }
}

fn corrupt(reason: &'static str) -> RecordError {
    broken(Codec::Lz4, reason)
}

/// What is left to read.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], RecordError> {
        let (head, tail) = self.0.split_at_checked(count).ok_or_else(|| corrupt("the frame is cut off"))?;
        self.0 = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], RecordError> {
        let (head, tail) = self.0.split_first_chunk::<N>().ok_or_else(|| corrupt("the frame is cut off"))?;
        self.0 = tail;
        Ok(*head)
    }

    fn u32(&mut self) -> Result<u32, RecordError> {
        self.array().map(u32::from_le_bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};

    use super::*;

    const MIB: usize = 1024 * 1024;

    fn sample() -> Vec<u8> {
        (0u32..60_000).flat_map(|n| (n / 7).to_le_bytes()).collect()
    }

    fn encode(info: FrameInfo, data: &[u8]) -> Vec<u8> {
        let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn every_shape_of_frame_is_read() {
        let data = sample();
        for mode in [BlockMode::Independent, BlockMode::Linked] {
            for size in [BlockSize::Max64KB, BlockSize::Max256KB, BlockSize::Max4MB] {
                for checksums in [false, true] {
                    let info = FrameInfo::new()
                        .block_mode(mode)
                        .block_size(size)
                        .block_checksums(checksums)
                        .content_checksum(checksums)
                        .content_size(checksums.then_some(data.len() as u64));
                    let frame = encode(info, &data);
                    assert_eq!(decompress(&frame, MIB).unwrap(), data);
                }
            }
        }
    }

    #[test]
    fn stored_blocks_and_several_frames() {
        let noise: Vec<u8> = (0u32..5000).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let stored = [
            &[0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82][..],
            &(5000u32 | BLOCK_IS_STORED).to_le_bytes(),
            &noise,
            &[0; 4],
        ]
        .concat();
        assert_eq!(decompress(&stored, 5000).unwrap(), noise);
        assert_eq!(decompress(&stored, 4999), Err(RecordError::TooLarge { max: 4999 }));
        let twice = [stored.as_slice(), &stored].concat();
        assert_eq!(decompress(&twice, MIB).unwrap().len(), 10_000);
        assert_eq!(decompress(&twice, 9_999), Err(RecordError::TooLarge { max: 9_999 }));
    }

    #[test]
    fn a_header_alone_reserves_nothing_and_is_an_error() {
        let header = [0x04, 0x22, 0x4d, 0x18, 0x60, 0x70, 0x73];
        assert!(decompress(&header, MIB).is_err());
    }

    #[test]
    fn declared_content_is_compared() {
        let data = sample();
        let info = FrameInfo::new().content_size(Some(data.len() as u64));
        let mut frame = encode(info, &data);
        assert_eq!(decompress(&frame, data.len() - 1), Err(RecordError::TooLarge { max: data.len() - 1 }));
        frame[6] ^= 1;
        assert!(decompress(&frame, MIB).is_err());
    }

    #[test]
    fn what_is_not_a_frame_is_named() {
        for bytes in [
            &b"not lz4 at all"[..],
            &[0x02, 0x21, 0x4c, 0x18, 0, 0, 0, 0],
            &[0x04, 0x22, 0x4d, 0x18, 0xa0, 0x40, 0, 0, 0, 0, 0],
            &[0x04, 0x22, 0x4d, 0x18, 0x61, 0x40, 0, 0, 0, 0, 0],
            &[0x04, 0x22, 0x4d, 0x18, 0x60, 0x30, 0, 0, 0, 0, 0],
        ] {
            assert!(matches!(decompress(bytes, MIB), Err(RecordError::Compressed { codec: Codec::Lz4, .. })));
        }
    }
}
