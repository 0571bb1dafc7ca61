//! What was published waits in lanes: without gaps, in the order of the commits, for one relay.

use std::collections::BTreeMap;

use courant_sql::{AdvanceError, LanePosition, NewEvent, Store};

use super::StoreStage;
use super::given::{NOW, new_event};
use crate::failure::{ensure, ensure_eq};
use crate::{Failure, Outcome};

const SHARD: &str = "all";

/// Publishes so many events of one key, each in a transaction of its own. What was published.
async fn publish<S: Store>(stage: &StoreStage<S>, events: usize) -> Result<Vec<NewEvent>, Failure> {
    let mut published = Vec::new();
    for n in 0..events {
        let event = new_event(&format!("p-{n}"), "k")?;
        let committed = stage.publish(std::slice::from_ref(&event)).await?;
        ensure_eq!(committed.lanes, [event.lane()], "lanes that have something");
        published.push(event);
    }
    Ok(published)
}

pub(super) async fn events_come_back_as_they_were_published<S: Store>(stage: &mut StoreStage<S>) -> Outcome {
    let mut bare = new_event("bare", "k")?;
    bare.value = None;
    bare.headers.clear();
    let published = [new_event("whole", "k")?, bare];
    stage.publish(&published).await?;
    stage.restart().await?;
    let read: Vec<_> = stage.waiting().await?.into_iter().map(|pending| pending.event).collect();
    ensure_eq!(read, published, "what waits");
    Ok(())
}

pub(super) async fn positions_have_no_gaps_and_come_once<S: Store>(stage: &mut StoreStage<S>) -> Outcome {
    for n in 0..20 {
        let events: Vec<_> = (0..3)
            .map(|key| new_event(&format!("{n}-{key}"), &format!("key-{key}")))
            .collect::<Result<_, _>>()?;
        stage.publish(&events).await?;
    }
    let mut last: BTreeMap<u16, u64> = BTreeMap::new();
    for pending in stage.waiting().await? {
        let LanePosition { lane, position } = pending.at;
        let before = last.entry(lane).or_default();
        *before += 1;
        ensure_eq!(position, *before, "the next position of lane {lane}");
        ensure_eq!(lane, pending.event.lane(), "the lane of {}", pending.event.id);
    }
    ensure_eq!(last.values().sum::<u64>(), 60, "events that wait");
    Ok(())
}

pub(super) async fn what_was_read_stays_until_it_is_moved_on<S: Store>(stage: &mut StoreStage<S>) -> Outcome {
    let published = publish(stage, 3).await?;
    let relay = stage.store.take_over_relay(SHARD, "conformance", NOW).await?;
    for _ in 0..2 {
        let read: Vec<_> = stage.waiting().await?.into_iter().map(|pending| pending.event).collect();
        ensure_eq!(read, published, "nothing was moved on");
    }
    let first = LanePosition { lane: published[0].lane(), position: 1 };
    stage.store.advance(&relay, &[first]).await?;
    let read: Vec<_> = stage.waiting().await?.into_iter().map(|pending| pending.event).collect();
    ensure_eq!(read, published[1..], "the first one was moved on");
    Ok(())
}

pub(super) async fn an_old_relay_moves_nothing<S: Store>(stage: &mut StoreStage<S>) -> Outcome {
    let old = stage.store.take_over_relay(SHARD, "one", NOW).await?;
    let lane = publish(stage, 1).await?[0].lane();
    stage.another().await?.take_over_relay(SHARD, "two", NOW).await?;
    let moved = stage.store.advance(&old, &[LanePosition { lane, position: 1 }]).await;
    ensure!(matches!(moved, Err(AdvanceError::Fenced { .. })), "two relays move the outbox: {moved:?}");
    ensure_eq!(stage.waiting().await?.len(), 1, "events that wait");
    Ok(())
}

pub(super) async fn nobody_moves_further_than_there_are_events<S: Store>(
    stage: &mut StoreStage<S>,
) -> Outcome {
    let relay = stage.store.take_over_relay(SHARD, "conformance", NOW).await?;
    let lane = publish(stage, 1).await?[0].lane();
    let moved = stage.store.advance(&relay, &[LanePosition { lane, position: 2 }]).await;
    ensure!(matches!(moved, Err(AdvanceError::NoSuchEvent { .. })), "there is no second event: {moved:?}");
    Ok(())
}

pub(super) async fn the_backlog_is_counted<S: Store>(stage: &mut StoreStage<S>) -> Outcome {
    ensure_eq!(stage.store.outbox_backlog().await?, 0, "nothing waits");
    publish(stage, 3).await?;
    ensure_eq!(stage.store.outbox_backlog().await?, 3, "three events wait");
    Ok(())
}
