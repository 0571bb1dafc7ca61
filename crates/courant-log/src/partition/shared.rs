//! What the committer and the readers of a partition share.
//!
//! Invariant: every offset below `high_watermark` is durable in the journal *and* written to its
//! segment. Readers never see past it.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use super::damage::{Damages, Quarantined};
use super::{Offsets, PartitionId, Waiter, Wakes};
use crate::limits::RECENT_BATCHES;
use crate::lock;
use crate::segment::{Segment, SegmentKey};

/// Remembered positions of batches, so that a reader that goes on needs no search.
const HINTS: usize = 16;

/// One partition as readers know it.
#[derive(Debug)]
pub(crate) struct Partition {
    pub(crate) id: PartitionId,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    start: u64,
    high_watermark: u64,
    /// In order of base offset; never empty.
    segments: Vec<Arc<Segment>>,
    recent: VecDeque<Hint>,
    hints: VecDeque<Hint>,
    waiters: Vec<Arc<Waiter>>,
    damages: Damages,
    /// Counts how often segments were taken out or replaced.
    changes: u64,
    deleted: bool,
}

/// A batch begins with `offset` at `position` of a segment, or `offset` is missing there and the batch is
/// the next one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hint {
    pub(crate) offset: u64,
    pub(crate) segment: SegmentKey,
    pub(crate) position: u64,
}

/// Where to read.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) offsets: Offsets,
    /// The offset, or the end of the gap that it lies in.
    pub(crate) offset: u64,
    /// `None` at the end: there is nothing to read yet.
    pub(crate) at: Option<(Arc<Segment>, Option<u64>)>,
}

/// Which segments begin in a range that begins and ends where segments do. The last one of a partition,
/// which grows, is in no such range.
fn run_of(segments: &[Arc<Segment>], range: Range<u64>) -> Option<Range<usize>> {
    let at = |offset: u64| segments.binary_search_by_key(&offset, |segment| segment.header.base_offset).ok();
    let run = at(range.start)?..at(range.end)?;
    (!run.is_empty()).then_some(run)
}

impl Partition {
    pub(crate) fn new(id: PartitionId, offsets: Offsets, segments: Vec<Arc<Segment>>) -> Self {
        assert!(!segments.is_empty(), "a partition always has a segment");
        let state = State {
            start: offsets.start,
            high_watermark: offsets.high_watermark,
            segments,
            recent: VecDeque::new(),
            hints: VecDeque::new(),
            waiters: Vec::new(),
            damages: Damages::with_gaps(offsets.start, Vec::new()),
            changes: 0,
            deleted: false,
        };
        Self { id, state: Mutex::new(state) }
    }

    /// As [`Self::new`], with what was accepted as lost.
    pub(crate) fn with_gaps(
        id: PartitionId,
        offsets: Offsets,
        segments: Vec<Arc<Segment>>,
        gaps: Vec<Range<u64>>,
    ) -> Self {
        let partition = Self::new(id, offsets, segments);
        lock(&partition.state).damages = Damages::with_gaps(offsets.start, gaps);
        partition
    }

    /// Notes that events cannot be relied on, and says so in the server's log, once.
    pub(crate) fn quarantine(&self, damage: Quarantined) {
        let Quarantined { path, bytes, offsets, what } = damage.clone();
        let is_news = {
            let mut state = lock(&self.state);
            // The files of a deleted topic go under whoever still reads them.
            !state.deleted && state.damages.quarantine(damage)
        };
        if is_news {
            let (first, last) = (offsets.start, offsets.end.saturating_sub(1));
            tracing::error!(
                path,
                ?bytes,
                first,
                last,
                what,
                "events are damaged and are not served; the rest is. `courant log verify` names them all"
            );
        }
    }

    /// Damage that nobody has accepted.
    pub(crate) fn quarantined(&self) -> Vec<Quarantined> {
        lock(&self.state).damages.quarantined().cloned().collect()
    }

    /// The damage that an offset lies in, unless it was accepted.
    pub(crate) fn quarantined_at(&self, offset: u64) -> Option<Range<u64>> {
        lock(&self.state).damages.at(offset)
    }

    /// What was accepted as lost.
    pub(crate) fn gaps(&self) -> Vec<Range<u64>> {
        lock(&self.state).damages.gaps().to_vec()
    }

    /// Accepts that the events in a range are lost: readers go on behind them.
    pub(crate) fn accept_gap(&self, gap: Range<u64>) {
        lock(&self.state).damages.accept(gap);
    }

    pub(crate) fn offsets(&self) -> Offsets {
        let state = lock(&self.state);
        Offsets { start: state.start, high_watermark: state.high_watermark }
    }

    pub(crate) fn segments(&self) -> Vec<Arc<Segment>> {
        lock(&self.state).segments.clone()
    }

    pub(crate) fn add_segment(&self, segment: Arc<Segment>) {
        let mut state = lock(&self.state);
        assert!(
            state.segments.last().is_none_or(|last| last.header.base_offset < segment.header.base_offset)
        );
        state.segments.push(segment);
    }

    /// Makes a group's batches, so many bytes, visible up to `high_watermark`, and adds the waiters that they
    /// complete to `wakes`.
    pub(crate) fn publish(
        &self,
        high_watermark: u64,
        bytes: u64,
        batches: impl IntoIterator<Item = Hint>,
        wakes: &mut Wakes,
    ) {
        let mut state = lock(&self.state);
        assert!(state.high_watermark <= high_watermark);
        state.high_watermark = high_watermark;
        for hint in batches {
            if state.recent.len() == RECENT_BATCHES {
                state.recent.pop_front();
            }
            state.recent.push_back(hint);
        }
        state.waiters.retain(|waiter| {
            let complete = waiter.arrived(bytes);
            if complete {
                wakes.push(waiter.clone());
            }
            !complete
        });
    }

    /// Moves the beginning forward and takes out the segments that are wholly below it. Readers that
    /// are inside one of them go on as long as its file is there.
    pub(crate) fn begin_at(&self, start: u64) -> Vec<Arc<Segment>> {
        let mut state = lock(&self.state);
        state.start = state.start.max(start);
        let start = state.start;
        state.damages.begin_at(start);
        // A segment ends where the next one begins; the last one always stays.
        let begins_above = state.segments.partition_point(|segment| segment.header.base_offset <= start);
        let kept = begins_above.saturating_sub(1);
        state.changes += 1;
        state.segments.drain(..kept).collect()
    }

    /// The segment behind the one that begins there.
    pub(crate) fn segment_behind(&self, base_offset: u64) -> Option<Arc<Segment>> {
        let state = lock(&self.state);
        state.segments.iter().find(|segment| segment.header.base_offset > base_offset).cloned()
    }

    /// Whether a segment is still part of the partition.
    pub(crate) fn has_segment(&self, key: SegmentKey) -> bool {
        lock(&self.state).segments.iter().any(|segment| segment.key() == key)
    }

    /// Whether a compacted segment, which ends at `end`, can take the place of others when the partition
    /// begins at `start`: all of them are there then.
    pub(crate) fn can_replace(&self, new: &Segment, end: u64, start: u64) -> bool {
        let state = lock(&self.state);
        let Some(run) = run_of(&state.segments, new.header.base_offset..end) else { return false };
        // A segment ends where the next one begins.
        state.segments.get(run.start + 1).is_some_and(|second| second.header.base_offset > start)
    }

    /// Puts one segment in the place of the adjacent ones that begin in a range of offsets, and returns
    /// those. `None`, and nothing is changed, when no segment begins or ends where the range does.
    ///
    /// What was known to be damaged in them is not in the new one.
    pub(crate) fn replace_segments(&self, end: u64, new: Arc<Segment>) -> Option<Vec<Arc<Segment>>> {
        let mut state = lock(&self.state);
        let run = run_of(&state.segments, new.header.base_offset..end)?;
        state.changes += 1;
        state.damages.forget(new.header.base_offset..end);
        Some(state.segments.splice(run, [new]).collect())
    }

    /// How often segments were taken out or replaced: a read that failed and finds another number may
    /// have looked for files that are gone in good order.
    pub(crate) fn changes(&self) -> u64 {
        lock(&self.state).changes
    }

    /// Bytes of all segments that readers may see.
    pub(crate) fn bytes(&self) -> u64 {
        lock(&self.state).segments.iter().map(|segment| segment.published()).sum()
    }

    /// The segment of `offset`, and its batch's position if that is remembered. `Err` names the ends
    /// when the offset is outside them.
    pub(crate) fn find(&self, offset: u64) -> Result<Found, Offsets> {
        let state = lock(&self.state);
        let offsets = Offsets { start: state.start, high_watermark: state.high_watermark };
        if offset < offsets.start || offset > offsets.high_watermark {
            return Err(offsets);
        }
        let offset = state.damages.past_gap(offset).min(offsets.high_watermark);
        if offset == offsets.high_watermark {
            return Ok(Found { offsets, offset, at: None });
        }
        let behind = state.segments.partition_point(|segment| segment.header.base_offset <= offset);
        let segment = state.segments[behind.saturating_sub(1)].clone();
        let hints = state.recent.iter().rev().chain(&state.hints);
        let mut hints = hints.filter(|hint| hint.offset == offset && hint.segment == segment.key());
        let position = hints.next().map(|hint| hint.position);
        drop(hints);
        Ok(Found { offsets, offset, at: Some((segment, position)) })
    }

    /// Remembers where a reader will go on.
    pub(crate) fn remember(&self, hint: Hint) {
        let mut state = lock(&self.state);
        if state.hints.len() == HINTS {
            state.hints.pop_front();
        }
        state.hints.push_back(hint);
    }

    /// Whether `offset` is among the last `bytes` of the newest segment.
    pub(crate) fn is_within_last(&self, offset: u64, bytes: u64) -> bool {
        let state = lock(&self.state);
        let Some(newest) = state.segments.last().cloned() else {
            return false;
        };
        drop(state);
        if offset < newest.header.base_offset {
            return false;
        }
        let position = newest.blocks().position_at_or_before(offset);
        newest.published().saturating_sub(position) <= bytes
    }

    /// Registers a waiter. False when it must not wait: more than `seen` is readable already, or the
    /// partition is gone.
    pub(crate) fn add_waiter(&self, seen: u64, waiter: &Arc<Waiter>) -> bool {
        let mut state = lock(&self.state);
        if state.deleted || state.high_watermark > seen {
            return false;
        }
        state.waiters.push(waiter.clone());
        true
    }

    pub(crate) fn forget_waiter(&self, waiter: &Arc<Waiter>) {
        lock(&self.state).waiters.retain(|other| !Arc::ptr_eq(other, waiter));
    }

    /// Everyone who waits, because the partition or the log goes away.
    pub(crate) fn take_waiters(&self, deleted: bool, wakes: &mut Wakes) {
        let mut state = lock(&self.state);
        state.deleted |= deleted;
        wakes.append(&mut state.waiters);
    }
}
