//! What groups have committed: copies of their progress, for tools that show lag.

use courant_engine::{CommitError, Position};

use crate::failure::ensure_eq;
use crate::stage::Ground;
use crate::{Failure, Outcome, Stage};

async fn commit(stage: &Stage, group: &str, positions: Vec<Position>) -> Outcome {
    Ok(stage.engine().commit(stage.group(group), positions).await?)
}

/// What is found of every partition of a topic.
async fn committed(stage: &Stage, group: &str, ground: &Ground) -> Result<Vec<Option<u64>>, Failure> {
    Ok(stage.engine().committed(stage.group(group), ground.all_partitions()).await?)
}

pub(super) async fn a_commit_is_found_again(stage: &Stage) -> Outcome {
    let ground = stage.topic(1).await?;
    stage.publish((0..10).map(|n| ground.record("key", n)).collect()).await?;
    commit(stage, "billing", vec![ground.partition(0).at(7)]).await?;
    ensure_eq!(committed(stage, "billing", &ground).await?, [Some(7)], "what was committed");
    Ok(())
}

pub(super) async fn the_last_commit_counts_also_a_lower_one(stage: &Stage) -> Outcome {
    let ground = stage.topic(1).await?;
    stage.publish((0..10).map(|n| ground.record("key", n)).collect()).await?;
    for offset in [3, 9, 4] {
        commit(stage, "billing", vec![ground.partition(0).at(offset)]).await?;
        ensure_eq!(committed(stage, "billing", &ground).await?, [Some(offset)], "what was committed last");
    }
    Ok(())
}

pub(super) async fn groups_have_their_own(stage: &Stage) -> Outcome {
    let ground = stage.topic(1).await?;
    stage.publish((0..10).map(|n| ground.record("key", n)).collect()).await?;
    commit(stage, "billing", vec![ground.partition(0).at(7)]).await?;
    commit(stage, "audit", vec![ground.partition(0).at(2)]).await?;
    ensure_eq!(committed(stage, "billing", &ground).await?, [Some(7)], "what billing has committed");
    ensure_eq!(committed(stage, "audit", &ground).await?, [Some(2)], "what audit has committed");
    Ok(())
}

pub(super) async fn partitions_have_their_own(stage: &Stage) -> Outcome {
    let ground = stage.topic(3).await?;
    stage.publish((0..30).map(|n| ground.record_in(n % 3, n)).collect()).await?;
    commit(stage, "billing", vec![ground.partition(0).at(5), ground.partition(2).at(6)]).await?;
    ensure_eq!(committed(stage, "billing", &ground).await?, [Some(5), None, Some(6)], "what was committed");
    Ok(())
}

pub(super) async fn what_was_never_committed_is_nothing(stage: &Stage) -> Outcome {
    let ground = stage.topic(1).await?;
    ensure_eq!(committed(stage, "nobody", &ground).await?, [None], "what nobody has committed");
    Ok(())
}

pub(super) async fn an_unknown_partition_takes_nothing_of_the_commit(stage: &Stage) -> Outcome {
    let ground = stage.topic(1).await?;
    let (known, unknown) = (ground.partition(0), ground.partition(1));
    let refused = stage.engine().commit(stage.group("billing"), vec![known.at(0), unknown.at(0)]).await;
    ensure_eq!(refused, Err(CommitError::UnknownPartition { partition: unknown }), "partition 1 of 1");
    ensure_eq!(committed(stage, "billing", &ground).await?, [None], "what was committed");
    Ok(())
}
