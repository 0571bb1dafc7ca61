//! O7: what is committed while there was nothing to do is published at once.

use std::time::{Duration, Instant};

use courant::Running;
use courant::engine::{Engine, Next, Subscribe};
use courant::prelude::*;
use courant_core::topic::TopicName;

use super::common::{Db, Script, Site, count, counted, from_environment, seconds};

/// Commits of a run in the CI. `COURANT_WAKE_COMMITS` sets another number: from 1,000 on, 99 in 100 of them have
/// to be quick, on a machine that does nothing else. In the CI, which does, one in four has to be woken for.
const COMMITS: u64 = 40;
const MANY: usize = 1_000;

const QUICK: Duration = Duration::from_millis(50);
/// A relay that nobody wakes looks once a second, and nothing is committed before it sleeps: each of its commits
/// takes longer than this. One that is woken needs a small part of it, and may be late where others work.
pub(crate) const WOKEN: Duration = Duration::from_millis(600);

/// A reader of the engine that has all records there are.
pub(crate) struct Reading(Box<dyn courant::engine::Subscription>);

impl Reading {
    pub(crate) async fn begin(engine: &dyn Engine) -> Self {
        let topic = TopicName::new("test.counted").expect("legal");
        let mut subscription = engine.subscribe(Subscribe::new("reading", vec![topic])).await.expect("joins");
        loop {
            if let Next::Assigned(partitions) = subscription.next(seconds(1)).await.expect("goes on") {
                let starts = partitions.iter().map(|partition| partition.at(0)).collect();
                subscription.seek(starts).expect("it is assigned");
                return Self(subscription);
            }
        }
    }

    /// Waits for the next record.
    pub(crate) async fn one(&mut self) {
        let found =
            async { while !matches!(self.0.next(seconds(1)).await.expect("goes on"), Next::Records(_)) {} };
        tokio::time::timeout(seconds(60), found).await.expect("it is published");
    }
}

/// A service that has nothing to do.
pub(crate) async fn resting(site: &Site) -> Running<Db> {
    let counting = Subscription::named("counting").on(count);
    let service = site.app().await.state(Script::default()).subscribe(counting).build().await;
    let mut service = service.expect("fits together").start().await.expect("starts");
    service.settle().await.expect("settles");
    service
}

/// The time that so many of a hundred took at most.
fn percentile(mut took: Vec<Duration>, percent: usize) -> Duration {
    took.sort_unstable();
    took[(took.len() * percent / 100).min(took.len() - 1)]
}

/// How many commits are made.
pub(crate) fn commits() -> u32 {
    u32::try_from(from_environment("COURANT_WAKE_COMMITS", COMMITS)).expect("small")
}

/// Fails unless as many as have to were quick.
pub(crate) fn assert_quick(took: Vec<Duration>) {
    let (percent, bound) = if took.len() >= MANY { (99, QUICK) } else { (25, WOKEN) };
    let slow = percentile(took, percent);
    assert!(slow < bound, "{percent} % took up to {slow:?}");
}

/// The service itself has committed, in plain code.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_of_the_service_is_published_at_once() {
    let Some(site) = Site::on_memory().await else { return };
    let mut service = resting(&site).await;
    let mut reading = Reading::begin(&**service.engine()).await;
    let mut took = Vec::new();
    for n in 0..commits() {
        let mut tx = service.transaction().await.expect("begins");
        tx.publish(&counted("a", n)).expect("is taken");
        let begun = Instant::now();
        tx.commit().await.expect("commits");
        reading.one().await;
        took.push(begun.elapsed());
        service.settle().await.expect("settles");
    }
    assert_quick(took);
    service.stop().await.expect("stops");
}
