//! Exit codes, and failures that know theirs.

use crate::text::one_line;
use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

/// What the shell sees. The numbers are part of the interface and never change their meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Everything was done.
    Ok = 0,
    /// It failed for a reason without a number of its own.
    Failed = 1,
    /// The command line is wrong; clap uses the same number.
    Usage = 2,
    /// What was named does not exist.
    NotFound = 3,
    /// It contradicts what is there already.
    Conflict = 4,
    /// The server does not allow it.
    NotAllowed = 5,
    /// Nothing answers, or not in time.
    Unreachable = 6,
    /// A part was done; the report is on stdout.
    Partly = 7,
    /// The user stopped it, or whoever supervises it.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command ends early: one sentence that says what happened and what to change.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    /// Without a full stop. Empty: there is nobody left to tell.
    pub(crate) sentence: String,
}

/// Characters of a sentence that are shown.
const SENTENCE_CHARS_MAX: usize = 2000;

impl Failure {
    pub(crate) fn new(exit: Exit, sentence: impl Into<String>) -> Self {
        Self { exit, sentence: sentence.into() }
    }

    /// A write to stdout failed. A reader that has gone (`| head`) is no failure at all.
    pub(crate) fn output(error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::new(Exit::Ok, "");
        }
        Self::new(Exit::Failed, format!("the output cannot be written: {error}"))
    }

    /// Tells the user, on stderr.
    pub(crate) fn report(&self) {
        if !self.sentence.is_empty() {
            note(format_args!("{}", self.line()));
        }
    }

    /// What the user is told: a server's words may be in it, and they must not command the
    /// terminal.
    fn line(&self) -> String {
        format!("courant: {}", one_line(&self.sentence, SENTENCE_CHARS_MAX))
    }
}

/// Writes one line for people to stderr. That stderr may be gone is nobody's business.
pub(crate) fn note(line: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_pipe_is_silent_and_other_write_errors_are_not() {
        let gone = Failure::output(&io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!(gone, Failure::new(Exit::Ok, ""));
        let full = Failure::output(&io::Error::from(io::ErrorKind::StorageFull));
        assert_eq!(full.exit, Exit::Failed);
        assert!(!full.sentence.is_empty());
    }

    #[test]
    fn words_of_a_server_stay_on_one_line() {
        let failure = Failure::new(Exit::Failed, "refused: \u{1b}[2J\ncourant: all is well");
        assert_eq!(failure.line(), "courant: refused: \\u{1b}[2J\\ncourant: all is well");
    }

    #[test]
    fn numbers_are_as_documented() {
        let numbers = [
            Exit::Ok,
            Exit::Failed,
            Exit::Usage,
            Exit::NotFound,
            Exit::Conflict,
            Exit::NotAllowed,
            Exit::Unreachable,
            Exit::Partly,
            Exit::Interrupted,
        ]
        .map(|exit| exit as u8);
        assert_eq!(numbers, [0, 1, 2, 3, 4, 5, 6, 7, 130]);
    }
}
