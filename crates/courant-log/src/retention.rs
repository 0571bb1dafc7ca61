//! Retention: which events are old or many enough to go. Whole segments go, from the oldest on.

use std::sync::Arc;

use crate::inner::Inner;
use crate::lock;
use crate::partition::Partition;
use crate::queue::Command;
use crate::segment::Segment;
use crate::topic_config::Retention;

impl Inner {
    /// Begins the deletion of what retention does not keep; returns in how many partitions.
    pub(crate) fn enforce_retention(&self) -> usize {
        let catalog = self.catalog.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        let now_ms = self.believed_now_ms();
        let mut begun = 0;
        for topic in catalog.topics() {
            let retention = Retention::of(&topic.configs);
            if retention == Retention::default() {
                continue;
            }
            for id in &topic.partitions {
                let Some(partition) = self.partition(*id) else { continue };
                let Some(before) = first_kept(&partition, retention, now_ms) else { continue };
                let name = topic.name.clone();
                let done = Box::new(move |deleted| match deleted {
                    Ok(start) => tracing::info!(topic = name, start, "retention deleted old events"),
                    Err(error) => tracing::warn!(topic = name, %error, "retention deleted nothing"),
                });
                // A queue that is full, or a log that stops: the next time will do.
                let command = Command::DeleteRecords { partition: *id, before, done };
                begun += usize::from(self.queue.push(command).is_ok());
            }
        }
        begun
    }

    /// The wall clock, unless it has jumped ahead.
    fn believed_now_ms(&self) -> i64 {
        let (wall_ms, elapsed_ms) = (self.config.clock.now_ms(), self.config.clock.elapsed_ms());
        let (now_ms, jumped_ms) = lock(&self.believed).now_ms(wall_ms, elapsed_ms);
        if let Some(jumped_ms) = jumped_ms {
            tracing::error!(
                jumped_s = jumped_ms / 1000,
                "the clock has jumped ahead; retention does not believe it. Set it right, or start anew if it is"
            );
        }
        now_ms
    }

    /// How often retention is looked at: often enough for the topic that keeps its events for the
    /// shortest time.
    pub(crate) fn retention_interval_ms(&self) -> u64 {
        const LONGEST_MS: u64 = 60_000;
        const SHORTEST_MS: u64 = 1000;
        let catalog = self.catalog.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        let ages = catalog.topics().filter_map(|topic| Retention::of(&topic.configs).age_ms);
        let shortest = ages.min().and_then(|age| u64::try_from(age / 4).ok());
        shortest.unwrap_or(LONGEST_MS).clamp(SHORTEST_MS, LONGEST_MS)
    }
}

/// The offset below which a partition's events go; `None` when all of them stay.
fn first_kept(partition: &Partition, retention: Retention, now_ms: i64) -> Option<u64> {
    let ends = partition.offsets();
    let segments = partition.segments();
    let mut bytes: u64 = segments.iter().map(|segment| segment.published()).sum();
    let mut keep = None;
    for (index, segment) in segments.iter().enumerate() {
        let (from, next) = (&segments[index..], segments.get(index + 1));
        let is_too_much = |kept: u64| next.is_some() && retention.bytes.is_some_and(|max| kept >= max);
        let without = bytes - segment.published().min(bytes);
        if !is_old(from, retention, now_ms) && !is_too_much(without) {
            break;
        }
        bytes = without;
        keep = Some(next.map_or(ends.high_watermark, |next| next.header.base_offset));
    }
    // A segment that begins behind the watermark is queued and not durable yet.
    keep.map(|offset| offset.min(ends.high_watermark)).filter(|offset| *offset > ends.start)
}

/// Whether the newest event of the first of these segments is too old. Events without a time are never old. A segment
/// whose times are lost with its index, or of which compaction has left no event, is as old as those behind it: else it
/// would keep them for good.
fn is_old(segments: &[Arc<Segment>], retention: Retention, now_ms: i64) -> bool {
    let tells = |segment: &Arc<Segment>| segment.max_timestamp().is_some() && segment.blocks().is_complete();
    let known = segments.iter().position(tells);
    let judged = &segments[..known.map_or(segments.len(), |known| known + 1)];
    let newest = judged.iter().filter_map(|segment| segment.max_timestamp()).max();
    let newest = newest.filter(|newest| *newest >= 0);
    let age_ms = newest.map(|newest| now_ms.saturating_sub(newest));
    retention.age_ms.zip(age_ms).is_some_and(|(max, age)| age > max)
}
