//! Reading at a place of one's choice: one record back, by time, from an offset, and where there is none.

use std::time::Duration;

use courant_engine::{Ends, FetchError, NewRecord, Next, Partition, ReadBack, ReadError, TimedOffset};

use crate::on_every_engine;
use crate::place::{PATIENCE, Place, join, next, read, record, record_in};

on_every_engine!(
    a_record_is_read_back_where_it_is,
    offsets_are_found_by_time,
    the_ends_of_a_partition,
    an_offset_outside_the_ends_is_named_and_another_can_be_sought,
    reading_begins_within_a_batch,
    a_paused_partition_waits_and_the_others_go_on,
);

async fn a_record_is_read_back_where_it_is(place: &Place) {
    place.topic("orders", 2).await;
    let positions = place.publish((0..10).map(|n| record("key", n.to_string())).collect()).await;
    let partition = positions[0].partition.clone();
    let asked = vec![
        positions[3].clone(),
        partition.at(10),
        partition.at(99),
        Partition::new("orders", 1 - partition.number).at(0),
        Partition::new("orders", 2).at(0),
        Partition::new("payments", 0).at(0),
    ];
    let answers = place.engine.read(asked.clone()).await;
    let Ok(ReadBack::Found(found)) = &answers[0] else { panic!("found, not {:?}", answers[0]) };
    assert_eq!(found.position, positions[3]);
    assert_eq!(found.value.as_deref(), Some(&b"3"[..]));
    assert_eq!(answers[1], Ok(ReadBack::Behind { end: 10 }));
    assert_eq!(answers[2], Ok(ReadBack::Behind { end: 10 }));
    assert_eq!(answers[3], Ok(ReadBack::Behind { end: 0 }));
    for (answer, position) in answers[4..].iter().zip(&asked[4..]) {
        let partition = position.partition.clone();
        assert_eq!(*answer, Err(ReadError::UnknownPartition { partition }));
    }
}

async fn offsets_are_found_by_time(place: &Place) {
    place.topic("orders", 1).await;
    let at = |ms: i64| NewRecord { timestamp_ms: Some(ms), ..record("key", ms.to_string()) };
    // In one batch and in several; a later record may be older.
    place.publish(vec![at(1000), at(3000), at(2000)]).await;
    place.publish(vec![at(4000)]).await;
    let partition = Partition::new("orders", 0);
    let times = [0, 1000, 1001, 3000, 3001, 4000, 4001];
    let wanted = times.iter().map(|ms| (partition.clone(), *ms)).collect();
    let found: Vec<_> = place.engine.offsets_for_time(wanted).await;
    let expected = [(0, 1000), (0, 1000), (1, 3000), (1, 3000), (3, 4000), (3, 4000)];
    let expected = expected.map(|(offset, timestamp_ms)| Some(TimedOffset { offset, timestamp_ms }));
    let expected: Vec<Result<_, ReadError>> = expected.into_iter().chain([None]).map(Ok).collect();
    assert_eq!(found, expected);
    let unknown = Partition::new("payments", 0);
    let answer = place.engine.offsets_for_time(vec![(unknown.clone(), 0)]).await;
    assert_eq!(answer, [Err(ReadError::UnknownPartition { partition: unknown })]);
}

async fn the_ends_of_a_partition(place: &Place) {
    let topic = place.topic("orders", 2).await;
    place.publish((0..3).map(|n| record_in(1, n.to_string())).collect()).await;
    let unknown = Partition::new("orders", 2);
    let asked = topic.all_partitions().chain([unknown.clone()]).collect();
    let ends = place.engine.ends(asked).await;
    let expected = [
        Ok(Ends { start: 0, end: 0 }),
        Ok(Ends { start: 0, end: 3 }),
        Err(ReadError::UnknownPartition { partition: unknown }),
    ];
    assert_eq!(ends, expected);
}

/// The error comes once, the other partition goes on, and the one in error begins where it is told to.
async fn an_offset_outside_the_ends_is_named_and_another_can_be_sought(place: &Place) {
    let topic = place.topic("orders", 2).await;
    place.publish((0..6).map(|n| record_in(n % 2, n.to_string())).collect()).await;
    let mut subscription = join(&*place.engine, "billing", "orders").await;
    assert!(matches!(next(&mut *subscription).await, Next::Assigned(all) if all.len() == 2));
    let partitions: Vec<_> = topic.all_partitions().collect();
    subscription.seek(vec![partitions[0].at(7), partitions[1].at(0)]).expect("assigned");
    let error = subscription.next(PATIENCE).await.expect_err("behind the end");
    let partition = partitions[0].clone();
    assert_eq!(error, FetchError::OutOfRange { partition, offset: 7, start: 0, end: 3 });
    let others = read(&mut *subscription, 3).await;
    assert!(others.iter().all(|record| record.position.partition == partitions[1]));
    assert_eq!(subscription.next(Duration::ZERO).await, Ok(Next::Nothing));
    subscription.seek(vec![partitions[0].at(1)]).expect("assigned");
    assert_eq!(read(&mut *subscription, 2).await[0].position, partitions[0].at(1));
}

async fn reading_begins_within_a_batch(place: &Place) {
    place.topic("orders", 1).await;
    // One call is one batch here.
    place.publish((0..10).map(|n| record("key", n.to_string())).collect()).await;
    let mut subscription = place.subscribe("billing", "orders").await;
    let partition = Partition::new("orders", 0);
    for from in 0..10 {
        subscription.seek(vec![partition.at(from)]).expect("assigned");
        let records = read(&mut *subscription, 10 - from as usize).await;
        assert_eq!(records[0].position.offset, from);
    }
}

async fn a_paused_partition_waits_and_the_others_go_on(place: &Place) {
    let topic = place.topic("orders", 2).await;
    place.publish((0..4).map(|n| record_in(n % 2, n.to_string())).collect()).await;
    let mut subscription = place.subscribe("billing", "orders").await;
    let partitions: Vec<_> = topic.all_partitions().collect();
    subscription.pause(&partitions[..1]);
    let others = read(&mut *subscription, 2).await;
    assert!(others.iter().all(|record| record.position.partition == partitions[1]));
    assert_eq!(subscription.next(Duration::ZERO).await, Ok(Next::Nothing));
    subscription.resume(&partitions);
    let first = read(&mut *subscription, 2).await;
    assert!(first.iter().all(|record| record.position.partition == partitions[0]));
}
