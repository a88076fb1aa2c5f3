//! Starting to track a branch: what it stands on, and where its own commits start.
//!
//! Reads only; the caller writes the row. A parent is guessed only where one branch is plainly the
//! nearest, for a wrong guess would take another branch's commits for this one's or the reverse.

use std::collections::HashSet;

use backstack_schemas::{BranchName, ObjectId};

use crate::graph::{Stack, Tracked};
use crate::history::History;
use crate::own::Standing;
use crate::plan::{PlanError, Refusal, check_parent};

/// What the row of a branch that is registered is to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// Its head after the fetch.
    pub head: ObjectId,
    /// What it stands on: trunk or a tracked branch.
    pub parent: BranchName,
    /// Where its own commits start.
    pub base: ObjectId,
}

/// What `branch` is to stand on: `parent` where given; else what it stands on where it is tracked;
/// else the nearest tracked branch below it, or trunk.
///
/// The base is `base` where given; else the recorded one, where branch and parent stay as they were;
/// else the nearest commit of the branch that was ever its parent's.
///
/// # Errors
///
/// A [`Refusal`]: the branch is trunk or not on the remote, the given parent is not on the remote, not
/// tracked or above the branch, the given base is not in the branch, or the two have nothing in common.
pub fn register(
    stack: &Stack,
    branch: &BranchName,
    parent: Option<&BranchName>,
    base: Option<ObjectId>,
    history: &dyn History,
) -> Result<Registration, PlanError> {
    if *branch == stack.trunk {
        return Err(Refusal::TrunkIsImmutable(branch.clone()).into());
    }
    let trunk = stack
        .head(&stack.trunk)
        .ok_or_else(|| Refusal::TrunkNotFound(stack.trunk.clone()))?;
    let head = stack
        .head(branch)
        .ok_or_else(|| Refusal::BranchNotFound(branch.clone()))?;
    let registering = Registering {
        stack,
        history,
        branch,
        head,
        trunk,
    };
    if let Some(base) = base
        && !history.is_ancestor(base, head)?
    {
        let branch = branch.clone();
        return Err(Refusal::BaseNotInBranch { branch, base }.into());
    }
    let known = stack.tracked(branch).filter(|_| parent.is_none());
    let parent = match (parent, known) {
        (Some(parent), _) => {
            check_parent(stack, branch, parent)?;
            parent.clone()
        }
        (None, Some(known)) => known.parent.clone(),
        (None, None) => registering.nearest_below()?,
    };
    let base = match base.or_else(|| known.and_then(|known| known.base)) {
        Some(base) => base,
        None => registering.base_on(&parent)?,
    };
    Ok(Registration { head, parent, base })
}

struct Registering<'a> {
    stack: &'a Stack,
    history: &'a dyn History,
    branch: &'a BranchName,
    head: ObjectId,
    trunk: ObjectId,
}

impl Registering<'_> {
    /// The tracked branch below with the fewest commits in between; trunk where there is none, or
    /// where two are equally near.
    fn nearest_below(&self) -> Result<BranchName, PlanError> {
        let above_trunk = self.history.reachable(self.head, &[self.trunk])?;
        let above_trunk: HashSet<_> = above_trunk.into_iter().collect();
        let stand_on_it: HashSet<_> = self.stack.descendants(self.branch).into_iter().collect();
        let mut best: Option<(usize, &BranchName)> = None;
        let mut tied = false;
        for (other, head) in self.tracked_heads() {
            if other == self.branch
                || head == self.head
                || !above_trunk.contains(&head)
                || stand_on_it.contains(other)
            {
                continue;
            }
            let distance = self.history.reachable(self.head, &[head])?.len();
            match best {
                Some((least, _)) if distance > least => {}
                Some((least, _)) if distance == least => tied = true,
                _ => (best, tied) = (Some((distance, other)), false),
            }
        }
        Ok(match best {
            Some((_, other)) if !tied => other.clone(),
            _ => self.stack.trunk.clone(),
        })
    }

    fn tracked_heads(&self) -> impl Iterator<Item = (&BranchName, ObjectId)> {
        let tracked = self.stack.all_tracked();
        tracked.filter_map(|(other, _): (_, &Tracked)| Some((other, self.stack.head(other)?)))
    }

    fn base_on(&self, parent: &BranchName) -> Result<ObjectId, PlanError> {
        let below = self.stack.branches.get(parent);
        let standing = Standing {
            head: self.head,
            base: None,
            parent: below.and_then(|below| below.head),
            former: below.map_or(&[], |below| &below.former_heads),
            trunk: self.trunk,
        };
        let nearest = standing.nearest_boundary(self.history)?;
        Ok(nearest.ok_or_else(|| Refusal::UnrelatedHistory {
            branch: self.branch.clone(),
            other: parent.clone(),
        })?)
    }
}
