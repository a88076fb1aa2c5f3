//! Healing: a branch leaves the stack, merged or unregistered, and its children get its parent.
//!
//! The branch's commits are not its children's. With its rows out of the stack, only a child's `base`
//! says so from then on; so each child's becomes the newest version of the branch that it stands on.
//! A caller must write [`Healed::base`] to the child's row together with the new parent: from the base
//! before, the next restack would replay what a squash has merged already.
//!
//! Commits that the branch itself had given up are the child's, here as everywhere ([`crate::own`]).

use backstack_schemas::{BranchName, ObjectId};

use crate::error::EngineError;
use crate::graph::{Stack, Tracked};
use crate::history::History;
use crate::own::{Standing, nearest};

/// A child that got the parent of the branch it stood on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Healed {
    /// The child.
    pub branch: BranchName,
    /// The branch that left the stack.
    pub from: BranchName,
    /// What the child stands on now.
    pub to: BranchName,
    /// Where its own commits start, for its row.
    pub base: Option<ObjectId>,
}

/// Takes `branch` out of the stack and puts its children onto its parent, in order of name; nothing
/// happens to one that is not tracked. The order in which several are taken out makes no difference.
///
/// A child that stands on no version of the branch that anyone recorded gets the branch's newest head
/// as base all the same: not being in the child, it makes the planner look for another version of it
/// there and, finding one, refuse (`ambiguous_base`).
///
/// # Errors
///
/// The history cannot be read; the stack is then as it was.
pub fn untrack(
    stack: &mut Stack,
    branch: &BranchName,
    history: &dyn History,
) -> Result<Vec<Healed>, EngineError> {
    let Some(parent) = stack.parent(branch).cloned() else {
        return Ok(Vec::new());
    };
    let mut healed = Vec::new();
    for child in stack.children(branch) {
        healed.push(Healed {
            branch: child.clone(),
            from: branch.clone(),
            to: parent.clone(),
            base: base_above(stack, branch, child, history)?,
        });
    }
    if let Some(left) = stack.branches.get_mut(branch) {
        left.tracked = None;
    }
    for child in &healed {
        if let Some(row) = stack.branches.get_mut(&child.branch) {
            row.tracked = Some(Tracked {
                parent: parent.clone(),
                base: child.base,
            });
        }
    }
    Ok(healed)
}

/// The newest version of `branch` that `child` stands on.
fn base_above(
    stack: &Stack,
    branch: &BranchName,
    child: &BranchName,
    history: &dyn History,
) -> Result<Option<ObjectId>, EngineError> {
    let recorded = stack.tracked(child).and_then(|tracked| tracked.base);
    let (Some(head), Some(below), Some(trunk)) = (
        stack.head(child),
        stack.branches.get(branch),
        stack.head(&stack.trunk),
    ) else {
        return Ok(recorded);
    };
    let mut there = Vec::new();
    for id in below.head.iter().chain(&below.former_heads).copied() {
        if history.commit(id)?.is_some() {
            there.push(id);
        }
    }
    let Some((newest, former)) = there.split_first() else {
        return Ok(recorded);
    };
    let newest = *newest;
    let standing = Standing {
        head,
        base: recorded,
        parent: Some(newest),
        former,
        trunk,
    };
    let mut bounds = standing.boundaries(history)?;
    if history.is_ancestor(newest, head)? {
        bounds.insert(0, newest);
    }
    Ok(nearest(history, head, bounds)?.or(Some(newest)))
}
