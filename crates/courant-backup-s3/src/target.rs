//! A bucket as a place for backups.

use std::any::Any;
use std::fmt;
use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use courant_core::clock::Clock;
use courant_log::backup::{Listed, Put, Target};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use object_store::ObjectStore;
use object_store::path::Path;

use crate::address::S3Url;
use crate::bridge::Bridge;
use crate::connect::connect;
use crate::download::Download;
use crate::error::{S3Error, Site};
use crate::lease::{LOCK, Lease, Say};
use crate::limits::{LEASE_MAX, LEASE_MIN, LISTED_MAX, PART_BYTES, RELEASE_TIMEOUT};
use crate::upload::Upload;

/// How a target is opened.
#[derive(Clone)]
pub struct S3Options {
    /// The variables of the environment; those that begin with `AWS_` say where the store is and who asks.
    pub variables: Vec<(String, String)>,
    /// Who takes backups, for others who find the lock: a machine and a process.
    pub holder: String,
    /// How long nobody else takes a lock that is not renewed: [`crate::LEASE`], if nothing speaks against.
    pub lease: Duration,
    /// Says how old locks are.
    pub clock: Arc<dyn Clock>,
    /// Tells a person what goes on with a lock, in whole sentences.
    pub say: Arc<dyn Fn(&str) + Send + Sync>,
}

impl fmt::Debug for S3Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Among the variables are secrets.
        f.debug_struct("S3Options")
            .field("holder", &self.holder)
            .field("lease", &self.lease)
            .finish_non_exhaustive()
    }
}

/// Backups of one log in a bucket, under a prefix.
///
/// Objects are written only while the target's lock is held. Of removed objects nobody can say whether
/// they were there: a store answers as well when they were not.
pub struct S3Target {
    inner: Arc<Inner>,
}

/// What an upload, a download and the guard of the lock share.
pub(crate) struct Inner {
    pub(crate) bridge: Bridge,
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) site: Site,
    pub(crate) lease: Arc<Lease>,
    /// Bytes of a part of an upload and of a piece of a download.
    pub(crate) part_bytes: usize,
    /// What keys begin with: empty, or with a `/` at its end.
    root: String,
}

impl S3Target {
    /// Opens a target, and asks the store for it once: so credentials, bucket and network are known to be
    /// right. Whether there are backups does not matter.
    ///
    /// # Errors
    /// See [`S3Error`].
    pub fn open(url: &S3Url, options: &S3Options) -> Result<Self, S3Error> {
        let (store, site) = connect(url, &options.variables)?;
        let target = Self::on(store, site, options, PART_BYTES)?;
        target.reach()?;
        Ok(target)
    }

    pub(crate) fn on(
        store: Arc<dyn ObjectStore>,
        site: Site,
        options: &S3Options,
        part_bytes: usize,
    ) -> Result<Self, S3Error> {
        let root = match site.url.prefix() {
            "" => String::new(),
            prefix => format!("{prefix}/"),
        };
        let lock = key(&site, &root, LOCK)?;
        let S3Options { holder, lease, clock, say, .. } = options;
        let lease = (*lease).clamp(LEASE_MIN, LEASE_MAX);
        let (clock, say): (_, Say) = (Arc::clone(clock), Arc::clone(say));
        let lease = Lease::new(Arc::clone(&store), site.clone(), lock, lease, holder, clock, say);
        let bridge = Bridge::new()?;
        Ok(Self { inner: Arc::new(Inner { bridge, store, site, lease: Arc::new(lease), part_bytes, root }) })
    }

    /// Gives the lock back and writes nothing any more, for a process that ends while a backup is under
    /// way. Waits a few seconds at most; can be called from anywhere.
    pub fn close(&self) {
        self.inner.lease.close();
        self.inner.release();
    }

    fn reach(&self) -> Result<(), S3Error> {
        let store = Arc::clone(&self.inner.store);
        let under = self.inner.key("")?;
        let first = self.inner.bridge.run(async move { store.list(Some(&under)).try_next().await })?;
        first.map(|_| ()).map_err(|error| self.inner.site.explain("", &error))
    }
}

impl fmt::Debug for S3Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Target").field("url", &self.inner.site.url).finish_non_exhaustive()
    }
}

impl Inner {
    /// The key of an object.
    pub(crate) fn key(&self, name: &str) -> Result<Path, S3Error> {
        key(&self.site, &self.root, name)
    }

    fn release(&self) {
        let lease = Arc::clone(&self.lease);
        let released = async move { tokio::time::timeout(RELEASE_TIMEOUT, lease.release()).await };
        match self.bridge.run(released) {
            Ok(Ok(())) => {}
            // Whoever comes next is told, and waits.
            Ok(Err(_)) | Err(_) => tracing::warn!("the lock stays until its lease ends"),
        }
    }

    fn list(&self, prefix: &str) -> Result<Vec<Listed>, S3Error> {
        let folder = prefix.rsplit_once('/').map_or("", |(folder, _)| folder);
        let under = self.key(folder)?;
        let store = Arc::clone(&self.store);
        let listing = async move {
            let mut objects = store.list(Some(&under));
            let mut found = Vec::new();
            while let Some(meta) = objects.try_next().await? {
                found.push((String::from(meta.location), meta.size));
                if found.len() > LISTED_MAX {
                    break;
                }
            }
            Ok::<_, object_store::Error>(found)
        };
        let found = self.bridge.run(listing)?.map_err(|error| self.site.explain(prefix, &error))?;
        if found.len() > LISTED_MAX {
            return Err(S3Error::TooMany { place: self.site.place(prefix) });
        }
        let ours = found.into_iter().filter_map(|(key, bytes)| {
            let name = key.strip_prefix(&self.root)?;
            let is_asked_for = name.starts_with(prefix) && name != LOCK;
            is_asked_for.then(|| Listed { name: name.to_owned(), bytes })
        });
        let mut listed: Vec<Listed> = ours.collect();
        // Not every store has them in this order.
        listed.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(listed)
    }

    fn remove(&self, name: &str) -> Result<(), S3Error> {
        self.lease.check()?;
        let key = self.key(name)?;
        let store = Arc::clone(&self.store);
        let removal = async move {
            let removed = store.delete_stream(stream::iter([Ok(key)]).boxed()).try_next().await;
            removed.map(|_| ())
        };
        self.bridge.run(removal)?.map_err(|error| self.site.explain(name, &error))
    }
}

fn key(site: &Site, root: &str, name: &str) -> Result<Path, S3Error> {
    Path::parse(format!("{root}{name}"))
        .map_err(|error| S3Error::Other { place: site.place(name), cause: error.to_string() })
}

impl Target for S3Target {
    fn lock(&self) -> io::Result<Box<dyn Any + Send + Sync>> {
        let lease = Arc::clone(&self.inner.lease);
        self.inner.bridge.run(lease.take())??;
        Ok(Box::new(Guard { inner: Arc::clone(&self.inner) }))
    }

    fn put(&self, name: &str) -> io::Result<Box<dyn Put + '_>> {
        Ok(Box::new(Upload::begin(&self.inner, name)?))
    }

    fn get(&self, name: &str) -> io::Result<Box<dyn Read + '_>> {
        Ok(Box::new(Download::begin(&self.inner, name)?))
    }

    fn list(&self, prefix: &str) -> io::Result<Vec<Listed>> {
        Ok(self.inner.list(prefix)?)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        Ok(self.inner.remove(name)?)
    }
}

/// The lock, until it is dropped.
struct Guard {
    inner: Arc<Inner>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.inner.release();
    }
}

#[cfg(test)]
mod tests;
