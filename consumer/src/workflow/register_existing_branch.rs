//! `register_existing_branch`: start tracking a branch that is on the remote, and attach its task.

use backstack_engine::plan::PlanError;
use backstack_engine::register::register;
use backstack_producer::rows::Created;
use backstack_schemas::outcome::Registered;
use backstack_schemas::topology::{Bucket, task_branch_key};
use backstack_schemas::{BranchName, ErrorCode, JobError, ObjectId, Step, TaskId};

use super::context::Context;
use super::failure::{plan_error, unreadable};
use super::history;
use super::session::Session;
use crate::decide::Outcome;
use crate::projection;
use crate::run::{Halt, Run};

/// What the publisher says of the branch.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// The branch.
    pub branch: &'a BranchName,
    /// What it stands on; found from the history where absent.
    pub parent: Option<&'a BranchName>,
    /// Where its own commits start; found likewise.
    pub base: Option<ObjectId>,
    /// The task it is for.
    pub task_id: Option<TaskId>,
}

/// Runs the action on a repository that was just fetched.
///
/// # Errors
/// [`Halt`], with `branch_has_task` naming the task that has the branch.
pub async fn perform(
    context: &Context,
    run: &Run,
    mut session: Session,
    wish: Wish<'_>,
) -> Result<Outcome, Halt> {
    run.enter(Step::Plan, format!("Registering {}", wish.branch), 1);
    let (stack, control) = (session.stack(), run.control.clone());
    let (branch, parent, base) = (wish.branch.clone(), wish.parent.cloned(), wish.base);
    let registration = session
        .with_mirror(move |mirror| {
            history::with(mirror, &control, |history| {
                register(&stack, &branch, parent.as_ref(), base, history)
            })
        })
        .await?
        .map_err(|error: PlanError| plan_error(error))?;
    if let Some(task) = wish.task_id {
        claim_for_task(context, run, &session, wish.branch, task).await?;
    }
    if let Some(row) = session.rows.get_mut(wish.branch) {
        row.tracked = true;
        row.parent = Some(registration.parent.clone());
        row.base = Some(registration.base);
        row.task_id = wish.task_id.or(row.task_id);
    }
    let message = format!("{} is tracked, on {}", wish.branch, registration.parent);
    session.result.registered = Some(Registered {
        branch: wish.branch.clone(),
        parent: registration.parent,
        base: registration.base,
        head: registration.head,
    });
    projection::write(context, run, &mut session).await?;
    Ok(Outcome::Done {
        message,
        result: session.result,
    })
}

/// One task a branch: the key of the branch in the task bucket holds the first one's id.
async fn claim_for_task(
    context: &Context,
    run: &Run,
    session: &Session,
    branch: &BranchName,
    task: TaskId,
) -> Result<(), Halt> {
    let taken = |by: TaskId| {
        let detail = format!("{branch} belongs to the task {by}; a branch has one task only");
        Halt::from(JobError::new(ErrorCode::BranchHasTask, detail))
    };
    let owner = session.rows.get(branch).and_then(|row| row.task_id);
    if let Some(owner) = owner.filter(|owner| *owner != task) {
        return Err(taken(owner));
    }
    if run.spec.dry_run {
        return Ok(());
    }
    let key = task_branch_key(&run.spec.repo, branch);
    match context
        .rows()
        .create(Bucket::Tasks, &key, &task)
        .await
        .map_err(unreadable)?
    {
        Created::Exists(owner) if owner.value != task => Err(taken(owner.value)),
        Created::Made(_) | Created::Exists(_) => Ok(()),
    }
}
