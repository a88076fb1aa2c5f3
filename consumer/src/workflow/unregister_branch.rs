//! `unregister_branch`: a branch is tracked no longer, and its children get its parent.

use backstack_schemas::BranchName;

use super::session::Session;
use super::{Workflow, healing, tracked_parent};
use crate::decide::Outcome;
use crate::projection;
use crate::run::{Halt, Run};

/// Runs the action on a repository that was just fetched. Nothing is pushed; a branch that is gone
/// from the remote can be unregistered too.
///
/// # Errors
/// [`Halt`] with `branch_not_found`, `branch_not_tracked` or `trunk_is_immutable`.
pub async fn perform(
    workflow: &Workflow,
    run: &Run,
    mut session: Session,
    branch: &BranchName,
) -> Result<Outcome, Halt> {
    let parent = tracked_parent(&session, branch)?;
    let children = healing::untrack(run, &mut session, vec![branch.clone()]).await?;
    projection::write(workflow, run, &mut session).await?;
    let message = match children {
        0 => format!("{branch} is no longer tracked"),
        _ => format!("{branch} is no longer tracked; what stood on it stands on {parent} now"),
    };
    Ok(Outcome::Done {
        message,
        result: session.result,
    })
}
