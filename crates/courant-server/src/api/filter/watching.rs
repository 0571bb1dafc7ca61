//! A search as somebody watches it: what it finds, and now and then how far it is.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::job::Job;
use crate::api::limits::{HEARTBEAT, PAGE_ROWS, PROGRESS_INTERVAL};
use crate::api::sse::{Pieces, event, heartbeat};

/// One who watches.
#[derive(Debug)]
pub(super) struct Watching {
    job: Arc<Job>,
    changes: watch::Receiver<u64>,
    /// Results that were sent.
    sent: usize,
    /// When the next word about progress may be said.
    due: Instant,
    is_over: bool,
    /// Given back when the connection ends.
    _place: OwnedSemaphorePermit,
}

impl Watching {
    /// Watches a search from its result of that number on.
    pub(super) fn new(job: Arc<Job>, place: OwnedSemaphorePermit, first: usize) -> Self {
        let mut changes = job.changes();
        // What has happened so far is news for who comes now.
        changes.mark_changed();
        Self { job, changes, sent: first, due: Instant::now(), is_over: false, _place: place }
    }

    /// Everything that there is to say now.
    fn piece(&mut self) -> String {
        let mut piece = String::new();
        let results = self.job.results(self.sent, PAGE_ROWS);
        for record in &results.records {
            self.sent += 1;
            event(&mut piece, "record", Some(&self.sent.to_string()), record.get());
        }
        // What is left is said in the next piece, before the end is.
        self.is_over = results.next.is_none();
        let name = if self.is_over { "end" } else { "progress" };
        match serde_json::to_string(&self.job.progress()) {
            Ok(progress) => event(&mut piece, name, None, &progress),
            Err(error) => tracing::error!("the progress of a search could not be written: {error}"),
        }
        self.due = Instant::now() + PROGRESS_INTERVAL;
        if results.status.is_over() && !self.is_over {
            // Nothing will change any more, and there is more to say.
            self.changes.mark_changed();
            self.due = Instant::now();
        }
        piece
    }
}

impl Pieces for Watching {
    async fn next(&mut self) -> Option<String> {
        if self.is_over {
            return None;
        }
        sleep_until(self.due).await;
        match timeout_at(Instant::now() + HEARTBEAT, self.changes.changed()).await {
            // The search knows its sender, so it has not gone.
            Ok(_) => Some(self.piece()),
            Err(_) => {
                let mut piece = String::new();
                heartbeat(&mut piece, None);
                Some(piece)
            }
        }
    }
}
