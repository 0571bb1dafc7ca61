//! A number of bytes that all connections share.
//!
//! Two rules keep it free of deadlock. Whoever *waits* for a share gives up after a bounded time
//! ([`crate::limits::BUDGET_WAIT_MAX`]) or holds none yet; whoever holds one and wants more without
//! waiting uses [`Budget::try_cover`] or [`Budget::try_more`].

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes per unit: a share is rounded up to whole units, so that 64 GiB fit into 32 bits of them.
const UNIT_BYTES: usize = 1024;

/// A pool of bytes.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    units: Arc<Semaphore>,
    total: u32,
}

/// A share of a [`Budget`], given back on drop.
#[derive(Debug, Default)]
pub(crate) struct Grant {
    permit: Option<OwnedSemaphorePermit>,
}

impl Budget {
    /// A budget of `bytes`, at least one unit.
    pub(crate) fn new(bytes: usize) -> Self {
        let total = u32::try_from(bytes / UNIT_BYTES)
            .unwrap_or(u32::MAX)
            .clamp(1, u32::try_from(Semaphore::MAX_PERMITS).unwrap_or(u32::MAX));
        Self { units: Arc::new(Semaphore::new(total as usize)), total }
    }

    /// Waits until `grant` covers `bytes`, or all there is.
    pub(crate) async fn cover(&self, grant: &mut Grant, bytes: usize) {
        let missing = self.missing(grant, bytes);
        if missing == 0 {
            return;
        }
        // The semaphore is never closed, so this cannot fail.
        if let Ok(permit) = Arc::clone(&self.units).acquire_many_owned(missing).await {
            grant.add(permit);
        }
    }

    /// Makes `grant` cover `bytes` if that much is free now.
    pub(crate) fn try_cover(&self, grant: &mut Grant, bytes: usize) -> bool {
        let missing = self.missing(grant, bytes);
        if missing == 0 {
            return true;
        }
        match Arc::clone(&self.units).try_acquire_many_owned(missing) {
            Ok(permit) => {
                grant.add(permit);
                true
            }
            Err(_) => false,
        }
    }

    /// Makes `grant` cover `bytes` more than it does, if that much is free now: never less of it, however much it
    /// covers already.
    pub(crate) fn try_more(&self, grant: &mut Grant, bytes: usize) -> bool {
        let units = u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX);
        match Arc::clone(&self.units).try_acquire_many_owned(units) {
            Ok(permit) => {
                grant.add(permit);
                true
            }
            Err(_) => false,
        }
    }

    /// Bytes of all shares now, and of those that are being put together for somebody who waits.
    pub(crate) fn granted(&self) -> usize {
        (self.total as usize).saturating_sub(self.units.available_permits()) * UNIT_BYTES
    }

    fn missing(&self, grant: &Grant, bytes: usize) -> u32 {
        let wanted = u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX).min(self.total);
        wanted.saturating_sub(grant.units())
    }
}

impl Grant {
    /// Gives back what goes beyond `bytes`.
    pub(crate) fn shrink_to(&mut self, bytes: usize) {
        let keep = bytes.div_ceil(UNIT_BYTES);
        if let Some(permit) = &mut self.permit {
            let surplus = permit.num_permits().saturating_sub(keep);
            // To give nothing back would be a word with all that share the budget, too.
            if surplus > 0 {
                drop(permit.split(surplus));
            }
        }
    }

    /// Takes in another share of the same budget.
    pub(crate) fn take_in(&mut self, other: Self) {
        if let Some(permit) = other.permit {
            self.add(permit);
        }
    }

    /// What it covers.
    pub(crate) fn bytes(&self) -> usize {
        self.permit.as_ref().map_or(0, OwnedSemaphorePermit::num_permits) * UNIT_BYTES
    }

    fn units(&self) -> u32 {
        let units = self.permit.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        u32::try_from(units).unwrap_or(u32::MAX)
    }

    fn add(&mut self, more: OwnedSemaphorePermit) {
        match &mut self.permit {
            Some(permit) => permit.merge(more),
            None => self.permit = Some(more),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_is_given_back_on_drop() {
        let budget = Budget::new(10 * UNIT_BYTES);
        let mut one = Grant::default();
        let mut two = Grant::default();
        assert!(budget.try_cover(&mut one, 8 * UNIT_BYTES));
        assert!(!budget.try_cover(&mut two, 3 * UNIT_BYTES));
        one.shrink_to(7 * UNIT_BYTES);
        assert!(budget.try_cover(&mut two, 3 * UNIT_BYTES));
        assert_eq!(budget.granted(), 10 * UNIT_BYTES);
        drop(one);
        assert_eq!(budget.granted(), 3 * UNIT_BYTES);
        assert!(budget.try_cover(&mut two, 10 * UNIT_BYTES));
    }

    #[test]
    fn a_share_that_is_taken_in_is_given_back_with_the_other() {
        let budget = Budget::new(10 * UNIT_BYTES);
        let (mut one, mut two) = (Grant::default(), Grant::default());
        assert!(budget.try_cover(&mut two, 3 * UNIT_BYTES));
        one.take_in(two);
        one.take_in(Grant::default());
        assert_eq!((one.units(), budget.granted()), (3, 3 * UNIT_BYTES));
        drop(one);
        assert_eq!(budget.granted(), 0);
    }

    #[test]
    fn a_wish_above_the_total_is_cut_to_it() {
        let budget = Budget::new(2 * UNIT_BYTES);
        let mut grant = Grant::default();
        assert!(budget.try_cover(&mut grant, usize::MAX));
        assert_eq!(grant.units(), 2);
        assert!(!budget.try_more(&mut grant, 1), "who has all of it gets no more");
    }
}
