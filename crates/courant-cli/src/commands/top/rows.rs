//! The lists of `courant top`: consumer groups, and topics.

use crate::output::Row;
use serde::Serialize;

/// A consumer group, over all topics that it reads.
#[derive(Debug, Default, PartialEq, Serialize)]
pub(super) struct GroupRow {
    pub(super) name: String,
    pub(super) members: u64,
    pub(super) topics: usize,
    /// Events that it has not done with, where that is known. `None`: it is known nowhere.
    pub(super) lag: Option<u64>,
    /// Age of the oldest of them. `None`: it is known nowhere.
    pub(super) lag_seconds: Option<f64>,
    /// Partitions of which the lag is not known.
    pub(super) unknown_partitions: u64,
    /// Committed offsets, added up.
    pub(super) committed: Option<u64>,
    /// What it does in a second. `None`: there was one look only.
    pub(super) events_per_second: Option<f64>,
}

/// A topic.
#[derive(Debug, Default, PartialEq, Serialize)]
pub(super) struct TopicRow {
    pub(super) name: String,
    pub(super) partitions: u64,
    pub(super) bytes: u64,
    /// Offsets behind the newest events, added up.
    pub(super) current_offset: u64,
    /// What comes into it in a second. `None`: there was one look only.
    pub(super) events_per_second: Option<f64>,
}

impl Row for GroupRow {
    const TITLES: &'static [&'static str] = &["group", "members", "topics", "lag", "oldest", "events/s"];

    fn cells(&self) -> Vec<String> {
        let lag = match (self.lag, self.unknown_partitions) {
            (None, _) => "unknown".to_owned(),
            (Some(lag), 0) => lag.to_string(),
            (Some(lag), unknown) => format!("{lag}, and {unknown} partitions unknown"),
        };
        vec![
            self.name.clone(),
            self.members.to_string(),
            self.topics.to_string(),
            lag,
            self.lag_seconds.map_or_else(|| "unknown".to_owned(), age),
            rate(self.events_per_second),
        ]
    }
}

impl Row for TopicRow {
    const TITLES: &'static [&'static str] = &["topic", "partitions", "bytes", "offsets", "events/s"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            self.partitions.to_string(),
            bytes(self.bytes),
            self.current_offset.to_string(),
            rate(self.events_per_second),
        ]
    }
}

/// So many of something in a second.
pub(super) fn rate(per_second: Option<f64>) -> String {
    match per_second {
        None => "-".to_owned(),
        Some(rate) if rate > 0.0 && rate < 10.0 => format!("{rate:.1}"),
        Some(rate) => format!("{rate:.0}"),
    }
}

/// A time in its two largest units.
pub(super) fn age(seconds: f64) -> String {
    // More than these are centuries.
    let whole = seconds.clamp(0.0, 1e12) as u64;
    match whole {
        0..10 => format!("{:.1} s", seconds.max(0.0)),
        10..60 => format!("{whole} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        3600..86_400 => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
        _ => format!("{} d {} h", whole / 86_400, whole % 86_400 / 3600),
    }
}

/// Bytes in the largest unit of which there are ten.
pub(super) fn bytes(count: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let (mut count, mut unit) = (count, units[0]);
    for larger in &units[1..] {
        if count < 10 * 1024 {
            break;
        }
        (count, unit) = (count / 1024, *larger);
    }
    format!("{count} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_unknown_is_called_so() {
        let unknown = GroupRow { name: "billing".to_owned(), ..GroupRow::default() };
        assert_eq!(unknown.cells(), ["billing", "0", "0", "unknown", "unknown", "-"]);
        let some = GroupRow {
            lag: Some(7),
            lag_seconds: Some(3.3),
            unknown_partitions: 2,
            events_per_second: Some(0.0),
            ..unknown
        };
        assert_eq!(some.cells()[3..], ["7, and 2 partitions unknown", "3.3 s", "0"]);
    }

    #[test]
    fn amounts_are_short() {
        assert_eq!([0, 10_239, 10_240, 12 << 30].map(bytes), ["0 B", "10239 B", "10 KiB", "12 GiB"]);
        let ages = [0.0, 59.9, 61.0, 7_260.0, 90_000.0, -1.0].map(age);
        assert_eq!(ages, ["0.0 s", "59 s", "1 min 1 s", "2 h 1 min", "1 d 1 h", "0.0 s"]);
        assert_eq!([Some(2.2), Some(1234.6), None].map(rate), ["2.2", "1235", "-"]);
    }
}
