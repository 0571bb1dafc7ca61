//! Objects on their way up: small ones in one request, large ones in parts, of which one goes while the
//! next one fills.

use std::io;
use std::sync::Arc;

use courant_log::backup::Put;
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStore as _, PutMultipartOptions, PutOptions, PutPayload};

use crate::bridge::Pending;
use crate::error::S3Error;
use crate::limits::PARTS_MAX;
use crate::target::Inner;

/// An object that is being written. There is nothing under its name before it is finished.
pub(crate) struct Upload<'a> {
    inner: &'a Inner,
    name: String,
    key: Path,
    /// What no part has yet.
    buffer: Vec<u8>,
    parts: Option<Parts>,
}

/// What the store has of a large object. It keeps that, and bills it, until it is told what to do.
struct Parts {
    upload: Box<dyn MultipartUpload>,
    count: usize,
    under_way: Option<Pending<object_store::Result<()>>>,
}

impl<'a> Upload<'a> {
    pub(crate) fn begin(inner: &'a Inner, name: &str) -> Result<Self, S3Error> {
        inner.lease.check()?;
        Ok(Self { inner, name: name.to_owned(), key: inner.key(name)?, buffer: Vec::new(), parts: None })
    }

    /// Sends what is in the buffer as the next part, when the part before has arrived.
    fn send_part(&mut self) -> Result<(), S3Error> {
        self.inner.lease.check()?;
        self.wait()?;
        if self.parts.is_none() {
            self.parts = Some(self.begin_parts()?);
        }
        let Some(parts) = &mut self.parts else { return Ok(()) };
        if parts.count == PARTS_MAX {
            return Err(S3Error::TooLarge { place: self.inner.site.place(&self.name) });
        }
        let payload = PutPayload::from(std::mem::take(&mut self.buffer));
        parts.count += 1;
        parts.under_way = Some(self.inner.bridge.start(parts.upload.put_part(payload)));
        Ok(())
    }

    fn begin_parts(&self) -> Result<Parts, S3Error> {
        let (store, key) = (Arc::clone(&self.inner.store), self.key.clone());
        let begun = async move { store.put_multipart_opts(&key, PutMultipartOptions::default()).await };
        let upload = self.inner.bridge.run(begun)?.map_err(|error| self.explain(&error))?;
        Ok(Parts { upload, count: 0, under_way: None })
    }

    /// Waits until the part that is under way has arrived.
    fn wait(&mut self) -> Result<(), S3Error> {
        match self.parts.as_mut().and_then(|parts| parts.under_way.take()) {
            Some(pending) => pending.wait()?.map_err(|error| self.explain(&error)),
            None => Ok(()),
        }
    }

    /// The whole object in one request.
    fn put_whole(&mut self) -> Result<(), S3Error> {
        self.inner.lease.check()?;
        let payload = PutPayload::from(std::mem::take(&mut self.buffer));
        let (store, key) = (Arc::clone(&self.inner.store), self.key.clone());
        let put = async move { store.put_opts(&key, payload, PutOptions::default()).await };
        self.inner.bridge.run(put)?.map(|_| ()).map_err(|error| self.explain(&error))
    }

    /// Makes an object of the parts.
    fn complete(&mut self) -> Result<(), S3Error> {
        self.send_part()?;
        self.wait()?;
        self.inner.lease.check()?;
        let Some(mut parts) = self.parts.take() else { return Ok(()) };
        let completing = async move {
            let completed = parts.upload.complete().await;
            (parts, completed)
        };
        let (parts, completed) = self.inner.bridge.run(completing)?;
        completed.map(|_| ()).map_err(|error| {
            self.parts = Some(parts);
            self.explain(&error)
        })
    }

    fn explain(&self, error: &object_store::Error) -> S3Error {
        self.inner.site.explain(&self.name, error)
    }
}

impl Put for Upload<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            // Only when more comes: an object of exactly one part needs no parts.
            if self.buffer.len() >= self.inner.part_bytes {
                self.send_part()?;
            }
            let room = self.inner.part_bytes - self.buffer.len();
            let (now, later) = rest.split_at(room.min(rest.len()));
            self.buffer.extend_from_slice(now);
            rest = later;
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> io::Result<()> {
        match self.parts {
            None => Ok(self.put_whole()?),
            Some(_) => Ok(self.complete()?),
        }
    }
}

impl Drop for Upload<'_> {
    fn drop(&mut self) {
        let Some(mut parts) = self.parts.take() else { return };
        if let Some(pending) = parts.under_way.take() {
            // A part that arrives after the end would stay.
            let _ = pending.wait();
        }
        match self.inner.bridge.run(async move { parts.upload.abort().await }) {
            Ok(Ok(())) => {}
            // A rule of the bucket can clear them away; the guide says which.
            _ => tracing::warn!(object = %self.name, "parts of an unfinished object stay in the store"),
        }
    }
}
