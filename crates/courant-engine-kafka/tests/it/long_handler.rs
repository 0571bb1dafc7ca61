//! A handler that takes longer than Kafka waits for a consumer (`max.poll.interval.ms`) keeps its partition:
//! another thread follows the group meanwhile.

use std::sync::Arc;
use std::time::{Duration, Instant};

use courant::engine::Engine;
use courant::prelude::*;
use courant::{EngineChoice, NoStore, Running};
use courant_engine_kafka::Silence;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::kafka::{address, engine, new_topic};
use crate::place::PATIENCE;

/// How long Kafka waits here, for a heartbeat too: longer than a busy machine may keep a thread waiting.
const INTERVAL: Duration = Duration::from_secs(6);
/// How long the handler takes.
const LONG: Duration = Duration::from_secs(13);

#[derive(Event, Serialize, Deserialize, Debug)]
#[event(type = "kafka.long", topic = "kafka.long", key = key)]
struct Long {
    key: String,
    n: u32,
}

/// What a handler says when it begins, and when it has ended: the number, and which.
type Said = mpsc::UnboundedSender<(u32, &'static str)>;

async fn work(event: Long, State(said): State<Said>) -> Result<(), HandlerError> {
    said.send((event.n, "begun"))?;
    if event.n == 0 {
        tokio::time::sleep(LONG).await;
    }
    said.send((event.n, "ended"))?;
    Ok(())
}

async fn started(engine: &Arc<dyn Engine>, said: &Said) -> Running<NoStore> {
    let working = Subscription::named("kafka-working")
        .at_least_once()
        .when_exhausted(Exhausted::Skip)
        .timeout(PATIENCE)
        .on(work);
    let app = App::new("kafka").engine(EngineChoice::from(engine.clone())).state(said.clone());
    let service = app.subscribe(working).build().await.expect("fits together");
    service.start().await.expect("starts")
}

/// D10: one partition, and two services that would have it: the event is delivered once, to the one that works.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_takes_long_keeps_its_partition() {
    let Some(address) = address("a_handler_that_takes_long_keeps_its_partition") else { return };
    new_topic(&address, "kafka.long", 1).await;
    let silence = Silence { session: INTERVAL, poll_interval: INTERVAL };
    let (one, other) = (engine(&address, silence).await, engine(&address, silence).await);
    let (said, mut heard) = mpsc::unbounded_channel();
    let first = started(&one, &said).await;
    let second = started(&other, &said).await;
    let begun = Instant::now();
    for n in [0, 1] {
        first.publisher().publish(&Long { key: "key".to_owned(), n }).await.expect("publishes");
    }
    for expected in [(0, "begun"), (0, "ended"), (1, "begun"), (1, "ended")] {
        let next = timeout(PATIENCE, heard.recv()).await.expect("in time");
        assert_eq!(next, Some(expected), "each is delivered once, in order");
    }
    assert!(begun.elapsed() > 2 * INTERVAL, "it did take longer than Kafka waits");
    first.stop().await.expect("stops");
    second.stop().await.expect("stops");
    assert!(heard.try_recv().is_err(), "nothing was delivered again");
    one.close().await;
    other.close().await;
}

/// The bound is real: a consumer that does not look for that long has lost its group.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_that_hangs_as_long_loses_its_group() {
    let Some(address) = address("a_consumer_that_hangs_as_long_loses_its_group") else { return };
    new_topic(&address, "kafka.hanging", 1).await;
    let interval = INTERVAL.as_millis().to_string();
    let said = tokio::task::spawn_blocking(move || {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", address)
            .set("group.id", "kafka-hanging")
            .set("session.timeout.ms", &interval)
            .set("heartbeat.interval.ms", "500")
            .set("max.poll.interval.ms", &interval);
        let consumer: BaseConsumer = config.create().expect("a client");
        consumer.subscribe(&["kafka.hanging"]).expect("subscribes");
        let deadline = Instant::now() + PATIENCE;
        while consumer.assignment().expect("answers").count() == 0 && Instant::now() < deadline {
            drop(consumer.poll(Duration::from_millis(50)));
        }
        // The client looks for that itself, from time to time.
        std::thread::sleep(2 * INTERVAL);
        let mut said = None;
        while said.is_none() && Instant::now() < deadline {
            said = consumer.poll(Duration::from_millis(50)).map(|answer| answer.map(drop));
        }
        said
    });
    let said = said.await.expect("ends");
    assert_eq!(said, Some(Err(KafkaError::MessageConsumption(RDKafkaErrorCode::PollExceeded))));
}
