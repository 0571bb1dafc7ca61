//! Objects on their way down, in pieces: each is a request of its own, with a time of its own, so that it
//! does not matter how long a large object takes.

use std::io::{self, Read};
use std::sync::Arc;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{GetOptions, ObjectStore as _};

use crate::error::S3Error;
use crate::target::Inner;

/// An object that is being read.
pub(crate) struct Download<'a> {
    inner: &'a Inner,
    name: String,
    key: Path,
    /// The object's length.
    bytes: u64,
    /// Names the object's content, so that all pieces are of one.
    e_tag: Option<String>,
    /// Bytes that have come.
    fetched: u64,
    /// Of them, what nobody has read yet.
    piece: Bytes,
}

impl<'a> Download<'a> {
    /// Asks for an object, and reads it at once if it is small.
    pub(crate) fn begin(inner: &'a Inner, name: &str) -> Result<Self, S3Error> {
        let key = inner.key(name)?;
        let piece_bytes = inner.part_bytes as u64;
        let (store, asked) = (Arc::clone(&inner.store), key.clone());
        let answer = async move {
            let found = store.get_opts(&asked, GetOptions::default()).await?;
            let meta = found.meta.clone();
            // What follows of a large one is left.
            let piece = if meta.size <= piece_bytes { found.bytes().await? } else { Bytes::new() };
            Ok::<_, object_store::Error>((meta, piece))
        };
        let (meta, piece) = inner.bridge.run(answer)?.map_err(|error| inner.site.explain(name, &error))?;
        let download = Self {
            inner,
            name: name.to_owned(),
            key,
            bytes: meta.size,
            e_tag: meta.e_tag,
            fetched: piece.len() as u64,
            piece,
        };
        if meta.size <= piece_bytes {
            download.check_length(download.fetched, meta.size)?;
        }
        Ok(download)
    }

    /// The next piece.
    fn fetch(&mut self) -> Result<(), S3Error> {
        let end = self.bytes.min(self.fetched + self.inner.part_bytes as u64);
        let options = GetOptions::new().with_range(Some(self.fetched..end)).with_if_match(self.e_tag.clone());
        let (store, key) = (Arc::clone(&self.inner.store), self.key.clone());
        let answer = async move { store.get_opts(&key, options).await?.bytes().await };
        let answer = self.inner.bridge.run(answer)?;
        let piece = answer.map_err(|error| self.inner.site.explain(&self.name, &error))?;
        self.check_length(piece.len() as u64, end - self.fetched)?;
        self.fetched = end;
        self.piece = piece;
        Ok(())
    }

    fn check_length(&self, found: u64, expected: u64) -> Result<(), S3Error> {
        if found == expected {
            return Ok(());
        }
        Err(S3Error::Short { place: self.inner.site.place(&self.name), found, expected })
    }
}

impl Read for Download<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.piece.is_empty() && self.fetched < self.bytes {
            self.fetch()?;
        }
        let count = buf.len().min(self.piece.len());
        let (now, _) = buf.split_at_mut(count);
        now.copy_from_slice(&self.piece.split_to(count));
        Ok(count)
    }
}
