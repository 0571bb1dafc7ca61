//! Layers stand around handlers, inside of their transactions. They can refuse a call and stop it; they can
//! neither repeat it nor invent what came of it.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use courant::layer::{Call, Extension, Handled, Next, Timeout, Trace, from_fn};
use courant::prelude::*;
use courant::store_api::DeadReason;
use tower_layer::Layer;
use tower_service::Service;
use tracing::field::{Field, Visit};
use tracing::span;

use crate::common::{Script, Site, count, counted, effect, effects, numbered, publish, seconds};
use crate::given::{Counted, Loose};

type Log = Arc<Mutex<Vec<String>>>;

fn note(log: &Log, what: String) {
    log.lock().expect("nobody panics with it").push(what);
}

/// A layer as it is written for tower: notes each call, and whether it was handled.
#[derive(Clone)]
struct Noting {
    name: &'static str,
    log: Log,
}

impl<V> Layer<V> for Noting {
    type Service = NotingService<V>;

    fn layer(&self, inner: V) -> NotingService<V> {
        NotingService { inner, noting: self.clone() }
    }
}

#[derive(Clone)]
struct NotingService<V> {
    inner: V,
    noting: Noting,
}

impl<V> Service<Call> for NotingService<V>
where
    V: Service<Call, Response = Handled>,
    V::Future: Send + 'static,
{
    type Response = Handled;
    type Error = V::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Handled, V::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), V::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, call: Call) -> Self::Future {
        let Noting { name, log } = self.noting.clone();
        note(
            &log,
            format!("{name}: {} of {}, attempt {}", call.event_type(), call.consumer(), call.attempt()),
        );
        let called = self.inner.call(call);
        Box::pin(async move {
            let said = called.await;
            note(&log, format!("{name}: {}", if said.is_ok() { "handled" } else { "failed" }));
            said
        })
    }
}

/// D12: retries are outside of layers. Each attempt goes through all of them once, the service's before the
/// subscription's.
#[tokio::test(flavor = "multi_thread")]
async fn every_attempt_goes_through_the_layers_once() {
    let site = Site::memory().await;
    let (script, log) = (Script::default(), Log::default());
    script.fail_times("a:1", 1);
    let noting = |name| Noting { name, log: log.clone() };
    let counting = Subscription::named("counting").retry(Retry::every(seconds(1)));
    let counting = counting.layer(noting("second")).layer(noting("third")).on(count);
    let app = site.app().await.layer(noting("first")).state(script.clone()).subscribe(counting);
    let mut service = app.build().await.expect("fits together").start().await.expect("starts");
    publish(&service, [counted("a", 1)]).await;
    service.settle().await.expect("settles");
    site.advance(&mut service, seconds(1)).await;
    service.stop().await.expect("stops");

    let names = ["first", "second", "third"];
    let mut expected = Vec::new();
    for (attempt, came_to) in [(1, "failed"), (2, "handled")] {
        expected.extend(names.map(|name| format!("{name}: test.counted of counting, attempt {attempt}")));
        expected.extend(["third", "second", "first"].map(|name| format!("{name}: {came_to}")));
    }
    assert_eq!(*log.lock().expect("nobody panics with it"), expected);
    assert_eq!(effects(&site.store().await).await, numbered("a", 1..=1));
}

/// What a layer makes a failure of is rolled back, although the handler has succeeded; and what a layer
/// refuses never reaches the handler.
#[tokio::test(flavor = "multi_thread")]
async fn a_layer_that_fails_has_the_transaction_rolled_back() {
    let site = Site::memory().await;
    let script = Script::default();
    let late = from_fn(|call: Call, next: Next| async move {
        let is_first = call.attempt() == 1;
        let handled = next.run(call).await?;
        if is_first { Err(HandlerError::retry("too late")) } else { Ok(handled) }
    });
    let strict = from_fn(|call: Call, next: Next| async move {
        if call.meta().key().and_then(|key| key.as_text()) == Some("b") {
            return Err(HandlerError::skip("not ours"));
        }
        next.run(call).await
    });
    let counting = Subscription::named("counting").retry(Retry::every(seconds(1)));
    let counting = counting.layer(late).layer(strict).on(count);
    let app = site.app().await.state(script.clone()).subscribe(counting);
    let mut service = app.build().await.expect("fits together").start().await.expect("starts");
    publish(&service, [counted("a", 1), counted("b", 1)]).await;
    service.settle().await.expect("settles");
    assert!(effects(service.store()).await.is_empty());
    site.advance(&mut service, seconds(1)).await;
    assert_eq!(effects(service.store()).await, ["a:1"]);
    assert_eq!(script.called(), ["a:1", "a:1"], "b:1 was skipped before its handler");
    assert!(service.dead_letters().list().await.expect("lists").is_empty());
    service.stop().await.expect("stops");
}

#[derive(Clone)]
struct Tenant(String);

async fn for_tenant(
    event: Counted,
    Extension(tenant): Extension<Tenant>,
    mut tx: Tx<Sqlite>,
) -> Result<(), HandlerError> {
    effect(&mut tx, format!("{}:{}", tenant.0, event.n)).await
}

/// What a layer adds to the call is there for the handler; a call without it fails with a reason.
#[tokio::test(flavor = "multi_thread")]
async fn a_layer_gives_a_handler_what_it_asks_for() {
    let site = Site::memory().await;
    let tenant = from_fn(|mut call: Call, next: Next| async move {
        let key = call.meta().key().map(ToString::to_string).unwrap_or_default();
        if key != "nobody" {
            call.extensions_mut().insert(Tenant(format!("tenant-{key}")));
        }
        next.run(call).await
    });
    let serving = Subscription::named("serving").retry(Retry::never()).layer(tenant).on(for_tenant);
    let app = site.app().await.subscribe(serving);
    let mut service = app.build().await.expect("fits together").start().await.expect("starts");
    publish(&service, [counted("a", 1), counted("nobody", 1)]).await;
    service.settle().await.expect("settles");
    assert_eq!(effects(service.store()).await, ["tenant-a:1"]);
    let letters = service.dead_letters().list().await.expect("lists");
    assert_eq!(letters.len(), 1);
    assert!(letters[0].failure.message.contains("no layer has added a"), "{:?}", letters[0].failure);
    service.stop().await.expect("stops");
}

async fn hang(event: Counted, mut tx: Tx<Sqlite>) -> Result<(), HandlerError> {
    effect(&mut tx, format!("{}:{}", event.key, event.n)).await?;
    if event.key == "hangs" {
        std::future::pending::<()>().await;
    }
    Ok(())
}

/// What takes too long leaves nothing, is tried again, and does not keep its connection from others.
#[tokio::test(flavor = "multi_thread")]
async fn what_takes_too_long_is_stopped() {
    let site = Site::memory().await;
    let hanging = Subscription::named("hanging").retry(Retry::every(seconds(1)).attempts(2));
    let hanging = hanging.timeout(seconds(3600)).layer(Timeout::after(seconds(5))).on(hang);
    let service = site.app().await.subscribe(hanging).build().await;
    let mut service = service.expect("fits together").start().await.expect("starts");
    publish(&service, [counted("hangs", 1)]).await;
    // The handler is called before its time runs, so the clock goes on until it has run out twice.
    while service.dead_letters().list().await.expect("lists").is_empty() {
        site.world.advance(seconds(1));
        tokio::task::yield_now().await;
    }
    publish(&service, [counted("fine", 1)]).await;
    service.settle().await.expect("settles");
    assert_eq!(effects(service.store()).await, ["fine:1"]);
    let letters = service.dead_letters().list().await.expect("lists");
    assert_eq!((letters.len(), letters[0].attempts), (1, 2));
    let failure = &letters[0].failure;
    assert_eq!(
        (failure.kind.as_str(), failure.message.as_str()),
        ("timeout", "the handler took longer than 5s")
    );
    service.stop().await.expect("stops");
}

async fn pass(event: Loose, mut tx: Tx<Sqlite>) -> Result<(), HandlerError> {
    effect(&mut tx, format!("fine:{}", event.n)).await
}

/// A layer that knows nothing of us stops a handler in the middle of a transaction: nothing is committed of
/// it, and the connection is not used again. Its second is one of the machine's, in which another handler may
/// have no turn: only the one that hangs is under it.
#[tokio::test(flavor = "multi_thread")]
async fn the_timeout_of_tower_fits() {
    let site = Site::memory().await;
    let hanging = Subscription::named("hanging").retry(Retry::never());
    let hanging = hanging.layer(tower::timeout::TimeoutLayer::new(Duration::from_secs(1))).on(hang);
    let passing = Subscription::named("passing").on(pass);
    let service = site.app().await.subscribe(hanging).subscribe(passing).build().await;
    let mut service = service.expect("fits together").start().await.expect("starts");
    publish(&service, [counted("hangs", 1)]).await;
    service.settle().await.expect("settles");
    service.publisher().publish(&Loose { n: 1 }).await.expect("publishes");
    service.settle().await.expect("settles");
    assert_eq!(effects(service.store()).await, ["fine:1"]);
    let letters = service.dead_letters().list().await.expect("lists");
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].failure.kind, "layer", "{:?}", letters[0].failure);
    service.stop().await.expect("stops");
}

/// What one call came to is no answer to another one: nothing is handled that was not handled.
#[tokio::test(flavor = "multi_thread")]
async fn a_layer_cannot_answer_for_another_call() {
    let site = Site::memory().await;
    let script = Script::default();
    let kept: Arc<Mutex<Option<Handled>>> = Arc::default();
    let mixing = from_fn(move |call: Call, next: Next| {
        let kept = kept.clone();
        async move {
            let other = kept.lock().expect("nobody panics with it").take();
            if let Some(other) = other {
                return Ok(other);
            }
            let handled = next.run(call).await?;
            *kept.lock().expect("nobody panics with it") = Some(handled);
            Err(HandlerError::dead_letter("kept for the next one"))
        }
    });
    let counting =
        Subscription::named("counting").concurrency(1).retry(Retry::never()).layer(mixing).on(count);
    let app = site.app().await.state(script.clone()).subscribe(counting);
    let mut service = app.build().await.expect("fits together").start().await.expect("starts");
    publish(&service, [counted("a", 1)]).await;
    service.settle().await.expect("settles");
    publish(&service, [counted("b", 1)]).await;
    service.settle().await.expect("settles");
    assert!(effects(service.store()).await.is_empty());
    assert_eq!(script.called(), ["a:1"]);
    let letters = service.dead_letters().list().await.expect("lists");
    let mut kinds: Vec<&str> = letters.iter().map(|letter| letter.failure.kind.as_str()).collect();
    kinds.sort_unstable();
    assert_eq!(kinds, ["courant::layer::call::OtherCall", "message"]);
    service.stop().await.expect("stops");
}

/// A layer that panics fails its call, and nothing else; bytes that cannot be decoded stay undecodable,
/// whatever layers make of them.
#[tokio::test(flavor = "multi_thread")]
async fn a_layer_that_panics_ends_nothing_else() {
    let site = Site::memory().await;
    let script = Script::default();
    let panicking = from_fn(|call: Call, next: Next| async move {
        assert!(call.attempt() > 1, "on purpose");
        next.run(call).await
    });
    let soothing = from_fn(|call: Call, next: Next| async move {
        next.run(call).await.map_err(|_| HandlerError::retry("it will be better next time"))
    });
    let counting = Subscription::named("counting").retry(Retry::every(seconds(1)).attempts(3));
    let counting = counting.layer(soothing).layer(panicking).on(count);
    let app = site.app().await.state(script.clone()).subscribe(counting);
    let mut service = app.build().await.expect("fits together").start().await.expect("starts");
    publish(&service, [counted("a", 1)]).await;
    let wrong = courant::engine::NewRecord {
        headers: vec![courant::engine::Header::new("ce_type", "test.counted")],
        ..courant::engine::NewRecord::new("test.counted", "b", "no JSON")
    };
    for answer in service.engine().publish(vec![wrong]).await {
        answer.expect("publishes");
    }
    service.settle().await.expect("settles");
    site.advance(&mut service, seconds(1)).await;
    assert_eq!(effects(service.store()).await, ["a:1"]);
    let letters = service.dead_letters().list().await.expect("lists");
    assert_eq!(letters.len(), 1);
    // Its first attempt has panicked before anything was decoded.
    assert_eq!((letters[0].reason, letters[0].attempts), (DeadReason::Undecodable, 2));
    service.stop().await.expect("stops");
}

/// The fields of the spans of [`Trace`], in the order in which they began.
#[derive(Clone, Default)]
struct Spans(Arc<Mutex<Vec<BTreeMap<String, String>>>>);

struct Fields<'a>(&'a mut BTreeMap<String, String>);

impl Visit for Fields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}"));
    }
}

impl tracing::Subscriber for Spans {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.is_span() && metadata.target().starts_with("courant::layer")
    }

    fn new_span(&self, attributes: &span::Attributes<'_>) -> span::Id {
        let mut spans = self.0.lock().expect("nobody panics with it");
        let mut fields = BTreeMap::new();
        attributes.record(&mut Fields(&mut fields));
        spans.push(fields);
        span::Id::from_u64(spans.len() as u64)
    }

    fn record(&self, span: &span::Id, values: &span::Record<'_>) {
        let mut spans = self.0.lock().expect("nobody panics with it");
        let index = usize::try_from(span.into_u64() - 1).expect("fits");
        values.record(&mut Fields(&mut spans[index]));
    }

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, _: &tracing::Event<'_>) {}

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// X3: every call has a span, with ids as fields. On one thread, which is the one that listens.
#[tokio::test]
async fn a_span_says_which_event_it_was() {
    let site = Site::memory().await;
    let (script, spans) = (Script::default(), Spans::default());
    script.fail_times("a:1", 1);
    let counting = Subscription::named("counting").retry(Retry::every(seconds(1))).on(count);
    let app = site.app().await.layer(Trace::new()).state(script).subscribe(counting);
    let mut service = app.build().await.expect("fits together").start().await.expect("starts");
    // Before there is an event: it may be handled before its publisher hears of it.
    let listening = tracing::subscriber::set_default(spans.clone());
    let id = service.publisher().publish(&counted("a", 1)).await.expect("publishes").to_string();
    service.settle().await.expect("settles");
    site.advance(&mut service, seconds(1)).await;
    drop(listening);
    service.stop().await.expect("stops");

    let spans = spans.0.lock().expect("nobody panics with it").clone();
    assert_eq!(spans.len(), 2, "{spans:?}");
    for (span, (attempt, outcome)) in spans.iter().zip([("1", "retry"), ("2", "handled")]) {
        let expected = [
            ("attempt", attempt),
            ("outcome", outcome),
            ("consumer", "counting"),
            ("event_type", "test.counted"),
            ("event", id.as_str()),
            ("correlation", id.as_str()),
            ("position", "test.counted/0@0"),
        ];
        for (name, value) in expected {
            assert_eq!(span.get(name).map(String::as_str), Some(value), "{name} in {span:?}");
        }
        assert!(span["handler"].ends_with("count"), "{span:?}");
        assert_eq!(span.get("causation"), None, "nothing has caused it");
    }
}
