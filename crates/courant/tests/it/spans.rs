//! Spans: what a service does with an event, from its making over failures, a redrive and a timer, is one
//! trace in which each span stands below what has caused it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use courant::engine::Engine;
use courant::prelude::*;
use courant::testkit::{World, published};
use courant::trace::{Span, SpanId, SpanKind, Spans, TraceContext, TraceId, Tracer, Value};
use courant::{EventId, Running};

use crate::common::{Script, all, seconds};

#[derive(Event, Serialize, Deserialize)]
#[event(type = "traced.root", topic = "traced.root", key = name)]
struct Root {
    name: String,
}

#[derive(Event, Serialize, Deserialize)]
#[event(type = "traced.child", topic = "traced.child", key = name)]
struct Child {
    name: String,
}

#[derive(Event, Serialize, Deserialize)]
#[event(type = "traced.reminder", topic = "traced.reminder", key = name)]
struct Reminder {
    name: String,
}

async fn grow(root: Root, State(script): State<Script>, mut tx: Tx<Sqlite>) -> Result<Child, HandlerError> {
    script.call("grow", "root").map_err(HandlerError::retry)?;
    tx.schedule(&Reminder { name: root.name.clone() }, seconds(60))?;
    Ok(Child { name: root.name })
}

async fn bear(_: Child, State(script): State<Script>) -> Result<(), HandlerError> {
    script.call("bear", "child").map_err(HandlerError::dead_letter)
}

async fn remind(_: Reminder) -> Result<(), HandlerError> {
    Ok(())
}

/// Keeps spans in memory.
#[derive(Debug, Default)]
struct Kept {
    samples: bool,
    count: AtomicU64,
    spans: Mutex<Vec<Span>>,
}

impl Kept {
    fn new(samples: bool) -> Arc<Self> {
        Arc::new(Self { samples, ..Self::default() })
    }

    fn next(&self) -> u64 {
        self.count.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Those of a name, in the order of their beginnings.
    fn named(&self, name: &str) -> Vec<Span> {
        let spans = self.spans.lock().expect("nobody panics with it");
        let mut found: Vec<_> = spans.iter().filter(|span| span.name == name).cloned().collect();
        found.sort_by_key(|span| span.start_ns);
        found
    }

    /// The only one of a name.
    #[track_caller]
    fn only(&self, name: &str) -> Span {
        let mut found = self.named(name);
        assert_eq!(found.len(), 1, "{name}: {found:?}");
        found.remove(0)
    }
}

impl Spans for Kept {
    fn now_ns(&self) -> u64 {
        self.next()
    }

    fn random(&self) -> u128 {
        u128::from(self.next())
    }

    fn samples(&self, _: TraceId) -> bool {
        self.samples
    }

    fn ended(&self, span: Span) {
        self.spans.lock().expect("nobody panics with it").push(span);
    }
}

async fn service(
    world: &World,
    engine: &Arc<dyn Engine>,
    script: &Script,
    tracer: Tracer,
) -> Running<Sqlite> {
    let service = App::new("traced")
        .engine(engine.clone())
        .partitions(1)
        .in_world(world)
        .tracer(tracer)
        .store(Sqlite::connect("sqlite::memory:").await.expect("opens"))
        .state(script.clone())
        .subscribe(Subscription::named("growing").retry(Retry::every(seconds(1))).on(grow))
        .subscribe(Subscription::named("bearing").on(bear))
        .subscribe(Subscription::named("reminding").on(remind))
        .build()
        .await;
    service.expect("fits together").start().await.expect("starts")
}

fn root() -> Root {
    Root { name: "a".to_owned() }
}

fn said<'span>(span: &'span Span, name: &str) -> Option<&'span Value> {
    span.attributes.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
}

fn id(span: &Span) -> Option<SpanId> {
    Some(span.context.span)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_trace_shows_all_that_became_of_an_event() {
    let world = World::new(11);
    let engine = world.engine("memory:").await.expect("opens");
    let (script, kept) = (Script::default(), Kept::new(true));
    script.fail_times("root", 1);
    script.fail_times("child", 1);
    let mut service = service(&world, &engine, &script, Tracer::new(kept.clone())).await;
    service.publisher().publish(&root()).await.expect("publishes");
    service.settle().await.expect("settles");
    world.advance(seconds(2));
    service.settle().await.expect("settles");
    assert_eq!(service.dead_letters().list().await.expect("lists").len(), 1);
    service.dead_letters().redrive("again", "a test", &all()).await.expect("asks");
    service.settle().await.expect("settles");
    world.advance(seconds(60));
    service.settle().await.expect("settles");
    service.stop().await.expect("stops");

    let created = kept.only("create traced.root");
    assert_eq!((created.parent, created.kind), (None, SpanKind::Producer));
    assert_eq!(kept.only("send traced.root").parent, id(&created));

    // The first attempt fails, and the second one comes out of the store.
    let attempts = kept.named("process traced.root");
    let [first, second] = &attempts[..] else { panic!("{attempts:?}") };
    for (attempt, number, source) in [(first, 1, "log"), (second, 2, "parked")] {
        assert_eq!((attempt.parent, attempt.kind), (id(&created), SpanKind::Consumer));
        assert_eq!(said(attempt, "courant.attempt"), Some(&Value::Integer(number)));
        assert_eq!(said(attempt, "courant.source"), Some(&Value::from(source)));
        assert_eq!(said(attempt, "messaging.consumer.group.name"), Some(&Value::from("growing")));
    }
    assert!(first.failure.is_some() && second.failure.is_none(), "{attempts:?}");
    let parked = kept.only("settle traced.root");
    assert_eq!((parked.parent, said(&parked, "courant.outcome")), (id(first), Some(&Value::from("parked"))));

    // What the second one has published is its child, and carries its own span to whoever reads it.
    let child = kept.only("create traced.child");
    assert_eq!(child.parent, id(second));
    let events = published::<Child>(&*engine).await.expect("reads");
    assert_eq!(events[0].meta().traceparent(), Some(child.context.to_string().as_str()));

    // The dead letter, and the redrive, are attempts at the same event.
    let attempts = kept.named("process traced.child");
    let [dead, redriven] = &attempts[..] else { panic!("{attempts:?}") };
    assert_eq!((dead.parent, redriven.parent), (id(&child), id(&child)));
    let buried = kept.only("settle traced.child");
    let outcome = Some(Value::from("dead_letter"));
    assert_eq!((buried.parent, said(&buried, "courant.outcome")), (id(dead), outcome.as_ref()));
    assert_eq!(said(redriven, "courant.source"), Some(&Value::from("parked")));
    assert!(dead.failure.is_some() && redriven.failure.is_none(), "{attempts:?}");
    assert_eq!(kept.named("send traced.child.bearing.dlq").len(), 1);

    // A timer's event is made when it is scheduled, and handled when it is due.
    let timer = kept.only("create traced.reminder");
    assert_eq!(timer.parent, id(second));
    assert!(said(&timer, "courant.due_ms").is_some(), "{timer:?}");
    assert_eq!(kept.only("process traced.reminder").parent, id(&timer));

    let spans = kept.spans.lock().expect("nobody panics with it");
    for span in spans.iter() {
        assert_eq!(span.context.trace, created.context.trace, "{span:?}");
        assert!(!span.name.contains("_courant."), "{span:?}");
    }
}

/// Where nobody keeps a trace, it goes on nevertheless, so that nobody else begins to keep a part of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_trace_that_nobody_keeps_has_no_spans_and_one_id() {
    let world = World::new(12);
    let engine = world.engine("memory:").await.expect("opens");
    let (script, kept) = (Script::default(), Kept::new(false));
    let mut service = service(&world, &engine, &script, Tracer::new(kept.clone())).await;
    service.publisher().publish(&root()).await.expect("publishes");
    service.settle().await.expect("settles");
    service.stop().await.expect("stops");
    assert!(kept.spans.lock().expect("nobody panics with it").is_empty());
    let roots = published::<Root>(&*engine).await.expect("reads");
    let children = published::<Child>(&*engine).await.expect("reads");
    let root = TraceContext::of(roots[0].meta().traceparent()).expect("a span");
    let child = TraceContext::of(children[0].meta().traceparent()).expect("a span");
    assert_eq!((root.trace, root.is_sampled, child.is_sampled), (child.trace, false, false));
}

/// A service without a tracer hands on what it is given.
#[tokio::test(flavor = "multi_thread")]
async fn a_span_of_somebody_else_is_handed_on() {
    let world = World::new(13);
    let engine = world.engine("memory:").await.expect("opens");
    let script = Script::default();
    let mut service = service(&world, &engine, &script, Tracer::default()).await;
    let request = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let span: TraceContext = request.parse().expect("a span");
    service.publisher().within(span).publish(&root()).await.expect("publishes");
    service.settle().await.expect("settles");
    service.stop().await.expect("stops");
    let roots = published::<Root>(&*engine).await.expect("reads");
    let children = published::<Child>(&*engine).await.expect("reads");
    assert_eq!(roots[0].meta().traceparent(), Some(request));
    assert_eq!(children[0].meta().traceparent(), Some(request));
}

/// A transaction of plain code does so as well, and says which event it has published.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_publishes_in_the_span_of_its_request() {
    let world = World::new(14);
    let engine = world.engine("memory:").await.expect("opens");
    let mut service = service(&world, &engine, &Script::default(), Tracer::default()).await;
    let request = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let span: TraceContext = request.parse().expect("a span");
    let transactions = service.transactions();
    let mut tx = transactions.within(span).begin().await.expect("begins");
    let inside = tx.publish(&root()).expect("is taken");
    tx.commit().await.expect("commits");
    let mut tx = transactions.begin().await.expect("begins");
    let outside = tx.publish(&Root { name: "b".to_owned() }).expect("is taken");
    tx.commit().await.expect("commits");
    service.settle().await.expect("settles");
    service.stop().await.expect("stops");
    let roots = published::<Root>(&*engine).await.expect("reads");
    let of = |id: &EventId| {
        let found = roots.iter().find(|root| root.meta().id() == id).expect("it has this id");
        found.meta().traceparent().map(str::to_owned)
    };
    assert_eq!(of(&inside).as_deref(), Some(request));
    assert_eq!(of(&outside), None, "the span is that of one request");
}
