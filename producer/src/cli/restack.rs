//! `backstack restack`

use backstack_schemas::{Action, BranchName, RepoId};
use clap::Args;

use super::Session;
use super::act::{ActOptions, act};
use super::exit::Failure;

#[derive(Args, Debug)]
pub(super) struct Restack {
    /// The repository's short name
    repo: RepoId,

    /// The lowest branch to replay; every tracked branch where none is given
    branch: Option<BranchName>,

    #[command(flatten)]
    options: ActOptions,
}

impl Restack {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        let action = match self.branch {
            Some(branch) => Action::RestackSubtree { branch },
            None => Action::RestackRepo,
        };
        act(session, &self.repo, action, &self.options).await
    }
}
