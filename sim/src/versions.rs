//! Something that changes one change at a time: after a crash it is as the last acknowledged change
//! left it, or any later one that was asked for.

/// Every version that was asked for, and how many changes were acknowledged.
#[derive(Clone, Debug)]
pub(crate) struct Versions<T> {
    /// The first one is how it began.
    asked: Vec<T>,
    acknowledged: usize,
}

impl<T> Versions<T> {
    pub(crate) fn new(first: T) -> Self {
        Self { asked: vec![first], acknowledged: 0 }
    }

    pub(crate) fn newest(&self) -> &T {
        self.asked.last().expect("there is always one")
    }

    pub(crate) fn ask(&mut self, next: T) {
        self.asked.push(next);
    }

    /// One more change was acknowledged; they are, in order.
    pub(crate) fn acknowledge(&mut self) {
        self.acknowledged += 1;
        assert!(self.acknowledged < self.asked.len(), "acknowledged and never asked for");
    }

    /// The versions that may be found.
    pub(crate) fn possible(&self) -> &[T] {
        &self.asked[self.acknowledged..]
    }
}
