//! How many files the process may have open, and which part of the server gets how many of them.
//!
//! Every connection is an open file, and so is every segment that is read or written. Neither may leave
//! the other without any: clients that come and stay must not keep events from the disk, and events in
//! many partitions must not keep clients away.

use courant_kafka::Limits;
use courant_log::limits::{FILES_MIN as LOG_FILES_MIN, FILES_WANTED as LOG_FILES_WANTED};
use rustix::process::{Resource, getrlimit, setrlimit};

use crate::StartError;

/// Files of a server besides the log and connections: the standard ones, the runtime's, the sockets that
/// listen, and a connection on each of them that is about to be refused.
const OTHER_FILES: usize = 32;

/// HTTP connections at one time: those of a few probes and dashboards.
pub(crate) const HTTP_CONNECTIONS_MAX: usize = 128;

/// With fewer of them a server cannot be watched.
const HTTP_CONNECTIONS_MIN: usize = 4;

/// With fewer connections of both kinds a server is not worth its start.
const CONNECTIONS_MIN: usize = 16;

/// Fewest open files that a server can go on with.
pub const FILES_MIN: usize = OTHER_FILES + LOG_FILES_MIN + CONNECTIONS_MIN;

/// Open files of which a server can make use.
#[must_use]
pub fn files_wanted() -> usize {
    OTHER_FILES + LOG_FILES_WANTED + connections_wanted()
}

fn connections_wanted() -> usize {
    Limits::default().connections_max + HTTP_CONNECTIONS_MAX
}

/// Who may have how many files open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shares {
    pub(crate) log: usize,
    /// Connections of Kafka clients.
    pub(crate) kafka: usize,
    /// Connections to the HTTP port.
    pub(crate) http: usize,
}

impl Shares {
    /// Raises the process's limit as far as it may, and divides what it may open then.
    ///
    /// # Errors
    /// Where it may open so few that a server cannot go on.
    pub(crate) fn of_process() -> Result<Self, StartError> {
        let limit = raise_limit();
        let Some(shares) = Self::of(limit) else {
            return Err(StartError::Files { limit, least: FILES_MIN });
        };
        if limit < files_wanted() {
            tracing::info!(
                limit,
                connections = shares.kafka,
                "few files may be open, so connections are few, and appends to many partitions may wait"
            );
        }
        Ok(shares)
    }

    /// Half for the log and half for connections; what one of them cannot make use of is the other's.
    /// `None` for less than [`FILES_MIN`].
    fn of(limit: usize) -> Option<Self> {
        let files = limit.checked_sub(OTHER_FILES).filter(|_| limit >= FILES_MIN)?;
        let left_by_connections = files.saturating_sub(connections_wanted());
        let log = (files / 2).max(left_by_connections).clamp(LOG_FILES_MIN, LOG_FILES_WANTED);
        let connections = (files - log).min(connections_wanted());
        let http = (connections / 8).clamp(HTTP_CONNECTIONS_MIN, HTTP_CONNECTIONS_MAX);
        Some(Self { log, kafka: connections - http, http })
    }
}

/// Raises the soft limit, often 1,024 for the sake of programs that use `select`, to the hard one, and
/// returns what it is then.
fn raise_limit() -> usize {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            tracing::debug!(%error, "the limit of open files stays as it is");
            limit = getrlimit(Resource::Nofile);
        }
    }
    limit.current.and_then(|files| usize::try_from(files).ok()).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_enough_files_everybody_has_what_it_wants() {
        let connections = Limits::default().connections_max;
        let all = Shares { log: LOG_FILES_WANTED, kafka: connections, http: HTTP_CONNECTIONS_MAX };
        assert_eq!(Shares::of(files_wanted()), Some(all));
        assert_eq!(Shares::of(usize::MAX), Some(all));
    }

    #[test]
    fn the_shares_are_within_the_limit_and_nobody_has_none() {
        for limit in (FILES_MIN..2 * files_wanted()).step_by(11) {
            let Shares { log, kafka, http } = Shares::of(limit).expect("enough to go on with");
            assert!(OTHER_FILES + log + kafka + http <= limit, "{limit}");
            assert!(log >= LOG_FILES_MIN && kafka >= 8 && http >= HTTP_CONNECTIONS_MIN, "{limit}");
        }
        assert_eq!(Shares::of(160), Some(Shares { log: 64, kafka: 56, http: 8 }));
    }

    #[test]
    fn what_one_leaves_is_the_others() {
        let limit = files_wanted() - 100;
        let shares = Shares::of(limit).expect("enough to go on with");
        assert_eq!(OTHER_FILES + shares.log + shares.kafka + shares.http, limit, "none is left over");
    }

    #[test]
    fn too_few_are_refused() {
        assert_eq!(Shares::of(FILES_MIN - 1), None);
        assert_eq!(Shares::of(0), None);
        assert!(Shares::of(FILES_MIN).is_some());
    }
}
