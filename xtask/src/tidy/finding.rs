//! What a check found: where, what, and what to do instead.

use std::fmt;

/// One violation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    /// `path:line`, or a package's name.
    pub(super) place: String,
    pub(super) problem: String,
    /// The way out, in the imperative.
    pub(super) instead: String,
}

impl Finding {
    /// A finding about a whole file or package.
    pub(super) fn new(
        place: impl Into<String>,
        problem: impl Into<String>,
        instead: impl Into<String>,
    ) -> Self {
        Finding { place: place.into(), problem: problem.into(), instead: instead.into() }
    }

    /// A finding on a line; lines count from 1.
    pub(super) fn at(
        path: &str,
        line: usize,
        problem: impl Into<String>,
        instead: impl Into<String>,
    ) -> Self {
        Finding::new(format!("{path}:{line}"), problem, instead)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "  {}: {}\n      {}", self.place, self.problem, self.instead)
    }
}
