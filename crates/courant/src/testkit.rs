//! The test kit: a service in the process of its test, in a world that the test has in its hands.
//!
//! ```no_run
//! # use courant::prelude::*;
//! # use courant::testkit::World;
//! # use std::time::Duration;
//! # async fn shown(app: App) -> Result<(), Box<dyn std::error::Error>> {
//! let world = World::new(7);
//! let mut service = app.in_world(&world).build().await?.start().await?;
//! service.settle().await?;
//! world.advance(Duration::from_secs(900));
//! service.settle().await?;
//! # Ok(())
//! # }
//! ```
//!
//! Nothing here sleeps: the clock stands still until the test moves it, and
//! [`Running::settle`](crate::Running::settle) comes back when nothing is left to do. For one handler by
//! itself there is [`Given`].

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use courant_core::clock::Clock;
use courant_core::consumer::ConsumerName;
use courant_core::entropy::Entropy;
use courant_core::position::TopicPartition;
use courant_core::topic::TopicName;
use courant_engine::{Ends, Engine, EngineConfig, EngineUrl, Fetched, Next, Partition, ReadBack, Subscribe};
use tokio::sync::watch;
use uuid::Uuid;

mod given;

pub use self::given::{Given, Then};
pub use crate::runtime::FaultPoint;
use crate::runtime::{Faults, Time, event_of};
use crate::{Boxed, Envelope, Event, Meta};

/// What a test decides: the time, the random numbers, and where the service ends.
#[derive(Clone)]
pub struct World {
    clock: Arc<Standing>,
    entropy: Arc<Seeded>,
    faults: Faults,
}

/// 2023-11-14T22:13:20Z.
const BEGINNING_MS: i64 = 1_700_000_000_000;

impl World {
    /// A world that is the same for the same seed.
    pub fn new(seed: u64) -> Self {
        Self {
            clock: Arc::new(Standing(watch::Sender::new(BEGINNING_MS))),
            entropy: Arc::new(Seeded { seed, drawn: AtomicU64::new(0) }),
            faults: Faults::armable(),
        }
    }

    /// Milliseconds since 1970.
    pub fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    /// Moves the clock on. What is due then begins; wait for it with
    /// [`Running::settle`](crate::Running::settle).
    pub fn advance(&self, by: Duration) {
        let by_ms = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        self.clock.0.send_modify(|now_ms| *now_ms = now_ms.saturating_add(by_ms));
    }

    /// The service ends at `point`, as a power cut would end it, after it was passed `passes` times. Wait
    /// for it with [`World::crashed`], then call [`Running::kill`](crate::Running::kill).
    pub fn crash_at(&self, point: FaultPoint, passes: u64) {
        self.faults.arm(point, passes);
    }

    /// Waits until the service has reached a place where it was to end, for the `times`th time.
    pub async fn crashed(&self, times: u64) {
        self.faults.fired(times).await;
    }

    /// An engine in this world that outlives the services on it.
    ///
    /// # Errors
    /// The URL is none, or the engine does not open.
    pub async fn engine(&self, url: &str) -> Result<Arc<dyn Engine>, crate::BoxError> {
        let url: EngineUrl = url.parse::<EngineUrl>()?;
        let config = EngineConfig { clock: self.clock(), entropy: self.entropy() };
        Ok(crate::engines::open(&url, config).await?)
    }

    pub(crate) fn clock(&self) -> Arc<dyn Clock> {
        self.clock.clone()
    }

    pub(crate) fn time(&self) -> Arc<dyn Time> {
        self.clock.clone()
    }

    pub(crate) fn entropy(&self) -> Arc<dyn Entropy> {
        self.entropy.clone()
    }

    pub(crate) fn faults(&self) -> Faults {
        self.faults.clone()
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World").field("now_ms", &self.now_ms()).finish_non_exhaustive()
    }
}

/// A clock that stands until it is moved.
struct Standing(watch::Sender<i64>);

impl Clock for Standing {
    fn now_ms(&self) -> i64 {
        *self.0.borrow()
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.now_ms().saturating_sub(BEGINNING_MS)).unwrap_or_default()
    }
}

impl Time for Standing {
    fn sleep_until(&self, at_ms: i64) -> Boxed<'_, ()> {
        let mut moved = self.0.subscribe();
        Box::pin(async move {
            while *moved.borrow_and_update() < at_ms {
                if moved.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        })
    }
}

/// Identities by number: the same in every run with the same seed.
struct Seeded {
    seed: u64,
    drawn: AtomicU64,
}

impl Entropy for Seeded {
    fn uuid(&self) -> Uuid {
        let drawn = self.drawn.fetch_add(1, Ordering::Relaxed);
        let mixed = (self.seed ^ drawn).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Uuid::from_u64_pair(self.seed.rotate_left(32) ^ drawn, mixed ^ (mixed >> 29))
    }
}

/// Every event of a type that is in the engine, in the order of each partition. Offsets that no event has, as a log
/// has them behind compaction and in transactions, are passed.
///
/// # Errors
/// The engine does not give them, or one of them cannot be decoded.
pub async fn published<E: Event>(engine: &dyn Engine) -> Result<Vec<Envelope<E>>, crate::BoxError> {
    let topic = TopicName::new(E::TOPIC)?;
    let consumer = ConsumerName::new("testkit")?;
    let found = engine.topics(vec![topic.clone()]).await?;
    let Some(described) = found.into_iter().next().flatten() else { return Ok(Vec::new()) };
    let partitions: Vec<_> = described.all_partitions().collect();
    let mut left = BTreeMap::new();
    for (partition, ends) in partitions.clone().into_iter().zip(engine.ends(partitions).await) {
        let ends = ends?;
        if ends.start < ends.end {
            left.insert(partition, ends);
        }
    }
    // A group of its own each time: it takes nothing from others, and reads everything.
    let group = format!("testkit-{}", Uuid::new_v4());
    let mut subscription = engine.subscribe(Subscribe::new(group, vec![topic.clone()])).await?;
    let mut events = Vec::new();
    while !left.is_empty() {
        match subscription.next(Duration::from_secs(1)).await? {
            Next::Assigned(partitions) => {
                let ends = engine.ends(partitions.clone()).await;
                let starts = partitions.iter().zip(ends);
                let starts = starts.map(|(partition, ends)| ends.map(|ends| partition.at(ends.start)));
                subscription.seek(starts.collect::<Result<Vec<_>, _>>()?)?;
            }
            Next::Records(fetched) => {
                for Fetched { partition, records, next_offset, .. } in fetched {
                    for record in records {
                        let number = record.position.partition.number;
                        let named = TopicPartition { topic: topic.clone(), partition: number };
                        let event = event_of(&engine.log_id(), record);
                        let meta = Meta::new(&event, &named, consumer.clone(), 1);
                        if meta.event_type() == Some(E::TYPE) {
                            let value = event.value.unwrap_or_default();
                            events.push(Envelope::new(serde_json::from_slice(&value)?, meta));
                        }
                    }
                    reach(&mut left, &partition, next_offset);
                }
            }
            Next::Nothing => pass_gaps(engine, &mut left).await?,
            _ => {}
        }
    }
    Ok(events)
}

/// Of this partition everything before `next` was read.
fn reach(left: &mut BTreeMap<Partition, Ends>, partition: &Partition, next: u64) {
    let Some(ends) = left.get_mut(partition) else { return };
    ends.start = ends.start.max(next);
    if ends.start >= ends.end {
        left.remove(partition);
    }
}

/// Offsets of a partition that are looked at together.
const GAP_OFFSETS: u64 = 100;

/// Passes offsets at which a partition goes on and has no event: a subscription says nothing of those at its end.
async fn pass_gaps(engine: &dyn Engine, left: &mut BTreeMap<Partition, Ends>) -> Result<(), crate::BoxError> {
    let standing: Vec<_> = left.iter().map(|(partition, ends)| (partition.clone(), *ends)).collect();
    for (partition, ends) in standing {
        let most = ends.start.saturating_add(GAP_OFFSETS).min(ends.end);
        let positions: Vec<_> = (ends.start..most).map(|offset| partition.at(offset)).collect();
        let mut next = ends.start;
        for read in engine.read(positions).await {
            match read? {
                ReadBack::Gap => next += 1,
                ReadBack::Before { start } => next = next.max(start),
                _ => break,
            }
        }
        reach(left, &partition, next);
    }
    Ok(())
}
