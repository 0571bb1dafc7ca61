//! Writing, without copying record batches.

use super::WireError;
use bytes::{Buf, Bytes, BytesMut};

/// Bytes of the length in front of a frame.
const LENGTH_BYTES: usize = 4;

/// From this size on, bytes are referenced instead of copied: below, a copy is
/// cheaper than one more chunk in a vectored write.
pub const SHARE_FROM_BYTES: usize = 4096;

/// Most bytes of a message. The length of a frame has 31 bits; what is left
/// covers the header and the fixed fields around the last array element.
pub const MAX_MESSAGE_BYTES: usize = 0x7fff_0000;

/// A frame while it is written: a list of chunks, of which the large ones
/// belong to somebody else.
#[derive(Debug)]
pub struct Writer {
    /// Chunks that are complete. The first is always `Own`.
    chunks: Vec<Chunk>,
    /// What has been written since.
    tail: BytesMut,
    /// Bytes written, without the room for the frame's length.
    len: usize,
    /// Whether the first four bytes are room for the frame's length.
    framed: bool,
}

#[derive(Debug)]
enum Chunk {
    Own(BytesMut),
    Shared(Bytes),
}

impl Default for Writer {
    fn default() -> Self {
        Self::new()
    }
}

impl Writer {
    /// Writes nothing yet.
    #[must_use]
    pub fn new() -> Self {
        let mut tail = BytesMut::with_capacity(256);
        tail.extend_from_slice(&[0; LENGTH_BYTES]);
        Self { chunks: Vec::new(), tail, len: 0, framed: true }
    }

    /// A part of a frame, for [`append`](Self::append). Does not allocate.
    pub(crate) fn unframed() -> Self {
        Self { chunks: Vec::new(), tail: BytesMut::new(), len: 0, framed: false }
    }

    /// Bytes written, without the frame's length.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing has been written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The chunks, in order, without a length in front.
    #[must_use]
    pub fn finish(mut self) -> Vec<Bytes> {
        self.close_tail();
        if self.framed
            && let Some(Chunk::Own(first)) = self.chunks.first_mut()
        {
            first.advance(LENGTH_BYTES);
        }
        freeze(self.chunks)
    }

    /// The chunks, in order, with the frame's length in front: four bytes, big
    /// endian, not counting themselves.
    #[must_use]
    pub fn finish_frame(mut self) -> Vec<Bytes> {
        self.close_tail();
        // `check_length` keeps every message well below.
        let length = i32::try_from(self.len).unwrap_or(i32::MAX);
        if let Some(Chunk::Own(first)) = self.chunks.first_mut()
            && let Some(prefix) = first.first_chunk_mut::<LENGTH_BYTES>()
        {
            *prefix = length.to_be_bytes();
        }
        freeze(self.chunks)
    }

    /// Copies `bytes`.
    pub(crate) fn put(&mut self, bytes: &[u8]) {
        self.tail.extend_from_slice(bytes);
        self.len += bytes.len();
    }

    /// Adds `bytes`: by reference if they are large.
    pub(crate) fn put_shared(&mut self, bytes: &Bytes) -> Result<(), WireError> {
        if bytes.len() < SHARE_FROM_BYTES {
            self.put(bytes);
        } else {
            self.close_tail();
            self.chunks.push(Chunk::Shared(bytes.clone()));
            self.len += bytes.len();
        }
        self.check_length()
    }

    /// An unsigned varint.
    pub(crate) fn put_uvarint(&mut self, mut value: u32) {
        while value > 0x7f {
            self.put(&[(value & 0x7f) as u8 | 0x80]);
            value >>= 7;
        }
        self.put(&[value as u8]);
    }

    /// Adds what a part has written.
    pub(crate) fn append(&mut self, part: Writer) -> Result<(), WireError> {
        for chunk in part.chunks {
            match chunk {
                Chunk::Own(bytes) => self.put(&bytes),
                Chunk::Shared(bytes) => self.put_shared(&bytes)?,
            }
        }
        self.put(&part.tail);
        self.check_length()
    }

    /// Refuses to write more than [`MAX_MESSAGE_BYTES`].
    pub(crate) fn check_length(&self) -> Result<(), WireError> {
        if self.len > MAX_MESSAGE_BYTES {
            return Err(WireError::TooLong { bytes: self.len, max: MAX_MESSAGE_BYTES });
        }
        Ok(())
    }

    /// Makes the tail a chunk. What room it has left stays with the new tail.
    fn close_tail(&mut self) {
        if !self.tail.is_empty() {
            self.chunks.push(Chunk::Own(self.tail.split()));
        }
    }
}

fn freeze(chunks: Vec<Chunk>) -> Vec<Bytes> {
    chunks
        .into_iter()
        .map(|chunk| match chunk {
            Chunk::Own(bytes) => bytes.freeze(),
            Chunk::Shared(bytes) => bytes,
        })
        .filter(|bytes| !bytes.is_empty())
        .collect()
}
