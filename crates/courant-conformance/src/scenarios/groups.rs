//! Consumer groups: who reads what, and what becomes of it when others come and go.

use std::collections::BTreeSet;
use std::time::Duration;

use courant_engine::{Engine, Next, Partition, Record, SeekError, Subscribe, SubscribeError};
use tokio::time::timeout;

use crate::failure::{ensure, ensure_eq};
use crate::follower::Follower;
use crate::stage::Ground;
use crate::{Failure, Outcome, Stage};

const PARTITIONS: u32 = 4;

/// How long one look lasts while others have to move.
const LOOK: Duration = Duration::from_millis(20);

fn sorted(mut records: Vec<Record>) -> Vec<Record> {
    records.sort_by(|one, other| one.position.cmp(&other.position));
    records
}

/// Records for every partition.
async fn fill(stage: &Stage, ground: &Ground, each: u32) -> Outcome {
    let records = (0..each * ground.partitions).map(|n| ground.record_in(n % ground.partitions, n));
    stage.publish(records.collect()).await?;
    Ok(())
}

/// Lets two members look in turns until each has half of the partitions.
async fn shared(one: &mut Follower, other: &mut Follower, patience: Duration) -> Outcome {
    let deadline = tokio::time::Instant::now() + patience;
    let half = (PARTITIONS / 2) as usize;
    while one.subscription.assigned().len() != half || other.subscription.assigned().len() != half {
        let (first, second) = (one.subscription.assigned(), other.subscription.assigned());
        ensure!(tokio::time::Instant::now() < deadline, "they do not share: {first:?} and {second:?}");
        one.step(LOOK).await?;
        other.step(LOOK).await?;
    }
    Ok(())
}

pub(super) async fn two_groups_each_get_everything(stage: &Stage) -> Outcome {
    let ground = stage.topic(PARTITIONS).await?;
    let mut early = stage.follow("early", &ground).await?;
    early.assigned(PARTITIONS as usize).await?;
    fill(stage, &ground, 10).await?;
    let mut late = stage.follow("late", &ground).await?;
    let (early, late) = (early.read(40).await?, late.read(40).await?);
    ensure_eq!(sorted(late), sorted(early), "what both groups have read");
    Ok(())
}

pub(super) async fn members_share_the_partitions(stage: &Stage) -> Outcome {
    let ground = stage.topic(PARTITIONS).await?;
    let (mut one, mut other) =
        (stage.follow("shared", &ground).await?, stage.follow("shared", &ground).await?);
    each_reads_half(stage, &ground, &mut one, &mut other).await
}

async fn each_reads_half(
    stage: &Stage,
    ground: &Ground,
    one: &mut Follower,
    other: &mut Follower,
) -> Outcome {
    shared(one, other, stage.patience()).await?;
    fill(stage, ground, 10).await?;
    let (one, other) = (one.read(20).await?, other.read(20).await?);
    let places: BTreeSet<_> = one.iter().chain(&other).map(|record| &record.position).collect();
    ensure_eq!(places.len(), 40, "different records that the two have read");
    Ok(())
}

/// An engine that is opened beside the first one has nothing in common with it but where both lead, as in another
/// process.
pub(super) async fn members_in_several_processes_share_the_partitions(stage: &Stage) -> Outcome {
    let ground = stage.topic(PARTITIONS).await?;
    let elsewhere = stage.another_engine().await?;
    let outcome = shared_with(stage, &*elsewhere, &ground).await;
    // Closing has scenarios of its own.
    let _ = timeout(stage.patience(), elsewhere.close()).await;
    outcome
}

async fn shared_with(stage: &Stage, elsewhere: &dyn Engine, ground: &Ground) -> Outcome {
    let group = "spread-out";
    let wanted = Subscribe::new(stage.group(group), vec![ground.name.clone()]);
    let mut other = Follower::new(elsewhere.subscribe(wanted).await?, stage.patience());
    let mut one = stage.follow(group, ground).await?;
    each_reads_half(stage, ground, &mut one, &mut other).await
}

/// At no moment two of them say that they have the same one.
pub(super) async fn a_partition_is_given_up_before_another_has_it(stage: &Stage) -> Outcome {
    let ground = stage.topic(PARTITIONS).await?;
    let mut one = stage.follow("handed-over", &ground).await?;
    one.assigned(PARTITIONS as usize).await?;
    let mut other = stage.follow("handed-over", &ground).await?;
    let deadline = tokio::time::Instant::now() + stage.patience();
    while other.subscription.assigned().is_empty() {
        other.step(LOOK).await?;
        let (has, wants) = (one.subscription.assigned(), other.subscription.assigned());
        let twice: Vec<&Partition> = has.iter().filter(|partition| wants.contains(partition)).collect();
        ensure!(twice.is_empty(), "both have {twice:?}");
        ensure!(tokio::time::Instant::now() < deadline, "the second one gets nothing");
        one.step(LOOK).await?;
    }
    Ok(())
}

pub(super) async fn nothing_comes_of_a_partition_that_was_revoked(stage: &Stage) -> Outcome {
    let ground = stage.topic(PARTITIONS).await?;
    fill(stage, &ground, 5).await?;
    let mut one = stage.follow("revoked", &ground).await?;
    one.read(20).await?;
    let mut other = stage.follow("revoked", &ground).await?;
    let deadline = tokio::time::Instant::now() + stage.patience();
    let mut gone: Vec<Partition> = Vec::new();
    while gone.is_empty() || other.subscription.assigned().is_empty() {
        ensure!(tokio::time::Instant::now() < deadline, "nothing is revoked when another one comes");
        match one.step(LOOK).await? {
            Next::Revoked(partitions) => gone.extend(partitions),
            Next::Assigned(again) => gone.retain(|partition| !again.contains(partition)),
            _ => {}
        }
        other.step(LOOK).await?;
    }
    fill(stage, &ground, 5).await?;
    for _ in 0..3 {
        one.step(LOOK).await?;
    }
    let foreign = one.records.iter().find(|record| gone.contains(&record.position.partition));
    ensure!(foreign.is_none(), "{foreign:?} came although its partition was revoked");
    Ok(())
}

pub(super) async fn who_leaves_gives_everything_back(stage: &Stage) -> Outcome {
    let ground = stage.topic(PARTITIONS).await?;
    let mut one = stage.follow("left", &ground).await?;
    one.assigned(PARTITIONS as usize).await?;
    let mut other = stage.follow("left", &ground).await?;
    drop(one);
    ensure_eq!(
        other.assigned(PARTITIONS as usize).await?,
        ground.all_partitions(),
        "what is left to the other"
    );
    Ok(())
}

pub(super) async fn nothing_is_read_before_it_is_sought(stage: &Stage) -> Outcome {
    let ground = stage.topic(1).await?;
    fill(stage, &ground, 5).await?;
    let mut subscription = stage.join("unsought", &ground).await?;
    let deadline = tokio::time::Instant::now() + stage.patience();
    while subscription.assigned().is_empty() {
        ensure!(tokio::time::Instant::now() < deadline, "nothing is assigned");
        let next = subscription.next(LOOK).await?;
        ensure!(!matches!(next, Next::Records(_)), "{next:?} before anybody has said where to begin");
    }
    for _ in 0..3 {
        ensure_eq!(subscription.next(LOOK).await?, Next::Nothing, "before anybody has said where to begin");
    }
    Ok(())
}

/// When one of several positions is refused, none is taken.
pub(super) async fn what_is_not_assigned_cannot_be_sought(stage: &Stage) -> Outcome {
    let (ground, foreign) = (stage.topic(1).await?, stage.topic(1).await?.partition(0));
    fill(stage, &ground, 2).await?;
    let mut follower = stage.follow("foreign", &ground).await?;
    follower.assigned(1).await?;
    let refused = follower.subscription.seek(vec![ground.partition(0).at(1), foreign.at(0)]);
    ensure_eq!(refused, Err(SeekError::NotAssigned { partition: foreign }), "seeking what another has");
    follower.read(2).await?;
    Ok(())
}

pub(super) async fn what_was_assigned_is_what_it_says_that_it_has(stage: &Stage) -> Outcome {
    let ground = stage.topic(PARTITIONS).await?;
    let mut follower = stage.follow("assigned", &ground).await?;
    let mut told: BTreeSet<Partition> = BTreeSet::new();
    let deadline = tokio::time::Instant::now() + stage.patience();
    while told.len() < PARTITIONS as usize {
        ensure!(tokio::time::Instant::now() < deadline, "only {told:?} were assigned");
        if let Next::Assigned(partitions) = follower.step(LOOK).await? {
            told.extend(partitions);
        }
    }
    ensure_eq!(follower.subscription.assigned(), told.into_iter().collect::<Vec<_>>(), "what it has");
    Ok(())
}

pub(super) async fn an_unknown_topic_cannot_be_subscribed(stage: &Stage) -> Outcome {
    let wanted = Subscribe::new(stage.group("nowhere"), vec![stage.name()?]);
    match stage.engine().subscribe(wanted).await {
        Err(SubscribeError::UnknownTopic { .. }) => Ok(()),
        other => Err(Failure::new(format!("a topic that is not there was answered with {other:?}"))),
    }
}
