//! Correlation and causation are carried by themselves, and nothing leaks from one conversation into
//! another.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use courant::Running;
use courant::engine::Engine;
use courant::prelude::*;
use courant::testkit::{World, published};

use crate::common::{Script, all, seconds};

/// Tasks that publish at the same time.
const ROOTS: u32 = 1_000;
/// One root of so many grows into a tree.
const TREE_EVERY: u32 = 10;
/// One root of so many is a dead letter first, and comes back.
const DEAD_EVERY: u32 = 50;
const BRANCHES: usize = 2;
const LEAVES: usize = 2 * BRANCHES;
const TREES: usize = (ROOTS / TREE_EVERY) as usize;

#[derive(Event, Serialize, Deserialize)]
#[event(type = "tree.root", topic = "tree.root", key = number)]
struct Root {
    number: u32,
}

#[derive(Event, Serialize, Deserialize)]
#[event(type = "tree.branch", topic = "tree.branch", key = root)]
struct Branch {
    root: u32,
    number: usize,
}

#[derive(Event, Serialize, Deserialize)]
#[event(type = "tree.leaf", topic = "tree.leaf", key = root)]
struct Leaf {
    root: u32,
    branch: usize,
}

/// What all leaves of a tree come together in.
#[derive(Event, Serialize, Deserialize)]
#[event(type = "tree.crop", topic = "tree.crop", key = root)]
struct Crop {
    root: u32,
}

/// The first attempt of every tree fails, so that its ids have to survive the store: as a parked event, or
/// as a dead letter.
async fn grow(root: Root, State(script): State<Script>) -> Result<Vec<Branch>, HandlerError> {
    let Root { number: root } = root;
    if let Err(error) = script.call("tree", &root.to_string()) {
        let is_dead = root.is_multiple_of(DEAD_EVERY);
        return Err(if is_dead { HandlerError::dead_letter(error) } else { HandlerError::retry(error) });
    }
    let branches = if root.is_multiple_of(TREE_EVERY) { BRANCHES } else { 0 };
    Ok((0..branches).map(|number| Branch { root, number }).collect())
}

/// One leaf through the transaction, one as what is returned.
async fn bear(branch: Branch, mut tx: Tx<Sqlite>) -> Result<Leaf, HandlerError> {
    let Branch { root, number: branch } = branch;
    tx.publish(&Leaf { root, branch })?;
    Ok(Leaf { root, branch })
}

/// The last leaf of a tree brings the crop.
async fn gather(leaf: Leaf, mut tx: Tx<Sqlite>) -> Result<Option<Crop>, HandlerError> {
    sqlx::query("insert into gathered (root) values (?)").bind(leaf.root).execute(&mut *tx).await?;
    let (leaves,): (i64,) = sqlx::query_as("select count(*) from gathered where root = ?")
        .bind(leaf.root)
        .fetch_one(&mut *tx)
        .await?;
    Ok((usize::try_from(leaves)? == LEAVES).then_some(Crop { root: leaf.root }))
}

async fn forest(world: &World, engine: &Arc<dyn Engine>, script: &Script) -> Running<Sqlite> {
    let service = App::new("forest")
        .engine(engine.clone())
        .partitions(4)
        .in_world(world)
        .store(Sqlite::connect("sqlite::memory:").await.expect("opens"))
        .state(script.clone())
        .subscribe(Subscription::named("growing").retry(Retry::every(seconds(1))).on(grow))
        .subscribe(Subscription::named("bearing").on(bear))
        .subscribe(Subscription::named("gathering").on(gather))
        .build()
        .await
        .expect("fits together");
    let mut tx = service.transaction().await.expect("begins");
    sqlx::query("create table gathered (root integer not null)").execute(&mut *tx).await.expect("creates");
    tx.commit().await.expect("commits");
    service.start().await.expect("starts")
}

/// Ids of events, and what they say of their conversations.
struct Ids {
    id: String,
    correlation: String,
    causation: Option<String>,
}

/// Every event of a type, by the tree that it belongs to.
async fn found<E: Event>(engine: &dyn Engine, root: impl Fn(&E) -> u32) -> BTreeMap<u32, Vec<Ids>> {
    let mut found: BTreeMap<u32, Vec<Ids>> = BTreeMap::new();
    for event in published::<E>(engine).await.expect("reads") {
        let meta = event.meta();
        let ids = Ids {
            id: meta.id().to_string(),
            correlation: meta.correlation_id().to_owned(),
            causation: meta.causation_id().map(str::to_owned),
        };
        found.entry(root(&event)).or_default().push(ids);
    }
    found
}

/// X1 and X2: 1,000 tasks publish at once, each beginning a conversation of its own. A hundred of them grow
/// into trees of three levels that fan out and come together again, through the outbox, a retry, and for
/// some a redrive. From the ids alone each tree is read as it was.
#[tokio::test(flavor = "multi_thread")]
async fn a_tree_of_events_is_read_from_their_ids() {
    let world = World::new(3);
    let engine = world.engine("memory:").await.expect("opens");
    let script = Script::default();
    (0..ROOTS).step_by(TREE_EVERY as usize).for_each(|root| script.fail_times(&root.to_string(), 1));
    let mut service = forest(&world, &engine, &script).await;
    let tasks: Vec<_> = (0..ROOTS)
        .map(|number| {
            let publisher = service.publisher();
            tokio::spawn(async move { publisher.publish(&Root { number }).await.expect("publishes") })
        })
        .collect();
    for task in tasks {
        task.await.expect("publishes");
    }
    service.settle().await.expect("settles");
    assert!(found(&*engine, |branch: &Branch| branch.root).await.is_empty(), "every tree has failed once");
    world.advance(seconds(2));
    service.settle().await.expect("settles");
    let letters = service.dead_letters().list().await.expect("lists");
    assert_eq!(letters.len(), (ROOTS / DEAD_EVERY) as usize);
    service.dead_letters().redrive("again", "a test", &all()).await.expect("asks");
    service.settle().await.expect("settles");

    let roots = found(&*engine, |root: &Root| root.number).await;
    let branches = found(&*engine, |branch: &Branch| branch.root).await;
    let leaves = found(&*engine, |leaf: &Leaf| leaf.root).await;
    let crops = found(&*engine, |crop: &Crop| crop.root).await;
    assert_eq!((roots.len(), branches.len(), crops.len()), (ROOTS as usize, TREES, TREES));
    let mut conversations = BTreeSet::new();
    for (number, roots) in &roots {
        let [root] = &roots[..] else { panic!("{number} was published once") };
        assert_eq!((&root.correlation, &root.causation), (&root.id, &None), "{number} begins a conversation");
        assert!(conversations.insert(&root.id), "{number} is in the conversation of another");
        if number.is_multiple_of(TREE_EVERY) {
            let ids = |level: &[Ids]| level.iter().map(|ids| ids.id.clone()).collect::<BTreeSet<_>>();
            let (branches, leaves, crops) = (&branches[number], &leaves[number], &crops[number]);
            assert_eq!((branches.len(), leaves.len(), crops.len()), (BRANCHES, LEAVES, 1), "{number}");
            let below = [(branches, ids(roots)), (leaves, ids(branches)), (crops, ids(leaves))];
            for (level, parents) in below {
                for event in level {
                    assert_eq!(event.correlation, root.id, "{number}");
                    let parent = event.causation.as_ref().expect("something has caused it");
                    assert!(parents.contains(parent), "{number}: {parent} is none of {parents:?}");
                }
            }
            // Fan-out: each branch has borne as many leaves as the others.
            for branch in ids(branches) {
                let own = leaves.iter().filter(|leaf| leaf.causation.as_ref() == Some(&branch));
                assert_eq!(own.count(), LEAVES / BRANCHES, "{number}");
            }
        }
    }
    service.stop().await.expect("stops");
}
