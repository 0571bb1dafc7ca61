//! What is wrong with a service, and what to change: all of it at once.

use std::fmt;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    what: String,
    fix: String,
}

impl Problem {
    pub(crate) fn new(what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { what: what.into(), fix: fix.into() }
    }

    /// What is wrong.
    pub fn what(&self) -> &str {
        &self.what
    }

    /// What to change.
    pub fn fix(&self) -> &str {
        &self.fix
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.fix)
    }
}

/// Why a service cannot start: everything that is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildError {
    service: String,
    problems: Vec<Problem>,
}

impl BuildError {
    pub(crate) fn new(service: String, problems: Vec<Problem>) -> Self {
        Self { service, problems }
    }

    /// Everything that is wrong, in the order in which it was declared.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the service {:?} cannot start:", self.service)?;
        for (index, problem) in self.problems.iter().enumerate() {
            write!(f, "\n  {}. {}\n     {}", index + 1, problem.what, problem.fix)?;
        }
        Ok(())
    }
}

impl std::error::Error for BuildError {}
