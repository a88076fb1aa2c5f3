//! Goes through the branches of a goal, parents first, and decides each by what became of its parent.

use std::collections::{BTreeMap, HashSet};

use backstack_schemas::outcome::{SkipReason, Skipped};
use backstack_schemas::{BranchName, ObjectId};

use super::{BranchReplay, Goal, Onto, Plan, PlanError, Refusal, UpToDate, check_parent};
use crate::error::EngineError;
use crate::graph::{Stack, Tracked};
use crate::history::History;
use crate::own::{AboveTrunk, Own, OwnCommits, Standing, flatten};

/// See [`super::plan`].
pub(super) fn plan(stack: &Stack, goal: &Goal, history: &dyn History) -> Result<Plan, PlanError> {
    let trunk = stack
        .head(&stack.trunk)
        .ok_or_else(|| Refusal::TrunkNotFound(stack.trunk.clone()))?;
    let mut planner = Planner {
        stack,
        history,
        trunk,
        above_trunk: AboveTrunk::new(history, heads(stack, goal), trunk),
        fates: BTreeMap::new(),
        plan: Plan::default(),
    };
    match goal {
        Goal::All => planner.all()?,
        Goal::Subtree(branch) => {
            planner.named(branch)?;
            planner.restack(branch)?;
            planner.restack_above(branch)?;
        }
        Goal::Only(branch) => {
            planner.named(branch)?;
            planner.restack(branch)?;
            planner.must_not_be_skipped(branch)?;
        }
        Goal::Reparent {
            branch,
            parent,
            base,
        } => {
            planner.reparent(branch, parent, *base)?;
            planner.restack_above(branch)?;
        }
    }
    Ok(planner.plan)
}

/// The heads of all branches that the goal may move.
fn heads(stack: &Stack, goal: &Goal) -> Vec<ObjectId> {
    let branches = match goal {
        Goal::All => stack.all_tracked().map(|(branch, _)| branch).collect(),
        Goal::Only(branch) => vec![branch],
        Goal::Subtree(branch) | Goal::Reparent { branch, .. } => {
            let mut branches = stack.descendants(branch);
            branches.push(branch);
            branches
        }
    };
    let heads = branches.into_iter().filter_map(|branch| stack.head(branch));
    heads.collect()
}

/// What the plan does with a branch, for those that stand on it.
#[derive(Clone, Copy)]
enum Fate {
    Replayed,
    Stays(ObjectId),
    Stopped(Stop),
}

/// Why a branch is left as it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stop {
    Skip(SkipReason),
    Unrelated,
}

impl Stop {
    fn reason(self) -> SkipReason {
        match self {
            Self::Skip(reason) => reason,
            // No word for it among the reasons: without a common commit nothing says where its own
            // commits start.
            Self::Unrelated => SkipReason::AmbiguousBase,
        }
    }

    /// Why a branch on one that is stopped for this is stopped.
    fn above(self) -> Self {
        match self {
            Self::Skip(SkipReason::MissingOnRemote) => Self::Skip(SkipReason::ParentMissing),
            other => other,
        }
    }

    fn refusal(self, branch: &BranchName, parent: &BranchName) -> Refusal {
        let branch = branch.clone();
        match self {
            Self::Unrelated => Refusal::UnrelatedHistory {
                branch,
                other: parent.clone(),
            },
            Self::Skip(SkipReason::MissingOnRemote) => Refusal::BranchNotFound(branch),
            Self::Skip(SkipReason::ParentMissing) => Refusal::ParentNotFound {
                branch,
                parent: parent.clone(),
            },
            Self::Skip(SkipReason::MergeHasChanges) => Refusal::MergeHasChanges(branch),
            Self::Skip(_) => Refusal::AmbiguousBase(branch),
        }
    }
}

struct Planner<'a> {
    stack: &'a Stack,
    history: &'a dyn History,
    trunk: ObjectId,
    above_trunk: AboveTrunk<'a>,
    fates: BTreeMap<BranchName, Fate>,
    plan: Plan,
}

impl Planner<'_> {
    fn all(&mut self) -> Result<(), PlanError> {
        for branch in self.stack.parents_first() {
            self.restack(branch)?;
        }
        for branch in self.stack.on_a_ring() {
            self.settle(branch, Fate::Stopped(Stop::Skip(SkipReason::ParentMissing)));
        }
        Ok(())
    }

    fn restack_above(&mut self, branch: &BranchName) -> Result<(), PlanError> {
        for above in self.stack.descendants(branch) {
            self.restack(above)?;
        }
        Ok(())
    }

    /// Checks a branch that the goal names: on the remote, tracked, and standing on solid ground.
    fn named(&self, branch: &BranchName) -> Result<(ObjectId, &Tracked), Refusal> {
        if *branch == self.stack.trunk {
            return Err(Refusal::TrunkIsImmutable(branch.clone()));
        }
        let known = self.stack.branches.get(branch);
        let tracked = known.and_then(|known| known.tracked.as_ref());
        let (head, tracked) = match (known.and_then(|known| known.head), tracked) {
            (Some(head), Some(tracked)) => (head, tracked),
            (Some(_), None) => return Err(Refusal::NotTracked(branch.clone())),
            (None, _) => return Err(Refusal::BranchNotFound(branch.clone())),
        };
        if self.stack.would_cycle(branch, &tracked.parent) {
            return Err(Refusal::Cycle {
                branch: branch.clone(),
                parent: tracked.parent.clone(),
            });
        }
        Ok((head, tracked))
    }

    fn must_not_be_skipped(&self, branch: &BranchName) -> Result<(), Refusal> {
        match (self.fates.get(branch), self.stack.parent(branch)) {
            (Some(Fate::Stopped(stop)), Some(parent)) => Err(stop.refusal(branch, parent)),
            _ => Ok(()),
        }
    }

    fn settle(&mut self, branch: &BranchName, fate: Fate) {
        if let Fate::Stopped(stop) = fate {
            self.plan.skipped.push(Skipped {
                branch: branch.clone(),
                reason: stop.reason(),
            });
        }
        self.fates.insert(branch.clone(), fate);
    }

    /// Decides a tracked branch whose parent, where the goal concerns it, has been decided.
    fn restack(&mut self, branch: &BranchName) -> Result<(), PlanError> {
        let Some(tracked) = self.stack.tracked(branch) else {
            return Ok(());
        };
        let fate = match (self.stack.head(branch), self.fate_of_parent(tracked)) {
            (None, _) => Fate::Stopped(Stop::Skip(SkipReason::MissingOnRemote)),
            (_, Fate::Stopped(stop)) => Fate::Stopped(stop.above()),
            (Some(head), Fate::Stays(onto)) if self.history.is_ancestor(onto, head)? => {
                let base = self.standing(tracked, head).base_on(onto, self.history)?;
                self.up_to_date(branch, head, base)
            }
            (Some(head), Fate::Stays(onto)) => {
                self.replay(branch, tracked, head, Onto::Commit(onto))?
            }
            (Some(head), Fate::Replayed) => {
                let onto = Onto::Planned(tracked.parent.clone());
                self.replay(branch, tracked, head, onto)?
            }
        };
        self.settle(branch, fate);
        Ok(())
    }

    fn fate_of_parent(&self, tracked: &Tracked) -> Fate {
        let decided = self.fates.get(&tracked.parent).copied();
        decided.unwrap_or_else(|| match self.stack.head(&tracked.parent) {
            Some(head) => Fate::Stays(head),
            None => Fate::Stopped(Stop::Skip(SkipReason::ParentMissing)),
        })
    }

    fn up_to_date(&mut self, branch: &BranchName, head: ObjectId, base: ObjectId) -> Fate {
        self.plan.up_to_date.push(UpToDate {
            branch: branch.clone(),
            base,
        });
        Fate::Stays(head)
    }

    fn replay(
        &mut self,
        branch: &BranchName,
        tracked: &Tracked,
        head: ObjectId,
        onto: Onto,
    ) -> Result<Fate, EngineError> {
        let standing = self.standing(tracked, head);
        if let Some(parent) = standing.parent
            && self.history.merge_bases(head, parent)?.is_empty()
        {
            return Ok(Fate::Stopped(Stop::Unrelated));
        }
        let own = match standing.own(self.history, &self.above_trunk)? {
            Own::Commits(own) => own,
            Own::Ambiguous => return Ok(Fate::Stopped(Stop::Skip(SkipReason::AmbiguousBase))),
            Own::MergeHasChanges => {
                return Ok(Fate::Stopped(Stop::Skip(SkipReason::MergeHasChanges)));
            }
        };
        if let Some(base) = self.landed(&standing, &own)? {
            return Ok(self.up_to_date(branch, head, base));
        }
        Ok(self.replayed(branch, &tracked.parent, head, onto, own))
    }

    fn replayed(
        &mut self,
        branch: &BranchName,
        parent: &BranchName,
        head: ObjectId,
        onto: Onto,
        own: OwnCommits,
    ) -> Fate {
        self.plan.replays.push(BranchReplay {
            branch: branch.clone(),
            parent: parent.clone(),
            head,
            onto,
            commits: own.commits,
            flattened: own.flattened,
        });
        Fate::Replayed
    }

    /// The recorded base of a branch whose own commits trunk has as they are. It is left alone:
    /// moved to trunk's head it would look like a branch that never had any, and not be found merged.
    fn landed(
        &self,
        standing: &Standing<'_>,
        own: &OwnCommits,
    ) -> Result<Option<ObjectId>, EngineError> {
        let base = standing.base.filter(|base| *base != standing.head);
        match base {
            Some(base)
                if own.commits.is_empty()
                    && self.history.is_ancestor(base, standing.head)?
                    && self.history.is_ancestor(standing.head, self.trunk)? =>
            {
                Ok(Some(base))
            }
            _ => Ok(None),
        }
    }

    fn standing(&self, tracked: &Tracked, head: ObjectId) -> Standing<'_> {
        let parent = self.stack.branches.get(&tracked.parent);
        Standing {
            head,
            base: tracked.base,
            parent: parent.and_then(|parent| parent.head),
            former: parent.map_or(&[], |parent| &parent.former_heads),
            trunk: self.trunk,
        }
    }

    fn reparent(
        &mut self,
        branch: &BranchName,
        parent: &BranchName,
        base: Option<ObjectId>,
    ) -> Result<(), PlanError> {
        let (head, tracked) = self.named(branch)?;
        let tracked = tracked.clone();
        let onto = check_parent(self.stack, branch, parent)?;
        if self.history.merge_bases(head, onto)?.is_empty() {
            return Err(Stop::Unrelated.refusal(branch, parent).into());
        }
        let own = match self.own_above(branch, &tracked, head, onto, base)? {
            Own::Commits(own) => own,
            Own::Ambiguous => return Err(Refusal::AmbiguousBase(branch.clone()).into()),
            Own::MergeHasChanges => return Err(Refusal::MergeHasChanges(branch.clone()).into()),
        };
        let fate = if self.stands_on(head, onto, &own)? {
            self.up_to_date(branch, head, onto)
        } else {
            self.replayed(branch, parent, head, Onto::Commit(onto), own)
        };
        self.settle(branch, fate);
        Ok(())
    }

    /// The commits of `branch` that a new parent is to get: its own against the old one, or all above
    /// a given base, without those the new parent has.
    fn own_above(
        &self,
        branch: &BranchName,
        tracked: &Tracked,
        head: ObjectId,
        onto: ObjectId,
        base: Option<ObjectId>,
    ) -> Result<Own, PlanError> {
        let own = match base {
            None => self
                .standing(tracked, head)
                .own(self.history, &self.above_trunk)?,
            Some(base) if !self.history.is_ancestor(base, head)? => {
                let branch = branch.clone();
                return Err(Refusal::BaseNotInBranch { branch, base }.into());
            }
            Some(base) => {
                let above = self.history.reachable(head, &[base, self.trunk])?;
                flatten(self.history, above)?
            }
        };
        let Own::Commits(own) = own else {
            return Ok(own);
        };
        let missing: HashSet<_> = self.history.reachable(head, &[onto])?.into_iter().collect();
        let without = |commits: Vec<ObjectId>| {
            let missing = commits.into_iter().filter(|id| missing.contains(id));
            missing.collect()
        };
        Ok(Own::Commits(OwnCommits {
            commits: without(own.commits),
            flattened: without(own.flattened),
        }))
    }

    /// Whether `head` is `onto` and these commits, and nothing else.
    fn stands_on(
        &self,
        head: ObjectId,
        onto: ObjectId,
        own: &OwnCommits,
    ) -> Result<bool, EngineError> {
        Ok(self.history.is_ancestor(onto, head)?
            && self.history.reachable(head, &[onto])?.len()
                == own.commits.len() + own.flattened.len())
    }
}
