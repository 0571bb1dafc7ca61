//! What was committed is there, and nothing else is.

use courant_sql::{Admission, CommitError, Outcome as Settled, Source, Store, Transaction as _};

use super::StoreStage;
use super::given::{NOW, event, new_event, of};
use crate::Outcome;
use crate::failure::{ensure, ensure_eq};

/// The inbox row and the event that was published are there together.
pub(super) async fn what_was_committed_is_there<S: Store>(stage: &mut StoreStage<S>) -> Outcome {
    let (lease, event) = (stage.lease("billing").await?, event(1, Some("k"))?);
    let (mut transaction, _) = stage.admit(&lease, &event, Source::Log).await?;
    transaction.publish(new_event("p", "k")?)?;
    let committed = transaction.commit(NOW).await?;
    ensure_eq!(committed.lanes, [new_event("p", "k")?.lane()], "lanes that have something");
    stage.restart().await?;
    ensure_eq!(stage.waiting().await?.len(), 1, "events that wait");
    let lease = stage.lease("billing").await?;
    let seen = stage.admission(&lease, &event, Source::Log).await?;
    ensure_eq!(seen, Admission::Seen(Settled::Handled), "the event comes again");
    Ok(())
}

pub(super) async fn what_was_rolled_back_is_not_published<S: Store>(stage: &mut StoreStage<S>) -> Outcome {
    for is_dropped in [false, true] {
        let mut transaction = stage.store.begin(None).await?;
        transaction.publish(new_event("p", "k")?)?;
        if is_dropped {
            drop(transaction);
        } else {
            transaction.rollback().await?;
        }
        ensure_eq!(stage.waiting().await?.len(), 0, "events that wait");
    }
    Ok(())
}

/// Whether the next transaction begins with the commit or has to be begun by itself: the one is committed, and what
/// becomes of the other has no part in it.
pub(super) async fn what_begins_with_a_commit_has_no_part_in_it<S: Store>(
    stage: &mut StoreStage<S>,
) -> Outcome {
    let lease = stage.lease("billing").await?;
    let (first, second) = (event(1, Some("k"))?, event(2, Some("k"))?);
    let (mut transaction, _) = stage.admit(&lease, &first, Source::Log).await?;
    transaction.publish(new_event("p", "k")?)?;
    let committed = transaction.commit_and_begin(&lease, &[of(&second, Source::Log)], NOW).await;
    let (committed, begun) = committed?;
    ensure_eq!(committed.lanes, [new_event("p", "k")?.lane()], "lanes that have something");
    if let Some((mut next, admissions)) = begun {
        ensure_eq!(admissions, [Admission::New], "the next event");
        next.publish(new_event("q", "k")?)?;
        next.rollback().await?;
    }
    ensure_eq!(stage.waiting().await?.len(), 1, "events that wait");
    let seen = stage.admission(&lease, &first, Source::Log).await?;
    ensure_eq!(seen, Admission::Seen(Settled::Handled), "the event that was committed");
    stage.handle(&lease, &second, Source::Log).await?;
    Ok(())
}

/// FRAMEWORK 4: a handler has ended its transaction, by purpose or by accident, and goes on. Its commit is
/// refused, nothing of it lasts, and the event is handled anew.
pub(super) async fn a_transaction_that_has_ended_is_not_committed<S: Store>(
    stage: &mut StoreStage<S>,
) -> Outcome {
    let (lease, event) = (stage.lease("billing").await?, event(1, Some("k"))?);
    let ending = stage.ending()?;
    let (mut transaction, _) = stage.admit(&lease, &event, Source::Log).await?;
    ending(transaction.connection()).await;
    transaction.publish(new_event("p", "k")?)?;
    let committed = transaction.commit(NOW).await;
    ensure!(matches!(committed, Err(CommitError::Ended)), "it had ended, and its commit says {committed:?}");
    ensure_eq!(stage.waiting().await?.len(), 0, "events that wait");
    let admission = stage.admission(&lease, &event, Source::Log).await?;
    ensure_eq!(admission, Admission::New, "nothing of it was committed");
    Ok(())
}
