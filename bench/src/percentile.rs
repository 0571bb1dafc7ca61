//! Percentiles of what was measured, without interpolation: each is a value that occurred.

/// The median and the 99th percentile; `None` of nothing.
pub(crate) fn median_and_99th<T: Copy + Ord>(values: &mut [T]) -> Option<(T, T)> {
    values.sort_unstable();
    Some((of(values, 50)?, of(values, 99)?))
}

/// The smallest of the sorted `values` that at least `percent` of them do not exceed.
fn of<T: Copy>(values: &[T], percent: usize) -> Option<T> {
    let rank = (values.len() * percent).div_ceil(100);
    values.get(rank.saturating_sub(1)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_values_that_occurred() {
        let mut hundred: Vec<u32> = (1..=100).rev().collect();
        assert_eq!(median_and_99th(&mut hundred), Some((50, 99)));
        assert_eq!(median_and_99th(&mut [9, 7, 8]), Some((8, 9)));
        assert_eq!(median_and_99th(&mut [7]), Some((7, 7)));
        assert_eq!(median_and_99th::<u32>(&mut []), None);
    }
}
