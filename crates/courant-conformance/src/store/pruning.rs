//! Forgetting, and only what may be forgotten.

use courant_sql::{Admission, Outcome as Settled, Source, Store, Transaction as _};

use super::StoreStage;
use super::given::{NOW, consumer, event};
use crate::Outcome;
use crate::failure::ensure_eq;

pub(super) async fn only_what_is_old_is_forgotten<S: Store>(stage: &mut StoreStage<S>) -> Outcome {
    let lease = stage.lease("billing").await?;
    for offset in [0, 1] {
        let mut transaction = stage.store.begin(Some(&lease)).await?;
        let now_ms = NOW + if offset == 0 { 0 } else { 100 };
        transaction.admit(&[super::given::of(&event(offset, None)?, Source::Log)], now_ms).await?;
        transaction.commit(now_ms).await?;
    }
    let pruned = stage.store.prune_inbox(&consumer("billing")?, NOW + 50, 10).await?;
    ensure_eq!(pruned, 1, "events that were settled before that time");
    for (offset, expected) in [(0, Admission::New), (1, Admission::Seen(Settled::Handled))] {
        let admission = stage.admission(&lease, &event(offset, None)?, Source::Log).await?;
        ensure_eq!(admission, expected, "event {offset}, after the old ones were forgotten");
    }
    Ok(())
}
