//! What has been read, kept for the next who asks: bounded, and shared by the threads of one replay
//! where stacks on one trunk read the same.
//!
//! Only what the repository holds comes in here, and never an answer that could be another later:
//! an object's content is its id's.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use backstack_schemas::ObjectId;

use super::tree::Tree;

/// A value by its size.
pub(super) trait Weighed {
    /// Bytes of the content it holds.
    fn bytes(&self) -> usize;
}

impl Weighed for Arc<Tree> {
    fn bytes(&self) -> usize {
        self.raw().len()
    }
}

/// Values by key; all are forgotten at once when their content exceeds a limit.
pub(super) struct Cache<K, V> {
    values: HashMap<K, V>,
    bytes: usize,
    limit: usize,
}

impl<K: Eq + Hash, V: Clone + Weighed> Cache<K, V> {
    /// An empty one that holds `limit` bytes and the last value that came.
    pub fn new(limit: usize) -> Self {
        Self {
            values: HashMap::new(),
            bytes: 0,
            limit,
        }
    }

    pub fn get(&self, key: &K) -> Option<V> {
        self.values.get(key).cloned()
    }

    pub fn insert(&mut self, key: K, value: V) {
        if self.bytes > self.limit {
            self.values.clear();
            self.bytes = 0;
        }
        self.bytes += value.bytes();
        if let Some(old) = self.values.insert(key, value) {
            self.bytes -= old.bytes();
        }
    }

    pub fn remove(&mut self, key: &K) {
        if let Some(value) = self.values.remove(key) {
            self.bytes -= value.bytes();
        }
    }
}

/// How many parts a shared cache has, each with a lock of its own.
const PARTS: usize = 16;

/// Objects by id, for all threads; clones share them.
pub(super) struct SharedCache<V>(Arc<[Mutex<Cache<ObjectId, V>>; PARTS]>);

impl<V> Clone for SharedCache<V> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<V: Clone + Weighed> SharedCache<V> {
    /// An empty one. Each part holds its share of `limit` bytes and the last value that came.
    pub fn new(limit: usize) -> Self {
        let part = |_| Mutex::new(Cache::new(limit / PARTS));
        Self(Arc::new(std::array::from_fn(part)))
    }

    pub fn get(&self, id: &ObjectId) -> Option<V> {
        self.part(id).get(id)
    }

    pub fn insert(&self, id: ObjectId, value: V) {
        self.part(&id).insert(id, value);
    }

    fn part(&self, id: &ObjectId) -> MutexGuard<'_, Cache<ObjectId, V>> {
        let at = usize::from(id.as_bytes()[0]) % PARTS;
        // A thread that panicked in here left whole values behind.
        self.0[at].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_forgotten_before_they_take_all_memory() {
        let mut cache = Cache::new(1_000);
        let mut raw = b"100644 ".to_vec();
        raw.extend(vec![b'n'; 250]);
        raw.extend([0; 21]);
        let tree = Arc::new(Tree::parse(raw.into()).unwrap());
        for n in 0..4 {
            cache.insert(n, Arc::clone(&tree));
        }
        assert!(cache.get(&0).is_some());
        cache.insert(4, Arc::clone(&tree));
        assert!(cache.get(&0).is_none() && cache.get(&4).is_some());
        // A value that comes again takes no more room.
        for _ in 0..9 {
            cache.insert(5, Arc::clone(&tree));
        }
        assert!(cache.get(&4).is_some() && cache.get(&5).is_some());
    }

    #[test]
    fn what_is_shared_is_found_in_every_part() {
        let cache = SharedCache::new(1_000);
        let other = cache.clone();
        for byte in 0..=u8::MAX {
            other.insert(ObjectId::from_bytes([byte; 20]), Arc::new(Tree::default()));
        }
        let known = |byte| cache.get(&ObjectId::from_bytes([byte; 20])).is_some();
        assert!((0..=u8::MAX).all(known));
        assert!(
            cache
                .get(&ObjectId::from_bytes([1, 2].repeat(10).try_into().unwrap()))
                .is_none()
        );
    }
}
