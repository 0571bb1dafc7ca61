//! What a scenario says when an engine does not keep its contract.

use std::error::Error;
use std::fmt;

/// How a scenario has ended.
pub(crate) type Outcome = Result<(), Failure>;

/// What was not kept: what was seen, and what should have been.
#[derive(Clone, PartialEq, Eq)]
pub struct Failure(String);

impl Failure {
    pub(crate) fn new(said: impl Into<String>) -> Self {
        Self(said.into())
    }
}

/// An error where there should be none.
impl<E: Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(format!("an error where there should be none: {error}"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Fails the scenario unless this holds.
macro_rules! ensure {
    ($holds:expr, $($said:tt)+) => {
        if !$holds {
            return Err($crate::failure::Failure::new(format!($($said)+)));
        }
    };
}

/// Fails the scenario unless what was found is what was expected.
macro_rules! ensure_eq {
    ($found:expr, $expected:expr, $($said:tt)+) => {{
        let (found, expected) = (&$found, &$expected);
        if *found != *expected {
            let said = format!($($said)+);
            return Err($crate::failure::Failure::new(format!("{said}: found {found:?}, expected {expected:?}")));
        }
    }};
}

pub(crate) use {ensure, ensure_eq};
