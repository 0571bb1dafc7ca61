//! The engines that this build can open.

use std::sync::Arc;

use courant_engine::{Engine, EngineConfig, EngineFactory, EngineUrl, OpenError, open_with};

pub(crate) async fn open(url: &EngineUrl, config: EngineConfig) -> Result<Arc<dyn Engine>, OpenError> {
    let factories: &[&dyn EngineFactory] = &[
        #[cfg(feature = "kafka")]
        &courant_engine_kafka::Kafka,
    ];
    open_with(url, config, factories).await
}
