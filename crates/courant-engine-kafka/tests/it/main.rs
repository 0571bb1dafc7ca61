//! The contract of engines on a `courant serve`, by the same cases that the engines of a process keep;
//! then what only a server can go through: others in the group, and its own death; and Apache Kafka itself.

#[path = "../../../courant-engine/tests/it/groups.rs"]
mod groups;
#[path = "../../../courant-engine/tests/it/order.rs"]
mod order;
#[path = "../../../courant-engine/tests/it/place.rs"]
mod place;
#[path = "../../../courant-engine/tests/it/reading.rs"]
mod reading;
#[path = "../../../courant-engine/tests/it/records.rs"]
mod records;
#[path = "../../../courant-engine/tests/it/refusals.rs"]
mod refusals;
#[path = "../../../courant-engine/tests/it/topics.rs"]
mod topics;
#[path = "../../../courant-engine/tests/it/waiting.rs"]
mod waiting;

mod conformance;
mod kafka;
mod logins;
mod long_handler;
mod on_kafka;
mod opening;
mod restarts;
mod server;
mod service;
mod sharing;
mod swapping;
#[cfg(feature = "tls")]
mod tls;

/// One test for each case, each on a server of its own.
macro_rules! on_every_engine {
    ($($case:ident),+ $(,)?) => {
        mod on_courant {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    if let Some(place) = crate::server::place(stringify!($case)).await {
                        super::$case(&place).await;
                    }
                }
            )+
        }
    };
}

pub(crate) use on_every_engine;
