//! One measurement through the framework: from the start of a service until everything is handled.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use courant::Publisher;
use courant::prelude::*;
use courant::store_api::Store;
use tokio::task::JoinSet;

use super::{Run, Took};

/// Keys of the events. The first one fails where one is to fail.
pub(super) const KEYS: u32 = 100;
/// Tasks that publish what is handled, before it is measured.
const PUBLISHERS: u32 = 64;
/// How often it is looked whether everything was handled, and for how long.
const POLL: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_secs(600);

#[derive(Event, Serialize, Deserialize)]
#[event(type = "bench.order-placed", topic = "bench.orders", key = order_id)]
pub(super) struct OrderPlaced {
    pub(super) order_id: String,
    pub(super) cents: i64,
}

#[derive(Event, Serialize, Deserialize)]
#[event(type = "bench.order-billed", topic = "bench.bills", key = order_id)]
pub(super) struct OrderBilled {
    pub(super) order_id: String,
    pub(super) cents: i64,
}

/// The key of an event by its number.
pub(super) fn key(number: u32) -> String {
    format!("order-{:03}", number % KEYS)
}

/// How many of so many events do not fail.
pub(super) fn healthy(run: Run) -> u32 {
    let failing = if run.fails { run.events.div_ceil(KEYS) } else { 0 };
    run.events - failing
}

/// What the handlers have seen.
#[derive(Clone)]
pub(super) struct Seen(Arc<Inner>);

struct Inner {
    fails: bool,
    begun: Instant,
    /// By its number, whether an event's handler has been called and has not failed.
    calls: Vec<AtomicBool>,
    /// How many of them.
    handled: AtomicU32,
    /// When the last of them was, in microseconds.
    last_us: AtomicU64,
}

impl Seen {
    pub(super) fn new(run: Run) -> Self {
        let calls = (0..run.events).map(|_| AtomicBool::new(false)).collect();
        let (handled, last_us) = (AtomicU32::new(0), AtomicU64::new(0));
        Self(Arc::new(Inner { fails: run.fails, begun: Instant::now(), calls, handled, last_us }))
    }

    fn elapsed_us(&self) -> u64 {
        u64::try_from(self.0.begun.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// The handler of the event with this number is done with its part. One that is called again because others
    /// have failed takes its time again, and counts once: whoever waits for all waits for the last of them.
    pub(super) fn handled(&self, order_id: &str, number: i64) -> Result<(), HandlerError> {
        if self.0.fails && order_id == key(0) {
            return Err(HandlerError::retry("this key fails for ever"));
        }
        self.0.last_us.fetch_max(self.elapsed_us(), Ordering::Relaxed);
        let call = usize::try_from(number).ok().and_then(|number| self.0.calls.get(number));
        if call.is_some_and(|call| !call.swap(true, Ordering::Relaxed)) {
            self.0.handled.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// The subscription, without its handler.
pub(super) fn billing<D: Store>(run: Run) -> Subscription<D, Seen> {
    let retry = Retry::exponential(Duration::from_secs(1), Duration::from_secs(30)).attempts(1_000);
    let writers = usize::try_from(run.writers).unwrap_or(usize::MAX);
    Subscription::named("billing").concurrency(writers).batchable(run.batch).retry(retry)
}

/// Publishes the events, then starts the service and waits until it has handled them.
pub(super) async fn measure<D: Store>(
    dir: &Path,
    store: D,
    subscription: Subscription<D, Seen>,
    seen: Seen,
    run: Run,
) -> Result<Took> {
    let service = App::new("bench")
        .engine(format!("embedded:{}", dir.display()))
        .store(store)
        .state(seen.clone())
        .subscribe(subscription)
        .build()
        .await?;
    publish(&service.publisher(), run.events).await?;
    let begun_us = seen.elapsed_us();
    let begun = Instant::now();
    let mut service = service.start().await?;
    // Without a look at everything that happens: that would be paid for by what is measured.
    while seen.0.handled.load(Ordering::Relaxed) < healthy(run) && begun.elapsed() < LONGEST {
        tokio::time::sleep(POLL).await;
    }
    service.settle().await?;
    let published = begun.elapsed();
    service.stop().await?;
    let last_us = seen.0.last_us.load(Ordering::Relaxed);
    ensure!(last_us > begun_us, "no handler was called");
    Ok(Took { handled: Duration::from_micros(last_us - begun_us), published, events: healthy(run) })
}

async fn publish(publisher: &Publisher, events: u32) -> Result<()> {
    let mut publishing = JoinSet::new();
    for first in 0..PUBLISHERS {
        let publisher = publisher.clone();
        publishing.spawn(async move {
            for number in (first..events).step_by(PUBLISHERS as usize) {
                publisher.publish(&OrderPlaced { order_id: key(number), cents: i64::from(number) }).await?;
            }
            Ok::<(), anyhow::Error>(())
        });
    }
    while let Some(published) = publishing.join_next().await {
        published??;
    }
    Ok(())
}

/// As long as the headers that the framework writes for such an event.
pub(super) const HEADERS: &str = r#"[["ce_id","00000000-0000-0000-0000-000000000000"],["ce_source","bench"],["ce_specversion","1.0"],["ce_type","bench.order-billed"],["ce_time","2023-11-14T22:13:20Z"],["ce_subject","order-000"],["content-type","application/json"],["ce_correlationid","00000000-0000-0000-0000-000000000000"],["ce_causationid","00000000-0000-0000-0000-000000000000"]]"#;

/// An event as it is written by hand.
pub(super) struct ByHand {
    pub(super) id: String,
    pub(super) order_id: String,
    pub(super) value: String,
    pub(super) lane: i64,
    pub(super) bytes: i64,
}

impl ByHand {
    pub(super) fn new(number: u32) -> Self {
        let (order_id, id) = (key(number), format!("{number:036}"));
        let value = format!(r#"{{"order_id":"{order_id}","cents":{number}}}"#);
        let lane = i64::from(courant::store_api::lane_of(OrderBilled::TOPIC, order_id.as_bytes()));
        let bytes = i64::try_from(value.len() + HEADERS.len()).unwrap_or(i64::MAX);
        Self { id, order_id, value, lane, bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_that_is_handled_again_counts_once() {
        let seen = Seen::new(Run { writers: 1, batch: 50, events: 200, fails: true });
        assert!(seen.handled(&key(100), 100).is_err());
        for number in [7, 7, 199] {
            assert!(seen.handled(&key(1), number).is_ok());
        }
        assert_eq!(seen.0.handled.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn what_fails_is_every_hundredth_event() {
        let run = |events, fails| Run { writers: 1, batch: 1, events, fails };
        assert_eq!(healthy(run(1_000, false)), 1_000);
        assert_eq!(healthy(run(1_000, true)), 990);
        assert_eq!(healthy(run(1_001, true)), 990);
        let failing = (0..1_001).filter(|number| key(*number) == key(0)).count();
        assert_eq!(failing, 11);
    }
}
