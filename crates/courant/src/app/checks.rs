//! What can be told of a service without opening anything.

use std::collections::BTreeMap;
use std::time::Duration;

use courant_core::consumer::ConsumerName;
use courant_core::topic::TopicName;
use courant_engine::{Engine, OrderScope, Replay, TimeLookup};

use super::problem::{Problem, ProblemCode as Code};
use crate::runtime::dead_letter_topic;
use crate::subscription::Settings;
use crate::{Exhausted, Mapping, OtherLog, StartFrom};

/// Most events that one subscription handles at once.
const CONCURRENCY_MAX: usize = 256;

/// Most events that are handled in one transaction.
const BATCH_MAX: usize = 500;

/// Most events that may be parked: their keys are in memory.
const PARKED_MAX: u64 = 10_000_000;

/// Longest that a handler may take.
const TIMEOUT_MAX: Duration = Duration::from_secs(24 * 3600);

/// A subscription, as far as it can be looked at from outside.
pub(super) struct Sketch<'a> {
    pub(super) settings: &'a Settings,
    pub(super) at_least_once: bool,
    pub(super) handled: Vec<Handled>,
}

/// What a handler handles.
#[derive(Clone, Copy)]
pub(super) struct Handled {
    pub(super) event_type: &'static str,
    pub(super) topic: &'static str,
    pub(super) owner: Option<&'static str>,
}

/// Everything that is wrong with the subscriptions. `not_shared` is why events cannot share a transaction.
pub(super) fn subscriptions(
    sketches: &[Sketch<'_>],
    has_store: bool,
    not_shared: Option<&str>,
) -> Vec<Problem> {
    let mut problems = Vec::new();
    if sketches.is_empty() {
        problems.push(Problem::new(
            Code::NoSubscription,
            "it has no subscription",
            "add one: .subscribe(Subscription::named(\"…\").on(handler))",
        ));
    }
    duplicates(sketches, &mut problems);
    for sketch in sketches {
        names(sketch, &mut problems);
        handlers(sketch, &mut problems);
        store(sketch, has_store, &mut problems);
        batches(sketch, not_shared, &mut problems);
        numbers(sketch, &mut problems);
    }
    problems
}

/// What is wrong with who may do what is asked: a command has one owner.
pub(super) fn commands(sketches: &[Sketch<'_>]) -> Vec<Problem> {
    let mut owned: BTreeMap<&str, Vec<(&str, bool)>> = BTreeMap::new();
    for sketch in sketches {
        for handled in &sketch.handled {
            let handles = (sketch.settings.consumer.as_str(), handled.owner.is_some());
            owned.entry(handled.event_type).or_default().push(handles);
        }
    }
    let is_wrong = |handlers: &[(&str, bool)]| {
        let others = handlers.iter().any(|(consumer, _)| *consumer != handlers[0].0);
        others && handlers.iter().any(|(_, is_command)| *is_command)
    };
    let problem = |(event_type, handlers): (&str, Vec<(&str, bool)>)| {
        let names: Vec<String> = handlers.iter().map(|(consumer, _)| format!("{consumer:?}")).collect();
        Problem::new(
            Code::CommandOwners,
            format!("the command {event_type} is handled by {}", names.join(" and ")),
            "a command has one owner, and one type: keep one of them, or publish an event that all may hear",
        )
    };
    owned.into_iter().filter(|(_, handlers)| is_wrong(handlers)).map(problem).collect()
}

/// What is wrong with how events of others are to be read.
pub(super) fn mappings(mappings: &[(String, Mapping)], sketches: &[Sketch<'_>]) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut named: BTreeMap<&str, usize> = BTreeMap::new();
    for (topic, mapping) in mappings {
        *named.entry(topic).or_default() += 1;
        for place in mapping.illegal_places() {
            problems.push(Problem::new(Code::MappingPlace, format!("the envelope mapping of {topic:?} looks at {place:?}"),
                "a place is a JSON Pointer: it begins with '/', as \"/payload/orderId\" does, has ~1 for '/' in \
                 a name and ~0 for '~', or is empty and the whole",
            ));
        }
    }
    let is_read = |topic: &str| sketches.iter().any(|sketch| topics(sketch).contains(&topic));
    for (topic, count) in named {
        if count > 1 {
            problems.push(Problem::new(
                Code::MappingTwice,
                format!("{topic:?} has {count} envelope mappings"),
                "keep one: it reads all events of the topic",
            ));
        }
        if !is_read(topic) {
            problems.push(Problem::new(
                Code::MappingUnread,
                format!("{topic:?} has an envelope mapping, and no subscription reads it"),
                "correct its name, or read it: Subscription::named(\"…\").topic(\"…\")",
            ));
        }
    }
    problems
}

/// What the subscriptions need of an engine and do not get.
pub(super) fn capabilities(engine: &dyn Engine, partitions: u32, sketches: &[Sketch<'_>]) -> Vec<Problem> {
    let (can, kind) = (engine.capabilities(), engine.kind());
    let mut problems = Vec::new();
    if can.order == OrderScope::Nothing {
        problems.push(Problem::new(
            Code::EngineOrder,
            format!("the engine {kind} keeps no order, and handlers are called in the order of keys"),
            "use an engine that keeps the order of a key",
        ));
    }
    if can.replay == Replay::Nothing {
        problems.push(Problem::new(
            Code::EngineReplay,
            format!("the engine {kind} gives each event once, and progress is kept by the service"),
            "use an engine that can be read from any offset",
        ));
    }
    if !(1..=can.partitions_max).contains(&partitions) {
        problems.push(Problem::new(
            Code::Partitions,
            format!("its topics are to have {partitions} partitions"),
            format!("say .partitions(1) to .partitions({}), which is what {kind} can do", can.partitions_max),
        ));
    }
    for Sketch { settings, .. } in sketches.iter().filter(|_| can.time_lookup == TimeLookup::Nothing) {
        let by_time = matches!(settings.start, StartFrom::Time(_));
        if by_time || matches!(settings.other_log, OtherLog::FromTime(_)) {
            problems.push(Problem::new(
                Code::EngineTimeLookup,
                format!(
                    "subscription {:?} begins at a time, and the engine {kind} finds no offsets by time",
                    settings.consumer
                ),
                "begin with the oldest or the newest event, or use an engine that knows when events came",
            ));
        }
    }
    problems
}

fn duplicates(sketches: &[Sketch<'_>], problems: &mut Vec<Problem>) {
    let mut named: BTreeMap<&str, usize> = BTreeMap::new();
    for sketch in sketches {
        *named.entry(&sketch.settings.consumer).or_default() += 1;
    }
    for (name, count) in named.into_iter().filter(|(_, count)| *count > 1) {
        problems.push(Problem::new(
            Code::SameName,
            format!("{count} subscriptions have the name {name:?}"),
            "give each a name of its own: what a consumer has handled is remembered under it",
        ));
    }
}

fn names(sketch: &Sketch<'_>, problems: &mut Vec<Problem>) {
    let consumer = &sketch.settings.consumer;
    let name = match ConsumerName::new(consumer) {
        Ok(name) => name,
        Err(error) => {
            problems.push(Problem::new(
                Code::ConsumerName,
                format!("{consumer:?} cannot be the name of a subscription"),
                format!("a consumer is named as topics are: {error}"),
            ));
            return;
        }
    };
    for topic in topics(sketch) {
        if let Err(error) = TopicName::new(topic) {
            problems.push(Problem::new(
                Code::TopicName,
                format!("subscription {consumer:?} reads {topic:?}, which cannot be a topic"),
                error.to_string(),
            ));
        } else if dead_letter_topic(topic, &name).is_err() {
            problems.push(Problem::new(
                Code::DeadLetterTopicName,
                format!(
                    "the topic of dead letters of {consumer:?}, {topic}.{consumer}.dlq, has too long a name"
                ),
                "shorten the name of the subscription, so that all of it has at most 249 characters",
            ));
        }
    }
}

/// The topics that a subscription reads.
pub(super) fn topics<'a>(sketch: &'a Sketch<'_>) -> Vec<&'a str> {
    let of_events = sketch.handled.iter().map(|handled| handled.topic);
    let mut topics: Vec<&str> = of_events.chain(sketch.settings.topics.iter().map(String::as_str)).collect();
    topics.sort_unstable();
    topics.dedup();
    topics
}

fn handlers(sketch: &Sketch<'_>, problems: &mut Vec<Problem>) {
    let consumer = &sketch.settings.consumer;
    if sketch.handled.is_empty() {
        problems.push(Problem::new(
            Code::NoHandler,
            format!("subscription {consumer:?} has no handler"),
            "give it one: .on(handler)",
        ));
    }
    if sketch.settings.mode_said_late {
        problems.push(Problem::new(
            Code::ModeTooLate,
            format!("subscription {consumer:?} says .at_least_once() behind its handlers"),
            "say it before the first .on(…): handlers are held against it",
        ));
    }
    let mut types: BTreeMap<&str, usize> = BTreeMap::new();
    for handled in &sketch.handled {
        *types.entry(handled.event_type).or_default() += 1;
        if let Some(owner) = handled.owner.filter(|owner| owner != consumer) {
            problems.push(Problem::new(
                Code::CommandOfOthers,
                format!(
                    "subscription {consumer:?} handles the command {}, whose owner is {owner:?}",
                    handled.event_type
                ),
                "a command has one owner: send that one a command, or publish an event that all may hear",
            ));
        }
    }
    for (event_type, count) in types.into_iter().filter(|(_, count)| *count > 1) {
        problems.push(Problem::new(
            Code::TwoHandlers,
            format!("subscription {consumer:?} has {count} handlers for {event_type}"),
            "keep one, and make each other reaction a subscription of its own",
        ));
    }
}

fn store(sketch: &Sketch<'_>, has_store: bool, problems: &mut Vec<Problem>) {
    let Sketch { settings, at_least_once, .. } = sketch;
    let consumer = &settings.consumer;
    if !has_store && !at_least_once {
        problems.push(Problem::new(Code::OnceWithoutStore, format!("subscription {consumer:?} promises effects that happen once, and there is no store"),
            "give the App a store: .store(Sqlite::connect(\"sqlite:service.db\").await?), or accept repetitions: \
             .at_least_once()",
        ));
    }
    if !has_store && settings.exhausted == Exhausted::ParkKey {
        problems.push(Problem::new(
            Code::ParkWithoutStore,
            format!("subscription {consumer:?} parks what fails, and there is no store to park it in"),
            "give the App a store, or say what else is to happen: .when_exhausted(Exhausted::DeadLetter), \
             ::Skip or ::Block",
        ));
    }
    if has_store && settings.exhausted == Exhausted::Block {
        problems.push(Problem::new(
            Code::BlockWithStore,
            format!("subscription {consumer:?} blocks its partition, and there is a store"),
            "with a store an event stops its key alone: .when_exhausted(Exhausted::ParkKey)",
        ));
    }
}

fn batches(sketch: &Sketch<'_>, not_shared: Option<&str>, problems: &mut Vec<Problem>) {
    let Sketch { settings, at_least_once, .. } = sketch;
    let consumer = &settings.consumer;
    if settings.batch <= 1 {
        return;
    }
    if *at_least_once {
        problems.push(Problem::new(
            Code::BatchWithoutTransaction,
            format!("subscription {consumer:?} is .batchable(…), and its handlers run without a transaction"),
            "leave .batchable(…) away: there is no transaction that events could share",
        ));
    } else if let Some(reason) = not_shared {
        problems.push(Problem::new(
            Code::BatchNotShared,
            format!("subscription {consumer:?} is .batchable(…), and {reason}"),
            "leave .batchable(…) away: each event has a transaction of its own then",
        ));
    }
}

fn numbers(sketch: &Sketch<'_>, problems: &mut Vec<Problem>) {
    let Sketch { settings, .. } = sketch;
    let consumer = &settings.consumer;
    if !(1..=CONCURRENCY_MAX).contains(&settings.concurrency) {
        problems.push(Problem::new(
            Code::Concurrency,
            format!("subscription {consumer:?} handles {} events at once", settings.concurrency),
            format!("say 1 to {CONCURRENCY_MAX}"),
        ));
    }
    if !(1..=BATCH_MAX).contains(&settings.batch) {
        problems.push(Problem::new(
            Code::BatchSize,
            format!("subscription {consumer:?} handles {} events in one transaction", settings.batch),
            format!("say 1 to {BATCH_MAX}"),
        ));
    }
    if !(1..=PARKED_MAX).contains(&settings.parked_max) {
        problems.push(Problem::new(
            Code::ParkedMax,
            format!("subscription {consumer:?} may have {} events parked", settings.parked_max),
            format!("say 1 to {PARKED_MAX}"),
        ));
    }
    if settings.timeout.is_zero() || settings.timeout > TIMEOUT_MAX {
        problems.push(Problem::new(
            Code::Timeout,
            format!("a handler of {consumer:?} may take {:?}", settings.timeout),
            format!("say more than nothing, and at most {TIMEOUT_MAX:?}"),
        ));
    }
    if settings.generation == 0 {
        problems.push(Problem::new(
            Code::Generation,
            format!("subscription {consumer:?} is of generation 0"),
            "generations are counted from 1",
        ));
    }
    if let Some(problem) = settings.retry.problem() {
        problems.push(Problem::new(
            Code::Retry,
            format!("the retries of {consumer:?} cannot be kept: {problem}"),
            "change .retry(…)",
        ));
    }
}
