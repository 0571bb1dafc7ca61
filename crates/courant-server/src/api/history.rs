//! The history of lag: for each topic of each group a point a minute, for a day, in memory. Kept by the
//! server, so that a chart does not begin when somebody opens it.

use std::collections::{BTreeMap, VecDeque};

use tokio::time::{MissedTickBehavior, interval};
use tracing::debug;

use super::ApiState;
use super::lag::{Aging, Group, Places, measure};
use super::limits::{HISTORY_INTERVAL, HISTORY_POINTS_MAX, TREND_POINTS};
use super::problem::Problem;

/// Points that a series grows by, up to its bound.
const GROWTH: usize = 240;

/// The lag of one topic of one group at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Point {
    pub(crate) at_ms: i64,
    /// `None`: unknown.
    pub(crate) events: Option<u64>,
    /// Age of the oldest event that was not read. `None`: unknown.
    pub(crate) lag_ms: Option<u64>,
}

/// A point in 24 bytes: what is unknown is [`UNKNOWN`].
#[derive(Clone, Copy, Debug)]
struct Packed {
    at_ms: i64,
    events: u64,
    lag_ms: u64,
}

const UNKNOWN: u64 = u64::MAX;

impl Packed {
    fn of(point: Point) -> Self {
        let Point { at_ms, events, lag_ms } = point;
        Self { at_ms, events: events.unwrap_or(UNKNOWN), lag_ms: lag_ms.unwrap_or(UNKNOWN) }
    }

    fn point(self) -> Point {
        let known = |value: u64| (value != UNKNOWN).then_some(value);
        Point { at_ms: self.at_ms, events: known(self.events), lag_ms: known(self.lag_ms) }
    }
}

/// The points of one moment, by group and topic.
pub(crate) type Sample = BTreeMap<String, BTreeMap<String, Point>>;

/// All series.
#[derive(Debug)]
pub(crate) struct History {
    series_max: usize,
    series: BTreeMap<String, BTreeMap<String, VecDeque<Packed>>>,
    left_out: usize,
}

impl History {
    /// One with so many series at most.
    pub(crate) fn of(series_max: usize) -> Self {
        Self { series_max, series: BTreeMap::new(), left_out: 0 }
    }

    /// Adds a point to each series. What is not in the sample is gone, and so is its history.
    pub(crate) fn note(&mut self, sample: Sample) {
        self.series.retain(|group, topics| {
            let kept = sample.get(group);
            topics.retain(|topic, _| kept.is_some_and(|kept| kept.contains_key(topic)));
            !topics.is_empty()
        });
        let mut count: usize = self.series.values().map(BTreeMap::len).sum();
        self.left_out = 0;
        for (group, topics) in sample {
            for (topic, point) in topics {
                let is_known = self.series.get(&group).is_some_and(|known| known.contains_key(&topic));
                if !is_known && count >= self.series_max {
                    self.left_out += 1;
                    continue;
                }
                count += usize::from(!is_known);
                let points = self.series.entry(group.clone()).or_default().entry(topic).or_default();
                push(points, Packed::of(point));
            }
        }
    }

    /// The points of one series, the oldest first.
    pub(crate) fn points(&self, group: &str, topic: &str) -> Vec<Point> {
        let points = self.series.get(group).and_then(|topics| topics.get(topic));
        points.map_or_else(Vec::new, |points| points.iter().map(|point| point.point()).collect())
    }

    /// How many events the lag grew by in a minute, over the newest points. `None`: there are too few of
    /// them, or one of them is unknown.
    pub(crate) fn events_per_minute(&self, group: &str, topic: &str) -> Option<f64> {
        let points = self.series.get(group)?.get(topic)?;
        let newest = points.back()?.point();
        let oldest = points.get(points.len().saturating_sub(TREND_POINTS))?.point();
        let ms = newest.at_ms.checked_sub(oldest.at_ms).filter(|ms| *ms > 0)?;
        let (from, to) = (oldest.events?, newest.events?);
        let grown = if to >= from { (to - from) as f64 } else { -((from - to) as f64) };
        Some(grown * 60_000.0 / ms as f64)
    }

    /// The newest point of a group over all of its topics: the oldest of their unread events.
    pub(crate) fn newest(&self, group: &str) -> Option<Point> {
        let newest = self.series.get(group)?.values().filter_map(VecDeque::back).map(|one| one.point());
        newest.reduce(|a, b| Point {
            at_ms: a.at_ms.min(b.at_ms),
            events: a.events.zip(b.events).map(|(a, b)| a.saturating_add(b)),
            lag_ms: a.lag_ms.zip(b.lag_ms).map(|(a, b)| a.max(b)),
        })
    }

    /// How many series there is no room for.
    pub(crate) fn left_out(&self) -> usize {
        self.left_out
    }
}

fn push(points: &mut VecDeque<Packed>, point: Packed) {
    if points.len() >= HISTORY_POINTS_MAX {
        points.pop_front();
    }
    if points.len() == points.capacity() {
        // By little, so that a full series is as large as the bound says.
        points.reserve_exact(GROWTH.min(HISTORY_POINTS_MAX - points.len()));
    }
    points.push_back(point);
}

/// Takes a sample every minute, the first one at once, and has audit events written that wait. Ends when its
/// task is aborted.
pub(super) async fn keep(state: ApiState) {
    let mut minutes = interval(HISTORY_INTERVAL);
    minutes.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        minutes.tick().await;
        let sampled = state.blocking(|state| {
            let sample = sample(state)?;
            state.history(|history| history.note(sample));
            Ok(())
        });
        if let Err(problem) = sampled.await {
            debug!("no point of the history of lag: {}", problem.detail);
        }
        // The log may take events again, and nobody changes anything.
        if let Ok(log) = state.log() {
            state.audit().catch_up(log).await;
        }
    }
}

/// The lag of every group now.
fn sample(state: &ApiState) -> Result<Sample, Problem> {
    let broker = state.broker()?;
    let log = broker.log();
    let catalog = log.catalog();
    let places = Places::of(&catalog);
    let mut aging = Aging::new(state, log);
    let at_ms = state.now_ms();
    let mut sample = Sample::new();
    for name in broker.group_names() {
        let Some(group) = Group::find(broker, &name) else { continue };
        let mut topics: BTreeMap<String, Point> = BTreeMap::new();
        for place in measure(log, &group, &catalog, &places) {
            let lag_ms = aging.lag_ms(&place);
            let before = Point { at_ms, events: Some(0), lag_ms: Some(0) };
            let point = topics.entry(place.topic.name.clone()).or_insert(before);
            point.events = point.events.zip(place.lag).map(|(a, b)| a.saturating_add(b));
            point.lag_ms = point.lag_ms.zip(lag_ms).map(|(a, b)| a.max(b));
        }
        if !topics.is_empty() {
            sample.insert(name, topics);
        }
    }
    Ok(sample)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::limits::HISTORY_SERIES_MAX;

    const MINUTE_MS: i64 = 60_000;

    fn one(minute: i64, events: Option<u64>) -> Sample {
        let point = Point { at_ms: minute * MINUTE_MS, events, lag_ms: events.map(|events| events * 10) };
        Sample::from([("billing".to_owned(), BTreeMap::from([("orders".to_owned(), point)]))])
    }

    #[test]
    fn a_day_is_kept_and_no_more() {
        let mut history = History::of(HISTORY_SERIES_MAX);
        for minute in 0..3000 {
            history.note(one(minute, Some(minute.unsigned_abs())));
        }
        let points = history.points("billing", "orders");
        assert_eq!(points.len(), 1440);
        assert_eq!((points[0].at_ms, points[1439].at_ms), (1560 * MINUTE_MS, 2999 * MINUTE_MS));
        let capacity = history.series["billing"]["orders"].capacity();
        assert!((1440..=1500).contains(&capacity), "{capacity}");
    }

    #[test]
    fn the_trend_is_of_the_newest_points() {
        let mut history = History::of(HISTORY_SERIES_MAX);
        assert_eq!(history.events_per_minute("billing", "orders"), None);
        history.note(one(0, Some(500)));
        assert_eq!(history.events_per_minute("billing", "orders"), None, "one point has no direction");
        history.note(one(1, Some(470)));
        assert_eq!(history.events_per_minute("billing", "orders"), Some(-30.0));
        for minute in 2..20 {
            history.note(one(minute, Some(1000 + 6 * minute.unsigned_abs())));
        }
        assert_eq!(history.events_per_minute("billing", "orders"), Some(6.0));
        history.note(one(20, None));
        assert_eq!(history.events_per_minute("billing", "orders"), None, "unknown is no number");
        assert_eq!(history.points("billing", "orders")[20].events, None);
    }

    #[test]
    fn what_is_gone_has_no_history() {
        let mut history = History::of(HISTORY_SERIES_MAX);
        history.note(one(0, Some(1)));
        history.note(Sample::new());
        assert!(history.points("billing", "orders").is_empty());
        assert_eq!(history.newest("billing"), None);
    }

    #[test]
    fn series_have_a_bound_and_those_that_are_kept_go_on() {
        let point = Point { at_ms: 0, events: Some(1), lag_ms: None };
        let names = |count: usize| (0..count).map(|number| (format!("topic-{number:05}"), point)).collect();
        let mut history = History::of(HISTORY_SERIES_MAX);
        history.note(Sample::from([("z".to_owned(), names(HISTORY_SERIES_MAX))]));
        assert_eq!(history.left_out(), 0);
        let more = Sample::from([("a".to_owned(), names(3)), ("z".to_owned(), names(HISTORY_SERIES_MAX))]);
        history.note(more);
        assert_eq!(history.left_out(), 3);
        assert!(history.points("a", "topic-00000").is_empty());
        assert_eq!(history.points("z", "topic-00999").len(), 2);
    }

    #[test]
    fn a_group_is_as_late_as_the_latest_of_its_topics() {
        let point = |at_ms, events, lag_ms| Point { at_ms, events, lag_ms };
        let topics = BTreeMap::from([
            ("a".to_owned(), point(5, Some(2), Some(100))),
            ("b".to_owned(), point(5, Some(3), Some(7))),
        ]);
        let mut history = History::of(HISTORY_SERIES_MAX);
        history.note(Sample::from([("billing".to_owned(), topics)]));
        assert_eq!(history.newest("billing"), Some(point(5, Some(5), Some(100))));
    }
}
