//! A shop whose orders go through five services. Each has a database of its own, and knows the others by their
//! events only.
//!
//! ```text
//!  storefront ──order placed──▶ payments ──payment taken──▶ inventory ──stock reserved──▶ shipping
//!      ▲  └──────────┬──────────────┘ declined                                               │
//!      │             ▼                                                                       │
//!      │         analytics ◀─────────────────────────────────────────────────────────────────┤
//!      └──────────────────────────────────order shipped──────────────────────────────────────┘
//! ```
//!
//! It can be broken on purpose ([`Trouble`]); [`Shop::look`] says what has come of it.

mod analytics;
mod dice;
mod events;
mod figures;
mod inventory;
mod line;
mod payments;
mod shipping;
mod storefront;
mod ticks;
mod trouble;

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex as SyncMutex, PoisonError};
use std::time::{Duration, Instant};

use courant::channel::OperationsKey;
use courant::engine::{Engine, Position};
use courant::prelude::*;
use courant::store_api::DeadFilter;
use courant::{BoxError, Running, Service};
use tokio::sync::{Mutex, RwLock, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use self::dice::{Dice, OF_PARTNER, TO_ICELAND};
use self::line::Line;
use self::ticks::{Moment, Seen};
use self::trouble::Troubles;

pub(crate) use self::figures::Figures;
pub(crate) use self::ticks::Tick;
pub(crate) use self::trouble::Trouble;

/// Of each topic.
const PARTITIONS: u32 = 4;
const VERSION: &str = "1.0";

/// Consumers that are looked at from outside.
const ANALYTICS: &str = "analytics";
const PAYMENTS: &str = "payments";
pub(crate) const SHIPPING: &str = "shipping";

/// Orders that come in a second at speed 1.
pub(crate) const ORDERS_PER_SECOND: u32 = 5;

/// Of so many orders one comes through the partner's gateway, while that is on.
const GATEWAY_EVERY: u64 = 4;

/// Orders to Iceland that come at once when the carrier has forgotten it: one that fails, and some behind it.
const ICELANDIC_ORDERS: usize = 3;

/// How often somebody looks at what has happened, whoever asks.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How many times as long as a look is the rest behind it, at least.
const REST: u32 = 9;

/// What a shop is opened with.
pub(crate) struct Plan {
    pub(crate) engine: Arc<dyn Engine>,
    /// Where the databases are; it is there.
    pub(crate) directory: PathBuf,
    /// Of the orders that come by themselves.
    pub(crate) seed: u64,
    pub(crate) speed: u32,
    /// What requests about dead letters are signed with.
    pub(crate) operations: Option<OperationsKey>,
}

/// What each service is opened with.
struct Parts {
    engine: Arc<dyn Engine>,
    directory: PathBuf,
    troubles: Arc<Troubles>,
    operations: Option<OperationsKey>,
}

/// The services.
struct Services {
    storefront: Running<Sqlite>,
    payments: Running<Sqlite>,
    inventory: Running<Sqlite>,
    shipping: Running<Sqlite>,
    analytics: Running<Sqlite>,
}

/// A shop that is open.
pub(crate) struct Shop {
    /// Past the line that can be cut: who looks is not cut off.
    engine: Arc<dyn Engine>,
    troubles: Arc<Troubles>,
    /// `None` once it is closed.
    services: RwLock<Option<Services>>,
    dice: SyncMutex<Dice>,
    looking: Mutex<Looking>,
    /// Repetitions that the gateway has sent.
    repeated: SyncMutex<u64>,
    pace: Duration,
    closing: watch::Sender<bool>,
    tasks: Mutex<JoinSet<()>>,
}

/// What is known from looks before.
struct Looking {
    seen: Seen,
    /// Repetitions that were sent, and where orders ended then.
    waiting: Option<(u64, Vec<Position>)>,
    /// Repetitions that payments has come past.
    passed: u64,
}

/// What is seen in one look.
#[derive(Clone, Debug)]
pub(crate) struct Look {
    pub(crate) figures: Figures,
    pub(crate) ticks: Vec<Tick>,
    /// Each trouble, and whether it is on.
    pub(crate) troubles: Vec<(Trouble, bool)>,
}

impl Shop {
    /// Opens it. Nobody orders anything yet.
    pub(crate) async fn open(plan: Plan) -> Result<Arc<Self>, BoxError> {
        let Plan { engine, directory, seed, speed, operations } = plan;
        let troubles = Arc::new(Troubles::none());
        let line = Line { engine: engine.clone(), troubles: troubles.clone() };
        let parts = Parts { engine: Arc::new(line), directory, troubles: troubles.clone(), operations };
        let services = Services::open(&parts).await?;
        let orders_per_second = ORDERS_PER_SECOND * speed.max(1);
        // Analytics hears of most orders twice: when they are placed, and when they are shipped.
        let seen = Seen::nothing(u64::from(orders_per_second) * 2);
        Ok(Arc::new(Self {
            engine,
            troubles,
            services: RwLock::new(Some(services)),
            dice: SyncMutex::new(Dice::new(seed)),
            looking: Mutex::new(Looking { seen, waiting: None, passed: 0 }),
            repeated: SyncMutex::new(0),
            pace: Duration::from_secs(1) / orders_per_second,
            closing: watch::Sender::new(false),
            tasks: Mutex::new(JoinSet::new()),
        }))
    }

    /// From now on orders come by themselves, and somebody looks.
    pub(crate) async fn let_customers_in(self: &Arc<Self>) {
        let mut tasks = self.tasks.lock().await;
        let shop = self.clone();
        tasks.spawn(async move { shop.take_orders().await });
        let shop = self.clone();
        tasks.spawn(async move { shop.keep_looking().await });
    }

    /// Takes the next order of the seed.
    pub(crate) async fn place_next(&self) -> Result<(), BoxError> {
        let wanted = self.dice.lock().unwrap_or_else(PoisonError::into_inner).next_order();
        let services = self.services.read().await;
        let services = services.as_ref().ok_or(CLOSED)?;
        storefront::place(&services.storefront, wanted).await
    }

    /// Breaks something, or repairs it. What is so already stays so.
    pub(crate) async fn turn(&self, trouble: Trouble, on: bool) -> Result<(), BoxError> {
        // Nobody looks between the count and the switch.
        let mut looking = self.looking.lock().await;
        let services = self.services.read().await;
        let services = services.as_ref().ok_or(CLOSED)?;
        match trouble {
            Trouble::Analytics if on => looking.seen.slowed(),
            Trouble::Broker => {
                let placed = figures::count(services, &*self.engine).await?.placed;
                looking.seen.line_turned(placed, on);
            }
            Trouble::Analytics | Trouble::Carrier | Trouble::Gateway => {}
        }
        let is_new = self.troubles.turn(trouble, on);
        drop(looking);
        if !is_new || !on {
            return Ok(());
        }
        match trouble {
            Trouble::Carrier => {
                for _ in 0..ICELANDIC_ORDERS {
                    storefront::place(&services.storefront, TO_ICELAND).await?;
                }
            }
            // The gateway has no outbox: it waits for the broker.
            Trouble::Gateway if self.troubles.is_on(Trouble::Broker) => {}
            Trouble::Gateway => self.take_from_gateway(services).await?,
            Trouble::Analytics | Trouble::Broker => {}
        }
        Ok(())
    }

    /// Sends the dead letters of shipping back to it. Gives back how many.
    pub(crate) async fn redrive(&self, by: &str) -> Result<u64, BoxError> {
        let services = self.services.read().await;
        let services = services.as_ref().ok_or(CLOSED)?;
        let id = courant::uuid::Uuid::now_v7().to_string();
        let redrive = services.shipping.dead_letters().redrive(&id, by, &DeadFilter::default()).await?;
        Ok(redrive.pending + redrive.delivering + redrive.handled + redrive.failed)
    }

    /// What has happened so far.
    pub(crate) async fn look(&self) -> Result<Look, BoxError> {
        let mut looking = self.looking.lock().await;
        let services = self.services.read().await;
        let services = services.as_ref().ok_or(CLOSED)?;
        self.follow_repetitions(&mut looking).await?;
        let moment = Moment {
            is_slow: self.troubles.is_on(Trouble::Analytics),
            is_cut: self.troubles.is_on(Trouble::Broker),
            repetitions: looking.passed,
            figures: figures::count(services, &*self.engine).await?,
            at: Instant::now(),
        };
        looking.seen.note(&moment);
        let troubles = Trouble::ALL.map(|trouble| (trouble, self.troubles.is_on(trouble)));
        Ok(Look { figures: moment.figures, ticks: looking.seen.ticks(), troubles: troubles.to_vec() })
    }

    /// Closes it in order. What is broken is repaired first, so that everything can leave.
    pub(crate) async fn close(&self) -> Result<(), BoxError> {
        self.closing.send_replace(true);
        self.troubles.repair();
        let mut tasks = self.tasks.lock().await;
        while tasks.join_next().await.is_some() {}
        let services = self.services.write().await.take();
        // Somebody may have broken something meanwhile; from here on nobody can.
        self.troubles.repair();
        match services {
            Some(services) => services.close().await,
            None => Ok(()),
        }
    }

    async fn take_orders(&self) {
        let mut paces = interval(self.pace);
        paces.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut orders = 0_u64;
        while self.goes_on(paces.tick()).await {
            orders += 1;
            let is_gateways = orders.is_multiple_of(GATEWAY_EVERY) && self.troubles.is_on(Trouble::Gateway);
            // The gateway has no outbox: it waits for the broker.
            let placed = if is_gateways && !self.troubles.is_on(Trouble::Broker) {
                match &*self.services.read().await {
                    Some(services) => self.take_from_gateway(services).await,
                    None => return,
                }
            } else {
                self.place_next().await
            };
            if let Err(error) = placed {
                tracing::warn!(%error, "an order was not taken");
            }
        }
    }

    async fn take_from_gateway(&self, services: &Services) -> Result<(), BoxError> {
        let repeated = storefront::place_through_gateway(&services.storefront, OF_PARTNER).await?;
        *self.repeated.lock().unwrap_or_else(PoisonError::into_inner) += repeated;
        Ok(())
    }

    async fn keep_looking(&self) {
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while self.goes_on(looks.tick()).await {
            let began = Instant::now();
            if let Err(error) = self.look().await {
                tracing::warn!(%error, "the shop cannot be looked at");
            }
            // Tables grow, and so does the time that a look takes.
            looks.reset_after(LOOK_EVERY.max(began.elapsed() * REST));
        }
    }

    /// Waits for a tick of a clock. `false`: the shop closes.
    async fn goes_on(&self, tick: impl Future<Output = tokio::time::Instant>) -> bool {
        let mut closing = self.closing.subscribe();
        tokio::select! {
            biased;
            () = told(&mut closing) => false,
            _ = tick => true,
        }
    }

    /// Repetitions are ignored when payments has come past them. How many were sent is read before where orders
    /// end, so that all of them lie before that.
    async fn follow_repetitions(&self, looking: &mut Looking) -> Result<(), BoxError> {
        let sent = *self.repeated.lock().unwrap_or_else(PoisonError::into_inner);
        if looking.waiting.is_none() && sent > looking.passed {
            looking.waiting = Some((sent, figures::ends_of_orders(&*self.engine).await?));
        }
        if let Some((sent, ends)) = &looking.waiting
            && figures::are_charged(&*self.engine, ends).await?
        {
            looking.passed = *sent;
            looking.waiting = None;
        }
        Ok(())
    }
}

const CLOSED: &str = "the shop is closed";

impl fmt::Debug for Shop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shop")
            .field("engine", &self.engine)
            .field("troubles", &self.troubles)
            .finish_non_exhaustive()
    }
}

impl Services {
    async fn open(parts: &Parts) -> Result<Self, BoxError> {
        // Whoever is at the end of the line is there before the first order.
        let analytics = Box::pin(analytics::open(parts)).await?;
        let shipping = Box::pin(shipping::open(parts)).await?;
        let inventory = Box::pin(inventory::open(parts)).await?;
        let payments = Box::pin(payments::open(parts)).await?;
        let storefront = Box::pin(storefront::open(parts)).await?;
        Ok(Self { storefront, payments, inventory, shipping, analytics })
    }

    async fn close(self) -> Result<(), BoxError> {
        let Self { storefront, payments, inventory, shipping, analytics } = self;
        let mut ended = Ok(());
        for service in [storefront, payments, inventory, shipping, analytics] {
            ended = ended.and(service.stop().await);
        }
        Ok(ended?)
    }
}

/// Makes the tables of a service, where they are not there yet.
async fn tables(service: &Service<Sqlite>, statements: &[&'static str]) -> Result<(), BoxError> {
    let mut tx = service.transaction().await?;
    for statement in statements {
        sqlx::query(*statement).execute(&mut *tx).await?;
    }
    tx.commit().await?;
    Ok(())
}

async fn told(closing: &mut watch::Receiver<bool>) {
    // The sender is a field of the shop, so it does not go away meanwhile.
    drop(closing.wait_for(|closing| *closing).await);
}
