//! What to compact: which segments of a partition, and which of them become one.
//!
//! Time is the wall clock against the timestamps of events and of rounds. An age is never below
//! "just now": where the clock stands before a timestamp, because it was set back or because the
//! timestamp lies in the future, the event is young and the tombstone fresh until the clock has passed
//! it. So a clock that goes back delays compaction and costs space.
//!
//! A clock that jumps years ahead makes events pass `min.compaction.lag.ms` early, which costs nothing
//! but superseded events, and it would let tombstones go before readers have seen them. Against that, a
//! tombstone goes only when the time that has really passed agrees, wherever that is known: see
//! [`SegmentInfo::elapsed_ms`]. It is not known across a restart. Who jumps the clock and then restarts
//! lets the tombstones go early that were compacted before the restart.

use std::ops::Range;

use super::CompactionConfig;

/// A merged segment spans fewer offsets than this, as in Kafka, whose indexes keep offsets relative to
/// the segment's base in 32 bits.
const SPAN_MAX: u64 = i32::MAX as u64;

/// In how many steps the time for which tombstones stay is divided. Only segments whose tombstones are
/// of one step are merged: a merged segment is as fresh as its freshest part, and one that merged with
/// every new one would never come to lose its tombstones.
const STEPS: i64 = 8;

/// What the choice needs to know of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentInfo {
    /// Offset of the first event that was written to it.
    pub base_offset: u64,
    /// Offset behind the last event that was written to it.
    pub end_offset: u64,
    /// Bytes of its file.
    pub bytes: u64,
    /// Timestamp of about its first event, in milliseconds since 1970. `None` or negative: none.
    pub first_timestamp: Option<i64>,
    /// Greatest timestamp of its events, in milliseconds since 1970. `None` or negative: none.
    pub max_timestamp: Option<i64>,
    /// When it was compacted, in milliseconds since 1970; 0: never, it is dirty. See
    /// [`Group::compacted_ms`].
    pub compacted_ms: i64,
    /// Milliseconds that have passed since then by a clock that nobody sets. `None`: not known, because
    /// it was before the process started. See [`Group::elapsed_ms`].
    pub elapsed_ms: Option<u64>,
    /// Whether nothing is added to it any more, a checkpoint covers all of it, it lies below the last
    /// stable offset, and every byte of it can be read. A segment with damage that nobody has accepted is
    /// not that: what it supersedes is not known.
    pub is_sealed_and_checkpointed: bool,
}

impl SegmentInfo {
    fn is_dirty(&self) -> bool {
        self.compacted_ms == 0
    }

    fn is_young(&self, config: &CompactionConfig, now_ms: i64) -> bool {
        let newest = self.max_timestamp.filter(|newest| *newest >= 0);
        config.lag_min_ms > 0 && newest.is_some_and(|newest| age(now_ms, newest) < config.lag_min_ms)
    }

    /// Whether the tombstones in it have stayed for as long as they must, by both clocks.
    fn may_lose_tombstones(&self, config: &CompactionConfig, now_ms: i64) -> bool {
        let by_wall = age(now_ms, self.compacted_ms) > config.delete_retention_ms;
        let passed = |elapsed: u64| i64::try_from(elapsed).unwrap_or(i64::MAX) > config.delete_retention_ms;
        !self.is_dirty() && by_wall && self.elapsed_ms.is_none_or(passed)
    }
}

/// One round of compaction. It covers a partition from its first segment on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The segments to learn keys from, by their index. Before them, every key has one event at most.
    pub dirty: Range<usize>,
    /// What becomes of all segments of the round. Groups replace their segments in this order, and a
    /// round may end behind any of them.
    pub groups: Vec<Group>,
}

/// Adjacent segments that become one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// The segments, by their index.
    pub segments: Range<usize>,
    /// Base offset of the first one, and of the new one.
    pub base_offset: u64,
    /// Offset behind the last one, and behind the new one.
    pub end_offset: u64,
    /// Bytes of all of them. The new one has no more, unless batches had been compressed better than
    /// this log does it.
    pub bytes: u64,
    /// Whether tombstones that are the newest of their key go.
    pub drop_tombstones: bool,
    /// [`SegmentInfo::compacted_ms`] of the new segment: when the freshest of its events was compacted
    /// for the first time. Later rounds do not change it, so that tombstones do not stay for ever.
    pub compacted_ms: i64,
    /// [`SegmentInfo::elapsed_ms`] of the new segment when the round begins: of what is known, the least.
    pub elapsed_ms: Option<u64>,
}

/// The round that a partition is due for, if it is.
///
/// `segments` are all of a partition, in the order of offsets. A round covers the sealed and
/// checkpointed ones from the first on, up to one with an event younger than
/// [`CompactionConfig::lag_min_ms`]. It is due when what is dirty among them is at least
/// [`CompactionConfig::dirty_ratio_min`] of their bytes, or its oldest event is older than
/// [`CompactionConfig::lag_max_ms`]. Events without a timestamp are neither young nor old. Without
/// anything dirty no round is due; tombstones go with the next one.
#[must_use]
pub fn plan(segments: &[SegmentInfo], config: &CompactionConfig, now_ms: i64) -> Option<Plan> {
    let is_ready =
        |segment: &&SegmentInfo| segment.is_sealed_and_checkpointed && !segment.is_young(config, now_ms);
    let ready = segments.iter().take_while(is_ready).count();
    let (covered, _) = segments.split_at_checked(ready)?;
    let first_dirty = covered.iter().position(SegmentInfo::is_dirty)?;
    // A compacted segment behind a dirty one counts as dirty: keys may have events in both.
    let (clean, dirty) = covered.split_at_checked(first_dirty)?;
    if !is_dirty_enough(clean, dirty, config) && !is_overdue(dirty, config, now_ms) {
        return None;
    }
    Some(Plan { dirty: first_dirty..ready, groups: groups(covered, config, now_ms) })
}

impl Plan {
    /// The part of the round whose segments lie wholly below an offset: as far as the memory for keys
    /// came. `None` when that is not one dirty segment; then the keys of one segment need more memory,
    /// or segments must be smaller. `segments` are those that were planned.
    #[must_use]
    pub fn within(self, segments: &[SegmentInfo], complete_below: u64) -> Option<Self> {
        let is_complete = |segment: &&SegmentInfo| segment.end_offset <= complete_below;
        let end = segments.iter().take(self.dirty.end).take_while(is_complete).count();
        if end <= self.dirty.start {
            return None;
        }
        let cut = |group: Group| {
            let left = group.segments.start..group.segments.end.min(end);
            let segments = segments.get(left.clone())?;
            let end_offset = segments.last()?.end_offset;
            Some(Group { segments: left, end_offset, bytes: bytes_of(segments), ..group })
        };
        Some(Self { dirty: self.dirty.start..end, groups: self.groups.into_iter().filter_map(cut).collect() })
    }
}

fn is_dirty_enough(clean: &[SegmentInfo], dirty: &[SegmentInfo], config: &CompactionConfig) -> bool {
    let (clean, dirty) = (bytes_of(clean), bytes_of(dirty));
    dirty as f64 >= config.dirty_ratio_min * clean.saturating_add(dirty) as f64
}

fn is_overdue(dirty: &[SegmentInfo], config: &CompactionConfig, now_ms: i64) -> bool {
    let timestamps = dirty.iter().flat_map(|segment| [segment.first_timestamp, segment.max_timestamp]);
    let oldest = timestamps.flatten().filter(|timestamp| *timestamp >= 0).min();
    oldest.is_some_and(|oldest| age(now_ms, oldest) > config.lag_max_ms)
}

fn groups(segments: &[SegmentInfo], config: &CompactionConfig, now_ms: i64) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    let mut class: Option<Class> = None;
    for (index, segment) in segments.iter().enumerate() {
        let next = Group::of(index, segment, config, now_ms);
        let next_class = Some(Class::of(&next, segment, config));
        match groups.last_mut().filter(|group| class == next_class && group.has_room_for(&next, config)) {
            Some(group) => group.join(next),
            None => groups.push(next),
        }
        class = next_class;
    }
    groups
}

impl Group {
    fn of(index: usize, segment: &SegmentInfo, config: &CompactionConfig, now_ms: i64) -> Self {
        let is_dirty = segment.is_dirty();
        Self {
            segments: index..index + 1,
            base_offset: segment.base_offset,
            end_offset: segment.end_offset,
            bytes: segment.bytes,
            drop_tombstones: segment.may_lose_tombstones(config, now_ms),
            // A clock that stands before 1970 must not say "never".
            compacted_ms: if is_dirty { now_ms.max(1) } else { segment.compacted_ms },
            elapsed_ms: if is_dirty { Some(0) } else { segment.elapsed_ms },
        }
    }

    fn has_room_for(&self, next: &Self, config: &CompactionConfig) -> bool {
        self.bytes.saturating_add(next.bytes) <= config.segment_bytes
            && next.end_offset.saturating_sub(self.base_offset) < SPAN_MAX
    }

    fn join(&mut self, next: Self) {
        self.segments.end = next.segments.end;
        self.end_offset = next.end_offset;
        self.bytes = self.bytes.saturating_add(next.bytes);
        self.compacted_ms = self.compacted_ms.max(next.compacted_ms);
        // Not known is not long ago: what is known decides.
        self.elapsed_ms = match (self.elapsed_ms, next.elapsed_ms) {
            (Some(ours), Some(theirs)) => Some(ours.min(theirs)),
            (ours, theirs) => ours.or(theirs),
        };
    }
}

/// Only segments of one class are merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Class {
    /// The step of time in which the tombstones came; `None` where they go in this round.
    tombstones: Option<i64>,
    /// The step of time in which the newest event lies, where retention goes by time.
    newest: Option<i64>,
}

impl Class {
    fn of(group: &Group, segment: &SegmentInfo, config: &CompactionConfig) -> Self {
        let step_ms = (config.delete_retention_ms / STEPS).max(1);
        let tombstones = (!group.drop_tombstones).then(|| group.compacted_ms.div_euclid(step_ms));
        let newest = segment.max_timestamp.filter(|newest| *newest >= 0);
        let newest = config.retained_step_ms.zip(newest).map(|(step, newest)| newest.div_euclid(step.max(1)));
        Self { tombstones, newest }
    }
}

/// Milliseconds since a timestamp; negative while it lies in the future.
fn age(now_ms: i64, timestamp_ms: i64) -> i64 {
    now_ms.saturating_sub(timestamp_ms)
}

fn bytes_of(segments: &[SegmentInfo]) -> u64 {
    segments.iter().fold(0, |sum: u64, segment| sum.saturating_add(segment.bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_700_000_000_000;
    const DAY: i64 = 86_400_000;

    fn config() -> CompactionConfig {
        CompactionConfig {
            dirty_ratio_min: 0.5,
            lag_min_ms: 0,
            lag_max_ms: i64::MAX,
            delete_retention_ms: DAY,
            segment_bytes: 1000,
            retained_step_ms: None,
        }
    }

    /// The segment number `index`, of 100 events and 400 bytes, an hour old.
    fn segment(index: u64, compacted_ms: i64) -> SegmentInfo {
        SegmentInfo {
            base_offset: index * 100,
            end_offset: index * 100 + 100,
            bytes: 400,
            first_timestamp: Some(NOW - 3_700_000),
            max_timestamp: Some(NOW - 3_600_000),
            compacted_ms,
            elapsed_ms: None,
            is_sealed_and_checkpointed: true,
        }
    }

    /// First segment, and the one behind the last.
    type Bounds = (usize, usize);

    /// The dirty segments of a plan, and the first segment of each group with the one behind its last.
    fn shape(plan: Option<Plan>) -> Option<(Range<usize>, Vec<Bounds>)> {
        let bounds = |group: &Group| (group.segments.start, group.segments.end);
        plan.map(|plan| (plan.dirty, plan.groups.iter().map(bounds).collect()))
    }

    #[test]
    fn a_round_begins_when_enough_is_dirty() {
        assert_eq!(plan(&[], &config(), NOW), None);
        let old = NOW - 10 * DAY;
        let clean_only = [segment(0, old), segment(1, old)];
        assert_eq!(plan(&clean_only, &config(), NOW), None);
        let a_third = [segment(0, old), segment(1, old), segment(2, 0)];
        assert_eq!(plan(&a_third, &config(), NOW), None);
        let half = [segment(0, old), segment(1, old), segment(2, 0), segment(3, 0)];
        assert_eq!(shape(plan(&half, &config(), NOW)), Some((2..4, vec![(0, 2), (2, 4)])));
        let eager = CompactionConfig { dirty_ratio_min: 0.0, ..config() };
        assert_eq!(shape(plan(&a_third, &eager, NOW)), Some((2..3, vec![(0, 2), (2, 3)])));
    }

    #[test]
    fn an_old_event_makes_a_round_due() {
        let segments = [segment(0, NOW - DAY), segment(1, NOW - DAY), segment(2, 0)];
        let lag = |lag_max_ms| CompactionConfig { lag_max_ms, ..config() };
        assert!(plan(&segments, &lag(3_699_999), NOW).is_some());
        assert_eq!(plan(&segments, &lag(3_700_000), NOW), None);
        // Neither a clock before the event nor an event without a time makes it old.
        assert_eq!(plan(&segments, &lag(1), NOW - DAY), None);
        assert_eq!(plan(&segments, &lag(1), i64::MIN), None);
        for none in [None, Some(-1), Some(i64::MIN)] {
            let mut timeless = segments;
            timeless[2].first_timestamp = none;
            timeless[2].max_timestamp = none;
            assert_eq!(plan(&timeless, &lag(1), NOW), None);
        }
    }

    #[test]
    fn only_what_is_sealed_and_checkpointed_is_covered() {
        let mut segments = [segment(0, 0), segment(1, 0), segment(2, 0)];
        segments[1].is_sealed_and_checkpointed = false;
        assert_eq!(shape(plan(&segments, &config(), NOW)), Some((0..1, vec![(0, 1)])));
        segments[0].is_sealed_and_checkpointed = false;
        assert_eq!(plan(&segments, &config(), NOW), None);
    }

    #[test]
    fn young_events_are_left_alone() {
        let mut segments = [segment(0, 0), segment(1, 0), segment(2, 0)];
        segments[1].max_timestamp = Some(NOW - 999);
        let lag = |lag_min_ms| CompactionConfig { lag_min_ms, ..config() };
        let dirty = |config: &CompactionConfig, segments: &[SegmentInfo]| {
            plan(segments, config, NOW).map(|plan| plan.dirty)
        };
        assert_eq!(dirty(&lag(1000), &segments), Some(0..1));
        assert_eq!(dirty(&lag(999), &segments), Some(0..3));
        // An event of the future is young.
        segments[0].max_timestamp = Some(i64::MAX);
        assert_eq!(dirty(&lag(1), &segments), None);
        assert_eq!(dirty(&lag(0), &segments), Some(0..3));
        segments[0].max_timestamp = None;
        assert_eq!(dirty(&lag(1000), &segments), Some(0..1));
    }

    #[test]
    fn merged_segments_stay_within_bytes_and_span() {
        let sizes = |bytes: [u64; 4]| {
            let mut segments = [segment(0, 0), segment(1, 0), segment(2, 0), segment(3, 0)];
            for (segment, bytes) in segments.iter_mut().zip(bytes) {
                segment.bytes = bytes;
            }
            segments
        };
        let merged = |segments: &[SegmentInfo]| shape(plan(segments, &config(), NOW)).unwrap().1;
        assert_eq!(merged(&sizes([1; 4])), [(0, 4)]);
        assert_eq!(merged(&sizes([500; 4])), [(0, 2), (2, 4)]);
        assert_eq!(merged(&sizes([501; 4])), [(0, 1), (1, 2), (2, 3), (3, 4)]);
        assert_eq!(merged(&sizes([5000, 1, 999, 1])), [(0, 1), (1, 3), (3, 4)]);
        assert_eq!(merged(&sizes([u64::MAX; 4])).len(), 4);
        let mut wide = sizes([1; 4]);
        wide[3].end_offset = i32::MAX as u64 - 1;
        assert_eq!(merged(&wide), [(0, 4)]);
        wide[3].end_offset = i32::MAX as u64;
        assert_eq!(merged(&wide), [(0, 3), (3, 4)]);
    }

    #[test]
    fn a_group_begins_and_ends_with_its_segments() {
        let segments = [segment(0, 0), segment(1, 0), segment(2, 0)];
        let plan = plan(&segments, &config(), NOW).unwrap();
        let expected = Group {
            segments: 0..2,
            base_offset: 0,
            end_offset: 200,
            bytes: 800,
            drop_tombstones: false,
            compacted_ms: NOW,
            elapsed_ms: Some(0),
        };
        assert_eq!(plan.groups[0], expected);
        assert_eq!((plan.groups[1].base_offset, plan.groups[1].end_offset), (200, 300));
    }

    #[test]
    fn tombstones_go_when_both_clocks_agree() {
        let drops = |compacted_ms, elapsed_ms, now_ms| {
            let first = SegmentInfo { elapsed_ms, ..segment(0, compacted_ms) };
            plan(&[first, segment(1, 0)], &config(), now_ms).unwrap().groups[0].drop_tombstones
        };
        let day = DAY as u64;
        assert!(drops(NOW - DAY - 1, None, NOW));
        assert!(!drops(NOW - DAY, None, NOW));
        assert!(drops(NOW - DAY - 1, Some(day + 1), NOW));
        assert!(drops(NOW - DAY - 1, Some(u64::MAX), NOW));
        // The wall clock has jumped ahead.
        assert!(!drops(NOW - 1, Some(1), NOW + 3650 * DAY));
        // It was set back.
        assert!(!drops(NOW, Some(day + 1), NOW - 3650 * DAY));
        assert!(!drops(i64::MAX, None, i64::MIN));
        assert!(!drops(0, None, NOW));
    }

    #[test]
    fn the_time_of_the_first_compaction_stays() {
        let eager = CompactionConfig { dirty_ratio_min: 0.0, ..config() };
        let compacted = [NOW - 3 * DAY, NOW - 2 * DAY, NOW - 1, 0];
        let segments: Vec<SegmentInfo> = (0..).zip(compacted).map(|(index, ms)| segment(index, ms)).collect();
        let mut groups = plan(&segments, &eager, NOW).unwrap().groups.into_iter();
        // Both have lost their tombstones: one segment, as old as the fresher one.
        let first = groups.next().unwrap();
        assert_eq!((first.segments, first.compacted_ms, first.drop_tombstones), (0..2, NOW - 2 * DAY, true));
        // Compacted just now and compacted a moment ago is of one step.
        let second = groups.next().unwrap();
        assert_eq!((second.segments, second.compacted_ms, second.drop_tombstones), (2..4, NOW, false));
        assert_eq!(second.elapsed_ms, Some(0));
        assert_eq!(groups.next(), None);
    }

    #[test]
    fn tombstones_of_a_small_topic_do_not_stay_for_ever() {
        // A round every hour, each with a new segment: all would fit into one.
        let config = CompactionConfig { segment_bytes: u64::MAX, ..config() };
        let mut segments: Vec<SegmentInfo> = Vec::new();
        // For each segment, when the first of its tombstones was compacted first.
        let mut since: Vec<i64> = Vec::new();
        let mut most = 0usize;
        for hour in 0..200u32 {
            let now_ms = NOW + i64::from(hour) * 3_600_000;
            let offset = u64::from(hour);
            let new = segment(0, 0);
            segments.push(SegmentInfo { base_offset: offset, end_offset: offset + 1, bytes: 1000, ..new });
            since.push(now_ms);
            let groups = plan(&segments, &config, now_ms).unwrap().groups;
            let first = |group: &Group| since[group.segments.clone()].iter().copied().min().unwrap();
            since = groups.iter().map(first).collect();
            for (group, since) in groups.iter().zip(&since).filter(|(group, _)| !group.drop_tombstones) {
                assert!(now_ms - since <= DAY + DAY / STEPS, "hour {hour}: {group:?}");
            }
            let merged = |group: &Group| SegmentInfo {
                base_offset: group.base_offset,
                end_offset: group.end_offset,
                bytes: 1,
                compacted_ms: group.compacted_ms,
                ..segment(0, 0)
            };
            segments = groups.iter().map(merged).collect();
            most = most.max(segments.len());
        }
        assert!(most as i64 <= STEPS + 3, "{most} segments");
    }

    #[test]
    fn where_retention_goes_by_time_old_events_stay_apart_from_new_ones() {
        let mut segments = [segment(0, 0), segment(1, 0), segment(2, 0)];
        for (segment, newest) in segments.iter_mut().zip([1_000, 1_999, 2_000]) {
            segment.bytes = 1;
            segment.max_timestamp = Some(newest);
        }
        let merged = |config: &CompactionConfig| shape(plan(&segments, config, NOW)).unwrap().1;
        assert_eq!(merged(&config()), [(0, 3)]);
        assert_eq!(merged(&CompactionConfig { retained_step_ms: Some(1000), ..config() }), [(0, 2), (2, 3)]);
    }

    #[test]
    fn a_plan_is_cut_to_what_is_complete() {
        let old = NOW - 10 * DAY;
        let segments = [segment(0, old), segment(1, old), segment(2, 0), segment(3, 0), segment(4, 0)];
        let whole = plan(&segments, &config(), NOW).unwrap();
        assert_eq!(shape(Some(whole.clone())), Some((2..5, vec![(0, 2), (2, 4), (4, 5)])));
        assert_eq!(whole.clone().within(&segments, u64::MAX), Some(whole.clone()));
        assert_eq!(whole.clone().within(&segments, 500), Some(whole.clone()));
        assert_eq!(shape(whole.clone().within(&segments, 499)), Some((2..4, vec![(0, 2), (2, 4)])));
        let cut = whole.clone().within(&segments, 399).unwrap();
        assert_eq!((cut.groups[1].end_offset, cut.groups[1].bytes), (300, 400));
        assert_eq!(shape(Some(cut)), Some((2..3, vec![(0, 2), (2, 3)])));
        assert_eq!(whole.clone().within(&segments, 299), None);
        assert_eq!(whole.within(&segments, 0), None);
    }

    #[test]
    fn a_clock_before_1970_does_not_say_never() {
        let plan = plan(&[segment(0, 0)], &config(), -5).unwrap();
        assert_eq!(plan.groups[0].compacted_ms, 1);
    }
}
