//! Reading, bounded by the input that is really there.

use super::WireError;
use bytes::{Buf, Bytes};

/// A frame while it is read.
///
/// Never reads past the end, never reserves memory for a length it has only
/// been told, and hands out bytes as slices of the frame, without a copy.
#[derive(Clone, Debug)]
pub struct Reader {
    bytes: Bytes,
    /// Elements of arrays that may still come.
    elements_left: usize,
}

impl Reader {
    /// Reads `bytes`, which is a frame without its length.
    #[must_use]
    pub fn new(bytes: Bytes) -> Self {
        Self::bounded(bytes, usize::MAX)
    }

    /// Reads `bytes` and takes at most `elements_max` elements of arrays, nested ones included: in
    /// memory they are far larger than in the frame.
    pub(crate) fn bounded(bytes: Bytes, elements_max: usize) -> Self {
        Self { bytes, elements_left: elements_max }
    }

    /// Elements of arrays that may still come.
    pub(crate) fn elements_left(&self) -> usize {
        self.elements_left
    }

    /// Takes `count` elements from those that may still come.
    pub(crate) fn spend_elements(&mut self, count: usize) -> Result<(), WireError> {
        match self.elements_left.checked_sub(count) {
            Some(left) => {
                self.elements_left = left;
                Ok(())
            }
            None => Err(WireError::TooManyElements { count, left: self.elements_left }),
        }
    }

    /// Bytes not read yet.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.bytes.len()
    }

    /// Checks that everything has been read.
    ///
    /// # Errors
    /// There are bytes left.
    pub fn finish(&self) -> Result<(), WireError> {
        match self.remaining() {
            0 => Ok(()),
            bytes => Err(WireError::TrailingBytes { bytes }),
        }
    }

    /// The next `N` bytes.
    pub(crate) fn take_array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let Some(array) = self.bytes.first_chunk::<N>().copied() else {
            return Err(self.truncated(N));
        };
        self.bytes.advance(N);
        Ok(array)
    }

    /// The next `length` bytes, shared with the frame.
    pub(crate) fn take(&mut self, length: usize) -> Result<Bytes, WireError> {
        if length > self.remaining() {
            return Err(self.truncated(length));
        }
        Ok(self.bytes.split_to(length))
    }

    /// The next `length` bytes as text.
    pub(crate) fn take_string(&mut self, length: usize) -> Result<String, WireError> {
        let Some(bytes) = self.bytes.get(..length) else {
            return Err(self.truncated(length));
        };
        let text = std::str::from_utf8(bytes).map_err(|_| WireError::NotUtf8)?.to_owned();
        self.bytes.advance(length);
        Ok(text)
    }

    /// An unsigned varint of at most 32 bits, which is five bytes.
    pub(crate) fn uvarint(&mut self) -> Result<u32, WireError> {
        let mut value: u32 = 0;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.take_array()?;
            if shift == 28 && byte > 0x0f {
                return Err(WireError::VarintTooLong);
            }
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(WireError::VarintTooLong)
    }

    /// A compact length, which is one more than what it says; `None` is null.
    pub(crate) fn compact_length(&mut self) -> Result<Option<usize>, WireError> {
        let length = self.uvarint()?;
        Ok(length.checked_sub(1).map(|length| length as usize))
    }

    /// A classic length of 16 bits; `None` is null.
    pub(crate) fn length16(&mut self) -> Result<Option<usize>, WireError> {
        classic(i32::from(i16::from_be_bytes(self.take_array()?)))
    }

    /// A classic length of 32 bits; `None` is null.
    pub(crate) fn length32(&mut self) -> Result<Option<usize>, WireError> {
        classic(i32::from_be_bytes(self.take_array()?))
    }

    /// Reads the tagged fields at the end of a struct. `known` gets every tag
    /// with its value and says whether it knows the tag; then it has to have
    /// read the whole value. The values of unknown tags are skipped.
    pub(crate) fn tagged_fields(
        &mut self,
        mut known: impl FnMut(u32, &mut Reader) -> Result<bool, WireError>,
    ) -> Result<(), WireError> {
        let count = self.uvarint()?;
        let mut previous = None;
        // Every field takes two bytes at least, so that a false count ends
        // with the input.
        for _ in 0..count {
            let tag = self.uvarint()?;
            if previous.is_some_and(|previous| tag <= previous) {
                return Err(WireError::TagOrder { tag });
            }
            previous = Some(tag);
            let length = self.uvarint()? as usize;
            let mut value = Reader::bounded(self.take(length)?, self.elements_left);
            if known(tag, &mut value)? {
                value.finish()?;
            }
            self.elements_left = value.elements_left;
        }
        Ok(())
    }

    fn truncated(&self, needed: usize) -> WireError {
        WireError::Truncated { needed, remaining: self.remaining() }
    }
}

/// A classic length: -1 is null, anything below is invalid.
fn classic(length: i32) -> Result<Option<usize>, WireError> {
    match usize::try_from(length) {
        Ok(length) => Ok(Some(length)),
        Err(_) if length == -1 => Ok(None),
        Err(_) => Err(WireError::NegativeLength { length }),
    }
}
