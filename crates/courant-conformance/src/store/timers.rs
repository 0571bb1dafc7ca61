//! Events that are to be published later.

use courant_sql::{NewTimer, Store, TimerName, Transaction as _};

use super::StoreStage;
use super::given::{NOW, new_event};
use crate::failure::{ensure, ensure_eq};
use crate::{Failure, Outcome};

const SHARD: &str = "all";

/// Schedules two events, the second one a second after the first.
async fn schedule<S: Store>(stage: &StoreStage<S>) -> Result<[TimerName; 2], Failure> {
    let names = [TimerName::new("payment-due", "1")?, TimerName::new("payment-due", "2")?];
    let mut transaction = stage.store.begin(None).await?;
    for (n, name) in (1..).zip(&names) {
        let mut event = new_event(&format!("t-{n}"), "k")?;
        event.timestamp_ms = NOW + n * 1_000;
        transaction.schedule(NewTimer { event, name: Some(name.clone()) })?;
    }
    let committed = transaction.commit(NOW).await?;
    ensure_eq!(committed.next_timer_ms, Some(NOW + 1_000), "when the first of them is due");
    Ok(names)
}

/// Fires what is due, and gives back what waits in the outbox then.
async fn fired<S: Store>(stage: &StoreStage<S>, now_ms: i64) -> Result<Vec<String>, Failure> {
    let relay = stage.store.take_over_relay(SHARD, "conformance", NOW).await?;
    stage.store.fire_timers(&relay, 10, 1 << 20, now_ms).await?;
    Ok(stage.waiting().await?.iter().map(|pending| pending.event.id.to_string()).collect())
}

pub(super) async fn a_timer_comes_at_its_time_and_not_before<S: Store>(stage: &mut StoreStage<S>) -> Outcome {
    schedule(stage).await?;
    stage.restart().await?;
    ensure!(fired(stage, NOW + 999).await?.is_empty(), "a timer has come a millisecond early");
    ensure_eq!(fired(stage, NOW + 1_000).await?, ["t-1"], "what has come at the first one's time");
    ensure_eq!(stage.store.next_timer_ms().await?, Some(NOW + 2_000), "when the next one is due");
    ensure_eq!(fired(stage, NOW + 9_000).await?, ["t-1", "t-2"], "what has come long after it");
    Ok(())
}

pub(super) async fn a_cancelled_timer_does_not_come<S: Store>(stage: &mut StoreStage<S>) -> Outcome {
    let [first, _] = schedule(stage).await?;
    let mut transaction = stage.store.begin(None).await?;
    transaction.cancel_timer(first)?;
    transaction.commit(NOW).await?;
    ensure_eq!(fired(stage, NOW + 9_000).await?, ["t-2"], "what has come, the first one cancelled");
    Ok(())
}
