//! Reads that take longer than anybody waits for them: whoever waits for other things as well gives each wait up.

use std::sync::mpsc;
use std::time::Duration;

use courant_engine::{Next, Partition, Subscription};
use tokio::runtime::{Builder, Runtime};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::engines::memory;
use crate::place::{PATIENCE, Place, read, record};

/// One thread reads, and does one thing after the other.
fn narrow() -> Runtime {
    let mut runtime = Builder::new_multi_thread();
    runtime.worker_threads(1).max_blocking_threads(1).enable_all().build().expect("a runtime")
}

/// Gives that thread something to do until what comes back is dropped.
fn occupy() -> mpsc::Sender<()> {
    let (until, dropped) = mpsc::channel();
    drop(spawn_blocking(move || dropped.recv()));
    until
}

/// Begins to wait for records, and gives that up.
async fn give_up(subscription: &mut dyn Subscription) {
    let given_up = timeout(Duration::ZERO, subscription.next(PATIENCE)).await;
    assert!(given_up.is_err(), "nothing was read: {given_up:?}");
}

async fn with_records(count: usize) -> (Place, Box<dyn Subscription>) {
    let place = memory().await;
    place.topic("orders", 1).await;
    place.publish((0..count).map(|n| record("key", n.to_string())).collect()).await;
    let subscription = place.subscribe("billing", "orders").await;
    (place, subscription)
}

/// The read that was begun first comes to its end, and is what the next call gives: begun anew each time, it would
/// stand behind everything else that is to be done by then.
#[test]
fn a_read_goes_on_when_nobody_waits_for_it() {
    narrow().block_on(async {
        let (_place, mut subscription) = with_records(3).await;
        let before = occupy();
        give_up(&mut *subscription).await;
        let behind = occupy();
        for _ in 0..3 {
            give_up(&mut *subscription).await;
        }
        drop(before);
        assert_eq!(read(&mut *subscription, 3).await[0].position.offset, 0);
        drop(behind);
        // And it was one read: its records come once.
        let more = subscription.next(Duration::from_millis(5)).await;
        assert_eq!(more, Ok(Next::Nothing));
    });
}

/// What was begun before somebody has sought another place, or paused the partition, is not taken.
#[test]
fn a_read_from_another_place_is_not_taken() {
    narrow().block_on(async {
        let (_place, mut subscription) = with_records(5).await;
        let partition = Partition::new("orders", 0);
        let busy = occupy();
        give_up(&mut *subscription).await;
        subscription.seek(vec![partition.at(3)]).expect("it has the partition");
        drop(busy);
        assert_eq!(read(&mut *subscription, 2).await[0].position.offset, 3);
        subscription.seek(vec![partition.at(1)]).expect("it has the partition");
        let busy = occupy();
        give_up(&mut *subscription).await;
        subscription.pause(std::slice::from_ref(&partition));
        drop(busy);
        let paused = subscription.next(Duration::from_millis(5)).await;
        assert_eq!(paused, Ok(Next::Nothing));
        subscription.resume(std::slice::from_ref(&partition));
        assert_eq!(read(&mut *subscription, 4).await[0].position.offset, 1);
    });
}
