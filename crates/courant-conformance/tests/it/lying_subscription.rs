//! Lies about what is read.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use courant_engine::{
    Boxed, Engine, FetchError, Fetched, Next, Partition, Position, SeekError, Subscription,
};
use tokio::time::sleep;

use crate::lies::Lie;

/// Calls of the scenarios that fill a topic have so many records.
const CALL: u64 = 7;

/// A subscription with one lie.
#[derive(Debug)]
pub(crate) struct LyingSubscription {
    /// There until it is dropped.
    inner: Option<Box<dyn Subscription>>,
    engine: Arc<dyn Engine>,
    lie: Lie,
    is_reopened: bool,
    /// Where partitions ended when they were assigned.
    ends: BTreeMap<Partition, u64>,
    /// What came last of each partition.
    last: BTreeMap<Partition, Fetched>,
    /// What comes once more.
    stale: Option<Fetched>,
    error: Option<FetchError>,
}

impl LyingSubscription {
    pub(crate) fn around(
        inner: Box<dyn Subscription>,
        engine: Arc<dyn Engine>,
        lie: Lie,
        is_reopened: bool,
    ) -> Self {
        Self {
            inner: Some(inner),
            engine,
            lie,
            is_reopened,
            ends: BTreeMap::new(),
            last: BTreeMap::new(),
            stale: None,
            error: None,
        }
    }

    fn inner(&mut self) -> &mut dyn Subscription {
        &mut **self.inner.as_mut().expect("there until it is dropped")
    }

    async fn lying_next(&mut self, wait: Duration) -> Result<Next, FetchError> {
        if let Some(error) = &self.error {
            return Err(error.clone());
        }
        if let Some(stale) = self.stale.take() {
            return Ok(Next::Records(vec![stale]));
        }
        let wait = match self.lie {
            Lie::NeverWakes => {
                sleep(wait).await;
                Duration::ZERO
            }
            Lie::WaitsForEver => wait + Duration::from_secs(3_600),
            _ => wait,
        };
        let found = self.inner().next(wait).await;
        if self.lie == Lie::LosesWhatIsGivenUp {
            // Whoever gives up here has lost it.
            sleep(Duration::from_millis(20)).await;
        }
        match found {
            Ok(Next::Assigned(partitions)) => {
                self.assigned_now(&partitions).await;
                Ok(Next::Assigned(partitions))
            }
            Ok(Next::Revoked(partitions)) => {
                if self.lie == Lie::DeliversAfterRevoke {
                    self.stale = partitions.iter().find_map(|partition| self.last.get(partition)).cloned();
                }
                Ok(Next::Revoked(partitions))
            }
            Ok(Next::Records(fetched)) => Ok(self.records(fetched)),
            Err(error) => self.failed(error),
            other => other,
        }
    }

    async fn assigned_now(&mut self, partitions: &[Partition]) {
        for (partition, ends) in partitions.iter().zip(self.engine.ends(partitions.to_vec()).await) {
            self.ends.insert(partition.clone(), ends.map_or(0, |ends| ends.end));
        }
        if self.lie == Lie::SeeksByItself {
            let beginning = partitions.iter().map(|partition| partition.at(0)).collect();
            self.inner().seek(beginning).expect("assigned");
        }
    }

    fn records(&mut self, mut fetched: Vec<Fetched>) -> Next {
        for fetched in &mut fetched {
            self.last.insert(fetched.partition.clone(), fetched.clone());
            match self.lie {
                Lie::LagIsNothing => fetched.end = fetched.next_offset,
                Lie::NextOffsetTooFar => fetched.next_offset += 1,
                Lie::LosesTheLastRecord if self.is_reopened => {
                    let end = fetched.end;
                    fetched.records.retain(|record| record.position.offset + 1 < end);
                }
                _ => {}
            }
        }
        fetched.retain(|fetched| !fetched.records.is_empty());
        if fetched.is_empty() { Next::Nothing } else { Next::Records(fetched) }
    }

    fn failed(&mut self, error: FetchError) -> Result<Next, FetchError> {
        match (&error, self.lie) {
            (FetchError::OutOfRange { partition, end, .. }, Lie::SkipsToTheEnd) => {
                let end = partition.at(*end);
                self.inner().seek(vec![end]).expect("assigned");
                return Ok(Next::Nothing);
            }
            (_, Lie::ErrorsStick) => self.error = Some(error.clone()),
            _ => {}
        }
        Err(error)
    }

    fn sought(&self, mut position: Position) -> Option<Position> {
        match self.lie {
            Lie::OnlyNewRecords if position.offset == 0 => {
                position.offset = self.ends.get(&position.partition).copied().unwrap_or_default();
            }
            Lie::SeeksToTheBatch => position.offset = position.offset / CALL * CALL,
            Lie::NeverGoesBack => {
                let read = self.last.get(&position.partition).map(|fetched| fetched.next_offset);
                return (Some(position.offset) >= read).then_some(position);
            }
            _ => {}
        }
        Some(position)
    }
}

impl Subscription for LyingSubscription {
    fn next(&mut self, wait: Duration) -> Boxed<'_, Result<Next, FetchError>> {
        Box::pin(self.lying_next(wait))
    }

    fn seek(&mut self, positions: Vec<Position>) -> Result<(), SeekError> {
        let positions: Vec<Position> =
            positions.into_iter().filter_map(|position| self.sought(position)).collect();
        if self.lie == Lie::TakesAnySeek {
            let has = self.inner().assigned();
            let own = positions.into_iter().filter(|position| has.contains(&position.partition)).collect();
            return self.inner().seek(own);
        }
        self.inner().seek(positions)
    }

    fn pause(&mut self, partitions: &[Partition]) {
        if self.lie != Lie::IgnoresPause {
            self.inner().pause(partitions);
        }
    }

    fn resume(&mut self, partitions: &[Partition]) {
        if self.lie != Lie::NeverResumes {
            self.inner().resume(partitions);
        }
    }

    fn assigned(&self) -> Vec<Partition> {
        match &self.inner {
            Some(inner) if self.lie != Lie::HasNothing => inner.assigned(),
            _ => Vec::new(),
        }
    }
}

impl Drop for LyingSubscription {
    fn drop(&mut self) {
        if self.lie == Lie::NeverLeaves {
            std::mem::forget(self.inner.take());
        }
    }
}
