//! How the log of an engine is opened: on memory, or in a directory.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use courant_log::storage::{DiskStorage, MemoryStorage, Storage};
use courant_log::{Log, LogConfig};
use tokio::sync::watch;
use tokio::task::spawn_blocking;

use super::groups::Groups;
use super::{Kind, LocalEngine, Shared};
use crate::limits::{MEMORY_BYTES_MIN, MEMORY_JOURNAL_FILE_BYTES, MEMORY_RESERVE_BYTES};
use crate::{EngineConfig, MemoryOptions, OpenError};

impl LocalEngine {
    /// A new log in memory.
    pub(crate) async fn memory(options: MemoryOptions, config: EngineConfig) -> Result<Self, OpenError> {
        let bytes_max = options.bytes_max.max(MEMORY_BYTES_MIN);
        let mut log_config = LogConfig::new(config.clock.clone(), config.entropy.clone());
        log_config.journal_file_bytes = MEMORY_JOURNAL_FILE_BYTES;
        log_config.first_journal_file_bytes = MEMORY_JOURNAL_FILE_BYTES;
        log_config.reserve_bytes = MEMORY_RESERVE_BYTES;
        let opened = spawn_blocking(move || {
            let opened = Log::open(Arc::new(MemoryStorage::new(bytes_max)), log_config);
            opened.map_err(|source| OpenError::Log { place: "memory".to_owned(), source })
        });
        let (log, _new) = opened.await.map_err(|_| OpenError::Interrupted)??;
        Ok(Self::on(log, Kind::Memory { bytes_max }, config))
    }

    /// The log of a directory, which is made when it does not exist. Its settings are those of a server, so
    /// that `courant serve` finds what it would have left itself.
    pub(crate) async fn embedded(dir: PathBuf, config: EngineConfig) -> Result<Self, OpenError> {
        let log_config = LogConfig::new(config.clock.clone(), config.entropy.clone());
        let opened = spawn_blocking(move || open_directory(&dir, log_config));
        let log = opened.await.map_err(|_| OpenError::Interrupted)??;
        Ok(Self::on(log, Kind::Embedded, config))
    }

    /// The log that a server of this process has open, and goes on having open.
    pub(crate) fn served(log: Log, config: EngineConfig) -> Self {
        Self::on(log, Kind::Served, config)
    }

    fn on(log: Log, kind: Kind, config: EngineConfig) -> Self {
        static OPENED: AtomicU64 = AtomicU64::new(0);
        let shared = Shared {
            log,
            number: OPENED.fetch_add(1, Ordering::Relaxed),
            kind,
            config,
            is_closed: AtomicBool::new(false),
            closed: watch::Sender::new(false),
            groups: Mutex::new(Groups::default()),
            keyless: AtomicU32::new(0),
            unswept: AtomicU64::new(0),
        };
        Self { shared: Arc::new(shared) }
    }
}

fn open_directory(dir: &Path, config: LogConfig) -> Result<Log, OpenError> {
    let directory = |source: io::Error| OpenError::Directory { dir: dir.to_owned(), source };
    let storage: Arc<dyn Storage> = Arc::new(DiskStorage::open(dir).map_err(directory)?);
    match Log::open(storage, config) {
        Ok((log, report)) => {
            tracing::debug!(dir = %dir.display(), ?report, "opened");
            Ok(log)
        }
        Err(courant_log::OpenError::Locked) => Err(OpenError::InUse { dir: dir.to_owned() }),
        Err(source) => Err(OpenError::Log { place: dir.display().to_string(), source }),
    }
}
