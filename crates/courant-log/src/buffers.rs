//! Memory for large reads and requests that is used again.
//!
//! Memory of hundreds of kibibytes that is taken for one read and given back after it goes to the system, and
//! comes from there again page by page, each of them filled with zeros first: that costs more than to copy the
//! bytes which are read. So a few buffers are kept. Who finds none takes memory of its own, as if there were no
//! buffers.
//!
//! Invariant: there are never more buffers than were asked for at first, whoever has them. So nobody counts
//! what a buffer is larger than what is in it.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use crate::limits::{BUFFER_BYTES, BUFFERED_BYTES_MIN};
use crate::lock;

/// A few buffers of [`BUFFER_BYTES`], made when they are asked for.
#[derive(Clone)]
pub struct Buffers(Arc<Shared>);

struct Shared {
    most: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The last one is the one that was used last: its bytes may still be in a cache of the processor.
    free: Vec<Vec<u8>>,
    /// Those that somebody has included.
    made: usize,
    /// How many were free all the time since somebody asked what is not needed.
    unneeded: usize,
}

impl fmt::Debug for Buffers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffers").field("most", &self.0.most).finish_non_exhaustive()
    }
}

impl Buffers {
    /// At most so many.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self(Arc::new(Shared { most, state: Mutex::default() }))
    }

    /// A buffer for so many bytes, if there is a free one and they are worth it. What is in it is left from
    /// somebody else.
    #[must_use]
    pub fn take(&self, count: usize) -> Option<Buffer> {
        if !(BUFFERED_BYTES_MIN..=BUFFER_BYTES).contains(&count) {
            return None;
        }
        let free = {
            let mut state = lock(&self.0.state);
            let free = state.free.pop();
            state.unneeded = state.unneeded.min(state.free.len());
            if free.is_none() {
                if state.made == self.0.most {
                    return None;
                }
                state.made += 1;
            }
            free
        };
        let memory = free.unwrap_or_else(|| vec![0; BUFFER_BYTES]);
        Some(Buffer { memory, count, home: Some(self.clone()) })
    }

    /// As [`Self::take`], with memory of its own where there is no buffer.
    #[must_use]
    pub fn room_for(&self, count: usize) -> Buffer {
        self.take(count).unwrap_or_else(|| Buffer { memory: vec![0; count], count, home: None })
    }

    /// Gives the memory of those that nobody has back to the system.
    pub fn give_back(&self) {
        let free = {
            let mut state = lock(&self.0.state);
            state.made -= state.free.len();
            state.unneeded = 0;
            std::mem::take(&mut state.free)
        };
        drop(free);
    }

    /// Gives the memory of those back to the system that nobody has needed since this was called before. Whoever
    /// calls it from time to time leaves as many as are used at the same time, and none where nothing happens.
    pub fn give_back_unneeded(&self) {
        let unneeded: Vec<_> = {
            let mut state = lock(&self.0.state);
            let count = state.unneeded;
            state.made -= count;
            // The first ones are those that were used the longest time ago.
            let unneeded = state.free.drain(..count).collect();
            state.unneeded = state.free.len();
            unneeded
        };
        drop(unneeded);
    }

    /// How many there are now, whoever has them.
    #[must_use]
    pub fn made(&self) -> usize {
        lock(&self.0.state).made
    }
}

/// Memory for the bytes of one read or one request.
pub struct Buffer {
    memory: Vec<u8>,
    count: usize,
    /// `None`: the memory is its own.
    home: Option<Buffers>,
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffer").field("count", &self.count).finish_non_exhaustive()
    }
}

impl Buffer {
    /// Leaves only the first so many bytes.
    pub fn truncate(&mut self, count: usize) {
        self.count = self.count.min(count);
    }

    /// Its bytes. A buffer is free again when the last part of them is dropped. Few of them are copied: they
    /// are not to keep it from others.
    #[must_use]
    pub fn freeze(mut self) -> Bytes {
        if self.home.is_none() {
            self.memory.truncate(self.count);
            return std::mem::take(&mut self.memory).into();
        }
        if self.count < BUFFERED_BYTES_MIN {
            return Bytes::copy_from_slice(&self);
        }
        Bytes::from_owner(self)
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.memory[..self.count]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory[..self.count]
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(home) = &self.home {
            let memory = std::mem::take(&mut self.memory);
            lock(&home.0.state).free.push(memory);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether these are bytes of that memory.
    fn is_in(bytes: &[u8], memory: &std::ops::Range<*const u8>) -> bool {
        memory.contains(&bytes.as_ptr())
    }

    #[test]
    fn a_buffer_is_used_again_when_the_last_part_of_its_bytes_is_gone() {
        let buffers = Buffers::new(1);
        let mut buffer = buffers.take(100_000).expect("the first one");
        buffer.fill(7);
        let memory = buffer.as_ptr_range();
        buffer.truncate(80_000);
        let bytes = buffer.freeze();
        assert!(is_in(&bytes, &memory) && bytes == vec![7_u8; 80_000]);
        let part = bytes.slice(79_999..);
        drop(bytes);
        assert!(buffers.take(100_000).is_none(), "somebody has a part of the only one");
        let own = buffers.room_for(100_000);
        assert!(!is_in(&own, &memory) && own.len() == 100_000);
        drop(own);
        assert!(buffers.take(100_000).is_none(), "memory of its own is no buffer");
        drop(part);
        assert!(is_in(&buffers.take(BUFFER_BYTES).expect("it is free"), &memory));
    }

    #[test]
    fn what_is_small_or_too_large_has_memory_of_its_own() {
        let buffers = Buffers::new(1);
        for count in [0, 1, BUFFERED_BYTES_MIN - 1, BUFFER_BYTES + 1] {
            assert!(buffers.take(count).is_none());
            let mut own = buffers.room_for(count);
            assert!(*own == *vec![0_u8; count]);
            own.truncate(count / 2);
            assert_eq!(own.freeze().len(), count / 2);
        }
        // It turned out to be small.
        let mut buffer = buffers.take(BUFFERED_BYTES_MIN).expect("it is worth it");
        buffer.fill(3);
        let memory = buffer.as_ptr_range();
        buffer.truncate(10);
        let bytes = buffer.freeze();
        assert!(!is_in(&bytes, &memory) && bytes == vec![3_u8; 10]);
        assert!(buffers.take(BUFFER_BYTES).is_some(), "the buffer is free although the bytes are there");
    }

    #[test]
    fn there_are_never_more_than_were_asked_for() {
        let buffers = Buffers::new(2);
        let all = || (buffers.take(BUFFER_BYTES), buffers.take(BUFFER_BYTES), buffers.take(BUFFER_BYTES));
        for _ in 0..3 {
            let (one, two, three) = all();
            assert!(one.is_some() && two.is_some() && three.is_none());
            drop(one);
            // The one that is free goes, and another may be made in its place, but no third one.
            buffers.give_back();
            let again = all();
            assert!(again.0.is_some() && again.1.is_none());
        }
        buffers.give_back();
        assert_eq!(buffers.made(), 0);
    }

    #[test]
    fn only_what_nobody_has_needed_since_the_last_time_is_given_back() {
        let buffers = Buffers::new(3);
        let use_at_once = |count: usize| {
            let taken: Vec<_> =
                (0..count).map(|_| buffers.take(BUFFER_BYTES).expect("there is one")).collect();
            taken.last().map(|last| last.as_ptr_range())
        };
        use_at_once(3);
        buffers.give_back_unneeded();
        assert_eq!(buffers.made(), 3, "all were needed");
        // Again and again, but never more than one at the same time.
        let memory = use_at_once(1).expect("one");
        use_at_once(1);
        buffers.give_back_unneeded();
        assert_eq!(buffers.made(), 1);
        assert!(is_in(&buffers.take(BUFFER_BYTES).expect("it is free"), &memory), "the one that was used");
        // One that somebody has is needed, however long.
        let held = buffers.take(BUFFER_BYTES);
        for _ in 0..3 {
            buffers.give_back_unneeded();
            assert_eq!(buffers.made(), 1);
        }
        drop(held);
        buffers.give_back_unneeded();
        assert_eq!(buffers.made(), 1, "it was needed until now");
        buffers.give_back_unneeded();
        assert_eq!(buffers.made(), 0);
        assert!(use_at_once(3).is_some(), "as many as before can be made again");
        buffers.give_back();
        buffers.give_back_unneeded();
        assert_eq!(buffers.made(), 0);
    }
}
