//! One look at a server: what its `/metrics` say, in the order in which a person wants it.

use super::rows::{GroupRow, TopicRow, age, bytes, rate};
use super::scrape::{Sample, samples};
use crate::output::{Format, Row, list};
use serde::Serialize;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::time::Duration;

/// What a server is and does.
#[derive(Debug, Default, PartialEq, Serialize)]
pub(super) struct Look {
    version: String,
    ready: bool,
    uptime_seconds: u64,
    connections: Option<u64>,
    /// Appended since the start.
    events: Option<u64>,
    bytes: Option<u64>,
    /// `None`: there was one look only.
    events_per_second: Option<f64>,
    bytes_per_second: Option<f64>,
    disk_bytes: Option<u64>,
    disk_free_bytes: Option<u64>,
    damaged_places: Option<u64>,
    /// Those of all services that say how many they have.
    dead_letters: Option<u64>,
    parked_events: Option<u64>,
    /// Topics and groups that `/metrics` has no room for.
    left_out: u64,
    groups: Vec<GroupRow>,
    topics: Vec<TopicRow>,
}

/// Rows by name, while they are put together.
#[derive(Debug, Default)]
struct Tables {
    groups: BTreeMap<String, GroupRow>,
    topics: BTreeMap<String, TopicRow>,
}

impl Look {
    /// `None`: the page is not of a server of this kind.
    pub(super) fn of(page: &str) -> Option<Self> {
        let (mut look, mut tables) = (Self::default(), Tables::default());
        let mut is_known = false;
        for sample in samples(page) {
            is_known |= sample.name == "courant_ready";
            look.note(&sample);
            tables.note(&sample);
        }
        look.groups = tables.groups.into_values().collect();
        look.topics = tables.topics.into_values().collect();
        look.sort();
        is_known.then_some(look)
    }

    fn note(&mut self, sample: &Sample<'_>) {
        let count = sample.count();
        match sample.name {
            "courant_build_info" => self.version = sample.label("version").unwrap_or_default().to_owned(),
            "courant_ready" => self.ready = count == Some(1),
            "courant_uptime_seconds" => self.uptime_seconds = count.unwrap_or(0),
            "courant_kafka_connections" => self.connections = count,
            "courant_log_appended_events_total" => self.events = count,
            "courant_log_appended_bytes_total" => self.bytes = count,
            "courant_disk_bytes" => self.disk_bytes = count,
            "courant_disk_free_bytes" => self.disk_free_bytes = count,
            "courant_log_damaged_places" => self.damaged_places = count,
            "courant_service_dead_letters" => self.dead_letters = added(self.dead_letters, count),
            "courant_service_parked_events" => self.parked_events = added(self.parked_events, count),
            "courant_metrics_left_out" if matches!(sample.label("of"), Some("topics" | "groups")) => {
                self.left_out = self.left_out.saturating_add(count.unwrap_or(0));
            }
            _ => {}
        }
    }

    /// Says what has happened in a second since an earlier look.
    pub(super) fn compare(&mut self, before: &Self, elapsed: Duration) {
        let per_second = |now: u64, then: u64| per_second(now, then, elapsed);
        let both = |now: Option<u64>, then: Option<u64>| per_second(now?, then?);
        self.events_per_second = both(self.events, before.events);
        self.bytes_per_second = both(self.bytes, before.bytes);
        let earlier: BTreeMap<_, _> = before.groups.iter().map(|row| (row.name.as_str(), row)).collect();
        for row in &mut self.groups {
            let then = earlier.get(row.name.as_str()).and_then(|then| then.committed);
            row.events_per_second = both(row.committed, then);
        }
        let earlier: BTreeMap<_, _> = before.topics.iter().map(|row| (row.name.as_str(), row)).collect();
        for row in &mut self.topics {
            let then = earlier.get(row.name.as_str()).map(|then| then.current_offset);
            row.events_per_second = both(Some(row.current_offset), then);
        }
        self.sort();
    }

    /// Groups: the latest first. Topics: those first into which most comes, and the largest.
    fn sort(&mut self) {
        self.groups.sort_by(|a, b| {
            let by_age = greatest_first(a.lag_seconds, b.lag_seconds);
            by_age.then(b.lag.cmp(&a.lag)).then_with(|| a.name.cmp(&b.name))
        });
        self.topics.sort_by(|a, b| {
            let by_rate = greatest_first(a.events_per_second, b.events_per_second);
            by_rate.then(b.bytes.cmp(&a.bytes)).then_with(|| a.name.cmp(&b.name))
        });
    }

    /// What a person sees, on so many rows of a screen at most.
    pub(super) fn lines(&self, base: &str, rows: Option<usize>) -> Vec<String> {
        let mut lines = self.summary(base);
        // What is left after the empty lines, the titles, and the lines that say how much is not shown.
        let room = rows.map_or(usize::MAX, |rows| rows.saturating_sub(lines.len() + 6).max(2));
        let groups = self.groups.len().min(room - room.min(self.topics.len()).min(room / 2));
        let topics = self.topics.len().min(room - groups);
        table(&mut lines, &self.groups, groups, "consumer groups");
        table(&mut lines, &self.topics, topics, "topics");
        lines
    }

    fn summary(&self, base: &str) -> Vec<String> {
        let state = if self.ready { "ready" } else { "NOT READY: see /readyz" };
        let up = age(self.uptime_seconds as f64);
        let mut lines = vec![format!("courant {} at {base}: {state}, up {up}", self.version)];
        let Some(connections) = self.connections else { return lines };
        let unknown = || "unknown".to_owned();
        let mut second = format!(
            "{connections} connections; {} events/s, {}/s appended",
            rate(self.events_per_second),
            self.bytes_per_second.map_or_else(|| "-".to_owned(), |rate| bytes(rate as u64)),
        );
        let (all, free) =
            (self.disk_bytes.map_or_else(unknown, bytes), self.disk_free_bytes.map_or_else(unknown, bytes));
        second.push_str(&format!("; {free} of {all} free"));
        lines.push(second);
        if let Some(places) = self.damaged_places.filter(|places| *places > 0) {
            lines.push(format!("DAMAGE in {places} places: see /readyz"));
        }
        let (letters, events) = (self.dead_letters, self.parked_events);
        if letters.is_some_and(|letters| letters > 0) || events.is_some_and(|events| events > 0) {
            let shown = |count: Option<u64>| count.map_or_else(unknown, |count| count.to_string());
            let (letters, events) = (shown(letters), shown(events));
            lines.push(format!(
                "{letters} dead letters and {events} parked events of services: courant dlq list"
            ));
        }
        if self.left_out > 0 {
            lines
                .push(format!("{} topics and groups are too many for /metrics, and not here", self.left_out));
        }
        lines
    }
}

impl Tables {
    fn note(&mut self, sample: &Sample<'_>) {
        if let Some(name) = sample.label("consumergroup") {
            let row = self.groups.entry(name.to_owned()).or_default();
            row.name = name.to_owned();
            note_group(row, sample);
        } else if let Some(name) = sample.label("topic") {
            let row = self.topics.entry(name.to_owned()).or_default();
            row.name = name.to_owned();
            let count = sample.count().unwrap_or(0);
            match sample.name {
                "kafka_topic_partitions" => row.partitions = count,
                "courant_topic_bytes" => row.bytes = count,
                "courant_topic_current_offset_sum" => row.current_offset = count,
                _ => {}
            }
        }
    }
}

fn note_group(row: &mut GroupRow, sample: &Sample<'_>) {
    match sample.name {
        "kafka_consumergroup_members" => row.members = sample.count().unwrap_or(0),
        "kafka_consumergroup_current_offset_sum" => row.committed = added(row.committed, sample.count()),
        "kafka_consumergroup_lag_sum" => row.lag = added(row.lag, sample.count()),
        "kafka_consumergroup_lag_seconds_max" => {
            let oldest = sample.number().map(|age| row.lag_seconds.map_or(age, |other| other.max(age)));
            row.lag_seconds = oldest.or(row.lag_seconds);
        }
        "courant_consumergroup_unknown_partitions" if sample.label("of") == Some("events") => {
            row.topics += 1;
            row.unknown_partitions = row.unknown_partitions.saturating_add(sample.count().unwrap_or(0));
        }
        _ => {}
    }
}

/// What is known, added up.
fn added(sum: Option<u64>, one: Option<u64>) -> Option<u64> {
    match (sum, one) {
        (Some(sum), Some(one)) => Some(sum.saturating_add(one)),
        (sum, one) => sum.or(one),
    }
}

/// `None` where something went back: the server began anew, or the group was set back.
fn per_second(now: u64, then: u64, elapsed: Duration) -> Option<f64> {
    let grown = now.checked_sub(then)?;
    Some(grown as f64 / elapsed.as_secs_f64().max(0.001))
}

/// What is unknown comes last.
fn greatest_first(a: Option<f64>, b: Option<f64>) -> Ordering {
    b.unwrap_or(-1.0).total_cmp(&a.unwrap_or(-1.0))
}

/// Adds the first rows of a list below an empty line.
fn table<R: Row>(lines: &mut Vec<String>, rows: &[R], shown: usize, what: &str) {
    lines.push(String::new());
    if rows.is_empty() {
        lines.push(format!("There are no {what} yet."));
        return;
    }
    let mut text = Vec::new();
    // Writing to memory does not fail.
    let _ = list(&mut text, Format::Table, rows.get(..shown).unwrap_or(rows));
    lines.extend(String::from_utf8_lossy(&text).lines().map(str::to_owned));
    if shown < rows.len() {
        lines.push(format!("and {} more {what}", rows.len() - shown));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(appended: u64, committed: u64, lag: u64) -> String {
        format!(
            "courant_build_info{{version=\"1.2.3\"}} 1\ncourant_ready 1\ncourant_uptime_seconds 61\n\
             courant_kafka_connections 3\ncourant_log_appended_events_total {appended}\n\
             courant_metrics_left_out{{of=\"groups\"}} 2\ncourant_metrics_left_out{{of=\"topic_partitions\"}} 9\n\
             kafka_topic_partitions{{topic=\"orders\"}} 3\n\
             courant_topic_current_offset_sum{{topic=\"orders\"}} {appended}\n\
             kafka_consumergroup_members{{consumergroup=\"billing\"}} 1\n\
             kafka_consumergroup_current_offset_sum{{consumergroup=\"billing\",topic=\"orders\"}} {committed}\n\
             kafka_consumergroup_lag_sum{{consumergroup=\"billing\",topic=\"orders\"}} {lag}\n\
             kafka_consumergroup_lag_seconds_max{{consumergroup=\"billing\",topic=\"orders\"}} 75.5\n\
             courant_consumergroup_unknown_partitions{{consumergroup=\"billing\",topic=\"orders\",of=\"events\"}} 0\n\
             kafka_consumergroup_members{{consumergroup=\"idle\"}} 0\n\
             courant_service_dead_letters{{service=\"s\",consumer=\"a\"}} 2\n\
             courant_service_dead_letters{{service=\"s\",consumer=\"b\"}} 3\n\
             courant_service_parked_events{{service=\"s\",consumer=\"a\"}} 0\n# EOF\n"
        )
    }

    #[test]
    fn a_page_becomes_rows_and_two_pages_say_how_fast() {
        let before = Look::of(&page(100, 50, 50)).expect("a server");
        assert_eq!((before.events_per_second, before.left_out), (None, 2));
        let mut now = Look::of(&page(300, 90, 210)).expect("a server");
        now.compare(&before, Duration::from_secs(2));
        assert_eq!((now.events_per_second, now.topics[0].events_per_second), (Some(100.0), Some(100.0)));
        let billing = &now.groups[0];
        assert_eq!(
            (billing.name.as_str(), billing.lag, billing.lag_seconds),
            ("billing", Some(210), Some(75.5))
        );
        assert_eq!((billing.events_per_second, billing.topics), (Some(20.0), 1));
        assert_eq!((now.groups[1].name.as_str(), now.groups[1].lag), ("idle", None), "unknown is not 0");
        let mut anew = Look::of(&page(5, 5, 0)).expect("a server");
        anew.compare(&now, Duration::from_secs(2));
        assert_eq!(anew.events_per_second, None, "it began anew");
        assert_eq!(Look::of("process_cpu_seconds_total 3\n"), None);
    }

    #[test]
    fn lines_fit_the_screen_and_say_what_is_not_on_it() {
        let mut look = Look::of(&page(100, 50, 50)).expect("a server");
        let all = look.lines("http://h", None);
        assert!(all[2].starts_with("5 dead letters and 0 parked events"), "{all:?}");
        assert_eq!(all[0], "courant 1.2.3 at http://h: ready, up 1 min 1 s");
        look.parked_events = None;
        let all = look.lines("http://h", None);
        assert!(all[2].starts_with("5 dead letters and unknown parked events"), "{all:?}");
        assert!(all.iter().any(|line| line.starts_with("billing") && line.contains("1 min 15 s")), "{all:?}");
        assert!(all.iter().any(|line| line.starts_with("orders")), "{all:?}");
        let more = |number| TopicRow { name: format!("topic-{number}"), ..TopicRow::default() };
        look.topics.extend((0..100).map(more));
        let lines = look.lines("http://h", Some(20));
        assert!(lines.len() <= 20, "{lines:?}");
        assert!(lines.last().is_some_and(|line| line.ends_with("more topics")), "{lines:?}");
    }
}
