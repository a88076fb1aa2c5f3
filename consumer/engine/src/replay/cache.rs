//! What has been read, kept for the next who asks: bounded, and shared by the threads of one replay
//! where stacks on one trunk read the same.
//!
//! Only what the repository holds comes in here, and never an answer that could be another later:
//! an object's content is its id's.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

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

/// A cache of all threads; clones share it.
pub(super) struct SharedCache<K, V>(Arc<Mutex<Cache<K, V>>>);

impl<K, V> Clone for SharedCache<K, V> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K: Eq + Hash, V: Clone + Weighed> SharedCache<K, V> {
    /// As [`Cache::new`].
    pub fn new(limit: usize) -> Self {
        Self(Arc::new(Mutex::new(Cache::new(limit))))
    }

    pub fn get(&self, key: &K) -> Option<V> {
        // A thread that panicked in here left whole values behind.
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(key)
    }

    pub fn insert(&self, key: K, value: V) {
        let mut cache = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        cache.insert(key, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_forgotten_before_they_take_all_memory() {
        let cache = SharedCache::new(1_000);
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
}
