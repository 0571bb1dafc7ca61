//! The test kit's check of one handler: given a database, when an event comes, then this is published.

use courant::BoxError;
use courant::prelude::*;
use courant::testkit::Given;

use crate::common::seconds;

#[derive(Event, Serialize, Deserialize)]
#[event(type = "shop.order-placed", topic = "shop.orders", key = order)]
struct OrderPlaced {
    order: String,
    cents: i64,
}

#[derive(Event, Serialize, Deserialize, Debug, PartialEq)]
#[event(type = "shop.order-billed", topic = "shop.bills", key = order)]
struct OrderBilled {
    order: String,
    cents: i64,
}

#[derive(Event, Serialize, Deserialize, Debug, PartialEq)]
#[event(type = "shop.payment-missed", topic = "shop.payments", key = order)]
struct PaymentMissed {
    order: String,
}

/// Takes what a voucher gives off, and asks after a day.
async fn bill(
    placed: OrderPlaced,
    State(least): State<i64>,
    mut tx: Tx<Sqlite>,
) -> Result<Vec<OrderBilled>, HandlerError> {
    let (off,): (i64,) = sqlx::query_as("select coalesce(sum(cents), 0) from vouchers where order_name = ?")
        .bind(&placed.order)
        .fetch_one(&mut *tx)
        .await?;
    sqlx::query("delete from vouchers where order_name = ?").bind(&placed.order).execute(&mut *tx).await?;
    if placed.cents - off < least {
        return Err(HandlerError::retry("too little to bill"));
    }
    tx.publish(&OrderBilled { order: placed.order.clone(), cents: placed.cents - off })?;
    tx.schedule(&PaymentMissed { order: placed.order.clone() }, seconds(86_400))?;
    Ok(vec![
        OrderBilled { order: format!("{}-copy-b", placed.order), cents: 0 },
        OrderBilled { order: format!("{}-copy-a", placed.order), cents: 0 },
    ])
}

async fn given() -> Result<Given<Sqlite, i64>, BoxError> {
    let given = Given::store(Sqlite::connect("sqlite::memory:").await?).await?;
    let given = given.rows(async |db: &mut sqlx::SqliteConnection| {
        let tables = "create table vouchers (order_name text not null, cents integer not null)";
        sqlx::query(tables).execute(&mut *db).await?;
        sqlx::query("insert into vouchers values ('o-1', 50)").execute(&mut *db).await?;
        Ok(())
    });
    Ok(given.await?.state(10))
}

async fn vouchers(store: &Sqlite) -> i64 {
    let mut reader = store.read().await.expect("reads");
    let (count,): (i64,) =
        sqlx::query_as("select count(*) from vouchers").fetch_one(&mut *reader).await.expect("counts");
    count
}

/// What a handler publishes, returns and schedules is seen in its order, and what it has written is there.
#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_succeeds_shows_what_it_has_done() {
    let placed = OrderPlaced { order: "o-1".to_owned(), cents: 250 };
    let then = given().await.expect("rows").when(bill, &placed).await.expect("is called");
    assert_eq!(then.failure(), None);
    let billed = |order: &str, cents| OrderBilled { order: order.to_owned(), cents };
    assert_eq!(
        then.published::<OrderBilled>().expect("decodes"),
        [billed("o-1", 200), billed("o-1-copy-b", 0), billed("o-1-copy-a", 0)],
        "in the order of the handler, not of their keys"
    );
    let scheduled = then.scheduled::<PaymentMissed>().expect("decodes");
    let [(due_ms, missed)] = &scheduled[..] else { panic!("{scheduled:?}") };
    assert_eq!(missed.order, "o-1");
    let now_ms = courant::testkit::World::new(0).now_ms();
    assert_eq!(*due_ms, now_ms + 86_400_000);
    assert!(then.published::<PaymentMissed>().expect("decodes").is_empty(), "it is not due");
    assert_eq!(vouchers(then.store()).await, 0);
}

/// What a handler that fails has done is not there, and why it has failed is.
#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_fails_shows_why() {
    let placed = OrderPlaced { order: "o-1".to_owned(), cents: 55 };
    let then = given().await.expect("rows").when(bill, &placed).await.expect("is called");
    let failure = then.failure().expect("it has failed");
    assert!(failure.message.contains("too little to bill"), "{failure:?}");
    assert!(then.published::<OrderBilled>().expect("decodes").is_empty());
    assert!(then.scheduled::<PaymentMissed>().expect("decodes").is_empty());
    assert_eq!(vouchers(then.store()).await, 1);
}

#[derive(Event, Serialize, Deserialize, Debug, PartialEq)]
#[event(type = "test.step", topic = "test.steps", no_key)]
struct Step {
    n: u32,
}

async fn step(step: Step) -> Step {
    Step { n: step.n + 1 }
}

#[derive(Command, Serialize, Deserialize)]
#[command(type = "shop.take-payment", topic = "shop.payments-asked", key = order, owner = "payments")]
struct TakePayment {
    order: String,
    cents: i64,
}

async fn take(asked: TakePayment, meta: Meta) -> Result<OrderBilled, HandlerError> {
    if meta.consumer().as_str() != "payments" || !meta.is_command() {
        return Err(HandlerError::dead_letter("it was not given as its owner is given it"));
    }
    Ok(OrderBilled { order: asked.order, cents: asked.cents })
}

/// Symptom: no handler of a command could be looked at by itself, "subscription "given" handles the command
/// shop.take-payment, whose owner is "payments"". Cause: the test kit has one name for all consumers, and a command
/// is handled by its owner alone. Fix: the handler is called in the owner's name.
#[tokio::test(flavor = "multi_thread")]
async fn a_handler_of_a_command_is_called_as_its_owner() {
    let store = Sqlite::connect("sqlite::memory:").await.expect("opens");
    let given = Given::store(store).await.expect("installs");
    let asked = TakePayment { order: "o-1".to_owned(), cents: 250 };
    let then = given.when(take, &asked).await.expect("is called");
    assert_eq!(then.failure(), None);
    let taken = OrderBilled { order: "o-1".to_owned(), cents: 250 };
    assert_eq!(then.published::<OrderBilled>().expect("decodes"), [taken]);
}

/// It is one call: what the handler publishes to itself is not handled.
#[tokio::test(flavor = "multi_thread")]
async fn a_handler_is_called_once() {
    let store = Sqlite::connect("sqlite::memory:").await.expect("opens");
    let given = Given::store(store).await.expect("installs");
    let then = given.when(step, &Step { n: 1 }).await.expect("is called");
    assert_eq!(then.published::<Step>().expect("decodes"), [Step { n: 2 }]);
}
