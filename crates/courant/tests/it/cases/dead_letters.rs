//! What cannot be handled is kept whole, with the reason, and copied for the world.

use bytes::Bytes;
use courant::engine::{Header, NewRecord};
use courant::prelude::*;
use courant::store_api::{DeadReason, DeadState};

use super::common::{Script, Site, count, counted, effects, publish, seconds};

/// I8: bytes that are no event are a dead letter at once, as they came, and stop nobody. A type that
/// nobody wants is passed and counted.
#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_event_are_kept_as_they_are() {
    let Some(site) = Site::on_memory().await else { return };
    let script = Script::default();
    let counting = Subscription::named("counting").retry(Retry::every(seconds(1))).on(count);
    let service = site.app().await.state(script.clone()).subscribe(counting).build().await;
    let mut service = service.expect("fits together").start().await.expect("starts");
    let raw = |event_type: &'static str, value: &'static [u8]| NewRecord {
        headers: vec![
            Header::new("ce_type", event_type),
            Header::new("ce_id", "raw-1"),
            Header::new("x", "y"),
        ],
        ..NewRecord::new("test.counted", "a", value)
    };
    let wrong = raw("test.counted", b"\xff{ no JSON");
    let foreign = NewRecord { headers: vec![Header::new("ce_type", "of.others")], ..wrong.clone() };
    let without_type = NewRecord { headers: Vec::new(), ..wrong.clone() };
    for answer in service.engine().publish(vec![wrong, foreign, without_type]).await {
        answer.expect("publishes");
    }
    publish(&service, [counted("a", 2)]).await;
    service.settle().await.expect("settles");

    assert_eq!(effects(service.store()).await, ["a:2"]);
    assert_eq!(script.called(), ["a:2"], "the handler never saw the bytes");
    assert_eq!(service.passed(), 2);
    let letters = service.dead_letters().list().await.expect("lists");
    assert_eq!(letters.len(), 1);
    assert_eq!((letters[0].reason, letters[0].attempts), (DeadReason::Undecodable, 1));
    assert_eq!(letters[0].event_id.as_str(), "raw-1");
    let letter = service.dead_letters().show(letters[0].id).await.expect("reads").expect("is there");
    assert_eq!(letter.event.value, Some(Bytes::from_static(b"\xff{ no JSON")));
    assert!(letter.event.headers.contains(&("x".to_owned(), Bytes::from_static(b"y"))));
    service.stop().await.expect("stops");
}

/// D9: a dead letter knows where it was, how often it was tried, when, why, and by which version; and it has the
/// event as it came, with its key and all its headers, those of its trace among them.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_says_what_happened() {
    let Some(site) = Site::on_memory().await else { return };
    let script = Script::default();
    script.fail("a");
    let retry = Retry::every(seconds(10)).attempts(3);
    let counting = Subscription::named("counting").retry(retry).on(count);
    let app = site.app().await.version("2.1").state(script.clone()).subscribe(counting);
    let mut service = app.build().await.expect("fits together").start().await.expect("starts");
    let begun_ms = site.world.now_ms();
    let headers = [
        ("ce_type", "test.counted"),
        ("ce_id", "raw-1"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("tenant", "blue"),
        ("tenant", "green"),
    ];
    let record = NewRecord {
        headers: headers.map(|(name, value)| Header::new(name, value)).to_vec(),
        ..NewRecord::new("test.counted", "a", r#"{"key":"a","n":1}"#)
    };
    for answer in service.engine().publish(vec![record]).await {
        answer.expect("publishes");
    }
    service.settle().await.expect("settles");
    for _ in 0..2 {
        site.advance(&mut service, seconds(10)).await;
    }
    let letters = service.dead_letters().list().await.expect("lists");
    assert_eq!(letters.len(), 1);
    let letter = &letters[0];
    assert_eq!(letter.position.to_string(), "test.counted/0@0");
    assert_eq!((letter.attempts, letter.reason), (3, DeadReason::Exhausted));
    assert_eq!((letter.first_failed_ms, letter.last_failed_ms), (begun_ms, begun_ms + 20_000));
    assert_eq!((letter.state, letter.blocks_key), (DeadState::Dead, true));
    assert_eq!(letter.failure.message, "a is to fail");
    assert!(letter.failure.place.ends_with("count"), "{:?}", letter.failure);
    assert_eq!(letter.code_version, "2.1");
    assert_eq!(
        (letter.consumer.to_string(), letter.event_id.as_str()),
        ("counting (generation 1)".into(), "raw-1")
    );
    let event = service.dead_letters().show(letter.id).await.expect("reads").expect("is there").event;
    assert_eq!(event.key.as_deref(), Some(&b"a"[..]));
    let kept: Vec<_> = event.headers.iter().map(|(name, value)| (name.as_str(), &value[..])).collect();
    assert_eq!(kept, headers.map(|(name, value)| (name, value.as_bytes())));
    service.stop().await.expect("stops");
}

/// The copy for the world has the event as it came, and why it is dead.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_goes_to_the_topic_of_dead_letters() {
    let Some(site) = Site::on_memory().await else { return };
    let script = Script::default();
    script.fail("a");
    let counting = Subscription::named("counting").retry(Retry::never()).on(count);
    let service = site.app().await.state(script.clone()).subscribe(counting).build().await;
    let mut service = service.expect("fits together").start().await.expect("starts");
    publish(&service, [counted("a", 1)]).await;
    service.settle().await.expect("settles");
    let partition = courant::engine::Partition::new("test.counted.counting.dlq", 0);
    let read = service.engine().read(vec![partition.at(0)]).await.pop().expect("an answer");
    let courant::engine::ReadBack::Found(copy) = read.expect("reads") else { panic!("there is a copy") };
    let text = |name: &str| {
        let value = copy.header(name).and_then(|header| header.value.clone()).unwrap_or_default();
        String::from_utf8(value.to_vec()).expect("text")
    };
    assert_eq!(copy.key.as_deref(), Some(&b"a"[..]));
    assert_eq!(text("ce_type"), "test.counted");
    assert_eq!(text("courant-dead-consumer"), "counting");
    assert_eq!(text("courant-dead-error"), "a is to fail");
    assert_eq!(
        (text("courant-dead-topic"), text("courant-dead-offset")),
        ("test.counted".into(), "0".into())
    );
    service.stop().await.expect("stops");
}

/// A handler that knows better: `skip` counts as handled, `dead_letter` lets the key go on.
#[tokio::test(flavor = "multi_thread")]
async fn a_handler_decides_for_itself() {
    use super::common::{Counted, Db, effect};

    async fn decide(event: Counted, mut tx: Tx<Db>) -> Result<(), HandlerError> {
        effect(&mut tx, format!("{}:{}", event.key, event.n)).await?;
        match event.n {
            1 => Err(HandlerError::skip("not ours")),
            2 => Err(HandlerError::dead_letter("nobody can")),
            4 => Err(HandlerError::park("somebody must look")),
            _ => Ok(()),
        }
    }

    let Some(site) = Site::on_memory().await else { return };
    let service = site.app().await.subscribe(Subscription::named("deciding").on(decide)).build().await;
    let mut service = service.expect("fits together").start().await.expect("starts");
    publish(&service, (1..=5).map(|n| counted("a", n))).await;
    service.settle().await.expect("settles");
    assert_eq!(effects(service.store()).await, ["a:3"]);
    let letters = service.dead_letters().list().await.expect("lists");
    let said: Vec<_> = letters.iter().map(|letter| (letter.position.offset, letter.blocks_key)).collect();
    assert_eq!(said, [(1, false), (3, true)]);
    service.stop().await.expect("stops");
}
