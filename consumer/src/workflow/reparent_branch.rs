//! `reparent_branch`: a branch gets another parent, and its descendants follow.

use backstack_engine::plan::Goal;
use backstack_schemas::{BranchName, ObjectId};

use super::context::Context;
use super::restack;
use super::session::Session;
use crate::decide::Outcome;
use crate::run::{Halt, Run};

/// Runs the action on a repository that was just fetched. If the branch itself conflicts with its
/// new parent, nothing changes.
///
/// # Errors
/// [`Halt`]; `conflict` comes with the paths.
pub async fn perform(
    context: &Context,
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
    restack::perform(context, run, session, goal).await
}
