//! Tells which case does not end. A log that waits for itself, or goes round in a circle, would else end with the
//! time of the whole run, and nobody would know where.
//!
//! It is told of each case that begins, and counts its own ticks until the next one: where the machine stands
//! still, so does it. A thread cannot be ended from outside, so the process is.

use std::io::Write as _;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;
use std::{io, process, thread};

const TICK: Duration = Duration::from_millis(100);
/// A case takes a few milliseconds. This is ten seconds.
const TICKS_MAX: u32 = 100;

/// Watches the cases of one sweep, for as long as it lives.
#[derive(Debug)]
pub(crate) struct Watchdog {
    begun: Sender<String>,
}

impl Watchdog {
    /// Ends the process when a case takes too long, with a sentence that names it.
    pub(crate) fn new() -> Self {
        Self::telling(TICK, |case| {
            // Not by a macro that prints: what those say is kept back until a test has ended.
            let _ = writeln!(io::stderr(), "this case does not end: {case}");
            process::abort();
        })
    }

    fn telling(tick: Duration, tell: impl FnOnce(&str) + Send + 'static) -> Self {
        let (begun, cases) = channel();
        thread::spawn(move || watch(&cases, tick, tell));
        Self { begun }
    }

    /// A case begins, and the one before has ended.
    pub(crate) fn begin(&self, case: String) {
        // Where the watch is over, somebody has been told.
        let _ = self.begun.send(case);
    }
}

fn watch(cases: &Receiver<String>, tick: Duration, tell: impl FnOnce(&str)) {
    let Ok(mut case) = cases.recv() else { return };
    let mut ticks = 0;
    while ticks < TICKS_MAX {
        match cases.recv_timeout(tick) {
            Ok(next) => (case, ticks) = (next, 0),
            Err(RecvTimeoutError::Timeout) => ticks += 1,
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
    tell(&case);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both have begun before anybody watches: however long that takes, the second is the one under way.
    #[test]
    fn a_case_that_does_not_end_is_told() {
        let (begun, cases) = channel();
        for case in ["call 1", "call 2"] {
            begun.send(case.to_owned()).expect("somebody listens");
        }
        let mut told = None;
        watch(&cases, Duration::from_millis(1), |case| told = Some(case.to_owned()));
        assert_eq!(told.as_deref(), Some("call 2"));
    }

    #[test]
    fn behind_the_last_case_nobody_is_told() {
        let (told, heard) = channel::<String>();
        let watchdog = Watchdog::telling(Duration::from_secs(3600), move |case| {
            told.send(case.to_owned()).expect("somebody listens");
        });
        watchdog.begin("call 1".to_owned());
        drop(watchdog);
        assert!(heard.recv().is_err(), "the watch has ended");
    }
}
