//! A search at work: one look after the other, away from the runtime's workers, and slower while somebody
//! publishes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use courant_log::{Log, PartitionId, ReadError};
use serde_json::value::RawValue;
use tokio::task::{spawn_blocking, yield_now};
use tokio::time::{sleep, timeout};

use super::job::{Job, Plan, Space, Status};
use crate::api::ApiState;
use crate::api::limits::{SEARCH_KEPT, SEARCH_PARTITIONS_MAX};
use crate::api::problem::{INVALID, Problem};
use crate::api::records::partition;
use crate::api::records::read::{Gap, Hole, Taken, read};
use crate::api::records::shown::{Room, shown};

/// What one look has found.
#[derive(Debug, Default)]
pub(super) struct Looked {
    /// Offsets that were gone through.
    pub(super) scanned: u64,
    /// Bytes that were read, as they are stored.
    pub(super) bytes: usize,
    pub(super) records: Vec<Box<RawValue>>,
    pub(super) gap: Option<Gap>,
}

/// What is left of one partition.
#[derive(Debug)]
struct Lane {
    topic: Arc<str>,
    number: u32,
    id: PartitionId,
    next: u64,
    end: u64,
}

/// Runs a search when its turn comes, and forgets it when nobody needs it any more.
pub(super) async fn run(state: ApiState, job: Arc<Job>) {
    let turns = state.events().searches.turns();
    let turn = tokio::select! {
        turn = turns.acquire_owned() => turn.ok(),
        () = job.over() => None,
    };
    if turn.is_some() && job.start() {
        match scan(&state, &job).await {
            Ok(()) => job.end(Status::Done, None),
            Err(problem) => job.end(Status::Failed, Some(problem.detail)),
        }
    }
    drop(turn);
    // The list alone keeps the results, so that what makes room there frees memory; and this task ends with
    // it, so that searches that come and go leave nothing behind.
    let (id, mut changes) = (job.id.clone(), job.changes());
    drop(job);
    let is_gone = async { while changes.changed().await.is_ok() {} };
    if timeout(SEARCH_KEPT, is_gone).await.is_err() {
        state.events().searches.forget(&id);
    }
}

async fn scan(state: &ApiState, job: &Arc<Job>) -> Result<(), Problem> {
    let log = state.log()?.clone();
    let (asked, now_ms) = (Arc::clone(job), state.now_ms());
    let lanes = state.blocking(move |state| lanes(state.log()?, &asked.plan, now_ms)).await?;
    job.counted(lanes.iter().map(|lane| lane.end.saturating_sub(lane.next)).sum());
    let mut lanes: VecDeque<Lane> = lanes.into();
    let mut pace = Pace { appended_bytes: log.metrics().appended_bytes, last: Duration::ZERO };
    // One look at each partition in turn, so that what is found first comes from all of them.
    while let Some(mut lane) = lanes.pop_front() {
        if lane.next >= lane.end {
            continue;
        }
        pace.rest(&log).await;
        if job.is_over() {
            return Ok(());
        }
        let (asked, log) = (Arc::clone(job), log.clone());
        let place = state.place_beside().await;
        let begun = Instant::now();
        let looked = spawn_blocking(move || {
            let _place = place;
            let looked = lane.look(&log, &asked.plan, asked.space());
            (lane, looked)
        });
        let (lane, looked) = looked.await.map_err(|failure| Problem::defect(&failure.to_string()))?;
        pace.last = begun.elapsed();
        if !job.add(looked?) {
            return Ok(());
        }
        lanes.push_back(lane);
    }
    Ok(())
}

/// The partitions of a plan, and what of them is to be gone through.
fn lanes(log: &Log, plan: &Plan, now_ms: i64) -> Result<Vec<Lane>, Problem> {
    let mut lanes = Vec::new();
    for topic in &plan.topics {
        let all = 0..u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX);
        let numbers = plan.partitions.clone().unwrap_or_else(|| all.collect());
        let name: Arc<str> = topic.name.as_str().into();
        for number in numbers {
            let id = partition(topic, number)?;
            let ends = log.offsets(id).ok_or(ReadError::UnknownPartition)?;
            let next = plan.from.resolve(log, id, ends, now_ms)?;
            let end = plan.to.resolve(log, id, ends, now_ms)?;
            lanes.push(Lane { topic: Arc::clone(&name), number, id, next, end });
        }
        if lanes.len() > SEARCH_PARTITIONS_MAX {
            let sentence =
                format!("a search goes through at most {SEARCH_PARTITIONS_MAX} partitions; name fewer");
            return Err(Problem::new(&INVALID, sentence));
        }
    }
    Ok(lanes)
}

impl Lane {
    /// One look: as much as one read of the log has.
    fn look(&mut self, log: &Log, plan: &Plan, space: Space) -> Result<Looked, Problem> {
        let (mut records, mut bytes, mut failed) = (Vec::new(), 0, None);
        let (topic, number) = (&self.topic, self.number);
        let passed = read(log, self.id, self.next..self.end, |record| {
            if records.len() >= space.records || bytes >= space.bytes {
                return Taken::No;
            }
            if plan.condition.fits(record) {
                match shown(topic, number, record, Room::LISTED) {
                    Ok(json) => {
                        bytes += json.get().len();
                        records.push(json);
                    }
                    Err(error) => failed = Some(error),
                }
            }
            Taken::Yes
        });
        if let Some(error) = failed {
            return Err(Problem::defect(&error.to_string()));
        }
        let begin = self.next;
        let (hole, read_bytes) = match passed {
            Ok(passed) => {
                self.next = passed.next;
                (passed.hole, passed.bytes)
            }
            Err(error @ ReadError::UnknownPartition) => {
                self.next = self.end;
                let (first, last, reason) = (begin, Some(self.end.saturating_sub(1)), error.to_string());
                (Some(Hole { first, last, code: "deleted", reason }), 0)
            }
            Err(error) => return Err(error.into()),
        };
        let gap = hole.map(|hole| Gap::of(&self.topic, self.number, hole));
        Ok(Looked { scanned: self.next.saturating_sub(begin), bytes: read_bytes, records, gap })
    }
}

/// Gives way to those who publish: while they do, a search rests as long as it works.
#[derive(Debug)]
struct Pace {
    appended_bytes: u64,
    last: Duration,
}

impl Pace {
    async fn rest(&mut self, log: &Log) {
        let appended_bytes = log.metrics().appended_bytes;
        if appended_bytes == self.appended_bytes {
            yield_now().await;
        } else {
            self.appended_bytes = appended_bytes;
            sleep(self.last).await;
        }
    }
}
