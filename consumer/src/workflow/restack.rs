//! `restack_repo`, `restack_subtree` and `rebase_branch`: one goal each, and otherwise the same.

use backstack_engine::plan::Goal;
use backstack_schemas::JobResult;

use super::context::Context;
use super::session::Session;
use super::stacking::{self, branches, shortfall};
use crate::decide::Outcome;
use crate::projection;
use crate::run::{Halt, Run};

/// Runs the action on a repository that was just fetched.
///
/// # Errors
/// [`Halt`]; `conflict` and `remote_rejected` come with what was done all the same.
pub async fn perform(
    context: &Context,
    run: &Run,
    mut session: Session,
    goal: Goal,
) -> Result<Outcome, Halt> {
    let restacked = stacking::restack(context, run, &mut session, &goal).await?;
    projection::write(context, run, &mut session).await?;
    match shortfall(&session.result, &restacked) {
        Some(error) => Err(Halt::Failed {
            error,
            result: Some(Box::new(session.result)),
        }),
        None => Ok(Outcome::Done {
            message: message(&session.result, run.spec.dry_run),
            result: session.result,
        }),
    }
}

/// What was done, in a sentence.
pub fn message(result: &JobResult, dry_run: bool) -> String {
    let mut parts = Vec::new();
    let mut part = |count: usize, what: &str| {
        if count > 0 {
            parts.push(format!("{} {what}", branches(count)));
        }
    };
    part(
        result.moved.len(),
        if dry_run {
            "would be pushed"
        } else {
            "restacked and pushed"
        },
    );
    part(result.merged.len(), "found merged");
    part(result.skipped.len(), "skipped");
    part(result.up_to_date.len(), "up to date");
    if parts.is_empty() {
        "Nothing to do".to_owned()
    } else {
        parts.join(", ")
    }
}
