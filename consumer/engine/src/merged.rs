//! Is a branch merged? Contract, section 4, "Merged".
//!
//! Guarantees: a branch is called merged only where all it changes has landed on trunk and nothing
//! later took exactly that back. Whether a trunk commit is a branch's change is decided by git's
//! merge giving exactly that commit's tree, never by a likeness. On any doubt (no recorded base, a
//! base that is gone, several merge bases, an undo that cannot be reconstructed) the branch is not
//! merged: it stays in the stack, where a replay finds out what is left of it.
//!
//! Never: writes to the repository, or judges a branch by its name.
//!
//! ```text
//!  candidates ──► Case: own commits, what they change ──┐
//!                                                       ├──► verdict: landings, undone or not
//!  trunk ──► Trunk: new commits, by touched paths ──────┘         │
//!                                                         TreeMerger (exactness)
//! ```
//!
//! # Fast-forwards, and branches that only follow trunk
//!
//! After a fast-forward merge the branch's head is on trunk; so it is when someone moved a branch
//! without commits of its own along with trunk. The commit graph is the same. What tells them apart
//! is the head that was recorded before the fetch: at least one own commit must have been on the
//! branch then, as it is or as the commit that it was rebased into.

mod case;
mod change;
mod trunk;
mod verdict;

use backstack_schemas::outcome::MergedHow;
use backstack_schemas::{BranchName, ObjectId};
use git2::Repository;

use crate::control::Control;
use crate::error::EngineError;
use crate::tree_diff::oid;
use case::Case;
use change::Wanted;
use trunk::Trunk;

/// Merges as git does (`git merge-tree --write-tree`), without a work tree.
pub trait TreeMerger {
    /// The tree that the change from `base` to `theirs` gives on `ours`, all of them trees; `None`
    /// on a conflict.
    ///
    /// # Errors
    ///
    /// Where the merge could not be tried at all.
    fn clean_merge(
        &mut self,
        base: ObjectId,
        ours: ObjectId,
        theirs: ObjectId,
    ) -> Result<Option<ObjectId>, EngineError>;

    /// The tree that merging the commit `theirs` into the commit `ours` gives, on the merge bases
    /// that git finds; `None` on a conflict.
    ///
    /// # Errors
    ///
    /// Where the merge could not be tried at all.
    fn clean_merge_of_commits(
        &mut self,
        ours: ObjectId,
        theirs: ObjectId,
    ) -> Result<Option<ObjectId>, EngineError>;
}

/// A tracked branch that may be merged, as its row and the newest fetch tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The branch.
    pub branch: BranchName,
    /// The branch it stands on: trunk or another candidate.
    pub parent: BranchName,
    /// Its recorded base, before any healing. Without one it is never merged.
    pub base: Option<ObjectId>,
    /// Its newest head: the fetched one, or the recorded one where the fetch found the branch gone.
    pub head: ObjectId,
    /// The head in its row, from before the fetch. Without one it is never merged by its head being
    /// an ancestor of trunk.
    pub recorded_head: Option<ObjectId>,
    /// Its parent's newest head; `None` where the parent is gone.
    pub parent_head: Option<ObjectId>,
}

/// The candidates that are merged into the commit `trunk_head`, and how; in their order.
///
/// The cost is one walk over trunk's commits since the oldest merge base, reading only directories
/// that a candidate touches as well, and a merge for each commit that looks like a candidate's
/// change or its inverse.
///
/// # Errors
///
/// What `control` and `merge` say; [`EngineError::Internal`] where the repository lacks an object
/// of trunk's history. A candidate's missing commits make it not merged.
pub fn find(
    repo: &Repository,
    trunk_head: ObjectId,
    candidates: &[Candidate],
    merge: &mut dyn TreeMerger,
    control: &Control,
) -> Result<Vec<(BranchName, MergedHow)>, EngineError> {
    let head = oid(trunk_head)?;
    let mut cases = Vec::new();
    for candidate in candidates {
        control.check()?;
        cases.extend(Case::of(repo, head, candidate)?);
    }
    if cases.is_empty() {
        return Ok(Vec::new());
    }
    case::share_chains(repo, &mut cases)?;
    let trunk = read_trunk(repo, head, &mut cases, control)?;
    let mut found = Vec::new();
    for case in &cases {
        control.check()?;
        if let Some(how) = verdict::of(repo, &trunk, case, merge, control)? {
            found.push((case.branch.clone(), how));
        }
    }
    Ok(found)
}

/// Trunk's new commits, with those changes that touch just what a case touches.
fn read_trunk(
    repo: &Repository,
    head: git2::Oid,
    cases: &mut [Case],
    control: &Control,
) -> Result<Trunk, EngineError> {
    let mut bases: Vec<_> = cases.iter().flat_map(Case::starts).collect();
    bases.sort_unstable();
    bases.dedup();
    let mut trunk = Trunk::read(repo, head, &bases, control)?;
    let mut wanted = Wanted::default();
    for case in cases {
        case.find_merge(repo, &trunk)?;
        for change in case.changes() {
            wanted.add(repo, change)?;
        }
    }
    trunk.read_changes(repo, &wanted, control)?;
    Ok(trunk)
}
