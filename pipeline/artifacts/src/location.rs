//! A place in a folder or a bucket, and the few operations everything else is made of.

use std::fmt;
use std::future::Future;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::Path as Key;
use object_store::{Error as StoreError, ObjectStore, ObjectStoreExt, PutMode, PutPayload};

use crate::files::read_file;
use crate::s3::PIECE;
use crate::{Error, Result, fault, files, s3};

/// What came of a create-only put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    /// The object was made by this very call.
    New,
    /// An object with the very same bytes is there: made by this call, whose outcome was lost on the way, or by another.
    Same,
    /// An object with other bytes is there; it was left as it is.
    Exists,
}

/// An object below a prefix.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Its name below the prefix.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// When it was last written: milliseconds since 1970 (UTC).
    pub modified_ms: u64,
}

/// Requests that wait for their answers at the same time, where many small objects are read.
const AT_ONCE: usize = 64;
/// How often an operation is tried whose outcome is lost, the store's own repetitions of a request aside.
const TRIES: u32 = 4;
/// The pause before the second try; it doubles from try to try.
const PAUSE: Duration = Duration::from_millis(200);

/// A prefix or an object: a path, `file://…` or `s3://bucket/…`. Cheap to clone.
///
/// S3 is configured by the environment (`AWS_ENDPOINT_URL`, `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_REGION`).
/// Every operation is repeated while the store is away or busy, for minutes; what then fails names the store's answer.
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
            let setting = |what| Error::Setting { uri: uri.to_owned(), what };
            let store = s3::bucket(bucket).map_err(setting)?;
            let key = Key::parse(key.trim_end_matches('/')).map_err(|error| fault(error.to_string()))?;
            let uri = uri.trim_end_matches('/').to_owned();
            return Ok(Self { store, key, uri, local: None });
        }
        let path = match uri.strip_prefix("file://") {
            Some(path) => PathBuf::from(path),
            None if uri.contains("://") => return Err(fault("unknown scheme".to_owned())),
            None if uri.starts_with("s3:") => return Err(fault("two slashes follow `s3:`".to_owned())),
            None => PathBuf::from(uri),
        };
        let path = upright(&path).map_err(|error| fault(error.to_string()))?;
        let key = Key::from_absolute_path(&path).map_err(|error| fault(error.to_string()))?;
        let uri = path.display().to_string();
        Ok(Self { store: Arc::new(LocalFileSystem::new()), key, uri, local: Some(path) })
    }

    /// The place `key` in `store`, called `uri`.
    #[cfg(test)]
    pub(crate) fn of_store(store: Arc<dyn ObjectStore>, key: &str, uri: &str) -> Self {
        Self { store, key: Key::from(key), uri: uri.to_owned(), local: None }
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

    /// The variable, and its value, for a program that is started to work here, once the bucket has answered this process: a pause
    /// of its server is then waited for from the first request on. None for a folder.
    pub fn answered(&self) -> Option<(&'static str, String)> {
        self.local.is_none().then(s3::answered)
    }

    /// The object's bytes.
    pub fn get(&self) -> Result<Bytes> {
        if let Some(path) = &self.local {
            // Without a way through the runtime's threads: a workflow reads many small files.
            return read_file(path).map(Bytes::from);
        }
        self.run("reading", || async { self.store.get(&self.key).await?.bytes().await })
    }

    /// Some of the object's bytes.
    pub fn get_range(&self, range: Range<u64>) -> Result<Bytes> {
        // A picture is soon read: to hand it to the storage's threads and back would take longer.
        if let Some(path) = &self.local {
            return Ok(files::read_range(path, range)?.into());
        }
        self.run("reading", || self.store.get_range(&self.key, range.clone()))
    }

    /// Several parts of the object's bytes, in the order of `ranges`: neighbours in one request, others at the same time.
    pub fn get_ranges(&self, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.run("reading", || self.store.get_ranges(&self.key, ranges))
    }

    /// The bytes of each object in `places`, which are in one store; none where there is no object.
    pub(crate) fn get_each(places: &[Self]) -> Result<Vec<Option<Bytes>>> {
        if places.iter().all(|place| place.local.is_some()) {
            let found = |place: &Self| match place.get() {
                Err(Error::NotFound { .. }) => Ok(None),
                bytes => bytes.map(Some),
            };
            return places.iter().map(found).collect();
        }
        let get = |place: &Self| {
            let place = place.clone();
            async move {
                match steadily(|| async { place.store.get(&place.key).await?.bytes().await }).await {
                    Ok(bytes) => Ok(Some(bytes)),
                    Err(StoreError::NotFound { .. }) => Ok(None),
                    Err(error) => Err(place.fault("reading", &error)),
                }
            }
        };
        block_on(futures::stream::iter(places.iter().map(get)).buffered(AT_ONCE).try_collect())
    }

    /// The names of the folders right below this prefix, sorted. What lies deeper is not looked at.
    pub fn folders(&self) -> Result<Vec<String>> {
        let found = self.run("listing", || self.store.list_with_delimiter(Some(&self.key)))?;
        let mut names: Vec<String> =
            found.common_prefixes.iter().filter_map(|prefix| Some(prefix.filename()?.to_owned())).collect();
        names.sort();
        Ok(names)
    }

    /// Whether there is an object here.
    pub fn exists(&self) -> Result<bool> {
        match self.tag() {
            Ok(_) => Ok(true),
            Err(Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// What tells this state of the object from others; it changes when the object is written again.
    pub(crate) fn tag(&self) -> Result<Option<String>> {
        Ok(self.run("looking", || self.store.head(&self.key))?.e_tag)
    }

    /// The object's size in bytes.
    pub(crate) fn size(&self) -> Result<u64> {
        Ok(self.run("looking", || self.store.head(&self.key))?.size)
    }

    /// Puts the object, replacing what is there.
    pub fn put(&self, bytes: Bytes) -> Result<()> {
        if self.local.is_none() && bytes.len() > PIECE {
            let mut rest = bytes;
            return self.put_pieces(|| Ok(rest.split_to(rest.len().min(PIECE))), || Ok(true)).map(drop);
        }
        let payload = PutPayload::from_bytes(bytes);
        self.run("writing", || self.store.put(&self.key, payload.clone())).map(drop)
    }

    /// Puts the object only if nothing is there. What counts is what is read back: an answer can be lost on its way after
    /// the object was made, and some stores tell two racing writers that each has made it.
    pub fn create(&self, bytes: Bytes) -> Result<Created> {
        block_on(self.create_and_read(bytes)).map_err(|error| self.fault("creating", &error))
    }

    async fn create_and_read(&self, bytes: Bytes) -> Result<Created, StoreError> {
        let (begun, mut lost) = (Instant::now(), None);
        for attempt in 0..TRIES {
            if attempt > 0 && begun.elapsed() > s3::BUDGET {
                break;
            }
            pause(attempt).await;
            let payload = PutPayload::from_bytes(bytes.clone());
            let put = match self.store.put_opts(&self.key, payload.clone(), PutMode::Create.into()).await {
                // The probe refuses such a store: who comes here is its only writer, and says so.
                Err(error) if fault::lacks_create(&error) => self.store.put(&self.key, payload).await,
                put => put,
            };
            let is_made = match put {
                Ok(_) => true,
                // A store's client repeats a request whose answer was lost, and then finds its own object.
                Err(error @ (StoreError::AlreadyExists { .. } | StoreError::Precondition { .. })) => {
                    lost = Some(error);
                    false
                }
                Err(error) if fault::is_passing(&error) => {
                    lost = Some(error);
                    false
                }
                Err(error) => return Err(error),
            };
            match steadily(|| async { self.store.get(&self.key).await?.bytes().await }).await {
                Ok(found) if found == bytes => return Ok(if is_made { Created::New } else { Created::Same }),
                Ok(_) => return Ok(Created::Exists),
                // Refused for a writer that has not made it yet, or for one who removed it since: tried again.
                Err(StoreError::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let vanished = || StoreError::Generic { store: "S3", source: "what was accepted is not there".into() };
        Err(lost.unwrap_or_else(vanished))
    }

    /// Removes the object, if it is there.
    pub fn delete(&self) -> Result<()> {
        match self.run("removing", || self.store.delete(&self.key)) {
            Err(Error::NotFound { .. }) => Ok(()),
            removed => removed,
        }
    }

    /// Removes the objects at `places`, which are in one store.
    pub(crate) fn delete_all(places: &[&Self]) -> Result<()> {
        let Some(first) = places.first() else { return Ok(()) };
        let keys =
            || futures::stream::iter(places.iter().map(|place| Ok(place.key.clone())).collect::<Vec<_>>()).boxed();
        first.run("removing", || first.store.delete_stream(keys()).try_for_each(|_| async { Ok(()) }))
    }

    /// The objects below this prefix, sorted: name relative to it, and size in bytes.
    pub fn list(&self) -> Result<Vec<(String, u64)>> {
        Ok(self.entries()?.into_iter().map(|entry| (entry.name, entry.bytes)).collect())
    }

    /// The objects below this prefix, sorted by name.
    pub fn entries(&self) -> Result<Vec<Entry>> {
        let found: Vec<_> = self.run("listing", || self.store.list(Some(&self.key)).try_collect())?;
        let mut entries: Vec<Entry> = found
            .into_iter()
            .filter_map(|object| {
                let rest: Vec<_> = object.location.prefix_match(&self.key)?.collect();
                let name: Vec<&str> = rest.iter().map(AsRef::as_ref).collect();
                let modified_ms = u64::try_from(object.last_modified.timestamp_millis()).unwrap_or(0);
                Some(Entry { name: name.join("/"), bytes: object.size, modified_ms })
            })
            .collect();
        entries.sort();
        Ok(entries)
    }

    /// The store this place is in, for readers of their own. For S3 it is the bucket.
    pub fn store(&self) -> Arc<dyn ObjectStore> {
        self.store.clone()
    }

    pub(crate) fn store_ref(&self) -> &dyn ObjectStore {
        self.store.as_ref()
    }

    /// The object's name in its store.
    pub(crate) fn key(&self) -> &Key {
        &self.key
    }

    /// Does an operation that may be done twice.
    pub(crate) fn run<T, F>(&self, what: &'static str, operation: impl Fn() -> F) -> Result<T>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        block_on(steadily(operation)).map_err(|error| self.fault(what, &error))
    }

    pub(crate) fn fault(&self, what: &'static str, source: &StoreError) -> Error {
        fault::fault(&self.uri, what, source)
    }
}

/// Does an operation that may be done twice, again where its outcome was lost.
pub(crate) async fn steadily<T, F>(operation: impl Fn() -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    let begun = Instant::now();
    for attempt in 1..TRIES {
        match operation().await {
            Err(error) if fault::is_passing(&error) && begun.elapsed() < s3::BUDGET => pause(attempt).await,
            done => return done,
        }
    }
    operation().await
}

/// Waits before a try that is not the first.
async fn pause(attempt: u32) {
    if attempt > 0 {
        tokio::time::sleep(PAUSE * 2u32.pow(attempt - 1)).await;
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
    use crate::faulty::{Fate, Faulty};

    #[test]
    fn an_object_is_created_once_and_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let place = Location::open(folder.path().to_str().unwrap()).unwrap().join("a/b.json");
        assert_eq!(place.create(Bytes::from_static(b"first")).unwrap(), Created::New);
        assert_eq!(place.create(Bytes::from_static(b"second")).unwrap(), Created::Exists);
        assert_eq!(place.get().unwrap(), "first");
    }

    /// What comes of creating an object in a store whose puts have these fates, and what is there then.
    fn created(puts: &[Fate]) -> (Created, Bytes) {
        let place = Faulty::place(puts, &[Fate::Lost]);
        let created = place.create(Bytes::from_static(b"ours")).unwrap();
        (created, place.get().unwrap())
    }

    #[test]
    fn an_object_whose_creation_was_not_answered_is_found_by_reading_back() {
        let ours = Bytes::from_static(b"ours");
        assert_eq!(created(&[Fate::Done]), (Created::New, ours.clone()));
        assert_eq!(created(&[Fate::AnswerLost]), (Created::Same, ours.clone()));
        assert_eq!(created(&[Fate::Lost, Fate::AnswerLost]), (Created::Same, ours.clone()));
        assert_eq!(created(&[Fate::Lost, Fate::Lost, Fate::Done]), (Created::New, ours.clone()));
        assert_eq!(created(&[Fate::Conflict, Fate::Done]), (Created::New, ours));
    }

    #[test]
    fn an_object_that_another_made_meanwhile_counts_whatever_the_store_says() {
        for fate in [Fate::Done, Fate::Lost, Fate::AnswerLost, Fate::Conflict, Fate::Pretended] {
            let place = Faulty::place(&[Fate::Done, fate], &[]);
            assert_eq!(place.create(Bytes::from_static(b"theirs")).unwrap(), Created::New);
            assert_eq!(place.create(Bytes::from_static(b"ours")).unwrap(), Created::Exists, "{fate:?}");
            assert_eq!(place.get().unwrap(), "theirs");
        }
    }

    #[test]
    fn the_only_writer_of_a_store_without_create_only_puts_can_write() {
        assert_eq!(created(&[Fate::Unknown]), (Created::New, Bytes::from_static(b"ours")));
    }

    #[test]
    fn what_stays_lost_is_a_storage_fault_that_names_the_place() {
        let place = Faulty::place(&[Fate::Lost; 9], &[]);
        let error = place.create(Bytes::from_static(b"ours")).unwrap_err();
        assert!(matches!(error, Error::Storage { .. }));
        let said = error.to_string();
        assert!(said.starts_with("s3://faulty/a: creating failed: the connection to "), "{said}");
        assert!(said.ends_with("broke: connection reset; run it again: what is done stays done"), "{said}");
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
    fn the_folders_below_a_place_are_named_without_what_lies_in_them() {
        let folder = tempfile::tempdir().unwrap();
        let root = Location::open(folder.path().to_str().unwrap()).unwrap();
        for name in ["b/x/y", "a b/x", "file"] {
            root.join(name).put(Bytes::from_static(b"12")).unwrap();
        }
        assert_eq!(root.folders().unwrap(), ["a b", "b"]);
        assert_eq!(root.join("missing").folders().unwrap(), Vec::<String>::new());
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
