//! What one look at many partitions gives: something of each, so that there are events of many keys at hand.

use courant_engine::Next;

use crate::on_every_engine;
use crate::place::{Place, next, record_in};

on_every_engine!(one_look_has_records_of_every_partition);

const PARTITIONS: u32 = 8;
const RECORDS: usize = 40;

/// Each partition alone has nearly as much as one look gives.
async fn one_look_has_records_of_every_partition(place: &Place) {
    place.topic("orders", PARTITIONS).await;
    for _ in 0..RECORDS {
        place.publish((0..PARTITIONS).map(|number| record_in(number, vec![7_u8; 20_000])).collect()).await;
    }
    let mut subscription = place.subscribe("billing", "orders").await;
    let mut looks = 0;
    let mut records = 0;
    while records < RECORDS * PARTITIONS as usize {
        let Next::Records(fetched) = next(&mut *subscription).await else { panic!("records") };
        if looks == 0 {
            assert_eq!(fetched.len(), PARTITIONS as usize);
        }
        records += fetched.iter().map(|fetched| fetched.records.len()).sum::<usize>();
        looks += 1;
    }
    assert_eq!(records, RECORDS * PARTITIONS as usize);
    // It is 6 MiB, and a look gives one.
    assert!((6..=10).contains(&looks), "{looks}");
}
