//! Events of others: plain JSON by a mapping, and CloudEvents in one JSON object by themselves.

use bytes::Bytes;
use courant::engine::{Header, NewRecord};
use courant::prelude::*;
use courant::store_api::DeadReason;
use courant::testkit::published;
use courant::{Mapping, Running};

use crate::build_errors::codes;
use crate::common::{Site, effect, effects};
use crate::given::all;

#[derive(Event, Serialize, Deserialize)]
#[event(type = "shop.order-placed", topic = "shop.orders", key = order_id)]
struct OrderPlaced {
    #[serde(rename = "orderId")]
    order_id: String,
    cents: i64,
}

#[derive(Event, Serialize, Deserialize)]
#[event(type = "shop.order-billed", topic = "shop.bills", key = order_id)]
struct OrderBilled {
    order_id: String,
}

/// What it was told stands in the effects.
async fn bill(order: OrderPlaced, meta: Meta, mut tx: Tx<Sqlite>) -> Result<OrderBilled, HandlerError> {
    let key = meta.key().map(ToString::to_string).unwrap_or_default();
    let what = format!("{} {} {} {} {key}", order.order_id, order.cents, meta.id(), meta.time_ms());
    effect(&mut tx, what).await?;
    Ok(OrderBilled { order_id: order.order_id })
}

fn billing() -> Subscription<Sqlite> {
    Subscription::named("billing").retry(Retry::never()).on(bill)
}

async fn start(site: &Site, mapping: Option<Mapping>) -> Running<Sqlite> {
    let app = site.app().await.subscribe(billing());
    let app = match mapping {
        Some(mapping) => app.map_envelope("shop.orders", mapping),
        None => app,
    };
    app.build().await.expect("fits together").start().await.expect("starts")
}

fn orders() -> Mapping {
    Mapping::new().rename("OrderPlaced", "shop.order-placed").key("/payload/orderId")
}

fn record(value: impl Into<Bytes>) -> NewRecord {
    NewRecord::new("shop.orders", "k", value)
}

async fn send(service: &Running<Sqlite>, records: Vec<NewRecord>) {
    for answer in service.engine().publish(records).await {
        answer.expect("publishes");
    }
}

/// A moment after the world of the tests has begun.
const RECENT_MS: i64 = 1_700_000_000_005;

const PLACED: &str = r#"{
    "eventType": "OrderPlaced",
    "eventId": "evt-1",
    "timestamp": "1970-01-01T00:00:01Z",
    "correlationId": "c-1",
    "payload": { "orderId": "o-1", "cents": 1200 }
}"#;

/// The plain JSON event is handled as a CloudEvent would be: its id makes two copies one event, what it
/// causes carries on its correlation, and types that nobody wants are passed.
#[tokio::test(flavor = "multi_thread")]
async fn the_plain_json_event_is_handled_once() {
    let site = Site::memory().await;
    let mut service = start(&site, Some(orders())).await;
    let unwanted = r#"{"eventType":"StockCounted","eventId":7}"#;
    send(&service, vec![record(PLACED), record(unwanted), record(PLACED)]).await;
    service.settle().await.expect("settles");
    assert_eq!(effects(service.store()).await, ["o-1 1200 evt-1 1000 o-1"]);
    assert_eq!(service.passed(), 1);
    assert!(service.dead_letters().list().await.expect("lists").is_empty());
    let billed = published::<OrderBilled>(&**service.engine()).await.expect("reads");
    assert_eq!(billed.len(), 1);
    let meta = billed[0].meta();
    assert_eq!((meta.correlation_id(), meta.causation_id()), ("c-1", Some("evt-1")));
    service.stop().await.expect("stops");

    // Progress was made with ids from the mapping, and is found again.
    let mut service = start(&site, Some(orders())).await;
    service.settle().await.expect("settles");
    assert_eq!(effects(service.store()).await.len(), 1);
    service.stop().await.expect("stops");
}

/// Without an id in it, an event has one that is made of its place, so a copy is another event; what else
/// is missing is that of the record. A record that says its type in a header needs no mapping.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_is_that_of_the_record() {
    let site = Site::memory().await;
    let mapping = Mapping::new().type_otherwise("shop.order-placed").payload("/data/0");
    let mut service = start(&site, Some(mapping)).await;
    let bare = r#"{"data":[{"orderId":"bare","cents":1}]}"#;
    let bare = NewRecord { timestamp_ms: Some(RECENT_MS), ..record(bare) };
    let headers = vec![Header::new("ce_type", "shop.order-placed"), Header::new("ce_id", "own")];
    let own =
        NewRecord { headers, timestamp_ms: Some(RECENT_MS), ..record(r#"{"orderId":"own","cents":2}"#) };
    send(&service, vec![bare.clone(), bare, own]).await;
    service.settle().await.expect("settles");
    let effects = effects(service.store()).await;
    assert_eq!(effects.len(), 3);
    let words: Vec<Vec<&str>> = effects.iter().map(|what| what.split(' ').collect()).collect();
    let recent = RECENT_MS.to_string();
    assert_eq!((words[0][0], words[0][3], words[0][4]), ("bare", recent.as_str(), "k"));
    assert_eq!(words[1][0], "bare");
    assert_ne!(words[0][2], words[1][2], "a copy at another place is another event");
    assert_eq!(words[2], ["own", "2", "own", recent.as_str(), "k"]);
    service.stop().await.expect("stops");
}

/// What cannot be read is a dead letter with its bytes and the reason. When the mapping is right, it is
/// sent back and read again, and nobody takes the log for another one because the mapping has changed.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_kept_and_read_again() {
    let site = Site::memory().await;
    let mut service = start(&site, Some(orders())).await;
    let kind = r#"{"kind":"OrderPlaced","eventId":"evt-9","payload":{"orderId":"o-9","cents":9}}"#;
    send(&service, vec![record("no JSON"), record("[]"), record(kind)]).await;
    service.settle().await.expect("settles");
    let mut letters = service.dead_letters().list().await.expect("lists");
    letters.sort_by_key(|letter| letter.position.offset);
    let reasons = ["is to be a JSON object", "is to be a JSON object", "has no type at \"/eventType\""];
    assert_eq!(letters.len(), reasons.len());
    for (letter, reason) in letters.iter().zip(reasons) {
        assert_eq!((letter.reason, letter.failure.kind.as_str()), (DeadReason::Undecodable, "undecodable"));
        assert!(letter.failure.message.contains(reason), "{:?}", letter.failure);
    }
    let letter = service.dead_letters().show(letters[2].id).await.expect("reads").expect("is there");
    assert_eq!(letter.event.value, Some(Bytes::from(kind)), "as it came");
    service.stop().await.expect("stops");

    let mut service = start(&site, Some(orders().event_type("/kind"))).await;
    let dead_letters = service.dead_letters();
    dead_letters.redrive("mapped", "tests", &all()).await.expect("is begun");
    service.settle().await.expect("settles");
    let effects = effects(service.store()).await;
    assert_eq!(effects.len(), 1, "{effects:?}");
    assert!(effects[0].starts_with("o-9 9 "), "{effects:?}");
    service.stop().await.expect("stops");
}

/// CloudEvents' structured mode is read in every topic, without a mapping; what is not JSON in it is
/// refused with a reason.
#[tokio::test(flavor = "multi_thread")]
async fn cloud_events_in_one_object_need_no_mapping() {
    let site = Site::memory().await;
    let mut service = start(&site, None).await;
    let event = r#"{
        "specversion": "1.0", "type": "shop.order-placed", "source": "/shop", "id": "ce-1",
        "time": "1970-01-01T00:00:02+00:00", "subject": "o-2", "tenant": "blue",
        "correlationid": "c-2", "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "data": { "orderId": "o-2", "cents": 5 }
    }"#;
    let binary = r#"{"specversion":"1.0","type":"shop.order-placed","id":"ce-2","data_base64":"AA=="}"#;
    let structured = |value: &'static str| NewRecord {
        headers: vec![Header::new("content-type", "application/cloudevents+json; charset=UTF-8")],
        ..record(value)
    };
    send(&service, vec![structured(event), structured(event), structured(binary)]).await;
    service.settle().await.expect("settles");
    assert_eq!(effects(service.store()).await, ["o-2 5 ce-1 2000 k"]);
    let billed = published::<OrderBilled>(&**service.engine()).await.expect("reads");
    assert_eq!(billed.len(), 1);
    let meta = billed[0].meta();
    assert_eq!((meta.correlation_id(), meta.causation_id()), ("c-2", Some("ce-1")));
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    assert_eq!(meta.traceparent(), Some(trace));
    let letters = service.dead_letters().list().await.expect("lists");
    assert_eq!(letters.len(), 1);
    assert!(letters[0].failure.message.contains("data_base64"), "{:?}", letters[0].failure);
    service.stop().await.expect("stops");
}

/// What is wrong with a mapping is said before anything runs.
#[tokio::test]
async fn mappings_that_cannot_be() {
    let site = Site::memory().await;
    let app = site.app().await.subscribe(billing());
    let app = app.map_envelope("shop.orders", Mapping::new().id("eventId"));
    let app = app.map_envelope("shop.orders", Mapping::new()).map_envelope("shop.ordres", Mapping::new());
    let error = app.build().await.expect_err("is refused");
    let said: Vec<_> = error.problems().iter().map(|problem| (problem.what(), problem.fix())).collect();
    assert_eq!(
        said,
        [
            (
                "the envelope mapping of \"shop.orders\" looks at \"eventId\"",
                "a place is a JSON Pointer: it begins with '/', as \"/payload/orderId\" does, has ~1 for '/' \
                 in a name and ~0 for '~', or is empty and the whole",
            ),
            ("\"shop.orders\" has 2 envelope mappings", "keep one: it reads all events of the topic",),
            (
                "\"shop.ordres\" has an envelope mapping, and no subscription reads it",
                "correct its name, or read it: Subscription::named(\"…\").topic(\"…\")",
            ),
        ]
    );
    assert_eq!(codes(&error), ["mapping-place", "mapping-twice", "mapping-unread"]);
}
