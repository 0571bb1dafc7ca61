//! What a dead letter is edited to is held against the type of its handler.

use courant::Mapping;
use courant::channel::{Action, Outcome, Refusal};
use courant::engine::{Header, NewRecord};
use courant::prelude::*;
use courant::testkit::World;
use courant_core::operations::hex;

use crate::channel::{answered, asked, key};
use crate::given::{Counted, counted};

/// An edit of a letter under a new id.
fn edit(letter: i64, event_id: &str, value: Option<&str>, headers: &[(&str, &str)], force: bool) -> Action {
    Action::Edit {
        letter,
        event_id: event_id.to_owned(),
        value_hex: value.map(|value| hex(value.as_bytes())),
        headers: headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        deleted: Vec::new(),
        force,
        reason: "a typo".to_owned(),
    }
}

fn reason_of(outcomes: &[Outcome]) -> &str {
    match outcomes {
        [Outcome::Refused { why: Refusal::NotUnderstood, reason }] => reason,
        other => panic!("{other:?}"),
    }
}

/// D6: what its handler could not read is refused, with what is wrong, and the letter stays as it is. What is read
/// is taken, and what is not when somebody insists.
#[tokio::test(flavor = "multi_thread")]
async fn what_no_handler_reads_is_refused() {
    let world = World::new(7);
    let directory = tempfile::tempdir().expect("a directory");
    let engine = world.engine("memory:").await.expect("opens");
    let mut service = asked(&world, &engine, &directory.path().join("shop.db")).await;
    service.publisher().publish(&counted("a", 1)).await.expect("is taken");
    service.settle().await.expect("settles");
    let letter = service.dead_letters().list().await.expect("lists")[0].clone();

    let no_headers: &[(&str, &str)] = &[];
    let other_type: &[(&str, &str)] = &[("ce_type", "test.unheard")];
    for (id, value, headers, wrong) in [
        ("r-1", Some(r#"{"key":"a","n":"one"}"#), no_headers, "expected u32"),
        ("r-2", Some(r#"{"key":"a"}"#), no_headers, "missing field `n`"),
        ("r-3", None, other_type, "no handler"),
    ] {
        let action = edit(letter.id, "edited", value, headers, false);
        let refused = answered(&world, &*engine, &mut service, id, action).await;
        assert!(reason_of(&refused).contains(wrong), "{refused:?}");
    }
    let shown = service.dead_letters().show(letter.id).await.expect("reads").expect("is there");
    assert_eq!(shown.summary, letter, "nothing has changed");
    assert!(service.dead_letters().notes(letter.id).await.expect("lists").is_empty());

    for (id, event_id, value, force) in [
        ("r-4", "forced", r#"{"key":"a","n":"one"}"#, true),
        ("r-5", "edited", r#"{"key":"a","n":2}"#, false),
    ] {
        let action = edit(letter.id, event_id, Some(value), &[], force);
        let taken = answered(&world, &*engine, &mut service, id, action).await;
        assert!(matches!(taken[..], [Outcome::Edited { .. }]), "{taken:?}");
    }
    let shown = service.dead_letters().show(letter.id).await.expect("reads").expect("is there");
    assert_eq!(shown.event.id.as_str(), "edited");
    service.stop().await.expect("stops");
}

/// Whoever changes a header has not written the value: what it says is in no answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_says_nothing_of_what_an_event_says() {
    let world = World::new(7);
    let directory = tempfile::tempdir().expect("a directory");
    let engine = world.engine("memory:").await.expect("opens");
    let mut service = asked(&world, &engine, &directory.path().join("shop.db")).await;
    let headers = vec![Header::new("ce_type", "test.counted")];
    let value = r#"{"key":"a","n":"canary"}"#;
    let record = NewRecord { headers, ..NewRecord::new("test.counted", "a", value) };
    for answer in engine.publish(vec![record]).await {
        answer.expect("publishes");
    }
    service.settle().await.expect("settles");
    let letter = service.dead_letters().list().await.expect("lists")[0].id;
    let headers_alone = edit(letter, "edited", None, &[("x", "y")], false);
    let refused = answered(&world, &*engine, &mut service, "r-1", headers_alone).await;
    let reason = reason_of(&refused);
    assert!(reason.contains("not what the type says at line 1") && !reason.contains("canary"), "{reason}");
    service.stop().await.expect("stops");
}

/// An event whose type cannot do with every number.
#[derive(Event, Serialize, Deserialize, Clone, Debug)]
#[event(type = "test.brittle", topic = "test.brittle", key = key)]
struct Brittle {
    key: String,
    #[serde(deserialize_with = "hundredth")]
    n: u32,
}

fn hundredth<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let n = <u32 as serde::Deserialize>::deserialize(deserializer)?;
    assert!(n > 0, "canary {n}");
    Ok(100 / n)
}

async fn take_brittle(_: Brittle) -> Result<(), HandlerError> {
    Ok(())
}

/// Symptom: an edit of a dead letter was answered by nobody, until its time was over. Cause: the type of its handler
/// panics over what the letter was to say, and the request was followed in the same task. Fix: bytes over which a type
/// panics are not its event, in an edit as when they are delivered.
#[tokio::test(flavor = "multi_thread")]
async fn a_type_that_panics_is_a_reason_to_refuse() {
    let world = World::new(7);
    let directory = tempfile::tempdir().expect("a directory");
    let engine = world.engine("memory:").await.expect("opens");
    let app = App::new("shop").engine(engine.clone()).in_world(&world).operations(key()).partitions(1);
    let app = app.store(Sqlite::open(&directory.path().join("shop.db")).await.expect("opens"));
    let app = app.subscribe(Subscription::named("billing").retry(Retry::never()).on(take_brittle));
    let mut service = app.build().await.expect("fits together").start().await.expect("starts");
    let event = Brittle { key: "a".to_owned(), n: 0 };
    service.publisher().publish(&event).await.expect("is taken");
    service.settle().await.expect("settles");
    let letter = service.dead_letters().list().await.expect("lists")[0].id;

    let again = edit(letter, "e", Some(r#"{"key":"a","n":0}"#), &[], false);
    let refused = answered(&world, &*engine, &mut service, "r-1", again).await;
    assert!(reason_of(&refused).contains("its type panicked: canary 0"), "{refused:?}");
    let headers_alone = edit(letter, "e", None, &[("x", "y")], false);
    let refused = answered(&world, &*engine, &mut service, "r-2", headers_alone).await;
    let reason = reason_of(&refused);
    assert!(reason.contains("not what the type says") && !reason.contains("canary"), "{reason}");

    let right = edit(letter, "e", Some(r#"{"key":"a","n":5}"#), &[], false);
    let taken = answered(&world, &*engine, &mut service, "r-3", right).await;
    assert!(matches!(taken[..], [Outcome::Edited { .. }]), "{taken:?}");
    service.stop().await.expect("stops");
}

async fn take(_: Counted) -> Result<(), HandlerError> {
    Ok(())
}

/// Symptom: an edit of an event of others that their envelope could not be read of was refused with a word about
/// handlers for its type, of which it has none. Cause: that it cannot be read was told like a type that nobody reads.
/// Fix: what is wrong is said, to whoever has written the value; a header that is wrong says nothing of the value.
#[tokio::test(flavor = "multi_thread")]
async fn an_envelope_that_cannot_be_read_is_told_as_such() {
    let world = World::new(7);
    let directory = tempfile::tempdir().expect("a directory");
    let engine = world.engine("memory:").await.expect("opens");
    let app = App::new("shop").engine(engine.clone()).in_world(&world).operations(key()).partitions(1);
    let app = app.store(Sqlite::open(&directory.path().join("shop.db")).await.expect("opens"));
    let billing = Subscription::named("billing").retry(Retry::never());
    let app = app.subscribe(billing.on(take)).map_envelope("test.counted", Mapping::new());
    let mut service = app.build().await.expect("fits together").start().await.expect("starts");
    let value = r#"{"eventType":"test.counted","timestamp":"canary","payload":{"key":"a","n":1}}"#;
    for answer in engine.publish(vec![NewRecord::new("test.counted", "a", value)]).await {
        answer.expect("publishes");
    }
    service.settle().await.expect("settles");
    let letter = service.dead_letters().list().await.expect("lists")[0].id;

    let wrong = r#"{"eventType":"test.counted","timestamp":"today","payload":{"key":"a","n":1}}"#;
    let refused =
        answered(&world, &*engine, &mut service, "r-1", edit(letter, "e", Some(wrong), &[], false)).await;
    let reason = reason_of(&refused);
    assert!(reason.contains("time of RFC 3339") && reason.contains("today"), "{reason}");
    let headers_alone = edit(letter, "e", None, &[("x", "y")], false);
    let refused = answered(&world, &*engine, &mut service, "r-2", headers_alone).await;
    let reason = reason_of(&refused);
    assert!(reason.contains("envelope mapping") && !reason.contains("canary"), "{reason}");

    let right = r#"{"eventType":"test.counted","payload":{"key":"a","n":1}}"#;
    let taken =
        answered(&world, &*engine, &mut service, "r-3", edit(letter, "e", Some(right), &[], false)).await;
    assert!(matches!(taken[..], [Outcome::Edited { .. }]), "{taken:?}");
    service.stop().await.expect("stops");
}
