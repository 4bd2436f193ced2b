//! A place in a folder or a bucket, and the few operations everything else is made of.

use std::fmt;
use std::future::Future;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::aws::{AmazonS3Builder, S3ConditionalPut};
use object_store::local::LocalFileSystem;
use object_store::path::Path as Key;
use object_store::{Error as StoreError, ObjectStore, ObjectStoreExt, PutMode, PutPayload};

use crate::{Error, Result};

/// What a create-only put found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    /// The object was made.
    New,
    /// An object was there already; it was left as it is.
    Exists,
}

/// A prefix or an object: a path, `file://…` or `s3://bucket/…`. Cheap to clone.
///
/// S3 is configured by the environment (`AWS_ENDPOINT_URL`, `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_REGION`).
#[derive(Clone)]
pub struct Location {
    store: Arc<dyn ObjectStore>,
    key: Key,
    uri: String,
    local: Option<PathBuf>,
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.uri)
    }
}

static RUNTIME: LazyLock<tokio::runtime::Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a machine that can start a thread can start the runtime")
});

/// Runs `future` to its end on the storage's own runtime. Not to be called from inside a runtime.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    RUNTIME.block_on(future)
}

impl Location {
    /// Opens `uri`: a path, `file://…` or `s3://bucket/…`. Nothing is read or made.
    pub fn open(uri: &str) -> Result<Self> {
        let fault = |why: String| Error::Uri { uri: uri.to_owned(), why };
        if let Some(rest) = uri.strip_prefix("s3://") {
            let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
            if bucket.is_empty() {
                return Err(fault("the bucket's name is missing".to_owned()));
            }
            let plain = std::env::var("AWS_ENDPOINT_URL")
                .or_else(|_| std::env::var("AWS_ENDPOINT"))
                .is_ok_and(|endpoint| endpoint.starts_with("http://"));
            let store = AmazonS3Builder::from_env()
                .with_bucket_name(bucket)
                .with_allow_http(plain)
                .with_conditional_put(S3ConditionalPut::ETagMatch)
                .build()
                .map_err(|error| fault(error.to_string()))?;
            let key = Key::parse(key.trim_end_matches('/')).map_err(|error| fault(error.to_string()))?;
            let uri = uri.trim_end_matches('/').to_owned();
            return Ok(Self { store: Arc::new(store), key, uri, local: None });
        }
        let path = match uri.strip_prefix("file://") {
            Some(path) => PathBuf::from(path),
            None if uri.contains("://") => return Err(fault("unknown scheme".to_owned())),
            None => PathBuf::from(uri),
        };
        let path = upright(&path).map_err(|error| fault(error.to_string()))?;
        let key = Key::from_absolute_path(&path).map_err(|error| fault(error.to_string()))?;
        let uri = path.display().to_string();
        Ok(Self { store: Arc::new(LocalFileSystem::new()), key, uri, local: Some(path) })
    }

    /// The place `name` below this one; `name` may hold slashes.
    #[must_use]
    pub fn join(&self, name: &str) -> Self {
        let key = name.split('/').fold(self.key.clone(), Key::join);
        let uri = format!("{}/{name}", self.uri);
        Self { store: self.store.clone(), key, uri, local: self.local.as_ref().map(|path| path.join(name)) }
    }

    /// The location as text, for people and for flags.
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// The path, where the location is on this machine.
    pub fn local(&self) -> Option<&Path> {
        self.local.as_deref()
    }

    /// The object's bytes.
    pub fn get(&self) -> Result<Bytes> {
        block_on(async { self.store.get(&self.key).await?.bytes().await }).map_err(|e| self.error("reading", e))
    }

    /// Some of the object's bytes.
    pub fn get_range(&self, range: Range<u64>) -> Result<Bytes> {
        block_on(self.store.get_range(&self.key, range)).map_err(|e| self.error("reading", e))
    }

    /// Whether there is an object here.
    pub fn exists(&self) -> Result<bool> {
        match block_on(self.store.head(&self.key)) {
            Ok(_) => Ok(true),
            Err(StoreError::NotFound { .. }) => Ok(false),
            Err(error) => Err(self.error("looking", error)),
        }
    }

    /// Puts the object, replacing what is there.
    pub fn put(&self, bytes: Bytes) -> Result<()> {
        block_on(self.store.put(&self.key, PutPayload::from_bytes(bytes)))
            .map(drop)
            .map_err(|e| self.error("writing", e))
    }

    /// Puts the object only if nothing is there.
    pub fn create(&self, bytes: Bytes) -> Result<Created> {
        let put = self.store.put_opts(&self.key, PutPayload::from_bytes(bytes), PutMode::Create.into());
        match block_on(put) {
            Ok(_) => Ok(Created::New),
            Err(StoreError::AlreadyExists { .. } | StoreError::Precondition { .. }) => Ok(Created::Exists),
            Err(error) => Err(self.error("creating", error)),
        }
    }

    /// Removes the object, if it is there.
    pub fn delete(&self) -> Result<()> {
        match block_on(self.store.delete(&self.key)) {
            Ok(()) | Err(StoreError::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.error("removing", error)),
        }
    }

    /// The objects below this prefix, sorted: name relative to it, and size in bytes.
    pub fn list(&self) -> Result<Vec<(String, u64)>> {
        let found: Vec<_> =
            block_on(self.store.list(Some(&self.key)).try_collect()).map_err(|e| self.error("listing", e))?;
        let mut names: Vec<(String, u64)> = found
            .into_iter()
            .filter_map(|object| {
                let rest: Vec<_> = object.location.prefix_match(&self.key)?.collect();
                let name: Vec<&str> = rest.iter().map(AsRef::as_ref).collect();
                Some((name.join("/"), object.size))
            })
            .collect();
        names.sort();
        Ok(names)
    }

    /// The store this place is in, for readers of their own. For S3 it is the bucket.
    pub fn store(&self) -> Arc<dyn ObjectStore> {
        self.store.clone()
    }

    fn error(&self, what: &'static str, source: StoreError) -> Error {
        let uri = self.uri.clone();
        match source {
            StoreError::NotFound { .. } => Error::NotFound { uri },
            source => Error::Storage { uri, what, source: Box::new(source) },
        }
    }
}

/// `path` made absolute, without `.` and `..`. A `..` after a link goes where the link leads, as everywhere else.
fn upright(path: &Path) -> std::io::Result<PathBuf> {
    let mut upright = PathBuf::new();
    for component in std::path::absolute(path)?.components() {
        if component == std::path::Component::ParentDir {
            upright = upright.canonicalize().unwrap_or(upright);
            upright.pop();
        } else {
            upright.push(component);
        }
    }
    Ok(upright)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_created_once_and_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let place = Location::open(folder.path().to_str().unwrap()).unwrap().join("a/b.json");
        assert_eq!(place.create(Bytes::from_static(b"first")).unwrap(), Created::New);
        assert_eq!(place.create(Bytes::from_static(b"second")).unwrap(), Created::Exists);
        assert_eq!(place.get().unwrap(), "first");
    }

    #[test]
    fn a_root_with_spaces_and_accents_is_listed_as_it_was_put() {
        let folder = tempfile::tempdir().unwrap();
        let root = Location::open(&format!("file://{}/été 1", folder.path().display())).unwrap();
        root.join("a/b c.bin").put(Bytes::from_static(b"12")).unwrap();
        assert_eq!(root.list().unwrap(), [("a/b c.bin".to_owned(), 2)]);
        assert!(folder.path().join("été 1/a/b c.bin").exists());
    }

    #[test]
    fn a_path_may_lead_up() {
        let folder = tempfile::tempdir().unwrap();
        let root = Location::open(&format!("{}/missing/../a", folder.path().display())).unwrap();
        root.join("b").put(Bytes::from_static(b"12")).unwrap();
        assert!(folder.path().join("a/b").exists());
    }

    #[test]
    fn a_scheme_that_is_not_known_is_refused_by_name() {
        let error = Location::open("gs://bucket/x").unwrap_err();
        assert!(error.to_string().contains("gs://bucket/x"), "{error}");
        assert!(error.is_bad_input());
    }
}
