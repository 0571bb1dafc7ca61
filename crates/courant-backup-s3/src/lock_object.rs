//! The object `LOCK`: who is taking a backup. On disk: `docs/formats/backup.md` says what the fields mean;
//! a field never changes its meaning.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::limits::{LEASE_MAX, LEASE_MIN};

const FORMAT: u32 = 1;

/// One line of JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LockObject {
    format: u32,
    /// Of this one backup: a UUID.
    pub(crate) id: String,
    /// Who takes it, for people.
    pub(crate) holder: String,
    /// When it was locked, by the holder's clock, in milliseconds since 1970.
    pub(crate) since_ms: i64,
    /// How long nobody takes the lock that is not renewed.
    pub(crate) lease_ms: u64,
    /// Counts renewals. So no two states of a lock have the same bytes, nor the same ETag.
    pub(crate) renewals: u64,
    /// Whether anybody may take it at once.
    pub(crate) released: bool,
}

impl LockObject {
    pub(crate) fn new(id: String, holder: String, since_ms: i64, lease: Duration) -> Self {
        let lease_ms = lease.as_millis() as u64;
        Self { format: FORMAT, id, holder, since_ms, lease_ms, renewals: 0, released: false }
    }

    /// The same lock, once more.
    pub(crate) fn renewed(&self) -> Self {
        Self { renewals: self.renewals.saturating_add(1), ..self.clone() }
    }

    /// The same lock, given back.
    pub(crate) fn released(&self) -> Self {
        Self { released: true, ..self.renewed() }
    }

    /// The lease, as far as it is believed.
    pub(crate) fn lease(&self) -> Duration {
        Duration::from_millis(self.lease_ms).clamp(LEASE_MIN, LEASE_MAX)
    }

    /// The object's bytes.
    pub(crate) fn encode(&self) -> serde_json::Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec(self)?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// The lock in an object's bytes; none when another release or somebody else wrote them.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok().filter(|lock: &Self| lock.format == FORMAT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock() -> LockObject {
        LockObject::new("id".to_owned(), "host, process 7".to_owned(), 42, Duration::from_secs(600))
    }

    #[test]
    fn round_trip_and_every_state_has_other_bytes() {
        let states = [lock(), lock().renewed(), lock().renewed().renewed(), lock().released()];
        let bytes: Vec<_> = states.iter().map(|state| state.encode().expect("encodes")).collect();
        for (state, encoded) in states.iter().zip(&bytes) {
            assert_eq!(LockObject::decode(encoded).as_ref(), Some(state));
            assert_eq!(bytes.iter().filter(|other| *other == encoded).count(), 1, "{state:?}");
        }
    }

    #[test]
    fn the_bytes_are_those_of_the_page() {
        let text = r#"{"format":1,"id":"id","holder":"host, process 7","since_ms":42,"lease_ms":600000,"renewals":0,"released":false}"#;
        assert_eq!(lock().encode().expect("encodes"), format!("{text}\n").as_bytes());
        assert_eq!(LockObject::decode(text.replace("\"format\":1", "\"format\":2").as_bytes()), None);
        assert_eq!(LockObject::decode(b""), None);
    }

    #[test]
    fn nobody_locks_for_ever() {
        let forever = LockObject { lease_ms: u64::MAX, ..lock() };
        assert_eq!(forever.lease(), LEASE_MAX);
        assert_eq!(LockObject { lease_ms: 0, ..lock() }.lease(), LEASE_MIN);
    }
}
