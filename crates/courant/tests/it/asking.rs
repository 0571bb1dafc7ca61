//! Orders are paid by the one that may take money: it is asked by a command, and answers with an event.

use courant::prelude::*;
use courant::{BoxError, Verdict};

#[derive(Event, Serialize, Deserialize)]
#[event(type = "shop.order-placed", topic = "shop.orders", key = order)]
struct OrderPlaced {
    order: String,
    cents: i64,
}

#[derive(Command, Serialize, Deserialize)]
#[command(type = "shop.take-payment", topic = "shop.payments", key = order, owner = "payments")]
struct TakePayment {
    order: String,
    cents: i64,
}

#[derive(Event, Serialize, Deserialize)]
#[event(type = "shop.payment-taken", topic = "shop.payments-taken", key = order)]
struct PaymentTaken {
    order: String,
}

/// The most that is taken at once.
#[derive(Clone)]
struct MostCents(i64);

/// A present is not paid for.
async fn ask(placed: OrderPlaced) -> Option<TakePayment> {
    (placed.cents > 0).then_some(TakePayment { order: placed.order, cents: placed.cents })
}

async fn take(asked: TakePayment, State(most): State<MostCents>) -> Result<PaymentTaken, HandlerError> {
    if asked.cents > most.0 {
        return Err(HandlerError::dead_letter(format!("{} cents are too many", asked.cents)));
    }
    Ok(PaymentTaken { order: asked.order })
}

/// A handler is a function, and who tests it calls it.
#[tokio::test]
async fn too_much_is_not_taken() {
    let asked = TakePayment { order: "palace".to_owned(), cents: 1_000_000 };
    let refused = take(asked, State(MostCents(10_000))).await.err();
    assert_eq!(refused.map(|error| error.verdict()), Some(Verdict::DeadLetter));
}

async fn enter(taken: Envelope<PaymentTaken>, mut tx: Tx<Sqlite>) -> Result<(), HandlerError> {
    sqlx::query("insert into paid (order_name, asked_by) values (?, ?)")
        .bind(&taken.order)
        .bind(taken.meta().causation_id())
        .execute(&mut *tx)
        .await?;
    Ok(())
}

async fn paid(store: &Sqlite) -> Result<Vec<(String,)>, BoxError> {
    let mut reader = store.read().await?;
    let paid = sqlx::query_as("select order_name from paid where asked_by is not null")
        .fetch_all(&mut *reader)
        .await?;
    Ok(paid)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_paid_by_who_may_take_money() -> Result<(), BoxError> {
    let store = Sqlite::connect("sqlite::memory:").await?;
    let mut service = App::new("shop")
        .engine("memory:")
        .store(store.clone())
        .state(MostCents(10_000))
        .subscribe(Subscription::named("ordering").on(ask))
        .subscribe(Subscription::named("payments").on(take))
        .subscribe(Subscription::named("books").on(enter))
        .build()
        .await?
        .start()
        .await?;

    let mut tx = service.transaction().await?;
    sqlx::query("create table paid (order_name text, asked_by text)").execute(&mut *tx).await?;
    tx.commit().await?;
    for (order, cents) in [("tea", 300), ("present", 0), ("palace", 1_000_000)] {
        service.publisher().publish(&OrderPlaced { order: order.to_owned(), cents }).await?;
    }
    service.settle().await?;

    assert_eq!(paid(&store).await?, [("tea".to_owned(),)]);
    let letters = service.dead_letters().list().await?;
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].failure.message, "1000000 cents are too many");
    service.stop().await?;
    Ok(())
}
