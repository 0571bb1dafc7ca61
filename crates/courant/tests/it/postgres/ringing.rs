//! O7 on Postgres: the commit of another process wakes the relay; if the call is lost, the relay looks by itself.

use std::time::{Duration, Instant};

use bytes::Bytes;
use courant::store_api::{NewEvent, Store as _, Transaction as _};
use courant::{EventId, Running};
use courant_core::topic::TopicName;

use super::common::{Db, Site};
use super::waking::{Reading, WOKEN, assert_quick, commits, resting};

const SILENCED: &str = "alter table courant_outbox disable trigger courant_outbox_ring";

/// Another process commits an event. How long it takes until it is published.
async fn commit(service: &mut Running<Db>, reading: &mut Reading, other: &Db, n: u32) -> Duration {
    let id = format!("evt-{n}");
    let headers = [("ce_id", id.as_str()), ("ce_type", "test.counted")];
    let event = NewEvent {
        id: EventId::new(&id).expect("legal"),
        topic: TopicName::new("test.counted").expect("legal"),
        key: Some(Bytes::from_static(b"a")),
        value: Some(Bytes::from(format!(r#"{{"key":"a","n":{n}}}"#))),
        headers: headers.map(|(name, value)| (name.to_owned(), Bytes::from(value.to_owned()))).to_vec(),
        timestamp_ms: 1_700_000_000_000,
    };
    let mut tx = other.begin(None).await.expect("begins");
    tx.publish(event).expect("is taken");
    let begun = Instant::now();
    tx.commit(1_700_000_000_000).await.expect("commits");
    reading.one().await;
    let took = begun.elapsed();
    service.settle().await.expect("settles");
    took
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_of_another_process_is_published_at_once() {
    let Some(site) = Site::on_memory().await else { return };
    let mut service = resting(&site).await;
    let mut reading = Reading::begin(&**service.engine()).await;
    let other = site.store().await;
    let mut took = Vec::new();
    for n in 0..commits() {
        took.push(commit(&mut service, &mut reading, &other, n).await);
    }
    assert_quick(took);
    service.stop().await.expect("stops");
}

/// Nothing depends on the call: without it all is published, about a second later. So it is the call that makes
/// the others quick.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_lost_costs_a_second() {
    let Some(site) = Site::on_memory().await else { return };
    site.home.run(SILENCED).await;
    let mut service = resting(&site).await;
    let mut reading = Reading::begin(&**service.engine()).await;
    let other = site.store().await;
    let mut took = Vec::new();
    for n in 0..3 {
        took.push(commit(&mut service, &mut reading, &other, n).await);
    }
    // The second begins when the relay lies down, and on a busy machine some of it is over before a commit.
    assert!(took.iter().any(|took| *took > WOKEN), "{took:?}");
    service.stop().await.expect("stops");
}
