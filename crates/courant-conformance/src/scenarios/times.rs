//! Finding offsets by time.

use courant_engine::{NewRecord, TimedOffset};

use crate::failure::ensure_eq;
use crate::stage::{Ground, only};
use crate::{Failure, Outcome, Stage};

/// One partition with records of 1000, 3000, 2000 and 4000 ms, in two calls.
async fn timed(stage: &Stage) -> Result<Ground, Failure> {
    let ground = stage.topic(1).await?;
    let at = |ms: i64| NewRecord { timestamp_ms: Some(ms), ..ground.record("key", ms) };
    stage.publish([1_000, 3_000, 2_000].map(at).into()).await?;
    stage.publish(vec![at(4_000)]).await?;
    Ok(ground)
}

/// The first whose time is that or later; a later record may be older.
pub(super) async fn the_first_record_of_a_time_is_found(stage: &Stage) -> Outcome {
    let ground = timed(stage).await?;
    let times = [0, 999, 1_000, 1_001, 3_000, 3_001, 4_000];
    let wanted = times.map(|ms| (ground.partition(0), ms)).into();
    let mut found = Vec::new();
    for answer in stage.engine().offsets_for_time(wanted).await {
        found.push(answer?);
    }
    let expected = [(0, 1_000), (0, 1_000), (0, 1_000), (1, 3_000), (1, 3_000), (3, 4_000), (3, 4_000)];
    let expected = expected.map(|(offset, timestamp_ms)| Some(TimedOffset { offset, timestamp_ms }));
    ensure_eq!(found, expected, "the records of {times:?}");
    Ok(())
}

pub(super) async fn behind_all_times_there_is_nothing(stage: &Stage) -> Outcome {
    let ground = timed(stage).await?;
    let found = only(stage.engine().offsets_for_time(vec![(ground.partition(0), 4_001)]).await)??;
    ensure_eq!(found, None, "what is later than everything");
    Ok(())
}

pub(super) async fn each_partition_is_asked_for_itself(stage: &Stage) -> Outcome {
    let ground = stage.topic(2).await?;
    let at = |partition, ms| NewRecord { timestamp_ms: Some(ms), ..ground.record_in(partition, ms) };
    stage.publish(vec![at(0, 1_000), at(0, 2_000), at(1, 2_000)]).await?;
    let wanted = vec![(ground.partition(1), 1_500), (ground.partition(0), 1_500)];
    let mut found = Vec::new();
    for answer in stage.engine().offsets_for_time(wanted).await {
        found.push(answer?.map(|found| found.offset));
    }
    ensure_eq!(found, [Some(0), Some(1)], "the first records from 1500 ms on, of both partitions");
    Ok(())
}
