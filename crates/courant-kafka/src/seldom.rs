//! Lines of the log that whoever reaches a port can cause, as often as they like: of each kind a few come in a minute,
//! and the next one says how many more there were. With `debug` the others come as well.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::{debug, error, warn};

/// For how long the lines of a kind are counted together.
const WHILE: Duration = Duration::from_secs(60);

/// Lines of a kind in that time that are about one request each: a client that works may have a few refused.
const REQUEST_LINES_MAX: u32 = 10;

/// Lets few lines of a kind into the log, whoever causes them and however often.
#[derive(Debug)]
pub struct Seldom {
    /// Lines in a minute.
    most: u32,
    counted: Mutex<Counted>,
}

#[derive(Debug, Default)]
struct Counted {
    /// When the minute of the last line began.
    since: Option<Instant>,
    /// Lines in it.
    said: u32,
    /// How many were kept back since the last line.
    unsaid: u64,
}

impl Seldom {
    /// Lets so many lines in a minute into the log.
    #[must_use]
    pub fn of(most: u32) -> Self {
        Self { most, counted: Mutex::default() }
    }

    /// How many have gone unsaid, if it is time for another line.
    pub fn say(&self, now: Instant) -> Option<u64> {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        if counted.since.is_none_or(|since| now.saturating_duration_since(since) >= WHILE) {
            counted.since = Some(now);
            counted.said = 0;
        }
        if counted.said >= self.most {
            counted.unsaid = counted.unsaid.saturating_add(1);
            return None;
        }
        counted.said += 1;
        Some(std::mem::take(&mut counted.unsaid))
    }

    /// Warns of a client, if it is time for that. What clients have written stands in `line` with its control
    /// characters escaped, or not at all.
    pub(crate) fn warn(&self, peer: SocketAddr, line: fmt::Arguments<'_>) {
        match self.say(Instant::now()) {
            Some(0) => warn!(%peer, "{line}"),
            Some(unsaid) => warn!(%peer, "{line}; {unsaid} more like it since the last line"),
            None => debug!(%peer, unsaid = true, "{line}"),
        }
    }

    /// Tells of something that is not the fault of who has asked, if it is time for that. The same holds for `line`.
    pub(crate) fn error(&self, line: fmt::Arguments<'_>) {
        match self.say(Instant::now()) {
            Some(0) => error!("{line}"),
            Some(unsaid) => error!("{line}; {unsaid} more like it since the last line"),
            None => debug!(unsaid = true, "{line}"),
        }
    }

    /// How many have gone unsaid since the last line.
    #[cfg(test)]
    pub(crate) fn unsaid(&self) -> u64 {
        self.counted.lock().expect("nobody panics with it").unsaid
    }
}

/// One line in a minute.
impl Default for Seldom {
    fn default() -> Self {
        Self::of(1)
    }
}

/// What is said of the clients of a broker, by kind: one that is told the same again and again hides nothing else.
#[derive(Debug)]
pub(crate) struct Lines {
    /// Connections above the limit.
    pub(crate) full: Seldom,
    /// Clients that speak HTTP.
    pub(crate) http: Seldom,
    /// Clients that speak TLS where nobody else does.
    pub(crate) tls: Seldom,
    /// Connections that end because of what came on them, and not a request.
    pub(crate) frames: Seldom,
    /// The same because of a request.
    pub(crate) requests: Seldom,
    /// Clients that leave their answers unread.
    pub(crate) unread: Seldom,
    /// Answers that could not be written, which is a defect.
    pub(crate) defects: Seldom,
    /// Clients whose software has no decent name.
    pub(crate) software: Seldom,
    /// Clients that want transactions.
    pub(crate) transactions: Seldom,
    /// Producers that could be given no id.
    pub(crate) producer_ids: Seldom,
    /// Produces that were refused.
    pub(crate) produces: Seldom,
    /// Names that no topic can have, and topics that could not be created on first use.
    pub(crate) first_use: Seldom,
    /// Changes of topics that were refused.
    pub(crate) changes: Seldom,
    /// Changes of topics that ask for what has no effect here.
    pub(crate) without_effect: Seldom,
    /// Looks into the log that have failed.
    pub(crate) reads: Seldom,
}

impl Default for Lines {
    fn default() -> Self {
        let of_requests = || Seldom::of(REQUEST_LINES_MAX);
        Self {
            full: Seldom::default(),
            http: Seldom::default(),
            tls: Seldom::default(),
            frames: of_requests(),
            requests: of_requests(),
            unread: of_requests(),
            defects: of_requests(),
            software: Seldom::default(),
            transactions: Seldom::default(),
            producer_ids: Seldom::default(),
            produces: of_requests(),
            first_use: of_requests(),
            changes: of_requests(),
            without_effect: of_requests(),
            reads: of_requests(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_once_in_a_while_and_say_how_many_have_not() {
        let (seldom, begun) = (Seldom::default(), Instant::now());
        assert_eq!(seldom.say(begun), Some(0));
        assert_eq!(seldom.say(begun), None);
        assert_eq!(seldom.say(begun + WHILE / 2), None);
        assert_eq!(seldom.say(begun + WHILE), Some(2));
        assert_eq!(seldom.say(begun + WHILE * 2), Some(0));
    }

    #[test]
    fn where_several_may_come_the_first_of_the_next_minute_has_the_count() {
        let (seldom, begun) = (Seldom::of(2), Instant::now());
        let said: Vec<_> = (0..4).map(|_| seldom.say(begun)).collect();
        assert_eq!(said, [Some(0), Some(0), None, None]);
        assert_eq!(seldom.unsaid(), 2);
        assert_eq!((seldom.say(begun + WHILE), seldom.say(begun + WHILE)), (Some(2), Some(0)));
        assert_eq!(seldom.say(begun + WHILE), None);
    }
}
