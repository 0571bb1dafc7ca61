//! Whether the committer waits for a moment before it takes what has arrived.
//!
//! Producers that wait for their acknowledgements send again as soon as they have them, all of them at about
//! the same time. Without a wait, the first one has the next sync for itself, and all others begin with
//! waiting for the end of it: two syncs where one would do.
//!
//! The wait is short and needs no other thread's help: a timer of the system is later than it may be long.
//! It ends when as many have come as were answered last, when nobody came for a while, or when its time is
//! up; where it brings nothing, it is tried more and more rarely.

use std::time::{Duration, Instant};

use crate::queue::Queue;

/// Ends the wait when nobody came for so long.
const GAP: Duration = Duration::from_micros(20);

/// Longest wait: about as long as a sync takes.
const MOST: Duration = Duration::from_micros(100);

/// With so many bytes at hand there is enough to do.
const BYTES_ENOUGH: usize = 256 * 1024;

/// Groups that do not wait after a wait that brought nothing: 2, 4, 8 and so on up to 2 to the power of this.
const DOUBLINGS_MAX: u32 = 6;

/// What the committer remembers of its waits.
#[derive(Debug)]
pub(crate) struct Gathering {
    gap: Duration,
    most: Duration,
    /// Groups that still do not wait.
    left_out: u32,
    /// Waits in a row that brought nothing.
    misses: u32,
}

impl Default for Gathering {
    fn default() -> Self {
        Self { gap: GAP, most: MOST, left_out: 0, misses: 0 }
    }
}

impl Gathering {
    /// Waits until about as many commands wait as were committed last, if they seem to be on their way.
    pub(crate) fn wait(&mut self, queue: &Queue) {
        let waiting = queue.waiting();
        let expected = waiting.taken;
        if waiting.count >= expected || waiting.bytes >= BYTES_ENOUGH {
            return;
        }
        if self.left_out > 0 {
            self.left_out -= 1;
            return;
        }
        let found = self.until(queue, waiting.count, expected);
        if found >= expected || found >= 2 * waiting.count {
            self.misses = 0;
        } else {
            self.misses = (self.misses + 1).min(DOUBLINGS_MAX);
            self.left_out = 1 << self.misses;
        }
    }

    /// How many wait at the end.
    fn until(&self, queue: &Queue, mut count: usize, expected: usize) -> usize {
        let begun = Instant::now();
        let mut newest = begun;
        loop {
            std::hint::spin_loop();
            let now = Instant::now();
            let found = queue.count();
            if found > count {
                count = found;
                newest = now;
            }
            if count >= expected || now - newest >= self.gap || now - begun >= self.most {
                return count;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::Command;

    const LONG: Duration = Duration::from_secs(3600);

    fn push(queue: &Queue, count: usize) {
        for _ in 0..count {
            let pushed = queue.push(Command::AllocateProducerId { done: Box::new(|_| {}) });
            assert!(pushed.is_ok());
        }
    }

    /// A queue of which so many were taken.
    fn taken(count: usize) -> Queue {
        let queue = Queue::default();
        push(&queue, count);
        assert_eq!(queue.take(usize::MAX).len(), count);
        queue
    }

    /// It would wait for an hour for the one that is missing.
    #[test]
    fn it_ends_when_as_many_are_there_as_were_answered() {
        let mut gathering = Gathering { gap: LONG, most: LONG, ..Gathering::default() };
        let queue = taken(5);
        push(&queue, 1);
        std::thread::scope(|scope| {
            scope.spawn(|| push(&queue, 4));
            gathering.wait(&queue);
        });
        assert_eq!(queue.take(usize::MAX).len(), 5);
        assert_eq!((gathering.misses, gathering.left_out), (0, 0));
    }

    #[test]
    fn nobody_waits_where_as_many_are_there_as_last_time() {
        let mut gathering = Gathering { gap: LONG, most: LONG, ..Gathering::default() };
        let queue = taken(1);
        push(&queue, 1);
        gathering.wait(&queue);
        let queue = taken(2);
        push(&queue, 3);
        gathering.wait(&queue);
        gathering.wait(&taken(0));
        assert_eq!((gathering.misses, gathering.left_out), (0, 0));
    }

    #[test]
    fn where_nobody_comes_it_is_tried_more_and_more_rarely() {
        let mut gathering = Gathering { gap: Duration::ZERO, most: LONG, ..Gathering::default() };
        let queue = taken(5);
        push(&queue, 1);
        for misses in 1..=DOUBLINGS_MAX {
            gathering.wait(&queue);
            assert_eq!((gathering.misses, gathering.left_out), (misses, 1 << misses));
            for left_out in (0..1_u32 << misses).rev() {
                gathering.wait(&queue);
                assert_eq!(gathering.left_out, left_out);
            }
        }
        gathering.wait(&queue);
        assert_eq!(gathering.misses, DOUBLINGS_MAX);
    }
}
