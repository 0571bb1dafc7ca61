//! One handler by itself: given a database, when an event comes, then this is published.

use std::fmt;

use courant_core::headers;
use courant_core::topic::TopicName;
use courant_sql::{DeadFilter, Failure, NewEvent, RelayLease, Store, Transaction as _};

use super::World;
use crate::envelope::text;
use crate::handler::{Arguments, Handler, IntoOutcome, OneTransaction};
use crate::runtime::FaultPoint;
use crate::{App, BoxError, Event, Once, Retry, Subscription};

/// What is there before an event comes: a database, and the state of the service.
///
/// ```
/// # use courant::prelude::*;
/// # use courant::testkit::Given;
/// # #[derive(Event, Serialize, Deserialize)]
/// # #[event(type = "shop.order-placed", topic = "shop.orders", key = order)]
/// # struct OrderPlaced {
/// #     order: String,
/// # }
/// # #[derive(Event, Serialize, Deserialize, Debug, PartialEq)]
/// # #[event(type = "shop.order-billed", topic = "shop.bills", key = order)]
/// # struct OrderBilled {
/// #     order: String,
/// # }
/// # async fn bill(placed: OrderPlaced, mut tx: Tx<Sqlite>) -> Result<OrderBilled, HandlerError> {
/// #     sqlx::query("insert into bills (order_name) values (?)").bind(&placed.order).execute(&mut *tx).await?;
/// #     Ok(OrderBilled { order: placed.order })
/// # }
/// # #[tokio::main]
/// # async fn main() -> Result<(), courant::BoxError> {
/// let then = Given::store(Sqlite::connect("sqlite::memory:").await?)
///     .await?
///     .rows(async |db: &mut sqlx::SqliteConnection| {
///         sqlx::query("create table bills (order_name text not null)").execute(db).await?;
///         Ok(())
///     })
///     .await?
///     .when(bill, &OrderPlaced { order: "o-1".to_owned() })
///     .await?;
/// assert_eq!(then.published::<OrderBilled>()?, [OrderBilled { order: "o-1".to_owned() }]);
/// # Ok(())
/// # }
/// ```
pub struct Given<D: Store, T = ()> {
    world: World,
    store: D,
    state: T,
}

/// What has become of one event that a handler was called with, once.
pub struct Then<D: Store> {
    store: D,
    published: Vec<NewEvent>,
    scheduled: Vec<NewEvent>,
    failure: Option<Failure>,
}

/// A service that runs for one call, and its consumer where the event has no owner.
const NAME: &str = "given";

/// Events that are read from the store at once.
const STEP: u32 = 1_000;

impl<D: Store> Given<D> {
    /// A database, which gets the tables of the framework. It should be a new one.
    ///
    /// # Errors
    /// Says what the database said.
    pub async fn store(store: D) -> Result<Self, BoxError> {
        // With this seed, ids have the order in which they were given.
        let world = World::new(0);
        store.install(world.now_ms()).await?;
        Ok(Self { world, store, state: () })
    }
}

impl<D: Store, T: Send + Sync + 'static> Given<D, T> {
    /// Changes the database before the event comes: the service's tables, and what is in them.
    ///
    /// # Errors
    /// What `write` says, or the database.
    pub async fn rows(
        self,
        write: impl AsyncFnOnce(&mut D::Connection) -> Result<(), BoxError>,
    ) -> Result<Self, BoxError> {
        let mut transaction = self.store.begin(None).await?;
        write(transaction.connection()).await?;
        transaction.commit(self.world.now_ms()).await?;
        Ok(self)
    }

    /// What the handler can ask for as `State<N>`.
    #[must_use]
    pub fn state<N: Send + Sync + 'static>(self, state: N) -> Given<D, N> {
        Given { world: self.world, store: self.store, state }
    }

    /// Calls a handler with an event, once, and commits what it has done if it succeeds. Nobody handles
    /// what it publishes. The handler of a command is called as a handler of the command's owner.
    ///
    /// # Errors
    /// The handler could not be called. That it has failed is said by [`Then::failure`].
    pub async fn when<H, A>(self, handler: H, event: &A::Event) -> Result<Then<D>, BoxError>
    where
        H: Handler<A>,
        A: Arguments<D, T, Once>,
        A::Takes: OneTransaction,
        H::Future: Send + 'static,
        H::Output: IntoOutcome,
    {
        let Self { world, store, state } = self;
        // It ends where the call is done and nothing that came of it has left the store.
        for point in [FaultPoint::AfterCommit, FaultPoint::AfterPark, FaultPoint::AfterPublish] {
            world.crash_at(point, 0);
        }
        // Nobody else is given a command.
        let consumer = A::Event::OWNER.unwrap_or(NAME);
        let service = App::new(NAME)
            .engine(world.engine("memory:").await?)
            .partitions(1)
            .in_world(&world)
            .store(store.clone())
            .state(state)
            .subscribe(Subscription::named(consumer).retry(Retry::never()).on(handler))
            .build()
            .await?;
        let mut service = service.start().await?;
        service.publisher().publish(event).await?;
        tokio::select! {
            () = world.crashed(1) => {}
            ended = service.settle() => {
                ended?;
                return Err("the handler was not called".into());
            }
        }
        service.kill().await;
        Then::read(store, world.now_ms()).await
    }
}

impl<D: Store> Then<D> {
    async fn read(store: D, now_ms: i64) -> Result<Self, BoxError> {
        let dead = store.dead_letters(&DeadFilter::default(), 0, 1).await?;
        let failure = dead.into_iter().next().map(|letter| letter.failure);
        let lease = store.take_over_relay("all", NAME, now_ms).await?;
        let published = drain(&store, &lease).await?;
        let mut scheduled = Vec::new();
        while store.fire_timers(&lease, STEP, u64::MAX, i64::MAX).await?.timers > 0 {
            scheduled.extend(drain(&store, &lease).await?);
        }
        Ok(Self { store, published, scheduled, failure })
    }

    /// What the handler has published of a type, in its order.
    ///
    /// # Errors
    /// One of them cannot be decoded.
    pub fn published<E: Event>(&self) -> Result<Vec<E>, BoxError> {
        self.published.iter().filter(|event| is_a::<E>(event)).map(decode::<E>).collect()
    }

    /// What the handler has scheduled of a type, in its order, with the times at which it is due, in
    /// milliseconds since 1970.
    ///
    /// # Errors
    /// One of them cannot be decoded.
    pub fn scheduled<E: Event>(&self) -> Result<Vec<(i64, E)>, BoxError> {
        let wanted = self.scheduled.iter().filter(|event| is_a::<E>(event));
        wanted.map(|event| Ok((time_ms(event)?, decode::<E>(event)?))).collect()
    }

    /// Why the handler has failed; `None`: it has not.
    pub fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    /// The database, as the handler has left it.
    pub fn store(&self) -> &D {
        &self.store
    }
}

/// Takes everything out of the outbox. In the order in which it was published.
async fn drain<D: Store>(store: &D, lease: &RelayLease) -> Result<Vec<NewEvent>, BoxError> {
    let mut events = Vec::new();
    loop {
        let batches = store.pending(0, STEP, u64::MAX).await?;
        if batches.is_empty() {
            break;
        }
        let reached = batches.iter().filter_map(|batch| batch.events.last()).map(|pending| pending.at);
        let reached: Vec<_> = reached.collect();
        store.advance(lease, &reached).await?;
        events.extend(batches.into_iter().flat_map(|batch| batch.events).map(|pending| pending.event));
    }
    events.sort_by(|one, other| one.id.as_str().cmp(other.id.as_str()));
    Ok(events)
}

fn is_a<E: Event>(event: &NewEvent) -> bool {
    let is_there = TopicName::new(E::TOPIC).is_ok_and(|topic| topic == event.topic);
    is_there && text(&event.headers, headers::TYPE) == Some(E::TYPE)
}

fn decode<E: Event>(event: &NewEvent) -> Result<E, BoxError> {
    Ok(serde_json::from_slice(event.value.as_deref().unwrap_or_default())?)
}

fn time_ms(event: &NewEvent) -> Result<i64, BoxError> {
    let time = text(&event.headers, headers::TIME).ok_or("a scheduled event without a time")?;
    Ok(time.parse::<jiff::Timestamp>()?.as_millisecond())
}

impl<D: Store, T> fmt::Debug for Given<D, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Given").field("store", &self.store).finish_non_exhaustive()
    }
}

impl<D: Store> fmt::Debug for Then<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Then")
            .field("published", &self.published.len())
            .field("scheduled", &self.scheduled.len())
            .field("failure", &self.failure)
            .finish_non_exhaustive()
    }
}
