//! Parsed trees that the threads of one replay share: stacks on one trunk read the same trees.
//!
//! Only what the repository holds comes in here, and never an answer that could be another later:
//! an object's content is its id's.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use backstack_schemas::ObjectId;

use super::tree::Tree;

/// Trees are forgotten, all at once, when their content exceeds this many bytes.
const LIMIT: usize = 32 * 1024 * 1024;

/// Trees by id; clones share them.
#[derive(Clone, Default)]
pub(super) struct TreeCache {
    trees: Arc<Mutex<Trees>>,
}

/// Trees by id, bounded.
#[derive(Default)]
pub(super) struct Trees {
    by_id: HashMap<ObjectId, Arc<Tree>>,
    bytes: usize,
}

impl Trees {
    pub fn get(&self, id: ObjectId) -> Option<Arc<Tree>> {
        self.by_id.get(&id).cloned()
    }

    pub fn insert(&mut self, id: ObjectId, tree: Arc<Tree>) {
        if self.bytes > LIMIT {
            self.by_id.clear();
            self.bytes = 0;
        }
        self.bytes += tree.raw().len();
        self.by_id.insert(id, tree);
    }

    pub fn remove(&mut self, id: ObjectId) {
        if let Some(tree) = self.by_id.remove(&id) {
            self.bytes -= tree.raw().len();
        }
    }
}

impl TreeCache {
    pub fn get(&self, id: ObjectId) -> Option<Arc<Tree>> {
        // A thread that panicked in here left whole trees behind.
        let trees = self.trees.lock().unwrap_or_else(PoisonError::into_inner);
        trees.get(id)
    }

    pub fn insert(&self, id: ObjectId, tree: Arc<Tree>) {
        let mut trees = self.trees.lock().unwrap_or_else(PoisonError::into_inner);
        trees.insert(id, tree);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trees_are_forgotten_before_they_take_all_memory() {
        let cache = TreeCache::default();
        let mut raw = b"100644 ".to_vec();
        raw.extend(vec![b'n'; LIMIT / 4]);
        raw.extend([0; 21]);
        let tree = Arc::new(Tree::parse(raw.into()).unwrap());
        let id = |n| ObjectId::from_bytes([n; 20]);
        for n in 0..4 {
            cache.insert(id(n), Arc::clone(&tree));
        }
        assert!(cache.get(id(0)).is_some());
        cache.insert(id(4), tree);
        assert!(cache.get(id(0)).is_none() && cache.get(id(4)).is_some());
    }
}
