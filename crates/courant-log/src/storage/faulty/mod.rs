//! A data directory in memory that knows what was synced, fails on request and shows what a power
//! cut at any moment would leave.

mod content;
mod crash;
mod file;
mod inode;
mod names;
mod random;
mod state;
#[cfg(test)]
mod tests;

use std::any::Any;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

pub use crash::CrashMode;

use self::file::FaultyFile;
use self::state::{Call, Kind, State};
use super::hold::HoldFlag;
use super::{File, OpenMode, Storage, Wants, path};

/// What goes wrong in one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// `EIO`; the call does nothing.
    Eio,
    /// `ENOSPC`; the call does nothing.
    Enospc,
    /// A write stops before its last byte and fails. Hits the first write at or after the chosen
    /// call.
    ShortWrite,
    /// A sync fails as on ext4: the data that it was to write is dropped. Reads see it until
    /// [`File::drop_cache`], later syncs succeed, and none of them makes it durable. Hits the first
    /// sync at or after the chosen call. Names stay pending.
    FsyncEio,
    /// `EINTR`; the call does nothing. Hits the first one at or after the chosen call of which the storage
    /// of a file system would tell: a change of a name or of a directory, or a sync of everything. Opening,
    /// writing, changes of a length and syncs of one file or directory are repeated there until they are
    /// done, and so are reads.
    Eintr,
}

/// What goes wrong in one read. The stored bytes stay as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadFailure {
    /// `EIO`.
    Eio,
    /// Fewer bytes come than there are.
    Short,
    /// One bit is another.
    BitFlip,
    /// A sector of 512 bytes reads as zeros.
    ZeroSector,
    /// The bytes come from the place 4 KiB behind, or before where nothing is there.
    Misdirected,
}

/// Called before each mutating call with its number and name.
pub type Hook = Box<dyn FnMut(&FaultyStorage, u64, &'static str) + Send>;

/// A data directory in memory for crash tests.
///
/// It is as strict as POSIX allows: [`File::sync_data`] makes the bytes and the length of that file
/// durable and no name; [`Storage::sync_dir`] makes the names in that directory durable and no
/// bytes; what is in a directory whose own name is lost is lost. A rename is there whole or not at
/// all, and a sync of either directory makes it durable. Everything random follows from the seed, so
/// a single thread that does the same gets the same. A clone is the same storage.
///
/// Mutating calls (create, rename, remove, directory changes, writes, changes of length, syncs) are
/// numbered from 1, also when they fail.
///
/// Whether what [`File::read_cached_at`] asks for is in memory follows from the seed, too: half of the time all of it,
/// otherwise some or nothing.
#[derive(Clone)]
pub struct FaultyStorage {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    hook: Mutex<Option<Hook>>,
    hold: HoldFlag,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl FaultyStorage {
    /// An empty storage with room for files of `cap_bytes` in sum.
    #[must_use]
    pub fn new(seed: u64, cap_bytes: u64) -> Self {
        Self::with(State::new(seed, cap_bytes))
    }

    fn with(state: State) -> Self {
        Self {
            shared: Arc::new(Shared {
                state: Mutex::new(state),
                hook: Mutex::new(None),
                hold: HoldFlag::default(),
            }),
        }
    }

    /// Mutating calls so far; the number of the last one.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.state().calls
    }

    /// Calls so far that only read: opening what exists, listing, reading, asking for a length,
    /// dropping the cache. Of [`File::read_cached_at`] those alone that say yes.
    #[must_use]
    pub fn reads(&self) -> u64 {
        self.state().reads
    }

    /// A hash of all mutating calls and their bytes so far. Equal runs have equal hashes.
    #[must_use]
    pub fn trace_hash(&self) -> u64 {
        self.state().trace.hash()
    }

    /// Has `hook` called in every mutating call, with the call's number and kind, at the moment when
    /// it is under way: a write or a change of a name may be on the disk in full, in part or not at
    /// all, and a sync has done nothing yet.
    ///
    /// The hook may take crash images, set failures and stop the storage (the call under way then
    /// fails too). It must not make mutating calls on this storage nor replace the hook.
    pub fn set_hook(&self, hook: Hook) {
        *locked(&self.shared.hook) = Some(hook);
    }

    /// Removes the hook.
    pub fn clear_hook(&self) {
        *locked(&self.shared.hook) = None;
    }

    /// A new storage with what the disk would hold if the power failed now. All of it is durable;
    /// the hook, the failures and the lock stay behind. Works on a stopped storage.
    #[must_use]
    pub fn crash_image(&self, mode: CrashMode, seed: u64) -> FaultyStorage {
        Self::with(self.state().after_crash(mode, seed))
    }

    /// An independent storage as the next process finds it when this one is killed now: every write is
    /// seen, and what was not synced is still not durable.
    #[must_use]
    pub fn killed(&self, seed: u64) -> FaultyStorage {
        Self::with(self.state().after_kill(seed))
    }

    /// Makes the mutating call with number `n` fail, once.
    pub fn fail_call(&self, n: u64, kind: Failure) {
        self.state().failures.push((n, kind));
    }

    /// Makes the first read of bytes at or after the reading call with number `n` go wrong, once.
    /// [`ReadFailure::Eio`] and [`ReadFailure::Short`] wait for a [`File::read_at`], the others also strike what is
    /// read from memory.
    pub fn fail_read(&self, n: u64, kind: ReadFailure) {
        self.state().read_failures.push((n, kind));
    }

    /// From now on nothing is in memory, or nobody knows of it: [`File::read_cached_at`] always says no.
    pub fn keep_nothing_in_memory(&self) {
        self.state().memory = None;
    }

    /// Changes the cap so that `bytes` are free now.
    pub fn set_free_bytes(&self, bytes: u64) {
        let mut state = self.state();
        state.cap = state.used.saturating_add(bytes);
    }

    /// Makes every later call fail: the process that used this storage is dead.
    pub fn stop(&self) {
        self.state().stopped = true;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        locked(&self.shared.state)
    }

    fn run_hook(&self, index: u64, what: &'static str) {
        if let Some(hook) = locked(&self.shared.hook).as_mut() {
            hook(self, index, what);
        }
    }

    /// A call whose effect is pending before the hook runs: the power cut may catch it half done.
    fn change<T>(
        &self,
        what: &'static str,
        kind: Kind,
        act: impl FnOnce(&mut State, Call) -> io::Result<T>,
    ) -> io::Result<T> {
        let (index, outcome) = {
            let mut state = self.state();
            let call = state.begin(what, kind)?;
            let outcome = match call.failure {
                Some(Failure::Eio) => Err(Errno::IO.into()),
                Some(Failure::Enospc) => Err(Errno::NOSPC.into()),
                Some(Failure::Eintr) => Err(Errno::INTR.into()),
                Some(Failure::ShortWrite | Failure::FsyncEio) | None => act(&mut state, call),
            };
            (call.index, outcome)
        };
        self.run_hook(index, what);
        self.state().alive()?;
        outcome
    }

    /// A sync: the hook runs before it takes effect.
    fn sync(
        &self,
        what: &'static str,
        kind: Kind,
        act: impl FnOnce(&mut State, bool) -> io::Result<()>,
    ) -> io::Result<()> {
        let call = self.state().begin(what, kind)?;
        self.run_hook(call.index, what);
        let mut state = self.state();
        state.alive()?;
        match call.failure {
            Some(Failure::Eio) => Err(Errno::IO.into()),
            Some(Failure::Enospc) => Err(Errno::NOSPC.into()),
            Some(Failure::Eintr) => Err(Errno::INTR.into()),
            Some(Failure::FsyncEio) => act(&mut state, true),
            Some(Failure::ShortWrite) | None => act(&mut state, false),
        }
    }

    fn handle(&self, state: &mut State, inode: u64) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(FaultyFile { storage: self.clone(), inode, _open: state.inode(inode)?.open() }))
    }
}

impl fmt::Debug for FaultyStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("FaultyStorage")
            .field("calls", &state.calls)
            .field("files", &state.inodes.len())
            .field("used_bytes", &state.used)
            .field("stopped", &state.stopped)
            .finish_non_exhaustive()
    }
}

impl Storage for FaultyStorage {
    fn open(&self, path: &str, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        path::check(path)?;
        match mode {
            OpenMode::Existing => {
                let mut state = self.state();
                state.begin_read()?;
                let inode = state.file(path)?;
                self.handle(&mut state, inode)
            }
            OpenMode::CreateNew => self.change("create", Kind::Other, |state, call| {
                let inode = state.create(call.index, path)?;
                self.handle(state, inode)
            }),
        }
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        path::check(dir)?;
        let mut state = self.state();
        state.begin_read()?;
        state.need_dir(dir)?;
        Ok(path::children(&state.names, dir))
    }

    fn create_dir(&self, dir: &str) -> io::Result<()> {
        path::check(dir)?;
        self.change("create_dir", Kind::Name, |state, call| state.make_dir(call.index, dir))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        path::check(from)?;
        path::check(to)?;
        self.change("rename", Kind::Name, |state, call| state.rename(call.index, from, to))
    }

    fn remove_file(&self, path: &str) -> io::Result<()> {
        path::check(path)?;
        self.change("remove_file", Kind::Name, |state, call| state.remove_file(call.index, path))
    }

    fn remove_dir(&self, dir: &str) -> io::Result<()> {
        path::check(dir)?;
        self.change("remove_dir", Kind::Name, |state, call| state.remove_dir(call.index, dir))
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        path::check(dir)?;
        self.sync("sync_dir", Kind::Sync, |state, lost| state.sync_dir(dir, lost))
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync("sync_all", Kind::SyncAll, State::sync_all)
    }

    fn boot(&self) -> Option<uuid::Uuid> {
        Some(uuid::Uuid::from_u128(self.state().boots))
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let state = self.state();
        state.alive()?;
        Ok(state.free())
    }

    fn lock(&self) -> io::Result<Box<dyn Any + Send + Sync>> {
        self.state().alive()?;
        Ok(Box::new(self.shared.hold.take()?))
    }

    /// Prefill is wanted, so that crash tests run the path that the disk runs.
    fn wants(&self) -> Wants {
        Wants { prefill: true }
    }
}
