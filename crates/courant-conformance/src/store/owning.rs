//! Who has lost a partition can neither handle, park nor move anything of it; and how far the owner is.

use courant_sql::{BeginError, Progress, Store};

use super::StoreStage;
use super::given::{NOW, assignment, event, failure};
use crate::Outcome;
use crate::failure::{ensure, ensure_eq};

fn is_fenced<T>(result: &Result<T, BeginError>) -> bool {
    matches!(result, Err(BeginError::Fenced { .. }))
}

pub(super) async fn an_old_owner_begins_nothing<S: Store>(stage: &mut StoreStage<S>) -> Outcome {
    let old = stage.lease("billing").await?;
    let new = stage.another().await?.take_over(&assignment("billing")?, "another", NOW).await?;
    ensure!(new.epoch > old.epoch, "owner {} comes after owner {}", new.epoch, old.epoch);
    ensure!(is_fenced(&stage.store.begin(Some(&old)).await), "two owners can handle events");
    drop(stage.store.begin(Some(&new)).await?);
    Ok(())
}

pub(super) async fn an_old_owner_parks_nothing<S: Store>(stage: &mut StoreStage<S>) -> Outcome {
    let old = stage.lease("billing").await?;
    let new = stage.lease("billing").await?;
    let event = event(1, Some("k"))?;
    let parked = stage.store.park(&old, &event, &failure(), 0, NOW, NOW).await;
    ensure!(is_fenced(&parked), "the old owner has parked an event");
    let queued = stage.store.queue(&old, std::slice::from_ref(&event), NOW).await;
    ensure!(is_fenced(&queued), "the old owner has queued an event");
    let keys = stage.store.parked_keys(&new.assignment, None, 10).await?;
    ensure!(keys.is_empty(), "nothing is parked, and these are: {keys:?}");
    Ok(())
}

fn at(offset: u64) -> Progress {
    Progress { offset, mark: format!("e-{offset}"), gap_events: offset / 10 }
}

pub(super) async fn an_old_owner_moves_no_progress<S: Store>(stage: &mut StoreStage<S>) -> Outcome {
    let old = stage.lease("billing").await?;
    let new = stage.lease("billing").await?;
    stage.store.save_progress(&[(&new, &at(3))], NOW).await?;
    ensure!(is_fenced(&stage.store.save_progress(&[(&old, &at(9))], NOW).await), "the old owner moves on");
    ensure_eq!(stage.store.progress(&new.assignment).await?, Some(at(3)), "what the new one has saved");
    Ok(())
}

pub(super) async fn progress_never_moves_back<S: Store>(stage: &mut StoreStage<S>) -> Outcome {
    let lease = stage.lease("billing").await?;
    ensure_eq!(stage.store.progress(&lease.assignment).await?, None, "there is none yet");
    for offset in [3, 30, 5] {
        stage.store.save_progress(&[(&lease, &at(offset))], NOW).await?;
    }
    ensure_eq!(stage.store.progress(&lease.assignment).await?, Some(at(30)), "5 comes behind 30");
    Ok(())
}

pub(super) async fn progress_is_found_again<S: Store>(stage: &mut StoreStage<S>) -> Outcome {
    let lease = stage.lease("billing").await?;
    stage.store.save_progress(&[(&lease, &at(7))], NOW).await?;
    stage.restart().await?;
    ensure_eq!(stage.store.progress(&lease.assignment).await?, Some(at(7)), "after a restart");
    Ok(())
}

pub(super) async fn progress_can_be_set_anywhere<S: Store>(stage: &mut StoreStage<S>) -> Outcome {
    let lease = stage.lease("billing").await?;
    stage.store.save_progress(&[(&lease, &at(7))], NOW).await?;
    stage.store.reset_progress(&lease, Some(&at(2)), NOW).await?;
    ensure_eq!(stage.store.progress(&lease.assignment).await?, Some(at(2)), "set back");
    stage.store.reset_progress(&lease, None, NOW).await?;
    ensure_eq!(stage.store.progress(&lease.assignment).await?, None, "to the beginning");
    Ok(())
}
