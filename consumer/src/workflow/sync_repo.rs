//! `sync_repo`: fetch, find merged branches, refresh the branch rows; then restack, where asked.

use backstack_engine::plan::Goal;
use backstack_schemas::{Action, JobResult, Repository, SyncStatus};

use super::context::Context;
use super::session::Session;
use super::{healing, restack, stacking};
use crate::decide::Outcome;
use crate::projection;
use crate::run::{Halt, Run};

/// Whether a plain sync has nothing left to do: a fetch that began after its message was stored has
/// brought the rows up to date already.
pub fn is_overtaken(run: &Run, repo: &Repository) -> bool {
    let plain = run.action == Action::SyncRepo { restack: false } && !run.spec.dry_run;
    let through = repo.sync.through_sequence.unwrap_or(0);
    plain && repo.sync.status == SyncStatus::Synced && through >= run.sequence
}

/// How an overtaken sync ends.
pub fn overtaken() -> Outcome {
    Outcome::Done {
        message: "A sync that began after this one was asked for has done it already".to_owned(),
        result: JobResult::default(),
    }
}

/// Runs the action on a repository that was just fetched.
///
/// # Errors
/// [`Halt`]
pub async fn perform(
    context: &Context,
    run: &Run,
    mut session: Session,
    restack: bool,
) -> Result<Outcome, Halt> {
    healing::heal_merged(run, &mut session).await?;
    if restack {
        return restack::perform(context, run, session, Goal::All).await;
    }
    projection::write(context, run, &mut session).await?;
    Ok(Outcome::Done {
        message: message(&session),
        result: session.result,
    })
}

fn message(session: &Session) -> String {
    let branches = session
        .rows
        .values()
        .filter(|row| row.head.is_some())
        .count();
    let synced = format!("Synced {}", stacking::branches(branches));
    match session.result.merged.len() {
        0 => synced,
        1 => format!("{synced}, of which 1 was found merged"),
        merged => format!("{synced}, of which {merged} were found merged"),
    }
}
