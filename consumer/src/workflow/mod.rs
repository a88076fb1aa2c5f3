//! What the actions do: one file each, from the pre-sync to the post-sync.
//!
//! ```text
//!  Session::begin ──► the action ──► fence, push ──► projection::write
//!  (pre-sync)         plan, replay    (stacking)      (post-sync)
//! ```
//!
//! What can be worked out while git fetches is (`outlook`), and how long each step takes is in the log
//! (`timing`).
//!
//! A context knows nothing of queues. It ends in an [`Outcome`] or a [`Halt`]; what becomes of the
//! job is decided elsewhere. Running one again after a crash converges: it fetches afresh, finds what
//! was pushed, and writes the rows that are still missing.

pub(crate) mod branch_rows;
mod context;
pub(crate) mod failure;
mod healing;
mod history;
mod outlook;
mod patience;
mod register_existing_branch;
mod reparent_branch;
mod restack;
pub(crate) mod session;
mod stacking;
mod sync_repo;
pub(crate) mod sync_row;
pub(crate) mod timing;
mod unregister_branch;

use backstack_engine::plan::Goal;
use backstack_schemas::Action;

pub use context::Context;
use session::{Session, ask};
use timing::timed;

use crate::decide::Outcome;
use crate::run::{Halt, Run};

/// Does what the run's action asks for.
///
/// # Errors
/// [`Halt`]: the run was stopped, or the attempt failed.
pub async fn perform(context: &Context, run: &Run) -> Result<Outcome, Halt> {
    let asking = async { tokio::join!(session::repository(context, run), ask(context, run)) };
    let (repo, asked) = timed("ask", asking).await;
    let repo = repo?;
    if sync_repo::is_overtaken(run, &repo.value) {
        return Ok(sync_repo::overtaken());
    }
    let beginning = async { Session::begin(context, run, repo.clone(), asked?).await };
    let session = match beginning.await {
        Ok(session) => session,
        Err(halt) => {
            sync_row::note_failure(context, run, &repo, &halt).await;
            return Err(halt);
        }
    };
    match &run.action {
        Action::SyncRepo { restack } => sync_repo::perform(context, run, session, *restack).await,
        Action::RestackRepo => restack::perform(context, run, session, Goal::All).await,
        Action::RestackSubtree { branch } => {
            restack::perform(context, run, session, Goal::Subtree(branch.clone())).await
        }
        Action::RebaseBranch { branch } => {
            restack::perform(context, run, session, Goal::Only(branch.clone())).await
        }
        Action::ReparentBranch {
            branch,
            parent,
            base,
        } => reparent_branch::perform(context, run, session, branch, parent, *base).await,
        Action::RegisterExistingBranch {
            branch,
            parent,
            base,
            task_id,
        } => {
            let wish = register_existing_branch::Wish {
                branch,
                parent: parent.as_ref(),
                base: *base,
                task_id: *task_id,
            };
            register_existing_branch::perform(context, run, session, wish).await
        }
        Action::UnregisterBranch { branch } => {
            unregister_branch::perform(context, run, session, branch).await
        }
    }
}
