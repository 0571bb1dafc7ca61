//! Little-endian fields of the log's own files, read with bounds.

/// Bytes that are copied at once, where many are to be copied: fewer than those above which C libraries take
/// another way (2,112 in glibc).
const COPY_STEP_BYTES: usize = 2048;

/// The bytes ended, or a length in them points past their end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the bytes end before the field does")]
pub(crate) struct Short;

/// Reads fields one after the other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn remaining(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Result<&'a [u8], Short> {
        let (head, tail) = self.0.split_at_checked(count).ok_or(Short)?;
        self.0 = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Short> {
        let (head, tail) = self.0.split_first_chunk::<N>().ok_or(Short)?;
        self.0 = tail;
        Ok(*head)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Short> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Short> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn i16(&mut self) -> Result<i16, Short> {
        self.array().map(i16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Short> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn i32(&mut self) -> Result<i32, Short> {
        self.array().map(i32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Short> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn i64(&mut self) -> Result<i64, Short> {
        self.array().map(i64::from_le_bytes)
    }

    pub(crate) fn uuid(&mut self) -> Result<uuid::Uuid, Short> {
        self.array().map(uuid::Uuid::from_bytes)
    }

    /// A UTF-8 string behind a u16 length.
    pub(crate) fn string(&mut self) -> Result<String, Short> {
        let length = self.u16()?;
        let bytes = self.bytes(usize::from(length))?;
        String::from_utf8(bytes.to_vec()).map_err(|_| Short)
    }

    /// A u32 count of things of at least `each_min` bytes: refused when they cannot be there.
    pub(crate) fn count(&mut self, each_min: usize) -> Result<usize, Short> {
        let count = usize::try_from(self.u32()?).map_err(|_| Short)?;
        match count.checked_mul(each_min) {
            Some(bytes) if bytes <= self.remaining() => Ok(count),
            _ => Err(Short),
        }
    }
}

/// Writes a string behind a u16 length. Longer strings never get here: names and configs are bounded.
pub(crate) fn put_string(out: &mut Vec<u8>, text: &str) {
    let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&text.as_bytes()[..usize::from(length)]);
}

/// Writes a u32 count. Callers hold fewer things than that: every collection has a limit.
pub(crate) fn put_count(out: &mut Vec<u8>, count: usize) {
    out.extend_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes());
}

/// Writes what may be hundreds of kibibytes, in steps.
///
/// At once, a C library copies so many with the processor's own instruction for strings, where the processor says
/// that it is a fast one. Some say so on which it takes several times as long as a loop over vector registers: see
/// `docs/decisions/0022-batches-are-copied-in-small-steps.md`.
pub(crate) fn put_many(out: &mut Vec<u8>, bytes: &[u8]) {
    if bytes.len() <= COPY_STEP_BYTES {
        return out.extend_from_slice(bytes);
    }
    out.reserve(bytes.len());
    for step in bytes.chunks(COPY_STEP_BYTES) {
        out.extend_from_slice(step);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Around the ends of steps nothing is left out, comes twice, or is in another order; what was there stays.
    #[test]
    fn what_is_written_in_steps_is_what_was_given() {
        let given: Vec<u8> = (0..=250_u8).cycle().take(3 * COPY_STEP_BYTES + 1).collect();
        for end in [0, 1, COPY_STEP_BYTES - 1, COPY_STEP_BYTES, COPY_STEP_BYTES + 1, given.len()] {
            let mut out = vec![255; 7];
            put_many(&mut out, &given[..end]);
            assert_eq!(out.len(), 7 + end);
            assert!(out[..7] == [255; 7] && out[7..] == given[..end], "the first {end}");
        }
    }
}
