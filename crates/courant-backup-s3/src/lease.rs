//! The lock of a target: an object that says who is taking a backup, and a lease on it.
//!
//! A bucket has no lock that dies with its holder. So the holder writes `LOCK` again and again, each time
//! on the condition that nobody else has (`If-Match`), and stops to write anything at all when that has
//! failed for half of the lease. Somebody else takes the lock over when it is older than its lease, by
//! the store's time of its last renewal, *and* nobody renews it while it is watched for longer than
//! renewals take. A clock that is wrong can thus refuse a backup, but alone it cannot break the lock.
//!
//! ```text
//! holder   |--renew--renew--renew-------- half of the lease: writes stop -------- all of it |
//! other                                                                        is stale ----| watch |-> taken
//! ```
//!
//! Between a holder's last look at its lock and the arrival of its last write lies one request, whose
//! time is bounded to less than the other half (`limits`). A process that stands still for longer in
//! exactly that place could still write; what it writes is compared with its checksum by a restore.
//!
//! Given back, the object stays and says so: a store need not know how to delete on a condition.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use courant_core::clock::Clock;
use object_store::path::Path;
use object_store::{Error, GetOptions, ObjectStore, PutMode, PutOptions, PutPayload, UpdateVersion};
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::error::{S3Error, Site, is_not_implemented};
use crate::limits::{
    HOLDER_BYTES_MAX, LEASE_MAX, LOCK_BYTES_MAX, LOCK_TRIES_MAX, RENEWALS_PER_LEASE, WATCHES_PER_LEASE,
};
use crate::lock_object::LockObject;

/// The lock's name in the target.
pub(crate) const LOCK: &str = "LOCK";
/// The time that a store tells has whole seconds.
const STORE_TIME_MS: i64 = 1000;
/// An ETag that no object has.
const NO_ETAG: &str = "\"00000000000000000000000000000000\"";

/// Tells a person what goes on.
pub(crate) type Say = Arc<dyn Fn(&str) + Send + Sync>;

/// The lock of one target, held or not.
pub(crate) struct Lease {
    store: Arc<dyn ObjectStore>,
    site: Site,
    path: Path,
    /// How long, for locks of this process.
    lease: Duration,
    holder: String,
    clock: Arc<dyn Clock>,
    say: Say,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    held: Option<Held>,
    /// The process is about to end: nothing is written any more.
    is_closed: bool,
    /// The store has shown that it minds conditions.
    is_proven: bool,
}

/// A lock that this process has taken.
struct Held {
    lock: LockObject,
    e_tag: String,
    /// When the last renewal that succeeded began, by [`Clock::elapsed_ms`].
    renewed_ms: u64,
    /// Why it is held no more.
    lost: Option<String>,
    task: Option<JoinHandle<()>>,
}

/// A lock as the store has it.
struct Found {
    /// None when this release cannot read it.
    lock: Option<LockObject>,
    e_tag: String,
    /// When it was written, by the store's clock.
    written_ms: i64,
}

impl Found {
    fn is(&self, id: &str) -> bool {
        self.lock.as_ref().is_some_and(|lock| lock.id == id)
    }

    fn is_released(&self) -> bool {
        self.lock.as_ref().is_some_and(|lock| lock.released)
    }

    fn lease(&self) -> Duration {
        self.lock.as_ref().map_or(LEASE_MAX, LockObject::lease)
    }

    fn holder(&self) -> &str {
        let unknown = "somebody whom this release does not understand";
        self.lock.as_ref().map_or(unknown, |lock| lock.holder.as_str())
    }
}

impl Lease {
    pub(crate) fn new(
        store: Arc<dyn ObjectStore>,
        site: Site,
        path: Path,
        lease: Duration,
        holder: &str,
        clock: Arc<dyn Clock>,
        say: Say,
    ) -> Self {
        let holder = holder[..holder.floor_char_boundary(HOLDER_BYTES_MAX)].to_owned();
        Self { store, site, path, lease, holder, clock, say, state: Mutex::default() }
    }

    /// Takes the lock, and keeps it until [`Self::release`].
    pub(crate) async fn take(self: Arc<Self>) -> Result<(), S3Error> {
        let id = Uuid::new_v4().to_string();
        let lock = LockObject::new(id, self.holder.clone(), self.clock.now_ms(), self.lease);
        let mut holder = "others, who were quicker each time".to_owned();
        for _ in 0..LOCK_TRIES_MAX {
            let mode = match self.look().await? {
                None => PutMode::Create,
                Some(found) if found.is_released() => only_if(found.e_tag),
                Some(found) => {
                    holder = self.describe(&found);
                    if !self.is_stale(&found) {
                        (self.say)(&format!("The lock {} is held by {holder}.", self.site.place(LOCK)));
                        return Err(S3Error::Held { place: self.site.place(LOCK), holder });
                    }
                    self.watch(&found, &holder).await;
                    only_if(found.e_tag)
                }
            };
            let begun_ms = self.clock.elapsed_ms();
            let Some(e_tag) = self.write(&lock, mode).await? else { continue };
            if let Err(error) = self.prove(&lock).await {
                let _ = self.write(&lock.released(), only_if(e_tag)).await;
                return Err(error);
            }
            if !self.hold(lock, e_tag, begun_ms) {
                self.release().await;
            }
            return self.check();
        }
        Err(S3Error::Held { place: self.site.place(LOCK), holder })
    }

    /// Fails unless this process may write: it holds the lock, and nobody can have taken it meanwhile.
    pub(crate) fn check(&self) -> Result<(), S3Error> {
        let state = self.state();
        let what = match &state.held {
            _ if state.is_closed => "the process ends".to_owned(),
            None => "nobody has taken it".to_owned(),
            Some(Held { lost: Some(what), .. }) => what.clone(),
            Some(held) => {
                let since_ms = self.clock.elapsed_ms().saturating_sub(held.renewed_ms);
                let since = Duration::from_millis(since_ms);
                if since <= self.lease / 2 {
                    return Ok(());
                }
                format!("it could not be renewed for {} s", since.as_secs())
            }
        };
        Err(S3Error::Lost { place: self.site.place(LOCK), what })
    }

    /// Gives the lock back, if it is held.
    pub(crate) async fn release(&self) {
        let Some(mut held) = self.state().held.take() else { return };
        if let Some(task) = held.task.take() {
            task.abort();
            // It ends at its next breath; what it has sent may arrive later, and is seen below.
            let _ = task.await;
        }
        if held.lost.is_some() {
            return;
        }
        let released = held.lock.released();
        let mut e_tag = held.e_tag;
        for _ in 0..LOCK_TRIES_MAX {
            match self.write(&released, only_if(e_tag)).await {
                Ok(Some(_)) => return,
                Ok(None) => match self.look().await {
                    Ok(Some(found)) if found.is(&released.id) => e_tag = found.e_tag,
                    _ => return,
                },
                Err(error) => {
                    tracing::warn!(%error, "the lock stays until its lease ends");
                    return;
                }
            }
        }
    }

    /// From now on nothing is written, and no lock is taken.
    pub(crate) fn close(&self) {
        self.state().is_closed = true;
    }

    /// Notes that the lock is ours, and begins to renew it. False when the process is about to end.
    fn hold(self: &Arc<Self>, lock: LockObject, e_tag: String, renewed_ms: u64) -> bool {
        let mut state = self.state();
        let task = (!state.is_closed).then(|| tokio::spawn(Arc::clone(self).keep()));
        let is_kept = task.is_some();
        state.held = Some(Held { lock, e_tag, renewed_ms, lost: None, task });
        is_kept
    }

    /// Renews the lock for as long as it is held.
    async fn keep(self: Arc<Self>) {
        loop {
            tokio::time::sleep(self.lease / RENEWALS_PER_LEASE).await;
            let Some((lock, e_tag)) = self.current() else { return };
            let next = lock.renewed();
            let begun_ms = self.clock.elapsed_ms();
            // Shorter than what is left: another attempt may do better.
            let written = tokio::time::timeout(self.lease / 4, self.write(&next, only_if(e_tag))).await;
            match written {
                Ok(Ok(Some(e_tag))) => self.note(next, e_tag, Some(begun_ms)),
                // One of ours may have arrived whose answer has not.
                Ok(Ok(None)) => match self.look().await {
                    Ok(Some(Found { lock: Some(found), e_tag, .. })) if found.id == lock.id => {
                        self.note(found, e_tag, None);
                    }
                    Ok(Some(found)) => {
                        return self.lose(format!("it was taken over, by {}", self.describe(&found)));
                    }
                    Ok(None) => return self.lose("somebody has removed it".to_owned()),
                    Err(error) => tracing::warn!(%error, "the lock was not renewed"),
                },
                Ok(Err(error)) => tracing::warn!(%error, "the lock was not renewed"),
                Err(_) => tracing::warn!("the lock was not renewed: the store does not answer"),
            }
        }
    }

    /// The lock and its ETag, while it is held.
    fn current(&self) -> Option<(LockObject, String)> {
        let state = self.state();
        let held = state.held.as_ref().filter(|held| held.lost.is_none())?;
        Some((held.lock.clone(), held.e_tag.clone()))
    }

    /// What the store has of the lock now, and when that was asked for.
    fn note(&self, lock: LockObject, e_tag: String, begun_ms: Option<u64>) {
        if let Some(held) = &mut self.state().held {
            held.lock = lock;
            held.e_tag = e_tag;
            // When an earlier renewal has arrived nobody knows; the next one will tell.
            held.renewed_ms = begun_ms.unwrap_or(held.renewed_ms);
        }
    }

    fn lose(&self, what: String) {
        if let Some(held) = &mut self.state().held {
            held.lost = Some(what);
        }
    }

    /// The lock as the store has it, if it is there.
    async fn look(&self) -> Result<Option<Found>, S3Error> {
        let found = match self.store.get_opts(&self.path, GetOptions::default()).await {
            Ok(found) => found,
            Err(error) => match self.site.explain(LOCK, &error) {
                S3Error::NotFound { .. } => return Ok(None),
                told => return Err(told),
            },
        };
        let meta = found.meta.clone();
        let lock = match meta.size <= LOCK_BYTES_MAX {
            true => {
                let bytes = found.bytes().await.map_err(|error| self.site.explain(LOCK, &error))?;
                LockObject::decode(&bytes)
            }
            false => None,
        };
        let e_tag = meta.e_tag.ok_or_else(|| self.unconditional())?;
        Ok(Some(Found { lock, e_tag, written_ms: meta.last_modified.timestamp_millis() }))
    }

    /// Writes the lock on a condition, and returns its ETag; none when the condition does not hold.
    async fn write(&self, lock: &LockObject, mode: PutMode) -> Result<Option<String>, S3Error> {
        let bytes = lock
            .encode()
            .map_err(|error| S3Error::Other { place: self.site.place(LOCK), cause: error.to_string() })?;
        let put = self.store.put_opts(&self.path, PutPayload::from(bytes), PutOptions::from(mode)).await;
        let error = match put {
            Ok(put) => return put.e_tag.ok_or_else(|| self.unconditional()).map(Some),
            Err(error) => error,
        };
        // A request that is repeated finds what its first attempt has written.
        if let Ok(Some(found)) = self.look().await
            && found.lock.as_ref() == Some(lock)
        {
            return Ok(Some(found.e_tag));
        }
        match error {
            error if is_refusal(&error) => Ok(None),
            error if is_not_implemented(&error) => Err(self.unconditional()),
            error => Err(self.site.explain(LOCK, &error)),
        }
    }

    /// Lets the store show, once, that it minds conditions: one that ignores them would let everybody
    /// take the lock. Nothing but the same bytes can be written.
    async fn prove(&self, lock: &LockObject) -> Result<(), S3Error> {
        if self.state().is_proven {
            return Ok(());
        }
        for mode in [PutMode::Create, only_if(NO_ETAG.to_owned())] {
            let bytes = lock.encode().unwrap_or_default();
            let put = self.store.put_opts(&self.path, PutPayload::from(bytes), PutOptions::from(mode));
            match put.await {
                Err(error) if is_refusal(&error) => {}
                Err(error) if !is_not_implemented(&error) => return Err(self.site.explain(LOCK, &error)),
                _ => return Err(self.unconditional()),
            }
        }
        self.state().is_proven = true;
        Ok(())
    }

    fn unconditional(&self) -> S3Error {
        S3Error::Unconditional { place: self.site.place(LOCK) }
    }

    /// Whether nobody has renewed it for the time of its lease.
    fn is_stale(&self, found: &Found) -> bool {
        let age_ms = self.clock.now_ms().saturating_sub(found.written_ms);
        age_ms > (found.lease().as_millis() as i64).saturating_add(STORE_TIME_MS)
    }

    /// Gives whoever holds a stale lock the time to renew it.
    async fn watch(&self, found: &Found, holder: &str) {
        let time = found.lease() / WATCHES_PER_LEASE;
        (self.say)(&format!(
            "The lock {} was not renewed in time by {holder}; it is taken over in {} s unless it is.",
            self.site.place(LOCK),
            time.as_secs_f64().ceil()
        ));
        tokio::time::sleep(time).await;
    }

    /// Who holds a lock, since when, and how long after its last renewal.
    fn describe(&self, found: &Found) -> String {
        let now_ms = self.clock.now_ms();
        let seconds = |ms: i64| now_ms.saturating_sub(ms).max(0) / 1000;
        let mut text = found.holder().to_owned();
        if let Some(lock) = &found.lock {
            // Writing to a string does not fail.
            let _ = write!(text, ", for {} s", seconds(lock.since_ms));
        }
        let _ = write!(text, ", renewed {} s ago", seconds(found.written_ms));
        text
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn only_if(e_tag: String) -> PutMode {
    PutMode::Update(UpdateVersion { e_tag: Some(e_tag), version: None })
}

/// Whether a condition does not hold.
fn is_refusal(error: &Error) -> bool {
    matches!(error, Error::AlreadyExists { .. } | Error::Precondition { .. } | Error::NotModified { .. })
}
