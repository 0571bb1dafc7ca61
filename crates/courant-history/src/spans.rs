//! Ranges of offsets, each with the reader that vouches for it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// Ranges that never overlap, by where they begin. Where readers say the same of one offset, the
/// first one stands for all.
#[derive(Debug, Default)]
pub(crate) struct Spans(BTreeMap<u64, Span>);

#[derive(Debug)]
struct Span {
    /// The offset behind the last one; above the one where it begins.
    end: u64,
    reader: Arc<str>,
}

impl Spans {
    /// Adds what no reader has vouched for yet.
    pub(crate) fn add(&mut self, range: Range<u64>, reader: &Arc<str>) {
        let mut at = range.start;
        while at < range.end {
            let next = self.0.range(at..).next().map_or(range.end, |(start, _)| range.end.min(*start));
            let before = self.0.range_mut(..=at).next_back().map(|(_, span)| span);
            match before {
                Some(span) if span.end > at => at = span.end,
                Some(span) if span.end == at && span.reader == *reader => {
                    span.end = next;
                    at = next;
                }
                _ => {
                    self.0.insert(at, Span { end: next, reader: Arc::clone(reader) });
                    at = next;
                }
            }
        }
    }

    /// The reader that vouches for an offset.
    pub(crate) fn reader_of(&self, offset: u64) -> Option<&str> {
        let (_, span) = self.0.range(..=offset).next_back()?;
        (offset < span.end).then_some(&*span.reader)
    }

    /// Where the last stretch without a gap begins; `None` when there is none.
    pub(crate) fn whole_from(&self) -> Option<u64> {
        let mut spans = self.0.iter().rev();
        let (mut from, _) = spans.next()?;
        for (start, span) in spans {
            if span.end != *from {
                break;
            }
            from = start;
        }
        Some(*from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(ranges: &[(Range<u64>, &str)]) -> Spans {
        let mut spans = Spans::default();
        for (range, reader) in ranges {
            spans.add(range.clone(), &Arc::from(*reader));
        }
        spans
    }

    fn all(spans: &Spans) -> Vec<(u64, u64, &str)> {
        spans.0.iter().map(|(start, span)| (*start, span.end, &*span.reader)).collect()
    }

    #[test]
    fn the_first_reader_of_an_offset_stands_for_all() {
        let spans = spans(&[(10..20, "a"), (0..30, "b"), (5..15, "c"), (40..40, "d"), (50..60, "e")]);
        assert_eq!(all(&spans), [(0, 10, "b"), (10, 20, "a"), (20, 30, "b"), (50, 60, "e")]);
        assert_eq!(spans.reader_of(0), Some("b"));
        assert_eq!(spans.reader_of(19), Some("a"));
        assert_eq!(spans.reader_of(30), None);
        assert_eq!(spans.reader_of(60), None);
    }

    #[test]
    fn one_reader_that_goes_on_has_one_span() {
        let spans = spans(&[(0..10, "a"), (0..20, "a"), (20..25, "a"), (22..40, "a")]);
        assert_eq!(all(&spans), [(0, 40, "a")]);
    }

    #[test]
    fn the_last_stretch_goes_back_to_the_last_gap() {
        assert_eq!(Spans::default().whole_from(), None);
        assert_eq!(spans(&[(0..10, "a"), (10..20, "b")]).whole_from(), Some(0));
        assert_eq!(spans(&[(0..10, "a"), (11..20, "b"), (20..30, "a")]).whole_from(), Some(11));
        assert_eq!(spans(&[(7..9, "a")]).whole_from(), Some(7));
    }
}
