//! A [`Merger`] answers what merged detection and the facts of rows ask about merges.

use backstack_schemas::ObjectId;

use super::{Merge, Merger};
use crate::error::EngineError;
use crate::merged::TreeMerger;

impl TreeMerger for Merger {
    fn clean_merge(
        &mut self,
        base: ObjectId,
        ours: ObjectId,
        theirs: ObjectId,
    ) -> Result<Option<ObjectId>, EngineError> {
        self.merge_trees(base, ours, theirs).map(clean)
    }

    fn clean_merge_of_commits(
        &mut self,
        ours: ObjectId,
        theirs: ObjectId,
    ) -> Result<Option<ObjectId>, EngineError> {
        self.merge_commits(ours, theirs).map(clean)
    }
}

fn clean(merge: Merge) -> Option<ObjectId> {
    match merge {
        Merge::Clean(tree) => Some(tree),
        Merge::Conflict(_) => None,
    }
}
