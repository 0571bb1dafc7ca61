//! Whether the storage has so much room that it need not be asked before each group.
//!
//! To ask a file system takes some microseconds, which is a part of the time of a single event that can be seen. Where
//! there is far more room than a group and the reserve need, the answer holds for a moment: neither this log nor
//! other programs can write so much meanwhile. Where there is not, it is asked before each group.
//!
//! Another program can take room without writing, by `fallocate`. Where it takes the rest of the storage within that
//! moment, a group finds no room, which ends the writer, as it does where that happens between a look and the write
//! behind it. So the moment is no longer than it has to be for one look to serve many events.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::limits::{ROOM_AMPLE_BYTES, ROOM_HOLDS_MS};

/// What the last look at the storage was worth. Used by whoever has the turn to commit.
#[derive(Debug, Default)]
pub(crate) struct Room {
    /// Bytes that groups may still take without a look; 0 where the next one looks.
    left: AtomicU64,
    /// Until when, by the clock that never goes backwards.
    until_ms: AtomicU64,
}

impl Room {
    /// Whether a group of so many bytes needs no look. `now_ms` is asked only where there may be none.
    pub(crate) fn covers(&self, bytes: u64, now_ms: impl FnOnce() -> u64) -> bool {
        let left = self.left.load(Ordering::Relaxed);
        if left < bytes || now_ms() >= self.until_ms.load(Ordering::Relaxed) {
            return false;
        }
        self.left.store(left - bytes, Ordering::Relaxed);
        true
    }

    /// Notes that the storage has so many bytes above what the group and the reserve need.
    pub(crate) fn looked(&self, spare_bytes: u64, now_ms: impl FnOnce() -> u64) {
        // The other half is for what others write meanwhile.
        let left = if spare_bytes >= ROOM_AMPLE_BYTES { spare_bytes / 2 } else { 0 };
        self.left.store(left, Ordering::Relaxed);
        if left > 0 {
            self.until_ms.store(now_ms().saturating_add(ROOM_HOLDS_MS), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ample_room_is_believed_for_a_moment_and_for_half_of_it() {
        let room = Room::default();
        let asked = || -> u64 { panic!("nothing holds, so no clock is asked") };
        assert!(!room.covers(1, asked));
        room.looked(ROOM_AMPLE_BYTES - 1, asked);
        assert!(!room.covers(1, asked), "that is not ample");
        room.looked(ROOM_AMPLE_BYTES, || 7);
        assert!(room.covers(1, || 7 + ROOM_HOLDS_MS - 1));
        assert!(!room.covers(1, || 7 + ROOM_HOLDS_MS), "the moment is over");
        assert!(room.covers(ROOM_AMPLE_BYTES / 2 - 1, || 7));
        assert!(!room.covers(1, || 7), "the half is used");
        room.looked(ROOM_AMPLE_BYTES, || 8);
        room.looked(0, || 9);
        assert!(!room.covers(1, || 9), "the last look counts");
    }
}
