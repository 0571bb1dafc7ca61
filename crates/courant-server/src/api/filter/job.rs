//! One search, as far as it has come.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use courant_log::Topic;
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::sync::watch;

use super::condition::Condition;
use super::scan::Looked;
use crate::api::limits::{GAPS_NAMED_MAX, RECORD_PAGE_BYTES_MAX, SEARCH_KEPT, SEARCH_RESULT_BYTES_MAX};
use crate::api::records::begin::Begin;
use crate::api::records::read::Gap;

/// What is looked for, and where.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) topics: Vec<Arc<Topic>>,
    /// Partitions by number; `None`: all of each topic.
    pub(super) partitions: Option<Vec<u32>>,
    pub(super) from: Begin,
    pub(super) to: Begin,
    pub(super) condition: Condition,
    /// Records that are kept.
    pub(super) limit: usize,
}

/// Where a search stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Status {
    /// It waits for its turn.
    Queued,
    Running,
    /// It has come to the end of what was asked for, or to its limit.
    Done,
    Cancelled,
    Failed,
}

/// A search.
#[derive(Debug)]
pub(crate) struct Job {
    pub(super) id: String,
    pub(super) plan: Plan,
    begun: Instant,
    found: Mutex<Found>,
    /// Counts changes, for those who wait for them.
    changes: watch::Sender<u64>,
}

#[derive(Debug)]
struct Found {
    status: Status,
    reason: Option<String>,
    /// Offsets that were gone through, and those that there are.
    scanned: u64,
    of: Option<u64>,
    bytes: u64,
    found: u64,
    results: Vec<Box<RawValue>>,
    result_bytes: usize,
    gaps: Vec<Gap>,
    gaps_left_out: u64,
    started: Option<Instant>,
    ended: Option<Instant>,
}

/// A search's progress as answers show it.
#[derive(Debug, Serialize)]
pub(super) struct Progress {
    id: String,
    status: Status,
    reason: Option<String>,
    topics: Vec<String>,
    scanned: u64,
    of: Option<u64>,
    bytes: u64,
    found: u64,
    kept: usize,
    rate: Option<u64>,
    elapsed_ms: u64,
    gaps: Vec<Gap>,
    gaps_left_out: u64,
    expires_in_ms: Option<u64>,
}

/// Some of what a search has found.
#[derive(Debug, Serialize)]
pub(super) struct Results {
    pub(super) status: Status,
    pub(super) records: Vec<Box<RawValue>>,
    pub(super) next: Option<String>,
}

/// How many records a look may still find.
#[derive(Clone, Copy, Debug)]
pub(super) struct Space {
    pub(super) records: usize,
    pub(super) bytes: usize,
}

impl Job {
    pub(super) fn new(id: String, plan: Plan) -> Self {
        let found = Found {
            status: Status::Queued,
            reason: None,
            scanned: 0,
            of: None,
            bytes: 0,
            found: 0,
            results: Vec::new(),
            result_bytes: 0,
            gaps: Vec::new(),
            gaps_left_out: 0,
            started: None,
            ended: None,
        };
        let (begun, changes) = (Instant::now(), watch::Sender::new(0));
        Self { id, plan, begun, found: Mutex::new(found), changes }
    }

    fn found(&self) -> MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self) {
        self.changes.send_modify(|changes| *changes += 1);
    }

    /// Tells of changes from now on.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    pub(super) fn is_over(&self) -> bool {
        self.found().status.is_over()
    }

    /// Returns once the search has ended, in whatever way.
    pub(super) async fn over(&self) {
        // The sender is a field of `self`, so it does not go away meanwhile.
        let _ = self.changes().wait_for(|_| self.is_over()).await;
    }

    /// Says that its turn has come. False: it has ended before.
    pub(super) fn start(&self) -> bool {
        let mut found = self.found();
        if found.status.is_over() {
            return false;
        }
        found.status = Status::Running;
        found.started = Some(Instant::now());
        drop(found);
        self.changed();
        true
    }

    /// Says how many offsets there are to go through.
    pub(super) fn counted(&self, offsets: u64) {
        self.found().of = Some(offsets);
        self.changed();
    }

    /// What a look may still find.
    pub(super) fn space(&self) -> Space {
        let found = self.found();
        Space {
            records: self.plan.limit.saturating_sub(found.results.len()),
            bytes: SEARCH_RESULT_BYTES_MAX.saturating_sub(found.result_bytes),
        }
    }

    /// Adds what a look has found. False: the search has ended.
    pub(super) fn add(&self, looked: Looked) -> bool {
        let mut found = self.found();
        if found.status.is_over() {
            return false;
        }
        found.scanned = found.scanned.saturating_add(looked.scanned);
        found.bytes = found.bytes.saturating_add(looked.bytes as u64);
        found.found += looked.records.len() as u64;
        found.result_bytes += looked.records.iter().map(|record| record.get().len()).sum::<usize>();
        found.results.extend(looked.records);
        if let Some(gap) = looked.gap {
            if found.gaps.len() < GAPS_NAMED_MAX {
                found.gaps.push(gap);
            } else {
                found.gaps_left_out += 1;
            }
        }
        let full = if found.results.len() >= self.plan.limit {
            Some(format!("it kept the {} records that were asked for; more may fit", self.plan.limit))
        } else if found.result_bytes >= SEARCH_RESULT_BYTES_MAX {
            Some(format!("it kept {SEARCH_RESULT_BYTES_MAX} bytes of records; more may fit"))
        } else {
            None
        };
        let is_full = full.is_some();
        if is_full {
            found.end(Status::Done, full);
        }
        drop(found);
        self.changed();
        !is_full
    }

    /// Ends it, unless it has ended. What it has found is kept.
    pub(super) fn end(&self, status: Status, reason: Option<String>) {
        self.found().end(status, reason);
        self.changed();
    }

    pub(super) fn progress(&self) -> Progress {
        let found = self.found();
        let until = found.ended.unwrap_or_else(Instant::now);
        let elapsed = found.started.map_or_else(Default::default, |started| until.duration_since(started));
        let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        let left = found.ended.map(|ended| SEARCH_KEPT.saturating_sub(ended.elapsed()));
        Progress {
            id: self.id.clone(),
            status: found.status,
            reason: found.reason.clone(),
            topics: self.plan.topics.iter().map(|topic| topic.name.clone()).collect(),
            scanned: found.scanned,
            of: found.of,
            bytes: found.bytes,
            found: found.found,
            kept: found.results.len(),
            rate: found.scanned.saturating_mul(1000).checked_div(elapsed_ms),
            elapsed_ms,
            gaps: found.gaps.clone(),
            gaps_left_out: found.gaps_left_out,
            expires_in_ms: left.map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX)),
        }
    }

    /// What was found from an index on: so many records at most.
    pub(super) fn results(&self, first: usize, limit: usize) -> Results {
        let found = self.found();
        let mut bytes = 0;
        let rest = found.results.get(first..).unwrap_or_default().iter();
        let records: Vec<_> = rest
            .take(limit)
            .take_while(|record| {
                let is_first = bytes == 0;
                bytes += record.get().len();
                is_first || bytes <= RECORD_PAGE_BYTES_MAX
            })
            .cloned()
            .collect();
        let next = first.saturating_add(records.len());
        let is_last = found.status.is_over() && next >= found.results.len();
        Results { status: found.status, records, next: (!is_last).then(|| next.to_string()) }
    }

    /// When it ended, or else when it was asked for.
    pub(super) fn age(&self) -> (bool, Instant) {
        match self.found().ended {
            Some(ended) => (false, ended),
            None => (true, self.begun),
        }
    }
}

impl Found {
    fn end(&mut self, status: Status, reason: Option<String>) {
        if !self.status.is_over() {
            self.status = status;
            self.reason = reason;
            self.ended = Some(Instant::now());
        }
    }
}

impl Status {
    pub(super) fn is_over(self) -> bool {
        match self {
            Self::Queued | Self::Running => false,
            Self::Done | Self::Cancelled | Self::Failed => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(limit: usize) -> Job {
        let plan = Plan {
            topics: Vec::new(),
            partitions: None,
            from: Begin::Start,
            to: Begin::End,
            condition: Condition::default(),
            limit,
        };
        Job::new("s".to_owned(), plan)
    }

    fn looked(records: usize) -> Looked {
        let record = || RawValue::from_string("{}".to_owned()).expect("JSON");
        Looked { scanned: 10, bytes: 100, records: (0..records).map(|_| record()).collect(), gap: None }
    }

    #[test]
    fn what_was_found_before_a_cancel_is_kept_and_nothing_is_added() {
        let job = job(5);
        assert!(job.start());
        assert!(job.add(looked(2)));
        job.end(Status::Cancelled, None);
        assert!(!job.add(looked(2)));
        job.end(Status::Done, None);
        let progress = job.progress();
        assert_eq!((progress.status, progress.found, progress.kept), (Status::Cancelled, 2, 2));
        assert!(progress.expires_in_ms.is_some_and(|left| left > 0));
        assert_eq!(job.results(0, 10).records.len(), 2);
        assert!(!job.start(), "an ended one never has its turn");
    }

    #[test]
    fn a_full_search_ends_and_its_results_are_paged() {
        let job = job(3);
        assert!(job.start());
        assert!(!job.add(looked(3)));
        let first = job.results(0, 2);
        assert_eq!((first.records.len(), first.next.as_deref()), (2, Some("2")));
        let second = job.results(2, 2);
        assert_eq!((second.records.len(), second.next), (1, None));
        assert!(job.progress().reason.is_some_and(|reason| reason.contains("3 records")));
        assert_eq!(job.results(99, 2).records.len(), 0);
    }

    #[test]
    fn a_running_one_always_has_a_next() {
        let job = job(3);
        job.start();
        job.add(looked(1));
        assert_eq!(job.results(1, 10).next.as_deref(), Some("1"));
    }
}
