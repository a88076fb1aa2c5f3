//! What is to be replayed onto what. A plan is made without writing anything; a dry run stops after
//! replaying it in memory.
//!
//! [`plan`] goes through the branches that the goal concerns, parents first, and decides each by what
//! became of its parent:
//!
//! ```text
//!  parent replayed ───────────────────────────► replayed onto what it becomes
//!  parent stays  ──┬─ its head is in the branch ► up to date
//!                  └─ else ─────────────────────► replayed onto its head
//!  parent stopped ────────────────────────────► stopped for the same reason
//! ```
//!
//! A plan that would need work dropped is not made: the branch is stopped, with all that stands on
//! it. Where the goal is one branch, that is a [`Refusal`].

mod planner;
mod refusal;

use backstack_schemas::outcome::Skipped;
use backstack_schemas::{BranchName, ObjectId};

use crate::graph::Stack;
use crate::history::History;

pub(crate) use self::refusal::check_parent;
pub use self::refusal::{PlanError, Refusal};

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

/// What to do with each branch that a goal concerns: each is in exactly one of the lists, and in each
/// list parents come before their children.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Branches to be replayed, parents first.
    pub replays: Vec<BranchReplay>,
    /// Branches that need no replay, with the base that is thereby known.
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
    /// Its own commits that are to be replayed, in topological order, oldest first; no merges. Where
    /// there are none, the branch simply gets the head of what it goes onto.
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
    /// Its base from now on: its parent's head, on which it stands. Two keep the base they had: a
    /// branch whose every own commit is on trunk, by which `sync_repo` will find it merged, and one
    /// whose base lies above its parent's head without ever having been that ([`crate::heal`]).
    pub base: ObjectId,
}

/// Plans `goal` for `stack`, with heads, former heads and bases as they are after the fetch. (Merged
/// branches have been healed away before, see [`crate::heal`].)
///
/// Of `All` and `Subtree`, a branch that cannot be replayed is only skipped; descendants of a skipped
/// branch are skipped for its reason, those of one that is gone as `parent_missing`. A branch in a
/// ring of parents, which only damaged rows hold, is `parent_missing` too, and one that has no history
/// in common with its parent is `ambiguous_base`.
///
/// # Errors
///
/// [`Refusal`] where the goal names a branch that it cannot be done for; `Only` and `Reparent` are
/// refused where their branch itself would be skipped.
pub fn plan(stack: &Stack, goal: &Goal, history: &dyn History) -> Result<Plan, PlanError> {
    planner::plan(stack, goal, history)
}
