//! Directory entries, and which of them a power cut leaves.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::storage::path;

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Node {
    /// A directory.
    Dir,
    /// A file, by the number of its inode.
    File(u64),
}

impl Node {
    pub(super) fn inode(&self) -> Option<u64> {
        match self {
            Self::Dir => None,
            Self::File(inode) => Some(*inode),
        }
    }
}

/// Whole paths and what they stand for. The data directory itself is not in it.
pub(super) type Names = BTreeMap<Arc<str>, Node>;

/// A change of a directory that is not durable yet.
#[derive(Clone)]
pub(super) struct NameOp {
    /// Number of the call.
    pub(super) seq: u64,
    /// The change.
    pub(super) change: Change,
}

/// One change of a directory.
#[derive(Clone)]
pub(super) enum Change {
    Link {
        path: Arc<str>,
        inode: u64,
    },
    /// One transaction, as on every journaling file system: never half, also between directories.
    Rename {
        from: Arc<str>,
        to: Arc<str>,
        inode: u64,
    },
    Unlink {
        path: Arc<str>,
    },
    MakeDir {
        path: Arc<str>,
    },
    RemoveDir {
        path: Arc<str>,
    },
}

impl NameOp {
    pub(super) fn paths(&self) -> impl Iterator<Item = &str> {
        let (first, second) = match &self.change {
            Change::Rename { from, to, .. } => (from, Some(to)),
            Change::Link { path, .. }
            | Change::Unlink { path }
            | Change::MakeDir { path }
            | Change::RemoveDir { path } => (path, None),
        };
        std::iter::once(first).chain(second).map(|path| &**path)
    }

    /// The file whose name changes, as long as the change needs it.
    pub(super) fn inode(&self) -> Option<u64> {
        match &self.change {
            Change::Link { inode, .. } | Change::Rename { inode, .. } => Some(*inode),
            Change::Unlink { .. } | Change::MakeDir { .. } | Change::RemoveDir { .. } => None,
        }
    }

    /// Whether a sync of the directory makes this durable.
    pub(super) fn is_in(&self, dir: &str) -> bool {
        self.paths().any(|path| path::parent(path) == dir)
    }

    /// Whether this cannot be on the disk without the earlier one: they change the same name, or
    /// one changes an entry of the directory that the other removes.
    fn needs(&self, earlier: &Self) -> bool {
        self.removes_parent_of(earlier)
            || earlier.removes_parent_of(self)
            || self.paths().any(|path| earlier.paths().any(|other| other == path))
    }

    fn removes_parent_of(&self, other: &Self) -> bool {
        match &self.change {
            Change::RemoveDir { path } => other.is_in(path),
            _ => false,
        }
    }

    pub(super) fn apply(&self, names: &mut Names) {
        match &self.change {
            Change::Link { path, inode } => {
                names.insert(Arc::clone(path), Node::File(*inode));
            }
            Change::Rename { from, to, inode } => {
                if names.get(from) == Some(&Node::File(*inode)) {
                    names.remove(from);
                }
                names.insert(Arc::clone(to), Node::File(*inode));
            }
            Change::Unlink { path } => {
                names.remove(path);
            }
            Change::MakeDir { path } => {
                names.insert(Arc::clone(path), Node::Dir);
            }
            Change::RemoveDir { path } => {
                for child in path::children(names, path) {
                    names.remove(format!("{path}/{child}").as_str());
                }
                names.remove(path);
            }
        }
    }
}

/// Adds to the chosen changes those that they need.
pub(super) fn add_needed(ops: &[NameOp], chosen: &mut [bool]) {
    for later in (0..ops.len()).rev() {
        if chosen[later] {
            for (earlier, chosen) in ops[..later].iter().zip(chosen.iter_mut()) {
                *chosen |= ops[later].needs(earlier);
            }
        }
    }
}

/// Takes from the chosen changes those that need one which is not chosen.
pub(super) fn drop_dependent(ops: &[NameOp], chosen: &mut [bool]) {
    for (index, later) in ops.iter().enumerate() {
        let (before, rest) = chosen.split_at_mut(index);
        let mut earlier = ops.iter().zip(before.iter());
        rest[0] &= !earlier.any(|(earlier, chosen)| !*chosen && later.needs(earlier));
    }
}

/// Removes what is in a directory whose own name is not there.
pub(super) fn drop_orphans(names: &mut Names) {
    let mut dirs: BTreeSet<Arc<str>> = BTreeSet::new();
    // A directory sorts before what is in it.
    names.retain(|path, node| {
        let parent = path::parent(path);
        let reachable = parent.is_empty() || dirs.contains(parent);
        if reachable && *node == Node::Dir {
            dirs.insert(Arc::clone(path));
        }
        reachable
    });
}
