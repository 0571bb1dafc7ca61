//! Durations, instants and starting points as people type them.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use std::str::FromStr;
use std::time::Duration;

/// A time as a number below this, and not 0, is taken for seconds: as milliseconds it is before March 1973, when nobody
/// published events, and as seconds before the year 5138.
const SECONDS_BELOW: i64 = 100_000_000_000;

/// Parses `500ms`, `10s`, `5m`, `2h`, `7d`, `1w`; a bare number means seconds.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit_ms: u64 = match unit {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        "w" => 604_800_000,
        _ => return Err(bad_duration(text)),
    };
    let number: u64 = number.parse().map_err(|_| bad_duration(text))?;
    let total_ms = number.checked_mul(unit_ms).ok_or_else(|| bad_duration(text))?;
    Ok(Duration::from_millis(total_ms))
}

fn bad_duration(text: &str) -> String {
    format!("`{text}` is not a duration; write for example 500ms, 10s, 5m, 2h or 7d")
}

/// Where `tail` begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StartFrom {
    /// At the oldest event that is kept.
    Start,
    /// After the newest event.
    End,
    /// At the first event not older than this, in milliseconds since 1970.
    At(i64),
    /// At the first event that is at most this old.
    Ago(Duration),
    /// At this offset.
    Offset(i64),
    /// This many events before the end of each partition.
    Last(i64),
}

impl FromStr for StartFrom {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "start" => return Ok(Self::Start),
            "end" => return Ok(Self::End),
            _ => {}
        }
        if let Some(time) = text.strip_prefix('@') {
            return parse_instant(time);
        }
        let (digits, from_end) = match text.strip_prefix('-') {
            Some(digits) => (digits, true),
            None => (text, false),
        };
        match (parse_digits(digits), from_end) {
            (Some(offset), false) => Ok(Self::Offset(offset)),
            (Some(count), true) => Ok(Self::Last(count)),
            (None, _) => Err(format!(
                "`{text}` is no place to begin; use start, end, an offset, -10 for the last ten, \
                 or @ and a time such as @2026-01-31T08:00:00Z, @1769846400000 or @-10m"
            )),
        }
    }
}

/// Where a group is to go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ResetTo {
    /// A place of the topic.
    Place(StartFrom),
    /// So many events further, or back, from where the group is.
    By(i64),
    /// Where another group is.
    Group(String),
}

impl FromStr for ResetTo {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(group) = text.strip_prefix("group:").filter(|group| !group.is_empty()) {
            return Ok(Self::Group(group.to_owned()));
        }
        let by = |digits: &str, sign: i64| parse_digits(digits).map(|count| Self::By(sign * count));
        let moved = match text.split_at_checked(1) {
            Some(("+", digits)) => by(digits, 1),
            Some(("-", digits)) => by(digits, -1),
            _ => None,
        };
        let place = match text {
            "earliest" => "start",
            "latest" => "end",
            other => other,
        };
        match moved {
            Some(moved) => Ok(moved),
            None => match place.parse() {
                Ok(place) => Ok(Self::Place(place)),
                Err(said) if place.starts_with('@') => Err(said),
                Err(_) => Err(format!(
                    "`{text}` is no place to go on at; use start, end, an offset, +10 or -10 from where the \
                     group is, @ and a time such as @-1h, or group:OTHER"
                )),
            },
        }
    }
}

/// A number of digits alone: no sign, no blank.
fn parse_digits(text: &str) -> Option<i64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// RFC 3339, milliseconds since 1970, `-10m`, or a local date with or without a time.
fn parse_instant(text: &str) -> Result<StartFrom, String> {
    if let Some(ago) = text.strip_prefix('-') {
        return parse_duration(ago).map(StartFrom::Ago);
    }
    if let Some(at_ms) = parse_digits(text) {
        return in_seconds(at_ms).map_or(Ok(StartFrom::At(at_ms)), Err);
    }
    if let Ok(instant) = text.parse::<Timestamp>() {
        return Ok(StartFrom::At(instant.as_millisecond()));
    }
    let local: DateTime = text.parse().map_err(|_| bad_instant(text))?;
    let zoned = local.to_zoned(TimeZone::system()).map_err(|_| bad_instant(text))?;
    Ok(StartFrom::At(zoned.timestamp().as_millisecond()))
}

/// Why a number is not taken as milliseconds, if it is not. Taken so it would be before all events: a group that is
/// reset to it, for one, would read everything again.
fn in_seconds(number: i64) -> Option<String> {
    if !(1..SECONDS_BELOW).contains(&number) {
        return None;
    }
    let (read, meant) = (Timestamp::from_millisecond(number).ok()?, Timestamp::from_second(number).ok()?);
    Some(format!(
        "`@{number}` would be {read}: such a number is in milliseconds; if seconds are meant, which is {meant}, \
         write @{number}000, and if not, @{read}"
    ))
}

fn bad_instant(text: &str) -> String {
    format!(
        "`@{text}` is not a time; write for example @2026-01-31T08:00:00Z, @1769846400000 \
         (milliseconds) or @-10m"
    )
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> i64 {
    Timestamp::now().as_millisecond()
}

/// The instant `ago` before now, in milliseconds since 1970; not before 1970.
pub(crate) fn ago_ms(ago: Duration) -> i64 {
    let ago = i64::try_from(ago.as_millis()).unwrap_or(i64::MAX);
    now_ms().saturating_sub(ago).max(0)
}

/// RFC 3339 in UTC with milliseconds. `None` when the event has no time that can be written.
pub(crate) fn rfc3339(at_ms: i64) -> Option<String> {
    if at_ms < 0 {
        return None;
    }
    let instant = Timestamp::from_millisecond(at_ms).ok()?;
    Some(format!("{instant:.3}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("7"), Ok(Duration::from_secs(7)));
        assert_eq!(parse_duration("10m"), Ok(Duration::from_secs(600)));
        assert_eq!(parse_duration("2d"), Ok(Duration::from_secs(172_800)));
        for bad in ["", "m", "-1s", "1.5s", "1y", "99999999999999999999s"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
        assert!(parse_duration("18446744073709551615w").is_err());
    }

    #[test]
    fn places_to_begin() {
        let parse = |text: &str| text.parse::<StartFrom>();
        assert_eq!(parse("start"), Ok(StartFrom::Start));
        assert_eq!(parse("end"), Ok(StartFrom::End));
        assert_eq!(parse("42"), Ok(StartFrom::Offset(42)));
        assert_eq!(parse("9223372036854775807"), Ok(StartFrom::Offset(i64::MAX)), "offsets are exact");
        assert_eq!(parse("-10"), Ok(StartFrom::Last(10)));
        assert_eq!(parse("@1769846400000"), Ok(StartFrom::At(1_769_846_400_000)), "milliseconds");
        assert_eq!(parse("@2026-01-31T08:00:00Z"), Ok(StartFrom::At(1_769_846_400_000)));
        assert_eq!(parse("@2026-01-31T09:00:00.5+01:00"), Ok(StartFrom::At(1_769_846_400_500)));
        assert_eq!(parse("@-10m"), Ok(StartFrom::Ago(Duration::from_secs(600))));
        assert!(matches!(parse("@2026-01-31"), Ok(StartFrom::At(_))));
        for bad in ["", "@", "@soon", "beginning", "--3", "1e3", "-", "+5"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    /// Symptom: `courant group reset --to @$(date +%s)` put a group before the oldest event. Cause: seconds were taken
    /// as milliseconds, which are in January 1970. Fix: such a number is refused, with both readings.
    #[test]
    fn seconds_are_not_taken_as_milliseconds() {
        let parse = |text: &str| text.parse::<StartFrom>();
        let said = parse("@1769846400").expect_err("seconds");
        for part in ["would be 1970-01-21T11:37:26.4Z:", "2026-01-31T08:00:00Z,", "write @1769846400000,"] {
            assert!(said.contains(part), "{part}: {said}");
        }
        assert_eq!("@1769846400".parse::<ResetTo>(), Err(said));
        assert!(parse("@1").is_err() && parse("@99999999999").is_err());
        assert_eq!(parse("@0"), Ok(StartFrom::At(0)), "before all events");
        assert_eq!(parse("@100000000000"), Ok(StartFrom::At(100_000_000_000)));
        assert_eq!(parse("@1970-01-21T11:37:26.4Z"), Ok(StartFrom::At(1_769_846_400)), "said in full");
        assert!("@soon".parse::<ResetTo>().is_err_and(|said| said.contains("is not a time")));
    }

    #[test]
    fn times_read_back_as_they_were_written() {
        let text = rfc3339(1_769_846_400_120).expect("a time");
        assert_eq!(text, "2026-01-31T08:00:00.120Z");
        assert_eq!(
            format!("@{text}").parse(),
            Ok(StartFrom::At(1_769_846_400_120)),
            "what tail prints, tail accepts"
        );
        assert_eq!(rfc3339(-1), None);
        assert_eq!(rfc3339(i64::MAX), None);
    }
}
