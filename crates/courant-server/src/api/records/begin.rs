//! Where reading begins, as people write it: the same words as those of `courant tail --from`.

use std::str::FromStr;

use courant_log::{Log, Offsets, PartitionId, ReadError};
use jiff::Timestamp;

/// A time as a number below this, and not 0, is taken for seconds: as milliseconds it is before March 1973, when nobody
/// published events, and as seconds before the year 5138.
const SECONDS_BELOW: u64 = 100_000_000_000;

/// Where reading begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begin {
    /// At the oldest event that is kept.
    Start,
    /// Behind the newest event.
    End,
    /// At this offset.
    Offset(u64),
    /// So many offsets before the end of each partition.
    Last(u64),
    /// At the first event not older than this, in milliseconds since 1970.
    Time(i64),
    /// At the first event that is at most so many milliseconds old.
    Ago(i64),
}

impl FromStr for Begin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || {
            "a place to begin is start, end, an offset, -10 for the last ten of each partition, or @ and a \
             time such as @2026-01-31T08:00:00Z, @1769846400000 or @-10m"
                .to_owned()
        };
        match text {
            "start" => return Ok(Self::Start),
            "end" => return Ok(Self::End),
            _ => {}
        }
        if let Some(time) = text.strip_prefix('@') {
            if let Some(said) = digits(time).and_then(in_seconds) {
                return Err(said);
            }
            return instant(time).ok_or_else(bad);
        }
        match text.strip_prefix('-') {
            Some(count) => digits(count).map(Self::Last).ok_or_else(bad),
            None => digits(text).map(Self::Offset).ok_or_else(bad),
        }
    }
}

impl Begin {
    /// The offset in a partition whose ends are these. A time may have to be looked up on the disk.
    ///
    /// An offset stays as it is, so that whoever reads there is told what is missing.
    pub(crate) fn resolve(
        self,
        log: &Log,
        id: PartitionId,
        ends: Offsets,
        now_ms: i64,
    ) -> Result<u64, ReadError> {
        let at_time = |at_ms: i64| {
            let found = log.offset_for_time(id, at_ms)?;
            Ok(found.map_or(ends.high_watermark, |found| found.offset))
        };
        match self {
            Self::Start => Ok(ends.start),
            Self::End => Ok(ends.high_watermark),
            Self::Offset(offset) => Ok(offset.min(ends.high_watermark)),
            Self::Last(count) => Ok(ends.high_watermark.saturating_sub(count).max(ends.start)),
            Self::Time(at_ms) => at_time(at_ms),
            Self::Ago(ago_ms) => at_time(now_ms.saturating_sub(ago_ms).max(0)),
        }
    }
}

/// RFC 3339, milliseconds since 1970, or how long ago.
fn instant(text: &str) -> Option<Begin> {
    if let Some(ago) = text.strip_prefix('-') {
        return duration_ms(ago).map(Begin::Ago);
    }
    if let Some(at_ms) = digits(text) {
        return i64::try_from(at_ms).ok().map(Begin::Time);
    }
    let instant: Timestamp = text.parse().ok()?;
    Some(Begin::Time(instant.as_millisecond()))
}

/// Why a number is not taken as milliseconds, if it is not.
fn in_seconds(number: u64) -> Option<String> {
    if !(1..SECONDS_BELOW).contains(&number) {
        return None;
    }
    let number = i64::try_from(number).ok()?;
    let (read, meant) = (Timestamp::from_millisecond(number).ok()?, Timestamp::from_second(number).ok()?);
    Some(format!(
        "`@{number}` would be {read}: such a number is in milliseconds; if seconds are meant, which is {meant}, \
         write @{number}000, and if not, @{read}"
    ))
}

/// `500ms`, `10s`, `5m`, `2h`, `7d` or `1w`.
fn duration_ms(text: &str) -> Option<i64> {
    let count = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(count);
    let unit_ms = match unit {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        "w" => 604_800_000,
        _ => return None,
    };
    i64::try_from(digits(number)?).ok()?.checked_mul(unit_ms)
}

/// A number of digits alone: no sign, no blank.
fn digits(text: &str) -> Option<u64> {
    let are_digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    are_digits.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_tail_are_understood() {
        let parse = |text: &str| text.parse::<Begin>();
        assert_eq!(parse("start"), Ok(Begin::Start));
        assert_eq!(parse("end"), Ok(Begin::End));
        assert_eq!(parse("9007199254740993"), Ok(Begin::Offset(9_007_199_254_740_993)));
        assert_eq!(parse("-10"), Ok(Begin::Last(10)));
        assert_eq!(parse("@1769846400000"), Ok(Begin::Time(1_769_846_400_000)));
        assert_eq!(parse("@2026-01-31T08:00:00Z"), Ok(Begin::Time(1_769_846_400_000)));
        assert_eq!(parse("@-10m"), Ok(Begin::Ago(600_000)));
        for bad in ["", "@", "@soon", "beginning", "--3", "1e3", "-", "+5", "@-9223372036854775807w"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    /// Symptom: `from=@1769846400` answered with the oldest events. Cause: seconds were taken as milliseconds, which
    /// are in January 1970. Fix: such a number is refused, with both readings.
    #[test]
    fn seconds_are_not_taken_as_milliseconds() {
        let parse = |text: &str| text.parse::<Begin>();
        let said = parse("@1769846400").expect_err("seconds");
        for part in ["would be 1970-01-21T11:37:26.4Z:", "2026-01-31T08:00:00Z,", "write @1769846400000,"] {
            assert!(said.contains(part), "{part}: {said}");
        }
        assert!(parse("@1").is_err() && parse("@99999999999").is_err());
        assert_eq!(parse("@0"), Ok(Begin::Time(0)), "before all events");
        assert_eq!(parse("@100000000000"), Ok(Begin::Time(100_000_000_000)));
        assert_eq!(parse("@1970-01-21T11:37:26.4Z"), Ok(Begin::Time(1_769_846_400)), "said in full");
    }
}
