//! Why an action on one branch is refused: in words for a person, and as the job's error code.

use backstack_schemas::outcome::ErrorCode;
use backstack_schemas::{BranchName, ObjectId};

use crate::error::EngineError;
use crate::graph::Stack;

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The goal cannot be had with this stack.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The history could not be read, or the time was up.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// Why an action on one branch is refused before anything is done. None of these passes by itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Trunk is not on the remote.
    #[error("trunk {0} is not on the remote; set the repository's trunk to a branch that is")]
    TrunkNotFound(BranchName),
    /// The branch is not on the remote.
    #[error("{0} is not on the remote; push it, then try again")]
    BranchNotFound(BranchName),
    /// What it stands on, or is to stand on, is not on the remote.
    #[error("{branch} cannot be put onto {parent}: {parent} is not on the remote")]
    ParentNotFound {
        /// The branch.
        branch: BranchName,
        /// The parent that is not there.
        parent: BranchName,
    },
    /// The branch is part of no stack.
    #[error("{0} is not tracked; register it first")]
    NotTracked(BranchName),
    /// The action would move trunk.
    #[error("{0} is trunk, which is never moved")]
    TrunkIsImmutable(BranchName),
    /// The branch would stand on itself.
    #[error("{branch} cannot be put onto {parent}, which is the branch itself or stands on it")]
    Cycle {
        /// The branch.
        branch: BranchName,
        /// The parent.
        parent: BranchName,
    },
    /// Where the branch's own commits start cannot be told.
    #[error(
        "where the own commits of {0} start cannot be told: what is below them was rewritten more than once since; register it again with the base they start at"
    )]
    AmbiguousBase(BranchName),
    /// The base that was given is not in the branch.
    #[error(
        "base {base} is not a commit of {branch}; give the commit that its own commits start after"
    )]
    BaseNotInBranch {
        /// The branch.
        branch: BranchName,
        /// What was given.
        base: ObjectId,
    },
    /// An own merge commit holds changes that flattening would lose.
    #[error(
        "a merge commit of {0} holds changes of its own, which replaying would lose; make them a commit of their own, or rebase the branch by hand"
    )]
    MergeHasChanges(BranchName),
    /// Nothing in common.
    #[error("{branch} and {other} have no history in common; rebase {branch} by hand")]
    UnrelatedHistory {
        /// The branch.
        branch: BranchName,
        /// What it was to be put onto.
        other: BranchName,
    },
}

impl Refusal {
    /// The job's error code (contract, section 3).
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::TrunkNotFound(_) => ErrorCode::TrunkNotFound,
            Self::BranchNotFound(_) => ErrorCode::BranchNotFound,
            Self::ParentNotFound { .. } => ErrorCode::ParentNotFound,
            Self::NotTracked(_) => ErrorCode::BranchNotTracked,
            Self::TrunkIsImmutable(_) => ErrorCode::TrunkIsImmutable,
            Self::Cycle { .. } => ErrorCode::Cycle,
            Self::AmbiguousBase(_) | Self::BaseNotInBranch { .. } => ErrorCode::AmbiguousBase,
            Self::MergeHasChanges(_) => ErrorCode::MergeHasChanges,
            Self::UnrelatedHistory { .. } => ErrorCode::UnrelatedHistory,
        }
    }
}

/// The head of `parent`, where `branch` may be put onto it: trunk, or tracked and on the remote, and
/// not the branch itself or above it.
pub(crate) fn check_parent(
    stack: &Stack,
    branch: &BranchName,
    parent: &BranchName,
) -> Result<ObjectId, Refusal> {
    if stack.would_cycle(branch, parent) {
        return Err(Refusal::Cycle {
            branch: branch.clone(),
            parent: parent.clone(),
        });
    }
    let Some(head) = stack.head(parent) else {
        return Err(Refusal::ParentNotFound {
            branch: branch.clone(),
            parent: parent.clone(),
        });
    };
    if !stack.may_be_parent(parent) {
        return Err(Refusal::NotTracked(parent.clone()));
    }
    Ok(head)
}
