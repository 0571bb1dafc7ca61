//! A manifest: what one backup consists of. On disk: `docs/formats/backup.md` says what the fields mean;
//! a field never changes its meaning.
//!
//! Two lines of JSON: the manifest, and the CRC-32C of the first line with its end.

use std::io;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::crc::crc32c;
use crate::segment::Recorded;

const FORMAT: u32 = 2;
/// The same, but for what says that compaction has made a segment.
const FORMAT_WITHOUT_COMPACTION: u32 = 1;

/// One backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    format: u32,
    #[serde(with = "id_as_text")]
    pub(super) log_id: Uuid,
    pub(super) number: u64,
    /// Everything acknowledged before is in the backup; milliseconds since 1970, as `ended_ms`.
    pub(super) begun_ms: i64,
    pub(super) ended_ms: i64,
    /// Sequence of the checkpoint.
    pub(super) checkpoint: u64,
    /// Places that were damaged in the log.
    pub(super) damage: u64,
    /// The segments, as the checkpoint has them.
    pub(super) segments: Vec<SegmentRecord>,
    pub(super) objects: Vec<Object>,
}

/// What a segment was: it names exactly one content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SegmentRecord {
    pub(super) partition: u64,
    pub(super) base_offset: u64,
    pub(super) generation: u64,
    pub(super) bytes: u64,
    /// CRC-32C over the CRCs of all whole blocks.
    pub(super) blocks_crc: u32,
    /// State of the running CRC of the block that was filling.
    pub(super) open_crc: u32,
    /// How often compaction has replaced what begins there.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) number: u64,
}

/// One object of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Object {
    pub(super) name: String,
    pub(super) bytes: u64,
    pub(super) crc32c: u32,
}

/// Why bytes are no manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotAManifest {
    /// They are not those that were written.
    #[error("is damaged")]
    Damaged,
    /// A newer release wrote them.
    #[error("was written by a newer release (format {found})")]
    Newer {
        /// Its format.
        found: u32,
    },
}

/// As much of a manifest as every release understands.
#[derive(Deserialize)]
struct Version {
    format: u32,
}

impl SegmentRecord {
    pub(super) fn of(recorded: &Recorded) -> Self {
        Self {
            partition: recorded.header.partition.0,
            base_offset: recorded.header.base_offset,
            generation: recorded.header.generation,
            bytes: recorded.bytes,
            blocks_crc: recorded.done_crc,
            open_crc: recorded.open.crc_state,
            number: recorded.header.number,
        }
    }
}

impl Manifest {
    /// A manifest that names nothing yet.
    pub(super) fn new(log_id: Uuid, number: u64, checkpoint: u64, begun_ms: i64) -> Self {
        Self {
            format: FORMAT,
            log_id,
            number,
            begun_ms,
            ended_ms: begun_ms,
            checkpoint,
            damage: 0,
            segments: Vec::new(),
            objects: Vec::new(),
        }
    }

    /// The object's bytes.
    pub(super) fn encode(&self) -> io::Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec(self)?;
        bytes.push(b'\n');
        let end = checksum_line(&bytes);
        bytes.extend_from_slice(end.as_bytes());
        Ok(bytes)
    }

    /// The manifest in an object's bytes.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, NotAManifest> {
        let end = bytes.iter().position(|byte| *byte == b'\n').ok_or(NotAManifest::Damaged)?;
        let (line, checksum) = bytes.split_at(end + 1);
        if checksum != checksum_line(line).as_bytes() {
            return Err(NotAManifest::Damaged);
        }
        let Version { format } = serde_json::from_slice(line).map_err(|_| NotAManifest::Damaged)?;
        if !(FORMAT_WITHOUT_COMPACTION..=FORMAT).contains(&format) {
            return Err(NotAManifest::Newer { found: format });
        }
        serde_json::from_slice(line).map_err(|_| NotAManifest::Damaged)
    }
}

fn checksum_line(line: &[u8]) -> String {
    format!("{{\"crc32c\":{}}}\n", crc32c(line))
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A log id in JSON, as `FORMAT` has it.
mod id_as_text {
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};
    use uuid::Uuid;

    pub(super) fn serialize<S: Serializer>(id: &Uuid, into: S) -> Result<S::Ok, S::Error> {
        into.collect_str(id)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Uuid, D::Error> {
        Uuid::parse_str(&String::deserialize(from)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let mut manifest = Manifest::new(Uuid::from_u128(7), 3, 42, 1_700_000_000_000);
        manifest.segments.push(SegmentRecord {
            partition: 1,
            base_offset: 2,
            generation: 3,
            bytes: 4,
            blocks_crc: 5,
            open_crc: u32::MAX,
            number: 0,
        });
        let name = "states/0000000000000003/FORMAT".to_owned();
        manifest.objects.push(Object { name, bytes: u64::MAX, crc32c: 9 });
        manifest
    }

    #[test]
    fn round_trip_and_every_flipped_bit_is_seen() {
        let bytes = manifest().encode().expect("encodes");
        assert_eq!(bytes.iter().filter(|byte| **byte == b'\n').count(), 2);
        assert_eq!(Manifest::decode(&bytes), Ok(manifest()));
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Manifest::decode(&damaged), Err(NotAManifest::Damaged), "bit {bit}");
        }
        for end in 0..bytes.len() {
            assert_eq!(Manifest::decode(&bytes[..end]), Err(NotAManifest::Damaged), "{end} bytes");
        }
    }

    #[test]
    fn a_newer_manifest_is_told_from_a_damaged_one() {
        let mut bytes = b"{\"format\":3,\"something\":\"else\"}\n".to_vec();
        let end = checksum_line(&bytes);
        bytes.extend_from_slice(end.as_bytes());
        assert_eq!(Manifest::decode(&bytes), Err(NotAManifest::Newer { found: 3 }));
    }
}
