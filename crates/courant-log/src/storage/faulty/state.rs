//! Everything a faulty storage knows.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::sync::Arc;

use rustix::io::Errno;

use super::content::{Content, Page};
use super::inode::{FileOp, Inode};
use super::names::{Change, NameOp, Names, Node, add_needed};
use super::random::{Random, Trace};
use super::{Failure, ReadFailure};
use crate::storage::path;

/// How many replaced pages are remembered as garbage for crash images.
const GRAVES: usize = 64;

/// What kind of call it is, as far as failures differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Write,
    /// A change of a name or of a directory.
    Name,
    /// Of a file or of a directory.
    Sync,
    SyncAll,
    Other,
}

/// A mutating call under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    /// Its number, from 1.
    pub(super) index: u64,
    /// What goes wrong in it.
    pub(super) failure: Option<Failure>,
}

/// The disk, the cache above it and the accounts of a simulation.
pub(super) struct State {
    pub(super) inodes: BTreeMap<u64, Inode>,
    pub(super) names: Names,
    pub(super) durable_names: Names,
    pub(super) name_ops: Vec<NameOp>,
    pub(super) next_inode: u64,
    pub(super) graveyard: VecDeque<Arc<Page>>,
    pub(super) cap: u64,
    /// Sum of the lengths of the files with a name.
    pub(super) used: u64,
    pub(super) calls: u64,
    pub(super) reads: u64,
    pub(super) stopped: bool,
    /// Counts the times that the machine was started.
    pub(super) boots: u128,
    pub(super) failures: Vec<(u64, Failure)>,
    pub(super) read_failures: Vec<(u64, ReadFailure)>,
    pub(super) trace: Trace,
    /// Says what is in memory; `None`: nothing is. It has a sequence of its own, so that calls that change something
    /// are the same whatever was read between them.
    pub(super) memory: Option<Random>,
    random: Random,
}

impl State {
    pub(super) fn new(seed: u64, cap: u64) -> Self {
        Self {
            inodes: BTreeMap::new(),
            names: Names::new(),
            durable_names: Names::new(),
            name_ops: Vec::new(),
            next_inode: 0,
            graveyard: VecDeque::new(),
            cap,
            used: 0,
            calls: 0,
            reads: 0,
            stopped: false,
            boots: 1,
            failures: Vec::new(),
            read_failures: Vec::new(),
            trace: Trace::new(seed),
            memory: Some(Random::new(!seed)),
            random: Random::new(seed),
        }
    }

    /// What the next process finds after this one was killed.
    pub(super) fn after_kill(&self, seed: u64) -> Self {
        let linked = self.inodes.iter().filter(|(_, inode)| inode.linked);
        Self {
            inodes: linked.map(|(number, inode)| (*number, inode.unopened())).collect(),
            names: self.names.clone(),
            durable_names: self.durable_names.clone(),
            name_ops: self.name_ops.clone(),
            next_inode: self.next_inode,
            graveyard: self.graveyard.clone(),
            used: self.used,
            boots: self.boots,
            ..Self::new(seed, self.cap)
        }
    }

    pub(super) fn alive(&self) -> io::Result<()> {
        if self.stopped {
            return Err(io::Error::other("the storage has been stopped"));
        }
        Ok(())
    }

    /// Counts a call that changes nothing.
    pub(super) fn begin_read(&mut self) -> io::Result<()> {
        self.alive()?;
        self.reads += 1;
        Ok(())
    }

    /// What goes wrong in a read of bytes that was counted just now.
    pub(super) fn read_failure(&mut self) -> Option<ReadFailure> {
        let due = self.read_failures.iter().position(|(at, _)| *at <= self.reads)?;
        Some(self.read_failures.remove(due).1)
    }

    /// As [`Self::read_failure`], of a read that would be counted next. It stays due.
    pub(super) fn next_read_failure(&self) -> Option<ReadFailure> {
        self.read_failures.iter().find(|(at, _)| *at <= self.reads + 1).map(|(_, failure)| *failure)
    }

    /// How many of so many bytes are in memory: in half of all cases all of them, else the first ones or none.
    pub(super) fn in_memory(&mut self, count: usize) -> usize {
        let Some(memory) = &mut self.memory else { return 0 };
        match memory.below(4) {
            0 => 0,
            1 => memory.below(count),
            _ => count,
        }
    }

    /// Counts a mutating call and decides what goes wrong in it.
    pub(super) fn begin(&mut self, what: &str, kind: Kind) -> io::Result<Call> {
        self.alive()?;
        self.calls += 1;
        self.trace.number(self.calls);
        self.trace.bytes(what.as_bytes());
        let due = self.failures.iter().position(|(at, failure)| {
            *at <= self.calls
                && match failure {
                    Failure::Eio | Failure::Enospc => true,
                    Failure::ShortWrite => kind == Kind::Write,
                    Failure::FsyncEio => matches!(kind, Kind::Sync | Kind::SyncAll),
                    Failure::Eintr => matches!(kind, Kind::Name | Kind::SyncAll),
                }
        });
        Ok(Call { index: self.calls, failure: due.map(|due| self.failures.remove(due).1) })
    }

    pub(super) fn free(&self) -> u64 {
        self.cap.saturating_sub(self.used)
    }

    /// The file behind a handle. Handles keep their files alive, so it is there.
    pub(super) fn inode(&mut self, inode: u64) -> io::Result<&mut Inode> {
        self.inodes.get_mut(&inode).ok_or(Errno::BADF.into())
    }

    pub(super) fn file(&self, path: &str) -> io::Result<u64> {
        match self.names.get(path) {
            Some(Node::File(inode)) => Ok(*inode),
            Some(Node::Dir) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    pub(super) fn need_dir(&self, dir: &str) -> io::Result<()> {
        match self.names.get(dir) {
            Some(Node::Dir) => Ok(()),
            Some(Node::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            None if dir.is_empty() => Ok(()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

/// Changes of names.
impl State {
    pub(super) fn create(&mut self, seq: u64, path: &str) -> io::Result<u64> {
        self.need_dir(path::parent(path))?;
        if path.is_empty() || self.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let inode = self.next_inode;
        self.next_inode += 1;
        self.inodes.insert(inode, Inode::holding(Content::default()));
        let path = Arc::from(path);
        self.change_name(seq, Change::Link { path, inode });
        Ok(inode)
    }

    pub(super) fn make_dir(&mut self, seq: u64, dir: &str) -> io::Result<()> {
        self.need_dir(path::parent(dir))?;
        match self.names.get(dir) {
            Some(Node::File(_)) => return Err(io::ErrorKind::AlreadyExists.into()),
            Some(Node::Dir) => return Ok(()),
            None if dir.is_empty() => return Ok(()),
            None => {}
        }
        let path = Arc::from(dir);
        self.change_name(seq, Change::MakeDir { path });
        Ok(())
    }

    pub(super) fn rename(&mut self, seq: u64, from: &str, to: &str) -> io::Result<()> {
        let inode = self.file(from)?;
        self.need_dir(path::parent(to))?;
        match self.names.get(to).copied() {
            Some(Node::File(same)) if same == inode => return Ok(()),
            Some(Node::File(replaced)) => self.unlinked(replaced),
            Some(Node::Dir) => return Err(io::ErrorKind::IsADirectory.into()),
            None if to.is_empty() => return Err(io::ErrorKind::IsADirectory.into()),
            None => {}
        }
        let (from, to) = (Arc::from(from), Arc::from(to));
        self.change_name(seq, Change::Rename { from, to, inode });
        Ok(())
    }

    pub(super) fn remove_file(&mut self, seq: u64, path: &str) -> io::Result<()> {
        let inode = self.file(path)?;
        self.unlinked(inode);
        let path = Arc::from(path);
        self.change_name(seq, Change::Unlink { path });
        Ok(())
    }

    pub(super) fn remove_dir(&mut self, seq: u64, dir: &str) -> io::Result<()> {
        self.need_dir(dir)?;
        if dir.is_empty() || !path::children(&self.names, dir).is_empty() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        let path = Arc::from(dir);
        self.change_name(seq, Change::RemoveDir { path });
        Ok(())
    }

    fn change_name(&mut self, seq: u64, change: Change) {
        let op = NameOp { seq, change };
        for path in op.paths() {
            self.trace.bytes(path.as_bytes());
        }
        op.apply(&mut self.names);
        self.name_ops.push(op);
    }

    /// A file has lost its name, and with it its claim on space.
    fn unlinked(&mut self, inode: u64) {
        if let Some(inode) = self.inodes.get_mut(&inode) {
            inode.linked = false;
            self.used = self.used.saturating_sub(inode.current.len());
        }
    }
}

/// Changes of files.
impl State {
    pub(super) fn write(&mut self, call: Call, inode: u64, bufs: &[&[u8]], position: u64) -> io::Result<()> {
        let mut bytes = bufs.concat();
        self.trace.number(inode);
        self.trace.number(position);
        self.trace.bytes(&bytes);
        let short = call.failure == Some(Failure::ShortWrite);
        if short {
            bytes.truncate(self.random.below(bytes.len()));
        }
        if !bytes.is_empty() {
            let end = position.checked_add(bytes.len() as u64).ok_or(io::ErrorKind::InvalidInput)?;
            let old = self.inode(inode)?.current.len();
            self.resize(inode, old, end.max(old))?;
            self.inode(inode)?.record(FileOp {
                seq: call.index,
                position,
                bytes: bytes.into(),
                len: (end > old).then_some(end),
            });
        }
        if short {
            return Err(io::Error::new(io::ErrorKind::WriteZero, "a short write"));
        }
        Ok(())
    }

    pub(super) fn set_len(&mut self, call: Call, inode: u64, len: u64) -> io::Result<()> {
        self.trace.number(inode);
        self.trace.number(len);
        let old = self.inode(inode)?.current.len();
        self.resize(inode, old, len)?;
        self.inode(inode)?.record(FileOp {
            seq: call.index,
            position: 0,
            bytes: Arc::default(),
            len: Some(len),
        });
        Ok(())
    }

    /// Accounts for a new length.
    fn resize(&mut self, inode: u64, old: u64, new: u64) -> io::Result<()> {
        if !self.inode(inode)?.linked {
            return Ok(());
        }
        if new.saturating_sub(old) > self.free() {
            return Err(Errno::NOSPC.into());
        }
        self.used = self.used.saturating_sub(old).saturating_add(new);
        Ok(())
    }
}

/// Syncs. `lost` is [`Failure::FsyncEio`].
impl State {
    pub(super) fn sync_file(&mut self, inode: u64, lost: bool) -> io::Result<()> {
        self.trace.number(inode);
        let inode = self.inode(inode)?;
        if lost {
            inode.sync_failed();
            return Err(Errno::IO.into());
        }
        let replaced = inode.sync();
        self.bury(replaced);
        Ok(())
    }

    pub(super) fn sync_dir(&mut self, dir: &str, lost: bool) -> io::Result<()> {
        self.trace.bytes(dir.as_bytes());
        self.need_dir(dir)?;
        if lost {
            return Err(Errno::IO.into());
        }
        let mut chosen: Vec<bool> = self.name_ops.iter().map(|op| op.is_in(dir)).collect();
        add_needed(&self.name_ops, &mut chosen);
        self.commit(&chosen);
        Ok(())
    }

    pub(super) fn sync_all(&mut self, lost: bool) -> io::Result<()> {
        if lost {
            self.inodes.values_mut().for_each(Inode::sync_failed);
            return Err(Errno::IO.into());
        }
        let replaced: Vec<_> = self.inodes.values_mut().flat_map(Inode::sync).collect();
        self.bury(replaced);
        self.commit(&vec![true; self.name_ops.len()]);
        Ok(())
    }

    /// Makes the chosen changes of names durable.
    fn commit(&mut self, chosen: &[bool]) {
        let mut pending = Vec::new();
        for (op, chosen) in std::mem::take(&mut self.name_ops).into_iter().zip(chosen) {
            if *chosen {
                op.apply(&mut self.durable_names);
            } else {
                pending.push(op);
            }
        }
        self.name_ops = pending;
        self.collect();
    }

    /// Drops the files that nothing can reach, now or after a power cut.
    fn collect(&mut self) {
        if self.inodes.values().all(|inode| inode.linked) {
            return;
        }
        let mut reachable: BTreeSet<u64> = BTreeSet::new();
        reachable.extend(self.durable_names.values().filter_map(Node::inode));
        reachable.extend(self.name_ops.iter().filter_map(NameOp::inode));
        let mut buried = Vec::new();
        self.inodes.retain(|id, inode| {
            let stays = inode.linked || inode.is_open() || reachable.contains(id);
            if !stays {
                buried.extend(inode.durable.replaced_by(&Content::default()));
            }
            stays
        });
        self.bury(buried);
    }

    fn bury(&mut self, pages: Vec<Arc<Page>>) {
        self.graveyard.extend(pages);
        let excess = self.graveyard.len().saturating_sub(GRAVES);
        self.graveyard.drain(..excess);
    }
}
