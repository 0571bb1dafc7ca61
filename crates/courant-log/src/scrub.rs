//! Looking at everything that is stored while the log is in use, a little at a time, so that rot is found
//! before a reader comes to it.

use std::sync::Arc;

use crate::log::Log;
use crate::partition::{Partition, PartitionId, ReadError, Reader};
use crate::segment::{Reach, Segment};

/// One look at the segments of all partitions, in steps that its owner makes when it has the time.
///
/// Nothing is locked between two steps, and no step waits for a commit or makes one wait. What is appended
/// meanwhile is looked at too, where it stands behind the place that was reached.
#[derive(Debug)]
pub struct Scrub {
    log: Log,
    /// Still to be looked at, the next one last.
    partitions: Vec<PartitionId>,
    current: Option<Current>,
    bytes: u64,
}

/// The partition that is being looked at.
#[derive(Debug)]
struct Current {
    partition: Arc<Partition>,
    /// Still to be looked at, the next one last.
    segments: Vec<Arc<Segment>>,
    /// Where to go on in the next one.
    position: u64,
}

impl Current {
    fn of(partition: Arc<Partition>) -> Self {
        let mut segments = partition.segments();
        segments.reverse();
        Self { partition, segments, position: 0 }
    }

    fn next_segment(&mut self) {
        self.segments.pop();
        self.position = 0;
    }
}

impl Log {
    /// Begins to compare every stored byte of the segments with its checksum, as the disk holds it: see
    /// [`Scrub::step`]. `turn` chooses the partition that comes first: who is interrupted again and again
    /// takes another one each time, and comes to all of them.
    #[must_use]
    pub fn begin_scrub(&self, turn: u64) -> Scrub {
        let catalog = self.catalog();
        let mut partitions: Vec<PartitionId> =
            catalog.topics().flat_map(|topic| &topic.partitions).copied().collect();
        partitions.sort_unstable();
        if let Some(first) = turn.checked_rem(partitions.len() as u64) {
            partitions.rotate_left(first as usize);
        }
        partitions.reverse();
        let bytes = partitions.iter().filter_map(|partition| self.partition_bytes(*partition)).sum();
        Scrub { log: self.clone(), partitions, current: None, bytes }
    }
}

impl Scrub {
    /// Bytes that were stored when it began.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Compares about `bytes_max` bytes and returns how many they were: whole blocks, one at least, of one
    /// segment. `None`: everything was looked at. What differs is in [`Log::damage`] afterwards.
    ///
    /// # Errors
    /// See [`ReadError`]: the storage failed, and the rest of that segment is passed over. Damage is no
    /// error. The next step goes on.
    pub fn step(&mut self, bytes_max: u64) -> Result<Option<u64>, ReadError> {
        loop {
            if self.current.is_none() {
                let Some(id) = self.partitions.pop() else { return Ok(None) };
                self.current = self.log.inner.partition(id).map(Current::of);
            }
            let Some(current) = &mut self.current else { continue };
            let Some(segment) = current.segments.last().cloned() else {
                self.current = None;
                continue;
            };
            let before = current.position;
            let (storage, handles) = (&*self.log.inner.storage, &self.log.inner.handles);
            let reader = Reader { storage, handles, partition: &current.partition, reach: Reach::Disk };
            match reader.scrub_from(&segment, before, bytes_max) {
                Ok(Some(next)) => {
                    current.position = next;
                    return Ok(Some(next.saturating_sub(before)));
                }
                Ok(None) => {
                    current.next_segment();
                    return Ok(Some(segment.published().saturating_sub(before)));
                }
                // It was replaced or deleted meanwhile.
                Err(_) if !current.partition.has_segment(segment.key()) => current.next_segment(),
                Err(error) => {
                    current.next_segment();
                    return Err(error);
                }
            }
        }
    }
}
