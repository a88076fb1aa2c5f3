//! What is to be replayed onto what. A plan is made without writing anything; a dry run stops after
//! replaying it in memory.

use backstack_schemas::outcome::Skipped;
use backstack_schemas::{BranchName, ObjectId};

/// What an action asks of the stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Goal {
    /// Every tracked branch onto its parent.
    All,
    /// `branch` and its descendants.
    Subtree(BranchName),
    /// `branch` alone.
    Only(BranchName),
    /// `branch` onto another parent, and its descendants after it.
    Reparent {
        /// The branch that gets another parent.
        branch: BranchName,
        /// The new parent: trunk or a tracked branch.
        parent: BranchName,
        /// Where its own commits start, where the publisher says so.
        base: Option<ObjectId>,
    },
}

/// What to do with each branch that a goal concerns; parents come before their children.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Branches to be replayed, parents first.
    pub replays: Vec<BranchReplay>,
    /// Branches that stand on their parent's head already, with the base that is thereby known.
    pub up_to_date: Vec<UpToDate>,
    /// Branches that are left as they are, descendants of such branches included.
    pub skipped: Vec<Skipped>,
}

/// A branch whose own commits are to be replayed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BranchReplay {
    /// The branch.
    pub branch: BranchName,
    /// The branch it stands on (for `Reparent`, the new one).
    pub parent: BranchName,
    /// Its head after the fetch: the lease of the push.
    pub head: ObjectId,
    /// What its commits go onto.
    pub onto: Onto,
    /// Its own commits that are to be replayed, in topological order, oldest first; no merges.
    pub commits: Vec<ObjectId>,
    /// Own merge commits that are flattened away; each is git's own automatic merge.
    pub flattened: Vec<ObjectId>,
}

/// What a branch's commits go onto.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Onto {
    /// This commit.
    Commit(ObjectId),
    /// The head that an earlier [`BranchReplay`] of the same plan gives this branch.
    Planned(BranchName),
}

/// A branch that needs no replay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpToDate {
    /// The branch.
    pub branch: BranchName,
    /// Its parent's head, which is its base from now on.
    pub base: ObjectId,
}
