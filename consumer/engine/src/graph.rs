//! The stack: who stands on whom. Pure; it knows heads and parents, not commits.

use std::collections::BTreeMap;

use backstack_schemas::{BranchName, ObjectId};

/// A repository's branches as the rows and the newest fetch together tell them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stack {
    /// The branch that stacks stand on; always among `branches`, never tracked.
    pub trunk: BranchName,
    /// Every branch that is on the remote, is tracked, or has a task.
    pub branches: BTreeMap<BranchName, StackBranch>,
}

/// One branch of a [`Stack`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StackBranch {
    /// Its head after the fetch; `None` where it is gone from the remote.
    pub head: Option<ObjectId>,
    /// Heads it had before, newest first, including the recorded one where the fetch moved it.
    pub former_heads: Vec<ObjectId>,
    /// What it stands on, where it is tracked.
    pub tracked: Option<Tracked>,
}

/// What a tracked branch stands on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tracked {
    /// The branch below it: trunk or a tracked branch.
    pub parent: BranchName,
    /// The recorded commit at which its own commits start.
    pub base: Option<ObjectId>,
}
