//! The pieces of programs that the guide shows: that they are compiled is their test, and
//! `examples::the_pieces_in_the_guide_are_compiled` compares them with the pages.
#![allow(dead_code, reason = "nobody calls what is only to be compiled")]

use courant::prelude::*;
use courant::{BoxError, EventId, Service, until_signal};
use tokio::net::TcpListener;
use tracing::error;

#[derive(Event, Serialize, Deserialize)]
#[event(type = "shop.order-placed", topic = "shop.orders", key = order)]
struct OrderPlaced {
    order: String,
}

#[derive(Event, Serialize, Deserialize)]
#[event(type = "shop.month-closed", topic = "shop.months", key = month)]
struct MonthClosed {
    month: String,
}

async fn bill(_: OrderPlaced) {}

async fn stays(service: Service) -> Result<(), BoxError> {
    service.run_until_signal().await?;
    Ok(())
}

async fn stays_and_waits_for_no_thread(service: Service) {
    if let Err(said) = service.run_until_signal().await {
        error!(%said, "the service has ended");
        std::process::exit(1);
    }
}

async fn stays_with_requests(service: Service, listener: TcpListener) -> Result<(), BoxError> {
    async fn serve(service: Service, _: TcpListener, end: impl Future<Output = ()>) -> Result<(), BoxError> {
        service.run_until(end).await?;
        Ok(())
    }

    until_signal(|told| serve(service, listener, told)).await??;
    Ok(())
}

fn several_parts() {
    use courant::Provides;

    #[derive(Clone)]
    struct Prices;

    #[derive(Clone)]
    struct Carrier;

    struct Parts {
        prices: Prices,
        carrier: Carrier,
    }

    impl Provides<Prices> for Parts {
        fn provide(&self) -> Prices {
            self.prices.clone()
        }
    }

    impl Provides<Carrier> for Parts {
        fn provide(&self) -> Carrier {
            self.carrier.clone()
        }
    }

    async fn ship(_: OrderPlaced, _: State<Prices>, _: State<Carrier>) {}

    let shipping = Subscription::named("shipping").at_least_once().on(ship);
    let app = App::new("shop").state(Parts { prices: Prices, carrier: Carrier }).subscribe(shipping);
    drop(app);
}

fn layers() {
    use std::sync::Arc;

    use courant::layer::{Call, Handled, Next, from_fn};
    use courant::prelude::*;
    use tokio::sync::Semaphore;

    async fn limit(room: Arc<Semaphore>, call: Call, next: Next) -> Result<Handled, HandlerError> {
        let _place = room.acquire().await?;
        next.run(call).await
    }

    let room = Arc::new(Semaphore::new(8));
    let app = App::new("billing").layer(from_fn(move |call, next| limit(room.clone(), call, next)));
    drop(app);
}

fn operations() -> Result<(), BoxError> {
    use courant::channel::OperationsKey;

    let key = OperationsKey::new(&std::fs::read_to_string("billing.key")?)?;
    let app = App::new("billing").engine("courant://127.0.0.1:9092").operations(key.signature_is_enough());
    drop(app);
    Ok(())
}

async fn mapping() -> Result<(), BoxError> {
    use courant::Mapping;

    let mapping = Mapping::new().rename("OrderPlaced", "shop.order-placed").key("/payload/orderId");

    let app = App::new("billing")
        .engine("kafka://broker:9092")
        .store(Sqlite::connect("sqlite:billing.db").await?)
        .map_envelope("orders", mapping)
        .subscribe(Subscription::named("billing").topic("orders").on(bill));
    drop(app);
    Ok(())
}

async fn one_fact(month: String, mut tx: Tx<Sqlite>) -> Result<(), HandlerError> {
    let id = EventId::new(&format!("month-closed/{month}"))?;
    tx.publish_as(&id, &MonthClosed { month })?;
    Ok(())
}

#[cfg(feature = "listen")]
fn health(running: &courant::Running) {
    use courant::StallReason;

    let is_well = running.stalls().iter().all(|stall| stall.reason != StallReason::StoreFull);
    assert!(is_well);
}

async fn listening() -> Result<(), BoxError> {
    use courant::listen::Listen;

    let log = Listen::default().open(&"embedded:./events".parse()?).await?;
    let app = App::new("billing").engine(log.engine());
    // … build, run, and when the service has stopped:
    log.stop().await;
    drop(app);
    Ok(())
}

fn requirements() -> Result<(), BoxError> {
    use courant::engine::{Durability, GroupScope};

    let app = App::new("billing")
        .engine(std::env::var("BILLING_ENGINE")?)
        .requires(Durability::Disk)
        .requires(GroupScope::Everywhere);
    drop(app);
    Ok(())
}

async fn outbox(service: &Service<Sqlite>, id: String) -> Result<(), BoxError> {
    let mut tx = service.transaction().await?;
    sqlx::query("insert into orders (id) values (?)").bind(&id).execute(&mut *tx).await?;
    tx.publish(&OrderPlaced { order: id })?;
    tx.commit().await?;
    Ok(())
}

#[cfg(feature = "postgres")]
async fn own_pool(
    pool: &sqlx::PgPool,
    desk: &courant::Transactions<Postgres>,
    order: String,
) -> Result<(), BoxError> {
    let mut tx = desk.attach(pool.begin().await?).await?;
    sqlx::query("insert into orders (name) values ($1)").bind(&order).execute(&mut *tx).await?;
    tx.publish(&OrderPlaced { order })?;
    tx.commit().await?;
    Ok(())
}

async fn in_a_span(
    desk: &courant::Transactions<Sqlite>,
    traceparent: Option<&str>,
) -> Result<EventId, BoxError> {
    use courant::trace::TraceContext;

    let mut tx = match TraceContext::of(traceparent) {
        Some(span) => desk.within(span).begin().await?,
        None => desk.begin().await?,
    };
    let id = tx.publish(&OrderPlaced { order: "tea".to_owned() })?;
    tx.commit().await?;
    Ok(id)
}
