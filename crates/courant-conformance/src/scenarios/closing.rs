//! The end of an engine: nothing waits for it for ever, and nothing goes on without it.

use courant_engine::{
    CommitError, FetchError, PublishError, ReadError, Subscribe, SubscribeError, TopicsError,
};
use tokio::time::timeout;

use crate::failure::{ensure, ensure_eq};
use crate::stage::only;
use crate::{Failure, Outcome, Stage};

pub(super) async fn a_closed_engine_refuses_everything(stage: &mut Stage) -> Outcome {
    let ground = stage.topic(1).await?;
    let partition = ground.partition(0);
    stage.close().await?;
    let engine = stage.engine();
    let published = only(engine.publish(vec![ground.record("key", "value")]).await)?;
    ensure_eq!(published, Err(PublishError::Closed), "publishing");
    ensure_eq!(engine.topics(vec![ground.name.clone()]).await, Err(TopicsError::Closed), "asking for topics");
    ensure_eq!(only(engine.ends(vec![partition.clone()]).await)?, Err(ReadError::Closed), "the ends");
    ensure_eq!(only(engine.read(vec![partition.at(0)]).await)?, Err(ReadError::Closed), "reading back");
    let committed = engine.commit(stage.group("billing"), vec![partition.at(0)]).await;
    ensure_eq!(committed, Err(CommitError::Closed), "committing");
    let subscribed = engine.subscribe(Subscribe::new(stage.group("late"), vec![ground.name])).await;
    ensure!(
        matches!(&subscribed, Err(SubscribeError::Closed)),
        "subscribing is answered with {subscribed:?}"
    );
    Ok(())
}

pub(super) async fn closing_ends_a_wait(stage: &mut Stage) -> Outcome {
    let ground = stage.topic(1).await?;
    let mut follower = stage.follow("waiting", &ground).await?;
    follower.assigned(1).await?;
    let wait = stage.patience() * 10;
    let patience = stage.patience();
    let both = async { tokio::join!(follower.subscription.next(wait), stage.close()) };
    let both = timeout(patience, both).await;
    let (next, closed) = both.map_err(|_| Failure::new("a wait goes on although the engine is closed"))?;
    closed?;
    ensure_eq!(next, Err(FetchError::Closed), "the wait");
    ensure_eq!(follower.raw(wait).await?, Err(FetchError::Closed), "the next wait");
    Ok(())
}

pub(super) async fn closing_twice_is_closing_once(stage: &mut Stage) -> Outcome {
    stage.close().await?;
    stage.close().await
}
