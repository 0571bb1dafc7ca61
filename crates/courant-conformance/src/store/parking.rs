//! A key that fails is set aside with everything that follows of it, in order, and nothing else is.

use courant_sql::{Admission, Lease, Parked, Source, Store};

use super::StoreStage;
use super::given::{NOW, event, failure};
use crate::failure::{ensure, ensure_eq};
use crate::{Failure, Outcome};

/// Parks the first event of a key and queues `behind` others.
async fn park<S: Store>(stage: &StoreStage<S>, behind: u64) -> Result<Lease, Failure> {
    let lease = stage.lease("billing").await?;
    stage.store.park(&lease, &event(0, Some("k"))?, &failure(), 0, NOW + 100, NOW).await?;
    for offset in 1..=behind {
        stage.store.queue(&lease, &[event(offset, Some("k"))?], NOW).await?;
    }
    Ok(lease)
}

pub(super) async fn a_key_comes_back_in_order<S: Store>(stage: &mut StoreStage<S>) -> Outcome {
    let lease = park(stage, 3).await?;
    for offset in 0..=3 {
        ensure_eq!(stage.due(&lease, NOW + 100).await?, [offset], "of a key only the first event is due");
        stage.handle(&lease, &event(offset, Some("k"))?, Source::Parked).await?;
    }
    Ok(())
}

pub(super) async fn what_comes_after_a_parked_event_waits<S: Store>(stage: &mut StoreStage<S>) -> Outcome {
    let lease = park(stage, 0).await?;
    for offset in [0, 1] {
        let admission = stage.admission(&lease, &event(offset, Some("k"))?, Source::Log).await?;
        ensure_eq!(admission, Admission::Behind, "event {offset} of a key that is parked");
    }
    Ok(())
}

pub(super) async fn other_keys_flow<S: Store>(stage: &mut StoreStage<S>) -> Outcome {
    let lease = park(stage, 1).await?;
    for (offset, key) in [(5, Some("other")), (6, None), (7, Some(""))] {
        let admission = stage.admission(&lease, &event(offset, key)?, Source::Log).await?;
        ensure_eq!(admission, Admission::New, "another key is parked than {key:?}");
    }
    Ok(())
}

pub(super) async fn parked_keys_are_those_of_now<S: Store>(stage: &mut StoreStage<S>) -> Outcome {
    let lease = stage.lease("billing").await?;
    let keys = stage.store.parked_keys(&lease.assignment, None, 10).await?;
    ensure!(keys.is_empty(), "nothing is parked, and these are: {keys:?}");
    let lease = park(stage, 1).await?;
    let keys = stage.store.parked_keys(&lease.assignment, None, 10).await?;
    let found: Vec<_> = keys.iter().map(|parked| (&parked.key[..], parked.events)).collect();
    ensure_eq!(found, [(&b"k"[..], 2)], "two events of one key are parked");
    for offset in [0, 1] {
        stage.handle(&lease, &event(offset, Some("k"))?, Source::Parked).await?;
    }
    let keys = stage.store.parked_keys(&lease.assignment, None, 10).await?;
    ensure!(keys.is_empty(), "nothing is parked any more, and these are: {keys:?}");
    Ok(())
}

pub(super) async fn attempts_are_counted<S: Store>(stage: &mut StoreStage<S>) -> Outcome {
    let (lease, event) = (stage.lease("billing").await?, event(0, Some("k"))?);
    for attempts in 1..=3 {
        let parked = stage.store.park(&lease, &event, &failure(), attempts - 1, NOW, NOW).await?;
        ensure_eq!(parked, Parked::Waiting { attempts }, "failure {attempts}");
    }
    let again = stage.store.park(&lease, &event, &failure(), 2, NOW, NOW).await?;
    ensure_eq!(again, Parked::Waiting { attempts: 3 }, "the third failure, said twice");
    Ok(())
}

pub(super) async fn nothing_is_due_early<S: Store>(stage: &mut StoreStage<S>) -> Outcome {
    let lease = park(stage, 0).await?;
    ensure_eq!(stage.due(&lease, NOW + 99).await?, Vec::<u64>::new(), "a millisecond before its time");
    ensure_eq!(stage.due(&lease, NOW + 100).await?, [0], "at its time");
    Ok(())
}

pub(super) async fn the_next_due_time_is_told<S: Store>(stage: &mut StoreStage<S>) -> Outcome {
    let lease = park(stage, 1).await?;
    let next = stage.store.next_due(&lease.assignment).await?;
    ensure_eq!(next, Some(NOW + 100), "when the next event is due");
    Ok(())
}

pub(super) async fn the_last_event_drains_its_key<S: Store>(stage: &mut StoreStage<S>) -> Outcome {
    let lease = park(stage, 1).await?;
    for (offset, drained) in [(0, 0), (1, 1)] {
        let committed = stage.handle(&lease, &event(offset, Some("k"))?, Source::Parked).await?;
        ensure_eq!(committed.drained.len(), drained, "keys that event {offset} has drained");
    }
    let next = stage.admission(&lease, &event(2, Some("k"))?, Source::Log).await?;
    ensure_eq!(next, Admission::New, "the key is not parked any more");
    Ok(())
}
