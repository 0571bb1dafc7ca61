//! A map for numbers that mostly follow each other, as offsets and sequences do.
//!
//! Numbers are kept in pages of 64, and a page holds only the values that are there: where all are
//! there, an entry costs little more than its value, and where the next is far away, one small page.

use std::collections::BTreeMap;

const PAGE: u64 = u64::BITS as u64;

/// Values by number, in the order of the numbers.
#[derive(Debug, Default)]
pub(crate) struct Table<T> {
    pages: BTreeMap<u64, Page<T>>,
}

/// Bit `n` of `present` says that number `n` of the page is there; `values` holds those in order.
#[derive(Debug, Default)]
struct Page<T> {
    present: u64,
    values: Vec<T>,
}

impl<T: Default> Table<T> {
    /// The value of a number, if it has one.
    pub(crate) fn get(&self, number: u64) -> Option<&T> {
        let page = self.pages.get(&(number / PAGE))?;
        let bit = bit(number);
        if page.present & bit == 0 { None } else { page.values.get(page.rank(bit)) }
    }

    /// The value of a number; the default one when it had none.
    pub(crate) fn slot(&mut self, number: u64) -> &mut T {
        let bit = bit(number);
        let page = self.pages.entry(number / PAGE).or_default();
        let rank = page.rank(bit);
        if page.present & bit == 0 {
            page.present |= bit;
            page.values.insert(rank, T::default());
        }
        &mut page.values[rank]
    }

    /// All numbers that have a value, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        self.pages.iter().flat_map(|(number, page)| {
            let present = page.present;
            let inside = (0..PAGE).filter(move |bit| (present >> bit) & 1 == 1);
            inside.map(move |bit| number * PAGE + bit).zip(&page.values)
        })
    }
}

impl<T> Page<T> {
    /// How many values stand before the one of `bit`.
    fn rank(&self, bit: u64) -> usize {
        (self.present & (bit - 1)).count_ones() as usize
    }
}

fn bit(number: u64) -> u64 {
    1 << (number % PAGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_in_order_whatever_the_order_they_came_in() {
        let numbers = [5, 0, 63, 64, u64::MAX, 4, 1_000_000, 65, 62, u64::MAX - 1, 5];
        let mut table = Table::default();
        for number in numbers {
            *table.slot(number) = number;
        }
        let mut sorted = numbers.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(table.iter().map(|(number, _)| number).collect::<Vec<_>>(), sorted);
        assert!(table.iter().all(|(number, value)| number == *value));
        for number in sorted {
            assert_eq!(table.get(number), Some(&number));
        }
        for number in [1, 66, 128, 999_999, u64::MAX - 2] {
            assert_eq!(table.get(number), None);
        }
    }

    #[test]
    fn a_slot_keeps_what_it_holds() {
        let mut table: Table<Vec<u64>> = Table::default();
        for number in (0..200).rev().chain(0..200) {
            table.slot(number).push(number);
        }
        assert!(table.iter().zip(0..).all(|((number, value), at)| number == at && *value == [at, at]));
        assert_eq!(table.iter().count(), 200);
    }
}
