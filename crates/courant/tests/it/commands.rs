//! A command goes to the one consumer that owns it, and is answered by an event that it has caused.

use courant::engine::{Partition, ReadBack};
use courant::prelude::*;
use courant::testkit::published;

use crate::build_errors::codes;
use crate::common::{Site, effect, effects};

#[derive(Command, Serialize, Deserialize)]
#[command(type = "pay.take", topic = "pay.commands", key = order, owner = "payments")]
struct Take {
    order: String,
}

#[derive(Event, Serialize, Deserialize)]
#[event(type = "pay.taken", topic = "pay.taken", key = order)]
struct Taken {
    order: String,
}

/// The same type on the wire, as somebody else has understood it.
#[derive(Event, Serialize, Deserialize)]
#[event(type = "pay.take", topic = "pay.commands", key = order)]
struct TakeAsFact {
    order: String,
}

/// And as somebody has who thinks to own it.
#[derive(Command, Serialize, Deserialize)]
#[command(type = "pay.take", topic = "pay.commands", key = order, owner = "tills")]
struct TakeOfTills {
    order: String,
}

async fn take(command: Take, meta: Meta) -> Result<Taken, HandlerError> {
    if !meta.is_command() {
        return Err(HandlerError::dead_letter("it does not say that it is a command"));
    }
    Ok(Taken { order: command.order })
}

async fn go_on(taken: Taken, meta: Meta, mut tx: Tx<Sqlite>) -> Result<(), HandlerError> {
    let is_fact = !meta.is_command();
    effect(&mut tx, format!("{} {:?} {is_fact}", taken.order, meta.causation_id())).await
}

async fn hear(_: TakeAsFact) {}

async fn take_as_well(_: TakeOfTills) {}

/// It says on the wire that it is a command, and whoever asked knows the answer by its causation id.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_is_answered_by_what_it_causes() {
    let site = Site::memory().await;
    let app = site.app().await.subscribe(Subscription::named("payments").on(take));
    let app = app.subscribe(Subscription::named("asking").on(go_on));
    let mut service = app.build().await.expect("fits together").start().await.expect("starts");
    let asked = service.publisher().publish(&Take { order: "o-1".to_owned() }).await.expect("publishes");
    service.settle().await.expect("settles");
    assert_eq!(effects(service.store()).await, [format!("o-1 {:?} true", Some(asked.as_str()))]);
    let first = Partition::new("pay.commands", 0).at(0);
    let read = service.engine().read(vec![first]).await.pop().expect("an answer").expect("reads");
    let ReadBack::Found(command) = read else { panic!("it is there") };
    let kind = command.header("ce_kind").and_then(|header| header.value.clone());
    assert_eq!(kind.as_deref(), Some(&b"command"[..]));
    assert_eq!(published::<Taken>(&**service.engine()).await.expect("reads").len(), 1);
    service.stop().await.expect("stops");
}

/// Two consumers would both do what one was asked to do.
#[tokio::test]
async fn a_command_of_two_owners_is_refused() {
    let fix =
        "a command has one owner, and one type: keep one of them, or publish an event that all may hear";
    let site = Site::memory().await;
    let payments = || Subscription::named("payments").on(take);
    let with_tills = site.app().await.subscribe(payments());
    let with_tills = with_tills.subscribe(Subscription::named("tills").on(take_as_well));
    let with_hearer = site.app().await.subscribe(payments());
    let with_hearer = with_hearer.subscribe(Subscription::named("hearing").on(hear));
    for (app, other) in [(with_tills, "tills"), (with_hearer, "hearing")] {
        let error = app.build().await.expect_err("is refused");
        let said: Vec<_> = error.problems().iter().map(|problem| (problem.what(), problem.fix())).collect();
        let what = format!("the command pay.take is handled by \"payments\" and {other:?}");
        assert_eq!(said, [(what.as_str(), fix)]);
        assert_eq!(codes(&error), ["command-owners"]);
    }
}
