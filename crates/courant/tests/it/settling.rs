//! `settle` comes back when nothing is left to do, and not before.

use courant::prelude::*;
use courant::testkit::World;

use crate::common::seconds;

#[derive(Event, Serialize, Deserialize)]
#[event(type = "chain.hop", topic = "chain.hops", key = chain)]
struct Hop {
    chain: u64,
    n: u32,
}

const HOPS: u32 = 10;
const FAILS_ONCE: u32 = 5;

async fn hop(hop: Hop, meta: Meta, mut tx: Tx<Sqlite>) -> Result<Option<Hop>, HandlerError> {
    sqlx::query("insert into hops (n) values (?)").bind(hop.n).execute(&mut *tx).await?;
    if hop.n == FAILS_ONCE && meta.attempt() == 1 {
        return Err(HandlerError::retry("not yet"));
    }
    Ok((hop.n < HOPS).then_some(Hop { n: hop.n + 1, ..hop }))
}

async fn hops(store: &Sqlite) -> i64 {
    let mut reader = store.read().await.expect("reads");
    let (count,): (i64,) =
        sqlx::query_as("select count(*) from hops").fetch_one(&mut *reader).await.expect("counts");
    count
}

/// Seeds of a run in the CI: what a few seconds give. `COURANT_SETTLE_SEEDS` sets another number.
const SEEDS: u64 = 60;

/// One seed of so many has its database in a file, where a commit takes its time.
const IN_A_FILE_EVERY: u64 = 10;

fn seeds() -> u64 {
    let said = std::env::var("COURANT_SETTLE_SEEDS").ok().and_then(|text| text.parse().ok());
    said.unwrap_or(SEEDS)
}

/// A chain of ten events through the outbox, with one retry: it stands before the retry, and is over
/// after it, in every run.
#[tokio::test(flavor = "multi_thread")]
async fn a_chain_with_a_retry_settles_at_its_ends() {
    for seed in 0..seeds() {
        let world = World::new(seed);
        let directory = tempfile::tempdir().expect("a directory");
        let store = if seed % IN_A_FILE_EVERY == 0 {
            Sqlite::open(&directory.path().join("chain.db")).await
        } else {
            Sqlite::connect("sqlite::memory:").await
        };
        let service = App::new("chain")
            .engine("memory:")
            .in_world(&world)
            .store(store.expect("opens"))
            .subscribe(Subscription::named("hopping").retry(Retry::every(seconds(1))).on(hop))
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
        assert_eq!(hops(service.store()).await, i64::from(FAILS_ONCE - 1), "seed {seed}");
        world.advance(seconds(1));
        service.settle().await.expect("settles");
        assert_eq!(hops(service.store()).await, i64::from(HOPS), "seed {seed}");
        service.stop().await.expect("stops");
    }
}
