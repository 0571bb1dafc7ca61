//! Reading: from where one likes, no further than is kept, and one record at a time.

use std::collections::BTreeSet;
use std::time::Duration;

use courant_engine::{Ends, FetchError, Next, Partition, ReadBack, ReadError, Subscribe};

use crate::failure::{ensure, ensure_eq};
use crate::follower::Follower;
use crate::stage::{Ground, numbers, only, text, values};
use crate::{Failure, Outcome, Stage};

/// A topic with one partition and so many records, which went into it in calls of seven.
async fn filled(stage: &Stage, count: u32) -> Result<Ground, Failure> {
    let ground = stage.topic(1).await?;
    let records: Vec<_> = (0..count).map(|n| ground.record("key", n)).collect();
    for call in records.chunks(7) {
        stage.publish(call.to_vec()).await?;
    }
    Ok(ground)
}

/// The values from `first` to 19 of [`filled`] with 20 records.
fn from(first: u64) -> Vec<String> {
    (first..20).map(|n| n.to_string()).collect()
}

async fn ends_of(stage: &Stage, partition: Partition) -> Result<Ends, Failure> {
    Ok(only(stage.engine().ends(vec![partition]).await)??)
}

pub(super) async fn a_new_group_finds_what_was_there_before(stage: &Stage) -> Outcome {
    let ground = filled(stage, 20).await?;
    ensure_eq!(values(&stage.all(&ground, 20).await?), numbers(20), "the events");
    Ok(())
}

pub(super) async fn reading_begins_at_any_offset(stage: &Stage) -> Outcome {
    let ground = filled(stage, 20).await?;
    for first in [0, 1, 6, 7, 13, 19] {
        let mut follower = stage.follow(&format!("from-{first}"), &ground).await?;
        follower.begin_at(ground.partition(0), first);
        let found = follower.read(20 - first as usize).await?;
        ensure_eq!(values(&found), from(first), "the events from offset {first} on");
        ensure!(found.iter().map(|record| record.position.offset).eq(first..20), "their offsets");
    }
    Ok(())
}

pub(super) async fn a_subscription_can_go_back(stage: &Stage) -> Outcome {
    let ground = filled(stage, 20).await?;
    let mut follower = stage.follow("back", &ground).await?;
    follower.read(20).await?;
    for first in [12, 3, 0] {
        follower.subscription.seek(vec![ground.partition(0).at(first)])?;
        ensure_eq!(values(&follower.read(20 - first as usize).await?), from(first), "from {first} on again");
    }
    Ok(())
}

/// What a read says to go on with is where the next record is.
pub(super) async fn what_follows_is_where_it_says(stage: &Stage) -> Outcome {
    let ground = filled(stage, 20).await?;
    let wanted = Subscribe { bytes_max: 1, ..Subscribe::new(stage.group("one"), vec![ground.name.clone()]) };
    let mut follower = Follower::new(stage.engine().subscribe(wanted).await?, stage.patience());
    let mut found = Vec::new();
    while found.len() < 20 {
        match follower.step(stage.patience()).await? {
            Next::Records(fetched) => {
                let next = fetched.iter().map(|fetched| fetched.partition.at(fetched.next_offset)).collect();
                found.append(&mut follower.records);
                follower.subscription.seek(next)?;
            }
            Next::Nothing => return Err(Failure::new(format!("only {} of 20 have come", found.len()))),
            _ => {}
        }
    }
    ensure_eq!(values(&found), numbers(20), "the events, each read from where the one before it said");
    Ok(())
}

pub(super) async fn an_offset_behind_the_end_is_named(stage: &Stage) -> Outcome {
    let ground = filled(stage, 20).await?;
    let mut follower = stage.follow("behind", &ground).await?;
    follower.begin_at(ground.partition(0), 25);
    follower.assigned(1).await?;
    let found = follower.raw(stage.patience()).await?;
    let partition = ground.partition(0);
    ensure_eq!(
        found,
        Err(FetchError::OutOfRange { partition, offset: 25, start: 0, end: 20 }),
        "offset 25 of 20"
    );
    Ok(())
}

pub(super) async fn after_an_error_the_others_go_on_and_it_can_be_sought_again(stage: &Stage) -> Outcome {
    let ground = stage.topic(2).await?;
    stage.publish((0..6).map(|n| ground.record_in(n % 2, n)).collect()).await?;
    let mut follower = stage.follow("error", &ground).await?;
    follower.begin_at(ground.partition(0), 7);
    follower.assigned(2).await?;
    let mut errors = 0;
    while errors == 0 || follower.records.len() < 3 {
        match follower.step(stage.patience()).await {
            Ok(Next::Nothing) => {
                return Err(Failure::new("neither the error nor the other partition has come"));
            }
            Ok(_) => {}
            Err(_) => errors += 1,
        }
        ensure!(errors <= 1, "the error comes once, until the partition is sought again");
    }
    follower.subscription.seek(vec![ground.partition(0).at(1)])?;
    let found = follower.read(5).await?;
    let again: Vec<_> = found.iter().filter(|record| record.position.partition.number == 0).collect();
    ensure!(
        again.iter().map(|record| record.position.offset).eq(1..3),
        "from where it was sought: {again:?}"
    );
    Ok(())
}

pub(super) async fn each_record_is_read_back_where_it_is(stage: &Stage) -> Outcome {
    let ground = filled(stage, 20).await?;
    let partition = ground.partition(0);
    let answers = stage.engine().read((0..20).rev().map(|offset| partition.at(offset)).collect()).await;
    ensure_eq!(answers.len(), 20, "answers");
    for (offset, answer) in (0..20_u64).rev().zip(answers) {
        match answer? {
            ReadBack::Found(found) => {
                ensure_eq!(found.position, partition.at(offset), "the place");
                ensure_eq!(text(found.value.as_ref()), offset.to_string(), "offset {offset}");
            }
            other => return Err(Failure::new(format!("offset {offset} has {other:?}"))),
        }
    }
    Ok(())
}

pub(super) async fn behind_the_end_nothing_is_read_back(stage: &Stage) -> Outcome {
    let ground = filled(stage, 20).await?;
    let partition = ground.partition(0);
    for answer in stage.engine().read(vec![partition.at(20), partition.at(1_000)]).await {
        ensure_eq!(answer?, ReadBack::Behind { end: 20 }, "what is behind the end");
    }
    Ok(())
}

pub(super) async fn what_is_unknown_is_not_read_back(stage: &Stage) -> Outcome {
    let ground = filled(stage, 1).await?;
    for partition in [ground.partition(1), Partition::new(stage.name()?.as_str(), 0)] {
        let answer = only(stage.engine().read(vec![partition.at(0)]).await)?;
        ensure_eq!(answer, Err(ReadError::UnknownPartition { partition }), "what is not there");
    }
    Ok(())
}

pub(super) async fn ends_are_exact_after_every_publish(stage: &Stage) -> Outcome {
    let ground = stage.topic(1).await?;
    for end in 1..=10 {
        stage.publish(vec![ground.record("key", end)]).await?;
        ensure_eq!(ends_of(stage, ground.partition(0)).await?, Ends { start: 0, end }, "the ends");
    }
    Ok(())
}

pub(super) async fn an_empty_partition_begins_and_ends_at_0(stage: &Stage) -> Outcome {
    let ground = stage.topic(2).await?;
    stage.publish(vec![ground.record_in(0, "")]).await?;
    ensure_eq!(ends_of(stage, ground.partition(1)).await?, Ends { start: 0, end: 0 }, "the ends");
    Ok(())
}

pub(super) async fn ends_of_what_is_unknown_are_refused(stage: &Stage) -> Outcome {
    let ground = stage.topic(1).await?;
    for partition in [ground.partition(1), Partition::new(stage.name()?.as_str(), 0)] {
        let answer = only(stage.engine().ends(vec![partition.clone()]).await)?;
        ensure_eq!(answer, Err(ReadError::UnknownPartition { partition }), "what is not there");
    }
    Ok(())
}

/// The lag is told with every read.
pub(super) async fn what_is_fetched_says_the_ends(stage: &Stage) -> Outcome {
    let ground = filled(stage, 20).await?;
    let wanted = Subscribe { bytes_max: 1, ..Subscribe::new(stage.group("lag"), vec![ground.name.clone()]) };
    let mut follower = Follower::new(stage.engine().subscribe(wanted).await?, stage.patience());
    while follower.records.len() < 20 {
        match follower.step(stage.patience()).await? {
            Next::Records(fetched) => {
                let ends = fetched.iter().map(|fetched| (fetched.start, fetched.end));
                ensure!(ends.clone().all(|ends| ends == (0, 20)), "{:?}", ends.collect::<Vec<_>>());
            }
            Next::Nothing => return Err(Failure::new("not all have come")),
            _ => {}
        }
    }
    Ok(())
}

/// 3 MB are not read at once by one who wants 1 MB.
pub(super) async fn a_read_is_bounded(stage: &Stage) -> Outcome {
    let ground = stage.topic(1).await?;
    for _ in 0..30 {
        stage.publish(vec![ground.record("key", "x".repeat(100_000))]).await?;
    }
    let mut follower = stage.follow("bounded", &ground).await?;
    while follower.records.len() < 30 {
        match follower.step(stage.patience()).await? {
            Next::Records(fetched) => {
                let bytes: usize = fetched.iter().flat_map(|f| &f.records).map(|r| r.payload_bytes()).sum();
                ensure!(bytes <= courant_engine::limits::FETCH_BYTES_DEFAULT, "{bytes} bytes at once");
            }
            Next::Nothing => return Err(Failure::new("not all have come")),
            _ => {}
        }
    }
    Ok(())
}

pub(super) async fn a_paused_partition_waits(stage: &Stage) -> Outcome {
    let ground = stage.topic(2).await?;
    let mut follower = stage.follow("paused", &ground).await?;
    follower.assigned(2).await?;
    follower.subscription.pause(&[ground.partition(0)]);
    stage.publish((0..8).map(|n| ground.record_in(n % 2, n)).collect()).await?;
    let found = follower.read(4).await?;
    let numbers: BTreeSet<_> = found.iter().map(|record| record.position.partition.number).collect();
    ensure_eq!(numbers, BTreeSet::from([1]), "the partitions that were read");
    Ok(())
}

pub(super) async fn a_resumed_partition_goes_on_where_it_was(stage: &Stage) -> Outcome {
    let ground = filled(stage, 20).await?;
    let mut follower = stage.follow("resumed", &ground).await?;
    follower.read(20).await?;
    follower.subscription.pause(&ground.all_partitions());
    stage.publish(vec![ground.record("key", "later")]).await?;
    follower.step(Duration::ZERO).await?;
    follower.subscription.resume(&ground.all_partitions());
    ensure_eq!(values(&follower.read(1).await?), ["later"], "what has come meanwhile");
    Ok(())
}
