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
///
/// The sequence says so, unless the work queue was deleted and made anew since: then the row's is of the
/// former stream. So the sync must also have ended after the message was stored, both in the server's
/// time. A clock can only make a sync fetch that need not have; what is asked for is never left out
/// because of it.
pub fn is_overtaken(run: &Run, repo: &Repository) -> bool {
    let plain = run.action == Action::SyncRepo { restack: false } && !run.spec.dry_run;
    let through = repo.sync.through_sequence.unwrap_or(0);
    let ended_since = repo.sync.synced_at.is_some_and(|at| at >= run.stored_at);
    plain && repo.sync.status == SyncStatus::Synced && through >= run.sequence && ended_since
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
