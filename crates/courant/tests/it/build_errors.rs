//! What is wrong with a service is said at once, all of it, and with what to change.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use courant::engine::Engine;
use courant::prelude::*;
use courant::store_api::{Store as _, Transaction as _};
use courant::testkit::World;
use courant::{BuildError, ProblemCode, Service};
use courant_core::topic::TopicName;
use tracing::field::{Field, Visit};
use tracing::span;

use crate::absent_engine::AbsentEngine;
use crate::common::{Counted, Script, count};

#[derive(Command, Serialize, Deserialize)]
#[command(type = "test.take", topic = "test.take", no_key, owner = "takers")]
struct Take;

async fn hear(_: Counted) {}

async fn hear_too(_: Counted) {}

async fn take(_: Take) {}

async fn store() -> Sqlite {
    Sqlite::connect("sqlite::memory:").await.expect("opens")
}

async fn app() -> App<Sqlite> {
    App::new("test").engine("memory:").in_world(&World::new(1)).store(store().await)
}

#[track_caller]
fn said<S: courant::Backing>(
    built: Result<Service<S>, BuildError>,
    expected: &[(&str, &str)],
    expected_codes: &[&str],
) {
    let error = built.expect_err("is refused");
    let said: Vec<_> = error.problems().iter().map(|problem| (problem.what(), problem.fix())).collect();
    assert_eq!(said, expected);
    assert_eq!(codes(&error), expected_codes);
}

pub(crate) fn codes(error: &BuildError) -> Vec<&'static str> {
    error.problems().iter().map(|problem| problem.code().as_str()).collect()
}

#[tokio::test]
async fn nothing_was_said() {
    let built = App::new("test").build().await;
    let error = built.expect_err("is refused");
    assert_eq!(
        error.to_string(),
        "the service \"test\" cannot start:\n  \
         1. it has no engine [no-engine]\n     \
         name one: .engine(\"memory:\") or .engine(\"embedded:./data\")\n  \
         2. it has no subscription [no-subscription]\n     \
         add one: .subscribe(Subscription::named(\"…\").on(handler))"
    );
    // What `fn main() -> Result<…>` shows of it.
    assert_eq!(format!("{error:?}"), error.to_string());
}

#[tokio::test]
async fn names_and_urls() {
    let built = App::new("my service")
        .engine("sometimes:")
        .store(store().await)
        .subscribe(Subscription::named("to bill").on(hear))
        .build()
        .await;
    let letters = "a topic name consists of ASCII letters, digits, '.', '_' and '-'; character 3 is ' '";
    let service = format!("a service is named as topics are: {letters}");
    let consumer = format!("a consumer is named as topics are: {letters}");
    said(
        built,
        &[
            ("\"my service\" cannot be the name of a service", service.as_str()),
            ("\"to bill\" cannot be the name of a subscription", consumer.as_str()),
            (
                "its engine's URL is none",
                "an engine's URL is memory:, embedded:PATH, courant://HOST:PORT or kafka://HOST:PORT; this one \
                 begins with \"sometimes\"",
            ),
        ],
        &["service-name", "consumer-name", "engine-url"],
    );
}

#[tokio::test]
async fn an_engine_that_is_not_built_in() {
    let hearing = Subscription::named("hearing").on(hear);
    let built = App::new("test").engine("nats://127.0.0.1:4222").store(store().await).subscribe(hearing);
    said(
        built.build().await,
        &[(
            "its engine does not open",
            "there is no engine for nats://127.0.0.1:4222 yet; there are memory:, embedded:PATH, courant:// and \
             kafka://",
        )],
        &["engine-does-not-open"],
    );
}

#[tokio::test]
async fn two_subscriptions_of_one_name() {
    let one = Subscription::named("hearing").on(hear);
    let two = Subscription::named("hearing").on(hear_too);
    said(
        app().await.subscribe(one).subscribe(two).build().await,
        &[(
            "2 subscriptions have the name \"hearing\"",
            "give each a name of its own: what a consumer has handled is remembered under it",
        )],
        &["same-name"],
    );
}

#[tokio::test]
async fn handlers_that_are_too_few_too_many_or_others() {
    let none = Subscription::named("none");
    let two = Subscription::named("two").on(hear).on(hear_too);
    let of_others = Subscription::named("of-others").on(take);
    let late = Subscription::named("late").on(hear).at_least_once();
    said(
        app().await.subscribe(none).subscribe(two).subscribe(of_others).subscribe(late).build().await,
        &[
            ("subscription \"none\" has no handler", "give it one: .on(handler)"),
            (
                "subscription \"two\" has 2 handlers for test.counted",
                "keep one, and make each other reaction a subscription of its own",
            ),
            (
                "subscription \"of-others\" handles the command test.take, whose owner is \"takers\"",
                "a command has one owner: send that one a command, or publish an event that all may hear",
            ),
            (
                "subscription \"late\" says .at_least_once() behind its handlers",
                "say it before the first .on(…): handlers are held against it",
            ),
        ],
        &["no-handler", "two-handlers", "command-of-others", "mode-too-late"],
    );
}

#[tokio::test]
async fn a_store_that_is_missing() {
    let once = Subscription::named("once").on(hear);
    said(
        App::new("test").engine("memory:").subscribe(once).build().await,
        &[
            (
                "subscription \"once\" promises effects that happen once, and there is no store",
                "give the App a store: .store(Sqlite::connect(\"sqlite:service.db\").await?), or accept \
                 repetitions: .at_least_once()",
            ),
            (
                "subscription \"once\" parks what fails, and there is no store to park it in",
                "give the App a store, or say what else is to happen: \
                 .when_exhausted(Exhausted::DeadLetter), ::Skip or ::Block",
            ),
        ],
        &["once-without-store", "park-without-store"],
    );
}

#[tokio::test]
async fn a_partition_that_is_blocked_although_keys_can_be_parked() {
    let blocking = Subscription::named("blocking").when_exhausted(Exhausted::Block).on(hear);
    said(
        app().await.subscribe(blocking).build().await,
        &[(
            "subscription \"blocking\" blocks its partition, and there is a store",
            "with a store an event stops its key alone: .when_exhausted(Exhausted::ParkKey)",
        )],
        &["block-with-store"],
    );
}

#[tokio::test]
async fn numbers_out_of_bounds() {
    let wrong = Subscription::named("wrong")
        .concurrency(0)
        .parked_max(0)
        .timeout(Duration::ZERO)
        .generation(0)
        .retry(Retry::exponential(Duration::from_secs(2), Duration::from_secs(1)))
        .on(hear);
    said(
        app().await.subscribe(wrong).build().await,
        &[
            ("subscription \"wrong\" handles 0 events at once", "say 1 to 256"),
            ("subscription \"wrong\" may have 0 events parked", "say 1 to 10000000"),
            ("a handler of \"wrong\" may take 0ns", "say more than nothing, and at most 86400s"),
            ("subscription \"wrong\" is of generation 0", "generations are counted from 1"),
            (
                "the retries of \"wrong\" cannot be kept: the first delay, 2s, is longer than the longest, 1s",
                "change .retry(…)",
            ),
        ],
        &["concurrency", "parked-max", "timeout", "generation", "retry"],
    );
}

#[tokio::test]
async fn topics_that_cannot_be() {
    let wrong = Subscription::named("wrong").topic("a/b").topic("t".repeat(240)).on(hear);
    let long =
        format!("the topic of dead letters of \"wrong\", {}.wrong.dlq, has too long a name", "t".repeat(240));
    said(
        app().await.subscribe(wrong).build().await,
        &[
            (
                "subscription \"wrong\" reads \"a/b\", which cannot be a topic",
                "a topic name consists of ASCII letters, digits, '.', '_' and '-'; character 2 is '/'",
            ),
            (
                long.as_str(),
                "shorten the name of the subscription, so that all of it has at most 249 characters",
            ),
        ],
        &["topic-name", "dead-letter-topic-name"],
    );
}

#[tokio::test]
async fn what_is_said_in_the_wrong_order() {
    let early = Subscription::named("early").on(hear);
    let late = Subscription::named("late").on(count);
    let app = App::new("test").engine("memory:").subscribe(early).store(store().await);
    said(
        app.state(Script::default()).subscribe(late).build().await,
        &[(".store(…) comes behind .subscribe(…)", "say .store(…) first: handlers are held against it")],
        &["said-too-late"],
    );
}

/// The inbox must remember for at least as long as an event can come again.
#[tokio::test]
async fn an_inbox_that_forgets_too_early() {
    let world = World::new(1);
    let engine = world.engine("memory:").await.expect("opens");
    let topic = courant::engine::NewTopic::new(TopicName::new("test.counted").expect("legal"), 1)
        .with("retention.ms", "86400000");
    for created in engine.create_topics(vec![topic]).await {
        created.expect("is created");
    }
    let hour = Duration::from_secs(3600);
    let app = || App::new("test").engine(engine.clone()).in_world(&world);
    let forgetful = Subscription::named("forgetful").remember_for(hour).on(hear);
    said(
        app().store(store().await).subscribe(forgetful).build().await,
        &[(
            "subscription \"forgetful\" remembers for 3600s what it has handled, and an event can come again for \
             173100s: its topics keep events for 86400s, their dead letters for 86400s, and a retry waits for up to \
             300s",
            "remember at least as long, or leave .remember_for(…) away: an event that comes again later would be \
             handled again",
        )],
        &["remembered-too-short"],
    );
    // From the topic, from the topic of dead letters' copies, and from the store.
    let enough = 48 * hour + Duration::from_secs(300);
    let mindful = Subscription::named("mindful").remember_for(enough).on(hear);
    app().store(store().await).subscribe(mindful).build().await.expect("fits together");
}

/// Whoever has sent letters back asks what has become of them: they stay for a day at least.
#[tokio::test]
async fn closed_letters_that_are_forgotten_at_once() {
    let hour = Duration::from_secs(3600);
    let hearing = Subscription::named("hearing").on(hear);
    said(
        app().await.keep_closed_letters_for(hour).subscribe(hearing).build().await,
        &[(
            "dead letters are forgotten 3600s after they were closed",
            "keep them for 86400s or longer: who has sent letters back has to see what becomes of them",
        )],
        &["letters-kept-too-short"],
    );
    let hearing = Subscription::named("hearing").on(hear);
    let day = app().await.keep_closed_letters_for(24 * hour).subscribe(hearing).build().await;
    day.expect("fits together");
}

/// What is said in warnings about what to change.
#[derive(Clone, Default)]
struct Changes(Arc<Mutex<Vec<String>>>);

impl Visit for Changes {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "change" {
            self.0.lock().expect("nobody panics with it").push(value.to_owned());
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
}

impl tracing::Subscriber for Changes {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() == tracing::Level::WARN && metadata.target() == "courant::app::memory"
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        event.record(&mut self.clone());
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// The topic of copies of dead letters is there and keeps them for ever, and that of their events for a day. Who
/// says how long it remembers is refused, and who does not remembers for ever; both are told which topic it is. One
/// that keeps them no longer than that is as it should be.
#[tokio::test]
async fn copies_of_dead_letters_that_are_kept_longer_than_their_events() {
    let world = World::new(1);
    let engine = world.engine("memory:").await.expect("opens");
    let topics =
        [("test.counted", "86400000"), ("test.counted.late.dlq", "-1"), ("test.counted.fit.dlq", "86400000")];
    let new = topics.map(|(name, kept)| {
        let name = TopicName::new(name).expect("legal");
        courant::engine::NewTopic::new(name, 1).with("retention.ms", kept)
    });
    for created in engine.create_topics(new.to_vec()).await {
        created.expect("is created");
    }
    let app = || App::new("test").engine(engine.clone()).in_world(&world);
    let year = Duration::from_secs(365 * 24 * 3600);
    let late = Subscription::named("late").remember_for(year).on(hear);
    said(
        app().store(store().await).subscribe(late).build().await,
        &[(
            "subscription \"late\" remembers for 31536000s what it has handled, and an event can come again for ever: \
             its topics keep events for 86400s, their dead letters for ever, and a retry waits for up to 300s",
            "set retention.ms of the topic test.counted.late.dlq to 86400000, or remember at least as long, or \
             leave .remember_for(…) away: an event that comes again later would be handled again",
        )],
        &["remembered-too-short"],
    );
    // An hour would be too short whatever the copies are set to, so nobody is told to set them.
    let brief = Subscription::named("late").remember_for(Duration::from_secs(3600)).on(hear);
    let built = app().store(store().await).subscribe(brief).build().await;
    let error = built.expect_err("is refused");
    let fix = error.problems()[0].fix();
    assert!(fix.starts_with("remember at least as long"), "{fix}");
    let changes = Changes::default();
    let listening = tracing::subscriber::set_default(changes.clone());
    for name in ["late", "fit"] {
        let hearing = Subscription::named(name).on(hear);
        app().store(store().await).subscribe(hearing).build().await.expect("fits together");
    }
    drop(listening);
    let said = changes.0.lock().expect("nobody panics with it").clone();
    assert_eq!(said, ["set retention.ms of the topic test.counted.late.dlq to 86400000"]);
}

/// The tables are there, and one of them has gone: how far the service has come is not to be had, and it does not
/// begin anew instead.
#[tokio::test]
async fn a_store_that_does_not_say_how_far_it_has_come() {
    let store = store().await;
    store.install(1).await.expect("installs");
    let mut tx = store.begin(None).await.expect("begins");
    sqlx::query("drop table courant_progress").execute(&mut *tx).await.expect("drops");
    tx.commit(1).await.expect("commits");
    let app = App::new("test").engine("memory:").in_world(&World::new(1)).store(store);
    let one = Subscription::named("one").on(hear);
    let built = app.subscribe(one).subscribe(Subscription::named("two").on(hear_too)).build().await;
    let error = built.expect_err("is refused");
    let what: Vec<_> = error.problems().iter().map(|problem| problem.what()).collect();
    assert_eq!(what, ["the store does not say how far it has come"; 2], "of each subscription");
    assert_eq!(codes(&error), ["progress-unknown"; 2]);
    let fix = error.problems()[0].fix();
    assert!(fix.contains("no such table: courant_progress"), "{fix}");
}

/// What was opened says no: the engine has gone, and the tables are those of a newer program. Both are said at
/// once, with what each says itself.
#[tokio::test]
async fn an_engine_and_a_store_that_refuse() {
    let world = World::new(1);
    let absent = AbsentEngine::around(world.engine("memory:").await.expect("opens"));
    absent.leave();
    let engine: Arc<dyn Engine> = absent;
    let store = store().await;
    store.install(1).await.expect("installs");
    let mut tx = store.begin(None).await.expect("begins");
    sqlx::query("update courant_schema set version = 99").execute(&mut *tx).await.expect("updates");
    tx.commit(1).await.expect("commits");
    let hearing = Subscription::named("hearing").on(hear);
    let built =
        App::new("test").engine(engine).in_world(&world).store(store).subscribe(hearing).build().await;
    let error = built.expect_err("is refused");
    let what: Vec<_> = error.problems().iter().map(|problem| problem.what()).collect();
    assert_eq!(what, ["its topics cannot be had", "the store does not take the tables of the framework"]);
    assert_eq!(codes(&error), ["topics", "store-tables"]);
    let fixes: Vec<_> = error.problems().iter().map(|problem| problem.fix()).collect();
    assert!(fixes[0].contains("the broker is away"), "{fixes:?}");
    assert!(fixes[1].contains("version 99"), "{fixes:?}");
}

/// The page lists every code, once and in order, and no other; each row says what to change.
#[test]
fn every_code_is_on_the_page() {
    const PAGE: &str = include_str!("../../../../docs/guide/framework/start-up.md");
    let rows: Vec<Vec<&str>> = PAGE
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    let listed: Vec<&str> = rows.iter().map(|row| row[0].trim_matches('`')).collect();
    let all: Vec<&str> = ProblemCode::ALL.iter().map(|code| code.as_str()).collect();
    assert_eq!(listed, all);
    for row in &rows {
        assert!(row.len() == 3 && row.iter().all(|cell| !cell.is_empty()), "{row:?}");
    }
    let mut once = all.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), all.len(), "no two problems have one code");
}
