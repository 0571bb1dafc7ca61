//! A fact that several parts of a system find out, each by itself: told again and again, it has one effect.

use courant::prelude::*;
use courant::testkit::published;
use courant::{EventId, Running};

use super::common::{Counted, Db, Site, counted, effect, effects, publish};

/// What somebody finds out about a key.
#[derive(Event, Serialize, Deserialize, Debug)]
#[event(type = "test.settled", topic = "test.settled", key = key)]
struct Settled {
    key: String,
    found_by: String,
}

impl Settled {
    fn found_by(key: &str, who: &str) -> Self {
        Self { key: key.to_owned(), found_by: who.to_owned() }
    }

    /// Says which fact it is, and nothing of who has found it.
    fn id(&self) -> EventId {
        EventId::new(&format!("settled/{}", self.key)).expect("legal")
    }
}

/// Every event of a key makes it find out the same.
async fn find(event: Counted, mut tx: Tx<Db>) -> Result<(), HandlerError> {
    let settled = Settled::found_by(&event.key, "handler");
    Ok(tx.publish_as(&settled.id(), &settled)?)
}

async fn hear(event: Settled, mut tx: Tx<Db>) -> Result<(), HandlerError> {
    effect(&mut tx, format!("{}:settled", event.key)).await
}

async fn started(site: &Site) -> Running<Db> {
    let finding = Subscription::named("finding").on(find);
    let hearing = Subscription::named("hearing").on(hear);
    let service = site.app().await.subscribe(finding).subscribe(hearing).build().await;
    service.expect("fits together").start().await.expect("starts")
}

/// I6: handlers, plain code and a publisher tell of one fact, before a restart and behind it. It is in the log
/// as often as it was told, each time under its one id, and has one effect. Another fact has its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_fact_that_is_published_again_and_again_has_one_effect() {
    let Some(site) = Site::on_memory().await else { return };
    let mut service = started(&site).await;
    publish(&service, [counted("a", 1), counted("a", 2), counted("b", 1)]).await;
    service.settle().await.expect("settles");
    service.stop().await.expect("stops");

    let mut service = started(&site).await;
    let (by_code, by_hand) = (Settled::found_by("a", "plain code"), Settled::found_by("a", "publisher"));
    let mut tx = service.transaction().await.expect("begins");
    tx.publish_as(&by_code.id(), &by_code).expect("is taken");
    tx.commit().await.expect("commits");
    service.publisher().publish_as(&by_hand.id(), &by_hand).await.expect("publishes");
    service.settle().await.expect("settles");

    let mut done = effects(service.store()).await;
    done.sort_unstable();
    assert_eq!(done, ["a:settled", "b:settled"]);
    let told = published::<Settled>(&**service.engine()).await.expect("reads");
    let mut told: Vec<_> = told.iter().map(|told| (told.meta().id().as_str(), &*told.found_by)).collect();
    told.sort_unstable();
    let expected = [
        ("settled/a", "handler"),
        ("settled/a", "handler"),
        ("settled/a", "plain code"),
        ("settled/a", "publisher"),
        ("settled/b", "handler"),
    ];
    assert_eq!(told, expected);
    service.stop().await.expect("stops");
}
