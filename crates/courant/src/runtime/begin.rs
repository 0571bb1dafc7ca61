//! Where a partition begins: whether the log is the one that progress was made in. No clock and no I/O.

use courant_engine::{Ends, ReadBack};
use courant_sql::Progress;

use super::ledger::Kept;
use crate::OtherLog;

/// How a partition begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Begin {
    /// At this offset. `gap` events before it were never seen: retention has taken them.
    At { offset: u64, gap: u64 },
    /// Where a new consumer begins.
    Fresh,
    /// The log is another one, and the settings say what to do then.
    Reset(To),
    /// The log is another one, and nobody has said what to do.
    Refused(Difference),
}

/// Where to go on in another log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum To {
    Offset(u64),
    Start,
    Time(i64),
}

/// How a log differs from the one that progress was made in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Difference {
    /// At the offset of the last handled event there is another one.
    OtherEvent { offset: u64, expected: String, found: String },
    /// The log ends before it.
    PastTheEnd { offset: u64, end: u64 },
}

/// What is at the offset of the last handled event, for [`begin`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum There {
    /// An event, by its mark.
    Event(String),
    /// Nothing: retention has taken what was before `start`.
    Before { start: u64 },
    /// Nothing: the log ends at `end`.
    Behind { end: u64 },
    /// Nothing, in the middle of the log.
    Gap,
}

impl There {
    /// What was read back, with the marks that `mark` gives to records.
    pub(crate) fn of(read: &ReadBack, mark: impl Fn(&courant_engine::Record) -> String) -> Self {
        match read {
            ReadBack::Found(record) => Self::Event(mark(record)),
            ReadBack::Before { start } => Self::Before { start: *start },
            ReadBack::Behind { end } => Self::Behind { end: *end },
            // Gap, and what later versions may add: nothing that can be compared.
            _ => Self::Gap,
        }
    }
}

/// Decides from what was kept, what is there, and the ends of the partition.
pub(crate) fn begin(kept: &Kept, there: Option<&There>, ends: Ends, other_log: OtherLog) -> Begin {
    match kept {
        Kept::Nothing => Begin::Fresh,
        Kept::Next(next) => at(*next, ends, other_log),
        Kept::Event(progress) => match progress.beginning() {
            Some(next) => at(next, ends, other_log),
            None => behind(progress, there, ends, other_log),
        },
    }
}

/// Of what is before `next` nothing is known that could be compared.
fn at(next: u64, ends: Ends, other_log: OtherLog) -> Begin {
    if next > ends.end {
        let offset = next.saturating_sub(1);
        return differs(Difference::PastTheEnd { offset, end: ends.end }, ends, other_log);
    }
    Begin::At { offset: next.max(ends.start), gap: ends.start.saturating_sub(next) }
}

fn behind(progress: &Progress, there: Option<&There>, ends: Ends, other_log: OtherLog) -> Begin {
    let next = progress.offset.saturating_add(1);
    match there {
        Some(There::Event(found)) if *found == progress.mark => Begin::At { offset: next, gap: 0 },
        Some(There::Event(found)) => {
            let (offset, expected) = (progress.offset, progress.mark.clone());
            differs(Difference::OtherEvent { offset, expected, found: found.clone() }, ends, other_log)
        }
        Some(There::Before { start }) => {
            Begin::At { offset: next.max(*start), gap: start.saturating_sub(next) }
        }
        Some(There::Behind { end }) => {
            differs(Difference::PastTheEnd { offset: progress.offset, end: *end }, ends, other_log)
        }
        Some(There::Gap) | None => Begin::At { offset: next, gap: 0 },
    }
}

fn differs(difference: Difference, ends: Ends, other_log: OtherLog) -> Begin {
    let (Difference::OtherEvent { offset, .. } | Difference::PastTheEnd { offset, .. }) = &difference;
    match other_log {
        OtherLog::Refuse => Begin::Refused(difference),
        OtherLog::Adopt => {
            Begin::Reset(To::Offset(offset.saturating_add(1).clamp(ends.start, ends.end.max(ends.start))))
        }
        OtherLog::FromStart => Begin::Reset(To::Start),
        OtherLog::FromTime(time_ms) => Begin::Reset(To::Time(time_ms)),
    }
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::OtherEvent { offset, expected, found } => {
                write!(f, "the event at offset {offset} is {found}, and {expected} was handled there")
            }
            Self::PastTheEnd { offset, end } => {
                write!(f, "offset {offset} was handled, and the partition ends at {end}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENDS: Ends = Ends { start: 10, end: 20 };

    fn kept(offset: u64) -> Kept {
        Kept::Event(Progress { offset, mark: "e".to_owned(), gap_events: 0 })
    }

    /// Nothing was handled yet.
    fn begins(offset: u64) -> Kept {
        Kept::Event(Progress::beginning_at(offset, 0))
    }

    #[test]
    fn the_same_log_goes_on_behind_the_last_event() {
        let cases = [
            (kept(14), Some(There::Event("e".to_owned())), 15, 0),
            (kept(14), Some(There::Gap), 15, 0),
            (kept(9), Some(There::Before { start: 10 }), 10, 0),
            (kept(4), Some(There::Before { start: 10 }), 10, 5),
            (Kept::Next(15), None, 15, 0),
            (Kept::Next(20), None, 20, 0),
            (Kept::Next(7), None, 10, 3),
            (begins(15), None, 15, 0),
            (begins(20), None, 20, 0),
            (begins(7), None, 10, 3),
        ];
        for (kept, there, offset, gap) in cases {
            let begun = begin(&kept, there.as_ref(), ENDS, OtherLog::Refuse);
            assert_eq!(begun, Begin::At { offset, gap }, "{kept:?} {there:?}");
        }
        assert_eq!(begin(&Kept::Nothing, None, ENDS, OtherLog::Refuse), Begin::Fresh);
    }

    #[test]
    fn another_log_is_refused_unless_somebody_has_decided() {
        let cases = [
            (kept(14), Some(There::Event("f".to_owned())), 15),
            (kept(33), Some(There::Behind { end: 20 }), 20),
            (Kept::Next(21), None, 20),
            (begins(21), None, 20),
        ];
        for (kept, there, adopted) in cases {
            let begin = |other_log| begin(&kept, there.as_ref(), ENDS, other_log);
            assert!(matches!(begin(OtherLog::Refuse), Begin::Refused(_)), "{kept:?}");
            assert_eq!(begin(OtherLog::Adopt), Begin::Reset(To::Offset(adopted)), "{kept:?}");
            assert_eq!(begin(OtherLog::FromStart), Begin::Reset(To::Start));
            assert_eq!(begin(OtherLog::FromTime(5)), Begin::Reset(To::Time(5)));
        }
    }

    #[test]
    fn the_difference_is_said() {
        let there = There::Event("f".to_owned());
        let Begin::Refused(difference) = begin(&kept(14), Some(&there), ENDS, OtherLog::Refuse) else {
            panic!("is refused")
        };
        assert_eq!(difference.to_string(), "the event at offset 14 is f, and e was handled there");
        let Begin::Refused(difference) = begin(&Kept::Next(21), None, ENDS, OtherLog::Refuse) else {
            panic!("is refused")
        };
        assert_eq!(difference.to_string(), "offset 20 was handled, and the partition ends at 20");
    }
}
