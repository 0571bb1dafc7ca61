//! What breaks and heals by itself, and when.

use courant_server::{DemoDesk, DemoError};
use std::time::Duration;
use tokio::time::sleep;
use tracing::error;

/// Who the audit says it was.
const BY: &str = "courant demo --script";

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Break(&'static str),
    Fix(&'static str),
    Redrive,
}

/// Seconds to wait, at speed 1, and what happens then. It begins again when it is at its end.
const STEPS: [(u32, Step); 9] = [
    (12, Step::Break("carrier")),
    (15, Step::Fix("carrier")),
    (5, Step::Redrive),
    (12, Step::Break("analytics")),
    (15, Step::Fix("analytics")),
    (12, Step::Break("gateway")),
    (8, Step::Fix("gateway")),
    (12, Step::Break("broker")),
    (10, Step::Fix("broker")),
];

/// Plays the script again and again, through the same desk that HTTP uses.
pub(super) async fn play(desk: DemoDesk, speed: u32) {
    loop {
        for (seconds, step) in STEPS {
            sleep(Duration::from_secs(seconds.into()) / speed.max(1)).await;
            if let Err(error) = take(&desk, step).await {
                error!(%error, ?step, "a step of the demo's script failed");
            }
        }
    }
}

async fn take(desk: &DemoDesk, step: Step) -> Result<(), DemoError> {
    match step {
        Step::Break(switch) => desk.turn(BY, switch, true).await,
        Step::Fix(switch) => desk.turn(BY, switch, false).await,
        Step::Redrive => desk.redrive(BY).await,
    }
}

#[cfg(test)]
mod tests {
    use super::super::shop::Trouble;
    use super::*;

    #[test]
    fn everything_is_broken_once_and_repaired_after_that() {
        for trouble in Trouble::ALL {
            let at = |step: Step| STEPS.iter().position(|(_, one)| *one == step).expect("a step");
            assert!(at(Step::Break(trouble.id())) < at(Step::Fix(trouble.id())), "{trouble:?}");
        }
        let at = STEPS.iter().position(|(_, step)| *step == Step::Redrive).expect("a step");
        assert_eq!(
            STEPS[at - 1].1,
            Step::Fix("carrier"),
            "what is sent back meets a carrier that was repaired"
        );
    }
}
