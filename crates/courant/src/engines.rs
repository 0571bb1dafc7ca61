//! The engines that this build can open.

use std::sync::Arc;

use courant_engine::{Engine, EngineConfig, EngineFactory, EngineUrl, OpenError, open_with};

/// Opens the engine that a URL names, for those who share it between services: `.engine(engine)` takes it, and
/// leaves it open.
///
/// # Errors
/// See [`OpenError`].
pub async fn open(url: &EngineUrl, config: EngineConfig) -> Result<Arc<dyn Engine>, OpenError> {
    let factories: &[&dyn EngineFactory] = &[
        #[cfg(feature = "kafka")]
        &courant_engine_kafka::Kafka,
    ];
    open_with(url, config, factories).await
}
