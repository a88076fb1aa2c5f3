//! `backstack sync`

use backstack_schemas::{Action, RepoId};
use clap::Args;

use super::Session;
use super::act::{ActOptions, act};
use super::exit::Failure;

#[derive(Args, Debug)]
pub(super) struct Sync {
    /// The repository's short name
    repo: RepoId,

    /// Restack every tracked branch afterwards
    #[arg(long, env = "BACKSTACK_RESTACK")]
    restack: bool,

    #[command(flatten)]
    options: ActOptions,
}

impl Sync {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        let action = Action::SyncRepo {
            restack: self.restack,
        };
        act(session, &self.repo, action, &self.options).await
    }
}
