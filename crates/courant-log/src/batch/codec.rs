//! Compression of the records of a batch.
//!
//! Decompression never believes a length that the data declares: what comes out is bounded by the
//! caller, and what is allocated grows with what really comes out or is bounded by the format's
//! greatest ratio.

use std::borrow::Cow;
use std::fmt;
use std::io::{ErrorKind, Read, Write};

use super::records::RecordError;
use super::{BatchError, lz4_frame};

/// How the records of a batch are compressed (attribute bits 0 to 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Codec {
    /// Not at all.
    None = 0,
    /// gzip (RFC 1952).
    Gzip = 1,
    /// Snappy blocks in the framing of snappy-java, or one bare block.
    Snappy = 2,
    /// LZ4 frame.
    Lz4 = 3,
    /// Zstandard (RFC 8878; KIP-110).
    Zstd = 4,
}

impl Codec {
    /// Every codec, by id.
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// The codec with an id.
    ///
    /// # Errors
    /// [`BatchError::UnknownCodec`].
    pub fn from_id(id: u8) -> Result<Self, BatchError> {
        Self::ALL.get(usize::from(id)).copied().ok_or(BatchError::UnknownCodec(id))
    }

    /// The number in a batch's attributes.
    pub fn id(self) -> u8 {
        self as u8
    }

    /// The name that Kafka's configuration uses.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Framing of snappy-java (xerial): this magic, two versions, then blocks behind i32 lengths.
const XERIAL_MAGIC: &[u8; 8] = b"\x82SNAPPY\0";
const XERIAL_HEADER: &[u8; 16] = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01";

/// Bytes of one block that snappy-java writes.
const XERIAL_BLOCK_BYTES: usize = 32 * 1024;

/// A Snappy element of 3 bytes copies at most 64: nothing real expands more than this.
const SNAPPY_RATIO_MAX: usize = 32;

const ZSTD_LEVEL: i32 = 3;

/// Zstandard windows that are accepted whatever the bound: 8 MiB, what RFC 8878 asks decoders to
/// support. A window is reserved by the decoder at once but touched only as data comes out.
const ZSTD_WINDOW_LOG_MIN: u32 = 23;

/// The decoder's own limit.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

/// Decompresses the records of a batch to at most `max` bytes.
///
/// # Errors
/// [`RecordError::TooLarge`] when there is more, [`RecordError::Compressed`] when the data is broken.
pub(super) fn decompress(codec: Codec, data: &[u8], max: usize) -> Result<Cow<'_, [u8]>, RecordError> {
    match codec {
        Codec::None if data.len() > max => Err(RecordError::TooLarge { max }),
        Codec::None => Ok(Cow::Borrowed(data)),
        Codec::Gzip => {
            read_bounded(codec, flate2::bufread::MultiGzDecoder::new(data), data.len(), max).map(Cow::Owned)
        }
        Codec::Snappy => unsnappy(data, max).map(Cow::Owned),
        Codec::Lz4 => lz4_frame::decompress(data, max).map(Cow::Owned),
        Codec::Zstd => unzstd(data, max).map(Cow::Owned),
    }
}

/// Compresses the records of a batch.
///
/// # Errors
/// [`RecordError::Compressed`] with what the compressor says.
pub(super) fn compress(codec: Codec, data: &[u8]) -> Result<Cow<'_, [u8]>, RecordError> {
    match codec {
        Codec::None => Ok(Cow::Borrowed(data)),
        Codec::Gzip => gzip(data).map(Cow::Owned),
        Codec::Snappy => snappy(data).map(Cow::Owned),
        Codec::Lz4 => lz4(data).map(Cow::Owned),
        Codec::Zstd => {
            zstd::bulk::compress(data, ZSTD_LEVEL).map(Cow::Owned).map_err(|error| broken(codec, error))
        }
    }
}

/// The error of a codec whose library says `reason`.
pub(super) fn broken(codec: Codec, reason: impl fmt::Display) -> RecordError {
    RecordError::Compressed { codec, reason: reason.to_string() }
}

/// Reads to the end, but never more than `max` bytes, and holds at most twice what has come out.
fn read_bounded(
    codec: Codec,
    mut reader: impl Read,
    compressed_bytes: usize,
    max: usize,
) -> Result<Vec<u8>, RecordError> {
    // One byte above the bound is enough to know that there is too much.
    let ceiling = max.saturating_add(1);
    let first_guess = compressed_bytes.saturating_mul(4).max(4096).min(ceiling);
    let mut out = vec![0; first_guess];
    let mut filled = 0;
    loop {
        if filled == out.len() {
            if filled > max {
                return Err(RecordError::TooLarge { max });
            }
            let grown = out.len().saturating_mul(2).min(ceiling);
            out.reserve_exact(grown - out.len());
            out.resize(grown, 0);
        }
        match reader.read(&mut out[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(broken(codec, error)),
        }
    }
    if filled > max {
        return Err(RecordError::TooLarge { max });
    }
    out.truncate(filled);
    Ok(out)
}

fn unzstd(data: &[u8], max: usize) -> Result<Vec<u8>, RecordError> {
    let fail = |error: std::io::Error| broken(Codec::Zstd, error);
    let mut decoder = zstd::stream::read::Decoder::with_buffer(data).map_err(fail)?;
    let window_log = (usize::BITS - max.leading_zeros()).clamp(ZSTD_WINDOW_LOG_MIN, ZSTD_WINDOW_LOG_MAX);
    decoder.window_log_max(window_log).map_err(fail)?;
    read_bounded(Codec::Zstd, decoder, data.len(), max)
}

fn unsnappy(data: &[u8], max: usize) -> Result<Vec<u8>, RecordError> {
    let mut out = Vec::new();
    if !data.starts_with(XERIAL_MAGIC) {
        unsnappy_block(data, &mut out, max)?;
        return Ok(out);
    }
    let mut rest =
        data.get(XERIAL_HEADER.len()..).ok_or_else(|| broken(Codec::Snappy, "the header is cut off"))?;
    while !rest.is_empty() {
        let (length, tail) = rest
            .split_first_chunk::<4>()
            .ok_or_else(|| broken(Codec::Snappy, "a block length is cut off"))?;
        let length = usize::try_from(i32::from_be_bytes(*length))
            .map_err(|_| broken(Codec::Snappy, "a block length is negative"))?;
        let (block, tail) =
            tail.split_at_checked(length).ok_or_else(|| broken(Codec::Snappy, "a block is cut off"))?;
        unsnappy_block(block, &mut out, max)?;
        rest = tail;
    }
    Ok(out)
}

/// Appends one decompressed block to `out`, which may hold `max` bytes.
fn unsnappy_block(block: &[u8], out: &mut Vec<u8>, max: usize) -> Result<(), RecordError> {
    let fail = |error: snap::Error| broken(Codec::Snappy, error);
    let declared = snap::raw::decompress_len(block).map_err(fail)?;
    let start = out.len();
    if declared > max.saturating_sub(start) {
        return Err(RecordError::TooLarge { max });
    }
    if declared > block.len().saturating_mul(SNAPPY_RATIO_MAX) {
        return Err(broken(Codec::Snappy, "a block declares more than it can hold"));
    }
    out.resize(start + declared, 0);
    let written = snap::raw::Decoder::new().decompress(block, &mut out[start..]).map_err(fail)?;
    out.truncate(start + written);
    Ok(())
}

fn gzip(data: &[u8]) -> Result<Vec<u8>, RecordError> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(data).and_then(|()| encoder.finish()).map_err(|error| broken(Codec::Gzip, error))
}

fn snappy(data: &[u8]) -> Result<Vec<u8>, RecordError> {
    let mut out = XERIAL_HEADER.to_vec();
    let mut encoder = snap::raw::Encoder::new();
    for chunk in data.chunks(XERIAL_BLOCK_BYTES) {
        let block = encoder.compress_vec(chunk).map_err(|error| broken(Codec::Snappy, error))?;
        // A block of 32 KiB never compresses to more than 40 KiB.
        out.extend_from_slice(&(block.len() as i32).to_be_bytes());
        out.extend_from_slice(&block);
    }
    Ok(out)
}

fn lz4(data: &[u8]) -> Result<Vec<u8>, RecordError> {
    // The default frame has independent blocks: Java clients read no others.
    let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
    encoder.write_all(data).map_err(|error| broken(Codec::Lz4, error))?;
    encoder.finish().map_err(|error| broken(Codec::Lz4, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1024 * 1024;

    fn samples() -> Vec<Vec<u8>> {
        let text = b"the same words again and again, ".repeat(4000);
        let noise = (0u32..100_000).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8);
        vec![Vec::new(), b"x".to_vec(), text, noise.collect()]
    }

    #[test]
    fn every_codec_undoes_itself() {
        for codec in Codec::ALL {
            for data in samples() {
                let packed = compress(codec, &data).unwrap();
                assert_eq!(decompress(codec, &packed, MIB).unwrap(), data, "{codec}");
            }
        }
    }

    #[test]
    fn the_bound_is_exact() {
        for codec in Codec::ALL {
            for data in samples() {
                let packed = compress(codec, &data).unwrap();
                assert_eq!(decompress(codec, &packed, data.len()).unwrap(), data);
                if let Some(less) = data.len().checked_sub(1) {
                    assert_eq!(
                        decompress(codec, &packed, less),
                        Err(RecordError::TooLarge { max: less }),
                        "{codec}"
                    );
                }
            }
        }
    }

    #[test]
    fn bombs_end_at_the_bound() {
        let zeros = vec![0; 100 * MIB];
        for codec in Codec::ALL {
            let packed = compress(codec, &zeros).unwrap();
            assert_eq!(decompress(codec, &packed, MIB), Err(RecordError::TooLarge { max: MIB }), "{codec}");
        }
    }

    #[test]
    fn cut_off_data_is_an_error() {
        let data = b"0123456789".repeat(100);
        for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
            let packed = compress(codec, &data).unwrap();
            for end in 0..packed.len() {
                // Data of nothing at all, or a snappy header without blocks, is an empty result.
                let got = decompress(codec, &packed[..end], MIB);
                assert!(got.as_deref().is_ok_and(<[u8]>::is_empty) || got.is_err(), "{codec} cut at {end}");
            }
        }
    }

    #[test]
    fn snappy_is_read_bare_and_framed() {
        let data = b"snappy ".repeat(20_000);
        let bare = snap::raw::Encoder::new().compress_vec(&data).unwrap();
        assert_eq!(decompress(Codec::Snappy, &bare, MIB).unwrap(), data);
        let framed = compress(Codec::Snappy, &data).unwrap();
        assert!(framed.starts_with(&[0x82, 0x53, 0x4e, 0x41, 0x50, 0x50, 0x59, 0x00]));
        assert_eq!(decompress(Codec::Snappy, &framed, MIB).unwrap(), data);
    }

    #[test]
    fn snappy_declarations_are_not_believed() {
        // Declares 1 MiB and has four bytes.
        let lie = [0x80, 0x80, 0x40, 0x00];
        assert!(matches!(decompress(Codec::Snappy, &lie, 2 * MIB), Err(RecordError::Compressed { .. })));
        let framed = [XERIAL_HEADER.as_slice(), &[0x7f, 0xff, 0xff, 0xff], &[0; 8]].concat();
        assert!(decompress(Codec::Snappy, &framed, MIB).is_err());
        let negative = [XERIAL_HEADER.as_slice(), &[0xff; 4], &[0; 8]].concat();
        assert!(decompress(Codec::Snappy, &negative, MIB).is_err());
    }

    #[test]
    fn gzip_of_several_members_is_one_stream() {
        let two = [gzip(b"one ").unwrap(), gzip(b"two").unwrap()].concat();
        assert_eq!(decompress(Codec::Gzip, &two, 100).unwrap().as_ref(), b"one two");
    }

    #[test]
    fn ids_and_names() {
        for (id, name) in ["none", "gzip", "snappy", "lz4", "zstd"].iter().enumerate() {
            let codec = Codec::from_id(id as u8).unwrap();
            assert_eq!(usize::from(codec.id()), id);
            assert_eq!(codec.to_string(), *name);
        }
        assert_eq!(Codec::from_id(5), Err(BatchError::UnknownCodec(5)));
    }
}
