//! A file's bytes in shared pages, so that taking a copy of a whole disk is cheap.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// Bytes of a page, the unit in which content is shared.
pub(super) const PAGE_BYTES: u64 = 4096;
/// Bytes of a sector, the unit that a disk writes whole or not at all.
pub(super) const SECTOR_BYTES: u64 = 512;

/// One page.
pub(super) type Page = [u8; PAGE_BYTES as usize];

/// Part of a range of bytes that lies within one page or sector.
#[derive(Debug)]
pub(super) struct Span {
    /// Number of the page or sector.
    pub(super) index: u64,
    /// Where the part begins in it.
    pub(super) within: usize,
    /// Which bytes of the range it is.
    pub(super) source: Range<usize>,
}

/// Cuts `bytes` bytes at `position` where pages or sectors of `unit` bytes meet.
pub(super) fn spans(position: u64, bytes: usize, unit: u64) -> impl Iterator<Item = Span> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == bytes {
            return None;
        }
        let at = position + done as u64;
        let within = (at % unit) as usize;
        let count = (unit as usize - within).min(bytes - done);
        let source = done..done + count;
        done += count;
        Some(Span { index: at / unit, within, source })
    })
}

/// A file's length and bytes. Pages that are not there are zeros.
#[derive(Clone, Default)]
pub(super) struct Content {
    len: u64,
    pages: Arc<BTreeMap<u64, Arc<Page>>>,
}

impl Content {
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn read(&self, buf: &mut [u8], position: u64) -> usize {
        let left = self.len.saturating_sub(position);
        let count = usize::try_from(left).map_or(buf.len(), |left| left.min(buf.len()));
        for span in spans(position, count, PAGE_BYTES) {
            let target = &mut buf[span.source];
            match self.pages.get(&span.index) {
                Some(page) => {
                    let end = span.within + target.len();
                    target.copy_from_slice(&page[span.within..end]);
                }
                None => target.fill(0),
            }
        }
        count
    }

    /// Changes bytes, beyond the length too: a disk may hold a file's data and not its new length.
    pub(super) fn poke(&mut self, position: u64, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let pages = Arc::make_mut(&mut self.pages);
        for span in spans(position, bytes.len(), PAGE_BYTES) {
            let page = pages.entry(span.index).or_insert_with(|| Arc::new([0; PAGE_BYTES as usize]));
            let part = &bytes[span.source];
            Arc::make_mut(page)[span.within..span.within + part.len()].copy_from_slice(part);
        }
    }

    /// Changes the length. What is cut off does not come back when the file grows again.
    pub(super) fn set_len(&mut self, len: u64) {
        if len < self.len {
            self.clear_from(len);
        }
        self.len = len;
    }

    /// Forgets bytes beyond the length.
    pub(super) fn settle(&mut self) {
        self.clear_from(self.len);
    }

    fn clear_from(&mut self, len: u64) {
        let whole = len.div_ceil(PAGE_BYTES);
        if self.pages.range(whole..).next().is_some() {
            drop(Arc::make_mut(&mut self.pages).split_off(&whole));
        }
        let within = (len % PAGE_BYTES) as usize;
        let last = len / PAGE_BYTES;
        let stale = within != 0
            && self.pages.get(&last).is_some_and(|page| page[within..].iter().any(|byte| *byte != 0));
        if stale && let Some(page) = Arc::make_mut(&mut self.pages).get_mut(&last) {
            Arc::make_mut(page)[within..].fill(0);
        }
    }

    /// Whether the disk has given this sector to the file.
    pub(super) fn holds_sector(&self, sector: u64) -> bool {
        let position = sector * SECTOR_BYTES;
        position < self.len && self.pages.contains_key(&(position / PAGE_BYTES))
    }

    /// Takes one page as it is in `newer` and returns what was there.
    pub(super) fn adopt_page(&mut self, newer: &Self, index: u64) -> Option<Arc<Page>> {
        let pages = Arc::make_mut(&mut self.pages);
        let page = newer.pages.get(&index)?;
        let old = pages.insert(index, Arc::clone(page))?;
        (!Arc::ptr_eq(&old, page)).then_some(old)
    }

    /// Takes the length of `newer`, which is not less.
    pub(super) fn adopt_len(&mut self, newer: &Self) {
        self.len = newer.len;
    }

    /// Pages that are not the same in `newer`.
    pub(super) fn replaced_by(&self, newer: &Self) -> Vec<Arc<Page>> {
        let same = |index: &u64, page: &Arc<Page>| {
            let other = newer.pages.get(index);
            other.is_some_and(|other| Arc::ptr_eq(other, page))
        };
        self.pages
            .iter()
            .filter(|(index, page)| !same(index, page))
            .map(|(_, page)| Arc::clone(page))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(content: &Content) -> Vec<u8> {
        let mut buf = vec![9; content.len() as usize];
        assert_eq!(content.read(&mut buf, 0), buf.len());
        buf
    }

    #[test]
    fn bytes_beyond_the_length_are_seen_only_when_it_reaches_them() {
        let mut content = Content::default();
        content.poke(5000, b"abc");
        assert_eq!(bytes(&content), b"");
        content.set_len(5002);
        let mut expected = vec![0; 5000];
        expected.extend_from_slice(b"ab");
        assert!(bytes(&content) == expected);
        content.settle();
        content.set_len(5003);
        expected.push(0);
        assert!(bytes(&content) == expected);
    }

    #[test]
    fn a_copy_is_not_changed() {
        let mut content = Content::default();
        content.set_len(10_000);
        content.poke(4090, &[1; 20]);
        let copy = content.clone();
        content.poke(4095, &[2; 2]);
        content.set_len(4096);
        assert_eq!(copy.len(), 10_000);
        assert_eq!(bytes(&copy)[4090..4110], [1; 20]);
        assert_eq!(bytes(&content)[4090..], [1, 1, 1, 1, 1, 2]);
        assert_eq!(copy.replaced_by(&content).len(), 2);
    }

    #[test]
    fn spans_cut_at_sectors() {
        let cuts: Vec<_> =
            spans(500, 600, SECTOR_BYTES).map(|span| (span.index, span.within, span.source)).collect();
        assert_eq!(cuts, [(0, 500, 0..12), (1, 0, 12..524), (2, 0, 524..600)]);
    }
}
