//! A file that knows which of its writes have been synced.

use std::sync::Arc;

use super::content::{Content, PAGE_BYTES, Page, spans};

/// A write or a change of length that is not durable yet.
#[derive(Clone)]
pub(super) struct FileOp {
    /// Number of the call.
    pub(super) seq: u64,
    /// Where the bytes go.
    pub(super) position: u64,
    /// The bytes; none in a change of length.
    pub(super) bytes: Arc<[u8]>,
    /// The file's length afterwards, if it changes.
    pub(super) len: Option<u64>,
}

impl FileOp {
    pub(super) fn apply(&self, content: &mut Content) {
        if let Some(len) = self.len {
            content.set_len(len);
        }
        content.poke(self.position, &self.bytes);
    }
}

/// One file, with or without a name.
///
/// Invariant: while `ghosts` is false, `current` is `durable` with all of `pending` applied.
pub(super) struct Inode {
    /// What reads see.
    pub(super) current: Content,
    /// What the disk holds for sure.
    pub(super) durable: Content,
    /// What is between the two, in order.
    pub(super) pending: Vec<FileOp>,
    /// Reads see bytes that a failed sync has dropped.
    pub(super) ghosts: bool,
    /// It has a name.
    pub(super) linked: bool,
    handles: Arc<()>,
}

impl Inode {
    /// A file with a name that holds `content`, durably.
    pub(super) fn holding(content: Content) -> Self {
        Self {
            current: content.clone(),
            durable: content,
            pending: Vec::new(),
            ghosts: false,
            linked: true,
            handles: Arc::default(),
        }
    }

    /// The same file as the next process finds it: nobody has it open.
    pub(super) fn unopened(&self) -> Self {
        Self {
            current: self.current.clone(),
            durable: self.durable.clone(),
            pending: self.pending.clone(),
            ghosts: self.ghosts,
            linked: self.linked,
            handles: Arc::default(),
        }
    }

    /// A token that keeps the file alive without a name.
    pub(super) fn open(&self) -> Arc<()> {
        Arc::clone(&self.handles)
    }

    pub(super) fn is_open(&self) -> bool {
        Arc::strong_count(&self.handles) > 1
    }

    pub(super) fn record(&mut self, op: FileOp) {
        op.apply(&mut self.current);
        self.pending.push(op);
    }

    /// Makes everything pending durable and returns the pages that it has replaced on the disk.
    pub(super) fn sync(&mut self) -> Vec<Arc<Page>> {
        let ops = std::mem::take(&mut self.pending);
        let cut = ops.iter().any(|op| op.bytes.is_empty());
        if self.ghosts || cut {
            let old = self.durable.clone();
            for op in &ops {
                op.apply(&mut self.durable);
            }
            return old.replaced_by(&self.durable);
        }
        // Sharing single pages and not the whole table keeps the next write from copying the table.
        let mut replaced = Vec::new();
        for op in &ops {
            for page in spans(op.position, op.bytes.len(), PAGE_BYTES) {
                replaced.extend(self.durable.adopt_page(&self.current, page.index));
            }
        }
        if !ops.is_empty() {
            self.durable.adopt_len(&self.current);
        }
        replaced
    }

    /// A sync that fails as on ext4: the pages are marked clean, so that no later sync writes them,
    /// and reads go on seeing them. New lengths are metadata and are still written.
    pub(super) fn sync_failed(&mut self) {
        for op in &mut self.pending {
            self.ghosts |= !op.bytes.is_empty();
            op.bytes = Arc::default();
        }
        self.pending.retain(|op| op.len.is_some());
    }

    /// Forgets what a failed sync has left in memory.
    pub(super) fn drop_cache(&mut self) {
        if !self.ghosts {
            return;
        }
        self.current = self.durable.clone();
        for op in &self.pending {
            op.apply(&mut self.current);
        }
        self.ghosts = false;
    }
}
