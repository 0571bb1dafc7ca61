//! Objects on their way out of a target, compared with what the manifest says of them.

use std::io::{self, Read};

use super::error::RestoreError;
use super::format::Object;
use super::target::Target;
use crate::crc::Crc32c;

/// Bytes of an object that are read at a time.
const CHUNK_BYTES: u64 = 256 * 1024;

/// An object that is being read. It is what was backed up only once [`Self::finish`] says so.
pub(super) struct Download<'a> {
    object: &'a Object,
    from: Box<dyn Read + 'a>,
    left: u64,
    crc: Crc32c,
}

impl<'a> Download<'a> {
    pub(super) fn begin(target: &'a dyn Target, object: &'a Object) -> Result<Self, RestoreError> {
        match target.get(&object.name) {
            Ok(from) => Ok(Self { object, from, left: object.bytes, crc: Crc32c::new() }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(bad(object, "it is missing")),
            Err(error) => Err(bad(object, format!("it cannot be read: {error}"))),
        }
    }

    /// The next bytes, as many as asked for unless the object has fewer; none at its end.
    pub(super) fn next(&mut self, bytes_max: u64) -> Result<Vec<u8>, RestoreError> {
        let mut bytes = vec![0; self.left.min(bytes_max) as usize];
        match self.from.read_exact(&mut bytes) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(bad(self.object, "it is shorter than the manifest says"));
            }
            Err(error) => return Err(bad(self.object, format!("it cannot be read: {error}"))),
        }
        self.left -= bytes.len() as u64;
        self.crc.update(&bytes);
        Ok(bytes)
    }

    /// Hands over what is left, in pieces with their places behind what was read before, and compares.
    pub(super) fn rest(
        mut self,
        mut take: impl FnMut(u64, &[u8]) -> Result<(), RestoreError>,
    ) -> Result<(), RestoreError> {
        let mut position = 0;
        while self.left > 0 {
            let bytes = self.next(CHUNK_BYTES)?;
            take(position, &bytes)?;
            position += bytes.len() as u64;
        }
        self.finish()
    }

    /// Compares length and checksum of what was read with the manifest's.
    pub(super) fn finish(mut self) -> Result<(), RestoreError> {
        let mut more = Vec::new();
        let read = self.from.by_ref().take(1).read_to_end(&mut more);
        read.map_err(|error| bad(self.object, format!("it cannot be read: {error}")))?;
        if self.left > 0 || !more.is_empty() {
            return Err(bad(self.object, "its length is not the one that the manifest says"));
        }
        if self.crc.finish() != self.object.crc32c {
            return Err(bad(self.object, "its checksum is not the one that the manifest says"));
        }
        Ok(())
    }
}

/// All bytes of an object that may have so many.
pub(super) fn whole(target: &dyn Target, object: &Object, bytes_max: u64) -> Result<Vec<u8>, RestoreError> {
    if object.bytes > bytes_max {
        return Err(bad(object, "it is longer than such an object can be"));
    }
    let mut bytes = Vec::new();
    Download::begin(target, object)?.rest(|_, piece| {
        bytes.extend_from_slice(piece);
        Ok(())
    })?;
    Ok(bytes)
}

pub(super) fn bad(object: &Object, what: impl Into<String>) -> RestoreError {
    RestoreError::Object { name: object.name.clone(), what: what.into() }
}
