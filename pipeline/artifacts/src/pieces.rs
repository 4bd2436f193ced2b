//! Large objects, moved a piece at a time: bounded memory, and no request that outlasts a slow link.

use std::io::Read;
use std::path::Path;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use object_store::{Error as StoreError, MultipartUpload, ObjectStoreExt};

use crate::files::{error, open};
use crate::location::block_on;
use crate::s3::PIECE;
use crate::{Error, Location, Result};

/// How many pieces are on their way at once.
const AT_ONCE: usize = 4;
/// How much is fetched at once of an object that is read from front to end.
const FETCH: u64 = 4 * PIECE as u64;

/// What has been put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Put {
    /// Its size.
    pub bytes: u64,
    /// blake3 of its bytes.
    pub digest: blake3::Hash,
    /// What tells this state of the object from others.
    pub tag: Option<String>,
}

impl Location {
    /// Puts the file at `path` here, replacing what is there, unless `may_end` says no when all of it is up.
    pub(crate) fn put_file(&self, path: &Path, may_end: impl FnOnce() -> Result<bool>) -> Result<Option<Put>> {
        let mut file = open(path)?;
        let next = || {
            let mut piece = Vec::with_capacity(PIECE);
            let read = (&mut file).take(PIECE as u64).read_to_end(&mut piece);
            read.map_err(|source| error(path, "reading", source))?;
            Ok(Bytes::from(piece))
        };
        self.put_pieces(next, may_end)
    }

    /// Puts the object made of the pieces that `next` gives, until one is empty, unless `may_end` says no when all of them are
    /// up. What was here is replaced.
    pub(crate) fn put_pieces(
        &self,
        mut next: impl FnMut() -> Result<Bytes>,
        may_end: impl FnOnce() -> Result<bool>,
    ) -> Result<Option<Put>> {
        let mut upload = self.run("writing", || self.store_ref().put_multipart(self.key()))?;
        let all = block_on(self.put_all(&mut upload, &mut next));
        let (bytes, digest) = match all.and_then(|all| Ok(may_end()?.then_some(all))) {
            Ok(Some(all)) => all,
            stopped => {
                // What is up is no use; where it cannot be removed, the first fault is the one to tell.
                let _ = block_on(upload.abort());
                return stopped.map(|_| None);
            }
        };
        match block_on(upload.complete()) {
            Ok(put) => Ok(Some(Put { bytes, digest, tag: put.e_tag })),
            // Where the answer was lost, the request was repeated and found no such upload, as it was done.
            Err(_) if self.digest(bytes).is_ok_and(|found| found == digest) => {
                Ok(Some(Put { bytes, digest, tag: self.tag()? }))
            }
            Err(error) => Err(self.fault("writing", &error)),
        }
    }

    /// Puts all pieces, and gives their size and digest.
    async fn put_all(
        &self,
        upload: &mut Box<dyn MultipartUpload>,
        next: &mut impl FnMut() -> Result<Bytes>,
    ) -> Result<(u64, blake3::Hash)> {
        let (mut hasher, mut bytes, mut under_way) = (blake3::Hasher::new(), 0, FuturesUnordered::new());
        let fault = |error: StoreError| self.fault("writing", &error);
        loop {
            let piece = next()?;
            if piece.is_empty() {
                break;
            }
            hasher.update(&piece);
            bytes += piece.len() as u64;
            under_way.push(upload.put_part(piece.into()));
            if under_way.len() == AT_ONCE
                && let Some(put) = under_way.next().await
            {
                put.map_err(fault)?;
            }
        }
        while let Some(put) = under_way.next().await {
            put.map_err(fault)?;
        }
        Ok((bytes, hasher.finalize()))
    }

    /// The digest of the object, which has `bytes` bytes. It is not held in memory.
    pub(crate) fn digest(&self, bytes: u64) -> Result<blake3::Hash> {
        let mut hasher = blake3::Hasher::new();
        self.read_all(bytes, |piece| {
            hasher.update(piece);
            Ok(())
        })?;
        Ok(hasher.finalize())
    }

    /// Reads the object, which has `bytes` bytes, from front to end.
    pub(crate) fn read_all(&self, bytes: u64, mut take: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let mut from = 0;
        while from < bytes {
            let to = bytes.min(from + FETCH);
            let piece = self.get_range(from..to)?;
            if piece.len() as u64 != to - from {
                let what = format!("ends after {} bytes; expected {bytes}", from + piece.len() as u64);
                return Err(Error::Corrupt { uri: self.uri().to_owned(), what });
            }
            take(&piece)?;
            from = to;
        }
        Ok(())
    }
}
