//! Correlation and causation are carried by themselves, and nothing leaks from one conversation into
//! another.

use std::collections::BTreeMap;

use courant::prelude::*;
use courant::testkit::{World, published};

use crate::common::seconds;

#[derive(Event, Serialize, Deserialize)]
#[event(type = "tree.root", topic = "tree.root", key = name)]
struct Root {
    name: String,
}

#[derive(Event, Serialize, Deserialize)]
#[event(type = "tree.branch", topic = "tree.branch", key = name)]
struct Branch {
    name: String,
}

#[derive(Event, Serialize, Deserialize)]
#[event(type = "tree.leaf", topic = "tree.leaf", key = name)]
struct Leaf {
    name: String,
}

/// The first attempt fails, so that the ids have to survive the store.
async fn grow(root: Root, meta: Meta) -> Result<Vec<Branch>, HandlerError> {
    if meta.attempt() == 1 {
        return Err(HandlerError::retry("too early"));
    }
    Ok((0..2).map(|n| Branch { name: format!("{}-{n}", root.name) }).collect())
}

async fn bear(branch: Branch, mut tx: Tx<Sqlite>) -> Result<Leaf, HandlerError> {
    tx.publish(&Leaf { name: format!("{}-first", branch.name) })?;
    Ok(Leaf { name: format!("{}-second", branch.name) })
}

/// X1 and X2: trees of three levels, 100 of them at once, through the outbox and a retry.
#[tokio::test(flavor = "multi_thread")]
async fn a_tree_of_events_is_read_from_their_ids() {
    let world = World::new(3);
    let directory = tempfile::tempdir().expect("a directory");
    let engine = world.engine("memory:").await.expect("opens");
    let service = App::new("forest")
        .engine(engine.clone())
        .partitions(4)
        .in_world(&world)
        .store(Sqlite::open(&directory.path().join("forest.db")).await.expect("opens"))
        .subscribe(Subscription::named("growing").retry(Retry::every(seconds(1))).on(grow))
        .subscribe(Subscription::named("bearing").on(bear))
        .build()
        .await;
    let mut service = service.expect("fits together").start().await.expect("starts");
    let tasks: Vec<_> = (0..100)
        .map(|n| {
            let publisher = service.publisher();
            tokio::spawn(async move { publisher.publish(&Root { name: format!("root-{n}") }).await })
        })
        .collect();
    let mut roots = BTreeMap::new();
    for (n, task) in tasks.into_iter().enumerate() {
        let id = task.await.expect("ends").expect("publishes");
        roots.insert(format!("root-{n}"), id.to_string());
    }
    service.settle().await.expect("settles");
    world.advance(seconds(2));
    service.settle().await.expect("settles");

    for root in published::<Root>(&*engine).await.expect("reads") {
        assert_eq!(root.meta().correlation_id(), roots[&root.name], "a root begins a conversation");
        assert_eq!(root.meta().causation_id(), None);
    }
    let branches = published::<Branch>(&*engine).await.expect("reads");
    assert_eq!(branches.len(), 200);
    let mut ids = BTreeMap::new();
    for branch in &branches {
        let (root, _) = branch.name.rsplit_once('-').expect("a root's name");
        assert_eq!(branch.meta().correlation_id(), roots[root]);
        assert_eq!(branch.meta().causation_id(), Some(roots[root].as_str()));
        ids.insert(branch.name.clone(), branch.meta().id().to_string());
    }
    let leaves = published::<Leaf>(&*engine).await.expect("reads");
    assert_eq!(leaves.len(), 400);
    for leaf in &leaves {
        let (branch, _) = leaf.name.rsplit_once('-').expect("a branch's name");
        let (root, _) = branch.rsplit_once('-').expect("a root's name");
        assert_eq!(leaf.meta().correlation_id(), roots[root]);
        assert_eq!(leaf.meta().causation_id(), Some(ids[branch].as_str()));
    }
    service.stop().await.expect("stops");
}
