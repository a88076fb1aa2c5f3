//! `unregister_branch`: a branch is tracked no longer, and its children get its parent.

use backstack_schemas::{BranchName, ErrorCode, JobError};

use super::context::Context;
use super::healing;
use super::session::Session;
use crate::decide::Outcome;
use crate::projection;
use crate::run::{Halt, Run};

/// Runs the action on a repository that was just fetched. Nothing is pushed; a branch that is gone
/// from the remote can be unregistered too.
///
/// # Errors
/// [`Halt`] with `branch_not_found`, `branch_not_tracked` or `trunk_is_immutable`.
pub async fn perform(
    context: &Context,
    run: &Run,
    mut session: Session,
    branch: &BranchName,
) -> Result<Outcome, Halt> {
    let message = if run.again && is_done(&session, branch) {
        format!("{branch} is no longer tracked")
    } else {
        untrack(run, &mut session, branch).await?
    };
    projection::write(context, run, &mut session).await?;
    Ok(Outcome::Done {
        message,
        result: session.result,
    })
}

/// Takes the branch out of its stack; what was done, in a sentence.
async fn untrack(run: &Run, session: &mut Session, branch: &BranchName) -> Result<String, Halt> {
    let parent = tracked_parent(session, branch)?;
    let children = healing::untrack(run, session, vec![branch.clone()]).await?;
    Ok(match children {
        0 => format!("{branch} is no longer tracked"),
        _ => format!("{branch} is no longer tracked; what stood on it stands on {parent} now"),
    })
}

/// Whether an earlier run, which was broken off behind it, has written that the branch is not tracked.
/// Its row is the last to be written.
fn is_done(session: &Session, branch: &BranchName) -> bool {
    let row = session.rows.get(branch);
    row.is_some_and(|row| !row.tracked && !row.is_trunk)
}

/// What a tracked branch stands on; it may be gone from the remote.
fn tracked_parent(session: &Session, branch: &BranchName) -> Result<BranchName, JobError> {
    if *branch == session.trunk {
        let detail = format!("{branch} is the trunk, which is not part of any stack");
        return Err(JobError::new(ErrorCode::TrunkIsImmutable, detail));
    }
    let row = session.rows.get(branch).ok_or_else(|| {
        let detail = format!("There is no branch {branch} on the remote, and none was recorded");
        JobError::new(ErrorCode::BranchNotFound, detail)
    })?;
    row.parent.clone().filter(|_| row.tracked).ok_or_else(|| {
        let detail = format!("{branch} is not part of a stack, so there is nothing to take out");
        JobError::new(ErrorCode::BranchNotTracked, detail)
    })
}
