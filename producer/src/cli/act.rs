//! What every action command does: publish, print the job and, with `--wait`, follow it to its end.

use backstack_schemas::action::MAX_REQUESTED_BY;
use backstack_schemas::{Action, ActionMessage, Job, RepoId};
use clap::Args;

use super::Session;
use super::exit::Failure;
use super::follow::follow;
use super::render;
use crate::Published;

/// What every action takes.
#[derive(Args, Clone, Debug)]
pub(super) struct ActOptions {
    /// Follow the job to its end; exit 1 where it fails or is cancelled
    #[arg(long, env = "BACKSTACK_WAIT")]
    wait: bool,

    /// Do everything but the push and the changes of rows
    #[arg(long, env = "BACKSTACK_DRY_RUN")]
    dry_run: bool,

    #[command(flatten)]
    asker: Asker,
}

/// Who asks.
#[derive(Args, Clone, Debug)]
pub(super) struct Asker {
    /// Who asks, for those who look at the job later [default: the user's name]
    #[arg(long, env = "BACKSTACK_REQUESTED_BY", value_name = "WHO")]
    requested_by: Option<String>,
}

impl Asker {
    /// As given, else the name of the user, cut to what a row takes.
    pub(super) fn name(&self) -> Option<String> {
        let user = || {
            std::env::var("USER")
                .or_else(|_| std::env::var("LOGNAME"))
                .ok()
        };
        let cut = |name: String| name.chars().take(MAX_REQUESTED_BY).collect::<String>();
        self.requested_by
            .clone()
            .or_else(|| user().map(cut))
            .filter(|name| !name.is_empty())
    }
}

/// Publishes the action and says what became of it.
pub(super) async fn act(
    session: &Session,
    repo: &RepoId,
    action: Action,
    options: &ActOptions,
) -> Result<(), Failure> {
    let message = ActionMessage {
        dry_run: options.dry_run,
        requested_by: options.asker.name(),
        ..action.into()
    };
    let published = session.client.publish(repo, message).await?;
    conclude(session, published, options.wait).await
}

/// Prints an accepted job, or follows it.
pub(super) async fn conclude(
    session: &Session,
    published: Published,
    wait: bool,
) -> Result<(), Failure> {
    let Published { spec, sequence, .. } = published;
    if wait {
        return follow(session, &spec.repo, spec.job_id).await;
    }
    // Whoever may not write rows still knows what the worker will write.
    let job = published.row.map_or_else(
        || Job::queued(spec, Some(sequence), session.client.rows().clock().now()),
        |row| row.value,
    );
    let out = &session.out;
    if out.json {
        out.row(&job)?;
    } else {
        out.text(&render::accepted(&job, out.screen))?;
    }
    Ok(())
}
