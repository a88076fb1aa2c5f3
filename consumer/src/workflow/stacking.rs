//! What every action on stacks shares: plan, replay, fence, push, and take over into the rows.
//!
//! ```text
//!            ┌──────── the remote moved: fetch again, at most three times ───────┐
//!            ▼                                                                   │
//!  plan ─► replay (in memory) ─► write objects ─► fence ─► one atomic push ─► take over
//!                                                   ▲            │
//!                                                   └── without the branches that the
//!                                                       remote refuses, and what stands on them
//! ```
//!
//! A conflict, or anything else that stops a branch, stops that branch and its descendants only.

use std::collections::BTreeSet;
use std::sync::Arc;

use backstack_engine::EngineError;
use backstack_engine::graph::Stack;
use backstack_engine::mirror::{Pushed, RefUpdate};
use backstack_engine::plan::{Goal, Plan, plan};
use backstack_engine::replay::{Committer, Replayed, replay};
use backstack_schemas::outcome::{Merged, MergedHow, Moved, Reparented, SkipReason, Skipped};
use backstack_schemas::{BranchName, ErrorCode, JobError, JobResult, ObjectId, Step};

use super::context::Context;
use super::failure::{job_error, plan_error};
use super::session::Session;
use super::timing::{timed, timed_here};
use super::{healing, history};
use crate::run::{Halt, Run};

/// How often a push may lose its leases in one attempt.
const LEASE_LOSSES: usize = 3;

/// What a goal came to, once its branches were pushed and taken over into the session's rows.
#[derive(Debug, Default)]
pub struct Restacked {
    /// What the remote said of the branches that it refused.
    pub refusals: Vec<String>,
}

/// A plan and what replaying it gave.
#[derive(Debug)]
struct Planned {
    plan: Plan,
    replayed: Replayed,
}

/// Whether all of the push is on the remote.
enum PushEnd {
    Pushed {
        refused: BTreeSet<BranchName>,
        refusals: Vec<String>,
    },
    Moved(EngineError),
}

impl PushEnd {
    /// There was nothing to push.
    fn nothing() -> Self {
        Self::Pushed {
            refused: BTreeSet::new(),
            refusals: Vec::new(),
        }
    }
}

/// Replays what `goal` concerns and pushes it; the session's rows and result tell what came of it.
/// In a dry run nothing is pushed, and they tell what would come of it.
///
/// # Errors
/// [`Halt`], with what was done so far where something was.
pub async fn restack(
    context: &Context,
    run: &Run,
    session: &mut Session,
    goal: &Goal,
) -> Result<Restacked, Halt> {
    let mut locked = None;
    for _ in 0..LEASE_LOSSES {
        let planned = plan_and_replay(context, run, session, goal).await?;
        let pushed = if run.spec.dry_run || planned.stops(goal) {
            PushEnd::nothing()
        } else {
            push(context, run, session, &planned.replayed).await?
        };
        match pushed {
            PushEnd::Pushed { refused, refusals } => {
                planned.tell(&mut session.result, &refused);
                if !planned.stops(goal) {
                    planned.take_over(run, session, goal, &refused).await?;
                }
                return Ok(Restacked { refusals });
            }
            // Whether a branch is merged was judged by the heads of the first fetch; the next attempt
            // judges anew.
            PushEnd::Moved(error) if !session.result.merged.is_empty() => {
                return Err(job_error(error));
            }
            PushEnd::Moved(error) => {
                tracing::info!(%error, "planning again");
                session.fetch_again(context, run).await?;
                locked =
                    Some(error).filter(|error| matches!(error, EngineError::BranchLocked { .. }));
            }
        }
    }
    let detail = match locked {
        None => format!(
            "The remote moved {LEASE_LOSSES} times between fetching and pushing; nothing was pushed"
        ),
        Some(error) => format!(
            "Tried {LEASE_LOSSES} times, but {error}; nothing was pushed. If nobody is pushing there, \
             a lock was left behind, which has to be removed on the remote"
        ),
    };
    Err(JobError::new(ErrorCode::BranchMoved, detail).into())
}

/// The error that a job ends with although everything that could be done was.
pub fn shortfall(result: &JobResult, restacked: &Restacked) -> Option<JobError> {
    if let Some(first) = result.conflicts.first() {
        let paths: Vec<_> = first
            .paths
            .iter()
            .take(3)
            .map(|path| path.path.as_str())
            .collect();
        let more = match result.conflicts.len() {
            1 => String::new(),
            n => format!("; {} more branches conflict", n - 1),
        };
        let detail = format!(
            "{} conflicts with what it stands on in {}{more}; rebase it by hand and push it, the \
             rest was done",
            first.branch,
            paths.join(", ")
        );
        return Some(JobError::new(ErrorCode::Conflict, detail));
    }
    if restacked.refusals.is_empty() {
        return None;
    }
    let detail = format!("The remote refused {}", restacked.refusals.join("; "));
    Some(JobError::new(ErrorCode::RemoteRejected, detail))
}

async fn plan_and_replay(
    context: &Context,
    run: &Run,
    session: &mut Session,
    goal: &Goal,
) -> Result<Planned, Halt> {
    run.enter(Step::Plan, "Planning what goes onto what", 0);
    let stack = session.stack();
    let plan = match session.outlook.plan(&stack, goal) {
        Some(plan) => plan,
        None => timed("plan", make_plan(run, session, stack, goal.clone())).await?,
    };
    let count = plan.replays.len();
    if count == 0 {
        let replayed = Replayed::default();
        return Ok(Planned { plan, replayed });
    }
    run.enter(
        Step::Restack,
        format!("Restacking {}", branches(count)),
        count as u64,
    );
    let committer = Committer {
        name: context.committer().name.clone(),
        email: context.committer().email.clone(),
        at_least: run.stored_at.unix_seconds(),
    };
    let (control, report, dry_run) = (run.control.clone(), run.reporter(), run.spec.dry_run);
    session
        .with_mirror(move |mirror| {
            let progress = |done: usize, total: usize| report.advance(done as u64, total as u64);
            let (dir, git) = (mirror.path(), mirror.git());
            let replaying = || replay(dir, git, &plan, &committer, &control, &progress);
            let replayed = timed_here("replay", replaying)?;
            if !dry_run {
                timed_here("write", || replayed.objects.write(dir))?;
            }
            Ok(Planned { plan, replayed })
        })
        .await
}

async fn make_plan(
    run: &Run,
    session: &mut Session,
    stack: Stack,
    goal: Goal,
) -> Result<Plan, Halt> {
    let control = run.control.clone();
    session
        .with_mirror(move |mirror| {
            history::with(mirror, &control, |history| plan(&stack, &goal, history))
        })
        .await?
        .map_err(plan_error)
}

/// Pushes what moved, in one atomic push; without the branches that the remote refuses, and their
/// descendants, in a further one.
async fn push(
    context: &Context,
    run: &Run,
    session: &mut Session,
    replayed: &Replayed,
) -> Result<PushEnd, Halt> {
    let mut updates: Vec<_> = replayed
        .moved
        .iter()
        .map(|moved| RefUpdate {
            branch: moved.branch.clone(),
            from: moved.from,
            to: moved.to,
        })
        .collect();
    let (mut refused, mut refusals) = (BTreeSet::new(), Vec::new());
    while !updates.is_empty() {
        let fencing = run.fence(
            format!("Pushing {}", branches(updates.len())),
            updates.len() as u64,
        );
        timed("fence", fencing).await?;
        match timed("push", push_once(context, run, session, updates.clone())).await? {
            Ok(Pushed::All) => break,
            Ok(Pushed::Refused(some)) => {
                for one in some {
                    refusals.push(format!("{}: {}", one.branch, one.reason));
                    refused.extend(
                        session
                            .stack()
                            .descendants(&one.branch)
                            .into_iter()
                            .cloned(),
                    );
                    refused.insert(one.branch);
                }
            }
            Err(EngineError::RemoteRejected(reason)) => {
                refusals.push(format!("the push as a whole: {reason}"));
                refused.extend(updates.iter().map(|update| update.branch.clone()));
            }
            Err(error @ (EngineError::BranchMoved(_) | EngineError::BranchLocked { .. })) => {
                return Ok(PushEnd::Moved(error));
            }
            Err(error) => return Err(job_error(error)),
        }
        updates.retain(|update| !refused.contains(&update.branch));
    }
    Ok(PushEnd::Pushed { refused, refusals })
}

async fn push_once(
    context: &Context,
    run: &Run,
    session: &mut Session,
    updates: Vec<RefUpdate>,
) -> Result<Result<Pushed, EngineError>, Halt> {
    let (trunk, control) = (session.trunk.clone(), run.control.clone());
    let metrics = Arc::clone(context.metrics());
    session
        .with_mirror(move |mirror| Ok(metrics.pushing(|| mirror.push(&trunk, &updates, &control))))
        .await
}

impl Planned {
    /// Whether what was found stops the goal as a whole: a branch that conflicts with its new parent
    /// keeps the old one, and so does all that stands on it.
    fn stops(&self, goal: &Goal) -> bool {
        match goal {
            Goal::Reparent { branch, .. } => self
                .replayed
                .conflicts
                .iter()
                .any(|conflict| conflict.branch == *branch),
            Goal::All | Goal::Subtree(_) | Goal::Only(_) => false,
        }
    }

    /// Adds what came of the plan to the job's result. Of a branch that was not pushed because the
    /// remote refuses it, or one below it, nothing else is told.
    fn tell(&self, result: &mut JobResult, refused: &BTreeSet<BranchName>) {
        let Self { plan, replayed } = self;
        let done = |branch: &BranchName| !refused.contains(branch);
        let moved = replayed.moved.iter().filter(|one| done(&one.branch));
        result.moved.extend(moved.map(|one| Moved {
            branch: one.branch.clone(),
            from: one.from,
            to: one.to,
        }));
        let stayed = plan.up_to_date.iter().map(|one| &one.branch);
        let unchanged = replayed.unchanged.iter().map(|one| &one.branch);
        let up_to_date = stayed.chain(unchanged.filter(|branch| done(branch)));
        result.up_to_date.extend(up_to_date.cloned());
        result.conflicts.extend(replayed.conflicts.iter().cloned());
        let skipped = plan.skipped.iter().chain(&replayed.skipped).cloned();
        result.skipped.extend(skipped.chain(self.rejected(refused)));
        let empty = replayed.became_empty.iter().filter(|one| done(&one.branch));
        result.merged.extend(empty.map(|one| Merged {
            branch: one.branch.clone(),
            into: one.into.clone(),
            how: MergedHow::BecameEmpty,
        }));
        let dropped = replayed.dropped.iter().filter(|one| done(&one.branch));
        result.dropped_commits.extend(dropped.cloned());
    }

    /// The branches that would have been done but for the remote's refusal, in the plan's order.
    fn rejected(&self, refused: &BTreeSet<BranchName>) -> impl Iterator<Item = Skipped> {
        let conflicts = self.replayed.conflicts.iter().map(|one| &one.branch);
        let skipped = self.replayed.skipped.iter().map(|one| &one.branch);
        let stopped: BTreeSet<_> = conflicts.chain(skipped).collect();
        let replays = self.plan.replays.iter().map(|replay| &replay.branch);
        replays
            .filter(move |branch| refused.contains(*branch) && !stopped.contains(branch))
            .map(|branch| Skipped {
                branch: branch.clone(),
                reason: SkipReason::Rejected,
            })
    }

    /// Makes the rows tell what was pushed.
    async fn take_over(
        &self,
        run: &Run,
        session: &mut Session,
        goal: &Goal,
        refused: &BTreeSet<BranchName>,
    ) -> Result<(), Halt> {
        let Self { plan, replayed } = self;
        let done = |branch: &BranchName| !refused.contains(branch);
        let empty: Vec<_> = replayed
            .became_empty
            .iter()
            .map(|empty| empty.branch.clone())
            .filter(done)
            .collect();
        if let Goal::Reparent { branch, parent, .. } = goal
            && done(branch)
        {
            reparent(session, branch, parent, empty.contains(branch));
        }
        // Before the others, while the rows still tell what the children of an empty branch stood on.
        healing::untrack(run, session, empty).await?;
        for moved in replayed.moved.iter().filter(|one| done(&one.branch)) {
            stand(session, &moved.branch, Some(moved.to), moved.base);
        }
        for unchanged in replayed.unchanged.iter().filter(|one| done(&one.branch)) {
            stand(session, &unchanged.branch, None, unchanged.base);
        }
        for up_to_date in &plan.up_to_date {
            stand(session, &up_to_date.branch, None, up_to_date.base);
        }
        Ok(())
    }
}

/// The branch has its new parent. One that became empty there is about to leave the stack, and hands
/// that parent on to its children.
fn reparent(session: &mut Session, branch: &BranchName, parent: &BranchName, leaves: bool) {
    let row = session.rows.get_mut(branch).filter(|row| row.tracked);
    let from = row.and_then(|row| row.parent.replace(parent.clone()));
    if let Some(from) = from.filter(|from| from != parent && !leaves) {
        let (branch, to) = (branch.clone(), parent.clone());
        session
            .result
            .reparented
            .push(Reparented { branch, from, to });
    }
}

/// The branch stands on `base` now, with this head where it got a new one.
fn stand(session: &mut Session, branch: &BranchName, head: Option<ObjectId>, base: ObjectId) {
    if let Some(row) = session.rows.get_mut(branch) {
        row.base = Some(base);
        if head.is_some() {
            row.move_head(head);
        }
    }
}

/// A number of branches, in words.
pub fn branches(count: usize) -> String {
    if count == 1 {
        "1 branch".to_owned()
    } else {
        format!("{count} branches")
    }
}
