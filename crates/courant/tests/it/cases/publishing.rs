//! What plain code publishes leaves with its rows, or not at all, and in the order of the commits.

use std::collections::{BTreeMap, BTreeSet};

use courant::engine::NewTopic;
use courant::prelude::*;
use courant::store_api::Store as _;
use courant::testkit::published;
use courant::{Running, Service, Transactions};
use courant_core::topic::TopicName;

use super::common::{Counted, Db, Script, Site, count, counted, effects, numbered, seconds};
use super::support::{COUNT_UP, INSERT_EFFECT, NUMBER_OF};

const WRITERS: u32 = 8;
const TRANSACTIONS: u32 = 25;
const KEYS: u32 = 3;
/// One transaction of so many is given up.
const GIVEN_UP_EVERY: u32 = 5;

const CREATE_COUNTERS: &str =
    "create table counters (name varchar(40) not null primary key, number bigint not null)";
const BEGIN_COUNTERS: &str =
    "insert into counters (name, number) values ('key-0', 0), ('key-1', 0), ('key-2', 0)";

async fn desk(site: &Site) -> Service<Db> {
    let counting = Subscription::named("counting").on(count);
    let app = site.app().await.state(Script::default()).subscribe(counting);
    app.build().await.expect("fits together")
}

/// O8 for plain code: a transaction that is dropped leaves neither its row nor its event, and one that is
/// committed leaves both, once.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_and_its_event_happen_together_or_not_at_all() {
    let Some(site) = Site::on_memory().await else { return };
    let service = desk(&site).await;
    for (n, is_kept) in [(1, false), (2, true)] {
        let mut tx = service.transaction().await.expect("begins");
        sqlx::query(INSERT_EFFECT).bind(format!("placed:{n}")).execute(&mut *tx).await.expect("inserts");
        tx.publish(&counted("a", n)).expect("is taken");
        if is_kept {
            tx.commit().await.expect("commits");
        }
    }
    let mut service = service.start().await.expect("starts");
    service.settle().await.expect("settles");
    assert_eq!(effects(service.store()).await, ["placed:2", "a:2"]);
    let events = published::<Counted>(&**service.engine()).await.expect("reads");
    assert_eq!(events.len(), 1);
    service.stop().await.expect("stops");
}

/// A request: a row and its event.
async fn serve(transactions: Transactions<Db>, n: u32) {
    let mut tx = transactions.begin().await.expect("begins");
    sqlx::query(INSERT_EFFECT).bind(format!("placed:{n}")).execute(&mut *tx).await.expect("inserts");
    tx.publish(&counted(&format!("key-{n}"), n)).expect("is taken");
    tx.commit().await.expect("commits");
}

/// A service that runs until it is told to stop has nobody who could lend it. Whoever serves requests meanwhile has a
/// clone of what begins transactions.
#[tokio::test(flavor = "multi_thread")]
async fn requests_are_served_while_the_service_runs() {
    let Some(site) = Site::on_memory().await else { return };
    let service = desk(&site).await;
    let transactions = service.transactions();
    let store = site.store().await;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = Box::pin(service.run_until(async {
        let _ = stopped.await;
    }));
    let serving = Box::pin(async {
        let requests: Vec<_> = (0..4).map(|n| tokio::spawn(serve(transactions.clone(), n))).collect();
        for request in requests {
            request.await.expect("it is served");
        }
        let handled = async {
            while effects(&store).await.len() < 8 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(seconds(60), handled).await.expect("the events are handled");
        stop.send(()).expect("the service waits for it");
    });
    let (ran, ()) = tokio::join!(running, serving);
    ran.expect("stops");
    let mut done = effects(&store).await;
    done.sort_unstable();
    let handled = (0..4).map(|n| format!("key-{n}:{n}"));
    assert_eq!(done, handled.chain((0..4).map(|n| format!("placed:{n}"))).collect::<Vec<_>>());
}

/// An event of a topic that takes few bytes.
#[derive(Event, Serialize, Deserialize, Debug)]
#[event(type = "test.narrow", topic = "test.narrow", key = key)]
struct Narrow {
    key: String,
    n: u32,
    padding: String,
}

/// One transaction publishes three events of a key, and the second one is larger than its topic takes. The
/// engine would store the third one, and the second one behind it as soon as somebody lets the topic take more.
/// So nothing of the key is sent behind what is refused; other keys go on.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_key_overtakes_what_its_topic_refuses() {
    let Some(site) = Site::on_memory().await else { return };
    let service = desk(&site).await.start().await.expect("starts");
    let narrow = NewTopic::new(TopicName::new("test.narrow").expect("legal"), 1);
    let narrow = narrow.with("max.message.bytes", "2000");
    service.engine().create_topics(vec![narrow]).await.remove(0).expect("creates");
    let mut tx = service.transaction().await.expect("begins");
    for (key, n, bytes) in [("a", 1, 10), ("a", 2, 5_000), ("a", 3, 10), ("b", 1, 10)] {
        let event = Narrow { key: key.to_owned(), n, padding: "x".repeat(bytes) };
        tx.publish(&event).expect("is taken");
    }
    tx.commit().await.expect("commits");
    // What was taken in the first call is out of the outbox after it.
    let first_call = async {
        while service.store().outbox_backlog().await.expect("counts") > 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(seconds(60), first_call).await.expect("two events are published");
    let found = published::<Narrow>(&**service.engine()).await.expect("reads");
    let mut found: Vec<_> = found.iter().map(|event| (event.key.as_str(), event.n)).collect();
    found.sort_unstable();
    assert_eq!(found, [("a", 1), ("b", 1)]);
    service.stop().await.expect("stops");
}

/// One writer: counts its key up in a table of the service's own, and publishes the number that it got.
async fn write(service: &Running<Db>, writer: u32, n: u32) -> u32 {
    let key = format!("key-{}", (writer + n) % KEYS);
    let mut tx = service.transaction().await.expect("begins");
    sqlx::query(COUNT_UP).bind(key.as_str()).execute(&mut *tx).await.expect("counts");
    let (number,): (i64,) =
        sqlx::query_as(NUMBER_OF).bind(key.as_str()).fetch_one(&mut *tx).await.expect("selects");
    tx.publish(&counted(&key, u32::try_from(number).expect("small"))).expect("is taken");
    if n.is_multiple_of(GIVEN_UP_EVERY) {
        return 0;
    }
    tx.commit().await.expect("commits");
    1
}

/// O1 and O2: writers that wait for each other, give up and commit side by side. Each committed event is
/// in the log once, no other is, and those of a key have the numbers in the order of the commits.
#[tokio::test(flavor = "multi_thread")]
async fn events_of_a_key_leave_in_the_order_of_the_commits() {
    let Some(site) = Site::on_memory().await else { return };
    site.home.run(CREATE_COUNTERS).await;
    site.home.run(BEGIN_COUNTERS).await;
    let mut service = desk(&site).await.start().await.expect("starts");
    let writers = (0..WRITERS).map(|writer| {
        let service = &service;
        async move {
            let mut committed = 0;
            for n in 0..TRANSACTIONS {
                committed += write(service, writer, n).await;
            }
            committed
        }
    });
    let committed: u32 = join_all(writers).await.into_iter().sum();
    assert_eq!(committed, WRITERS * TRANSACTIONS * (GIVEN_UP_EVERY - 1) / GIVEN_UP_EVERY);
    service.settle().await.expect("settles");

    let mut ids = BTreeSet::new();
    let mut keys: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    for event in published::<Counted>(&**service.engine()).await.expect("reads") {
        assert!(ids.insert(event.meta().id().to_string()), "{} is there twice", event.meta().id());
        keys.entry(event.key.clone()).or_default().push(event.n);
    }
    assert_eq!(ids.len(), committed as usize);
    let done = effects(service.store()).await;
    for (key, numbers) in keys {
        let last = u32::try_from(numbers.len()).expect("small");
        assert!(numbers.iter().copied().eq(1..=last), "{key}: {numbers:?}");
        assert_eq!(super::common::of_key(&done, &key), numbered(&key, 1..=last));
    }
    service.stop().await.expect("stops");
}

/// All of them at once, on this task: their waits are beside each other.
async fn join_all<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut running: Vec<_> = futures.map(Box::pin).collect();
    let mut ended: Vec<Option<F::Output>> = running.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (future, ended) in running.iter_mut().zip(&mut ended) {
            if ended.is_none()
                && let std::task::Poll::Ready(output) = future.as_mut().poll(context)
            {
                *ended = Some(output);
            }
        }
        if ended.iter().all(Option::is_some) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    ended.into_iter().flatten().collect()
}
