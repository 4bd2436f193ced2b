//! Decoded pictures kept in memory, as many as fit; the oldest goes first.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use image::RgbImage;

/// Pictures by key, bounded by the bytes of their samples. Shared between threads.
#[derive(Debug)]
pub(crate) struct Cache<K> {
    limit: usize,
    held: Mutex<Held<K>>,
}

#[derive(Debug)]
struct Held<K> {
    pictures: HashMap<K, Arc<RgbImage>>,
    /// The keys, oldest first.
    order: VecDeque<K>,
    bytes: usize,
}

impl<K: Copy + Eq + Hash> Cache<K> {
    /// An empty cache of at most `limit` bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, held: Mutex::new(Held { pictures: HashMap::new(), order: VecDeque::new(), bytes: 0 }) }
    }

    /// The picture under `key`, or else what `make` gives, which is then kept. Two threads may both make it.
    pub(crate) fn get_or<E>(&self, key: K, make: impl FnOnce() -> Result<RgbImage, E>) -> Result<Arc<RgbImage>, E> {
        if let Some(found) = self.lock().pictures.get(&key) {
            return Ok(found.clone());
        }
        let picture = Arc::new(make()?);
        self.keep(key, &picture);
        Ok(picture)
    }

    fn keep(&self, key: K, picture: &Arc<RgbImage>) {
        let mut held = self.lock();
        if picture.as_raw().len() > self.limit || held.pictures.contains_key(&key) {
            return;
        }
        held.bytes += picture.as_raw().len();
        held.pictures.insert(key, picture.clone());
        held.order.push_back(key);
        while held.bytes > self.limit {
            let Some(oldest) = held.order.pop_front() else { break };
            if let Some(dropped) = held.pictures.remove(&oldest) {
                held.bytes -= dropped.as_raw().len();
            }
        }
    }

    /// A thread that died while it held the lock left nothing half done that matters: at worst a picture is made again.
    fn lock(&self) -> MutexGuard<'_, Held<K>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(cache: &Cache<u32>, key: u32, made: &mut Vec<u32>) -> Arc<RgbImage> {
        let make = || {
            made.push(key);
            Ok::<_, ()>(RgbImage::from_pixel(10, 10, image::Rgb([key as u8; 3])))
        };
        cache.get_or(key, make).unwrap()
    }

    #[test]
    fn what_fits_is_made_once_and_the_oldest_goes_first() {
        let cache = Cache::new(2 * 300);
        let mut made = Vec::new();
        for key in [1, 2, 1, 2, 3, 2, 3, 1] {
            assert_eq!(get(&cache, key, &mut made).get_pixel(0, 0).0[0], key as u8);
        }
        assert_eq!(made, [1, 2, 3, 1]);
    }

    #[test]
    fn a_picture_over_the_limit_is_given_and_not_kept() {
        let cache = Cache::new(299);
        let mut made = Vec::new();
        get(&cache, 1, &mut made);
        get(&cache, 1, &mut made);
        assert_eq!(made, [1, 1]);
    }
}
