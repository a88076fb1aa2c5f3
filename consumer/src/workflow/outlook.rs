//! What a run works out while git is fetching, since most fetches bring nothing new.
//!
//! The thread that waits for git looks at the mirror as the job before left it, and at the rows as the
//! bucket has them: is every commit there that rows name, and what would the plan be? What the fetch
//! brings decides whether that is of use: a plan only if every head, base and parent is what it was made
//! for and no object was missing. Anything else is worked out again, so nothing here changes what a run
//! does, only when.

use std::collections::BTreeSet;

use backstack_engine::Control;
use backstack_engine::graph::{Stack, StackBranch, Tracked};
use backstack_engine::history::History;
use backstack_engine::mirror::Mirror;
use backstack_engine::plan::{Goal, Plan, plan as plan_of};
use backstack_schemas::{Action, Branch, BranchName, ObjectId};

use super::branch_rows::KnownRows;
use super::history;

/// What was found out before the fetch was over.
#[derive(Debug, Default)]
pub struct Outlook {
    /// Commits that rows name and that were not there.
    pub missing: Vec<ObjectId>,
    /// The plan, for a stack that has nothing to be replayed.
    plan: Option<(Stack, Goal, Plan)>,
    /// What the mirror keeps, where it needs no looking after otherwise.
    settled: Option<BTreeSet<ObjectId>>,
}

impl Outlook {
    /// Looks at a mirror that is being fetched. `trunk` is what the repository's row names. What
    /// cannot be read is left for the run to stumble over.
    pub fn of(
        mirror: &Mirror,
        rows: &KnownRows,
        trunk: Option<&BranchName>,
        goal: Option<Goal>,
        control: &Control,
    ) -> Self {
        let named = named_commits(rows.iter().map(|(_, row)| &row.value));
        let missing: Vec<_> = named
            .iter()
            .copied()
            .filter(|id| !mirror.has(*id))
            .collect();
        let asked = trunk.zip(goal);
        let plan = asked.filter(|_| missing.is_empty() && is_restacked(rows));
        Self {
            missing,
            plan: plan.and_then(|(trunk, goal)| {
                let stack = stack(trunk, rows.iter().map(|(name, row)| (name, &row.value)));
                let planning = |history: &dyn History| plan_of(&stack, &goal, history).ok();
                let plan = history::with(mirror, control, planning).ok()??;
                Some((stack, goal, plan))
            }),
            settled: mirror
                .is_settled(&named)
                .is_ok_and(|settled| settled)
                .then_some(named),
        }
    }

    /// The plan, if this is what it was made for.
    pub fn plan(&mut self, stack: &Stack, goal: &Goal) -> Option<Plan> {
        let (for_stack, for_goal, plan) = self.plan.take()?;
        (for_stack == *stack && for_goal == *goal).then_some(plan)
    }

    /// Whether the mirror keeps exactly these commits and needs no looking after.
    pub fn is_settled(&self, named: &BTreeSet<ObjectId>) -> bool {
        self.missing.is_empty() && self.settled.as_ref() == Some(named)
    }
}

/// What an action will ask a plan for.
pub fn goal(action: &Action) -> Option<Goal> {
    match action {
        Action::RestackRepo | Action::SyncRepo { restack: true } => Some(Goal::All),
        Action::RestackSubtree { branch } => Some(Goal::Subtree(branch.clone())),
        Action::RebaseBranch { branch } => Some(Goal::Only(branch.clone())),
        _ => None,
    }
}

/// Every commit that those of the rows name that belong to stacks and tasks, and trunk's.
pub fn named_commits<'a>(rows: impl Iterator<Item = &'a Branch>) -> BTreeSet<ObjectId> {
    let rows = rows.filter(|row| row.is_kept() || row.is_trunk);
    rows.flat_map(|row| {
        row.head
            .into_iter()
            .chain(row.base)
            .chain(row.former_heads.iter().copied())
    })
    .collect()
}

/// The rows as the engine takes them.
pub fn stack<'a>(
    trunk: &BranchName,
    rows: impl Iterator<Item = (&'a BranchName, &'a Branch)>,
) -> Stack {
    Stack {
        trunk: trunk.clone(),
        branches: rows
            .map(|(name, row)| (name.clone(), stack_branch(row)))
            .collect(),
    }
}

fn stack_branch(row: &Branch) -> StackBranch {
    let tracked = row.parent.clone().filter(|_| row.tracked);
    StackBranch {
        head: row.head,
        former_heads: row.former_heads.clone(),
        tracked: tracked.map(|parent| Tracked {
            parent,
            base: row.base,
        }),
    }
}

/// Whether the rows say that every branch stands on its parent's head. Only then is the plan quickly
/// made, and likely to be of use.
fn is_restacked(rows: &KnownRows) -> bool {
    let mut tracked = rows
        .iter()
        .map(|(_, row)| &row.value)
        .filter(|row| row.tracked);
    tracked.all(|row| row.needs_restack == Some(false))
}
