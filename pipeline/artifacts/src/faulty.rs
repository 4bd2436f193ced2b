//! A store whose requests go wrong as a test says.

use std::fmt;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::client::{HttpError, HttpErrorKind};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use crate::Location;

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is done.
    Done,
    /// It is lost before it is done.
    Lost,
    /// It is done, and its answer is lost.
    AnswerLost,
    /// The store refuses it for another writer's sake, who then does not write.
    Conflict,
    /// The store says that it is done, and keeps what another has written.
    Pretended,
    /// The store does not know create-only puts.
    Unknown,
}

/// A store in memory. Its puts and gets each meet the next of their fates; when these are spent, they are done.
#[derive(Debug, Default)]
pub(crate) struct Faulty {
    store: InMemory,
    puts: Mutex<Vec<Fate>>,
    gets: Mutex<Vec<Fate>>,
}

impl Faulty {
    /// A place in a store whose puts and gets have these fates.
    pub(crate) fn place(puts: &[Fate], gets: &[Fate]) -> Location {
        let reversed = |fates: &[Fate]| Mutex::new(fates.iter().rev().copied().collect());
        let store = Self { store: InMemory::new(), puts: reversed(puts), gets: reversed(gets) };
        Location::of_store(Arc::new(store), "a", "s3://faulty/a")
    }
}

fn next(fates: &Mutex<Vec<Fate>>) -> Fate {
    fates.lock().unwrap().pop().unwrap_or(Fate::Done)
}

/// What a client says when the connection breaks.
fn broken() -> Error {
    let reset = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
    Error::Generic { store: "S3", source: Box::new(HttpError::new(HttpErrorKind::Interrupted, reset)) }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Faulty")
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, key: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let fate = next(&self.puts);
        match fate {
            Fate::Lost => return Err(broken()),
            Fate::Conflict => return Err(Error::AlreadyExists { path: key.to_string(), source: "409".into() }),
            Fate::Unknown if options.mode == PutMode::Create => {
                return Err(Error::NotImplemented { operation: String::new(), implementer: self.to_string() });
            }
            Fate::Pretended => return Ok(PutResult { e_tag: None, version: None }),
            _ => {}
        }
        let put = self.store.put_opts(key, payload, options).await;
        if fate == Fate::AnswerLost { Err(broken()) } else { put }
    }

    async fn put_multipart_opts(&self, key: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.store.put_multipart_opts(key, options).await
    }

    async fn get_opts(&self, key: &Path, options: GetOptions) -> Result<GetResult> {
        match next(&self.gets) {
            Fate::Lost => Err(broken()),
            Fate::Unknown => Err(Error::Generic { store: "S3", source: "the disk is on fire".into() }),
            _ => self.store.get_opts(key, options).await,
        }
    }

    fn delete_stream(&self, keys: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.store.delete_stream(keys)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.store.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.store.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.store.copy_opts(from, to, options).await
    }
}
