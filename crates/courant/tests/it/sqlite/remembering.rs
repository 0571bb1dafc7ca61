//! I3: a consumer remembers what it has handled for as long as it can come again, and no longer.

use std::time::Duration;

use courant::engine::{Header, NewRecord, NewTopic};
use courant::prelude::*;
use courant::{EventId, Running};
use courant_core::topic::TopicName;

use super::common::{Counted, Script, Site, all, counted, effect, effects, numbered, of_key, seconds};

/// More than lie between two looks at what can be forgotten.
const MANY: u32 = 10_100;
const BATCH: u32 = 1_010;

/// Of others nothing is noted but that they were handled.
async fn note(event: Counted, State(script): State<Script>, mut tx: Tx<Sqlite>) -> Result<(), HandlerError> {
    if event.key.starts_with("other") {
        return Ok(());
    }
    let what = format!("{}:{}", event.key, event.n);
    effect(&mut tx, what.clone()).await?;
    script.call(&event.key, &what).map_err(HandlerError::retry)
}

const fn days(days: u64) -> Duration {
    seconds(days * 24 * 3600)
}

/// So many other events are handled, and what can be forgotten by then is.
async fn many_others(service: &mut Running<Sqlite>, day: u32) {
    for first in (0..MANY).step_by(BATCH as usize) {
        let records = (first..first + BATCH).map(|n| {
            let key = format!("other-{}", n % 100);
            let value = format!(r#"{{"key":"{key}","n":{n}}}"#);
            let id = format!("day-{day}-{n}");
            NewRecord {
                headers: vec![Header::new("ce_type", "test.counted"), Header::new("ce_id", id)],
                ..NewRecord::new("test.counted", key, value)
            }
        });
        for answer in service.engine().publish(records.collect()).await {
            answer.expect("publishes");
        }
    }
    service.settle().await.expect("settles");
}

async fn remembered(store: &Sqlite) -> i64 {
    let mut reader = store.read().await.expect("reads");
    let count = sqlx::query_scalar("select count(*) from courant_inbox");
    count.fetch_one(&mut *reader).await.expect("counts")
}

/// The topic is there before the service, and keeps events for a week: what has no such bound is remembered
/// for ever.
async fn topic_of_a_week(site: &Site) {
    let service = site.app().await.build().await.expect("fits together").start().await.expect("starts");
    let topic = NewTopic::new(TopicName::new("test.counted").expect("legal"), 1);
    let topic = topic.with("retention.ms", days(7).as_millis().to_string());
    service.engine().create_topics(vec![topic]).await.remove(0).expect("creates");
    service.stop().await.expect("stops");
}

/// Sent under an id of its own, once more each time.
async fn send(service: &Running<Sqlite>, key: &str) {
    let id = EventId::new(&format!("evt-{key}")).expect("legal");
    service.publisher().publish_as(&id, &counted(key, 1)).await.expect("publishes");
}

/// Eight days are longer than others remember, who forget after minutes or a week: a letter that is sent back
/// after them has one effect, and so has what its producer sends once more. Topics keep events for a week here,
/// so that after ten weeks nobody can have them any more, and they are forgotten.
#[tokio::test(flavor = "multi_thread")]
async fn a_letter_that_is_sent_back_after_eight_days_has_one_effect() {
    let site = Site::memory().await;
    topic_of_a_week(&site).await;
    let script = Script::default();
    script.fail("a");
    let noting = Subscription::named("noting").concurrency(1).batchable(500).retry(Retry::never()).on(note);
    let service = site.app().await.state(script.clone()).subscribe(noting).build().await;
    let mut service = service.expect("fits together").start().await.expect("starts");
    for key in ["a", "b"] {
        send(&service, key).await;
    }
    service.settle().await.expect("settles");
    assert_eq!(effects(service.store()).await, ["b:1"]);

    site.advance(&mut service, days(8)).await;
    many_others(&mut service, 8).await;
    script.repair("a");
    service.dead_letters().redrive("late", "tests", &all()).await.expect("asks");
    service.settle().await.expect("settles");
    for key in ["a", "b"] {
        send(&service, key).await;
    }
    service.settle().await.expect("settles");
    service.dead_letters().redrive("again", "tests", &all()).await.expect("asks");
    service.settle().await.expect("settles");
    let done = effects(service.store()).await;
    assert_eq!((of_key(&done, "a"), of_key(&done, "b")), (numbered("a", 1..=1), numbered("b", 1..=1)));

    site.advance(&mut service, days(62)).await;
    many_others(&mut service, 70).await;
    let only_young = async {
        while remembered(service.store()).await > i64::from(MANY) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(seconds(60), only_young).await.expect("what is old is forgotten");
    send(&service, "b").await;
    service.settle().await.expect("settles");
    assert_eq!(of_key(&effects(service.store()).await, "b"), ["b:1", "b:1"]);
    service.stop().await.expect("stops");
}
