//! Events that could not be handled: kept whole, and decided about by people.

use bytes::Bytes;
use courant_core::event_id::EventId;
use courant_sql::{
    Admission, DeadEdit, DeadState, Decision, Lease, Outcome as Settled, Source, Store, Verdict,
};

use super::StoreStage;
use super::given::{NOW, burial, event, failure};
use crate::failure::{ensure, ensure_eq};
use crate::{Failure, Outcome};

/// Makes a dead letter of the first event of a key, which holds it.
async fn bury<S: Store>(stage: &StoreStage<S>) -> Result<(Lease, i64), Failure> {
    let lease = stage.lease("billing").await?;
    let (first, failure) = (event(0, Some("k"))?, failure());
    let buried = stage.store.bury(&lease, burial(&first, &failure, true), NOW).await?;
    let id = buried.id.ok_or_else(|| Failure::new("the dead letter has no number"))?;
    Ok((lease, id))
}

pub(super) async fn a_letter_is_the_event_as_it_came<S: Store>(stage: &mut StoreStage<S>) -> Outcome {
    let (_, id) = bury(stage).await?;
    stage.restart().await?;
    let letter = stage.store.dead_letter(id).await?;
    let letter = letter.ok_or_else(|| Failure::new("the dead letter is not there"))?;
    ensure_eq!(letter.event, event(0, Some("k"))?, "the event of the letter");
    ensure_eq!(letter.summary.failure, failure(), "why it is dead");
    ensure_eq!((letter.summary.attempts, letter.summary.blocks_key), (1, true), "tried once, in the way");
    Ok(())
}

pub(super) async fn a_letter_holds_its_key_until_it_is_given_up<S: Store>(
    stage: &mut StoreStage<S>,
) -> Outcome {
    let (lease, id) = bury(stage).await?;
    let next = event(1, Some("k"))?;
    let admission = stage.admission(&lease, &next, Source::Log).await?;
    ensure_eq!(admission, Admission::Behind, "an event behind a letter that holds its key");
    stage.store.queue(&lease, std::slice::from_ref(&next), NOW).await?;
    ensure!(stage.due(&lease, i64::MAX).await?.is_empty(), "what waits for a person is due");
    ensure_eq!(stage.store.discard(&[id], NOW + 9).await?, [id], "letters that were given up");
    ensure_eq!(stage.due(&lease, NOW + 9).await?, [1], "what has waited behind it");
    let seen = stage.admission(&lease, &event(0, Some("k"))?, Source::Log).await?;
    ensure_eq!(seen, Admission::Seen(Settled::Discarded), "the letter's event comes again");
    Ok(())
}

pub(super) async fn a_letter_is_decided_once<S: Store>(stage: &mut StoreStage<S>) -> Outcome {
    let (_, id) = bury(stage).await?;
    ensure_eq!(stage.store.archive(&[id, id + 1_000], NOW).await?, [id], "letters that were archived");
    ensure_eq!(stage.store.discard(&[id], NOW).await?, Vec::<i64>::new(), "it was decided already");
    let letter = stage.store.dead_letter(id).await?;
    let state = letter.map(|letter| letter.summary.state);
    ensure_eq!(state, Some(DeadState::Archived), "what was decided first");
    let decision = Decision { verdict: Verdict::Restore, by: "alice", reason: "it can be repaired" };
    ensure_eq!(stage.store.decide(&[id, id + 1_000], &decision, NOW).await?, [id], "letters taken back");
    ensure_eq!(stage.store.discard(&[id], NOW).await?, [id], "it can be decided again");
    Ok(())
}

/// D6: the original is kept, and counts as settled; the new event has its place.
pub(super) async fn an_edit_keeps_the_original<S: Store>(stage: &mut StoreStage<S>) -> Outcome {
    let (lease, id) = bury(stage).await?;
    let original = event(0, Some("k"))?;
    let edit = DeadEdit {
        replaces: original.id.clone(),
        event_id: EventId::new("edited")?,
        value: Some(Bytes::from_static(b"better")),
        headers: Vec::new(),
        by: "alice".to_owned(),
        reason: "a typo".to_owned(),
    };
    stage.store.edit_dead_letter(id, &edit, NOW).await?;
    let notes = stage.store.dead_letter_notes(id).await?;
    let kept = notes.first().and_then(|note| note.original.as_ref());
    let kept = kept.map(|kept| (&kept.event_id, &kept.value, &kept.headers));
    ensure_eq!(kept, Some((&original.id, &original.value, &original.headers)), "what it was before");
    let seen = stage.admission(&lease, &original, Source::Log).await?;
    ensure!(matches!(seen, Admission::Seen(_)), "the original comes again, and it is {seen:?}");
    Ok(())
}
