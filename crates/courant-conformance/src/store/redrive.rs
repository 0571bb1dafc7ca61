//! Dead letters on their way back: asked for once, in order, before newer events, each with its result.

use std::num::NonZeroU32;

use courant_sql::{DeadFilter, Lease, RedriveEventState, RedriveState, Source, Store};

use super::StoreStage;
use super::given::{NOW, burial, event, failure};
use crate::failure::{ensure, ensure_eq};
use crate::{Failure, Outcome};

const ID: &str = "r-1";

/// Makes dead letters of the first events of a key, which flows on.
async fn bury<S: Store>(stage: &StoreStage<S>, letters: u64) -> Result<Lease, Failure> {
    let lease = stage.lease("billing").await?;
    for offset in 0..letters {
        let (event, failure) = (event(offset, Some("k"))?, failure());
        stage.store.bury(&lease, burial(&event, &failure, false), NOW).await?;
    }
    Ok(lease)
}

async fn request<S: Store>(stage: &StoreStage<S>, by: &str) -> Outcome {
    stage.store.request_redrive(ID, by, &DeadFilter::default(), NOW).await?;
    Ok(())
}

pub(super) async fn a_request_is_made_once<S: Store>(stage: &mut StoreStage<S>) -> Outcome {
    let lease = bury(stage, 1).await?;
    request(stage, "alice").await?;
    stage.store.claim_redrives(&lease, 10, NOW).await?;
    stage.handle(&lease, &event(0, Some("k"))?, Source::Parked).await?;
    let again = stage.store.request_redrive(ID, "bob", &DeadFilter::default(), NOW + 1).await?;
    ensure_eq!(again.requested_by, "alice", "who has asked under this id");
    ensure_eq!((again.state, again.handled), (RedriveState::Done, 1), "it is over");
    Ok(())
}

/// D4: older events of a key were set aside, a newer one has failed and waits: what comes back is put
/// before it, in order, also when the process dies in between.
pub(super) async fn what_comes_back_comes_before_newer_events<S: Store>(
    stage: &mut StoreStage<S>,
) -> Outcome {
    let lease = bury(stage, 2).await?;
    stage.store.park(&lease, &event(2, Some("k"))?, &failure(), 0, NOW, NOW).await?;
    request(stage, "alice").await?;
    let claims = stage.store.claim_redrives(&lease, 10, NOW).await?;
    ensure_eq!(claims.len(), 2, "letters that were taken");
    stage.restart().await?;
    let lease = stage.lease("billing").await?;
    for offset in 0..3 {
        ensure_eq!(stage.due(&lease, NOW).await?, [offset], "one after the other");
        stage.handle(&lease, &event(offset, Some("k"))?, Source::Parked).await?;
    }
    Ok(())
}

pub(super) async fn each_event_has_its_result<S: Store>(stage: &mut StoreStage<S>) -> Outcome {
    let lease = bury(stage, 2).await?;
    request(stage, "alice").await?;
    stage.store.claim_redrives(&lease, 10, NOW).await?;
    stage.handle(&lease, &event(0, Some("k"))?, Source::Parked).await?;
    let (second, failure) = (event(1, Some("k"))?, failure());
    stage.store.bury(&lease, burial(&second, &failure, false), NOW).await?;
    let events = stage.store.redrive_events(ID, 0, 10).await?;
    let states: Vec<_> = events.iter().map(|event| event.state).collect();
    ensure_eq!(states, [RedriveEventState::Handled, RedriveEventState::Failed], "results");
    let redrive = stage.store.redrive(ID).await?;
    ensure_eq!((redrive.handled, redrive.failed, redrive.pending), (1, 1, 0), "counted");
    ensure!(redrive.state == RedriveState::Done, "every event has its result, and it is {:?}", redrive.state);
    Ok(())
}

pub(super) async fn a_rate_is_kept<S: Store>(stage: &mut StoreStage<S>) -> Outcome {
    let lease = bury(stage, 3).await?;
    let (rate, all) = (NonZeroU32::new(2), DeadFilter::default());
    stage.store.request_redrive_at(ID, "alice", &all, rate, NOW).await?;
    let mut taken = Vec::new();
    for at_ms in [NOW, NOW + 999, NOW + 1_000] {
        taken.push(stage.store.claim_redrives(&lease, 10, at_ms).await?.len());
    }
    ensure_eq!(taken, [2, 0, 1], "letters that were taken, at two a second");
    Ok(())
}
