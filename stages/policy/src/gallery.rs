//! Pictures that were looked at: their features, kept by key as long as they fit, so that a picture which many pairs
//! show is decoded, prepared and looked at once.

use std::collections::{BTreeMap, HashMap, HashSet};

use image::RgbImage;
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::policy::Features;
use crate::processor::Pixels;

/// Names what a picture shows: pictures of equal keys are taken to be equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PictureKey([u8; 32]);

impl PictureKey {
    /// The key of what a picture is made of, such as a file's bytes and a recipe.
    pub fn of_parts(parts: &[&[u8]]) -> Self {
        let mut hasher = blake3::Hasher::new();
        for part in parts {
            hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
        }
        Self(hasher.finalize().into())
    }

    /// The key of pixels.
    pub fn of_pixels(picture: &RgbImage) -> Self {
        Self::of_parts(&[&picture.width().to_le_bytes(), &picture.height().to_le_bytes(), picture.as_raw()])
    }
}

/// Features of one policy by picture, at most so many bytes of them; the least recently used go first. They are of the
/// weights as they were: [`Gallery::clear`] it when these change.
#[derive(Debug)]
pub struct Gallery {
    limit: usize,
    bytes: usize,
    /// Features, and when they were last asked for.
    held: HashMap<PictureKey, (Features, u64)>,
    /// Keys by when they were last asked for.
    order: BTreeMap<u64, PictureKey>,
    now: u64,
}

impl Gallery {
    /// An empty one that keeps at most `limit` bytes. A picture of 512x384 pixels has 3.6 MB in the 7B model.
    pub fn new(limit: usize) -> Self {
        Self { limit, bytes: 0, held: HashMap::new(), order: BTreeMap::new(), now: 0 }
    }

    /// The features of each of `pictures`, in their order. Of those that are not kept, `prepare` makes what the vision
    /// tower reads, on several threads, for the next pictures while `see` looks at these ([`Policy::look_all`]); never
    /// more than two to a thread are in memory. All features that are asked for at a time are held, kept or not.
    ///
    /// # Errors
    /// What `prepare` and `see` say. What was seen before is kept.
    ///
    /// [`Policy::look_all`]: crate::policy::Policy::look_all
    pub fn look<T: Sync, E: From<Error> + Send>(
        &mut self,
        pictures: &[(PictureKey, T)],
        prepare: impl Fn(&T) -> std::result::Result<Pixels, E> + Sync,
        see: impl Fn(&[Pixels]) -> Result<Vec<Features>> + Sync,
    ) -> std::result::Result<Vec<Features>, E> {
        let mut seen: HashMap<PictureKey, Features> = HashMap::new();
        let mut unseen = Vec::new();
        let mut asked = HashSet::new();
        for picture in pictures.iter().filter(|picture| asked.insert(picture.0)) {
            match self.get(&picture.0) {
                Some(features) => drop(seen.insert(picture.0, features)),
                None => unseen.push(picture),
            }
        }
        let prepare_all = |window: &[&(PictureKey, T)]| {
            window.par_iter().map(|(_, picture)| prepare(picture)).collect::<std::result::Result<Vec<Pixels>, E>>()
        };
        // Two windows at a time: the model looks at one while the next is decoded and prepared.
        let mut windows = unseen.chunks(rayon::current_num_threads());
        let mut coming = windows.next().map(|window| (window, prepare_all(window)));
        while let Some((window, pixels)) = coming {
            let pixels = pixels?;
            let after = windows.next();
            let (looked, prepared) = rayon::join(|| see(&pixels), || after.map(|window| (window, prepare_all(window))));
            for ((key, _), features) in window.iter().zip(looked?) {
                self.keep(*key, &features);
                seen.insert(*key, features);
            }
            coming = prepared;
        }
        Ok(pictures.iter().filter_map(|(key, _)| seen.get(key).cloned()).collect())
    }

    /// Bytes of features that are kept.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Forgets all features, for the weights have changed.
    pub fn clear(&mut self) {
        *self = Self::new(self.limit);
    }

    fn get(&mut self, key: &PictureKey) -> Option<Features> {
        let (features, last) = self.held.get_mut(key)?;
        self.now += 1;
        self.order.remove(last);
        self.order.insert(self.now, *key);
        *last = self.now;
        Some(features.clone())
    }

    /// Keeps features, in place of the least recently used ones where there is no room. What is larger than all the room
    /// is not kept.
    fn keep(&mut self, key: PictureKey, features: &Features) {
        let size = bytes(features);
        if size > self.limit {
            return;
        }
        while self.bytes + size > self.limit {
            let Some((_, oldest)) = self.order.pop_first() else { break };
            if let Some((dropped, _)) = self.held.remove(&oldest) {
                self.bytes -= bytes(&dropped);
            }
        }
        self.now += 1;
        self.bytes += size;
        self.order.insert(self.now, key);
        self.held.insert(key, (features.clone(), self.now));
    }
}

fn bytes(features: &Features) -> usize {
    features.tensor.elem_count() * features.tensor.dtype().size_in_bytes()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::ops::Floats;
    use crate::policy::Policy;
    use crate::sample::tests::policy;

    /// A picture of its own for each number, all of one size.
    fn picture(n: u8) -> RgbImage {
        RgbImage::from_fn(60, 40, |x, y| image::Rgb([n, (x * 3) as u8 ^ n, (y * 5) as u8]))
    }

    fn keyed(numbers: &[u8]) -> Vec<(PictureKey, u8)> {
        numbers.iter().map(|&n| (PictureKey::of_parts(&[&[n]]), n)).collect()
    }

    /// Looks at the pictures of these numbers: their features, and how many were loaded.
    fn look(gallery: &mut Gallery, policy: &Policy, numbers: &[u8]) -> (Vec<Vec<f32>>, usize) {
        let loads = AtomicUsize::new(0);
        let prepare = |&n: &u8| {
            loads.fetch_add(1, Ordering::Relaxed);
            policy.pixels(&picture(n))
        };
        let seen = gallery.look(&keyed(numbers), prepare, |pixels| policy.look_all(pixels)).unwrap();
        (seen.iter().map(values).collect(), loads.into_inner())
    }

    fn values(features: &Features) -> Vec<f32> {
        Floats::of(&features.tensor).unwrap().to_vec()
    }

    fn size_of_one(policy: &Policy) -> usize {
        bytes(&policy.look(&policy.pixels(&picture(1)).unwrap()).unwrap())
    }

    #[test]
    fn features_are_those_of_each_picture_alone_on_any_number_of_threads() {
        let policy = policy();
        let numbers: Vec<u8> = (0..9).chain([3, 0]).collect();
        let alone = |&n: &u8| values(&policy.look(&policy.pixels(&picture(n)).unwrap()).unwrap());
        let alone: Vec<Vec<f32>> = numbers.iter().map(alone).collect();
        for threads in [1, 2, 5] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let (seen, loads) = pool.install(|| look(&mut Gallery::new(usize::MAX), &policy, &numbers));
            assert!(seen == alone, "{threads} threads");
            assert_eq!(loads, 9);
        }
    }

    #[test]
    fn a_picture_is_looked_at_once() {
        let (policy, mut gallery) = (policy(), Gallery::new(usize::MAX));
        let (first, loads) = look(&mut gallery, &policy, &[1, 2, 1, 3]);
        assert_eq!(loads, 3);
        let (again, loads) = look(&mut gallery, &policy, &[3, 1, 4, 2]);
        assert_eq!(loads, 1);
        assert!(again[0] == first[3] && again[1] == first[0] && again[3] == first[1]);
        assert_eq!(gallery.bytes(), 4 * size_of_one(&policy));
    }

    #[test]
    fn the_least_recently_used_go_first_and_the_bytes_stay_within_the_limit() {
        let policy = policy();
        let room = 3 * size_of_one(&policy);
        let mut gallery = Gallery::new(room);
        // 1 is used again before 4 takes a place, which is then 2's.
        for (numbers, loads) in [(vec![1, 2, 3], 3), (vec![1], 0), (vec![4], 1), (vec![1, 3, 4], 0), (vec![2], 1)] {
            assert_eq!(look(&mut gallery, &policy, &numbers).1, loads, "{numbers:?}");
            assert!(gallery.bytes() <= room);
        }
    }

    #[test]
    fn more_than_the_limit_is_given_and_not_kept() {
        let policy = policy();
        let mut gallery = Gallery::new(size_of_one(&policy) - 1);
        assert_eq!(look(&mut gallery, &policy, &[1, 2]).0.len(), 2);
        assert_eq!(gallery.bytes(), 0);
        let mut gallery = Gallery::new(2 * size_of_one(&policy));
        let (seen, _) = look(&mut gallery, &policy, &[1, 2, 3, 4, 5]);
        assert!((0..5).all(|n| (0..n).all(|other| seen[n] != seen[other])));
        assert_eq!(gallery.bytes(), 2 * size_of_one(&policy));
    }

    #[test]
    fn a_cleared_gallery_looks_anew() {
        let (policy, mut gallery) = (policy(), Gallery::new(usize::MAX));
        look(&mut gallery, &policy, &[1]);
        gallery.clear();
        assert_eq!((gallery.bytes(), look(&mut gallery, &policy, &[1]).1), (0, 1));
    }

    #[test]
    fn what_preparing_and_looking_say_is_passed_on_and_what_was_seen_is_kept() {
        let (policy, mut gallery) = (policy(), Gallery::new(usize::MAX));
        let prepare = |&n: &u8| policy.pixels(&if n == 7 { RgbImage::new(1, 500) } else { picture(n) });
        let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        let seen = one.install(|| gallery.look(&keyed(&[1, 7]), prepare, |pixels| policy.look_all(pixels)));
        let message = seen.unwrap_err().to_string();
        assert!(message.contains("1x500"), "{message}");
        assert_eq!(look(&mut gallery, &policy, &[1]).1, 0);
        let blind = |_: &[Pixels]| Err(Error::NoSuchTensor { name: "it".to_owned() });
        assert!(matches!(gallery.look(&keyed(&[8]), prepare, blind), Err(Error::NoSuchTensor { .. })));
    }

    #[test]
    fn keys_tell_parts_and_shapes_apart() {
        let parts: [&[&[u8]]; 4] = [&[b"ab", b"c"], &[b"a", b"bc"], &[b"abc"], &[b"abc", b""]];
        let mut keys: Vec<PictureKey> = parts.into_iter().map(PictureKey::of_parts).collect();
        keys.extend([RgbImage::new(2, 3), RgbImage::new(3, 2)].iter().map(PictureKey::of_pixels));
        assert_eq!(keys.iter().collect::<HashSet<_>>().len(), 6);
        assert_eq!(PictureKey::of_pixels(&picture(1)), PictureKey::of_pixels(&picture(1)));
    }
}
