//! An event changes while the services that hear of it run: those of before read new ones, and those of now old ones.

use courant::BoxError;
use courant::prelude::*;
use courant::store_api::DeadFilter;
use courant::testkit::World;

/// As shipping has known orders so far.
mod before {
    use courant::prelude::*;

    #[derive(Event, Serialize, Deserialize)]
    #[event(type = "shop.order-placed", topic = "shop.orders", key = order)]
    pub(super) struct OrderPlaced {
        pub(super) order: String,
        pub(super) by: Delivery,
    }

    #[derive(Serialize, Deserialize)]
    pub(super) enum Delivery {
        Post,
        /// What later versions know. It is read and never published.
        #[serde(other)]
        Other,
    }

    pub(super) async fn ship(placed: OrderPlaced, tx: Tx<Sqlite>) -> Result<(), HandlerError> {
        match placed.by {
            Delivery::Post => super::note(tx, format!("{} by post", placed.order)).await,
            Delivery::Other => Err(HandlerError::park("this version cannot deliver in that way")),
        }
    }
}

/// As it knows them now: a field is called otherwise in the program, one is new, and so is one way of delivery.
mod now {
    use courant::prelude::*;

    #[derive(Event, Serialize, Deserialize)]
    #[event(type = "shop.order-placed", topic = "shop.orders", key = number)]
    pub(super) struct OrderPlaced {
        /// Its name on the wire stays.
        #[serde(rename = "order")]
        pub(super) number: String,
        pub(super) by: Delivery,
        /// Older events have none.
        #[serde(default)]
        pub(super) as_a_gift: bool,
    }

    #[derive(Serialize, Deserialize)]
    pub(super) enum Delivery {
        Post,
        Bicycle,
        /// What later versions know. It is read and never published.
        #[serde(other)]
        Other,
    }

    pub(super) async fn ship(placed: OrderPlaced, tx: Tx<Sqlite>) -> Result<(), HandlerError> {
        let by = match placed.by {
            Delivery::Post => "post",
            Delivery::Bicycle => "bicycle",
            Delivery::Other => return Err(HandlerError::park("this version cannot deliver in that way")),
        };
        let what = if placed.as_a_gift { "a gift" } else { placed.number.as_str() };
        super::note(tx, format!("{what} by {by}")).await
    }
}

async fn note(mut tx: Tx<Sqlite>, what: String) -> Result<(), HandlerError> {
    sqlx::query("insert into shipped (what) values (?)").bind(what).execute(&mut *tx).await?;
    Ok(())
}

async fn shipped(store: &Sqlite) -> Result<Vec<String>, BoxError> {
    let mut reader = store.read().await?;
    let rows: Vec<(String,)> =
        sqlx::query_as("select what from shipped order by what").fetch_all(&mut *reader).await?;
    Ok(rows.into_iter().map(|(what,)| what).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_versions_of_an_event_go_together() -> Result<(), BoxError> {
    let world = World::new(7);
    let log = world.engine("memory:").await?;
    let store = Sqlite::connect("sqlite::memory:").await?;
    let app = || App::new("shipping").engine(log.clone()).in_world(&world).store(store.clone());

    // Shipping is of before, and the shop that publishes is of both: its instances are replaced one by one.
    let of_before = Subscription::named("shipping").on(before::ship);
    let mut service = app().subscribe(of_before).build().await?.start().await?;
    let mut tx = service.transaction().await?;
    sqlx::query("create table shipped (what text not null)").execute(&mut *tx).await?;
    tx.publish(&before::OrderPlaced { order: "tea".to_owned(), by: before::Delivery::Post })?;
    let gift = now::OrderPlaced { number: "cake".to_owned(), by: now::Delivery::Post, as_a_gift: true };
    tx.publish(&gift)?;
    let fast = now::OrderPlaced { number: "ink".to_owned(), by: now::Delivery::Bicycle, as_a_gift: false };
    tx.publish(&fast)?;
    tx.commit().await?;
    service.settle().await?;
    assert_eq!(shipped(&store).await?, ["cake by post", "tea by post"]);
    assert_eq!(service.dead_letters().list().await?.len(), 1);
    service
        .publisher()
        .publish(&before::OrderPlaced { order: "ink".to_owned(), by: before::Delivery::Post })
        .await?;
    service.settle().await?;
    assert_eq!(shipped(&store).await?.len(), 2, "what is of the same key waits");
    service.stop().await?;

    let of_now = Subscription::named("shipping").on(now::ship);
    let mut service = app().subscribe(of_now).build().await?.start().await?;
    service.dead_letters().redrive("bicycles", "Grace", &DeadFilter::default()).await?;
    service.settle().await?;
    assert_eq!(shipped(&store).await?, ["cake by post", "ink by bicycle", "ink by post", "tea by post"]);
    assert!(service.dead_letters().list().await?.is_empty());
    service.stop().await?;
    Ok(())
}
