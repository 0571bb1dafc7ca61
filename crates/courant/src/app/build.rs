//! From an App to a service: everything is opened, looked at and held against each other.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use courant_core::consumer::ConsumerName;
use courant_core::position::TopicPartition;
use courant_core::topic::TopicName;
use courant_engine::{Engine, EngineConfig, EngineUrl, Partition, Topic};
use courant_sql::{Assignment, Consumer, Store};
use tokio::sync::Notify;

use super::checks::{Handled, Sketch, capabilities, commands, mappings, subscriptions, topics};
use super::memory::{
    dead_letter_topics, keeps_letters, letters_kept_ms, remembered_ms, remembers_enough,
    say_what_is_kept_longer,
};
use super::needs::{unmet, weak_topics};
use super::{App, BuildError, Declared, EngineChoice, Parts, Problem, ProblemCode as Code, Settings};
use crate::channel::{self, Described};
use crate::layer::layered;
use crate::mapping::Mappings;
use crate::outbox::Stamp;
use crate::publisher::Sender;
use crate::runtime::{
    Activity, Backlog, Begin, Caller, Context, DirectLedger, Forgetting, Kept, Ledger, Orders, Rules, Seldom,
    Stalls, Status, StoreLedger, Time, Timers, Trouble, UnderWay, begin, look, refused,
};
use crate::service::{Prepared, Service};
use crate::store::{Backing, NoStore};
use crate::{Anew, Boxed};

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
    pub async fn build(mut self) -> Result<Service<D>, BuildError> {
        self.spread_layers();
        let described = self.described();
        let desk = self.parts.operations.clone().map(|key| {
            channel::Desk::new(key, &self.parts.name, self.store.clone(), self.parts.clock.clone())
        });
        let whole = match &desk {
            Some(desk) => self.subscribe(desk.subscription()),
            None => self,
        };
        let Self { parts, store, state, subscriptions } = whole;
        let mut problems = check(&parts, &subscriptions);
        let opened = open(&parts, &subscriptions, &mut problems).await;
        if let Err(error) = store.install(parts.clock.now_ms()).await {
            problems.push(Problem::new(
                Code::StoreTables,
                "the store does not take the tables of the framework",
                error.to_string(),
            ));
        }
        let Some(opened) = opened.filter(|_| problems.is_empty()) else {
            return Err(BuildError::new(parts.name, problems));
        };
        let mappings = Mappings::new(parts.mappings.clone());
        let mut anew = Vec::new();
        for declared in &subscriptions {
            let has_begun = compare(&store, declared, &opened, &mappings, &mut problems).await;
            anew.extend((!has_begun).then(|| begins_anew(declared)).flatten());
        }
        if !problems.is_empty() {
            close(&opened).await;
            return Err(BuildError::new(parts.name, problems));
        }
        if let Some(desk) = &desk {
            let each = subscriptions.iter().map(|one| (one.settings.consumer.as_str(), &*one.handlers));
            desk.reads(channel::Readers::of(each, mappings));
        }
        let backlog = backlog(store.clone(), parts.time.clone());
        let (is_own, announces) = (opened.is_own, parts.announces);
        let context = context(parts, &opened, Some(backlog));
        let state = Arc::new(state);
        let prepared = subscriptions.into_iter().filter_map(|declared| {
            let rules = Rules {
                retry: declared.settings.retry,
                exhausted: declared.settings.exhausted,
                at_least_once: declared.at_least_once,
                remembered_ms: remembered_ms(&sketch(&declared), &opened.topics),
            };
            let named = |topic| TopicName::new(topic).ok();
            let topics: Vec<TopicName> = topics(&sketch(&declared)).into_iter().filter_map(named).collect();
            prepare(declared, &context, &state, &opened, |caller, settings, _| {
                let consumer = Consumer { name: caller.consumer.clone(), generation: settings.generation };
                Arc::new(StoreLedger {
                    store: store.clone(),
                    consumer,
                    topics,
                    named: Arc::from(settings.consumer.as_str()),
                    caller,
                    rules,
                    passed_by: Seldom::new(1),
                    under_way: UnderWay::default(),
                })
            })
        });
        let prepared: Vec<Prepared> = prepared.collect();
        let channel = channel::prepare(&context, &store, described, &prepared, desk.as_ref());
        let channel = announces.then_some(channel);
        Ok(Service::new(context, prepared, store, is_own).with_channel(channel).beginning_anew(anew))
    }
}

impl<T: Send + Sync + 'static> App<NoStore, T> {
    /// Opens everything and holds it against each other.
    ///
    /// # Errors
    /// Everything that is wrong, in one list, each with what to change.
    pub async fn build(mut self) -> Result<Service<NoStore>, BuildError> {
        self.spread_layers();
        let described = self.described();
        let Self { parts, store, state, subscriptions } = self;
        let mut problems = check(&parts, &subscriptions);
        let opened = open(&parts, &subscriptions, &mut problems).await;
        let Some(opened) = opened.filter(|_| problems.is_empty()) else {
            return Err(BuildError::new(parts.name, problems));
        };
        let (is_own, announces) = (opened.is_own, parts.announces);
        let context = context(parts, &opened, None);
        let state = Arc::new(state);
        let prepared = subscriptions.into_iter().filter_map(|declared| {
            prepare(declared, &context, &state, &opened, |caller, settings, status| {
                Arc::new(DirectLedger {
                    named: Arc::from(settings.consumer.as_str()),
                    caller,
                    group: settings.consumer.clone(),
                    retry: settings.retry,
                    exhausted: settings.exhausted,
                    status,
                })
            })
        });
        let prepared: Vec<Prepared> = prepared.collect();
        let channel = announces.then(|| channel::without_store(&context, described, &prepared));
        Ok(Service::new(context, prepared, store, is_own).with_channel(channel))
    }
}

impl<S: Backing, T> App<S, T> {
    /// Puts the layers of the service around those of its subscriptions.
    fn spread_layers(&mut self) {
        for declared in &mut self.subscriptions {
            declared.layers = self.parts.layers.iter().chain(&declared.layers).cloned().collect();
        }
    }

    /// What its subscriptions are, for those who look at the service.
    fn described(&self) -> Vec<Described> {
        let described =
            |one: &Declared<S, T>| channel::described(&one.settings, &one.handlers, one.at_least_once);
        self.subscriptions.iter().filter_map(described).collect()
    }
}

fn backlog<D: Store>(store: D, time: Arc<dyn Time>) -> Backlog {
    Box::new(move || -> Boxed<'static, u64> {
        let (store, time) = (store.clone(), time.clone());
        Box::pin(async move {
            // Timers first: one that is moved into the outbox meanwhile is counted there.
            match store.next_timer_ms().await {
                Ok(next_ms) if next_ms.is_none_or(|next_ms| next_ms > time.now_ms()) => {
                    store.outbox_backlog().await.unwrap_or(1)
                }
                _ => 1,
            }
        })
    })
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
            Code::ServiceName,
            format!("{:?} cannot be the name of a service", parts.name),
            format!("a service is named as topics are: {error}"),
        ));
    }
    for said in &parts.disorder {
        problems.push(Problem::new(
            Code::SaidTooLate,
            format!("{said} comes behind .subscribe(…)"),
            format!("say {said} first: handlers are held against it"),
        ));
    }
    if parts.engine.is_none() {
        problems.push(Problem::new(
            Code::NoEngine,
            "it has no engine",
            "name one: .engine(\"memory:\") or .engine(\"embedded:./data\")",
        ));
    }
    let sketches: Vec<Sketch<'_>> = declared.iter().map(sketch).collect();
    if parts.disorder.is_empty() {
        problems.extend(subscriptions(&sketches, S::IS_STORE, S::NOT_SHARED));
        problems.extend(commands(&sketches));
        problems.extend(mappings(&parts.mappings, &sketches));
    }
    problems.extend(keeps_letters(parts.letters_kept));
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
    let sketches: Vec<Sketch<'_>> = declared.iter().map(sketch).collect();
    problems.extend(capabilities(&*opened.engine, parts.partitions, &sketches));
    problems.extend(unmet(&*opened.engine, &parts.needs));
    problems.extend(channel::may_operate(&*opened.engine, parts.operations.as_ref(), S::IS_STORE));
    // Topics are created for a service that is right, and for no other.
    if problems.is_empty() {
        // Subscriptions may share a topic.
        let names: BTreeSet<&str> = sketches.iter().flat_map(topics).collect();
        let names = names.into_iter().filter_map(|topic| TopicName::new(topic).ok());
        let wanted = names.map(|name| channel::new_topic(name, parts.partitions)).collect();
        match courant_engine::ensure_topics(&*opened.engine, wanted).await {
            Ok(found) => {
                opened.topics = found.into_iter().map(named).collect();
                problems.extend(weak_topics(&opened.topics, &parts.needs));
            }
            Err(error) => problems.push(no_topics(&error)),
        }
    }
    if problems.is_empty() && S::IS_STORE {
        match opened.engine.topics(dead_letter_topics(&sketches)).await {
            Ok(found) => opened.topics.extend(found.into_iter().flatten().map(named)),
            Err(error) => problems.push(no_topics(&error)),
        }
    }
    problems.extend(sketches.iter().filter_map(|sketch| remembers_enough(sketch, &opened.topics)));
    if problems.is_empty() {
        sketches.iter().for_each(|sketch| say_what_is_kept_longer(sketch, &opened.topics));
    } else {
        close(&opened).await;
    }
    Some(opened)
}

fn no_topics(error: &impl ToString) -> Problem {
    Problem::new(Code::Topics, "its topics cannot be had", error.to_string())
}

fn named(topic: Topic) -> (String, Topic) {
    (topic.name.to_string(), topic)
}

async fn open_url(parts: &Parts, url: &str, problems: &mut Vec<Problem>) -> Option<Arc<dyn Engine>> {
    let url = match url.parse::<EngineUrl>() {
        Ok(url) => url,
        Err(error) => {
            problems.push(Problem::new(Code::EngineUrl, "its engine's URL is none", error.to_string()));
            return None;
        }
    };
    let config = EngineConfig { clock: parts.clock.clone(), entropy: parts.entropy.clone() };
    match crate::engines::open(&url, config).await {
        Ok(engine) => Some(engine),
        Err(error) => {
            problems.push(Problem::new(
                Code::EngineDoesNotOpen,
                "its engine does not open",
                error.to_string(),
            ));
            None
        }
    }
}

async fn close(opened: &Opened) {
    if opened.is_own {
        opened.engine.close().await;
    }
}

/// The partitions of a subscription's topics.
fn partitions<S: Backing, T>(declared: &Declared<S, T>, opened: &Opened) -> Vec<Partition> {
    let names = topics(&sketch(declared)).into_iter().map(str::to_owned).collect::<Vec<_>>();
    names.iter().filter_map(|name| opened.topics.get(name)).flat_map(Topic::all_partitions).collect()
}

/// A subscription without progress, if it is not the first one of its name.
fn begins_anew<S: Backing, T>(declared: &Declared<S, T>) -> Option<Anew> {
    let Settings { consumer, generation, .. } = &declared.settings;
    let event_types = declared.handlers.iter().map(|handler| handler.event_type).collect();
    (*generation > 1).then(|| Anew { consumer: consumer.clone(), generation: *generation, event_types })
}

/// Whether the log is the one that a subscription's progress was made in. Gives back whether there is any.
async fn compare<D: Store, T>(
    store: &D,
    declared: &Declared<D, T>,
    opened: &Opened,
    mappings: &Mappings,
    problems: &mut Vec<Problem>,
) -> bool {
    let settings = &declared.settings;
    let Ok(name) = ConsumerName::new(&settings.consumer) else { return true };
    let consumer = Consumer { name, generation: settings.generation };
    let mut has_begun = false;
    for partition in partitions(declared, opened) {
        let Ok(topic) = TopicName::new(&partition.topic) else { continue };
        let named = TopicPartition { topic, partition: partition.number };
        let assignment = Assignment { consumer: consumer.clone(), partition: named };
        let kept = match store.progress(&assignment).await {
            Ok(Some(progress)) => Kept::Event(progress),
            Ok(None) => continue,
            Err(error) => {
                problems.push(Problem::new(
                    Code::ProgressUnknown,
                    "the store does not say how far it has come",
                    error.to_string(),
                ));
                return true;
            }
        };
        has_begun = true;
        let looked = look(&*opened.engine, mappings, &partition, &kept).await;
        let trouble = match looked {
            Ok((there, ends)) => match begin(&kept, there.as_ref(), ends, settings.other_log) {
                Begin::Refused(difference) => refused(&settings.consumer, &partition, &difference),
                Begin::At { .. } | Begin::Fresh | Begin::Reset(_) => continue,
            },
            Err(trouble) => trouble,
        };
        let said = match trouble {
            Trouble::Broken(said) | Trouble::Away(said) => said,
            Trouble::Fenced => "somebody else has the partition".to_owned(),
        };
        problems.push(Problem::new(Code::OtherLog, "the log is not the one that progress was made in", said));
    }
    has_begun
}

fn context(parts: Parts, opened: &Opened, backlog: Option<Backlog>) -> Arc<Context> {
    let service: Arc<str> = Arc::from(parts.name.as_str());
    let stamp = Stamp {
        source: service.clone(),
        clock: parts.clock,
        entropy: parts.entropy.clone(),
        record_bytes_max: opened.engine.capabilities().record_bytes_max,
        cause: None,
        tracer: parts.tracer.clone(),
        span: None,
    };
    let owner = format!("{} {}", parts.name, parts.entropy.uuid());
    let stalls = Stalls::new(parts.time.clone());
    Arc::new(Context {
        service,
        version: parts.version,
        owner,
        engine: opened.engine.clone(),
        time: parts.time,
        entropy: parts.entropy,
        faults: parts.faults,
        stamp,
        sender: Sender {
            engine: opened.engine.clone(),
            partitions: parts.partitions,
            tracer: parts.tracer.clone(),
        },
        tracer: parts.tracer,
        mappings: Mappings::new(parts.mappings),
        activity: Activity::new(),
        stalls,
        stop_times: parts.stop_times,
        outbox_filled: Notify::new(),
        outbox_fills: AtomicU64::new(0),
        relay: Status::default(),
        timers: Timers::new(),
        forgetting: Forgetting::new(letters_kept_ms(parts.letters_kept)),
        backlog,
    })
}

/// A subscription, ready to run. `None` for a name that was refused before.
fn prepare<S: Backing, T: Send + Sync + 'static, L: Ledger>(
    declared: Declared<S, T>,
    context: &Arc<Context>,
    state: &Arc<T>,
    opened: &Opened,
    ledger: impl FnOnce(Caller<S, T>, &Settings, Arc<Status>) -> Arc<L>,
) -> Option<Prepared> {
    let consumer = ConsumerName::new(&declared.settings.consumer).ok()?;
    let partitions = partitions(&declared, opened);
    let event_types: HashSet<&'static str> =
        declared.handlers.iter().map(|handler| handler.event_type).collect();
    let Declared { settings, handlers, layers, .. } = declared;
    let handlers = layered(handlers, &layers, &context.time);
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
        batch: settings.batch,
        parked_max: settings.parked_max,
        start: settings.start,
        other_log: settings.other_log,
    };
    Some(Prepared { ledger, orders, partitions, status, decided: Arc::new(Notify::new()) })
}
