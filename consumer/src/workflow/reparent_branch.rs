//! `reparent_branch`: a branch gets another parent, and its descendants follow.

use backstack_engine::plan::Goal;
use backstack_schemas::{BranchName, ObjectId};

use super::session::Session;
use super::{Workflow, restack};
use crate::decide::Outcome;
use crate::run::{Halt, Run};

/// Runs the action on a repository that was just fetched. If the branch itself conflicts with its
/// new parent, nothing changes.
///
/// # Errors
/// [`Halt`]; `conflict` comes with the paths.
pub async fn perform(
    workflow: &Workflow,
    run: &Run,
    session: Session,
    branch: &BranchName,
    parent: &BranchName,
    base: Option<ObjectId>,
) -> Result<Outcome, Halt> {
    let goal = Goal::Reparent {
        branch: branch.clone(),
        parent: parent.clone(),
        base,
    };
    restack::perform(workflow, run, session, goal).await
}
