//! Networks fail, and are asked again.

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::process;

/// How often something is tried, with a longer pause each time.
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_secs(4);

/// Runs a program until it succeeds, a few times; the error is a sentence for a report.
pub(crate) fn retry(what: &str, deadline: Instant, command: impl Fn() -> Command) -> Result<(), String> {
    let mut last = String::new();
    for attempt in 1..=ATTEMPTS {
        if attempt > 1 {
            println!("{what}: {last}; again in {} s", (PAUSE * (attempt - 1)).as_secs());
            thread::sleep(PAUSE * (attempt - 1));
        }
        if Instant::now() > deadline {
            return Err(format!("{what}: no time left"));
        }
        match process::stream(&mut command(), deadline, &mut |_| true) {
            Ok(ended) if ended.is_success() => return Ok(()),
            Ok(ended) => last = ended.describe(),
            Err(error) => return Err(format!("{what} does not start: {error}")),
        }
    }
    Err(format!("{what}: {last}, {ATTEMPTS} times"))
}
