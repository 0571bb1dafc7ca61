//! An event has its effect once, however often it is delivered.

use courant_sql::{Admission, Outcome as Settled, Source, Store, Transaction as _};

use super::StoreStage;
use super::given::{NOW, event, of};
use crate::Outcome;
use crate::failure::ensure_eq;

const SEEN: Admission = Admission::Seen(Settled::Handled);

pub(super) async fn what_was_handled_is_seen<S: Store>(stage: &mut StoreStage<S>) -> Outcome {
    let (lease, event) = (stage.lease("billing").await?, event(1, Some("k"))?);
    stage.handle(&lease, &event, Source::Log).await?;
    ensure_eq!(stage.admission(&lease, &event, Source::Log).await?, SEEN, "the event comes again");
    Ok(())
}

pub(super) async fn what_was_handled_is_seen_after_a_restart<S: Store>(stage: &mut StoreStage<S>) -> Outcome {
    let event = event(1, Some("k"))?;
    let lease = stage.lease("billing").await?;
    stage.handle(&lease, &event, Source::Log).await?;
    stage.restart().await?;
    let lease = stage.lease("billing").await?;
    ensure_eq!(stage.admission(&lease, &event, Source::Log).await?, SEEN, "the next process gets the event");
    Ok(())
}

pub(super) async fn what_was_rolled_back_is_new<S: Store>(stage: &mut StoreStage<S>) -> Outcome {
    let (lease, event) = (stage.lease("billing").await?, event(1, Some("k"))?);
    let (transaction, _) = stage.admit(&lease, &event, Source::Log).await?;
    transaction.rollback().await?;
    let (transaction, _) = stage.admit(&lease, &event, Source::Log).await?;
    drop(transaction);
    let admission = stage.admission(&lease, &event, Source::Log).await?;
    ensure_eq!(admission, Admission::New, "it was rolled back, and dropped");
    Ok(())
}

pub(super) async fn each_consumer_has_its_own<S: Store>(stage: &mut StoreStage<S>) -> Outcome {
    let event = event(1, Some("k"))?;
    for consumer in ["billing", "mailing"] {
        let lease = stage.lease(consumer).await?;
        stage.handle(&lease, &event, Source::Log).await?;
    }
    Ok(())
}

pub(super) async fn an_event_that_comes_twice_in_one_call_is_new_once<S: Store>(
    stage: &mut StoreStage<S>,
) -> Outcome {
    let lease = stage.lease("billing").await?;
    let (one, two) = (event(1, None)?, event(2, None)?);
    let mut transaction = stage.store.begin(Some(&lease)).await?;
    let deliveries = [&one, &two, &one].map(|event| of(event, Source::Log));
    let admissions = transaction.admit(&deliveries, NOW).await?;
    transaction.commit(NOW).await?;
    ensure_eq!(admissions, [Admission::New, Admission::New, SEEN], "three deliveries of two events");
    Ok(())
}
