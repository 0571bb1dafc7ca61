//! What outlives an engine that was closed, where its records are kept.

use crate::failure::{ensure, ensure_eq};
use crate::stage::{numbers, only, values};
use crate::{Outcome, Stage};

pub(super) async fn records_are_found_again(stage: &mut Stage) -> Outcome {
    let ground = stage.topic(1).await?;
    stage.publish((0..20).map(|n| ground.record("key", n)).collect()).await?;
    for _ in 0..2 {
        stage.reopen().await?;
        ensure_eq!(values(&stage.all(&ground, 20).await?), numbers(20), "the events");
    }
    Ok(())
}

pub(super) async fn offsets_go_on_where_they_were(stage: &mut Stage) -> Outcome {
    let ground = stage.topic(1).await?;
    for n in 0..4 {
        let position = only(stage.publish(vec![ground.record("key", n)]).await?)?;
        ensure_eq!(position.offset, n, "the next offset");
        stage.reopen().await?;
    }
    Ok(())
}

pub(super) async fn the_log_keeps_its_identity(stage: &mut Stage) -> Outcome {
    let before = stage.engine().log_id();
    stage.reopen().await?;
    ensure!(stage.engine().log_id() == before, "the log was {before}, and is {}", stage.engine().log_id());
    Ok(())
}

pub(super) async fn topics_keep_their_ids(stage: &mut Stage) -> Outcome {
    let name = stage.name()?;
    let created = stage.create(&name, 3).await?;
    stage.reopen().await?;
    ensure_eq!(only(stage.engine().topics(vec![name]).await?)?, Some(created), "the topic");
    Ok(())
}

pub(super) async fn commits_are_found_again(stage: &mut Stage) -> Outcome {
    let ground = stage.topic(1).await?;
    stage.publish((0..10).map(|n| ground.record("key", n)).collect()).await?;
    stage.engine().commit(stage.group("billing"), vec![ground.partition(0).at(7)]).await?;
    stage.reopen().await?;
    let found = stage.engine().committed(stage.group("billing"), ground.all_partitions()).await?;
    ensure_eq!(found, [Some(7)], "what was committed");
    Ok(())
}
