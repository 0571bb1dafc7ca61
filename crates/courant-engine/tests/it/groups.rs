//! Consumer groups: who reads what, and what is kept of how far they are.

use std::time::Duration;

use courant_engine::{CommitError, Next, Partition, SeekError, Subscribe, SubscribeError};
use tokio::time::timeout;

use crate::on_every_engine;
use crate::place::{
    PATIENCE, Place, assigned, at_the_beginning, join, next, read, record, record_in, topic_name,
};

on_every_engine!(
    two_groups_each_get_everything,
    two_subscriptions_of_a_group_share_its_partitions,
    who_leaves_gives_everything_back,
    what_a_group_commits_is_kept,
    a_commit_is_all_or_nothing,
    foreign_partitions_cannot_be_sought,
    subscriptions_that_make_no_sense_are_refused,
);

fn numbers(partitions: &[Partition]) -> Vec<u32> {
    partitions.iter().map(|partition| partition.number).collect()
}

async fn two_groups_each_get_everything(place: &Place) {
    place.topic("orders", 3).await;
    let mut early = place.subscribe("billing", "orders").await;
    place.publish((0..100).map(|n| record(&format!("key-{n}"), n.to_string())).collect()).await;
    let mut late = place.subscribe("audit", "orders").await;
    let (early, late) = tokio::join!(read(&mut *early, 100), read(&mut *late, 100));
    let sorted = |mut records: Vec<courant_engine::Record>| {
        records.sort_by(|a, b| a.position.cmp(&b.position));
        records
    };
    assert_eq!(sorted(early), sorted(late));
}

/// The first one is told, and the second one gets nothing before the first one has given it up; then
/// each reads what is its own, and nothing else.
async fn two_subscriptions_of_a_group_share_its_partitions(place: &Place) {
    place.topic("orders", 4).await;
    let mut first = place.subscribe("billing", "orders").await;
    let mut second = join(&*place.engine, "billing", "orders").await;
    assert_eq!(second.next(Duration::ZERO).await, Ok(Next::Nothing));
    let Next::Revoked(revoked) = next(&mut *first).await else { panic!("a revocation") };
    // Which half it is, is the engine's business.
    let (kept, given) = (numbers(&first.assigned()), numbers(&revoked));
    assert_eq!((kept.len(), given.len()), (2, 2));
    let mut all = [kept.clone(), given.clone()].concat();
    all.sort_unstable();
    assert_eq!(all, [0, 1, 2, 3]);
    assert_eq!(second.next(Duration::ZERO).await, Ok(Next::Nothing), "not given up yet");
    // The second one waits while the first one gives up.
    let both = async { tokio::join!(second.next(PATIENCE), first.next(Duration::ZERO)) };
    let (found, nothing) = timeout(PATIENCE, both).await.expect("it is woken");
    assert_eq!(nothing, Ok(Next::Nothing));
    let Ok(Next::Assigned(partitions)) = found else { panic!("an assignment, not {found:?}") };
    assert_eq!(numbers(&partitions), given);
    second.seek(at_the_beginning(&partitions)).expect("assigned");
    place.publish((0..8).map(|n| record_in(n % 4, n.to_string())).collect()).await;
    for (subscription, own) in [(&mut first, kept), (&mut second, given)] {
        let records = read(&mut **subscription, 4).await;
        assert!(records.iter().all(|record| own.contains(&record.position.partition.number)));
        assert_eq!(subscription.next(Duration::ZERO).await, Ok(Next::Nothing));
    }
}

async fn who_leaves_gives_everything_back(place: &Place) {
    place.topic("orders", 2).await;
    let first = place.subscribe("billing", "orders").await;
    let mut second = join(&*place.engine, "billing", "orders").await;
    assert_eq!(second.next(Duration::ZERO).await, Ok(Next::Nothing));
    drop(first);
    assert_eq!(numbers(&assigned(&mut *second).await), [0, 1]);
}

async fn what_a_group_commits_is_kept(place: &Place) {
    let topic = place.topic("orders", 3).await;
    let all: Vec<_> = topic.all_partitions().collect();
    let committed = |group: &str| place.engine.committed(group.to_owned(), all.clone());
    assert_eq!(committed("billing").await, Ok(vec![None, None, None]));
    for offset in [5, 9] {
        let positions = vec![all[0].at(offset), all[2].at(offset + 1)];
        place.engine.commit("billing".to_owned(), positions).await.expect("commits");
    }
    assert_eq!(committed("billing").await, Ok(vec![Some(9), None, Some(10)]));
    assert_eq!(committed("audit").await, Ok(vec![None, None, None]));
}

async fn a_commit_is_all_or_nothing(place: &Place) {
    place.topic("orders", 1).await;
    let (known, unknown) = (Partition::new("orders", 0), Partition::new("orders", 1));
    let positions = vec![known.at(5), unknown.at(5)];
    let refused = place.engine.commit("billing".to_owned(), positions).await;
    assert_eq!(refused, Err(CommitError::UnknownPartition { partition: unknown.clone() }));
    assert_eq!(place.engine.committed("billing".to_owned(), vec![known]).await, Ok(vec![None]));
    let refused = place.engine.committed("billing".to_owned(), vec![unknown.clone()]).await;
    assert_eq!(refused, Err(CommitError::UnknownPartition { partition: unknown }));
    // Longer than the log keeps: no commit, and a sentence with the limit.
    let long = place.engine.commit("g".repeat(5000), Vec::new()).await.expect_err("refused");
    assert!(long.to_string().contains("1024"), "{long}");
}

async fn foreign_partitions_cannot_be_sought(place: &Place) {
    place.topic("orders", 1).await;
    let mut first = place.subscribe("billing", "orders").await;
    let mut second = join(&*place.engine, "billing", "orders").await;
    let partition = Partition::new("orders", 0);
    let refused = second.seek(vec![partition.at(0)]);
    assert_eq!(refused, Err(SeekError::NotAssigned { partition: partition.clone() }));
    // None of the positions is taken when one is refused.
    let foreign = Partition::new("payments", 0);
    place.publish(vec![record("key", "value")]).await;
    let refused = first.seek(vec![partition.at(1), foreign.at(0)]);
    assert_eq!(refused, Err(SeekError::NotAssigned { partition: foreign }));
    assert_eq!(read(&mut *first, 1).await[0].position, partition.at(0));
}

async fn subscriptions_that_make_no_sense_are_refused(place: &Place) {
    place.topic("orders", 1).await;
    let good = Subscribe::new("billing", vec![topic_name("orders")]);
    let refused =
        |wanted: Subscribe| async move { place.engine.subscribe(wanted).await.expect_err("refused") };
    assert_eq!(
        refused(Subscribe { topics: vec![topic_name("payments")], ..good.clone() }).await,
        SubscribeError::UnknownTopic { topic: "payments".to_owned() }
    );
    assert_eq!(refused(Subscribe { topics: Vec::new(), ..good.clone() }).await, SubscribeError::NoTopics);
    assert_eq!(
        refused(Subscribe { group: String::new(), ..good.clone() }).await,
        SubscribeError::GroupName { bytes: 0, max: 1024 }
    );
    assert_eq!(refused(Subscribe { bytes_max: 0, ..good }).await, SubscribeError::Bytes { bytes: 0 });
}
