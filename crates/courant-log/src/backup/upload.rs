//! Objects on their way into a target, with their lengths and checksums.

use super::format::Object;
use super::target::{Put, Target, TargetError};
use crate::crc::Crc32c;

/// An object that is being written.
pub(super) struct Upload<'a> {
    name: String,
    put: Box<dyn Put + 'a>,
    bytes: u64,
    crc: Crc32c,
}

impl<'a> Upload<'a> {
    pub(super) fn begin(target: &'a dyn Target, name: String) -> Result<Self, TargetError> {
        let put = target.put(&name).map_err(|source| TargetError::new("write", &name, source))?;
        Ok(Self { name, put, bytes: 0, crc: Crc32c::new() })
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), TargetError> {
        self.put.write(bytes).map_err(|source| TargetError::new("write", &self.name, source))?;
        self.bytes += bytes.len() as u64;
        self.crc.update(bytes);
        Ok(())
    }

    /// Makes the object durable, and says what a manifest says of it.
    pub(super) fn finish(self) -> Result<Object, TargetError> {
        let Self { name, put, bytes, crc } = self;
        put.finish().map_err(|source| TargetError::new("write", &name, source))?;
        Ok(Object { name, bytes, crc32c: crc.finish() })
    }
}
