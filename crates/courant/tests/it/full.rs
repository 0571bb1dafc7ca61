//! A service that reads nothing more, because of all that is parked, says so of itself.

use courant::prelude::*;
use courant::testkit::World;

use crate::channel::{A_WHILE, states};
use crate::given::{Counted, counted};

async fn refuse(event: Counted) -> Result<(), HandlerError> {
    Err(HandlerError::park(format!("nobody can do {}", event.key)))
}

/// It is said when it is so, and that it is over when it is.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_says_that_it_reads_nothing_more() {
    let world = World::new(1);
    let engine = world.engine("memory:").await.expect("opens");
    let app = App::new("shop").engine(engine.clone()).in_world(&world).announced().partitions(1);
    let app = app.store(Sqlite::connect("sqlite::memory:").await.expect("opens"));
    let service = app.subscribe(Subscription::named("billing").parked_max(1).on(refuse)).build().await;
    let mut service = service.expect("fits together").start().await.expect("starts");
    service.settle().await.expect("settles");
    let said = states(&*engine).await.pop().expect("it has said that it is there");
    assert_eq!((said.subscriptions[0].full, said.subscriptions[0].policy.parked_max), (false, 1));

    service.publisher().publish(&counted("a", 1)).await.expect("is taken");
    service.settle().await.expect("settles");
    service.publisher().publish(&counted("b", 1)).await.expect("is taken");
    world.advance(A_WHILE);
    service.settle().await.expect("settles");
    let said = states(&*engine).await.pop().expect("says");
    assert!(said.subscriptions[0].full, "{said:?}");
    assert_eq!(said.lag().0, 1, "the second one waits in the log");

    let letters = service.dead_letters().list().await.expect("lists");
    let ids: Vec<i64> = letters.iter().map(|letter| letter.id).collect();
    service.dead_letters().discard(&ids).await.expect("discards");
    service.settle().await.expect("settles");
    let letters = service.dead_letters().list().await.expect("lists");
    assert_eq!(letters.len(), 1, "the second one was read, and is parked in its turn");
    let ids: Vec<i64> = letters.iter().map(|letter| letter.id).collect();
    service.dead_letters().discard(&ids).await.expect("discards");
    service.settle().await.expect("settles");
    world.advance(A_WHILE);
    service.settle().await.expect("settles");
    let said = states(&*engine).await.pop().expect("says");
    assert_eq!((said.subscriptions[0].full, said.lag().0), (false, 0), "{said:?}");
    service.stop().await.expect("stops");
}
