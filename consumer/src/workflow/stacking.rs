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

use backstack_engine::EngineError;
use backstack_engine::mirror::{Pushed, RefUpdate};
use backstack_engine::plan::{Goal, Plan, plan};
use backstack_engine::replay::{Committer, Replayed, replay};
use backstack_schemas::outcome::{Merged, MergedHow, Moved, Reparented, SkipReason, Skipped};
use backstack_schemas::{BranchName, ErrorCode, JobError, JobResult, ObjectId, Step};

use super::session::Session;
use super::{Workflow, healing, history, job_error, plan_error};
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

/// Replays what `goal` concerns and pushes it; the session's rows and result tell what came of it.
/// In a dry run nothing is pushed and no row changes.
///
/// # Errors
/// [`Halt`], with what was done so far where something was.
pub async fn restack(
    workflow: &Workflow,
    run: &Run,
    session: &mut Session,
    goal: &Goal,
) -> Result<Restacked, Halt> {
    let so_far = session.result.clone();
    for _ in 0..LEASE_LOSSES {
        session.result = so_far.clone();
        let planned = plan_and_replay(workflow, run, session, goal).await?;
        planned.tell(&mut session.result);
        if run.spec.dry_run || planned.stops(goal) {
            return Ok(Restacked::default());
        }
        match push(run, session, &planned.replayed).await? {
            PushEnd::Pushed { refused, refusals } => {
                planned.take_over(run, session, goal, &refused).await?;
                return Ok(Restacked { refusals });
            }
            PushEnd::Moved(error) => {
                tracing::info!(%error, "planning again");
                session.result = so_far.clone();
                session.fetch_again(workflow, run).await?;
            }
        }
    }
    let detail = format!(
        "The remote moved {LEASE_LOSSES} times between fetching and pushing; nothing was pushed"
    );
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
    workflow: &Workflow,
    run: &Run,
    session: &mut Session,
    goal: &Goal,
) -> Result<Planned, Halt> {
    run.enter(Step::Plan, "Planning what goes onto what", 0);
    let (stack, goal, control) = (session.stack(), goal.clone(), run.control.clone());
    let committer = Committer {
        name: workflow.committer.name.clone(),
        email: workflow.committer.email.clone(),
        at_least: run.stored_at.unix_seconds(),
    };
    let plan = session
        .with_mirror(move |mirror| {
            history::with(mirror, &control, |history| plan(&stack, &goal, history))
        })
        .await?
        .map_err(plan_error)?;
    let count = plan.replays.len();
    run.enter(
        Step::Restack,
        format!("Restacking {}", branches(count)),
        count as u64,
    );
    let (control, report, dry_run) = (run.control.clone(), run.reporter(), run.spec.dry_run);
    session
        .with_mirror(move |mirror| {
            let progress = |done: usize, total: usize| report.advance(done as u64, total as u64);
            let (dir, git) = (mirror.path(), mirror.git());
            let replayed = replay(dir, git, &plan, &committer, &control, &progress)?;
            if !dry_run {
                replayed.objects.write(dir)?;
            }
            Ok(Planned { plan, replayed })
        })
        .await
}

/// Pushes what moved, in one atomic push; without the branches that the remote refuses, and their
/// descendants, in a further one.
async fn push(run: &Run, session: &mut Session, replayed: &Replayed) -> Result<PushEnd, Halt> {
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
        run.fence(
            format!("Pushing {}", branches(updates.len())),
            updates.len() as u64,
        )
        .await?;
        match push_once(run, session, updates.clone()).await? {
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
            Err(error @ EngineError::BranchMoved(_)) => return Ok(PushEnd::Moved(error)),
            Err(error) => return Err(job_error(error)),
        }
        updates.retain(|update| !refused.contains(&update.branch));
    }
    Ok(PushEnd::Pushed { refused, refusals })
}

async fn push_once(
    run: &Run,
    session: &mut Session,
    updates: Vec<RefUpdate>,
) -> Result<Result<Pushed, EngineError>, Halt> {
    let (trunk, control) = (session.trunk.clone(), run.control.clone());
    session
        .with_mirror(move |mirror| Ok(mirror.push(&trunk, &updates, &control)))
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

    /// Adds what planning and replaying found to the job's result.
    fn tell(&self, result: &mut JobResult) {
        let Self { plan, replayed } = self;
        result
            .moved
            .extend(replayed.moved.iter().map(|moved| Moved {
                branch: moved.branch.clone(),
                from: moved.from,
                to: moved.to,
            }));
        result
            .up_to_date
            .extend(plan.up_to_date.iter().map(|branch| branch.branch.clone()));
        result.up_to_date.extend(
            replayed
                .unchanged
                .iter()
                .map(|branch| branch.branch.clone()),
        );
        result.conflicts.extend(replayed.conflicts.iter().cloned());
        result
            .skipped
            .extend(plan.skipped.iter().chain(&replayed.skipped).cloned());
        result
            .merged
            .extend(replayed.became_empty.iter().map(|empty| Merged {
                branch: empty.branch.clone(),
                into: empty.into.clone(),
                how: MergedHow::BecameEmpty,
            }));
        result
            .dropped_commits
            .extend(replayed.dropped.iter().cloned());
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
        // First of all, while the rows still tell what the children of an empty branch stood on.
        let empty = replayed
            .became_empty
            .iter()
            .map(|empty| empty.branch.clone())
            .collect();
        healing::untrack(run, session, empty).await?;
        for moved in replayed
            .moved
            .iter()
            .filter(|moved| !refused.contains(&moved.branch))
        {
            stand(session, &moved.branch, Some(moved.to), moved.base);
        }
        for unchanged in &replayed.unchanged {
            stand(session, &unchanged.branch, None, unchanged.base);
        }
        for up_to_date in &plan.up_to_date {
            stand(session, &up_to_date.branch, None, up_to_date.base);
        }
        if let Goal::Reparent { branch, parent, .. } = goal {
            reparent(session, branch, parent, refused);
        }
        session
            .result
            .moved
            .retain(|moved| !refused.contains(&moved.branch));
        let skipped = |branch: &BranchName| Skipped {
            branch: branch.clone(),
            reason: SkipReason::Rejected,
        };
        session.result.skipped.extend(refused.iter().map(skipped));
        Ok(())
    }
}

/// The branch has its new parent, unless the remote refused it or it is no longer tracked.
fn reparent(
    session: &mut Session,
    branch: &BranchName,
    parent: &BranchName,
    refused: &BTreeSet<BranchName>,
) {
    let row = session.rows.get_mut(branch).filter(|row| row.tracked);
    let Some(row) = row.filter(|_| !refused.contains(branch)) else {
        return;
    };
    let from = row.parent.replace(parent.clone());
    if let Some(from) = from.filter(|from| from != parent) {
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
