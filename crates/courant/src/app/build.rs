//! From an App to a service: everything is opened, looked at and held against each other.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use courant_core::consumer::ConsumerName;
use courant_core::position::TopicPartition;
use courant_core::topic::TopicName;
use courant_engine::{Engine, EngineConfig, EngineUrl, NewTopic, OrderScope, Partition, Replay, Topic};
use courant_sql::{Assignment, Consumer, Store};
use tokio::sync::Notify;

use super::checks::{Handled, Sketch, subscriptions, topics};
use super::{App, BuildError, Declared, EngineChoice, Parts, Problem};
use crate::Boxed;
use crate::outbox::Stamp;
use crate::publisher::Sender;
use crate::runtime::{
    Activity, Backlog, Begin, Caller, Context, DirectLedger, Kept, Ledger, Orders, Rules, Status,
    StoreLedger, Trouble, begin, look, refused,
};
use crate::service::{Prepared, Service};
use crate::store::{Backing, NoStore};

/// How much longer than its topics a consumer remembers what it has handled.
const REMEMBERED_MORE: Duration = Duration::from_secs(30 * 24 * 3600);

/// An engine that is open, and the topics of the service in it.
struct Opened {
    engine: Arc<dyn Engine>,
    /// The service has opened it, and closes it.
    is_own: bool,
    topics: BTreeMap<String, Topic>,
}

impl<D: Store, T: Send + Sync + 'static> App<D, T> {
    /// Opens everything and holds it against each other.
    ///
    /// # Errors
    /// Everything that is wrong, in one list, each with what to change.
    pub async fn build(self) -> Result<Service<D>, BuildError> {
        let Self { parts, store, state, subscriptions } = self;
        let mut problems = check(&parts, &subscriptions);
        let opened = open(&parts, &subscriptions, &mut problems).await;
        if let Err(error) = store.install(parts.clock.now_ms()).await {
            problems
                .push(Problem::new("the store does not take the tables of the framework", error.to_string()));
        }
        let Some(opened) = opened.filter(|_| problems.is_empty()) else {
            return Err(BuildError::new(parts.name, problems));
        };
        for declared in &subscriptions {
            compare(&store, declared, &opened, &mut problems).await;
        }
        if !problems.is_empty() {
            close(&opened).await;
            return Err(BuildError::new(parts.name, problems));
        }
        let counted = store.clone();
        let backlog: Backlog = Box::new(move || -> Boxed<'static, u64> {
            let store = counted.clone();
            Box::pin(async move { store.outbox_backlog().await.unwrap_or(1) })
        });
        let is_own = opened.is_own;
        let context = context(parts, &opened, Some(backlog));
        let state = Arc::new(state);
        let prepared = subscriptions.into_iter().filter_map(|declared| {
            let rules = Rules {
                retry: declared.settings.retry,
                exhausted: declared.settings.exhausted,
                at_least_once: declared.at_least_once,
                remembered_ms: remembered(&declared, &opened),
            };
            prepare(declared, &context, &state, &opened, |caller, settings, _| {
                let consumer = Consumer { name: caller.consumer.clone(), generation: settings.generation };
                Arc::new(StoreLedger { store: store.clone(), consumer, caller, rules })
            })
        });
        let prepared = prepared.collect();
        Ok(Service::new(context, prepared, store, is_own))
    }
}

impl<T: Send + Sync + 'static> App<NoStore, T> {
    /// Opens everything and holds it against each other.
    ///
    /// # Errors
    /// Everything that is wrong, in one list, each with what to change.
    pub async fn build(self) -> Result<Service<NoStore>, BuildError> {
        let Self { parts, store, state, subscriptions } = self;
        let mut problems = check(&parts, &subscriptions);
        let opened = open(&parts, &subscriptions, &mut problems).await;
        let Some(opened) = opened.filter(|_| problems.is_empty()) else {
            return Err(BuildError::new(parts.name, problems));
        };
        let is_own = opened.is_own;
        let context = context(parts, &opened, None);
        let state = Arc::new(state);
        let prepared = subscriptions.into_iter().filter_map(|declared| {
            prepare(declared, &context, &state, &opened, |caller, settings, status| {
                Arc::new(DirectLedger {
                    caller,
                    group: settings.consumer.clone(),
                    retry: settings.retry,
                    exhausted: settings.exhausted,
                    status,
                })
            })
        });
        let prepared = prepared.collect();
        Ok(Service::new(context, prepared, store, is_own))
    }
}

fn sketch<S: Backing, T>(declared: &Declared<S, T>) -> Sketch<'_> {
    let handled = declared.handlers.iter().map(|handler| Handled {
        event_type: handler.event_type,
        topic: handler.topic,
        owner: handler.owner,
    });
    Sketch { settings: &declared.settings, at_least_once: declared.at_least_once, handled: handled.collect() }
}

/// Everything that can be told without opening anything.
fn check<S: Backing, T>(parts: &Parts, declared: &[Declared<S, T>]) -> Vec<Problem> {
    let mut problems = Vec::new();
    if let Err(error) = ConsumerName::new(&parts.name) {
        problems.push(Problem::new(
            format!("{:?} cannot be the name of a service", parts.name),
            format!("a service is named as topics are: {error}"),
        ));
    }
    for said in &parts.disorder {
        problems.push(Problem::new(
            format!("{said} comes behind .subscribe(…)"),
            format!("say {said} first: handlers are held against it"),
        ));
    }
    if parts.engine.is_none() {
        problems.push(Problem::new(
            "it has no engine",
            "name one: .engine(\"memory:\") or .engine(\"embedded:./data\")",
        ));
    }
    let sketches: Vec<Sketch<'_>> = declared.iter().map(sketch).collect();
    if parts.disorder.is_empty() {
        problems.extend(subscriptions(&sketches, S::IS_STORE));
    }
    problems
}

async fn open<S: Backing, T>(
    parts: &Parts,
    declared: &[Declared<S, T>],
    problems: &mut Vec<Problem>,
) -> Option<Opened> {
    let (engine, is_own) = match parts.engine.as_ref()? {
        EngineChoice::Opened(engine) => (engine.clone(), false),
        EngineChoice::Url(url) => (open_url(parts, url, problems).await?, true),
    };
    let mut opened = Opened { engine, is_own, topics: BTreeMap::new() };
    capabilities(&*opened.engine, problems);
    // Topics are created for a service that is right, and for no other.
    if problems.is_empty() {
        let names: Vec<TopicName> = declared
            .iter()
            .flat_map(|declared| {
                topics(&sketch(declared)).into_iter().map(TopicName::new).collect::<Vec<_>>()
            })
            .filter_map(Result::ok)
            .collect();
        let wanted = names.into_iter().map(|name| NewTopic::new(name, parts.partitions)).collect();
        match courant_engine::ensure_topics(&*opened.engine, wanted).await {
            Ok(found) => {
                opened.topics = found.into_iter().map(|topic| (topic.name.to_string(), topic)).collect();
            }
            Err(error) => problems.push(Problem::new("its topics cannot be had", error.to_string())),
        }
    }
    for declared in declared {
        remembers_enough(declared, &opened, problems);
    }
    if !problems.is_empty() {
        close(&opened).await;
    }
    Some(opened)
}

async fn open_url(parts: &Parts, url: &str, problems: &mut Vec<Problem>) -> Option<Arc<dyn Engine>> {
    let url = match url.parse::<EngineUrl>() {
        Ok(url) => url,
        Err(error) => {
            problems.push(Problem::new("its engine's URL is none", error.to_string()));
            return None;
        }
    };
    let config = EngineConfig { clock: parts.clock.clone(), entropy: parts.entropy.clone() };
    match crate::engines::open(&url, config).await {
        Ok(engine) => Some(engine),
        Err(error) => {
            problems.push(Problem::new("its engine does not open", error.to_string()));
            None
        }
    }
}

async fn close(opened: &Opened) {
    if opened.is_own {
        opened.engine.close().await;
    }
}

/// What every subscription needs of an engine.
fn capabilities(engine: &dyn Engine, problems: &mut Vec<Problem>) {
    let can = engine.capabilities();
    if can.order == OrderScope::Nothing {
        problems.push(Problem::new(
            format!(
                "the engine {} keeps no order, and handlers are called in the order of keys",
                engine.kind()
            ),
            "use an engine that keeps the order of a key",
        ));
    }
    if can.replay == Replay::Nothing {
        problems.push(Problem::new(
            format!(
                "the engine {} gives each event once, and progress is kept by the service",
                engine.kind()
            ),
            "use an engine that can be read from any offset",
        ));
    }
}

/// How long the longest of a subscription's topics keeps its events; `None`: for ever.
fn retention<S: Backing, T>(declared: &Declared<S, T>, opened: &Opened) -> Option<Duration> {
    let mut longest = Duration::ZERO;
    for topic in topics(&sketch(declared)) {
        longest = longest.max(opened.topics.get(topic)?.retention?);
    }
    Some(longest)
}

fn remembers_enough<S: Backing, T>(declared: &Declared<S, T>, opened: &Opened, problems: &mut Vec<Problem>) {
    let Some(kept) = declared.settings.inbox_kept.filter(|_| !opened.topics.is_empty()) else { return };
    let retention = retention(declared, opened);
    if retention.is_some_and(|retention| kept >= retention) {
        return;
    }
    let keep = retention.map_or("for ever".to_owned(), |retention| format!("for {retention:?}"));
    problems.push(Problem::new(
        format!(
            "subscription {:?} remembers for {kept:?} what it has handled, and its topics keep events {keep}",
            declared.settings.consumer
        ),
        "remember at least as long, or leave .remember_for(…) away: an event that comes again later would be \
         handled again",
    ));
}

fn remembered<S: Backing, T>(declared: &Declared<S, T>, opened: &Opened) -> Option<i64> {
    let of_topics = || retention(declared, opened).map(|retention| retention + REMEMBERED_MORE);
    let kept = declared.settings.inbox_kept.or_else(of_topics)?;
    i64::try_from(kept.as_millis()).ok()
}

/// The partitions of a subscription's topics.
fn partitions<S: Backing, T>(declared: &Declared<S, T>, opened: &Opened) -> Vec<Partition> {
    let names = topics(&sketch(declared)).into_iter().map(str::to_owned).collect::<Vec<_>>();
    names.iter().filter_map(|name| opened.topics.get(name)).flat_map(Topic::all_partitions).collect()
}

/// Whether the log is the one that a subscription's progress was made in.
async fn compare<D: Store, T>(
    store: &D,
    declared: &Declared<D, T>,
    opened: &Opened,
    problems: &mut Vec<Problem>,
) {
    let settings = &declared.settings;
    let Ok(name) = ConsumerName::new(&settings.consumer) else { return };
    let consumer = Consumer { name, generation: settings.generation };
    for partition in partitions(declared, opened) {
        let Ok(topic) = TopicName::new(&partition.topic) else { continue };
        let named = TopicPartition { topic, partition: partition.number };
        let assignment = Assignment { consumer: consumer.clone(), partition: named };
        let kept = match store.progress(&assignment).await {
            Ok(Some(progress)) => Kept::Event(progress),
            Ok(None) => continue,
            Err(error) => {
                problems.push(Problem::new("the store does not say how far it has come", error.to_string()));
                return;
            }
        };
        let looked = look(&*opened.engine, &partition, &kept).await;
        let trouble = match looked {
            Ok((there, ends)) => match begin(&kept, there.as_ref(), ends, settings.other_log) {
                Begin::Refused(difference) => refused(&settings.consumer, &partition, &difference),
                Begin::At { .. } | Begin::Fresh | Begin::Reset(_) => continue,
            },
            Err(trouble) => trouble,
        };
        let said = match trouble {
            Trouble::Broken(said) => said,
            Trouble::Fenced => "somebody else has the partition".to_owned(),
        };
        problems.push(Problem::new("the log is not the one that progress was made in", said));
    }
}

fn context(parts: Parts, opened: &Opened, backlog: Option<Backlog>) -> Arc<Context> {
    let service: Arc<str> = Arc::from(parts.name.as_str());
    let stamp = Stamp {
        source: service.clone(),
        clock: parts.clock,
        entropy: parts.entropy.clone(),
        record_bytes_max: opened.engine.capabilities().record_bytes_max,
        cause: None,
    };
    let owner = format!("{} {}", parts.name, parts.entropy.uuid());
    Arc::new(Context {
        service,
        version: parts.version,
        owner,
        engine: opened.engine.clone(),
        time: parts.time,
        entropy: parts.entropy,
        faults: parts.faults,
        stamp,
        sender: Sender { engine: opened.engine.clone(), partitions: parts.partitions },
        activity: Activity::new(),
        outbox_filled: Notify::new(),
        relay: Status::default(),
        backlog,
    })
}

/// A subscription, ready to run. `None` for a name that was refused before.
fn prepare<S: Backing, T: Send + Sync + 'static, L: Ledger>(
    declared: Declared<S, T>,
    context: &Arc<Context>,
    state: &Arc<T>,
    opened: &Opened,
    ledger: impl FnOnce(Caller<S, T>, &super::Settings, Arc<Status>) -> Arc<L>,
) -> Option<Prepared> {
    let consumer = ConsumerName::new(&declared.settings.consumer).ok()?;
    let partitions = partitions(&declared, opened);
    let event_types: HashSet<&'static str> =
        declared.handlers.iter().map(|handler| handler.event_type).collect();
    let Declared { settings, handlers, .. } = declared;
    let caller = Caller {
        context: context.clone(),
        consumer,
        handlers,
        state: state.clone(),
        timeout: settings.timeout,
    };
    let status = Arc::new(Status::default());
    let ledger = ledger(caller, &settings, status.clone());
    let orders = Orders {
        consumer: settings.consumer,
        event_types,
        concurrency: settings.concurrency,
        start: settings.start,
        other_log: settings.other_log,
    };
    Some(Prepared { ledger, orders, partitions, status, decided: Arc::new(Notify::new()) })
}
