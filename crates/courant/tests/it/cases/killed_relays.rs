//! The relay is killed between publishing and the note of it, again and again.

use std::collections::BTreeMap;

use courant::prelude::*;
use courant::testkit::{FaultPoint, published};
use courant::{EventId, Running};

use super::common::{
    Counted, Db, Site, counted, effect, effects, from_environment, numbered, of_key, publish,
};

/// Kills of a run in the CI. `COURANT_RELAY_KILLS` sets another number; a run before a release takes 200.
const KILLS: u64 = 6;

/// What a counted event leads to, under its key.
#[derive(Event, Serialize, Deserialize, Debug)]
#[event(type = "test.passed-on", topic = "test.passed-on", key = key)]
struct PassedOn {
    key: String,
    n: u32,
}

async fn pass_on(event: Counted, mut tx: Tx<Db>) -> Result<PassedOn, HandlerError> {
    effect(&mut tx, format!("{}:{}", event.key, event.n)).await?;
    Ok(PassedOn { key: event.key, n: event.n })
}

async fn hear(event: PassedOn, mut tx: Tx<Db>) -> Result<(), HandlerError> {
    effect(&mut tx, format!("heard-{}:{}", event.key, event.n)).await
}

async fn passing(site: &Site) -> Running<Db> {
    let passing = Subscription::named("passing").on(pass_on);
    let hearing = Subscription::named("hearing").on(hear);
    let service = site.app().await.subscribe(passing).subscribe(hearing).build().await;
    service.expect("fits together").start().await.expect("starts")
}

/// O5: what was published and not noted is published again, under the id that it has. So it is there more than
/// once, its first copies stand in the order of the commits, and whoever hears it has one effect.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_again_has_its_id_and_one_effect() {
    let Some(site) = Site::on_files().await else { return };
    let kills = u32::try_from(from_environment("COURANT_RELAY_KILLS", KILLS)).expect("small");
    for kill in 1..=kills {
        // One in three finds what the one before it has left: the relay dies while it publishes again.
        let is_early = kill.is_multiple_of(3);
        if is_early {
            site.world.crash_at(FaultPoint::AfterPublish, 0);
        }
        let mut service = passing(&site).await;
        if !is_early {
            service.settle().await.expect("settles");
            site.world.crash_at(FaultPoint::AfterPublish, 0);
        }
        publish(&service, [counted("a", kill)]).await;
        site.world.crashed(u64::from(kill)).await;
        service.kill().await;
    }

    let mut service = passing(&site).await;
    service.settle().await.expect("settles");
    let done = effects(service.store()).await;
    assert_eq!(of_key(&done, "a"), numbered("a", 1..=kills));
    assert_eq!(of_key(&done, "heard-a"), numbered("heard-a", 1..=kills));
    let copies = published::<PassedOn>(&**service.engine()).await.expect("reads");
    let mut ids: BTreeMap<u32, EventId> = BTreeMap::new();
    let mut firsts = Vec::new();
    for copy in &copies {
        let id = copy.meta().id();
        match ids.get(&copy.n) {
            Some(first) => assert_eq!(first, id, "{} has two ids", copy.n),
            None => {
                firsts.push(copy.n);
                ids.insert(copy.n, id.clone());
            }
        }
    }
    assert!(firsts.iter().copied().eq(1..=kills), "{firsts:?}");
    let at_least = kills + kills / 3 * 2;
    assert!(copies.len() >= at_least as usize, "{} copies of {kills}: the kills came too late", copies.len());
    service.stop().await.expect("stops");
}
