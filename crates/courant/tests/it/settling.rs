//! `settle` comes back when nothing is left to do, and not before.

use std::time::Duration;

use courant::prelude::*;
use courant::store_api::{Consumer, ParkedOf, Store as _};
use courant::testkit::World;
use courant::{ConsumerName, Running};

use crate::common::seconds;

#[derive(Event, Serialize, Deserialize)]
#[event(type = "chain.hop", topic = "chain.hops", key = chain)]
struct Hop {
    chain: u64,
    n: u32,
}

const HOPS: u32 = 10;
const FAILS_ONCE: u32 = 5;
/// After this one the next hop comes by a timer.
const PAUSES: u32 = 7;

const RETRIED_AFTER: Duration = seconds(1);
const GOES_ON_AFTER: Duration = seconds(60);

async fn hop(hop: Hop, meta: Meta, mut tx: Tx<Sqlite>) -> Result<Option<Hop>, HandlerError> {
    sqlx::query("insert into hops (n) values (?)").bind(hop.n).execute(&mut *tx).await?;
    if hop.n == FAILS_ONCE && meta.attempt() == 1 {
        return Err(HandlerError::retry("not yet"));
    }
    let next = Hop { n: hop.n + 1, ..hop };
    if hop.n == PAUSES {
        tx.schedule(&next, GOES_ON_AFTER)?;
        return Ok(None);
    }
    Ok((hop.n < HOPS).then_some(next))
}

/// The hops that have taken effect, in the order of their commits.
async fn hops(store: &Sqlite) -> Vec<u32> {
    let mut reader = store.read().await.expect("reads");
    let rows: Vec<(u32,)> =
        sqlx::query_as("select n from hops order by rowid").fetch_all(&mut *reader).await.expect("selects");
    rows.into_iter().map(|(n,)| n).collect()
}

/// Settled means: these hops and no other, nothing in the outbox, and this much that waits for the clock.
async fn is_settled_at(service: &Running<Sqlite>, last: u32, waits: (bool, bool), seed: u64) {
    let store = service.store();
    assert_eq!(hops(store).await, (1..=last).collect::<Vec<_>>(), "seed {seed}");
    assert_eq!(store.outbox_backlog().await.expect("a number"), 0, "seed {seed}");
    let consumer = Consumer { name: ConsumerName::new("hopping").expect("a name"), generation: 1 };
    let parked = store.parked_counts(ParkedOf::all(&consumer)).await.expect("numbers");
    let has_timer = store.next_timer_ms().await.expect("a look").is_some();
    assert_eq!((parked.waiting > 0, has_timer), waits, "seed {seed}");
}

/// Seeds of a run in the CI: what a few seconds give. `COURANT_SETTLE_SEEDS` sets another number.
const SEEDS: u64 = 100;

/// One seed of so many has its database in a file, where a commit takes its time.
const IN_A_FILE_EVERY: u64 = 10;

fn seeds() -> u64 {
    let said = std::env::var("COURANT_SETTLE_SEEDS").ok().and_then(|text| text.parse().ok());
    said.unwrap_or(SEEDS)
}

/// A chain of ten events through the outbox, with one retry and one timer: it stands before the retry and
/// before the timer, and is over after them, in every run.
#[tokio::test(flavor = "multi_thread")]
async fn a_chain_with_a_retry_and_a_timer_settles_at_its_ends() {
    // Three beside each other, so that they disturb each other's timing.
    for seed in (0..seeds()).step_by(3) {
        tokio::join!(Box::pin(chain(seed)), Box::pin(chain(seed + 1)), Box::pin(chain(seed + 2)));
    }
}

async fn chain(seed: u64) {
    let world = World::new(seed);
    let directory = tempfile::tempdir().expect("a directory");
    let store = if seed.is_multiple_of(IN_A_FILE_EVERY) {
        Sqlite::open(&directory.path().join("chain.db")).await
    } else {
        Sqlite::connect("sqlite::memory:").await
    };
    let service = App::new("chain")
        .engine("memory:")
        .in_world(&world)
        .store(store.expect("opens"))
        .subscribe(Subscription::named("hopping").retry(Retry::every(RETRIED_AFTER)).on(hop))
        .build()
        .await
        .expect("fits together");
    // The first event leaves with a row of plain code, or not at all.
    let mut tx = service.transaction().await.expect("begins");
    sqlx::query("create table hops (n integer not null)").execute(&mut *tx).await.expect("creates");
    tx.publish(&Hop { chain: seed, n: 99 }).expect("is taken");
    drop(tx);
    let mut tx = service.transaction().await.expect("begins");
    sqlx::query("create table hops (n integer not null)").execute(&mut *tx).await.expect("creates");
    tx.publish(&Hop { chain: seed, n: 1 }).expect("is taken");
    tx.commit().await.expect("commits");

    let mut service = service.start().await.expect("starts");
    service.settle().await.expect("settles");
    is_settled_at(&service, FAILS_ONCE - 1, (true, false), seed).await;
    world.advance(RETRIED_AFTER);
    service.settle().await.expect("settles");
    is_settled_at(&service, PAUSES, (false, true), seed).await;
    world.advance(GOES_ON_AFTER - seconds(1));
    service.settle().await.expect("settles");
    is_settled_at(&service, PAUSES, (false, true), seed).await;
    world.advance(seconds(1));
    service.settle().await.expect("settles");
    is_settled_at(&service, HOPS, (false, false), seed).await;
    // Nothing waits for the clock any more, however far it goes.
    world.advance(seconds(3_600));
    service.settle().await.expect("settles");
    is_settled_at(&service, HOPS, (false, false), seed).await;
    service.stop().await.expect("stops");
}
