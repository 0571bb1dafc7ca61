//! Waiting for records: what ends a wait, and what does not.

use std::time::Duration;

use courant_engine::Next;
use tokio::time::{Instant, timeout};

use crate::failure::{ensure, ensure_eq};
use crate::stage::{numbers, values};
use crate::{Failure, Outcome, Stage};

/// The record comes while the wait lasts; it would last for ten times the patience.
pub(super) async fn a_wait_ends_when_something_comes(stage: &Stage) -> Outcome {
    let ground = stage.topic(1).await?;
    let mut follower = stage.follow("woken", &ground).await?;
    follower.assigned(1).await?;
    for n in 0..5 {
        let wait = stage.patience() * 10;
        let publishing = async {
            tokio::task::yield_now().await;
            stage.publish(vec![ground.record("key", n)]).await
        };
        let both = async { tokio::join!(follower.subscription.next(wait), publishing) };
        let both = timeout(stage.patience(), both).await;
        let (next, published) = both.map_err(|_| Failure::new("a record does not end the wait for one"))?;
        published?;
        let Next::Records(fetched) = next? else {
            return Err(Failure::new("the wait has ended without the record"));
        };
        ensure_eq!(values(&fetched[0].records), [n.to_string()], "what has ended the wait");
    }
    Ok(())
}

pub(super) async fn a_wait_without_news_ends_with_nothing(stage: &Stage) -> Outcome {
    let ground = stage.topic(1).await?;
    let mut follower = stage.follow("waiting", &ground).await?;
    follower.assigned(1).await?;
    let begun = Instant::now();
    let next = follower.step(Duration::from_millis(50)).await?;
    ensure_eq!(next, Next::Nothing, "after a wait without news");
    ensure!(begun.elapsed() < stage.patience(), "a wait of 50 ms took {:?}", begun.elapsed());
    Ok(())
}

pub(super) async fn a_look_comes_back_at_once(stage: &Stage) -> Outcome {
    let ground = stage.topic(1).await?;
    let mut follower = stage.follow("looking", &ground).await?;
    follower.assigned(1).await?;
    let looks = async {
        for _ in 0..5 {
            follower.nothing_more().await?;
        }
        Ok::<(), Failure>(())
    };
    timeout(stage.patience(), looks).await.map_err(|_| Failure::new("a look without a wait waits"))?
}

/// Every second wait is given up after it has begun; each record still comes once, in order.
pub(super) async fn a_wait_that_is_given_up_loses_nothing(stage: &Stage) -> Outcome {
    let ground = stage.topic(1).await?;
    let mut follower = stage.follow("given-up", &ground).await?;
    follower.assigned(1).await?;
    for n in 0..20 {
        stage.publish(vec![ground.record("key", n)]).await?;
        // A timeout of nothing lets the wait begin, and drops it.
        let wait = stage.patience();
        let found = timeout(Duration::ZERO, follower.subscription.next(wait)).await;
        match found {
            Ok(Ok(Next::Records(fetched))) => {
                follower.records.extend(fetched.into_iter().flat_map(|fetched| fetched.records));
            }
            Ok(other) => return Err(Failure::new(format!("records, not {other:?}"))),
            Err(_) => {}
        }
        // Long enough for what runs elsewhere to be there when it is dropped.
        if n % 2 == 0 {
            let _ = timeout(Duration::from_millis(5), follower.step(wait)).await;
        }
    }
    ensure_eq!(values(&follower.read(20).await?), numbers(20), "the events");
    Ok(())
}
