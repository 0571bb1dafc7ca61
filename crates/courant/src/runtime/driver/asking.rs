//! What others have done in the store: asked for redrives, given dead letters up. Another process cannot
//! wake the loop, so the loop has somebody look from time to time. A look reads, and holds nobody up: the loop
//! goes on meanwhile, because it has several answers to wait for in each partition.

use std::sync::Arc;
use std::time::Duration;

use courant_engine::Partition;
use tokio::task::JoinError;

use super::{Driver, task_ended};
use crate::runtime::ledger::{Assigned, Ledger, News, Trouble};
use crate::runtime::time::after;

/// How often the loop looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What a look has found in a partition.
pub(super) struct Looked {
    partition: Partition,
    assigned: Arc<Assigned>,
    news: News,
}

impl Driver {
    /// Looks from now on, where there is a store that others can change.
    pub(super) fn begin_looking(&mut self) {
        let is_shared = self.ledger.is_shared();
        self.look_ms = is_shared.then(|| after(self.context.time.now_ms(), LOOK_EVERY));
    }

    /// Has somebody look, if it is time to and nobody does.
    pub(super) fn look_around(&mut self) {
        let Some(look_ms) = self.look_ms else { return };
        let now_ms = self.context.time.now_ms();
        let next_ms = after(now_ms, LOOK_EVERY);
        if now_ms < look_ms {
            // A clock that is set back puts no look off.
            self.look_ms = Some(look_ms.min(next_ms));
            return;
        }
        self.look_ms = Some(next_ms);
        if self.lookers.is_empty() && !self.parts.is_empty() {
            let parts = self.parts.iter().map(|(partition, part)| (partition.clone(), part.assigned.clone()));
            self.lookers.spawn(look(self.ledger.clone(), parts.collect()));
        }
    }

    /// Takes in what a look has found, as far as the partitions are still those that they were.
    pub(super) fn looked(
        &mut self,
        looked: Result<Result<Vec<Looked>, Trouble>, JoinError>,
    ) -> Result<(), Trouble> {
        for Looked { partition, assigned, news } in looked.map_err(|error| task_ended(&error))?? {
            let part = self.parts.get_mut(&partition).filter(|part| part.assigned.serial == assigned.serial);
            let Some(part) = part else { continue };
            // They are taken when nothing is under way.
            self.is_holding |= news.redrives;
            // What waited behind a letter that was given up is due.
            part.due_ms.extend(news.due_ms);
        }
        Ok(())
    }
}

async fn look(
    ledger: Arc<dyn Ledger>,
    parts: Vec<(Partition, Arc<Assigned>)>,
) -> Result<Vec<Looked>, Trouble> {
    let mut looked = Vec::with_capacity(parts.len());
    for (partition, assigned) in parts {
        let news = ledger.news(&assigned).await?;
        looked.push(Looked { partition, assigned, news });
    }
    Ok(looked)
}
