//! Whether a store can keep writers apart: many at once create one object, and exactly one may win.

use std::hash::{BuildHasher, RandomState};

use bytes::Bytes;
use futures::future::join_all;
use object_store::{Error as StoreError, ObjectStore, ObjectStoreExt, PutMode, PutPayload};

use crate::files::remove_empty_folder;
use crate::location::{block_on, steadily};
use crate::{Error, Location, Result, fault};

/// How many create one object at once. Two in a row would not find a store that looks first and writes then.
const CREATORS: usize = 16;
/// How often.
const ROUNDS: usize = 3;
/// How the names begin of the objects that are created.
pub(crate) const NAME: &str = ".probe-";

impl Location {
    /// Tries whether the store lets exactly one of many concurrent writers create an object below this prefix; if not, two
    /// runs could damage each other's artifacts, and it is refused. The objects are removed.
    pub fn probe(&self) -> Result<()> {
        // The names need not be the same from run to run: they must differ.
        let nonce = RandomState::new().hash_one(std::process::id());
        for round in 0..ROUNDS {
            let place = self.join(&format!("{NAME}{nonce:016x}-{round}"));
            let tried = block_on(race(&place, &format!("{nonce:016x}")));
            let deleted = place.delete();
            match tried.map_err(|error| place.fault("creating", &error))? {
                None => deleted?,
                Some(what) => return Err(Error::NoCreateOnly { uri: self.uri().to_owned(), what }),
            }
        }
        // A bucket has no folders; on a disk an empty one would stay.
        self.local().map(remove_empty_folder);
        Ok(())
    }
}

/// Lets all creators loose on `place`; gives what is wrong with the store, if something is.
async fn race(place: &Location, nonce: &str) -> Result<Option<String>, StoreError> {
    // Long enough for a write to take a while.
    let content = |creator: usize| Bytes::from(format!("{creator:02} {nonce}\n").repeat(100));
    let create = |creator: usize| {
        let (store, key) = (place.store(), place.key().clone());
        let payload = PutPayload::from_bytes(content(creator));
        tokio::spawn(async move { store.put_opts(&key, payload, PutMode::Create.into()).await })
    };
    let mut winners = Vec::new();
    for (creator, told) in join_all((0..CREATORS).map(create)).await.into_iter().enumerate() {
        match told.expect("a creator does not panic") {
            Ok(_) => winners.push(creator),
            Err(StoreError::AlreadyExists { .. } | StoreError::Precondition { .. }) => {}
            Err(error) if fault::lacks_create(&error) => {
                return Ok(Some("does not know create-only puts".to_owned()));
            }
            // Nobody knows whether it won.
            Err(error) if fault::is_passing(&error) => {}
            Err(error) => return Err(error),
        }
    }
    let found = steadily(|| async { place.store_ref().get(place.key()).await?.bytes().await }).await?;
    Ok(judge(&winners, (0..CREATORS).find(|&creator| content(creator) == found)))
}

/// What is wrong with a store that told `winners` that they had won, and holds what `kept` wrote.
fn judge(winners: &[usize], kept: Option<usize>) -> Option<String> {
    let told = winners.len();
    match (winners, kept) {
        (_, None) => Some("gave back what nobody had written".to_owned()),
        // A winner's answer can be lost; its request is repeated, and told that it lost to itself.
        ([], Some(_)) => None,
        ([winner], Some(kept)) if *winner == kept => None,
        ([_], Some(_)) => Some("told one creator of an object that it had won, and kept another's".to_owned()),
        _ => Some(format!(
            "does not honour create-only puts: {told} of {CREATORS} concurrent creators of one object were told they won"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_keeps_writers_apart_and_nothing_is_left_there() {
        let folder = tempfile::tempdir().unwrap();
        let place = Location::open(folder.path().to_str().unwrap()).unwrap();
        place.probe().unwrap();
        assert!(!folder.path().exists());
    }

    #[test]
    fn exactly_one_may_win_and_its_object_must_be_there() {
        assert_eq!(judge(&[3], Some(3)), None);
        assert_eq!(judge(&[], Some(3)), None);
        assert!(judge(&[3], Some(4)).unwrap().contains("kept another's"));
        assert!(judge(&[3, 4], Some(4)).unwrap().contains("2 of 16"));
        assert!(judge(&[3], None).is_some());
    }
}
